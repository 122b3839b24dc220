"""The results folder: rows written whole, read at any moment with anyone's tools, and refused clearly when they cannot be."""

from __future__ import annotations

import dataclasses
import json
import math
import os

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from mubench_ray import load_results
from mubench_ray.console import show_trial
from mubench_ray.engine.plan import make_plan
from mubench_ray.errors import ResultsError
from mubench_ray.metrics.base import METRICS, describe_metrics
from mubench_ray.results.folder import Folder
from mubench_ray.results.schema import CURVES, EXAMPLES, SCHEMA_VERSION, table_of, trials_schema
from mubench_ray.results.store import Outcome, Store
from mubench_ray.status import STATUSES
from mubench_ray.suite import make_suite
from mubench_ray.trials.artifacts import ArtifactStore
from mubench_ray.trials.rows import failed_outcome
from mubench_ray.trials.run_trial import metric_names, run_trial


@pytest.fixture(scope="module")
def outcomes(tiny, tmp_path_factory):
    """One trial that ran and one that could not."""
    suite = make_suite({**tiny, "methods": ["neggrad", "ft"], "ratios": 10, "training": {"epochs": 1}})
    ran, lost = make_plan(suite).trials.values()
    return run_trial(ran, ArtifactStore(tmp_path_factory.mktemp("artifacts"))), failed_outcome(lost, "for the test")


@pytest.fixture
def store(outcomes, tmp_path):
    store = Store(tmp_path / "results")
    store.create({"suite": "stored"})
    for outcome in outcomes:
        store.write(outcome, metric_names())
    return store


def test_what_is_written_is_read(store, outcomes):
    rows = {row["trial_id"]: row for row in load_results(store.root).to_pylist()}
    assert rows.keys() == store.finished() == {outcome.row["trial_id"] for outcome in outcomes}
    for outcome in outcomes:
        read = rows[outcome.row["trial_id"]]
        assert {name: read[name] for name in outcome.row} == outcome.row
        assert read["status"] in STATUSES
    assert load_results(store.root, "curves").to_pylist() == [
        {**dict.fromkeys(CURVES.names), **p} for p in outcomes[0].curve
    ]
    assert load_results(store.root, "examples").num_rows == outcomes[0].examples.num_rows


def test_a_failed_row_has_no_numbers_instead_of_bad_ones(store, outcomes):
    row = next(row for row in load_results(store.root).to_pylist() if row["status"] == "failed")
    assert row["error"] == "for the test"
    assert all(row[name] is None for name in metric_names())


def test_schemas_carry_their_version(store):
    for table, schema in (("trials", trials_schema(metric_names())), ("curves", CURVES), ("examples", EXAMPLES)):
        read = load_results(store.root, table).schema
        assert read.equals(schema), table
        files = [ds.dataset(file).schema.metadata for file in store.files(table)]
        assert all(metadata[b"mubench_schema_version"] == str(SCHEMA_VERSION).encode() for metadata in files), table


def test_anyones_tools_read_the_folder(store, outcomes):
    assert ds.dataset(store.root / "trials").count_rows() == 2
    query = f"select trial_id, test_accuracy from '{store.root}/trials/*.parquet' where status = 'ok' or status = 'truncated'"
    row = outcomes[0].row
    assert duckdb.sql(query).fetchall() == [(row["trial_id"], row["test_accuracy"])]
    assert set(load_results(store.root).to_pandas()["method"]) == {"neggrad", "ft"}


def test_a_trial_written_twice_is_there_once(store, outcomes):
    before = store.read("trials").sort_by("trial_id")
    store.write(outcomes[0], metric_names())
    assert store.read("trials").sort_by("trial_id").equals(before)
    assert store.read("curves").num_rows == len(outcomes[0].curve)


def test_a_half_written_file_is_no_row(store):
    for table in ("trials", "curves", "examples"):
        (store.root / table / f".abc.parquet.{os.getpid()}").write_bytes(b"PAR1 and then the power went")
    assert "abc" not in store.finished() and len(store.finished()) == 2
    assert store.read("trials").num_rows == 2
    assert ds.dataset(store.root / "trials").count_rows() == 2


def test_the_row_comes_last(store, outcomes, monkeypatch):
    """Where a trial has its row, it has its curve and examples too."""
    order = []
    real = Store.write_table
    monkeypatch.setattr(
        Store, "write_table", lambda self, table, *rest: order.append(table) or real(self, table, *rest)
    )
    store.write(outcomes[0], metric_names())
    assert order[-1] == "trials" and set(order) == {"trials", "curves", "examples"}


def test_a_metric_added_later_is_null_in_older_rows(store, outcomes):
    later = Outcome({**outcomes[1].row, "trial_id": "later", "patience": 0.25})
    store.write(later, [*metric_names(), "patience"])
    values = {row["trial_id"]: row["patience"] for row in load_results(store.root).to_pylist()}
    assert values.pop("later") == 0.25 and list(values.values()) == [None, None]


def test_columns_and_filters(store, outcomes):
    trial_id = outcomes[0].row["trial_id"]
    table = store.read("trials", columns=["trial_id", "status"], filter=ds.field("trial_id") == trial_id)
    assert table.to_pylist() == [{"trial_id": trial_id, "status": outcomes[0].row["status"]}]


def test_forgotten_rows_count_as_missing(store, outcomes):
    assert store.forget_rows(("failed", "out_of_memory")) == 1
    assert store.finished() == {outcomes[0].row["trial_id"]}
    assert store.forget_rows(("failed",)) == 0


@pytest.mark.parametrize("forged", ["../../secret/s", "/tmp/s", "part-1", "..", ""])
def test_a_path_in_place_of_an_id_names_no_file(store, outcomes, forged):
    """In a folder that comes from elsewhere: nothing beside it is removed or shown, nor a file of its own that is another's."""
    secret = store.root.parent / "secret"
    secret.mkdir()
    for name in ("s.parquet", "s.txt"):
        (secret / name).write_text("a secret")
    row = outcomes[1].row | {"trial_id": forged}
    store.write_table("trials", "theirs.parquet", table_of([row], trials_schema(metric_names())))
    with pytest.raises(ResultsError, match="is no trial id"):
        store.forget_rows(("failed",))
    with pytest.raises(ResultsError, match="is no trial id"):
        store.write(Outcome(row, traceback="of mine"), metric_names())
    assert len(store.finished()) == 3 and sorted(os.listdir(secret)) == ["s.parquet", "s.txt"]
    with pytest.raises(ResultsError, match=r"is no trial id|3 trials have an id"):
        show_trial(store.root, forged)
    with pytest.raises(ResultsError, match="is no trial id"):
        Folder(store).examples(forged)
    with pytest.raises(ResultsError, match="is no trial id"):
        store.compact(at_least=2)
    assert {path.read_text() for path in secret.iterdir()} == {"a secret"}


def test_a_traceback_is_kept_beside_the_rows(store, outcomes):
    store.write(Outcome(outcomes[1].row, traceback="Traceback: line 1"), metric_names())
    assert (store.root / "logs" / f"{outcomes[1].row['trial_id']}.txt").read_text() == "Traceback: line 1"


@pytest.mark.parametrize("table", ["trials", "curves", "examples"])
def test_an_empty_folder_has_empty_tables(tmp_path, table):
    store = Store(tmp_path)
    store.create({"suite": "empty"})
    content = store.read(table, columns=["trial_id"])
    assert content.num_rows == 0 and content.column_names == ["trial_id"]
    assert store.finished() == set()


def test_going_on_in_a_folder_keeps_its_rows(store):
    store.create({"suite": "stored"})
    assert len(store.finished()) == 2


def test_a_folder_that_is_none_is_refused(tmp_path):
    with pytest.raises(ResultsError, match=r"is not a results folder: it has no manifest\.json"):
        load_results(tmp_path)


def test_another_schema_version_is_refused_for_reading_and_writing(store):
    manifest = store.root / "manifest.json"
    manifest.write_text(json.dumps({"schema_version": SCHEMA_VERSION + 1}))
    before = manifest.read_text()
    for act in (lambda: load_results(store.root), lambda: store.create({"suite": "stored"})):
        with pytest.raises(
            ResultsError, match=f"schema {SCHEMA_VERSION + 1}, this version reads 1 and {SCHEMA_VERSION}"
        ):
            act()
    assert manifest.read_text() == before, "the folder is left as it was"


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_a_damaged_manifest_is_named(store, text):
    (store.root / "manifest.json").write_text(text)
    with pytest.raises(ResultsError, match=r"manifest\.json is damaged"):
        load_results(store.root)


def test_a_damaged_table_is_named(store):
    (store.root / "trials" / "broken.parquet").write_bytes(b"not parquet at all")
    with pytest.raises(ResultsError, match=r"broken.parquet cannot be read .*remove the damaged file"):
        load_results(store.root)


def test_an_unwritable_place_is_one_line(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(ResultsError, match=r"cannot be written .*--out") as caught:
        Store(tmp_path / "file" / "results").create({})
    assert "\n" not in str(caught.value)


def test_a_row_that_is_no_row_is_not_written(store):
    with pytest.raises(pa.ArrowInvalid):
        store.write(Outcome({"trial_id": "x", "ratio": "ten"}), [])
    assert "x" not in store.finished()


def test_a_column_that_the_table_does_not_have_is_an_error(outcomes, store):
    """It was dropped in silence."""
    with pytest.raises(ResultsError, match="column 'acuracy'"):
        store.write(Outcome(outcomes[0].row | {"trial_id": "0" * 16, "acuracy": 0.5}), metric_names())
    assert "0" * 16 not in store.finished()


def test_what_describes_the_metrics_is_json(monkeypatch):
    """No Infinity in it, which Python reads and nothing else does; a range without an end says null."""
    loss = dataclasses.replace(METRICS.get("test_loss"), low=-math.inf)
    monkeypatch.setitem(METRICS._things, "test_loss", loss)
    told = json.loads(json.dumps(describe_metrics(), allow_nan=False))
    assert (told["test_loss"]["low"], told["test_loss"]["high"]) == (None, None)
    assert (told["test_accuracy"]["low"], told["test_accuracy"]["high"]) == (0, 1)
