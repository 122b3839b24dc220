"""The figures as PNG files, from the same panels as the page's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow.compute as pc

from mubench_ray.errors import harmless
from mubench_ray.report.charts import CHARTS, Panels, drawn_on
from mubench_ray.report.frontier import ALONG, CHARGED, COST
from mubench_ray.report.marks import ALL
from mubench_ray.report.report import Report
from mubench_ray.report.styles import figure_spec
from mubench_ray.results.configurations import spoken
from mubench_ray.results.marks import legend
from mubench_ray.results.schema import CURVE_SHARES
from mubench_ray.trial import CONTROLS, digest

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
    scopes = report.scopes.filter(pc.field("n") > 0)
    pairs = sorted(
        {pair for pair in zip(scopes["task"].to_pylist(), scopes["model"].to_pylist(), strict=True) if ALL not in pair}
    )
    lrs, sets = [None], SETS
    if len(report.styles) > CONTENDERS:
        sets = 1
        lrs = sorted({lr for lr in scopes["lr"].to_pylist() if lr is not None}) or [None]
    wanted = [name for name in scopes.column_names if not name.endswith("_sd") and name not in ("seconds", "terms")]
    stems: dict[str, str] = {}
    for task, model, lr in [(*pair, lr) for pair in ([(ALL, ALL)] if len(pairs) > 1 else []) + pairs for lr in lrs][
        :sets
    ]:
        chosen = (pc.field("task") == task) & (pc.field("model") == model)
        if lr is not None:
            chosen = chosen & ((pc.field("lr") == lr) | pc.field("lr").is_null())
        stem = "average" if task == ALL else f"{task}-{model}"
        where = f"average of {len(pairs)} (task, model) pairs" if task == ALL else f"{task}, {model}"
        if lr is not None:
            stem, where = f"{stem}-lr-{spoken(lr)}", f"{where}, lr {spoken(lr)}"
        if stems.setdefault(safe(stem), stem) != stem:  # `runs/a` and `runs-a`
            stem = f"{stem}-{digest(stem, 6)}"
        yield from _set(report, scopes.filter(chosen).select(wanted).to_pylist(), safe(stem), where)


def _set(report: Report, rows: list[dict[str, Any]], stem: str, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    here = {row["label"] for row in rows}
    styles = [style for style in report.styles if style.label in here]
    panels = Panels(styles, report.ratios, legend=True)
    ratios = sorted({row["ratio"] for row in rows} - {ALL}, key=float)
    at = [row for row in rows if row["ratio"] == (ALL if len(ratios) > 1 else ratios[0])] if ratios else []
    averaged = f"{where}, average of {len(ratios)} ratios" if len(ratios) > 1 else f"{where}, {''.join(ratios)} %"
    for chart in CHARTS:
        if chart.figure is None or not (drawn := drawn_on(report, chart, panels)):
            continue
        content, title = at, averaged
        if chart.name == "ratio":
            content, title = [row for row in rows if row["ratio"] != ALL] if len(ratios) > 1 else [], where
        elif (cost := {"frontier": COST, "charged": CHARGED}.get(chart.name)) and not any(
            (row[cost] or 0) > 0 for row in at
        ):
            continue
        elif chart.name == "budget":
            content = budget_rows(at) if any(row["method"] not in CONTROLS for row in at) else []
        if content:
            form = chart.figure
            size = form.width, form.height + form.each * len(styles), form.columns
            scope = at[0]["task"], at[0]["model"], at[0]["ratio"]
            names = {label: report.marks.name(label, *scope) for label in sorted(here)}
            titles = [column.title + report.marks.measure(column.name, *scope) for column, _ in drawn]
            headed = [each.properties(title=text) for (_, each), text in zip(drawn, titles, strict=True)]
            said = " ".join(filter(None, [report.marks.said(*scope), legend([*names.values(), *titles])]))
            yield f"{form.name}-{stem}", figure_spec(headed, styles, content, title, *size, names=names, said=said)


def budget_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a share of the retrain's FLOs out of the ``<metric>@<share>`` columns."""
    melted = []
    for row in rows:
        for share in CURVE_SHARES:
            point = {name: row[name] for name in ("label", "method", "ratio", "n")}
            point |= {"share": round(100 * share, 4)} | {f"{name}_marks": row.get(f"{name}_marks") for name in ALONG}
            melted.append(point | {name: row[f"{name}@{share:g}"] for name in ("spent", *ALONG)})
    return melted


def safe(text: str) -> str:
    """A text as part of a file name."""
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in text)
