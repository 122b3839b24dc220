"""The page: complete, escaped, fetching nothing, and drawn by a real browser where there is one."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pyarrow as pa
import pytest

from mubench_ray.report import write_report
from mubench_ray.report.load import load
from mubench_ray.report.runs import RUNS_FILE, UI, rerun_command, ui_command

EVIL = "<script>alert(1)</script> & </script><img src=x onerror=alert(2)>"


class Reader(HTMLParser):
    """Elements with their attributes, and the text of scripts, styles and everything else."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.texts: dict[str, list[str]] = {}
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in ("meta", "link", "img", "input", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in self.open:
            while self.open.pop() != tag:
                pass

    def handle_data(self, data):
        self.texts.setdefault(self.open[-1] if self.open else "", []).append(data)


def page_of(folder) -> str:
    return write_report(folder.root).read_text()


def fill(folder, **columns) -> None:
    folder.controls()
    for seed in range(3):
        for ratio in (5.0, 10.0):
            numbers = {"test_accuracy": 0.8 + 0.01 * seed, "forget_accuracy": 0.7, "retain_accuracy": 0.95}
            numbers |= {"retention_deviation": 0.2, "flos_share": 0.3, "indisc": 0.9}
            folder.add("ft", seed=seed, ratio=ratio, curve=[{"share": 0.0}, {"share": 0.3}], **(numbers | columns))


def test_the_page_fetches_nothing(folder):
    fill(folder)
    page = page_of(folder)
    reader = Reader(page)
    tags = [tag for tag, _ in reader.elements]
    assert not {"link", "iframe", "img", "object", "embed", "base"} & set(tags)
    for tag, attributes in reader.elements:
        assert not {"src", "href", "srcset", "action", "data", "poster"} & attributes.keys(), (tag, attributes)
    style = "".join(reader.texts["style"])
    assert "url(" not in style and "@import" not in style
    own = reader.texts["script"][-1]
    assert not re.search(r"https?://|fetch\(|XMLHttpRequest|import\(", own)
    for spec in (spec for panel in payload(page)["panels"].values() for spec in panel):
        assert "url" not in json.dumps({key: value for key, value in spec.items() if key != "$schema"})


def payload(page: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="payload">(.*?)</script>', page, re.S)[1])


def unpacked(table: dict) -> list[dict]:
    """Rows of a packed table, read as the page's script reads them."""
    columns = {}
    for name, packed in table["columns"].items():
        if "f32" in packed:
            values = np.frombuffer(base64.b64decode(packed["f32"]), "<f4").tolist()
            columns[name] = [None if value != value else value for value in values]
        elif "text" in packed:
            width = packed["width"]
            columns[name] = [packed["text"][i * width : (i + 1) * width] for i in range(table["count"])]
        else:
            at = np.frombuffer(base64.b64decode(packed["at"]), f"<u{packed['size']}")
            columns[name] = [packed["of"][i] for i in at]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def test_texts_are_escaped_everywhere(folder):
    fill(folder)
    folder.store.create({"suite": EVIL, "provenance": {"host": EVIL}})
    folder.add(EVIL, seed=9, status="failed", error=EVIL, task="digits")
    page = page_of(folder)
    assert "<script>alert" not in page and "<img src=x" not in page
    reader = Reader(page)
    assert sum(tag == "script" for tag, _ in reader.elements) == 3  # Vega, the data, the page's own
    assert EVIL in "".join(reader.texts["h1"])
    assert EVIL in "".join(reader.texts["td"])
    assert EVIL in "".join(reader.texts["dd"])
    assert any(style["label"] == EVIL for style in payload(page)["styles"])


def test_the_data_on_the_page(folder):
    fill(folder)
    data = payload(page_of(folder))
    rows = unpacked(data["board"])
    (row,) = [row for row in rows if row["label"] == "ft" and row["ratio"] == 10]
    assert row["test_accuracy"] == pytest.approx(0.81)
    assert row["forget_accuracy_minus_retrain"] == pytest.approx(-0.11)
    assert [t["seed"] for t in unpacked(data["trials"]) if rows[t["row"]] == row] == [0, 1, 2]
    assert [row["label"] for row in rows if row["ratio"] == 10] == ["retrain", "original", "ft"]
    assert data["rerun"] == rerun_command(folder.root, "TRIAL_ID")
    scopes = unpacked(data["scopes"])
    (average,) = [row for row in scopes if row["label"] == "ft" and row["ratio"] == "all"]
    assert average["test_accuracy"] == pytest.approx(0.81) and average["forget_accuracy@0.25"] == 0.5


def test_every_trial_has_its_mlflow_run_where_one_is_known(folder):
    fill(folder)
    ids = load(folder.root).trials["trial_id"].to_pylist()
    names = ("trial_id", "run_id", "experiment_id", "tracking_uri")
    known = zip(ids[:2], ("a" * 32, "b" * 32), "12", ("sqlite:////x/mlflow.db", "https://runs.example/"), strict=True)
    runs = pa.Table.from_pylist([dict(zip(names, values, strict=True)) for values in known])
    folder.store.write_table(".", RUNS_FILE, runs)
    data = payload(page_of(folder))
    trials = {row["id"]: row for row in unpacked(data["trials"])}
    assert set(trials) == set(ids)
    assert [trials[ids[0]][name] for name in ("server", "experiment", "run")] == [UI, "1", "a" * 32]
    assert [trials[ids[1]][name] for name in ("server", "experiment", "run")] == ["https://runs.example", "2", "b" * 32]
    assert trials[ids[2]]["run"] is None
    assert data["ui"] == {"server": UI, "command": ui_command(folder.root)}
    folder.store.write_text(RUNS_FILE, "damaged")
    assert unpacked(payload(page_of(folder))["trials"])[0]["run"] is None


def test_failures_are_listed_with_their_reasons(folder):
    fill(folder)
    folder.add("salun", status="failed", error="RuntimeError: no such layer")
    folder.add("salun", seed=1, status="failed", error="RuntimeError: no such layer")
    folder.add("scrub", status="diverged", error="loss is NaN")
    cells = Reader(page_of(folder)).texts["td"]
    assert "RuntimeError: no such layer" in cells and "loss is NaN" in cells
    assert cells[cells.index("RuntimeError: no such layer") - 2] == "2"


def test_an_empty_folder_says_so(folder):
    page = page_of(folder)
    assert "No trial has finished yet" in page
    assert not [tag for tag, _ in Reader(page).elements if tag == "script"]


def test_a_folder_of_which_no_row_counts_says_why(folder):
    folder.controls()
    folder.store.write_text("plan.json", json.dumps({"trials": []}))
    page = page_of(folder)
    assert "No row counts" in page and "digits, cnn: 6 rows are left out" in page
    assert "digits, cnn: 6 rows are left out" in (folder.root / "report" / "tables.md").read_text()
    assert not [tag for tag, _ in Reader(page).elements if tag == "script"]


def test_only_failed_rows_make_a_page(folder):
    folder.add("ft", status="failed", error="boom")
    data = payload(page_of(folder))
    (row,) = unpacked(data["board"])
    assert row["n"] == 0 and row["test_accuracy"] is None


def test_a_single_seed_has_no_invented_interval(folder):
    folder.controls(seeds=(0,))
    folder.add("ft", seed=0, test_accuracy=0.8)
    data = payload(page_of(folder))
    rows = unpacked(data["board"])
    assert all(row["test_accuracy_low"] is None and row["test_accuracy_high"] is None for row in rows)
    assert all(row["test_accuracy"] is not None for row in rows)


def test_missing_trials_are_counted(folder):
    folder.store.create({"suite": "s", "trials": 5})
    folder.add("ft", test_accuracy=0.5)
    text = " ".join(Reader(page_of(folder)).texts["span"])
    assert "still missing" in text


def test_controls_that_fail_their_gate_are_shown(folder):
    fill(folder)
    verdict = {
        "task": "digits",
        "model": "cnn",
        "ratio": 10.0,
        "metric": "u_mia",
        "verdict": "untrusted",
        "reason": "told apart",
    }
    folder.store.write_text("controls.json", json.dumps({"verdicts": [verdict, "nonsense", {"metric": "x"}]}))
    cells = Reader(page_of(folder)).texts["td"]
    assert "untrusted" in cells and "told apart" in cells


def browser() -> str | None:
    return next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )


def opened(path, tmp_path) -> str:
    """The page's elements after a browser without network ran its scripts."""
    done = subprocess.run(
        [browser(), "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
         "--no-first-run", "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={tmp_path / 'profile'}",
         "--virtual-time-budget=20000", "--enable-logging=stderr", "--dump-dom", f"file://{path}"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert "Uncaught" not in done.stderr, [text for text in done.stderr.splitlines() if "Uncaught" in text]
    assert 'data-drawn="yes"' in done.stdout, done.stderr[-2000:]
    return done.stdout


@pytest.mark.skipif(browser() is None, reason="no Chromium or Chrome here")
def test_a_browser_without_network_draws_it(folder, tmp_path):
    fill(folder)
    folder.add("salun", status="failed", error="boom", seed=5)
    page = opened(write_report(folder.root), tmp_path)
    assert page.count("<svg") > 12  # a chip a contender and a drawing a panel
    reader = Reader(page)
    assert "boom" in reader.texts["td"]
    assert [text for text in reader.texts["td"] if text == "ft"]


USE = """<script>setTimeout(() => {
  document.getElementById("ratio").value = "5";
  document.getElementById("ratio").dispatchEvent(new Event("change"));
  [...document.querySelectorAll(".chip")].find(chip => chip.textContent.startsWith("salun")).click();
  [...document.querySelectorAll("#board th")].find(th => th.textContent.startsWith("D_Test")).click();
  document.querySelector("#board tr.row").click();
}, 9000)</script>"""


@pytest.mark.skipif(browser() is None, reason="no Chromium or Chrome here")
def test_filters_sorting_and_rows_work(folder, tmp_path):
    fill(folder)
    for seed in range(3):
        numbers = {"test_accuracy": 0.9, "forget_accuracy": 0.3, "retain_accuracy": 0.95}
        folder.add("salun", seed=seed, ratio=5.0, **numbers)
    ft = next(row for row in load(folder.root).trials.to_pylist() if row["method"] == "ft" and row["ratio"] == 5)
    run = {"trial_id": ft["trial_id"], "run_id": "c" * 32, "experiment_id": "7", "tracking_uri": "sqlite:///mlflow.db"}
    folder.store.write_table(".", RUNS_FILE, pa.Table.from_pylist([run]))
    path = write_report(folder.root)
    head, end, tail = path.read_text().rpartition("</body>")
    path.write_text(head + USE + end + tail)
    page = opened(path, tmp_path)
    table = page[page.index('<table id="board">') : page.index("</table>")]
    assert "10 %" not in table and "salun" not in table
    assert table.count('class="row') == 1 and 'aria-sort="descending"' in table
    assert table.count(rerun_command(folder.root, "")[: -len(" ''")]) == 3  # the trials of the row that was clicked
    links = re.findall(r'<a href="([^"]+)"', table)
    assert links == [f"http://127.0.0.1:5000/#/experiments/7/runs/{'c' * 32}"]
    glance = page[page.index('id="glance-panels"') : page.index('data-chart="ratio"')]
    assert "ft" in re.findall(r"<text[^>]*>([^<]*)</text>", glance)
    assert "salun" not in glance and "digits · cnn · 5 %" in page
