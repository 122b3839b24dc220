import pytest
import torch

from mubench_ray.errors import MubenchError
from mubench_ray.trial import Unlearning
from tests.methods.conftest import assert_same, ce, logits


def saliency(case):
    """|sum over D_F of the gradient of CE|, in eval mode."""
    network = case.network.eval()
    x, y = case.set("forget")
    loss = torch.nn.functional.cross_entropy(logits(network, x), y, reduction="sum")
    return {
        name: g.abs()
        for (name, _), g in zip(network.named_parameters(), torch.autograd.grad(loss, list(network.parameters())))
    }


def test_the_mask_is_the_exact_share_with_the_largest_gradients_and_counts_every_batch(case):
    expected = saliency(case)
    case.phases("salun", Unlearning(batch_size=3), take=lambda phases: phases[:1], tau=0.3)
    size, mask = (
        torch.cat([g.flatten() for g in expected.values()]),
        torch.cat([m.flatten() for m in case.ctx.mask.values()]),
    )
    assert mask.sum() == round(0.3 * len(size))
    assert size[mask].min() >= size[~mask].max() - 1e-6
    assert case.ctx.mask.keys() == expected.keys()


def test_one_step_is_a_relabelled_step_under_the_mask(case):
    size = saliency(case)
    flat = torch.cat([g.flatten() for g in size.values()])
    threshold = flat.sort(descending=True).values[round(0.5 * len(flat)) - 1]
    case.run("salun", epochs=1, tau=0.5, form="mixed")
    index, forget, labels = case.labels[-1]
    x, true = case.at(index)
    assert (labels != true)[forget].all() and torch.equal(labels[~forget], true[~forget])
    network = case.network.train()
    gradients = torch.autograd.grad(ce(network, x, labels), list(network.parameters()))
    for (name, p), g in zip(network.named_parameters(), gradients):
        p.data -= 0.05 * g * (size[name] >= threshold)
    assert_same(case.ctx.network, network)


def test_nothing_moves_a_masked_weight_weight_decay_and_momentum_included(make_case):
    for optimizer in ("sgd", "adam", "adamw"):
        case = make_case()
        ran = case.run("salun", Unlearning(optimizer=optimizer, weight_decay=0.1, batch_size=8), epochs=2)
        for name, mask in case.ctx.mask.items():
            assert torch.equal(ran.before[name][~mask], ran.after[name][~mask])
            assert (ran.before[name] != ran.after[name])[mask].any() or not mask.any()


def test_saliency_leaves_batchnorm_statistics_alone(case):
    before = {name: b.clone() for name, b in case.ctx.network.named_buffers()}
    case.phases("salun", take=lambda phases: phases[:1])
    assert all(torch.equal(b, before[name]) for name, b in case.ctx.network.named_buffers())


def test_labels_are_drawn_anew_every_epoch(case):
    case.run("salun", Unlearning(batch_size=48), epochs=6, form="mixed")
    draws = {tuple(labels[forget][index[forget].argsort()].tolist()) for index, forget, labels in case.labels[1:]}
    assert len(draws) == 6


def test_every_epoch_is_a_pass_over_the_forget_set_then_one_over_the_retain_set(case):
    """As its authors run it on CIFAR-10."""
    size = saliency(case)
    flat = torch.cat([g.flatten() for g in size.values()])
    threshold = flat.sort(descending=True).values[round(0.5 * len(flat)) - 1]
    case.run("salun", epochs=2)
    handed = case.labels[1:]  # after the saliency
    assert [(len(index), bool(forget.all()), bool(forget.any())) for index, forget, _ in handed] == [
        (8, True, True), (40, False, False)
    ] * 2  # fmt: skip
    network = case.network.train()
    for index, forget, labels in handed:
        x, true = case.at(index)
        assert (labels != true).all() if forget.all() else torch.equal(labels, true)
        gradients = torch.autograd.grad(ce(network, x, labels), list(network.parameters()))
        for (name, p), g in zip(network.named_parameters(), gradients):
            p.data -= 0.05 * g * (size[name] >= threshold)
    assert_same(case.ctx.network, network)
    drawn = [labels[index.argsort()].tolist() for index, forget, labels in handed if forget.all()]
    assert drawn[0] != drawn[1]


def test_an_empty_mask_is_refused_and_the_smallest_trains_one_weight(case):
    with pytest.raises(MubenchError, match=r"salun\.tau = 0 is not above 0"):
        case.method("salun", tau=0)
    case.phases("salun", take=lambda phases: phases[:1], tau=1e-9)
    assert sum(int(mask.sum()) for mask in case.ctx.mask.values()) == 1
    assert case.method("msg", rate=0).rate == 0  # where a share of 0 means something
