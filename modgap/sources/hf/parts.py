"""Modules and functions that transformers models of all families share, and the split of an encoder at its stem.

The stem makes patches of images, or frames of audio.
"""

import contextlib
import copy
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers import PreTrainedModel

from modgap.errors import InputError, UsageError, first_line
from modgap.sources.splitting import EncoderEntry, StandIn, entry_of_output, replace_modules

__all__ = [
    "BaseHead",
    "Encoded",
    "Logits",
    "Pooled",
    "encoded_tokens",
    "encoder_path",
    "move_batch",
    "one_line_errors",
    "quiet_library",
    "split_stem",
]


@contextlib.contextmanager
def one_line_errors(problem: str) -> Iterator[None]:
    """Turn any error that the library raises for a user's file into an InputError of one line.

    Args:
        problem: First part of the message, which says what failed.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # the library can raise any error for files that do not fit
        raise InputError(f"{problem}: {first_line(error)}") from error


@contextlib.contextmanager
def quiet_library() -> Iterator[None]:
    """Hide the library's advice and progress bars within the context."""
    logging = transformers.utils.logging
    verbosity = logging.get_verbosity()
    shows_bars = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if shows_bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class Encoded:
    """The output of an encoder.

    Attributes:
        output: The library's record of a base model's outputs, with `last_hidden_state`.
        arguments: Further arguments of the model that contains the head, such as the attention mask.
        averaged: Mask (B, T) of the positions whose logits are averaged; None for all positions.
    """

    output: Any
    arguments: dict[str, Any] = field(default_factory=dict)
    averaged: Tensor | None = None


def encoded_tokens(features: Encoded) -> Tensor:
    """Return features as tokens (B, T, D)."""
    hidden: Tensor = features.output.last_hidden_state
    return hidden.flatten(2).transpose(1, 2) if hidden.ndim == 4 else hidden


def encoder_path(model: PreTrainedModel) -> str:
    """Return the path of the encoder within a model with a head, or an empty path if the model is the encoder."""
    return next((name for name, child in model.named_children() if isinstance(child, PreTrainedModel)), "")


def move_batch(batch: Any, device: torch.device) -> Any:
    """Return the batch on a device."""
    if isinstance(batch, torch.Tensor):
        return batch.to(device)
    return {name: value.to(device) for name, value in batch.items()}


class Logits(nn.Module):
    """A classifier of transformers as a module from a batch to logits (B, classes)."""

    def __init__(self, model: nn.Module, key: str, extra: dict[str, Any] | None = None) -> None:
        """Wrap a classifier.

        Args:
            model: The classifier.
            key: Name of the argument for a batch that is a tensor.
            extra: Further arguments of every call.
        """
        super().__init__()
        self.model = model
        self.key = key
        self.extra = extra or {}
        self.eval()

    def forward(self, batch: Any) -> Tensor:
        """Return logits (B, classes)."""
        arguments = {self.key: batch} if isinstance(batch, torch.Tensor) else dict(batch)
        logits: Tensor = self.model(**arguments, **self.extra).logits
        return logits


class BaseHead(nn.Module):
    """The head of a classifier: the classifier with its encoder replaced by the encoder's output."""

    def __init__(self, model: nn.Module, path: str) -> None:
        """Replace the encoder at this path of a classifier."""
        super().__init__()
        self.encoder = StandIn(model.get_submodule(path))
        self.model = replace_modules(model, {path: self.encoder})
        self.eval()

    def forward(self, features: Encoded) -> Tensor:
        """Return logits (B, classes), or (B, T, classes) if the model classifies tokens."""
        with self.encoder.returning(features.output):
            logits: Tensor = self.model(**features.arguments).logits
        return logits


class Pooled(nn.Module):
    """A module from a batch, or from an encoder's output, to pooled features (B, D)."""

    def __init__(self, pool: Callable[[Any], Tensor], model: nn.Module | None = None) -> None:
        """Wrap a function that pools, and register the model that it runs, if any."""
        super().__init__()
        self.model = model
        self._pool = pool
        self.eval()

    def forward(self, value: Any) -> Tensor:
        """Return features (B, D)."""
        return self._pool(value)


def split_stem(base: Any, key: str, sample: Any, extra: dict[str, Any]) -> tuple[nn.Module, nn.Module]:
    """Return the stem of an encoder, and the encoder without it.

    Args:
        base: The encoder.
        key: Name of its input argument.
        sample: A batch of one sample.
        extra: Further arguments of every call.

    Raises:
        UsageError: When the stem cannot be located.
    """
    if hasattr(base, "feature_extractor") and hasattr(base, "feature_projection"):
        return _split_frames(base, key, sample)
    if hasattr(base, "conv1") and hasattr(base, "conv2") and hasattr(base, "embed_positions"):
        return _split_spectrogram(base, key, sample)
    path = _stem_path(base)
    stem = base.get_submodule(path)
    value = sample if isinstance(sample, torch.Tensor) else sample[key]
    value = value.to(next(base.parameters()).device)
    # Some versions of the library pass the option on to the stem, others decide before it.
    parameters = inspect.signature(stem.forward).parameters
    stem_options = {name: value for name, value in extra.items() if name in parameters}
    with torch.no_grad():
        output = stem(value, **stem_options)
        hidden = base(**{key: value}, **extra).last_hidden_state
    entry = entry_of_output(output, channels_last=False, as_tokens=hidden.ndim == 3)
    stand_in = StandIn(stem)
    encoder = replace_modules(base, {path: stand_in})
    embedder = _Embedder(stem, key, entry, stem_options)
    return embedder, _StemEncoder(encoder, stand_in, key, entry, tuple(value.shape[1:]), extra)


def _stem_path(base: Any) -> str:
    """Return the path of the embeddings, or of their patches alone if they add positions or a class token."""
    for path in ("embeddings", "embedder"):
        embeddings = getattr(base, path, None)
        if isinstance(embeddings, nn.Module):
            adds = any(True for _ in embeddings.parameters(recurse=False)) or any(
                isinstance(child, nn.Embedding) for child in embeddings.children()
            )
            inner = [n for n in ("patch_embeddings", "patch_embedding") if hasattr(embeddings, n)]
            return f"{path}.{inner[0]}" if adds and inner else path
    raise UsageError(f"Model {type(base).__name__} cannot be split: its stem is not known.")


class _Embedder(nn.Module):
    def __init__(self, stem: nn.Module, key: str, entry: EncoderEntry, options: dict[str, Any]) -> None:
        super().__init__()
        self.stem = stem
        self.key = key
        self.entry = entry
        self.options = options
        self.eval()

    def forward(self, batch: Any) -> Any:
        value = batch if isinstance(batch, torch.Tensor) else batch[self.key]
        return _with_mask(self.entry.outward(self.stem(value, **self.options)), batch)


def _with_mask(tokens: Tensor, batch: Any) -> Any:
    mask = None if isinstance(batch, torch.Tensor) else batch.get("attention_mask")
    return tokens if mask is None else {"inputs_embeds": tokens, "attention_mask": mask}


def _tokens_and_masks(value: Any) -> tuple[Tensor, dict[str, Tensor]]:
    if isinstance(value, torch.Tensor):
        return value, {}
    return value["inputs_embeds"], {"attention_mask": value["attention_mask"]}


class _StemEncoder(nn.Module):
    """An encoder that takes tokens instead of the input of its stem."""

    def __init__(
        self,
        model: nn.Module,
        stem: StandIn,
        key: str,
        entry: EncoderEntry,
        shape: tuple[int, ...],
        extra: dict[str, Any],
    ) -> None:
        super().__init__()
        self.model = model
        self.stem = stem
        self.key = key
        self.entry = entry
        self.shape = shape
        self.extra = extra
        self.eval()

    def forward(self, value: Any) -> Encoded:
        """Return the encoder's output for tokens (B, T, D), or for a feature map (B, D, H, W)."""
        tokens, masks = _tokens_and_masks(value)
        # The model reads only the shape of its input, because the stem is replaced.
        unread = tokens.new_zeros(1).expand(tokens.shape[0], *self.shape)
        with self.stem.returning(self.entry.inward(tokens)):
            return Encoded(self.model(**{self.key: unread}, **masks, **self.extra), {self.key: unread, **masks})


def _split_frames(base: Any, key: str, sample: Any) -> tuple[nn.Module, nn.Module]:
    """Split an encoder like wav2vec2: convolutions over the waveform, then a projection of each frame."""
    layers = {"output_hidden_states": True} if getattr(base.config, "use_weighted_layer_sum", False) else {}
    if layers:
        # The library records layers through hooks that it sets when a model is first called. This call sets them
        # before the copy is made, because otherwise each layer would be recorded twice.
        with torch.no_grad():
            base(**move_batch(dict(sample), base.device), **layers)
    frames = StandIn(base.feature_extractor)
    projected = StandIn(base.feature_projection)
    encoder = replace_modules(base, {"feature_extractor": frames, "feature_projection": projected})
    # In training mode the library would mask frames at random, by NumPy's global random numbers.
    config: Any = copy.copy(base.config)
    config.apply_spec_augment = False
    encoder.config = config
    value = sample if isinstance(sample, torch.Tensor) else sample[key]
    with torch.no_grad():
        output = base.feature_projection(base.feature_extractor(value.to(base.device)).transpose(1, 2))
    return _FrameEmbedder(base, key), _FrameEncoder(
        encoder, frames, projected, key, layers, gives_pair=isinstance(output, tuple)
    )


class _FrameEmbedder(nn.Module):
    def __init__(self, base: Any, key: str) -> None:
        super().__init__()
        self.extractor = base.feature_extractor
        self.projection = base.feature_projection
        self.key = key
        self.eval()

    def forward(self, batch: Any) -> Any:
        value = batch if isinstance(batch, torch.Tensor) else batch[self.key]
        output = self.projection(self.extractor(value).transpose(1, 2))
        return _with_mask(output[0] if isinstance(output, tuple) else output, batch)


class _FrameEncoder(nn.Module):
    """An encoder like wav2vec2 that takes projected frames; its projection gives a pair in some models."""

    def __init__(
        self, model: Any, frames: StandIn, projected: StandIn, key: str, layers: dict[str, Any], *, gives_pair: bool
    ) -> None:
        super().__init__()
        self.model = model
        self.frames = frames
        self.projected = projected
        self.key = key
        self.layers = layers
        self.gives_pair = gives_pair
        self.eval()

    def forward(self, value: Any) -> Encoded:
        tokens, masks = _tokens_and_masks(value)
        unread = tokens.new_zeros(1).expand(tokens.shape[0], 1)
        projected = (tokens, tokens) if self.gives_pair else tokens
        with self.frames.returning(tokens.transpose(1, 2)), self.projected.returning(projected):
            return Encoded(self.model(**{self.key: unread}, **masks, **self.layers), {self.key: unread, **masks})


def _split_spectrogram(base: Any, key: str, sample: Any) -> tuple[nn.Module, nn.Module]:
    """Split an encoder like Whisper's: two convolutions over the frames of a spectrogram, then positions and blocks."""
    value = sample if isinstance(sample, torch.Tensor) else sample[key]
    first = StandIn(base.conv1)
    second = StandIn(base.conv2)
    encoder = replace_modules(base, {"conv1": first, "conv2": second})
    return _SpectrogramEmbedder(base, key), _SpectrogramEncoder(encoder, first, second, key, tuple(value.shape[1:]))


class _SpectrogramEmbedder(nn.Module):
    def __init__(self, base: Any, key: str) -> None:
        super().__init__()
        self.conv1 = base.conv1
        self.conv2 = base.conv2
        self.key = key
        self.eval()

    def forward(self, batch: Any) -> Tensor:
        value = batch if isinstance(batch, torch.Tensor) else batch[self.key]
        tokens: Tensor = self.conv2(nn.functional.gelu(self.conv1(value))).transpose(1, 2)
        return tokens


class _SpectrogramEncoder(nn.Module):
    def __init__(self, model: Any, first: StandIn, second: StandIn, key: str, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.model = model
        self.first = first
        self.second = second
        self.key = key
        self.shape = shape
        self.eval()

    def forward(self, value: Any) -> Encoded:
        tokens, _ = _tokens_and_masks(value)
        # The model reads only the shape of its input, because both convolutions are replaced.
        unread = tokens.new_zeros(1).expand(tokens.shape[0], *self.shape)
        with self.first.returning(unread), self.second.returning(tokens.transpose(1, 2)):
            return Encoded(self.model(**{self.key: unread}), {self.key: unread})
