"""Inputs of exported programs, and their preparation for the network, which is a part of the program."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from modgap.errors import UsageError
from modgap.inputs.representations import fold_shape, spectrogram_frames
from modgap.sources import ImageInput, TextInput
from modgap.training.native_inputs import NativeTransform

if TYPE_CHECKING:
    from modgap.training.training_data import InputTransform

TOKEN_ARRAYS = ("input_ids", "attention_mask")
"""Inputs of a program for texts."""


def input_shape(transform: "InputTransform") -> tuple[int, ...]:
    """Return the shape of a sample that a program takes; empty for texts.

    It is the shape of the target's samples, or that of the source's images or waveforms where a representation other
    than the folding or the spectrogram of series of one length makes these.
    """
    if not isinstance(transform, NativeTransform) or _front(transform) is not None:
        return transform.shape
    return transform.piece_shape


def preparation(transform: "InputTransform") -> nn.Module:
    """Return the module from the inputs of a program to the input of its network."""
    if not isinstance(transform, NativeTransform):
        return nn.Sequential(_First(), _Scaling(transform.mean, transform.sd, len(transform.shape)))
    if isinstance(transform.source_input, TextInput):
        return _Tokens(transform.source_input)
    embedding = transform.embedding
    zero, unit = 0.0, 1.0
    if embedding.low is not None and embedding.high is not None:
        zero, unit = embedding.low, embedding.high - embedding.low
        if not isinstance(transform.source_input, ImageInput):
            zero, unit = zero + unit / 2, unit / 2
    front = _front(transform)
    scaling = _Scaling(np.array([zero]), np.array([unit]), len(transform.piece_shape))
    return nn.Sequential(_First(), *([] if front is None else [front]), scaling)


def _front(transform: NativeTransform) -> nn.Module | None:
    """Return the module that turns series into images, if there is one."""
    if transform.stretched or transform.spec.kind != "series":
        return None
    fronts = {"fold": _Folding, "spectrogram": _Spectrogram}
    front = fronts.get(transform.embedding.representation)
    return None if front is None else front(transform.shape[0], transform.shape[1])


class _First(nn.Module):
    """The only input."""

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return it."""
        return inputs[0]


class _Scaling(nn.Module):
    """Subtraction of a value, and division by another, of each channel or of all."""

    zero: Tensor
    unit: Tensor

    def __init__(self, zero: np.ndarray, unit: np.ndarray, n_axes: int) -> None:
        super().__init__()
        ones = [1] * (n_axes - 1)
        self.register_buffer("zero", torch.from_numpy(zero).float().reshape(-1, *ones))
        self.register_buffer("unit", torch.from_numpy(unit).float().reshape(-1, *ones))

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled values."""
        return (x - self.zero) / self.unit


class _Folding(nn.Module):
    """The images of `fold_series`."""

    def __init__(self, channels: int, length: int) -> None:
        super().__init__()
        rows, self.width = fold_shape(channels, length)
        self.rows, self.missing = channels * rows, rows * self.width - length

    def forward(self, x: Tensor) -> Tensor:
        """Return images (n, 1, rows, width) of series (n, C, length)."""
        extended = torch.cat([x, x[..., -1:].expand(-1, -1, self.missing)], dim=-1)
        return extended.reshape(-1, 1, self.rows, self.width)


class _Spectrogram(nn.Module):
    """The images of `spectrogram`, by products with cosines and sines, which every format has."""

    cosines: Tensor
    sines: Tensor
    rows: Tensor

    def __init__(self, channels: int, length: int) -> None:
        super().__init__()
        window, starts, self.margins = spectrogram_frames(length)
        angle = 2 * np.pi * np.outer(np.arange(len(window)), np.arange(len(window) // 2 + 1)) / len(window)
        self.register_buffer("cosines", torch.from_numpy(window[:, None] * np.cos(angle)).float())
        self.register_buffer("sines", torch.from_numpy(window[:, None] * np.sin(angle)).float())
        self.register_buffer("rows", torch.from_numpy(starts[:, None] + np.arange(len(window))))
        self.height = channels * (len(window) // 2 + 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return images (n, 1, C x frequencies, frames) of series (n, C, length)."""
        frames = nn.functional.pad(x, self.margins)[..., self.rows]
        real, imaginary = frames @ self.cosines, frames @ self.sines
        logarithm = (real.square() + imaginary.square()).sqrt().log1p()
        return logarithm.transpose(2, 3).reshape(-1, 1, self.height, logarithm.shape[2])


class _Tokens(nn.Module):
    """The features of tokens from their numbers and their mask; other features of a single text are zeros."""

    def __init__(self, source_input: TextInput) -> None:
        super().__init__()
        self.names = source_input.features
        others = [row for row, name in enumerate(self.names) if name not in TOKEN_ARRAYS]
        if source_input.tokens("a b")[others].any():
            raise UsageError(
                "The source's tokenizer gives more than numbers and a mask, so that a program cannot take its tokens. "
                "Export the model as safetensors, which modgap reads again."
            )

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return the features (n, F, T)."""
        arrays = dict(zip(TOKEN_ARRAYS, inputs, strict=True))
        return torch.stack([arrays.get(name, torch.zeros_like(inputs[0])) for name in self.names], dim=1)
