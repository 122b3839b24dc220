"""Blocks of plain tables, on the page and in tables.md and tables.tex: the noise floor, the controls, and the papers'
own tables."""

from __future__ import annotations

from mubench_ray.report.columns import Column, shown_in
from mubench_ray.report.marks import ALL
from mubench_ray.report.ranking import ranking_block
from mubench_ray.report.report import Report
from mubench_ray.report.scores import scored
from mubench_ray.report.texts import NOTHING, Block, TextTable, cell_name, fixed, written
from mubench_ray.report.tuned import tuned_block
from mubench_ray.report.tuning import tuning_block


def blocks(report: Report) -> list[Block]:
    """Every block that has something to show."""
    made = [
        refused_block(report),
        ranking_block(report),
        tuning_block(report),
        tuned_block(report),
        controls_block(report),
        noise_block(report),
        efficiency_block(report),
        attack_and_time_block(report),
        added_block(report),
    ]
    return [block for block in made if any(table.rows for table in block.tables)]


def refused_block(report: Report) -> Block:
    """Rows and cells that are in no number of the report, and why."""
    return Block(
        "Left out",
        "What is in no number here: rows that nobody planned or that a later version replaces, and cells in which a trial has two results.",
        [TextTable(["why"], [[reason] for reason in report.results.refused], prose=("why",))],
    )


def noise_block(report: Report) -> Block:
    """How far two retrains lie from each other, a row a (task, model, ratio)."""
    columns = [c for c in shown_in("noise", report.results.columns) if c.name in report.noise.column_names]
    rows = []
    for row in report.noise.to_pylist():
        cell = row["task"], row["model"], row["ratio"]
        values = (fixed(row[c.name]) + report.marks.measure(c.name, *cell) for c in columns)
        rows.append([cell_name(row, report.marks.cell(*cell)), str(row["retrains"]), *values])
    return Block(
        "Noise floor: retrain against retrain",
        "Mean absolute difference between two retrains of other seeds on the same forget set (RetDev: one retrain "
        "taken as the other's unlearned model). A method nearer to its retrain than this cannot be told from one.",
        [TextTable(["", "retrains", *(column.title for column in columns)], rows)],
    )


def controls_block(report: Report) -> Block:
    """What the controls say of each measure, and the smallest difference that they could have seen."""
    rows = []
    for row in report.results.verdicts:
        seen = row.get("smallest_difference")
        could = f"{seen:.3g}" if isinstance(seen, int | float) else NOTHING
        told = [str(row.get(key) or "") for key in ("metric", "verdict", "reason")]
        mark = report.marks.cell(row["task"], row["model"], row["ratio"])
        rows.append([cell_name(row, mark), *told[:2], could, told[2]])
    headers = ["", "metric", "verdict", "could have seen", "why"]
    return Block(
        "Controls as a gate",
        "A measure of forgetting is trusted where it tells the original model apart and the retrained one not. "
        "What is untrusted ranks nothing; what is not checkable ranks with a mark.",
        [TextTable(headers, rows, prose=("why",))],
    )


def efficiency_block(report: Report) -> Block:
    """Deep Unlearn's Table 2: RTE a (task, model)."""
    return Block(
        "Run-time efficiency (as Deep Unlearn's Table 2)",
        "RTE: seconds of retraining over seconds of unlearning, averaged over ratios; above 1 is faster than "
        "retraining. Seconds are clean only where a trial had its device to itself, and compared only where device, "
        "precision, way of execution and workers are the same; FLOs can be compared everywhere. Where tuning is charged a "
        "method also pays for all its search trials and for the originals and retrains of the selection seeds.",
        [over_pairs(report, column) for column in shown_in("efficiency", report.results.columns)],
    )


def attack_and_time_block(report: Report) -> Block:
    """MU-Bench's Tables 4 to 6: D_F, membership attack and unlearning time a (task, model)."""
    return Block(
        "D_F, membership attack and unlearning time (as MU-Bench's Tables 4, 5 and 6)",
        "Averaged over ratios. Table 4 is of text-to-image: the share of images that a classifier still recognises. The "
        "attack's chance level is 0.5; compare with the retrain's row.",
        [over_pairs(report, column) for column in shown_in("attacks", report.results.columns)],
    )


def added_block(report: Report) -> Block:
    """Metrics that ``mubench score`` added."""
    found, said = scored(report.results, report.marks), report.marks.said()
    tables = [TextTable(*table, name, said, prose=("no value, because",)) for name, table in found.items()]
    return Block(
        "Metrics added after the run",
        "Means over what each metric was computed on, with 95% intervals: of a metric of many trials, of what other models, "
        "as many as these, would give on the same examples; see scores/.",
        tables,
    )


def over_pairs(report: Report, column: Column) -> TextTable:
    """Contenders against (task, model) pairs, averaged over ratios; of times without the original, which takes none."""
    if column.name not in report.scopes.column_names:
        return TextTable([], [], column.title)
    several = len(report.ratios) > 1
    edges = [column.name + edge for edge in ("", "_low", "_high")]
    scopes = report.scopes.select(["task", "model", "ratio", "label", "method", "terms", *edges])
    rows = [
        row for row in scopes.to_pylist() if ALL not in (row["task"], row["model"]) and (row["ratio"] == ALL) is several
    ]
    rows = [row for row in rows if not (column.timed and row["method"] == "original")]
    pairs = sorted({(row["task"], row["model"]) for row in rows})
    there = [row for row in rows if row[column.name] is not None]
    ran = {pair: {row["terms"] for row in there if (row["task"], row["model"]) == pair} for pair in pairs}
    texts = {}
    for row in there:
        pair = row["task"], row["model"]
        text = written(row, column, report.marks.measure(column.name, *pair))
        # Seconds on other terms than those above and below them are not to be compared with these.
        other = f" ({row['terms']})" if column.timed and len(ran[pair]) > 1 else ""
        texts[row["label"], *pair] = text + other
    body = [
        [report.marks.name(style.label), *(texts.get((style.label, *pair), NOTHING) for pair in pairs)]
        for style in report.styles
        if any((style.label, *pair) in texts for pair in pairs)
    ]
    headers = [f"{task} · {model}{report.marks.cell(task, model)}" for task, model in pairs]
    return TextTable(["method", *headers], body, column.title + report.marks.measure(column.name), report.marks.said())
