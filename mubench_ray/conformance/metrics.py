"""What every metric and group metric is held to: what it declares, and its values on made-up observations."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, get_args

import numpy as np
import pyarrow as pa

from mubench_ray.conformance.findings import Finding, all_of, guarded, misnumbered, unsaid
from mubench_ray.errors import did_you_mean
from mubench_ray.metrics import GROUP_METRICS, METRICS, GroupMetric, Metric, Part, compute_group, compute_one
from mubench_ray.metrics.base import Direction, reads
from mubench_ray.metrics.group import OVER
from mubench_ray.observations import OBSERVATIONS
from mubench_ray.results.schema import CURVE_METRICS, TRIAL_COLUMNS

SPLITS = ("forget", "retain", "validation", "test")
#: Examples of the sets that a metric is tried on, again and again: few, some, and enough for a false-positive rate of 0.1 %.
SIZES = (12, 12, 150, 150, 1200)
#: What stands in a name before the set whose examples an array is of.
WHOSE = re.compile(rf"^(?:retrain_|original_|incompetent_)?((?:forgotten_)?(?:{'|'.join(SPLITS)}))_")


def check(name: str) -> Iterator[Finding]:
    """Either suite: a name is a metric's or a group metric's."""
    if name in METRICS:
        yield from guarded(partial(check_metric, METRICS.get(name)))
    if name in GROUP_METRICS:
        yield from guarded(partial(check_group, GROUP_METRICS.get(name)))


def check_metric(metric: Metric) -> Iterator[Finding]:
    """A metric of one trial."""
    yield check_words(metric)
    known = observe(np.random.default_rng(0), 12)
    faults = undeclared("", metric) + misnumbered(metric.version)
    counted = f"{metric.counts}_correct"
    if metric.counts and counted not in known and not observable(counted):
        faults.append(f"counts {metric.counts!r}, a set of which nothing gives {counted!r}")
    yield all_of("declares a direction, a range, an ideal inside it and a version", faults)
    further = {need for need in reads(metric.name) - known.keys() if observable(need)}
    unknown = sorted((reads(metric.name) | set(metric.optional)) - known.keys() - further)
    told = [
        f"{need!r} is neither observed nor a metric. {did_you_mean(need, [*known, *METRICS.names()])}"
        for need in unknown
    ]
    yield all_of("reads what trials give", told)
    if unknown:
        return
    tried = [observe(np.random.default_rng(seed), size, further) for seed, size in enumerate(SIZES)]
    tried += [{name: values for name, values in observed.items() if name not in metric.optional} for observed in tried]
    yield from check_values(
        lambda observed: {"value": compute_one(metric.name, observed, {})}, {"value": metric}, tried
    )
    extremes = {name: value(metric, observed) for name, observed in edges(further).items()}
    wrong = [f"{name}: {got}" for name, got in extremes.items() if not within(metric, got)]
    yield all_of("stays in its range, or is undefined, where sets are tiny, all alike or lost", wrong)
    sets = {found[1] for need in reads(metric.name) if (found := WHOSE.match(need))}
    if len(sets) == 1:
        orders = [(value(metric, observed), value(metric, examples_shuffled(observed))) for observed in tried]
        apart = [f"{one} and, shuffled, {two}" for one, two in orders if not near(one, two)]
        yield all_of("does not depend on the order of examples", apart)


def check_group(metric: GroupMetric) -> Iterator[Finding]:
    """A metric of many trials."""
    yield check_words(metric)
    faults = [f for name, part in metric.parts.items() for f in undeclared(f"{name}: ", part)]
    faults += ["has no parts"] * (not metric.parts)
    faults += [f"over has {name!r}, which is none of {OVER}" for name in set(metric.over) - set(OVER)]
    yield all_of("declares what it ranges over and its parts", faults)
    known = observe_group(np.random.default_rng(0))
    unknown = sorted(set(metric.needs) - known.keys())
    told = [f"{need!r} is no array of a group. {did_you_mean(need, known)}" for need in unknown]
    yield all_of("reads what groups of trials give", told)
    if unknown:
        return
    shapes = ({}, {"trials": 40, "oracles": 40, "size": 60})
    tried = [observe_group(np.random.default_rng(seed), **shape) for shape in shapes for seed in range(2)]
    given = metric.compute(**{need: np.asarray(tried[0][need], float) for need in metric.needs})
    missing, stray = metric.parts.keys() - given.keys(), given.keys() - metric.parts.keys()
    told = [f"{name!r} is not given" for name in missing] + [f"{name!r} is no declared part" for name in stray]
    yield all_of("gives its parts and no others", told)
    if told:
        return
    yield from check_values(lambda observed: compute_group(metric.name, observed)[0], metric.parts, tried)
    one, two = (compute_group(metric.name, group)[0] for group in (tried[0], trials_shuffled(tried[0])))
    apart = [f"{name} is {one[name]} and, shuffled, {two[name]}" for name in one if not near(one[name], two[name])]
    yield all_of("does not depend on the order of trials", apart)


def check_words(metric: Metric | GroupMetric) -> Finding:
    """Docstring and citation."""
    said = {"docstring": metric.compute.__doc__, "citation": metric.cites}
    return all_of("has a docstring and a citation", unsaid(said))


def undeclared(where: str, part: Metric | Part) -> list[str]:
    """What is wrong with a direction, range and ideal."""
    faults = []
    if part.direction not in get_args(Direction):
        faults.append(f"{where}direction {part.direction!r} is none of {', '.join(get_args(Direction))}")
    if not part.low < part.high:
        faults.append(f"{where}range {part.low:g} .. {part.high:g} is empty")
    if part.ideal is not None and not part.low <= part.ideal <= part.high:
        faults.append(f"{where}ideal {part.ideal:g} lies outside {part.low:g} .. {part.high:g}")
    return faults


def check_values(
    compute: Callable[[Mapping[str, Any]], Mapping[str, float | None]],
    parts: Mapping[str, Metric | Part],
    tried: Iterable[Mapping[str, Any]],
) -> Iterator[Finding]:
    """Values on random observations: in the declared ranges, the same every time, a number now and then; the observations stay as they were."""
    outside, unstable, seen, changed = [], [], set(), set()
    for observed in tried:
        before = {name: frozen(values) for name, values in observed.items()}
        values, again = compute(observed), compute(observed)
        outside += [f"{name} = {got:g}" for name, got in values.items() if not within(parts[name], got)]
        unstable += [name for name in values if values[name] != again[name]]
        seen |= {name for name, got in values.items() if got is not None}
        changed |= {name for name, values in observed.items() if frozen(values) != before[name]}
    yield all_of("values lie in the declared range", outside)
    yield all_of("gives the same every time", list(dict.fromkeys(unstable)))
    yield all_of(
        "gives a number where everything is observed", [f"{n} is always undefined" for n in parts.keys() - seen]
    )
    yield all_of("leaves what it reads as it was", sorted(changed))


def within(part: Metric | Part, value: float | None) -> bool:
    """Whether a value lies in a declared range, or is undefined."""
    return value is None or part.low <= value <= part.high


def near(one: float | None, two: float | None) -> bool:
    """Whether two values are the same but for rounding."""
    return one == two or (one is not None and two is not None and math.isclose(one, two, rel_tol=1e-6, abs_tol=1e-9))


def value(metric: Metric, observed: Mapping[str, Any]) -> float | None:
    """A metric on observations."""
    return compute_one(metric.name, observed, {})


def frozen(values: Any) -> Any:
    """Something to compare by."""
    if isinstance(values, Mapping):
        return {name: np.asarray(each).tobytes() for name, each in values.items()}
    return np.asarray(values).tobytes()


def shuffled(values: np.ndarray) -> np.ndarray:
    """The examples (N, ...) in another order, the same for all arrays of a length."""
    return values[np.random.default_rng(len(values)).permutation(len(values))]


def examples_shuffled(observed: Mapping[str, Any]) -> dict[str, Any]:
    """The observations of a trial with the examples of every set in another order."""
    return {name: shuffled(values) if WHOSE.match(name) else values for name, values in observed.items()}


def trials_shuffled(observed: Mapping[str, Any]) -> dict[str, Any]:
    """A group with its trials in another order, and its oracles in another."""
    trials = len(observed["trial_fold"])
    return {name: shuffled(values) if len(values) == trials else values for name, values in observed.items()}


def edges(further: Iterable[str] = ()) -> dict[str, dict[str, Any]]:
    """Observations at the ends of what there can be: one example a set, all right, all wrong, all alike, large and infinite losses, nothing spent."""
    plain = observe(np.random.default_rng(0), 30, further)

    def with_all(end: str, number: float) -> dict[str, Any]:
        return {name: np.full_like(v, number) if name.endswith(end) else v for name, v in plain.items()}

    return {
        "one example": observe(np.random.default_rng(0), 1, further),
        "all right": with_all("_correct", 1.0),
        "all wrong": with_all("_correct", 0.0),
        "losses alike": with_all("_loss", 0.5),
        "confidences alike": with_all("_confidence", 0.0),
        "losses large": with_all("_loss", 99.0),
        "losses infinite": with_all("_loss", np.inf),
        "nothing spent": plain | {"seconds": 0.0, "flos": 0.0},
        "nothing spent on the retrain": plain | {"retrain_seconds": 0.0, "retrain_flos": 0.0},
    }


def observable(name: str) -> bool:
    """Whether an observation that a suite may ask for gives an array of this name."""
    return any(kind.asked and kind.is_given(name) for _, kind in OBSERVATIONS)


def observe(rng: np.random.Generator, size: int, further: Iterable[str] = ()) -> dict[str, Any]:
    """Random but consistent observations of one trial and its retrain, ``size`` examples a set; ``further`` arrays (N,) lie in [0, 1]."""
    observed: dict[str, Any] = {"ratio": 5.0, "seed": 42, "seconds": rng.uniform(0.1, 9), "flos": rng.uniform(1e8, 9e9)}
    observed |= {"retrain_seconds": rng.uniform(1, 9), "retrain_flos": rng.uniform(1e9, 9e9)}
    for whose in ("", "retrain_"):
        shift = rng.normal(0, 2)
        for split in (*SPLITS, "forgotten_test", "forgotten_validation"):
            confidence = rng.normal(shift + 2 * (split == "retain"), rng.uniform(0.5, 5), size)
            certain = 1 / (1 + np.exp(-np.abs(confidence)))
            observed |= {
                f"{whose}{split}_confidence": confidence,
                f"{whose}{split}_loss": np.logaddexp(0, -confidence),
                f"{whose}{split}_correct": (confidence > 0).astype(float),
                f"{whose}{split}_entropy": rng.gamma(1, 1, size),
                f"{whose}{split}_modified_entropy": rng.gamma(1, 1, size),
                f"{whose}{split}_top_probability": certain,
                f"{whose}{split}_label": np.arange(size) % 4,
            }
    for name in ("forget", "incompetent_forget", "forget_only_forget", "original_extra", "extra_only_extra"):
        logits = rng.normal(0, 3, (size, 7))
        observed[f"{name}_log_probs"] = logits - np.logaddexp.reduce(logits, -1, keepdims=True)
    observed |= {f"{split}_probabilities": rng.dirichlet(np.ones(7), size) for split in ("retain", "test", "forget")}
    for name in ("state", "retrain_state"):
        observed[name] = {"a.weight": rng.normal(size=(3, 2)), "a.bias": rng.normal(size=3), "b.steps": np.array(4)}
    generated = ("rouge_l", "rouge_l_recall", "factual_overlap", "generated_correct", "clip_score")
    observed |= {f"{split}_{name}": rng.uniform(0, 1, size) for split in ("forget", "test") for name in generated}
    observed |= {f"{split}_judged": np.ones(size) for split in ("forget", "test")}
    observed |= {"relearn_steps": np.arange(6.0), "shifted_correct": rng.integers(0, 2, size).astype(float)}
    observed |= {"original_shifted_correct": rng.integers(0, 2, size).astype(float)}
    observed |= {f"{whose}relearn_forget_accuracy": rng.uniform(0, 1, 6) for whose in ("", "retrain_")}
    observed |= {"relearn_shares": np.array([1.0, 5.0, 10.0]), "relearn_share_steps": np.arange(6.0)}
    observed |= {f"{whose}relearn_share_accuracy": rng.uniform(0, 1, (3, 6)) for whose in ("", "retrain_")}
    observed |= {name: rng.uniform(0, 1, size) for name in sorted(further)}
    return observed | {"certificate_epsilon": rng.uniform(0, 9), "certificate_delta": rng.uniform(0, 1e-2)}


def observe_group(rng: np.random.Generator, trials: int = 24, oracles: int = 24, size: int = 30) -> dict[str, Any]:
    """Random observations of a group of trials and of the retrains that it is compared with."""
    numbers = [c.name for c in TRIAL_COLUMNS if pa.types.is_integer(c.type) or pa.types.is_floating(c.type)]
    observed: dict[str, Any] = {name: rng.integers(1, 9, trials).astype(float) for name in numbers}
    for whose in ("", "retrain_", "original_"):
        columns = {name: rng.uniform(max(m.low, -9), min(m.high, 9), trials) for name, m in METRICS}
        columns |= {"flos": 10 ** rng.uniform(8, 12, trials), "seconds": rng.uniform(0.1, 9, trials)}
        observed |= {f"{whose}{name}": values for name, values in columns.items()}
    observed |= {"trial_fold": np.arange(trials), "oracle_fold": np.arange(oracles)}
    observed |= {"ratio": rng.choice([1.0, 2, 5, 10], trials), "training_seed": rng.integers(0, 5, trials)}
    observed |= {f"curve_{name}": rng.uniform(0, 1, (1, 9)) for name in (*CURVE_METRICS, "flos", "seconds")}
    observed["curve_retrain_share"] = np.linspace(0, 1, 9)[None]
    for split in SPLITS:
        observed[f"{split}_confidence"] = rng.normal(rng.normal(0, 3), rng.uniform(0.1, 4), (trials, size))
        observed[f"oracle_{split}_confidence"] = rng.normal(0, 2, (oracles, size))
    return observed
