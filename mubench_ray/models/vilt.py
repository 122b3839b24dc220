"""ViLT (Kim et al. 2021) through transformers: one encoder over the patches of a picture and the tokens of a sentence, run once a picture."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from mubench_ray.models.base import register
from mubench_ray.models.processor import PictureProcessor, picture_processor, refuse_pictures, unlike_pictures
from mubench_ray.models.text import TokenReader, masked
from mubench_ray.tasks.base import Columns
from mubench_ray.tasks.image_text import ImagePairClassification


class Vilt(TokenReader[ImagePairClassification]):
    """A ViLT encoder with the head for two pictures; ``image_size`` is what pictures are resized to."""

    family = "vilt"
    modality = "image pair + text"
    citation = "Kim, Son & Kim 2021, arXiv 2102.03334"
    architecture = "ViltForImagesAndTextClassification"
    config_class = "ViltConfig"
    always = {
        "num_images": 2,
        "modality_type_vocab_size": 3,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
    #: It looks at its masks, which the meta device cannot.
    counted_on = "cpu"
    positions = 40
    channels = 3
    #: What a checkpoint's own processor does; None: its image size, and the task's mean and standard deviation.
    processor: PictureProcessor | None = None

    def __init__(
        self,
        hidden: int,
        layers: int,
        heads: int,
        vocabulary: int = 30522,
        image_size: int = 384,
        patch: int = 32,
        hub: str | None = None,
    ) -> None:
        self.hidden, self.layers, self.heads, self.vocabulary = hidden, layers, heads, vocabulary
        self.image_size, self.patch, self.hub = image_size, patch, hub

    def settings(self, task: ImagePairClassification) -> dict[str, Any]:
        """Width, layers, heads, vocabulary, patches."""
        return {
            "vocab_size": self.vocabulary,
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "intermediate_size": 4 * self.hidden,
            "image_size": self.image_size,
            "patch_size": self.patch,
            "max_position_embeddings": self.positions,
        }

    def build(self, task: ImagePairClassification) -> nn.Module:
        """A network with random weights that shuffles patches the same way every time."""
        return in_order(super().build(task))

    def _weights(self, task: ImagePairClassification, config: Any = None, **options: Any) -> tuple[Any, dict[str, Any]]:
        """As of every checkpoint; one of a single picture has two kinds of input, text and picture, and the second picture is taken for the first (as
        its authors do for pairs)."""
        config = config or self.config(task)
        config.modality_type_vocab_size = self.declared.modality_type_vocab_size
        network, info = super()._weights(task, config=config, **options)
        if config.modality_type_vocab_size == 2:
            table = network.vilt.embeddings.token_type_embeddings
            rows = table.weight.detach()
            network.vilt.embeddings.token_type_embeddings = nn.Embedding.from_pretrained(rows[[0, 1, 1]], freeze=False)
            network.config.modality_type_vocab_size = 3
        return in_order(network), info

    def adopt(self) -> None:
        """Take the checkpoint's image size and processor too."""
        super().adopt()
        self.image_size = self.declared.image_size
        assert self.source is not None
        self.processor = picture_processor(self.source, self.revision)

    def check(self, task: ImagePairClassification, finished: bool = False) -> None:
        """Raise MubenchError also where the processor does not give what the network reads."""
        super().check(task, finished)
        if self.source is not None:
            refuse_pictures(self, self.processor, self.channels, task.size, None)

    def remarks(self, task: ImagePairClassification, finished: bool = False) -> list[str]:
        """Also what is done to the task's pictures."""
        said = super().remarks(task, finished)
        return said if self.source is None else [*said, *unlike_pictures(self, self.processor, task.name, task.size)]

    def encode(self, task: ImagePairClassification, columns: Columns) -> Columns:
        """``pixel_values`` float32 (B, 2, 3, H, W) with the sentence's tokens."""
        images = columns["images"]
        if self.processor is not None:
            pixels = self.processor(images)
        else:
            mean = torch.tensor(task.mean, device=images.device).view(-1, 1, 1) * 255
            std = torch.tensor(task.std, device=images.device).view(-1, 1, 1) * 255
            pixels = (images.float() - mean) / std
            if images.shape[-1] != self.image_size:
                resized = F.interpolate(pixels.flatten(0, 1), size=self.image_size, mode="bilinear", antialias=True)
                pixels = resized.unflatten(0, images.shape[:2])
        return {
            **masked(*self.tokens(task, columns["text"], min(task.max_length, self.positions))),
            "pixel_values": pixels,
        }


def in_order(network: nn.Module) -> nn.Module:
    """The network, drawing its permutation of patches from the same seed in every pass.

    Attention does not care about the order, but rounding does: without this an evaluation would depend on what was drawn before it.
    ViLT has no dropout that would be fixed along with it.
    """
    network.register_forward_pre_hook(_seed)
    network.register_forward_hook(_restore)
    return network


def _seed(module: nn.Module, inputs: tuple) -> None:
    module.state_before = torch.random.get_rng_state()
    torch.manual_seed(0)


def _restore(module: nn.Module, inputs: tuple, outputs: Any) -> None:
    torch.random.set_rng_state(vars(module)["state_before"])


register("vilt-tiny", Vilt(32, 2, 2, vocabulary=4000, image_size=64, patch=16))
register("vilt", Vilt(768, 12, 12, hub="dandelin/vilt-b32-mlm"), "vilt-base")
