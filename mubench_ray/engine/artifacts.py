"""Originals and retrains: trained once, addressed by the hash of their recipe, checked by the hash of their content, shared."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_model, save_model
from torch import nn

from mubench_ray.engine.workspace import data_for
from mubench_ray.provenance import provenance
from mubench_ray.randomness import derive
from mubench_ray.results.storage import GO_ON, Place, StorageLost
from mubench_ray.tasks import Batch, Splits
from mubench_ray.training.checkpoint import Checkpoint
from mubench_ray.training.context import Context
from mubench_ray.training.data import Rows, UnlearningData
from mubench_ray.training.distributed import World
from mubench_ray.training.evaluate import Observed, eval_mode, evaluate
from mubench_ray.training.loop import Loop
from mubench_ray.training.meter import Meter, count_flos
from mubench_ray.training.phase import Optimizer, Phase
from mubench_ray.training.recompute import recompute_activations
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
    #: Processes that trained it together: its seconds are those of so many.
    workers: int = 1

    def load_into(self, network: nn.Module) -> nn.Module:
        """Put the weights into a network of the same architecture."""
        load_model(network, self.folder / "weights.safetensors")
        return network


class ArtifactStore:
    """A folder of artifacts on storage that every worker reaches. In an object store ``root`` holds this machine's copies, which are checked like the rest."""

    def __init__(self, root: str | Path, checkpoint_seconds: float | None = None) -> None:
        self.place = Place(root)
        self.root = self.place.home
        self.checkpoint_seconds = checkpoint_seconds

    def checkpoint(self, name: str) -> Checkpoint | None:
        """Where a run that takes long saves itself, by its trial's or artifact's id; None where nothing is to be saved."""
        if self.checkpoint_seconds is None:
            return None
        path = self.root / "progress" / f"{name}.pt"
        if self.place.remote:
            return UploadedCheckpoint(path, self.checkpoint_seconds, self.place)
        return Checkpoint(path, self.checkpoint_seconds)

    def keep(self, name: str, network: nn.Module) -> None:
        """Save the weights that a trial ended with, whole or not at all."""
        path = self._kept(name)
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        with refused(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            save_model(network, str(partial))
            partial.replace(path)
        if self.place.remote:
            self.place.upload(path, f"steps/{path.name}")

    def has_kept(self, name: str) -> bool:
        """Whether the weights of a trial were kept."""
        return self.place.exists(f"steps/{self._kept(name).name}")

    def load_kept(self, name: str, network: nn.Module) -> None:
        """Put kept weights into a network of the same architecture."""
        path = self._kept(name)
        if self.place.remote:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(f".{path.name}.{os.getpid()}")
            self.place.download(f"steps/{path.name}", partial)
            partial.replace(path)
        load_model(network, path)

    def _kept(self, name: str) -> Path:
        return self.root / "steps" / f"{name}.safetensors"

    def has(self, recipe: Recipe) -> bool:
        """Whether the artifact was made (its content is checked when it is loaded)."""
        return self.place.exists(f"{recipe.id}/meta.json")

    def load(self, recipe: Recipe) -> Artifact:
        """The artifact; raises FileNotFoundError where there is none and Damaged where its content is not what was saved."""
        folder = self._fetched(recipe) if self.place.remote else self.root / recipe.id
        try:
            meta = json.loads((folder / "meta.json").read_text())
            wrong = [name for name, digest in meta["sha256"].items() if _sha256(folder / name) != digest]
        except FileNotFoundError:
            raise
        except NotADirectoryError as error:
            raise FileNotFoundError(str(error)) from error
        except (ValueError, KeyError, OSError) as error:
            raise Damaged(f"{folder}: {error}") from error
        if wrong:
            raise Damaged(f"{folder}: {wrong[0]} does not have the hash it was saved with")
        with np.load(folder / "observed.npz") as arrays:
            observed = dict(arrays)
        return Artifact(
            folder, meta["flos"], meta["seconds"], observed, meta.get("flos_per_sample"), meta.get("workers", 1)
        )

    def save(
        self, recipe: Recipe, network: nn.Module, meter: Meter, observed: dict[str, np.ndarray], extra: dict[str, Any]
    ) -> Artifact:
        """Write an artifact whole or not at all; the first of two writers of one recipe wins."""
        partial = self.root / f".{recipe.id}.{os.getpid()}"
        shutil.rmtree(partial, ignore_errors=True)
        with refused(partial):
            partial.mkdir(parents=True)
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
            for path in partial.iterdir():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
        if self.place.remote:
            self._upload(recipe, partial, meta["sha256"])
            return self.load(recipe)
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
            self._remove(recipe)
        return make()

    def usable(self, recipe: Recipe) -> bool:
        """Whether the artifact is there and undamaged; a damaged one is removed."""
        try:
            self.load(recipe)
        except FileNotFoundError:
            return False
        except Damaged:
            self._remove(recipe)
            return False
        return True

    def _upload(self, recipe: Recipe, partial: Path, digests: dict[str, str]) -> None:
        """Put an artifact into the object store, what says that it is whole last. Files carry their hash in their names: two writers never mix."""
        for name, digest in digests.items():
            self.place.upload(partial / name, f"{recipe.id}/{digest[:16]}-{name}")
        self.place.upload(partial / "meta.json", f"{recipe.id}/meta.json")
        shutil.rmtree(partial)

    def _fetched(self, recipe: Recipe) -> Path:
        """This machine's copy of an artifact in the object store; raises FileNotFoundError and Damaged."""
        content = self.place.read(f"{recipe.id}/meta.json")
        try:
            digests = json.loads(content)["sha256"]
        except (ValueError, KeyError, TypeError) as error:
            raise Damaged(f"{self.place}/{recipe.id}/meta.json: {error}") from error
        folder = self.root / recipe.id
        folder.mkdir(parents=True, exist_ok=True)
        for name, digest in digests.items():
            if not (folder / name).is_file() or _sha256(folder / name) != digest:
                partial = folder / f".{name}.{os.getpid()}"
                try:
                    self.place.download(f"{recipe.id}/{digest[:16]}-{name}", partial)
                except FileNotFoundError as error:
                    raise Damaged(f"{self.place}/{recipe.id}: {name} is gone") from error
                partial.replace(folder / name)
        partial = folder / f".meta.json.{os.getpid()}"
        partial.write_bytes(content)
        partial.replace(folder / "meta.json")
        return folder

    def _remove(self, recipe: Recipe) -> None:
        if self.place.remote:
            there = self.place.inside(recipe.id)
            for name in ["meta.json", *there.names()]:
                there.delete(name)
            shutil.rmtree(self.root / recipe.id, ignore_errors=True)
            return
        aside = self.root / f".damaged-{recipe.id}.{os.getpid()}"
        with refused(aside):
            (self.root / recipe.id).rename(aside)
            shutil.rmtree(aside)


class UploadedCheckpoint(Checkpoint):
    """A checkpoint that goes on from any machine: what is written here is copied to the object store, too."""

    def __init__(self, path: Path, every: float, place: Place) -> None:
        super().__init__(path, every)
        self._place, self._name = place, f"progress/{path.name}"
        if place.exists(self._name):
            path.parent.mkdir(parents=True, exist_ok=True)
            place.download(self._name, self._partial)
            self._partial.replace(path)

    def remove(self) -> None:
        """The run is over and its result is written."""
        super().remove()
        self._place.delete(self._name)

    def set_aside(self, reason: str) -> None:
        """Put away a file that the run cannot go on from, and say so."""
        super().set_aside(reason)
        self._place.delete(self._name)

    def _write(self, content: dict[str, Any]) -> None:
        super()._write(content)
        try:
            self._place.upload(self.path, self._name)
        except StorageLost as error:
            raise OSError(str(error)) from error  # a warning: the run itself can go on


@contextmanager
def refused(path: Path) -> Iterator[None]:
    """Raise StorageLost for what the file system refuses (a full disk)."""
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        shutil.rmtree(path, ignore_errors=True)
        raise StorageLost(f"{path} cannot be written ({' '.join(str(error).split())[:200]}). {GO_ON}") from error


def get_artifact(
    recipe: Recipe,
    store: ArtifactStore,
    data_dir: str | Path | None = None,
    device: str = "cpu",
    world: World | None = None,
) -> Artifact:
    """The trained original or retrain of a recipe: from the store, or trained here and now. Raises Diverged when training does.

    Several processes (``world``) train it together; rank 0 says whether it is there already, and saves it.
    """
    if world is None or world.size == 1:
        return store.get(recipe, lambda: _make(recipe, store, data_dir, device, World()))
    if world.first(lambda: store.usable(recipe)):
        return store.load(recipe)
    return _make(recipe, store, data_dir, device, world)


def _make(recipe: Recipe, store: ArtifactStore, data_dir: str | Path | None, device: str, world: World) -> Artifact:
    data, splits, forget = data_for(recipe, data_dir, device)
    extra: dict[str, Any] = {}
    progress: Checkpoint | None = None
    if recipe.training is None:
        network, meter = checkpoint(recipe, data), Meter(device=data.device)
        extra = {"flos_per_sample": flos_of_a_step(network, data)}
    else:
        progress = store.checkpoint(recipe.id)
        network, meter = train(recipe, data, world, progress)

    def observe_and_save() -> None:
        told = dict(extra)
        if recipe.on:
            sets: dict[str, Rows] = {}
        elif forget is not None:
            sets = {"forget": Rows(splits.train, forget.forget), "retain": data.rows("retain")} | held_out(splits)
            told = {"forget_sha256": forget.manifest["sha256"], "forget_size": len(forget.forget)}
        else:
            sets = shifted_rows(splits)
        observed = flatten({name: evaluate(network, data, rows) for name, rows in sets.items()})
        store.save(recipe, network, meter, observed, {"workers": world.size, **told})
        if progress is not None:
            progress.remove()

    world.first(observe_and_save)
    return store.load(recipe)


def checkpoint(recipe: Recipe, data: UnlearningData) -> nn.Module:
    """The recipe's checkpoint as it is."""
    torch.manual_seed(derive("initialise", recipe.seed))
    return data.model.finished(data.task).to(data.device)


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


def train(
    recipe: Recipe, data: UnlearningData, world: World | None = None, progress: Checkpoint | None = None
) -> tuple[nn.Module, Meter]:
    """Train the recipe's network from scratch on all the data that ``data`` holds: D for an original, D_R for a retrain; going on from ``progress``."""
    options = recipe.training
    task, model = data.task, data.model
    torch.manual_seed(derive("initialise", recipe.seed))
    network = model.initial(task).to(data.device)
    if options.gradient_checkpointing:
        recompute_activations(network)
    meter = Meter(device=data.device, world=world)
    ctx = Context(task, model, network, data, derive("train", recipe.seed), meter, options.lr)
    name = recipe.on or ("train" if recipe.forget is None else "retain")

    def loss(ctx: Context, batch: Batch) -> torch.Tensor:
        return ctx.loss(batch)

    phase = Phase(
        "train", name, loss, epochs=options.epochs, optimizer=Optimizer(schedule=options.schedule), augment=True
    )
    if meter.world.sharded:
        meter.world.shard(network)
        Loop(ctx, [phase], options).run()
        return meter.world.unshard_into(model.build(task).to(data.device), network), meter
    Loop(ctx, [phase], options, checkpoint=progress).run()
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
