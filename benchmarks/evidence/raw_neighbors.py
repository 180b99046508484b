"""The error without any source: nearest neighbors on the raw values of the labeled samples."""

import itertools
import time
from collections.abc import Iterable

import numpy as np
from result_log import ResultLog
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from evidence.ranking_jobs import Job
from modgap.errors import InputError
from modgap.ranking.history.measure import read_labeled
from modgap.targets import Samples
from modgap.targets.samples import computing_type

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


def raw_errors(log: ResultLog, targets: Iterable[str]) -> np.ndarray:
    """Return the error on each target in percent; NaN where it is not computed, or the samples differ in size."""
    records = [log.get(_job(target)) for target in targets]
    errors = [record["errors"]["raw"] if record else None for record in records]
    return np.array(errors, float)


def run_raw(log: ResultLog, targets: tuple[str, ...]) -> None:
    """Compute the error on each target that has none yet, append it to the log, and print it."""
    for target in targets:
        if log.get(_job(target)) is None:
            began = time.perf_counter()
            error, chosen = _raw_error(target)
            result = {"errors": {"raw": error}, "chosen": chosen}
            log.add(_job(target), {**result, "seconds": round(time.perf_counter() - began, 1)})
            print(
                f"{target}: {'no raw values of one size' if error is None else f'{error:.1f} % ({chosen})'}", flush=True
            )


def _job(target: str) -> Job:
    return Job(RAW, RAW, target)


def _raw_error(target: str) -> tuple[float | None, str]:
    data = read_labeled(target)
    labels = np.asarray(data.table.class_labels)
    try:
        features = raw_features(data.table.samples, np.concatenate([data.train, data.test]))
    except InputError:
        return None, ""
    n_labeled = len(data.train)
    predicted, chosen = nearest_neighbors(features[:n_labeled], labels[data.train], features[n_labeled:])
    return float(100 * (predicted != labels[data.test]).mean()), chosen
