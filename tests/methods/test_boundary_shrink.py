import pytest
import torch

from mubench_ray.methods import METHODS
from mubench_ray.tasks.base import Classification
from tests.methods.conftest import Pictures, assert_same, ce, descend, logits


def nearest(case, bound):
    """The other class that f_O prefers one signed step up its loss, in pixels of [0, 1]."""
    x, y = case.set("forget")
    x.requires_grad_()
    (g,) = torch.autograd.grad(ce(case.original, x, y), x)
    raw = (x.detach() * Pictures.std[0] + Pictures.mean[0] + bound * g.sign()).clamp(0, 1)
    with torch.no_grad():
        stepped = logits(case.original, (raw - Pictures.mean[0]) / Pictures.std[0])
    other = [max((k for k in range(4) if k != y[i]), key=lambda k, i=i: float(stepped[i, k])) for i in range(len(y))]
    return x.detach(), y, torch.tensor(other)


@pytest.fixture
def case(case):
    """A network whose classes depend on the picture."""
    generator = torch.Generator().manual_seed(3)
    for p in zip(*(network.parameters() for network in (case.ctx.network, case.network, case.original))):
        if p[0].dim() > 1:
            noise = 0.3 * torch.randn(p[0].shape, generator=generator)
            for q in p:
                q.data += noise
    return case


@pytest.mark.parametrize("bound", [0.02, 1.0])
def test_a_step_gives_every_forgotten_picture_to_the_nearest_other_class(case, bound):
    x, y, other = nearest(case, bound)
    assert (other != y).all() and len(set(other.tolist())) > 1
    descend(case.network, ce(case.network, x, other))
    case.run("boundary_shrink", epochs=1, bound=bound)
    assert_same(case.ctx.network, case.network)
    assert all(forget.all() for _, forget in case.handed)


def test_the_way_to_the_boundary_matters(case):
    assert nearest(case, 0.02)[2].tolist() != nearest(case, 1.0)[2].tolist()


def test_the_label_stays_that_of_f_o_whatever_f_u_has_become(case):
    _, _, other = nearest(case, 0.1)
    case.run("boundary_shrink", epochs=3)
    own = [dict(zip(index.tolist(), labels.tolist())) for index, forget, labels in case.labels]
    expected = dict(zip(case.ctx.data.rows("forget").positions.tolist(), other.tolist()))
    assert own.count(expected) == 3  # the losses of the steps; beside them those that are climbed, with the true labels


def test_it_refuses_tasks_without_pixels():
    class Reviews(Classification):
        name, kind, modality = "reviews", "classification", "text"

    assert "alters the pixels" in METHODS.get("boundary_shrink").refusal(Reviews)
