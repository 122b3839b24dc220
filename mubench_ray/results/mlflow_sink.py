"""MLflow as a view of the results store, which stays the truth: one run a trial, in batches, never on the engine's path.

A run holds the whole trial as params (``hyperparameters.alpha``, ``training.epochs``, ``forget.ratio``, ...), the metrics and costs of its row, its
curve as metric series ``curve/<metric>`` and tags (``trial_id``, ``status``, ``error``, ...). The marks of its method stand in its
name and in ``marks``, the measures that its controls do not bear out or cannot check in ``untrusted`` and ``unchecked``; its description says what they mean.
The step of a curve point is the permille of the
retrain's FLOs spent by then; where two points fall on one permille the later takes the next. The run's status is set last: one that is still RUNNING
was cut short by a crash, and is deleted and written anew.
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import sys
import threading
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mubench_ray.errors import MubenchError, one_line
from mubench_ray.results.configurations import configuration, leaves
from mubench_ray.results.controls import hold_to_controls
from mubench_ray.results.locks import held
from mubench_ray.results.marks import UNCHECKED, UNTRUSTED, TrialMarks, legend, of_name, read_verdicts, symbols
from mubench_ray.results.observations import with_observations
from mubench_ray.results.schema import CURVE_METRICS, TRIAL_COLUMNS
from mubench_ray.results.storage import absolute
from mubench_ray.results.store import Store
from mubench_ray.status import USABLE

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

#: What one call of log_batch may hold; MLflow allows 1,000 entries together.
METRICS_A_CALL, PARAMS_A_CALL = 900, 100
#: Rows read from the store at a time.
ROWS_A_TURN = 200
#: How long the end of a run waits for the last rows to be copied.
LAST_SYNC_SECONDS = 30.0

#: Where the run of each trial is, beside the tables.
RUNS_FILE = "mlflow_runs.parquet"
RUNS_SCHEMA = pa.schema([(name, pa.string()) for name in ("trial_id", "run_id", "experiment_id", "tracking_uri")])

_FIXED = {field.name for field in TRIAL_COLUMNS}
_COSTS = ("flos", "seconds", "retrain_flos", "retrain_seconds", "wall_seconds")
#: Tags that follow what the controls say, which is known once the folder was reported; the last is what MLflow shows first of a run.
_DOUBTS = ("untrusted", "unchecked", "mlflow.note.content")
_SHORT_PARAMS = ("ratio", "forget_size", "retain_size")

#: No telemetry, no chatter, and no minutes of retries inside one call: the follower tries again by itself.
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "GIT_PYTHON_REFRESH": "quiet",
}


class MlflowSink:
    """Copies rows that MLflow has not yet; which ones those are is asked of MLflow itself, by their ``trial_id`` tag.

    ``tracking_uri`` is by default the suite's, else a sqlite database in the results folder; ``experiment`` by default the suite's name.
    """

    def __init__(self, root: str | Path, tracking_uri: str | None = None, experiment: str | None = None) -> None:
        self.store = Store(absolute(root))
        manifest = self.store.check()
        self.tracking_uri = tracking_uri or manifest.get("mlflow_uri") or default_uri(self.store.root)
        self.experiment = experiment or manifest.get("suite") or self.store.root.name
        self._client: MlflowClient | None = None
        self._experiment_id = ""
        self._runs: dict[str, str] = {}
        self._copied: set[str] = set()
        #: When the run of each trial ended, and when the trial was last looked at, in ms.
        self._ended: dict[str, int] = {}
        self._observed_at: dict[str, int] = {}
        self._records: set[str] = set()
        #: The verdicts that the tags are of, and what they say of each run.
        self._verdicts: list[dict[str, Any]] = []
        self._told: dict[str, dict[str, str]] = {}

    def sync(self) -> int:
        """Copy every row that MLflow has not, or has of an earlier attempt; returns how many. Raises MubenchError when MLflow cannot be reached."""
        return self._sync(lambda: True)

    def follow(self, stop: threading.Event, every: float = 2.0) -> None:
        """Copy rows as they come until ``stop`` is set, then for at most LAST_SYNC_SECONDS more; an outage is one warning, and tried again later."""
        pause, warned = every, False
        while True:
            last = stop.wait(pause)
            until = time.monotonic() + LAST_SYNC_SECONDS
            try:
                if last:  # the report, which holds measures to their controls too, comes after this
                    hold_to_controls(self.store)
                self._sync((lambda until=until: time.monotonic() < until) if last else (lambda: not stop.is_set()))
                if last and (left := len(self.store.finished() - self._copied)):
                    raise MubenchError(f"MLflow at {self.tracking_uri} is slow: {left} rows are not copied yet.")
                pause = every
            except (MubenchError, OSError) as error:
                pause = min(60.0, 2 * pause)
                if last or not warned:
                    log.warning("%s `mubench report %s --sync-mlflow` catches up.", error, self.store.place)
                warned = True
            if last:
                return

    def _sync(self, go_on: Callable[[], bool]) -> int:
        self.store.check(must_exist=True)
        self._look_again()
        if not self.store.finished() - self._copied and read_verdicts(self.store) == self._verdicts:
            return 0
        quiet()
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        added = 0
        try:
            # Two writers of one folder would each copy what the other is about to.
            refusal = f"Another mubench is copying {self.store.root} to MLflow; try again when it has ended."
            with held(self.store.root / ".mlflow.lock", refusal):
                client = self._client or self._connect()
                try:
                    self._look_again()
                    ids = sorted(self.store.finished() - self._copied)
                    for start in range(0, len(ids), ROWS_A_TURN):
                        for row, curve in self._rows(ids[start : start + ROWS_A_TURN]):
                            if not go_on():
                                return added
                            self._write(client, row, curve)
                            added += 1
                    self._mark(client, set(ids), go_on)
                finally:
                    self._write_map()
        except (MlflowException, SQLAlchemyError, OSError) as error:
            self._client = None
            raise MubenchError(f"MLflow at {self.tracking_uri} cannot be written: {one_line(error)[:230]}.") from error
        return added

    def _connect(self) -> MlflowClient:
        """The client, once what MLflow has is known."""
        import mlflow

        client = mlflow.MlflowClient(self.tracking_uri)
        experiment = client.get_experiment_by_name(self.experiment)
        if experiment is not None:
            self._experiment_id = experiment.experiment_id
        else:
            local = self.tracking_uri.startswith("sqlite:")
            folder = (self.store.root / "mlruns").as_uri() if local else None
            # Tells the MLflow UI that these are training runs with metrics, not conversations.
            kind = {"mlflow.experimentKind": "custom_model_development"}
            self._experiment_id = client.create_experiment(self.experiment, artifact_location=folder, tags=kind)
        self._runs, self._copied, self._verdicts, self._told = {}, set(), [], {}
        rows = self.store.read("trials", columns=["trial_id", "finished_at"]).to_pylist()
        finished = {row["trial_id"]: _millis(row["finished_at"]) or 0 for row in rows}
        token = None
        while True:
            page = client.search_runs([self._experiment_id], max_results=1000, page_token=token)
            for run in page:
                trial_id = run.data.tags.get("trial_id")
                if trial_id is None:
                    continue
                if trial_id in self._runs or run.info.status not in ("FINISHED", "FAILED"):
                    client.delete_run(run.info.run_id)
                    continue
                self._runs[trial_id] = run.info.run_id
                self._ended[trial_id] = run.info.end_time or 0
                self._told[trial_id] = {name: run.data.tags.get(name, "") for name in _DOUBTS}
                if trial_id in finished and self._ended[trial_id] >= finished[trial_id]:
                    self._copied.add(trial_id)
            token = page.token
            if not token:
                break
        self._client = client
        return client

    def _mark(self, client: MlflowClient, added: set[str], go_on: Callable[[], bool]) -> None:
        """Tag the runs with what the controls say of their measures: those that were added, all of them where the controls
        say something new."""
        from mlflow.entities import RunTag

        verdicts = read_verdicts(self.store)
        wanted = self._copied & self._runs.keys() & (added if verdicts == self._verdicts else self._runs.keys())
        if not wanted or not (verdicts or any(map(any, map(dict.values, self._told.values())))):
            return
        marks = TrialMarks(self.store)
        columns = ["trial_id", "configuration", "task", "model", "method", "ratio", "status", "uses_validation"]
        columns += ["seed", "training_seed"]
        rows = self.store.read("trials", columns=columns, filter=pc.field("trial_id").isin(sorted(wanted)))
        for row in rows.to_pylist():
            told = _doubts(row, marks)
            if told != self._told.get(row["trial_id"], dict.fromkeys(told, "")):
                if not go_on():
                    return
                tags = [RunTag(name, value[:5000]) for name, value in told.items()]
                client.log_batch(self._runs[row["trial_id"]], tags=tags)
                self._told[row["trial_id"]] = told
        self._verdicts = verdicts

    def _look_again(self) -> None:
        """Trials that were looked at once more since they were copied are copied anew."""
        files = set(self.store.files("observations"))
        if files != self._records:
            self._records = files
            for record in self.store.read("observations", columns=["trial_id", "finished_at"]).to_pylist():
                name, moment = record["trial_id"], _millis(record["finished_at"]) or 0
                self._observed_at[name] = max(self._observed_at.get(name, 0), moment)
        self._copied -= {name for name, at in self._observed_at.items() if at > self._ended.get(name, 0)}

    def _write_map(self) -> None:
        """``mlflow_runs.parquet``: where the run of each copied trial is, for the links of the report."""
        ids = sorted(self._copied & self._runs.keys())
        same = {"experiment_id": self._experiment_id, "tracking_uri": without_password(self.tracking_uri)}
        found = pa.table(
            {"trial_id": ids, "run_id": [self._runs[trial_id] for trial_id in ids]}
            | {name: [value] * len(ids) for name, value in same.items()},
            RUNS_SCHEMA,
        )
        path = self.store.root / RUNS_FILE
        if ids and not (path.is_file() and pq.read_table(path).equals(found)):
            self.store.write_table(".", RUNS_FILE, found)

    def _rows(self, ids: list[str]) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
        chosen = pc.field("trial_id").isin(ids)
        curves: dict[str, list[dict[str, Any]]] = {}
        for point in self.store.read("curves", filter=chosen).to_pylist():
            curves.setdefault(point["trial_id"], []).append(point)
        rows, _ = with_observations(self.store.read("trials", filter=chosen), self.store)
        return [(row, curves.get(row["trial_id"], [])) for row in rows.to_pylist()]

    def _write(self, client: MlflowClient, row: dict[str, Any], curve: list[dict[str, Any]]) -> None:
        """One run: created, filled in batches, and only then ended. What MLflow has of an earlier attempt at the trial makes way."""
        from mlflow.entities import Metric, Param

        trial_id = row["trial_id"]
        if trial_id in self._runs:
            client.delete_run(self._runs.pop(trial_id))
        begin = _millis(row["started_at"])
        end = max(_millis(row["finished_at"]) or begin or 0, self._observed_at.get(trial_id, 0))
        run = client.create_run(self._experiment_id, start_time=begin, tags=_tags(row))
        params = [Param(name, str(value)[:6000]) for name, value in _params(row).items()]
        metrics = [Metric(*point, timestamp=end, step=0) for point in _metrics(row).items()]
        for step, point in _steps(curve):
            metrics += [
                Metric(f"curve/{name}", point[name], end, step) for name in CURVE_METRICS if point[name] is not None
            ]
        for some, others in zip_longest(_parts(metrics, METRICS_A_CALL), _parts(params, PARAMS_A_CALL), fillvalue=()):
            client.log_batch(run.info.run_id, metrics=some, params=others)
        client.set_terminated(run.info.run_id, "FINISHED" if row["status"] in USABLE else "FAILED", end_time=end)
        self._runs[trial_id] = run.info.run_id
        self._told.pop(trial_id, None)
        self._ended[trial_id] = end
        self._copied.add(trial_id)


def _tags(row: dict[str, Any]) -> dict[str, str]:
    marks = of_name(row)
    tags = {
        "mlflow.runName": f"{row['method']}{symbols(marks)}-{row['task']}-{row['model']}-{row['ratio']:g}-{row['seed']}",
        "mlflow.source.git.commit": json.loads(row["provenance"]).get("git_commit"),
        "error": (row["error"] or "")[:5000],
        # Runs that are repetitions of each other have it in common, to group by.
        "configuration": configuration(row)[:5000],
        "uses_validation": str(row["uses_validation"]),
        "marks": ", ".join(mark.name for mark in marks),
        "mlflow.note.content": legend([symbols(marks)]),
        **{name: row[name] for name in ("trial_id", "status", "method", "task", "model", "device")},
    }
    return {name: value for name, value in tags.items() if value}


def _doubts(row: dict[str, Any], marks: TrialMarks) -> dict[str, str]:
    """The tags of _DOUBTS: the measures of the row that are untrusted and not checkable, and all that is to be said of it."""
    found = {mark: marks.verdicts.measures(mark, *marks.cell(row)) for mark in (UNTRUSTED, UNCHECKED)}
    measures = [f"{mark.told}: {', '.join(names)}" for mark, names in found.items() if names]
    said = [
        *marks.said(row),
        *filter(None, [legend([symbols(of_name({**row, "at_edge": marks.at_edge(row)}))])]),
        *measures,
    ]
    return dict(zip(_DOUBTS, (*(", ".join(names) for names in found.values()), "\n\n".join(said)), strict=True))


def _params(row: dict[str, Any]) -> dict[str, Any]:
    """The trial's own fields, nested ones as ``part.name``, and the sizes of its sets."""
    short = {name: row[name] for name in _SHORT_PARAMS}
    told = leaves(json.loads(row["trial"])) | short
    return {name: value for name, value in told.items() if value not in (None, [], "")}


def _metrics(row: dict[str, Any]) -> dict[str, float]:
    return {
        name: value
        for name, value in row.items()
        if isinstance(value, float) and (name not in _FIXED or name in _COSTS)
    }


def _steps(curve: list[dict[str, Any]]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Curve points with their steps, which never repeat; without a retrain to compare with, the points' numbers."""
    step = -1
    for point in curve:
        step = max(step + 1, round(1000 * (point["retrain_share"] or 0)))
        yield step, point


def _parts(items: list, size: int) -> list[list]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def without_password(uri: str) -> str:
    """A tracking address without the user and password that it may name."""
    parts = urlsplit(uri)
    if "@" not in parts.netloc:
        return uri
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def default_uri(root: Path) -> str:
    """The sqlite database of a results folder."""
    return f"sqlite:///{root}/mlflow.db"


def quiet() -> None:
    """Before MLflow is imported: no telemetry, no migration log."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)


def ui_command(root: str | Path, port: int = 5000, host: str = "127.0.0.1") -> list[str]:
    """The command that serves the MLflow UI on a results folder; raises MubenchError where a server has its runs, or nothing was copied yet.

    Nothing is imported from the current folder, which may be anybody's: neither by this process (-P), nor by those that MLflow starts (the variable), nor by
    uvicorn, which looks for its application there unless it is told where.
    """
    root = Path(root).absolute()
    uri = Store(root).check().get("mlflow_uri") or default_uri(root)
    if uri.startswith(("http:", "https:", "databricks")):
        raise MubenchError(f"The runs of {root} are on the MLflow server at {uri}; open that in a browser.")
    if uri == default_uri(root) and not (root / "mlflow.db").is_file():
        raise MubenchError(f"{root} has no mlflow.db yet; `mubench report {root} --sync-mlflow` writes it.")
    spec = find_spec("mlflow")
    if spec is None or spec.origin is None:
        raise MubenchError("mlflow is not installed whole here; `pip install mlflow` mends it.")
    installed = Path(spec.origin).parent.parent
    return [
        "/usr/bin/env", "PYTHONSAFEPATH=1", sys.executable, "-P", "-m", "mlflow", "server", "--uvicorn-opts", shlex.join(["--app-dir", str(installed)]),
        "--backend-store-uri", uri, "--default-artifact-root", (root / "mlruns").as_uri(),
        "--host", host, "--port", str(port), "--workers", "1",
    ]  # fmt: skip


def _millis(moment: Any) -> int | None:
    return None if moment is None else int(moment.timestamp() * 1000)
