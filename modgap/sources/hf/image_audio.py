"""Transformers models of images or audio as sources; their tokens are patches of images or frames of audio.

Their inputs are read from the models' preprocessing files. The classes of models that recognize speech frame by frame
(CTC) are characters.
"""

import functools
import json
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoFeatureExtractor, AutoImageProcessor

from modgap.errors import InputError, UsageError
from modgap.sources.hf.parts import BaseHead, Encoded, Logits, encoded_tokens, encoder_path, model_arguments, split_stem
from modgap.sources.hf.spec import PREPROCESSING, HfSpec, input_size_error
from modgap.sources.inputs import AudioInput, Batch, ImageInput, Input, masked_mean, without_class
from modgap.sources.source import Parts, Source
from modgap.sources.splitting import Pooled, noise, replace_modules, verify_parts
from modgap.storage.damaged_files import one_line_errors
from modgap.storage.limits import IMAGE_PIXELS

RESAMPLING = {0: "nearest", 2: "bilinear", 3: "bicubic"}
FALLBACK_RESAMPLING = "bicubic"
"""Replacement of Lanczos and other kinds of resampling that torch does not have."""
DEFAULT_RESAMPLING, MOST_RESAMPLING = 2, 5
"""Pillow's numbers of bilinear resampling, for files that state none, and of its last kind."""
NOISE_SECONDS = 1


def image_input(spec: HfSpec, config: Any, input_size: int | None) -> ImageInput:
    """Return the model's preprocessing of images, without its crop.

    Raises:
        InputError: When its file is missing or damaged, or needs a step that is not supported.
    """
    folder = spec.files.require(PREPROCESSING, "image preprocessing")
    with one_line_errors(f"transformers cannot read the image preprocessing of {spec.name}"):
        processor = AutoImageProcessor.from_pretrained(folder, trust_remote_code=False)
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
    value = record.get("resample")
    number = DEFAULT_RESAMPLING if value is None else value
    if not isinstance(number, int) or number not in range(MOST_RESAMPLING + 1):
        raise InputError(
            f"The image preprocessing of {spec.name} has resample {value!r}. Expected a number from 0 to "
            f"{MOST_RESAMPLING}, as Pillow has for its kinds of resampling."
        )
    return ImageInput(size, mean, sd, RESAMPLING.get(number, FALLBACK_RESAMPLING))


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
        extractor = AutoFeatureExtractor.from_pretrained(folder, trust_remote_code=False)
        # Extractors like Whisper's have chunks of one length, for which alone the model has positions.
        padding = "max_length" if hasattr(extractor, "chunk_length") else True
        return AudioInput(extractor, int(extractor.sampling_rate), padding)


def noise_batch(source_input: Input) -> Batch:
    """Return a batch of one sample of noise."""
    if isinstance(source_input, ImageInput):
        return noise(1, len(source_input.mean), *source_input.size)
    assert isinstance(source_input, AudioInput)
    return source_input.batch([noise(NOISE_SECONDS * source_input.rate).numpy()], torch.device("cpu"))


WHOLE_IMAGE = ("resize", "the image is not cropped, unlike in the model's preprocessing")


def image_audio_source(
    spec: HfSpec, model: Any, kind: str, family: str, input_size: int | None, *, pooler: bool
) -> Source:
    """Build a source from a classifier, or a bare encoder, of images or audio.

    Args:
        spec: The model's record.
        model: The loaded model.
        kind: Kind of the input, `image` or `audio`.
        family: Family of the model; `encoder` for a model without a head.
        input_size: Height and width of images in pixels; None for the model's default.
        pooler: True if the weights contain those of the model's pooler.

    Raises:
        InputError: When the preprocessing cannot be read.
        UsageError: When the model takes no images of this size.
    """
    is_image = kind == "image"
    source_input = image_input(spec, model.config, input_size) if is_image else audio_input(spec, input_size)
    key = model.main_input_name
    sample = noise_batch(source_input)
    is_bare = family == "encoder"
    extra = find_size_options(model, key, sample, input_size)
    base = "" if is_bare else encoder_path(model)
    pool = _pooling(model, base, key, extra, pooler=pooler) if is_bare else _before_last_layer(model, base, key, extra)
    full_model: nn.Module = Pooled(pool, model) if is_bare else Logits(model, key, extra)

    def split_model() -> Parts:
        embedder, encoder = split_stem(model.get_submodule(base), key, sample, extra)
        head = Pooled(_pooled_output(pooler)) if is_bare else BaseHead(model, base)
        return Parts(embedder, encoder, head, encoded_tokens)

    split = functools.partial(verify_parts, split_model, full_model, sample, spec.name)
    names = () if is_bare else tuple(str(model.config.id2label[c]) for c in range(model.config.num_labels))
    notes = (WHOLE_IMAGE,) if isinstance(source_input, ImageInput) else ()
    has_attention = any(hasattr(model.config, one) for one in ("num_attention_heads", "num_heads", "vision_config"))
    return Source(full_model, source_input, names, not has_attention, split, pool, notes)


def find_size_options(model: Any, key: str, sample: Batch, input_size: int | None) -> dict[str, bool]:
    """Return the arguments with which the model takes images of this size.

    Raises:
        UsageError: When the model takes no images of this size.
    """
    if input_size is None:
        return {}
    for extra in ({}, {"interpolate_pos_encoding": True}):
        try:
            with torch.no_grad():
                model(**{key: sample}, **extra)
        except (RuntimeError, TypeError, ValueError):
            continue
        return extra
    raise UsageError(f"{type(model).__name__} takes no images of {input_size} pixels. Leave `input_size` out.")


def _pooled_output(pooler: bool) -> Callable[[Encoded], Tensor]:
    """Return a function that pools an encoder's output: by its pooler if that has weights, else by the mean."""

    def pool(features: Encoded) -> Tensor:
        pooled: Tensor | None = getattr(features.output, "pooler_output", None) if pooler else None
        return encoded_tokens(features).mean(dim=1) if pooled is None else pooled.flatten(1)

    return pool


def _pooling(model: Any, base: str, key: str, extra: dict[str, bool], *, pooler: bool) -> Callable[[Batch], Tensor]:
    encoder = model.get_submodule(base)
    pool = _pooled_output(pooler)

    def features(batch: Batch) -> Tensor:
        return pool(Encoded(encoder(**model_arguments(batch, key), **extra)))

    return features


def _before_last_layer(model: Any, base: str, key: str, extra: dict[str, bool]) -> Callable[[Batch], Tensor]:
    """Return a function to the features on which the head's only linear layer acts, or else to the encoder's."""
    last = [
        path
        for path, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and module.out_features == model.config.num_labels
        and not path.startswith(f"{base}.")
    ]
    if len(last) != 1:
        return _pooling(model, base, key, extra, pooler=True)
    return Logits(replace_modules(model, {last[0]: nn.Identity()}), key, extra)


def speech_source(spec: HfSpec, model: Any, input_size: int | None) -> Source:
    """Build a source from a model with one vector of logits for each frame of a sound.

    The logits of a sound are the mean over its frames, without those of padding, and without the blank, the class that
    stands for no character.

    Args:
        spec: The model's record.
        model: The loaded model.
        input_size: Must be None, because sound has no size in pixels.

    Raises:
        InputError: When the preprocessing cannot be read.
        UsageError: When an input size is given.
    """
    source_input = audio_input(spec, input_size)
    sample = noise_batch(source_input)
    base = encoder_path(model)
    key = model.main_input_name
    blank = model.config.pad_token_id

    def logits(batch: Batch) -> Tensor:
        arguments = model_arguments(batch, key)
        return _mean_logits(model, model(**arguments).logits, arguments, blank)

    def features(batch: Batch) -> Tensor:
        arguments = model_arguments(batch, key)
        hidden = encoded_tokens(Encoded(model.get_submodule(base)(**arguments)))
        return masked_mean(hidden, _frame_mask(model, hidden, arguments))

    def split_model() -> Parts:
        embedder, encoder = split_stem(model.get_submodule(base), key, sample, {})
        return Parts(embedder, encoder, _FrameHead(BaseHead(model, base), model, blank), encoded_tokens)

    full_model = Pooled(logits, model)
    split = functools.partial(verify_parts, split_model, full_model, sample, spec.name)
    names = _class_names(spec, model.config.vocab_size, blank)
    return Source(full_model, source_input, names, False, split, features)


def _frame_mask(model: Any, frames: Tensor, arguments: dict[str, Tensor]) -> Tensor | None:
    """Return 1 for each frame (B, T) that is no padding; None without a mask of the waveforms."""
    mask = arguments.get("attention_mask")
    if mask is None:
        return None
    reduced: Tensor = model._get_feature_vector_attention_mask(frames.shape[1], mask)
    return reduced


def _mean_logits(model: Any, frames: Tensor, arguments: dict[str, Tensor], blank: int | None) -> Tensor:
    """Return the mean of logits (B, T, C) over the frames, without those of padding, and without one class."""
    logits = masked_mean(frames, _frame_mask(model, frames, arguments))
    return logits if blank is None else without_class(logits, blank)


class _FrameHead(nn.Module):
    """The head of the model, from an encoder's output to logits (B, C)."""

    def __init__(self, head: nn.Module, model: Any, blank: int | None) -> None:
        super().__init__()
        self.head = head
        self.blank = blank
        # The model only computes masks here. Its encoder would be a second copy of the encoder's parameters.
        self.__dict__["mask_model"] = model

    def forward(self, features: Encoded) -> Tensor:
        return _mean_logits(self.__dict__["mask_model"], self.head(features), features.arguments, self.blank)


def _class_names(spec: HfSpec, n_classes: int, blank: int | None) -> tuple[str, ...]:
    """Return the characters of vocab.json in the order of the logits, or numbers where there is no such file."""
    path = spec.files.require(PREPROCESSING, "audio preprocessing") / "vocab.json"
    try:
        vocabulary = {int(number): str(token) for token, number in json.loads(path.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        vocabulary = {}
    return tuple(vocabulary.get(c, str(c)) for c in range(n_classes) if c != blank)
