"""Tables for papers and for a hub: Markdown, LaTeX, JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from mubench_ray.errors import flat
from mubench_ray.report.columns import ACCURACIES, GIVEN, shown_in
from mubench_ray.report.marks import ALL, listed
from mubench_ray.report.report import Report
from mubench_ray.report.summary import CELL, ordered
from mubench_ray.report.texts import NOTHING, Block, TextTable, doubted, trial_count
from mubench_ray.results.configurations import spoken
from mubench_ray.results.marks import MARKS, UNCHECKED, UNTRUSTED, WITHIN, cell_words, of_name, symbols
from mubench_ray.status import STATUSES

#: Significant digits of the hub's JSON.
DIGITS = 8
#: What its rows say beside statuses and metrics.
TOLD = ["task", "model", "method", "label", "ratio", "lr", "control", "uses_validation", "unequal_terms"]
TOLD += ["on_selection_seeds", "group", "told_from_retrain", "n", "planned", "interval_over", "at_edge"]
#: The columns of the leaderboard that list measures, and what each says of them.
OF_MEASURES = {"untrusted": UNTRUSTED, "unchecked": UNCHECKED, "within": WITHIN}
#: More leaderboard rows than this are in no paper: they are left to the CSV and the page.
CONFIGURATIONS = 5_000
LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "–": "--",
    "±": r"$\pm$",
    "−": "$-$",
    "·": r"$\cdot$",
    "°": r"$^{\circ}$",
    "†": r"$\dagger$",
    "‡": r"$\ddagger$",
    "¶": r"\P{}",
    "♯": r"$\sharp$",
    "§": r"\S{}",
    "≠": r"$\neq$",
    "≈": r"$\approx$",
    "◊": r"$\diamond$",
    "⊣": r"$\dashv$",
}
LATEX |= {letter: "\\" + letter for letter in "&%$#_{}"}


def paper_tables(report: Report, shown: list[Block]) -> Iterator[tuple[str, TextTable]]:
    """(caption, table): the leaderboard a (task, model, ratio), the accuracies against the ratio a (task, model) and
    averaged, then the tables of the blocks ``shown``.

    Of more than CONFIGURATIONS leaderboard rows only the averages and blocks are given; the CSV has them all.
    """
    if len(report.board) <= CONFIGURATIONS:
        for cell, rows in by_cell(report).items():
            yield f"Leaderboard, {cell}", rows
    yield from ratio_tables(report)
    for block in shown:
        for table in block.tables:
            if table.rows:
                yield ", ".join(part for part in (block.title, table.caption) if part), table


def by_cell(report: Report) -> dict[str, TextTable]:
    """One table a (task, model, ratio) with every metric of the leaderboard, and which contenders are told apart by one of
    them where that can be said."""
    shown, marks = shown_in("board", report.results.columns), report.marks
    compared = shown_in("letters", report.results.columns)
    lettered = {tuple(row[name] for name in CELL) for row in report.rows if row["group"]}
    tables: dict[str, TextTable] = {}
    for row in report.rows:
        of = row["task"], row["model"], row["ratio"]
        cell = f"{row['task']}, {row['model']}, {spoken(row['ratio'])} % deleted"
        apart = [letters_of(row)] if of in lettered else []
        if cell not in tables:
            headings = [column.title + marks.measure(column.of or column.name, *of) for column in shown]
            measures = ", ".join(column.title + marks.measure(column.name, *of) for column in compared)
            headings += [f"told apart by {measures}, from a retrain"] * len(apart)
            tables[cell] = TextTable(["method", *headings, "trials"], [], said=marks.said(*of))
        texts = (doubted(row, column, marks.value(row, column)) for column in shown)
        tables[cell].rows.append([row["label"] + symbols(of_name(row)), *texts, *apart, trial_count(row)])
    return tables


def letters_of(row: Mapping[str, Any]) -> str:
    """The letters of a contender, and whether it is told apart from a retrain, as ``ab, yes``."""
    told = {True: "yes", False: "no", None: ""}[row["told_from_retrain"]]
    return ", ".join(text for text in (row["group"], told) if text) or NOTHING


def ratio_tables(report: Report) -> Iterator[tuple[str, TextTable]]:
    """The metrics of the curves against the ratio: MU-Bench's figures as numbers, a (task, model) and averaged over them."""
    ratios, columns = report.ratios, shown_in("curves", report.results.columns)
    if len(ratios) < 2 or not len(report.scopes):
        return
    edges = [column.name + edge for column in columns for edge in ("", "_low", "_high")]
    scopes = report.scopes.select(["task", "model", "ratio", "label", *edges])
    rows = [row for row in scopes.to_pylist() if row["ratio"] != ALL]
    pairs = sorted({(row["task"], row["model"]) for row in rows if ALL not in (row["task"], row["model"])})
    value = {(row["task"], row["model"], float(row["ratio"]), row["label"]): row for row in rows}
    for task, model in ([(ALL, ALL)] if len(pairs) > 1 else []) + pairs:
        where = f"average of {len(pairs)} (task, model) pairs" if task == ALL else f"{task}, {model}"
        for column in columns:
            body = []
            for style in report.styles:
                found = (value.get((task, model, ratio, style.label)) for ratio in ratios)
                marks = (report.marks.measure(column.name, task, model, ratio) for ratio in ratios)
                texts = [doubted(row, column, mark) if row else NOTHING for row, mark in zip(found, marks)]
                if set(texts) != {NOTHING}:
                    body.append([report.marks.name(style.label, task, model), *texts])
            shares = (f"{spoken(ratio)} %{report.marks.cell(task, model, ratio)}" for ratio in ratios)
            title = column.title + report.marks.measure(column.name, task, model)
            table = TextTable(["method", *shares], body, said=report.marks.said(task, model))
            yield f"{title} against the deleted share, {where}", table


def left_out(report: Report) -> str:
    """What the tables say of leaderboards that are too long for them; empty where they have them."""
    rows = len(report.board)
    return f"The {rows:,} rows of the leaderboard are in leaderboard.csv." if rows > CONFIGURATIONS else ""


def markdown(report: Report, tables: list[tuple[str, TextTable]]) -> str:
    """``paper_tables`` in GitHub's Markdown."""
    parts = [
        f"# {plain(str(report.results.manifest.get('suite') or report.results.root.name))}",
        "",
        *([f"**Read first.** {plain(' '.join(first))}", ""] if (first := cell_words(report.marks.untold)) else []),
        f"Means over seeds ± the longer arm of the 95% interval. {left_out(report)}".strip(),
        "",
    ]
    for caption, table in tables:
        parts += [
            f"## {plain(caption)}",
            "",
            *([f"{plain(table.said)}", ""] if table.said else []),
            line(table.headers),
            line(["---", *["---:"] * (len(table.headers) - 1)]),
            *(line(row) for row in table.rows),
            "",
            *([f"Marks: {table.legend}.", ""] if table.legend else []),
        ]
    return "\n".join(parts)


def line(cells: list[str]) -> str:
    """One row of a Markdown table; what would end a cell is escaped."""
    return "| " + " | ".join(plain(cell).replace("|", "\\|") for cell in cells) + " |"


def plain(text: str) -> str:
    """A text in one line in which Markdown sees neither HTML nor a link or picture."""
    return flat(text).replace("\\", "\\\\").replace("<", "&lt;").replace("`", "\\`").replace("](", "]\\(")


def latex(report: Report, tables: list[tuple[str, TextTable]]) -> str:
    """``paper_tables`` as LaTeX ``table``s with booktabs rules."""
    parts = ["% needs \\usepackage{booktabs}", *(f"% {text}" for text in [left_out(report)] if text)]
    for caption, table in tables:
        rows = [" & ".join(map(escape, row)) + r" \\" for row in table.rows]
        columns = "l" + "r" * (len(table.headers) - 1)
        told = f" Marks: {escape(table.legend)}." if table.legend else ""
        said = f"{escape(table.said)} " if table.said else ""
        head = " & ".join(map(escape, table.headers)) + r" \\"
        parts += [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{said}{escape(caption)}. Means over seeds $\pm$ the longer arm of the 95\% interval.{told}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            head,
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    return "\n".join(parts)


def escape(text: str) -> str:
    """A text in one line in which LaTeX sees no command."""
    return "".join(LATEX.get(letter, letter) for letter in flat(text))


def shortened(board: pa.Table, digits: int = DIGITS) -> pa.Table:
    """The table with its measured values cut to so many significant digits."""
    for place, field in enumerate(board.schema):
        if pa.types.is_floating(field.type) and field.name not in GIVEN:
            values = board[field.name].to_numpy(zero_copy_only=False)
            with np.errstate(divide="ignore", invalid="ignore"):
                scale = 10.0 ** (digits - 1 - np.floor(np.log10(np.abs(values))))
                cut = np.where((values == 0) | ~np.isfinite(scale), values, np.round(values * scale) / scale)
            board = board.set_column(place, field, pa.array(cut, from_pandas=True))
    return board


def hub_json(report: Report) -> str:
    """The leaderboard for a hub: what each metric means, and a row a configuration with mean, sd, low, high, n and
    statuses."""
    results, names = report.results, report.results.metrics
    names = [*names, *(column.difference for column in ACCURACIES if column.name in names)]
    rows = []
    for row in ordered(shortened(report.board)):
        metrics = {
            name: {"mean": row[name], "sd": row[f"{name}_sd"], "low": row[f"{name}_low"], "high": row[f"{name}_high"]}
            for name in names
            if row[name] is not None
        }
        of = {mark.name: listed(row[column]) for column, mark in OF_MEASURES.items()}
        for name, metric in metrics.items():
            if there := [mark for mark, marked in of.items() if name in marked]:
                metric["marks"] = there
        told = {name: row[name] for name in TOLD} | {name: listed(row[name]) for name in OF_MEASURES}
        told |= {"marks": [mark.name for mark in of_name(row)], "not_told_apart": row["not_told_apart"]}
        told |= {name: json.loads(row[name] or "{}") for name in ("hyperparameters", "options")}
        rows.append(told | {"statuses": {name: row[name] for name in STATUSES}, "metrics": metrics})
    content = {
        "suite": results.manifest.get("suite"),
        "schema_version": results.manifest.get("schema_version"),
        "provenance": results.manifest.get("provenance"),
        "interval": "95% of the mean over seeds; of accuracies, over the population of their examples too",
        "metrics": {
            c.name: {"title": c.title, "direction": c.direction, "summary": c.summary, "cites": c.cites}
            for c in map(results.column.__getitem__, results.metrics)
        },
        "marks": {mark.name: mark.words for mark in MARKS},
    }
    head = json.dumps(content, indent=1, allow_nan=False).removesuffix("\n}")
    return head + ',\n "rows": [\n' + ",\n".join(json.dumps(row, allow_nan=False) for row in rows) + "\n ]\n}\n"
