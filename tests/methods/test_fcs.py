import math

import torch

from mubench_ray.methods import METHODS
from mubench_ray.tasks.base import Task
from mubench_ray.trial import Unlearning
from tests.methods.conftest import assert_same, ce, descend, logits

LR = 0.05


def contrast(network, xr, xf, temperature):
    """-mean over D_F x D_R pairs of log softmax over D_R of z_f . z_r / T; z_r takes no gradient."""
    zr = logits(network, xr).detach()
    zf = logits(network, xf)
    scores = torch.stack([torch.stack([(f * r).sum() / temperature for r in zr]) for f in zf])
    return -(scores - scores.logsumexp(1, keepdim=True)).mean()


def test_all_passes_of_two_epochs_by_hand(case):
    (xf, _), (xr, yr) = case.set("forget"), case.set("retain")
    network = case.network
    log_probs = torch.log_softmax(logits(network, xf), 1)
    descend(network, (math.log(1 / 4) - log_probs).mean(), lr=1.25 * LR)  # KL(uniform || f_U)
    for epoch in range(2):
        top = 0.5 * LR
        rate = 1e-6 + (top - 1e-6) * (1 + math.cos(math.pi * epoch / 2)) / 2
        descend(network, contrast(network, xr, xf, 1.15), lr=rate)
        decay = {name: p.detach().clone() for name, p in network.named_parameters()}
        descend(network, ce(network, xr, yr))
        for name, p in network.named_parameters():
            p.data -= LR * 0.01 * decay[name]
    decayed = Unlearning(
        optimizer="sgd", momentum=0.0, batch_size=64, weight_decay=0.3
    )  # the trial's enters none of the three
    case.run("fcs", decayed, epochs=2, contrast_lr_factor=0.5)
    assert_same(case.ctx.network, network)


def test_the_uniform_pass_comes_once_and_contrast_and_repair_in_turns(case):
    phases = case.method("fcs", epochs=3).phases(case.ctx)
    assert [p.name for p in phases] == ["uniform", *["contrast", "repair"] * 3]
    assert [p.on for p in phases[:3]] == ["forget", "paired", "retain"] and phases[1].driver == "forget"


def test_a_contrast_pass_covers_the_forget_set_once(case):
    case.phases("fcs", Unlearning(batch_size=3), take=lambda phases: phases[1:2])
    forgotten = [i for index, forget in case.handed if forget.all() for i in index.tolist()]
    assert sorted(forgotten) == case.ctx.data.rows("forget").positions.tolist()


def test_it_refuses_what_has_no_single_vector_of_logits():
    class Summaries(Task):
        name, kind = "summaries", "generation"

    assert "summaries is generation" in METHODS.get("fcs").refusal(Summaries)
