import torch

from mubench_ray.trial import Unlearning
from tests.methods.conftest import assert_same, ce, descend


def truth(case, index):
    return case.ctx.data.rows("retain").examples.labels[index]


def test_one_step_learns_wrong_labels_for_the_forget_set_and_true_ones_for_the_rest(case):
    case.run("rand_label", epochs=1)
    ((index, forget, labels),) = case.labels
    true = truth(case, index)
    assert (labels != true)[forget].all() and torch.equal(labels[~forget], true[~forget])
    descend(case.network, ce(case.network, case.at(index)[0], labels))
    assert_same(case.ctx.network, case.network)


def test_the_wrong_label_is_drawn_once_from_the_seed_and_every_other_class_can_come(make_case):
    drawn = {}
    for seed in range(1, 40):
        case = make_case(seed=seed)
        case.run("rand_label", Unlearning(batch_size=8), epochs=2)
        chosen = {}
        for index, forget, labels in case.labels:
            for i, label in zip(index[forget].tolist(), labels[forget].tolist()):
                assert chosen.setdefault(i, label) == label  # the same in both epochs
                assert label != int(truth(case, i))
        drawn[seed] = tuple(chosen[i] for i in sorted(chosen))
        if seed > 12:
            break
    assert len(set(drawn.values())) > 10
    assert {label for labels in drawn.values() for label in labels} == {0, 1, 2, 3}


def test_in_passes_the_forget_set_comes_before_the_rest_in_every_epoch_with_the_same_labels(case):
    case.run("rand_label", epochs=1.5, form="passes")
    shown = [(len(index), bool(forget.all())) for index, forget, _ in case.labels]
    assert shown == [(8, True), (40, False)] * 2
    for index, forget, labels in case.labels:
        assert (labels != truth(case, index)).all() if forget.all() else torch.equal(labels, truth(case, index))
        descend(case.network, ce(case.network, case.at(index)[0], labels))
    assert_same(case.ctx.network, case.network)
    first, second = (labels[index.argsort()] for index, forget, labels in case.labels if forget.all())
    assert torch.equal(first, second)
    assert "form" not in case.method("rand_label").hyperparameters()
