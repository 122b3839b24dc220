from __future__ import annotations

import json

import pyarrow as pa

from mubench_ray.report import write_report
from mubench_ray.report.report import make_report
from mubench_ray.report.scores import scored

COLUMNS = {"task": pa.string(), "model": pa.string(), "method": pa.string(), "ratio": pa.float64(), "lr": pa.float64()}
COLUMNS |= {"hyperparameters": pa.string(), "part": pa.string(), "value": pa.float64(), "reason": pa.string()}


def write(folder, name, rows):
    common = {"task": "digits", "model": "cnn", "method": "ft", "ratio": 10.0, "lr": 5e-4, "hyperparameters": "{}"}
    table = pa.Table.from_pylist([common | row for row in rows], pa.schema(list(COLUMNS.items())))
    folder.store.write_table("scores", f"{name}.parquet", table)


def added(folder):
    report = make_report(folder.root)
    return scored(report.results, report.marks)


def test_parts_are_columns_and_values_are_averaged(folder):
    write(
        folder, "u_lira", [{"part": "auc", "value": 0.5}, {"part": "auc", "value": 0.7}, {"part": "tpr", "value": 0.1}]
    )
    headers, rows = added(folder)["u_lira"]
    assert headers == ["method", "task", "model", "ratio", "lr", "auc", "tpr"]
    assert rows == [["ft", "digits", "cnn", "10 %", "5e-4", "0.6", "0.1"]]


def test_without_values_the_reason_is_said(folder):
    write(folder, "u_lira", [{"part": "auc", "value": None, "reason": "needs 4 folds"}])
    assert added(folder)["u_lira"] == (["method", "no value, because"], [["ft", "needs 4 folds"]])
    folder.add(test_accuracy=0.5)
    assert "needs 4 folds" in write_report(folder.root).read_text()


def test_a_damaged_file_is_passed_over(folder):
    folder.store.write_text("scores/broken.parquet", "nothing")
    assert added(folder) == {}


def test_what_fails_its_controls_is_marked(folder):
    folder.add(test_accuracy=0.5)
    write(folder, "u_lira", [{"part": "auc", "value": 0.5}, {"part": "advantage", "value": 0.1}])
    cell = {"task": "digits", "model": "cnn", "ratio": 10.0, "reason": "the original is not told apart"}
    verdicts = [cell | {"metric": "u_lira auc", "verdict": "untrusted"}]
    verdicts += [cell | {"metric": "u_lira advantage", "verdict": "trusted"}]
    folder.store.write_text("controls.json", json.dumps({"verdicts": verdicts}))
    page = write_report(folder.root).read_text()
    assert "0.5§" in page and "0.1§" not in page and "§ untrusted: the controls do not bear this measure out" in page


def test_an_interval_of_a_group_stands_beside_its_value(folder):
    """As `mubench score` wrote it; a part without one is told bare."""
    rows = [{"part": "auc", "value": 0.7, "low": 0.61, "high": 0.8}, {"part": "tpr", "value": 0.1}]
    common = {"task": "digits", "model": "cnn", "method": "ft", "ratio": 10.0, "lr": 5e-4, "hyperparameters": "{}"}
    kinds = COLUMNS | {"low": pa.float64(), "high": pa.float64()}
    table = pa.Table.from_pylist([common | row for row in rows], pa.schema(list(kinds.items())))
    folder.store.write_table("scores", "u_lira.parquet", table)
    assert added(folder)["u_lira"][1] == [["ft", "digits", "cnn", "10 %", "5e-4", "0.7 [0.61, 0.8]", "0.1"]]


def test_values_of_single_trials_have_the_interval_of_the_leaderboard(folder):
    """The same seeds, examples and range."""
    values = (0.9, 0.96, 0.99)
    ids = [
        folder.add(seed=seed, test_accuracy=value, set_sizes='{"test": 200}', method=method)
        for method in ("ft", "salun")
        for seed, value in enumerate(values)
    ]
    scores = [
        {"method": "ft" if place < 3 else "salun", "part": "value", "value": values[place % 3], "trial_id": trial_id}
        for place, trial_id in enumerate(ids)
    ]
    common = {"task": "digits", "model": "cnn", "ratio": 10.0, "lr": 5e-4, "hyperparameters": "{}"}
    kinds = COLUMNS | {"trial_id": pa.string()}
    table = pa.Table.from_pylist([common | row for row in scores], pa.schema(list(kinds.items())))
    folder.store.write_table("scores", "test_accuracy.parquet", table)
    row = next(row for row in make_report(folder.root).board.to_pylist() if row["method"] == "ft")
    expected = f"0.95 [{row['test_accuracy_low']:.3g}, {row['test_accuracy_high']:.3g}]"
    assert [texts[-1] for texts in added(folder)["test_accuracy"][1]] == [expected, expected]


def test_what_a_method_guarantees_stands_beside_what_was_measured_of_it(folder):
    """Where every usable trial of the contender has it; of FT, which guarantees nothing, and of a contender of which one trial was cut there is none."""
    setting = {"task": "digits", "model": "cnn", "sampler": "class_balanced", "sampler_options": {}}
    texts = {}
    for name, claims in {"noisy_ft": (2.0, 2.0), "cut": (2.0, None), "ft": (None, None)}.items():
        content = {"contender": {"method": name}, "setting": setting}
        texts[name] = json.dumps(content, sort_keys=True, separators=(",", ":"))
        for seed, claim in enumerate(claims):
            folder.add(name, seed=seed, configuration=texts[name], test_accuracy=0.5, certified_epsilon=claim)
    common = {"task": "digits", "model": "cnn", "ratio": 10.0, "lr": None, "part": "median_epsilon"}
    rows = [common | {"method": name, "configuration": text, "value": 1.5} for name, text in texts.items()]
    for metric in ("forgetting_quality", "u_lira"):
        folder.store.write_table("scores", f"{metric}.parquet", pa.Table.from_pylist(rows))
    headers, found = added(folder)["forgetting_quality"]
    assert headers[-2:] == ["median_epsilon", "certified epsilon"]
    assert {row[0]: row[-2:] for row in found} == {"noisy_ft": ["1.5", "2"], "cut": ["1.5", "–"], "ft": ["1.5", "–"]}
    assert added(folder)["u_lira"][0][-1] == "median_epsilon"
