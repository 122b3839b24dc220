"""Where a checkpoint lies and of what kind it is: a folder of transformers, a GGUF file, a file of weights, or a hub id."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mubench_ray.errors import MubenchError

#: Files of weights: those that hold numbers alone, and pickles, which are read without running anything (``weights_only``) and only where they are named.
NUMBERS, PICKLES = (".safetensors",), (".bin", ".pt", ".pth")
#: How the names of files end that a checkpoint may be.
FILES = (*NUMBERS, *PICKLES, ".gguf")
#: What a folder without a config calls its weights: ours (``save_model``, an artifact) and others'.
OWN = ("model.safetensors", "weights.safetensors")


def located(source: str, revision: str | None) -> dict[str, Any]:
    """A checkpoint as arguments of ``from_pretrained``: a folder (that of a file of weights), a GGUF file (tensors and numbers, no code), or a hub id at a
    revision."""
    path = Path(source)
    if path.suffix == ".gguf":
        return {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    if path.is_file():
        path = path.parent
        source = str(path)
    return {"pretrained_model_name_or_path": source, "revision": None if path.is_dir() else revision}


def state_file(source: str) -> Path | None:
    """The file of weights that ``source`` names: itself, or that of a folder without a config; None for transformers' folders, GGUF files and hub ids.

    Raises MubenchError for a folder with neither.
    """
    path = Path(source)
    if path.is_file():
        return path if path.suffix in (*NUMBERS, *PICKLES) else None
    if not path.is_dir() or (path / "config.json").is_file() or any(path.glob("*/config.json")):
        return None  # diffusers' pipelines have a config for each part
    if found := next((path / name for name in OWN if (path / name).is_file()), None):
        return found
    if (path / "adapter_config.json").is_file():
        raise MubenchError(adapter_of(path))
    others = sorted(each.name for each in path.iterdir() if each.suffix in (*NUMBERS, *PICKLES))
    mend = (
        f"Name the file: {path / others[0]}."
        if others
        else "Name a folder with config.json and weights, or a file of weights."
    )
    raise MubenchError(f"{source!r} has no config.json and no {OWN[0]}. {mend}")


def adapter_of(path: Path) -> str:
    """What is said of a folder of adapters."""
    return (
        f"{str(path)!r} holds an adapter (adapter_config.json), not a whole network. Merge it into its base (peft: merge_and_unload) and save that "
        "with save_pretrained, its tokenizer or processor too."
    )


def reason_of(error: BaseException) -> str:
    """What an exception of a library says, as one line of at most 400 characters, with its name where it says little."""
    text = " ".join(str(error).split())
    named = (
        text if isinstance(error, (OSError, ValueError, ImportError)) and text else f"{type(error).__name__}: {text}"
    )
    return named if len(named) <= 400 else f"{named[:397]}..."


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what transformers itself says of what it loads."""
    from transformers import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
