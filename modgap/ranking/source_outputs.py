"""Outputs of a source that scores are computed from, and where they are in the cache."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import scipy.linalg
from scipy.special import softmax

from modgap.errors import InputError
from modgap.storage.cache import CacheEntry, find_cached

CLASSIFICATION = "classification"
MULTI_LABEL = "multi-label"
REGRESSION = "regression"
"""Tasks of targets."""

Content = TypeVar("Content")

LARGEST_EXPONENT = 200
"""Features whose largest magnitude is within 2**-200 and 2**200 are not scaled. Their fourth powers are finite."""
ROUNDING_STEPS = 4
"""A column is constant if its values differ by at most so many rounding steps of its largest magnitude."""


@dataclass(frozen=True)
class Moments:
    """Centered features and their principal components, which scores based on covariances share.

    Attributes:
        centered: Features minus their mean, double precision, shape (n, D). Constant features are exactly 0. Magnitudes
            beyond 2**200 and below 2**-200 are scaled to these bounds.
        variances: Variances of the principal components in ascending order, with divisor n - 1, shape (r,). Components
            without variance are left out, unless there is no other.
        components: Principal components in the same order, one in each column, shape (D, r).
    """

    centered: np.ndarray
    variances: np.ndarray
    components: np.ndarray

    def project(self, n_components: int) -> np.ndarray:
        """Project the samples on the components of the largest variance, largest first.

        Args:
            n_components: Number of components.

        Returns:
            Coordinates, shape (n, min(n_components, r)).
        """
        return np.asarray(self.centered @ self.components[:, ::-1][:, :n_components])


@dataclass(frozen=True)
class SourceOutputs:
    """Features and logits of a source on n samples of the target, with the samples' labels.

    Attributes:
        features: Pooled features of the encoder, shape (n, D).
        labels: Class of each sample, 0..K-1, shape (n,), or 0/1 labels of a multi-label target, shape (n, K).
        logits: Outputs of the source's classification head, shape (n, Z). None for a source without a head.
        values: Values to be predicted for a regression target, shape (n, M). The labels are then clusters of the
            values. None for classification and multi-label targets.
        groups: Record or subject that each sample belongs to, shape (n,). None if every sample is a group by itself.
        surrogate: Features (m, D) and classes (m,) of labeled data of the source's own modality. None if there are
            none.
        properties: Properties of the source that do not depend on the target, such as `parameters` (their number).
            Stored outputs also have `width` (D) and `classes` (Z), by which they are split into features and logits.
    """

    features: np.ndarray
    labels: np.ndarray
    logits: np.ndarray | None = None
    values: np.ndarray | None = None
    groups: np.ndarray | None = None
    surrogate: tuple[np.ndarray, np.ndarray] | None = None
    properties: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.labels)

    @property
    def task(self) -> str:
        """Task of the target: `classification`, `multi-label` or `regression`."""
        if self.values is not None:
            return REGRESSION
        return CLASSIFICATION if self.labels.ndim == 1 else MULTI_LABEL

    @property
    def n_classes(self) -> int:
        """Number of classes K, or of clusters of a regression target."""
        return int(self.labels.max()) + 1 if self.labels.ndim == 1 else self.labels.shape[1]

    def subset(self, rows: np.ndarray) -> "SourceOutputs":
        """Select samples. Classes without a sample among them are removed, and the others are renumbered.

        Args:
            rows: Indices of the samples, shape (k,).

        Returns:
            The outputs of the same source on these samples.
        """
        labels = self.labels[rows]
        labels = np.unique(labels, return_inverse=True)[1] if labels.ndim == 1 else labels[:, labels.any(axis=0)]
        arrays = {name: getattr(self, name) for name in ("features", "logits", "values", "groups")}
        chosen = {name: array[rows] for name, array in arrays.items() if array is not None}
        return replace(self, labels=labels, **chosen)

    @functools.cached_property
    def probabilities(self) -> np.ndarray:
        """Softmax of the logits, double precision, shape (n, Z).

        Raises:
            InputError: If the source has no classification head.
        """
        if self.logits is None:
            raise InputError("The source has no classification head, and none was fitted.")
        return np.asarray(softmax(np.asarray(self.logits, np.float64), axis=1))

    @functools.cached_property
    def target_matrix(self) -> np.ndarray:
        """Columns to be predicted, double precision, shape (n, M): the values, or 0/1 for each class."""
        if self.values is not None:
            return np.asarray(self.values, np.float64)
        if self.labels.ndim == 2:
            return self.labels.astype(np.float64)
        return np.asarray(np.eye(self.n_classes)[self.labels])

    @functools.cached_property
    def moments(self) -> Moments:
        """Centered features and their principal components."""
        centered = center_columns(self.features)
        squares, components = principal_components(centered)
        return Moments(centered, squares / max(1, len(centered) - 1), components)


def bound_magnitudes(features: np.ndarray) -> np.ndarray:
    """Return features in double precision, scaled by a power of two if their squares could overflow or vanish.

    Features whose largest magnitude is above 2**200 (1.6e60) or below 2**-200 (6e-61) are scaled to that bound. All
    others are returned as they are, bit for bit. Scores that depend on the unit of the features have reached their
    limit at the bound, or take the value that they have there.

    Args:
        features: Features, shape (n, D), finite.

    Returns:
        Features, double precision, shape (n, D).

    Example:
        >>> bound_magnitudes(np.array([[2.0**1000, 2.0**999]])) == np.array([[2.0**199, 2.0**198]])
        array([[ True,  True]])
    """
    array = np.asarray(features, np.float64)
    exponent = int(np.frexp(max(array.max(initial=0), -array.min(initial=0)))[1])
    if abs(exponent) <= LARGEST_EXPONENT:
        return array
    return np.asarray(np.ldexp(array, int(np.sign(exponent)) * LARGEST_EXPONENT - exponent))


def center_columns(features: np.ndarray) -> np.ndarray:
    """Subtract the mean of each column, and set constant columns to 0, so that no rounding error remains of them.

    A column is constant if its values differ by no more than four rounding steps. The steps are those of single
    precision for features in single precision, because a dead encoder's outputs differ between batches in their last
    bits, and those of double precision for all others.

    Args:
        features: Features, shape (n, D), finite.

    Returns:
        Centered features, double precision, shape (n, D), scaled as by `bound_magnitudes`.

    Example:
        >>> center_columns(np.array([[0.1, 1.0], [0.1, 2.0], [0.1, 6.0]])).tolist()
        [[0.0, -2.0], [0.0, -1.0], [0.0, 3.0]]
    """
    step = np.finfo(np.float32 if features.dtype == np.float32 else np.float64).eps
    array = bound_magnitudes(features)
    lowest, highest = array.min(axis=0), array.max(axis=0)
    centered: np.ndarray = array - array.mean(axis=0)
    centered[:, highest - lowest <= ROUNDING_STEPS * step * np.maximum(np.abs(lowest), np.abs(highest))] = 0
    return centered


def principal_components(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute the squared nonzero singular values and the right singular vectors of a matrix.

    The smaller of the two products of the matrix with its transpose is decomposed. For 20,000 x 1,280 this takes a
    fifth of the time of a singular value decomposition.

    Args:
        rows: Matrix, shape (n, D).

    Returns:
        Squared nonzero singular values in ascending order, shape (r,), and the right singular vectors as columns, shape
        (D, r). r is at least 1.
    """
    n, width = rows.shape
    squares, vectors = scipy.linalg.eigh(rows.T @ rows if n >= width else rows @ rows.T, driver="evd")
    nonzero = squares > max(n, width) * np.finfo(np.float64).eps * squares[-1]
    nonzero[-1] = True
    squares = np.maximum(squares[nonzero], 0)
    if n >= width:
        return squares, vectors[:, nonzero]
    return squares, rows.T @ (vectors[:, nonzero] / np.sqrt(np.where(squares > 0, squares, 1)))


KIND = "source_outputs"
"""Kind of the cache entries."""
ARRAY = "outputs"
"""Name of the array in a cache entry that holds features and logits side by side."""


def load_source_outputs(key: str) -> SourceOutputs:
    """Load the outputs of a source that `extract` has stored in the cache.

    Args:
        key: Key of the cache entry.

    Raises:
        InputError: If the entry is no longer in the cache.
    """
    return _load(key, _decode)


def _load(key: str, decode: Callable[[CacheEntry], Content]) -> Content:
    """Return what a function decodes from a cache entry, which must be there."""
    content = find_cached(KIND, key, decode)
    if content is None:
        raise InputError(
            f"The cache entry {key[:12]}... was removed or is damaged. Run the command again to compute it."
        )
    return content


def _decode(entry: CacheEntry) -> SourceOutputs:
    arrays = entry.arrays
    properties = entry.metadata["properties"]
    width = properties["width"]
    outputs = arrays[ARRAY]
    return SourceOutputs(
        features=outputs[:, :width],
        labels=np.array(arrays["labels"]),
        logits=outputs[:, width:] if properties["classes"] else None,
        values=np.array(arrays["values"]) if "values" in arrays else None,
        groups=np.array(arrays["groups"]) if "groups" in arrays else None,
        properties=properties,
    )


def load_class_names(key: str) -> tuple[list[str], list[str]]:
    """Return the names of the source's and of the target's classes. Empty lists if they have no names."""
    names = find_cached(KIND, key, lambda entry: (entry.metadata["source_classes"], entry.metadata["target_classes"]))
    return names or ([], [])


def load_sample_numbers(key: str) -> np.ndarray:
    """Return the number of each of the n samples among all samples of the target, shape (n,).

    Args:
        key: Key of the cache entry.

    Raises:
        InputError: If the entry is no longer in the cache.
    """
    return _load(key, lambda entry: np.array(entry.arrays["rows"]))
