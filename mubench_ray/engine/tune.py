"""Ray Tune runs the jobs of a plan: a searcher hands them out in order of their needs, reused actors run them."""

from __future__ import annotations

import gc
import itertools
import json
import logging
import os
import signal
import threading
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray import cloudpickle, tune
from ray.exceptions import RayActorError, RayTaskError
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from mubench_ray.engine.cluster import nodes, taken
from mubench_ray.engine.job import Job
from mubench_ray.engine.schedule import ABANDONED, Schedule
from mubench_ray.engine.telemetry import Telemetry
from mubench_ray.engine.worker import Worker, exit_of
from mubench_ray.errors import ends_process, one_line, reason_of
from mubench_ray.results.storage import StorageLost
from mubench_ray.suite import Resources

if TYPE_CHECKING:
    from mubench_ray.engine.train import WorkerGroup

#: How often a job is begun anew whose process died.
RETRIES = 2
#: How often a job is given away whose process dies before it begins: one that waited may be dead already, one that starts may never come up.
STARTS = 10
#: Jobs that one Tuner runs: it keeps some 50 KB of each that it ever ran.
PER_TUNER = 5_000


class NextJob(Searcher):
    """Asks the schedule for the next job, and tells it how each one ended. A job whose process died is handed out again, which costs it nothing where the
    process was dead before it began. Where jobs are ``packed``, one that is out of memory is handed out once more, to run alone, when nothing else is left
    to do."""

    def __init__(self, schedule: Schedule, job_of: Callable[[str], Job], packed: bool = False) -> None:
        super().__init__(metric="ended", mode="max")
        self._schedule, self._job_of = schedule, job_of
        #: By trial of Tune's: its job, and whether it is to run alone.
        self._handed: dict[str, tuple[str, bool]] = {}
        #: What kind of thing each job that was handed out makes.
        self._labels: dict[str, str] = {}
        self._packed = packed
        self._crowded: deque[str] = deque()
        self._again: deque[tuple[str, bool]] = deque()
        self._begun: set[str] = set()
        self._faults: dict[str, BaseException | None] = {}
        #: How often the process of a job died: while it ran it, and before.
        self._deaths: Counter[str] = Counter()
        self._false_starts: Counter[str] = Counter()
        #: Why rows can be written no more.
        self.unwritable: str | None = None
        self._handed_out = 0
        self._telemetry = Telemetry()

    def suggest(self, trial_id: str) -> Any:
        """A config of one job, None while everything waits, FINISHED at the end."""
        if self.full:
            return Searcher.FINISHED
        if self._again and not self._schedule.progress.draining:
            job, alone = self._again.popleft()
        else:
            job, alone = self._schedule.next(), False
        if job is None:
            if self._packed and not self._schedule.progress.draining:
                if self._handed:
                    return None  # one of them may come back
                if self._crowded:
                    job, alone = self._crowded.popleft(), True
            if job is None:
                return Searcher.FINISHED if self._schedule.finished else None
        self._handed[trial_id] = job, alone
        self._handed_out += 1
        handed = self._job_of(job)
        self._labels[job] = handed.label
        return {"job": handed.to_json(), "alone": alone}

    def begins(self, trial_id: str) -> None:
        """A process begins a trial of Tune's."""
        self._begun.add(trial_id)

    def fails(self, trial_id: str, fault: BaseException | None) -> None:
        """Ray's word for the end of a trial of Tune's, before ``on_trial_complete`` says that it has come."""
        self._faults[trial_id] = fault

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """A trial of Tune's has ended; ``error`` means that its process died, or what ``JobTrainable`` itself did not catch."""
        job, alone = self._handed.pop(trial_id, (None, False))
        begun, fault = trial_id in self._begun, self._faults.pop(trial_id, None)
        self._begun.discard(trial_id)
        if job is None:
            return
        if error or not result or "status" not in result:
            result = {"status": end_of(fault, begun), "error": told(fault)}
        status, reason = result["status"], result.get("error")
        try:
            if status == "died":
                self._deaths[job] += 1
                self._try_again(job, alone, self._deaths[job], RETRIES, "while it ran", reason)
            elif status == "never began":
                self._false_starts[job] += 1
                self._try_again(job, alone, self._false_starts[job], STARTS - 1, "before it began", reason)
            elif status == "crowded":
                self._crowded.append(job)
            elif status == "unwritten":
                raise StorageLost(reason)
            else:
                self._schedule.complete(job, status, reason, result)
        except StorageLost as failure:
            # Without a row the trial is still to be run: the same command does it, when it can be written.
            self.unwritable = self.unwritable or str(failure)
            self._schedule.drain()
        self._telemetry.ended(
            self._labels.pop(job, "trial"), status, result.get("time_this_iter_s"), self._schedule.progress
        )

    def _try_again(self, job: str, alone: bool, times: int, most: int, when: str, reason: str | None) -> None:
        if times <= most:
            self._again.append((job, alone))
        else:
            often = "once" if times == 1 else f"{times} times"
            self._schedule.complete(job, ABANDONED, f"its process died {often} {when}, the last time so: {reason}")

    @property
    def full(self) -> bool:
        """Whether this Tuner has been given as many jobs as one runs, and another is to go on."""
        return self._handed_out >= PER_TUNER and bool(self._crowded or self._again or not self._schedule.finished)

    @property
    def goes_on(self) -> bool:
        """Whether another Tuner is to go on: this one is full, or the last processes that it had died, when it had been told that there is no more."""
        return self.full or (bool(self._again) and not self._schedule.progress.draining)

    def go_on(self) -> None:
        """A new Tuner begins."""
        self._handed_out = 0

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: what is finished is known from the results folder."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""


def fault_of(trial: TuneTrial) -> BaseException | None:
    """What Ray raised for a trial of Tune's, if anything. It lies in the driver's own folder: where results are kept, and where
    ``trial.get_pickled_error`` looks, it comes later."""
    if trial.pickled_error_file is None:
        return None
    try:
        return cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
    except Exception:  # noqa: BLE001 - an exception of somebody's own, which may lead to anything when it is built anew; what it said is kept as text, too
        return RuntimeError(Path(str(trial.error_file)).read_text(errors="replace"))


def end_of(fault: BaseException | None, begun: bool) -> str:
    """The status of a job that Tune ended with an error: ``died`` or ``never began`` with its process, ``abandoned`` by an exception."""
    if isinstance(fault, RayTaskError) or getattr(fault, "actor_init_failed", False):
        return ABANDONED
    return "died" if begun else "never began"


def told(fault: BaseException | None) -> str:
    """The reason that Ray gives, in one line."""
    if isinstance(fault, RayTaskError):
        return one_line(fault.cause)
    if isinstance(fault, RayActorError) and fault.actor_init_failed:
        return str(fault).strip().splitlines()[-1]  # the last line of a traceback
    return exit_of(str(fault or "Ray does not say why"))


class Begins(tune.Callback):
    """Tells which trial of Tune's a process begins: none does where the process that was to take it is found dead."""

    def __init__(self, next_job: NextJob) -> None:
        self._next_job = next_job

    def on_trial_start(self, iteration: int, trials: list, trial: TuneTrial, **info: Any) -> None:
        """It begins."""
        self._next_job.begins(trial.trial_id)


class InOrder(FIFOScheduler):
    """Order of submission, passing over as many trials as actors may be starting up.

    Tune gives an actor that is free to the first trial that waits, also where an actor is being started for that very trial, and then ends the new one: where
    trials are shorter than the start of an actor (seconds), the first actor would run them all and the others would start for ever. It also looks through all
    trials that ever were at each event; here only those that have not ended are known.
    """

    def __init__(self, slots: int, next_job: NextJob) -> None:
        super().__init__()
        self._slots, self._next_job = slots, next_job
        self._live: dict[TuneTrial, None] = {}

    def on_trial_add(self, tune_controller: Any, trial: TuneTrial) -> None:
        """One more trial, or one that is to be tried again."""
        self._live[trial] = None

    def on_trial_error(self, tune_controller: Any, trial: TuneTrial) -> None:
        """Hand on why a trial failed, which a searcher is not told."""
        self._next_job.fails(trial.trial_id, fault_of(trial))

    def choose_trial_to_run(self, tune_controller: Any) -> TuneTrial | None:
        """The trial that takes the actor that has just become free."""
        self._live = {trial: None for trial in self._live if not trial.is_finished()}
        waiting = [trial for trial in self._live if trial.status == TuneTrial.PENDING]
        starting = max(0, self._slots - 1 - (len(self._live) - len(waiting)))
        return waiting[min(starting, len(waiting) - 1)] if waiting else None


class JobTrainable(tune.Trainable):
    """Runs one job in one step; the actor goes on to the next one. Whatever goes wrong is the job's result: of an exception here Tune would tell no more
    than that there was one."""

    def setup(self, config: dict[str, Any], **given: Any) -> None:
        """Once an actor, which is given the ``worker`` and the ``resources`` that a worker takes."""
        self._worker: Worker = given["worker"]
        self._resources: Resources = given["resources"]
        self._group: WorkerGroup | None = None
        self._prepared = False

    def step(self) -> dict[str, Any]:
        """Run the job to its end."""
        try:
            result = self._run()
        except StorageLost as error:
            result = {"status": "unwritten", "error": str(error)}
        except BaseException as error:  # it is the job's reason; of a KeyboardInterrupt, too, which nobody but what runs here can raise in a worker
            if ends_process(error):
                raise
            result = {"status": ABANDONED, "error": reason_of(error)}
        return {**result, "ended": 1, "done": True}

    def _run(self) -> dict[str, Any]:
        if not self._prepared:
            self._worker.make_ready(f"node {ray.util.get_node_ip_address()}")
            self._prepared = True
        job = Job.from_json(self.config["job"])
        workers = self._worker.workers_of(job.content.model)
        return (self._worker if workers == 1 else self._group_of(workers)).run(job, alone=self.config["alone"])

    def _group_of(self, workers: int) -> WorkerGroup:
        """The workers that share jobs; those of the job before, where there are as many."""
        from mubench_ray.engine.train import WorkerGroup

        if self._group is not None and self._group.workers != workers:
            self._group.close()
            self._group = None
        self._group = self._group or WorkerGroup(self._worker, workers, self._resources)
        return self._group

    def cleanup(self) -> None:
        """This actor is needed no more."""
        if self._group is not None:
            self._group.close()

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next job."""
        self.config = new_config
        return True

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        """A job is written when it ends and has nothing else to save."""
        return {}

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """A job starts anew."""


def run_jobs(
    worker: Worker, schedule: Schedule, job_of: Callable[[str], Job], resources: Resources, storage: str
) -> None:
    """Run every job of the schedule; returns when nothing is left or the user interrupted. Raises StorageLost when rows can be written no more."""
    # With a searcher Tune lets one trial wait for resources by default, which starts them one by one and leaves slots empty.
    os.environ.setdefault("TUNE_MAX_PENDING_TRIALS_PG", str(2 * worker.concurrency))
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module="ray.*")
    alone = taken(resources)

    def takes(config: dict[str, Any]) -> tune.PlacementGroupFactory:
        # Train asks for its workers itself; the trial that waits for them takes next to nothing (Tune wants something), or each would wait for the other.
        if config["alone"]:
            return tune.PlacementGroupFactory([whole_device(resources)])
        workers = worker.workers_of(json.loads(config["job"])["content"]["model"])
        return tune.PlacementGroupFactory([alone if workers == 1 else {"memory": 1.0}])

    trainable = tune.with_resources(
        tune.with_parameters(JobTrainable, worker=worker, resources=resources),
        takes if worker.workers or worker.tenants > 1 else alone,
    )
    next_job = NextJob(schedule, job_of, packed=worker.tenants > 1)

    def tuner(number: int) -> tune.Tuner:
        return tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=next_job,
                scheduler=InOrder(worker.concurrency, next_job),
                num_samples=-1,  # until the schedule is finished
                reuse_actors=True,
                trial_name_creator=lambda trial: trial.trial_id,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(
                name=f"jobs-{number}",
                storage_path=storage,
                verbose=0,
                log_to_file=False,
                callbacks=[Begins(next_job)],
                failure_config=tune.FailureConfig(max_failures=0),  # `next_job` hands out again what died
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        )

    with draining(schedule):
        for number in itertools.count():
            next_job.go_on()
            tuner(number).fit()
            if not next_job.goes_on:
                break
            gc.collect()  # a Tuner's trials refer to each other
    if next_job.unwritable:
        raise StorageLost(next_job.unwritable)


def whole_device(resources: Resources) -> dict[str, float]:
    """What a job asks for to have a device to itself: a GPU, or all cores of the largest machine."""
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
