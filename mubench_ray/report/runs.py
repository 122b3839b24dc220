"""What the page says of single trials: the command that runs one again, and its MLflow run, from the map that the sink
leaves in the results folder."""

from __future__ import annotations

import shlex
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mubench_ray.report.grouping import positions
from mubench_ray.report.load import Results
from mubench_ray.results.mlflow_sink import RUNS_FILE

#: Where `mubench ui` serves the runs of a folder unless it is told otherwise.
UI = "http://127.0.0.1:5000"


def runs_of(results: Results, trial_ids: pa.Array) -> dict[str, pa.Array]:
    """``run``, ``experiment`` and ``server`` of each trial's MLflow run, (N,) each, null where none is known.

    ``server`` is the address of the MLflow server that has the run, or UI for runs in a database, which `mubench ui`
    serves. A map that is missing or damaged counts as empty, since it only decorates.
    """
    try:
        known = pq.read_table(results.root / RUNS_FILE).combine_chunks()
        place = positions(trial_ids, known["trial_id"])
        taken = pa.array(place, mask=place < 0)
        server = [
            uri.rstrip("/") if uri and uri.startswith(("http:", "https:")) else UI
            for uri in known["tracking_uri"].to_pylist()
        ]
        columns = {"run": known["run_id"], "experiment": known["experiment_id"], "server": pa.chunked_array([server])}
        return {name: column.combine_chunks().take(taken) for name, column in columns.items()}
    except (pa.ArrowInvalid, KeyError, OSError):
        return dict.fromkeys(("run", "experiment", "server"), pa.nulls(len(trial_ids), pa.string()))


def rerun_command(root: str | Path, trial_id: str) -> str:
    """What to type to run one trial of a results folder again."""
    return f"mubench rerun {shlex.quote(str(root))} {shlex.quote(trial_id)}"


def ui_command(root: str | Path) -> str:
    """What to type to open the MLflow runs of a results folder in a browser."""
    return f"mubench ui {shlex.quote(str(root))}"
