"""What generation is judged by, on tiny networks: ROUGE-L, its recall, the facts."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mubench_ray.metrics import compute_one
from mubench_ray.models import MODELS
from mubench_ray.observations.base import Seen
from mubench_ray.observations.generated import Generated, sampled
from mubench_ray.training.context import Context
from mubench_ray.training.data import Rows, UnlearningData
from mubench_ray.training.meter import Meter
from tests.models.conftest import seeded


@pytest.mark.parametrize(
    ("name", "scores"),
    [("t5-tiny", {"rouge_l", "rouge_l_recall"}), ("llama-tiny", {"rouge_l", "rouge_l_recall", "factual_overlap"})],
)
def test_written_texts_are_scored_against_their_references(name, scores, loaded, monkeypatch):
    pytest.importorskip("rouge_score")
    model = MODELS.get(name)
    task, splits = loaded("text", model.kinds[0])
    monkeypatch.setattr(type(task), "max_target", 6)
    # The fixture's biographies state nothing that the question does not.
    monkeypatch.setattr(
        task, "references", lambda columns: [f"born {1900 + n} in Paris" for n in columns["target"].tolist()]
    )
    network = seeded(lambda: model.build(task)).eval()
    rows = Rows(splits.train, torch.arange(3))
    data = UnlearningData(task, model, {"forget": rows})
    ctx = Context(task, model, network, data, 1, Meter(), 1e-4)
    sets = {"forget": rows, "test": Rows(splits.test, torch.arange(2))}
    trial = SimpleNamespace(seed=1)
    found = Generated().observe(Seen(trial=trial, ctx=ctx, splits=splits, sets=sets, retrain=None, artifact=None))
    assert set(found) == {f"{split}_{score}" for split in ("forget", "test") for score in (*scores, "judged")}
    for key, values in found.items():
        assert len(values) == (3 if key.startswith("forget") else 2) and ((values >= 0) & (values <= 1)).all()
    # A network that writes the reference scores 1.
    columns = rows.examples.take(rows.positions)
    monkeypatch.setattr(task, "generate", lambda model, network, columns: task.references(columns))
    assert all(np.array_equal(values, np.ones(3)) for values in task.judge(model, network, columns).values())


def test_without_rouge_score_nothing_is_scored(loaded, monkeypatch):
    model = MODELS.get("t5-tiny")
    task, splits = loaded("text", model.kinds[0])
    monkeypatch.setattr("mubench_ray.tasks.sequence.find_spec", lambda name: None)
    assert task.judge(model, None, splits.train.take(torch.arange(2))) == {}


def test_a_random_sample_is_judged_and_the_row_says_how_large(loaded, monkeypatch):
    """Data sets lie sorted: the first examples are a topic, or the shortest ones."""
    model = MODELS.get("t5-tiny")
    task, splits = loaded("text", model.kinds[0])
    rows = Rows(splits.train, torch.arange(len(splits.train)).flip(0))
    many, size = len(rows), len(rows) // 2
    asked = []

    def judge(model, network, columns, device="cpu"):
        asked.append(columns["index"].tolist())
        values = np.ones(len(columns["index"]))
        values[0] = np.nan  # has no score
        return {"rouge_l": values}

    monkeypatch.setattr(type(task), "judged", size)
    monkeypatch.setattr(task, "judge", judge)
    network = torch.nn.Linear(1, 1)
    ctx = Context(task, model, network, UnlearningData(task, model, {"forget": rows}), 1, Meter(), 1e-4)
    for seed in (1, 1, 2):
        sets = {"forget": rows, "test": Rows(splits.test, torch.arange(len(splits.test)))}
        trial = SimpleNamespace(seed=seed)
        found = Generated().observe(Seen(trial=trial, ctx=ctx, splits=splits, sets=sets, retrain=None, artifact=None))
        assert compute_one("forget_judged", found, {}) == size and len(found["forget_rouge_l"]) == size - 1
        assert compute_one("test_judged", found, {}) == min(size, len(splits.test))
    forget = asked[::2]
    assert forget[0] == forget[1] != forget[2] and all(len(set(each)) == size for each in forget)
    counts = torch.zeros(many)
    for seed in range(400):
        counts[sampled(rows, size, "forget", seed)] += 1
    assert (counts / 400 - size / many).abs().max() < 5 * 0.5 / 20, "every example is as likely"
    assert sampled(rows, many + 5, "forget", 1).sort().values.tolist() == list(range(many))
