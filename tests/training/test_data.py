import pytest
import torch

from mubench_ray.training.data import UnlearningData, batches_of, in_batches, joins


def indices(batches):
    return [batch["index"].tolist() for batch in batches]


def take(data, name, size, stream, count):
    return [batch for batch, _ in zip(data.passes(name, size, stream), range(count))]


def test_a_pass_holds_everything_once_and_passes_differ(make_context):
    data = make_context().data
    batches = take(data, "retain", 16, ("s",), 10)
    first, second = (torch.cat([batch["index"] for batch in part]).tolist() for part in (batches[:5], batches[5:]))
    assert sorted(first) == sorted(second) == list(range(20, 100)) and first != second


def test_order_depends_on_the_stream_only(make_context):
    one, other = make_context(), make_context(seed=99)
    torch.manual_seed(5)
    first = indices(take(one.data, "forget", 8, ("x", 1), 4))
    torch.manual_seed(6)
    assert indices(take(other.data, "forget", 8, ("x", 1), 4)) == first
    assert indices(take(one.data, "forget", 8, ("x", 2), 4)) != first


def test_mixed_batches_say_who_is_to_be_forgotten(make_context):
    for batch in take(make_context().data, "mixed", 16, ("s",), 7):
        assert torch.equal(batch.forget, batch["index"] < 20)


def test_forget_batches_are_all_to_be_forgotten(make_context):
    data = make_context().data
    assert all(batch.forget.all() for batch in take(data, "forget", 8, ("s",), 3))
    assert not any(batch.forget.any() for batch in take(data, "retain", 8, ("s",), 3))


def test_steps_round_fractions_of_an_epoch_up(make_context):
    data: UnlearningData = make_context().data
    assert [data.steps("retain", 32, epochs) for epochs in (1, 2, 0.5, 1.4)] == [3, 6, 2, 5]
    assert data.steps("mixed", 32, 1) == 4


@pytest.mark.parametrize(
    ("rows", "size", "cut"),
    [
        (65, 32, [32, 33]),  # one left over joins the batch before it
        (33, 32, [33]),
        (7, 3, [3, 4]),
        (5, 2, [2, 3]),
        (66, 32, [32, 32, 2]),  # two are a batch
        (64, 32, [32, 32]),
        (1, 32, [1]),  # a set of one has no batch before it
        (3, 1, [1, 1, 1]),  # single examples are meant
        (31, 32, [31]),
    ],
)
def test_one_example_left_over_joins_the_batch_before_it(rows, size, cut):
    order = torch.arange(rows)
    batches = in_batches(order, size)
    assert [len(batch) for batch in batches] == cut and torch.equal(torch.cat(batches), order)
    assert batches_of(rows, size) == len(cut)
    assert joins(rows, size) == (max(cut) > size)


def test_a_pass_with_one_left_over_is_counted_as_it_is_cut(make_context):
    data: UnlearningData = make_context().data  # 80 of D_R, 20 of D_F, 10 of D_V
    for name, size, cut in [
        ("retain", 79, [80]),
        ("forget", 19, [20]),
        ("mixed", 33, [33, 33, 34]),
        ("validation", 3, [3, 3, 4]),
    ]:
        assert data.steps(name, size, 1) == len(cut) and data.steps(name, size, 2.5) == -(-5 * len(cut) // 2)
        batches = take(data, name, size, ("s",), 2 * len(cut))
        assert [len(batch) for batch in batches] == cut * 2
        first, second = (
            sorted(torch.cat([b["index"] for b in part]).tolist())
            for part in (batches[: len(cut)], batches[len(cut) :])
        )
        assert first == second and len(set(first)) == len(first)


@pytest.mark.parametrize("first", range(9))
def test_from_the_middle_of_a_pass_with_one_left_over(make_context, first):
    data = make_context().data
    whole = indices(take(data, "mixed", 33, ("s",), 10))
    assert (
        indices(batch for batch, _ in zip(data.passes("mixed", 33, ("s",), first=first), range(10 - first)))
        == whole[first:]
    )
