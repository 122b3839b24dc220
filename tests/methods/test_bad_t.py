import pytest
import torch

from mubench_ray.trial import Unlearning
from tests.methods.conftest import assert_same, descend, kl_by_hand, log_softmax


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_one_paired_step(case, temperature):
    (xf, _), (xr, _) = case.set("forget"), case.set("retain")
    incompetent = case.ctx.incompetent
    with torch.no_grad():
        bad, good = log_softmax(incompetent, xf, temperature), log_softmax(case.original, xr, temperature)
    corrupt = kl_by_hand(bad, log_softmax(case.network, xf, temperature))
    keep = kl_by_hand(good, log_softmax(case.network, xr, temperature))
    descend(case.network, (corrupt + keep) / 2)
    case.run("bad_t", epochs=1, temperature=temperature)
    assert_same(case.ctx.network, case.network)


def test_one_mixed_step_weighs_every_row_the_same(case):
    incompetent = case.ctx.incompetent
    case.run("bad_t", form="mixed", epochs=1)
    ((index, forget),) = case.handed
    x, _ = case.at(index)
    with torch.no_grad():
        teacher = torch.where(forget[:, None], log_softmax(incompetent, x), log_softmax(case.original, x))
    descend(case.network, kl_by_hand(teacher, log_softmax(case.network, x)))
    assert_same(case.ctx.network, case.network)


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_the_mixed_form_sees_that_share_of_the_retain_set_and_all_of_the_forget_set(case, share):
    case.run("bad_t", Unlearning(batch_size=8), form="mixed", retain_share=share, epochs=2)
    kept = {i for index, forget in case.handed for i in index[~forget].tolist()}
    forgotten = [i for index, forget in case.handed for i in index[forget].tolist()]
    assert len(kept) == round(share * 40) and not kept & set(forgotten)
    assert sorted(forgotten) == sorted(2 * case.ctx.data.rows("forget").positions.tolist())


def test_the_incompetent_teacher_is_another_random_network_of_the_same_architecture(make_case):
    one, other = make_case(seed=1), make_case(seed=2)
    for case in (one, other):
        case.run("bad_t", epochs=1)
        teacher = case.ctx.incompetent
        assert type(teacher) is type(case.network) and not teacher.training
        assert not any(p.requires_grad or p.grad is not None for p in teacher.parameters())
        assert not any(
            torch.equal(p, q) for p, q in zip(teacher.parameters(), case.network.parameters()) if p.dim() > 1
        )
        assert not case.ctx.original.training
        assert_same(case.ctx.original, case.original, atol=0)
    assert not torch.equal(one.ctx.incompetent.head.weight, other.ctx.incompetent.head.weight)
