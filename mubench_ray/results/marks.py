"""What stands beside a name or a number that has a caveat: one list of marks, one legend, and where each comes from.

A name takes its marks from its rows, a measure from what the controls said of it in ``controls.json``.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from mubench_ray.metrics.controls import FORGOTTEN_BY
from mubench_ray.results.configurations import setting_names, spoken
from mubench_ray.results.repetitions import as_today, configured, with_all_columns
from mubench_ray.results.store import Store
from mubench_ray.status import Status
from mubench_ray.trial import CONTROLS


@dataclass(frozen=True)
class Mark:
    """A caveat: the sign that stands in a table, a short name, and what it means."""

    symbol: str
    name: str
    words: str

    @property
    def told(self) -> str:
        """The mark in a legend."""
        return f"{self.symbol} {self.name}: {self.words}"


# Of names.
CONTROL = Mark("°", "control", "what methods are compared with")
READS_VALIDATION = Mark("†", "reads D_V", "the selection set is a part of what it learns from")
TRUNCATED = Mark("‡", "truncated", "trials were stopped by the budget")
UNEQUAL = Mark("≠", "unequal terms", "the original started from other weights, or has seen more, than its retrain")
AT_EDGE = Mark("⊣", "best at the edge", "of what was tried its best lies at an end, and further out it may be better")
SELECTED = Mark("¶", "selection seeds are reporting seeds", "it was tuned on networks that it is reported on")
TUNED = Mark("♯", "tuned before", "runs at settings that an earlier search found; its cost is charged with tuning")
# Of measures and their numbers.
UNTRUSTED = Mark("§", "untrusted", "the controls do not bear this measure out, and it ranks nothing")
UNCHECKED = Mark("?", "not checkable", "too few seeds of the controls to check this measure")
WITHIN = Mark("≈", "within the noise floor", "all of its interval is nearer to the retrain than two retrains are")
# Of a (task, model, ratio).
UNTOLD = Mark("◊", "not told apart", "original and retrain are not told apart by their loss on D_F")
MARKS = (CONTROL, READS_VALIDATION, TRUNCATED, UNEQUAL, AT_EDGE, SELECTED, TUNED, UNTRUSTED, UNCHECKED, WITHIN, UNTOLD)

#: What stands in the configuration of a trial that took tuned settings.
TUNED_SETTINGS = '"tuned":{"settings":'

#: What an entry of ``controls.json`` has to say.
VERDICT = {"task": str, "model": str, "ratio": int | float, "metric": str, "verdict": str}


def legend(texts: Iterable[str]) -> str:
    """What the marks in these texts mean; empty where there are none."""
    there = set().union(*texts)
    return "; ".join(mark.told for mark in MARKS if mark.symbol in there)


def of_name(row: Mapping[str, Any]) -> tuple[Mark, ...]:
    """The marks of the method of a trial's row, or of a row of the leaderboard, which counts the truncated ones and those on selection seeds and says what is
    best ``at_edge``."""
    truncated = row["truncated"] if "truncated" in row else row["status"] == Status.TRUNCATED
    selected = row["on_selection_seeds"] if "on_selection_seeds" in row else on_selection_seeds(row)
    told = {CONTROL: row["method"] in CONTROLS, READS_VALIDATION: row["uses_validation"], TRUNCATED: truncated}
    told[UNEQUAL] = row["unequal_terms"] if "unequal_terms" in row else unequal_terms(row.get("configuration"))
    told |= {AT_EDGE: bool(row.get("at_edge")), SELECTED: selected}
    # A trial has it in its configuration, a row of the leaderboard in its options.
    told[TUNED] = any(TUNED_SETTINGS in (row.get(name) or "") for name in ("configuration", "options"))
    return tuple(mark for mark, there in told.items() if there)


def chosen_at_edge(store: Store) -> dict[tuple[str, float], list[str]]:
    """What of a tuned contender's choice lies at the edge of what was searched (``lr``, or a hyperparameter), by configuration and ratio; of several forget
    draws what lies there in any. Settings that an earlier search found are such choices, too."""
    found: dict[tuple[str, float], list[str]] = {}
    files = ("search/chosen.json", "tuned.json")
    for choice in [each for name in files for each in store.read_object(name).get("choices") or []]:
        if isinstance(choice, dict) and choice.get("edges"):
            names = found.setdefault((str(choice.get("configuration")), float(choice.get("ratio") or 0.0)), [])
            names += [name for name in choice["edges"] if name not in names]
    return found


def on_selection_seeds(row: Mapping[str, Any]) -> bool:
    """Whether a trial, by its row, has a seed or the networks of a seed on which its method was tuned."""
    return not selection_seeds(row["configuration"]).isdisjoint((row["seed"], row["training_seed"]))


@lru_cache(maxsize=4096)
def selection_seeds(configuration: str | None) -> frozenset[int]:
    """The seeds on which the contender of a configuration was tuned; none where it was not, or its row is of a release that did not say."""
    contender = json.loads(configuration).get("contender", {}) if configuration else {}
    return frozenset((contender.get("tuned") or {}).get("seeds") or ())


@lru_cache(maxsize=4096)
def unequal_terms(configuration: str | None) -> bool:
    """Whether an original was made elsewhere, from what its retrain does not start from (a retrain from random weights, unless the original is said to be
    from such, too), or has seen more than D (all of the training list, of which D is a cut)."""
    if not configuration or '"original_checkpoint":' not in configuration:
        return False
    setting = json.loads(configuration)["setting"]
    fine_tuned = "pretrained" not in setting and setting.get("original_from") != "random"
    return fine_tuned or (setting.get("saw") == "train" and "subset" in setting)


def symbols(marks: Iterable[Mark]) -> str:
    """The marks as they stand behind a text."""
    there = set(marks)
    return "".join(mark.symbol for mark in MARKS if mark in there)


def read_verdicts(store: Store) -> list[dict[str, Any]]:
    """What the controls say of each measure, from ``controls.json`` where the folder has one; what is malformed is passed over."""
    content = store.read_object("controls.json").get("verdicts")
    entries = [entry for entry in content if isinstance(entry, dict)] if isinstance(content, list) else []
    return [entry for entry in entries if all(isinstance(entry.get(key), of) for key, of in VERDICT.items())]


class Verdicts:
    """What the controls say of the measures of each (task, model, ratio), as ``repetitions.named`` names them. Of several
    forget draws the worst is told."""

    def __init__(self, entries: Iterable[Mapping[str, Any]]) -> None:
        self._of: dict[tuple, dict[Mark, set[str]]] = defaultdict(lambda: {UNTRUSTED: set(), UNCHECKED: set()})
        self.untold: dict[tuple, str] = {}
        for entry in entries:
            cell = entry["task"], entry["model"], float(entry["ratio"])
            for mark, found in self._of[cell].items():
                if entry["verdict"] == mark.name and entry["metric"] != FORGOTTEN_BY:
                    found.add(entry["metric"])
            if entry["metric"] == FORGOTTEN_BY and (told := untold(entry)):
                self.untold[cell] = max(told, self.untold.get(cell, ""), key=len)
        for found in self._of.values():
            found[UNCHECKED] -= found[UNTRUSTED]

    def measures(self, mark: Mark, task: str, model: str, ratio: float) -> list[str]:
        """The measures that are UNTRUSTED, or UNCHECKED, there."""
        return sorted(self._of[cell][mark]) if (cell := (task, model, float(ratio))) in self._of else []

    def marks(self, metric: str, task: str, model: str, ratio: float) -> tuple[Mark, ...]:
        """The marks of one measure there."""
        return tuple(mark for mark in (UNTRUSTED, UNCHECKED) if metric in self.measures(mark, task, model, ratio))


def untold(entry: Mapping[str, Any]) -> str:
    """What is said first of a (task, model, ratio) of whose original and retrain this is the verdict on their loss on D_F;
    empty where they are told apart."""
    if entry["verdict"] == "trusted":
        return ""
    seen = entry.get("smallest_difference")
    if entry["verdict"] == UNCHECKED.name and seen is None:
        return "too few seeds to tell whether original and retrain differ in their loss on D_F"
    counts = [entry[name]["seeds"] for name in CONTROLS if (entry.get(name) or {}).get("seeds")]
    at = f" at {min(counts)} seeds" if counts else ""
    could = f"; a difference of {seen:.3g} could have been seen" if isinstance(seen, int | float) else ""
    return f"{UNTOLD.words}{at}{could}"


def cell_words(cells: Mapping[tuple, str]) -> list[str]:
    """A line for each (task, model, ratio) of which something is said first."""
    return [f"{task} · {model} · {spoken(ratio)} %: {words}." for (task, model, ratio), words in sorted(cells.items())]


class TrialMarks:
    """The marks of single trials of a results folder, and of scores of several, by their rows as they are stored."""

    def __init__(self, store: Store) -> None:
        self.verdicts = Verdicts(read_verdicts(store))
        self._store = store

    @cached_property
    def _cells(self) -> dict[str, tuple[str, str]]:
        column = self._store.read("trials", columns=["configuration"])["configuration"]
        mended = {text: known for text in column.unique().to_pylist() if text and (known := as_today(text))}
        if column.null_count:  # rows of an earlier release: by their ids
            rows = configured(with_all_columns(self._store.read("trials")), self._store)
            mended |= dict(zip(*(rows[name].to_pylist() for name in ("trial_id", "configuration")), strict=True))
        # A verdict is of named tasks and models, and names depend on what else the folder holds.
        names = setting_names(set(mended.values()))
        return {text: names[of] for text, of in mended.items()}

    @cached_property
    def _names(self) -> dict[tuple, set[Mark]]:
        columns = ["trial_id", "configuration", "task", "method", "ratio", "status", "uses_validation"]
        columns += ["seed", "training_seed"]
        found: dict[tuple, set[Mark]] = defaultdict(set)
        for row in self._store.read("trials", columns=columns).to_pylist():
            row["at_edge"] = self.at_edge(row)
            for known in (row["trial_id"],), (row["configuration"],), (row["task"], row["method"]):
                for ratio in (row["ratio"], None):
                    found[*known, ratio].update(of_name(row))
        return found

    @cached_property
    def _edges(self) -> dict[tuple[str, float], list[str]]:
        return chosen_at_edge(self._store)

    def at_edge(self, row: Mapping[str, Any]) -> list[str]:
        """What of the row's choice lies at the edge of what its search tried."""
        return self._edges.get((row.get("configuration") or "", row["ratio"]), [])

    def cell(self, row: Mapping[str, Any]) -> tuple[str, str, float]:
        """The (task, model, ratio) of a row under which its verdicts are kept."""
        named = self._cells.get(row.get("configuration") or row.get("trial_id") or "", (row["task"], row["model"]))
        return *named, -1.0 if row["ratio"] is None else float(row["ratio"])

    def name(self, row: Mapping[str, Any]) -> str:
        """The method of a trial or of a score with its marks; of a score those of the trials that it is of."""
        known: list[tuple] = [(row[name],) for name in ("trial_id", "configuration") if row.get(name) is not None]
        known.append((row["task"], row["method"]))
        found = next((of for key in known if (of := self._names.get((*key, row["ratio"]))) is not None), ())
        return row["method"] + symbols(found)

    def measure(self, metric: str, row: Mapping[str, Any]) -> str:
        """What stands behind a measure of the row."""
        return symbols(self.verdicts.marks(metric, *self.cell(row)))

    def said(self, row: Mapping[str, Any]) -> list[str]:
        """What is to be read before any number of the row: that its original and retrain are not told apart."""
        cell = self.cell(row)
        return cell_words({cell: self.verdicts.untold[cell]}) if cell in self.verdicts.untold else []
