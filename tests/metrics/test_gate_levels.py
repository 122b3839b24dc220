"""How often the gate trusts a measure of which original and retrain have one law, and one of which they do not: a reduced
run of what `benchmarks/claims` does in full."""

import numpy as np
import pytest

from mubench_ray.metrics.controls import gate

RUNS = 250
LAWS = {"normal": lambda z: z, "skewed": lambda z: (np.exp(z) - np.exp(0.5)) / np.sqrt(np.exp(2) - np.exp(1))}


def rows(rng, seeds, law, shared, shift):
    """Accuracies of standard deviation .01; RetDev and U-MIA by their formulas, written out."""
    z = rng.normal(size=(2, 4, seeds))
    z[1] = shared * z[0] + np.sqrt(1 - shared**2) * z[1]
    retain, forget, test, attack = np.array([0.95, 0.85, 0.86, 0.5])[:, None, None] + 0.01 * LAWS[law](
        z.transpose(1, 0, 2)
    )
    forget[0] += shift * 0.01
    attack[0] += shift * 0.01
    deviation = sum(abs(each / each[1] - 1) for each in (retain, forget, test))
    cell = {"task": "t", "model": "m", "ratio": 5.0, "sampler": "uniform", "forget_seed": 0, "status": "ok"}
    return [
        cell
        | {"method": method, "training_seed": seed, "forget_size": 1000, "retain_accuracy": retain[which, seed]}
        | {"forget_accuracy": forget[which, seed], "test_accuracy": test[which, seed]}
        | {"retention_deviation": deviation[which, seed], "forget_loss": -np.log(forget[which, seed])}
        | {"u_mia": attack[which, seed], "indisc": 1 - abs(2 * attack[which, seed] - 1)}
        for which, method in enumerate(("original", "retrain"))
        for seed in range(seeds)
    ]


def shares(**setting):
    rng, counts = np.random.default_rng(0), {}
    for _ in range(RUNS):
        for each in gate(rows(rng, **setting)):
            counts[each["metric"]] = counts.get(each["metric"], 0) + (each["verdict"] == "trusted")
    return {name: count / RUNS for name, count in counts.items()}


@pytest.mark.parametrize("seeds, law, shared", [(3, "normal", 0), (5, "normal", 0), (10, "normal", 0), (5, "skewed", 0), (5, "normal", 0.8)])  # fmt: skip
def test_an_original_of_the_retrains_law_is_hardly_ever_trusted(seeds, law, shared):
    error = 3 * np.sqrt(0.05 * 0.95 / RUNS)
    found = shares(seeds=seeds, law=law, shared=shared, shift=0)
    assert set(found) == {"forget_loss", "retention_deviation", "u_mia", "indisc"}
    assert all(share <= 0.05 + error for share in found.values()), found


@pytest.mark.parametrize("law, shared", [("normal", 0), ("skewed", 0), ("normal", 0.8)])
def test_one_that_lies_two_pooled_standard_deviations_away_is_at_5_seeds(law, shared):
    error = 3 * np.sqrt(0.8 * 0.2 / RUNS)
    found = shares(seeds=5, law=law, shared=shared, shift=2)
    assert all(share >= 0.8 - error for share in found.values()), found
