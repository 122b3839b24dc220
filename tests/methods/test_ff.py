import numpy as np
import pytest
import torch
from scipy import stats

from mubench_ray.methods import ff
from mubench_ray.tasks.base import Task
from tests.methods.conftest import log_softmax, without_after


def fisher_by_hand(case):
    """Mean over D_R of sum_y p(y | x) (grad log p(y | x))^2, one example and one class at a time, in eval mode."""
    network = case.network.eval()
    named = dict(network.named_parameters())
    total = {name: torch.zeros_like(p) for name, p in named.items()}
    x, _ = case.set("retain")
    for one in x:
        log_probs = log_softmax(network, one[None])[0]
        for log_p in log_probs:
            for name, g in zip(named, torch.autograd.grad(log_p, list(named.values()), retain_graph=True)):
                total[name] += log_p.exp().detach() * g**2
    return {name: t / len(x) for name, t in total.items()}


@pytest.mark.parametrize("model", ["cnn-small", "vit-tiny"])
def test_the_fisher_information_is_the_expectation_over_all_classes(make_case, model):
    case = make_case(model)
    case.phases("ff", take=without_after)
    for name, expected in fisher_by_hand(case).items():
        assert torch.allclose(case.ctx.state["fisher"][name] / 40, expected, rtol=1e-4, atol=1e-6), name


def test_a_backward_pass_a_label_gives_the_same_as_all_at_once(make_case, monkeypatch):
    totals = []
    for apart in (False, True):
        monkeypatch.setattr(ff, "is_parametrized", lambda module, apart=apart: apart)
        case = make_case()
        case.phases("ff", take=without_after)
        totals.append(case.ctx.state["fisher"])
    assert all(torch.allclose(totals[0][name], totals[1][name], rtol=1e-4, atol=1e-6) for name in totals[0])
    assert totals[0].keys() == totals[1].keys()


def test_noise_has_the_clipped_inverse_as_variance_and_ten_times_that_on_the_head(case):
    fisher = fisher_by_hand(case)
    ran = case.run("ff", alpha=1e-4)
    standard, last = [], []
    for name, F in fisher.items():
        variance = 1e-4 * (1 / F).clamp(max=1e3) * (10 if name.startswith("head.") else 1)
        z = (ran.after[name] - ran.before[name]) / variance.sqrt()
        if z.numel() > 200:
            assert z.std() == pytest.approx(1, rel=0.1), name
        standard.append(z.flatten())
        if name.startswith("head."):
            last.append(z.flatten())
    assert torch.cat(last).std() == pytest.approx(1, rel=0.3)  # without its ten times it would be 0.3
    standard = torch.cat(standard).numpy()
    assert stats.kstest(standard, "norm").pvalue > 1e-3
    assert (np.concatenate([(1 / F).flatten().numpy() for F in fisher.values()]) > 1e3).any()  # some are clipped


def test_noise_follows_the_seed_alone_and_scales_with_the_root_of_alpha(make_case):
    change = {}
    for alpha in (1e-6, 1e-4):
        case = make_case()
        ran = case.run("ff", alpha=alpha)
        change[alpha] = ran.after["stages.2.0.weight"].double() - ran.before["stages.2.0.weight"].double()
    assert torch.allclose(change[1e-4], 10 * change[1e-6], rtol=1e-2, atol=1e-5)


def test_it_touches_every_parameter_and_no_statistic_and_reads_the_retain_set_once(case):
    ran = case.run("ff")
    parameters = {name for name, _ in case.network.named_parameters()}
    assert {name for name in ran.before if not torch.equal(ran.before[name], ran.after[name])} == parameters
    seen = [i for index, _ in case.handed for i in index.tolist()]
    assert sorted(seen) == case.ctx.data.rows("retain").positions.tolist()


def test_where_targets_are_sequences_they_are_drawn_from_the_model(make_case):
    """Many draws of one label an example come near the exact expectation."""

    class Sequences(type(make_case().ctx.task)):
        kind = "generation"

    assert issubclass(Sequences, Task)
    exact, drawn = fisher_by_hand(make_case()), []
    for seed in range(1, 21):
        case = make_case(seed=seed)
        case.ctx.task.__class__ = Sequences
        case.phases("ff", take=without_after)
        drawn.append({name: f / 40 for name, f in case.ctx.state["fisher"].items()})
    for name, F in exact.items():
        mean = torch.stack([d[name] for d in drawn]).mean(0)
        assert float(mean.sum()) == pytest.approx(float(F.sum()), rel=0.3), name


def test_squares_of_batches_as_released_code_has_them(case):
    """The squared gradient of a batch's mean log p(y), by the batch's mean p(y)."""
    network, (x, _) = case.network.eval(), case.set("retain")
    probs = log_softmax(network, x).exp().mean(0)
    expected = {name: torch.zeros_like(p) for name, p in network.named_parameters()}
    for y in range(len(probs)):
        gradients = torch.autograd.grad(log_softmax(network, x)[:, y].mean(), list(network.parameters()))
        for (name, total), gradient in zip(expected.items(), gradients):
            expected[name] = total + probs[y].detach() * gradient.square()
    case.phases("ff", squared="batches", take=without_after)
    assert case.ctx.state["examples"] == 1
    for name, total in case.ctx.state["fisher"].items():
        assert torch.allclose(total, expected[name], rtol=1e-4, atol=1e-9), name
