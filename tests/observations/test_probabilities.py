"""SalUn's five attacks in a row and a record, beside SalUn's released evaluation on the same network."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from sklearn.svm import SVC

from mubench_ray.engine.plan import make_plan
from mubench_ray.suite import make_suite
from mubench_ray.training.data import Rows
from mubench_ray.trials.artifacts import ArtifactStore
from mubench_ray.trials.data import unlearning_data
from mubench_ray.trials.observing import Wanted
from mubench_ray.trials.run_trial import run_trial

SUITE = {
    "name": "salun", "tasks": {"name": "digits", "subset": 800}, "models": "cnn-small", "methods": "retrain", "ratios": 10, "seeds": 3, "lrs": 1e-3,
    "training": {"epochs": 4},
}  # fmt: skip


def svc_fit_predict(shadow_train, shadow_test, target_test):
    """``SVC_fit_predict`` of the release, with D_F as its target."""
    side = [each.reshape(len(each), -1) for each in (shadow_train, shadow_test, target_test)]
    attack = SVC(C=3, gamma="auto", kernel="rbf")
    attack.fit(np.concatenate(side[:2]), np.concatenate([np.ones(len(shadow_train)), np.zeros(len(shadow_test))]))
    return 1 - attack.predict(side[2]).mean()


@pytest.mark.filterwarnings("ignore:divide by zero")
def test_they_are_the_release_s_on_the_same_sets(tmp_path):
    (trial,) = make_plan(make_suite(SUITE)).trials.values()
    artifacts = ArtifactStore(tmp_path)
    outcome = run_trial(trial, artifacts, wanted=[Wanted.now("probabilities")])
    (record,) = outcome.observations
    assert record["status"] == "ok", record["error"]

    data, splits, forget = unlearning_data(trial, None, "cpu")
    network = artifacts.load(trial.retrain).load_into(data.model.build(data.task)).eval()
    drawn = forget.retain[np.random.default_rng(trial.seed).permutation(len(forget.retain))[: len(splits.test)]]
    sets = [Rows(splits.train, drawn), Rows.all_of(splits.test), Rows(splits.train, forget.forget)]
    probs, labels = [], []
    for rows in sets:
        batch = data.batch(rows, torch.arange(len(rows)))
        with torch.no_grad():
            probs.append(network(**batch.inputs).softmax(-1).numpy())
        labels.append(batch["labels"].numpy())
    features = {
        "correctness": [(p.argmax(1) == y).astype(float) for p, y in zip(probs, labels)],
        "confidence": [p[np.arange(len(y)), y] for p, y in zip(probs, labels)],
        "entropy": [-np.where(p > 0, p * np.log(p), 0).sum(1) for p in probs],
    }
    for name, sides in features.items():
        assert outcome.row[f"svc_mia_{name}"] == pytest.approx(svc_fit_predict(*sides), abs=1.5 / len(labels[2])), name

    kept = {each["name"]: np.array(each["values"]).reshape(each["shape"]) for each in record["arrays"]}
    sides = [kept[f"{name}_probabilities"] for name in ("retain", "test", "forget")]
    assert [each.shape for each in sides] == [each.shape for each in probs]
    assert sides[1] == pytest.approx(probs[1], abs=1e-5) and sides[2] == pytest.approx(probs[2], abs=1e-5)
    values = json.loads(record["values"])
    assert values == {"svc_mia_probability": pytest.approx(svc_fit_predict(*sides), abs=1.5 / len(labels[2]))}
    assert outcome.row["svc_mia_probability"] is None, "it is made where a suite asks for it"
