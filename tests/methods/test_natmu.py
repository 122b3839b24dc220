import pytest
import torch

from mubench_ray.methods.natmu import masks
from tests.methods.conftest import Pictures, assert_same, ce, descend, logits


@pytest.mark.parametrize("delta", [0.0, -0.19, 0.3])
def test_the_masks_are_ramps_from_four_directions(delta):
    found, b = masks(8, 8, delta), 4
    for i in range(8):
        rising = i / b if i < b else (b - 1) / b - (i - b) / b
        for j in range(8):
            across = j / b if j < b else (b - 1) / b - (j - b) / b
            expected = [rising, across, (b - 1) / b - rising, (b - 1) / b - across]
            cut = torch.tensor([min(1.0, max(0.0, value + delta)) for value in expected])
            assert torch.allclose(found[:, i, j], cut), (i, j)
    assert masks(7, 5, 0.0).shape == (4, 7, 5)


def raw(case, index):
    return case.ctx.data.rows("retain").examples.columns["image"][index].float()


def test_a_step_on_what_is_kept_and_four_hybrids_of_every_forgotten_picture(case):
    case.run("natmu", epochs=1, delta=0.1)
    forget, retain = (case.ctx.data.rows(name).positions for name in ("forget", "retain"))
    partners = case.ctx.state["partners"][case.ctx.state["place"][forget]]
    truth = case.ctx.data.rows("retain").examples.labels
    shares, made, labels = masks(8, 8, 0.1), [], []
    for f, row in zip(forget, partners):
        for m, p in zip(shares, retain[row]):
            made.append(m * raw(case, f) + (1 - m) * raw(case, p))
            labels.append(truth[p])
    hybrids = (torch.stack(made) / 255 - Pictures.mean[0]) / Pictures.std[0]
    x, y = case.set("retain")
    assert len(hybrids) == 32
    descend(case.network, ce(case.network, torch.cat([x, hybrids]), torch.cat([y, torch.stack(labels)])))
    assert_same(case.ctx.network, case.network)


def test_partners_are_of_the_classes_that_f_o_gives_the_picture_beside_its_own(case):
    case.ctx.keep_original()
    with torch.no_grad():
        head = list(case.ctx.original.modules())[-1]
        head.bias.copy_(torch.tensor([0.0, 3.0, 9.0, 6.0]))
    case.method("natmu").pair(case.ctx)
    _, y = case.set("forget")
    truth, retain = case.ctx.data.rows("retain").examples.labels, case.ctx.data.rows("retain").positions
    assert not torch.isin(retain, case.ctx.data.rows("forget").positions).any()
    x, _ = case.set("forget")
    assert logits(case.ctx.original, x).argsort(1, descending=True).unique(dim=0).tolist() == [[2, 3, 1, 0]]
    for label, row in zip(y.tolist(), case.ctx.state["partners"]):
        others = [c for c in (2, 3, 1, 0) if c != label]
        assert truth[retain[row]].tolist() == [*others, others[0]]


def test_no_picture_is_injected_again_before_all_of_its_class_were(case):
    case.ctx.keep_original()
    case.method("natmu").pair(case.ctx)
    truth, retain = case.ctx.data.rows("retain").examples.labels, case.ctx.data.rows("retain").positions
    times = case.ctx.state["partners"].flatten().bincount(minlength=len(retain))
    for c in range(4):
        of_class = times[truth[retain] == c]
        assert of_class.max() - of_class.min() <= 1
