"""Similarity of two encoders' features of the same samples."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from modgap.distortion import hsic
from modgap.distortion.arrays import centered_features, checked_count, one_thread
from modgap.errors import InputError, UsageError, unknown_name

__all__ = ["SIMILARITIES", "SimilarityGrid", "SimilarityResult", "similarity", "similarity_grid"]

LEAST_SAMPLES = 4
Z = 1.959963984540054


@dataclass(frozen=True)
class SimilarityResult:
    """How similar two encoders' features are.

    Attributes:
        name: Of the measure.
        value: Higher is more similar; 1 for features that are equal up to what the measure leaves free.
        samples: How many samples it was computed on.
        null: The value to expect of features that have nothing to do with each other.
        interval: 95 % interval over samples, by the normal approximation; None where it was not asked for.
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
        name: Of the measure.
        rows: Layers of the first encoder.
        columns: Layers of the second.
        values: Similarities, (rows, columns); higher is more similar.
        nulls: What to expect of unrelated features, (rows, columns).
        samples: How many samples they were computed on.
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
    name: str, first: ArrayLike, second: ArrayLike, *, interval: bool = True, **options: Any
) -> SimilarityResult:
    """Similarity of two encoders' features of the same samples.

    Args:
        name: `linear_cka`, `kernel_cka`, `procrustes` or `knn_overlap`; see the functions in `SIMILARITIES`.
        first: Features (n, D).
        second: Features (n, D') of the same samples in the same order.
        interval: Whether to give an interval too.
        **options: Of the measure.

    Raises:
        UsageError: When the measure or an option is unknown, or an option out of range.
        InputError: When sample counts differ, are too small, or features are not finite or all the same.

    Example:
        >>> features = np.random.default_rng(0).standard_normal((200, 5))
        >>> turned = features @ np.linalg.qr(np.random.default_rng(1).standard_normal((5, 5)))[0]
        >>> round(similarity("linear_cka", features, turned).value, 12)
        1.0
    """
    checked = _checked({"the first encoder": first, "the second encoder": second})
    return _measure(name, options)(checked[:1], checked[1:], interval=interval, **options)[0][0]


def similarity_grid(
    first: Mapping[str, ArrayLike],
    second: Mapping[str, ArrayLike],
    names: Sequence[str] = ("linear_cka",),
    **options: Any,
) -> dict[str, SimilarityGrid]:
    """Similarity of all pairs of two encoders' layers; what depends on one layer only is computed once.

    Args:
        first: Features (n, D) of each layer of one encoder.
        second: Of each layer of the other, of the same samples in the same order.
        names: Of the measures.
        **options: Of the measures, each of which must know them.

    Returns:
        A grid for each measure.

    Raises:
        UsageError: When there are no layers, or a measure or an option is unknown or out of range.
        InputError: When sample counts differ, are too small, or features are not finite or all the same.
    """
    if not first or not second:
        raise UsageError(f"expected layers of both encoders, got {len(first)} and {len(second)}")
    measures = {name: _measure(name, options) for name in names}
    told = {f"layer {layer} of the first encoder": array for layer, array in first.items()}
    told |= {f"layer {layer} of the second encoder": array for layer, array in second.items()}
    checked = _checked(told)
    grids = {}
    for name, measure in measures.items():
        table = measure(checked[: len(first)], checked[len(first) :], interval=False, **options)
        values, nulls = (np.array([[getattr(cell, of) for cell in row] for row in table]) for of in ("value", "null"))
        grids[name] = SimilarityGrid(name, tuple(first), tuple(second), values, nulls, len(checked[0]))
    return grids


def _checked(features: Mapping[str, ArrayLike]) -> list[np.ndarray]:
    checked = {name: centered_features(array, name, LEAST_SAMPLES) for name, array in features.items()}
    (name, array), *rest = checked.items()
    for other, features_of_other in rest:
        if len(features_of_other) != len(array):
            raise InputError(
                f"expected features of the same samples in the same order, got {len(array)} samples of {name} and "
                f"{len(features_of_other)} of {other}"
            )
    return list(checked.values())


def _measure(name: str, options: Mapping[str, Any]) -> Callable[..., Table]:
    if name not in SIMILARITIES:
        raise unknown_name("similarity", name, SIMILARITIES)
    measure = SIMILARITIES[name]
    known = [option for option in (measure.__kwdefaults__ or {}) if option != "interval"]
    for option in options:
        if option not in known:
            raise (
                unknown_name(f"option of {name}", option, known, "")
                if known
                else UsageError(f"{name} has no options, got {option!r}")
            )
    return measure


def _table(firsts: Sequence[Any], seconds: Sequence[Any], pair: Callable[[Any, Any], SimilarityResult]) -> Table:
    return [[pair(first, second) for second in seconds] for first in firsts]


def linear_cka(firsts: Features, seconds: Features, *, interval: bool = True) -> Table:
    """Linear centered kernel alignment, in [-1, 1], from the unbiased estimator of HSIC: 0 expected where independent.

    It leaves rotation and scale free. HSIC is Song et al.'s (2012) estimator, as in Kornblith et al. (2019) and
    Nguyen et al. (2021), by an identity without n x n matrix where D < n (see `_hsic`). The interval is by the
    delete-one jackknife.
    """
    with one_thread():
        return _cka_table("linear_cka", *hsic.linear_terms(firsts, seconds, interval))


def kernel_cka(
    firsts: Features, seconds: Features, *, interval: bool = True, bandwidth: float = 0.8, threads: int = 1
) -> Table:
    """Centerd kernel alignment with Gaussian kernels, in [-1, 1], from unbiased HSIC; leaves rotation and scale free.

    Kernels are computed in blocks of rows, once for an interval and twice with one (delete-one jackknife).

    Args:
        firsts: Features.
        seconds: Features.
        interval: Whether to give intervals.
        bandwidth: Standard deviation of the kernel as a share of the median distance between samples (Kornblith et al.
            2019 take 0.2, 0.4 and 0.8); the median is that of at most 2,000 samples spread evenly over all.
        threads: Blocks at a time; values do not depend on it.
    """
    if not 0 < bandwidth < np.inf:
        raise UsageError(f"expected a bandwidth above 0, as a share of the median distance, got {bandwidth}")
    threads = checked_count("threads", threads, 1)
    return _cka_table("kernel_cka", *hsic.kernel_terms(firsts, seconds, bandwidth, interval, threads))


def _cka_table(name: str, cross: list[list[hsic.Terms]], own: list[hsic.Terms], others: list[hsic.Terms]) -> Table:
    for terms in (*own, *others):
        if not hsic.varies(terms):
            raise InputError(
                f"{name} is not defined for features whose samples are all equally far from each other; "
                "take more samples or another layer"
            )
    return [
        [_cka(name, cell, mine, theirs) for cell, theirs in zip(row, others, strict=True)]
        for row, mine in zip(cross, own, strict=True)
    ]


def _cka(name: str, cross: hsic.Terms, own: hsic.Terms, other: hsic.Terms) -> SimilarityResult:
    value = float(_ratio(hsic.hsic(cross), hsic.hsic(own), hsic.hsic(other)))
    samples = len(cross.first)
    interval = None
    if cross.first_second is not None and samples > LEAST_SAMPLES:
        left = _ratio(*(hsic.hsic_without_each(terms) for terms in (cross, own, other)))
        spread = np.sqrt((samples - 1) / samples * ((left - left.mean()) ** 2).sum())
        interval = _interval(value, spread, -1.0)
    return SimilarityResult(name, value, samples, 0.0, interval)


def _ratio(cross: Any, own: Any, other: Any) -> Any:
    return np.clip(cross / np.sqrt(np.maximum(own * other, np.finfo(float).tiny)), -1, 1)


def _interval(value: float, spread: float, low: float) -> tuple[float, float]:
    return max(low, float(value - Z * spread)), min(1.0, float(value + Z * spread))


def procrustes(firsts: Features, seconds: Features, *, interval: bool = True, seed: int = 0) -> Table:
    """Orthogonal Procrustes similarity, in [0, 1]: trace of the best rotation of one onto the other.

    It is the nuclear norm of X'Y for centered features of Frobenius norm 1; the Procrustes distance (Ding et al. 2021)
    is sqrt(2 - 2 similarity). It leaves rotation and scale free. Unrelated features have not 0 but a value that rises
    with D / n: the null is the similarity after the second's samples were shuffled. The interval is by the
    infinitesimal jackknife.

    Args:
        firsts: Features.
        seconds: Features.
        interval: Whether to give intervals.
        seed: Of the shuffling.
    """
    seed = checked_count("seed", seed, 0)
    with one_thread():
        sides = [[_unit(array) for array in side] for side in (firsts, seconds)]
        shuffled = np.random.default_rng(seed).permutation(len(firsts[0]))
        return _table(sides[0], sides[1], lambda x, y: _procrustes(x, y, shuffled, interval))


def _unit(array: np.ndarray) -> np.ndarray:
    """Features of Frobenius norm 1 in at most n dimensions, turned: all the same to Procrustes."""
    low = np.asarray(np.linalg.qr(array.T, mode="r")).T if array.shape[1] > len(array) else array
    return low / np.linalg.norm(low)


def _procrustes(first: np.ndarray, second: np.ndarray, shuffled: np.ndarray, interval: bool) -> SimilarityResult:
    samples, product = len(first), first.T @ second
    null = min(1.0, float(np.linalg.svd(first.T @ second[shuffled], compute_uv=False).sum()))
    if not interval:
        value = min(1.0, float(np.linalg.svd(product, compute_uv=False).sum()))
        return SimilarityResult("procrustes", value, samples, null, None)
    left, sizes, right = np.linalg.svd(product, full_matrices=False)
    value = min(1.0, float(sizes.sum()))
    # Derivative of the value by each sample's weight; norms are 1.
    shares = ((first @ left) * (second @ right.T)).sum(axis=1)
    norms = ((first**2).sum(axis=1) + (second**2).sum(axis=1)) / 2
    spread = np.sqrt(((shares - value * norms) ** 2).sum())
    return SimilarityResult("procrustes", value, samples, null, _interval(value, spread, 0.0))


def knn_overlap(
    firsts: Features, seconds: Features, *, interval: bool = True, neighbors: int = 10, metric: str = "cosine"
) -> Table:
    """Mean share of a sample's k nearest neighbors that both encoders agree on, in [0, 1]; k / (n - 1) by chance.

    The interval takes samples as independent, given their neighbors.

    Args:
        firsts: Features.
        seconds: Features.
        interval: Whether to give intervals.
        neighbors: k, less than n - 1.
        metric: `cosine`, of features that were centered before, or `euclidean`.
    """
    if metric not in ("cosine", "euclidean"):
        raise unknown_name("metric", metric, ("cosine", "euclidean"))
    samples = len(firsts[0])
    neighbors = checked_count("neighbors", neighbors, 1, samples - 2)
    sides = [[_neighbor_table(array, neighbors, metric) for array in side] for side in (firsts, seconds)]

    def pair(first: np.ndarray, second: np.ndarray) -> SimilarityResult:
        shares = _common(first, second) / neighbors
        value, spread = float(shares.mean()), float(shares.std(ddof=1) / np.sqrt(samples))
        reach = _interval(value, spread, 0.0) if interval else None
        return SimilarityResult("knn_overlap", value, samples, neighbors / (samples - 1), reach)

    return _table(sides[0], sides[1], pair)


def _neighbor_table(array: np.ndarray, neighbors: int, metric: str) -> np.ndarray:
    from sklearn.neighbors import NearestNeighbors

    with one_thread():
        finder = NearestNeighbors(n_neighbors=neighbors, metric=metric, algorithm="brute").fit(array)
        return finder.kneighbors(return_distance=False)


def _common(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """How many entries the rows of both tables share; within a row none is there twice."""
    both = np.sort(np.concatenate([first, second], axis=1), axis=1)
    return (both[:, 1:] == both[:, :-1]).sum(axis=1)


SIMILARITIES: dict[str, Callable[..., Table]] = {
    "linear_cka": linear_cka,
    "kernel_cka": kernel_cka,
    "procrustes": procrustes,
    "knn_overlap": knn_overlap,
}
"""Measures by name; each takes two sequences of features and gives a table of results."""
