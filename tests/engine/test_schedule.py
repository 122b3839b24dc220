from mubench_ray.engine.schedule import Schedule


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
    schedule = Schedule(needs, slots=2, on_lost=lambda *_: None)
    order = drain(schedule)
    assert sorted(order) == sorted(set(needs) | {n for pair in needs.values() for n in pair})
    for trial, artifacts in needs.items():
        assert all(order.index(a) < order.index(trial) for a in artifacts)
    assert schedule.progress.done == 60


def test_rows_come_before_the_last_artifact():
    needs = {f"t{i}": (f"retrain-{i // 20}",) for i in range(200)}
    order = drain(Schedule(needs, slots=2, on_lost=lambda *_: None))
    assert order.index("t0") < order.index("retrain-9")


def test_no_slot_idles_while_an_artifact_is_made():
    needs = {"a": ("retrain-a",), "b": ("retrain-b",)}
    schedule = Schedule(needs, slots=2, on_lost=lambda *_: None)
    assert [schedule.next(), schedule.next(), schedule.next()] == ["retrain-a", "retrain-b", None]
    assert not schedule.finished
    schedule.complete("retrain-b", "ok", None)
    assert schedule.next() == "b"


def test_dependents_of_a_lost_artifact_are_told_once():
    needs = {"a": ("original-x", "retrain-x"), "b": ("retrain-y",)}
    lost = []
    schedule = Schedule(needs, slots=1, on_lost=lambda trial, reason: lost.append((trial, reason)))
    order = drain(schedule, lambda node: ("failed", f"{node} broke") if node.endswith("-x") else ("ok", None))
    assert lost == [("a", "original-x broke")]
    assert "a" not in order and "b" in order
    assert (schedule.progress.done, schedule.progress.failed) == (2, 1)


def test_a_lost_node_is_told_with_its_reason_as_it_is():
    lost = []
    schedule = Schedule({"a": (), "b": ("original-x",)}, slots=1, on_lost=lambda *told: lost.append(told))
    drain(schedule, lambda node: ("lost", f"{node} broke"))
    assert lost == [("b", "original-x could not be made: original-x broke"), ("a", "a broke")]


def test_limit_holds():
    schedule = Schedule({str(i): () for i in range(5)}, slots=4, on_lost=lambda *_: None, limit=2)
    assert [schedule.next() for _ in range(3)] == ["0", "1", None]


def test_steps_of_a_sequence_follow_each_other_and_fall_together():
    needs = {"one": ("original-a",), "two": ("one",), "three": ("two",)}
    lost = []
    schedule = Schedule(needs, slots=2, on_lost=lambda trial, reason: lost.append(trial))
    assert drain(schedule) == ["original-a", "one", "two", "three"] and not lost
    schedule = Schedule(needs, slots=2, on_lost=lambda trial, reason: lost.append(trial))
    assert drain(schedule, lambda node: ("diverged", "nan") if node == "one" else ("ok", None)) == ["original-a", "one"]
    assert lost == ["two", "three"]
    assert schedule.progress.done == schedule.progress.failed == 3
