"""What methods measure, draw or make before they take a step, beside what released code measures, draws and makes: masks, importances, labels, pictures,
weights of gradients, certificates. ``authors.json`` keeps the figures of that code."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from mubench_ray.methods import assd, natmu
from mubench_ray.methods.munba import weights
from mubench_ray.methods.noisy_fine_tuning import certified, divergence, rounds
from mubench_ray.training.superloss import SuperLoss
from tests.released import cases
from tests.released.departures import Departure, all_tokens_alike, changed, configured, first_batch_lost
from tests.released.ours import KEPT, RELEASED, World

ATOL = 1e-6


def bits(mask: dict[str, torch.Tensor]) -> str:
    """A mask as text."""
    return "".join(str(int(b)) for part in mask.values() for b in part.flatten())


def test_saluns_mask_is_its_authors_and_mu_benchs_loses_a_batch():
    found = {}
    for name, change in (("ours", lambda *_: None), ("lost", first_batch_lost)):
        world = World()
        world.run(configured("salun", {"tau": 0.5}), lambda w, m, p, change=change: (change(w, m, p) or p)[:1])
        found[name] = bits(world.ctx.mask)
    assert found["ours"] == RELEASED["salun/mask"]["mask"] != found["lost"] == RELEASED["mu_bench/salun_mask"]["mask"]


def test_raw_logits_into_kl_are_no_number():
    """MU-Bench's Bad-T and SCRUB as released."""
    assert RELEASED["mu_bench/bad_t"]["released_loss"] == "nan"
    assert RELEASED["mu_bench/scrub"]["released_loss"] == "[nan, nan]"


def test_random_labels_are_drawn_here_and_mu_benchs_are_the_next():
    """MU-Bench's are the class after the true one whatever the seed; SalUn's are any class; ours any other, as both papers say."""
    true = torch.arange(cases.FORGET) % cases.CLASSES
    assert RELEASED["mu_bench/rand_label"]["labels"] == ((true + 1) % cases.CLASSES).tolist()
    steps = Counter()
    world = World()
    forget = world.batch("forget")
    for seed in range(200):
        world.ctx.seed = seed
        steps.update(((world.ctx.relabel(forget)["labels"] - true) % cases.CLASSES).tolist())
    assert set(steps) == {1, 2, 3, 4, 5} and max(steps.values()) < 1.25 * min(steps.values())


def test_mu_benchs_npo_is_gradient_ascent():
    """On texts, whose mean log-likelihood a token leaves its sigmoid straight; the sum over the tokens, its authors', does not."""
    ascent, npo = World(text="uneven"), World(text="uneven")
    start = ascent.vector()
    ascent.run(configured("neggrad", {"epochs": 1}), changed((Departure("", change=all_tokens_alike),)))
    npo.run(configured("npo", {"epochs": 1, "gamma": 0.0}))
    up = ascent.vector() - start
    mu_bench = torch.zeros_like(up)
    gradient = torch.tensor(RELEASED["mu_bench/npo_text"]["gradient_forget"], dtype=torch.float64)
    mu_bench[: len(gradient)] = -gradient
    ours = npo.vector() - start
    like, unlike = (float(F.cosine_similarity(up, way, dim=0)) for way in (mu_bench, ours))
    assert like > 1 - 1e-9 and float(mu_bench.norm() / up.norm()) == pytest.approx(1.0, abs=0.02)
    assert unlike < 0.999


def test_superloss_weighs_and_centres_as_mu_benchs():
    """tau of ``confidence``; the confidences there are read from a table, which is .02 off at most; the running mean is another tau."""
    kept = RELEASED["mu_bench/superloss"]["batches"]
    weighing, mean, total, count = SuperLoss(10.0, "confidence"), SuperLoss(10.0), 0.0, 0.0
    for i, batch in enumerate(kept):
        losses = (3 * cases.drawn(5, seed=90 + i).abs()).requires_grad_()
        (sigma,) = torch.autograd.grad(weighing(losses).sum(), losses)
        assert sigma.tolist() == pytest.approx(batch["confidence"], abs=0.02)
        assert batch["tau"] == pytest.approx(float(losses.detach().mean()) if i == 0 else total / count, rel=1e-6)
        total, count = total + float(losses.detach().sum()), count + sum(batch["confidence"])
        (plain,) = torch.autograd.grad(mean(losses).sum(), losses)
        assert i == 0 or float((plain - sigma).abs().max()) > 1e-3
        assert weighing.total / weighing.count == pytest.approx(total / count, rel=0.01)


def test_scrubs_rates_and_rewind():
    """The rates are its authors'. The rewind is theirs, but for the network from before the first epoch, which it can name and of which there is no file,
    and for equals, of which theirs takes the first and ours the latest."""
    kept = RELEASED["scrub/rates_and_rewind"]
    world = World()
    phases = configured("scrub", {"epochs": 12, "msteps": 1}).phases(world.ctx)
    assert [p.optimizer.lr / cases.LR for p in phases if p.name == "min"] == pytest.approx(kept["rates"])
    method, named = configured("scrub", {}), []
    for case in kept["rewinds"]:
        world = World()
        ends = [{**cases.network().state_dict(), "head.bias": torch.full((6,), float(i))} for i in range(4)]
        world.ctx.state["ends"] = list(zip(case["errors"], ends))[1:]
        world.ctx.error = lambda name, case=case: case["target"]
        method.finish(world.ctx)
        named.append((int(world.ctx.network.head.bias[0]), case["chosen"]))
    assert named == [(2, 2), (3, 2), (1, 0), (3, 0), (2, 1)]


def test_what_ssd_and_lfssd_measure_and_assds_alpha(monkeypatch):
    for name in ("ssd", "lfssd"):
        world = World("original")
        world.run(configured(name, {}), lambda w, m, p: [replace(p[0], after=None)])
        kept, state = RELEASED[name], world.ctx.state
        sums = (
            (state["forget"], state["all"])
            if name == "ssd"
            else (state["forget importance"], state["retain importance"])
        )
        forget, other = (torch.cat([t.flatten() for t in part.values()]) for part in sums)
        everything = (other if name == "ssd" else forget + other) / (cases.FORGET + cases.RETAIN)
        for ours, of in ((forget / cases.FORGET, "importance_forget"), (everything, "importance_all")):
            assert torch.allclose(ours, torch.tensor(kept[of]), rtol=1e-4, atol=1e-6)
    expected, ends, alphas, plain = torch.tensor(RELEASED["assd"]["after"], dtype=torch.float64), [], [], assd.dampen
    monkeypatch.setattr(assd, "dampen", lambda *given: (alphas.append(given[3]), plain(*given)))
    for _ in range(2):
        world = World("original")
        world.run(configured("assd", {"dampening": 1.0}))
        ends.append(float((world.vector() - expected).abs().max()))
        monkeypatch.setattr(assd, "whole", lambda ctx, forget, retain: retain)  # D_R in the place of D
    assert ends[0] > 1e-3 and ends[1] <= ATOL
    assert alphas[1] == pytest.approx(RELEASED["assd"]["alpha"], rel=1e-4) and alphas[0] < alphas[1]


def test_jit_sums_its_batch(monkeypatch):
    noise = [cases.drawn(cases.FORGET, 3, 8, 8, seed=200 + i) for i in range(3)]
    expected, ends = torch.tensor(RELEASED["jit"]["after"], dtype=torch.float64), []
    for rate in (1.0, float(cases.FORGET)):
        world = World()

        def in_order(w, method, phases):
            loss = phases[0].loss

            def with_noise(ctx, forget):
                draws = iter(noise)
                monkeypatch.setattr(torch, "randn", lambda *_, **__: next(draws)[forget["index"]])
                return loss(ctx, forget)

            return [replace(phases[0], loss=with_noise)]

        world.ctx.lr = cases.LR * rate
        world.run(configured("jit", {"samples": 3, "sigma": 0.3}), in_order)
        monkeypatch.undo()
        ends.append(float((world.vector() - expected).abs().max()))
    assert ends[0] > 1e-3 and ends[1] <= ATOL


def test_munbas_weights_are_its_bargains():
    """The weights there divide by g_r . g_f, so that their own last digits differ."""
    world = World()
    world.ctx.network.train()
    gradients = []
    for name, labels in (("retain", None), ("forget", cases.wrong_labels("any"))):
        batch = world.batch(name)
        loss = world.ctx.loss(batch if labels is None else batch.replace(labels=labels))
        names, parameters = zip(*world.ctx.network.named_parameters())
        gradients.append(dict(zip(names, torch.autograd.grad(loss, parameters))))
    assert [float(w) for w in weights(*gradients)] == pytest.approx(RELEASED["munba"]["weights"], rel=1e-4)


def test_amuns_pictures():
    world, kept = World("original"), RELEASED["amun"]
    forget = world.ctx.data.rows("forget")
    found, labels = configured("amun", {}).crossed(world.ctx, world.ctx.data.batch(forget, torch.arange(len(forget))))
    mean, std = (torch.tensor(of).view(1, -1, 1, 1) for of in (cases.MEAN, cases.STD))
    pictures = found * std + mean
    assert labels.tolist() == kept["labels"]
    start = cases.pictures()["forget"][0].float() / 255
    assert (pictures - start).flatten(1).norm(dim=1).tolist() == pytest.approx(kept["length"], abs=1e-5)
    assert pictures.flatten(1).sum(1).tolist() == pytest.approx(kept["picture_sums"], abs=1e-4)
    assert pictures[0, 0].flatten().tolist() == pytest.approx(kept["first_picture"], abs=1e-5)


def test_natmus_hybrids():
    """Masks, classes and hybrids; the one thing more there is the rounding down to bytes."""
    kept = RELEASED["natmu"]
    masks = natmu.masks(32, 32, -0.19)
    assert masks[[0, 2], :, 0].flatten().tolist() == pytest.approx(kept["mask_rows"], abs=ATOL)
    assert masks[[1, 3], 0].flatten().tolist() == pytest.approx(kept["mask_columns"], abs=ATOL)
    small, method = World("original"), configured("natmu", {})
    assert method.classes(small.ctx, small.ctx.data.rows("forget"), list(range(6))) == kept["classes"]
    world = World("original", enlarged=4)
    seen = []
    world.ctx.loss = seen.append
    world.ctx.state |= {
        "partners": torch.tensor(kept["partners"]).view(cases.FORGET, 4),
        "place": torch.arange(cases.FORGET + cases.RETAIN),
    }
    method.hybrids(world.ctx, world.batch("forget"))
    mean, std = (torch.tensor(of).view(1, -1, 1, 1) for of in (cases.MEAN, cases.STD))
    hybrids = (seen[0].inputs["pixel_values"] * std + mean) * 255
    assert seen[0]["labels"].tolist() == kept["hybrid_labels"]
    assert (hybrids + 1e-3).floor().sum((1, 2, 3)).tolist() == pytest.approx(kept["hybrid_sums"], abs=3)
    assert (hybrids[0, 0, :, 0] + 1e-3).floor().tolist() == kept["first_hybrid_rows"]


def test_boundary_expand_widens_trains_and_cuts_off(monkeypatch):
    """The shadow class's first weights are those drawn there."""
    kept, world = RELEASED["boundary_expand"], World()
    drawn = torch.tensor(kept["shadow"])[None]
    monkeypatch.setattr("mubench_ray.methods.boundary_expand.normal", lambda weight, std, generator: drawn)
    method = configured("boundary_expand", {"epochs": 2})
    world.run(method, momentum=0.9)
    method.finish(world.ctx)
    assert torch.allclose(world.vector(), torch.tensor(kept["after"], dtype=torch.float64), atol=ATOL, rtol=1e-6)


def test_mu_benchs_sample_of_what_is_kept_holds_what_is_forgotten():
    """Its numbers are those of rows of D_R, and the rows that they pick are D's. Ours are of D_R, which the conformance suite looks after."""
    kept = RELEASED["mu_bench/bad_t_sample"]
    assert kept["sampled"] == 100 and kept["of_forget"] == 31 and kept["largest"] < 300


def test_unsirs_noise_is_trained_against_a_network_that_stands_still(monkeypatch):
    """Its authors' network stands in train mode: there the noise is another, and BatchNorm's statistics are the noise's."""
    world = World("original")

    def given(w, method, phases):
        def draw(ctx):
            method.draw(ctx)
            ctx.state["noise"] = cases.drawn(cases.FORGET, 3, 8, 8, seed=210)

        return [replace(phases[0], before=draw)]

    world.run(configured("unsir", {"noise_steps": 10}), given)
    noise = world.ctx.state["noise"]
    still, moving = (RELEASED[f"unsir/{mode}"] for mode in ("eval", "train"))
    assert noise.flatten(1).sum(1).tolist() == pytest.approx(still["sums"], abs=2e-3)
    assert noise[0, 0].flatten().tolist() == pytest.approx(still["first"], abs=1e-4)
    assert float((noise[0, 0].flatten() - torch.tensor(moving["first"])).abs().max()) > 1e-2
    start = torch.tensor(KEPT["problem"]["network original"][-4:])
    assert still["statistics"] == pytest.approx(start.tolist())
    assert float((torch.tensor(moving["statistics"]) - start).abs().max()) > 0.1


def test_sfrons_mask():
    world = World()
    world.run(configured("sfron", {}), lambda w, m, p: p[:1])
    assert bits(world.ctx.state["mask"]) == RELEASED["sfron"]["mask"]


def test_a_noisy_step_and_its_certificate():
    """The step is theirs, and the Renyi divergence of their noise at order 1 is the one that they ask for. What they call its epsilon takes it for the
    same at every order, where it grows with the order."""
    kept = RELEASED["noisy_fine_tuning"]
    for row in kept["certificates"]:
        ball = (row["radius"], row["clip"], row["rate"], row["decay"])
        assert rounds(*ball) == row["rounds"]
        rho = divergence(row["sigma"], *ball, row["rounds"])
        assert rho == pytest.approx(row["renyi"], rel=1e-9)
        assert certified(rho, row["delta"]) > 3 * row["epsilon"]
    assert certified(1.0, 1e-5) == pytest.approx(7.1, abs=0.05)
    world, method = World(), configured("noisy_fine_tuning", {"radius": 0.5, "clip": 0.2, "rate": 0.05, "decay": 2.0})

    def given(w, m, phases):
        def pull(ctx):
            method.pull(ctx)
            ctx.state["sigma"] = kept["step_sigma"]

        noise = iter([cases.drawn(*p.shape, seed=220 + i) for i, p in enumerate(w.ctx.network.parameters())])
        monkey.setattr("mubench_ray.methods.noisy_fine_tuning.normal", lambda p, sigma, generator: sigma * next(noise))
        return [replace(phases[0], before=pull)]

    with pytest.MonkeyPatch.context() as monkey:
        world.run(method, given)
    expected = torch.tensor(kept["after"], dtype=torch.float64)
    assert torch.allclose(world.vector()[: len(expected)], expected, atol=ATOL, rtol=0)


def test_ius_step_inverts_and_the_released_one_does_not():
    """(I + mean g g^T) step = v holds for ours; the release's recursion misses it by 87 times the length of v."""
    world = World()
    before = world.vector()[:112]
    network = cases.network().eval()
    gradients = {}
    for name in ("forget", "retain"):
        batch = world.batch(name)
        rows = []
        for x, y in zip(batch.inputs["pixel_values"], batch["labels"]):
            loss = F.cross_entropy(network(x[None]), y[None])
            rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(network.parameters()))]))
        gradients[name] = torch.stack(rows).double()
    forget, retain = gradients["forget"], gradients["retain"]
    size = len(forget) + len(retain)
    v = forget.sum(0) / size - len(forget) / (size * len(retain)) * retain.sum(0)
    world.run(configured("iu", {"alpha": 1.0}))
    ours, released = world.vector()[:112] - before, torch.tensor(RELEASED["salun/iu"]["moved"], dtype=torch.float64)

    def missed(step):
        return float((step + retain.T @ (retain @ step) / len(retain) - v).norm() / v.norm())

    assert missed(ours) < 1e-4 < 10 < missed(released)


def test_ffs_information_is_the_models_and_the_released_one_that_of_the_labels():
    """sum_y p_y (grad log p_y)^2 here, (grad log p of the true label)^2 there."""
    world = World()
    world.run(configured("ff", {}), lambda w, m, p: [replace(p[0], after=None)])
    fisher = world.ctx.state["fisher"]
    ours = torch.cat([fisher[name].flatten() for name, _ in world.ctx.network.named_parameters()]) / cases.RETAIN
    network, batch = cases.network().eval(), world.batch("retain")
    empirical, expected = torch.zeros_like(ours), torch.zeros_like(ours)
    for x, y in zip(batch.inputs["pixel_values"], batch["labels"]):
        log_probs = F.log_softmax(network(x[None]), 1)[0]
        for label in range(cases.CLASSES):
            found = torch.autograd.grad(log_probs[label], list(network.parameters()), retain_graph=True)
            square = torch.cat([g.flatten() for g in found]).square() / cases.RETAIN
            expected += log_probs[label].exp().detach() * square
            empirical += square * (label == y)
    released = torch.tensor(RELEASED["salun/ff"]["information"])
    assert torch.allclose(ours, expected, rtol=1e-4, atol=1e-7)
    assert torch.allclose(released, empirical, rtol=1e-3, atol=1e-6)
    assert float((ours - released).norm() / released.norm()) > 0.1
