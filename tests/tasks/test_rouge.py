import pytest
import torch

from mubench_ray.models import MODELS
from mubench_ray.tasks import TASKS
from mubench_ray.tasks.base import Batch
from mubench_ray.tasks.rouge import rouge_l
from tests.tasks.layouts import write_samsum, write_wiki_bio


def test_rouge_l_of_known_texts():
    pytest.importorskip("rouge_score")
    same, half, none = rouge_l(["the cat sat", "the cat", "dogs"], ["the cat sat", "the cat sat down", "a cat"])
    assert same == (1.0, 1.0, 1.0) and none == (0.0, 0.0, 0.0)
    assert half.precision == 1.0 and half.recall == 0.5 and half.f1 == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("name", "model", "write"),
    [
        ("samsum", "t5-tiny", lambda place: write_samsum(place / "samsum")),
        ("wiki_bio", "llama-tiny", lambda place: write_wiki_bio(place)),
    ],
)
def test_a_network_that_learnt_its_targets_writes_them(tmp_path, name, model, write):
    write(tmp_path)
    task = TASKS.get(name)(tmp_path)
    train = task.load().train
    model = MODELS.get(model)
    torch.manual_seed(0)
    network = model.build(task)
    columns = train.take(torch.tensor([0, 1]))
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    inputs = model.encode(task, columns)
    for _ in range(60):
        optimizer.zero_grad()
        batch = Batch(columns, inputs, torch.zeros(2, dtype=torch.bool))
        task.losses(task.outputs(network, batch), batch).mean().backward()
        optimizer.step()
    written = task.generate(model, network.eval(), columns)
    for text, reference in zip(written, task.references(columns)):
        assert text.split()[:4] == reference.lower().split()[:4]
