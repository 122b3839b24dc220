"""MLflow as a view of the results store, which stays the truth: one run a trial, in batches, never on the engine's path."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc

from mubench_ray.errors import MubenchError
from mubench_ray.results.schema import CURVE_METRICS, TRIAL_COLUMNS
from mubench_ray.results.store import Store

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

#: What one call of log_batch may hold.
METRICS_A_CALL, PARAMS_A_CALL = 1000, 100
#: Rows read from the store at a time.
ROWS_A_TURN = 200

_FIXED = {field.name for field in TRIAL_COLUMNS}
_COSTS = ("flos", "seconds", "retrain_flos", "retrain_seconds", "wall_seconds")
_PARAMS = (
    "task", "model", "method", "ratio", "seed", "lr", "training_seed", "forget_seed", "sampler", "after", "options", "forget_size", "retain_size",
)  # fmt: skip

#: No telemetry, no chatter, and no minutes of retries inside one call: the follower tries again by itself.
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "GIT_PYTHON_REFRESH": "quiet",
}


class MlflowSink:
    """Copies rows that MLflow has not yet; which ones those are is asked of MLflow itself, by their ``trial_id`` and ``complete`` tags."""

    def __init__(self, root: str | Path, tracking_uri: str | None = None) -> None:
        self.store = Store(Path(root).absolute())
        self.tracking_uri = tracking_uri or self.store.check().get("mlflow_uri") or default_uri(self.store.root)
        self._client: MlflowClient | None = None
        self._experiment = ""
        self._copied: set[str] = set()

    def sync(self) -> int:
        """Copy every row that MLflow has not; returns how many. Raises MubenchError when MLflow cannot be reached."""
        return self._sync(threading.Event())

    def follow(self, stop: threading.Event, every: float = 2.0) -> None:
        """Copy rows as they come until ``stop`` is set, then once more; an outage is one warning, and tried again later."""
        pause, warned = every, False
        while True:
            last = stop.wait(pause)
            try:
                self._sync(threading.Event() if last else stop)
                pause = every
            except MubenchError as error:
                pause = min(60.0, 2 * pause)
                if not warned:
                    warned = True
                    log.warning("%s The run goes on; `mubench report %s --sync-mlflow` catches up.", error, self.store.root)
            if last:
                return

    def _sync(self, stop: threading.Event) -> int:
        missing = self.store.finished() - self._copied
        if not missing:
            return 0
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        added = 0
        try:
            if self._client is None:
                self._connect()
                missing -= self._copied
            ids = sorted(missing)
            for start in range(0, len(ids), ROWS_A_TURN):
                for row, curve in self._rows(ids[start : start + ROWS_A_TURN]):
                    if stop.is_set():
                        return added
                    self._write(row, curve)
                    self._copied.add(row["trial_id"])
                    added += 1
        except (MlflowException, SQLAlchemyError, OSError) as error:
            self._client = None
            reason = " ".join(str(error).split())[:200]
            raise MubenchError(f"MLflow at {self.tracking_uri} cannot be written: {type(error).__name__}: {reason}.") from error
        return added

    def _connect(self) -> None:
        quiet()
        import mlflow

        client = mlflow.MlflowClient(self.tracking_uri)
        name = self.store.check(must_exist=True).get("suite") or self.store.root.name
        experiment = client.get_experiment_by_name(name)
        if experiment is not None:
            self._experiment = experiment.experiment_id
        else:
            local = self.tracking_uri.startswith("sqlite:")
            folder = (self.store.root / "mlruns").as_uri() if local else None
            # Tells the MLflow UI that these are training runs with metrics, not conversations.
            kind = {"mlflow.experimentKind": "custom_model_development"}
            self._experiment = client.create_experiment(name, artifact_location=folder, tags=kind)
        # What was there complete stays; what a crash left half-written is removed and written anew.
        token = None
        while True:
            page = client.search_runs([self._experiment], max_results=1000, page_token=token)
            for run in page:
                if run.data.tags.get("complete") == "yes":
                    self._copied.add(run.data.tags.get("trial_id", ""))
                elif "trial_id" in run.data.tags:
                    client.delete_run(run.info.run_id)
            token = page.token
            if not token:
                break
        self._client = client

    def _rows(self, ids: list[str]) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
        chosen = pc.field("trial_id").isin(ids)
        curves: dict[str, list[dict[str, Any]]] = {}
        for point in self.store.read("curves", filter=chosen).to_pylist():
            curves.setdefault(point["trial_id"], []).append(point)
        return [(row, curves.get(row["trial_id"], [])) for row in self.store.read("trials", filter=chosen).to_pylist()]

    def _write(self, row: dict[str, Any], curve: list[dict[str, Any]]) -> None:
        """One run: created, filled in batches, and only then tagged complete."""
        from mlflow.entities import Metric, Param

        begin = _millis(row["started_at"])
        end = _millis(row["finished_at"]) or begin
        provenance = json.loads(row["provenance"])
        tags = {
            "trial_id": row["trial_id"],
            "mlflow.runName": f"{row['method']}-{row['task']}-{row['model']}-{row['ratio']:g}-{row['seed']}",
            "status": row["status"],
            "error": (row["error"] or "")[:5000],
            "method": row["method"],
            "task": row["task"],
            "model": row["model"],
            "device": row["device"] or "",
            "mlflow.source.git.commit": provenance.get("git_commit") or "",
        }
        run = self._client.create_run(self._experiment, start_time=begin, tags={name: value for name, value in tags.items() if value})
        params = {name: row[name] for name in _PARAMS if row.get(name) is not None and row[name] != ""} | json.loads(row["hyperparameters"])
        metrics = [
            Metric(name, value, end, 0)
            for name, value in row.items()
            if isinstance(value, float) and (name not in _FIXED or name in _COSTS)
        ]
        for point in curve:
            # A step is a thousandth of what the retrain spent.
            step = round(1000 * (point["retrain_share"] or 0))
            metrics += [Metric(f"curve/{name}", point[name], end, step) for name in CURVE_METRICS if point[name] is not None]
        listed = [Param(name, str(value)[:6000]) for name, value in params.items()]
        run_id = run.info.run_id
        for start in range(0, len(listed), PARAMS_A_CALL):
            self._client.log_batch(run_id, params=listed[start : start + PARAMS_A_CALL])
        for start in range(0, len(metrics), METRICS_A_CALL):
            self._client.log_batch(run_id, metrics=metrics[start : start + METRICS_A_CALL])
        self._client.set_terminated(run_id, "FINISHED" if row["status"] in ("ok", "truncated") else "FAILED", end_time=end)
        self._client.set_tag(run_id, "complete", "yes")


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
    """The command that serves the MLflow UI on a results folder."""
    root = Path(root).absolute()
    return [
        sys.executable, "-m", "mlflow", "server", "--backend-store-uri", default_uri(root), "--default-artifact-root", (root / "mlruns").as_uri(),
        "--host", host, "--port", str(port),
    ]  # fmt: skip


def _millis(moment: Any) -> int | None:
    return None if moment is None else int(moment.timestamp() * 1000)
