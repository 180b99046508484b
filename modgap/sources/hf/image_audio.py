"""Sources of transformers whose tokens come from a stem: images in patches, sound in frames."""

from typing import Any

import torch
from torch import Tensor, nn

from modgap.errors import UsageError
from modgap.sources.hf.parts import BaseHead, Encoded, Logits, Pooled, encoded_tokens, encoder_path, move_batch
from modgap.sources.hf.preprocessing import audio_input, image_input, noise_batch
from modgap.sources.hf.spec import HfSpec
from modgap.sources.hf.stem_split import split_stem
from modgap.sources.inputs import ImageInput, Input
from modgap.sources.source import Parts, Source
from modgap.sources.splitting import replace_modules, verify_parts

__all__ = ["WHOLE_IMAGE", "find_size_options", "image_audio_source"]

WHOLE_IMAGE = ("resize", "the whole image is kept, without the crop of the model's own preprocessing")


def image_audio_source(
    spec: HfSpec, model: Any, kind: str, family: str, input_size: int | None, *, pooler: bool
) -> Source:
    """A classifier, or a bare encoder, of images or sound.

    Args:
        spec: The model's record.
        model: The model.
        kind: `image` or `audio`.
        family: `encoder` for one without a head.
        input_size: Height and width in pixels; None for the model's own.
        pooler: Whether the model's pooler, if any, has its weights.

    Raises:
        InputError: When the preprocessing cannot be read.
        UsageError: When the model takes no images of this size.
    """
    own: Input = image_input(spec, model.config, input_size) if kind == "image" else audio_input(spec, input_size)
    key = model.main_input_name
    sample = noise_batch(own)
    bare = family == "encoder"
    extra = find_size_options(model, key, sample, input_size)
    base = "" if bare else encoder_path(model)
    pool = _pooling(model, base, key, extra, pooler=pooler) if bare else _before_last_layer(model, base, key, extra)
    whole: nn.Module = Pooled(pool, model) if bare else Logits(model, key, extra)

    def split() -> Parts:
        def make() -> Parts:
            embedder, encoder = split_stem(model.get_submodule(base), key, sample, extra)
            head = Pooled(_pooled_output(pooler)) if bare else BaseHead(model, base)
            return Parts(embedder, encoder, head, encoded_tokens)

        return verify_parts(make, whole, move_batch(sample, model.device), spec.name)

    names = () if bare else tuple(str(model.config.id2label[c]) for c in range(model.config.num_labels))
    notes = (WHOLE_IMAGE,) if isinstance(own, ImageInput) else ()
    return Source(whole, own, names, _convolutional(model.config), split, pool, notes)


def _convolutional(config: Any) -> bool:
    return not any(hasattr(config, name) for name in ("num_attention_heads", "num_heads", "vision_config"))


def find_size_options(model: Any, key: str, sample: Any, input_size: int | None) -> dict:
    """What the model must be called with to take images of this size.

    Raises:
        UsageError: When it takes none.
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
    raise UsageError(f"{type(model).__name__} takes no images of {input_size} pixels; leave out --input-size")


def _pooled_output(pooler: bool):
    """Pooled features of what an encoder gave: its pooler's where it has its weights, else the mean of its tokens."""

    def pool(features: Encoded) -> Tensor:
        pooled = getattr(features.output, "pooler_output", None) if pooler else None
        return encoded_tokens(features).mean(dim=1) if pooled is None else pooled.flatten(1)

    return pool


def _pooling(model: Any, base: str, key: str, extra: dict, *, pooler: bool):
    encoder, pool = model.get_submodule(base), _pooled_output(pooler)

    def features(batch: Any) -> Tensor:
        given = {key: batch} if isinstance(batch, torch.Tensor) else dict(batch)
        return pool(Encoded(encoder(**given, **extra)))

    return features


def _before_last_layer(model: Any, base: str, key: str, extra: dict):
    """The features that the head's last layer, if it has just one, is linear on; else the encoder's own."""
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
