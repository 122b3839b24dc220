from __future__ import annotations

import json
from math import inf

import numpy as np
import pyarrow as pa
import pytest

from mubench_ray.metrics import GROUP_METRICS, METRICS
from mubench_ray.registry import Registry
from mubench_ray.report import write_report
from mubench_ray.report.columns import COLUMNS, described
from mubench_ray.report.load import load


def test_shown_columns_first_then_the_rest_by_name():
    names = [column.name for column in described(["zebra", "forget_accuracy", "apple", "test_accuracy"], {})]
    assert names == ["test_accuracy", "forget_accuracy", "apple", "zebra"]


def test_what_a_folder_declares_wins():
    declared = {"apple": {"direction": "lower", "low": 0, "high": 1, "cites": "Adam", "summary": "A fruit."}}
    (column,) = described(["apple"], declared)
    assert (column.direction, column.low, column.high, column.cites) == ("lower", 0.0, 1.0, "Adam")


@pytest.mark.parametrize("entry", [None, "higher", {}, {"direction": "sideways", "low": "x", "high": None}])
def test_a_malformed_entry_is_passed_over(entry):
    (column,) = described(["test_accuracy"], {"test_accuracy": entry})
    assert (column.title, column.direction, column.low, column.high) == ("D_Test", "neither", -inf, inf)


def test_damaged_or_missing_json_only_decorates(folder):
    folder.store.write_text("metrics.json", "{not json")
    folder.add(test_accuracy=0.5)
    assert load(folder.root).metrics[0] == "test_accuracy"
    assert folder.store.read_object("absent.json") == {}
    folder.store.write_text("list.json", "[1]")
    assert folder.store.read_object("list.json") == {}


def test_titles_of_methods_come_from_the_folder(folder):
    folder.store.write_text("methods.json", '{"neggrad_plus": {"title": "NG+"}, "ft": {}}')
    assert load(folder.root).titles == {"neggrad_plus": "NG+"}


PLUGIN = {"heading": "Gap", "format": "share", "direction": "higher", "summary": "Theirs.", "cites": "Nobody 2026"}


def test_a_plugins_metric_is_shown_by_what_the_run_wrote_and_no_code_is_loaded(folder, monkeypatch):
    """Neither its own, nor that of an entry point, which a look into a registry would import."""
    told = folder.store.read_object("metrics.json") | {"their_gap": PLUGIN | {"low": 0.0, "high": 1.0}}
    folder.store.write_text("metrics.json", json.dumps(told))
    folder.controls()
    for seed in range(3):
        row = {"seed": seed, "test_accuracy": 0.5, "their_gap": 0.25}
        folder.add(**row)

    def load_all(registry):
        raise AssertionError(f"every {registry.kind} is imported")

    monkeypatch.setattr(Registry, "_discover", load_all)
    page = write_report(folder.root)
    content = json.loads((page.parent / "leaderboard.json").read_text())
    assert content["metrics"]["their_gap"] == {key: PLUGIN[key] for key in ("direction", "summary", "cites")} | {
        "title": "Gap"
    }
    (column,) = [column for column in load(folder.root).columns if column.name == "their_gap"]
    assert (column.format, column.high) == ("share", 1.0)
    assert '"title":"Gap","direction":"higher"' in page.read_text()


def test_a_plugins_time_has_no_mean_over_several_kinds_of_device(folder):
    folder.store.write_text("metrics.json", json.dumps({"their_speed": {"timed": True}, "their_size": {}}))
    for seed, device in enumerate(("one", "two")):
        folder.add(seed=seed, device=device, their_speed=1.0, their_size=1.0)
    results = load(folder.root)
    assert np.isnan(results.values("their_speed")).all() and (results.values("their_size") == 1).all()


@pytest.mark.parametrize(("changed", "refused"), [("their_speed", 0), ("their_size", 1)])
def test_a_plugins_time_may_differ_between_two_runs_of_a_trial(folder, changed, refused):
    folder.store.write_text("metrics.json", json.dumps({"their_speed": {"timed": True}, "their_size": {}}))
    folder.add(their_speed=1.0, their_size=1.0)
    rows = folder.store.read("trials")
    place = rows.schema.get_field_index(changed)
    folder.store.write_table("trials", "other.parquet", rows.set_column(place, changed, pa.array([2.0])))
    assert len(load(folder.root).refused) == refused


def test_every_column_is_a_metric_or_says_what_it_is():
    metrics = {*METRICS.names(), *GROUP_METRICS.names(), "seconds"}
    assert {column.of or column.name for column in COLUMNS if not column.summary or column.of} <= metrics
    assert {column.retention for column in COLUMNS if column.retention} <= metrics
    assert all(column.shown for column in COLUMNS)
