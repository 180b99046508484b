"""Fitted parts of a baseline: plain values and arrays, stored as JSON and safetensors, and checked when they are read.

A part turns an array for all samples into another: features into better ones, or features into scores. Its fields are
all that it keeps, so that whatever reads a stored one checks them all.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numba import njit
from scipy.sparse import csr_matrix

SEPARATOR = "\0"
"""Character between stored texts."""
LOWEST_SHARE = 1e-6
"""Smallest probability of a class whose logarithm is a score, where votes and trees give 0."""


class Part:
    """Fitted part of a baseline. Subclasses are dataclasses; their arrays are stored as arrays, other fields as JSON.

    Attributes:
        kind: Name under which parts of this class are stored.
        texts: Names of the fields that are tuples of texts, which are stored as an array of bytes.
    """

    kind: ClassVar[str]
    texts: ClassVar[tuple[str, ...]] = ()

    def __call__(self, values: Any) -> Any:
        """Return new features (n, D), or scores (n, M)."""
        raise NotImplementedError

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return the plain values and the arrays, by name."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}  # type: ignore[arg-type]
        joined = {name: SEPARATOR.join(value) for name, value in fields.items() if isinstance(value, tuple)}
        texts = {name: np.frombuffer(text.encode(), np.uint8) for name, text in joined.items()}
        arrays = {name: value for name, value in fields.items() if isinstance(value, np.ndarray)} | texts
        return {name: value for name, value in fields.items() if name not in arrays}, arrays

    @classmethod
    def restore(cls, settings: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Self:
        """Return the part with these plain values and arrays, once `check` has found nothing wrong.

        Raises:
            ValueError: When the values are not those of such a part.
        """
        names = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
        if names != settings.keys() | arrays.keys():
            raise ValueError(f"{cls.kind} has the values {', '.join(sorted(settings.keys() | arrays.keys()))}")
        for name, array in arrays.items():
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise ValueError(f"{name} of {cls.kind} has values that are not finite")
        texts = {name: _as_texts(array) for name, array in arrays.items() if name in cls.texts}
        part = cls(**settings, **{**arrays, **texts})
        part.check()
        return part

    def check(self) -> None:
        """Raise a ValueError if values do not fit each other, so that using the part would fail or read elsewhere."""

    @property
    def n_outputs(self) -> int | None:
        """Number of scores for each sample; None if the part makes features."""
        return None


def _as_texts(array: np.ndarray) -> tuple[str, ...]:
    if array.dtype != np.uint8 or array.ndim != 1:
        raise ValueError("texts have another type")
    return tuple(array.tobytes().decode().split(SEPARATOR))


LINKS = ("identity", "log", "logit")
"""Scores from sums or means: unchanged, the logarithm of a class's probability, or the log-odds of a label."""


def _linked(values: np.ndarray, link: str) -> np.ndarray:
    if link == "identity":
        return values
    shares = np.clip(values, LOWEST_SHARE, 1 - LOWEST_SHARE if link == "logit" else None)
    scores: np.ndarray = np.log(shares) - (np.log1p(-shares) if link == "logit" else 0)
    return scores


def _require(holds: bool, reason: str) -> None:
    if not holds:
        raise ValueError(reason)


def standard_scale(values: np.ndarray, axis: int | tuple[int, ...] = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation over some axes in double precision, the latter 1 where values are constant."""
    sd = values.std(axis=axis, dtype=np.float64)
    # By rounding, equal values can have a deviation that is not 0.
    varies = (sd > 0) & (values.max(axis=axis) > values.min(axis=axis))
    return values.mean(axis=axis, dtype=np.float64), np.where(varies, sd, 1)


@dataclass(frozen=True)
class Affine(Part):
    """A linear function of standardized features.

    Attributes:
        mean: Mean of each feature, (D,). Zeros for sparse features.
        scale: Standard deviation of each feature, above 0, (D,).
        weights: Weights of the standardized features, (M, D).
        intercepts: Intercept of each score, (M,).
    """

    kind: ClassVar[str] = "affine"
    mean: np.ndarray
    scale: np.ndarray
    weights: np.ndarray
    intercepts: np.ndarray

    def __call__(self, values: np.ndarray | csr_matrix) -> np.ndarray:
        """Return the scores (n, M) of features (n, D), dense or sparse."""
        weights = self.weights / self.scale
        products = values @ weights.T if isinstance(values, csr_matrix) else (values - self.mean) @ weights.T
        scores: np.ndarray = products + self.intercepts
        return scores

    def check(self) -> None:
        """Raise a ValueError if shapes do not fit, or a scale is not above 0."""
        width = self.mean.shape
        _require(self.weights.ndim == 2 and self.intercepts.ndim == 1, "the weights have another shape")
        _require(width == self.scale.shape == self.weights.shape[1:], "the scales have another shape than the weights")
        _require(self.intercepts.shape == self.weights.shape[:1], "the intercepts have another shape than the weights")
        _require(bool((self.scale > 0).all()), "a scale is not above 0")

    @property
    def n_outputs(self) -> int:
        """Number M of scores."""
        return len(self.weights)


@dataclass(frozen=True)
class Constant(Part):
    """The same scores for every sample.

    Attributes:
        values: The scores, (M,).
    """

    kind: ClassVar[str] = "constant"
    values: np.ndarray

    def __call__(self, values: Any) -> np.ndarray:
        """Return the scores (n, M) for n samples."""
        return np.tile(self.values, (len(values), 1))

    def check(self) -> None:
        """Raise a ValueError if the scores are not a row."""
        _require(self.values.ndim == 1, "the values are not a row")

    @property
    def n_outputs(self) -> int:
        """Number M of scores."""
        return len(self.values)


@dataclass(frozen=True)
class Neighbors(Part):
    """The nearest training samples in Euclidean distance, which vote, or whose values are averaged.

    Attributes:
        points: Features of the training samples, (n, D).
        targets: 0/1 of each class or label of them, or their values, (n, M).
        count: Number of neighbors.
        link: Scores from the mean of the targets: `log`, `logit` or `identity`.
    """

    kind: ClassVar[str] = "neighbors"
    points: np.ndarray
    targets: np.ndarray
    count: int
    link: str

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Return the scores (n, M) of features (n, D)."""
        from sklearn.neighbors import NearestNeighbors

        nearest = NearestNeighbors(n_neighbors=self.count, algorithm="brute").fit(self.points)
        rows = nearest.kneighbors(values, return_distance=False)
        return _linked(self.targets[rows].mean(axis=1), self.link)

    def check(self) -> None:
        """Raise a ValueError if shapes do not fit, or there are fewer samples than neighbors."""
        _require(self.points.ndim == self.targets.ndim == 2, "the points or targets have another shape")
        _require(len(self.points) == len(self.targets), "there are not as many targets as points")
        _require(type(self.count) is int and 1 <= self.count <= len(self.points), "the number of neighbors is wrong")
        _require(self.link in LINKS, "there is no such link")

    @property
    def n_outputs(self) -> int:
        """Number M of scores."""
        return int(self.targets.shape[1])


@dataclass(frozen=True)
class Trees(Part):
    """Decision trees whose leaves are added, each with a weight.

    A sample is at the left child of a node if its feature is at most the threshold, in single precision. Children have
    larger numbers than their parent, so that every path ends.

    Attributes:
        roots: Node at which each tree begins, (trees,).
        feature: Feature of each node, 0 for a leaf, (nodes,).
        threshold: Threshold of each node, (nodes,).
        left: Left child of each node, -1 for a leaf, (nodes,).
        right: Right child of each node, -1 for a leaf, (nodes,).
        value: Values of each leaf, (nodes, V).
        outputs: First of the scores to which the V values of each tree are added, (trees,).
        start: Scores before any tree, (M,).
        weight: Weight of every tree.
        link: Scores from the sums: `log`, `logit` or `identity`.
        width: Number of features of a sample.
    """

    kind: ClassVar[str] = "trees"
    roots: np.ndarray
    feature: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    right: np.ndarray
    value: np.ndarray
    outputs: np.ndarray
    start: np.ndarray
    weight: float
    link: str
    width: int

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Return the scores (n, M) of features (n, D)."""
        points = np.ascontiguousarray(values, np.float32)
        if points.shape[1] != self.width:
            raise ValueError(f"expected {self.width} features, got {points.shape[1]}")
        sums = np.zeros((len(points), len(self.start)))
        _add_leaves(
            points, self.roots, self.feature, self.threshold, self.left, self.right, self.value, self.outputs, sums
        )
        return _linked(self.start + self.weight * sums, self.link)

    def check(self) -> None:
        """Raise a ValueError if a node has a child before it or outside, or another array does not fit the nodes."""
        n_nodes = len(self.left)
        numbers = (self.roots, self.feature, self.left, self.right, self.outputs)
        _require(all(array.dtype == np.int32 and array.ndim == 1 for array in numbers), "nodes are not integers")
        reals = (self.threshold, self.value, self.start)
        _require(all(array.dtype == np.float64 for array in reals), "thresholds or values are of another type")
        _require(self.value.ndim == 2 and self.value.shape[1] >= 1, "the values have another shape")
        _require(self.start.ndim == 1, "the first scores have another shape")
        of_nodes = (self.feature, self.threshold, self.right, self.value)
        _require(all(len(array) == n_nodes for array in of_nodes), "the nodes have arrays of different sizes")
        _require(self.threshold.shape == (n_nodes,), "the thresholds have another shape")
        _require(len(self.roots) == len(self.outputs), "there are not as many outputs as trees")
        _require(type(self.width) is int and self.width >= 1, "the number of features is wrong")
        _require(bool(((self.roots >= 0) & (self.roots < n_nodes)).all()), "a tree begins outside of the nodes")
        _require(bool(((self.feature >= 0) & (self.feature < self.width)).all()), "a node has no such feature")
        is_leaf = self.left == -1
        _require(bool((is_leaf == (self.right == -1)).all()), "a node has one child")
        inner = np.flatnonzero(~is_leaf)
        for children in (self.left[inner], self.right[inner]):
            _require(bool(((children > inner) & (children < n_nodes)).all()), "a child is before its parent or outside")
        # Not outputs + V, which could overflow.
        last = len(self.start) - self.value.shape[1]
        _require(bool(((self.outputs >= 0) & (self.outputs <= last)).all()), "a tree has no such output")
        _require(isinstance(self.weight, float) and np.isfinite(self.weight), "the weight is not finite")
        _require(self.link in LINKS, "there is no such link")

    @property
    def n_outputs(self) -> int:
        """Number M of scores."""
        return len(self.start)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator,unused-ignore]
def _add_leaves(
    points: np.ndarray,
    roots: np.ndarray,
    feature: np.ndarray,
    threshold: np.ndarray,
    left: np.ndarray,
    right: np.ndarray,
    value: np.ndarray,
    outputs: np.ndarray,
    sums: np.ndarray,
) -> None:
    """Add the values of each sample's leaves to its sums, (n, M). Numbers of nodes and features must be in range."""
    for sample in range(len(points)):
        for tree in range(len(roots)):
            node = roots[tree]
            while left[node] >= 0:
                node = left[node] if points[sample, feature[node]] <= threshold[node] else right[node]
            for index in range(value.shape[1]):
                sums[sample, outputs[tree] + index] += value[node, index]
