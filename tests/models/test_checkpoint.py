"""Networks from checkpoints: saved to a folder here, loaded as published weights would be."""

import re

import pytest
import torch

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


def test_text_is_read_with_the_checkpoints_tokenizer(tmp_path, loaded):
    task, splits = loaded("text")
    model = MODELS.get("bert-tiny")
    model.build(task).save_pretrained(tmp_path)
    train_wordpiece(["a warm film"] * 20, 60).save_pretrained(tmp_path)
    mine = model.pretrained(str(tmp_path))
    columns = splits.train.take(torch.arange(3))
    theirs, ours = mine.encode(task, columns), model.encode(task, columns)
    assert int(theirs["input_ids"].max()) < 60 <= int(ours["input_ids"].max())
    assert mine.initial(task)(**theirs).logits.shape == (3, 2)


def test_a_checkpoint_without_safetensors_is_refused(tmp_path, loaded):
    task, _ = loaded("image")
    model = MODELS.get("vit-tiny")
    network = model.build(task)
    network.config.save_pretrained(tmp_path)
    torch.save(network.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(MubenchError, match=r"vit-tiny: .*cannot be loaded from safetensors"):
        model.pretrained(str(tmp_path)).initial(task)


def test_a_hub_id_needs_a_revision():
    with pytest.raises(MubenchError, match="'someone/something' needs a revision"):
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
