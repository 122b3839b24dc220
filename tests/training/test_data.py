import torch

from mubench_ray.training.data import UnlearningData


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
