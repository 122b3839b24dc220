import copy
from dataclasses import replace

import pytest
import torch

from mubench_ray.trial import Unlearning
from tests.methods.conftest import assert_same, ce, descend, kl_by_hand, log_softmax, logits

T = 4.0


def distance(case, x, outputs):
    """T^2 KL_T(f_O || f_U) with f_U's logits given, so that one pass serves two terms."""
    with torch.no_grad():
        teacher = log_softmax(case.original, x, T)
    return T**2 * kl_by_hand(teacher, torch.log_softmax(outputs / T, dim=1))


def test_a_max_and_a_min_step_by_hand(case):
    descend(case.network, ce(case.network, *case.set("forget")))  # away from f_O, where the max step has no gradient
    case.ctx.keep_original()
    case.ctx.network.load_state_dict(case.network.state_dict())
    (xf, _), (xr, yr) = case.set("forget"), case.set("retain")
    descend(case.network, -distance(case, xf, logits(case.network, xf)))
    outputs = logits(case.network, xr)
    descend(case.network, 0.9 * torch.nn.functional.cross_entropy(outputs, yr) + 0.5 * distance(case, xr, outputs))
    case.phases("scrub", epochs=1, msteps=1, gamma=0.9, rewind=False)
    assert_same(case.ctx.network, case.network, atol=1e-6)


def test_max_passes_come_first_in_every_one_of_the_first_epochs_or_all_at_once(case):
    def names(**given):
        return [phase.name for phase in case.method("scrub", **given).phases(case.ctx)]

    assert names(epochs=4, msteps=2) == ["max", "min", "max", "min", "min", "min"]
    assert names(epochs=3, msteps=2, form="two_phase") == ["max", "max", "min", "min", "min"]


def error(network, x, y):
    network = copy.deepcopy(network).eval()
    with torch.no_grad():
        return float((logits(network, x).argmax(1) != y).float().mean())


def test_rewind_ends_with_the_epoch_whose_forget_error_is_nearest_the_validation_error(make_case):
    chosen = set()
    for seed in range(1, 7):
        case = make_case(seed=seed, lr=0.3)
        case.set("validation")[1][seed:] += 1  # wrong labels: an error to rewind to
        case.set("validation")[1].remainder_(4)
        method, ends = case.method("scrub", epochs=5, msteps=3), []
        options = Unlearning(optimizer="sgd", batch_size=8)
        case.phases(
            "scrub", options, take=lambda phases, ends=ends: [watch(p, ends) for p in phases], epochs=5, msteps=3
        )
        target = error(case.ctx.network, *case.set("validation"))
        errors = [abs(error(end, *case.set("forget")) - target) for end in ends]
        method.finish(case.ctx)
        nearest = max(i for i, e in enumerate(errors) if e == min(errors))
        assert_same(case.ctx.network, ends[nearest], atol=0)  # BatchNorm statistics too
        chosen.add(nearest)
    assert len(chosen) > 1  # it is not always the last


def watch(phase, ends):
    def after(ctx):
        ends.append(copy.deepcopy(ctx.network))
        phase.after(ctx)

    return phase if phase.after is None else replace(phase, after=after)


@pytest.mark.parametrize("rewind", [True, False])
def test_rewinding_charges_its_evaluations(make_case, rewind):
    case = make_case()
    case.run("scrub", epochs=2, msteps=1, rewind=rewind)
    assert ("error" in case.ctx.meter.state_dict()["per_example"]) == rewind
