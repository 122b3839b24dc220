"""Artifacts (originals, retrains, scoring networks, ...): trained once, addressed by the hash of their recipe, checked by the hash of their content, shared."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import Tensor, nn

from mubench_ray.errors import MubenchError
from mubench_ray.files import hidden, read_json, sha256, whole, write
from mubench_ray.provenance import provenance
from mubench_ray.results.storage import GO_ON, Place, StorageLost
from mubench_ray.training.checkpoint import Checkpoint
from mubench_ray.training.meter import Meter
from mubench_ray.trial import Recipe

#: What the name of a trial's adapters has between its id and its ending.
ADAPTERS = ".adapters"


class Damaged(Exception):
    """An artifact whose files do not have the hashes it was saved with."""


@dataclass
class Artifact:
    """A trained network's folder with what it cost and what it does: a retrain on every split (``forget_loss``, ...), an original on the
    shifted sets (``shifted_<set>_loss``, ...), a scoring network on all of D (``train_loss``, ...).
    ``flos_per_sample`` is of a checkpoint that is the original as it is: a training step's, counted."""

    folder: Path
    flos: float
    seconds: float
    observed: dict[str, np.ndarray]
    flos_per_sample: float | None = None
    #: Processes that trained it together: its seconds are those of so many.
    workers: int = 1
    #: On what terms its seconds were spent, as rows have them (``rows.terms_of``); None where an earlier release made it, whose ``host`` is known.
    terms: dict[str, Any] | None = None
    host: str | None = None

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

    def progress(self, name: str) -> Checkpoint | None:
        """Where a run that takes long saves itself, by its trial's or artifact's id; None where nothing is to be saved."""
        if self.checkpoint_seconds is None:
            return None
        path = self.root / "progress" / f"{name}.pt"
        if self.place.remote:
            return UploadedCheckpoint(path, self.checkpoint_seconds, self.place)
        return Checkpoint(path, self.checkpoint_seconds)

    def spent(self, name: str) -> dict[str, float]:
        """``flos`` and ``seconds`` that a run had spent when it last saved itself, by its trial's or artifact's id; empty where it did not."""
        saved = None
        with suppress(OSError, StorageLost):  # what is not known of a run that failed must not fail another one
            saved = progress.load() if (progress := self.progress(name)) else None
        return {key: saved["meter"][key] for key in ("flos", "seconds")} if saved else {}

    def keep(self, name: str, network: nn.Module) -> None:
        """Save the weights that a trial ended with, whole or not at all."""
        self._keep(self._kept(name), lambda path: save_model(network, path, metadata={"trial": name}))

    def keep_adapters(self, name: str, adapters: dict[str, Tensor]) -> None:
        """Save what a trial with LoRA trained, whole or not at all."""
        content = {key: value.detach().contiguous() for key, value in adapters.items()}
        self._keep(self._kept(name, ADAPTERS), lambda path: save_file(content, path, metadata={"trial": name}))

    def has_kept(self, name: str) -> bool:
        """Whether the weights of a trial were kept."""
        return self.place.exists(f"steps/{self._kept(name).name}")

    def has_kept_adapters(self, name: str) -> bool:
        """Whether the adapters of a trial were kept."""
        return self.place.exists(f"steps/{self._kept(name, ADAPTERS).name}")

    def load_kept(self, name: str, network: nn.Module) -> None:
        """Put kept weights into a network of the same architecture; raises MubenchError naming a damaged file."""
        with readable(path := self._fetched_kept(self._kept(name))):
            require_trial(path, name)
            load_model(network, path)

    def kept_adapters(self, name: str) -> dict[str, Tensor]:
        """What a trial with LoRA trained, by name; raises MubenchError naming a damaged file."""
        with readable(path := self._fetched_kept(self._kept(name, ADAPTERS))):
            require_trial(path, name)
            return load_file(path)

    def _keep(self, path: Path, save: Callable[[str], None]) -> None:
        with refused(path), whole(path) as partial:
            save(str(partial))
        if self.place.remote:
            self.place.upload(path, f"steps/{path.name}")

    def _fetched_kept(self, path: Path) -> Path:
        if self.place.remote:
            with whole(path) as partial:
                self.place.download(f"steps/{path.name}", partial)
        return path

    def _kept(self, name: str, ending: str = "") -> Path:
        return self.root / "steps" / f"{name}{ending}.safetensors"

    def has(self, recipe: Recipe) -> bool:
        """Whether the artifact was made (its content is checked when it is loaded)."""
        return self.place.exists(f"{recipe.id}/meta.json")

    def load(self, recipe: Recipe) -> Artifact:
        """The artifact; raises FileNotFoundError where there is none and Damaged where its content is not what was saved."""
        folder = self._fetched(recipe) if self.place.remote else self.root / recipe.id
        try:
            meta = read_json(folder / "meta.json")
            wrong = [name for name, digest in meta["sha256"].items() if sha256(folder / name) != digest]
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
            folder,
            meta["flos"],
            meta["seconds"],
            observed,
            meta.get("flos_per_sample"),
            meta.get("workers", 1),
            meta.get("terms"),
            (meta.get("provenance") or {}).get("host"),
        )

    def bill(self, recipe: Recipe) -> dict[str, Any] | None:
        """What an artifact cost, without its weights: ``flos``, ``seconds`` and ``terms`` (None of an earlier release's); None where there is none."""
        try:
            meta = json.loads(self.place.read(f"{recipe.id}/meta.json"))
            return {"flos": meta["flos"], "seconds": meta["seconds"], "terms": meta.get("terms")}
        except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
            return None

    def save(
        self, recipe: Recipe, network: nn.Module, meter: Meter, observed: dict[str, np.ndarray], extra: dict[str, Any]
    ) -> Artifact:
        """Write an artifact whole or not at all; the first of two writers of one recipe wins."""
        partial = hidden(self.root / recipe.id)
        shutil.rmtree(partial, ignore_errors=True)
        with refused(partial):
            partial.mkdir(parents=True)
            save_model(network, str(partial / "weights.safetensors"))
            np.savez(partial / "observed.npz", **observed)  # pyright: ignore[reportArgumentType] - none is named allow_pickle
            meta = {
                "recipe": recipe.model_dump(),
                "flos": meter.flos,
                "seconds": meter.seconds,
                "sha256": {name: sha256(partial / name) for name in ("weights.safetensors", "observed.npz")},
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

    def find(self, recipe: Recipe) -> Artifact | None:
        """The artifact, or None where it is to be made: it is missing, or was damaged and is removed."""
        try:
            return self.load(recipe)
        except FileNotFoundError:
            return None
        except Damaged:
            self._remove(recipe)
            return None

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
            if not (folder / name).is_file() or sha256(folder / name) != digest:
                try:
                    with whole(folder / name) as partial:
                        self.place.download(f"{recipe.id}/{digest[:16]}-{name}", partial)
                except FileNotFoundError as error:
                    raise Damaged(f"{self.place}/{recipe.id}: {name} is gone") from error
        write(folder / "meta.json", content)
        return folder

    def _remove(self, recipe: Recipe) -> None:
        if self.place.remote:
            there = self.place.inside(recipe.id)
            for name in ["meta.json", *there.names()]:
                there.delete(name)
            shutil.rmtree(self.root / recipe.id, ignore_errors=True)
            return
        aside = hidden(self.root / f"damaged-{recipe.id}")
        with refused(aside):
            (self.root / recipe.id).rename(aside)
            shutil.rmtree(aside)


class UploadedCheckpoint(Checkpoint):
    """A checkpoint that goes on from any machine: what is written here is copied to the object store, too."""

    def __init__(self, path: Path, every: float, place: Place) -> None:
        super().__init__(path, every)
        self._place, self._name = place, f"progress/{path.name}"
        if place.exists(self._name):
            with whole(path) as partial:
                place.download(self._name, partial)

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


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Raise MubenchError for kept weights that cannot be read, or are of another network: naming the file, which is not needed."""
    try:
        yield
    except (SafetensorError, RuntimeError) as error:
        told = " ".join(str(error).split())[:200]
        raise MubenchError(
            f"{path} is damaged ({told}). Remove it: without it the trial is unlearned again."
        ) from error


def require_trial(path: Path, name: str) -> None:
    """Raise MubenchError for kept weights of another trial than their name says; an earlier release did not write of which they are."""
    with safe_open(path, "pt") as file:
        told = (file.metadata() or {}).get("trial", name)
    if told != name:
        raise MubenchError(
            f"{path} holds the network of trial {told}. Remove it: without it the trial is unlearned again."
        )


def default_artifacts(out: str | Path) -> str:
    """Where artifacts lie unless a shared folder is named."""
    return Place(out).inside("artifacts").address
