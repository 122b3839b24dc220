import copy

import pytest
import torch

from mubench_ray.errors import MubenchError
from mubench_ray.training.loop import Loop
from tests.methods.conftest import PLAIN, assert_same, ce, descend


def norms(network):
    return {
        f"{n}.{own}"
        for n, m in network.named_modules()
        if "Norm" in type(m).__name__
        for own, _ in m.named_parameters(recurse=False)
    }


def test_noise_falls_on_what_no_earlier_epoch_trained_and_every_epoch_has_an_optimiser_of_its_own(make_case):
    """As released code has it."""
    case = make_case("vit-tiny")
    phases, trained, some = case.method("rni", fine_epochs=3).phases(case.ctx), set(), 0
    for epoch, phase in enumerate(phases[:5]):
        names = set(phase.parameters(case.ctx))
        if epoch:
            noise = phase.before.keywords["names"]
            expected = names - norms(case.network) - trained
            assert set(noise) <= expected and max(0, len(expected) - 3) <= len(noise) <= min(
                6, len(expected)
            )  # 6 of 9 were to get it
            some += len(noise)
        trained |= names
    assert some > 6
    assert len({phase.optimizer.name for phase in phases}) == len(phases) == 8
    one = case.method("rni", fresh=False).phases(case.ctx)
    assert {phase.optimizer.name for phase in one} == {"main"}


def test_what_every_epoch_trains_and_where_noise_falls(make_case):
    case = make_case("vit-tiny")
    case.ctx.keep_original()
    phases, noised, sets = case.method("rni", noise_on="once", fresh=False).phases(case.ctx), set(), []
    assert [p.epochs for p in phases] == [1, 1, 1, 1, 1, 4]
    for epoch, phase in enumerate(phases):
        before = copy.deepcopy(case.ctx.network)
        phase.before and phase.before(case.ctx)
        change = {
            n: (p - q).detach()
            for (n, p), q in zip(case.ctx.network.named_parameters(), before.parameters())
            if not torch.equal(p, q)
        }
        trained = set(dict(before.named_parameters())) if phase.parameters is None else set(phase.parameters(case.ctx))
        assert norms(before) <= trained
        if epoch == 0:
            assert set(change) == {"classifier.weight"}  # its bias starts at zero, as it was
        if epoch < 5:
            assert len(trained - norms(before)) == 9
            sets.append(frozenset(trained))
        if 0 < epoch < 5:
            assert 0 < len(change) <= 6 and not set(change) & noised and set(change) <= trained - norms(before)
            noised |= set(change)
            noise = torch.cat([c.flatten() for c in change.values()])
            assert noise.std() == pytest.approx(0.04, rel=0.15)
        if epoch == 5:
            assert not change
        middle = copy.deepcopy(case.ctx.network)
        Loop(case.ctx, [phase.__class__(**{**vars(phase), "before": None})], PLAIN).run()
        for (name, p), q in zip(case.ctx.network.named_parameters(), middle.parameters()):
            assert name in trained or torch.equal(p, q), name
    assert len(set(sets)) > 1 and len(noised) > 12


def test_an_early_and_a_fine_step_by_hand(case):
    case.ctx.keep_original()
    early, _, fine = case.method("rni", early_epochs=2, fine_epochs=1, tensors=2, noisy=1).phases(case.ctx)
    network, (x, y) = case.network, case.set("retain")
    network.head.load_state_dict(case.ctx.fresh_network("rni").head.state_dict())
    descend(network, ce(network, x, y), only=set(early.parameters(case.ctx)))
    Loop(case.ctx, [early], PLAIN).run()
    assert_same(case.ctx.network, network)
    descend(network, ce(network, x, y))
    Loop(case.ctx, [fine], PLAIN).run()
    assert_same(case.ctx.network, network)


def test_with_fewer_than_two_early_epochs_it_would_add_no_noise_and_is_refused(case):
    with pytest.raises(MubenchError, match="early_epochs"):
        case.method("rni", early_epochs=1)


def test_a_small_network_trains_all_its_tensors_and_noises_each_at_most_once(case):
    phases = case.method("rni", early_epochs=4, noise_on="once").phases(case.ctx)
    names = [name for phase in phases[1:4] for name in phase.before.keywords["names"]]
    assert len(names) == len(set(names)) == 5
