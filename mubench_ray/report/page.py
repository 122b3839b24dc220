"""The leaderboard page: one file that fetches nothing."""

from __future__ import annotations

from collections import Counter, defaultdict
from functools import cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from markupsafe import Markup

from mubench_ray.report.charts import CHARTS
from mubench_ray.report.environment import environment
from mubench_ray.report.figures import missing
from mubench_ray.report.load import Results
from mubench_ray.report.payload import embedded, payload
from mubench_ray.report.report import Report
from mubench_ray.report.texts import Block
from mubench_ray.results.marks import MARKS, cell_words
from mubench_ray.results.store import Store
from mubench_ray.status import STATUSES, Status
from mubench_ray.trial import CONTROLS

METHOD_NOTE = (
    "95% of the mean over seeds, by a bootstrap stretched to the width that so few seeds need (t instead of normal "
    "quantile, and a margin against skewness); covers 93 to 97% in simulations at 3 to 10 seeds, less of very skewed "
    "values; nested seeds are averaged up to the outermost level that varies; one seed has no interval. Accuracies are of "
    "the population that the examples are a sample of, so far as rows say how many there are; all else, differences to the "
    "retrain among it, of these examples. Training seeds crossed with forget draws: by variance components, and of fewer "
    "than 3 of either none is claimed."
)
FAILURES_SHOWN = 50


def render(report: Report, shown: list[Block]) -> str:
    """The whole page as HTML, with the blocks ``shown``."""
    results = report.results
    count = len(results.trials)
    return (
        environment()
        .get_template("leaderboard.html")
        .render(
            suite=str(results.manifest.get("suite") or results.root.name),
            root=str(results.root),
            lead=lead(report),
            cards=cards(results),
            count=count,
            blocks=shown,
            charts=CHARTS,
            marks="; ".join(mark.told for mark in MARKS),
            first=cell_words(report.marks.untold),
            failures=failures(results.trials),
            provenance=provenance_rows(results),
            method_note=METHOD_NOTE,
            payload=embedded(payload(report)) if count else "",
            bundle=Markup(vega_bundle()) if count and not missing() else "",
        )
    )


@cache
def vega_bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script that may stand inside a page."""
    import vl_convert

    # Its types ask for a snippet; without one it gives the libraries alone.
    bundle = vl_convert.javascript_bundle()  # pyright: ignore[reportCallIssue]
    return bundle.replace("</script", "<\\/script")


def lead(report: Report) -> str:
    """One sentence on what was compared."""
    trials = report.results.trials
    parts = []
    for name, word in (
        ("task", "task"),
        ("model", "model"),
        ("method", "method"),
        ("ratio", "ratio"),
        ("training_seed", "training seed"),
    ):
        values = trials[name].unique().to_pylist()
        listed = [f"{value:g}\u00a0%" if name == "ratio" else str(value) for value in sorted(values)]
        if name == "method":
            listed = [value for value in listed if value not in CONTROLS]
        parts.append(
            f"{len(listed)} {word}{'' if len(listed) == 1 else 's'}"
            + (f" ({', '.join(listed)})" if 0 < len(listed) <= 10 else "")
        )
    return "Unlearning methods against the original and the retrained model: " + " · ".join(parts) + "."


def cards(results: Results) -> list[dict[str, str]]:
    """The counts at the head of the page: a planned trial is either one of these or missing."""
    status = Counter(results.trials["status"].to_pylist())
    done = len(results.trials)
    made = [{"name": "trials", "value": f"{done:,}", "kind": ""}]
    kinds: dict[str, str] = {Status.OK: "good", Status.TRUNCATED: "warn"}
    names: dict[str, str] = {Status.OUT_OF_MEMORY: "out of memory", Status.TRUNCATED: "truncated by budget"}
    made += [
        {"name": names.get(name, name), "value": f"{status[name]:,}", "kind": kinds.get(name, "bad")}
        for name in STATUSES
        if status.get(name)
    ]
    if results.missing:
        made.append({"name": "still missing", "value": f"{results.missing:,}", "kind": "bad"})
    return made


def failures(trials: pa.Table) -> list[dict[str, Any]]:
    """Rows that are not ``ok``, counted by status and reason, most frequent first."""
    short = trials.filter(pc.field("status") != Status.OK.value).select(["status", "error", "method", "trial_id"])
    if not len(short):
        return []
    rank = {name: position for position, name in enumerate(reversed(STATUSES))}
    found: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for row in short.to_pylist():
        reason = row["error"] or (
            "reached the budget of its retrain and was evaluated there"
            if row["status"] == Status.TRUNCATED
            else "no reason was recorded"
        )
        found[row["status"], reason].append((row["method"], row["trial_id"]))
    ordered = sorted(
        found.items(), key=lambda item: (rank.get(item[0][0], 0) == rank[Status.TRUNCATED], -len(item[1]), item[0])
    )
    return [
        {
            "status": status,
            "error": error,
            "trials": len(of),
            "methods": ", ".join(sorted({m for m, _ in of})),
            "trial_id": of[0][1],
        }
        for (status, error), of in ordered[:FAILURES_SHOWN]
    ]


def provenance_rows(results: Results) -> list[tuple[str, str]]:
    """Versions, commit, host of the run, and the devices and concurrency of the trials."""
    rows = [
        (str(name), str(value))
        for name, value in (results.manifest.get("provenance") or {}).items()
        if value is not None
    ]
    for name, word in (
        ("device", "device"),
        ("concurrency", "trials that may share a device"),
        ("sampler", "forget sampler"),
    ):
        values = sorted(str(value) for value in results.trials[name].unique().to_pylist() if value is not None)
        if values:
            rows.append((word, ", ".join(values)))
    for name, entry in Store(results.root).read_object("submissions.json").items():
        if isinstance(entry, dict):
            rows.append((f"from {name}", submission_line(entry)))
    if results.manifest.get("mlflow_uri"):
        rows.append(("MLflow", str(results.manifest["mlflow_uri"])))
    return rows


def submission_line(entry: dict[str, Any]) -> str:
    """What a group handed over, in one line."""
    parts = [f"{entry.get('trials')} trials of suite {entry.get('suite')}"]
    parts.append(
        f"{entry.get('forget_sets_drawn_anew')} of {entry.get('forget_sets')} forget sets drawn anew and equal"
    )
    given = entry.get("provenance")
    parts += (
        [f"{name} {value}" for name, value in given.items() if value is not None] if isinstance(given, dict) else []
    )
    return ", ".join(parts)
