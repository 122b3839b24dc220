import pytest
import torch
from torch.nn import functional as F

from mubench_ray.errors import DataError
from mubench_ray.models import MODELS
from mubench_ray.tasks import TASKS
from mubench_ray.tasks.base import Batch
from mubench_ray.tasks.sequence import IGNORED
from mubench_ray.training.context import Context
from mubench_ray.training.data import Rows, UnlearningData
from mubench_ray.training.meter import Meter
from tests.tasks.layouts import write_biofact, write_samsum, write_wiki_bio


@pytest.fixture
def samsum(tmp_path):
    write_samsum(tmp_path / "samsum")
    task = TASKS.get("samsum")(tmp_path)
    return task, task.load()


def test_samsum_reads_pairs(samsum):
    task, splits = samsum
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [12] * 3
    row = splits.validation.take(torch.tensor([4]))
    assert task.texts.content[row["text"].item()] == "Ann: shall we meet at 4 for the val?\nBen: yes, at 4!"
    assert task.texts.content[row["target"].item()] == "Ann and Ben meet at 4."


def test_wiki_bio_takes_the_longest_people(tmp_path):
    write_wiki_bio(tmp_path)
    task = TASKS.get("wiki_bio")(tmp_path)
    splits = task.load()
    assert {part: len(getattr(splits, part)) for part in task.card.sizes} == task.card.sizes
    content = task.texts.content
    assert content[0].startswith("Question: Tell me a bio of Person") and "stone" not in " ".join(content)
    lengths = [
        len(content[i]) for part in (splits.train, splits.validation, splits.test) for i in part.columns["target"]
    ]
    assert lengths == sorted(lengths, reverse=True)


def test_biofact_reads_json_lines(tmp_path):
    root = write_biofact(tmp_path / "factscore")
    task = TASKS.get("biofact")(tmp_path)
    splits = task.load()
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [20, 4, 6]
    for part in (splits.train, splits.test):
        for text, target, number in zip(part.columns["text"], part.columns["target"], part.source_index):
            assert task.texts.content[text] == f"Question: Tell me a bio of P{number}.\nAnswer:"
            assert task.texts.content[target] == f"P{number} is a painter, the {number}th."
    (root / "labeled" / "ChatGPT.jsonl").write_text('{"topic": "A", "output": "B"}\n{"topic": "A"}\n')
    with pytest.raises(DataError, match=r"ChatGPT\.jsonl:2: .*output"):
        task.load()


def test_malformed_json_is_named(tmp_path):
    folder = write_samsum(tmp_path / "samsum")
    (folder / "val.json").write_text('[{"dialogue": "a"}]')
    with pytest.raises(DataError, match=r"val\.json: .*summary"):
        TASKS.get("samsum")(tmp_path).load()
    (folder / "val.json").unlink()
    with pytest.raises(DataError, match=r"val\.json: cannot be read"):
        TASKS.get("samsum")(tmp_path).load()


def pretend(task, targets, vocabulary=7):
    targets = torch.tensor(targets)
    return torch.randn(*targets.shape, vocabulary, generator=torch.Generator().manual_seed(0)), Batch(
        {}, {"targets": targets}, torch.zeros(len(targets))
    )


def test_losses_are_means_over_the_targets_own_tokens(samsum):
    task, _ = samsum
    logits, batch = pretend(task, [[1, 2, 3], [4, IGNORED, IGNORED]])
    expected = [F.cross_entropy(logits[0], torch.tensor([1, 2, 3])), F.cross_entropy(logits[1, :1], torch.tensor([4]))]
    assert torch.allclose(task.losses(logits, batch), torch.stack(expected))
    seen = task.observe(logits, batch)
    p = (-seen["loss"]).exp()
    assert torch.allclose(seen["confidence"], (p / (1 - p)).log())
    right = (logits.argmax(-1) == batch.inputs["targets"]).double()
    assert seen["correct"].tolist() == [right[0].mean().item(), right[1, 0].item()]


def test_observe_stays_finite_when_a_target_is_certain(samsum):
    task, _ = samsum
    _, batch = pretend(task, [[1], [1]])
    logits = torch.zeros(2, 1, 7)
    logits[0, 0, 1], logits[1, 0, 2] = 500.0, 500.0
    assert all(torch.isfinite(value).all() for value in task.observe(logits, batch).values())


def test_padding_adds_nothing_to_the_divergence_of_two_models(samsum):
    task, _ = samsum
    logits, batch = pretend(task, [[1, 2, 3], [4, IGNORED, IGNORED]])
    other = logits.flip(-1)
    ours, theirs = task.log_probs(logits, batch), task.log_probs(other, batch)
    by_token = (theirs.exp() * (theirs - ours)).sum(-1)
    assert by_token[1, 1:].abs().max() < 1e-6 and by_token[0].min() > 0


def test_relabel_gives_another_examples_target_and_new_inputs(samsum):
    task, splits = samsum
    model = MODELS.get("t5-tiny")
    data = UnlearningData(task, model, {"train": Rows.all_of(splits.train)})
    batch = data.batch(data.rows("train"), torch.arange(12))
    batch.cache[0] = "stale"
    for draw in (torch.zeros(12), torch.full((12,), 0.999), torch.rand(12, generator=torch.Generator().manual_seed(0))):
        other = task.relabel(batch, draw, keep_true=False)
        assert not (other["target"] == batch["target"]).any() and set(other["target"].tolist()) <= set(
            batch["target"].tolist()
        )
        assert other.cache == {} and not torch.equal(other.inputs["targets"], batch.inputs["targets"])
        assert torch.equal(other.inputs["input_ids"], batch.inputs["input_ids"])
        expected = model.encode(task, {**batch.columns, "target": other["target"]})
        assert torch.equal(other.inputs["targets"], expected["targets"])
    assert torch.equal(task.relabel(batch, torch.zeros(12), keep_true=True)["target"], batch["target"])


@pytest.mark.parametrize("keep_true", [False, True])
def test_a_relabelled_text_is_one_of_what_is_kept(samsum, keep_true):
    """Not another text that is to be forgotten: a run draws from D_R, each of it as likely."""
    task, splits = samsum
    model = MODELS.get("t5-tiny")
    forget, size = torch.tensor([0, 3, 4, 7]), len(splits.train)
    retain = torch.tensor([i for i in range(size) if i not in forget.tolist()])
    sets = {"forget": Rows(splits.train, forget), "retain": Rows(splits.train, retain)}
    kept, drawn = set(splits.train.columns["target"][retain].tolist()), []
    for seed in range(60):
        data = UnlearningData(task, model, sets)
        ctx = Context(task, model, torch.nn.Identity(), data, seed, Meter(), 1e-3)
        batch = data.batch(data.rows("forget"), torch.arange(4))
        drawn += ctx.relabel(batch, keep_true)["target"].tolist()
    assert set(drawn) <= kept
    counts = [drawn.count(target) for target in kept]
    expected = len(drawn) / len(kept)
    assert sum((count - expected) ** 2 / expected for count in counts) < 2.5 * len(
        kept
    )  # chi-squared, far from its tail


def test_t5_reads_the_target_one_token_late(samsum):
    task, splits = samsum
    inputs = MODELS.get("t5-tiny").encode(task, splits.train.take(torch.arange(3)))
    targets, fed = inputs["targets"], inputs["decoder_input_ids"]
    assert (fed[:, 0] == 0).all()
    for row in range(3):
        length = int((targets[row] != IGNORED).sum())
        assert targets[row, length - 1] == 3 and (targets[row, length:] == IGNORED).all()
        assert torch.equal(fed[row, 1:length], targets[row, : length - 1])


def test_a_language_model_scores_the_target_given_the_prompt(tmp_path):
    write_wiki_bio(tmp_path)
    task = TASKS.get("wiki_bio")(tmp_path)
    splits = task.load()
    model = MODELS.get("llama-tiny")
    torch.manual_seed(0)
    network = model.build(task).eval()
    data = UnlearningData(task, model, {"train": Rows.all_of(splits.train)})
    batch = data.batch(data.rows("train"), torch.tensor([0, 170]))
    losses = task.losses(task.outputs(network, batch), batch)
    for row in range(2):
        mask = batch.inputs["attention_mask"][row].bool()
        targets = batch.inputs["targets"][row]
        targets = targets[targets != IGNORED]
        fed = batch.inputs["input_ids"][row][mask]
        assert (
            torch.equal(fed[-len(targets) + 1 :], targets[:-1]) and fed[0] == model.begin and targets[-1] == model.end
        )
        logits = network(input_ids=fed[None]).logits[0, -len(targets) :]
        assert torch.allclose(F.cross_entropy(logits, targets), losses[row], atol=1e-4)
