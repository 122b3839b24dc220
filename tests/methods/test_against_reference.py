"""Whole runs beside plain-torch implementations written from the papers' algorithms: same start, same data, same batches, the same parameters at the end.

Methods that train f_O on here; one-shot updates and those that first damage the weights in ``test_against_reference_damage.py``. A run goes through the
package as a trial does (artifacts, split, loop); the reference shares f_O, the tensors, the order of the batches and the random draws, nothing else.
"""

import copy

import pytest
import torch
from torch.nn import functional as F

from tests.methods.reference import (
    ADAM,
    SGD,
    World,
    accuracies,
    distill,
    error,
    optimizer_of,
    step,
)

BOTH = pytest.mark.parametrize("options", [SGD, ADAM], ids=["sgd", "adam"])


def rates(options):
    """A learning rate that moves the network without destroying it."""
    return 0.005 if options is SGD else 1e-3


@BOTH
def test_ft(same_end, options):
    """Train on D_R, cosine."""
    world, trial = same_end.start("ft", rates(options), options, epochs=2)
    net = world.network
    optimizer = optimizer_of(options, trial.lr, net.parameters())
    batches = list(world.batches("retain", 0, 2))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, len(batches))
    for _, at in batches:
        step(optimizer, F.cross_entropy(net(world.x[at]), world.y[at]))
        schedule.step()
    same_end(net)


@BOTH
def test_neggrad(same_end, options):
    """Ascend on D_F."""
    world, trial = same_end.start("neggrad", rates(options) / 4, options, epochs=3)
    net = world.network
    optimizer = optimizer_of(options, trial.lr, net.parameters())
    for _, at in world.batches("forget", 0, 3):
        step(optimizer, -F.cross_entropy(net(world.x[at]), world.y[at]))
    same_end(net)


@BOTH
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_neggrad_plus(same_end, options, mode):
    """alpha CE(D_R) - (1 - alpha) CE(D_F), D_F cycled; BatchNorm still (its authors) or not."""
    world, trial = same_end.start("neggrad_plus", rates(options), options, epochs=2, alpha=0.9, mode=mode)
    net = world.network.train(mode == "train")
    optimizer = optimizer_of(options, trial.lr, net.parameters())
    for _, keep, lose in world.paired(0, 2, "retain"):
        kept = F.cross_entropy(net(world.x[keep]), world.y[keep])
        step(optimizer, 0.9 * kept - 0.1 * F.cross_entropy(net(world.x[lose]), world.y[lose]))
    same_end(net)


@BOTH
@pytest.mark.parametrize("method, choices", [("rand_label", 9), ("srl", 10)])
def test_random_labels(same_end, options, method, choices):
    """Wrong labels once and for all (RandLabel), or any label, new in every epoch (SRL)."""
    world, trial = same_end.start(method, rates(options), options, epochs=2)
    net = world.network
    optimizer = optimizer_of(options, trial.lr, net.parameters())
    for epoch, at in world.batches("mixed", 0, 2):
        labels = world.wrong_labels(at, "once" if method == "rand_label" else (0, epoch), choices)
        step(optimizer, F.cross_entropy(net(world.x[at]), labels))
    same_end(net)


@BOTH
@pytest.mark.parametrize("form", ["passes", "mixed"])
def test_salun(same_end, options, form):
    """The mask of the largest summed gradients on D_F, then wrong labels under it; neither momentum nor decay moves what is masked. On CIFAR-10 its authors
    go over D_F, then over D_R."""
    world, trial = same_end.start("salun", rates(options), options, epochs=2, tau=0.3, form=form)
    net = world.network.eval()
    total = [torch.zeros_like(p) for p in net.parameters()]
    for _, at in world.batches("forget", 0):
        loss = F.cross_entropy(net(world.x[at]), world.y[at], reduction="sum")
        for held, gradient in zip(total, torch.autograd.grad(loss, list(net.parameters()))):
            held += gradient
    size = torch.cat([t.abs().flatten() for t in total])
    threshold = size.sort(descending=True).values[round(0.3 * len(size)) - 1]
    masks = [(t.abs() >= threshold).float() for t in total]
    net.train()
    optimizer = optimizer_of(options, trial.lr, net.parameters(), decay=False)
    order = [((1, epoch), at) for epoch, at in world.batches("mixed", 1, 2)]
    if form == "passes":
        sets = enumerate(["forget", "retain"] * 2, start=1)
        order = [((phase, 0), at) for phase, name in sets for _, at in world.batches(name, phase)]
    for when, at in order:
        loss = F.cross_entropy(net(world.x[at]), world.wrong_labels(at, when, 9))
        optimizer.zero_grad()
        loss.backward()
        for p, mask in zip(net.parameters(), masks):
            p.grad = (p.grad + options.get("weight_decay", 0.0) * p.detach()) * mask
        optimizer.step()
    same_end(net)


@BOTH
@pytest.mark.parametrize("form", ["paired", "mixed"])
def test_bad_t(same_end, options, form):
    """An incompetent teacher on D_F, f_O on D_R."""
    share = {} if form == "paired" else {"retain_share": 1.0}
    world, trial = same_end.start("bad_t", 5 * rates(options), options, epochs=2, form=form, temperature=2.0, **share)
    net, good, bad = world.network, world.teacher(), world.fresh("incompetent").eval()
    optimizer = optimizer_of(options, trial.lr, net.parameters())
    if form == "paired":
        for _, keep, lose in world.paired(0, 2, "forget"):
            with torch.no_grad():
                wise, foolish = good(world.x[keep]), bad(world.x[lose])
            # The package's passes: D_F first.
            lost = distill(foolish, net(world.x[lose]), 2.0)
            step(optimizer, (lost + distill(wise, net(world.x[keep]), 2.0)) / 2)
    else:
        world.retain = world.retain[torch.randperm(len(world.retain), generator=same_end.draw("bad_t"))]
        for _, at in world.batches("mixed", 0, 2):
            with torch.no_grad():
                member = world.is_forgotten(at).unsqueeze(1)
                teacher = torch.where(member, bad(world.x[at]), good(world.x[at]))
            step(optimizer, distill(teacher, net(world.x[at]), 2.0))
    same_end(net)


@BOTH
@pytest.mark.parametrize("form", ["alternating", "two_phase"])
def test_scrub(same_end, options, form):
    """SCRUB+R: max and min epochs in turns, one optimiser, then the checkpoint whose forget error is nearest the validation error."""
    lr = rates(options) / (20 if options is SGD else 2)  # T^2 and 1 / T make the max pass steep
    authors = form == "alternating"  # BatchNorm still, a rewind, the rate a tenth after the second and the third epoch
    still = authors and options is SGD  # where Adam's first max step has no gradient but rounding's
    given = {"mode": "eval" if still else "train", "decay_after": [2, 3] if authors else []}
    world, trial = same_end.start("scrub", lr, options, epochs=4, msteps=3, form=form, rewind=authors, **given)
    net, teacher, ends = world.network.train(not still), world.teacher(), []
    optimizer = optimizer_of(options, trial.lr, net.parameters())

    def maximise(phase):
        for _, at in world.batches("forget", phase):
            step(optimizer, -16 * distill(teacher(world.x[at]), net(world.x[at]), 4.0))

    def minimise(phase):
        for _, at in world.batches("retain", phase):
            student = net(world.x[at])
            step(optimizer, F.cross_entropy(student, world.y[at]) + 8 * distill(teacher(world.x[at]), student, 4.0))

    order = [maximise] * 3 + [minimise] * 4
    if form == "alternating":
        order = [maximise, minimise] * 3 + [minimise]
    for phase, run in enumerate(order):
        optimizer.param_groups[0]["lr"] = trial.lr * (0.1 ** max(0, len(ends) - 1) if authors else 1)
        run(phase)
        if run is minimise:
            ends.append((error(net, world.x[world.forget], world.y[world.forget]), copy.deepcopy(net)))
    if form == "alternating":
        target = error(net, *world.validation)
        _, last = min((abs(e - target), -place) for place, (e, _) in enumerate(ends))
        net = ends[-last][1]
    same_end(net)


@BOTH
def test_npo(same_end, options):
    """-(2 / beta) log sigmoid(-beta log ratio) on D_F, CE on D_R."""
    world, trial = same_end.start("npo", rates(options) / 4, options, epochs=3, beta=0.5, gamma=0.7)
    net, reference = world.network, world.teacher()
    optimizer = optimizer_of(options, trial.lr, net.parameters())
    for _, keep, lose in world.paired(0, 3, "forget"):
        now = -F.cross_entropy(net(world.x[lose]), world.y[lose], reduction="none")
        before = -F.cross_entropy(reference(world.x[lose]), world.y[lose], reduction="none")
        preference = 2 / 0.5 * torch.log1p((now.exp() / before.exp()) ** 0.5).mean()
        step(optimizer, preference + 0.7 * F.cross_entropy(net(world.x[keep]), world.y[keep]))
    same_end(net)


@BOTH
def test_delete(same_end, options):
    """f_O with the true class struck out is the target."""
    world, trial = same_end.start("delete", rates(options), options, epochs=3)
    net, reference = world.network, world.teacher()
    optimizer = optimizer_of(options, trial.lr, net.parameters())
    for _, at in world.batches("forget", 0, 3):
        target = F.softmax(reference(world.x[at]), 1)
        target[torch.arange(len(at)), world.y[at]] = 0
        target = target / target.sum(1, keepdim=True)
        entropy = -torch.special.entr(target).sum(1)
        student = F.log_softmax(net(world.x[at]), 1)
        step(optimizer, (entropy - (target * student).sum(1)).mean())
    same_end(net)


@BOTH
def test_l1_sparse(same_end, options):
    """CE(D_R) + a falling L1 penalty."""
    world, trial = same_end.start("l1_sparse", rates(options), options, epochs=4, alpha=1e-3)
    net = world.network
    optimizer = optimizer_of(options, trial.lr, net.parameters())
    for epoch, at in world.batches("retain", 0, 4):
        penalty = sum(p.norm(1) for p in net.parameters())
        step(optimizer, F.cross_entropy(net(world.x[at]), world.y[at]) + 1e-3 * (1 - epoch / 4) * penalty)
    same_end(net)


@BOTH
@pytest.mark.parametrize("pull", [0.0, 0.2])
@pytest.mark.parametrize("method", ["cf_k", "eu_k"])
def test_last_stages(same_end, options, method, pull):
    """Only the last stage and the head train, after they were drawn anew (EU-k) or not (CF-k); the others' statistics stay. Released code's: in eval mode, with
    a pull to where they started."""
    given = {"pull": pull, "mode": "eval"} if pull else {}
    world, trial = same_end.start(method, rates(options), options, epochs=3, k=1, **given)
    net = world.network
    if method == "eu_k":
        fresh = world.fresh("eu_k")
        net.stages[2], net.head = fresh.stages[2], fresh.head
    first = net.stages[:2].eval().requires_grad_(False)
    last = torch.nn.Sequential(net.stages[2], torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), net.head).train(
        not pull
    )
    start = [p.detach().clone() for p in last.parameters()]
    optimizer = optimizer_of(options, trial.lr, last.parameters())
    for _, at in world.batches("retain", 0, 3):
        far = sum((p - q).square().sum() for p, q in zip(last.parameters(), start))
        step(optimizer, F.cross_entropy(last(first(world.x[at])), world.y[at]) + pull / 2 * far)
    same_end(net)


@BOTH
@pytest.mark.parametrize("retain", ["nll", "kl"])
def test_grad_diff(same_end, options, retain):
    """Ascend on D_F and, as heavy, descend on as many of D_R."""
    world, trial = same_end.start("grad_diff", rates(options) / 4, options, epochs=3, retain=retain)
    net, teacher = world.network, world.teacher()
    optimizer = optimizer_of(options, trial.lr, net.parameters())
    for _, keep, lose in world.paired(0, 3, "forget"):
        outputs = [net(world.x[keep]), net(world.x[lose])] if retain == "nll" else [net(world.x[keep])]
        kept = F.cross_entropy(outputs[0], world.y[keep])
        if retain == "kl":
            kept = distill(teacher(world.x[keep]), outputs[0])
            outputs.append(net(world.x[lose]))
        step(optimizer, kept - F.cross_entropy(outputs[1], world.y[lose]))
    same_end(net)


def test_a_reference_with_one_fault_is_told_apart(same_end):
    """What the others would not notice would be no test: FT without its schedule ends elsewhere."""
    world, trial = same_end.start("ft", 0.02, SGD, epochs=2)
    optimizer = optimizer_of(SGD, trial.lr, world.network.parameters())
    for _, at in world.batches("retain", 0, 2):
        step(optimizer, F.cross_entropy(world.network(world.x[at]), world.y[at]))
    with pytest.raises(AssertionError):
        same_end(world.network)
    assert isinstance(world, World) and accuracies(world, world.network)[1] > 0.5
