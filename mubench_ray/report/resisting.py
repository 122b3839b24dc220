"""Which examples resist forgetting: where unlearned models stay surer of a D_F example than the retrained model is."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mubench_ray.report.load import Results
from mubench_ray.report.summary import contender_labels

#: Examples listed for each (task, model).
LISTED = 15


def resisting(results: Results) -> list[dict[str, Any]]:
    """A row a (task, model, example, contender), for the examples whose median excess over methods is largest.

    ``excess`` is the mean logit-scaled confidence log(p / (1 - p)) in the true label, minus that of the retrains at the
    same ratio, averaged over ratios; ``kept`` the share of the contender's models that are still right, ``retrained``
    that of the retrains. Positive excess: not forgotten.
    """
    joined = results.forget_examples
    if joined is None:
        return []
    for name in ("task", "model", "method", "ratio", "forget_seed"):
        joined = joined.append_column(name, results.trials[name].take(joined["owner"]))
    joined = joined.append_column("contender", contender_labels(results).take(joined["owner"].combine_chunks()))
    cell = ["task", "model", "ratio", "forget_seed", "index"]
    means = joined.group_by([*cell, "contender", "method"]).aggregate(
        [("confidence", "mean"), ("correct", "mean"), ("label", "min")]
    )
    retrain = means.filter(pc.field("method") == "retrain").select([*cell, "confidence_mean", "correct_mean"])
    retrain = retrain.rename_columns([*cell, "retrain_confidence", "retrained"])
    others = means.filter(pc.field("method") != "retrain").join(retrain, cell, join_type="inner")
    ours, theirs = (others[name].to_numpy(zero_copy_only=False) for name in ("confidence_mean", "retrain_confidence"))
    others = others.append_column("excess", pa.array(ours - theirs))
    per = others.group_by(["task", "model", "index", "contender", "method"]).aggregate(
        [("excess", "mean"), ("correct_mean", "mean"), ("retrained", "mean"), ("label_min", "min")]
    )
    return _largest(per.to_pylist())


def _largest(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    examples: dict[tuple, dict[int, list[dict]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        examples[row["task"], row["model"]][row["index"]].append(row)
    listed = []
    for (task, model), of in sorted(examples.items()):
        methods = {
            index: [row["excess_mean"] for row in group if row["method"] != "original"] for index, group in of.items()
        }
        median = {index: float(np.median(values)) for index, values in methods.items() if values}
        for place, index in enumerate(sorted(median, key=lambda i: (-median[i], i))[:LISTED]):
            for row in sorted(of[index], key=lambda row: row["contender"]):
                named = f"#{index}" + (f" (class {row['label_min_min']})" if row["label_min_min"] is not None else "")
                one = {"task": task, "model": model, "place": place, "example": named, "label": row["contender"]}
                means = {"excess": "excess_mean", "kept": "correct_mean_mean", "retrained": "retrained_mean"}
                listed.append(one | {"method": row["method"]} | {name: row[mean] for name, mean in means.items()})
    return listed
