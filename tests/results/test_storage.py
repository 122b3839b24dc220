"""One set of rules for a folder and for an object store, over the real servers of both kinds."""

from __future__ import annotations

import threading
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mubench_ray.errors import ResultsError
from mubench_ray.results.compaction import compact
from mubench_ray.results.schema import trials_schema
from mubench_ray.results.storage import Place, StorageLost, absolute, is_remote
from mubench_ray.results.store import Outcome, Store
from tests.object_store import start_object_store


@pytest.fixture(scope="module")
def objects():
    yield from start_object_store()


@pytest.fixture(params=["folder", "objects"])
def place(request, tmp_path, monkeypatch):
    monkeypatch.setenv("MUBENCH_CACHE", str(tmp_path / "cache"))
    if request.param == "folder":
        return Place(tmp_path / "results")
    store = request.getfixturevalue("objects")
    return Place(store.address(tmp_path.name))


def row(trial_id, status="ok"):
    blank = {"string": "", "double": 1.0, "int64": 1, "bool": False}
    made = {f.name: blank[str(f.type)] for f in trials_schema([]) if not f.nullable}
    return {**made, "trial_id": trial_id, "status": status, "metric": 0.5}


def test_files_are_written_read_listed_moved_and_removed(place):
    assert place.names() == place.names("no/such") == [] and not place.exists("a.txt")
    place.write("a.txt", "one")
    place.write("b/c.bin", b"two")
    place.write("b/t.parquet", pa.table({"x": [1, 2]}))
    assert place.read("a.txt") == b"one" and place.inside("b").read("c.bin") == b"two"
    assert place.names() == ["a.txt"] and place.names("b") == ["c.bin", "t.parquet"]
    assert pq.read_table(f"{place.path}/b/t.parquet", filesystem=place.fs)["x"].to_pylist() == [1, 2]
    place.write("a.txt", "three")
    place.move("a.txt", "b/a.txt")
    assert place.read("b/a.txt") == b"three" and not place.exists("a.txt")
    place.delete("b/a.txt")
    place.delete("b/a.txt")
    with pytest.raises(FileNotFoundError):
        place.read("b/a.txt")
    place.inside("b").clear()
    assert place.names("b") == []


def test_a_results_store_lives_there(place):
    store = Store(Place(place.address))
    with pytest.raises(ResultsError, match="is not a results folder"):
        store.read("trials")
    store.create({"suite": "made"})
    for number in range(12):
        store.write(
            Outcome(row(f"id{number:02}"), curve=[{"trial_id": f"id{number:02}", "flos": 1.0, "seconds": 1.0}]),
            ["metric"],
        )
    before = store.read("trials").sort_by("trial_id")
    assert before.num_rows == 12 and len(store.finished()) == 12
    assert compact(place.inside("trials"), at_least=5) == 12
    assert place.names("trials") == ["part-1.parquet"]
    store.write(Outcome(row("bad", "failed"), traceback="why"), ["metric"])
    assert store.forget_rows(("failed",)) == 1
    assert store.read("trials").sort_by("trial_id").equals(before) and store.read("curves").num_rows == 12
    store.part("search").create({"suite": "made"})
    assert store.part("search").finished() == set()


def test_a_merge_killed_before_its_last_step_shows_no_row_twice(place):
    store = Store(place)
    store.create({})
    for number in range(4):
        store.write(Outcome(row(f"id{number}")), ["metric"])
    whole = store.read("trials")
    place.write("trials/_part-1.parquet", whole)
    place.write("trials/part-1.parquet", whole)  # as in an object store, between the copy and the removal
    place.delete("trials/id0.parquet")
    assert store.read("trials").num_rows == 4
    store.compact()
    assert place.names("trials") == ["part-1.parquet"] and store.read("trials").num_rows == 4


def test_a_copy_on_this_machine_follows(objects, tmp_path, monkeypatch):
    monkeypatch.setenv("MUBENCH_CACHE", str(tmp_path))
    place = Place(objects.address("mirrored"))
    place.write("manifest.json", "{}")
    place.write("trials/a.parquet", pa.table({"x": [1]}))
    place.write("artifacts/original/weights.safetensors", b"heavy")
    home = place.mirror()
    assert sorted(p.relative_to(home).as_posix() for p in home.rglob("*.*")) == ["manifest.json", "trials/a.parquet"]
    place.write("trials/part-1.parquet", pa.table({"x": [1, 2]}))
    place.delete("trials/a.parquet")
    place.mirror()
    assert [path.name for path in (home / "trials").iterdir()] == ["part-1.parquet"]
    (home / "report").mkdir()
    (home / "report" / "page.html").write_text("<html>")
    place.publish("report")
    assert place.read("report/page.html") == b"<html>"


def test_an_outage_is_waited_out(objects, monkeypatch):
    place = Place(objects.address("outage"))
    place.write("before", "1")
    objects.cut()
    mending = threading.Timer(2.0, objects.mend)
    mending.start()
    place.write("during", "2")
    mending.join()
    assert place.read("before") == b"1" and place.read("during") == b"2"


def test_a_long_outage_says_how_to_go_on_and_no_secret(objects, monkeypatch):
    monkeypatch.setenv("MUBENCH_STORAGE_PATIENCE", "1")
    place = Place(objects.address("gone"))
    objects.cut()
    began = time.monotonic()
    try:
        with pytest.raises(StorageLost, match="the same command goes on") as caught:
            place.write("file", "x")
    finally:
        objects.mend()
    assert time.monotonic() - began < 30
    assert "s3://mubench/gone/file" in str(caught.value) and "secret" not in str(caught.value)
    assert not place.exists("file")


def test_what_waiting_cannot_mend_is_said_at_once(objects):
    address = objects.address("x").replace("@mubench/", "@nobody/")
    began = time.monotonic()
    with pytest.raises(StorageLost):
        Place(address).write("file", "x")
    assert time.monotonic() - began < 20


def test_addresses(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_remote("s3://b/x") and is_remote("gs://b/x") and not is_remote("results/x") and not is_remote("file:///x")
    assert absolute("s3://b/x") == "s3://b/x" and absolute("x") == str(tmp_path / "x") == absolute(
        f"file://{tmp_path}/x"
    )
    inside = Place("s3://key:secret@b/x?scheme=http&endpoint_override=127.0.0.1:1").inside("y/z")
    assert str(inside) == "s3://b/x/y/z" and inside.path == "b/x/y/z" and "secret" in inside.address
    assert Place(inside.address).path == inside.path
    with pytest.raises(ResultsError, match="not an address"):
        Place("s3://b/x?nonsense=1")
