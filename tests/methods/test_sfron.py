import math
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from mubench_ray.methods import sfron
from tests.methods.conftest import LR, assert_same, ce, logits


def fisher(case, name):
    """Mean squared gradient of the loss over a set, example by example, in eval mode."""
    network = case.original
    x, y = case.set(name)
    parameters = [p.requires_grad_() for p in network.parameters()]
    rows = [torch.autograd.grad(ce(network, x[[i]], y[[i]]), parameters) for i in range(len(y))]
    return [torch.stack(gradients).square().mean(0) for gradients in zip(*rows)]


@pytest.mark.parametrize("clip", [0.5, 50.0])
def test_four_steps_every_other_with_a_masked_clipped_ascent(case, clip):
    alpha, weighting, threshold = 5.0, 0.5, 0.9
    mask = [f >= threshold * r for f, r in zip(fisher(case, "forget"), fisher(case, "retain"))]
    share = sum(int(m.sum()) for m in mask) / sum(m.numel() for m in mask)
    assert 0.1 < share < 0.9
    (xf, yf), (xr, yr) = case.set("forget"), case.set("retain")
    lengths = []
    for step in range(4):
        cosine = (1 + math.cos(math.pi * step / 4)) / 2
        parameters = list(case.network.parameters())
        ascent = [torch.zeros_like(p) for p in parameters]
        if step % 2 == 0:
            losses = F.cross_entropy(logits(case.network, xf), yf, reduction="none")
            with torch.no_grad():
                w = 1 / losses**weighting
                w /= w.sum()
            goal = -alpha * cosine * (w * losses).sum()
            ascent = [g * m for g, m in zip(torch.autograd.grad(goal, parameters), mask)]
            lengths.append(float(torch.cat([g.flatten() for g in ascent]).norm()))
            ascent = [g * min(1.0, clip / lengths[-1]) for g in ascent]
        for p, g, a in zip(parameters, torch.autograd.grad(ce(case.network, xr, yr), parameters), ascent):
            p.data -= LR * cosine * (g + a)
    assert (lengths[0] > clip) == (clip == 0.5)
    case.run("sfron", epochs=4, period=2, alpha=alpha, weighting=weighting, threshold=threshold, clip=clip)
    assert_same(case.ctx.network, case.network, atol=2e-6)


def test_between_two_ascents_it_descends_on_what_is_kept_alone(case):
    case.run("sfron", epochs=6, period=3)
    ascents = [i for i, (_, forget, labels) in enumerate(case.labels) if len(labels) == 8 and forget.all()]
    steps = [len(labels) for _, forget, labels in case.labels[-8:]]
    assert len(ascents) == 2 and steps == [8, 40, 40, 40, 8, 40, 40, 40]


def test_the_ascent_falls_to_its_end_within_what_the_budget_leaves(make_case, monkeypatch):
    angles = []
    monkeypatch.setattr(
        sfron, "math", SimpleNamespace(pi=math.pi, cos=lambda angle: angles.append(angle) or math.cos(angle))
    )
    whole = make_case().run("sfron", epochs=20, period=1)
    assert angles[-1] == pytest.approx(math.pi * 19 / 20)
    case = make_case()
    case.ctx.meter.cap_flos = whole.ctx.meter.flos * 0.6
    del angles[:]
    assert case.run("sfron", epochs=20, period=1).truncated
    assert 2 < len(angles) < 19 and angles[-1] > 0.75 * math.pi
