"""Networks from checkpoints: saved to a folder here, loaded as published weights would be."""

import json
import re

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from mubench_ray.errors import MubenchError
from mubench_ray.models import MODELS
from mubench_ray.models.checkpoint import TransformersModel
from mubench_ray.models.tokenizer import train_wordpiece
from mubench_ray.tasks import TASKS
from tests.models.conftest import seeded


def test_weights_come_back_and_build_stays_random(tmp_path, loaded):
    task, splits = loaded("image")
    model = MODELS.get("vit-tiny")
    saved = seeded(lambda: model.build(task))
    saved.save_pretrained(tmp_path)
    loaded_model = model.pretrained(str(tmp_path))
    network = loaded_model.initial(task)
    assert all(torch.equal(a, b) for a, b in zip(saved.state_dict().values(), network.state_dict().values()))
    torch.manual_seed(9)
    fresh = loaded_model.build(task)
    assert fresh.state_dict().keys() == saved.state_dict().keys()
    assert not torch.equal(fresh.classifier.weight, saved.classifier.weight)
    assert model.source is None and MODELS.get("vit-tiny").initial(task) is not None
    inputs = loaded_model.encode(task, splits.train.take(torch.arange(2)))
    assert inputs["pixel_values"].shape == (2, 1, 8, 8) and network(**inputs).logits.shape == (2, 10)


def test_another_number_of_classes_gets_a_new_head_and_grey_pictures_are_repeated(tmp_path, loaded, thousand):
    task, splits = loaded("image")
    model = MODELS.get("convnext-tiny")
    saved = model.build(thousand)
    saved.save_pretrained(tmp_path)
    mine = model.pretrained(str(tmp_path))
    network = mine.initial(task)
    assert network.classifier.weight.shape[0] == 10
    assert torch.equal(
        network.state_dict()["convnext.embeddings.patch_embeddings.weight"],
        saved.convnext.embeddings.patch_embeddings.weight,
    )
    assert mine.encode(task, splits.train.take(torch.arange(2)))["pixel_values"].shape == (2, 3, 224, 224)  # as trained


def test_a_checkpoint_without_safetensors_is_refused(tmp_path, loaded):
    task, _ = loaded("image")
    model = MODELS.get("vit-tiny")
    network = model.build(task)
    network.config.save_pretrained(tmp_path)
    torch.save(network.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(MubenchError, match=r"vit-tiny: .*cannot be loaded from safetensors"):
        model.pretrained(str(tmp_path)).initial(task)


def rewritten(folder, change):
    """The weights of a folder, changed, as safetensors name them."""
    weights = {name: tensor.contiguous() for name, tensor in change(load_file(folder / "model.safetensors")).items()}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def renamed(old, new):
    return lambda weights: {name.replace(old, new): tensor for name, tensor in weights.items()}


def with_more(**more):
    return lambda weights: {**weights, **{name.replace("__", "."): tensor for name, tensor in more.items()}}


#: As checkpoints are published: with another head, without a pooler or with one that is not read, with buffers and names of older versions.
PUBLISHED = [
    ("bert-tiny", "BertForMaskedLM", with_more(bert__embeddings__position_ids=torch.arange(512)[None])),
    ("bert-tiny", "BertForPreTraining", renamed("LayerNorm.weight", "LayerNorm.gamma")),
    ("bert-tiny", "BertModel", None),
    ("distilbert-tiny", "DistilBertForMaskedLM", None),
    ("electra-tiny", "ElectraForPreTraining", None),
    ("vit-tiny", "ViTModel", None),
    ("swin-tiny", "SwinForMaskedImageModeling", None),
    ("convnext-tiny", "ConvNextModel", None),
    ("resnet18", "ResNetModel", lambda ws: {name: w for name, w in ws.items() if "num_batches_tracked" not in name}),
    ("mobilenetv2-tiny", "MobileNetV2Model", None),
    ("wav2vec2-tiny", "Wav2Vec2ForPreTraining", renamed("parametrizations.weight.original0", "weight_g")),
    ("wav2vec2-tiny", "Wav2Vec2Model", lambda ws: {name: w for name, w in ws.items() if name != "masked_spec_embed"}),
    ("hubert-tiny", "HubertForCTC", None),
    ("whisper-mini-tiny", "WhisperForConditionalGeneration", None),
    ("videomae-tiny", "VideoMAEForPreTraining", None),
    ("vilt-tiny", "ViltForMaskedLM", None),
    ("t5-tiny", "T5ForConditionalGeneration", None),
    ("llama-tiny", "LlamaForCausalLM", with_more(model__layers__0__self_attn__rotary_emb__inv_freq=torch.zeros(8))),
]
TASK_OF = {"t5-tiny": "sequence to sequence", "llama-tiny": "causal language model"}


@pytest.mark.parametrize(("name", "published", "change"), PUBLISHED, ids=[f"{row[0]}-{row[1]}" for row in PUBLISHED])
def test_checkpoints_as_they_are_published_are_taken_whole(tmp_path, loaded, name, published, change):
    model = MODELS.get(name)
    task, _ = loaded(model.modality, TASK_OF.get(name, "classification"))
    config = model.config(task)
    if name == "vilt-tiny":  # one picture, as it was trained first
        config.modality_type_vocab_size, config.num_images = 2, -1
    if name == "llama-tiny":  # the projection is the embedding, and not in the file
        config.tie_word_embeddings = True
    if "Whisper" in published:
        config.decoder_layers, config.decoder_attention_heads = 1, 2
    if published == "VideoMAEForPreTraining":
        config.decoder_hidden_size = config.decoder_intermediate_size = 32
        config.decoder_num_hidden_layers, config.decoder_num_attention_heads = 1, 2
    saved = seeded(lambda: getattr(transformers, published)(config))
    saved.save_pretrained(tmp_path)
    if change:
        rewritten(tmp_path, change)
    mine = model.pretrained(str(tmp_path))
    TransformersModel.check(mine, task)
    network = mine.initial(task)
    given = {part.removeprefix(f"{saved.base_model_prefix}."): tensor for part, tensor in saved.state_dict().items()}
    taken = {
        part.removeprefix(f"{network.base_model_prefix}."): tensor for part, tensor in network.state_dict().items()
    }
    shared = [
        part
        for part in taken
        if part in given
        and not part.startswith(("classifier", "pooler"))
        and not part.endswith(("token_type_embeddings.weight", "masked_spec_embed"))
    ]
    assert len(shared) > 0.8 * len([part for part in taken if "classifier" not in part])
    assert all(torch.equal(taken[part], given[part]) for part in shared)


def test_the_second_picture_of_a_pair_is_taken_for_the_first(tmp_path, loaded):
    """As ViLT's own code does it when it goes on from the network of one picture and one text."""
    task, _ = loaded("image pair + text")
    model = MODELS.get("vilt-tiny")
    config = model.config(task)
    config.modality_type_vocab_size, config.num_images = 2, -1
    saved = seeded(lambda: transformers.ViltForMaskedLM(config))
    saved.save_pretrained(tmp_path)
    text, picture = saved.vilt.embeddings.token_type_embeddings.weight
    network = model.pretrained(str(tmp_path)).initial(task)
    assert torch.equal(network.vilt.embeddings.token_type_embeddings.weight, torch.stack([text, picture, picture]))
    assert network.state_dict().keys() == model.pretrained(str(tmp_path)).build(task).state_dict().keys()


def test_a_stem_of_ours_comes_back(tmp_path, loaded):
    task, _ = loaded("image")
    model = MODELS.get("resnet-tiny")
    saved = seeded(lambda: model.build(task))
    saved.save_pretrained(tmp_path / "ours")
    network = model.pretrained(str(tmp_path / "ours")).finished(task)
    assert all(torch.equal(a, b) for a, b in zip(saved.state_dict().values(), network.state_dict().values()))
    type(saved)(saved.config).save_pretrained(tmp_path / "theirs")
    with pytest.raises(
        MubenchError, match=r"resnet-tiny.*another shape 1 \(resnet.embedder.embedder.convolution.weight"
    ):
        model.pretrained(str(tmp_path / "theirs")).initial(task)


def refusal(model, folder, task):
    """What a folder is refused with, when it is loaded and, in the same words, when only its headers are read."""
    with pytest.raises(MubenchError) as loading:
        MODELS.get(model).pretrained(str(folder)).initial(task)
    with pytest.raises(MubenchError) as checking:
        MODELS.get(model).pretrained(str(folder)).check(task)
    assert str(loading.value) == str(checking.value) and "\n" not in str(loading.value)
    assert model in str(loading.value) and str(folder) in str(loading.value)
    return str(loading.value)


def test_a_checkpoint_of_another_model_type_is_refused(tmp_path, loaded):
    """Loaded all the same, 41 of a RoBERTa's tensors would be random in BERT's network."""
    task, _ = loaded("text")
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = transformers.RobertaConfig(vocab_size=100, **small)
    transformers.RobertaForSequenceClassification(config).save_pretrained(tmp_path)
    said = refusal("bert-base", tmp_path, task)
    assert "model_type 'roberta'" in said and "takes 'bert'" in said


LAST = "bert.encoder.layer.1."


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda ws: {n: w for n, w in ws.items() if not n.startswith(LAST)}, f"it lacks 16 ({LAST}attention.output"),
        (
            lambda ws: {n: w for n, w in ws.items() if "word_embeddings" not in n},
            "it lacks 1 (bert.embeddings.word_emb",
        ),
        (
            lambda ws: {n: w[:100] if "word_embeddings" in n else w for n, w in ws.items()},
            "has in another shape 1 (bert.embeddings.word_embeddings.weight)",
        ),
        (
            lambda ws: {
                **ws,
                **{n.replace(LAST, "bert.encoder.layer.2."): w.clone() for n, w in ws.items() if LAST in n},
            },
            "the network has no place for 16 (bert.encoder.layer.2.attention",
        ),
    ],
)
def test_a_checkpoint_that_is_not_the_network_of_its_config_is_refused(tmp_path, loaded, change, said):
    task, _ = loaded("text")
    MODELS.get("bert-tiny").build(task).save_pretrained(tmp_path)
    rewritten(tmp_path, change)
    assert said in refusal("bert-tiny", tmp_path, task)


def test_quantised_weights_are_refused(tmp_path, loaded):
    task, _ = loaded("text")
    MODELS.get("bert-tiny").build(task).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert "is quantised (gptq)" in refusal("bert-tiny", tmp_path, task)


def halved(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    "damage",
    [
        halved,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"<html>404</html>" * 100),
        lambda path: path.write_bytes(b"\x20\0\0\0\0\0\0\0{" + b"x" * 100),
        lambda path: path.unlink(),
    ],
    ids=["truncated", "empty", "a page", "no header", "gone"],
)
def test_a_damaged_file_of_weights_gives_one_line(tmp_path, loaded, damage):
    task, _ = loaded("image")
    MODELS.get("vit-tiny").build(task).save_pretrained(tmp_path)
    damage(tmp_path / "model.safetensors")
    assert "cannot be loaded from safetensors" in refusal("vit-tiny", tmp_path, task)


def test_a_missing_shard_and_a_damaged_config_are_named(tmp_path, loaded):
    task, _ = loaded("image")
    MODELS.get("vit-tiny").build(task).save_pretrained(tmp_path, max_shard_size="100KB")
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 1
    shards[-1].unlink()
    assert shards[-1].name in refusal("vit-tiny", tmp_path, task)
    halved(tmp_path / "config.json")
    assert "cannot be loaded" in refusal("vit-tiny", tmp_path, task)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["vit-tiny", "bert-tiny", "llama-tiny"])
def test_half_precision_files_become_float32(tmp_path, loaded, name, dtype):
    model = MODELS.get(name)
    task, _ = loaded(model.modality, TASK_OF.get(name, "classification"))
    saved = seeded(lambda: model.build(task)).to(dtype)
    saved.save_pretrained(tmp_path)
    assert {tensor.dtype for tensor in load_file(tmp_path / "model.safetensors").values()} == {dtype}
    mine = model.pretrained(str(tmp_path))
    for network in (mine.build(task), mine.initial(task), mine.finished(task)):
        assert {tensor.dtype for tensor in network.state_dict().values()} == {torch.float32}
    for ours, theirs in zip(mine.initial(task).parameters(), saved.parameters()):
        assert torch.equal(ours, theirs.float())


def test_a_hub_id_needs_a_revision():
    with pytest.raises(MubenchError, match="'someone/something' is not here, and as a hub id needs a revision"):
        MODELS.get("vit-tiny").pretrained("someone/something")
    with pytest.raises(MubenchError, match="no published weights"):
        MODELS.get("vit-tiny").pretrained()
    with pytest.raises(MubenchError, match="no pretrained form"):
        MODELS.get("cnn-small").pretrained()


def test_revisions_are_commits():
    pinned = [model.revision for _, model in MODELS if model.revision]
    assert len(pinned) > 5 and all(re.fullmatch("[0-9a-f]{40}", revision) for revision in pinned)


def test_every_published_model_of_the_papers_names_its_weights():
    unnamed = [
        name
        for name, model in MODELS
        if isinstance(model, TransformersModel) and not name.endswith(("-tiny", "-cifar")) and not model.hub
    ]
    assert unnamed == []


def test_registering_imports_no_transformers():
    import subprocess
    import sys

    code = "import sys; from mubench_ray.models import MODELS; from mubench_ray.tasks import TASKS; MODELS.names(); TASKS.names(); "
    code += "print([m for m in ('transformers', 'datasets', 'sklearn', 'tokenizers', 'scipy', 'PIL', 'pyarrow') if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


def test_a_trained_tokenizer_is_the_same_every_time_and_keeps_markers():
    texts = [f"the {word} film number {i}" for i in range(50) for word in ("dull", "bright")]
    first, second = (train_wordpiece(texts, 120, ("@DRUG$",)) for _ in range(2))
    assert first.get_vocab() == second.get_vocab() and len(first) <= 120
    assert first.tokenize("The dull film") == ["the", "dull", "film"]
    ids = first("a @DRUG$ film")["input_ids"]
    assert (
        first.convert_ids_to_tokens(ids).count("@DRUG$") == 1
        and ids[0] == first.cls_token_id
        and first.pad_token_id == 0
    )


def test_whisper_features_are_those_of_transformers():
    import numpy as np
    from transformers import WhisperFeatureExtractor

    task = TASKS.get("spoken_digits")()
    sound = torch.from_numpy(np.random.default_rng(0).integers(-9000, 9000, (2, 16000))).to(torch.int16)
    expected = WhisperFeatureExtractor()(
        [s.float().numpy() / 32768 for s in sound], sampling_rate=16000, return_tensors="pt"
    ).input_features
    assert torch.allclose(
        MODELS.get("whisper-tiny").encode(task, {"waveform": sound})["input_features"], expected, atol=1e-5
    )


def test_a_model_without_a_checkpoint_is_no_original():
    task = TASKS.get("digits")()
    with pytest.raises(MubenchError, match="vit-tiny has no checkpoint"):
        MODELS.get("vit-tiny").finished(task)
