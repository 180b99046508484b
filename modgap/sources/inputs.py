"""What a source model takes: images, text or sound, and how pieces of target data become a batch of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor, device

__all__ = ["AudioInput", "Batch", "ImageInput", "Input", "TextInput", "prepare_images"]

Batch = Any
"""A tensor, or a mapping of tensors, that a model takes as its one argument."""


class Input(Protocol):
    """A source's own preprocessing."""

    @property
    def kind(self) -> Literal["image", "text", "audio"]:
        """What pieces it takes: arrays (C, H, W), strings, or waveforms (length,)."""

    def batch(self, pieces: Sequence[Any], device: "device") -> Batch:
        """Pieces as one batch on the device."""

    def to_dict(self) -> dict:
        """Plain values for the result's record."""


@dataclass(frozen=True)
class ImageInput:
    """Images (C, H, W) with values in [0, 1].

    Attributes:
        size: Height and width in pixels.
        mean: Of each channel, subtracted from values in [0, 1].
        sd: Of each channel, divided by.
        interpolation: `bicubic`, `bilinear` or `nearest`.
    """

    size: tuple[int, int]
    mean: tuple[float, ...]
    sd: tuple[float, ...]
    interpolation: str
    kind: Literal["image"] = "image"

    def batch(self, pieces: Sequence[np.ndarray], device: "device") -> "Tensor":
        """Images (B, channels, height, width), as many channels as there are means."""
        import torch

        if len({image.shape for image in pieces}) == 1:
            return prepare_images(torch.from_numpy(np.stack(pieces)).to(device), self)
        return torch.cat([prepare_images(torch.from_numpy(image)[None].to(device), self) for image in pieces])

    def to_dict(self) -> dict:
        """Plain values for the result's record."""
        return {
            "size": list(self.size),
            "resize": f"{self.interpolation}, antialiased",
            "mean": list(self.mean),
            "sd": list(self.sd),
        }


def prepare_images(images: "Tensor", own: ImageInput) -> "Tensor":
    """Images (B, C, H, W) as the source's input: its channels (three, or one), its size, its mean and sd.

    One channel is repeated, more than the source's are averaged in as many neighboring groups; resizing is
    antialiased, and the whole image is kept.
    """
    import torch
    from torch.nn import functional

    batch, channels, height, width = images.shape
    if channels != len(own.mean):
        flat = images.reshape(batch, channels, -1).transpose(1, 2)
        images = functional.adaptive_avg_pool1d(flat, len(own.mean)).transpose(1, 2)
        images = images.reshape(batch, len(own.mean), height, width)
    if (height, width) != own.size:
        smooth = own.interpolation in ("bilinear", "bicubic")
        how: dict[str, Any] = {"mode": own.interpolation, "antialias": True} if smooth else {"mode": "nearest"}
        images = functional.interpolate(images, own.size, **how)
    mean = torch.tensor(own.mean, device=images.device).view(1, -1, 1, 1)
    return (images - mean) / torch.tensor(own.sd, device=images.device).view(1, -1, 1, 1)


@dataclass(frozen=True)
class TextInput:
    """Strings, cut at the model's length.

    Attributes:
        tokenizer: A transformers tokenizer.
        max_tokens: Tokens a text is cut to, the special ones among them.
    """

    tokenizer: Any
    max_tokens: int
    kind: Literal["text"] = "text"

    def batch(self, pieces: Sequence[str], device: "device") -> "Mapping[str, Tensor]":
        """`input_ids` and `attention_mask`, each (B, tokens of the longest)."""
        encoded = self.tokenizer(
            list(pieces), padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt"
        )
        return {name: tensor.to(device) for name, tensor in encoded.items()}

    def to_dict(self) -> dict:
        """Plain values for the result's record."""
        return {"tokenizer": type(self.tokenizer).__name__, "max_tokens": self.max_tokens}


@dataclass(frozen=True)
class AudioInput:
    """Waveforms (length,) at the model's rate.

    Attributes:
        extractor: A transformers feature extractor.
        rate: Values a second, in hertz.
    """

    extractor: Any
    rate: int
    kind: Literal["audio"] = "audio"

    def batch(self, pieces: Sequence[np.ndarray], device: "device") -> "Mapping[str, Tensor]":
        """What the feature extractor makes of the waveforms."""
        encoded = self.extractor(list(pieces), sampling_rate=self.rate, padding=True, return_tensors="pt")
        return {name: tensor.to(device) for name, tensor in encoded.items()}

    def to_dict(self) -> dict:
        """Plain values for the result's record."""
        return {"extractor": type(self.extractor).__name__, "rate": self.rate}
