"""Which samples make up each update, and their inputs, made ahead in a thread; all of it by seed and position."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from modgap.errors import UsageError
from modgap.transfer.task_loss import MicroBatch
from modgap.transfer.training_data import TargetData

__all__ = ["BatchFeed", "chunks", "generator", "shuffle_rows"]

AHEAD = 2
CROP_SHARE = 8
"""Images are shifted by at most an eighth of their size: 4 of 32 pixels."""


def generator(seed: int, *position: int) -> np.random.Generator:
    """Random numbers that depend on the seed and up to four whole numbers alone.

    Example:
        >>> int(generator(0, 1, 2).integers(1000)) == int(generator(0, 1, 2).integers(1000))
        True
    """
    counter = [*position, *(0 for _ in range(4 - len(position)))]
    # The lowest word counts what is drawn; positions go above it.
    return np.random.Generator(np.random.Philox(key=[seed, counter[0]], counter=[0, *counter[1:4]]))


def shuffle_rows(rows: np.ndarray, seed: int, stage: int, epoch: int) -> np.ndarray:
    """The rows in the order of an epoch."""
    return rows[generator(seed, 0, stage, epoch).permutation(len(rows))]


def chunks(rows: np.ndarray, size: int) -> list[np.ndarray]:
    """All rows, `size` at a time; the last are fewer where they do not come out even.

    Example:
        >>> [len(chunk) for chunk in chunks(np.arange(10), 4)]
        [4, 4, 2]
    """
    return [rows[first : first + size] for first in range(0, len(rows), size)]


@dataclass(frozen=True)
class BatchFeed:
    """Makes batches of a target's samples.

    Attributes:
        data: The target.
        seed: Of everything random.
        device: Where batches go.
        dtype: Precision of the inputs.
        augmentation: `none`, or `crop-flip` for shifts and mirrors of images.
    """

    data: TargetData
    seed: int
    device: torch.device
    dtype: torch.dtype
    augmentation: str = "none"

    def __post_init__(self) -> None:
        """Refuse an augmentation that has no meaning here."""
        if self.augmentation == "crop-flip" and len(self.data.transform.shape) != 3:
            raise UsageError("stage2.augmentation=crop-flip is for images; this target's samples are series")

    def parts(self, rows: Sequence[np.ndarray], stage: int, epoch: int) -> tuple[MicroBatch, ...]:
        """Batches of these rows, one piece a sample, in an epoch's own choice of pieces and shifts."""
        return tuple(self._part(each, stage, epoch) for each in rows)

    def _part(self, rows: np.ndarray, stage: int, epoch: int) -> MicroBatch:
        pieces = [self._piece(int(row), stage, epoch) for row in rows]
        return self.data.micro_batch(self.data.to_batch(pieces, self.device, self.dtype), rows)

    def _piece(self, row: int, stage: int, epoch: int) -> np.ndarray:
        pieces = self.data.transform.pieces(self.data.table.samples[row])
        if len(pieces) == 1 and self.augmentation == "none":
            return pieces[0]
        draws = generator(self.seed, 1 + stage, epoch, row)
        piece = pieces[int(draws.integers(len(pieces)))]
        return piece if self.augmentation == "none" else self._moved(piece, draws)

    def _moved(self, image: np.ndarray, draws: np.random.Generator) -> np.ndarray:
        """An image shifted at random, 0 before standardizing where it left room, and mirrored half the time."""
        inputs = self.data.transform
        room = [side // CROP_SHARE for side in image.shape[1:]]
        empty = (-inputs.mean / inputs.sd)[:, None, None]
        wide = np.pad(image - empty, [(0, 0), *((each, each) for each in room)]) + empty
        top, left = (int(draws.integers(2 * each + 1)) for each in room)
        moved = wide[:, top : top + image.shape[1], left : left + image.shape[2]]
        return moved[:, :, ::-1].copy() if draws.integers(2) else moved

    def ahead(
        self, updates: Sequence[Sequence[np.ndarray]], stage: int, epoch: int
    ) -> Iterator[tuple[MicroBatch, ...]]:
        """The batches of several updates, made while the model works on the ones before."""
        with ThreadPoolExecutor(1) as pool:
            waiting: list[Future] = []
            for number in range(len(updates) + AHEAD):
                if number < len(updates):
                    waiting.append(pool.submit(self.parts, updates[number], stage, epoch))
                if number >= AHEAD or number >= len(updates):
                    if not waiting:
                        return
                    yield waiting.pop(0).result()
