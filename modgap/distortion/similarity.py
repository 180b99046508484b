"""Similarity of two encoders' features of the same samples."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from modgap.distortion import hsic
from modgap.distortion.arrays import center_features, validate_count
from modgap.distortion.neighbor_overlap import count_common, nearest_neighbors, overlap_interval
from modgap.distortion.similarity_intervals import (
    BLOCKS,
    block_numbers,
    has_interval,
    jackknife_interval,
    procrustes_interval,
)
from modgap.errors import InputError, UsageError, unknown_name
from modgap.probes.single_thread import single_blas_thread
from modgap.statistics.bootstrap import group_numbers

__all__ = ["SIMILARITIES", "SimilarityGrid", "SimilarityResult", "similarity", "similarity_grid"]

MIN_SAMPLES = 4
CKA = ("linear_cka", "kernel_cka")


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


@dataclass(frozen=True)
class SimilarityGrid:
    """Similarity of every layer of one encoder to every layer of another.

    Attributes:
        name: Name of the measure.
        rows: Names of the layers of the first encoder.
        columns: Names of the layers of the second encoder.
        values: Similarities, shape (rows, columns); higher is more similar.
        nulls: Expected values for unrelated features, shape (rows, columns).
        samples: Number of samples.
    """

    name: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: np.ndarray
    nulls: np.ndarray
    samples: int


Features = Sequence[np.ndarray]
Table = list[list[SimilarityResult]]


def similarity(
    name: str,
    first: ArrayLike,
    second: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    interval: bool = True,
    **options: Any,
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
        interval: Whether to compute an interval too.
        **options: Options of the measure.

    Raises:
        UsageError: When the measure or an option is unknown, or an option is out of range.
        InputError: When the numbers of samples differ or are too small, or features are not finite or all the same.

    Example:
        >>> features = np.random.default_rng(0).standard_normal((200, 5))
        >>> turned = features @ np.linalg.qr(np.random.default_rng(1).standard_normal((5, 5)))[0]
        >>> round(similarity("linear_cka", features, turned).value, 12)
        1.0
    """
    centered = _center_all({"the first encoder": first, "the second encoder": second})
    n_samples = len(centered[0])
    measure = _measure(name, options)
    units = group_numbers(groups, n_samples)
    covers = has_interval(n_samples, units, grouped=groups is not None) and (groups is None or name not in CKA)
    return measure(centered[:1], centered[1:], units=units if interval and covers else None, **options)[0][0]


def similarity_grid(
    first: Mapping[str, ArrayLike],
    second: Mapping[str, ArrayLike],
    names: Sequence[str] = ("linear_cka",),
    **options: Any,
) -> dict[str, SimilarityGrid]:
    """Compute the similarity of all pairs of two encoders' layers; terms of a single layer are computed once.

    Args:
        first: Features of each layer of the first encoder, shape (n, D).
        second: Features of each layer of the second encoder, of the same samples in the same order.
        names: Names of the measures.
        **options: Options of the measures; each measure must have all of them.

    Returns:
        A grid for each measure.

    Raises:
        UsageError: When there are no layers, or a measure or an option is unknown or out of range.
        InputError: When the numbers of samples differ or are too small, or features are not finite or all the same.
    """
    if not first or not second:
        raise UsageError(
            f"The encoders have {len(first)} and {len(second)} layers. At least one layer of both is needed."
        )
    measures = {name: _measure(name, options) for name in names}
    features = {f"layer {layer} of the first encoder": array for layer, array in first.items()}
    features |= {f"layer {layer} of the second encoder": array for layer, array in second.items()}
    centered = _center_all(features)
    grids = {}
    for name, measure in measures.items():
        table = measure(centered[: len(first)], centered[len(first) :], **options)
        grids[name] = SimilarityGrid(
            name=name,
            rows=tuple(first),
            columns=tuple(second),
            values=np.array([[cell.value for cell in row] for row in table]),
            nulls=np.array([[cell.null for cell in row] for row in table]),
            samples=len(centered[0]),
        )
    return grids


def _center_all(features: Mapping[str, ArrayLike]) -> list[np.ndarray]:
    centered = {name: center_features(array, name, MIN_SAMPLES) for name, array in features.items()}
    (first_name, first), *others = centered.items()
    for name, array in others:
        if len(array) != len(first):
            raise InputError(
                f"There are {len(first)} samples of {first_name} and {len(array)} samples of {name}. "
                "Expected the same samples in the same order."
            )
    return list(centered.values())


def _measure(name: str, options: Mapping[str, Any]) -> Callable[..., Table]:
    if name not in SIMILARITIES:
        raise unknown_name("similarity", name, SIMILARITIES)
    measure = SIMILARITIES[name]
    valid_options = [option for option in (measure.__kwdefaults__ or {}) if option != "units"]
    for option in options:
        if not valid_options:
            raise UsageError(f"{name} has no options, but {option!r} was passed.")
        if option not in valid_options:
            raise unknown_name(f"option of {name}", option, valid_options)
    return measure


def _table(firsts: Sequence[Any], seconds: Sequence[Any], pair: Callable[[Any, Any], SimilarityResult]) -> Table:
    return [[pair(first, second) for second in seconds] for first in firsts]


def linear_cka(firsts: Features, seconds: Features, *, units: np.ndarray | None = None) -> Table:
    """Compute linear centered kernel alignment, in [-1, 1], from the unbiased estimator of HSIC.

    Its expected value is 0 for independent features. It ignores rotation and scale. The estimator of HSIC is that of
    Song et al. (2012), as in Kornblith et al. (2019) and Nguyen et al. (2021), by an identity that needs no n x n
    matrix if D < n (see `hsic`). The interval comes from the delete-one jackknife.

    Args:
        firsts: Centered features of the layers of the first encoder, each of shape (n, D).
        seconds: Centered features of the layers of the second encoder.
        units: Number of each sample's group, or of the sample itself, shape (n,); None for no intervals.
    """
    with single_blas_thread():
        return _cka_table("linear_cka", hsic.linear_terms(firsts, seconds, units is not None))


def kernel_cka(
    firsts: Features, seconds: Features, *, units: np.ndarray | None = None, bandwidth: float = 0.8, threads: int = 1
) -> Table:
    """Compute centered kernel alignment with Gaussian kernels, in [-1, 1], from unbiased HSIC.

    It ignores rotation and scale. Kernels are computed in blocks of rows: once without intervals, twice with intervals
    (delete-one jackknife).

    Args:
        firsts: Centered features of the layers of the first encoder, each of shape (n, D).
        seconds: Centered features of the layers of the second encoder.
        units: Number of each sample's group, or of the sample itself, shape (n,); None for no intervals.
        bandwidth: Standard deviation of the kernel as a multiple of the median distance between samples (0.2, 0.4 and
            0.8 in Kornblith et al. 2019); the median is that of at most 2,000 samples spread evenly over all.
        threads: Number of blocks that are computed at the same time; values do not depend on it.
    """
    if not 0 < bandwidth < np.inf:
        raise UsageError(
            f"The bandwidth is {bandwidth}. Expected a positive number, the multiple of the median distance."
        )
    threads = validate_count("threads", threads, 1)
    return _cka_table("kernel_cka", hsic.kernel_terms(firsts, seconds, bandwidth, units is not None, threads))


def _cka_table(name: str, terms: hsic.PairTerms) -> Table:
    for self_terms in (*terms.first_with_itself, *terms.second_with_itself):
        if not hsic.varies(self_terms):
            raise InputError(
                f"{name} is not defined: all samples have the same distance from each other. "
                "Use more samples or another layer."
            )
    return [
        [_cka(name, cross, first, second) for cross, second in zip(row, terms.second_with_itself, strict=True)]
        for row, first in zip(terms.cross, terms.first_with_itself, strict=True)
    ]


def _cka(name: str, cross: hsic.Terms, first: hsic.Terms, second: hsic.Terms) -> SimilarityResult:
    value = float(_normalize(hsic.hsic(cross), hsic.hsic(first), hsic.hsic(second)))
    samples = len(cross.first)
    interval = None
    if cross.first_second is not None:
        replicates = _normalize(*(hsic.leave_one_out_hsic(terms) for terms in (cross, first, second)))
        interval = jackknife_interval(value, np.asarray(replicates), low=-1.0)
    return SimilarityResult(name, value, samples, 0.0, interval)


def _normalize(cross: Any, first: Any, second: Any) -> Any:
    """Return CKA from the HSIC of two kernels and that of each kernel with itself."""
    return np.clip(cross / np.sqrt(np.maximum(first * second, np.finfo(float).tiny)), -1, 1)


def procrustes(firsts: Features, seconds: Features, *, units: np.ndarray | None = None, seed: int = 0) -> Table:
    """Compute the orthogonal Procrustes similarity, in [0, 1]: the trace after the best rotation of one onto the other.

    It is the nuclear norm of X'Y for centered features of Frobenius norm 1; the Procrustes distance (Ding et al. 2021)
    is sqrt(2 - 2 similarity). It ignores rotation and scale. For unrelated features it is not 0, but rises with D / n.
    The null is the similarity after the samples of the second encoder are shuffled. The estimate is too high on
    average where D is not small against n. The interval is about the true value, so that it may extend far below the
    estimate; see `similarity_intervals`.

    Args:
        firsts: Centered features of the layers of the first encoder, each of shape (n, D).
        seconds: Centered features of the layers of the second encoder.
        units: Number of each sample's group, or of the sample itself, shape (n,); None for no intervals.
        seed: Seed of the shuffling and of the folds of the interval.
    """
    seed = validate_count("seed", seed, 0)
    with single_blas_thread():
        first_arrays = [_unit_norm(array) for array in firsts]
        second_arrays = [_unit_norm(array) for array in seconds]
        order = np.random.default_rng(seed).permutation(len(firsts[0]))
        return _table(first_arrays, second_arrays, lambda x, y: _procrustes(x, y, order, units, seed))


def _unit_norm(array: np.ndarray) -> np.ndarray:
    """Return features scaled to Frobenius norm 1, and rotated into at most n dimensions; Procrustes ignores both."""
    reduced = np.asarray(np.linalg.qr(array.T, mode="r")).T if array.shape[1] > len(array) else array
    return np.asarray(reduced / np.linalg.norm(reduced))


def _procrustes(
    first: np.ndarray, second: np.ndarray, order: np.ndarray, units: np.ndarray | None, seed: int
) -> SimilarityResult:
    null = min(1.0, float(np.linalg.svd(first.T @ second[order], compute_uv=False).sum()))
    value = min(1.0, float(np.linalg.svd(first.T @ second, compute_uv=False).sum()))
    interval = None if units is None else procrustes_interval(first, second, units, seed)
    return SimilarityResult("procrustes", value, len(first), null, interval)


def knn_overlap(
    firsts: Features, seconds: Features, *, units: np.ndarray | None = None, neighbors: int = 10, metric: str = "cosine"
) -> Table:
    """Compute the mean share of a sample's k nearest neighbors that are the same for both encoders, in [0, 1].

    The chance level is k / (n - 1). The interval comes from a jackknife that leaves out blocks of samples.

    Args:
        firsts: Centered features of the layers of the first encoder, each of shape (n, D).
        seconds: Centered features of the layers of the second encoder.
        units: Number of each sample's group, or of the sample itself, shape (n,); None for no intervals.
        neighbors: Number of neighbors k, less than n - 1.
        metric: `cosine`, of the centered features, or `euclidean`.
    """
    if metric not in ("cosine", "euclidean"):
        raise unknown_name("metric", metric, ("cosine", "euclidean"))
    samples = len(firsts[0])
    neighbors = validate_count("neighbors", neighbors, 1, samples - 2)
    first_neighbors = [nearest_neighbors(array, neighbors, metric) for array in firsts]
    second_neighbors = [nearest_neighbors(array, neighbors, metric) for array in seconds]
    table = _table(first_neighbors, second_neighbors, lambda first, second: _overlap(first, second, neighbors))
    if units is None:
        return table
    blocks = block_numbers(units, BLOCKS, seed=0)
    largest = int(np.bincount(blocks).max())
    if samples - largest - 1 < neighbors:
        return table
    # Without a block, the next neighbors take the place of those in the block.
    first_neighbors = [nearest_neighbors(array, neighbors + largest, metric) for array in firsts]
    second_neighbors = [nearest_neighbors(array, neighbors + largest, metric) for array in seconds]
    return [
        [
            replace(result, interval=overlap_interval(result.value, first, second, blocks, neighbors))
            for result, second in zip(row, second_neighbors, strict=True)
        ]
        for row, first in zip(table, first_neighbors, strict=True)
    ]


def _overlap(first: np.ndarray, second: np.ndarray, neighbors: int) -> SimilarityResult:
    value = float(count_common(first, second).mean() / neighbors)
    return SimilarityResult("knn_overlap", value, len(first), neighbors / (len(first) - 1), None)


SIMILARITIES: dict[str, Callable[..., Table]] = {
    "linear_cka": linear_cka,
    "kernel_cka": kernel_cka,
    "procrustes": procrustes,
    "knn_overlap": knn_overlap,
}
"""Measures by name; each takes two sequences of features and returns a table of results."""
