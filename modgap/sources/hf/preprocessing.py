"""What a transformers model of images or sound takes, by its own files of preprocessing."""

from typing import Any

import torch
from transformers import AutoFeatureExtractor, AutoImageProcessor

from modgap.errors import InputError
from modgap.sources.hf.files import PREPROCESSING
from modgap.sources.hf.library import one_line_errors
from modgap.sources.hf.spec import HfSpec, input_size_error
from modgap.sources.inputs import AudioInput, ImageInput, Input

__all__ = ["audio_input", "image_input", "noise_batch"]

RESAMPLING = {0: "nearest", 2: "bilinear", 3: "bicubic"}
NEAREST_RESAMPLING = "bicubic"
"""For Lanczos and others that torch does not have."""
NOISE_SECONDS = 1


def image_input(spec: HfSpec, config: Any, input_size: int | None) -> ImageInput:
    """What the model's own preprocessing does to an image, without its crop.

    Raises:
        InputError: When its file is missing, broken, or asks for what is not done here.
    """
    folder = spec.files.require(PREPROCESSING, "image preprocessing")
    with one_line_errors(f"transformers cannot read the image preprocessing of {spec.name}"):
        record = AutoImageProcessor.from_pretrained(folder, trust_remote_code=False).to_dict()
        channels = getattr(config, "num_channels", 3)
        size = (input_size, input_size) if input_size else _pixels(config, record)
        mean, sd = _scaling(record, channels)
    if record.get("rescale_offset") or record.get("include_top"):
        raise InputError(f"{spec.name} scales images in a way that is not known here")
    return ImageInput(size, mean, sd, RESAMPLING.get(int(record.get("resample", 2)), NEAREST_RESAMPLING))


def _pixels(config: Any, record: dict) -> tuple[int, int]:
    size = getattr(getattr(config, "vision_config", config), "image_size", None)
    size = size or record.get("crop_size") or record["size"]
    if isinstance(size, dict):
        edge = size.get("shortest_edge")
        size = (edge, edge) if edge else (size["height"], size["width"])
    return (int(size), int(size)) if isinstance(size, int) else (int(size[0]), int(size[1]))


def _scaling(record: dict, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and sd for values in [0, 1], whatever range the model's own scaling ends in."""
    factor = record.get("rescale_factor", 1 / 255) if record.get("do_rescale", True) else 1.0
    normalized = record.get("do_normalize", True)
    mean = _each(record["image_mean"], channels) if normalized else (0.0,) * channels
    sd = _each(record["image_std"], channels) if normalized else (1.0,) * channels
    top = 255 * factor
    if abs(top - 1) < 1e-6:
        return mean, sd
    return tuple(m / top for m in mean), tuple(s / top for s in sd)


def _each(value: Any, channels: int) -> tuple[float, ...]:
    values = tuple(map(float, value)) if isinstance(value, list | tuple) else (float(value),) * channels
    if len(values) != channels:
        raise ValueError(f"{len(values)} means or sds for {channels} channels")
    return values


def audio_input(spec: HfSpec, input_size: int | None) -> AudioInput:
    """What the model's own feature extractor makes of a waveform.

    Raises:
        InputError: When its file is missing or broken.
        UsageError: When an input size is asked for.
    """
    if input_size:
        raise input_size_error(spec.name, "sound")
    folder = spec.files.require(PREPROCESSING, "sound preprocessing")
    with one_line_errors(f"transformers cannot read the sound preprocessing of {spec.name}"):
        extractor = AutoFeatureExtractor.from_pretrained(folder, trust_remote_code=False)
        return AudioInput(extractor, int(extractor.sampling_rate))


def noise_batch(own: Input) -> Any:
    """A batch of one, of noise."""
    generator = torch.Generator().manual_seed(0)
    if isinstance(own, ImageInput):
        return torch.randn(1, len(own.mean), *own.size, generator=generator)
    assert isinstance(own, AudioInput)
    return own.batch([torch.randn(NOISE_SECONDS * own.rate, generator=generator).numpy()], torch.device("cpu"))
