import math

import pytest
import torch

from mubench_ray.training.superloss import SuperLoss


def best_sigma(loss, tau, strength):
    """The confidence that minimises (l - tau) s + lambda (log s)^2, by plain search over log s."""
    grid = torch.linspace(-3, 1, 400_001, dtype=torch.float64)
    return float(grid[((loss - tau) * grid.exp() + strength * grid**2).argmin()].exp())


@pytest.mark.parametrize("strength", [1.0, 10.0])
def test_value_and_gradient_are_those_of_the_optimal_confidence(strength):
    losses = torch.tensor([0.1, 0.5, 1.0, 2.4], dtype=torch.float64, requires_grad=True)
    tau = float(losses.detach().mean())
    value = SuperLoss(strength)(losses)
    value.sum().backward()
    for loss, got, slope in zip(losses.tolist(), value.tolist(), losses.grad.tolist()):
        sigma = best_sigma(loss, tau, strength)
        assert slope == pytest.approx(sigma, abs=1e-4)
        assert got == pytest.approx((loss - tau) * sigma + strength * math.log(sigma) ** 2, abs=1e-6)


def test_hard_examples_weigh_less_and_tau_is_the_running_mean():
    curriculum = SuperLoss(1.0)
    curriculum(torch.zeros(4))
    losses = torch.tensor([0.0, 4.0], requires_grad=True)
    curriculum(losses).sum().backward()
    assert curriculum.total / curriculum.count == pytest.approx(4 / 6)
    assert losses.grad[0] > 1 > losses.grad[1]


def test_far_below_tau_stays_finite():
    curriculum = SuperLoss(0.01)
    curriculum(torch.full((10,), 100.0))
    losses = torch.tensor([0.0], requires_grad=True)
    curriculum(losses).sum().backward()
    assert torch.isfinite(losses.grad).all()
    assert losses.grad[0] == pytest.approx(math.e, rel=1e-3)


def test_tau_may_be_the_sum_of_losses_over_that_of_confidences():
    """MU-Bench's code: what was weighed less counts less."""
    curriculum, seen = SuperLoss(1.0, "confidence"), ([0.0, 4.0], [1.0, 3.0, 8.0], [0.5])
    sums = [0.0, 0.0]
    for batch in seen:
        tau = sums[0] / sums[1] if sums[1] else sum(batch) / len(batch)
        losses = torch.tensor(batch, dtype=torch.float64, requires_grad=True)
        curriculum(losses).sum().backward()
        confidence = [best_sigma(loss, tau, 1.0) for loss in batch]
        assert losses.grad.tolist() == pytest.approx(confidence, abs=1e-4)
        sums = [sums[0] + sum(batch), sums[1] + sum(confidence)]
    again = SuperLoss(1.0, "confidence")
    again.load_state_dict(curriculum.state_dict())
    assert torch.equal(again(torch.ones(2)), curriculum(torch.ones(2)))
