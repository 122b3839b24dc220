import torch

from mubench_ray.trial import Unlearning
from tests.methods.conftest import assert_same, ce, descend


def test_one_step_descends_on_the_retain_set(case):
    descend(case.network, ce(case.network, *case.set("retain")))
    case.run("ft", epochs=1)
    assert_same(case.ctx.network, case.network)


def test_its_learning_rate_falls_as_a_cosine(case):
    for step in range(2):
        x, y = case.set("retain")
        descend(
            case.network,
            ce(case.network, x, y),
            lr=0.05 * (1 + torch.cos(torch.tensor(torch.pi * step / 2)).item()) / 2,
        )
    case.run("ft", epochs=2)
    assert_same(case.ctx.network, case.network)


def test_it_never_sees_the_forget_set(case):
    case.run("ft", Unlearning(batch_size=4), epochs=2)
    forgotten = set(case.ctx.data.rows("forget").positions.tolist())
    seen = [i for index, _ in case.handed for i in index.tolist()]
    assert not forgotten & set(seen)
    assert sorted(seen) == sorted(2 * case.ctx.data.rows("retain").positions.tolist())
