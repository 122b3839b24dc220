"""What lies between pictures or samples and a published network, as its ``preprocessor_config.json`` says: size, crop, filter, mean and deviation; rate,
normalisation and mel bands. The numbers are read with transformers' own classes; the work is done on whole batches, on the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mubench_ray.errors import MubenchError
from mubench_ray.models.places import located, quiet, reason_of

#: PIL's numbers of the filters that torch has, and its names for them.
FILTERS = {0: "nearest-exact", 2: "bilinear", 3: "bicubic"}
#: The filters by the names that people know.
SPOKEN = {"nearest-exact": "nearest", "bilinear": "bilinear", "bicubic": "bicubic"}
#: Image processors that resize, crop, scale and normalise and do nothing else, and those that choose the size in a way of their own.
PLAIN = ("ViT", "DeiT", "Bit", "CLIP", "Siglip", "MobileNetV1", "MobileNetV2", "VideoMAE")
OWN_SIZE = ("ConvNext", "Vilt")


@dataclass(frozen=True)
class PictureProcessor:
    """What is done to square pictures: resized to ``size`` (height, width), cut to ``crop`` about the middle, times ``factor``, less ``mean``, over ``std``.

    None leaves a step out. ``resample`` is torch's name of the filter.
    """

    size: tuple[int, int] | None = None
    resample: str = "bilinear"
    crop: tuple[int, int] | None = None
    factor: float = 1 / 255
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    @property
    def gives(self) -> tuple[int, int] | None:
        """Height and width of what comes out; None: as it went in."""
        return self.crop or self.size

    @property
    def channels(self) -> int | None:
        """Channels that the mean is for; None: any."""
        return len(self.mean) if self.mean is not None and len(self.mean) > 1 else None

    def __call__(self, pictures: Tensor) -> Tensor:
        """(..., C, H, W) of values 0 to 255 as float32 (..., C, *gives). Resized pictures are rounded to whole values, as PIL's are."""
        pixels = pictures.float()
        lead = pixels.shape[:-3]
        pixels = pixels.flatten(0, -4) if len(lead) != 1 else pixels
        if self.size is not None and tuple(pixels.shape[-2:]) != self.size:
            smooth = self.resample != "nearest-exact"
            # As PIL does: across, to whole values, then down, to whole values.
            for size in ((pixels.shape[-2], self.size[1]), self.size):
                pixels = F.interpolate(pixels, size=size, mode=self.resample, antialias=smooth).round().clamp(0, 255)
        if self.crop is not None:
            pixels = centre(pixels, self.crop)
        pixels = pixels * self.factor
        if self.mean is not None and self.std is not None:
            mean, std = (constant(values, pixels.device) for values in (self.mean, self.std))
            pixels = (pixels - mean) / std
        return pixels.unflatten(0, lead) if len(lead) != 1 else pixels

    def unlike(self, task: str, size: int, gives: str = "pictures") -> list[str]:
        """What the plan says of a task whose pictures are ``size`` px."""
        side = self.size
        if side is None or side == (size, size):
            return []
        way = "enlarged" if min(side) > size else "made smaller"
        return [
            f"{task}: {gives} are given at {size} px; the checkpoint's processor asks for {spoken(side)}: {way} ({SPOKEN[self.resample]})"
            + (f", then cut to {spoken(self.crop)}" if self.crop else "")
        ]


def spoken(size: tuple[int, int]) -> str:
    """A size in px."""
    return f"{size[0]} px" if size[0] == size[1] else f"{size[0]} x {size[1]} px"


def centre(pixels: Tensor, crop: tuple[int, int]) -> Tensor:
    """The middle (B, C, *crop) of pictures (B, C, H, W), with black around those that are smaller."""
    height, width = pixels.shape[-2:]
    down, across = max(crop[0] - height, 0), max(crop[1] - width, 0)
    if down or across:
        # transformers' share of an odd border goes above and to the left.
        pixels = F.pad(pixels, (-(-across // 2), across // 2, -(-down // 2), down // 2))
        height, width = pixels.shape[-2:]
    top, left = (height - crop[0]) // 2, (width - crop[1]) // 2
    return pixels[..., top : top + crop[0], left : left + crop[1]]


@lru_cache(maxsize=32)
def constant(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Values per channel, (C, 1, 1), once on a device."""
    return torch.tensor(values, device=device).view(-1, 1, 1)


@dataclass(frozen=True)
class SoundProcessor:
    """What a feature extractor reads: samples at ``rate`` Hz, scaled to mean 0 and variance 1 a recording where ``normalise``; of a spectrogram ``bands`` mel
    bands of ``seconds`` seconds."""

    rate: int
    normalise: bool
    bands: int | None = None
    seconds: float | None = None


def picture_processor(source: str, revision: str | None) -> PictureProcessor | None:
    """The image processor beside a checkpoint, or None where there is none. Raises MubenchError where it cannot be read or does what is not done here."""
    import transformers

    read = _read(transformers.AutoImageProcessor, source, revision)
    if read is None:
        return None
    kind = type(read).__name__.removesuffix("Pil").removesuffix("Fast")
    of = kind.removesuffix("ImageProcessor").removesuffix("VideoProcessor")

    def say(what: str) -> MubenchError:
        return MubenchError(f"{source!r}: its image processor ({kind}) {what}, which is not done here.")

    if of not in (*PLAIN, *OWN_SIZE):
        raise say("is of a kind that is not known")
    for flag in ("do_flip_channel_order", "do_reduce_labels", "rescale_offset", "do_thumbnail", "do_align_long_axis"):
        if getattr(read, flag, None):
            raise say(f"has {flag}")
    size, crop = (
        _square(read, name, flag, say) for name, flag in (("size", "do_resize"), ("crop_size", "do_center_crop"))
    )
    if of == "ConvNext" and size is not None and size[0] < 384:
        side = int(size[0] / read.crop_pct)
        size, crop = (side, side), size
    if of == "Vilt" and size is not None:
        height, width = (side // read.size_divisor * read.size_divisor for side in size)
        size = height, width
    given = getattr(read, "resample", None)
    resample = 2 if given is None or size is None else int(given)
    if resample not in FILTERS:
        raise say(f"resizes with filter {resample} of PIL")
    normalise = bool(getattr(read, "do_normalize", False))
    return PictureProcessor(
        size,
        FILTERS[resample],
        crop,
        float(read.rescale_factor) if getattr(read, "do_rescale", False) else 1.0,
        _values(read.image_mean) if normalise else None,
        _values(read.image_std) if normalise else None,
    )


def refuse_pictures(model: Any, processor: PictureProcessor | None, channels: int, size: int, only: int | None) -> None:
    """Raise MubenchError where a processor does not give the channels, or the one size, that a checkpoint's network reads of pictures of a task."""
    if channels not in (1, model.channels):
        raise MubenchError(
            f"model {model.name}: {model.source!r} reads {model.channels} channels, and the task's pictures have {channels}."
        )
    if processor is None:
        return
    if processor.channels not in (None, model.channels):
        raise MubenchError(
            f"model {model.name}: {model.source!r}: its preprocessor_config.json normalises {processor.channels} channels, its network reads {model.channels}."
        )
    gives = processor.gives or (size, size)
    if only is not None and gives != (only, only):
        raise MubenchError(
            f"model {model.name}: {model.source!r}: its preprocessor_config.json gives pictures of {spoken(gives)}, its network (config.json) reads {only} px."
        )


def unlike_pictures(
    model: Any, processor: PictureProcessor | None, task: str, size: int, what: str = "pictures"
) -> list[str]:
    """What a plan says of a task's pictures and a checkpoint's processor."""
    if processor is None:
        return [
            f"{model.source}: no preprocessor_config.json: {what} are normalised with {task}'s mean and deviation, "
            + (f"at {model.image_size} px" if model.image_size else f"at {size} px")
        ]
    return processor.unlike(task, size, what)


def sound_processor(source: str, revision: str | None) -> SoundProcessor | None:
    """The feature extractor beside a checkpoint, or None where there is none. Raises MubenchError where it cannot be read or is of an unknown kind."""
    import transformers

    read = _read(transformers.AutoFeatureExtractor, source, revision)
    if read is None:
        return None
    kind = type(read).__name__
    if kind == "Wav2Vec2FeatureExtractor":
        return SoundProcessor(int(read.sampling_rate), bool(read.do_normalize))
    if kind == "WhisperFeatureExtractor":
        if (read.n_fft, read.hop_length) != (400, 160):
            raise MubenchError(
                f"{source!r}: its feature extractor has windows of {read.n_fft} samples every {read.hop_length}; only 400 every 160 are done here."
            )
        return SoundProcessor(
            int(read.sampling_rate),
            bool(getattr(read, "do_normalize", False)),
            int(read.feature_size),
            float(read.chunk_length),
        )
    raise MubenchError(f"{source!r}: its feature extractor ({kind}) is of a kind that is not known here.")


def _read(loader: Any, source: str, revision: str | None) -> Any:
    """A processor beside a checkpoint, read with transformers; its code is never run."""
    place = located(source, revision)
    if "gguf_file" in place or not any(
        lies(source, revision, name) for name in ("preprocessor_config.json", "processor_config.json")
    ):
        return None
    try:
        with quiet():
            return loader.from_pretrained(**place, trust_remote_code=False)
    except MemoryError:
        raise
    except Exception as error:  # damaged JSON raises any of many
        raise MubenchError(f"{source!r}: its preprocessor_config.json cannot be read: {reason_of(error)}") from error


def lies(source: str, revision: str | None, name: str) -> bool:
    """Whether a file is beside published weights, in a folder or on the hub."""
    from transformers.utils.hub import cached_file

    return cached_file(source, name, revision=revision, _raise_exceptions_for_missing_entries=False) is not None


def _square(read: Any, name: str, flag: str, say: Any) -> tuple[int, int] | None:
    """(height, width) that a square picture gets by an entry of a processor."""
    if not getattr(read, flag, False):
        return None
    given = dict(getattr(read, name, None) or {})
    if given.get("height") and given.get("width"):
        return int(given["height"]), int(given["width"])
    if given.get("shortest_edge"):
        side = int(given["shortest_edge"])
        return side, side
    raise say(f"has {name} = {given}")


def _values(given: float | Sequence[float]) -> tuple[float, ...]:
    return tuple(map(float, given)) if isinstance(given, Sequence) else (float(given),)
