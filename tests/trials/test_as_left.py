"""A checkpoint is taken as its author left it: made with transformers and tokenizers alone, and held against what these say of the same examples."""

from __future__ import annotations

import json
import string

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

from mubench_ray.engine.plan import make_plan
from mubench_ray.errors import MubenchError
from mubench_ray.models import MODELS, get_model
from mubench_ray.models.base import check_checkpoint
from mubench_ray.suite import make_suite
from mubench_ray.tasks import TASKS
from mubench_ray.training.data import Rows
from mubench_ray.training.evaluate import evaluate
from mubench_ray.trials.artifacts import ArtifactStore
from mubench_ray.trials.data import load_task
from mubench_ray.trials.originals import get_artifact
from mubench_ray.trials.unlearning import prepare
from tests.tasks.layouts import write_ddi, write_movie_snippets, write_spoken_digits, write_wiki_bio

SMALL = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
DDI = ("false", "mechanism", "effect", "advise", "int")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("MUBENCH_CACHE", str(tmp_path_factory.getbasetemp() / "as_left_cache"))
    monkeypatch.delenv("MUBENCH_DATA", raising=False)
    load_task.cache_clear()
    yield
    load_task.cache_clear()


def cased_tokenizer(texts):
    """A tokenizer as somebody else's: cased, byte pairs, other special tokens with other numbers."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = ["<s>", "</s>", "<unk>", "<pad>"]
    alphabet = list(string.printable)
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(vocab_size=200, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    named = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=24, **named)


def texts_of(name, data):
    """Texts, and names of their classes, of D as a stranger would read them."""
    task = TASKS.get(name)(data)
    splits = task.load()
    rows = splits.train.take(torch.arange(len(splits.train)))
    return [task.texts.content[number] for number in rows["text"].tolist()], rows["labels"].tolist()


def fitted(network, inputs, labels, steps=300):
    """Trained on its own examples until it is right on all of them, by a loop of three lines."""
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    for _ in range(steps):
        network.train()
        loss = network(**inputs, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        network.eval()
        with torch.no_grad():
            if (network(**inputs).logits.argmax(-1) == labels).all():
                return network
    pytest.fail("the stranger's network has not learnt its examples")


def text_checkpoint(folder, name, data, id2label=None, order=None, kind=transformers.BertForSequenceClassification):
    """A network that is right on every text of D, with its tokenizer, its config (not the registry's) and its own numbers of the classes."""
    texts, labels = texts_of(name, data)
    order = order or list(range(len(id2label or DDI)))
    tokenizer = cased_tokenizer(texts)
    config = transformers.BertConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=24,
        pad_token_id=3,
        hidden_dropout_prob=0.0,
        num_labels=len(order),
        id2label=id2label,
        **SMALL,
    )
    torch.manual_seed(0)
    network = kind(config)
    inputs = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    inputs.pop("token_type_ids", None)
    fitted(network, inputs, torch.tensor([order.index(label) for label in labels]))
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return network, tokenizer


def suite_of(task, data, model, **more):
    content = {
        "name": "left",
        "tasks": task,
        "models": model,
        "methods": ["original", {"name": "ft", "epochs": 1}],
        "ratios": 10,
        "seeds": 42,
        "lrs": 1e-4,
        "training": {"epochs": 1},
        "data_dir": str(data),
    }
    return make_suite({**content, **more})


def on_all_of_d(trial, artifacts, data_dir, network=None):
    """What f_O of a trial (or another ``network``) does on every example of D, through our path."""
    prepared = prepare(trial, artifacts, data_dir)
    ctx = prepared.ctx
    return evaluate(network or ctx.network, ctx.data, Rows.all_of(prepared.splits.train))


def trial_of(plan, method):
    return next(trial for trial in plan.trials.values() if trial.method == method)


def test_original_alone_is_read_and_built_as_its_author_left_it(tmp_path):
    data, folder = tmp_path / "data", tmp_path / "theirs"
    write_movie_snippets(data)
    network, tokenizer = text_checkpoint(folder, "movie_snippets", data, {0: "NEGATIVE", 1: "POSITIVE"})
    suite = suite_of("movie_snippets", data, {"name": "bert-tiny", "original": str(folder)})
    plan = make_plan(suite)
    trial, artifacts = trial_of(plan, "ft"), ArtifactStore(tmp_path / "artifacts")
    assert (
        on_all_of_d(trial, artifacts, suite.data_dir)["correct"].mean() == 1.0
    )  # a tokenizer of D's own: .245 and the like

    prepared = prepare(trial, artifacts, suite.data_dir)
    task, model = prepared.ctx.task, prepared.ctx.model
    numbers = torch.tensor([0, 3])
    given = model.encode(task, {"text": numbers})
    theirs = tokenizer([task.texts.content[i] for i in numbers], truncation=True)["input_ids"]
    for row, expected in zip(given["input_ids"].tolist(), theirs):
        assert row[: len(expected)] == expected and set(row[len(expected) :]) <= {3} and len(row) == 24
    retrain = get_artifact(trial.retrain, artifacts, suite.data_dir)
    shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
    random = retrain.load_into(model.build(task))
    assert {name: tensor.shape for name, tensor in random.state_dict().items()} == shapes
    assert random.config.max_position_embeddings == 24 and random.config.id2label == {0: "negative", 1: "positive"}
    assert not torch.equal(random.bert.pooler.dense.weight, network.bert.pooler.dense.weight)


def test_a_language_model_is_read_and_built_as_its_author_left_it(tmp_path):
    write_wiki_bio(tmp_path / "data", 400)
    task = TASKS.get("wiki_bio")(tmp_path / "data")
    columns = task.load().train.take(torch.arange(2))
    tokenizer = cased_tokenizer(list(task.texts.content)[:100])
    marks = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 3}
    sizes = {"hidden_size": 16, "intermediate_size": 20, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer), max_position_embeddings=512, rms_norm_eps=1e-3, **marks, **sizes
    )
    torch.manual_seed(2)
    theirs = transformers.LlamaForCausalLM(config).to(torch.bfloat16)
    theirs.save_pretrained(tmp_path / "theirs")
    tokenizer.save_pretrained(tmp_path / "theirs")
    model = get_model("llama-tiny", None, str(tmp_path / "theirs"))
    model.check(task, finished=True)
    row = model.prompt(task, columns)["input_ids"][0].tolist()
    text = task.texts.content[int(columns["text"][0])]
    expected = tokenizer(text, add_special_tokens=False, truncation=True, max_length=task.max_length)["input_ids"]
    assert row[0] == 0 and [token for token in row[1:] if token != 3] == expected and model.end == 1
    retrained, original = model.initial(task), model.finished(task)
    assert retrained.config.rms_norm_eps == 1e-3 and retrained.dtype == original.dtype == torch.float32
    assert torch.equal(original.lm_head.weight, theirs.lm_head.weight.float())
    assert retrained.lm_head.weight.shape == theirs.lm_head.weight.shape and not torch.equal(
        retrained.lm_head.weight, original.lm_head.weight
    )


def test_other_weights_of_one_form_share_their_retrain(tmp_path):
    data = tmp_path / "data"
    write_movie_snippets(data)
    network, tokenizer = text_checkpoint(tmp_path / "one", "movie_snippets", data, {0: "neg", 1: "pos"})
    with torch.no_grad():
        network.classifier.bias += 1
    for folder in ("two", "moved"):
        network.save_pretrained(tmp_path / folder)
        tokenizer.save_pretrained(tmp_path / folder)
    config = json.loads((tmp_path / "moved" / "config.json").read_text())
    (tmp_path / "moved" / "config.json").write_text(json.dumps({**config, "hidden_dropout_prob": 0.5}))
    plans = [
        make_plan(suite_of("movie_snippets", data, {"name": "bert-tiny", "original": str(tmp_path / name)}))
        for name in ("one", "two", "moved")
    ]
    plain = make_plan(suite_of("movie_snippets", data, "bert-tiny"))
    retrains = [plan.retrains[0].id for plan in (*plans, plain)]
    assert retrains[0] == retrains[1] and len(set(retrains)) == 3
    assert len({plan.originals[0].id for plan in plans}) == 3


def test_an_original_beside_its_base_is_the_form_of_both(tmp_path):
    data = tmp_path / "data"
    write_movie_snippets(data)
    network, tokenizer = text_checkpoint(tmp_path / "tuned", "movie_snippets", data, {0: "neg", 1: "pos"})
    torch.manual_seed(3)
    base = transformers.BertForMaskedLM(network.config)
    base.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    names = {"pretrained": str(tmp_path / "base"), "original": str(tmp_path / "tuned")}
    task = TASKS.get("movie_snippets")(data)
    task.load()
    model = get_model("bert-tiny", *names.values())
    model.check(task, finished=True)
    start, finished = model.initial(task), model.finished(task)
    embedding = "bert.embeddings.word_embeddings.weight"
    assert torch.equal(start.get_parameter(embedding), base.get_parameter(embedding))
    assert torch.equal(finished.get_parameter(embedding), network.get_parameter(embedding))
    cased_tokenizer(["some other words", "of somebody else"]).save_pretrained(tmp_path / "base")
    with pytest.raises(MubenchError, match="other tokenizers"):
        make_plan(suite_of("movie_snippets", data, {"name": "bert-tiny", **names}))


def of_every_kind():
    """Documents of all five kinds of pairs."""
    kinds = {kind: f"{kind} kind" for kind in DDI}
    document = '<document id="{kind}{n}"><sentence id="s" text="Drug of {text} number {n} with other.">'
    document += '<entity id="a" charOffset="0-3" text="Drug"/><entity id="b" charOffset="{at}-{end}" text="other"/>'
    document += '<pair id="p" e1="a" e2="b" {said}/></sentence></document>'
    found = {}
    for kind, text in kinds.items():
        for n in range(4):
            at = len(f"Drug of {text} number {n} with ")
            said = 'ddi="false"' if kind == "false" else f'ddi="true" type="{kind}"'
            found[f"DDICorpus/Train/DrugBank/{kind}{n}.xml"] = document.format(
                kind=kind, text=text, n=n, at=at, end=at + 4, said=said
            )
    return found


PERMUTED = [0, 1, 3, 2, 4]  # MU-Bench's DDI: advise 2, effect 3


def test_labels_in_another_order_are_put_into_the_tasks(tmp_path):
    """Of DDI, as BLURB and MU-Bench call them. f_O's numbers are the task's; so are f_U's and those of what is exported, whose config says so."""
    data = tmp_path / "data"
    write_ddi(data / "DDICorpus-2013.zip", 1, of_every_kind())
    id2label = {place: f"DDI-{DDI[of]}" for place, of in enumerate(PERMUTED)}
    text_checkpoint(tmp_path / "theirs", "ddi", data, id2label, PERMUTED)
    suite = suite_of("ddi", data, {"name": "bert-tiny", "original": str(tmp_path / "theirs")})
    plan = make_plan(suite)
    assert any("reordered to ddi's (false, mechanism, effect, advise, int)" in line for line in plan.remarks)
    trial, artifacts = trial_of(plan, "original"), ArtifactStore(tmp_path / "artifacts")
    assert on_all_of_d(trial, artifacts, suite.data_dir)["correct"].mean() == 1.0
    prepared = prepare(trial, artifacts, suite.data_dir)
    prepared.ctx.model.save(prepared.ctx.network, prepared.ctx.task, tmp_path / "exported")
    mine = transformers.BertForSequenceClassification.from_pretrained(tmp_path / "exported")
    read = transformers.AutoTokenizer.from_pretrained(tmp_path / "exported")
    texts, labels = texts_of("ddi", data)
    inputs = read(texts, padding=True, truncation=True, return_tensors="pt")
    inputs.pop("token_type_ids", None)
    with torch.no_grad():
        said = [mine.config.id2label[number] for number in mine(**inputs).logits.argmax(-1).tolist()]
    assert said == [DDI[label] for label in labels]
    again = make_plan(suite_of("ddi", data, {"name": "bert-tiny", "original": str(tmp_path / "exported")}))
    assert not any("reordered" in line for line in again.remarks)


def test_labels_that_are_not_the_tasks_are_refused_and_numbers_are_said(tmp_path, loaded_digits):
    config = get_model("vit-tiny").config(loaded_digits)
    for folder, names in (
        ("other", [f"animal {n}" for n in range(10)]),
        ("numbers", [f"LABEL_{n}" for n in range(10)]),
    ):
        config.id2label = dict(enumerate(names))
        transformers.ViTForImageClassification(config).save_pretrained(tmp_path / folder)
    with pytest.raises(MubenchError, match=r"animal 0, animal 1.*are not digits's \(0, 1, 2"):
        check_checkpoint("vit-tiny", str(tmp_path / "other"), loaded_digits, finished=True)
    with pytest.raises(MubenchError, match=r"animal 0, animal 1.*are not digits's"):
        get_model("vit-tiny", None, str(tmp_path / "other")).finished(loaded_digits)
    assert any("a new head" in line for line in check_checkpoint("vit-tiny", str(tmp_path / "other"), loaded_digits))
    assert any(
        "have no names" in line for line in check_checkpoint("vit-tiny", str(tmp_path / "numbers"), loaded_digits, True)
    )
    saved = transformers.ViTForImageClassification.from_pretrained(tmp_path / "other")
    assert not torch.equal(
        get_model("vit-tiny", str(tmp_path / "other")).initial(loaded_digits).classifier.weight, saved.classifier.weight
    )


@pytest.fixture(scope="module")
def loaded_digits():
    task = TASKS.get("digits")()
    task.load()
    return task


PROCESSORS = {
    "half": transformers.ViTImageProcessor(image_mean=[0.5] * 3, image_std=[0.5] * 3, size={"height": 32, "width": 32}, resample=2),
    "bicubic and cut": transformers.BitImageProcessor(
        image_mean=[0.48, 0.45, 0.4], image_std=[0.27, 0.26, 0.3], size={"shortest_edge": 40}, crop_size={"height": 32, "width": 32}
    ),
    "smaller, nearest": transformers.ViTImageProcessor(size={"height": 24, "width": 24}, resample=0),
    "share of a crop": transformers.ConvNextImageProcessor(size={"shortest_edge": 32}, crop_pct=0.8, resample=3),
    "wider than it is": transformers.DeiTImageProcessor(do_resize=False, crop_size={"height": 35, "width": 35}),
    "raw": transformers.ViTImageProcessor(do_rescale=False, do_normalize=False, size={"height": 28, "width": 28}, resample=3),
    "as they come": transformers.ViTImageProcessor(do_resize=False, image_mean=[0.1, 0.2, 0.3], image_std=[0.5, 1, 2]),
}  # fmt: skip


@pytest.mark.parametrize("name", PROCESSORS)
def test_pictures_are_what_their_own_processor_makes(tmp_path, name):
    from mubench_ray.models.processor import picture_processor

    PROCESSORS[name].save_pretrained(tmp_path)
    rng = np.random.default_rng(0)
    smooth = torch.nn.functional.interpolate(
        torch.from_numpy(rng.integers(0, 256, (3, 3, 8, 8))).float(), size=30, mode="bicubic"
    )
    pictures = smooth.clamp(0, 255).to(torch.uint8)
    ours = picture_processor(str(tmp_path), None)
    assert ours is not None
    theirs = PROCESSORS[name](images=[p.permute(1, 2, 0).numpy() for p in pictures], return_tensors="pt")[
        "pixel_values"
    ]
    mine = ours(pictures)
    # At most one of 255 levels apart, where a value lies between two.
    level = PROCESSORS[name].rescale_factor if PROCESSORS[name].do_rescale else 1
    level /= min(PROCESSORS[name].image_std) if PROCESSORS[name].do_normalize else 1
    assert mine.shape == theirs.shape and (mine - theirs).abs().max() <= 1.01 * level
    assert torch.equal(ours(pictures.unsqueeze(1)).squeeze(1), mine)


def image_checkpoint(folder, pictures, labels, processor, names):
    """A ResNet that reads pictures as its processor makes them, and is right on them."""
    inputs = processor(images=[p.permute(1, 2, 0).expand(-1, -1, 3).numpy() for p in pictures], return_tensors="pt")
    config = transformers.ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 16],
        depths=[1, 1],
        layer_type="basic",
        num_labels=10,
        id2label=dict(enumerate(names)),
    )
    torch.manual_seed(0)
    network = transformers.ResNetForImageClassification(config)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(20):
        for part in torch.arange(len(labels)).split(100):
            optimizer.zero_grad()
            network(inputs["pixel_values"][part], labels=labels[part]).loss.backward()
            optimizer.step()
    network.eval()
    network.save_pretrained(folder)
    processor.save_pretrained(folder)
    with torch.no_grad():
        logits = network(**inputs).logits
    return logits


def test_an_image_networks_own_processor_decides_its_accuracy(tmp_path):
    """At mean and deviation one half and another size than the registry's, of digits of 8 px; the reference is transformers' processor and network alone."""
    _, splits = load_task("digits", 300, None)
    columns = splits.train.take(torch.arange(len(splits.train)))
    processor = transformers.ViTImageProcessor(
        image_mean=[0.5] * 3, image_std=[0.25] * 3, size={"height": 32, "width": 32}, resample=3
    )
    logits = image_checkpoint(
        tmp_path / "theirs", columns["image"], columns["labels"], processor, [str(n) for n in range(10)]
    )
    reference = (logits.argmax(-1) == columns["labels"]).double()
    assert reference.mean() > 0.9
    suite = suite_of(
        {"name": "digits", "subset": 300}, tmp_path, {"name": "resnet18", "original": str(tmp_path / "theirs")}
    )
    plan = make_plan(suite)
    assert any(
        "digits: pictures are given at 8 px; the checkpoint's processor asks for 32 px: enlarged (bicubic)" in line
        for line in plan.remarks
    )
    found = on_all_of_d(trial_of(plan, "original"), ArtifactStore(tmp_path / "artifacts"), suite.data_dir)
    assert (found["correct"] == reference.numpy()).mean() > 0.995 and abs(
        found["correct"].mean() - reference.mean()
    ) < 0.01
    (tmp_path / "theirs" / "preprocessor_config.json").unlink()
    without = make_plan(suite)
    assert any("no preprocessor_config.json" in line for line in without.remarks)
    assert without.originals[0].id != plan.originals[0].id and without.retrains[0].id != plan.retrains[0].id


def test_a_processor_that_does_not_fit_is_refused_by_the_plan(tmp_path, loaded_digits):
    model = get_model("vit-tiny")
    config = model.config(loaded_digits)
    config.num_channels, config.image_size = 3, 32
    transformers.ViTForImageClassification(config).save_pretrained(tmp_path)
    for processor, said in (
        (transformers.ViTImageProcessor(), r"gives pictures of 224 px, its network \(config.json\) reads 32 px"),
        (transformers.ViTImageProcessor(size={"height": 32, "width": 32}, resample=1), "resizes with filter 1 of PIL"),
        (transformers.ViTImageProcessor(size={"height": 32, "width": 32}, image_mean=[0.5, 0.5], image_std=[0.5, 0.5]), "normalises 2 channels"),
        (transformers.SegformerImageProcessor(), r"\(SegformerImageProcessor\) is of a kind"),
    ):  # fmt: skip
        processor.save_pretrained(tmp_path)
        with pytest.raises(MubenchError, match=said):
            check_checkpoint("vit-tiny", str(tmp_path), loaded_digits, finished=True)
    (tmp_path / "preprocessor_config.json").write_text("{half")
    with pytest.raises(MubenchError, match=r"preprocessor_config\.json cannot be read"):
        check_checkpoint("vit-tiny", str(tmp_path), loaded_digits, finished=True)


def test_recordings_are_heard_as_the_feature_extractor_says(tmp_path):
    write_spoken_digits(tmp_path / "data", 6)
    task = TASKS.get("spoken_digits")(tmp_path / "data")
    columns = task.load().train.take(torch.arange(3))
    model = MODELS.get("wav2vec2-tiny")
    model.build(task).save_pretrained(tmp_path / "theirs")
    sounds = [sound.numpy().astype(np.float32) / 32768 for sound in columns["waveform"]]
    for normalise in (True, False):
        theirs = transformers.Wav2Vec2FeatureExtractor(do_normalize=normalise)
        theirs.save_pretrained(tmp_path / "theirs")
        mine = model.pretrained(str(tmp_path / "theirs"))
        expected = theirs(sounds, sampling_rate=16000, return_tensors="pt")["input_values"]
        assert torch.allclose(mine.encode(task, columns)["input_values"], expected, atol=1e-5)
        mine.check(task)
    transformers.Wav2Vec2FeatureExtractor(sampling_rate=8000).save_pretrained(tmp_path / "theirs")
    with pytest.raises(MubenchError, match="reads 8000 samples a second, spoken_digits gives 16000"):
        check_checkpoint("wav2vec2-tiny", str(tmp_path / "theirs"), task)
    whisper = MODELS.get("whisper-mini-tiny")
    whisper.build(task).save_pretrained(tmp_path / "whisper")
    transformers.WhisperFeatureExtractor(feature_size=128).save_pretrained(tmp_path / "whisper")
    with pytest.raises(MubenchError, match="gives 128 mel bands of 30 s"):
        check_checkpoint("whisper-mini-tiny", str(tmp_path / "whisper"), task)


def test_a_pair_of_one_pictures_network_is_the_original_and_the_start(tmp_path, loaded_pair):
    """vilt-b32-mlm: two kinds of input, of which the second picture gets the first one's."""
    model = MODELS.get("vilt-tiny")
    config = model.config(loaded_pair)
    config.modality_type_vocab_size, config.num_images, config.vocab_size = 2, -1, 200
    torch.manual_seed(1)
    saved = transformers.ViltForMaskedLM(config)
    saved.save_pretrained(tmp_path)
    cased_tokenizer(list(loaded_pair.texts.content)).save_pretrained(tmp_path)
    transformers.ViltImageProcessor(size={"shortest_edge": 64}, image_mean=[0.4] * 3).save_pretrained(tmp_path)
    mine = model.pretrained(str(tmp_path))
    text, picture = saved.vilt.embeddings.token_type_embeddings.weight
    rows = mine.initial(loaded_pair).vilt.embeddings.token_type_embeddings.weight
    assert torch.equal(rows, torch.stack([text, picture, picture]))
    assert mine.build(loaded_pair).vilt.embeddings.token_type_embeddings.weight.shape == rows.shape
    images = loaded_pair.load().train.take(torch.arange(2))
    theirs = transformers.AutoImageProcessor.from_pretrained(tmp_path)(
        images=[side.permute(1, 2, 0).numpy() for side in images["images"].flatten(0, 1)], return_tensors="pt"
    )["pixel_values"]
    given = mine.encode(loaded_pair, images)["pixel_values"]
    assert given.shape[-1] == 64 and (given.flatten(0, 1) - theirs).abs().max() < 0.05


@pytest.fixture
def loaded_pair(tmp_path):
    from tests.tasks.layouts import write_nlvr2

    write_nlvr2(tmp_path / "pairs" / "nlvr2")
    task = TASKS.get("nlvr2")(tmp_path / "pairs")
    task.load()
    return task
