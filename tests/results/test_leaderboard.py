"""Submissions of real trials: a good one is taken in whole, a forged or incomplete one is refused with its reason."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from mubench_ray.cli import app
from mubench_ray.engine.plan import make_plan, split_name
from mubench_ray.engine.run import describe_plan, manifest
from mubench_ray.errors import ResultsError
from mubench_ray.forget import split_forget
from mubench_ray.metrics.base import describe_metrics
from mubench_ray.report import summary_rows, write_report
from mubench_ray.results.leaderboard import entries, merge, submit
from mubench_ray.results.mlflow_sink import RUNS_FILE, RUNS_SCHEMA
from mubench_ray.results.schema import SCHEMA_VERSION
from mubench_ray.results.store import Store
from mubench_ray.results.submission import forget_name, pack
from mubench_ray.suite import make_suite
from mubench_ray.trial import Trial
from mubench_ray.trials.artifacts import ArtifactStore
from mubench_ray.trials.data import load_task
from mubench_ray.trials.rows import failed_outcome
from mubench_ray.trials.run_trial import metric_names, run_trial


def run(root: Path, suite: dict, artifacts: Path) -> Path:
    """A results folder as `mubench run` leaves it, without Ray; the last trial failed."""
    suite = make_suite(suite)
    plan = make_plan(suite)
    store = Store(root)
    store.create(manifest(suite, plan))
    store.write_text("plan.json", json.dumps(describe_plan(plan)))
    store.write_text("metrics.json", json.dumps(describe_metrics()))
    trials = list(plan.trials.values())
    for trial in trials:
        outcome = (
            failed_outcome(trial, "for the test")
            if trial.method == "neggrad"
            else run_trial(trial, ArtifactStore(artifacts), wanted=plan.observations)
        )
        store.write(outcome, metric_names())
        drawn = split_forget(load_task(trial.task, trial.subset, None)[1].train, trial.forget).manifest
        content = json.dumps({"task": trial.task, "subset": trial.subset, **drawn})
        store.write_text(f"splits/{split_name(trial.retrain)}.json", content)
    pack(root)
    return root


@pytest.fixture(scope="module")
def groups(tiny, tmp_path_factory):
    """Two groups that ran the same controls and each a method of its own."""
    root, artifacts = tmp_path_factory.mktemp("groups"), tmp_path_factory.mktemp("artifacts")
    common = {**tiny, "ratios": 10, "training": {"epochs": 1}}
    ours = {**common, "name": "ours", "methods": ["original", "retrain", {"name": "ft", "epochs": 1}, "neggrad"]}
    theirs = {**common, "name": "theirs", "methods": ["original", "retrain", "rand_label"]}
    return run(root / "ours", ours, artifacts), run(root / "theirs", theirs, artifacts)


@pytest.fixture
def ours(groups, tmp_path):
    """A copy to forge."""
    return Path(shutil.copytree(groups[0], tmp_path / "ours"))


def change(folder: Path, of: str, table: str = "trials", **columns) -> None:
    """Write other values into the rows of one method's trial."""
    path = file_of(folder, of, table)
    content = pq.read_table(path)
    for name, value in columns.items():
        place, kind = content.schema.get_field_index(name), content.schema.field(name)
        content = content.set_column(place, kind, pa.array([value] * len(content), kind.type))
    pq.write_table(content, path)


def file_of(folder: Path, method: str, table: str = "trials") -> Path:
    rows = Store(folder).read("trials").to_pylist()
    (trial_id,) = [row["trial_id"] for row in rows if row["method"] == method]
    return folder / table / f"{trial_id}.parquet"


def test_two_groups_make_one_leaderboard(groups, tmp_path):
    board = tmp_path / "board"
    told = merge(list(groups), board)
    assert {name: (entry["trials"], entry["shared"]) for name, entry in told.items()} == {
        "ours": (4, 0),
        "theirs": (3, 2),
    }
    assert all(entry["forget_sets"] == entry["forget_sets_drawn_anew"] == 1 for entry in told.values())
    rows = {row["method"]: row for row in Store(board).read("trials").to_pylist()}
    assert {method: row["submission"] for method, row in rows.items()} == {
        "original": "ours", "retrain": "ours", "ft": "ours", "neggrad": "ours", "rand_label": "theirs",
    }  # fmt: skip
    given = {row["method"]: row for row in Store(groups[1]).read("trials").to_pylist()}["rand_label"]
    assert {name: rows["rand_label"][name] for name in given} == given
    for table in ("curves", "examples"):
        assert set(Store(board).read(table)["trial_id"].to_pylist()) == {
            row["trial_id"] for row in rows.values() if row["status"] != "failed"
        }
    assert {row["method"].rstrip("°†‡") for row in summary_rows(board)} >= {"ft", "rand_label"}
    page = write_report(board).read_text()
    assert "from ours" in page and "from theirs" in page and "still missing" not in page
    assert not (board / "plan.json").exists(), "a merge has no plan: all of its rows count"
    said = CliRunner().invoke(app, ["status", str(board)]).output
    assert said.startswith("board: 5 trials of 2 groups (1 failed, ")
    assert "theirs: 3 trials of suite theirs, 2 of them there before\n" in said


def test_submitting_one_after_the_other_is_the_same(groups, tmp_path):
    board, merged = tmp_path / "board", tmp_path / "merged"
    merge(list(groups), merged)
    for folder in groups:
        submit(folder, board)
    for table in ("trials", "curves", "examples"):
        one, other = (Store(root).read(table).to_pylist() for root in (board, merged))
        assert sorted(one, key=str) == sorted(other, key=str)
    assert entries(Store(board)) == entries(Store(merged))
    before = {path: path.read_bytes() for path in board.rglob("*") if path.is_file() and path.name != ".lock"}
    submit(groups[1], board)
    assert {path: path.read_bytes() for path in before} == before, "submitted twice is submitted once"
    with pytest.raises(ResultsError, match="has a submission 'theirs' already, of another content"):
        submit(groups[0], board, "theirs")


def test_what_a_killed_submission_left_undone_is_completed(groups, tmp_path):
    board = tmp_path / "board"
    for folder in groups:
        submit(folder, board)
    whole = Store(board).read("trials").sort_by("trial_id")
    (board / "trials" / "part-2.parquet").unlink()  # its trials are what comes last
    submit(groups[1], board)
    assert Store(board).read("trials").sort_by("trial_id").equals(whole)


def test_runs_on_a_server_are_taken_over_once(ours, tmp_path):
    board, ids = tmp_path / "board", sorted(Store(ours).finished())
    where = ["https://runs.example.org", "sqlite:////home/ours/mlflow.db"]
    runs = [{"trial_id": i, "run_id": i, "experiment_id": "1", "tracking_uri": uri} for i, uri in zip(ids, where)]
    Store(ours).write_table(".", RUNS_FILE, pa.Table.from_pylist(runs, RUNS_SCHEMA))
    for _ in range(2):
        submit(ours, board)
        assert pq.read_table(board / RUNS_FILE).to_pylist() == runs[:1]


def remove(folder, method):
    for table in ("trials", "curves", "examples"):
        file_of(folder, method).exists() and (folder / table / file_of(folder, method).name).unlink(missing_ok=True)


def twice(folder):
    shutil.copy(file_of(folder, "ft"), folder / "trials" / "0123456789abcdef.parquet")


def other_id(folder):
    path = file_of(folder, "ft")
    change(folder, "ft", trial_id="feedfeedfeedfeed")
    path.rename(path.with_name("feedfeedfeedfeed.parquet"))
    plan = json.loads((folder / "plan.json").read_text())
    plan["trials"] = ["feedfeedfeedfeed" if name == path.stem else name for name in plan["trials"]]
    (folder / "plan.json").write_text(json.dumps(plan))


def other_trial(folder):
    """The row of a smaller learning rate passed off as another's."""
    row = pq.read_table(file_of(folder, "ft")).to_pylist()[0]
    trial = json.loads(row["trial"]) | {"lr": 1e-5}
    change(folder, "ft", trial=json.dumps(trial))


def other_forget_set(folder):
    (path,) = (folder / "splits").glob("*.json")
    content = json.loads(path.read_text())
    content["indices"] = [index + 1 for index in content["indices"]]
    path.write_text(json.dumps(content))


FORGED = {
    "a better score": (
        lambda folder: change(folder, "ft", test_accuracy=0.999),
        r"trial \w+: test_accuracy is 0.999, its stored examples give 0\.\d+; run the trial again",
    ),
    "a row removed": (lambda folder: file_of(folder, "ft").unlink(), r"is planned and has no row; run the suite again"),
    "a failed row removed": (lambda folder: file_of(folder, "neggrad").unlink(), "is planned and has no row"),
    "a row doubled": (twice, r"has 2 rows instead of one"),
    "a trial id altered": (other_id, r"trial feedfeedfeedfeed: its trial's id is \w+, so one of the two was altered"),
    "another trial": (other_trial, r"column lr says 0\.0005, its trial 1e-05"),
    "another method's name": (lambda folder: change(folder, "ft", method="scrub"), "column method says 'scrub', its trial 'ft'"),
    "another configuration": (
        lambda folder: change(folder, "ft", configuration="{}"), "column configuration is not that of its trial",
    ),
    "another forget set": (
        lambda folder: change(folder, "ft", forget_sha256="0" * 64),
        r"forget set \(digits\[300\], class_balanced, 10 %, seed 42\): has the SHA-256 0{12}\.\.\. and \w+\.\.\. in different rows",
    ),
    "another forget set everywhere": (
        lambda folder: [change(folder, method, forget_sha256="0" * 64) for method in ("ft", "original", "retrain")],
        r"its rows say SHA-256 0{12}\.\.\., its sampler draws \w+\.\.\.",
    ),
    "a manifest of other indices": (other_forget_set, r"json: says SHA-256 \w+\.\.\., its indices give \w+\.\.\."),
    "a metric out of range": (
        lambda folder: change(folder, "ft", u_mia=1.2), r"u_mia is 1\.2, which is not in its range, 0 to 1",
    ),
    "a metric that is no number": (lambda folder: change(folder, "ft", indisc=float("nan")), "indisc is nan, which is not"),
    "a score of a failed trial": (
        lambda folder: change(folder, "neggrad", indisc=0.5), "its status is failed, yet indisc is 0.5",
    ),
    "more than the budget": (
        lambda folder: change(folder, "ft", flos=1e18), r"flos is 1e\+18, above its budget of 1 x \S+ of its retrain",
    ),
    "another budget": (
        lambda folder: change(folder, "ft", retrain_flos=1e18), r"retrain-\w+: its retrain_flos are \S+ in one row, 1e\+18 in another",
    ),
    "no retrain": (
        lambda folder: change(folder, "retrain", status="failed"), r"digits\[300\], cnn-small, 10 %: has no finished row of the control retrain",
    ),
    "an unknown status": (lambda folder: change(folder, "ft", status="great"), "status 'great' is none of ok, truncated"),
    "no examples": (lambda folder: file_of(folder, "ft", "examples").unlink(), "but no stored examples of test"),
    "a future schema": (
        lambda folder: (folder / "manifest.json").write_text(json.dumps({"schema_version": SCHEMA_VERSION + 1})),
        f"was written with results schema {SCHEMA_VERSION + 1}",
    ),
    "no manifest": (lambda folder: (folder / "manifest.json").unlink(), r"it has no manifest\.json"),
    "no plan": (lambda folder: (folder / "plan.json").unlink(), r"plan\.json: is missing"),
}  # fmt: skip


@pytest.mark.parametrize("what", FORGED)
def test_a_forged_folder_is_refused_even_when_it_is_packed_again(what, ours, groups, tmp_path):
    forge, reason = FORGED[what]
    forge(ours)
    with_hashes = what not in ("a future schema", "no manifest")
    if with_hashes:
        pack(ours)
    board = tmp_path / "board"
    submit(groups[1], board)
    before = {path: path.read_bytes() for path in board.rglob("*") if path.is_file()}
    with pytest.raises(ResultsError, match=reason) as caught:
        submit(ours, board)
    assert all(len(line) < 400 for line in str(caught.value).splitlines())
    assert {path: path.read_bytes() for path in board.rglob("*") if path.is_file()} == before, "nothing is half-merged"
    with pytest.raises(ResultsError, match=reason):
        merge([groups[1], ours], tmp_path / "merged")
    assert not (tmp_path / "merged").exists() and not list(tmp_path.glob(".merged*"))


@pytest.mark.parametrize(
    ("forge", "reason"),
    [
        (lambda folder: change(folder, "ft", retain_accuracy=0.999), r"parquet: was changed after packing, its SHA-256 is"),
        (lambda folder: file_of(folder, "ft", "curves").unlink(), r"is in hashes\.json but not in the folder"),
        (twice, r"is not in hashes\.json, it came later"),
        (lambda folder: (folder / "hashes.json").unlink(), r"hashes\.json: there is no manifest of hashes; run `mubench leaderboard pack"),
        (lambda folder: (folder / "hashes.json").write_text("[]"), r"the manifest of hashes is damaged"),
    ],
)  # fmt: skip
def test_a_folder_that_is_not_as_it_was_packed_is_refused(forge, reason, ours, tmp_path):
    forge(ours)
    with pytest.raises(ResultsError, match=reason):
        submit(ours, tmp_path / "board")
    assert not (tmp_path / "board").exists()


def test_without_the_data_the_manifest_of_the_forget_set_counts(ours, tmp_path, monkeypatch):
    monkeypatch.setattr("mubench_ray.results.submission.redraw", lambda trial, data_dir: None)
    assert submit(ours, tmp_path / "board")["forget_sets_drawn_anew"] == 0
    shutil.rmtree(ours / "splits")
    pack(ours)
    with pytest.raises(ResultsError, match=r"no manifest in splits/ has its rows' SHA-256"):
        submit(ours, tmp_path / "other")


def test_one_forget_set_has_one_hash_on_a_leaderboard(groups, ours, tmp_path, monkeypatch):
    """Where neither group's data is at hand, two drawings under one name do not go together."""
    monkeypatch.setattr("mubench_ray.results.submission.redraw", lambda trial, data_dir: None)
    other_forget_set(ours)
    (path,) = (ours / "splits").glob("*.json")
    content = json.loads(path.read_text())
    content["sha256"] = hashlib.sha256(",".join(map(str, content["indices"])).encode()).hexdigest()
    path.write_text(json.dumps(content))
    for method in ("ft", "original", "retrain"):
        change(ours, method, forget_sha256=content["sha256"])
    pack(ours)
    board = tmp_path / "board"
    submit(groups[1], board)
    with pytest.raises(
        ResultsError, match=r"forget set \(digits.*is \w{12}\.\.\. here and \w{12}\.\.\. on the leaderboard"
    ):
        submit(ours, board)


def test_a_trial_that_two_groups_ran_must_come_out_the_same(groups, ours, tmp_path):
    board = tmp_path / "board"
    submit(groups[1], board)
    change(ours, "retrain", flos=123.0)
    pack(ours)
    with pytest.raises(ResultsError, match=r"flos is 123 here and \S+ on the leaderboard, from theirs, both on cpu"):
        submit(ours, board)
    change(ours, "retrain", device="another kind")
    pack(ours)
    assert submit(ours, board)["shared"] == 2


def test_a_folder_that_is_no_leaderboard_is_left_alone(groups, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    for act in (lambda: submit(groups[0], tmp_path), lambda: merge([groups[0]], tmp_path)):
        with pytest.raises(ResultsError, match=r"is no leaderboard|is not empty"):
            act()
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(ResultsError, match="Two folders are called 'ours'"):
        merge([groups[0], groups[0]], tmp_path / "new")


def test_equal_names_mean_equal_sets(groups):
    trials = [json.loads(text) for text in Store(groups[0]).read("trials")["trial"].to_pylist()]
    (trial, *_) = [Trial.model_validate(content) for content in trials]
    other = trial.model_copy(
        update={"forget": trial.forget.model_copy(update={"options": {"path": "a", "classes": [1]}})}
    )
    moved = trial.model_copy(
        update={"forget": trial.forget.model_copy(update={"options": {"path": "b", "classes": [1]}})}
    )
    assert forget_name(trial) != forget_name(other) == forget_name(moved)


def test_from_the_command_line(ours, tmp_path):
    def mubench(*arguments):
        return CliRunner().invoke(app, ["leaderboard", *map(str, arguments)])

    board = tmp_path / "board"
    done = mubench("submit", ours, "--to", board, "--name", "lab")
    assert done.exit_code == 0, done.output
    assert re.search(r"lab +ours +4 +0 +1 +1", done.stdout) and (board / "report" / "leaderboard.html").is_file()
    change(ours, "ft", u_mia=7.0)
    done = mubench("submit", ours, "--to", board, "--name", "other")
    assert done.exit_code == 1 and "was changed after packing" in str(done.exception)
    assert "hashes.json" in mubench("pack", ours).stdout
    done = mubench("merge", ours, "--out", tmp_path / "merged")
    assert done.exit_code == 1 and "u_mia is 7, which is not in its range, 0 to 1" in str(done.exception)
    assert not (tmp_path / "merged").exists()


def test_columns_of_a_leaderboard_are_those_of_a_folder_and_the_group(groups, tmp_path):
    merge(list(groups), tmp_path / "board")
    board, folder = (Store(root).read("trials") for root in (tmp_path / "board", groups[0]))
    assert set(board.column_names) - set(folder.column_names) == {"submission"}
    assert pc.count_distinct(board["trial_id"]).as_py() == len(board)


def test_a_trial_that_two_suites_count_differently_is_there_for_both(tiny, tmp_path):
    """The first step of a sequence is a plain trial elsewhere; whoever came first, the sequence has all its steps."""
    common = {**tiny, "training": {"epochs": 1}, "methods": ["original", "retrain", {"name": "ft", "epochs": 1}]}
    plain = run(tmp_path / "plain", {**common, "name": "plain", "ratios": 5}, tmp_path / "artifacts")
    steps = {**common, "name": "steps", "ratios": [5, 10], "sequence": True}
    sequence = run(tmp_path / "sequence", steps, tmp_path / "artifacts")
    merge([plain, sequence], tmp_path / "board")

    def lines() -> list[tuple[bool, float]]:
        rows = [row for row in Store(tmp_path / "board").read("trials").to_pylist() if row["method"] == "ft"]
        return sorted(("sequence" in json.loads(row["configuration"])["contender"], row["ratio"]) for row in rows)

    assert lines() == [(False, 5), (True, 5), (True, 10)]
    submit(sequence, tmp_path / "board")
    assert lines() == [(False, 5), (True, 5), (True, 10)], "once"


def test_what_a_later_group_observed_of_a_shared_trial_is_taken(tiny, tmp_path):
    common = {**tiny, "training": {"epochs": 1}, "ratios": 10, "methods": ["original", "retrain"]}
    looks = {"observations": {"name": "relearn_benign", "steps": 2, "every": 1}}
    first = run(tmp_path / "first", {**common, "name": "first"}, tmp_path / "artifacts")
    later = run(tmp_path / "later", {**common, **looks, "name": "later"}, tmp_path / "artifacts")
    merge([first, later], tmp_path / "board")
    records = Store(later).read("observations").sort_by("trial_id")
    assert len(records) == 2
    assert Store(tmp_path / "board").read("observations").sort_by("trial_id").equals(records)
    # Another group's numbers of the same are not needed, and nothing is there twice.
    shutil.copytree(later, tmp_path / "again")
    submit(tmp_path / "again", tmp_path / "board")
    assert len(Store(tmp_path / "board").read("observations")) == 2
