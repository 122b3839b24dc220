"""Originals and retrains: trained once, addressed by the hash of their recipe, checked by the hash of their content, shared."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_model, save_model
from torch import nn

from mubench_ray.engine.workspace import data_for
from mubench_ray.provenance import provenance
from mubench_ray.randomness import derive
from mubench_ray.tasks import Batch, Splits
from mubench_ray.training.context import Context
from mubench_ray.training.data import Rows, UnlearningData
from mubench_ray.training.evaluate import Observed, eval_mode, evaluate
from mubench_ray.training.loop import Loop
from mubench_ray.training.meter import Meter, count_flos
from mubench_ray.training.phase import Optimizer, Phase
from mubench_ray.trial import Recipe


class Damaged(Exception):
    """An artifact whose files do not have the hashes it was saved with."""


@dataclass
class Artifact:
    """A trained network's folder with what it cost and what it does: a retrain on every split (``forget_loss``, ...), an original on the
    shifted sets (``shifted_<set>_loss``, ...). ``flos_per_sample`` is of a checkpoint that is the original as it is: a training step's, counted."""

    folder: Path
    flos: float
    seconds: float
    observed: dict[str, np.ndarray]
    flos_per_sample: float | None = None

    def load_into(self, network: nn.Module) -> nn.Module:
        """Put the weights into a network of the same architecture."""
        load_model(network, self.folder / "weights.safetensors")
        return network


class ArtifactStore:
    """A folder of artifacts on storage that every worker reaches."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def has(self, recipe: Recipe) -> bool:
        """Whether the artifact was made (its content is checked when it is loaded)."""
        return (self.root / recipe.id / "meta.json").is_file()

    def load(self, recipe: Recipe) -> Artifact:
        """The artifact; raises FileNotFoundError where there is none and Damaged where its content is not what was saved."""
        folder = self.root / recipe.id
        try:
            meta = json.loads((folder / "meta.json").read_text())
            wrong = [name for name, digest in meta["sha256"].items() if _sha256(folder / name) != digest]
        except FileNotFoundError:
            raise
        except (ValueError, KeyError, OSError) as error:
            raise Damaged(f"{folder}: {error}") from error
        if wrong:
            raise Damaged(f"{folder}: {wrong[0]} does not have the hash it was saved with")
        with np.load(folder / "observed.npz") as arrays:
            observed = dict(arrays)
        return Artifact(folder, meta["flos"], meta["seconds"], observed, meta.get("flos_per_sample"))

    def save(
        self, recipe: Recipe, network: nn.Module, meter: Meter, observed: dict[str, np.ndarray], extra: dict[str, Any]
    ) -> Artifact:
        """Write an artifact whole or not at all; the first of two writers of one recipe wins."""
        self.root.mkdir(parents=True, exist_ok=True)
        partial = self.root / f".{recipe.id}.{os.getpid()}"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        save_model(network, str(partial / "weights.safetensors"))
        np.savez(partial / "observed.npz", **observed)
        meta = {
            "recipe": recipe.model_dump(),
            "flos": meter.flos,
            "seconds": meter.seconds,
            "sha256": {name: _sha256(partial / name) for name in ("weights.safetensors", "observed.npz")},
            "provenance": provenance(),
            **extra,
        }
        (partial / "meta.json").write_text(json.dumps(meta, indent=2))
        try:
            partial.rename(self.root / recipe.id)
        except OSError:
            if not self.has(recipe):
                raise
            shutil.rmtree(partial)
        return self.load(recipe)

    def get(self, recipe: Recipe, make: Callable[[], Artifact]) -> Artifact:
        """The artifact, made where it is missing and made anew where it is damaged."""
        try:
            return self.load(recipe)
        except FileNotFoundError:
            pass
        except Damaged:
            aside = self.root / f".damaged-{recipe.id}.{os.getpid()}"
            (self.root / recipe.id).rename(aside)
            shutil.rmtree(aside)
        return make()


def get_artifact(
    recipe: Recipe, store: ArtifactStore, data_dir: str | Path | None = None, device: str = "cpu"
) -> Artifact:
    """The trained original or retrain of a recipe: from the store, or trained here and now. Raises Diverged when training does."""
    return store.get(recipe, lambda: _make(recipe, store, data_dir, device))


def _make(recipe: Recipe, store: ArtifactStore, data_dir: str | Path | None, device: str) -> Artifact:
    data, splits, forget = data_for(recipe, data_dir, device)
    extra: dict[str, Any] = {}
    if recipe.training is None:
        network, meter = checkpoint(recipe, data), Meter(device=data.device)
        extra = {"flos_per_sample": flos_of_a_step(network, data)}
    else:
        network, meter = train(recipe, data)
    if recipe.on:
        observed = {}
    elif forget is None:
        observed = flatten({name: evaluate(network, data, rows) for name, rows in shifted_rows(splits).items()})
    else:
        sets = {"forget": Rows(splits.train, forget.forget), "retain": data.rows("retain")} | held_out(splits)
        observed = flatten({name: evaluate(network, data, rows) for name, rows in sets.items()})
        extra = {"forget_sha256": forget.manifest["sha256"], "forget_size": len(forget.forget)}
    return store.save(recipe, network, meter, observed, extra)


def checkpoint(recipe: Recipe, data: UnlearningData) -> nn.Module:
    """The recipe's checkpoint as it is."""
    torch.manual_seed(derive("initialise", recipe.seed))
    return data.model.initial(data.task).to(data.device)


def flos_of_a_step(network: nn.Module, data: UnlearningData) -> float:
    """FLOs an example of a step that trains all of the network, counted on the first two of D. No gradient is kept, so that a large network fits."""
    batch = data.batch(data.rows("train"), torch.arange(2))
    hooks = [p.register_post_accumulate_grad_hook(_drop) for p in network.parameters() if p.requires_grad]
    with eval_mode(network):
        _, flos = count_flos(lambda: data.task.losses(data.task.outputs(network, batch), batch).mean().backward())
    for hook in hooks:
        hook.remove()
    return flos / len(batch)


def _drop(parameter: nn.Parameter) -> None:
    parameter.grad = None


def train(recipe: Recipe, data: UnlearningData) -> tuple[nn.Module, Meter]:
    """Train the recipe's network from scratch on all the data that ``data`` holds: D for an original, D_R for a retrain."""
    options = recipe.training
    task, model = data.task, data.model
    torch.manual_seed(derive("initialise", recipe.seed))
    network = model.initial(task).to(data.device)
    meter = Meter(device=data.device)
    ctx = Context(task, model, network, data, derive("train", recipe.seed), meter, options.lr)
    name = recipe.on or ("train" if recipe.forget is None else "retain")

    def loss(ctx: Context, batch: Batch) -> torch.Tensor:
        return ctx.loss(batch)

    phase = Phase(
        "train", name, loss, epochs=options.epochs, optimizer=Optimizer(schedule=options.schedule), augment=True
    )
    Loop(ctx, [phase], options).run()
    return network, meter


def held_out(splits: Splits) -> dict[str, Rows]:
    """D_V and D_Test."""
    return {"validation": Rows.all_of(splits.validation), "test": Rows.all_of(splits.test)}


def shifted_rows(splits: Splits) -> dict[str, Rows]:
    """The shifted test sets as ``shifted_<set>``."""
    return {f"shifted_{name}": Rows.all_of(examples) for name, examples in splits.shifted.items()}


def flatten(observed: dict[str, Observed]) -> dict[str, np.ndarray]:
    """``{"forget": {"loss": ...}}`` as ``{"forget_loss": ...}``, the names that metrics ask for."""
    return {f"{split}_{column}": values for split, columns in observed.items() for column, values in columns.items()}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
