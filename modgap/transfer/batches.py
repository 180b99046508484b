"""Batches of training samples, read in advance; the random numbers depend on seed and position alone."""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from modgap.forward.batched_inference import load_ahead
from modgap.transfer.augmentation import augment, check_augmentation
from modgap.transfer.input_transform import stack_pieces
from modgap.transfer.task_loss import MicroBatch
from modgap.transfer.training_data import TargetData

__all__ = ["BatchFeed", "MicroBatches", "chunks", "generator", "join_short_end", "shuffle_rows"]

MicroBatches = tuple[MicroBatch, ...]


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
        device: Device that the batches are copied to.
        dtype: Precision of the inputs.
        augmentation: Value of `stage2.augmentation`, see `augmentation`.
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
        """Load one batch for each array of rows onto the device, with one piece of each sample.

        Args:
            parts: Rows of each batch.
            stage: Number of the stage.
            epoch: Number of the epoch. Pieces and shifts are drawn anew in every epoch.
        """
        return self._copy_to_device(self._read(parts, stage, epoch))

    def _read(self, parts: Sequence[np.ndarray], stage: int, epoch: int) -> MicroBatches:
        return tuple(self._read_part(rows, stage, epoch) for rows in parts)

    def _read_part(self, rows: np.ndarray, stage: int, epoch: int) -> MicroBatch:
        pieces = [self._read_piece(int(row), stage, epoch) for row in rows]
        return self.data.micro_batch(stack_pieces(pieces, torch.device("cpu"), self.dtype, rows.tolist()), rows)

    def _copy_to_device(self, batches: MicroBatches) -> MicroBatches:
        return batches if self.device.type == "cpu" else tuple(batch.to(self.device) for batch in batches)

    def _read_piece(self, row: int, stage: int, epoch: int) -> np.ndarray:
        random = generator(self.seed, 1 + stage, epoch, row)
        piece = self.data.transform.random_piece(self.data.table.samples, row, random)
        return augment(self.augmentation, piece, self.data, row, random)

    def prefetch(self, updates: Sequence[Sequence[np.ndarray]], stage: int, epoch: int) -> Iterator[MicroBatches]:
        """Yield the batches of each update; the next ones are read while the model works.

        Args:
            updates: For each update, the rows of each of its batches.
            stage: Number of the stage.
            epoch: Number of the epoch.
        """
        # Only the number of the update varies, so a worker process has all that it needs from its start.
        read = functools.partial(_read_update, self, updates, stage, epoch)
        for batches in load_ahead(read, len(updates), self.workers, pin=self.device.type == "cuda"):
            yield self._copy_to_device(batches)


def _read_update(
    feed: BatchFeed, updates: Sequence[Sequence[np.ndarray]], stage: int, epoch: int, number: int
) -> MicroBatches:
    return feed._read(updates[number], stage, epoch)
