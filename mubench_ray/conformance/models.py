"""What every model is held to: what it says of itself, what it refuses, and its network on made-up examples of each kind of task that it takes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_model, save_model
from torch import Tensor, nn

from mubench_ray.conformance.findings import Finding, all_of, guarded, misnumbered, unsaid
from mubench_ray.conformance.made_up import made_up
from mubench_ray.models import MODELS, Model
from mubench_ray.tasks import TASKS, Batch, Classification, Task
from mubench_ray.trial import Training

#: Parameters above which a network is built on the meta device alone, where it takes no memory.
LARGE = 30_000_000


def check(name: str) -> Iterator[Finding]:
    """What the model declares and refuses, and its network for the smallest task of each kind that it takes."""
    model = MODELS.get(name)
    yield from guarded(partial(check_declarations, model), "declares what it is")
    yield from guarded(partial(check_refusals, model), "refuses what it does not take")
    for kind in model.kinds:
        task = smallest_task(model, kind)
        if task is not None:
            for finding in guarded(partial(check_network, model, task)):
                yield Finding(f"{task.name}: {finding.name}", finding.ok, finding.detail)


def check_declarations(model: Model) -> Iterator[Finding]:
    """What the model says of itself."""
    said = {part: getattr(model, part, "") for part in ("family", "modality", "citation")}
    missing = unsaid({"docstring": type(model).__doc__} | said)
    yield all_of("has a docstring, a family, a modality and a citation", missing)
    faults = [
        f"training has {key!r}, which Training has not" for key in model.training if key not in Training.model_fields
    ]
    yield all_of("its training and version are ones", faults + misnumbered(model.version))


def check_refusals(model: Model) -> Iterator[Finding]:
    """Whether it takes a task of every kind that it names, and gives a reason for all others."""
    unserved = [kind for kind in model.kinds if smallest_task(model, kind) is None]
    yield all_of("takes a task of every kind that it names", [f"no task of {model.modality} and {k}" for k in unserved])
    answers = {name: model.refusal(task) for name, task in TASKS}
    faults = [f"{name}: {answer!r} is no reason" for name, answer in answers.items()
              if answer is not None and not (isinstance(answer, str) and answer.strip())]  # fmt: skip
    faults += [f"takes {name}, which is {task.modality} and {task.kind}" for name, task in TASKS
               if answers[name] is None and (task.modality != model.modality or task.kind not in model.kinds)]  # fmt: skip
    yield all_of("refuses what it does not take, with a reason", faults)


def smallest_task(model: Model, kind: str) -> type[Task] | None:
    """Of the tasks of a kind that the model takes, the one whose examples are smallest."""

    def size(task: type[Task]) -> int:
        return sum(column.numel() for column in task().blank(1).values())

    return min((t for _, t in TASKS if t.kind == kind and model.refusal(t) is None), key=size, default=None)


def check_network(model: Model, kind: type[Task]) -> Iterator[Finding]:
    """The network for a task: on the meta device, and in memory unless it is large."""
    task = kind()
    with torch.device("meta"):
        empty = model.build(task)
    parameters = sum(p.numel() for p in empty.parameters())
    real = {name: p.numel() for name, p in empty.named_parameters() if not p.is_meta}
    # transformers makes a single vector in memory here and there.
    taken = list(real) if sum(real.values()) > parameters / 100 else []
    yield all_of("is built on the meta device, where it takes no memory", [f"{name} is not" for name in taken])
    if parameters > LARGE:
        yield Finding(f"is not built in memory: {parameters:,} parameters", True)
        return
    columns = made_up(task)
    network, same, other = (_built(model, task, seed) for seed in (0, 0, 1))
    differ = [name for name, one, two in _pairs(network, same) if not torch.equal(one, two)]
    yield all_of("same seed, same weights", [f"{name} differs" for name in differ])
    equal = all(torch.equal(one, two) for _, one, two in _pairs(network, other))
    yield Finding("another seed, other weights", not equal, "all weights are the same" if equal else "")
    batch = _batch(model, task, columns)
    network.eval()
    with torch.no_grad():
        outputs = task.outputs(network, batch)
        yield Finding("gives outputs for every example", *shaped(task, outputs, batch))
        torch.manual_seed(5)
        again = task.outputs(network, batch)
        yield Finding("gives the same outputs again in eval mode", torch.equal(outputs, again))
        if isinstance(task, Classification):
            alone = task.outputs(network, _batch(model, task, {name: c[:2] for name, c in columns.items()}))
            near = torch.allclose(outputs[:2], alone, atol=1e-3, rtol=1e-3)
            yield Finding("an example's outputs do not depend on its batch in eval mode", near)
        with tempfile.TemporaryDirectory() as folder:
            save_model(network, file := str(Path(folder) / "weights.safetensors"))
            load_model(other, file)
        other.eval()
        yield Finding("its weights survive saving", torch.equal(outputs, task.outputs(other, batch)))
    network.train()
    drawn = []
    for _ in range(2):
        torch.manual_seed(6)
        drawn.append(task.outputs(network, batch).detach())
    alike = torch.equal(*drawn)
    yield Finding("draws from torch alone in train mode", alike, "" if alike else "same torch seed, other outputs")
    task.losses(task.outputs(network, batch), batch).mean().backward()
    trained = {name: p.grad for name, p in network.named_parameters() if p.requires_grad}
    broken = [name for name, g in trained.items() if g is not None and not bool(torch.isfinite(g).all())]
    faults = [f"the gradient of {name} is not finite" for name in broken]
    if not any(g is not None and bool(g.any()) for g in trained.values()):
        faults.append("no parameter gets a gradient")
    yield all_of("trains: gradients are there and finite", faults)


def shaped(task: Task, outputs: object, batch: Batch) -> tuple[bool, str]:
    """Whether outputs are logits (B, classes), or give a finite loss an example, and what they are if not."""
    if isinstance(task, Classification):
        if not isinstance(outputs, Tensor) or outputs.shape != (len(batch), task.classes):
            there = f"{tuple(outputs.shape)}" if isinstance(outputs, Tensor) else type(outputs).__name__
            return False, f"outputs are {there}, expected logits ({len(batch)}, {task.classes})"
        if bool((outputs >= 0).all()) and torch.allclose(outputs.sum(-1), torch.ones(len(batch)), atol=1e-3):
            return False, "outputs are probabilities, expected logits: leave the softmax to the loss"
        return True, ""
    losses = task.losses(outputs, batch)
    right = losses.shape == (len(batch),) and bool(torch.isfinite(losses).all())
    return (
        right,
        "" if right else f"the task makes losses {tuple(losses.shape)} of them, expected finite ({len(batch)},)",
    )


def _built(model: Model, task: Task, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return model.build(task)


def _pairs(one: nn.Module, other: nn.Module) -> list[tuple[str, Tensor, Tensor]]:
    return [
        (name, *both) for name, *both in zip(one.state_dict(), one.state_dict().values(), other.state_dict().values())
    ]


def _batch(model: Model, task: Task, columns: dict[str, Tensor]) -> Batch:
    return Batch(columns, model.encode(task, columns), torch.zeros(len(columns["labels"]), dtype=torch.bool))
