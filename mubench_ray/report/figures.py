"""The figures as PNG files, from the same panels as the page's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow.compute as pc

from mubench_ray.errors import harmless
from mubench_ray.report.charts import Panels, figure_spec
from mubench_ray.report.columns import CONTROLS
from mubench_ray.report.frontier import CURVES_SHOWN, FRONTIERS, SHARES
from mubench_ray.report.report import Report
from mubench_ray.report.scopes import ALL
from mubench_ray.results.configurations import spoken
from mubench_ray.trial import digest

#: At most this many sets of figures are drawn: the average first, then (task, model) pairs by name; a single set where
#: contenders are split by learning rate. The page has them all.
SETS = 4
#: More contenders than a figure can show are split by learning rate.
CONTENDERS = 24


def missing() -> str | None:
    """Why nothing can be drawn here and how to mend it; None where it can."""
    try:
        import vl_convert  # noqa: F401
    except ImportError as error:
        return f"vl-convert, which draws them, cannot be imported ({error}). `pip install vl-convert-python` mends it"
    return None


def png(spec: dict[str, Any]) -> bytes:
    """A spec drawn at twice the screen's resolution."""
    import vl_convert

    return vl_convert.vegalite_to_png(drawable(spec), scale=2)


def drawable(spec: Any) -> Any:
    """A spec without the characters that end the process which draws it."""
    if isinstance(spec, str):
        return harmless(spec)
    if isinstance(spec, dict):
        return {drawable(key): drawable(value) for key, value in spec.items()}
    return [drawable(each) for each in spec] if isinstance(spec, list | tuple) else spec


def figures(report: Report) -> Iterator[tuple[str, dict[str, Any]]]:
    """(file name, spec) of every figure."""
    if not len(report.scopes) or not report.board["n"].to_numpy().any():
        return
    scopes = report.scopes.filter(pc.greater(report.scopes["n"], 0))
    pairs = sorted(
        {pair for pair in zip(scopes["task"].to_pylist(), scopes["model"].to_pylist(), strict=True) if ALL not in pair}
    )
    lrs, sets = [None], SETS
    if len(report.styles) > CONTENDERS:
        sets = 1
        lrs = sorted({lr for lr in scopes["lr"].to_pylist() if lr is not None}) or [None]
    wanted = [name for name in scopes.column_names if not name.endswith("_sd") and name != "seconds"]
    stems: dict[str, str] = {}
    for task, model, lr in [(*pair, lr) for pair in ([(ALL, ALL)] if len(pairs) > 1 else []) + pairs for lr in lrs][
        :sets
    ]:
        chosen = pc.and_(pc.equal(scopes["task"], task), pc.equal(scopes["model"], model))
        if lr is not None:
            chosen = pc.and_(chosen, pc.fill_null(pc.equal(scopes["lr"], lr), True))
        stem = "average" if task == ALL else f"{task}-{model}"
        where = f"average of {len(pairs)} (task, model) pairs" if task == ALL else f"{task}, {model}"
        if lr is not None:
            stem, where = f"{stem}-lr-{spoken(lr)}", f"{where}, lr {spoken(lr)}"
        if stems.setdefault(safe(stem), stem) != stem:  # `runs/a` and `runs-a`
            stem = f"{stem}-{digest(stem, 6)}"
        yield from _set(report, scopes.filter(chosen).select(wanted).to_pylist(), safe(stem), where)


def _set(report: Report, rows: list[dict[str, Any]], stem: str, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    here = {row["label"] for row in rows}
    drawn = [style for style in report.styles if style.label in here]
    panels = Panels(drawn, report.ratios, legend=True)
    title = {column.name: column.title for column in report.results.columns}
    have = set(report.scopes.column_names)
    ratios = sorted({row["ratio"] for row in rows} - {ALL}, key=float)
    at = [row for row in rows if row["ratio"] == (ALL if len(ratios) > 1 else ratios[0])] if ratios else []
    averaged = f"{where}, average of {len(ratios)} ratios" if len(ratios) > 1 else f"{where}, {''.join(ratios)} %"
    accuracies = [name for name in CURVES_SHOWN if name in have]
    if len(ratios) > 1 and accuracies:
        by_ratio = [row for row in rows if row["ratio"] != ALL]
        yield (
            f"against-ratio-{stem}",
            figure_spec([panels.against_ratio(n, title[n]) for n in accuracies], drawn, by_ratio, where, 300, 260),
        )
    scores = [*accuracies, *(["indisc"] if "indisc" in have else [])]
    if scores and at:
        glances = [panels.glance(n, title[n], i == 0) for i, n in enumerate(scores)]
        yield f"glance-{stem}", figure_spec(glances, drawn, at, averaged, 210, 40 + 22 * len(drawn), columns=4)
    frontiers = [panels.frontier(n, title[n]) for n in FRONTIERS if f"{n}_dominated" in have]
    if frontiers and any((row["flos_share"] or 0) > 0 for row in at):
        yield f"frontier-{stem}", figure_spec(frontiers, drawn, at, averaged, 400, 300)
    curves = [panels.along_budget(n, title[n]) for n in accuracies if f"{n}@1" in have]
    if curves and any(row["method"] not in CONTROLS for row in at):
        yield f"budget-{stem}", figure_spec(curves, drawn, budget_rows(at), averaged, 300, 260)


def budget_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a share of the retrain's FLOs out of the ``<metric>@<share>`` columns."""
    melted = []
    for row in rows:
        for share in SHARES:
            point = {name: row[name] for name in ("label", "method", "ratio", "n")} | {
                "share": round(100 * share, 4),
                "spent": row[f"spent@{share:g}"],
            }
            melted.append(point | {metric: row[f"{metric}@{share:g}"] for metric in CURVES_SHOWN})
    return melted


def safe(text: str) -> str:
    """A text as part of a file name."""
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in text)
