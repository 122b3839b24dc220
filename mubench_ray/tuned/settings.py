"""Tuned settings: what a search chose for a method on a model of a task, on which terms, at what cost, and by which versions of everything it went through.

An entry holds one of the search's own trials, the chosen one on the first selection seed. What it is stands there once, as it was run: so an entry is stale
where the same trial made now has other versions, and it fits a suite where that suite's trials are of the same setting.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from mubench_ray.errors import MubenchError
from mubench_ray.files import read_json, write
from mubench_ray.methods import METHODS
from mubench_ray.metrics import METRICS
from mubench_ray.results.configurations import DRAWN, leaves, spoken
from mubench_ray.trial import Frozen, Trial, Unlearning, canonical, digest, own_name, plain
from mubench_ray.trials.versions import versioned

#: Where the package's own lie, ``<task>.json`` each.
SHIPPED = Path(__file__).parent
#: What of a setting says how D_F is drawn: settings found for another D_F are used, and it is said.
OF_FORGET_SET = (*DRAWN, "scored_by")


class Settings(Frozen):
    """What a search chose for one method, task, model and forget set.

    ``trial`` is the chosen one of the search's trials; ``given`` are the hyperparameters that the search was told to leave alone, ``unlearning`` the loop's
    options as its suite had them; ``search`` says how it went (strategy, seeds, grid, objectives), ``metrics`` the versions of its objectives, ``cost`` what
    it found and spent (as ``search/chosen.json`` has it); ``package`` and ``date`` by which release and when.
    """

    trial: Trial
    given: dict[str, Any] = Field(default_factory=dict)
    unlearning: Unlearning = Unlearning()
    search: dict[str, Any]
    metrics: dict[str, int]
    cost: dict[str, Any]
    package: str | None
    date: str

    @cached_property
    def terms(self) -> dict[str, Any]:
        """What a trial must have in common with these settings for them to hold."""
        return terms(self.trial, self.unlearning)

    @property
    def seeds(self) -> list[int]:
        """The selection seeds."""
        return list(self.search["seeds"])

    @cached_property
    def fixed(self) -> dict[str, Any]:
        """What the search was told to leave alone at another value than the default: a method in another form."""
        cls = METHODS.get(self.trial.method)
        typed, defaults = typed_of(self.trial.method, self.given), cls.defaults()
        return {name: value for name, value in typed.items() if value != defaults[name]}

    @property
    def name(self) -> str:
        """What it is of, in a line for people."""
        trial = self.trial
        form = "".join(f", {name} {spoken(value)}" for name, value in self.fixed.items())
        return f"{trial.task}, {trial.model}, {trial.method}{form}, {trial.forget.sampler}, {trial.ratio:g} %"

    @property
    def key(self) -> str:
        """Entries of one key take each other's place."""
        drawn = {name: getattr(self.trial.forget, name) for name in ("sampler", "options", "ratio", "seed")}
        return canonical(plain({"terms": self.terms, "fixed": self.fixed, "forget": drawn}))

    def value(self, name: str) -> Any:
        """A hyperparameter of the chosen trial, its default where it goes unsaid."""
        return self.trial.hyperparameters.get(name, METHODS.get(self.trial.method).defaults()[name])

    def stale(self) -> str:
        """Why these settings no longer say what they said: a component whose version has moved, or a hyperparameter that is gone. Empty where they hold."""
        trial = self.trial
        try:
            now = versioned(trial)
            known = METHODS.get(trial.method).configure(trial.hyperparameters).hyperparameters()
            versions = {name: METRICS.get(name).version for name in self.metrics}
        except MubenchError as error:
            return str(error).removesuffix(".")
        things = {"method": trial.method, "task": trial.task, "model": trial.model, "sampler": trial.forget.sampler}
        moved = [
            f"{f'{name} {things[name]}' if name in things else f'the loop ({name})'} was version {trial.versions.get(name, 1)} and is "
            f"{now.versions.get(name, 1)}"
            for name in sorted(trial.versions.keys() | now.versions.keys())
            if trial.versions.get(name, 1) != now.versions.get(name, 1)
        ]
        moved += [
            f"metric {name} was version {then} and is {versions[name]}"
            for name, then in self.metrics.items()
            if then != versions[name]
        ]
        if not moved and now.forget != trial.forget:
            moved.append("the network that scores its forget set is made otherwise")
        if known.keys() - trial.hyperparameters.keys():
            moved.append(f"it says nothing of {', '.join(sorted(known.keys() - trial.hyperparameters.keys()))}")
        return "; ".join(moved)

    def plain(self) -> dict[str, Any]:
        """As it is written: defaults of the trial left out."""
        content = self.model_dump(mode="json", exclude={"trial", "unlearning"})
        told = {"trial": self.trial, "unlearning": self.unlearning}
        return {name: each.model_dump(mode="json", exclude_defaults=True) for name, each in told.items()} | content


@dataclass(frozen=True)
class Taken:
    """Settings that fit a trial, ``source`` (``package`` or a file) that they come from, and ``group``: all of it that fit trials of other forget sets, too, so
    that all ratios of one contender are one line."""

    settings: Settings
    source: str
    group: tuple[Settings, ...]

    @property
    def tuned(self) -> dict[str, str]:
        """What the trial's ``tuned`` says: a digest of what was chosen for every forget set."""
        chosen = [
            [each.key, each.trial.hyperparameters, each.trial.lr, each.trial.unlearning.model_dump()]
            for each in self.group
        ]
        return {"settings": digest(plain(sorted(chosen, key=lambda each: each[0])), 8)}

    def apply(self, trial: Trial) -> Trial:
        """The trial at these settings; its id is that of one whose settings were typed."""
        chosen = self.settings.trial
        at = {"hyperparameters": chosen.hyperparameters, "lr": chosen.lr, "unlearning": chosen.unlearning.model_dump()}
        return versioned(Trial.model_validate(trial.model_dump() | at | {"tuned": self.tuned}))


def terms(trial: Trial, unlearning: Unlearning) -> dict[str, Any]:
    """What tuned settings hold for: method, task, model, the training of the original, the loop's options as the suite has them, and the budget. Not the forget
    set, nor versions."""
    content = json.loads(trial.configuration)
    found = {name: value for name, value in content["setting"].items() if name not in (*OF_FORGET_SET, "versions")}
    found |= {"method": trial.method, "unlearning": unlearning.model_dump(mode="json", exclude_defaults=True)}
    return plain(found | {"budget": trial.budget.model_dump(mode="json", exclude_defaults=True)})


def typed_of(method: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The hyperparameters that are set by hand, a preset's among them, in their declared types; raises MubenchError."""
    cls = METHODS.get(method)
    names, configured = cls.with_preset(given), cls.configure(given)
    return {name: getattr(configured, name) for name in names}


def find(sources: Mapping[str, Sequence[Settings]], trial: Trial, given: Mapping[str, Any]) -> Taken | str:
    """The settings that fit a trial as its suite gives it, with ``given`` set by hand, from the first source that has any; or why there are none.

    Those found for the same sampler come first, then those for the nearest ratio (by its logarithm) and the same draw; what is stale fits nothing.
    """
    wanted, typed = terms(trial, trial.unlearning), typed_of(trial.method, given)
    fixed = {name for name, value in typed.items() if value != METHODS.get(trial.method).defaults()[name]}
    stale: list[str] = []
    for source, known in sources.items():
        fit = [each for each in known if each.terms == wanted and _agrees(each, typed, fixed)]
        stale += [f"those of {source} are stale: {reason}" for each in fit if (reason := each.stale())]
        if fit := [each for each in fit if not each.stale()]:
            alike = [each for each in fit if _sampler(each.trial) == _sampler(trial)]
            group = alike or [each for each in fit if _sampler(each.trial) == _sampler(fit[0].trial)]
            return Taken(min(group, key=lambda each: _distance(each.trial, trial)), source, tuple(group))
    if stale:
        return stale[0]
    return _why_none([each for known in sources.values() for each in known], trial, wanted, typed)


def _agrees(each: Settings, typed: Mapping[str, Any], fixed: Iterable[str]) -> bool:
    """Whether settings have what a suite sets by hand, and have the method in the suite's form."""
    return set(each.fixed) <= set(fixed) and all(plain(each.value(name)) == plain(typed[name]) for name in typed)


def _sampler(trial: Trial) -> str:
    return canonical(plain({"sampler": trial.forget.sampler, **trial.forget.options}))


def _distance(found: Trial, used: Trial) -> tuple[float, bool]:
    return abs(math.log(found.ratio / used.ratio)), found.forget.seed != used.forget.seed


def _why_none(known: Sequence[Settings], trial: Trial, wanted: dict[str, Any], typed: Mapping[str, Any]) -> str:
    """What the nearest settings differ in."""
    on = [each for each in known if each.trial.task == trial.task and each.trial.model == trial.model]
    own = [each for each in on if each.trial.method == trial.method]
    if not own:
        of_task = sorted({each.trial.model for each in known if each.trial.task == trial.task})
        there = (
            f"of {trial.task} there are some for {', '.join(of_task)}" if of_task else f"there are none of {trial.task}"
        )
        return f"there are none of {trial.method} on this model" if on else there
    apart = min((_apart(each.terms, wanted) for each in own), key=len)
    return f"those that there are have {'; '.join(apart)}" if apart else _of_form(own[0], typed)


def _apart(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    there, here = leaves(theirs), leaves(ours)
    names = sorted(name for name in there.keys() | here.keys() if there.get(name) != here.get(name))

    def said(values: Mapping[str, Any], name: str) -> str:
        return spoken(values[name]) if name in values else "the default"

    return [f"{name} {said(there, name)} where this suite has {said(here, name)}" for name in names]


def _of_form(each: Settings, typed: Mapping[str, Any]) -> str:
    names = sorted(each.fixed.keys() | typed.keys())
    theirs = ", ".join(f"{name} {spoken(each.value(name))}" for name in names)
    return f"those that there are have {theirs}, and this suite says otherwise by hand"


def all_shipped() -> list[Settings]:
    """The package's settings for every task."""
    return [each for path in sorted(SHIPPED.glob("*.json")) for each in read(path)]


def shipped(task: str) -> Path:
    """The file of the package's settings for a task; there may be none."""
    return SHIPPED / f"{own_name(task)}.json"


def read(path: str | Path) -> list[Settings]:
    """The settings of a file; raises MubenchError naming the file and the entry that cannot be read."""
    try:
        entries = read_json(Path(path))["settings"]
    except OSError as error:
        raise MubenchError(f"tuned settings {path} cannot be read ({error.strerror or error}).") from error
    except (ValueError, TypeError, KeyError) as error:
        raise MubenchError(
            f"tuned settings {path}: not what `mubench tuned DIR --out FILE` writes ({type(error).__name__}: {error})."
        ) from error
    found = []
    for number, entry in enumerate(entries):
        try:
            found.append(Settings.model_validate(entry))
        except ValidationError as error:
            fault = error.errors()[0]
            where = ".".join(map(str, fault["loc"]))
            raise MubenchError(f"tuned settings {path}: settings[{number}].{where}: {fault['msg']}.") from error
    return found


def save(path: str | Path, settings: Iterable[Settings]) -> None:
    """Write settings, a line for each part of an entry, in order of their methods."""
    ordered = sorted(settings, key=lambda each: (each.trial.task, each.trial.model, each.trial.method, each.key))
    entries = []
    for each in ordered:
        parts = [f"   {json.dumps(name)}: {json.dumps(value, sort_keys=True)}" for name, value in each.plain().items()]
        entries.append("  {\n" + ",\n".join(parts) + "\n  }")
    write(Path(path), '{\n "settings": [\n' + ",\n".join(entries) + "\n ]\n}\n")
