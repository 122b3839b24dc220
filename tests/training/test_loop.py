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


def run(ctx, *phases, observer=None, finish=None, **options):
    return Loop(ctx, list(phases), Unlearning(**options), observer, finish=finish).run()


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
    assert [scheduled("peak", s, 5, 3.0, 0.0) for s in range(5)] == pytest.approx([1, 2, 3, 2, 1])
    assert [scheduled("peak", s, 4, 6.0, 0.0) for s in range(4)] == pytest.approx([3, 6, 4, 2])


def test_a_budget_shortens_all_phases_and_leaves_what_comes_last(make_context):
    def phases(seen):
        def noted(ctx, batch):
            seen.append((id(ctx), ctx.epoch[0], len(batch)))
            return ctx.loss(batch)

        return [
            Phase("p", "retain", noted, epochs=2, after=lambda ctx: ctx.error("retain")),
            Phase("q", "forget", noted, epochs=6),
        ]

    def steps(seen, ctx):
        return [sum(where == id(ctx) and phase == number for where, phase, _ in seen) for number in (0, 1)]

    full, seen = make_context(), []
    assert run(full, *phases(seen), batch_size=8, finish=lambda ctx: ctx.error("validation")) is False
    assert steps(seen, full) == [20, 18]
    per_step = full.meter.state_dict()["per_example"]
    reserved = 80 * per_step["error"] + 10 * per_step["error"]
    for share in (0.3, 0.6):
        ended = []
        ctx = make_context(meter=Meter(cap_flos=reserved + share * (full.meter.flos - reserved)))
        seen.clear()

        def finish(ctx, ended=ended):
            ended.append((id(ctx), ctx.error("validation")))

        assert run(ctx, *phases(seen), batch_size=8, finish=finish) is True
        p, q = steps(seen, ctx)
        assert p == pytest.approx(20 * share, abs=1.01) and q == pytest.approx(18 * share, abs=1.01)
        assert ctx.meter.flos <= ctx.meter.cap_flos * (1 + 1e-9) and ended[-1][0] == id(ctx)
        assert ctx.meter.flos > ctx.meter.cap_flos - 2 * 16 * (per_step["p"] + per_step["q"])


@pytest.mark.parametrize("share", [0.2, 0.5, 0.99])
def test_of_a_single_phase_as_many_steps_are_left_as_the_budget_pays_for(make_context, share):
    full, taken = make_context(), []
    run(full, Phase("p", "paired", lambda ctx, r, f: ctx.loss(r) - ctx.loss(f), epochs=3), batch_size=16)
    ctx = make_context(meter=Meter(cap_flos=share * full.meter.flos))
    loss = lambda ctx, r, f: taken.append((id(ctx), len(r) + len(f))) or ctx.loss(r) - ctx.loss(f)  # noqa: E731
    assert run(ctx, Phase("p", "paired", loss, epochs=3), batch_size=16) is True
    sizes = [size for where, size in taken if where == id(ctx)]
    one = full.meter.flos / full.meter.examples
    rest = ([32, 20] * 8)[:15][len(sizes)]
    assert one * sum(sizes) <= ctx.meter.cap_flos < one * (sum(sizes) + rest)


def test_a_budget_that_reaches_changes_nothing(make_context):
    cosine = Optimizer(schedule="cosine")
    ends = []
    for cap in (None, 1e12):
        ctx = make_context(meter=Meter(cap_flos=cap))
        torch.manual_seed(3)
        assert run(ctx, Phase("p", "retain", cross_entropy, optimizer=cosine), finish=damage) is False
        ends.append((weights(ctx), ctx.meter.flos, ctx.meter.examples, float(torch.rand(1))))
    assert all(torch.equal(ends[0][0][name], ends[1][0][name]) for name in ends[0][0])
    assert ends[0][1:] == ends[1][1:]  # the trial run draws nothing from anybody's stream


def damage(ctx):
    with torch.no_grad():
        for p in ctx.network.parameters():
            p.mul_(0.5)


def test_a_schedule_falls_to_its_end_within_the_budget(make_context):
    full = make_context()
    run(full, Phase("p", "retain", cross_entropy, epochs=10))
    ctx, rates = make_context(meter=Meter(cap_flos=0.5 * full.meter.flos)), []
    loop = Loop(
        ctx, [Phase("p", "retain", cross_entropy, epochs=10, optimizer=Optimizer(schedule="linear"))], Unlearning()
    )
    loop.observer = lambda ctx: rates.extend(group["lr"] for o in loop._optimizers.values() for group in o.param_groups)
    loop.run()
    assert rates == pytest.approx([0.01 * (1 - step / 15) for step in range(15)])


class Ticking(Meter):
    """A meter whose clock counts examples, those of the phase ``slow`` ten times."""

    ticks = 0

    @property
    def seconds(self):
        return float(self.ticks)

    def charge(self, kind, examples, work):
        result = super().charge(kind, examples, work)
        self.ticks += examples * (10 if kind == "slow" else 1)
        return result


def test_each_phase_and_the_finish_have_their_share_of_the_seconds(make_context):
    """The first takes longer than its FLOs say: it is cut, what comes after it and the others are not."""
    ctx, called = make_context(meter=Ticking(cap_seconds=160)), []
    steps = {"slow": 0, "fast": 0}

    def noted(name):
        def loss(c, batch):
            steps[name] += c is ctx
            return c.loss(batch)

        return loss

    phases = [
        Phase("slow", "retain", noted("slow"), after=lambda c: called.append(("after", id(c)))),
        Phase("fast", "retain", noted("fast")),
    ]
    assert run(ctx, *phases, batch_size=8, finish=lambda c: called.append(("finish", id(c)))) is True
    assert steps["slow"] == 1 and steps["fast"] == 10
    assert [what for what, where in called if where == id(ctx)] == ["after", "finish"]


def test_a_first_step_beyond_the_budget_is_undone(make_context):
    ctx = make_context(meter=Meter(cap_flos=1000))
    before = copy.deepcopy(ctx.network.state_dict())
    assert run(ctx, Phase("p", "retain", cross_entropy)) is True
    assert ctx.meter.flos == 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in ctx.network.state_dict().items())


def test_work_in_a_hook_is_inside_the_budget(make_context):
    full = make_context()
    run(full, Phase("p", "retain", cross_entropy, after=lambda ctx: ctx.error("retain")))
    ctx, found = make_context(meter=Meter(cap_flos=full.meter.flos * 0.99)), []
    assert run(ctx, Phase("p", "retain", cross_entropy, after=lambda ctx: found.append(ctx.error("retain")))) is True
    assert ctx.meter.flos <= full.meter.flos * 0.99 and len(found) == 2  # once to know what it costs


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
