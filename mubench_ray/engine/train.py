"""Ray Train runs the nodes that two or more workers share: from inside a Tune trial, gloo between CPUs, nccl between GPUs. The only file that knows Ray Train."""

from __future__ import annotations

import logging
import os
import shutil
import time
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

from mubench_ray.engine.job import Job, is_artifact
from mubench_ray.engine.run_trial import failed_outcome, metric_names
from mubench_ray.results.store import Store
from mubench_ray.suite import Resources
from mubench_ray.training.distributed import World
from mubench_ray.trial import Trial

#: What makes a short run of Train shorter: how often its controller looks at the workers (2 s by default, and a run ends at such a look), and what it
#: keeps for a dashboard. A user's own setting wins.
ENVIRONMENT = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.1",
    "RAY_TRAIN_ENABLE_STATE_ACTOR_RECONCILIATION": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
}
#: Seconds that the others may wait for rank 0, which evaluates alone; one that is gone is noticed at once.
PATIENCE = 12 * 3600
#: Seconds in which rank 0 should have written the same failure that another rank has seen.
GRACE = 20.0


class RankFailed(Exception):
    """A failure that one rank saw and rank 0 did not: it holds the status and the reason of the row."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(status, reason)
        self.status, self.reason = status, reason


def run_on_workers(job: Job, node: str, content: str, folder: str, workers: int, resources: Resources) -> dict[str, Any]:
    """``Job.run`` by ``workers`` processes together; returns what rank 0 does. Raises Train's error where a process died, so that Tune tries again."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from ray import train
    from ray.train.torch import TorchConfig, TorchTrainer

    logging.getLogger("ray.train").setLevel(logging.CRITICAL)
    storage = Path(job.out) / ".train"
    # Train goes on from what it finds under a name; what to go on from is our own checkpoint's business.
    name = f"{node}-{uuid.uuid4().hex[:8]}"
    each = {"CPU": resources.cpus} | ({"GPU": resources.gpus} if resources.gpus else {})
    trainer = TorchTrainer(
        share,
        train_loop_config={"job": job, "node": node, "content": content, "folder": folder},
        scaling_config=train.ScalingConfig(
            num_workers=workers, use_gpu=bool(resources.gpus), resources_per_worker=each, placement_strategy="PACK"
        ),
        run_config=train.RunConfig(
            name=name, storage_path=str(storage), failure_config=train.FailureConfig(max_failures=0)
        ),
        torch_config=TorchConfig(timeout_s=PATIENCE),
    )
    try:
        return trainer.fit().return_value
    except train.WorkerGroupError as error:
        if (failed := failure_of(error.worker_failures)) is None:
            raise
        return record(job, node, content, folder, *failed)
    finally:
        shutil.rmtree(storage / name, ignore_errors=True)


def share(config: dict[str, Any]) -> dict[str, Any]:
    """One worker's part of a node."""
    from ray.train.torch import get_device

    job, node, folder = config["job"], config["node"], config["folder"]
    job = replace(job, device=str(get_device()) if job.device.startswith("cuda") else job.device)
    job.prepare()
    world = World.joined()
    result = job.run(node, config["content"], folder, world)
    if world.rank and result["status"] in ("failed", "out_of_memory"):
        # Most faults befall all ranks, and rank 0 writes them. One that rank 0 has not seen leaves it waiting for ever: only an exception ends it.
        until = time.monotonic() + GRACE
        while time.monotonic() < until:
            if not is_artifact(node) and node in Store(job.out).part(folder).finished():
                return result
            time.sleep(0.2)
        raise RankFailed(result["status"], f"rank {world.rank} of {world.size}: {result['error']}")
    return result


def failure_of(failures: dict[int, Exception]) -> tuple[str, str] | None:
    """Status and reason of a run that a rank itself has given up; None where processes died."""
    for failure in failures.values():
        seen: BaseException | None = failure
        while seen is not None:
            if isinstance(seen, RankFailed):
                return seen.status, seen.reason
            seen = getattr(seen, "_base_exc", None) or getattr(seen, "cause", None) or seen.__cause__
    return None


def record(job: Job, node: str, content: str, folder: str, status: str, reason: str) -> dict[str, Any]:
    """Write the row that rank 0 could not write."""
    if not is_artifact(node):
        outcome = failed_outcome(Trial.model_validate_json(content), reason, status)
        Store(job.out).part(folder).write(outcome, metric_names())
    return {"status": "failed" if is_artifact(node) else status, "error": reason}
