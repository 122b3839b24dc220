"""One list of charts: the page, the figure files and the documentation have those and no other."""

from __future__ import annotations

import json
import re
from pathlib import Path

from mubench_ray.report import write_report
from mubench_ray.report.charts import CHARTS

DOCS = Path(__file__).parents[2] / "docs" / "leaderboard.md"


def test_page_figures_and_docs_have_the_same_charts(folder):
    folder.controls()
    for seed in range(3):
        for ratio in (5.0, 10.0):
            numbers = {"test_accuracy": 0.8, "forget_accuracy": 0.7, "retention_deviation": 0.1, "flos_share": 0.2}
            numbers |= {"flos": 0.2, "retrain_flos": 1.0}
            folder.add(seed=seed, ratio=ratio, curve=[{"share": 0.0}, {"share": 0.2}], **numbers)
    # Of a suite that searched, though none of these was tuned.
    spent = {
        "trials": 0,
        "flos": 0.0,
        "seconds": 0.0,
        "terms": [],
        "networks": {"flos": 0.0, "seconds": 0.0, "terms": []},
    }
    choice = {"configuration": "", "ratio": 5.0, "forget_seed": 42} | spent
    folder.store.write_text("search/chosen.json", json.dumps({"choices": [choice]}))
    page = write_report(folder.root)
    text = page.read_text()
    assert re.findall(r'<section class="charts" data-chart="(\w+)">', text) == [chart.name for chart in CHARTS]
    assert re.findall(r'id="(\w+)-panels"', text) == [chart.name for chart in CHARTS]
    drawn = {path.name.removesuffix("-digits-cnn.png") for path in (page.parent / "figures").iterdir()}
    assert drawn == {chart.figure.name for chart in CHARTS if chart.figure}
    told = re.findall(r"^\| ([^|]+) \| (?:`figures/([\w-]+)-\*\.png`)? *\|", DOCS.read_text(), re.M)
    assert told == [(chart.title, chart.figure.name if chart.figure else "") for chart in CHARTS]


def test_the_page_says_what_to_do_where_nothing_can_be_drawn(folder):
    folder.controls()
    text = write_report(folder.root).read_text()
    assert f"<code>mubench score {folder.root} --metric deletion_capacity</code>" in text
    assert text.count('class="note how" hidden') == sum(bool(chart.how) for chart in CHARTS)
