"""Sizes of networks against published ones; nothing is allocated."""

import pytest
import torch

from mubench_ray.models import MODELS
from mubench_ray.models.base import flos_per_sample, parameters
from mubench_ray.tasks import TASKS

#: Parameters with 1000 classes and three channels, as torchvision and timm publish them.
IMAGENET = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "mobilenetv2": 3_504_872,
    "convnext": 28_589_128,
    "vit-s": 22_050_664,
    "vit-b": 86_567_656,
    "vit-l": 304_326_632,
    "swin-t": 28_288_354,
    "swin-s": 49_606_258,
    "swin-b": 87_768_224,
    "tinyvit-5m": 5_392_764,
    "tinyvit-11m": 10_996_972,
    "tinyvit-21m": 21_198_568,
}

#: Multiplications and additions of one forward pass at 224 px, in 1e9, as published (two FLOs each here); attention's own products included.
MACS = {"resnet18": 1.82, "resnet50": 4.12, "vit-b": 17.6, "swin-t": 4.5, "convnext": 4.47, "tinyvit-5m": 1.3}

#: Encoder and pooler as published in millions, with a head of their own.
MILLIONS = {
    "bert-base": ("ddi", 109.5),
    "bert-large": ("ddi", 335.1),
    "biobert": ("ddi", 108.3),
    "pubmedbert-abstract": ("ddi", 109.5),
    "pubmedbert-fulltext": ("ddi", 109.5),
    "distilbert": ("ddi", 67.0),
    "electra-base": ("ddi", 109.5),
    "wav2vec2-base": ("speech_commands", 94.6),
    "wav2vec2-large": ("speech_commands", 315.7),
    "hubert-base": ("speech_commands", 94.6),
    "hubert-large": ("speech_commands", 315.7),
    "hubert-xlarge": ("speech_commands", 962.8),
    "whisper-tiny": ("speech_commands", 8.3),
    "whisper-base": ("speech_commands", 20.7),
    "whisper-small": ("speech_commands", 88.4),
    "videomae-base": ("ucf101", 86.3),
    "videomae-large": ("ucf101", 303.9),
    "t5-small": ("samsum", 76.96),
    "t5-base": ("samsum", 247.6),
    "t5-large": ("samsum", 783.2),
    "t5-xl": ("samsum", 2849.8),
    "smollm2-135m": ("wiki_bio", 134.5),
    "alpaca-7b": ("biofact", 6738.4),
    "vicuna-7b": ("biofact", 6738.4),
    "alpaca-13b": ("biofact", 13015.9),
    "vicuna-13b": ("biofact", 13015.9),
}


@pytest.mark.parametrize("name", IMAGENET)
def test_image_networks_have_the_published_size(name, thousand):
    assert parameters(thousand, MODELS.get(name)) == IMAGENET[name]


@pytest.mark.parametrize("name", MACS)
def test_flos_are_those_published(name, thousand):
    forward, training = flos_per_sample(thousand, MODELS.get(name))
    assert forward / 2e9 == pytest.approx(MACS[name], rel=0.05)
    assert 2.5 * forward < training < 3.1 * forward


@pytest.mark.parametrize("name", MILLIONS)
def test_other_networks_have_the_published_size(name):
    task, millions = MILLIONS[name]
    assert parameters(TASKS.get(task)(), MODELS.get(name)) / 1e6 == pytest.approx(millions, rel=0.003)


def test_vilt_has_the_published_size_without_words_and_head():
    task, model = TASKS.get("nlvr2")(), MODELS.get("vilt")
    with torch.device("meta"):
        network = model.build(task)
    words = network.vilt.embeddings.text_embeddings.word_embeddings
    counted = sum(p.numel() for p in network.vilt.parameters()) - words.weight.numel()
    assert counted / 1e6 == pytest.approx(87.4, rel=0.01)
