import torch

from mubench_ray.engine.plan import make_plan
from mubench_ray.suite import make_suite
from mubench_ray.trials.artifacts import ArtifactStore
from mubench_ray.trials.run_trial import run_trial
from mubench_ray.trials.unlearning import prepare
from tests.conftest import CIRCUMSTANCES


def steps(tiny):
    plan = make_plan(make_suite({**tiny, "methods": "neggrad", "ratios": [4, 2, 6], "sequence": True}))
    return plan, sorted(plan.trials.values(), key=lambda trial: trial.ratio)


def test_each_step_goes_on_from_the_one_before(tiny, tmp_path):
    plan, (one, two, three) = steps(tiny)
    assert [t.after for t in (one, two, three)] == [(), (2.0,), (2.0, 4.0)]
    assert two.previous.id == one.id and three.previous.id == two.id
    assert plan.needs(two)[0] == one.id and plan.continued == {one.id, two.id}
    plain = make_plan(make_suite({**tiny, "methods": "neggrad", "ratios": [2, 4, 6]}))
    assert one.id in plain.trials and two.id not in plain.trials


def test_a_step_forgets_what_is_new_and_is_measured_on_all(tiny, tmp_path):
    _, (one, two, _) = steps(tiny)
    prepared = prepare(two, ArtifactStore(tmp_path))
    new, everything = set(prepared.ctx.data.rows("forget").positions.tolist()), set(prepared.forget.forget.tolist())
    before = set(prepare(one, ArtifactStore(tmp_path)).forget.forget.tolist())
    assert new == everything - before and len(new) == 6 and len(before) == 6
    assert not set(prepared.ctx.data.rows("retain").positions.tolist()) & everything


def test_kept_weights_and_unlearning_again_give_the_same_row(tiny, tmp_path):
    _, (one, two, three) = steps(tiny)
    kept, fresh = ArtifactStore(tmp_path / "kept"), ArtifactStore(tmp_path / "fresh")
    rows = [run_trial(step, kept, keep="all").row for step in (one, two, three)]
    assert [row["status"] for row in rows] == ["ok"] * 3, [row["error"] for row in rows]
    assert [row["forget_size"] for row in rows] == [6, 12, 18]
    assert kept.has_kept(two.id)
    again = run_trial(three, fresh).row
    for name in again.keys() - CIRCUMSTANCES:
        assert again[name] == rows[2][name], name


def test_a_step_starts_where_the_last_one_ended(tiny, tmp_path):
    _, (one, two, _) = steps(tiny)
    store = ArtifactStore(tmp_path)
    run_trial(one, store, keep="all")
    start = prepare(two, store).ctx.network.state_dict()
    original = prepare(one, store).ctx.network.state_dict()
    assert any(not torch.equal(start[name], original[name]) for name in start)
