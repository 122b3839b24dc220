import pytest

from mubench_ray.methods import METHODS
from mubench_ray.trial import Unlearning
from tests.methods.conftest import assert_same, ce, descend


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_one_step_weighs_descent_and_ascent(case, mode):
    """Authors' code keeps BatchNorm in eval mode; MU-Bench's does not."""
    case.network.train(mode == "train")
    kept, forgotten = ce(case.network, *case.set("retain")), ce(case.network, *case.set("forget"))
    descend(case.network, 0.7 * kept - 0.3 * forgotten)
    case.run("neggrad_plus", epochs=1, alpha=0.7, **({} if mode == "eval" else {"mode": mode}))
    assert_same(case.ctx.network, case.network)
    assert METHODS.get("neggrad_plus").defaults()["mode"] == "eval"


def test_the_forget_set_is_cycled_beside_the_whole_retain_set(case):
    case.run("ng+", Unlearning(batch_size=4), epochs=1)
    kept = [i for index, forget in case.handed if not forget.any() for i in index.tolist()]
    forgotten = [i for index, forget in case.handed if forget.all() for i in index.tolist()]
    assert sorted(kept) == case.ctx.data.rows("retain").positions.tolist()
    assert len(forgotten) == 40 and all(
        forgotten.count(i) == 5 for i in case.ctx.data.rows("forget").positions.tolist()
    )
