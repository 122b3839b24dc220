"""Tasks that draw a picture from a caption: latent diffusion, learnt by predicting noise (Rombach et al. 2022, arXiv 2112.10752)."""

from __future__ import annotations

import functools
import hashlib
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mubench_ray.errors import DataError, MubenchError
from mubench_ray.randomness import derive
from mubench_ray.tasks.base import Batch, Columns, Examples
from mubench_ray.tasks.generated_pictures import clip_scores, clip_source, recognised
from mubench_ray.tasks.text import TextTask

#: Where a batch keeps the noise that was drawn for it, so that teacher and student see the same.
NOISE = 0


@functools.cache
def noise_schedule() -> Any:
    """The forward process of Stable Diffusion: 1,000 steps, betas scaled-linear from .00085 to .012."""
    try:
        from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
    except ImportError as error:
        raise MubenchError("Text-to-image needs the package diffusers: pip install diffusers.") from error
    options = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False}
    with torch.device("cpu"):  # also where the first to ask counts FLOs on the meta device
        return DDPMScheduler(num_train_timesteps=1000, **options)


def drawing_schedule(steps: int) -> Any:
    """DDIM's backward process in so many steps."""
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    schedule: Any = DDIMScheduler.from_config(noise_schedule().config, set_alpha_to_one=False, steps_offset=1)
    schedule.set_timesteps(steps)
    return schedule


class Pictures:
    """The pictures of a task, numbered through the sets that hold them in column ``image``."""

    def __init__(self, *sets: Examples) -> None:
        self.sets = sets

    def __len__(self) -> int:
        return sum(map(len, self.sets))

    def take(self, numbers: Tensor) -> Tensor:
        """The pictures with these numbers, uint8 (len(numbers), 3, size, size)."""
        taken: Tensor | None = None
        first = 0
        for part in self.sets:
            own = ((numbers >= first) & (numbers < first + len(part))).nonzero().flatten()
            images = part.take(numbers[own] - first)["image"]
            taken = torch.empty(len(numbers), *images.shape[1:], dtype=torch.uint8) if taken is None else taken
            taken[own] = images
            first += len(part)
        if taken is None:
            raise ValueError("there are no sets to take pictures from")
        return taken

    @functools.cached_property
    def sha256(self) -> str:
        """Hash of all pictures."""
        digest = hashlib.sha256()
        for numbers in torch.arange(len(self)).split(256):
            digest.update(self.take(numbers).numpy().tobytes())
        return digest.hexdigest()


class TextToImage(TextTask):
    """Captions in column ``text`` and pictures in ``picture`` (int64, numbers of the task's texts and pictures), with the class that a classifier
    should recognise in ``labels``.

    A model's inputs hold ``latents`` (B, C, h, w), the picture as its autoencoder sees it, and ``captions`` (B, L, D), the caption as its text encoder
    reads it; both are frozen and no part of the network, which predicts the noise. An example's loss is the mean squared error of that prediction at a
    drawn step. A batch draws its step and noise once, whoever predicts; an evaluation draws the same for the same rows.
    """

    kind = "text to image"
    modality = "caption + picture"
    reads_targets = True
    pretrained_original = True
    classes: ClassVar[int]
    size: ClassVar[int]
    max_length = 77
    evaluation_batch = 16
    #: Captions of a set that pictures are drawn for, and steps of the drawing.
    judged = 32
    drawing_steps: ClassVar[int] = 50
    _pictures: Pictures | None = None
    _train: Examples | None = None

    @property
    def pictures(self) -> Pictures:
        """All pictures; raises DataError before ``load``."""
        if self._pictures is None:
            raise DataError(f"task {self.name}: its pictures are there only after load().")
        return self._pictures

    def keep(self, captions: list[str], pictures: Pictures, train: Examples) -> None:
        """Called by ``load`` with all captions, all pictures, and D, from which relabelling draws."""
        self.keep_texts(captions, train.columns["text"].tolist())
        self._pictures, self._train = pictures, train
        self._by_class = torch.argsort(train.labels, stable=True)
        counts = train.labels.bincount(minlength=self.classes)
        self._first, self._counts = counts.cumsum(0) - counts, counts

    def blank(self, rows: int) -> Columns:
        """Caption 0, picture 0, class 0."""
        return {name: torch.zeros(rows, dtype=torch.int64) for name in ("text", "picture", "labels")} | {
            "index": torch.arange(rows)
        }

    def outputs(self, network: nn.Module, batch: Batch) -> Tensor:
        """The predicted noise, (B, C, h, w)."""
        latents = batch.inputs["latents"]
        if NOISE not in batch.cache:
            steps = torch.randint(noise_schedule().config.num_train_timesteps, (len(batch),))
            batch.cache[NOISE] = steps.to(latents.device), torch.randn(latents.shape, device="cpu").to(latents.device)
        steps, noise = batch.cache[NOISE]
        mixed = _mixed(latents, noise, steps)
        return network(mixed, steps, encoder_hidden_states=batch.inputs["captions"]).sample

    def losses(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Mean squared error of the predicted noise, (B,)."""
        _, noise = batch.cache[NOISE]
        return F.mse_loss(outputs.float(), noise, reduction="none").mean((1, 2, 3))

    def log_probs(self, outputs: Any, batch: Batch) -> Tensor:
        """There are none: raises MubenchError."""
        raise MubenchError(f"{self.name} predicts noise, not probabilities; this method needs probabilities.")

    def divergence(self, teacher: Tensor, student: Tensor, batch: Batch) -> Tensor:
        """KL between Gaussians of unit variance around two predictions of the noise, a pixel: half the mean squared difference, (B,)."""
        return F.mse_loss(student.float(), teacher.float(), reduction="none").mean((1, 2, 3)) / 2

    def relabel(self, batch: Batch, draw: Tensor, keep_true: bool) -> Batch:
        """The picture of an example of D, uniform over all of them (``keep_true``) or over those of other classes."""
        if self._train is None:
            raise ValueError(f"task {self.name}: relabel needs load() first, which knows D's pictures")
        first, counts = (part[batch["labels"].cpu()] for part in (self._first, self._counts))
        choices = torch.full_like(counts, len(self._train)) if keep_true else len(self._train) - counts
        place = (draw.cpu() * choices).long().minimum(choices - 1)
        place = place if keep_true else torch.where(place < first, place, place + counts)
        picked = self._train.columns["picture"][self._by_class[place]]
        return batch.replace(picture=picked.to(batch["picture"].device))

    def observe(self, outputs: Tensor, batch: Batch) -> Columns:
        """The loss. Whether a picture is right shows only once it is drawn (see ``judge``): the rest is NaN."""
        loss = self.losses(outputs, batch).double()
        nothing = torch.full_like(loss, torch.nan)
        return {"loss": loss, "correct": nothing, "confidence": nothing, "entropy": nothing}

    @torch.no_grad()
    def judge(self, model: Any, network: nn.Module, columns: Columns, device: str = "cpu") -> dict[str, np.ndarray]:
        """``generated_correct``: whether a classifier trained on the real pictures sees the class in what is drawn for each caption; and
        ``clip_score`` in [0, 1] where MUBENCH_CLIP names a CLIP model."""
        drawn = self.draw(model, network, columns, device)
        found = {"generated_correct": (recognised(self, drawn) == columns["labels"].cpu()).double().numpy()}
        if (source := clip_source()) is not None:
            captions = [self.texts.content[number] for number in columns["text"].tolist()]
            found["clip_score"] = clip_scores(drawn, captions, source).double().numpy()
        return found

    def draw(self, model: Any, network: nn.Module, columns: Columns, device: str = "cpu") -> Tensor:
        """A picture for each caption, uint8 (N, 3, size, size), by DDIM (Song et al. 2021, arXiv 2010.02502) from the same noise every time."""
        captions = model.captions(self, columns["text"]).to(device)
        generator = torch.Generator().manual_seed(derive("draw", self.name))
        steps = drawing_schedule(self.drawing_steps)
        drawn = []
        for part in captions.split(self.evaluation_batch):
            latents = torch.randn((len(part), *model.latent_shape(self)), generator=generator).to(device)
            for step in steps.timesteps:
                noise = network(latents, step.to(device), encoder_hidden_states=part).sample
                latents = steps.step(noise.float(), step, latents).prev_sample
            drawn.append(model.decoded(self, latents))
        return torch.cat(drawn)


def _mixed(latents: Tensor, noise: Tensor, steps: Tensor) -> Tensor:
    """The latents with noise as the forward process has it at these steps."""
    if latents.is_meta:
        return latents + noise
    return noise_schedule().add_noise(latents, noise, steps)
