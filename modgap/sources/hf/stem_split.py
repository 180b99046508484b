"""Split the encoder of a transformers model at its stem: patches of images, frames of sound."""

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from modgap.errors import UsageError
from modgap.sources.hf.parts import Encoded, move_batch
from modgap.sources.splitting import EncoderEntry, StandIn, entry_of_output, replace_modules

__all__ = ["split_stem"]


def split_stem(base: Any, key: str, sample: Any, extra: dict) -> tuple[nn.Module, nn.Module]:
    """The stem of an encoder, and the encoder without it.

    Args:
        base: The encoder.
        key: Name of its input.
        sample: A batch of one.
        extra: What it is called with besides.

    Raises:
        UsageError: When no stem is found.
    """
    if hasattr(base, "feature_extractor") and hasattr(base, "feature_projection"):
        return _split_frames(base, key, sample)
    path = _stem_path(base)
    stem = base.get_submodule(path)
    value = sample if isinstance(sample, torch.Tensor) else sample[key]
    value = value.to(next(base.parameters()).device)
    # Some versions of the library pass the option on to the stem, others decide before it.
    takes = {name: given for name, given in extra.items() if name in inspect.signature(stem.forward).parameters}
    with torch.no_grad():
        output = stem(value, **takes)
        hidden = base(**{key: value}, **extra).last_hidden_state
    entry = entry_of_output(output, channels_last=False, as_tokens=hidden.ndim == 3)
    given = StandIn(stem)
    encoder = replace_modules(base, {path: given})
    return _Embedder(stem, key, entry, takes), _StemEncoder(encoder, given, key, entry, tuple(value.shape[1:]), extra)


def _stem_path(base: Any) -> str:
    """The whole of the embeddings, unless they add positions or a class token; then the patches alone."""
    for path in ("embeddings", "embedder"):
        embeddings = getattr(base, path, None)
        if isinstance(embeddings, nn.Module):
            adds = any(True for _ in embeddings.parameters(recurse=False)) or any(
                isinstance(child, nn.Embedding) for child in embeddings.children()
            )
            inner = [n for n in ("patch_embeddings", "patch_embedding") if hasattr(embeddings, n)]
            return f"{path}.{inner[0]}" if adds and inner else path
    raise UsageError(f"no stem is known of {type(base).__name__}; it cannot be split")


class _Embedder(nn.Module):
    def __init__(self, stem: nn.Module, key: str, entry: EncoderEntry, takes: dict):
        super().__init__()
        self.stem, self.key, self.entry, self.takes = stem, key, entry, takes
        self.eval()

    def forward(self, batch: Any) -> Any:
        value = batch if isinstance(batch, torch.Tensor) else batch[self.key]
        return _with_mask(self.entry.outward(self.stem(value, **self.takes)), batch)


def _with_mask(tokens: Tensor, batch: Any) -> Any:
    mask = None if isinstance(batch, torch.Tensor) else batch.get("attention_mask")
    return tokens if mask is None else {"inputs_embeds": tokens, "attention_mask": mask}


def _unpacked(value: Any) -> tuple[Tensor, dict]:
    if isinstance(value, torch.Tensor):
        return value, {}
    return value["inputs_embeds"], {"attention_mask": value["attention_mask"]}


class _StemEncoder(nn.Module):
    """An encoder with the tokens given in place of its stem's output."""

    def __init__(
        self, model: nn.Module, given: StandIn, key: str, entry: EncoderEntry, shape: tuple[int, ...], extra: dict
    ):
        super().__init__()
        self.model, self.given, self.key, self.entry, self.shape, self.extra = model, given, key, entry, shape, extra
        self.eval()

    def forward(self, value: Any) -> Encoded:
        """What the encoder makes of tokens (B, T, D), or of a feature map (B, D, H, W)."""
        tokens, masks = _unpacked(value)
        # The model reads no more than the shape of its input, since the stem is stood in for.
        unread = tokens.new_zeros(1).expand(len(tokens), *self.shape)
        with self.given.returning(self.entry.inward(tokens)):
            return Encoded(self.model(**{self.key: unread}, **masks, **self.extra), {self.key: unread, **masks})


def _split_frames(base: Any, key: str, sample: Any) -> tuple[nn.Module, nn.Module]:
    """Of wav2vec2's kind: convolutions over the waveform, then a projection of each frame."""
    layers = {"output_hidden_states": True} if getattr(base.config, "use_weighted_layer_sum", False) else {}
    if layers:
        # The library records layers through hooks that it sets at a model's first use; set before the copy
        # is made they are there once, else each layer would be recorded twice.
        with torch.no_grad():
            base(**move_batch(dict(sample), base.device), **layers)
    frames, projected = StandIn(base.feature_extractor), StandIn(base.feature_projection)
    encoder = replace_modules(base, {"feature_extractor": frames, "feature_projection": projected})
    return _FrameEmbedder(base, key), _FrameEncoder(encoder, frames, projected, key, layers)


class _FrameEmbedder(nn.Module):
    def __init__(self, base: Any, key: str):
        super().__init__()
        self.extractor, self.projection, self.key = base.feature_extractor, base.feature_projection, key
        self.eval()

    def forward(self, batch: Any) -> Any:
        value = batch if isinstance(batch, torch.Tensor) else batch[self.key]
        output = self.projection(self.extractor(value).transpose(1, 2))
        return _with_mask(output[0] if isinstance(output, tuple) else output, batch)


class _FrameEncoder(nn.Module):
    def __init__(self, model: Any, frames: StandIn, projected: StandIn, key: str, layers: dict):
        super().__init__()
        self.model, self.frames, self.projected, self.key, self.layers = model, frames, projected, key, layers
        self.eval()

    def forward(self, value: Any) -> Encoded:
        tokens, masks = _unpacked(value)
        unread = tokens.new_zeros(1).expand(len(tokens), 1)
        with self.frames.returning(tokens.transpose(1, 2)), self.projected.returning((tokens, tokens)):
            return Encoded(self.model(**{self.key: unread}, **masks, **self.layers), {self.key: unread, **masks})
