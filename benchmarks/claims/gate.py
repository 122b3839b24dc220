"""What the controls as a gate let through and what they see, by simulation: `python benchmarks/claims/gate.py --runs 400`.

Originals of the retrain's own law (none should be trusted), and originals two pooled standard deviations away (most should
be), as rows of the trials table through ``gate``: three accuracies with equal relative noise, on D_F alone shifted, and the
membership attacks. Then whether the smallest difference that a verdict states is the one it sees, what attacks read by chance
beside the ranges that are allowed them, and KLoM of a method of the oracles' own law.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from scipy.special import ndtr
from scipy.stats import binom, ttest_ind, ttest_rel

from mubench_ray.metrics.apart import PAIRED, UNPAIRED, Apart, tell_apart
from mubench_ray.metrics.chance import Law, auc_by_chance, fitted_accuracy_by_chance, tpr_by_chance
from mubench_ray.metrics.controls import gate
from mubench_ray.metrics.klom import beside_null, klom_of_examples
from mubench_ray.metrics.retention import retention_deviation
from mubench_ray.metrics.roc import auc, tpr_at_fpr
from mubench_ray.metrics.u_mia import attack_accuracy, indisc

MEASURES = ("forget_loss", "retention_deviation", "u_mia", "indisc", "knowledge_gap")
#: Values of mean 0 and standard deviation 1 from standard normal ones, so that pairs may share a part.
LAWS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "normal": lambda z: z,
    "log-normal, sigma 0.8": lambda z: (np.exp(0.8 * z) - np.exp(0.32)) / np.sqrt(np.exp(1.28) - np.exp(0.64)),
    "the same, reversed": lambda z: -(np.exp(0.8 * z) - np.exp(0.32)) / np.sqrt(np.exp(1.28) - np.exp(0.64)),
    "exponential": lambda z: -np.log1p(-ndtr(z)) - 1,
    "accuracy of 100 examples, p = .95": lambda z: (binom.ppf(ndtr(z), 100, 0.95) - 95) / np.sqrt(100 * 0.95 * 0.05),
}
DEFAULT: dict[str, Any] = {"law": "normal", "shared": 0.0, "shift": 0.0, "ratio": 1.0, "paired": True}
ACCURACIES = {"retain_accuracy": 0.95, "forget_accuracy": 0.85, "test_accuracy": 0.86}
#: Standard deviation of distances from 0.
FOLDED = {law: float(np.abs(of(np.random.default_rng(0).normal(size=100_000))).std()) for law, of in LAWS.items()}
#: Relative standard deviation of each, over seeds.
NOISE = 0.01


def cell(
    rng: np.random.Generator, seeds: int, law: str, shared: float, shift: float, ratio: float, paired: bool
) -> list[dict]:
    """Rows of both controls. ``shared``: correlation of normal values behind original and retrain of one seed; ``shift``:
    pooled standard deviations; ``ratio``: variance of the original over that of the retrain."""
    z = rng.normal(size=(2, 5, seeds))
    z[1] = shared * z[0] + np.sqrt(1 - shared**2) * z[1]
    noise = LAWS[law](z)
    noise[0] *= np.sqrt(ratio)
    away = shift * np.sqrt((1 + ratio) / 2)
    noise[0, [1, 3]] += away
    rows = []
    for which, method in enumerate(("original", "retrain")):
        for seed in range(seeds):
            of, own = (
                {name: mean * (1 + NOISE * noise[side, i, seed]) for i, (name, mean) in enumerate(ACCURACIES.items())}
                for side in (which, 1)
            )
            u_mia = 0.5 + 0.02 * noise[which, 3, seed]
            rows.append(
                {"task": "t", "model": "m", "ratio": 5.0, "sampler": "uniform", "forget_seed": 0, "status": "ok"}
                | {"method": method, "training_seed": seed + 100 * (which and not paired), "forget_size": 500}
                | of
                | {"forget_loss": 1 - 0.1 * noise[which, 1, seed], "u_mia": u_mia, "indisc": indisc(u_mia)}
                | {"knowledge_gap": abs(noise[which, 4, seed]) + away * FOLDED[law] * (which == 0)}
                | {
                    "retention_deviation": retention_deviation(
                        *(np.array([each]) for each in (*of.values(), *own.values()))
                    )
                }
            )
    return rows


def trusted(runs: int, seeds: int, **setting: Any) -> dict[str, float]:
    """Share of runs in which each of MEASURES is trusted."""
    rng, found = np.random.default_rng(0), dict.fromkeys(MEASURES, 0)
    rows = [row | {"forget_seed": run} for run in range(runs) for row in cell(rng, seeds, **(DEFAULT | setting))]
    for verdict in gate(rows):
        if verdict["metric"] in found:
            found[verdict["metric"]] += verdict["verdict"] == "trusted"
    return {name: count / runs for name, count in found.items()}


def told(runs: int, seeds: int, law: str, shared: float, shift: float, ratio: float, paired: bool) -> float:
    """Share of runs in which the test alone tells values apart, by scipy's tests of all runs at once."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(2, runs, seeds))
    z[1] = shared * z[0] + np.sqrt(1 - shared**2) * z[1]
    ours, theirs = LAWS[law](z)
    ours = ours * np.sqrt(ratio) + shift * np.sqrt((1 + ratio) / 2)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of seeds that agree exactly
        of_all = ttest_ind(ours, theirs, axis=1, equal_var=False, alternative="greater")
        of_pairs = ttest_rel(ours, theirs, axis=1, alternative="greater")
    ps = (np.asarray(test, float)[1] for test in (of_all, of_pairs))
    return float(np.mean((next(ps) <= UNPAIRED) | (next(ps) <= PAIRED) & paired))


def settings() -> Iterator[tuple[str, dict]]:
    """What is simulated at each number of seeds."""
    yield from ((law, {"law": law}) for law in LAWS)
    yield "normal, seeds share r = .8", {"shared": 0.8}
    yield "normal, other seeds", {"paired": False}
    yield "normal, original's variance 50 times the retrain's", {"ratio": 50}
    yield "normal, original's variance a tenth", {"ratio": 0.1}


def by_chance() -> Iterator[tuple[str, Law, Callable, int, int]]:
    """Attacks with their null laws, and the sizes of both sides; U-MIA on normal losses, for which its spread is largest."""
    yield "AUC", auc_by_chance, auc, 100, 100
    yield "AUC", auc_by_chance, auc, 100, 1000
    for rate, name in ((0.01, "1 %"), (0.001, "0.1 %")):
        for members, others in ((100, 120), (500, 1000), (500, 10_000)):
            if others * rate >= 1:
                yield (
                    f"TPR at {name} FPR",
                    tpr_by_chance(rate),
                    lambda a, b, rate=rate: tpr_at_fpr(a, b, rate),
                    members,
                    others,
                )
    for size in (50, 300):
        yield "U-MIA", fitted_accuracy_by_chance, attack_accuracy, size, size


def klom_row(runs: int, trials: int, oracles: int, shift: float) -> str:
    """Means over runs on 60 examples: the official number, half of the oracles against the other half, and the excess."""
    rng, found = np.random.default_rng(0), []
    for _ in range(runs):
        centre, count = rng.normal(2, 2, 60), trials + oracles
        ours, theirs = np.split(centre + rng.normal(0, 0.3, (count, 1)) + rng.normal(0, 1, (count, 60)), [trials])
        ours = ours + shift
        excess = np.subtract(*beside_null(ours, theirs, np.arange(trials), np.arange(oracles)))
        found.append(
            [klom_of_examples(ours, theirs).mean(), klom_of_examples(theirs[::2], theirs[1::2]).mean(), excess.mean()]
        )
    official, floor, excess = np.mean(found, 0)
    error = np.std([row[2] for row in found]) / np.sqrt(runs)
    return f"| {trials} | {oracles} | {shift:g} | {official:.2f} | {floor:.2f} | {excess:.3f} +- {error:.3f} |"


def tested(rng: np.random.Generator, runs: int, seeds: int, shift: float) -> list[Apart]:
    """Originals so many standard deviations above retrains."""
    pairs = rng.normal(size=(runs, 2, seeds))
    return [tell_apart(dict(enumerate(ours + shift)), dict(enumerate(theirs)), "above") for ours, theirs in pairs]


def main() -> None:
    """Print every table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=400)
    runs = parser.parse_args().runs
    print(
        "\nThe test alone: told apart, in percent, of the retrain's own law and two pooled standard deviations away\n"
    )
    print("| law | 3 seeds | 5 | 10 | away, 3 | 5 | 10 |\n|---|---|---|---|---|---|---|")
    for name, setting in settings():
        of = DEFAULT | setting
        shares = [told(20 * runs, n, **{**of, "shift": shift}) for shift in (0, 2) for n in (3, 5, 10)]
        print(f"| {name} | {' | '.join(f'{100 * share:.1f}' for share in shares)} |", flush=True)
    print(f"\nThrough the gate: trusted, in percent\n\n| original | seeds | {' | '.join(MEASURES)} |")
    print(f"|---|---|{'---|' * len(MEASURES)}")
    for title, shift in (("of the retrain's own law", 0), ("two pooled standard deviations away", 2)):
        for name, setting in settings():
            for seeds in (3, 5, 10) if name == "normal" else (5,):
                shares = " | ".join(
                    f"{100 * share:.1f}" for share in trusted(runs, seeds, shift=shift, **setting).values()
                )
                print(f"| {title}: {name} | {seeds} | {shares} |", flush=True)
    rng = np.random.default_rng(1)
    print("\nThe smallest difference that is stated (median), in true standard deviations, and how often it is seen\n")
    print("| seeds | stated | seen, percent |\n|---|---|---|")
    for seeds in (3, 5, 10):
        stated = float(np.median([each.smallest for each in tested(rng, runs, seeds, 0.0)]))
        seen = np.mean([each.told for each in tested(rng, runs, seeds, stated)])
        print(f"| {seeds} | {stated:.2f} | {100 * seen:.1f} |", flush=True)
    print("\nAttacks on two samples of one law\n")
    print(
        "| attack | members | others | mean, by law | mean | in the range, percent | range |\n|---|---|---|---|---|---|---|"
    )
    for name, law, attack, members, others in by_chance():
        count = min(runs, 200) if name == "U-MIA" else runs
        values = np.array([attack(*(rng.normal(2, 0.5, size) for size in (members, others))) for _ in range(count)])
        chance = law(members, others)
        inside = 100 * np.mean((chance.low - 1e-9 <= values) & (values <= chance.high + 1e-9))
        texts = f"{chance.mean:.4f}", f"{values.mean():.4f}", f"{inside:.1f}", f"{chance.low:.4f} to {chance.high:.4f}"
        print(f"| {name} | {members} | {others} | {' | '.join(texts)} |", flush=True)
    print("\nKLoM, nats\n")
    print(
        "| models | oracles | shift | official | half of the oracles against half | excess |\n|---|---|---|---|---|---|"
    )
    for trials, oracles, shift in ((32, 32, 0), (24, 60, 0), (100, 100, 0), (32, 32, 1), (32, 32, 4)):
        print(klom_row(min(runs, 300), trials, oracles, shift), flush=True)


if __name__ == "__main__":
    main()
