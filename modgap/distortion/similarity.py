"""Similarity of two encoders' features of the same samples, with the 95 % intervals that covered it in simulation.

The simulation is `benchmarks/distortion_validity.py`.

- CKA: the delete-one jackknife with Student's t, whose degrees of freedom follow from the kurtosis of the replicates.
- Procrustes: the estimate lies above the true value on average, because its rotation is fitted to the same samples. A
  rotation that is fitted to other samples gives a value below the true one on average. The interval extends from the
  lower limit of the second value to the upper limit of the first.
- Neighbor overlap: a jackknife that leaves out blocks of samples and finds the neighbors among the others.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from modgap.distortion import hsic
from modgap.errors import InputError, named
from modgap.probes.feature_arrays import center_features, validate_count
from modgap.probes.single_thread import single_blas_thread
from modgap.statistics.intervals import student_quantile
from modgap.statistics.units import unit_numbers

MIN_SAMPLES = 4
"""Fewest samples for which the unbiased estimator of HSIC is defined."""
MIN_SAMPLES_OF_INTERVAL = 50
"""Fewest samples for which intervals were checked by simulation."""
MIN_GROUPS = 10
"""Fewest groups of samples for which intervals were checked by simulation."""
CKA = ("linear_cka", "kernel_cka")
BANDWIDTH = 0.8
"""Standard deviation of the kernel of kernel CKA as a multiple of the median distance (Kornblith et al. 2019)."""
NEIGHBORS = 10
"""Number k of neighbors of the neighbor overlap."""
FOLDS = 5
"""Number of parts of the samples in the interval of Procrustes. Each is rotated as fitted to the other parts."""
FOLD_DEPENDENCE = 2.0
"""Factor of the variance of the cross-fitted Procrustes similarity, because its folds depend on each other."""
BLOCKS = 20
"""Largest number of blocks of the jackknife of the neighbor overlap."""
BLOCK_SALT = 0xB1
"""Second seed that keeps the random blocks apart from other draws with the same seed."""


@dataclass(frozen=True)
class SimilarityResult:
    """Similarity of two encoders' features.

    Attributes:
        name: Name of the measure.
        value: Similarity; higher is more similar, 1 for features that are equal up to the transformations that the
            measure ignores.
        samples: Number of samples.
        null: Expected value for unrelated features.
        interval: 95 % interval over samples, or over groups; None if it was not requested, or if no interval covers the
            true value often enough (see `similarity`).
    """

    name: str
    value: float
    samples: int
    null: float
    interval: tuple[float, float] | None


def similarity(
    name: str, first: ArrayLike, second: ArrayLike, groups: ArrayLike | None = None, *, interval: bool = True
) -> SimilarityResult:
    """Compute the similarity of two encoders' features of the same samples.

    There is an interval from 50 samples on and, with groups, from 10 groups on. CKA has none with groups: samples of
    one group are alike, so that the estimate is biased. The interval of the neighbor overlap is about its expected
    value for as many samples, which depends on their number.

    Args:
        name: `linear_cka`, `kernel_cka`, `procrustes` or `knn_overlap`; see the functions in `SIMILARITIES`.
        first: Features of the first encoder, shape (n, D).
        second: Features of the second encoder, of the same samples in the same order, shape (n, D').
        groups: Record or subject of each sample, shape (n,), for the interval; None if samples are independent.
        interval: True to compute an interval too.

    Raises:
        UsageError: When the measure is unknown, or needs more samples.
        InputError: When the numbers of samples differ or are too small, or features are not finite or all the same.

    Example:
        >>> features = np.random.default_rng(0).standard_normal((200, 5))
        >>> turned = features @ np.linalg.qr(np.random.default_rng(1).standard_normal((5, 5)))[0]
        >>> round(similarity("linear_cka", features, turned).value, 12)
        1.0
    """
    one = center_features(first, "the first encoder", MIN_SAMPLES)
    other = center_features(second, "the second encoder", MIN_SAMPLES)
    n_samples = len(one)
    if len(other) != n_samples:
        raise InputError(
            f"There are {n_samples} samples of the first encoder and {len(other)} samples of the second encoder. "
            "Expected the same samples in the same order."
        )
    measure = named("similarity", name, SIMILARITIES)
    units = unit_numbers(groups, n_samples)
    covers = n_samples >= MIN_SAMPLES_OF_INTERVAL
    if groups is not None:
        covers = covers and len(np.unique(units)) >= MIN_GROUPS and name not in CKA
    return measure(one, other, units if interval and covers else None)


def linear_cka(first: np.ndarray, second: np.ndarray, units: np.ndarray | None) -> SimilarityResult:
    """Compute linear centered kernel alignment, in [-1, 1], from the unbiased estimator of HSIC.

    Its expected value is 0 for independent features. It ignores rotation and scale. The estimator of HSIC is that of
    Song et al. (2012), as in Kornblith et al. (2019) and Nguyen et al. (2021), by an identity that needs no n x n
    matrix if D < n (see `hsic`). The interval comes from the delete-one jackknife.

    Args:
        first: Centered features of the first encoder, shape (n, D).
        second: Centered features of the second encoder, shape (n, D').
        units: Not None for an interval. Its values are not used, because CKA has no interval with groups.
    """
    with single_blas_thread():
        pairs = ((first, second), (first, first), (second, second))
        return _cka("linear_cka", *(hsic.linear_terms(one, other, units is not None) for one, other in pairs))


def kernel_cka(first: np.ndarray, second: np.ndarray, units: np.ndarray | None) -> SimilarityResult:
    """Compute centered kernel alignment with Gaussian kernels, in [-1, 1], from unbiased HSIC.

    It ignores rotation and scale. Kernels are computed in blocks of rows: once without an interval, twice with one
    (delete-one jackknife). The median distance between samples is that of at most 2,000 samples spread evenly over all.

    Args:
        first: Centered features of the first encoder, shape (n, D).
        second: Centered features of the second encoder, shape (n, D').
        units: Not None for an interval. Its values are not used, because CKA has no interval with groups.
    """
    return _cka("kernel_cka", *hsic.kernel_terms(first, second, BANDWIDTH, units is not None))


def _cka(name: str, cross: hsic.Terms, first: hsic.Terms, second: hsic.Terms) -> SimilarityResult:
    """Return CKA, with its interval if the terms are those for the jackknife.

    Args:
        name: Name of the measure.
        cross: Terms of the kernels of both encoders.
        first: Terms of the first kernel with itself.
        second: Terms of the second kernel with itself.
    """
    if not (hsic.varies(first) and hsic.varies(second)):
        raise InputError(
            f"{name} is not defined: all samples have the same distance from each other. "
            "Use more samples or another layer."
        )
    value = float(_normalize(hsic.hsic(cross), hsic.hsic(first), hsic.hsic(second)))
    interval = None
    if cross.first_second is not None:
        replicates = _normalize(*(hsic.leave_one_out_hsic(terms) for terms in (cross, first, second)))
        interval = jackknife_interval(value, replicates, low=-1.0)
    return SimilarityResult(name, value, len(cross.first), 0.0, interval)


def _normalize(cross: ArrayLike, first: ArrayLike, second: ArrayLike) -> np.ndarray:
    """Return CKA in [-1, 1] from the HSIC of two kernels and that of each kernel with itself, numbers or arrays."""
    scale = np.sqrt(np.maximum(np.multiply(first, second), np.finfo(float).tiny))
    return np.asarray(np.clip(np.divide(cross, scale), -1, 1))


def jackknife_interval(value: float, replicates: np.ndarray, low: float) -> tuple[float, float]:
    """Return the 95 % jackknife interval of a statistic that is at most 1, over J parts of the samples.

    The degrees of freedom of Student's t are 2 J / (kurtosis - 1), at least 2 and at most J - 1: the variance of a few
    large replicates is known less well than that of normal ones.

    Args:
        value: Value of the statistic on all samples, at most 1.
        replicates: Value without each part, shape (J,).
        low: Lowest possible value.
    """
    n_parts = len(replicates)
    deviations = replicates - replicates.mean()
    squares = float((deviations**2).mean())
    if squares == 0:
        return value, value
    standard_error = float(np.sqrt((n_parts - 1) * squares))
    kurtosis = max(float((deviations**4).mean()) / squares**2, 1 + 1e-9)
    freedom = min(n_parts - 1.0, max(2.0, 2 * n_parts / (kurtosis - 1)))
    margin = student_quantile(freedom) * standard_error
    return max(low, value - margin), min(1.0, value + margin)


def procrustes(first: np.ndarray, second: np.ndarray, units: np.ndarray | None) -> SimilarityResult:
    """Compute the orthogonal Procrustes similarity, in [0, 1]: the trace after the best rotation of one onto the other.

    It is the nuclear norm of X'Y for centered features of Frobenius norm 1; the Procrustes distance (Ding et al. 2021)
    is sqrt(2 - 2 similarity). It ignores rotation and scale. For unrelated features it is not 0, but rises with D / n.
    The null is the similarity after the samples of the second encoder are shuffled. The estimate is too high on
    average where D is not small against n. The interval is about the true value, so that it may extend far below the
    estimate.

    Args:
        first: Centered features of the first encoder, shape (n, D).
        second: Centered features of the second encoder, shape (n, D').
        units: Number of each sample's group, or of the sample itself, shape (n,); None for no interval.
    """
    with single_blas_thread():
        x = _unit_norm(first)
        y = _unit_norm(second)
        order = np.random.default_rng(0).permutation(len(first))
        null = min(1.0, float(np.linalg.svd(x.T @ y[order], compute_uv=False).sum()))
        value = min(1.0, float(np.linalg.svd(x.T @ y, compute_uv=False).sum()))
        interval = None if units is None else _procrustes_interval(x, y, units)
    return SimilarityResult("procrustes", value, len(first), null, interval)


def _unit_norm(array: np.ndarray) -> np.ndarray:
    """Return features scaled to Frobenius norm 1, and rotated into at most n dimensions; Procrustes ignores both."""
    reduced = np.asarray(np.linalg.qr(array.T, mode="r")).T if array.shape[1] > len(array) else array
    return np.asarray(reduced / np.linalg.norm(reduced))


def _procrustes_interval(first: np.ndarray, second: np.ndarray, units: np.ndarray) -> tuple[float, float]:
    """Return the 95 % interval of the orthogonal Procrustes similarity.

    The upper limit is that of the estimate. The lower limit is that of a second estimate, for which each part of the
    samples is rotated as fitted to the other parts.

    Args:
        first: Centered features of the first encoder, of Frobenius norm 1, shape (n, D).
        second: Centered features of the second encoder, of Frobenius norm 1, shape (n, D').
        units: Number of each sample's group, or of the sample itself, from 0, shape (n,).
    """
    product = first.T @ second
    left, _, right = np.linalg.svd(product, full_matrices=False)
    # Share of each sample in the nuclear norm: the inner product of its features after the best rotation.
    inner = ((first @ left) * (second @ right.T)).sum(axis=1)
    value, standard_error = _ratio_of_terms(
        np.stack([inner, (first**2).sum(axis=1), (second**2).sum(axis=1)], axis=1), units
    )
    cross_fitted = np.zeros((len(first), 3))
    folds = block_numbers(units, FOLDS)
    for fold in np.unique(folds):
        test = folds == fold
        cross_fitted[test] = _rotate_by_others(first, second, product, test)
    lower_value, lower_error = _ratio_of_terms(cross_fitted, units)
    quantile = student_quantile(len(np.unique(units)) - 1)
    low = lower_value - quantile * float(np.sqrt(FOLD_DEPENDENCE)) * lower_error
    return max(0.0, min(low, value)), min(1.0, value + quantile * standard_error)


def _rotate_by_others(first: np.ndarray, second: np.ndarray, product: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Return inner product and squared norms of each of m test samples, rotated and centered by the others, (m, 3).

    Args:
        first: Centered features of the first encoder, shape (n, D).
        second: Centered features of the second encoder, shape (n, D').
        product: Product X'Y of all samples, shape (D, D').
        test: Mask of the test samples, shape (n,).
    """
    n_train = int((~test).sum())
    # The mean over all samples is 0, so the sum over the training samples is minus that over the test samples.
    first_mean = -first[test].sum(axis=0) / n_train
    second_mean = -second[test].sum(axis=0) / n_train
    train_product = product - first[test].T @ second[test] - n_train * np.outer(first_mean, second_mean)
    left, _, right = np.linalg.svd(train_product, full_matrices=False)
    x = first[test] - first_mean
    y = second[test] - second_mean
    inner = ((x @ left) * (y @ right.T)).sum(axis=1)
    return np.stack([inner, (x**2).sum(axis=1), (y**2).sum(axis=1)], axis=1)


def _ratio_of_terms(terms: np.ndarray, units: np.ndarray) -> tuple[float, float]:
    """Return sum(inner) / sqrt(sum(norms) * sum(other norms)) and its linearized standard error over units.

    Args:
        terms: Inner product and the two squared norms of each sample, shape (n, 3).
        units: Number of each sample's group, or of the sample itself, shape (n,).
    """
    inner, first_norm, second_norm = terms.sum(axis=0)
    scale = np.sqrt(first_norm * second_norm)
    value = inner / scale
    influence = terms[:, 0] / scale - value * (terms[:, 1] / first_norm + terms[:, 2] / second_norm) / 2
    sums = np.bincount(np.unique(units, return_inverse=True)[1].ravel(), influence)
    return float(value), float(np.sqrt((sums**2).sum() * len(sums) / (len(sums) - 1)))


def knn_overlap(first: np.ndarray, second: np.ndarray, units: np.ndarray | None) -> SimilarityResult:
    """Compute the mean share of a sample's k nearest neighbors that are the same for both encoders, in [0, 1].

    Neighbors are those with the largest cosine of the centered features. The chance level is k / (n - 1). The interval
    comes from a jackknife that leaves out blocks of samples. There is none if a block leaves too few other samples.

    Args:
        first: Centered features of the first encoder, shape (n, D).
        second: Centered features of the second encoder, shape (n, D').
        units: Number of each sample's group, or of the sample itself, shape (n,); None for no interval.
    """
    n_samples = len(first)
    neighbors = validate_count("neighbors", NEIGHBORS, 1, n_samples - 2)
    nearest = (_nearest_neighbors(first, neighbors), _nearest_neighbors(second, neighbors))
    value = float(_count_common(*nearest).mean() / neighbors)
    interval = None
    if units is not None:
        blocks = block_numbers(units, BLOCKS)
        # Without a block, the next neighbors take the place of those in the block.
        more = neighbors + int(np.bincount(blocks).max())
        if more < n_samples:
            nearest = (_nearest_neighbors(first, more), _nearest_neighbors(second, more))
            replicates = []
            for block in range(int(blocks.max()) + 1):
                others = (_without(table[blocks != block], blocks == block, neighbors) for table in nearest)
                replicates.append(_count_common(*others).mean() / neighbors)
            interval = jackknife_interval(value, np.array(replicates), low=0.0)
    return SimilarityResult("knn_overlap", value, n_samples, neighbors / (n_samples - 1), interval)


def block_numbers(units: np.ndarray, n_blocks: int) -> np.ndarray:
    """Return the block of each sample, 0 to n_blocks - 1, at random, with every unit in one block, shape (n,).

    Args:
        units: Number of each sample's group, or of the sample itself, from 0, shape (n,).
        n_blocks: Largest number of blocks; there are no more blocks than units.
    """
    n_units = int(units.max()) + 1
    order = np.random.default_rng([0, BLOCK_SALT]).permutation(n_units)
    return np.asarray((order % min(n_blocks, n_units))[units])


def _nearest_neighbors(array: np.ndarray, neighbors: int) -> np.ndarray:
    """Return the numbers of the nearest other samples of each sample, nearest first, shape (n, neighbors).

    Args:
        array: Centered features, shape (n, D).
        neighbors: Number of neighbors, less than n.
    """
    from sklearn.neighbors import NearestNeighbors

    with single_blas_thread():
        search = NearestNeighbors(n_neighbors=neighbors, metric="cosine", algorithm="brute").fit(array)
        return np.asarray(search.kneighbors(return_distance=False))


def _count_common(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the number of entries that each row of two tables has in common, shape (n,); entries of a row differ."""
    both = np.sort(np.concatenate([first, second], axis=1), axis=1)
    return np.asarray((both[:, 1:] == both[:, :-1]).sum(axis=1))


def _without(table: np.ndarray, left_out: np.ndarray, neighbors: int) -> np.ndarray:
    """Return the first neighbors of each row that are not left out, shape (rows, neighbors).

    Args:
        table: Numbers of the neighbors in each row, nearest first, shape (rows, M).
        left_out: Mask of the samples that are left out, shape (n,).
        neighbors: Number of neighbors to return for each row.
    """
    order = np.argsort(left_out[table], axis=1, kind="stable")[:, :neighbors]
    return np.take_along_axis(table, order, axis=1)


SIMILARITIES: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray | None], SimilarityResult]] = {
    "linear_cka": linear_cka,
    "kernel_cka": kernel_cka,
    "procrustes": procrustes,
    "knn_overlap": knn_overlap,
}
"""Measures by name; each takes the centered features of two encoders."""
