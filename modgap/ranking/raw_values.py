"""Raw values of the samples as features, and the errors of their nearest neighbors: the baselines without any model."""

import itertools

import numpy as np
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from modgap.errors import InputError
from modgap.targets import Samples, Target
from modgap.targets.samples import computing_type
from modgap.transfer.pilot import PilotErrors, labeled_weights, pilot_halves, sample_errors

__all__ = ["NEIGHBORS", "RAW", "nearest_neighbors", "raw_features", "raw_neighbors_errors"]

RAW = "raw"
"""Name of the row of raw values in a ranking."""
MAX_VALUES = 1024
MOST_ROUNDING = 1e-3
"""Largest error of float32, relative to the standard deviation of a value over the samples."""


def raw_features(samples: Samples, rows: np.ndarray) -> np.ndarray:
    """Flatten samples. Samples of more than 1,024 values are reduced to means over equal stretches.

    Args:
        samples: Samples of a target.
        rows: Indices of n samples, shape (n,).

    Returns:
        Features, float32, shape (n, D) with D at most 1,024. A value is centered if float32 has too few digits for its
        differences, as with Unix times.

    Raises:
        InputError: If the samples are texts, or if they differ in size.
    """
    features = []
    for row in rows:
        sample = samples[int(row)]
        if not isinstance(sample, np.ndarray) or sample.dtype.kind not in "fiub":
            raise InputError("Text samples have no raw values to score. Raw values need numeric arrays.")
        features.append(_shorten(np.asarray(sample, computing_type(sample.dtype)).ravel()))
    sizes = {len(values) for values in features}
    if len(sizes) > 1:
        raise InputError(
            f"The samples have {min(sizes)} to {max(sizes)} values. Raw values can be scored only if all samples have "
            "the same size."
        )
    return _single_precision(np.stack(features))


def _single_precision(features: np.ndarray) -> np.ndarray:
    """Return features as float32. Columns whose differences it would round away lose their mean first."""
    spread = features.std(axis=0)
    rounding = np.abs(features).max(axis=0, initial=0) * np.finfo(np.float32).eps
    is_far = (features.dtype == np.float64) & (spread > 0) & (rounding > MOST_ROUNDING * spread)
    near_zero: np.ndarray = features - np.where(is_far, features.mean(axis=0), 0)
    return near_zero.astype(np.float32)


def _shorten(values: np.ndarray) -> np.ndarray:
    if len(values) <= MAX_VALUES:
        return values
    edges = np.linspace(0, len(values), MAX_VALUES + 1).astype(np.int64)
    return (np.add.reduceat(values.astype(np.float64), edges[:-1]) / np.diff(edges)).astype(values.dtype)


NEIGHBORS = (1, 5)
"""Numbers of neighbors, of which the labeled samples choose one."""


def nearest_neighbors(
    features: np.ndarray,
    labels: np.ndarray,
    new_features: np.ndarray,
    groups: np.ndarray | None = None,
    weights: np.ndarray | None = None,
) -> tuple[np.ndarray, str]:
    """Predict classes by nearest neighbors in Euclidean distance.

    One or five neighbors, of values as they are or divided by their standard deviation, are chosen by the error on
    labeled samples that are left out, each alone or with its group. Of equal ones the first counts.

    Args:
        features: Values of the labeled samples, (n, D).
        labels: Their classes, (n,).
        new_features: Values of the samples to predict, (m, D).
        groups: Group of each labeled sample, (n,). None if they are independent.
        weights: Weight of each labeled sample in this error, (n,). None for equal ones.

    Returns:
        Predicted classes, (m,), and the choice in words. Where too few samples are left to choose, it is one neighbor
        of values as they are.
    """
    scaler = StandardScaler().fit(features)
    scaled = {
        "as they are": (features, new_features),
        "standardized": (scaler.transform(features), scaler.transform(new_features)),
    }
    units = np.unique(np.arange(len(labels)) if groups is None else groups, return_inverse=True)[1].ravel()
    n_left = len(labels) - int(np.bincount(units).max())
    numbers = [k for k in NEIGHBORS if k <= n_left]
    errors = {
        (scale, k): float(np.average(_left_out_errors(scaled[scale][0], labels, units, k), weights=weights))
        for scale, k in itertools.product(scaled, numbers)
    }
    scale, k = min(errors, key=lambda option: errors[option]) if errors else ("as they are", 1)
    labeled, unlabeled = scaled[scale]
    return KNeighborsClassifier(k).fit(labeled, labels).predict(unlabeled), f"{k} of values {scale}"


def _left_out_errors(features: np.ndarray, labels: np.ndarray, units: np.ndarray, k: int) -> np.ndarray:
    predicted = cross_val_predict(KNeighborsClassifier(k), features, labels, groups=units, cv=LeaveOneGroupOut())
    return np.asarray(predicted != labels)


def raw_neighbors_errors(target: Target, seed: int, *, weight: str | None = None) -> PilotErrors:
    """Return the errors of nearest neighbors of raw values on the samples that judge a short fine-tuning.

    The neighbors are the samples that it trains on.

    Args:
        target: The target.
        seed: Seed of the samples and of the halves.
        weight: What counts equally in the error: `samples`, `groups` or `classes`. None for groups where there are
            groups, else samples.

    Returns:
        The errors, of one result without any training.

    Raises:
        InputError: If the target has no classes, or if its samples have no raw values of one size.
        UsageError: If the weight is unknown.
    """
    halves = pilot_halves(target, seed)
    labels = np.asarray(halves.table.class_labels)
    features = raw_features(halves.table.samples, np.concatenate([halves.train, halves.test]))
    labeled, judged = np.split(features, [len(halves.train)])
    groups = None if halves.groups is None else halves.groups[halves.train]
    weights = labeled_weights(halves, halves.train, weight)
    predicted, _ = nearest_neighbors(labeled, labels[halves.train], judged, groups, weights)
    errors = (predicted != labels[halves.test]).astype(float)
    judged_errors = sample_errors(errors, halves, seed, weight)
    return PilotErrors(judged_errors, len(halves.train), judged_errors.averages)
