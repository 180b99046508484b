"""Transformers models of images or audio as sources; their tokens are patches of images or frames of audio."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from modgap.errors import UsageError
from modgap.sources.hf.parts import BaseHead, Encoded, Logits, Pooled, encoded_tokens, encoder_path, move_batch
from modgap.sources.hf.preprocessing import audio_input, image_input, noise_batch
from modgap.sources.hf.spec import HfSpec
from modgap.sources.hf.stem_split import split_stem
from modgap.sources.inputs import ImageInput
from modgap.sources.source import Parts, Source
from modgap.sources.splitting import replace_modules, verify_parts

__all__ = ["WHOLE_IMAGE", "find_size_options", "image_audio_source"]

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
        pooler: Whether the weights contain those of the model's pooler.

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

    def split() -> Parts:
        def split_model() -> Parts:
            embedder, encoder = split_stem(model.get_submodule(base), key, sample, extra)
            head = Pooled(_pooled_output(pooler)) if is_bare else BaseHead(model, base)
            return Parts(embedder, encoder, head, encoded_tokens)

        return verify_parts(split_model, full_model, move_batch(sample, model.device), spec.name)

    names = () if is_bare else tuple(str(model.config.id2label[c]) for c in range(model.config.num_labels))
    notes = (WHOLE_IMAGE,) if isinstance(source_input, ImageInput) else ()
    return Source(full_model, source_input, names, _convolutional(model.config), split, pool, notes)


def _convolutional(config: Any) -> bool:
    return not any(hasattr(config, name) for name in ("num_attention_heads", "num_heads", "vision_config"))


def find_size_options(model: Any, key: str, sample: Any, input_size: int | None) -> dict[str, Any]:
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
    raise UsageError(f"{type(model).__name__} takes no images of {input_size} pixels. Leave --input-size out.")


def _pooled_output(pooler: bool) -> Callable[[Encoded], Tensor]:
    """Return a function that pools an encoder's output: by its pooler if that has weights, else by the mean."""

    def pool(features: Encoded) -> Tensor:
        pooled: Tensor | None = getattr(features.output, "pooler_output", None) if pooler else None
        return encoded_tokens(features).mean(dim=1) if pooled is None else pooled.flatten(1)

    return pool


def _pooling(model: Any, base: str, key: str, extra: dict[str, Any], *, pooler: bool) -> Callable[[Any], Tensor]:
    encoder = model.get_submodule(base)
    pool = _pooled_output(pooler)

    def features(batch: Any) -> Tensor:
        arguments = {key: batch} if isinstance(batch, torch.Tensor) else dict(batch)
        return pool(Encoded(encoder(**arguments, **extra)))

    return features


def _before_last_layer(model: Any, base: str, key: str, extra: dict[str, Any]) -> Callable[[Any], Tensor]:
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
