"""Unbiased Hilbert-Schmidt independence criterion (Song et al. 2012), from sums over rows of kernels.

With kernels K and L whose diagonals are set to 0, row sums k = K1 and l = L1, and T = tr(KL),

    HSIC = (T + (1'k)(1'l) / ((n - 1)(n - 2)) - 2 k'l / (n - 2)) / (n (n - 3)).

For linear kernels of centered features X and Y, with squared norms d and e of their rows, k = -d, l = -e and
T = ||X'Y||^2 - d'e, so no n x n matrix is needed. Each sum without one sample is known from sums over that sample's
row, which gives the delete-one jackknife at the cost of one estimate.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from modgap.distortion.arrays import blockwise, one_thread, squared_distances
from modgap.errors import InputError

__all__ = ["Terms", "hsic", "hsic_without_each", "kernel_terms", "linear_terms", "varies"]

MEDIAN_OF = 2000


@dataclass(frozen=True)
class Terms:
    """Sums of two kernels, their diagonals 0.

    Attributes:
        both: Row sums of the entrywise product, (n,), or their total, (1,), where no jackknife is needed.
        first: Row sums of the first kernel, (n,).
        second: Of the second.
        first_second: First kernel times `second`, (n,), for the jackknife.
        second_first: Second kernel times `first`.
    """

    both: np.ndarray
    first: np.ndarray
    second: np.ndarray
    first_second: np.ndarray | None = None
    second_first: np.ndarray | None = None


def hsic(terms: Terms) -> float:
    """The estimate; 0 expected for independent features."""
    total = terms.both.sum()
    return _value(len(terms.first), total, terms.first.sum(), terms.second.sum(), terms.first @ terms.second)


def hsic_without_each(terms: Terms) -> np.ndarray:
    """The estimate without each of the samples, (n,)."""
    assert terms.first_second is not None
    assert terms.second_first is not None
    first, second = terms.first, terms.second
    product = first @ second - first * second - terms.first_second - terms.second_first + terms.both
    total = terms.both.sum() - 2 * terms.both
    return _value(len(first) - 1, total, first.sum() - 2 * first, second.sum() - 2 * second, product)


def _value(samples: int, total: Any, first: Any, second: Any, product: Any) -> Any:
    n = samples
    return (total + first * second / ((n - 1) * (n - 2)) - 2 * product / (n - 2)) / (n * (n - 3))


def varies(terms: Terms) -> bool:
    """Whether anything is left of a kernel's sums with itself, beyond rounding."""
    n = len(terms.first)
    return bool(hsic(terms) * n * (n - 3) > 1e-12 * (terms.both.sum() + (terms.first**2).sum() / n))


def linear_terms(
    firsts: Sequence[np.ndarray], seconds: Sequence[np.ndarray], jackknife: bool
) -> tuple[list[list[Terms]], list[Terms], list[Terms]]:
    """Terms of all pairs of centered features, of each first with itself, and of each second with itself."""
    return (
        [[_linear(first, second, jackknife) for second in seconds] for first in firsts],
        [_linear(array, array, jackknife) for array in firsts],
        [_linear(array, array, jackknife) for array in seconds],
    )


def _linear(first: np.ndarray, second: np.ndarray, jackknife: bool) -> Terms:
    d, e = (first**2).sum(axis=1), (second**2).sum(axis=1)
    if len(first) ** 2 < first.shape[1] * second.shape[1]:
        rows = ((first @ first.T) * (second @ second.T)).sum(axis=1) - d * e
    else:
        product = first.T @ second
        rows = ((first @ product) * second).sum(axis=1) - d * e if jackknife else np.array([(product**2).sum() - d @ e])
    if not jackknife:
        return Terms(rows, -d, -e)
    return Terms(rows, -d, -e, d * e - first @ (first.T @ e), d * e - second @ (second.T @ d))


def kernel_terms(
    firsts: Sequence[np.ndarray], seconds: Sequence[np.ndarray], bandwidth: float, jackknife: bool, threads: int
) -> tuple[list[list[Terms]], list[Terms], list[Terms]]:
    """The same for Gaussian kernels; every kernel is computed once a block of rows, whatever the number of pairs."""
    with one_thread():
        kernels = [_Gaussian(array, bandwidth) for array in (*firsts, *seconds)]
    cut, samples = len(firsts), len(firsts[0])
    row_bytes = 8 * samples * (len(kernels) + 3)

    def sums(rows: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        found = np.stack([kernel.rows(rows) for kernel in kernels])
        cross = found[:cut].transpose(1, 0, 2) @ found[cut:].transpose(1, 2, 0)
        return found.sum(axis=2), np.einsum("mij,mij->mi", found, found), cross.transpose(1, 2, 0)

    parts = blockwise(sums, samples, row_bytes, threads)
    totals, squares, cross = (np.concatenate([part[i] for part in parts], axis=-1) for i in range(3))

    def products(rows: slice) -> np.ndarray:
        return np.stack([kernel.rows(rows) @ totals.T for kernel in kernels])

    # times[a, b] is kernel a times the row sums of kernel b.
    times = np.concatenate(blockwise(products, samples, row_bytes, threads), axis=1) if jackknife else None

    def terms(a: int, b: int, both: np.ndarray) -> Terms:
        more = () if times is None else (times[a, :, b], times[b, :, a])
        return Terms(both, totals[a], totals[b], *more)

    own = [terms(a, a, squares[a]) for a in range(len(kernels))]
    pairs = [[terms(a, cut + b, cross[a, b]) for b in range(len(seconds))] for a in range(cut)]
    return pairs, own[:cut], own[cut:]


class _Gaussian:
    def __init__(self, array: np.ndarray, bandwidth: float) -> None:
        self.array, self.norms = array, (array**2).sum(axis=1)
        spread = np.unique(np.linspace(0, len(array) - 1, min(len(array), MEDIAN_OF)).astype(int))
        some = array[spread]
        squares = squared_distances(some, slice(0, len(some)), self.norms[spread])
        median = float(np.median(squares[np.triu_indices(len(some), 1)]))
        if median <= 1e-12 * self.norms.max():
            raise InputError(
                "expected a median distance above 0 for a Gaussian kernel, but at least half of the pairs of samples "
                "have the same features; take linear_cka, or leave repeated samples out"
            )
        self.scale = -1 / (2 * median * bandwidth**2)

    def rows(self, rows: slice) -> np.ndarray:
        """A block of rows of the kernel, the diagonal 0."""
        squares = squared_distances(self.array, rows, self.norms)
        kernel = np.exp(np.multiply(squares, self.scale, out=squares), out=squares)
        kernel[np.arange(len(kernel)), np.arange(rows.start, rows.stop)] = 0
        return kernel
