"""The transform of a target's samples to standardized inputs of one shape."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.functional import interpolate

from modgap.errors import InputError, UsageError
from modgap.inputs.representations import chunk_spans, log_mel_spectrograms, stretch
from modgap.targets import Samples
from modgap.targets.manifest import InputSpec
from modgap.targets.samples import PartialSamples, computing_type

__all__ = ["InputTransform", "fit_to_shape", "raw_pieces", "stack_pieces"]


@dataclass(frozen=True)
class InputTransform:
    """Transform of a sample to inputs of a target embedder.

    Attributes:
        spec: Description of the input in the manifest.
        shape: Shape of every input, (C, H, W) or (C, length).
        mean: Mean of each channel over at most 2,000 training samples, float64, shape (C,).
        sd: Standard deviation of each channel over the same samples, float64, shape (C,).
        stretched: True if the series of the target differ in length, so that each is stretched to the shape's.
    """

    spec: InputSpec
    shape: tuple[int, ...]
    mean: np.ndarray
    sd: np.ndarray
    stretched: bool = False

    def pieces(self, sample: Any) -> list[np.ndarray]:
        """Return the standardized inputs of a sample. A sound clip or a video has several."""
        return [self._standardize(piece) for piece in raw_pieces(sample, self.spec)]

    def _standardize(self, piece: np.ndarray) -> np.ndarray:
        values = fit_to_shape(piece, self.shape, stretched=self.stretched)
        channels_first = (-1,) + (1,) * (len(self.shape) - 1)
        mean = self.mean.reshape(channels_first).astype(values.dtype)
        sd = self.sd.reshape(channels_first).astype(values.dtype)
        standardized: np.ndarray = ((values - mean) / sd).astype(np.float32, copy=False)
        return standardized

    def random_piece(self, samples: Samples, row: int, random: np.random.Generator) -> np.ndarray:
        """Return one of the standardized inputs of a sample, drawn at random.

        Of a sound whose samples can be read in parts, only the chosen part is decoded.

        Args:
            samples: Samples of the target.
            row: Index of the sample.
            random: Generator of the choice.
        """
        spans = self._chunk_spans(samples, row)
        if len(spans) < 2:
            pieces = self.pieces(samples[row])
            return pieces[int(random.integers(len(pieces)))]
        assert isinstance(samples, PartialSamples)
        start, stop = spans[int(random.integers(len(spans)))]
        return self.pieces(samples.part(row, start, stop))[0]

    def _chunk_spans(self, samples: Samples, row: int) -> list[tuple[int, int]]:
        """Return start and stop of each chunk of a sound; none if the sound has to be decoded to know them."""
        if self.spec.kind != "audio" or self.spec.rate is None or not isinstance(samples, PartialSamples):
            return []
        length = samples.length(row)
        return [] if length is None else chunk_spans(length, self.spec.rate, self.spec.log_mel)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for the record of a run."""
        record = {"shape": list(self.shape), "mean": self.mean.tolist(), "sd": self.sd.tolist()}
        return record | ({"stretched": True} if self.stretched else {})


def stack_pieces(
    pieces: Sequence[np.ndarray], device: torch.device, dtype: torch.dtype, rows: Sequence[int] | None = None
) -> torch.Tensor:
    """Return inputs as a batch on a device.

    Args:
        pieces: Inputs of one shape.
        device: Device of the batch.
        dtype: Precision of the batch.
        rows: Index of the sample that each input belongs to, for messages; None if it is not known.

    Raises:
        InputError: When an input is not finite.
    """
    batch = np.stack(pieces)
    if not np.isfinite(batch).all():
        first = int(np.flatnonzero(~np.isfinite(batch).reshape(len(batch), -1).all(axis=1))[0])
        name = "A sample" if rows is None else f"Sample {rows[first]}"
        raise InputError(f"{name} has NaN or infinite values. Remove the sample, or fill the values.")
    return torch.from_numpy(batch).to(device=device, dtype=dtype)


def raw_pieces(sample: Any, spec: InputSpec) -> list[np.ndarray]:
    """Return the images (C, H, W) or series (C, length) that a sample consists of."""
    if spec.kind == "text":
        raise UsageError(
            "The target consists of texts, which training does not support. "
            "Choose a target of images, series, sound or video."
        )
    if spec.kind == "audio":
        if spec.rate is None:
            raise InputError("A log-mel spectrogram needs the sampling rate in hertz. Set input.rate in the manifest.")
        return log_mel_spectrograms(sample, spec.rate, spec.log_mel)
    return list(sample) if spec.kind == "video" else [np.asarray(sample)]


def fit_to_shape(piece: np.ndarray, shape: tuple[int, ...], *, stretched: bool = False) -> np.ndarray:
    """Return a piece with the given shape, of the type to compute in.

    Images are resized, as float32, and series of another length stretched.

    Args:
        piece: Image (C, H, W) or series (C, length).
        shape: Shape to return.
        stretched: True to stretch a series of another length as for a source of sound, False to refuse it.

    Raises:
        InputError: When the number of channels, or the length of a series that is not stretched, is another.
    """
    if piece.shape == shape:
        return piece.astype(computing_type(piece.dtype), copy=False)
    if stretched and piece.ndim == len(shape) == 2 and len(piece) == shape[0] and piece.shape[1] > 1:
        return np.stack([stretch(channel, shape[1]) for channel in piece])
    if len(shape) != 3 or piece.ndim != 3 or piece.shape[0] != shape[0]:
        raise InputError(
            f"A sample has shape {piece.shape}, and others have {shape}. Crop or pad them to one shape, by a step of a "
            "manifest or before."
        )
    image = torch.from_numpy(piece.astype(np.float32))[None]
    return interpolate(image, shape[1:], mode="bilinear", antialias=True)[0].numpy()
