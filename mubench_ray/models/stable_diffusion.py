"""Stable Diffusion (Rombach et al. 2022) through diffusers: the network is the U-Net; the autoencoder and the text encoder stay as they are."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mubench_ray.errors import MubenchError
from mubench_ray.models.base import Model, register
from mubench_ray.models.places import reason_of
from mubench_ray.models.tokenizer import Reader, files_of
from mubench_ray.randomness import derive
from mubench_ray.tasks.base import Columns, Task
from mubench_ray.tasks.conversion import Row, converted
from mubench_ray.tasks.text_to_image import TextToImage


class Frozen(NamedTuple):
    """What is never trained: the autoencoder of pictures and the encoder of captions."""

    autoencoder: Any  # AutoencoderKL of diffusers
    text_encoder: Any  # CLIPTextModel of transformers


class StableDiffusion(Model[TextToImage]):
    """A latent diffusion model said by the widths of its U-Net, its autoencoder and its text encoder.

    Without a checkpoint the frozen parts are random, always the same ones: as an embedding of tiny pictures and captions that is enough for a test and
    for nothing else.
    """

    family = "stable diffusion"
    modality = "caption + picture"
    kinds = ("text to image",)
    citation = "Rombach et al. 2022, arXiv 2112.10752"
    source: str | None = None
    #: Whether it is an original's form alone, and the model whose weights training then starts from, None for random ones.
    form: bool = False
    base: Model | None = None

    def __init__(
        self,
        widths: tuple[int, ...],
        layers: int,
        heads: int,
        text: int,
        side: int,
        groups: int = 32,
        encoder_widths: tuple[int, ...] = (128, 256, 512, 512),
        encoder_layers: int = 2,
        text_layers: int = 12,
        text_heads: int = 12,
        vocabulary: int = 49408,
        hub: str | None = None,
        revision: str | None = None,
    ) -> None:
        self.widths, self.layers, self.heads, self.text, self.side, self.groups = (
            widths,
            layers,
            heads,
            text,
            side,
            groups,
        )
        self.encoder_widths, self.encoder_layers = encoder_widths, encoder_layers
        self.text_layers, self.text_heads, self.vocabulary = text_layers, text_heads, vocabulary
        self.hub, self.revision = hub, revision

    # The network

    def build(self, task: TextToImage) -> nn.Module:
        """A U-Net with random weights."""
        diffusers = _diffusers()
        if self.source is not None:
            config = diffusers.UNet2DConditionModel.load_config(**self._place(self.source, "unet"))
            return diffusers.UNet2DConditionModel.from_config(config)
        plain = len(self.widths) - 1
        return diffusers.UNet2DConditionModel(
            sample_size=self.latent_shape(task)[1],
            in_channels=4,
            out_channels=4,
            layers_per_block=self.layers,
            block_out_channels=self.widths,
            down_block_types=("CrossAttnDownBlock2D",) * plain + ("DownBlock2D",),
            up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * plain,
            cross_attention_dim=self.text,
            attention_head_dim=self.heads,
            norm_num_groups=self.groups,
        )

    def initial(self, task: TextToImage) -> nn.Module:
        """The checkpoint's U-Net, or a random one; of an original's form a random one, or that of its base."""
        if self.form:
            return self.build(task) if self.base is None else self.base.initial(task)
        return self.build(task) if self.source is None else self._unet(self.source)

    def finished(self, task: TextToImage) -> nn.Module:
        """The checkpoint's U-Net as it is."""
        return super().finished(task) if self.source is None else self._unet(self.source)

    def _unet(self, source: str) -> nn.Module:
        return self._load(source, _diffusers().UNet2DConditionModel, "unet")

    def reading_as(self, source: str, revision: str | None, base: Model[TextToImage] | None = None) -> StableDiffusion:
        """As of every model, with the original's own text encoder and VAE."""
        model = self.pretrained(source, revision)
        model.form, model.base = True, base
        return model

    def pretrained(self, source: str | None = None, revision: str | None = None) -> StableDiffusion:
        """This model from a folder in diffusers' layout, or from a hub id at a revision; raises MubenchError where it cannot."""
        source = source or self.hub
        revision = revision or (self.revision if source == self.hub else None)
        if source is None or (revision is None and not Path(source).is_dir()):
            raise MubenchError(
                f"model {self.name}: {source!r} is not here, and as a hub id needs a revision (id@commit), so that everyone loads the same weights."
            )
        model = copy.copy(self)
        model.source, model.revision = source, revision
        return model

    def version_for(self, task: type[Task], from_checkpoint: bool) -> int:
        """From a checkpoint one more than from random weights: half-precision files were not read as float32."""
        return self.version + from_checkpoint

    # What the network reads

    def encode(self, task: TextToImage, columns: Columns) -> Columns:
        """``latents`` (B, 4, h, w) of the pictures and ``captions`` (B, L, D), both computed once for all of the task's."""
        picture, text = columns["picture"], columns["text"]
        if picture.is_meta:
            shape = (len(text), task.max_length, self.text)
            return {
                "latents": torch.zeros(len(picture), *self.latent_shape(task), device="meta"),
                "captions": torch.zeros(shape, device="meta"),
            }
        return {"latents": self.latents(task, picture), "captions": self.captions(task, text)}

    def latent_shape(self, task: TextToImage) -> tuple[int, int, int]:
        """(channels, h, w) of a picture's latents."""
        side = self.side // 2 ** (len(self.encoder_widths) - 1)
        return (4, side, side)

    def latents(self, task: TextToImage, numbers: Tensor) -> Tensor:
        """The mean of the autoencoder's posterior for these pictures, scaled to unit variance; kept in the cache."""
        table = self._table(task, "latents", [self.side], lambda: self._encoded(task))
        return table.take(numbers.cpu()).to(numbers.device)

    def captions(self, task: TextToImage, numbers: Tensor) -> Tensor:
        """The text encoder's last hidden state for these captions; kept in the cache."""
        table = self._table(task, "captions", [task.max_length], lambda: self._read(task))
        return table.take(numbers.cpu()).to(numbers.device)

    def decoded(self, task: TextToImage, latents: Tensor) -> Tensor:
        """Latents as pictures, uint8 (N, 3, size, size), on the CPU."""
        autoencoder = self.frozen().autoencoder.to(latents.device)
        pixels = autoencoder.decode(latents / autoencoder.config.scaling_factor).sample
        pixels = nn.functional.interpolate(pixels, size=task.size, mode="bilinear", antialias=True)
        return ((pixels.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu()

    def frozen(self) -> Frozen:
        """The autoencoder and the text encoder, loaded once a process."""
        return _frozen(self.name, self.source, self.revision)

    @torch.no_grad()
    def _encoded(self, task: TextToImage) -> Iterator[Row]:
        autoencoder = self.frozen().autoencoder
        for place in torch.arange(len(task.pictures)).split(8):
            pixels = task.pictures.take(place).float() / 127.5 - 1
            if pixels.shape[-1] != self.side:
                pixels = nn.functional.interpolate(pixels, size=self.side, mode="bilinear", antialias=True)
            latents = autoencoder.encode(pixels).latent_dist.mode() * autoencoder.config.scaling_factor
            for number, row in zip(place.tolist(), latents.numpy()):
                yield {"value": row, "source_index": number}

    @torch.no_grad()
    def _read(self, task: TextToImage) -> Iterator[Row]:
        encoder = self.frozen().text_encoder
        reader = Reader(encoder.config.vocab_size, (), self._tokenizer())
        ids = reader.tokens(task.name, task.texts, task.max_length).ids.long()
        for place in torch.arange(len(ids)).split(32):
            for number, row in zip(place.tolist(), encoder(input_ids=ids[place]).last_hidden_state.numpy()):
                yield {"value": row, "source_index": number}

    def _tokenizer(self) -> str | None:
        """The folder of the checkpoint's tokenizer, fetched where the checkpoint is the hub's; None without a checkpoint."""
        if self.source is None:
            return None
        if Path(self.source).is_dir():
            return str(Path(self.source) / "tokenizer")
        from huggingface_hub import snapshot_download

        try:
            return str(
                Path(snapshot_download(self.source, revision=self.revision, allow_patterns="tokenizer/*")) / "tokenizer"
            )
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise MubenchError(
                f"model {self.name}: tokenizer of {self.source!r} cannot be fetched: {reason}"
            ) from error

    def _table(self, task: TextToImage, what: str, of: list, rows: Any) -> Any:
        kept = task.texts.tokens
        key = (what, self.name, self.source, self.revision)
        if key not in kept:
            made_from = [
                what,
                1,
                self.name,
                self.source,
                self.revision,
                [files_of(f"{self.source}/{part}") for part in ("vae", "text_encoder", "tokenizer") if self.source],
                task.name,
                task.texts.sha256,
                task.pictures.sha256,
                of,
            ]
            kept[key] = converted(f"{what}-{task.name}", made_from, rows).mapped["value"]
        return kept[key]

    def _place(self, source: str, part: str) -> dict[str, Any]:
        folder = Path(source).is_dir()
        return {
            "pretrained_model_name_or_path": source,
            "subfolder": part,
            "revision": None if folder else self.revision,
        }

    def _load(self, source: str, loader: Any, part: str) -> nn.Module:
        try:
            network = loader.from_pretrained(**self._place(source, part), use_safetensors=True)
        except MemoryError:
            raise
        except Exception as error:  # what damaged files raise is any of many
            raise MubenchError(
                f"model {self.name}: {part} of {source!r} cannot be loaded from safetensors: {reason_of(error)}"
            ) from error
        return network.float()


@functools.lru_cache(maxsize=1)
def _frozen(name: str, source: str | None, revision: str | None) -> Frozen:
    from transformers import CLIPTextConfig, CLIPTextModel

    from mubench_ray.models.base import MODELS

    model = MODELS.get(name)
    if not isinstance(model, StableDiffusion):
        raise MubenchError(f"model {name} is no Stable Diffusion: it has no frozen parts.")
    diffusers = _diffusers()
    if source is not None:
        model = model.pretrained(source, revision)
        parts = model._load(source, diffusers.AutoencoderKL, "vae"), model._load(source, CLIPTextModel, "text_encoder")
    else:
        blocks = len(model.encoder_widths)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive("frozen", name))
            autoencoder = diffusers.AutoencoderKL(
                down_block_types=("DownEncoderBlock2D",) * blocks,
                up_block_types=("UpDecoderBlock2D",) * blocks,
                block_out_channels=model.encoder_widths,
                layers_per_block=model.encoder_layers,
                latent_channels=4,
                norm_num_groups=model.groups,
                sample_size=model.side,
            )
            text_encoder = CLIPTextModel(
                CLIPTextConfig(
                    vocab_size=model.vocabulary,
                    hidden_size=model.text,
                    intermediate_size=4 * model.text,
                    num_hidden_layers=model.text_layers,
                    num_attention_heads=model.text_heads,
                    bos_token_id=2,
                    eos_token_id=3,
                )
            )
        parts = autoencoder, text_encoder
    return Frozen(*(part.eval().requires_grad_(False) for part in parts))


def _diffusers() -> Any:
    try:
        import diffusers
    except ImportError as error:
        raise MubenchError("Stable Diffusion needs the package diffusers: pip install diffusers.") from error
    return diffusers


register(
    "stable-diffusion-tiny",
    StableDiffusion(
        (16, 32),
        1,
        4,
        32,
        32,
        groups=8,
        encoder_widths=(16, 32),
        encoder_layers=1,
        text_layers=2,
        text_heads=2,
        vocabulary=1000,
    ),
)
register(
    "stable-diffusion-1.4",
    StableDiffusion(
        (320, 640, 1280, 1280),
        2,
        8,
        768,
        512,
        hub="CompVis/stable-diffusion-v1-4",
        revision="133a221b8aa7292a167afc5127cb63fb5005638b",
    ),
    "stable-diffusion",
    "sd-1.4",
)
