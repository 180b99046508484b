"""Batches of training samples, read in advance and changed at random; the numbers depend on seed and position alone."""

import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from modgap.errors import UsageError
from modgap.forward.reading_ahead import Loader
from modgap.process.devices import copies_freely
from modgap.training.task_loss import MicroBatch
from modgap.training.training_data import InputTransform, TargetData, stack_pieces

MASKED_SHARE = 0.5
"""Share of the spectrograms that are masked."""
MOST_MASKS = 2
LARGEST_BAND = 0.15
LARGEST_TIME = 0.2
"""Largest share of the bands and of the frames that a mask covers."""
NOISY_SHARE = 0.75
"""Share of the spectrograms that noise is mixed into."""
LARGEST_NOISE = 0.5
"""Largest weight of the noise."""
LEVELS = (-0.9, 3.0)
"""Range of the multiple of a sample's background level that is added to it."""
SHIFT_DIVISOR = 8
"""Images are shifted by at most an eighth of their size: 4 of 32 pixels."""

MicroBatches = tuple[MicroBatch, ...]
Update = tuple[int, int, Sequence[np.ndarray]]
"""Number of the epoch of an update, its number in the whole run, and the rows of each of its batches."""

log = logging.getLogger("modgap")


def generator(seed: int, *position: int) -> np.random.Generator:
    """Return a random generator that depends only on the seed and on a position of up to four integers.

    Example:
        >>> int(generator(0, 1, 2).integers(1000)) == int(generator(0, 1, 2).integers(1000))
        True
    """
    counter = [*position, *(0 for _ in range(4 - len(position)))]
    # The lowest word of the counter counts the numbers drawn, so the position goes above it.
    return np.random.Generator(np.random.Philox(key=[seed, counter[0]], counter=[0, *counter[1:4]]))


def shuffle_rows(rows: np.ndarray, seed: int, stage: int, epoch: int) -> np.ndarray:
    """Return the rows (n,) in the random order of an epoch."""
    return rows[generator(seed, 0, stage, epoch).permutation(len(rows))]


def chunks(rows: np.ndarray, size: int) -> list[np.ndarray]:
    """Split rows into consecutive chunks of `size`; the last chunk may be smaller.

    Example:
        >>> [len(chunk) for chunk in chunks(np.arange(10), 4)]
        [4, 4, 2]
    """
    return [rows[first : first + size] for first in range(0, len(rows), size)]


def join_short_end(parts: Sequence[np.ndarray], fewest: int) -> list[np.ndarray]:
    """Return parts whose last one has at least `fewest` rows, because a shorter one is joined to the one before it.

    Example:
        >>> [len(part) for part in join_short_end(chunks(np.arange(9), 4), 2)]
        [4, 5]
    """
    if len(parts) < 2 or len(parts[-1]) >= fewest:
        return list(parts)
    return [*parts[:-2], np.concatenate(parts[-2:])]


@dataclass(frozen=True)
class BatchFeed:
    """Loader of batches of a target's samples.

    Attributes:
        data: The target.
        seed: Seed of the choice of pieces and of the augmentation.
        device: Device that the batches are for.
        dtype: Precision of the inputs.
        augmentation: Value of `stage2.augmentation`, see `augment`.
        workers: Number of processes that read the batches; with 0, a thread of this process reads them.
    """

    data: TargetData
    seed: int
    device: torch.device
    dtype: torch.dtype
    augmentation: str = "none"
    workers: int = 0

    def __post_init__(self) -> None:
        """Raise a UsageError if the augmentation does not apply to the target's samples."""
        check_augmentation(self.augmentation, self.data)

    def load(self, parts: Sequence[np.ndarray], stage: int, epoch: int) -> MicroBatches:
        """Read one batch for each array of rows on the CPU, with one piece of each sample.

        Args:
            parts: Rows of each batch.
            stage: Number of the stage.
            epoch: Number of the epoch. Pieces and shifts are drawn anew in every epoch.
        """
        return tuple(self._read_part(rows, stage, epoch) for rows in parts)

    def _read_part(self, rows: np.ndarray, stage: int, epoch: int) -> MicroBatch:
        pieces = [self._read_piece(int(row), stage, epoch) for row in rows]
        inputs = stack_pieces(pieces, torch.device("cpu"), self.dtype, rows.tolist())
        return self.data.micro_batch(inputs, rows, self.dtype)

    def _read_piece(self, row: int, stage: int, epoch: int) -> np.ndarray:
        random = generator(self.seed, 1 + stage, epoch, row)
        piece = self.data.transform.random_piece(self.data.table.samples, row, random)
        return augment(self.augmentation, piece, self.data, row, random)

    def updates(
        self, stage: int, surrogate: Callable[[int], Any] | None = None
    ) -> Loader[Update, tuple[MicroBatches, Any]]:
        """Return the loader of the updates of a stage, whose worker processes stay for all epochs.

        Args:
            stage: Number of the stage.
            surrogate: Function that reads an update's part of the surrogate, by the number of the update; None if it
                has none.
        """
        read = functools.partial(_read_update, self, stage, surrogate)
        return Loader(read, self.workers, pin=copies_freely(self.device))


def _read_update(
    feed: BatchFeed, stage: int, surrogate: Callable[[int], Any] | None, update: Update
) -> tuple[MicroBatches, Any]:
    """Read the batches of the target on the CPU, and the update's part of the surrogate."""
    epoch, step, parts = update
    return feed.load(parts, stage, epoch), surrogate(step) if surrogate else None


# Augmentation: random changes of standardized inputs, by a generator of the sample's own


def check_augmentation(name: str, data: TargetData) -> None:
    """Raise an error if an augmentation does not apply to a target's samples; warn if its noise is missing.

    Args:
        name: Value of `stage2.augmentation`.
        data: The target.

    Raises:
        UsageError: When the samples are of another kind, or have no background levels.
    """
    spec = data.transform.spec
    is_image = len(data.transform.input_shape) == 3
    way_out = 'Pass `settings={"stage2.augmentation": "none"}`.'
    if name == "crop-flip" and not (is_image and len(data.transform.shape) == 3):
        raise UsageError(
            "stage2.augmentation=crop-flip is for images, but the samples of this target are of kind "
            f"{spec.kind}, or the source reads them as another. {way_out}"
        )
    if name in ("spec-augment", "noise-spec-augment") and not (is_image and spec.kind == "audio"):
        raise UsageError(
            f"stage2.augmentation={name} is for spectrograms of sound, but the samples of this target are of "
            f"kind {spec.kind}, or the source reads them as another. {way_out}"
        )
    if name == "background-level" and data.table.levels is None:
        raise UsageError(
            "stage2.augmentation=background-level needs the level of each sample's background, which only the reader "
            f"star_fields reads. {way_out}"
        )
    if name == "noise-spec-augment" and data.table.noise is None:
        log.warning("The target has no files of noise, so the spectrograms are masked, but no noise is mixed in.")


def augment(name: str, piece: np.ndarray, data: TargetData, row: int, random: np.random.Generator) -> np.ndarray:
    """Return a standardized input after its random change.

    Args:
        name: Value of `stage2.augmentation`, which `check_augmentation` accepts.
        piece: The input, which stays as it is.
        data: The target.
        row: Number of its sample.
        random: Generator of the choices.
    """
    if name == "crop-flip":
        return shift_and_mirror(piece, data.transform, random)
    if name == "spec-augment":
        return mask_spectrogram(piece, random)
    if name == "noise-spec-augment":
        return _mix_noise(mask_spectrogram(piece, random), data, random)
    if name == "background-level":
        assert data.table.levels is not None
        return add_background(piece, float(data.table.levels[row]), data.transform, random)
    return piece


def mask_spectrogram(spectrogram: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Mask bands and times of a spectrogram (1, bands, frames) with its smallest value, half of the time (SpecAugment).

    One or two masks each: at most 15 % of the bands and 20 % of the frames, as in ORCA's recipe for FSD50K.

    Args:
        spectrogram: The spectrogram, which stays as it is.
        random: Generator of the choice.

    References:
        Park et al. (2019), SpecAugment: a simple data augmentation method for automatic speech recognition.
    """
    if random.random() >= MASKED_SHARE:
        return spectrogram
    masked = spectrogram.copy()
    lowest = spectrogram.min()
    for _ in range(int(random.integers(1, MOST_MASKS + 1))):
        for axis, largest in ((1, LARGEST_BAND), (2, LARGEST_TIME)):
            size = int(random.uniform(0, largest) * masked.shape[axis])
            start = int(random.uniform(0, masked.shape[axis] - size))
            part = [slice(None)] * masked.ndim
            part[axis] = slice(start, start + size)
            masked[tuple(part)] = lowest
    return masked


def _mix_noise(spectrogram: np.ndarray, data: TargetData, random: np.random.Generator) -> np.ndarray:
    """Mix a masked spectrogram of noise into three quarters of the spectrograms, with a weight of at most a half.

    The mean of two standardized spectrograms is the standardized one of their mean.
    """
    noise = data.table.noise
    if noise is None or random.random() >= NOISY_SHARE:
        return spectrogram
    other = data.transform.random_piece(noise, int(random.integers(len(noise))), random)
    weight = np.float32(random.uniform(0, LARGEST_NOISE))
    return np.asarray((1 - weight) * spectrogram + weight * mask_spectrogram(other, random))


def add_background(
    image: np.ndarray, level: float, transform: InputTransform, random: np.random.Generator
) -> np.ndarray:
    """Add a random multiple, from -0.9 to 3, of a background level to a standardized image (C, H, W).

    Args:
        image: The image, which stays as it is.
        level: The level, in the unit before standardization.
        transform: The transform that standardized the image.
        random: Generator of the choice.
    """
    added = random.uniform(*LEVELS) * level
    return np.asarray(image + (added / transform.sd)[:, None, None].astype(np.float32))


def shift_and_mirror(image: np.ndarray, transform: InputTransform, random: np.random.Generator) -> np.ndarray:
    """Shift an image (C, H, W) at random, and mirror it half of the time; the gap is 0 before standardization."""
    margins = [side // SHIFT_DIVISOR for side in image.shape[1:]]
    background = (-transform.mean / transform.sd).astype(np.float32)[:, None, None]
    padding = [(0, 0), *((margin, margin) for margin in margins)]
    padded = np.pad(image - background, padding) + background
    top, left = (int(random.integers(2 * margin + 1)) for margin in margins)
    shifted: np.ndarray = padded[:, top : top + image.shape[1], left : left + image.shape[2]]
    return shifted[:, :, ::-1].copy() if random.integers(2) else shifted
