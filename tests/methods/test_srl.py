import torch

from mubench_ray.trial import Unlearning
from tests.methods.conftest import assert_same, ce, descend


def test_one_step_learns_random_labels_for_the_forget_set_and_true_ones_for_the_rest(case):
    case.run("srl", epochs=1)
    ((index, forget, labels),) = case.labels
    x, true = case.at(index)
    assert torch.equal(labels[~forget], true[~forget])
    descend(case.network, ce(case.network, x, labels))
    assert_same(case.ctx.network, case.network)


def test_labels_are_uniform_over_all_classes_and_new_in_every_epoch(case):
    case.run("srl", Unlearning(batch_size=48), epochs=60)
    draws = [labels[forget][index[forget].argsort()] for index, forget, labels in case.labels]
    true = case.set("forget")[1]
    assert len({tuple(d.tolist()) for d in draws}) > 55
    share = torch.stack(draws).flatten().bincount(minlength=4) / (60 * 8)
    assert ((share - 0.25).abs() < 0.08).all()
    kept = (torch.stack(draws) == true).float().mean()
    assert abs(kept - 0.25) < 0.08  # the true label comes as often as any
