"""Coverage of every interval that is called 95%, by simulation: shares near 1, crossed seeds and draws, group metrics.

    python benchmarks/claims/intervals.py                       # everything, some five minutes of one core
    python benchmarks/claims/intervals.py --repetitions 20      # whether it runs

A line is a law; a figure the share of its repetitions, in percent, whose interval holds the truth. What came out is in
intervals.md beside this file.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator

import numpy as np

from mubench_ray.metrics import GROUP_METRICS, compute_group
from mubench_ray.metrics.jackknife import intervals
from mubench_ray.report.statistics import bootstrap_interval, crossed_interval, with_examples

Rng = np.random.Generator
SEEDS = (2, 3, 5, 10)
#: Examples, and the share of the population that is right.
SETS = ((300, 0.998), (300, 0.9995), (100, 0.98), (100, 0.9975), (1000, 0.999), (1000, 0.95), (300, 0.9))


def independent(rng: Rng, count: int, seeds: int, examples: int, right: float) -> np.ndarray:
    """Every seed errs where it errs: all examples are equally hard."""
    return rng.binomial(examples, right, (count, seeds)) / examples


def shared(rng: Rng, count: int, seeds: int, examples: int, right: float) -> np.ndarray:
    """All seeds err on the same examples and agree exactly."""
    return np.repeat(rng.binomial(examples, right, (count, 1)) / examples, seeds, axis=1)


def own_difficulty(rng: Rng, count: int, seeds: int, examples: int, right: float) -> np.ndarray:
    """Every example has a difficulty of its own, Beta(.3 p, .3 (1 - p)): about three in four errors are shared."""
    values = np.empty((count, seeds))
    for place in range(count):
        easy = rng.beta(0.3 * right, 0.3 * (1 - right), examples)
        values[place] = (rng.random((seeds, examples)) < easy).mean(axis=1)
    return values


def better_and_worse(rng: Rng, count: int, seeds: int, examples: int, right: float) -> np.ndarray:
    """Seeds differ in quality (errors times a Gamma of mean 1, standard deviation .5), their errors are nested."""
    values = np.empty((count, seeds))
    for place in range(count):
        wrong = (1 - right) * rng.gamma(4, 0.25, seeds)
        values[place] = (rng.random(examples)[None] >= wrong[:, None]).mean(axis=1)
    return values


def as_much_of_both(rng: Rng, count: int, seeds: int, examples: int, right: float) -> np.ndarray:
    """Shared errors, and normal differences of seeds that add as much to the mean's variance: the worst case of the
    larger of the two parts."""
    spread = np.sqrt(seeds * right * (1 - right) / examples)
    return shared(rng, count, seeds, examples, right) + spread * rng.normal(size=(count, seeds))


SHARES = (independent, shared, own_difficulty, better_and_worse, as_much_of_both)


def covered(low: np.ndarray, high: np.ndarray, truth: float) -> float:
    """Percent of the intervals that hold the truth."""
    return 100 * float(np.mean((low <= truth) & (truth <= high)))


def shares(repetitions: int) -> Iterator[str]:
    """Interval of a share of distinct examples that all seeds count, and of the same by its seeds alone."""
    yield "law | seeds | " + " | ".join(f"{examples} x {right:g}" for examples, right in SETS)
    for law in SHARES:
        for seeds in SEEDS:
            cells = []
            for examples, right in SETS:
                values = law(np.random.default_rng([seeds, examples]), repetitions, seeds, examples, right)
                alone = bootstrap_interval(values)
                both = with_examples(values.mean(axis=1), *alone, np.full(repetitions, float(examples)))
                cells.append(f"{covered(*both, right):.1f} ({covered(*alone, right):.0f})")
            yield f"{law.__name__} | {seeds} | " + " | ".join(cells)


def normal(rng: Rng, shape: tuple[int, ...]) -> np.ndarray:
    """No skewness."""
    return rng.normal(size=shape)


def log_normal(rng: Rng, shape: tuple[int, ...]) -> np.ndarray:
    """Sigma .5, skewness 1.75; mean 0, variance 1."""
    return (rng.lognormal(0, 0.5, shape) - np.exp(0.125)) / np.sqrt((np.exp(0.25) - 1) * np.exp(0.25))


def bounded(rng: Rng, shape: tuple[int, ...]) -> np.ndarray:
    """Like accuracies near 1, Beta(98, 2), skewness -1.4; mean 0, variance 1."""
    return (rng.beta(98, 2, shape) - 0.98) / np.sqrt(0.98 * 0.02 / 101)


def heavy(rng: Rng, shape: tuple[int, ...]) -> np.ndarray:
    """Student's t with 3 degrees of freedom; mean 0, variance 1."""
    return rng.standard_t(3, shape) / np.sqrt(3)


#: Standard deviations of training seeds, of forget draws and of what is left.
COMPONENTS = ((1, 1, 0.3), (1, 0, 0.3), (0, 1, 0.3), (0, 0, 1), (1, 0.3, 1), (0.3, 1, 1))
#: Training seeds, forget draws and cells that are absent.
CROSSINGS = ((3, 3, 0), (5, 3, 0), (5, 5, 0), (10, 3, 0), (10, 10, 0), (5, 5, 3), (8, 8, 20))


def crossings(repetitions: int) -> Iterator[str]:
    """Interval of the mean over training seeds crossed with forget draws."""
    yield "law | components | " + " | ".join(f"{t} x {d}" + (f" - {gone}" if gone else "") for t, d, gone in CROSSINGS)
    for law in (normal, log_normal, bounded, heavy):
        for parts in COMPONENTS:
            cells = []
            for trainings, draws, gone in CROSSINGS:
                rng, held, claimed = np.random.default_rng([trainings, draws, gone]), 0, 0
                for _ in range(repetitions):
                    values = parts[0] * law(rng, (trainings, 1)) + parts[1] * law(rng, (1, draws))
                    values = values + parts[2] * law(rng, (trainings, draws))
                    values.ravel()[rng.choice(values.size, gone, replace=False)] = np.nan
                    low, high = crossed_interval(values)
                    claimed += not np.isnan(low)
                    held += low <= 0 <= high
                cells.append(f"{100 * held / max(claimed, 1):.1f}")
            yield f"{law.__name__} | {', '.join(map(str, parts))} | " + " | ".join(cells)


def pool(rng: Rng, trainings: int, leak: float, common: float, draws: int = 1) -> dict[str, np.ndarray]:
    """Confidences of models that forgot and of retrains on 40 examples, as ``compute_group`` takes them: D_F leaks by
    ``leak``, models of one training have an error of standard deviation ``common`` in common. Of several ``draws`` each
    is a tenth of the half that a training saw, neighbours complementing each other."""
    size, fold = 40, np.repeat(np.arange(trainings), draws)
    examples = np.random.default_rng(7)  # the same ones every time: the interval is of other models on them
    level, spread = examples.normal(1, 1, size), np.exp(examples.normal(0, 0.3, size))
    of_fold, of_method = (common * rng.normal(size=(trainings, 1))[fold] for _ in range(2))
    shift = leak * np.exp(examples.normal(0, 0.5, size)) + of_method
    never = level + of_fold + spread * rng.normal(size=(len(fold), size))
    forgot = level + of_fold + shift + spread * rng.normal(size=(len(fold), size))
    if draws > 1:
        orders = [rng.permutation(size) for _ in range((trainings + 1) // 2)]
        for row, training in enumerate(fold):
            own, other = np.split(orders[training // 2], 2)[:: 1 if training % 2 else -1]
            gone = np.setdiff1d(own, rng.permutation(own)[:4])
            never[row, gone], forgot[row, np.union1d(gone, other)] = np.nan, np.nan
    sides = {f"{split}_confidence": forgot for split in ("forget", "retain", "validation", "test")}
    sides |= {f"oracle_{name}": never for name in sides}
    ones = ("retain_accuracy", "retrain_retain_accuracy", "test_accuracy", "retrain_test_accuracy")
    return sides | dict.fromkeys(ones, np.ones(len(fold))) | {"trial_fold": fold, "oracle_fold": fold}


#: A group metric, and its pools: trainings and draws.
GROUPS = {
    "u_lira": ((5, 1), (8, 1), (16, 1), (16, 3), (32, 1)),
    "klom": ((13, 1), (16, 1), (32, 1)),
    "forgetting_quality": ((16, 1),),
}
#: How much D_F leaks, and what models of one training have in common.
LEAKS = ((0, 0), (1, 0), (1, 0.5), (3, 0.3))


def groups(repetitions: int) -> Iterator[str]:
    """Interval of a group metric: the truth is the mean over repetitions of what it says with so many models. Beside it
    how often an interval is claimed, and what a claimed one is wide."""
    yield "metric | trainings x draws | leak, in common | " + "part: coverage, claimed, value, width"
    for name, sizes in GROUPS.items():
        metric = GROUP_METRICS.get(name)
        for trainings, draws in sizes:
            for leak, common in LEAKS:
                found: dict[str, list[tuple[float, float, float]]] = {}
                for repetition in range(repetitions):
                    observed = pool(np.random.default_rng([repetition, trainings]), trainings, leak, common, draws)
                    values, _ = compute_group(name, observed)
                    of = intervals(metric, observed, values, {})
                    for part, value in values.items():
                        if value is not None and not part.startswith(("retain", "validation", "test", "score")):
                            low, high = of[part].low, of[part].high
                            ends = (np.nan, np.nan) if low is None or high is None else (low, high)
                            found.setdefault(part, []).append((value, *ends))
                told = []
                for part, tried in found.items():
                    value, low, high = np.array(tried).T
                    claimed, truth = np.isfinite(low), value.mean()
                    share, width = 100 * claimed.mean(), np.mean((high - low)[claimed]) if claimed.any() else np.nan
                    if claimed.any():
                        held = covered(low[claimed] - 1e-12, high[claimed] + 1e-12, truth)
                        told.append(f"{part}: {held:.0f}, {share:.0f}, {truth:.3g}, {width:.2g}")
                yield f"{name} | {trainings} x {draws} | {leak:g}, {common:g} | " + "; ".join(told)


def main() -> None:
    """Print the three tables."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument(
        "--repetitions", type=int, default=4000, help="of a share; half of a crossing, 1 in 20 of a group metric"
    )
    arguments.add_argument("--tables", nargs="+", default=["shares", "crossings", "groups"])
    given = arguments.parse_args()
    most = given.repetitions
    tables: tuple[tuple[Callable[[int], Iterator[str]], int], ...] = (
        (shares, most),
        (crossings, max(most // 2, 2)),
        (groups, max(most // 20, 2)),
    )
    for table, repetitions in tables:
        if table.__name__ not in given.tables:
            continue
        print(f"\n{table.__doc__}\n({repetitions} repetitions)\n")
        for place, line in enumerate(table(repetitions)):
            print(f"| {line} |", flush=True)
            if not place:
                print("|" + "---|" * (line.count("|") + 1))


if __name__ == "__main__":
    main()
