"""Deep Unlearn's released code and this package on one fixed problem: `python benchmarks/claims/released.py`.

Released code's figures are data (``tests/released/deep_unlearn.json``; ``tests/released/deep_unlearn.md`` says how they came about); ours are made here, from
the same f_O at the same settings, with the departures of released code that have a switch switched on. Welch's test on the logarithm of the loss on D_F and on
D_Test, 5 runs against 5, Holm over all settings and both.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.stats import ttest_ind

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from mubench_ray.errors import Diverged  # noqa: E402
from tests.released.problem import Network, measure, ours, trained  # noqa: E402
from tests.released.settings import SETTINGS, Setting  # noqa: E402

FIGURES = ROOT / "tests" / "released" / "deep_unlearn.json"
#: What is compared: a loss tells methods apart where accuracies saturate.
COMPARED = ("forget_loss", "test_loss")


def run(setting: Setting, originals: Sequence[Network], switched: bool = True) -> dict[str, list[float]]:
    """Measures of f_U, one of each f_O; a run that diverged counts as infinite losses and accuracies of 0."""
    found: dict[str, list[float]] = {}
    for seed, original in enumerate(originals):
        network = Network()
        network.load_state_dict(original.state_dict())
        try:
            network = ours(network, setting.configured(switched), seed, setting.lr, setting.unlearning)
        except Diverged:
            network = None
        for name, value in (measure(network, seed) if network else dict.fromkeys(COMPARED, np.inf)).items():
            found.setdefault(name, []).append(value)
    return found


def told_apart(theirs: Sequence[float], mine: Sequence[float]) -> float:
    """p of Welch's test on logarithms; 1 where both are not finite, 0 where one of them is."""
    logs = [np.log(np.maximum(np.asarray(values, float), 1e-12)) for values in (theirs, mine)]
    finite = [bool(np.isfinite(each).all()) for each in logs]
    if not all(finite):
        return float(not any(finite))
    _, p = ttest_ind(*logs, equal_var=False)
    return float(p)


def holm(values: dict[tuple, float]) -> dict[tuple, float]:
    """Adjusted p values."""
    adjusted, least = {}, 0.0
    for place, (name, p) in enumerate(sorted(values.items(), key=lambda item: item[1])):
        least = max(least, min(1.0, (len(values) - place) * p))
        adjusted[name] = least
    return adjusted


def shown(values: Sequence[float]) -> str:
    """Mean and standard deviation to three digits."""
    return f"{np.mean(values):.3g} ± {np.std(values, ddof=1):.2g}" if np.isfinite(values).all() else "diverged"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", help="names, separated by semicolons; all by default")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--off", action="store_true", help="also with the switches off, and what p is then")
    parser.add_argument("--keep", help="a file that our runs are written to")
    args = parser.parse_args()
    torch.set_num_threads(1)
    theirs = json.loads(FIGURES.read_text())["settings"]
    chosen = [s for s in SETTINGS if s.name in theirs and (not args.settings or s.name in args.settings.split(";"))]
    originals = [trained(seed) for seed in range(args.seeds)]
    p, mine, off = {}, {}, {}
    for setting in chosen:
        mine[setting.name] = run(setting, originals)
        if args.off and setting.switches:
            off[setting.name] = run(setting, originals, switched=False)
        for name in COMPARED:
            p[setting.name, name] = told_apart(theirs[setting.name]["runs"][name], mine[setting.name][name])
        print(setting.name, *(f"{p[setting.name, name]:.2g}" for name in COMPARED), file=sys.stderr, flush=True)
        if args.keep:
            Path(args.keep).write_text(json.dumps({"on": mine, "off": off}))
    adjusted = holm(p)
    print(
        "| setting | D_F loss, theirs | ours | D_Test loss, theirs | ours | p | after Holm | switches | off: D_F loss | p |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for setting in chosen:
        name, figures = setting.name, theirs[setting.name]["runs"]
        pairs = [f"{shown(figures[key])} | {shown(mine[name][key])}" for key in COMPARED]
        least, least_adjusted = (min(table[name, key] for key in COMPARED) for table in (p, adjusted))
        without = off.get(name)
        beside = (
            f"{shown(without['forget_loss'])} | {min(told_apart(figures[k], without[k]) for k in COMPARED):.2g}"
            if without
            else " | "
        )
        print(
            f"| {name} | {' | '.join(pairs)} | {least:.2g} | {least_adjusted:.2g} | {setting.switched_on} | {beside} |"
        )
    below = sum(value < 0.05 for value in p.values())
    print(
        f"\n{below} of {len(p)} comparisons have p < .05 before Holm, {sum(v < 0.05 for v in adjusted.values())} after."
    )


if __name__ == "__main__":
    main()
