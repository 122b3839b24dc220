import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from mubench_ray.engine.plan import make_plan
from mubench_ray.errors import MubenchError
from mubench_ray.methods.noisy_fine_tuning import certified, divergence, noise_for, rounds
from mubench_ray.randomness import torch_generator
from mubench_ray.suite import make_suite
from mubench_ray.trial import Unlearning
from mubench_ray.trials.artifacts import ArtifactStore
from mubench_ray.trials.run_trial import run_trial
from tests.methods.conftest import ce

#: Radius, clip, rate and decay that released code runs on CIFAR-10 and MNIST, with a Renyi bound of 1.
CIFAR, MNIST = (0.1, 10.0, 1e-3, 50.0), (0.01, 10.0, 1e-4, 750.0)


@pytest.mark.parametrize("ball", [CIFAR, MNIST, (1.0, 2.0, 0.01, 1e-3)])
@pytest.mark.parametrize("steps", [1, 7])
def test_the_divergence_is_that_of_the_two_runs_that_lie_furthest_apart(ball, steps):
    """On one line, two starts at the ball's ends and gradients of full length away from each other: both end Gaussian."""
    radius, clip, rate, decay = ball
    apart, variance = 2 * radius, 0.0
    for _ in range(steps):
        apart = apart - rate * decay * apart + 2 * rate * clip
        variance = (1 - rate * decay) ** 2 * variance + 0.3**2
    for q in (1.5, 4.0):  # the Renyi divergence of Gaussians of one variance, by its definition
        x = np.linspace(-60, 60 + apart, 400_001) * math.sqrt(variance)
        p, r = norm.logpdf(x, apart, math.sqrt(variance)), norm.logpdf(x, 0, math.sqrt(variance))
        renyi = math.log(np.trapezoid(np.exp(q * p + (1 - q) * r), x)) / (q - 1)
        assert renyi == pytest.approx(q * divergence(0.3, *ball, steps), rel=1e-4)


def test_released_noise_has_the_divergence_that_it_was_made_for():
    for radius, clip, rate, decay in (CIFAR, MNIST):
        steps = rounds(radius, clip, rate, decay)
        shrunk = (1 - rate * decay) ** steps
        variance = (2 * radius * shrunk + 2 * clip / decay * (1 - shrunk)) ** 2
        variance *= rate * decay * (2 - rate * decay) / (2 * 1.0 * (1 - shrunk**2))
        assert divergence(math.sqrt(variance), radius, clip, rate, decay, steps) == pytest.approx(1.0)
    assert rounds(*CIFAR) == 10 and rounds(*MNIST) == 6
    assert certified(1.0, 1e-5) == pytest.approx(7.1, abs=0.05)


@pytest.mark.parametrize("epsilon", [0.3, 1.0, 8.0])
def test_a_certificate_claims_no_less_than_the_exact_epsilon_and_little_more(epsilon):
    """Two Gaussians mu apart have delta(epsilon) = Phi(mu / 2 - epsilon / mu) - e^epsilon Phi(-mu / 2 - epsilon / mu) (Balle & Wang 2018)."""
    sigma = noise_for(epsilon, 1e-5, *CIFAR, 10)
    mu = math.sqrt(2 * divergence(sigma, *CIFAR, 10))

    def delta(e):
        return norm.cdf(mu / 2 - e / mu) - math.exp(e) * norm.cdf(-mu / 2 - e / mu)

    assert delta(epsilon) <= 1e-5 < delta(0.8 * epsilon)


def test_more_noise_certifies_less_and_what_nothing_certifies_is_refused():
    found = [noise_for(epsilon, 1e-5, *CIFAR, 10) for epsilon in (0.5, 1.0, 2.0, 4.0)]
    assert found == sorted(found, reverse=True)
    with pytest.raises(MubenchError, match="no noise certifies"):
        noise_for(1e20, 1e-5, *CIFAR, 10)


def test_the_ball_then_noisy_steps_by_hand(case):
    ball = (2.0, 2.0, 0.2, 1.5)
    steps = rounds(*ball)
    assert steps == 4
    sigma = noise_for(4.0, 1e-3, *ball, steps)
    case.phases("noisy_fine_tuning", take=lambda phases: phases[:-1], epsilon=4.0, delta=1e-3,
                radius=2.0, clip=2.0, rate=0.2, decay=1.5)  # fmt: skip
    parameters = list(case.network.parameters())
    with torch.no_grad():
        length = math.sqrt(sum(float((p**2).sum()) for p in parameters))
        assert length > 2
        for p in parameters:
            p *= 2.0 / length
    x, y = case.set("retain")
    for step in range(steps):
        gradients = torch.autograd.grad(ce(case.network, x, y), parameters)
        length = math.sqrt(sum(float((g**2).sum()) for g in gradients))
        generator = torch_generator("method", 1, "noise", step)
        for p, g in zip(parameters, gradients):
            noise = sigma * torch.randn(p.shape, generator=generator)
            p.data += noise - 0.2 * (g * min(1.0, 2.0 / length) + 1.5 * p.data)
    for (name, mine), p in zip(case.ctx.network.named_parameters(), parameters):
        assert torch.allclose(mine, p, atol=1e-5), name
    assert all(not forget.any() for _, forget in case.handed)


def test_a_long_gradient_is_clipped(case):
    case.phases(
        "noisy_fine_tuning",
        take=lambda phases: phases[:1],
        clip=1e-3,
        radius=1e-3,
        rate=0.1,
        decay=1e-3,
        epsilon=1000.0,
    )
    moved = [p.detach() for p in case.ctx.network.parameters()]
    count = sum(p.numel() for p in moved)
    sigma = noise_for(1000.0, 1e-5, 1e-3, 1e-3, 0.1, 1e-3, rounds(1e-3, 1e-3, 0.1, 1e-3))
    length = math.sqrt(sum(float((p**2).sum()) for p in moved))
    assert length < 1e-3 + 1e-4 + 1.2 * sigma * math.sqrt(count)


def test_no_statistic_of_the_weights_before_their_noise_is_left(case):
    case.phases("noisy_fine_tuning", take=lambda phases: phases[:-1])
    before = dict(case.ctx.network.named_buffers())["stages.0.1.running_mean"].clone()
    case.method("noisy_fine_tuning").forget_statistics(case.ctx)
    buffers = dict(case.ctx.network.named_buffers())
    assert before.any()
    for name, buffer in buffers.items():
        assert (buffer == (1 if name.endswith("running_var") else 0)).all(), name


def test_the_noisy_steps_take_nothing_from_the_trial_s_options(make_case):
    ends = []
    for options in (
        Unlearning(optimizer="sgd", momentum=0.0, batch_size=64),
        Unlearning(optimizer="adam", weight_decay=0.1, superloss=10.0, batch_size=64),
    ):
        case = make_case()
        case.phases("noisy_fine_tuning", options=options, take=lambda phases: phases[:-1])
        ends.append(case.ctx.network.state_dict())
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_repair_is_one_cycle_on_what_is_kept(case):
    phases = case.method("noisy_fine_tuning", epochs=4).phases(case.ctx)
    assert len(phases) == 11 and phases[-1].optimizer.schedule == "triangle" and phases[-1].epochs == 4
    with pytest.raises(MubenchError, match="above 1"):
        case.method("noisy_fine_tuning", rate=0.1, decay=100.0).phases(case.ctx)


@pytest.mark.parametrize("budget, certified_of", [(None, (2.0, 1e-4)), (1e-4, (None, None))])
def test_the_certificate_stands_in_the_row_where_it_holds(tmp_path, budget, certified_of):
    method = {"name": "noisy_fine_tuning", "epsilon": 2.0, "delta": 1e-4, "epochs": 1, "radius": 0.02}
    where = {"name": "s", "tasks": {"name": "digits", "subset": 60}, "models": "cnn-small", "ratios": 10, "seeds": 1}
    how = {"methods": method, "lrs": "default", "training": {"epochs": 1}, "budget": {"flos": budget}}
    suite = make_suite(where | how)
    (trial,) = make_plan(suite).trials.values()
    row = run_trial(trial, ArtifactStore(tmp_path)).row
    assert (row["status"], (row.get("certified_epsilon"), row.get("certified_delta"))) == (
        "truncated" if budget else "ok",
        certified_of,
    )


def test_a_run_cut_within_the_noisy_steps_is_certified_of_nothing(case):
    method = case.method("noisy_fine_tuning", epsilon=2.0, radius=0.05)
    assert rounds(0.05, 10.0, 1e-3, 50.0) == 5 and method.certificate(case.ctx) is None
    case.phases("noisy_fine_tuning", take=lambda phases: phases[:4], epsilon=2.0, radius=0.05)
    assert method.certificate(case.ctx) is None
    case.ctx.state["taken"] = 5
    assert method.certificate(case.ctx) == (2.0, 1e-5)
    assert case.method("ft").certificate(case.ctx) is None
