from __future__ import annotations

import csv
import os
import subprocess
import sys

import pytest

from mubench_ray.errors import ResultsError
from mubench_ray.report import NotDrawn, summary_rows, write_report


def test_files_of_a_report(folder):
    folder.controls()
    for seed in range(3):
        for ratio in (5.0, 10.0):
            numbers = {"test_accuracy": 0.8, "forget_accuracy": 0.7, "retain_accuracy": 0.9}
            numbers |= {"retention_deviation": 0.1, "flos_share": 0.2}
            folder.add(seed=seed, ratio=ratio, curve=[{"share": 0.0}, {"share": 0.2}], **numbers)
    page = write_report(folder.root)
    assert page == folder.root / "report" / "leaderboard.html"
    names = {path.name for path in page.parent.rglob("*") if path.is_file()}
    assert names == {
        "leaderboard.html", "leaderboard.csv", "leaderboard.json", "tables.md", "tables.tex",
        "against-ratio-digits-cnn.png",
        "glance-digits-cnn.png", "frontier-digits-cnn.png", "budget-digits-cnn.png",
    }  # fmt: skip
    for path in (page.parent / "figures").iterdir():
        assert path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 5000


def test_a_panic_of_what_draws_costs_a_figure(folder, monkeypatch):
    """It is raised as what is no Exception; the page, the tables and the other figures are there."""
    import vl_convert

    panic = type("PanicException", (BaseException,), {})
    drawn = []

    def draw(spec, scale):
        drawn.append(spec)
        if len(drawn) == 1:
            raise panic("called `Option::unwrap()` on a `None` value")
        return b"drawn"

    monkeypatch.setattr(vl_convert, "vegalite_to_png", draw)
    folder.controls()
    for ratio in (5.0, 10.0):
        folder.add(ratio=ratio, forget_accuracy=0.7, test_accuracy=0.8, flos_share=0.2)
    with pytest.warns(NotDrawn, match=r"Option::unwrap") as told:
        page = write_report(folder.root)
    assert len(told) == 1 and page.is_file() and len(drawn) > 1
    assert len(list((page.parent / "figures").iterdir())) == len(drawn) - 1


def test_csv_recomputed_by_hand(folder):
    folder.controls()
    values = (0.61, 0.64, 0.70)
    for seed, value in enumerate(values):
        folder.add(seed=seed, forget_accuracy=value)
    write_report(folder.root)
    with (folder.root / "report" / "leaderboard.csv").open() as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    row = rows["ft"]
    mean = sum(values) / 3
    assert float(row["forget_accuracy"]) == pytest.approx(mean)
    assert float(row["forget_accuracy_sd"]) == pytest.approx((sum((v - mean) ** 2 for v in values) / 2) ** 0.5)
    assert float(row["forget_accuracy_minus_retrain"]) == pytest.approx(mean - 0.81)
    assert float(row["forget_accuracy_low"]) < mean < float(row["forget_accuracy_high"])
    assert (row["n"], row["planned"], row["failed"], row["lr"]) == ("3", "3", "0", "0.0005")
    assert row["test_accuracy"] == "" and rows["retrain"]["lr"] == ""


def test_rows_for_the_screen(folder):
    folder.controls()
    for seed in range(3):
        folder.add(seed=seed, test_accuracy=0.7, flos_share=0.25, status="failed" if seed == 2 else "ok")
    rows = summary_rows(folder.root)
    assert [row["method"] for row in rows] == ["retrain°", "original°", "ft"]
    assert rows[2]["D_Test"] == "0.700 ± 0.000" and rows[2]["FLOs share"] == "25.0 ± 0.0 %"
    assert rows[2]["D_F"] == "–" and rows[2]["trials"] == "2 of 3" and rows[2]["ratio"] == "10 %"
    assert all(row.keys() == rows[0].keys() for row in rows)


def test_written_twice_is_the_same(folder):
    folder.controls()
    folder.add(test_accuracy=0.5)
    page = write_report(folder.root)
    first = {path: path.read_bytes() for path in page.parent.rglob("*.*") if path.suffix != ".png"}
    write_report(folder.root)
    assert {path: path.read_bytes() for path in first} == first


def test_no_results_folder(tmp_path):
    with pytest.raises(ResultsError, match=r"no manifest\.json"):
        write_report(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_folder_is_one_line(folder):
    folder.root.chmod(0o500)
    try:
        with pytest.raises(ResultsError, match="cannot be written"):
            write_report(folder.root)
    finally:
        folder.root.chmod(0o700)


def test_a_file_in_the_way_is_one_line(folder):
    (folder.root / "report").write_text("")
    with pytest.raises(ResultsError, match="cannot be written"):
        write_report(folder.root)


def test_the_report_needs_neither_torch_nor_ray():
    code = "import sys, mubench_ray.report; print([m for m in ('torch', 'ray', 'transformers') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
