"""Two processes against one, with plain torch and gloo: every method, networks whose rows meet, the bill and the moment to stop."""

from __future__ import annotations

import math
import os
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from mubench_ray.conformance.bench import bench
from mubench_ray.errors import Diverged, MubenchError
from mubench_ray.methods import METHODS
from mubench_ray.models.base import Model
from mubench_ray.results.storage import StorageLost
from mubench_ray.training.distributed import World, checksum
from mubench_ray.training.loop import Loop
from mubench_ray.training.meter import Meter
from mubench_ray.training.phase import Phase
from mubench_ray.trial import ForgetSet, Training, Trial, Unlearning
from mubench_ray.trials.unlearning import unlearn

WORKERS = 2
#: Batches of 5 do not halve, and the last of D_F has 3 rows.
SGD = Unlearning(batch_size=5, optimizer="sgd")
#: What makes a method quick; the rest is as by default.
QUICK = {"epochs": 1, "warmup_epochs": 1, "helper_epochs": 1, "early_epochs": 2, "fine_epochs": 1, "samples": 5}
#: Beside every method at its defaults: other forms, networks and options.
MORE = {
    "bad_t mixed": ("bad_t", {"form": "mixed"}, {}),
    "scrub two_phase": ("scrub", {"form": "two_phase"}, {}),
    "npo alone": ("npo", {"gamma": 0.0}, {}),
    "neggrad_plus with everything": (
        "neggrad_plus",
        {},
        {"optimizer": "adamw", "superloss": 10.0, "clip": 0.5, "weight_decay": 0.1},
    ),
    "salun with lora": ("salun", {}, {"lora": 0.3}),
    "ft adam": ("ft", {}, {"optimizer": "adam"}),
    "ft resnet": ("ft", {}, {"model": "resnet-18", "batch_size": 14}),
    # One of the 40 is left over and joins the batch before it.
    "ft resnet one left over": ("ft", {}, {"model": "resnet-18", "batch_size": 13}),
    "rand_label vit dropout": ("rand_label", {}, {"model": "vit-tiny", "dropout": 0.5}),
    "original": ("original", {}, {}),
    "ft single precision": ("ft", {}, {"double": False}),
    "scrub single precision": ("scrub", {}, {"double": False}),
}
CASES = {name: (name, {}, {}) for name, _ in METHODS if name not in ("original", "retrain")} | MORE


class Double(Model):
    """A model in double precision, so that what differs is not a rounding error that training made larger (a ResNet on five pictures does)."""

    family, modality, citation = "a test", "image", "none"

    def __init__(self, model: Model) -> None:
        self.name, self._model = model.name, model

    def build(self, task) -> nn.Module:
        return self._model.build(task).double()

    def encode(self, task, columns) -> dict:
        return {name: column.double() for name, column in self._model.encode(task, columns).items()}


def unlearned(case: str, world: World, **meter) -> dict:
    """Parameters and buffers of f_U after a method, with what it cost."""
    method, given, changes = CASES[case]
    spaces = METHODS.get(method).spaces()
    method = METHODS.get(method).configure({k: v for k, v in QUICK.items() if k in spaces} | given)
    changes = dict(changes)
    model, dropout = changes.pop("model", "cnn-small"), changes.pop("dropout", None)
    double = changes.pop("double", True)
    options = Unlearning(**(SGD.model_dump() | changes))
    ctx = bench(model, lr=0.01)
    if double:
        ctx.network.double()
        ctx.model = ctx.data.model = Double(ctx.model)
    ctx.world, ctx.meter = world, Meter(world=world, **meter)
    for module in ctx.network.modules():
        if dropout and isinstance(module, nn.Dropout):
            module.p = dropout
        if dropout and hasattr(module, "attention_dropout"):
            module.attention_dropout = dropout
    ctx.network.eval()
    trial = Trial(task="pictures", model=model, method=method.name, forget=ForgetSet(ratio=10), seed=1, training_seed=0, lr=0.01,
                  training=Training(epochs=1, batch_size=5), unlearning=options)  # fmt: skip
    steps: list[int] = []
    truncated = unlearn(ctx, method, trial, lambda ctx: steps.append(ctx.meter.examples))
    return {
        "state": {name: tensor.clone() for name, tensor in ctx.network.state_dict().items()},
        "flos": ctx.meter.flos,
        "steps": steps,
        "truncated": truncated,
        "splits": ctx.world.splits,
    }


def rank_of_all(rank: int, folder: str) -> None:
    """What every process does; all answers come back as files."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=WORKERS)
    answers = {}
    for case in CASES:
        answers[case] = unlearned(case, World.joined())
    full = answers["ft"]["flos"]
    answers["capped flos"] = unlearned("ft", World.joined(), cap_flos=full * 0.6)
    # The clock of rank 1 says that time is up at once, that of rank 0 that there is enough: rank 0 decides.
    answers["capped seconds"] = unlearned("ft", World.joined(), cap_seconds=1e9 if rank == 0 else 0.0)
    for case in IN_PIECES:
        answers[f"{case} in pieces"] = unlearned(case, World.joined(sharded=True))
    answers["refused in pieces"] = refused_in_pieces()
    answers["out of step"] = out_of_step(rank)
    answers["three"] = a_step_of_three(World.joined())
    answers["first"] = what_the_first_says(folder)
    torch.save(answers, os.path.join(folder, f"{rank}.pt"))
    dist.destroy_process_group()


def out_of_step(rank: int) -> str:
    """What is said of a rank that changes its weights on its own."""
    ctx = bench("cnn-small", lr=0.01)
    ctx.world = World.joined()

    def alone(ctx) -> None:
        with torch.no_grad():
            ctx.network.head.bias[0] += rank * 1e-7

    try:
        Loop(ctx, [Phase("p", "forget", lambda ctx, batch: ctx.loss(batch), before=alone)], SGD).run()
    except MubenchError as error:
        return str(error)
    return "nothing"


def a_step_of_three(world: World) -> dict:
    """A ResNet whose last map is 1 x 1 after one step on three examples: of two processes one has a single example, which it could not normalise alone."""
    ctx = bench("resnet-18", lr=0.01)
    ctx.network.double()
    ctx.model = ctx.data.model = Double(ctx.model)
    ctx.world, ctx.meter = world, Meter(world=world)
    epochs = 1 / ctx.data.steps("retain", 3, 1)
    options = Unlearning(batch_size=3, optimizer="sgd")
    Loop(ctx, [Phase("p", "retain", lambda ctx, batch: ctx.loss(batch), epochs=epochs)], options).run()
    assert ctx.meter.examples == 3
    return {name: tensor.clone() for name, tensor in ctx.network.state_dict().items()}


class Runs:
    """Leaves a file where it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


#: What rank 0 may raise, and what the others raise then.
RAISED = [
    (ValueError("on purpose"), MubenchError),
    (StorageLost("the disk is full"), StorageLost),
    (Diverged("not finite"), Diverged),
    (torch.OutOfMemoryError("CUDA out of memory"), torch.OutOfMemoryError),
    (MemoryError("of this machine"), MemoryError),
    (FileNotFoundError(2, "No such file", "x"), MubenchError),
]


def what_the_first_says(folder: str) -> list:
    """What every rank hears of what rank 0 returns, raises, and of an object that would run something."""
    world = World.joined()

    def heard(make):
        try:
            return world.on_rank_0(make)
        except Exception as error:  # noqa: BLE001 - which one is what the test asks
            return type(error).__name__, str(error)

    def returning(value):
        return value

    def raising(error):
        raise error

    told = [heard(partial(returning, value)) for value in (True, None, 0.1, math.inf, 2**61, "å\n")]
    told += [heard(partial(raising, error)) for error, _ in RAISED]
    mark = Path(folder) / "unpickled"
    return [*told, heard(lambda: Runs(str(mark))), mark.exists()]


#: Methods that only take optimiser steps, and so run under FSDP.
IN_PIECES = ["ft", "neggrad_plus", "ft adam", "bad_t"]


def refused_in_pieces() -> list[str]:
    """What is said of methods that handle weights themselves."""
    said = []
    for case in ("salun", "scrub", "l1_sparse", "salun with lora"):
        try:
            unlearned(case, World.joined(sharded=True))
        except MubenchError as error:
            said.append(str(error))
    return said


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The answers of both ranks."""
    folder = str(tmp_path_factory.mktemp("ranks"))
    mp.spawn(rank_of_all, (folder,), nprocs=WORKERS)
    return [torch.load(os.path.join(folder, f"{rank}.pt"), weights_only=False) for rank in range(WORKERS)]


@pytest.mark.parametrize("case", CASES)
def test_two_processes_end_where_one_does(both, case):
    alone, (first, second) = unlearned(case, World()), [answers[case] for answers in both]
    assert first["state"].keys() == alone["state"].keys()
    for name, tensor in alone["state"].items():
        assert torch.equal(first["state"][name], second["state"][name]), name
        off = (first["state"][name].double() - tensor.double()).abs().max()
        assert off <= 1e-5, f"{name} is off by {off:.2g}"
    assert first["flos"] == second["flos"] == pytest.approx(alone["flos"], rel=1e-12)
    assert first["steps"] == second["steps"] == alone["steps"]
    assert alone["splits"] == 0


@pytest.mark.parametrize("case", IN_PIECES)
def test_a_network_in_pieces_ends_where_a_whole_one_does(both, case):
    alone, (first, second) = unlearned(case, World()), [answers[f"{case} in pieces"] for answers in both]
    for name, tensor in alone["state"].items():
        off = max((ranks["state"][name].double() - tensor.double()).abs().max() for ranks in (first, second))
        assert off <= 1e-5, f"{name} is off by {off:.2g}"
    assert first["flos"] == second["flos"] == pytest.approx(alone["flos"], rel=1e-12)
    assert first["splits"] > 0


def test_in_pieces_a_method_that_handles_weights_is_refused(both):
    for answers in both:
        assert ["handles weights" in said for said in answers["refused in pieces"]] == [True] * 4


#: Every step of these is of single examples, or of networks of the method's own: each process does all of it.
WHOLE = {"assd", "ff", "lfssd", "ssd", "sisa", "original"}


@pytest.mark.parametrize("case", CASES)
def test_work_is_split(both, case):
    assert (both[0][case]["splits"] == 0) == (case in WHOLE)


def test_all_stop_at_the_same_step(both):
    full = unlearned("ft", World())
    alone = unlearned("ft", World(), cap_flos=full["flos"] * 0.6)
    for answers in both:
        assert answers["capped flos"]["truncated"] and answers["capped flos"]["steps"] == alone["steps"]
        assert answers["capped flos"]["flos"] == alone["flos"] < full["flos"] * 0.6
        assert answers["capped seconds"]["truncated"] is False and answers["capped seconds"]["steps"] == full["steps"]


def test_a_rank_that_differs_is_named(both):
    assert all("rank 1 is not that of rank 0" in answers["out of step"] for answers in both)


def test_a_process_with_a_single_example_of_a_batch(both):
    alone = a_step_of_three(World())
    for answers in both:
        assert answers["three"].keys() == alone.keys()
        assert all((answers["three"][name] - tensor).abs().max() <= 1e-6 for name, tensor in alone.items())


def test_what_rank_0_returns_or_raises_is_so_everywhere(both):
    first, second = (answers["first"] for answers in both)
    assert first[:6] == second[:6] == [True, None, 0.1, math.inf, 2**61, "å\n"]
    for (error, kind), one, other in zip(RAISED, first[6:], second[6:]):
        assert one == (type(error).__name__, str(error))
        assert other == (kind.__name__, str(error) if kind is type(error) else f"{type(error).__name__}: {error}")


def test_no_rank_unpickles_what_another_sends(both):
    first, second = (answers["first"][-2] for answers in both)
    assert not any(answers["first"][-1] for answers in both)
    assert first[0] == "TypeError" and second[0] == "MubenchError" and "not JSON serializable" in second[1]


@pytest.mark.parametrize(("count", "size"), [(5, 2), (7, 3), (3, 3), (100, 7)])
def test_rows_cover_a_batch_once(count, size):
    parts = [range(count)[World(rank, size).rows(count)] for rank in range(size)]
    assert [row for part in parts for row in part] == list(range(count))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_batch_with_fewer_rows_than_processes_is_not_split():
    assert World(0, 2).rows(1) is None and World(0, 1).rows(100) is None


def test_checksum_sees_every_bit_and_order():
    one, other = torch.tensor([1.0, 2.0]), torch.tensor([True, False])
    assert checksum([one, other]) == checksum([one.clone(), other.clone()])
    changed = one.clone()
    changed[1] = torch.nextafter(changed[1], torch.tensor(9.0))
    assert len({checksum([one]), checksum([changed]), checksum([one.flip(0)]), checksum([other]), checksum([])}) == 5
