"""The checkpoint file and the loop that goes on from it, without a process to kill."""

from __future__ import annotations

import copy

import pytest
import torch

from mubench_ray.training.checkpoint import Checkpoint
from mubench_ray.training.loop import Loop
from mubench_ray.training.phase import Optimizer, Phase
from mubench_ray.trial import Unlearning


class Interrupted(Exception):
    """Stands for the end of a process."""


def phases():
    """Two phases, one optimiser of their own each, and a hook in between that draws from torch's own state."""

    def noise(ctx):
        with torch.no_grad():
            ctx.network.head.weight.add_(0.01 * torch.randn(ctx.network.head.weight.shape))

    return [
        Phase("one", "retain", lambda ctx, batch: ctx.loss(batch), epochs=2, after=noise),
        Phase("two", "mixed", lambda ctx, batch: ctx.loss(ctx.relabel(batch, redraw=True)), optimizer=Optimizer("own", schedule="cosine")),
    ]  # fmt: skip


def run(ctx, stop=None, checkpoint=None):
    seen = []

    def observe(ctx):
        seen.append(ctx.meter.flos)
        if stop is not None and len(seen) == stop:
            raise Interrupted

    Loop(ctx, phases(), Unlearning(batch_size=16), observe, checkpoint).run()
    return seen


@pytest.mark.parametrize("stop", [2, 8, 11, 12, 16])
def test_it_ends_where_an_undisturbed_run_does(make_context, tmp_path, stop):
    whole = make_context()
    run(whole)
    checkpoint = Checkpoint(tmp_path / "run.pt", every=0.0)
    with pytest.raises(Interrupted):
        run(make_context(), stop, checkpoint)
    again = make_context()
    torch.manual_seed(stop)  # another process starts with another state
    run(again, None, checkpoint)
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(again.network.state_dict()[name], tensor), name
    assert again.meter.flos == whole.meter.flos and again.meter.examples == whole.meter.examples


@pytest.mark.parametrize("model", ["resnet18", "tinyvit-5m"])
@pytest.mark.parametrize("stop", [2, 3, 4])
def test_one_example_left_over_on_a_last_map_of_one_pixel(make_context, tmp_path, model, stop):
    """65 pictures in batches of 32, whose last one would be one that BatchNorm refuses; broken off within a pass, between two and at the first step of one."""

    def train(ctx, stop=None, checkpoint=None):
        sizes = []

        def loss(ctx, batch):
            sizes.append(len(batch))
            if len(sizes) == stop:
                raise Interrupted
            return ctx.loss(batch)

        Loop(ctx, [Phase("train", "retain", loss, epochs=2)], Unlearning(batch_size=32), checkpoint=checkpoint).run()
        return sizes

    whole = make_context(model, size=85)
    assert train(whole) == [32, 33, 32, 33] and whole.meter.examples == 130
    checkpoint = Checkpoint(tmp_path / "run.pt", every=0.0)
    with pytest.raises(Interrupted):
        train(make_context(model, size=85), stop, checkpoint)
    again = make_context(model, size=85)
    assert train(again, None, checkpoint) == [32, 33, 32, 33][stop - 1 :]
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(again.network.state_dict()[name], tensor), name
    assert again.meter.flos == whole.meter.flos and again.meter.examples == whole.meter.examples


def test_a_state_that_cannot_be_saved_starts_anew_but_not_for_free(make_context, tmp_path):
    checkpoint = Checkpoint(tmp_path / "run.pt", every=0.0)
    ctx = make_context()
    ctx.state["local"] = lambda: None
    with pytest.raises(Interrupted):
        run(ctx, 6, checkpoint)
    spent = checkpoint.load()["meter"]["flos"]
    again, whole = make_context(), make_context()
    run(again, None, checkpoint)
    run(whole)
    assert checkpoint.load()["position"] is not None and spent > 0
    assert again.meter.flos == pytest.approx(whole.meter.flos + spent)
    assert all(torch.equal(a, b) for a, b in zip(again.network.parameters(), whole.network.parameters()))


def test_saving_is_not_on_the_clock_and_due_only_now_and_then(tmp_path):
    checkpoint = Checkpoint(tmp_path / "run.pt", every=1000.0)
    assert not checkpoint.due
    checkpoint.every = 0.0
    assert checkpoint.due and checkpoint.load() is None


def test_a_write_that_fails_leaves_the_last_one_and_warns(tmp_path):
    checkpoint = Checkpoint(tmp_path / "run.pt")
    checkpoint.save({"meter": {"flos": 1.0}, "position": (0, 1)})
    broken = copy.copy(checkpoint)
    broken.path = tmp_path / "run.pt" / "below" / "run.pt"  # a file is in the way, as a full disk is
    with pytest.warns(UserWarning, match="could not be written"):
        broken.save({"meter": {"flos": 2.0}, "position": (0, 2)})
    assert checkpoint.load()["meter"] == {"flos": 1.0}
    assert [path.name for path in tmp_path.iterdir()] == ["run.pt"]
    checkpoint.remove()
    assert checkpoint.load() is None
