import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from mubench_ray.results.compaction import compact, loose_files
from mubench_ray.results.schema import trials_schema
from mubench_ray.results.storage import Place
from mubench_ray.results.store import Outcome, Store


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path)
    store.create({"suite": "made"})
    for number in range(30):
        store.write(Outcome(row(f"id{number:02}", metric=number / 10)), ["metric"])
    return store


def row(trial_id, status="ok", **values):
    blank = {"string": "", "double": 1.0, "int64": 1, "bool": False}
    made = {f.name: blank[str(f.type)] for f in trials_schema([]) if not f.nullable}
    return {**made, "trial_id": trial_id, "status": status, **values}


def ids(store):
    return sorted(store.read("trials")["trial_id"].to_pylist())


def test_rows_stay_the_same_in_fewer_files(store):
    before = store.read("trials").sort_by("trial_id")
    assert compact(store.place.inside("trials"), at_least=10) == 30
    assert len(list((store.root / "trials").iterdir())) == 1
    assert store.read("trials").sort_by("trial_id").equals(before)
    assert store.finished() == {f"id{n:02}" for n in range(30)}
    assert ds.dataset(store.root / "trials").count_rows() == 30


def test_few_files_are_left_alone(store):
    assert compact(store.place.inside("trials"), at_least=31) == 0
    assert len(loose_files(store.place.inside("trials"))) == 30


def test_merging_goes_on_with_later_rows(store):
    compact(store.place.inside("trials"), at_least=10)
    for number in range(30, 50):
        store.write(Outcome(row(f"id{number:02}", metric=0.0, later=1.0)), ["metric", "later"])
    compact(store.place.inside("trials"), at_least=10)
    assert sorted(p.name for p in (store.root / "trials").iterdir()) == ["part-1.parquet", "part-2.parquet"]
    assert len(ids(store)) == 50
    assert store.read("trials")["later"].null_count == 30


@pytest.mark.parametrize("removed", [0, 7, 30])
def test_a_merge_killed_in_the_middle_is_read_right_and_finished_later(store, removed):
    folder = store.root / "trials"
    before = store.read("trials").sort_by("trial_id")
    files = [folder / name for name in loose_files(Place(folder))]
    pq.write_table(pa.concat_tables([pq.read_table(f) for f in files]), folder / "_part-1.parquet")
    for file in files[:removed]:
        file.unlink()
    assert ds.dataset(folder).count_rows() == 30 - removed, "raw readers never see a row twice"
    assert store.read("trials").sort_by("trial_id").equals(before)
    assert len(store.finished()) == 30
    compact(Place(folder), at_least=1000)
    assert [p.name for p in folder.iterdir()] == ["part-1.parquet"]


def test_failed_rows_are_forgotten_from_merged_files_too(store):
    store.write(Outcome(row("bad", status="failed")), ["metric"])
    compact(store.place.inside("trials"), at_least=2)
    store.write(Outcome(row("worse", status="failed")), ["metric"])
    assert store.forget_rows(("failed",)) == 2
    assert ids(store) == [f"id{n:02}" for n in range(30)]
