"""Ask the Hugging Face hub, where there is a network, for the commits that models pin: is each there, with which weights, and what is the newest of those that
pin none.

    python benchmarks/hub_commits.py [MODEL ...]
    python benchmarks/hub_commits.py --list          # asks nobody

A model without a pinned commit is "unverified": ``pretrained: true`` is refused by the plan, which says what to write instead.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

from mubench_ray.models import MODELS

#: (commit, names of files) of a hub id at a commit, or at its newest.
Ask = Callable[[str, str | None], tuple[str, list[str]]]


def hub(name: str, revision: str | None) -> tuple[str, list[str]]:
    """What the hub itself says."""
    from huggingface_hub import HfApi

    info = HfApi().model_info(name, revision=revision)
    return str(info.sha), [each.rfilename for each in info.siblings or []]


def line(name: str, ask: Ask | None) -> str:
    """What is known of a model's published weights, as a row of a table."""
    model = MODELS.get(name)
    if ask is None:
        return f"| {name} | {model.hub} | {model.revision or 'unverified'} | |"
    try:
        commit, files = ask(str(model.hub), model.revision)
    except (OSError, ValueError) as error:
        return f"| {name} | {model.hub} | {model.revision or 'unverified'} | {type(error).__name__}: {' '.join(str(error).split())[:100]} |"
    kinds = [kind for kind in ("safetensors", "bin") if any(file.endswith(f".{kind}") for file in files)]
    there = "is there" if model.revision else f"newest is {commit}"
    return (
        f"| {name} | {model.hub} | {model.revision or 'unverified'} | {there}; weights: {', '.join(kinds) or 'none'} |"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help="default: all that have a hub id")
    parser.add_argument("--list", action="store_true", help="say what is pinned and ask nobody")
    given = parser.parse_args()
    print("| model | hub id | commit | the hub says |\n|---|---|---|---|")
    for name in given.models or [name for name, model in MODELS if model.hub]:
        print(line(name, None if given.list else hub))


if __name__ == "__main__":
    main()
