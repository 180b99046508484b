"""Softmax of the source logits of all samples, in blocks of rows, with its entropy and a temperature that fixes it."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from scipy.optimize import brentq

from modgap.discrepancy.kernels.softmax import exponentials, fill_entropies, fill_probabilities, new_powers
from modgap.discrepancy.threads import RESIDENT_BYTES, even_ranges, share_pass, share_work
from modgap.errors import InputError
from modgap.storage.memory_map import release_pages

KEPT_BYTES = 1 << 28
"""Largest size of probabilities that are kept in memory; larger ones are computed again in each pass."""
BLOCK_BYTES = 1 << 24
SUMMED_BYTES = 1 << 24
"""Size of the blocks that are summed by class: large, so that a sum is read and written once for several samples."""
COLDEST = 1e-6
HOTTEST = 1e6
"""Range of temperatures, in units of the spread of the logits, in which the matched temperature is looked for."""


@dataclass(frozen=True)
class Probabilities:
    """Softmax over all C source classes of N samples, in double precision.

    Attributes:
        logits: Source logits, shape (N', C); they may be memory-mapped.
        rows: Row of the logits of each sample, shape (N,).
        temperature: Temperature by which the logits are divided.
        threads: Number of threads; it does not change any value.
    """

    logits: np.ndarray = field(repr=False)
    rows: np.ndarray = field(repr=False)
    temperature: float = 1.0
    threads: int = 1

    def __len__(self) -> int:
        """Return the number N of samples."""
        return len(self.rows)

    @property
    def n_source_classes(self) -> int:
        """Number C of source classes."""
        return int(self.logits.shape[1])

    @property
    def is_kept(self) -> bool:
        """True if all probabilities fit into memory, so that they are computed only once."""
        return 8 * len(self) * self.n_source_classes <= KEPT_BYTES

    @cached_property
    def _softmax(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Probabilities (N, C), or no rows if they are not kept, largest logits (N,) and sums of exponentials (N,)."""
        largest = np.empty(len(self))
        sums = np.empty(len(self))
        probabilities = np.empty((len(self) if self.is_kept else 0, self.n_source_classes))

        def work(queue: Iterator[slice]) -> None:
            powers = new_powers(self.n_source_classes)
            for block in queue:
                size = block.stop - block.start
                out = probabilities[block] if self.is_kept else np.empty((size, self.n_source_classes))
                inverse = 1 / self.temperature
                fill_probabilities(self._logits_of(block), inverse, out, largest[block], sums[block], *powers)

        share_pass(self.logits, self._blocks(), self.threads, work)
        return probabilities, largest, sums

    def _blocks(self, n_bytes: int = BLOCK_BYTES) -> list[slice]:
        size = max(1, n_bytes // (8 * self.n_source_classes))
        return [slice(first, min(first + size, len(self))) for first in range(0, len(self), size)]

    def _logits_of(self, block: slice) -> np.ndarray:
        return np.ascontiguousarray(self.logits[self.rows[block]], dtype=np.float64)

    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the number of the first sample and the probabilities (B, C) of each block of samples, in order."""
        if self.is_kept:
            yield 0, self._softmax[0]
            return
        for block in self._blocks(SUMMED_BYTES):
            yield block.start, self._compute_block(block)
            release_pages(self.logits)

    def _compute_block(self, block: slice) -> np.ndarray:
        """Return the probabilities of a block of samples, of which each thread computes a part."""
        size = block.stop - block.start
        out = np.empty((size, self.n_source_classes))
        largest = np.empty(size)
        sums = np.empty(size)

        def work(queue: Iterator[tuple[int, int]]) -> None:
            powers = new_powers(self.n_source_classes)
            for start, stop in queue:
                part = slice(start, stop)
                logits = self._logits_of(slice(block.start + start, block.start + stop))
                fill_probabilities(logits, 1 / self.temperature, out[part], largest[part], sums[part], *powers)

        share_work(even_ranges(size, self.threads), self.threads, work)
        return out

    def at(self, samples: np.ndarray, source_classes: np.ndarray) -> np.ndarray:
        """Return the probability of one source class for each of M samples.

        Args:
            samples: Numbers of the samples, shape (M,).
            source_classes: Source class for each of them, shape (M,).
        """
        probabilities, largest, sums = self._softmax
        if self.is_kept:
            return np.asarray(probabilities[samples, source_classes])
        exponents = self._gather(samples, source_classes) - largest[samples]
        out = np.empty(len(samples))
        exponentials(exponents * (1 / self.temperature), out, *new_powers(len(samples)))
        out /= sums[samples]
        return out

    def _gather(self, samples: np.ndarray, source_classes: np.ndarray) -> np.ndarray:
        """Return the logit of one source class for each of M samples in increasing order, shape (M,)."""
        logits = np.empty(len(samples))
        n_parts = max(1, -(-self.logits.nbytes // RESIDENT_BYTES))
        # The system maps the neighbors of each page, so that scattered values can bring in most of a file.
        for part in np.array_split(np.arange(len(samples)), n_parts):
            logits[part] = self.logits[self.rows[samples[part]], source_classes[part]]
            release_pages(self.logits)
        return logits

    def mean_entropy(self, temperature: float | None = None) -> float:
        """Return the mean entropy of the softmax over the samples, in nats.

        Args:
            temperature: Temperature of the softmax; None for that of the probabilities.
        """
        entropies = np.empty(len(self))
        inverse = 1 / (temperature or self.temperature)

        def work(queue: Iterator[slice]) -> None:
            buffers = np.empty((2, self.n_source_classes))
            powers = new_powers(self.n_source_classes)
            for block in queue:
                fill_entropies(self._logits_of(block), inverse, entropies[block], *buffers, *powers)

        share_pass(self.logits, self._blocks(), self.threads, work)
        return float(entropies.mean())

    def on_one_thread(self) -> "Probabilities":
        """Return the same probabilities for use by one of several threads, without computing them again."""
        other = replace(self, threads=1)
        other.__dict__["_softmax"] = self._softmax
        return other


def matched_temperature(probabilities: Probabilities, n_classes: int) -> float:
    """Find the temperature at which the mean entropy is half of log K nats, for K target classes.

    Sources of different confidence are then compared at equal confidence. The labels are not used.

    Args:
        probabilities: Softmax of all samples.
        n_classes: Number K of target classes.

    Raises:
        InputError: If no temperature gives this entropy, because the logits of a row are all equal, or nearly so, or if
            the squares of the logits overflow.
    """
    wanted = 0.5 * float(np.log(n_classes))
    # The typical spread is the mean over samples of the standard deviation of a sample's logits.
    total = 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        for block in probabilities._blocks():
            total += float(probabilities._logits_of(block).std(axis=1).sum())
            release_pages(probabilities.logits)
    spread = total / len(probabilities)
    if not np.isfinite(spread):
        raise InputError(
            "The logits are so large that their squares overflow in double precision, so no temperature gives them the "
            "entropy at which sources are compared. Expected logits below 1e150. Check the model that computed them."
        )

    def excess(log_temperature: float) -> float:
        return probabilities.mean_entropy(float(np.exp(log_temperature))) - wanted

    bounds = [float(np.log(spread * scale)) for scale in (COLDEST, HOTTEST)] if spread > 0 else []
    if not bounds or excess(bounds[0]) > 0 or excess(bounds[1]) < 0:
        raise InputError(
            "The logits are constant, or several classes tie for the first place in most samples, so no temperature "
            "gives them the entropy at which sources are compared. Check the model that computed them."
        )
    return float(np.exp(brentq(excess, *bounds, xtol=1e-9, rtol=1e-12)))
