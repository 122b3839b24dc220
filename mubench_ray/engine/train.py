"""Ray Train runs the jobs that several processes share: from inside a Tune trial, gloo between CPUs, nccl between GPUs. Only this file knows Ray Train."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import itertools
import json
import logging
import os
import secrets
import threading
import time
import uuid
from dataclasses import replace
from datetime import timedelta
from typing import Any

from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage] - it is in torch's documentation

from mubench_ray.engine.cluster import taken
from mubench_ray.engine.job import Job
from mubench_ray.engine.worker import Worker, exit_of
from mubench_ray.errors import MubenchError, ResultsError, one_line
from mubench_ray.results.store import Store
from mubench_ray.status import USABLE, Status
from mubench_ray.suite import Resources
from mubench_ray.training.distributed import WorkerLost, World

#: What makes a short run of Train shorter: how often its controller looks at the workers (2 s by default, and a run ends at such a look), and what it
#: keeps for a dashboard. A user's own setting wins.
ENVIRONMENT = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.1",
    "RAY_TRAIN_ENABLE_STATE_ACTOR_RECONCILIATION": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "86400",  # in a mixed suite the workers may have to wait until trials of one worker end
}
#: How long the others may wait for rank 0, which evaluates alone; one that is gone is noticed at once.
PATIENCE = timedelta(hours=12)
#: In this time rank 0 should have come upon the same failure that another rank has seen.
GRACE = timedelta(seconds=20)
#: How long workers wait for the next job.
IDLE = timedelta(seconds=10)
#: Given in place of a job.
STOP = "stop"


class RankFailed(Exception):
    """A failure that one rank saw and rank 0 did not: it holds the status and the reason of the row."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(status, reason)
        self.status, self.reason = status, reason


class Messages:
    """Texts by key in a store that anybody who reaches its port can read and write: only those who know ``secret`` write what the others take."""

    def __init__(self, store: TCPStore, secret: bytes) -> None:
        self._store, self._secret = store, secret

    def set(self, key: str, text: str) -> None:
        """Leave a message."""
        self._store.set(key, self._seal(key, text.encode()) + text)

    def get(self, key: str) -> str:
        """The message of this key, once it is there. Raises MubenchError where it is not of one who knows the secret, or was left under another key."""
        given = self._store.get(key)
        seal, text = given[:64], given[64:]
        if not hmac.compare_digest(seal, self._seal(key, text).encode()):
            raise MubenchError(
                f"workers: the message {key!r} in the store by which the workers of a trial are given their work is not of this run, and was refused: "
                "another program on this network has written it. Share trials between workers on networks that you trust, or use workers: 1."
            )
        return text.decode()

    def check(self, key: str) -> bool:
        """Whether there is anything under this key."""
        return self._store.check([key])

    def wait(self, keys: list[str], patience: timedelta) -> None:
        """Wait until there is something under each key; raises RuntimeError when the time is over."""
        self._store.wait(keys, patience)

    def _seal(self, key: str, text: bytes) -> str:
        return hmac.new(self._secret, key.encode() + b"\n" + text, hashlib.sha256).hexdigest()


class WorkerGroup:
    """Workers that Train has started once and that run one job after another together: their start costs many times what a short trial does.

    The jobs go to them through a store that this process serves. They end when they are told to, when this process dies, and after ``IDLE`` seconds without a
    job, so that they hold no device that others could use.
    """

    def __init__(self, worker: Worker, workers: int, resources: Resources) -> None:
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        import ray

        logging.getLogger("ray.train").setLevel(logging.CRITICAL)
        self.worker, self.workers, self.resources = worker, workers, resources
        self._host = ray.util.get_node_ip_address()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def run(self, job: Job, alone: bool = False) -> dict[str, Any]:
        """``Worker.run`` by all of them together; returns what rank 0 does, or status ``died`` where a process did, and the job is to be tried again.

        Workers never share a device with others, so that they are ``alone`` in any case.
        """
        while True:
            thread = self._thread if self._thread is not None and self._thread.is_alive() else self._start()
            self._given += 1
            self._messages.set(f"job {self._given}", job.to_json())
            answer = f"answer {self._given}"
            while thread.is_alive() and not self._messages.check(answer):
                time.sleep(0.01)
            if self._messages.check(answer):
                try:
                    result = json.loads(self._messages.get(answer))
                except MubenchError:
                    self._thread = None  # the next job is given to others, in a store of their own
                    raise
                if result.pop("stuck"):
                    thread.join()
                return result
            if self._error is not None:
                return self._explain(job)
            # They had just gone for want of work.

    def close(self) -> None:
        """Let the workers end."""
        if self._thread is not None and self._thread.is_alive():
            self._messages.set(f"job {self._given + 1}", STOP)
            self._thread.join(timeout=60)

    def _start(self) -> threading.Thread:
        self._given, self._error = 0, None
        store, secret = TCPStore(self._host, 0, is_master=True, wait_for_workers=False), secrets.token_bytes(32)
        self._messages = Messages(store, secret)
        self._thread = threading.Thread(target=self._fit, args=(store.port, secret), daemon=True)
        self._thread.start()
        return self._thread

    def _fit(self, port: int, secret: bytes) -> None:
        from ray import train
        from ray.train.torch import TorchConfig, TorchTrainer

        storage = Store(self.worker.out).place.inside(".train")
        # Train goes on from what it finds under a name; what to go on from is our own checkpoint's business.
        name = uuid.uuid4().hex
        each = taken(self.resources)
        trainer = TorchTrainer(
            work,
            train_loop_config={"worker": self.worker, "host": self._host, "port": port, "secret": secret},
            scaling_config=train.ScalingConfig(
                num_workers=self.workers, use_gpu="GPU" in each, resources_per_worker=each, placement_strategy="PACK"
            ),
            run_config=train.RunConfig(
                name=name, **storage.for_ray(), failure_config=train.FailureConfig(max_failures=0)
            ),
            torch_config=TorchConfig(timeout_s=int(PATIENCE.total_seconds())),
        )
        try:
            trainer.fit()
        except Exception as error:  # noqa: BLE001 - it ends this thread; the one that waits raises it
            self._error = error
        finally:
            with contextlib.suppress(ResultsError, OSError):  # what is left of it is in nobody's way
                storage.inside(name).clear()

    def _explain(self, job: Job) -> dict[str, Any]:
        """The row of what a rank has given up; none where processes died."""
        failures = getattr(self._error, "worker_failures", {})
        if (failed := failure_of(failures)) is None:
            return {
                "status": "died",
                "error": death_of(failures) or exit_of(one_line(self._error) if self._error else ""),
            }
        status, reason = failed
        return self.worker.give_up(job, reason, status)


def work(config: dict[str, Any]) -> None:
    """One worker: jobs from the store until there are no more."""
    import ray
    from ray.train.torch import get_device

    worker: Worker = config["worker"]
    worker = replace(worker, device=str(get_device()) if worker.device.startswith("cuda") else worker.device)
    world = World.joined(worker.sharded)
    try:
        worker.make_ready(f"node {ray.util.get_node_ip_address()}")
    except MubenchError as error:
        raise RankFailed(Status.FAILED, f"rank {world.rank} of {world.size}: {error}") from error
    messages = Messages(TCPStore(config["host"], config["port"], is_master=False, timeout=PATIENCE), config["secret"])
    try:
        serve(worker, world, messages)
    except MubenchError as error:  # of a message
        raise RankFailed(Status.FAILED, f"rank {world.rank} of {world.size}: {error}") from error


def serve(worker: Worker, world: World, messages: Messages) -> None:
    """Run jobs as they are given until there are no more. Raises RankFailed for what rank 0 cannot tell, MubenchError for a message of a stranger."""
    for number in itertools.count(1):
        if world.rank == 0:
            try:
                messages.wait([f"job {number}"], IDLE)
                messages.set(f"go {number}", messages.get(f"job {number}"))
            except RuntimeError:  # what torch raises when the time is over
                messages.set(f"go {number}", STOP)
        given = messages.get(f"go {number}")
        if given == STOP:
            return
        try:
            result = worker.run(Job.from_json(given), world)
        except WorkerLost:
            raise
        except Exception as error:
            raise RankFailed(Status.FAILED, f"rank {world.rank} of {world.size}: {one_line(error)}") from error
        messages.set(f"done {number} {world.rank}", "")
        fault = result["status"] not in USABLE
        # Most faults befall all ranks. One that some have not seen leaves them waiting for ever: only an exception ends that.
        stuck = fault and not waited(messages, [f"done {number} {rank}" for rank in range(world.size)])
        if world.rank == 0:
            messages.set(f"answer {number}", json.dumps({**result, "stuck": stuck}))
        if stuck:
            raise RankFailed(result["status"], f"rank {world.rank} of {world.size}: {result['error']}")


def waited(messages: Messages, keys: list[str]) -> bool:
    """Whether all of these were set within ``GRACE``."""
    try:
        messages.wait(keys, GRACE)
    except RuntimeError:  # what torch raises when the time is over
        return False
    for key in keys:
        messages.get(key)
    return True


def failure_of(failures: dict[int, Exception]) -> tuple[str, str] | None:
    """Status and reason of a run that a rank itself has given up; None where processes died."""
    for failure in failures.values():
        seen: BaseException | None = failure
        while seen is not None:
            if isinstance(seen, RankFailed):
                return seen.status, seen.reason
            seen = getattr(seen, "_base_exc", None) or getattr(seen, "cause", None) or seen.__cause__
    return None


def death_of(failures: dict[int, Exception]) -> str | None:
    """Which rank's process died, and how; None where Train does not say."""
    from ray.exceptions import RayActorError

    for rank, failure in failures.items():
        seen: BaseException | None = failure
        while seen is not None:
            if isinstance(seen, RayActorError):
                return f"rank {rank}: {exit_of(str(seen))}"
            seen = getattr(seen, "_base_exc", None) or getattr(seen, "cause", None) or seen.__cause__
    return None
