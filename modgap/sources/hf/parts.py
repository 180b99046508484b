"""Modules and functions that transformers models of all families share, and the split of an encoder at its stem.

The stem makes patches of images, or frames of audio.
"""

import contextlib
import copy
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers import PreTrainedModel

from modgap.errors import UsageError
from modgap.process.devices import map_tensors
from modgap.sources.inputs import Batch
from modgap.sources.splitting import EncoderEntry, StandIn, entry_of_output, replace_modules, to_tokens


@contextlib.contextmanager
def quiet_library() -> Iterator[None]:
    """Hide the library's advice and progress bars within the context."""
    logging = transformers.utils.logging
    verbosity = logging.get_verbosity()
    shows_bars = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if shows_bars:
            logging.enable_progress_bar()


@dataclass(frozen=True)
class Encoded:
    """The output of an encoder.

    Attributes:
        output: The library's record of a base model's outputs, with `last_hidden_state`.
        arguments: Further arguments of the model that contains the head, such as the attention mask.
        averaged: Mask (B, T) of the positions whose logits are averaged; None for all positions.
    """

    output: Any
    arguments: dict[str, Tensor] = field(default_factory=dict)
    averaged: Tensor | None = None


def encoded_tokens(features: Encoded) -> Tensor:
    """Return features as tokens (B, T, D)."""
    return to_tokens(features.output.last_hidden_state)


def encoder_path(model: PreTrainedModel) -> str:
    """Return the path of the encoder within a model with a head, or an empty path if the model is the encoder."""
    return next((name for name, child in model.named_children() if isinstance(child, PreTrainedModel)), "")


def model_arguments(batch: Batch, key: str) -> dict[str, Tensor]:
    """Return the arguments of a model for a batch; a batch that is a tensor is the argument of this name."""
    return {key: batch} if isinstance(batch, torch.Tensor) else dict(batch)


class Logits(nn.Module):
    """A classifier of transformers as a module from a batch to logits (B, classes)."""

    def __init__(self, model: nn.Module, key: str, extra: dict[str, bool] | None = None) -> None:
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

    def forward(self, batch: Batch) -> Tensor:
        """Return logits (B, classes)."""
        logits: Tensor = self.model(**model_arguments(batch, self.key), **self.extra).logits
        return logits


class BaseHead(nn.Module):
    """The head of a classifier: the classifier with its encoder replaced by the encoder's output."""

    def __init__(self, model: nn.Module, path: str) -> None:
        """Replace the encoder at this path of a classifier."""
        super().__init__()
        self.encoder = StandIn(model.get_submodule(path))
        self.model = replace_modules(model, {path: self.encoder})

    def forward(self, features: Encoded) -> Tensor:
        """Return logits (B, classes), or (B, T, classes) if the model classifies tokens."""
        with self.encoder.returning(features.output):
            logits: Tensor = self.model(**features.arguments).logits
        return logits


def split_stem(base: Any, key: str, sample: Batch, extra: dict[str, bool]) -> tuple[nn.Module, nn.Module]:
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
    value = model_arguments(sample, key)[key].to(next(base.parameters()).device)
    # Some versions of the library pass the option on to the stem, others decide before it.
    parameters = inspect.signature(stem.forward).parameters
    stem_options = {name: value for name, value in extra.items() if name in parameters}
    with torch.no_grad():
        output = stem(value, **stem_options)
        hidden = base(**{key: value}, **extra).last_hidden_state
    entry = entry_of_output(output, channels_last=False, as_tokens=hidden.ndim == 3)
    encoder = _Encoder(base, {path: entry.inward}, key, tuple(value.shape[1:]), extra)
    return _Embedder(stem, key, entry, stem_options), encoder


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
    def __init__(self, stem: nn.Module, key: str, entry: EncoderEntry, options: dict[str, bool]) -> None:
        super().__init__()
        self.stem = stem
        self.key = key
        self.entry = entry
        self.options = options

    def forward(self, batch: Batch) -> Tensor | dict[str, Tensor]:
        value = model_arguments(batch, self.key)[self.key]
        return _with_mask(self.entry.outward(self.stem(value, **self.options)), batch)


def _with_mask(tokens: Tensor, batch: Batch) -> Tensor | dict[str, Tensor]:
    mask = None if isinstance(batch, torch.Tensor) else batch.get("attention_mask")
    return tokens if mask is None else {"inputs_embeds": tokens, "attention_mask": mask}


class _Encoder(nn.Module):
    """An encoder that takes tokens instead of the input of its first modules."""

    def __init__(
        self,
        base: nn.Module,
        outputs: Mapping[str, Callable[[Tensor], object]],
        key: str,
        shape: tuple[int, ...],
        extra: dict[str, bool],
    ) -> None:
        """Replace the first modules.

        Args:
            base: The complete encoder.
            outputs: Function from tokens to what a replaced module returns, by the path of the module.
            key: Name of the encoder's input argument.
            shape: Shape of that input without the batch.
            extra: Further arguments of every call.
        """
        super().__init__()
        self.outputs = outputs
        self.stand_ins = {path: StandIn(base.get_submodule(path)) for path in outputs}
        self.model = replace_modules(base, self.stand_ins)
        self.key = key
        self.shape = shape
        self.extra = extra

    def forward(self, value: Tensor | Mapping[str, Tensor]) -> Encoded:
        """Return the encoder's output for tokens (B, T, D), or for a feature map (B, D, H, W)."""
        masks = {} if isinstance(value, torch.Tensor) else {"attention_mask": value["attention_mask"]}
        tokens = model_arguments(value, "inputs_embeds")["inputs_embeds"]
        # The model reads only the shape of its input, because the modules that take it are replaced.
        arguments = {self.key: _unread(tokens, self.shape), **masks}
        with contextlib.ExitStack() as stack:
            for path, stand_in in self.stand_ins.items():
                stack.enter_context(stand_in.returning(self.outputs[path](tokens)))
            return Encoded(self.model(**arguments, **self.extra), arguments)


def _unread(tokens: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return values (B, ...) of this shape, for as many samples as the tokens have, that nothing reads."""
    return tokens.new_zeros(1).expand(tokens.shape[0], *shape)


def _split_frames(base: Any, key: str, sample: Batch) -> tuple[nn.Module, nn.Module]:
    """Split an encoder like wav2vec2: convolutions over the waveform, then a projection of each frame."""
    layers = {"output_hidden_states": True} if getattr(base.config, "use_weighted_layer_sum", False) else {}
    if layers:
        # The library records layers through hooks that it sets when a model is first called. This call sets them
        # before the copy is made, because otherwise each layer would be recorded twice.
        with torch.no_grad():
            base(**map_tensors(dict(sample), lambda tensor: tensor.to(base.device)), **layers)
    value = model_arguments(sample, key)[key]
    with torch.no_grad():
        output = base.feature_projection(base.feature_extractor(value.to(base.device)).transpose(1, 2))
    gives_pair = isinstance(output, tuple)
    outputs: dict[str, Callable[[Tensor], object]] = {
        "feature_extractor": lambda tokens: tokens.transpose(1, 2),
        "feature_projection": lambda tokens: (tokens, tokens) if gives_pair else tokens,
    }
    encoder = _Encoder(base, outputs, key, (1,), layers)
    # In training mode the library would mask frames at random, by NumPy's global random numbers.
    config = copy.copy(base.config)
    config.apply_spec_augment = False
    encoder.model.config = config
    return _FrameEmbedder(base, key), encoder


class _FrameEmbedder(nn.Module):
    def __init__(self, base: Any, key: str) -> None:
        super().__init__()
        self.extractor = base.feature_extractor
        self.projection = base.feature_projection
        self.key = key

    def forward(self, batch: Batch) -> Tensor | dict[str, Tensor]:
        value = model_arguments(batch, self.key)[self.key]
        output = self.projection(self.extractor(value).transpose(1, 2))
        return _with_mask(output[0] if isinstance(output, tuple) else output, batch)


def _split_spectrogram(base: Any, key: str, sample: Batch) -> tuple[nn.Module, nn.Module]:
    """Split an encoder like Whisper's: two convolutions over the frames of a spectrogram, then positions and blocks."""
    shape = tuple(model_arguments(sample, key)[key].shape[1:])
    outputs: dict[str, Callable[[Tensor], object]] = {
        "conv1": lambda tokens: _unread(tokens, shape),
        "conv2": lambda tokens: tokens.transpose(1, 2),
    }
    return _SpectrogramEmbedder(base, key), _Encoder(base, outputs, key, shape, {})


class _SpectrogramEmbedder(nn.Module):
    def __init__(self, base: Any, key: str) -> None:
        super().__init__()
        self.conv1 = base.conv1
        self.conv2 = base.conv2
        self.key = key

    def forward(self, batch: Batch) -> Tensor:
        value = model_arguments(batch, self.key)[self.key]
        tokens: Tensor = self.conv2(nn.functional.gelu(self.conv1(value))).transpose(1, 2)
        return tokens
