"""The search of a suite as it runs: generations of trials for every combination, the choice, and the reported trials that follow from it.

All of it is a function of the rows: after a kill the sweeps are asked again and told what is known, and only what has no row runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from mubench_ray.engine.plan import Combination, combinations, recipes_of, search_of, searched_by, seed_pairs, wanted_by
from mubench_ray.errors import MubenchError, SuiteError
from mubench_ray.search import (
    CHOSEN_BY,
    Configuration,
    Ranges,
    Sweep,
    choose,
    grid_size,
    grid_sweep,
    losses,
    mean_losses,
    random_sweep,
)
from mubench_ray.status import Status
from mubench_ray.suite import Suite
from mubench_ray.trial import ForgetSet, Recipe, Trial
from mubench_ray.trials.rows import told

Rows = Mapping[str, Mapping[str, Any]]
#: What an artifact cost (``ArtifactStore.bill``), None where it is not there.
BillOf = Callable[[Recipe], Mapping[str, Any] | None]


@dataclass
class Subject:
    """One combination with one forget set, which is tuned on its own: its sweeps, the number of the one that is asked, what they found, the choice."""

    combination: Combination
    forget: ForgetSet
    sweeps: list[Sweep]
    sweep: int = 0
    asked: list[Configuration] = field(default_factory=list)
    judged: list[tuple[Configuration, tuple[float, ...] | None]] = field(default_factory=list)
    tried: set[str] = field(default_factory=set)
    chosen: Configuration | None = None
    done: bool = False


@dataclass
class Fresh:
    """Trials that have become known, by id: those of the search that have no row, and those that are to be reported. One may be both, where selection seeds are
    reported too."""

    searched: dict[str, Trial] = field(default_factory=dict)
    reported: dict[str, Trial] = field(default_factory=dict)


class Tuning:
    """The search of every combination of a suite.

    ``rows`` maps search trials that are finished to their rows, and grows as ``ended`` is told of more. ``search_trials`` and ``reported`` hold the
    trials known so far.
    """

    def __init__(self, suite: Suite, rows: Rows) -> None:
        self.suite, self.search = suite, search_of(suite)
        self.rows = dict(rows)
        self.search_trials: dict[str, Trial] = {}
        self.reported: dict[str, Trial] = {}
        self._subjects = [
            Subject(combination, forget, self._sweeps(combination))
            for combination in combinations(suite)
            for forget in combination.forget_sets
        ]
        self._of: dict[str, list[Subject]] = {}
        self._fresh = Fresh()
        for subject in self._subjects:
            self._go_on(subject)

    def _sweeps(self, combination: Combination) -> list[Sweep]:
        """The sweeps of a combination; none where there is nothing to tune."""
        search, searched = self.search, combination.ranges
        if searched is None:
            return []
        if search.strategy == "grid":
            return [grid_sweep(searched, search.points, search.trials, sweep) for sweep in range(search.sweeps)]
        count = search.trials or 0  # only a grid may leave it open
        if search.strategy == "random":
            return [random_sweep(searched, count, sweep) for sweep in range(search.sweeps)]
        from mubench_ray.engine.optuna_sweep import OptunaSweep

        names, by = list(search.objectives), search.strategy
        return [OptunaSweep(searched, names, count, search.generation, sweep, by) for sweep in range(search.sweeps)]

    def _trials(self, subject: Subject, configuration: Configuration) -> list[Trial]:
        """A configuration on every selection seed of the sweep that asked for it."""
        seeds = self.search.seeds_of(subject.sweep)
        return [subject.combination.trial(subject.forget, seed, seed, configuration) for seed in seeds]

    def _go_on(self, subject: Subject) -> None:
        """Ask and tell as far as rows are known; the choice when the sweeps have ended."""
        while not subject.done:
            if subject.asked:
                trials = [self._trials(subject, configuration) for configuration in subject.asked]
                if any(trial.id not in self.rows for group in trials for trial in group):
                    return
                found = [
                    mean_losses([losses(self.rows[trial.id], self.search.objectives) for trial in group])
                    for group in trials
                ]
                subject.judged += zip(subject.asked, found)
                subject.sweeps[subject.sweep].tell(found)
                subject.asked = []
            while subject.sweep < len(subject.sweeps) and not subject.asked:
                subject.asked = subject.sweeps[subject.sweep].ask()
                subject.sweep += not subject.asked
            if not subject.asked:
                self._choose(subject)
                return
            generation = {t.id: t for c in subject.asked for t in self._trials(subject, c)}
            self.search_trials |= generation
            subject.tried |= generation.keys()
            for name in generation:
                if name not in self.rows:
                    self._fresh.searched[name] = generation[name]
                    self._of.setdefault(name, []).append(subject)

    def _choose(self, subject: Subject) -> None:
        """The best configuration becomes the reported one; with none usable, or nothing to tune, the one that the suite gives first."""
        best = choose(subject.judged, self.search.chosen_by)
        subject.chosen = subject.combination.given()[0] if best is None else subject.judged[best][0]
        subject.done = True
        subject.sweeps.clear()
        for seed, training_seed in seed_pairs(self.suite):
            trial = subject.combination.tuned_trial(subject.forget, seed, training_seed, subject.chosen)
            self.reported[trial.id] = self._fresh.reported[trial.id] = trial

    def ended(self, trial_id: str, row: Mapping[str, Any] | None) -> Fresh:
        """A search trial has ended (``row``: its status and what objectives read; None of a lost one): the searches it belongs to go on.

        Returns the trials that have become known by it.
        """
        self.rows[trial_id] = row or {"status": Status.FAILED}
        self._fresh = Fresh()
        for subject in self._of.pop(trial_id, []):
            self._go_on(subject)
        return self._fresh

    @property
    def complete(self) -> bool:
        """Whether every combination has its choice."""
        return all(subject.done for subject in self._subjects)

    def networks(self) -> dict[str, Recipe]:
        """The originals and retrains of the selection seeds, and what else only the search needs, by id: not what reported trials need too, nor networks that
        draw D_F, which are the same for all seeds."""
        found = recipes_of(self.search_trials.values(), searched_by(self.suite))
        reported = recipes_of(self.reported.values(), wanted_by(self.suite))
        return {name: recipe for name, recipe in found.items() if name not in reported and not recipe.scoring}

    def choices(self, rows: Rows, bill_of: BillOf) -> list[dict[str, Any]]:
        """What was chosen for each combination and forget set, and what tuning it cost, from the rows of the search and the bills of its networks."""
        networks, observations = self.networks(), searched_by(self.suite)
        found = []
        for subject in filter(lambda subject: subject.done, self._subjects):
            needed = recipes_of((self.search_trials[name] for name in subject.tried), observations)
            own = bill(bill_of(recipe) for name, recipe in networks.items() if name in needed)
            found.append(describe(subject, self.suite, rows) | {"networks": own})
        return found


def bill(items: Iterable[Mapping[str, Any] | None]) -> dict[str, Any]:
    """What rows, or artifacts, cost in all: their ``number``, ``flos``, ``seconds`` and the ``terms`` of those, and how many of them left no bill (None, or one
    whose process died: ``unknown``), so that the sums are at least what was spent. Seconds on several terms have no sum: None."""
    items = list(items)
    known = [each for each in items if each and each.get("flos") is not None]
    terms = sorted({told(each.get("terms") or each) for each in known if each.get("seconds")})
    return {
        "number": len(items),
        "unknown": len(items) - len(known),
        "flos": sum(each["flos"] for each in known),
        "seconds": sum(each.get("seconds") or 0.0 for each in known) if len(terms) < 2 else None,
        "terms": terms,
    }


def describe(subject: Subject, suite: Suite, rows: Rows) -> dict[str, Any]:
    """One choice as plain data; FLOs and seconds are those of unlearning in all its search trials, whatever became of them. Raises ValueError before it is
    made."""
    if subject.chosen is None:
        raise ValueError(f"nothing is chosen yet for {subject.combination.entry.name}")
    search = search_of(suite)
    objectives = search.objectives
    best = choose(subject.judged, search.chosen_by)
    found = subject.judged[best][1] if best is not None else None
    spent = bill(rows.get(trial) for trial in subject.tried)
    ends = Counter(row["status"] for trial in subject.tried if (row := rows.get(trial)))
    seed, training_seed = next(seed_pairs(suite))
    reported = subject.combination.tuned_trial(subject.forget, seed, training_seed, subject.chosen)
    searched = subject.combination.ranges or Ranges({}, subject.chosen)
    return {
        "configuration": reported.configuration,
        "task": subject.combination.task.label,
        "subset": subject.combination.task.subset,
        "validation": subject.combination.task.validation,
        "model": subject.combination.model.label,
        "method": subject.combination.entry.name,
        "sampler": subject.forget.sampler,
        "ratio": subject.forget.ratio,
        "forget_seed": subject.forget.seed,
        "hyperparameters": subject.chosen.hyperparameters,
        "lr": subject.chosen.lr,
        "searched": {name: str(space) for name, space in searched.spaces.items()},
        "edges": searched.at_edge(subject.chosen) if best is not None else [],
        "options": subject.chosen.options,
        "losses": dict(zip(objectives, found)) if found is not None else None,
        "loss": CHOSEN_BY[search.chosen_by](found) if found is not None else None,
        "configurations": len(subject.judged),
        "usable": sum(found is not None for _, found in subject.judged),
        "trials": spent.pop("number"),
        "ends": dict(sorted(ends.items())),
        **spent,
    }


def outline(suite: Suite) -> Iterator[tuple[Trial, int]]:
    """For each combination, forget set and selection seed one trial that stands for the searched ones, and how many those are at most."""
    search = search_of(suite)
    sweeps = Counter(seed for sweep in range(search.sweeps) for seed in search.seeds_of(sweep))
    for combination in combinations(suite):
        if (searched := combination.ranges) is None:
            continue
        try:
            grid = search.strategy == "grid"
            each = grid_size(searched, search.points, search.trials) if grid else search.trials or 0
        except MubenchError as error:
            raise SuiteError(f"{suite.name}: {error}") from error
        for forget, (seed, number) in product(combination.forget_sets, sweeps.items()):
            yield combination.trial(forget, seed, seed, combination.given()[0]), each * number


def planned_search(suite: Suite) -> int:
    """How many search trials a suite has at most, those of later generations included."""
    return sum(count for _, count in outline(suite))
