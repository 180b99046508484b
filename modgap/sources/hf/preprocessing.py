"""Inputs of transformers models for images and audio, read from the models' preprocessing files."""

import math
from typing import Any

import torch
from transformers import AutoFeatureExtractor, AutoImageProcessor

from modgap.errors import InputError
from modgap.limits import IMAGE_PIXELS
from modgap.sources.hf.files import PREPROCESSING
from modgap.sources.hf.library import one_line_errors
from modgap.sources.hf.spec import HfSpec, input_size_error
from modgap.sources.inputs import AudioInput, ImageInput, Input

__all__ = ["audio_input", "image_input", "noise_batch"]

RESAMPLING = {0: "nearest", 2: "bilinear", 3: "bicubic"}
NEAREST_RESAMPLING = "bicubic"
"""Replacement of Lanczos and other kinds of resampling that torch does not have."""
DEFAULT_RESAMPLING, MOST_RESAMPLING = 2, 5
NOISE_SECONDS = 1


def image_input(spec: HfSpec, config: Any, input_size: int | None) -> ImageInput:
    """Return the model's preprocessing of images, without its crop.

    Raises:
        InputError: When its file is missing or damaged, or needs a step that is not supported.
    """
    folder = spec.files.require(PREPROCESSING, "image preprocessing")
    with one_line_errors(f"transformers cannot read the image preprocessing of {spec.name}"):
        processor = AutoImageProcessor.from_pretrained(folder, trust_remote_code=False)  # type: ignore[no-untyped-call]
        record = processor.to_dict()
        channels = getattr(config, "num_channels", 3)
        size = (input_size, input_size) if input_size else _pixels(config, record)
        mean, sd = _scaling(record, channels)
    if math.prod(size) > IMAGE_PIXELS.value or min(size) < 1:
        raise InputError(
            f"{spec.name} takes images of {size[0]:,} x {size[1]:,} pixels by its configuration. Expected from 1 to "
            f"{IMAGE_PIXELS.value:,} pixels. {IMAGE_PIXELS.way_out(math.prod(size))}"
        )
    if record.get("rescale_offset") or record.get("include_top"):
        raise InputError(f"The image scaling of {spec.name} is not supported (rescale_offset or include_top).")
    return ImageInput(size, mean, sd, _resampling(record, spec.name))


def _resampling(record: dict[str, Any], name: str) -> str:
    """Return the name of the resampling, whose number is that of Pillow."""
    value = record.get("resample")
    number = DEFAULT_RESAMPLING if value is None else value
    if not isinstance(number, int) or number not in range(MOST_RESAMPLING + 1):
        raise InputError(
            f"The image preprocessing of {name} has resample {value!r}. Expected a number from 0 to {MOST_RESAMPLING}, "
            "as Pillow has for its kinds of resampling."
        )
    return RESAMPLING.get(number, NEAREST_RESAMPLING)


def _pixels(config: Any, record: dict[str, Any]) -> tuple[int, int]:
    size = getattr(getattr(config, "vision_config", config), "image_size", None)
    size = size or record.get("crop_size") or record["size"]
    if isinstance(size, dict):
        edge = size.get("shortest_edge")
        size = (edge, edge) if edge else (size["height"], size["width"])
    return (int(size), int(size)) if isinstance(size, int) else (int(size[0]), int(size[1]))


def _scaling(record: dict[str, Any], channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation for values in [0, 1], whatever range the model's scaling has."""
    factor = record.get("rescale_factor", 1 / 255) if record.get("do_rescale", True) else 1.0
    normalized = record.get("do_normalize", True)
    mean = _channel_values(record["image_mean"], channels) if normalized else (0.0,) * channels
    sd = _channel_values(record["image_std"], channels) if normalized else (1.0,) * channels
    largest = 255 * factor
    if abs(largest - 1) < 1e-6:
        return mean, sd
    return tuple(m / largest for m in mean), tuple(s / largest for s in sd)


def _channel_values(value: Any, channels: int) -> tuple[float, ...]:
    values = tuple(map(float, value)) if isinstance(value, list | tuple) else (float(value),) * channels
    if len(values) != channels:
        raise ValueError(f"{len(values)} means or standard deviations for {channels} channels")
    return values


def audio_input(spec: HfSpec, input_size: int | None) -> AudioInput:
    """Return the model's feature extractor of waveforms as its input.

    Raises:
        InputError: When its file is missing or damaged.
        UsageError: When an input size is given.
    """
    if input_size:
        raise input_size_error(spec.name, "audio")
    folder = spec.files.require(PREPROCESSING, "audio preprocessing")
    with one_line_errors(f"transformers cannot read the audio preprocessing of {spec.name}"):
        extractor = AutoFeatureExtractor.from_pretrained(folder, trust_remote_code=False)  # type: ignore[no-untyped-call]
        # Extractors like Whisper's have chunks of one length, for which alone the model has positions.
        padding = "max_length" if hasattr(extractor, "chunk_length") else True
        return AudioInput(extractor, int(extractor.sampling_rate), padding)


def noise_batch(source_input: Input) -> Any:
    """Return a batch of one sample of noise."""
    generator = torch.Generator().manual_seed(0)
    if isinstance(source_input, ImageInput):
        return torch.randn(1, len(source_input.mean), *source_input.size, generator=generator)
    assert isinstance(source_input, AudioInput)
    return source_input.batch(
        [torch.randn(NOISE_SECONDS * source_input.rate, generator=generator).numpy()], torch.device("cpu")
    )
