"""A fifth of what it asks leaves every method its form: each phase, in its place, all that comes between them, and the end."""

from dataclasses import replace

import pytest
import torch

from mubench_ray.conformance.bench import bench, run
from mubench_ray.methods import METHODS, Method
from mubench_ray.training.loop import Loop
from mubench_ray.training.meter import Meter
from mubench_ray.trial import Training, Unlearning

OPTIONS = Unlearning(batch_size=2)


def ran(name, cap=None, **given):
    """(what happened in order, without repetitions beside each other; the context; whether it was cut)."""
    method = METHODS.get(name).configure(given)
    ctx = bench("cnn-small", method.uses_validation, cap_flos=cap, lr=1e-3 if method.uses_lr else None)
    ctx.training = Training(epochs=3, batch_size=2)
    ctx.keep_original()
    happened = []

    def note(what, function):
        def noted(context, *args):
            if context is ctx and happened[-1:] != [what]:  # a trial run has another context
                happened.append(what)
            return function(context, *args)

        return noted

    phases = [
        replace(
            phase, loss=note(phase.name, phase.loss),
            before=phase.before and note(f"before {phase.name}", phase.before),
            after=phase.after and note(f"after {phase.name}", phase.after),
        )
        for phase in method.phases(ctx)
    ]  # fmt: skip
    finish = None if type(method).finish is Method.finish else note("finish", method.finish)
    cut = Loop(ctx, phases, OPTIONS, finish=finish).run()
    return happened, ctx, cut


#: JiT's one pass over eight examples has no fifth; AMUN's way in long steps is as long as all the rest, and quicker to test.
LONGER = {"jit": {"epochs": 5}, "amun": {"steps": 5}}


@pytest.mark.parametrize("name", sorted(set(METHODS.names()) - {"original", "retrain"}))
def test_a_fifth_of_what_a_method_asks_leaves_it_its_form(name):
    given = LONGER.get(name, {})
    whole, free, _ = ran(name, **given)
    happened, ctx, cut = ran(name, cap=free.meter.flos / 5, **given)
    assert cut and happened == whole
    assert ctx.meter.cap_flos is not None
    assert 0.5 * ctx.meter.cap_flos < ctx.meter.flos <= ctx.meter.cap_flos * (1 + 1e-9)


def test_two_phase_scrub_keeps_both():
    whole, free, _ = ran("scrub", form="two_phase")
    happened, _, _ = ran("scrub", cap=0.2 * free.meter.flos, form="two_phase")
    assert whole == happened and happened[0] == "max" and happened[-3:] == ["min", "after min", "finish"]


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5])
def test_scrub_rewinds_within_its_budget(share):
    _, free, _ = ran("scrub")
    happened, ctx, _ = ran("scrub", cap=share * free.meter.flos)
    assert happened[-1] == "finish" and ctx.meter.flos <= share * free.meter.flos
    ends = ctx.state["ends"]
    chosen = [all((weights[n] == t).all() for n, t in ctx.network.state_dict().items()) for _, weights in ends]
    assert len(ends) >= (5 if share >= 0.2 else 1) and sum(chosen) >= 1
    if len(ends) == 5:  # the last of them is what the passes ended with, whose error on D_V is aimed at
        ctx.meter.cap_flos = None
        ctx.network.load_state_dict(ends[-1][1])
        target = ctx.error("validation of D_F's classes")
        assert abs(ends[chosen.index(True)][0] - target) == min(abs(error - target) for error, _ in ends)


class EveryStep(Meter):
    """Counts the FLOs of every step, not of the first of its kind alone."""

    def knows(self, kind):
        return False


@pytest.mark.parametrize(
    "name, given",
    [
        ("sfron", {"epochs": 1, "period": 4}), ("natmu", {"epochs": 1}), ("amun", {"epochs": 1, "radius": 1.0, "steps": 5}),
        ("amun", {"epochs": 1, "radius": 1.0, "steps": 5, "forget": False}), ("unsir", {"noise_steps": 10}), ("munba", {"epochs": 1}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("seed", [1, 2])
def test_what_is_charged_is_what_was_computed(name, given, seed):
    method, spent = METHODS.get(name).configure(given), []
    for meter in (Meter(), EveryStep(), Meter(cap_flos=1e18)):
        ctx = bench("cnn-small", method.uses_validation, seed, lr=1e-3)
        ctx.meter = meter
        assert not run(method, ctx, Unlearning(batch_size=4)).truncated
        spent.append(meter.flos)
    assert spent[0] == pytest.approx(spent[1], rel=1e-9) and spent[2] == spent[0]


@pytest.mark.parametrize("name", ["ssd", "assd", "lfssd"])
def test_where_no_example_of_the_forget_set_was_reached_no_weight_is_dampened(name):
    method = METHODS.get(name).configure({})
    whole = run(method, bench("cnn-small", method.uses_validation, lr=None))
    ended = run(method, bench("cnn-small", method.uses_validation, lr=None, cap_flos=whole.ctx.meter.flos / 40))
    assert ended.truncated and ended.ctx.meter.flos > 0
    assert all(torch.equal(ended.before[name], tensor) for name, tensor in ended.after.items())
