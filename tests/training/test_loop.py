"""The loop step by step, against plain torch."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional as F

from mubench_ray.errors import Diverged, MubenchError
from mubench_ray.training.loop import Loop
from mubench_ray.training.meter import Meter
from mubench_ray.training.optimizers import scheduled
from mubench_ray.training.phase import Optimizer, Phase
from mubench_ray.trial import Unlearning


def cross_entropy(ctx, batch):
    return ctx.loss(batch)


def weights(ctx):
    return {name: p.detach().clone() for name, p in ctx.network.named_parameters()}


def run(ctx, *phases, observer=None, **options):
    return Loop(ctx, list(phases), Unlearning(**options), observer).run()


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_steps_are_those_of_plain_torch(make_context, optimizer):
    ctx = make_context()
    plain = copy.deepcopy(ctx.network).train()
    seen = []
    run(
        ctx,
        Phase("p", "retain", lambda ctx, b: seen.append(b) or ctx.loss(b)),
        optimizer=optimizer,
        weight_decay=0.1,
        clip=0.5,
    )
    kinds = {"sgd": lambda p: torch.optim.SGD(p, 0.01, momentum=0.9), "adam": lambda p: torch.optim.Adam(p, 0.01)}
    stepper = kinds[optimizer](plain.parameters())
    for batch in seen:
        stepper.zero_grad()
        F.cross_entropy(plain(batch.inputs["pixel_values"]), batch["labels"]).backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
        for p in plain.parameters():
            p.grad += 0.1 * p.detach()
        stepper.step()
    for (name, own), other in zip(ctx.network.state_dict().items(), plain.state_dict().values()):
        assert torch.allclose(own, other, atol=1e-6), name


def test_masked_weights_are_not_moved_by_anything(make_context):
    ctx = make_context()
    before = weights(ctx)
    ctx.mask = {
        name: torch.rand(p.shape, generator=torch.Generator().manual_seed(3)) < 0.5 for name, p in before.items()
    }
    for optimizer in ("sgd", "adam", "adamw"):
        run(ctx, Phase(optimizer, "retain", cross_entropy), optimizer=optimizer, weight_decay=0.1)
    for name, p in weights(ctx).items():
        assert torch.equal(p[~ctx.mask[name]], before[name][~ctx.mask[name]]), name
        assert not torch.equal(p[ctx.mask[name]], before[name][ctx.mask[name]]), name


def test_frozen_modules_keep_weights_and_statistics(make_context):
    ctx = make_context()
    before = copy.deepcopy(ctx.network.state_dict())
    run(ctx, Phase("p", "retain", cross_entropy, parameters=lambda ctx: ["head.weight", "head.bias"]), weight_decay=0.1)
    changed = {name for name, tensor in ctx.network.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"head.weight", "head.bias"}
    assert all(p.requires_grad for p in ctx.network.parameters()), "the next phase finds everything trainable again"


def test_eval_mode_keeps_batchnorm_statistics(make_context):
    ctx = make_context()
    before = {name: b.clone() for name, b in ctx.network.named_buffers()}
    run(ctx, Phase("p", "forget", cross_entropy, mode="eval"))
    assert all(torch.equal(b, before[name]) for name, b in ctx.network.named_buffers())


def test_an_unknown_parameter_is_refused(make_context):
    with pytest.raises(ValueError, match="nose"):
        run(make_context(), Phase("p", "retain", cross_entropy, parameters=lambda ctx: ["nose"]))


def test_epochs_and_drivers_make_the_steps(make_context):
    sizes = []

    def paired(ctx, retain, forget):
        sizes.append((len(retain), len(forget)))
        return ctx.loss(retain) - 0.1 * ctx.loss(forget)

    run(make_context(), Phase("p", "paired", paired, epochs=1), batch_size=16)
    assert [r for r, _ in sizes] == [16] * 5 and {f for _, f in sizes} == {16, 4}
    sizes.clear()
    run(make_context(), Phase("p", "paired", paired, epochs=1.5, driver="forget"), batch_size=16)
    assert len(sizes) == 3


def test_phases_that_share_an_optimizer_share_its_schedule(make_context):
    ctx, rates = make_context(), []
    cosine = Optimizer(schedule="cosine")
    loop = Loop(
        ctx,
        [Phase("a", "forget", cross_entropy, optimizer=cosine), Phase("b", "forget", cross_entropy, optimizer=cosine)],
        Unlearning(batch_size=10),
    )
    loop.observer = lambda ctx: rates.extend(group["lr"] for o in loop._optimizers.values() for group in o.param_groups)
    loop.run()
    assert rates == pytest.approx([scheduled("cosine", step, 4, 0.01, 0.0) for step in range(4)])


def test_schedules():
    assert [round(scheduled("linear", s, 4, 1.0, 0.0), 3) for s in range(4)] == [1.0, 0.75, 0.5, 0.25]
    assert [round(scheduled("cosine", s, 4, 1.0, 0.2), 3) for s in range(5)] == [1.0, 0.883, 0.6, 0.317, 0.2]
    triangle = [scheduled("triangle", s, 8, 1.0, 0.0) for s in range(8)]
    assert max(triangle) == 1.0 and triangle[0] == 0.25 and triangle[-1] == 0.25


def test_the_budget_ends_it_and_after_is_not_run(make_context):
    full = make_context()
    assert run(full, Phase("p", "retain", cross_entropy)) is False
    cap = full.meter.flos / 2
    called = []
    ctx = make_context(meter=Meter(cap_flos=cap))
    assert (
        run(ctx, Phase("p", "retain", cross_entropy, after=called.append), Phase("q", "retain", cross_entropy)) is True
    )
    assert 0 < ctx.meter.flos <= cap and not called


def test_a_first_step_beyond_the_budget_is_undone(make_context):
    ctx = make_context(meter=Meter(cap_flos=1000))
    before = copy.deepcopy(ctx.network.state_dict())
    assert run(ctx, Phase("p", "retain", cross_entropy)) is True
    assert ctx.meter.flos == 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in ctx.network.state_dict().items())


def test_work_in_a_hook_is_inside_the_budget(make_context):
    full = make_context()
    run(full, Phase("p", "retain", cross_entropy))
    ctx = make_context(meter=Meter(cap_flos=full.meter.flos * 1.01))
    assert run(ctx, Phase("p", "retain", cross_entropy, after=lambda ctx: ctx.error("retain"))) is True
    assert ctx.meter.flos <= full.meter.flos * 1.01


def test_a_loss_that_is_not_finite_is_diverged(make_context):
    steps = []

    def bad(ctx, batch):
        steps.append(1)
        return ctx.loss(batch) / (0.0 if len(steps) == 2 else 1.0)

    with pytest.raises(Diverged, match=r"inf at step 2 of 3 in phase 'p'"):
        run(make_context(), Phase("p", "retain", bad))


def test_update_sees_gradients_and_takes_no_step(make_context):
    ctx = make_context()
    before, seen = weights(ctx), []
    run(
        ctx,
        Phase(
            "p",
            "forget",
            lambda ctx, b: ctx.losses(b).sum(),
            mode="eval",
            update=lambda ctx, b: seen.append(ctx.gradients()),
        ),
        batch_size=7,
    )
    assert all(torch.equal(p, before[name]) for name, p in weights(ctx).items())
    batch = ctx.data.batch(ctx.data.rows("forget"), torch.arange(20))
    ctx.network.eval()
    ctx.network.zero_grad()
    F.cross_entropy(ctx.network(batch.inputs["pixel_values"]), batch["labels"], reduction="sum").backward()
    for name, p in ctx.network.named_parameters():
        assert torch.allclose(sum(g[name] for g in seen), p.grad, atol=1e-4), name


def test_dropout_depends_on_the_step_alone(make_context):
    ends = []
    for noise in (1, 2):
        ctx = make_context("vit-tiny")
        for module in ctx.network.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.5
        torch.manual_seed(noise)
        run(ctx, Phase("p", "forget", cross_entropy))
        ends.append(weights(ctx))
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


@pytest.mark.parametrize(("size", "batch_size", "why"), [(21, 32, "the set holds no more"), (24, 1, "batch_size is 1")])
def test_single_examples_and_a_last_map_of_one_pixel(make_context, size, batch_size, why):
    """Nothing can be joined: what is wrong, where, and what to do. In eval mode single examples are welcome."""
    with pytest.raises(
        MubenchError,
        match=rf"phase 'p' trains on one example of 'retain' at a time \({why}\).*BatchNorm has no statistics",
    ):
        run(make_context("resnet18", size=size), Phase("p", "retain", cross_entropy), batch_size=batch_size)
    run(make_context("resnet18", size=size), Phase("p", "retain", cross_entropy, mode="eval"), batch_size=batch_size)
