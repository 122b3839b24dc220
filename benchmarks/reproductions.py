"""Published tables beside a results folder of ours: the numbers, the order of methods (Kendall's tau), the direction from the retrain.

What is printed is docs/reproductions.md's. Run: python benchmarks/reproductions.py results/tuned_digits
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from scipy.stats import kendalltau, t

from mubench_ray.report.load import load

#: SalUn (Fan et al., ICLR 2024, arXiv 2310.12508), CIFAR-10, ResNet-18, a random 10 %: UA (100 - D_F accuracy), RA, TA, MIA (share of D_F that a confidence SVC
#: calls a non-member), all in percent, and minutes.
SALUN = {
    "retrain": (5.24, 100.0, 94.26, 12.88, 43.29),
    "ft": (0.63, 99.88, 94.06, 2.70, 2.37),
    "rand_label": (7.61, 99.67, 92.83, 37.36, 2.64),
    "neggrad": (0.69, 99.50, 94.01, 1.70, 0.13),
    "iu": (1.07, 99.20, 93.20, 2.67, 3.22),
    "l1_sparse": (4.19, 97.74, 91.59, 9.84, 2.36),
    "salun": (2.85, 99.62, 93.93, 14.39, 2.66),
}
SALUN_COLUMNS = ("forget_accuracy", "retain_accuracy", "test_accuracy", "svc_mia_confidence")
#: Deep Unlearn (Cadet et al., arXiv 2410.01276), Table 1: in how many of nine (data set, network) a method is in the best, middle and worst group and
#: failed, by RetDev and by Indisc.
DEEP = {
    "ft": ((8, 1, 0, 0), (6, 3, 0, 0)),
    "msg": ((8, 1, 0, 0), (9, 0, 0, 0)),
    "prmq": ((7, 2, 0, 0), (6, 3, 0, 0)),
    "ct": ((7, 1, 1, 0), (9, 0, 0, 0)),
    "kde": ((7, 1, 1, 0), (7, 2, 0, 0)),
    "cfw": ((7, 1, 1, 0), (7, 2, 0, 0)),
    "fcs": ((6, 3, 0, 0), (5, 4, 0, 0)),
    "salun": ((6, 3, 0, 0), (6, 3, 0, 0)),
    "neggrad_plus": ((5, 4, 0, 0), (5, 4, 0, 0)),
    "srl": ((5, 4, 0, 0), (6, 2, 1, 0)),
    "scrub": ((4, 3, 1, 1), (5, 3, 0, 1)),
    "bad_t": ((2, 7, 0, 0), (4, 5, 0, 0)),
    "rni": ((2, 7, 0, 0), (7, 2, 0, 0)),
    "cf_k": ((2, 3, 2, 2), (1, 2, 4, 2)),
    "iu": ((1, 0, 2, 6), (0, 0, 3, 6)),
    "eu_k": ((0, 5, 0, 4), (1, 2, 2, 4)),
    "neggrad": ((0, 1, 7, 1), (0, 4, 4, 1)),
    "ff": ((0, 0, 0, 9), (0, 0, 0, 9)),
}
#: The same, Table 2: retraining time over unlearning time on ResNet-18, for CIFAR-10, CIFAR-100, MNIST, FashionMNIST, UTKFace.
RTE = {
    "msg": (6.80, 4.49, 4.29, 3.32, 7.57),
    "cfw": (4.67, 6.17, 4.29, 4.90, 5.54),
    "prmq": (4.93, 4.34, 3.77, 3.77, 5.88),
    "ct": (17.49, 11.82, 5.83, 4.47, 13.34),
    "kde": (6.33, 3.98, 3.27, 3.22, 8.19),
    "ft": (8.15, 5.16, 5.07, 4.29, 5.78),
}
OURS = (*SALUN_COLUMNS, "retention_deviation", "indisc", "flos_efficiency")

#: Values by method and then by training seed.
Values = dict[str, dict[int, np.ndarray]]


def read(folder: str) -> Values:
    """OURS of every usable trial of a folder with one task, model and ratio; of a method with several lines those of the smallest learning rate."""
    results = load(folder)
    trials = results.trials.select(
        ["task", "model", "ratio", "forget_seed", "method", "lr", "training_seed"]
    ).to_pylist()
    cells = {tuple(row[name] for name in ("task", "model", "ratio", "forget_seed")) for row in trials}
    if len(cells) != 1:
        sys.exit(f"{folder} holds {len(cells)} of (task, model, ratio, forget seed): give a folder of one.")
    task, model, ratio, _ = next(iter(cells))
    columns = np.stack(
        [results.values(name) if name in results.column else np.full(len(trials), np.nan) for name in OURS]
    )
    smallest: dict[str, float] = {}
    for row in trials:
        rate = row["lr"] or 0.0
        smallest[row["method"]] = min(rate, smallest.get(row["method"], rate))
    found: Values = {}
    for row, values, there in zip(trials, columns.T, results.usable, strict=True):
        if there and (row["lr"] or 0.0) == smallest[row["method"]]:
            found.setdefault(row["method"], {})[row["training_seed"]] = values
    print(
        f"{task}, {model}, {ratio:g} %, training seeds {sorted(found['retrain'])}; ± is half a 95 % interval over them.\n"
    )
    return found


def mean(ours: Values, method: str, column: str) -> tuple[float, float]:
    """Mean over training seeds, and half its 95 % interval (Student's t); NaN for one seed."""
    values = [each[OURS.index(column)] for each in ours[method].values()]
    if len(values) < 2:
        return float(np.mean(values)), float("nan")
    return float(np.mean(values)), float(t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))


def told(value: float, half: float, digits: int) -> str:
    """A mean with half its interval, where it has one."""
    return f"{value:.{digits}f}" + (f" ± {half:.{digits}f}" if np.isfinite(half) else "")


def agreement(published: Mapping[str, float], ours: Mapping[str, Mapping[int, float]]) -> str:
    """Kendall's tau of two scores of the same methods, lower is better in both: of the means over seeds, and of each seed alone."""
    methods = [name for name in published if name in ours]
    theirs = [published[name] for name in methods]
    if len(methods) < 3:
        return "too few methods to compare their order"
    seeds = sorted(set.intersection(*(set(ours[name]) for name in methods)))
    whole = kendalltau(theirs, [np.mean(list(ours[name].values())) for name in methods])
    single = [kendalltau(theirs, [ours[name][seed] for name in methods]).statistic for seed in seeds]
    spread = f"; {min(single):.2f} to {max(single):.2f} by single seeds" if single else ""
    return f"Kendall's tau **{whole.statistic:.2f}** over {len(methods)} methods (p {whole.pvalue:.2g}{spread})"


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """In Markdown."""
    for cells in (headers, ["---"] * len(headers), *rows):
        print(f"| {' | '.join(cells)} |")
    print()


def salun(ours: Values) -> None:
    """SalUn's table, and the mean distance of the four measures to the retrain, by which its authors order."""
    methods = [name for name in SALUN if name in ours]

    def percent(method: str, column: str) -> str:
        value, half = (100 * each for each in mean(ours, method, column))
        return told(100 - value if column == "forget_accuracy" else value, half, 1)

    def gaps(method: str) -> dict[int, float]:
        both = set(ours[method]) & set(ours["retrain"])
        return {seed: 100 * float(np.abs(ours[method][seed] - ours["retrain"][seed])[:4].mean()) for seed in both}

    theirs = {name: float(np.mean(np.abs(np.subtract(SALUN[name], SALUN["retrain"])[:4]))) for name in methods}
    table(
        ["method", *(f"{name}, {whose}" for name in ("UA", "RA", "TA", "MIA", "gap") for whose in ("SalUn", "ours"))],
        [
            [
                name,
                *(cell for i, column in enumerate(SALUN_COLUMNS) for cell in (f"{SALUN[name][i]:.1f}", percent(name, column))),
                f"{theirs[name]:.2f}",
                f"{np.mean(list(gaps(name).values())):.2f}",
            ]
            for name in methods
        ],
    )  # fmt: skip
    others = [name for name in methods if name != "retrain"]
    print("Order by the gap:", agreement({n: theirs[n] for n in others}, {n: gaps(n) for n in others}))
    signs = []
    for name in others:
        for place, column in enumerate(SALUN_COLUMNS):
            there = SALUN[name][place] - SALUN["retrain"][place]
            here = 100 * (mean(ours, name, column)[0] - mean(ours, "retrain", column)[0])
            here = -here if column == "forget_accuracy" else here
            signs.append((name, column, np.sign(there) == np.sign(here) or abs(here) < 0.05))
    wrong = [f"{name}'s {column}" for name, column, same in signs if not same]
    print(f"Side of the retrain: {len(signs) - len(wrong)} of {len(signs)} alike; not {', '.join(wrong) or 'any'}.\n")


def deep(ours: Values) -> None:
    """Deep Unlearn's Table 1: its order by groups, and ours by the means."""
    methods = [name for name in DEEP if name in ours]
    scores = {}
    for place, column in enumerate(("retention_deviation", "indisc")):
        groups = sorted({tuple(-count for count in DEEP[name][place][:3]) for name in DEEP})
        scores[column] = {
            name: float(groups.index(tuple(-count for count in DEEP[name][place][:3]))) for name in methods
        }

    def place_of(name: str, column: str) -> str:
        sign = 1 if column == "retention_deviation" else -1
        return str(1 + sum(sign * mean(ours, n, column)[0] < sign * mean(ours, name, column)[0] for n in methods))

    rows = []
    for name in methods:
        cells = [name]
        for i, column in enumerate(("retention_deviation", "indisc")):
            better = sum(scores[column][other] < scores[column][name] for other in methods)
            cells += [
                "/".join(map(str, DEEP[name][i])),
                str(1 + better),
                told(*mean(ours, name, column), 3),
                place_of(name, column),
            ]
        rows.append(cells)
    headers = [f"{name}: {part}" for name in ("RetDev", "Indisc") for part in ("G1/G2/G3/F", "place", "ours", "place")]
    table(["method", *headers], rows)
    for column, sign in (("retention_deviation", 1), ("indisc", -1)):
        values = {n: {seed: sign * each[OURS.index(column)] for seed, each in ours[n].items()} for n in methods}
        print(f"Order by {column}:", agreement(scores[column], values))
    print()


def efficiency(ours: Values) -> None:
    """Deep Unlearn's Table 2: its mean over five data sets, and ours in FLOs."""
    methods = [name for name in RTE if name in ours]
    means = {name: mean(ours, name, "flos_efficiency")[0] for name in methods}
    table(
        ["method", "RTE, Deep Unlearn (mean of five, range)", "retraining FLOs over unlearning FLOs, ours"],
        [
            [name, f"{np.mean(RTE[name]):.1f} ({min(RTE[name]):.1f}-{max(RTE[name]):.1f})", f"{means[name]:.1f}"]
            for name in methods
        ],
    )
    column = OURS.index("flos_efficiency")
    values = {name: {seed: -each[column] for seed, each in ours[name].items()} for name in methods}
    print("Order by efficiency:", agreement({name: -float(np.mean(RTE[name])) for name in methods}, values))


def itself() -> Values:
    """The published numbers in our place: with these every order agrees."""
    groups = [sorted({DEEP[name][place][:3] for name in DEEP}, reverse=True) for place in (0, 1)]
    found: Values = {}
    for name in {*SALUN, *DEEP}:
        ua, ra, ta, mia, _ = SALUN.get(name, (np.nan,) * 5)
        deviation, indisc = (g.index(DEEP[name][i][:3]) if name in DEEP else np.nan for i, g in enumerate(groups))
        shares = ((100 - ua) / 100, ra / 100, ta / 100, mia / 100)
        found[name] = {0: np.array([*shares, deviation, 1 - indisc / 100, np.mean(RTE.get(name, np.nan))])}
    return found


def main() -> None:
    """The three comparisons for a results folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", help="a results folder with one task, model and ratio")
    parser.add_argument("--itself", action="store_true", help="compare what is published with itself")
    asked = parser.parse_args()
    if not asked.itself and not asked.folder:
        parser.error("name a results folder, or --itself")
    ours = itself() if asked.itself else read(asked.folder)
    for compare in (salun, deep, efficiency):
        compare(ours)


if __name__ == "__main__":
    main()
