"""Tokenizers of checkpoints: which are refused, and that a changed one reads anew."""

import json

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

from mubench_ray.engine.plan import make_plan
from mubench_ray.errors import MubenchError
from mubench_ray.models import MODELS
from mubench_ray.models.tokenizer import train_wordpiece
from mubench_ray.suite import make_suite

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


@pytest.fixture
def task(loaded):
    return loaded("text")[0]


@pytest.fixture
def columns(loaded):
    return loaded("text")[1].train.take(torch.arange(3))


def network(folder, vocabulary):
    """A folder with a BERT of so many pieces, and no tokenizer."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    BertForSequenceClassification(BertConfig(vocab_size=vocabulary, **sizes)).save_pretrained(folder)
    return folder


def words_of(task):
    return sorted({word for text in task.texts.content for word in text.lower().split()})


def refusal(folder, task, columns):
    """What is said where D's texts are read."""
    with pytest.raises(MubenchError) as caught:
        MODELS.get("bert-tiny").pretrained(str(folder)).encode(task, columns)
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)
    return str(caught.value)


def test_text_is_read_with_the_checkpoints_tokenizer(tmp_path, task, columns):
    theirs = train_wordpiece(list(task.texts.content), 80)
    theirs.save_pretrained(network(tmp_path, 80))
    model = MODELS.get("bert-tiny").pretrained(str(tmp_path))
    model.check(task)
    inputs = model.encode(task, columns)
    for row, number in zip(inputs["input_ids"], columns["text"].tolist()):
        expected = theirs(task.texts.content[number], truncation=True, max_length=task.max_length)["input_ids"]
        assert row[: len(expected)].tolist() == expected and not row[len(expected) :].any()
    assert int(MODELS.get("bert-tiny").encode(task, columns)["input_ids"].max()) >= 80
    assert model.initial(task)(**inputs).logits.shape == (3, 2)


def test_one_trained_on_a_small_d_goes_with_its_own_network(tmp_path, task, columns):
    """It has fewer pieces than the embedding has rows, since D has no more."""
    model = MODELS.get("bert-tiny")
    model.build(task).save_pretrained(tmp_path)
    own = model.reader(task).tokenizer(task.texts)
    assert own.vocab_size < 2000 < model.vocabulary
    own.save_pretrained(tmp_path)
    again = model.pretrained(str(tmp_path))
    again.check(task)
    assert torch.equal(again.encode(task, columns)["input_ids"], model.encode(task, columns)["input_ids"])


def planned(folder, model="bert-tiny"):
    suite = {
        "name": "s",
        "tasks": "movie_snippets",
        "methods": "ft",
        "models": {"name": model, "pretrained": str(folder)},
    }
    return make_plan(make_suite(suite))


@pytest.mark.parametrize("left", [[], ["tokenizer_config.json"]])
def test_a_text_folder_without_a_tokenizer_is_refused(tmp_path, task, columns, left):
    """transformers makes one of the five special tokens, to which every word is unknown."""
    network(tmp_path, 80)
    train_wordpiece(list(task.texts.content), 80).save_pretrained(tmp_path / "all")
    for name in left:
        config = json.loads((tmp_path / "all" / name).read_text()) | {"tokenizer_class": "BertTokenizer"}
        (tmp_path / name).write_text(json.dumps(config))
    said = refusal(tmp_path, task, columns)
    assert "has no tokenizer: there is no tokenizer.json and no vocab.txt" in said
    with pytest.raises(MubenchError, match="has no tokenizer"):
        planned(tmp_path)


def test_a_language_models_folder_without_a_tokenizer_is_refused(tmp_path, loaded):
    task, splits = loaded("text", "causal language model")
    MODELS.get("llama-tiny").build(task).save_pretrained(tmp_path)
    model = MODELS.get("llama-tiny").pretrained(str(tmp_path))
    for reads in (lambda: model.check(task), lambda: model.encode(task, splits.train.take(torch.arange(2)))):
        with pytest.raises(MubenchError, match="its tokenizer is missing or cannot be loaded"):
            reads()


@pytest.mark.parametrize(("rows", "pieces"), [(400, 80), (4000, 100), (70, 80)])
def test_a_tokenizer_of_another_size_is_refused(tmp_path, task, columns, rows, pieces):
    train_wordpiece(list(task.texts.content), pieces).save_pretrained(network(tmp_path, rows))
    said = refusal(tmp_path, task, columns)
    assert f"has {pieces} pieces and the network's embedding {rows} rows" in said
    with pytest.raises(MubenchError, match=f"embedding {rows} rows"):
        planned(tmp_path)


def test_a_tokenizer_that_knows_none_of_the_words_is_refused(tmp_path, task, columns):
    alien = train_wordpiece(["αβγ δεζ ηθικ", "λμν ξοπ"], 80)
    alien.save_pretrained(network(tmp_path, alien.vocab_size))
    assert "pieces as [UNK]" in refusal(tmp_path, task, columns)


def test_tokens_that_the_embedding_has_no_row_for_are_refused(tmp_path, task, columns):
    """Added tokens are not counted among a tokenizer's pieces."""
    tokenizer = train_wordpiece(list(task.texts.content), 80)
    tokenizer.add_tokens(max(task.texts.content[0].split(), key=len))
    tokenizer.save_pretrained(network(tmp_path, 80))
    assert "and the network's embedding has 80 rows" in refusal(tmp_path, task, columns)


def test_a_damaged_tokenizer_gives_one_line(tmp_path, task, columns):
    network(tmp_path, 80)
    (tmp_path / "tokenizer.json").write_text("{}")
    assert "cannot be loaded" in refusal(tmp_path, task, columns)


def test_every_file_of_a_tokenizer_counts(tmp_path, task, columns):
    """Tokens are kept in a cache; a folder whose vocabulary or settings changed is read anew."""
    words = words_of(task)
    pieces = [*SPECIAL, *words]
    network(tmp_path, len(pieces))
    (tmp_path / "vocab.txt").write_text("\n".join(pieces))
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": True}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))

    def ids():
        task.texts.tokenizers.clear()
        task.texts.tokens.clear()  # as another process would find it
        return MODELS.get("bert-tiny").pretrained(str(tmp_path)).encode(task, columns)["input_ids"]

    def expected():
        tokenizer = BertTokenizer.from_pretrained(tmp_path)
        options = {"padding": "max_length", "max_length": first.shape[1], "truncation": True, "return_tensors": "pt"}
        return tokenizer([task.texts.content[i] for i in columns["text"].tolist()], **options)["input_ids"]

    first = ids()
    assert torch.equal(first, expected()) and torch.equal(ids(), first)
    (tmp_path / "vocab.txt").write_text("\n".join([*SPECIAL, *reversed(words)]))
    second = ids()
    assert torch.equal(second, expected()) and not torch.equal(second, first)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings | {"cls_token": "[MASK]"}))
    third = ids()
    assert torch.equal(third, expected()) and not torch.equal(third, second)
