from mubench_ray.engine.schedule import Schedule


def scheduled(needs, slots, on_abandoned=lambda *_: None, limit=None, following=None) -> Schedule:
    """A schedule in which a dash tells the jobs of artifacts."""
    return Schedule(needs, slots, on_abandoned, limit, following, is_artifact=lambda job: "-" in job)


def drain(schedule: Schedule, end=lambda node: ("ok", None), width: int = 2) -> list[str]:
    """Run everything ``width`` at a time; the order in which nodes were handed out."""
    order, running = [], []
    while True:
        while len(running) < width and (node := schedule.next()) is not None:
            order.append(node)
            running.append(node)
        if not running:
            assert schedule.finished
            return order
        schedule.complete(running[0], *end(running.pop(0)))


def test_artifacts_come_before_what_needs_them():
    needs = {f"t{i}": (f"original-{i % 3}", f"retrain-{i % 5}") for i in range(60)}
    schedule = scheduled(needs, slots=2, on_abandoned=lambda *_: None)
    order = drain(schedule)
    assert sorted(order) == sorted(set(needs) | {n for pair in needs.values() for n in pair})
    for trial, artifacts in needs.items():
        assert all(order.index(a) < order.index(trial) for a in artifacts)
    assert schedule.progress.done == 60


def test_rows_come_before_the_last_artifact():
    needs = {f"t{i}": (f"retrain-{i // 20}",) for i in range(200)}
    order = drain(scheduled(needs, slots=2, on_abandoned=lambda *_: None))
    assert order.index("t0") < order.index("retrain-9")


def test_no_slot_idles_while_an_artifact_is_made():
    needs = {"a": ("retrain-a",), "b": ("retrain-b",)}
    schedule = scheduled(needs, slots=2, on_abandoned=lambda *_: None)
    assert [schedule.next(), schedule.next(), schedule.next()] == ["retrain-a", "retrain-b", None]
    assert not schedule.finished
    schedule.complete("retrain-b", "ok", None)
    assert schedule.next() == "b"


def test_dependents_of_a_lost_artifact_are_told_once():
    needs = {"a": ("original-x", "retrain-x"), "b": ("retrain-y",)}
    lost = []
    schedule = scheduled(needs, slots=1, on_abandoned=lambda trial, reason: lost.append((trial, reason)))
    order = drain(schedule, lambda node: ("failed", f"{node} broke") if node.endswith("-x") else ("ok", None))
    assert lost == [("a", "original-x broke")]
    assert "a" not in order and "b" in order
    assert (schedule.progress.done, schedule.progress.failed) == (2, 1)


def test_a_lost_node_is_told_with_its_reason_as_it_is():
    lost = []
    schedule = scheduled({"a": (), "b": ("original-x",)}, slots=1, on_abandoned=lambda *told: lost.append(told))
    drain(schedule, lambda node: ("abandoned", f"{node} broke"))
    assert lost == [("b", "original-x could not be made: original-x broke"), ("a", "a broke")]


def test_limit_holds():
    schedule = scheduled({str(i): () for i in range(5)}, slots=4, on_abandoned=lambda *_: None, limit=2)
    assert [schedule.next() for _ in range(3)] == ["0", "1", None]


def test_steps_of_a_sequence_follow_each_other_and_fall_together():
    needs = {"one": ("original-a",), "two": ("one",), "three": ("two",)}
    lost = []
    schedule = scheduled(needs, slots=2, on_abandoned=lambda trial, reason: lost.append(trial))
    assert drain(schedule) == ["original-a", "one", "two", "three"] and not lost
    schedule = scheduled(needs, slots=2, on_abandoned=lambda trial, reason: lost.append(trial))
    assert drain(schedule, lambda node: ("diverged", "nan") if node == "one" else ("ok", None)) == ["original-a", "one"]
    assert lost == ["two", "three"]
    assert schedule.progress.done == schedule.progress.failed == 3


def test_an_artifact_waits_for_those_that_it_is_made_with():
    needs = {"a": ("scoring-x", "original-a", "retrain-a"), "b": ("retrain-b",), "retrain-a": ("scoring-x",)}
    needs |= {"retrain-b": ("scoring-x",)}
    schedule = scheduled(needs, slots=4, on_abandoned=lambda *_: None)
    assert schedule.progress.total == 2 and schedule.progress.artifacts_total == 4
    assert [schedule.next(), schedule.next(), schedule.next()] == ["scoring-x", "original-a", None]
    schedule.complete("scoring-x", "ok")
    assert [schedule.next(), schedule.next(), schedule.next()] == ["retrain-a", "retrain-b", None]
    for node in ("original-a", "retrain-a", "retrain-b"):
        schedule.complete(node, "ok")
    assert {schedule.next(), schedule.next()} == {"a", "b"}


def test_what_a_lost_artifact_was_needed_for_is_lost_once_and_later_trials_too():
    needs = {"a": ("scoring-x", "retrain-a"), "b": ("original-b",), "retrain-a": ("scoring-x",)}
    lost = []
    schedule = scheduled(needs, slots=4, on_abandoned=lambda *told: lost.append(told))
    assert drain(schedule, lambda node: ("failed", "no data") if node == "scoring-x" else ("ok", None)) == [
        "scoring-x",
        "original-b",
        "b",
    ]
    assert lost == [("a", "no data")]
    assert (schedule.progress.done, schedule.progress.artifacts_done, schedule.progress.artifacts_total) == (2, 3, 3)
    schedule.add({"c": ("retrain-c",), "retrain-c": ("scoring-x",), "d": ("retrain-a",)})
    assert lost == [("a", "no data"), ("c", "no data"), ("d", "no data")] and schedule.finished


def test_an_artifact_that_nothing_waits_for_any_more_is_not_made():
    needs = {"a": ("retrain-a", "original-a"), "b": ("retrain-b",)}
    schedule = scheduled(needs, slots=1)
    order = drain(schedule, lambda job: ("failed", "no data") if job == "retrain-a" else ("ok", None), width=1)
    assert order == ["retrain-a", "retrain-b", "b"]
    assert schedule.progress.artifacts_done == schedule.progress.artifacts_total == 2
    schedule = scheduled({"a": ("retrain-a", "original-a")}, slots=1)
    assert drain(schedule, lambda job: ("failed", "no data"), width=1) == ["retrain-a"]
    schedule.add({"c": ("original-a",)})  # a search may ask for it again
    assert drain(schedule, width=1) == ["original-a", "c"]
