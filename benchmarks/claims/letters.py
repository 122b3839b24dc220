"""How often letters tell equal contenders apart, and how often they find one that is 3 standard deviations worse than the rest; the same of the
comparison with a retrain.

Each law gives a table of contenders times blocks (pairs of a training seed and a forget draw) whose means are all equal; the level is the share of
tables in which any pair is told apart. Power: the share of its pairs by which one contender that is 3 of its standard deviations worse is found.
The figures are in letters.md. Run: python benchmarks/claims/letters.py --repetitions 2000
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np

from mubench_ray.report.comparison import pseudo_values
from mubench_ray.report.contrasts import told_apart, worse_than

Law = Callable[[np.random.Generator, int, int], np.ndarray]


def normal(variances: Callable[[int], np.ndarray]) -> Law:
    """Normal values of these variances on blocks that all contenders share."""

    def draw(rng: np.random.Generator, contenders: int, blocks: int) -> np.ndarray:
        scale = np.sqrt(variances(contenders))[:, None]
        return rng.normal(size=(contenders, blocks)) * scale + rng.normal(size=blocks)

    return draw


def first(count: int | None, times: float) -> Callable[[int], np.ndarray]:
    """Variance 1, but of the first ``count`` (half of them for None) so many times that."""
    return lambda size: np.where(np.arange(size) < (size // 2 if count is None else count), times, 1.0)


def families(rng: np.random.Generator, contenders: int, blocks: int) -> np.ndarray:
    """Two families of contenders that move together, each against the other."""
    side = np.where(np.arange(contenders) < contenders // 2, 1.5, -1.5)[:, None]
    return rng.normal(size=(contenders, blocks)) + side * rng.normal(size=blocks)


def crossed(rng: np.random.Generator, contenders: int, blocks: int) -> np.ndarray:
    """Half as many training seeds as blocks, each of two draws; of each contender's variance half is the training seed's."""
    own = rng.normal(size=(contenders, (blocks + 1) // 2))
    return np.repeat(own, 2, axis=1)[:, :blocks] + rng.normal(size=(contenders, blocks))


def unequal_bounded(rng: np.random.Generator, contenders: int, blocks: int) -> np.ndarray:
    """Mean .98 throughout, variances 1 : 48: with the noisier ones most values are near 1 and few far below."""
    sure = np.geomspace(1000, 20, contenders)[:, None]
    return rng.beta(sure * 0.98, sure * 0.02, size=(contenders, blocks))


EQUAL: dict[str, Law] = {
    "equal normal": normal(first(0, 1)),
    "one of variance 3": normal(first(1, 3)),
    "one of variance 10": normal(first(1, 10)),
    "one of variance 50": normal(first(1, 50)),
    "one of variance 1/50": normal(first(1, 1 / 50)),
    "half of variance 5": normal(first(None, 5)),
    "half of variance 50": normal(first(None, 50)),
    "variances 1 to 50, geometric": normal(lambda size: np.geomspace(1, 50, size)),
    "variances 1 to 50, linear": normal(lambda size: np.linspace(1, 50, size)),
    "accuracy of 300 at p = .998": lambda rng, c, b: rng.binomial(300, 0.998, size=(c, b)) / 300,
    "Beta(98, 2)": lambda rng, c, b: rng.beta(98, 2, size=(c, b)),
    "exponential": lambda rng, c, b: rng.exponential(size=(c, b)),
    "two families": families,
    "training seeds of two draws each": crossed,
    "Beta, mean .98, variances 1 to 48": unequal_bounded,
}


def level(law: Law, contenders: int, blocks: int, repetitions: int) -> float:
    """Share of tables of equal means in which a pair is told apart."""
    rng = np.random.default_rng(1)
    units = [np.arange(blocks) // 2] if law is crossed else []
    return float(np.mean([told_apart(law(rng, contenders, blocks), units).any() for _ in range(repetitions)]))


def power(contenders: int, blocks: int, repetitions: int) -> float:
    """Share of its pairs by which a contender 3 standard deviations worse is found."""
    rng, found = np.random.default_rng(2), 0.0
    for _ in range(repetitions):
        values = rng.normal(size=(contenders, blocks)) + rng.normal(size=blocks)
        values[0] += 3
        found += told_apart(values)[0, 1:].mean() / repetitions
    return found


def against_retrain(contenders: int, blocks: int, repetitions: int) -> dict[str, float]:
    """Level where all, the retrain or one contender is as noisy as the rest or 50 times as much (in variance), and the power at 3 standard deviations."""
    rng = np.random.default_rng(3)
    count: dict[str, float] = dict.fromkeys(
        ("equal", "noisy retrain", "noisy contender", "RetDev of the retrain's law", "power"), 0.0
    )
    for _ in range(repetitions):
        values = rng.normal(size=(contenders + 1, blocks)) + rng.normal(size=blocks)
        worse = values.copy()
        worse[1] += 3
        for name, table in {
            "equal": values,
            "noisy retrain": values * np.where(np.arange(contenders + 1) == 0, 50**0.5, 1)[:, None],
            "noisy contender": values * np.where(np.arange(contenders + 1) == 1, 50**0.5, 1)[:, None],
            "RetDev of the retrain's law": retention_deviations(rng, contenders, blocks),
        }.items():
            count[name] += worse_than(table[1:], table[0]).any() / repetitions
        count["power"] += worse_than(worse[1:], worse[0])[0] / repetitions
    return count


def retention_deviations(rng: np.random.Generator, contenders: int, blocks: int) -> np.ndarray:
    """RetDev of retrains as the report takes it, the other retrains each as the unlearned model, and of contenders that are such networks too."""
    mean, scale = np.array([[0.9], [0.85], [0.99]]), np.array([[0.005], [0.02], [0.003]])
    retrains = mean + scale * rng.normal(size=(3, blocks))
    others = np.abs(retrains[:, :, None] / retrains[:, None, :] - 1).sum(axis=0)
    unlearned = mean[:, None] + scale[:, None] * rng.normal(size=(3, contenders, blocks))
    own = np.abs(unlearned / retrains[:, None] - 1).sum(axis=0)
    return np.vstack([pseudo_values(others), own])


def main() -> None:
    """Print the tables of letters.md."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--repetitions", type=int, default=2000)
    parser.add_argument("--contenders", type=int, nargs="+", default=[18])
    parser.add_argument("--blocks", type=int, nargs="+", default=[3, 5, 10])
    given = parser.parse_args()
    sizes = [(contenders, blocks) for contenders in given.contenders for blocks in given.blocks]
    print(
        "| letters, % |", *(f"{contenders} contenders, {blocks} blocks |" for contenders, blocks in sizes), flush=True
    )
    print("|---|" + "---:|" * len(sizes))
    for name, law in EQUAL.items():
        print(f"| {name} |", *(f"{100 * level(law, *size, given.repetitions):.1f} |" for size in sizes), flush=True)
    print("| **power** |", *(f"**{100 * power(*size, given.repetitions):.0f}** |" for size in sizes), flush=True)
    found = {size: against_retrain(*size, given.repetitions) for size in sizes}
    print(
        "\n| against a retrain, % |", *(f"{contenders} contenders, {blocks} blocks |" for contenders, blocks in sizes)
    )
    print("|---|" + "---:|" * len(sizes))
    for name in next(iter(found.values())):
        print(f"| {name} |", *(f"{100 * found[size][name]:.1f} |" for size in sizes))


if __name__ == "__main__":
    main()
