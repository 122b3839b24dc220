import math

import pytest
import torch

from mubench_ray.errors import MubenchError
from mubench_ray.training.context import kl
from mubench_ray.training.evaluate import eval_mode


def whole(ctx, name):
    rows = ctx.data.rows(name)
    return ctx.data.batch(rows, torch.arange(len(rows)))


def test_kl_by_hand_and_in_the_right_order():
    teacher, student = torch.tensor([[0.9, 0.1]]), torch.tensor([[0.5, 0.5]])
    expected = 0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5)
    assert kl(teacher.log(), student.log()).item() == pytest.approx(expected, rel=1e-5)
    assert kl(student.log(), teacher.log()).item() != pytest.approx(expected, rel=1e-2)


def test_kl_of_sequences_is_refused_where_nothing_says_which_tokens_count():
    log_probs = torch.zeros(2, 3, 4).log_softmax(-1)
    with pytest.raises(MubenchError, match=r"\(2, 3, 4\).*ctx\.kl"):
        kl(log_probs, log_probs)


def test_a_mean_is_of_examples_losses_and_goes_through_the_curriculum(make_context):
    ctx, terms = make_context(), torch.arange(6.0).view(2, 3)
    assert ctx.mean(terms) == (3 + 12) / 2
    assert ctx.mean(terms, each=3, factor=10.0) == 10 * (1 + 4) / 2
    assert ctx.mean(terms, each=torch.tensor([1.0, 2.0])) == (3 + 6) / 2
    ctx.curriculum = lambda losses: losses**2
    assert ctx.mean(terms, each=torch.tensor([1.0, 2.0]), factor=2.0) == (6**2 + 12**2) / 2
    assert ctx.mean(terms[0], each=2) == (0 + 0.25 + 1) / 3


def test_teachers_are_still_and_carry_no_gradient(make_context):
    ctx = make_context()
    batch = whole(ctx, "retain")
    for teacher in (ctx.original, ctx.incompetent):
        buffers = {name: b.clone() for name, b in teacher.named_buffers()}
        log_probs = ctx.log_probs(batch, teacher)
        assert not log_probs.requires_grad and not teacher.training
        assert all(torch.equal(b, buffers[name]) for name, b in teacher.named_buffers())
    assert ctx.log_probs(batch).requires_grad


def test_the_incompetent_teacher_has_the_same_architecture_and_its_own_weights(make_context):
    ctx = make_context()
    own, other = ctx.network.state_dict(), ctx.incompetent.state_dict()
    assert {n: t.shape for n, t in own.items()} == {n: t.shape for n, t in other.items()}
    assert not torch.equal(own["head.weight"], other["head.weight"])
    assert torch.equal(make_context().incompetent.state_dict()["head.weight"], other["head.weight"])


def test_temperature_is_that_of_the_logits(make_context):
    ctx = make_context()
    batch = whole(ctx, "retain")
    assert torch.allclose(
        ctx.log_probs(batch, temperature=3.0), torch.log_softmax(ctx.outputs(batch) / 3.0, -1), atol=1e-6
    )


def test_one_forward_pass_serves_two_losses(make_context):
    ctx, calls = make_context(), []
    ctx.network.register_forward_hook(lambda *_: calls.append(1))
    batch = whole(ctx, "forget")
    ctx.loss(batch)
    ctx.log_probs(batch)
    ctx.loss(ctx.relabel(batch))
    assert len(calls) == 1


def test_relabelling_touches_only_the_forget_set_and_never_keeps_the_truth(make_context):
    ctx = make_context()
    for _ in range(3):
        for batch, _ in zip(ctx.data.passes("mixed", 10, ("s",)), range(10)):
            changed = ctx.relabel(batch)["labels"] != batch["labels"]
            assert torch.equal(changed, batch.forget)


def test_relabelling_is_fixed_unless_redrawn_every_epoch(make_context):
    ctx = make_context()
    batch = whole(ctx, "forget")
    first = ctx.relabel(batch)["labels"]
    ctx.epoch = (0, 1)
    assert torch.equal(ctx.relabel(batch)["labels"], first)
    redrawn = [ctx.relabel(batch, redraw=True)["labels"]]
    ctx.epoch = (0, 2)
    redrawn.append(ctx.relabel(batch, redraw=True)["labels"])
    assert not torch.equal(*redrawn)
    assert not torch.equal(make_context(seed=2).relabel(batch)["labels"], first)


def test_random_labels_are_uniform_over_the_others(make_context):
    ctx = make_context(size=5000)
    batch = ctx.data.batch(ctx.data.rows("retain"), torch.arange(4980), forget=torch.ones(4980, dtype=torch.bool))
    for keep_true, share in ((True, 1 / 10), (False, 0.0)):
        labels = ctx.relabel(batch, keep_true=keep_true, redraw=True)["labels"]
        assert (labels == batch["labels"]).double().mean().item() == pytest.approx(share, abs=0.02)
        shift = torch.bincount((labels - batch["labels"]) % 10, minlength=10).double() / 4980
        assert shift[1:].max() - shift[1:].min() < 0.03


def test_weighted_loss(make_context):
    ctx = make_context()
    batch = whole(ctx, "forget")
    weight = torch.rand(20)
    losses = ctx.losses(batch)
    assert ctx.loss(batch, weight).item() == pytest.approx(((weight * losses).sum() / weight.sum()).item())


def test_an_error_is_charged_and_leaves_the_mode(make_context):
    ctx = make_context()
    ctx.network.train()
    ctx.network.head.eval()
    error = ctx.error("forget", batch_size=7)
    assert ctx.meter.flos > 0 and ctx.network.training and not ctx.network.head.training
    with eval_mode(ctx.network), torch.no_grad():
        batch = whole(ctx, "forget")
        wrong = (ctx.network(**batch.inputs).argmax(-1) != batch["labels"]).double().mean().item()
    assert error == pytest.approx(wrong)


def test_the_test_set_is_not_there(make_context):
    with pytest.raises(KeyError, match="test"):
        make_context().data.rows("test")
