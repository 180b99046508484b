"""Transformers models that recognize speech frame by frame (CTC) as sources; their classes are the characters."""

import json
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from modgap.sources.hf.files import PREPROCESSING
from modgap.sources.hf.parts import BaseHead, Encoded, encoded_tokens, encoder_path, masked_mean, move_batch
from modgap.sources.hf.preprocessing import audio_input, noise_batch
from modgap.sources.hf.spec import HfSpec
from modgap.sources.hf.stem_split import split_stem
from modgap.sources.source import Parts, Source
from modgap.sources.splitting import verify_parts

__all__ = ["speech_source"]


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
    full_model = _FrameLogits(lambda batch: model(**_arguments(batch, key)).logits, model, blank)

    def features(batch: Any) -> Tensor:
        hidden = encoded_tokens(Encoded(model.get_submodule(base)(**_arguments(batch, key))))
        return masked_mean(hidden, _frame_mask(model, hidden, _arguments(batch, key)))

    def split() -> Parts:
        def split_model() -> Parts:
            embedder, encoder = split_stem(model.get_submodule(base), key, sample, {})
            return Parts(embedder, encoder, _FrameHead(BaseHead(model, base), model, blank), encoded_tokens)

        return verify_parts(split_model, full_model, move_batch(sample, model.device), spec.name)

    names = _class_names(spec, model.config.vocab_size, blank)
    return Source(full_model, source_input, names, False, split, features)


def _arguments(batch: Any, key: str) -> dict[str, Any]:
    return {key: batch} if isinstance(batch, torch.Tensor) else dict(batch)


def _frame_mask(model: Any, frames: Tensor, arguments: dict[str, Any]) -> Tensor | None:
    """Return 1 for each frame (B, T) that is no padding; None without a mask of the waveforms."""
    mask = arguments.get("attention_mask")
    if mask is None:
        return None
    reduced: Tensor = model._get_feature_vector_attention_mask(frames.shape[1], mask)
    return reduced


def _without(logits: Tensor, blank: int | None) -> Tensor:
    """Return logits (B, C) without one class."""
    return logits if blank is None else torch.cat([logits[:, :blank], logits[:, blank + 1 :]], dim=1)


class _FrameLogits(nn.Module):
    """The complete model, from a batch to logits (B, C)."""

    def __init__(self, frame_logits: Callable[[Any], Tensor], model: Any, blank: int | None) -> None:
        super().__init__()
        self.model = model
        self.blank = blank
        self._frame_logits = frame_logits
        self.eval()

    def forward(self, batch: Any) -> Tensor:
        logits = self._frame_logits(batch)
        mask = _frame_mask(self.model, logits, _arguments(batch, self.model.main_input_name))
        return _without(masked_mean(logits, mask), self.blank)


class _FrameHead(nn.Module):
    """The head of the model, from an encoder's output to logits (B, C)."""

    def __init__(self, head: nn.Module, model: Any, blank: int | None) -> None:
        super().__init__()
        self.head = head
        self.blank = blank
        # The model only computes masks here. Its encoder would be a second copy of the encoder's parameters.
        self.__dict__["mask_model"] = model
        self.eval()

    def forward(self, features: Encoded) -> Tensor:
        logits: Tensor = self.head(features)
        mask = _frame_mask(self.__dict__["mask_model"], logits, features.arguments)
        return _without(masked_mean(logits, mask), self.blank)


def _class_names(spec: HfSpec, n_classes: int, blank: int | None) -> tuple[str, ...]:
    """Return the characters of vocab.json in the order of the logits, or numbers where there is no such file."""
    path = spec.files.require(PREPROCESSING, "audio preprocessing") / "vocab.json"
    try:
        vocabulary = {int(number): str(token) for token, number in json.loads(path.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        vocabulary = {}
    return tuple(vocabulary.get(c, str(c)) for c in range(n_classes) if c != blank)
