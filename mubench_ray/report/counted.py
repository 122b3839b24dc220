"""How many distinct examples stand behind a mean of shares: all seeds count the same ones, and so tell of no more."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mubench_ray.metrics.base import source
from mubench_ray.report.grouping import Groups, combine, encode, numbers
from mubench_ray.results.repetitions import countable
from mubench_ray.results.store import Store


def distinct_examples(groups: Groups, values: np.ndarray, counts: str, trials: pa.Table) -> np.ndarray:
    """The number of distinct examples, (G,), that the mean of a group's finite ``values`` (N,) is worth, each of them
    the share that is right in the set ``counts`` of one of the ``trials`` (N); NaN where a size is not known.

    One set counts once, however many seeds answered it; sets of several tasks add up. Sets that are drawn anew (D_F and
    D_R) share the examples that draws from one training set have in common by chance; draws with one seed, of several
    ratios, are counted as one set of their harmonic mean size.
    """
    sizes = sizes_of(trials, counts)
    there = np.isfinite(values)
    rows = np.flatnonzero(there & (sizes > 0))
    unknown = groups.count(there) != groups.count(there & (sizes > 0))
    task, total = encode(trials["task"])[rows], groups.count(there)
    of_task, owner = combine(groups.code[rows], task)
    inverse = 1 / sizes[rows]
    if not {"D_F", "D_R"} & (source(f"{counts}_correct") or set()):
        return _worth(unknown, _shared(of_task, owner, inverse, total))
    of_set, task_of_set = combine(of_task, encode(trials["forget_seed"])[rows])
    whole = numbers(trials, "forget_size")[rows] + numbers(trials, "retain_size")[rows]
    common = np.where(np.isfinite(whole), 1 / np.where(whole > 0, whole, np.nan), inverse)
    # Var = p (1 - p) (sum over sets of w^2 / n + sum over pairs of sets of w w' / N), with w the shares of the mean.
    apart = _shared(of_set, owner[task_of_set], inverse - common, total)
    return _worth(unknown, apart + _shared(of_task, owner, common, total))


def _shared(code: np.ndarray, owner: np.ndarray, inverse: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Sum over the parts ``code`` of each owner (G,) of its share of the ``total``, squared, times the mean ``inverse``."""
    count, weight = np.bincount(code, minlength=len(owner)), np.bincount(code, weights=inverse, minlength=len(owner))
    parts = count * weight / np.maximum(total[owner], 1) ** 2
    return np.bincount(owner, weights=parts, minlength=len(total))


def _worth(unknown: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    return 1 / np.where(unknown | (inverse <= 0), np.nan, inverse)


def sizes_of(trials: pa.Table, which: str) -> np.ndarray:
    """Examples of a set that each trial answered, (N,); NaN where its row does not say. Rows of an earlier release say it
    of D_F and D_R."""
    texts = trials["set_sizes"].combine_chunks().dictionary_encode(null_encoding="encode")
    known = [_size(json.loads(text or "{}"), which) for text in texts.dictionary.to_pylist()]
    sizes = np.array(known, float)[texts.indices.to_numpy(zero_copy_only=False)] if known else np.empty(0)
    return np.where(np.isfinite(sizes), sizes, numbers(trials, f"{which}_size")) if which in SIZED else sizes


#: Sets of which an own column has the size.
SIZED = ("forget", "retain")


def with_set_sizes(trials: pa.Table, store: Store) -> pa.Table:
    """The ``trials`` with the sizes of D_V and D_Test filled in where rows of an earlier release do not say them, by the
    stored examples of one trial of their task."""
    told = trials["set_sizes"].to_pylist()
    silent = [place for place in np.flatnonzero(countable(trials)).tolist() if told[place] is None]
    tasks, ids = trials["task"].to_pylist(), trials["trial_id"].to_pylist()
    one = {tasks[place]: ids[place] for place in reversed(silent)}
    if not one or not store.files("examples"):
        return trials
    stored = store.read("examples", columns=["trial_id", "split"], filter=pc.field("trial_id").isin(list(one.values())))
    split = pc.call_function("cast", [stored["split"]], pc.CastOptions.safe(pa.string())).to_pylist()
    count = Counter(zip(stored["trial_id"].to_pylist(), split, strict=True))
    found = {
        task: {name: count[of, name] for name in ("validation", "test") if count[of, name]} for task, of in one.items()
    }
    for place in silent:
        told[place] = json.dumps(found[tasks[place]])
    return trials.set_column(trials.schema.get_field_index("set_sizes"), "set_sizes", pa.array(told, pa.string()))


def _size(sizes: dict[str, Any], which: str) -> float:
    return float(sizes.get(which) or np.nan)
