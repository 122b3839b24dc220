import torch

from mubench_ray.methods import METHODS
from mubench_ray.tasks.base import Task
from tests.methods.conftest import assert_same, descend, logits


def test_one_step_distils_the_original_without_the_true_class(case):
    x, y = case.set("forget")
    with torch.no_grad():
        p = logits(case.original, x).softmax(1)
    p[torch.arange(8), y] = 0
    p /= p.sum(1, keepdim=True)
    log_q = torch.log_softmax(logits(case.network, x), 1)
    loss = sum(p[i, k] * (p[i, k].log() - log_q[i, k]) for i in range(8) for k in range(4) if k != y[i]) / 8
    descend(case.network, loss)
    case.run("delete", epochs=1)
    assert_same(case.ctx.network, case.network)
    assert all(forget.all() for _, forget in case.handed)


def test_it_refuses_tasks_without_a_class():
    class Summaries(Task):
        name, kind = "summaries", "generation"

    assert "true class" in METHODS.get("delete").refusal(Summaries)
