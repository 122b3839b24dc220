from __future__ import annotations

import json

import pytest

from mubench_ray.report.report import make_report
from mubench_ray.report.sections import blocks
from mubench_ray.report.tables import escape, hub_json, latex, line, markdown, paper_tables
from mubench_ray.report.texts import with_doubt


@pytest.fixture
def report(folder):
    folder.controls()
    for seed in range(3):
        folder.add(
            "neggrad_plus", seed=seed, test_accuracy=0.8 + 0.1 * seed, forget_accuracy=0.9, retention_deviation=0.1
        )
        folder.add("neggrad_plus", seed=seed, ratio=5.0, test_accuracy=0.7, forget_accuracy=0.5)
    return make_report(folder.root)


def tables(report):
    return list(paper_tables(report, blocks(report)))


def test_markdown_has_every_table_with_its_numbers(report):
    text = markdown(report, tables(report))
    assert "## Leaderboard, digits, cnn, 10 % deleted" in text
    (row,) = [part for part in text.splitlines() if part.startswith("| neggrad_plus | 0.900 ±")]
    assert "| 0.900 ± 0.000 |" in row  # D_F: equal for all seeds
    assert "| neggrad_plus | 0.700 ± 0.000 | 0.900 ± " in text  # D_Test against 5 % and 10 %
    assert "| neggrad_plus | 0.7000 ± 0.0000 |" in text  # D_F over both
    widths = {part.count("|") for part in text.split("## ")[1].splitlines() if part.startswith("|")}
    assert len(widths) == 1


def test_latex_is_balanced_and_escaped(report):
    text = latex(report, tables(report))
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") > 2
    assert r"neggrad\_plus" in text and "neggrad_plus" not in text
    body = text.split(r"\midrule")[1].split(r"\bottomrule")[0]
    assert {row.count("&") - row.count(r"\&") for row in body.strip().splitlines()} == {
        text.split(r"\toprule")[1].split(r"\\")[0].count("&")
    }


def test_escapes():
    assert escape("a_b & 5 % {x} \\ ~ ± #") == r"a\_b \& 5 \% \{x\} \textbackslash{} \textasciitilde{} $\pm$ \#"
    assert line(["a|b", "<i>"]) == "| a\\|b | &lt;i> |"
    assert line(["[x](http://x) ![y](z) `c`\nd\x1b[2J"]) == r"| [x]\(http://x) ![y]\(z) \`c\` d\\x1b[2J |"
    assert escape("a\nb\x1b") == r"a b\textbackslash{}x1b"


def test_doubt():
    assert with_doubt(1.0, 0.988, 1.0) == "1.000 ± 0.012"  # half the width would say that .990 lies outside
    assert with_doubt(0.5, 0.4, 0.7) == "0.500 ± 0.200"
    assert with_doubt(0.5, None, None) == "0.500"
    assert with_doubt(None, None, None) == "–"
    assert with_doubt(0.25, 0.2, 0.3, share=True) == "25.0 ± 5.0 %"


def test_json_for_a_hub(report):
    content = json.loads(hub_json(report))
    assert content["suite"] == "hand-made"
    assert content["metrics"]["forget_accuracy"]["direction"] == "neither"
    (row,) = [row for row in content["rows"] if row["method"] == "neggrad_plus" and row["ratio"] == 10]
    assert row["metrics"]["test_accuracy"]["mean"] == pytest.approx(0.9)
    assert row["metrics"]["test_accuracy"]["sd"] == pytest.approx(0.1)
    assert row["metrics"]["forget_accuracy_minus_retrain"]["mean"] == pytest.approx(0.9 - 0.81)
    assert "indisc" not in row["metrics"]
    assert row["statuses"] == {"ok": 3, "truncated": 0, "diverged": 0, "out_of_memory": 0, "failed": 0}
