"""Ray Tune runs the nodes of a plan: a searcher hands them out in order of their needs, reused actors run them."""

from __future__ import annotations

import gc
import itertools
import logging
import os
import signal
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ray import tune
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from mubench_ray.engine.cluster import nodes
from mubench_ray.engine.job import Job
from mubench_ray.engine.schedule import Schedule
from mubench_ray.engine.telemetry import Telemetry
from mubench_ray.results.storage import StorageLost
from mubench_ray.suite import Resources

if TYPE_CHECKING:
    from mubench_ray.engine.train import Team

#: How often Tune starts a node anew whose process died.
RETRIES = 2
#: Nodes that one Tuner runs: it keeps some 50 KB of each that it ever ran.
PER_TUNER = 5_000


#: The JSON of a node and the folder of the results that its row belongs to.
Contents = Callable[[str], tuple[str, str]]


class NextNode(Searcher):
    """Asks the schedule for the next node, and tells it how each one ended. Where nodes are ``packed``, one that is out of memory is handed out once more,
    to run alone, when nothing else is left to do."""

    def __init__(self, schedule: Schedule, contents: Contents, packed: bool = False) -> None:
        super().__init__(metric="ended", mode="max")
        self._schedule, self._contents = schedule, contents
        self._nodes: dict[str, str] = {}
        self._packed = packed
        self._crowded: deque[str] = deque()
        #: Why nothing can be written any more.
        self.lost: str | None = None
        self._handed_out = 0
        self._telemetry = Telemetry()

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """A config of one node, None while everything waits, FINISHED at the end."""
        if self.full:
            return Searcher.FINISHED
        node, alone = self._schedule.next(), False
        if node is None:
            if self._packed and not self._schedule.progress.draining:
                if self._nodes:
                    return None  # one of them may come back
                if self._crowded:
                    node, alone = self._crowded.popleft(), True
            if node is None:
                return Searcher.FINISHED if self._schedule.finished else None
        self._nodes[trial_id] = node
        self._handed_out += 1
        content, folder = self._contents(node)
        return {"node": node, "content": content, "folder": folder, "alone": alone}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """A trial of Tune's has ended; ``error`` means that its process died every time it was tried."""
        node = self._nodes.pop(trial_id, None)
        if node is None:
            return
        died = error or not result or "status" not in result
        status, seconds = ("died", None) if died else (result["status"], result.get("time_this_iter_s"))
        try:
            if died:
                self._schedule.complete(node, status, f"{RETRIES + 1} times; the machine may be short of memory")
            elif status == "crowded":
                self._crowded.append(node)
            elif status == "unwritten":
                raise StorageLost(result["error"])
            else:
                self._schedule.complete(node, status, result.get("error"), result)
        except StorageLost as lost:
            # Without a row the trial is still to be run: the same command does it, when it can be written.
            self.lost = self.lost or str(lost)
            self._schedule.drain()
        self._telemetry.ended(node, status, seconds, self._schedule.progress)

    @property
    def full(self) -> bool:
        """Whether this Tuner has been given as many nodes as one runs, and another is to go on."""
        return self._handed_out >= PER_TUNER and bool(self._crowded or not self._schedule.finished)

    def go_on(self) -> None:
        """A new Tuner begins."""
        self._handed_out = 0

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: what is finished is known from the results folder."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""


class InOrder(FIFOScheduler):
    """Order of submission, passing over as many trials as actors may be starting up.

    Tune gives an actor that is free to the first trial that waits, also where an actor is being started for that very trial, and then ends the new one: where
    trials are shorter than the start of an actor (seconds), the first actor would run them all and the others would start for ever. It also looks through all
    trials that ever were at each event; here only those that have not ended are known.
    """

    def __init__(self, slots: int) -> None:
        super().__init__()
        self._slots = slots
        self._live: dict[TuneTrial, None] = {}

    def on_trial_add(self, tune_controller: Any, trial: TuneTrial) -> None:
        """One more trial, or one that is to be tried again."""
        self._live[trial] = None

    def choose_trial_to_run(self, tune_controller: Any) -> TuneTrial | None:
        """The trial that takes the actor that has just become free."""
        self._live = {trial: None for trial in self._live if not trial.is_finished()}
        waiting = [trial for trial in self._live if trial.status == TuneTrial.PENDING]
        starting = max(0, self._slots - 1 - (len(self._live) - len(waiting)))
        return waiting[min(starting, len(waiting) - 1)] if waiting else None


class Node(tune.Trainable):
    """Runs one node in one step; the actor goes on to the next one."""

    def setup(self, config: dict[str, Any], job: Job | None = None, resources: Resources | None = None) -> None:
        """Once an actor."""
        self._job, self._resources, self._team = job, resources, None
        job.prepare()

    def step(self) -> dict[str, Any]:
        """Run the node to its end."""
        config = self.config
        node = config["node"], config["content"], config["folder"]
        workers = self._job.workers_of(config["content"])
        runner = self._job if workers == 1 else self._team_of(workers)
        alone = {"alone": True} if config["alone"] else {}
        return {**runner.run(*node, **alone), "ended": 1, "done": True}

    def _team_of(self, workers: int) -> Team:
        """The workers that share nodes; those of the node before, where there are as many."""
        from mubench_ray.engine.train import Team

        if self._team is not None and self._team.workers != workers:
            self._team.close()
            self._team = None
        self._team = self._team or Team(self._job, workers, self._resources)
        return self._team

    def cleanup(self) -> None:
        """This actor is needed no more."""
        if self._team is not None:
            self._team.close()

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next node."""
        self.config = new_config
        return True

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        """A node is written when it ends and has nothing else to save."""
        return {}

    def load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """A node starts anew."""


def run_nodes(job: Job, schedule: Schedule, contents: Contents, resources: Resources, storage: str) -> None:
    """Run every node of the schedule; returns when nothing is left or the user interrupted. Raises StorageLost when rows can be written no more."""
    # With a searcher Tune lets one trial wait for resources by default, which starts them one by one and leaves slots empty.
    os.environ.setdefault("TUNE_MAX_PENDING_TRIALS_PG", str(2 * job.concurrency))
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module="ray.*")
    alone = {"CPU": resources.cpus, **({"GPU": resources.gpus} if resources.gpus else {})}

    def takes(config: dict[str, Any]) -> tune.PlacementGroupFactory:
        # Train asks for its workers itself; the trial that waits for them takes next to nothing (Tune wants something), or each would wait for the other.
        if config["alone"]:
            return tune.PlacementGroupFactory([whole_device(resources)])
        return tune.PlacementGroupFactory([alone if job.workers_of(config["content"]) == 1 else {"memory": 1.0}])

    trainable = tune.with_resources(
        tune.with_parameters(Node, job=job, resources=resources), takes if job.workers or job.tenants > 1 else alone
    )
    next_node = NextNode(schedule, contents, packed=job.tenants > 1)

    def tuner(number: int) -> tune.Tuner:
        return tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=next_node,
                scheduler=InOrder(job.concurrency),
                num_samples=-1,  # until the schedule is finished
                reuse_actors=True,
                trial_name_creator=lambda trial: trial.trial_id,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(
                name=f"nodes-{number}",
                storage_path=storage,
                verbose=0,
                log_to_file=False,
                failure_config=tune.FailureConfig(max_failures=RETRIES),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        )

    with draining(schedule):
        for number in itertools.count():
            next_node.go_on()
            tuner(number).fit()
            if not next_node.full:
                break
            gc.collect()  # a Tuner's trials refer to each other
    if next_node.lost:
        raise StorageLost(next_node.lost)


def whole_device(resources: Resources) -> dict[str, float]:
    """What a node asks for to have a device to itself: a GPU, or all cores of the largest machine."""
    if resources.gpus:
        return {"CPU": resources.cpus, "GPU": max(1.0, resources.gpus)}
    return {"CPU": max([resources.cpus, *(node.get("CPU", 0) for node in nodes())])}


@contextmanager
def draining(schedule: Schedule) -> Iterator[None]:
    """On Ctrl-C or SIGTERM let what runs end and start nothing more; a second one ends the process."""

    def drain(number: int, frame: Any) -> None:
        if schedule.progress.draining:
            raise KeyboardInterrupt
        schedule.drain()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, drain) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
