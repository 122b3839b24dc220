"""Whole runs beside plain-torch implementations: one-shot updates of the weights, and methods that damage the weights first and repair them after."""

import copy

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, jacrev, vmap
from torch.nn import functional as F

from tests.methods.reference import SEED, SGD, distill, optimizer_of, step

ADAPTED = (nn.Conv2d, nn.Linear)


def per_example(network, x, y):
    """Gradient of CE of every example, vectorised, {name: (B, ...)}; eval mode."""
    network = copy.deepcopy(network).eval()
    buffers, parameters = dict(network.named_buffers()), dict(network.named_parameters())

    def loss(values, x, y):
        return F.cross_entropy(functional_call(network, {**values, **buffers}, (x.unsqueeze(0),)), y.unsqueeze(0))

    return vmap(grad(loss), (None, 0, 0))({n: p.detach() for n, p in parameters.items()}, x, y)


def test_ssd(same_end):
    """Importances from all examples at once; dampen where that of D_F stands out."""
    world, _ = same_end.start("ssd", None, SGD, alpha=1.5, dampening=0.8)
    squared = {n: g.double().square() for n, g in per_example(world.network, world.x, world.y).items()}
    with torch.no_grad():
        for name, p in world.network.named_parameters():
            everything, forget = squared[name].mean(0), squared[name][world.forget].mean(0)
            chosen = forget > 1.5 * everything
            p[chosen] *= (0.8 * everything / forget).clamp(max=1)[chosen].float()
    same_end(world.network)


def test_iu(same_end):
    """(I + mean g g^T) step = v, solved by conjugate gradients without ever forming the matrix or its inverse."""
    world, _ = same_end.start("iu", None, SGD, alpha=5, samples=200)
    flat = lambda gradients: torch.cat([g.flatten(1) for g in gradients.values()], 1).double()  # noqa: E731
    everything = flat(per_example(world.network, world.x, world.y))
    forget, retain = everything[world.forget].sum(0), everything[world.retain].sum(0)
    size = len(world.y)
    v = forget / size - len(world.forget) / (size * len(world.retain)) * retain
    samples = world.retain[torch.randperm(len(world.retain), generator=same_end.draw("iu"))[:200]]
    g = everything[samples]
    answer, residual = torch.zeros_like(v), v.clone()
    direction = residual.clone()
    for _ in range(400):
        image = direction + g.T @ (g @ direction) / 200
        length = residual @ residual / (direction @ image)
        answer += length * direction
        new = residual - length * image
        if new.norm() < 1e-12 * v.norm():
            break
        direction = new + (new @ new) / (residual @ residual) * direction
        residual = new
    with torch.no_grad():
        for p, change in zip(world.network.parameters(), answer.split([p.numel() for p in world.network.parameters()])):
            p += 5 * change.view_as(p).float()
    same_end(world.network)


@pytest.mark.parametrize("released", [False, True])
def test_ff(same_end, released):
    """The Fisher information from the Jacobian of log p over all classes; noise where it is small, more on the head; released code's: more on vectors, less
    on the head's flattest, averaged along rows."""
    given = {"vector_factor": 10, "head_clamp": 100, "rows": "mean"} if released else {}
    world, _ = same_end.start("ff", None, SGD, alpha=1e-6, **given)
    network = copy.deepcopy(world.network).eval()
    buffers, values = dict(network.named_buffers()), {n: p.detach() for n, p in network.named_parameters()}

    def log_probs(values, x):
        return F.log_softmax(functional_call(network, {**values, **buffers}, (x.unsqueeze(0),)), 1)[0]

    fisher = {name: torch.zeros_like(p, dtype=torch.float64) for name, p in values.items()}
    for at in world.retain.split(60):
        p = vmap(log_probs, (None, 0))(values, world.x[at]).exp().double()
        for name, rows in vmap(jacrev(log_probs), (None, 0))(values, world.x[at]).items():
            fisher[name] += torch.einsum("bk,bk...->...", p, rows.double().square())
    with torch.no_grad():
        for name, p in world.network.named_parameters():
            variance = 1e-6 * (len(world.retain) / fisher[name]).clamp(max=1e3) * (10 if "head" in name else 1)
            if released:
                inverse = (len(world.retain) / fisher[name]).clamp(max=100 if "head" in name else 1000)
                inverse = inverse if inverse.dim() == 1 else torch.ones_like(inverse) * inverse.mean(1, keepdim=True)
                variance = 1e-6 * inverse * (10 if "head" in name or inverse.dim() == 1 else 1)
            p += variance.sqrt().float() * torch.randn(p.shape, generator=same_end.draw("ff", name))
    same_end(world.network)


@pytest.mark.parametrize("advance", ["epoch", "step"])
def test_msg(same_end, advance):
    """Redraw the weights with the smallest gradient difference, damp the others' gradients but not their decay, repair."""
    world, trial = same_end.start("msg", 0.02, SGD, epochs=5, rate=0.4, advance=advance)
    net = world.network.eval()
    layers = {name: module for name, module in net.named_modules() if isinstance(module, nn.Conv2d)}
    total = {name: torch.zeros_like(layer.weight) for name, layer in layers.items()}
    for _, keep, lose in world.paired(0, 1, "forget"):
        kept, lost = (per_example(net, world.x[at], world.y[at]) for at in (keep[: len(lose)], lose))
        for name in layers:
            total[name] += kept[f"{name}.weight"].sum(0) - lost[f"{name}.weight"].sum(0)
    factors = {}
    with torch.no_grad():
        for name, layer in layers.items():
            rank = total[name].abs().flatten().argsort().argsort().view_as(layer.weight)
            redrawn = rank < round(0.4 * layer.weight.numel())
            unit = torch.randn(layer.weight.shape, generator=same_end.draw("msg", name))
            fresh = unit * (2 / (layer.out_channels * layer.kernel_size[0] * layer.kernel_size[1])) ** 0.5
            layer.weight[redrawn] = fresh[redrawn]
            factors[layer.weight] = torch.where(redrawn, 1.0, 0.1)
    net.train()
    optimizer = optimizer_of(SGD, trial.lr, net.parameters())  # torch's own decay: after the damping, and so not damped
    batches = list(world.batches("retain", 1, 5))
    half = len(batches) / 2
    for number, (epoch, at) in enumerate(batches):
        shares = [1 / 3, 2 / 3, 1.0, 2 / 3, 1 / 3]  # up and down over five epochs
        by_step = min(1, (number + 1) / half, (len(batches) - number) / half)
        optimizer.param_groups[0]["lr"] = trial.lr * (shares[epoch] if advance == "epoch" else by_step)
        optimizer.zero_grad()
        F.cross_entropy(net(world.x[at]), world.y[at]).backward()
        for p in net.parameters():
            p.grad *= factors.get(p, 1.0)
        optimizer.step()
    same_end(net)


def repair(world, trial, net, phase, epochs, cosine="step", loss=None):
    """CE on D_R, or another loss, by SGD; a cosine moves on after every step, or after every epoch."""
    optimizer = optimizer_of(SGD, trial.lr, net.parameters())
    batches = list(world.batches("retain", phase, epochs))
    length = epochs if cosine == "epoch" else len(batches)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, length) if cosine else None
    for number, (epoch, at) in enumerate(batches):
        step(optimizer, loss(at) if loss else F.cross_entropy(net(world.x[at]), world.y[at]))
        last = number + 1 == len(batches) or batches[number + 1][0] != epoch
        if schedule and (last or cosine == "step"):
            schedule.step()


@pytest.mark.parametrize("advance", ["epoch", "step"])
def test_ct(same_end, advance):
    """Transpose every kernel, repair; the cosine moves on after every epoch in released code."""
    world, trial = same_end.start("ct", 0.01, SGD, epochs=3, advance=advance)
    for stage in world.network.stages:
        stage[0].weight.data = stage[0].weight.data.permute(0, 1, 3, 2).contiguous()
    repair(world, trial, world.network, 0, 3, advance)
    same_end(world.network)


def test_cfw(same_end):
    """Noise on every convolution, class-weighted repair, a little more noise before the last epoch; one cosine over all epochs."""
    world, trial = same_end.start("cfw", 0.005, SGD, epochs=3, std=0.05, small_std=0.01)
    net = world.network
    weight = 1 / torch.bincount(world.y[world.retain], minlength=10).float()
    optimizer = optimizer_of(SGD, trial.lr, net.parameters())
    first, last = list(world.batches("retain", 0, 2)), list(world.batches("retain", 1, 1))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, len(first) + len(last))
    for std, batches in ((0.05, first), (0.01, last)):
        for place, stage in enumerate(net.stages):
            noise = torch.randn(stage[0].weight.shape, generator=same_end.draw("cfw", f"stages.{place}.0", std))
            stage[0].weight.data += std * noise
        for _, at in batches:
            step(optimizer, F.cross_entropy(net(world.x[at]), world.y[at], weight))
            schedule.step()
    same_end(net)


def test_prmq(same_end):
    """Prune 99 % by one threshold, redraw, repair with the entropy of f_O as a guide, round to half precision."""
    world, trial = same_end.start("prmq", 0.005, SGD, epochs=2.5)
    net, teacher = world.network, world.teacher()
    layers = {name: module for name, module in net.named_modules() if isinstance(module, ADAPTED)}
    size = torch.cat([layer.weight.detach().abs().flatten() for layer in layers.values()]).sort().values
    threshold = size[round(0.99 * len(size)) - 1]
    for name, layer in layers.items():
        fan_in = layer.weight[0].numel()
        draw = torch.rand(layer.weight.shape, generator=same_end.draw("prmq", name))
        fresh = (2 * draw - 1) / fan_in**0.5
        layer.weight.data = torch.where(layer.weight.abs() <= threshold, fresh, layer.weight.data)
    weight = torch.bincount(world.y[world.retain], minlength=10).float() ** -0.1

    def entropy(outputs):
        return torch.distributions.Categorical(logits=outputs).entropy()

    def loss(at):
        student = net(world.x[at])
        guide = F.mse_loss(entropy(student), entropy(teacher(world.x[at])))
        return F.cross_entropy(student, world.y[at], weight) + guide

    repair(world, trial, net, 0, 2.5, cosine=None, loss=loss)
    for p in net.parameters():
        p.data = p.data.half().float()
    same_end(net, atol=5e-4)  # a rounding error of 1e-7 may end on the other side: one step of half precision below 1


@pytest.mark.parametrize("form", ["released", "scaled"])
def test_kde(same_end, form):
    """First and last layer anew; distil on D_V, then on D_R with cross-entropies beside; T^2 on no KL, and the soft one at T, in released code."""
    world, trial = same_end.start("kde", 0.003, SGD, epochs=2, warmup_epochs=2, temperature=4.0, form=form)
    factor, soft_temperature = (16, 1.0) if form == "scaled" else (1, 4.0)
    net, teacher, fresh = world.network, world.teacher(), world.fresh("kde")
    net.stages[0][0], net.head = fresh.stages[0][0], fresh.head
    x, _ = world.validation
    warm = optimizer_of(SGD, 0.9 * trial.lr, net.parameters())
    for _, at in world.batches("validation", 0, 2):
        step(warm, factor * distill(teacher(x[at]), net(x[at]), 4.0))

    def loss(at):
        student, wise = net(world.x[at]), teacher(world.x[at])
        soft = F.cross_entropy(student / soft_temperature, (wise / soft_temperature).softmax(1))
        return soft + F.cross_entropy(student, world.y[at]) + factor * distill(wise, student, 4.0)

    repair(world, trial, net, 1, 2, loss=loss)
    same_end(net)


def test_fcs(same_end):
    """Flatten D_F once; then contrast and repair in turns, each with its own optimiser over all epochs."""
    world, trial = same_end.start("fcs", 0.003, SGD, epochs=3)
    net = world.network
    flat = optimizer_of(SGD, 1.25 * trial.lr, net.parameters(), decay=False)
    for _, at in world.batches("forget", 0):
        logits = net(world.x[at])
        step(flat, distill(torch.zeros_like(logits), logits))
    contrast = optimizer_of(SGD, 0.075 * trial.lr, net.parameters(), decay=False)
    total = 3 * len(list(world.batches("forget", 0)))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(contrast, total, 1e-6)
    mend = torch.optim.SGD(net.parameters(), trial.lr, momentum=0.9, weight_decay=0.01)
    for epoch in range(3):
        for _, keep, lose in world.paired(1 + 2 * epoch, 1, "forget"):
            with torch.no_grad():
                kept = net(world.x[keep])
            step(contrast, -F.log_softmax(net(world.x[lose]) @ kept.T / 1.15, 1).mean())
            schedule.step()
        for _, at in world.batches("retain", 2 + 2 * epoch):
            step(mend, F.cross_entropy(net(world.x[at]), world.y[at]))
    same_end(net)


@pytest.mark.parametrize("released", [True, False])
def test_rni(same_end, released):
    """A new head; early epochs train a few tensors and the norms, after noise on some that none before has trained; fine epochs train everything; each has an
    optimiser of its own. Or: noise on any that had none, and one optimiser."""
    given = {} if released else {"noise_on": "once", "fresh": False}
    world, trial = same_end.start(
        "rni", 0.02, SGD, early_epochs=4, fine_epochs=2, tensors=2, noisy=1, std=0.05, **given
    )
    net = world.network
    net.head = world.fresh("rni").head
    norms = {n for n, _ in net.named_parameters() if n.split(".")[-2] == "1"}  # the second module of a stage
    names, noised, trained = [n for n, _ in net.named_parameters() if n not in norms], set(), set()
    optimizer = optimizer_of(SGD, trial.lr, net.parameters())
    passes = [0, 1, 2, 3, 4, 5] if released else [0, 1, 2, 3, 4]
    for phase in passes:
        chosen = set(names)
        if released:
            optimizer = optimizer_of(SGD, trial.lr, net.parameters())
        if phase < 4:
            order = torch.randperm(len(names), generator=same_end.draw("rni", phase))[:2].tolist()
            chosen = {names[i] for i in order}
            spared = trained if released else noised
            among = order[:1] if released else order
            for name in [names[i] for i in among if names[i] not in spared][: 1 if phase else 0]:
                noised.add(name)
                p = net.get_parameter(name)
                p.data += 0.05 * torch.randn(p.shape, generator=same_end.draw("rni", name))
        for name, p in net.named_parameters():
            p.requires_grad_(name in chosen | norms)
        trained |= chosen
        for _, at in world.batches("retain", phase, 2 if phase == 4 and not released else 1):
            step(optimizer, F.cross_entropy(net(world.x[at]), world.y[at]))
    assert noised and trial.seed == SEED
    same_end(net)


def test_kga(same_end):
    """Two helpers trained with Adam on D_F and D_V alone; then the gaps are aligned."""
    world, trial = same_end.start("kga", 1e-2, SGD, helper_epochs=2, epochs=3, alpha=0.3)
    net, teacher, helpers = world.network, world.teacher(), {}
    sets = {"forget": (world.x, world.y), "validation": world.validation}
    for phase, (name, (x, y)) in enumerate(sets.items()):
        helpers[name] = world.fresh(f"kga {name}").train()
        adam = torch.optim.Adam(helpers[name].parameters(), lr=trial.lr)
        for _, at in world.batches(name, phase, 2):
            step(adam, F.cross_entropy(helpers[name](x[at]), y[at]))
        helpers[name].eval().requires_grad_(False)
    x, _ = world.validation
    wanted = float(distill(teacher(x), helpers["validation"](x)))
    optimizer = optimizer_of(SGD, trial.lr, net.parameters())
    for _, keep, lose in world.paired(2, 3, "forget"):
        student = F.log_softmax(net(world.x[lose]), 1)
        other = F.log_softmax(helpers["forget"](world.x[lose]), 1)
        gap = (student.exp() * (student - other)).sum(1).mean()
        kept = distill(teacher(world.x[keep]), net(world.x[keep]))
        step(optimizer, (gap - wanted).abs() + 0.3 * kept)
    same_end(net)
