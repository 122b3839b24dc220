"""Blocks of plain tables, on the page and in tables.md and tables.tex: the noise floor, the controls, and the papers'
own tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mubench_ray.report.load import read_json
from mubench_ray.report.ranking import rank
from mubench_ray.report.report import Report
from mubench_ray.report.scopes import ALL
from mubench_ray.report.scores import scored
from mubench_ray.results.configurations import spoken

RANKED = ("retention_deviation", "indisc")


@dataclass(frozen=True)
class TextTable:
    """A table of texts; the first column is the row's name."""

    headers: list[str]
    rows: list[list[str]]
    caption: str = ""


@dataclass(frozen=True)
class Block:
    """A section of the page: a heading, what it means, its tables."""

    title: str
    note: str
    tables: list[TextTable] = field(default_factory=list)


def blocks(report: Report) -> list[Block]:
    """Every block that has something to show."""
    from mubench_ray.report.tuning import tuning_block

    made = [
        refused_block(report),
        ranking_block(report),
        tuning_block(report),
        controls_block(report),
        noise_block(report),
        efficiency_block(report),
        attack_and_time_block(report),
        added_block(report),
    ]
    return [block for block in made if any(table.rows for table in block.tables)]


def fixed(value: float | None, digits: int = 4) -> str:
    """A number with this many decimals, or a dash."""
    return "–" if value is None or value != value else f"{value:.{digits}f}"


def cell_name(row: dict[str, Any]) -> str:
    """A (task, model, ratio) as one text."""
    return f"{row['task']} · {row['model']} · {spoken(row['ratio'])} %"


def refused_block(report: Report) -> Block:
    """Rows and cells that are in no number of the report, and why."""
    return Block(
        "Left out",
        "What is in no number here: rows that nobody planned or that a later version replaces, and cells in which a trial has two results.",
        [TextTable(["why"], [[reason] for reason in report.results.refused])],
    )


def noise_block(report: Report) -> Block:
    """How far two retrains lie from each other, a row a (task, model, ratio)."""
    title = {column.name: column.title for column in report.results.columns}
    wanted = ("test_accuracy", "forget_accuracy", "retain_accuracy", "u_mia", "indisc", "retention_deviation")
    names = [name for name in wanted if name in report.noise.column_names]
    rows = [
        [cell_name(row), str(row["retrains"]), *(fixed(row[name]) for name in names)]
        for row in report.noise.to_pylist()
    ]
    return Block(
        "Noise floor: retrain against retrain",
        "Mean absolute difference between two retrains of other seeds on the same forget set (RetDev: one retrain "
        "taken as the other's unlearned model). A method nearer to its retrain than this cannot be told from one.",
        [TextTable(["", "retrains", *(title[name] for name in names)], rows)],
    )


def controls_block(report: Report) -> Block:
    """What the controls say of each metric, from ``controls.json`` where the folder has one."""
    verdicts = read_json(report.results.root, "controls.json").get("verdicts")
    rows = []
    for entry in verdicts if isinstance(verdicts, list) else []:
        if isinstance(entry, dict) and {"task", "model", "ratio", "metric", "verdict"} <= entry.keys():
            rows.append([cell_name(entry), *(str(entry.get(key) or "") for key in ("metric", "verdict", "reason"))])
    return Block(
        "Controls as a gate",
        "A measure of forgetting is trusted where it tells the original model apart and the retrained one not.",
        [TextTable(["", "metric", "verdict", "why"], rows)],
    )


def ranking_block(report: Report) -> Block:
    """Deep Unlearn's Table 1."""
    columns = {column.name: column for column in report.results.columns}
    tables = []
    for name in RANKED:
        if name in columns:
            standings = rank(report.board, report.noise, name, columns[name].direction == "higher")
            rows = [[s.label, str(s.rank), str(s.g1), str(s.g2), str(s.g3), str(s.failed)] for s in standings]
            tables.append(TextTable(["method", "rank", "G1", "G2", "G3", "F"], rows, f"By {columns[name].title}"))
    return Block(
        "Ranking (as Deep Unlearn's Table 1)",
        "How often a method is among the best (G1), average (G2), worst (G3), or has too few usable models (F), over "
        "all (task, model, ratio). Groups: average linkage on the means, three clusters, fewer where clusters lie "
        "within the noise floor. Ordered by G1, then G2, then G3; equal counts share a rank.",
        tables,
    )


def efficiency_block(report: Report) -> Block:
    """Deep Unlearn's Table 2: RTE a (task, model)."""
    table = over_pairs(report, "retrain_time_efficiency", lambda value: fixed(value, 2), original=False)
    return Block(
        "Run-time efficiency (as Deep Unlearn's Table 2)",
        "RTE: seconds of retraining over seconds of unlearning, averaged over ratios; above 1 is faster than "
        "retraining. Seconds are clean only where a trial had its device to itself.",
        [table],
    )


def attack_and_time_block(report: Report) -> Block:
    """MU-Bench's Tables 4 to 6: D_F, membership attack and unlearning time a (task, model)."""
    tables = [
        over_pairs(report, "forget_accuracy", fixed, "D_F"),
        over_pairs(report, "u_mia", fixed, "U-MIA accuracy"),
        over_pairs(report, "seconds", duration, "Unlearning time", original=False),
    ]
    return Block(
        "D_F, membership attack and unlearning time (as MU-Bench's Tables 4, 5 and 6)",
        "Averaged over ratios. Table 4 is of text-to-image: the share of images that a classifier still recognises. The "
        "attack's chance level is 0.5; compare with the retrain's row.",
        tables,
    )


def added_block(report: Report) -> Block:
    """Metrics that ``mubench score`` added; those that their controls do not bear out are marked."""
    verdicts = read_json(report.results.root, "controls.json").get("verdicts")
    bad: dict[str, int] = Counter()
    for entry in verdicts if isinstance(verdicts, list) else []:
        if isinstance(entry, dict) and entry.get("verdict") == "untrusted":
            bad[str(entry.get("metric"))] += 1
    tables = []
    for name, (headers, rows) in scored(report.results).items():
        failed = {part: bad[key] for part in headers if (key := name if part == "value" else f"{name} {part}") in bad}
        marked = [f"{part} (untrusted)" if part in failed else part for part in headers]
        tables.append(TextTable(marked, rows, name + (" – fails its controls, see there" if failed else "")))
    return Block("Metrics added after the run", "Means over what each metric was computed on; see scores/.", tables)


def duration(seconds: float | None) -> str:
    """Seconds as people say them."""
    if seconds is None or seconds != seconds:
        return "–"
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.2f} s"


def over_pairs(
    report: Report, metric: str, show: Callable[[float | None], str], caption: str = "", original: bool = True
) -> TextTable:
    """Contenders against (task, model) pairs, averaged over ratios; with or without the original."""
    if metric not in report.scopes.column_names:
        return TextTable([], [], caption)
    several = len(report.ratios) > 1
    scopes = report.scopes.select(["task", "model", "ratio", "label", "method", metric]).to_pylist()
    rows = [row for row in scopes if ALL not in (row["task"], row["model"]) and (row["ratio"] == ALL) is several]
    rows = [row for row in rows if original or row["method"] != "original"]
    pairs = sorted({(row["task"], row["model"]) for row in rows})
    value = {(row["label"], row["task"], row["model"]): row[metric] for row in rows}
    body = [[style.label, *(show(value.get((style.label, *pair))) for pair in pairs)] for style in report.styles]
    headers = ["method", *(f"{task} · {model}" for task, model in pairs)]
    return TextTable(headers, [row for row in body if any(cell != "–" for cell in row[1:])], caption)
