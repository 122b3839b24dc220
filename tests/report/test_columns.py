from __future__ import annotations

from math import inf

import pytest

from mubench_ray.report.columns import described
from mubench_ray.report.load import load, read_json


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
    assert read_json(folder.root, "absent.json") == {}
    folder.store.write_text("list.json", "[1]")
    assert read_json(folder.root, "list.json") == {}


def test_titles_of_methods_come_from_the_folder(folder):
    folder.store.write_text("methods.json", '{"neggrad_plus": {"title": "NG+"}, "ft": {}}')
    assert load(folder.root).titles == {"neggrad_plus": "NG+"}
