import pytest
import torch
from torch.nn import functional as F

from mubench_ray.methods import iu
from mubench_ray.training.loop import Loop
from mubench_ray.trial import Unlearning
from tests.methods.conftest import ce, logits


def gradient(network, loss):
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(network.parameters()))]).double()


def test_the_step_solves_the_newton_equation_with_the_influence_of_the_forget_set(case):
    ran = case.run("iu", Unlearning(batch_size=7), alpha=3.0, samples=25)
    network = case.network.eval()
    (xf, yf), (xr, yr) = case.set("forget"), case.set("retain")
    summed = [F.cross_entropy(logits(network, x), y, reduction="sum") for x, y in ((xf, yf), (xr, yr))]
    v = gradient(network, summed[0]) / 48 - 8 / (48 * 40) * gradient(network, summed[1])
    names = [name for name, _ in network.named_parameters()]
    step = torch.cat([(ran.after[n].double() - ran.before[n].double()).flatten() for n in names]) / 3.0
    ones = [index for index, _ in case.handed if len(index) == 1][-25:]
    assert len({int(i) for i in ones}) == 25
    G = torch.stack([gradient(network, ce(network, *case.at(i))) for i in ones])
    assert torch.allclose(step + G.T @ (G @ step) / 25, v, atol=1e-6)  # (I + mean of g g^T) step = v
    assert not torch.allclose(step, v, atol=1e-4)  # the inverse matters


def test_statistics_stay_and_at_most_all_of_the_retain_set_is_sampled(case):
    ran = case.run("iu")
    assert all(torch.equal(ran.before[n], ran.after[n]) for n, _ in case.network.named_buffers())
    ones = [int(i) for i, _ in case.handed if len(i) == 1]
    assert sorted(ones) == case.ctx.data.rows("retain").positions.tolist()


@pytest.mark.parametrize("rows", [1, 7, 13, 25])
def test_blocks_of_any_size_give_the_same_step(make_case, monkeypatch, rows):
    whole = make_case().run("iu", samples=25, alpha=5)
    case = make_case()
    monkeypatch.setattr(iu, "BLOCK_BYTES", rows * 4 * sum(p.numel() for p in case.network.parameters()))
    phases = [phase.name for phase in case.method("iu", samples=25).phases(case.ctx)]
    assert phases.count("sample") == -(-25 // rows) and ("sum of samples" in phases) == (rows < 25)
    ran = make_case().run("iu", samples=25, alpha=5)
    for name, tensor in whole.after.items():
        assert torch.allclose(ran.after[name], tensor, atol=1e-6, rtol=0), name
    assert max(float((whole.after[n] - whole.before[n]).abs().max()) for n in whole.after) > 1e-3


def test_no_more_than_a_block_of_gradients_is_kept(case, monkeypatch):
    """Counted in what autograd and the method allocate: 25 gradients would be 25 times the network."""
    size = sum(p.numel() for p in case.network.parameters())
    monkeypatch.setattr(iu, "BLOCK_BYTES", 3 * 4 * size)
    largest = 0

    def look(ctx):
        nonlocal largest
        held = [t for t in ctx.state.values() if isinstance(t, torch.Tensor)]
        largest = max(largest, sum(t.numel() * t.element_size() for t in held))

    case.ctx.keep_original()
    Loop(case.ctx, case.method("iu", samples=25).phases(case.ctx), Unlearning(batch_size=8), look).run()
    assert 3 * 4 * size < largest < (3 + 2) * 4 * size + 25 * 25 * 16


def test_with_half_its_budget_it_takes_a_step_by_what_it_has_seen(make_case):
    options = Unlearning(batch_size=4)
    whole = make_case().run("iu", options, samples=25)
    case = make_case()
    case.ctx.meter.cap_flos = whole.ctx.meter.flos / 2
    ran = case.run("iu", options, samples=25)
    assert ran.truncated and any(not torch.equal(ran.after[n], ran.before[n]) for n in ran.after)
    ways = [
        torch.cat([(r.after[n] - r.before[n]).flatten() for n, _ in case.network.named_parameters()])
        for r in (ran, whole)
    ]
    assert torch.cosine_similarity(*ways, dim=0) > 0.8


@pytest.mark.parametrize("share", [0.3, 0.6, 0.8, 0.95])
def test_a_budget_over_several_blocks_leaves_a_step_that_solves_for_the_samples_it_used(make_case, monkeypatch, share):
    case, found = make_case(), {}
    monkeypatch.setattr(iu, "BLOCK_BYTES", 7 * 4 * sum(p.numel() for p in case.network.parameters()))
    solve, step = iu.InfluenceUnlearning.solve, iu.InfluenceUnlearning.step

    def noted_solve(self, ctx):
        found.update(
            v=ctx.state["v"].double().clone(), rows=ctx.state["rows"].clone(), places=ctx.state["places"].clone()
        )
        solve(self, ctx)

    def noted_step(self, ctx):
        found.update(x=ctx.state["v"].double().clone())
        step(self, ctx)

    monkeypatch.setattr(iu.InfluenceUnlearning, "solve", noted_solve)
    monkeypatch.setattr(iu.InfluenceUnlearning, "step", noted_step)
    options = Unlearning(batch_size=4)
    flos = make_case().run("iu", options, samples=25).ctx.meter.flos
    case.ctx.meter.cap_flos = share * flos
    assert case.run("iu", options, samples=25).truncated
    v, x, places = found["v"], found["x"], found["places"]
    G = torch.stack(
        [gradient(case.original.requires_grad_(), ce(case.original, *case.at(places[[i]]))) for i in range(25)]
    )
    off = [float((x + g.T @ (g @ x) / len(g) - v).norm() / v.norm()) for g in (G[found["rows"]], G)]
    assert min(off) < 1e-5, off
