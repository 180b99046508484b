"""Cut a model open: copies of its tree of modules that share all parameters and have other modules in places."""

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from modgap.errors import UsageError
from modgap.sources.source import Parts

__all__ = ["EncoderEntry", "StandIn", "entry_of_output", "module_path", "replace_modules", "verify_parts"]

CLOSE = 1e-4


def module_path(model: nn.Module, wanted: nn.Module) -> str | None:
    """Dotted path of a sub-module; None when the model has no such one."""
    return next((path for path, module in model.named_modules() if module is wanted), None)


def replace_modules(model: nn.Module, replacements: Mapping[str, nn.Module]) -> nn.Module:
    """A copy of the tree with other modules at these dotted paths.

    Only the modules on the way to these places are copied, and shallowly, so that all parameters and
    buffers are shared: training the copy trains the original, moving it moves both.
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
    """Stands in for a module: returns what it was given, and shows the other's attributes.

    The module that it stands in for is not part of it: its parameters do not count as the copy's own.
    """

    def __init__(self, original: nn.Module) -> None:
        """The module that it stands in for."""
        super().__init__()
        self.value: Any = None
        self.__dict__["original"] = original

    def __getattr__(self, name: str) -> Any:
        """Attributes that the models' code looks up on the original, such as a grid's size."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name.startswith("__") or "original" not in self.__dict__:
                raise
            return getattr(self.__dict__["original"], name)

    def forward(self, *args, **kwargs) -> Any:
        """What it was given."""
        return self.value

    @contextlib.contextmanager
    def returning(self, value: Any) -> Iterator[None]:
        """Return this value within the context, and hold on to nothing after it."""
        self.value = value
        try:
            yield
        finally:
            self.value = None


@dataclass(frozen=True)
class EncoderEntry:
    """The place where tokens enter an encoder, in the form that the stem gives there.

    Attributes:
        shape: Of the stem's output without the batch: (T, D), (D, H, W) or (H, W, D).
        channels_last: Whether a map is (H, W, D).
        as_tokens: Whether the map is handed over as tokens (T, D), since the encoder is a transformer.
        rest: What the stem returns beside its output, such as the grid's size.
    """

    shape: tuple[int, ...]
    channels_last: bool = False
    as_tokens: bool = False
    rest: tuple | None = None

    @property
    def token_shape(self) -> tuple[int, int]:
        """T and D."""
        if len(self.shape) == 2:
            return self.shape[0], self.shape[1]
        *sides, width = self.shape if self.channels_last else (*self.shape[1:], self.shape[0])
        return sides[0] * sides[1], width

    def outward(self, output: Any) -> Tensor:
        """What the stem gives as tokens (B, T, D), or as a map (B, D, H, W) for a convolutional encoder."""
        value = output[0] if isinstance(output, tuple) else output
        return self.tokens(value) if self.as_tokens else value

    def tokens(self, value: Tensor) -> Tensor:
        """A map of this kind, or tokens, as tokens (B, T, D)."""
        if value.ndim == 3:
            return value
        return value.flatten(1, 2) if self.channels_last else value.flatten(2).transpose(1, 2)

    def inward(self, tokens: Tensor) -> Any:
        """Tokens (B, T, D), or a map, in the stem's own form.

        Raises:
            UsageError: When there are more or fewer tokens than the encoder has places for.
        """
        if tuple(tokens.shape[1:]) not in (self.shape, self.token_shape):
            raise UsageError(
                f"expected {self.token_shape[0]} tokens of width {self.token_shape[1]} to enter the encoder, "
                f"got shape {tuple(tokens.shape[1:])}"
            )
        if tokens.ndim == 3 and len(self.shape) == 3:
            tokens = self._map(tokens)
        return tokens if self.rest is None else (tokens, *self.rest)

    def _map(self, tokens: Tensor) -> Tensor:
        if self.channels_last:
            return tokens.unflatten(1, self.shape[:2])
        return tokens.transpose(1, 2).unflatten(2, self.shape[1:])


def entry_of_output(output: Any, *, channels_last: bool, as_tokens: bool) -> EncoderEntry:
    """The entry that a stem's output on one sample shows.

    Raises:
        UsageError: When it is neither tokens nor a map.
    """
    value, rest = (output[0], output[1:]) if isinstance(output, tuple) else (output, None)
    if not isinstance(value, torch.Tensor) or value.ndim not in (3, 4):
        raise UsageError("the model's stem gives neither tokens nor a feature map; it cannot be split")
    return EncoderEntry(tuple(value.shape[1:]), channels_last, as_tokens, rest)


def verify_parts(make: Callable[[], Parts], model: nn.Module, sample: Any, what: str) -> Parts:
    """Parts that together give the model's own outputs on a sample, so that no unknown model is split wrongly.

    Args:
        make: Splits the model.
        model: The whole model, a batch to outputs (B, ...).
        sample: A batch.
        what: The model's name, for the error.

    Raises:
        UsageError: When it cannot be split.
    """
    try:
        parts = make()
        with torch.no_grad():
            whole, composed = model(sample), parts.head(parts.encoder(parts.embedder(sample)))
    except UsageError:
        raise
    except Exception as error:  # a foreign model's code meets what it does not expect with any error at all
        raise UsageError(f"{what} cannot be split into embedder, encoder and head ({_first_line(error)})") from error
    scale = whole.abs().max().clamp(min=1)
    if composed.shape != whole.shape or not ((composed - whole).abs().max() <= CLOSE * scale):
        raise UsageError(f"{what} cannot be split: its parts do not give its own outputs")
    return parts


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
