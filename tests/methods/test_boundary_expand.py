import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mubench_ray.methods import METHODS
from mubench_ray.methods.boundary_expand import Widened
from mubench_ray.methods.layers import head
from mubench_ray.tasks.base import Task
from mubench_ray.training.loop import Loop
from tests.methods.conftest import LR, PLAIN, assert_same, logits


def test_a_step_moves_the_forget_set_to_the_shadow_class_which_is_then_cut_off(case):
    case.ctx.keep_original()
    method = case.method("boundary_expand", epochs=1)
    phases = method.phases(case.ctx)
    widened = next(m for m in case.ctx.network.modules() if isinstance(m, Widened))
    shadow = [p.detach().clone().requires_grad_() for p in (widened.shadow.weight, widened.shadow.bias)]
    seen = []
    case.network.get_submodule(head(case.network)).register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    x = case.set("forget")[0]
    for _ in range(2):
        both = torch.cat([logits(case.network, x), F.linear(seen[-1], *shadow)], 1)
        everything = [*case.network.parameters(), *shadow]
        for p, g in zip(everything, torch.autograd.grad(-torch.log_softmax(both, 1)[:, 4].mean(), everything)):
            p.data -= LR * g
    Loop(case.ctx, phases * 2, PLAIN).run()
    assert torch.allclose(widened.shadow.weight, shadow[0], atol=1e-6)
    method.finish(case.ctx)
    assert_same(case.ctx.network, case.network)
    assert all(forget.all() for _, forget in case.handed)


@pytest.mark.parametrize("model", ["cnn-small", "resnet-tiny", "vit-tiny"])
def test_whoever_evaluates_sees_the_classes_alone(make_case, model):
    case = make_case(model)
    x, _ = case.set("retain")
    before = logits(case.original, x)
    case.method("boundary_expand").phases(case.ctx)
    assert torch.equal(logits(case.ctx.network.eval(), x), before)
    assert logits(case.ctx.network.train(), x).shape[1] == 5


def test_the_shadow_class_is_drawn_from_the_seed_as_xavier_draws_a_layer_of_one_class_more(make_case):
    drawn = []
    for seed in range(1, 13):
        case = make_case(seed=seed)
        case.method("boundary_expand").phases(case.ctx)
        widened = next(m for m in case.ctx.network.modules() if isinstance(m, Widened))
        assert not widened.shadow.bias.any()
        drawn.append(widened.shadow.weight.detach())
    fan_in = drawn[0].shape[1]
    assert torch.cat(drawn).std() == pytest.approx(math.sqrt(2 / (fan_in + 5)), rel=0.1)
    assert not torch.equal(drawn[0], drawn[1])


def test_it_refuses_what_has_no_class_or_no_head():
    class Summaries(Task):
        name, kind = "summaries", "generation"

    assert "adds a class" in METHODS.get("boundary_expand").refusal(Summaries)
    assert "last layer" in METHODS.get("boundary_expand").refusal_for_network(nn.Conv2d(1, 4, 3))
