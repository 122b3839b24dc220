"""The checkpoint file and the loop that goes on from it, without a process to kill."""

from __future__ import annotations

import copy
import pickle
import warnings
from pathlib import Path

import pytest
import torch

from mubench_ray.conformance.bench import bench
from mubench_ray.methods import METHODS
from mubench_ray.training.checkpoint import Checkpoint
from mubench_ray.training.loop import Loop
from mubench_ray.training.phase import Optimizer, Phase
from mubench_ray.trial import ForgetSet, Training, Trial, Unlearning
from mubench_ray.trials.unlearning import unlearn


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
    with pytest.raises(Interrupted), pytest.warns(UserWarning, match="'local'.* is of type function"):
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


@pytest.mark.parametrize("options", [{}, {"superloss": 10.0}], ids=["plain", "superloss"])
@pytest.mark.parametrize("name", METHODS.names())
def test_every_method_goes_on_from_any_step(name, options, tmp_path):
    """All that a method keeps can be written without code, and with it any process ends where an undisturbed one does."""
    method = METHODS.get(name)()
    unlearning = Unlearning(batch_size=8, **options)
    if method.refusal_for_options(unlearning):
        pytest.skip(f"{name} refuses {options}")

    def ended(stop=None, progress=None):
        ctx, steps = bench("cnn-small", method.uses_validation), []
        forget = ForgetSet(ratio=100 * 8 / 48)
        trial = Trial(
            task="pictures", model="cnn-small", method=name, forget=forget, seed=1, training_seed=0, lr=1e-2, training=Training(), unlearning=unlearning
        )  # fmt: skip
        ctx.training = trial.training

        def observe(ctx):
            steps.append(ctx.meter.examples)
            if len(steps) == stop:
                raise Interrupted

        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            unlearn(ctx, method, trial, observe, progress)
        return ctx.network.state_dict(), len(steps)

    whole, steps = ended()
    for stop in sorted({1 + steps // 3, steps}):
        checkpoint = Checkpoint(tmp_path / f"{stop}.pt", every=0.0)
        with pytest.raises(Interrupted):
            ended(stop, checkpoint)
        torch.manual_seed(stop)
        again, _ = ended(None, checkpoint)
        assert whole.keys() == again.keys() and all(torch.equal(whole[key], again[key]) for key in whole), stop


class Evil:
    """Runs when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


def spoiled(kind, path, make_context):
    """Put such a file where a run's checkpoint lies."""
    with pytest.raises(Interrupted):
        run(make_context(), 8, Checkpoint(path, every=0.0))
    content, whole = torch.load(path, weights_only=True), path.read_bytes()
    marker = path.with_name("marker")
    if kind == "planted":
        torch.save(content | {"method": Evil(marker)}, path)
    elif kind == "planted, an older format":
        torch.save(content | {"method": Evil(marker)}, path, _use_new_zipfile_serialization=False)
    elif kind == "a bare pickle":
        path.write_bytes(pickle.dumps(Evil(marker)))
    elif kind == "cut short":
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "a byte flipped":
        path.write_bytes(whole[:3000] + bytes([whole[3000] ^ 255]) + whole[3001:])
    elif kind == "another run's":
        torch.save(content | {"of": "other"}, path)
    elif kind == "of an older version":
        torch.save(
            {name: content[name] for name in ("of", "position", "meter", "network", "optimizers", "taken")}, path
        )
    elif kind == "of another network":
        network = {name: tensor.unsqueeze(0) for name, tensor in content["network"].items()}
        torch.save(content | {"network": network}, path)
    elif kind == "with an optimiser of its own":
        torch.save(content | {"optimizers": content["optimizers"] | {"foreign": {}}}, path)
    elif kind == "with a broken random state":
        torch.save(content | {"random": torch.zeros(3)}, path)
    elif kind == "no dictionary":
        torch.save([1, 2], path)
    else:
        torch.save({"of": path.stem, "position": None}, path)


@pytest.mark.parametrize(
    "kind",
    [
        "planted", "planted, an older format", "a bare pickle", "cut short", "empty", "a byte flipped", "another run's", "of an older version",
        "of another network", "with an optimiser of its own", "with a broken random state", "no dictionary", "without a meter",
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_set_aside(kind, make_context, tmp_path):
    """Nothing in it runs, and the run starts from the beginning as if it had not been there."""
    whole, again, path = make_context(), make_context(), tmp_path / "run.pt"
    spoiled(kind, path, make_context)
    found = path.read_bytes()
    run(whole)
    with pytest.warns(UserWarning, match="run.pt: the checkpoint cannot be used .* the run starts from the beginning"):
        run(again, None, Checkpoint(path, every=1000.0))
    assert not (tmp_path / "marker").exists() and not path.exists()
    assert (tmp_path / "run.pt.unusable").read_bytes() == found
    assert all(torch.equal(a, b) for a, b in zip(again.network.parameters(), whole.network.parameters()))
    assert again.meter.flos == whole.meter.flos and again.meter.examples == whole.meter.examples


def test_a_planted_file_would_run(tmp_path):
    """What the test above plants does what it is feared for, where nobody is careful."""
    torch.save({"method": Evil(tmp_path / "marker")}, tmp_path / "run.pt")
    torch.load(tmp_path / "run.pt", weights_only=False)
    assert (tmp_path / "marker").exists()
