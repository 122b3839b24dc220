import copy

import pytest
import torch
from torch.nn import functional as F

from mubench_ray.methods import METHODS
from tests.methods.conftest import assert_same, descend, kl_by_hand, log_softmax, logits


@pytest.mark.parametrize(
    ("model", "first", "last"),
    [("cnn-small", "stages.0.0.", "head."), ("resnet-tiny", "resnet.embedder.embedder.convolution.", "classifier."),
     ("vit-tiny", "vit.embeddings.patch_embeddings.projection.", "classifier.")],
)  # fmt: skip
def test_the_first_and_the_last_layer_are_drawn_anew_and_nothing_else(make_case, model, first, last):
    case = make_case(model)
    for p in case.ctx.network.parameters():
        p.data += 0.01  # so that also what starts as zeros is seen to be drawn anew
    before = {name: tensor.clone() for name, tensor in case.ctx.network.state_dict().items()}
    case.method("kde").reset(case.ctx)
    changed = {name for name, tensor in case.ctx.network.state_dict().items() if not torch.equal(tensor, before[name])}

    assert changed == {name for name in before if name.startswith((first, last))}


@pytest.mark.parametrize("form", ["released", "scaled"])
def test_a_warm_up_step_on_validation_and_a_distillation_step_on_retain(case, make_case, form):
    other = make_case()
    other.method("kde").reset(other.ctx)
    network, T = copy.deepcopy(other.ctx.network).train(), 5.0
    (xv, _), (xr, yr) = case.set("validation"), case.set("retain")

    def distance(x, outputs):
        with torch.no_grad():
            teacher = log_softmax(case.original, x, T)
        return (T**2 if form == "scaled" else 1) * kl_by_hand(teacher, torch.log_softmax(outputs / T, 1))

    descend(network, distance(xv, logits(network, xv)), lr=0.9 * 0.05)
    outputs = logits(network, xr)
    with torch.no_grad():
        soft = (logits(case.original, xr) / (1 if form == "scaled" else T)).softmax(1)
    descend(
        network,
        F.cross_entropy(outputs / (1 if form == "scaled" else T), soft)
        + F.cross_entropy(outputs, yr)
        + distance(xr, outputs),
    )
    case.run("kde", warmup_epochs=1, epochs=1, **({} if form == "released" else {"form": form}))
    assert_same(case.ctx.network, network, atol=2e-6)


def test_it_says_that_it_reads_the_validation_set_and_cannot_run_without(make_case):
    assert METHODS.get("kde").uses_validation
    with pytest.raises(KeyError, match="validation"):
        make_case(validation=False).run("kde")
