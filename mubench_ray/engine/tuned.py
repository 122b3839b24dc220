"""Tuned settings in a plan: which a combination takes, and what the results folder keeps of them, so that their cost is charged there."""

from __future__ import annotations

import functools
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mubench_ray.errors import MubenchError, SuiteError
from mubench_ray.methods import METHODS
from mubench_ray.results.store import Store
from mubench_ray.suite import MethodEntry, Suite, Tuned
from mubench_ray.trial import Trial
from mubench_ray.tuned.settings import Settings, Taken, find, read, shipped

#: Beside ``plan.json``: what settings the folder's trials took, in the form of ``search/chosen.json``.
TUNED = "tuned.json"


@dataclass(frozen=True)
class Settled:
    """A trial that stands for those of its configuration and forget set, and the settings that they took."""

    trial: Trial
    taken: Taken


def settings_for(suite: Suite, entry: MethodEntry, trial: Trial) -> Taken | str | None:
    """The tuned settings for a trial as the suite gives it; why it runs without, where the suite lets it; None where it asks for none.

    Raises SuiteError where there are none, or were chosen on a seed that the suite reports.
    """
    tuned = suite.tuned_for(entry)
    if tuned is None:
        return None
    spaces = METHODS.get(entry.name).spaces()
    given = {name: value for name, value in (entry.model_extra or {}).items() if name in spaces or name == "preset"}
    what = f"{trial.task} x {trial.model} x {entry.name}"
    try:
        found = find(sources(tuned, trial.task), trial, given)
    except MubenchError as error:
        raise SuiteError(f"{suite.name}: {error}") from error
    if isinstance(found, str):
        if tuned.missing == "given":
            return found
        raise SuiteError(
            f"{suite.name}: no tuned settings of {what}: {found}. Say `tuned: false` beside the method or `tuned: where-known` to run it as the suite gives "
            "it, or search (docs/evaluation.md) and take what `mubench tuned DIR --out FILE` writes as `tuned: FILE`."
        )
    reported = {*suite.seeds, *(suite.training_seeds or [])}
    if shared := sorted(reported & set(found.settings.seeds)):
        raise SuiteError(
            f"{suite.name}: seeds: the tuned settings of {what} were chosen on seed {shared[0]}, which is reported here; report others."
        )
    return found


def sources(tuned: Tuned, task: str) -> dict[str, tuple[Settings, ...]]:
    """The settings of a suite's own files, then those that ship; raises MubenchError for a file that cannot be read."""
    files = {path: Path(path) for path in tuned.files}
    if (ours := shipped(task)).is_file():
        files["package"] = ours
    return {name: _read(path, _stamp(path)) for name, path in files.items()}


def _stamp(path: Path) -> tuple[int, int] | None:
    return (path.stat().st_size, path.stat().st_mtime_ns) if path.is_file() else None


@functools.lru_cache(maxsize=16)
def _read(path: Path, stamp: tuple[int, int] | None) -> tuple[Settings, ...]:
    """A file, read once in each of its states."""
    return tuple(read(path))


def said_of(settled: Iterable[Settled]) -> Iterator[str]:
    """What tuned settings trials took, a line for those of one search, with the methods."""
    methods: dict[str, dict[str, None]] = defaultdict(dict)
    for each in settled:
        settings, used = each.taken.settings, each.trial
        on, at = (f"{trial.forget.sampler}, {trial.ratio:g} %" for trial in (settings.trial, used))
        seeds = ", ".join(map(str, settings.seeds))
        said = (
            f"of {used.task} x {used.model}, from {each.taken.source}, {settings.date}: {settings.search['strategy']} search on seeds {seeds}, which are not "
            f"reported here, on {on}{'' if on == at else f', another forget set than {at} here'}"
        )
        methods[said][used.method] = None
    for said, names in methods.items():
        yield f"{said}: {', '.join(names)}"


def keep(store: Store, settled: Iterable[Settled]) -> None:
    """Write what settings trials of a suite took to TUNED, beside those of other suites that were run into the folder; nothing where there are none."""
    entries = [describe(each) for each in settled]
    if not entries:
        return
    known = {_key(each): each for each in store.read_object(TUNED).get("choices") or []}
    known |= {_key(each): each for each in entries}
    store.write_text(TUNED, json.dumps({"choices": list(known.values())}, indent=1))


def _key(choice: Mapping[str, Any]) -> tuple[Any, ...]:
    return choice["configuration"], choice["ratio"], choice["forget_seed"]


def describe(settled: Settled) -> dict[str, Any]:
    """One choice as plain data, with what its search cost."""
    trial, settings = settled.trial, settled.taken.settings
    return {
        "configuration": trial.configuration,
        "task": trial.task,
        "subset": trial.subset,
        "model": trial.model,
        "method": trial.method,
        "sampler": trial.forget.sampler,
        "ratio": trial.forget.ratio,
        "forget_seed": trial.forget.seed,
        "hyperparameters": trial.hyperparameters,
        "lr": trial.lr,
        "options": trial.unlearning.model_dump(mode="json", exclude_defaults=True),
        **settings.cost,
        "search": settings.search,
        "found_on": {name: getattr(settings.trial.forget, name) for name in ("sampler", "ratio", "seed")},
        "source": settled.taken.source,
        "package": settings.package,
        "date": settings.date,
    }
