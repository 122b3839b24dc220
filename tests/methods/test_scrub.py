import copy
from dataclasses import replace

import pytest
import torch

from mubench_ray.errors import MubenchError
from mubench_ray.methods import METHODS
from mubench_ray.trial import Unlearning
from tests.methods.conftest import assert_same, ce, descend, kl_by_hand, log_softmax, logits

T = 4.0


def distance(case, x, outputs):
    """T^2 KL_T(f_O || f_U) with f_U's logits given, so that one pass serves two terms."""
    with torch.no_grad():
        teacher = log_softmax(case.original, x, T)
    return T**2 * kl_by_hand(teacher, torch.log_softmax(outputs / T, dim=1))


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_a_max_and_a_min_step_by_hand(case, mode):
    """Its authors' step, Deep Unlearn's copy of it and MU-Bench's are all in train mode."""
    case.network.train(mode == "train")
    descend(case.network, ce(case.network, *case.set("forget")))  # away from f_O, where the max step has no gradient
    case.ctx.keep_original()
    case.ctx.network.load_state_dict(case.network.state_dict())
    (xf, _), (xr, yr) = case.set("forget"), case.set("retain")
    descend(case.network, -distance(case, xf, logits(case.network, xf)))
    outputs = logits(case.network, xr)
    descend(case.network, 0.9 * torch.nn.functional.cross_entropy(outputs, yr) + 0.5 * distance(case, xr, outputs))
    given = {} if mode == "train" else {"mode": mode}
    case.phases("scrub", epochs=1, msteps=1, gamma=0.9, rewind=False, **given)
    assert_same(case.ctx.network, case.network, atol=1e-6)
    assert METHODS.get("scrub").defaults()["mode"] == "train"


def test_max_passes_come_first_in_every_one_of_the_first_epochs_or_all_at_once(case):
    def names(**given):
        return [phase.name for phase in case.method("scrub", **given).phases(case.ctx)]

    assert names(epochs=4, msteps=2) == ["max", "min", "max", "min", "min", "min"]
    assert names(epochs=3, msteps=2, form="two_phase") == ["max", "max", "min", "min", "min"]


def test_the_learning_rate_falls_to_a_tenth_after_the_epochs_that_are_said(case):
    def rates(**given):
        phases = case.method("scrub", **given).phases(case.ctx)
        return [(phase.name, phase.optimizer.lr / case.ctx.lr) for phase in phases]

    assert rates(epochs=6, msteps=2) == [
        (name, pytest.approx(rate))
        for name, rate in [("max", 1), ("min", 1), ("max", 1), ("min", 1), ("min", 1), ("min", 0.1), ("min", 0.1), ("min", 0.01)]
    ]  # fmt: skip
    assert {rate for _, rate in rates(epochs=6, decay_after="")} == {1}
    assert [rate for _, rate in rates(epochs=2, msteps=2, decay_after=[1])] == [
        1,
        1,
        pytest.approx(0.1),
        pytest.approx(0.1),
    ]
    assert case.method("scrub", decay_after=[5, 3, 9]) == case.method("scrub")
    for wrong in ("soon", [0], [1.5], [-1]):
        with pytest.raises(MubenchError, match="no list of epochs"):
            case.method("scrub", decay_after=wrong)


def test_all_passes_share_one_optimiser_at_the_rate_of_each(case):
    case.phases("scrub", Unlearning(optimizer="sgd", batch_size=64), epochs=2, msteps=1, decay_after=[1])
    other = copy.deepcopy(case.original).requires_grad_(True).train()
    sgd = torch.optim.SGD(other.parameters(), case.ctx.lr, momentum=0.9)
    for name, rate in (("forget", 1), ("retain", 1), ("retain", 0.1)):
        x, y = case.set(name)
        sgd.param_groups[0]["lr"] = rate * case.ctx.lr
        sgd.zero_grad()
        outputs = logits(other, x)
        kl = distance(case, x, outputs)
        (-kl if name == "forget" else torch.nn.functional.cross_entropy(outputs, y) + 0.5 * kl).backward()
        sgd.step()
    assert_same(case.ctx.network, other, atol=1e-6)


def test_mu_benchs_form_is_a_preset(case):
    preset = case.method("scrub", preset="mu_bench")
    names = [phase.name for phase in preset.phases(case.ctx)]
    assert names == ["max"] * 5 + ["min"] * 5
    assert {phase.mode for phase in preset.phases(case.ctx)} == {"train"}
    (xr, yr), other = case.set("retain"), case.network.train()
    outputs = logits(other, xr)
    kl = kl_by_hand(log_softmax(case.original, xr), torch.log_softmax(outputs, dim=1))
    descend(other, torch.nn.functional.cross_entropy(outputs, yr) + kl)
    case.phases("scrub", skip=5, take=lambda phases: phases[5:6], preset="mu_bench")
    assert_same(case.ctx.network, other)
    assert case.method("scrub", preset="mu_bench", temperature=2).temperature == 2
    with pytest.raises(MubenchError, match=r"no preset 'mubench'.*mu_bench"):
        case.method("scrub", preset="mubench")


def test_the_rewind_compares_with_the_validation_examples_of_the_classes_that_are_forgotten(case):
    forget, validation = case.ctx.data.rows("forget"), case.ctx.data.rows("validation")
    forget.examples.labels[forget.positions] = torch.tensor([0, 2] * 4)
    case.method("scrub").phases(case.ctx)
    compared = case.ctx.data.rows("validation of D_F's classes")
    labels = validation.examples.labels.tolist()
    assert compared.positions.tolist() == [i for i, label in enumerate(labels) if label in (0, 2)]
    assert 0 < len(compared) < len(validation)


def error(network, x, y):
    network = copy.deepcopy(network).eval()
    with torch.no_grad():
        return float((logits(network, x).argmax(1) != y).float().mean())


def test_rewind_ends_with_the_epoch_whose_forget_error_is_nearest_the_validation_error(make_case):
    chosen = set()
    for seed in range(1, 7):
        case = make_case(seed=seed, lr=0.3)
        labels = case.ctx.data.rows("validation").examples.columns["labels"]
        labels[2 * seed :] = (labels[2 * seed :] + 2) % 4  # wrong labels: an error to rewind to
        given = {"epochs": 5, "msteps": 3, "decay_after": []}
        method, ends = case.method("scrub", **given), []
        options = Unlearning(optimizer="sgd", batch_size=8)
        case.phases("scrub", options, take=lambda phases, ends=ends: [watch(p, ends) for p in phases], **given)
        x, y = case.set("validation")
        same = (y == 0) | (y == 2)
        assert set(case.set("forget")[1].tolist()) == {0, 2}
        target = error(case.ctx.network, x[same], y[same])
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


def test_the_decay_may_follow_the_number_of_epochs(case):
    """Deep Unlearn's code decays at .5, .8 and .9 of its epochs, rounded down."""

    def falls(epochs):
        phases = case.method("scrub", epochs=epochs, msteps=1, decay_after=[0.8, 0.5, 0.9]).phases(case.ctx)
        rates = [round(phase.optimizer.lr / case.ctx.lr, 6) for phase in phases if phase.name == "min"]
        return [epoch for epoch in range(1, epochs) if rates[epoch] < rates[epoch - 1]]

    assert falls(5) == [2, 4] and falls(10) == [5, 8, 9] and falls(37) == [18, 29, 33]
    for wrong in ("0.5,3", "1.0", "0"):
        with pytest.raises(MubenchError, match="no list of epochs"):
            case.method("scrub", decay_after=wrong)
