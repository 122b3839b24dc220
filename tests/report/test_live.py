"""The page of a running suite: what it counts, what it says of failures, and that it is served."""

import json
import threading
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta

import pytest

from mubench_ray.errors import ResultsError
from mubench_ray.report.live import per_minute, render, server, snapshot
from mubench_ray.results.store import Outcome, Store
from mubench_ray.trials.rows import failed_outcome, planned_row
from tests.results.test_score import make_trial


@pytest.fixture
def running(tmp_path):
    store = Store(tmp_path)
    store.create({"suite": "half <done>", "trials": 10})
    begun = datetime(2026, 1, 1, tzinfo=UTC)
    for seed in range(4):
        times = {"started_at": begun, "finished_at": begun + timedelta(seconds=30 * seed)}
        row = planned_row(make_trial("ft", seed)) | {"status": "ok", "test_accuracy": 0.5, **times}
        store.write(Outcome(row), ["test_accuracy"])
    store.write(failed_outcome(make_trial("scrub", 0), "ValueError: <b>no</b>"), ["test_accuracy"])
    return tmp_path


def test_it_counts_what_is_there(running):
    shown = snapshot(running)
    assert (shown["done"], shown["planned"], shown["counts"]) == (5, 10, {"ok": 4, "failed": 1})
    assert [row["method"] for row in shown["failures"]] == ["scrub"]
    assert shown["recent"][0]["method"] == "scrub" and shown["search"] is None


def test_rows_that_no_suite_of_the_folder_plans_any_longer_are_not_done(running):
    planned = [row["trial_id"] for row in Store(running).read("trials").to_pylist() if row["method"] == "ft"][:3]
    Store(running).write_text("plan.json", json.dumps({"trials": planned}))
    shown = snapshot(running)
    assert (shown["done"], shown["counts"], shown["failures"]) == (3, {"ok": 3}, [])


def test_a_rate_needs_two_rows():
    begun = datetime(2026, 1, 1, tzinfo=UTC)
    assert per_minute([begun]) is None
    assert per_minute([begun + timedelta(seconds=30 * i) for i in range(4)]) == pytest.approx(2.0)


def test_what_a_suite_says_is_text_never_markup(running):
    page = render(running)
    assert "half &lt;done&gt;" in page and "<b>no</b>" not in page
    assert "<b>5 of 10</b>" in page and "1 failed" in page


def test_it_is_served_and_renews_itself(running):
    page = server(running, port=0)
    threading.Thread(target=page.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{page.server_port}"
        with urllib.request.urlopen(f"{address}/") as answer:
            assert "5 of 10" in (body := answer.read().decode()) and 'http-equiv="refresh"' in body
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{address}/manifest.json")
    finally:
        page.shutdown()
        page.server_close()


def test_an_empty_run_has_a_page_and_no_folder_has_none(tmp_path):
    Store(tmp_path / "new").create({"suite": "new", "trials": 3})
    assert "0 of 3" in render(tmp_path / "new")
    with pytest.raises(ResultsError, match="not a results folder"):
        render(tmp_path)
