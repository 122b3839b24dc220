import torch

from mubench_ray.randomness import torch_generator
from mubench_ray.trial import Unlearning
from tests.methods.conftest import LR, logits


def test_two_steps_flatten_f_u_around_the_forgotten_pictures(case):
    network = case.network.eval()
    case.run("jit", epochs=2, samples=3, sigma=0.7)
    orders = [index for index, forget in case.handed if forget.all()]
    assert len(orders) == 2
    for step, order in enumerate(orders, 1):
        x, _ = case.at(order)
        generator = torch_generator("method", 1, "neighbours", step)
        here, total = logits(network, x), 0
        for _ in range(3):
            near = x + 0.7 * torch.randn(x.shape, generator=generator)
            near = near.minimum(x.max()).maximum(x.min())
            there = logits(network, near).detach()
            for i in range(8):
                total = total + (here[i] - there[i]).square().sum().sqrt() / (x[i] - near[i]).square().sum().sqrt() / 24
        parameters = list(network.parameters())
        for p, g in zip(parameters, torch.autograd.grad(total, parameters)):
            p.data -= LR * g
    for (name, mine), (_, other) in zip(case.ctx.network.state_dict().items(), network.state_dict().items()):
        assert torch.allclose(mine, other, atol=1e-6), name  # statistics, too: they stay


def test_it_sees_nothing_of_what_is_kept(case):
    case.run("jit", Unlearning(batch_size=4))
    assert case.handed and all(forget.all() for _, forget in case.handed)
