"""Splitting the encoder of a transformers model at its stem: patches of images, frames of audio."""

import copy
import inspect
from typing import Any

import torch
from torch import Tensor, nn

from modgap.errors import UsageError
from modgap.sources.hf.parts import Encoded, move_batch
from modgap.sources.splitting import EncoderEntry, StandIn, entry_of_output, replace_modules

__all__ = ["split_stem"]


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
