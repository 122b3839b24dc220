import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mubench_ray.training.evaluate import eval_mode, evaluate


def test_what_is_observed_by_hand(make_context):
    ctx = make_context()
    rows = ctx.data.rows("forget")
    observed = evaluate(ctx.network, ctx.data, rows)
    batch = ctx.data.batch(rows, torch.arange(len(rows)))
    with eval_mode(ctx.network), torch.no_grad():
        logits = ctx.network(**batch.inputs).double()
    probability = logits.softmax(-1).gather(-1, batch["labels"][:, None]).squeeze(-1)
    assert observed["loss"] == pytest.approx(
        F.cross_entropy(logits, batch["labels"], reduction="none").numpy(), rel=1e-5
    )
    assert observed["confidence"] == pytest.approx(torch.log(probability / (1 - probability)).numpy(), rel=1e-4)
    assert observed["correct"].tolist() == (logits.argmax(-1) == batch["labels"]).double().tolist()
    assert observed["index"].tolist() == list(range(20)) and observed["label"].tolist() == batch["labels"].tolist()


def test_the_size_of_batches_does_not_matter(make_context):
    ctx = make_context()
    whole, parts = (evaluate(ctx.network, ctx.data, ctx.data.rows("retain"), size) for size in (512, 7))
    for name, values in whole.items():
        assert np.allclose(values, parts[name], atol=1e-5), name


def test_every_module_gets_its_mode_back_also_after_a_failure(make_context):
    ctx = make_context()
    ctx.network.train()
    ctx.network.head.eval()
    before = {name: module.training for name, module in ctx.network.named_modules()}
    statistics = {name: buffer.clone() for name, buffer in ctx.network.named_buffers()}
    evaluate(ctx.network, ctx.data, ctx.data.rows("retain"))
    assert {name: module.training for name, module in ctx.network.named_modules()} == before
    assert all(torch.equal(buffer, statistics[name]) for name, buffer in ctx.network.named_buffers())
    with pytest.raises(RuntimeError), eval_mode(ctx.network):
        assert not ctx.network.training
        raise RuntimeError("in the middle")
    assert {name: module.training for name, module in ctx.network.named_modules()} == before


def test_no_gradient_is_kept(make_context):
    ctx = make_context()
    evaluate(ctx.network, ctx.data, ctx.data.rows("forget"))
    assert all(p.grad is None and p.requires_grad for p in ctx.network.parameters())
