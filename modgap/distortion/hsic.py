"""Unbiased Hilbert-Schmidt independence criterion (Song et al. 2012), from sums over rows of kernels.

With kernels K and L whose diagonals are set to 0, row sums k = K1 and l = L1, and T = tr(KL),

    HSIC = (T + (1'k)(1'l) / ((n - 1)(n - 2)) - 2 k'l / (n - 2)) / (n (n - 3)).

For linear kernels of centered features X and Y, with squared norms d and e of their rows, k = -d, l = -e and
T = ||X'Y||^2 - d'e, so that no n x n matrix is needed. Each sum without one sample follows from sums over that sample's
row, so that the delete-one jackknife costs as much as one estimate.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from modgap.errors import InputError
from modgap.probes.feature_arrays import map_blocks, squared_distances
from modgap.probes.single_thread import single_blas_thread

Value = TypeVar("Value", float, np.ndarray)

MEDIAN_SAMPLES = 2000
"""Largest number of samples from which the median distance is computed."""


@dataclass(frozen=True)
class Terms:
    """Sums of two kernels whose diagonals are 0.

    Attributes:
        both: Row sums of the entrywise product, shape (n,), or their total, shape (1,), if no jackknife is needed.
        first: Row sums of the first kernel, shape (n,).
        second: Row sums of the second kernel, shape (n,).
        first_second: First kernel times `second`, for the jackknife, shape (n,); None if no jackknife is needed.
        second_first: Second kernel times `first`, for the jackknife, shape (n,); None if no jackknife is needed.
    """

    both: np.ndarray
    first: np.ndarray
    second: np.ndarray
    first_second: np.ndarray | None = None
    second_first: np.ndarray | None = None


def hsic(terms: Terms) -> float:
    """Return the estimate of HSIC; its expected value is 0 for independent features."""
    return float(
        _estimate(len(terms.first), terms.both.sum(), terms.first.sum(), terms.second.sum(), terms.first @ terms.second)
    )


def leave_one_out_hsic(terms: Terms) -> np.ndarray:
    """Return the estimates of HSIC without each one of the samples, shape (n,)."""
    assert terms.first_second is not None
    assert terms.second_first is not None
    first = terms.first
    second = terms.second
    product = first @ second - first * second - terms.first_second - terms.second_first + terms.both
    total = terms.both.sum() - 2 * terms.both
    return _estimate(len(first) - 1, total, first.sum() - 2 * first, second.sum() - 2 * second, product)


def _estimate(n: int, total: Value, first: Value, second: Value, product: Value) -> Value:
    """Return the formula of this module's docstring; arguments are T, 1'k, 1'l and k'l, scalars or one per estimate."""
    estimate: Value = (total + first * second / ((n - 1) * (n - 2)) - 2 * product / (n - 2)) / (n * (n - 3))
    return estimate


def varies(terms: Terms) -> bool:
    """Return True if the HSIC of a kernel with itself is larger than rounding errors."""
    n = len(terms.first)
    return bool(hsic(terms) * n * (n - 3) > 1e-12 * (terms.both.sum() + (terms.first**2).sum() / n))


def linear_terms(first: np.ndarray, second: np.ndarray, jackknife: bool) -> Terms:
    """Compute the terms of linear kernels of centered features.

    Args:
        first: Centered features of the first encoder, shape (n, D).
        second: Centered features of the second encoder, shape (n, D').
        jackknife: True to compute the terms of the jackknife too.
    """
    d = (first**2).sum(axis=1)
    e = (second**2).sum(axis=1)
    if len(first) ** 2 < first.shape[1] * second.shape[1]:
        rows = ((first @ first.T) * (second @ second.T)).sum(axis=1) - d * e
    else:
        product = first.T @ second
        total = np.array([(product**2).sum() - d @ e])
        rows = ((first @ product) * second).sum(axis=1) - d * e if jackknife else total
    if not jackknife:
        return Terms(rows, -d, -e)
    return Terms(rows, -d, -e, d * e - first @ (first.T @ e), d * e - second @ (second.T @ d))


def kernel_terms(
    first: np.ndarray, second: np.ndarray, bandwidth: float, jackknife: bool
) -> tuple[Terms, Terms, Terms]:
    """Compute the terms of Gaussian kernels of both features, and of each kernel with itself.

    Args:
        first: Centered features of the first encoder, shape (n, D).
        second: Centered features of the second encoder, shape (n, D').
        bandwidth: Standard deviation of the kernels as a multiple of the median distance.
        jackknife: True to compute the terms of the jackknife too.

    Raises:
        InputError: When the median distance is 0.
    """
    with single_blas_thread():
        kernels = [gaussian_kernel(array, bandwidth) for array in (first, second)]
    n_samples = len(first)
    row_bytes = 8 * n_samples * (len(kernels) + 3)

    def sum_rows(rows: slice) -> np.ndarray:
        one, other = (kernel(rows) for kernel in kernels)
        squares = (np.einsum("ij,ij->i", block, block) for block in (one, other))
        products = (one[:, None] @ other[:, :, None]).ravel()
        return np.stack([one.sum(axis=1), other.sum(axis=1), *squares, products])

    parts = map_blocks(sum_rows, n_samples, row_bytes)
    *totals, first_squares, second_squares, products = np.concatenate(parts, axis=1)

    def multiply_rows(rows: slice) -> np.ndarray:
        return np.stack([kernel(rows) @ np.stack(totals).T for kernel in kernels])

    # times[a, :, b] is kernel a times the row sums of kernel b.
    times = np.concatenate(map_blocks(multiply_rows, n_samples, row_bytes), axis=1) if jackknife else None

    def terms(a: int, b: int, both: np.ndarray) -> Terms:
        if times is None:
            return Terms(both, totals[a], totals[b])
        return Terms(both, totals[a], totals[b], times[a, :, b], times[b, :, a])

    return terms(0, 1, products), terms(0, 0, first_squares), terms(1, 1, second_squares)


def gaussian_kernel(array: np.ndarray, bandwidth: float) -> Callable[[slice], np.ndarray]:
    """Return a function that computes a block of rows of the Gaussian kernel of features, with a diagonal of 0.

    Args:
        array: Centered features, shape (n, D).
        bandwidth: Standard deviation of the kernel as a multiple of the median distance.

    Raises:
        InputError: When the median distance is 0.
    """
    norms = (array**2).sum(axis=1)
    spread = np.unique(np.linspace(0, len(array) - 1, min(len(array), MEDIAN_SAMPLES)).astype(int))
    subset = array[spread]
    squares = squared_distances(subset, slice(0, len(subset)), norms[spread])
    median = float(np.median(squares[np.triu_indices(len(subset), 1)]))
    if median <= 1e-12 * norms.max():
        raise InputError(
            "The median distance between samples is 0: at least half of the pairs have the same features. "
            "Use linear_cka, or remove repeated samples."
        )
    scale = -1 / (2 * median * bandwidth**2)

    def kernel_rows(rows: slice) -> np.ndarray:
        squares = squared_distances(array, rows, norms)
        kernel = np.exp(np.multiply(squares, scale, out=squares), out=squares)
        kernel[np.arange(len(kernel)), np.arange(rows.start, rows.stop)] = 0
        return np.asarray(kernel)

    return kernel_rows
