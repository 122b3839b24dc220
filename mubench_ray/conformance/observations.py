"""What every observation is held to: what it declares, and what it does with a small network on made-up pictures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor, nn

from mubench_ray.conformance.bench import FORGET, TRAIN, VALIDATION, Pictures, bench
from mubench_ray.conformance.findings import Finding, all_of, guarded
from mubench_ray.errors import MubenchError
from mubench_ray.observations import OBSERVATIONS, Observation, Seen
from mubench_ray.observations.base import Kind, refusal
from mubench_ray.tasks import Splits
from mubench_ray.training.data import Rows, UnlearningData
from mubench_ray.training.evaluate import evaluate
from mubench_ray.trial import ForgetSet, Trial

#: The network that is looked at.
MODEL = "cnn-small"


@dataclass
class Beside:
    """A network beside f_U, as an artifact gives it."""

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
    yield all_of(
        "has a docstring, a title and its costs", [what for what, text in said.items() if not (text or "").strip()]
    )
    faults = [
        f"needs {need!r}, which is none of {', '.join(get_args(Kind))}"
        for need in kind.needs
        if need not in get_args(Kind)
    ]
    if isinstance(kind.version, bool) or not isinstance(kind.version, int) or kind.version < 1:
        faults.append(f"version is {kind.version!r}, not a number from 1 on")
    yield all_of("its needs and version are ones", faults)
    kind()
    try:
        kind(no_such_option=1)
    except MubenchError:
        yield Finding("has defaults and refuses options that it has not", True)
    else:
        yield Finding("has defaults and refuses options that it has not", False, "no_such_option = 1 is accepted")


def check_observed(kind: type[Observation]) -> Iterator[Finding]:
    """What it gives, and that f_U is left as it was."""
    seen = look()
    network = seen.ctx.network
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    torch.manual_seed(1)
    one = short(kind).observe(seen)
    yield Finding("runs", True)
    yield all_of(
        "gives what it says and no others", [f"{name!r} is not in gives" for name in one if not kind.is_given(name)]
    )
    moved = [name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])]
    if modes != [module.training for module in network.modules()]:
        moved.append("train or eval mode")
    yield all_of("leaves f_U as it is", [f"{name} is changed" for name in moved])
    torch.manual_seed(2)  # what was drawn before must not matter
    two = short(kind).observe(look())
    differ = sorted(one.keys() ^ two.keys()) + [
        name for name in one.keys() & two.keys() if not same(one[name], two[name])
    ]
    yield all_of("same network, same arrays", [f"{name} differs" for name in differ])
    odd = [name for name, values in one.items() for array in arrays(values) if array.dtype.kind not in "fiub"]
    yield all_of("gives numbers", [f"{name} holds something else" for name in odd])


def short(kind: type[Observation]) -> Observation:
    """The observation at its defaults, but for few steps where it takes any."""
    return kind(**({"steps": 10} if "steps" in kind.Options.model_fields else {}))


def look() -> Seen:
    """A network with random weights that f_U is, others beside it, and D_F every sixth of the pictures."""
    ctx = bench(MODEL)
    ctx.keep_original()
    train = ctx.data.rows("forget").examples
    splits = Splits(train, ctx.data.rows("validation").examples, Pictures.draw(VALIDATION, "test"))
    sets = dict(ctx.data.sets) | {"test": Rows.all_of(splits.test)}
    trial = Trial(task="pictures", model=MODEL, method="original", forget=ForgetSet(ratio=100 * FORGET / TRAIN), seed=1,
                  training_seed=0, lr=None, training=Pictures.training)  # fmt: skip
    return Seen(
        trial,
        ctx,
        splits,
        sets,
        beside(ctx.model, sets, 1),
        lambda kind: beside(ctx.model, sets, 2 + get_args(Kind).index(kind)),
    )


def beside(model: Any, sets: dict[str, Rows], seed: int) -> Beside:
    """A network of a seed, with what it does on every example of the sets."""
    task = Pictures()
    torch.manual_seed(seed)
    network = model.build(task)
    data = UnlearningData(task, model, sets)
    observed = {
        f"{name}_{key}": values for name, rows in sets.items() for key, values in evaluate(network, data, rows).items()
    }
    return Beside(network.state_dict(), observed)


def arrays(values: Any) -> list[np.ndarray]:
    """The arrays of what was given under one name."""
    return [np.asarray(each) for each in values.values()] if isinstance(values, dict) else [np.asarray(values)]


def same(one: Any, other: Any) -> bool:
    """Whether two things that were given are alike in every number; a NaN is like a NaN."""
    pairs = list(zip(arrays(one), arrays(other)))
    return len(arrays(one)) == len(arrays(other)) and all(
        np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in pairs
    )
