"""Batches of training samples, loaded in advance by a thread; the random numbers depend on seed and position alone."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from modgap.errors import UsageError
from modgap.transfer.task_loss import MicroBatch
from modgap.transfer.training_data import TargetData

__all__ = ["PREFETCHED", "BatchFeed", "chunks", "generator", "mask_spectrogram", "shuffle_rows"]

PREFETCHED = 2
"""Number of batches that are loaded in advance."""
MASKED_SHARE = 0.5
"""Share of the spectrograms that are masked."""
MOST_MASKS = 2
LARGEST_BAND = 0.15
LARGEST_TIME = 0.2
"""Largest share of the bands and of the frames that a mask covers."""
SHIFT_DIVISOR = 8
"""Images are shifted by at most an eighth of their size: 4 of 32 pixels."""


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


@dataclass(frozen=True)
class BatchFeed:
    """Loader of batches of a target's samples.

    Attributes:
        data: The target.
        seed: Seed of the choice of pieces and of the augmentation.
        device: Device that the batches are copied to.
        dtype: Precision of the inputs.
        augmentation: `none`; `crop-flip` for random shifts and mirror images; or `spec-augment`, which masks bands and
            times of half of the spectrograms.
    """

    data: TargetData
    seed: int
    device: torch.device
    dtype: torch.dtype
    augmentation: str = "none"

    def __post_init__(self) -> None:
        """Raise an error if the augmentation does not apply to the target's samples.

        Raises:
            UsageError: When images or spectrograms would be augmented, but the samples are none.
        """
        if self.augmentation == "crop-flip" and len(self.data.transform.shape) != 3:
            raise UsageError(
                "stage2.augmentation=crop-flip is for images, but the samples of this target are series. "
                "Pass --set stage2.augmentation=none."
            )
        if self.augmentation == "spec-augment" and self.data.transform.spec.kind != "audio":
            raise UsageError(
                "stage2.augmentation=spec-augment is for spectrograms of sound, but the samples of this target are of "
                f"kind {self.data.transform.spec.kind}. Pass --set stage2.augmentation=none."
            )

    def load(self, parts: Sequence[np.ndarray], stage: int, epoch: int) -> tuple[MicroBatch, ...]:
        """Load one batch for each array of rows, with one piece of each sample.

        Args:
            parts: Rows of each batch.
            stage: Number of the stage.
            epoch: Number of the epoch. Pieces and shifts are drawn anew in every epoch.
        """
        return tuple(self._load_part(rows, stage, epoch) for rows in parts)

    def _load_part(self, rows: np.ndarray, stage: int, epoch: int) -> MicroBatch:
        pieces = [self._load_piece(int(row), stage, epoch) for row in rows]
        return self.data.micro_batch(self.data.to_batch(pieces, self.device, self.dtype), rows)

    def _load_piece(self, row: int, stage: int, epoch: int) -> np.ndarray:
        pieces = self.data.transform.pieces(self.data.table.samples[row])
        if len(pieces) == 1 and self.augmentation == "none":
            return pieces[0]
        random = generator(self.seed, 1 + stage, epoch, row)
        piece = pieces[int(random.integers(len(pieces)))]
        if self.augmentation == "spec-augment":
            return mask_spectrogram(piece, random)
        return piece if self.augmentation == "none" else self._augment(piece, random)

    def _augment(self, image: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Shift an image at random, and mirror it half of the time; the gap is 0 before standardization."""
        transform = self.data.transform
        margins = [side // SHIFT_DIVISOR for side in image.shape[1:]]
        background = (-transform.mean / transform.sd)[:, None, None]
        padding = [(0, 0), *((margin, margin) for margin in margins)]
        padded = np.pad(image - background, padding) + background
        top, left = (int(random.integers(2 * margin + 1)) for margin in margins)
        shifted: np.ndarray = padded[:, top : top + image.shape[1], left : left + image.shape[2]]
        return shifted[:, :, ::-1].copy() if random.integers(2) else shifted

    def prefetch(
        self, updates: Sequence[Sequence[np.ndarray]], stage: int, epoch: int
    ) -> Iterator[tuple[MicroBatch, ...]]:
        """Yield the batches of each update; a thread loads the next ones while the model works.

        Args:
            updates: For each update, the rows of each of its batches.
            stage: Number of the stage.
            epoch: Number of the epoch.
        """
        with ThreadPoolExecutor(1) as pool:
            pending: list[Future[tuple[MicroBatch, ...]]] = []
            for parts in updates:
                pending.append(pool.submit(self.load, parts, stage, epoch))
                if len(pending) > PREFETCHED:
                    yield pending.pop(0).result()
            for batch in pending:
                yield batch.result()
