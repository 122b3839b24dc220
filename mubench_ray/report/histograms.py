"""U-LiRA as a picture: per example of D_F, how do models that forgot it differ from models that never saw it?

With at least FOLDS training seeds the score is U-LiRA's likelihood ratio, by shadow models of other seeds only
(``metrics/u_lira.py``); with fewer it is the logit-scaled confidence that the ratio is made of.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from mubench_ray.metrics.u_lira import leave_fold_out
from mubench_ray.report.load import Results
from mubench_ray.report.marks import ALL
from mubench_ray.report.summary import contender_labels

FOLDS = 4
BINS = 30
#: Share of the scores at either end that is counted into the outermost bins.
TAIL = 0.005
#: Histograms of single ratios are kept up to this many rows; beyond, only those over all ratios.
ROWS = 60_000
SIDES = ("forgotten", "never seen")

SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("task", "model", "ratio", "label", "method", "side", "score")]
    + [(name, pa.float64()) for name in ("from", "to", "share")]
)


def histograms(results: Results) -> pa.Table:
    """A row a (task, model, ratio or ``all``, contender, side, bin): ``share`` of the scores in [``from``, ``to``).

    ``side`` is ``forgotten`` (the contender's models on their D_F) or ``never seen`` (the retrains on the same
    examples); ``score`` says which score it is, the same for a whole (task, model). Empty without stored examples.
    """
    read = results.forget_examples
    if read is None:
        return SCHEMA.empty_table()
    names = ("task", "model", "ratio", "method", "training_seed")
    trials = {name: np.array(results.trials[name].to_pylist(), dtype=object) for name in names}
    trials["label"] = np.array(contender_labels(results).to_pylist(), dtype=object)
    owner, index, confidence = (read[name].to_numpy(zero_copy_only=False) for name in ("owner", "index", "confidence"))
    present = np.unique(owner)
    pairs: dict[tuple, dict[Any, list[int]]] = defaultdict(lambda: defaultdict(list))
    for trial in present.tolist():
        pairs[trials["task"][trial], trials["model"][trial]][trials["ratio"][trial]].append(trial)
    order = np.argsort(owner, kind="stable")
    ends = [np.searchsorted(owner[order], present, side).tolist() for side in ("left", "right")]
    lines = {trial: order[begin:end] for trial, begin, end in zip(present.tolist(), *ends)}
    rows: list[dict] = []
    for (task, model), of in sorted(pairs.items()):
        scores: dict[tuple, tuple[np.ndarray, np.ndarray]] = {}
        cells = {ratio: Cell(members, trials, lines, index, confidence) for ratio, members in of.items()}
        ratio_of_likelihoods = all(cell.folds >= FOLDS for cell in cells.values())
        for ratio, cell in cells.items():
            for label, method, ours, theirs in cell.scores(ratio_of_likelihoods):
                scores[ratio, label, method] = ours, theirs
        if scores:
            named = "log likelihood ratio" if ratio_of_likelihoods else "confidence, log(p / (1 - p))"
            rows += [{"task": task, "model": model, "score": named, **row} for row in binned(scores)]
    if len(rows) > ROWS:
        rows = [row for row in rows if row["ratio"] == ALL]
    return pa.Table.from_pylist(rows, SCHEMA)


class Cell:
    """The stored confidences of one (task, model, ratio) as a matrix: trials x examples of any of their D_F."""

    def __init__(
        self,
        members: list[int],
        trials: dict[str, np.ndarray],
        lines: dict[int, np.ndarray],
        index: np.ndarray,
        confidence: np.ndarray,
    ) -> None:
        self.members, self.trials = members, trials
        parts = [lines[trial] for trial in members]
        columns = np.unique(np.concatenate([index[part] for part in parts]))
        self.matrix = np.full((len(members), len(columns)), np.nan)
        for line, part in zip(self.matrix, parts):
            line[np.searchsorted(columns, index[part])] = confidence[part]
        self.fold = np.array([trials["training_seed"][trial] for trial in members])
        self.retrain = np.array([trials["method"][trial] == "retrain" for trial in members])

    @property
    def folds(self) -> int:
        """Training seeds that have a retrain."""
        return len(np.unique(self.fold[self.retrain]))

    def scores(self, ratio_of_likelihoods: bool) -> Iterator[tuple[str, str, np.ndarray, np.ndarray]]:
        """(label, method, scores of the contender's models, scores of the retrains) of every contender; those without
        enough seeds are passed over."""
        labels = np.array([self.trials["label"][trial] for trial in self.members], dtype=object)
        theirs, their_fold = self.matrix[self.retrain], self.fold[self.retrain]
        for label in sorted(set(labels[~self.retrain])):
            own = (labels == label) & ~self.retrain
            method = self.trials["method"][self.members[int(np.flatnonzero(own)[0])]]
            if ratio_of_likelihoods:
                ours, others = leave_fold_out(self.matrix[own], theirs, self.fold[own], their_fold)
            else:
                asked = np.isfinite(self.matrix[own]).any(axis=0)
                ours, others = self.matrix[own].ravel(), theirs[:, asked].ravel()
            ours, others = ours[np.isfinite(ours)], others[np.isfinite(others)]
            if len(ours) and len(others):
                yield label, method, ours, others


def binned(scores: dict[tuple, tuple[np.ndarray, np.ndarray]]) -> Iterator[dict]:
    """Histograms of every (ratio, label, method), and over all ratios, on common bins."""
    everything = np.concatenate([side for both in scores.values() for side in both])
    low, high = np.quantile(everything, (TAIL, 1 - TAIL))
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    counts: dict[tuple, list[np.ndarray]] = {}
    several = len({ratio for ratio, _, _ in scores}) > 1
    for (ratio, label, method), both in scores.items():
        made = [np.histogram(np.clip(side, edges[0], edges[-1]), edges)[0].astype(float) for side in both]
        counts[f"{ratio:g}", label, method] = made
        if several:
            total = counts.setdefault((ALL, label, method), [np.zeros(BINS), np.zeros(BINS)])
            counts[ALL, label, method] = [ours + new for ours, new in zip(total, made)]
    for (ratio, label, method), both in counts.items():
        for side, count in zip(SIDES, both):
            for place, share in enumerate((count / count.sum()).tolist()):
                edge = {"from": float(edges[place]), "to": float(edges[place + 1]), "share": share}
                yield {"ratio": ratio, "label": label, "method": method, "side": side, **edge}
