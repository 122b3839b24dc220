"""docs/add-an-observation.md: its file gives its metric in a real run, also for trials that were there before it; nothing mixes."""

import json
import re

import pyarrow.parquet as pq
import pytest

from mubench_ray.results.observations import load_results, shown_of
from mubench_ray.results.repetitions import read_trials
from mubench_ray.results.store import Store
from tests.engine.processes import finish


@pytest.fixture
def page(repository, tmp_path):
    """The page's file and its suite, as it says they are written."""
    text = (repository / "docs" / "add-an-observation.md").read_text()
    blocks = re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL)
    (tmp_path / "my_observation.py").write_text(next(code for kind, code in blocks if kind == "python"))
    return next(code for kind, code in blocks if kind == "yaml")


def run(folder, suite, *options, expect=0):
    (folder / "flat.yaml").write_text(suite)
    return finish("run", "flat.yaml", "--out", "out", *options, expect=expect, cwd=folder)


def test_the_page_s_observation_is_made_with_a_trial_or_for_one_that_is_there(page, tmp_path):
    before = "\n".join(line for line in page.splitlines() if not line.startswith("observations"))
    run(tmp_path, f"{before}\nkeep: all\n")
    store = Store(tmp_path / "out")
    rows = store.read("trials").sort_by("trial_id")
    assert len(rows) == 2 and len(store.read("observations")) == 0
    assert sorted(path.stem for path in (store.root / "artifacts" / "steps").iterdir()) == rows["trial_id"].to_pylist()

    run(tmp_path, f"{page}\nkeep: all\n")
    assert store.read("trials").sort_by("trial_id").equals(rows), "nothing was unlearned again"
    found = load_results(store.root).sort_by("trial_id")
    records = store.read("observations").to_pylist()
    assert {record["status"] for record in records} == {"ok"} and json.loads(records[0]["options"]) == {"draws": 2}
    values = {record["trial_id"]: json.loads(record["values"])["flatness"] for record in records}
    assert (
        dict(zip(found["trial_id"].to_pylist(), found["flatness"].to_pylist())) == values
        and len(set(values.values())) == 2
    )
    assert "observed: flatness of 2 trials" in finish("status", tmp_path / "out")
    assert read_trials(store)[1] == []
    # From the stored arrays, without the network.
    finish("score", tmp_path / "out", "--metric", "flatness", "--plugin", tmp_path / "my_observation.py")
    scored = pq.read_table(store.root / "scores" / "flatness.parquet")
    # The stored losses have single precision.
    assert dict(zip(scored["trial_id"].to_pylist(), scored["value"].to_pylist())) == pytest.approx(values, rel=1e-5)

    # The same once more is nothing to do; in a folder of its own it is made with the trials, and is the same.
    assert run(tmp_path, f"{page}\nkeep: all\n") and len(store.read("observations")) == 2
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "my_observation.py").write_text((tmp_path / "my_observation.py").read_text())
    run(tmp_path / "new", page)
    again = load_results(tmp_path / "new" / "out")
    assert dict(zip(again["trial_id"].to_pylist(), again["flatness"].to_pylist())) == pytest.approx(values)

    # With other options both lie there, and one is shown.
    run(tmp_path, page.replace("draws: 2", "draws: 1"))
    assert len(store.read("observations")) == 4
    now = load_results(store.root)
    assert not set(now["flatness"].to_pylist()) & set(values.values())
    (line,) = read_trials(store)[1]
    assert "flatness was observed in 2 ways (draws 1; draws 2): draws 1 is shown, 2 records are not" in line
    assert [json.loads(each["options"]) for each in shown_of(store, now["trial_id"][0].as_py())] == [{"draws": 1}]


def test_an_observation_that_fails_costs_no_row_and_is_tried_again(page, tmp_path):
    sound = (tmp_path / "my_observation.py").read_text()
    (tmp_path / "my_observation.py").write_text(sound.replace("losses = []", 'raise ValueError("no such luck")'))
    said = run(tmp_path, page, expect=1)
    assert "2 observations could not be made: flatness: ValueError: no such luck (x2)" in " ".join(said.split())
    assert "--retry-failed" in said and set(load_results(tmp_path / "out")["status"].to_pylist()) <= {"ok", "truncated"}
    assert "flatness of 0 trials (2 failed)" in finish("status", tmp_path / "out")
    # Mended, its file is another version: it is made without being asked to try again.
    (tmp_path / "my_observation.py").write_text(sound)
    run(tmp_path, page)
    assert None not in load_results(tmp_path / "out")["flatness"].to_pylist()
