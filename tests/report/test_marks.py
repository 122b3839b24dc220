"""What is to be doubted is marked wherever it is read: screen, page, Markdown, LaTeX, CSV, JSON."""

from __future__ import annotations

import csv
import json
import re

import pyarrow as pa
import pytest

from mubench_ray.report import legend, summary_rows, write_report
from mubench_ray.report.charts import CHARTS, Panels, drawn_on
from mubench_ray.report.marks import ALL, MARKS, Marks
from mubench_ray.report.report import make_report
from mubench_ray.report.styles import panel_spec


@pytest.fixture
def doubtful(folder):
    """FT was truncated once and NegGrad reads D_V, at two ratios; Indisc is not borne out at 10 %, and FT's D_F is the
    retrain's."""
    numbers = {"test_accuracy": 0.8, "retain_accuracy": 0.9, "indisc": 0.7, "retention_deviation": 0.1}
    for ratio in (5.0, 10.0):
        folder.controls(ratio=ratio, indisc=0.9)
        for seed in range(3):
            own = numbers | {"seed": seed, "ratio": ratio, "flos_share": 0.2}
            folder.add("ft", status="ok" if seed else "truncated", forget_accuracy=0.8 + 0.01 * seed, **own)
            folder.add("neggrad", uses_validation=True, forget_accuracy=0.1, **own)
    cell = {"task": "digits", "model": "cnn", "ratio": 10.0, "reason": "told apart"}
    verdicts = [
        cell | {"metric": "indisc", "verdict": "untrusted"},
        cell | {"metric": "retention_deviation", "verdict": "trusted"},
    ]
    folder.store.write_text("controls.json", json.dumps({"verdicts": verdicts}))
    return folder


def rows(text: str, caption: str) -> dict[str, list[str]]:
    """The rows of one table of tables.md, by the text of their first cell."""
    part = text.split(f"## {caption}")[1].split("## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: row[1:] for row in cells[2:]}


def test_every_table_for_papers_marks_and_explains(doubtful):
    text = (write_report(doubtful.root).parent / "tables.md").read_text()
    board = rows(text, "Leaderboard, digits, cnn, 10 % deleted")
    assert set(board) == {"retrain°", "original°", "ft‡", "neggrad†"}
    assert "0.000≈ ± 0.000" in board["ft‡"] and "0.700§ ± 0.000" in board["ft‡"] and board["ft‡"][-1] == "3 (1‡)"
    assert not any("≈" in cell for cell in board["neggrad†"]) and board["neggrad†"][-1] == "3"
    assert not any("§" in cell for cell in rows(text, "Leaderboard, digits, cnn, 5 % deleted")["ft‡"])
    assert set(rows(text, "D_Test against the deleted share")) == set(board)
    ranking = rows(text, "Ranking (as Deep Unlearn's Table 1), By Indisc§")
    assert set(ranking) == {"ft‡", "neggrad†"}
    floor = rows(text, "Noise floor: retrain against retrain")
    assert "0.0000§" in floor["digits · cnn · 10 %"] and "0.0000" in floor["digits · cnn · 5 %"]
    tables = [part for part in text.split("## ")[1:] if "| " in part]
    for table in tables:
        told = re.findall(r"^Marks: (.*)\.$", table, re.M)
        there = [mark.symbol for mark in MARKS if mark.symbol in table.partition("Marks:")[0]]
        assert [part[0] for part in "; ".join(told).split("; ") if part] == there, table
    latex = (doubtful.root / "report" / "tables.tex").read_text()
    assert r"ft$\ddagger$ & " in latex and r"0.700\S{} $\pm$" in latex and r"0.000$\approx$" in latex
    assert latex.count(" Marks: ") == text.count("\nMarks: ") and not set("°†‡§≈") & set(latex)


def test_the_screen_marks_and_explains(doubtful):
    shown = summary_rows(doubtful.root)
    assert [row["method"] for row in shown if row["ratio"] == "10 %"] == ["retrain°", "original°", "ft‡", "neggrad†"]
    told = legend(text for row in shown for text in row.values())
    assert told == "° control; † reads D_V, which is also the selection set; ‡ trials were stopped by the budget"


def test_csv_and_json_say_it_in_columns(doubtful):
    page = write_report(doubtful.root)
    with (page.parent / "leaderboard.csv").open() as file:
        table = {(row["method"], row["ratio"]): row for row in csv.DictReader(file)}
    assert table["ft", "10"]["untrusted"] == "indisc" and table["ft", "5"]["untrusted"] == ""
    assert (table["ft", "5"]["truncated"], table["neggrad", "5"]["uses_validation"]) == ("1", "true")
    rows = json.loads((page.parent / "leaderboard.json").read_text())["rows"]
    assert [row["untrusted"] for row in rows if row["method"] == "ft"] == [[], ["indisc"]]


def test_the_page_and_the_charts_mark(doubtful):
    page = write_report(doubtful.root).read_text()
    for mark in MARKS:
        assert f"{mark.symbol} {mark.words}" in page
    assert "ft‡" in page and "By Indisc§" in page
    report = make_report(doubtful.root)
    titles = {
        chart.name: [
            panel_spec(drawn, report.styles, chart.height).get("title")
            for drawn in drawn_on(report, chart, Panels(report.styles, report.ratios))
        ]
        for chart in CHARTS
    }
    assert titles["glance"] == ["D_Test", "D_F", "D_R", "Indisc§"]


def test_over_several_cells_what_holds_in_one_is_told():
    row = {"task": "digits", "model": "cnn", "ratio": 5.0, "label": "ft", "control": False, "uses_validation": False}
    rows = [row | {"truncated": 0, "untrusted": ""}, row | {"ratio": 10.0, "truncated": 2, "untrusted": "u_mia, zrf"}]
    marks = Marks(pa.Table.from_pylist(rows))
    assert [marks.name("ft", "digits", ALL, ratio) for ratio in (5.0, "10", ALL)] == ["ft", "ft‡", "ft‡"]
    assert [marks.measure("zrf", "digits", "cnn", ratio) for ratio in (5.0, 10.0, ALL)] == ["", "§", "§"]
    assert marks.name("other") == "other" and marks.measure("indisc") == ""
