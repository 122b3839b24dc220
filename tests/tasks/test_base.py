import pytest
import torch

from mubench_ray.errors import DataError
from mubench_ray.tasks.base import Batch, Classification, Examples, Splits, carve_validation, limit


class Four(Classification):
    name = "four"
    classes = 4

    def load(self):
        return None

    def blank(self, rows):
        return {"labels": torch.zeros(rows, dtype=torch.int64)}


TASK = Four()


def batch(labels):
    labels = torch.tensor(labels)
    return Batch({"labels": labels}, {}, torch.zeros(len(labels), dtype=torch.bool))


def examples(rows=1000, classes=4):
    return Examples({"x": torch.arange(rows), "labels": torch.arange(rows) % classes}, torch.arange(rows) + 7)


def test_take_and_select_keep_columns_together():
    part = examples().select(torch.tensor([5, 3]))
    assert part.source_index.tolist() == [12, 10]
    taken = part.take(torch.tensor([1]))
    assert (taken["x"].item(), taken["labels"].item(), taken["index"].item()) == (3, 3, 1)


def test_carve_validation_is_proportional_disjoint_and_the_same_every_time():
    train, validation = carve_validation(examples())
    assert (len(train), len(validation)) == (848, 152)  # 38 of each 250, 15 % rounded
    assert validation.labels.bincount().tolist() == [38] * 4
    both = torch.cat([train.source_index, validation.source_index])
    assert both.sort().values.tolist() == examples().source_index.tolist()
    assert torch.equal(carve_validation(examples())[1].source_index, validation.source_index)


def test_limit_keeps_proportions_and_a_thousand_of_every_test_set():
    whole = Splits(examples(2000), examples(400), examples(3000), {"far": examples(4000), "few": examples(300)})
    part = limit(whole, 200)
    assert (len(part.train), len(part.validation)) == (200, 40)
    assert (len(part.test), len(part.shifted["far"]), len(part.shifted["few"])) == (1000, 1000, 300)
    assert part.train.labels.bincount().tolist() == [50] * 4
    assert len(limit(whole, 2000).train) == 2000
    with pytest.raises(DataError, match="subset: 2001 is more than the 2000 training examples"):
        limit(whole, 2001)


def test_relabel_never_draws_the_true_class_unless_asked():
    labels = [0, 1, 2, 3] * 500
    draw = torch.rand(2000, generator=torch.Generator().manual_seed(0))
    wrong = TASK.relabel(batch(labels), draw, keep_true=False)["labels"]
    assert not (wrong == torch.tensor(labels)).any()
    assert ((wrong - torch.tensor(labels)) % 4).bincount()[1:].min() > 600
    anything = TASK.relabel(batch(labels), draw, keep_true=True)["labels"]
    assert 400 < (anything == torch.tensor(labels)).sum() < 600
    assert set(wrong.tolist()) == set(anything.tolist()) == {0, 1, 2, 3}


def test_relabel_survives_a_draw_next_to_one():
    draw = torch.tensor([1 - 2**-24])
    assert TASK.relabel(batch([1]), draw, keep_true=False)["labels"].item() == 0
    assert TASK.relabel(batch([1]), draw, keep_true=True)["labels"].item() == 0


def test_observe_is_loss_correctness_and_logit_of_the_true_class():
    logits = torch.tensor([[1.0, 2.0, 0.0, -1.0], [3.0, 0.0, 0.0, 0.0]])
    seen = TASK.observe(logits, batch([1, 2]))
    p = logits.double().softmax(-1)[[0, 1], [1, 2]]
    assert torch.allclose(seen["loss"], -p.log())
    assert torch.allclose(seen["confidence"], (p / (1 - p)).log())
    assert seen["correct"].tolist() == [1, 0]
    probabilities = logits.double().softmax(-1)
    assert torch.allclose(seen["entropy"], -(probabilities * probabilities.log()).sum(-1))
    assert torch.allclose(seen["loss"].float(), TASK.losses(logits, batch([1, 2])))


def test_observe_stays_finite_where_float32_probabilities_are_0_and_1():
    logits = torch.tensor([[200.0, 0.0, 0.0, 0.0]] * 2)
    seen = TASK.observe(logits, batch([0, 1]))
    assert all(torch.isfinite(value).all() for value in seen.values())
    assert seen["confidence"][0] > 190 and seen["confidence"][1] < -190


def test_replacing_targets_keeps_the_cache_only_where_inputs_do_not_read_them():
    plain = batch([0, 1])
    plain.cache[1] = "outputs"
    assert plain.replace(labels=torch.tensor([1, 1])).cache == {1: "outputs"}
    reading = Batch(
        plain.columns,
        {"seen": plain["labels"]},
        plain.forget,
        {1: "outputs"},
        lambda columns: {"seen": columns["labels"]},
    )
    other = reading.replace(labels=torch.tensor([3, 3]))
    assert other.cache == {} and other.inputs["seen"].tolist() == [3, 3]
