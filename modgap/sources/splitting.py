"""Splitting a model: copies of its module tree that share all parameters and have some modules replaced."""

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from modgap.errors import UsageError, first_line
from modgap.process.devices import map_tensors
from modgap.sources.inputs import Batch
from modgap.sources.source import Parts

TOLERANCE = 1e-4
"""Largest difference of outputs, relative to the largest output but at least 1."""


def noise(*shape: int) -> Tensor:
    """Return standard normal values of this shape, always the same ones."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def to_tokens(features: Tensor, *, channels_last: bool = False) -> Tensor:
    """Return features as tokens (B, T, D): vectors (B, D), tokens, or a map (B, D, ...) or (B, ..., D)."""
    if features.ndim > 3:
        return features.flatten(1, -2) if channels_last else features.flatten(2).transpose(1, 2)
    return features[:, None] if features.ndim == 2 else features


def outputs_agree(outputs: Tensor, expected: Tensor) -> bool:
    """Return True if outputs differ from those that are expected by rounding alone."""
    if outputs.shape != expected.shape:
        return False
    return bool((outputs - expected).abs().max() <= TOLERANCE * expected.abs().max().clamp(min=1))


class Pooled(nn.Module):
    """A module from a batch, or from an encoder's output, to pooled features (B, D), or to a head's outputs of them."""

    def __init__(self, pool: Callable[[Any], Tensor], model: nn.Module | None = None) -> None:
        """Wrap a function that pools, and register the model that it runs, if any."""
        super().__init__()
        self.model = model
        self._pool = pool
        self.eval()

    def forward(self, value: object) -> Tensor:
        """Return features (B, D)."""
        return self._pool(value)


def module_path(model: nn.Module, submodule: nn.Module) -> str | None:
    """Return the dotted path of a submodule, or None if the model does not contain it."""
    return next((path for path, module in model.named_modules() if module is submodule), None)


def replace_modules(model: nn.Module, replacements: Mapping[str, nn.Module]) -> nn.Module:
    """Return a copy of the module tree with other modules at these dotted paths.

    Only the modules on these paths are copied, and the copies are shallow, so all parameters and buffers are shared:
    training the copy trains the original, and moving it to a device moves both.
    """
    if "" in replacements:
        return replacements[""]
    copied = copy.copy(model)
    copied._modules = dict(model._modules)
    below: dict[str, dict[str, nn.Module]] = {}
    for path, module in replacements.items():
        first, _, rest = path.partition(".")
        below.setdefault(first, {})[rest] = module
    for name, inner in below.items():
        copied._modules[name] = replace_modules(model.get_submodule(name), inner)
    return copied


class StandIn(nn.Module):
    """A replacement of a module that returns a given value, and has the original module's attributes.

    The original is not a submodule, so its parameters are not parameters of the copy.
    """

    def __init__(self, original: nn.Module) -> None:
        """Replace this module."""
        super().__init__()
        self.value: object = None
        self.__dict__["original"] = original

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the original, which the model's code looks up, such as a grid's size."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name.startswith("__") or "original" not in self.__dict__:
                raise
            return getattr(self.__dict__["original"], name)

    def forward(self, *_args: object, **_kwargs: object) -> object:
        """Return the value."""
        return self.value

    @contextlib.contextmanager
    def returning(self, value: object) -> Iterator[None]:
        """Return this value within the context, and release it afterwards."""
        self.value = value
        try:
            yield
        finally:
            self.value = None


@dataclass(frozen=True)
class EncoderEntry:
    """The form of the stem's output, in which tokens have to enter an encoder.

    Attributes:
        shape: Shape of the stem's output without the batch: (T, D), (D, H, W) or (H, W, D).
        channels_last: True if a map has the shape (H, W, D).
        as_tokens: True if a map is passed on as tokens (T, D), because the encoder is a transformer.
        extra_outputs: Further outputs of the stem, such as the grid's size; None if its output is a tensor.
    """

    shape: tuple[int, ...]
    channels_last: bool = False
    as_tokens: bool = False
    extra_outputs: tuple[object, ...] | None = None

    @property
    def token_shape(self) -> tuple[int, int]:
        """Number of tokens T and their width D."""
        if len(self.shape) == 2:
            return self.shape[0], self.shape[1]
        *sides, width = self.shape if self.channels_last else (*self.shape[1:], self.shape[0])
        return sides[0] * sides[1], width

    def outward(self, output: Any) -> Tensor:
        """Convert the stem's output to tokens (B, T, D), or to a map (B, D, H, W) for a convolutional encoder."""
        value: Tensor = output[0] if isinstance(output, tuple) else output
        return to_tokens(value, channels_last=self.channels_last) if self.as_tokens else value

    def inward(self, tokens: Tensor) -> Tensor | tuple[object, ...]:
        """Convert tokens (B, T, D), or a map, to the form of the stem's output.

        Raises:
            UsageError: When there are more or fewer tokens than the encoder has positions for.
        """
        if tuple(tokens.shape[1:]) not in (self.shape, self.token_shape):
            raise UsageError(
                f"The embedder's output has the shape {tuple(tokens.shape[1:])}, but the encoder takes "
                f"{self.token_shape[0]} tokens of width {self.token_shape[1]}."
            )
        if tokens.ndim == 3 and len(self.shape) == 3:
            if self.channels_last:
                tokens = torch.unflatten(tokens, 1, self.shape[:2])
            else:
                tokens = torch.unflatten(tokens.transpose(1, 2), 2, self.shape[1:])
        return tokens if self.extra_outputs is None else (tokens, *self.extra_outputs)


def entry_of_output(output: object, *, channels_last: bool, as_tokens: bool) -> EncoderEntry:
    """Infer the form of the encoder's input from the stem's output for one sample.

    Raises:
        UsageError: When the output is neither tokens nor a map.
    """
    value, extra_outputs = (output[0], output[1:]) if isinstance(output, tuple) else (output, None)
    if not isinstance(value, torch.Tensor) or value.ndim not in (3, 4):
        raise UsageError("The model cannot be split: its stem returns neither tokens nor a feature map.")
    return EncoderEntry(tuple(value.shape[1:]), channels_last, as_tokens, extra_outputs)


def verify_parts(split: Callable[[], Parts], model: nn.Module, sample: Batch, name: str) -> Parts:
    """Split a model into parts in evaluation mode, and check that together they give the model's outputs.

    Args:
        split: Function that splits the model.
        model: The complete model, from a batch to outputs (B, ...).
        sample: A batch of the model's input, which is moved to the model's device.
        name: The model's name, for the error.

    Raises:
        UsageError: When the model cannot be split.
    """
    device = next(model.parameters()).device
    sample = map_tensors(sample, lambda tensor: tensor.to(device))
    try:
        parts = split()
        for part in (parts.embedder, parts.encoder, parts.head):
            part.eval()
        with torch.no_grad():
            expected = model(sample)
            composed = parts.head(parts.encoder(parts.embedder(sample)))
    except UsageError:
        raise
    except Exception as error:  # the code of a third-party model can raise any error
        raise UsageError(
            f"Model {name} cannot be split into embedder, encoder and head ({first_line(error)})."
        ) from error
    if not outputs_agree(composed, expected):
        raise UsageError(f"Model {name} cannot be split: its parts do not give the model's outputs.")
    return parts
