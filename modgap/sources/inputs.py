"""Inputs of source models: images, text or audio, and how pieces of target data become a batch of one of them.

A piece is the array or string that enters the model as one input, such as an image or a window of a sound. A sample of
a target has one piece or several.

`batch` makes the input of pieces in one call. Some inputs divide it in two: `stack` does the part of the CPU, which
other processes can do, and `finish` the part of the device. `prepare` gives the same input of a tensor and lets
gradients pass, for samples that another model has computed.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor, device

SMALLEST_SD = 1e-10
"""Standard deviation and level below which a waveform counts as constant, so that silence is not amplified."""

Batch = Any
"""A tensor, or a mapping of tensors, that a model takes as its only argument."""


class Input(Protocol):
    """The preprocessing of a source."""

    @property
    def kind(self) -> Literal["image", "text", "audio"]:
        """Kind of the pieces: `image` for arrays (C, H, W), `text` for strings, `audio` for waveforms (length,)."""

    def batch(self, pieces: Sequence[Any], device: "device") -> Batch:
        """Return the pieces as one batch on the device."""

    def to_dict(self) -> dict[str, object]:
        """Return plain values for the result's record."""


@dataclass(frozen=True)
class ImageInput:
    """Input of images (C, H, W) with values in [0, 1].

    Attributes:
        size: Height and width in pixels.
        mean: Mean of each channel, which is subtracted from values in [0, 1].
        sd: Standard deviation of each channel, by which the difference is divided.
        interpolation: Interpolation when images are resized: `bicubic`, `bilinear` or `nearest`.
    """

    size: tuple[int, int]
    mean: tuple[float, ...]
    sd: tuple[float, ...]
    interpolation: str
    kind: Literal["image"] = "image"

    def batch(self, pieces: Sequence[np.ndarray], device: "device") -> "Tensor":
        """Return images (B, channels, height, width) with as many channels as there are means."""
        return self.finish(self.stack(pieces).to(device))

    def stack(self, pieces: Sequence[np.ndarray]) -> "Tensor":
        """Return images as `batch` does, but on the CPU and not standardized.

        Images are resized on the CPU whatever the device, because devices do not interpolate alike.
        """
        import torch

        if len({image.shape for image in pieces}) == 1:
            return self._fit(torch.from_numpy(np.stack(pieces)))
        return torch.cat([self._fit(torch.from_numpy(image)[None]) for image in pieces])

    def prepare(self, images: "Tensor") -> "Tensor":
        """Return images (B, C, H, W) as `batch` does: with the source's number of channels and size, and standardized.

        A single channel is repeated. More channels than the source has are averaged over groups of neighbors. Resizing
        is antialiased, and the image is not cropped.
        """
        return self.finish(self._fit(images))

    def _fit(self, images: "Tensor") -> "Tensor":
        """Convert images (B, C, H, W) to the source's number of channels and its size."""
        from torch.nn import functional

        batch, channels, height, width = images.shape
        if channels != len(self.mean):
            flat = images.reshape(batch, channels, -1).transpose(1, 2)
            images = functional.adaptive_avg_pool1d(flat, len(self.mean)).transpose(1, 2)
            images = images.reshape(batch, len(self.mean), height, width)
        return self.resize(images)

    def resize(self, images: "Tensor") -> "Tensor":
        """Resize images (B, C, H, W) to the source's size by its interpolation, antialiased."""
        from torch.nn import functional

        if tuple(images.shape[2:]) == self.size:
            return images
        smooth = self.interpolation in ("bilinear", "bicubic")
        mode = self.interpolation if smooth else "nearest"
        return functional.interpolate(images, self.size, mode=mode, antialias=smooth)

    def finish(self, images: "Tensor") -> "Tensor":
        """Return the images of `stack` standardized by the source's mean and sd, on the device that they are on."""
        constants = _channel_constants if images.device.type == "cpu" else _device_constants
        return (images - constants(self.mean, images.device)) / constants(self.sd, images.device)

    def to_dict(self) -> dict[str, object]:
        """Return plain values for the result's record."""
        return {
            "size": list(self.size),
            "resize": f"{self.interpolation}, antialiased",
            "mean": list(self.mean),
            "sd": list(self.sd),
        }


def _channel_constants(values: tuple[float, ...], device: "device") -> "Tensor":
    """Return values by channel as a tensor (1, channels, 1, 1), which broadcasts over images (B, channels, H, W)."""
    import torch

    return torch.tensor(values, device=device).view(1, -1, 1, 1)


@functools.lru_cache(maxsize=64)
def _device_constants(values: tuple[float, ...], device: "device") -> "Tensor":
    """Return the constants on a device that is not the CPU, which are copied to it once."""
    import torch

    # Autograd refuses tensors that were created in inference mode, and the cached ones may serve a training later.
    with torch.inference_mode(False):
        return _channel_constants(values, device)


@dataclass(frozen=True)
class TextInput:
    """Input of strings, which are truncated to the model's length.

    Attributes:
        tokenizer: A transformers tokenizer.
        max_tokens: Largest number of tokens of a text, including special tokens.
    """

    tokenizer: Any
    max_tokens: int
    kind: Literal["text"] = "text"

    def batch(self, pieces: Sequence[str], device: "device") -> "Mapping[str, Tensor]":
        """Return `input_ids` and `attention_mask`, each of shape (B, tokens of the longest text)."""
        encoded = self.tokenizer(
            list(pieces), padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt"
        )
        return {name: tensor.to(device) for name, tensor in encoded.items()}

    @functools.cached_property
    def features(self) -> tuple[str, ...]:
        """Names of the F values that the tokenizer returns for each token: ID, mask, and for some models type."""
        return tuple(self.tokenizer(["a"]))

    def tokens(self, text: str, length: int | None = None) -> np.ndarray:
        """Return the values of `features` for the T tokens of a text, shape (F, T), as `prepare` takes them in batches.

        Args:
            text: The text.
            length: Largest number of tokens T; None for that of the source, which also bounds it.
        """
        most = self.max_tokens if length is None else min(length, self.max_tokens)
        encoded = self.tokenizer(text, truncation=True, max_length=most)
        return np.array([encoded[name] for name in self.features], np.int64)

    def prepare(self, tokens: "Tensor") -> "Mapping[str, Tensor]":
        """Return the input as `batch` does, from tokens (B, F, T) of texts with zeros after the end of each."""
        batch = dict(zip(self.features, tokens.unbind(1), strict=True))
        ids = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, self.tokenizer.pad_token_id)
        return {**batch, "input_ids": ids}

    def padded_lengths(self, pieces: Sequence[str]) -> list[int] | None:
        """Return the number of characters of each piece, by which pieces of about equal length can share a batch."""
        return [len(text) for text in pieces]

    def to_dict(self) -> dict[str, object]:
        """Return plain values for the result's record."""
        return {"tokenizer": type(self.tokenizer).__name__, "max_tokens": self.max_tokens}


@dataclass(frozen=True)
class AudioInput:
    """Input of waveforms (length,) at the model's sampling rate.

    Attributes:
        extractor: A transformers feature extractor.
        rate: Sampling rate in hertz.
        padding: True to pad the waveforms of a batch to the longest; `max_length` to pad or cut each to the length of
            the extractor.
    """

    extractor: Any
    rate: int
    padding: bool | str = True
    kind: Literal["audio"] = "audio"

    def batch(self, pieces: Sequence[np.ndarray], device: "device") -> "Mapping[str, Tensor]":
        """Return the feature extractor's output for the waveforms."""
        encoded = self.extractor(list(pieces), sampling_rate=self.rate, padding=self.padding, return_tensors="pt")
        return {name: tensor.to(device) for name, tensor in encoded.items()}

    def padded_lengths(self, pieces: Sequence[np.ndarray]) -> list[int] | None:
        """Return the length of each piece if a batch is padded to its longest, and None if all get one length."""
        return [len(waveform) for waveform in pieces] if self.padding is True else None

    def to_dict(self) -> dict[str, object]:
        """Return plain values for the result's record."""
        return {"extractor": type(self.extractor).__name__, "rate": self.rate}


@dataclass(frozen=True)
class WaveformInput:
    """Input of waveforms of a fixed length, without a library's feature extractor.

    Attributes:
        rate: Sampling rate in hertz; None for a model of series of any rate, which are stretched to its window.
        window: Number of values of each waveform.
        standardize: True to shift and scale each window to mean 0 and standard deviation 1.
        loudness: Root mean square, in decibels relative to an amplitude of 1, to which quieter windows are amplified;
            None to keep them.
    """

    rate: int | None
    window: int
    standardize: bool = False
    loudness: float | None = None
    kind: Literal["audio"] = "audio"

    def batch(self, pieces: Sequence[np.ndarray], device: "device") -> "Tensor":
        """Return waveforms (B, window)."""
        return self.stack(pieces).to(device)

    def finish(self, waveforms: "Tensor") -> "Tensor":
        """Return the waveforms of `stack` unchanged."""
        return waveforms

    def stack(self, pieces: Sequence[np.ndarray]) -> "Tensor":
        """Return waveforms as `batch` does, on the CPU."""
        import torch

        waveforms = np.stack(pieces).astype(np.float32)
        if self.standardize:
            waveforms = waveforms - waveforms.mean(axis=1, keepdims=True)
            waveforms /= np.maximum(waveforms.std(axis=1, keepdims=True), SMALLEST_SD)
        if self.loudness is not None:
            level = np.sqrt(np.square(waveforms).mean(axis=1, keepdims=True))
            waveforms = waveforms * np.maximum(1, 10 ** (self.loudness / 20) / np.maximum(level, SMALLEST_SD))
        return torch.from_numpy(waveforms)

    def prepare(self, waveforms: "Tensor") -> "Tensor":
        """Return waveforms (B, window) as `batch` does, so that gradients pass through."""
        if self.standardize:
            waveforms = waveforms - waveforms.mean(dim=1, keepdim=True)
            waveforms = waveforms / waveforms.std(dim=1, keepdim=True, correction=0).clamp(min=SMALLEST_SD)
        if self.loudness is not None:
            level = waveforms.square().mean(dim=1, keepdim=True).sqrt().clamp(min=SMALLEST_SD)
            waveforms = waveforms * (10 ** (self.loudness / 20) / level).clamp(min=1)
        return waveforms

    def to_dict(self) -> dict[str, object]:
        """Return plain values for the result's record."""
        return {"rate": self.rate, "window": self.window, "standardize": self.standardize, "loudness": self.loudness}


def pool_tokens(tokens: "Tensor", inputs: Batch) -> "Tensor":
    """Return the mean (B, D) over tokens (B, T, D), without the padding that the mask of the inputs names."""
    mask = inputs.get("attention_mask") if isinstance(inputs, Mapping) else None
    if mask is None or mask.shape != tokens.shape[:2]:
        # The mask of audio has one entry for each value, not for each frame.
        return tokens.mean(dim=1)
    return masked_mean(tokens, mask)


def without_class(logits: "Tensor", number: int) -> "Tensor":
    """Return logits (B, C) without the column of one class, shape (B, C - 1)."""
    import torch

    return torch.cat([logits[:, :number], logits[:, number + 1 :]], dim=1)


def masked_mean(values: "Tensor", mask: "Tensor | None") -> "Tensor":
    """Compute the mean of values (B, T, D) over the positions where the mask (B, T) is not 0."""
    if mask is None:
        return values.mean(dim=1)
    weight = mask.unsqueeze(-1).to(values.dtype)
    return (values * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)
