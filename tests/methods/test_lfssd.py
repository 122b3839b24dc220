import pytest
import torch

from mubench_ray.errors import MubenchError
from mubench_ray.methods import METHODS
from mubench_ray.tasks.base import Task
from tests.methods.conftest import logits


def importance(case, name):
    """Mean over the set of the size of the gradient of the squared length of the logits, example by example, in eval mode."""
    network = case.network.eval()
    x, _ = case.set(name)
    rows = [torch.autograd.grad((logits(network, one[None]) ** 2).sum(), list(network.parameters())) for one in x]
    return [torch.stack(gradients).abs().mean(0) for gradients in zip(*rows)]


@pytest.mark.parametrize(("alpha", "dampening"), [(1.3, 1.0), (1.1, 0.3)])
def test_weights_that_move_the_logits_of_the_forget_set_more_shrink_and_no_others(case, alpha, dampening):
    forget, retain = importance(case, "forget"), importance(case, "retain")
    ran = case.run("lfssd", alpha=alpha, dampening=dampening)
    chosen = 0
    for (name, p), f, r in zip(case.network.named_parameters(), forget, retain):
        d = (8 * f + 40 * r) / 48
        unclear = (f - alpha * d).abs() < 1e-5 * d
        factor = torch.where(f > alpha * d, torch.clamp(dampening * d / f, max=1.0), 1.0)
        assert torch.allclose(ran.after[name][~unclear], (p * factor)[~unclear], atol=1e-6), name
        chosen += int((factor < 1).sum())
    assert chosen > 20
    assert all(torch.equal(ran.before[n], ran.after[n]) for n, _ in case.network.named_buffers())


def test_labels_play_no_part(case, make_case):
    other = make_case()
    columns = other.ctx.data.rows("forget").examples.columns
    columns["labels"] = (columns["labels"] + 1) % 4
    ends = [one.run("lfssd", alpha=1.2).after for one in (case, other)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_an_alpha_that_can_choose_nothing_and_a_task_without_logits_are_refused(case):
    class Summaries(Task):
        name, kind = "summaries", "generation"

    with pytest.raises(MubenchError, match=r"lfssd.alpha = 6 .* at most N / \|D_F\| = 6"):
        case.run("lfssd", alpha=6.0)
    assert "logits" in METHODS.get("lfssd").refusal(Summaries)
