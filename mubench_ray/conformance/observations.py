"""What every observation is held to: what it declares, and what it does with a small network on made-up pictures."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor, nn

from mubench_ray.conformance.bench import FORGET, TRAIN, VALIDATION, Pictures, bench
from mubench_ray.conformance.findings import Finding, all_of, guarded, misnumbered, unsaid
from mubench_ray.errors import MubenchError
from mubench_ray.observations import OBSERVATIONS, Observation, Seen
from mubench_ray.observations.base import Kind, refusal
from mubench_ray.observations.evaluation_sets import SETS
from mubench_ray.tasks import Splits
from mubench_ray.training.data import Rows, UnlearningData
from mubench_ray.training.evaluate import evaluate
from mubench_ray.trial import ForgetSet, Trial

#: The network that is looked at.
MODEL = "cnn-small"


@dataclass
class MadeUpArtifact:
    """A network with random weights, in the shape of an artifact."""

    weights: dict[str, Tensor]
    observed: dict[str, np.ndarray]
    folder: Path = Path("nowhere")

    def load_into(self, network: nn.Module) -> nn.Module:
        """Put the weights into a network of the same architecture."""
        network.load_state_dict(self.weights)
        return network


def check(name: str) -> Iterator[Finding]:
    """What the observation declares, and what it gives, twice, of one network."""
    kind = OBSERVATIONS.get(name)
    yield from guarded(partial(check_declarations, kind), "declares what it is")
    if reason := refusal(kind, Pictures, True):
        yield Finding(f"refuses pictures: {reason}", True, reason)
    else:
        yield from guarded(partial(check_observed, kind))


def check_declarations(kind: type[Observation]) -> Iterator[Finding]:
    """What the class says of itself."""
    said = {"docstring": vars(kind).get("__doc__"), "title": kind.title, "costs": kind.costs}
    yield all_of("has a docstring, a title and its costs", unsaid(said))
    faults = misnumbered(kind.version)
    for verb, named, known in (
        ("needs", kind.needs, get_args(Kind)),
        ("reads", kind.reads, (*SETS, "shifted test sets")),
    ):
        faults += [f"{verb} {name!r}, which is none of {', '.join(known)}" for name in named if name not in known]
    yield all_of("its needs, what it reads and its version are ones", faults)
    kind()
    try:
        kind(no_such_option=1)
    except MubenchError:
        yield Finding("has defaults and refuses options that it has not", True)
    else:
        yield Finding("has defaults and refuses options that it has not", False, "no_such_option = 1 is accepted")


def check_observed(kind: type[Observation]) -> Iterator[Finding]:
    """What it gives, and that f_U is left as it was."""
    seen = look(kind)
    network = seen.ctx.network
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    modes, data = modes_of(network), data_of(seen)
    torch.manual_seed(1)
    one = short(kind).observe(seen)
    yield Finding("runs", True)
    told = [f"{name!r} is not in gives" for name in one if not kind.is_given(name)]
    told += [f"{name!r} is not given" for name in kind.gives if kind.asked and "*" not in name and name not in one]
    told += [f"{name!r} is what every trial is looked at for" for name in one if kind.asked and is_taken(name)]
    yield all_of("gives what it says and no others", told)
    moved = [name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])]
    if modes != modes_of(network):
        moved.append("train or eval mode, or what takes gradients,")
    yield all_of("leaves f_U as it is", [f"{name} is changed" for name in moved])
    changed = [name for name, tensor in data_of(seen).items() if not torch.equal(tensor, data[name])]
    yield all_of("leaves the data as they are", [f"{name} is changed" for name in changed])
    torch.manual_seed(2)  # what was drawn before must not matter
    two = short(kind).observe(look(kind))
    differ = sorted(one.keys() ^ two.keys()) + [
        name for name in one.keys() & two.keys() if not same(one[name], two[name])
    ]
    yield all_of("same network, same arrays", [f"{name} differs" for name in differ])
    odd = [name for name, values in one.items() for array in arrays(values) if array.dtype.kind not in "fiub"]
    yield all_of("gives numbers", [f"{name} holds something else" for name in odd])


def short(kind: type[Observation]) -> Observation:
    """The observation at its defaults, but for few steps where it takes any."""
    return kind(**({"steps": 10} if "steps" in kind.Options.model_fields else {}))


def modes_of(network: nn.Module) -> list[bool]:
    """Which modules are in train mode, and which parameters take gradients."""
    return [each.training for each in network.modules()] + [each.requires_grad for each in network.parameters()]


def data_of(seen: Seen) -> dict[str, Tensor]:
    """Copies of the columns of every set and of its positions."""
    found = {f"the positions of {name}": rows.positions.clone() for name, rows in seen.sets.items()}
    for name, rows in seen.sets.items():
        found |= {f"{key!r} of {name}": column.clone() for key, column in rows.examples.columns.items()}
    return found


def is_taken(name: str) -> bool:
    """Whether an array has the name of one that every trial has: metrics of the trial would read it in its place."""
    return bool(
        re.fullmatch(
            rf"(retrain_)?({'|'.join(SETS)})_(loss|correct|confidence|entropy|modified_entropy|top_probability)", name
        )
    )


class Declared(dict[str, Rows]):
    """Sets of which only those may be taken that an observation says it reads."""

    reads: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Rows:
        if name not in self.reads:
            raise MubenchError(f"it reads {name!r}, which its ``reads`` does not name: {', '.join(self.reads)}.")
        return super().__getitem__(name)


def look(kind: type[Observation]) -> Seen:
    """A network with random weights that f_U is, others beside it as far as ``kind`` says that it needs them, and D_F every sixth of the pictures."""
    ctx = bench(MODEL)
    ctx.keep_original()
    train = ctx.data.rows("forget").examples
    splits = Splits(train, ctx.data.rows("validation").examples, Pictures.draw(VALIDATION, "test"))
    sets = dict(ctx.data.sets) | {"test": Rows.all_of(splits.test)}
    trial = Trial(task="pictures", model=MODEL, method="original", forget=ForgetSet(ratio=100 * FORGET / TRAIN), seed=1,
                  training_seed=0, lr=None, training=Pictures.training)  # fmt: skip
    declared = Declared(sets)
    declared.reads = kind.reads

    def artifact(need: Kind) -> MadeUpArtifact:
        if need not in kind.needs:
            raise MubenchError(f"it takes the network {need!r}, which its ``needs`` does not name.")
        return made_up_artifact(ctx.model, sets, 2 + get_args(Kind).index(need))

    return Seen(trial, ctx, splits, declared, made_up_artifact(ctx.model, sets, 1), artifact)


def made_up_artifact(model: Any, sets: dict[str, Rows], seed: int) -> MadeUpArtifact:
    """A network of a seed, with what it does on every example of the sets."""
    task = Pictures()
    torch.manual_seed(seed)
    network = model.build(task)
    data = UnlearningData(task, model, sets)
    observed = {
        f"{name}_{key}": values for name, rows in sets.items() for key, values in evaluate(network, data, rows).items()
    }
    return MadeUpArtifact(network.state_dict(), observed)


def arrays(values: Any) -> list[np.ndarray]:
    """The arrays of what was given under one name."""
    return [np.asarray(each) for each in values.values()] if isinstance(values, dict) else [np.asarray(values)]


def same(one: Any, other: Any) -> bool:
    """Whether two things that were given are alike in every number; a NaN is like a NaN."""
    pairs = list(zip(arrays(one), arrays(other)))
    return len(arrays(one)) == len(arrays(other)) and all(
        np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in pairs
    )
