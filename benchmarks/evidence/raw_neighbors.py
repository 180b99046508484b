"""The error without any source: nearest neighbors on the raw values of the labeled samples."""

import itertools
import time
from collections.abc import Iterable

import numpy as np
from result_log import ResultLog
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from sklearn.preprocessing import StandardScaler

from evidence.ranking_jobs import Job
from evidence.ranking_work import read_labeled
from modgap.errors import InputError
from modgap.ranking.raw_values import RAW, raw_features

__all__ = ["neighbors_error", "raw_errors", "run_raw"]

NEIGHBORS = (1, 5)


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
    return neighbors_error(features[:n_labeled], labels[data.train], features[n_labeled:], labels[data.test])


def neighbors_error(
    features: np.ndarray, labels: np.ndarray, test_features: np.ndarray, test_labels: np.ndarray
) -> tuple[float, str]:
    """Return the test error in percent of nearest neighbors by Euclidean distance, and how they were chosen.

    One or five neighbors, of values as they are or divided by their standard deviation, are chosen by the leave-one-out
    error on the labeled samples; of equal ones the first counts.

    Args:
        features: Values of the labeled samples, (n, D).
        labels: Their classes, (n,).
        test_features: Values of the test samples, (m, D).
        test_labels: Their classes, (m,).
    """
    scaler = StandardScaler().fit(features)
    scaled = {"as they are": (features, test_features),
              "standardized": (scaler.transform(features), scaler.transform(test_features))}  # fmt: skip
    errors = {
        (scale, k): _left_out_error(scaled[scale][0], labels, k) for scale, k in itertools.product(scaled, NEIGHBORS)
    }
    scale, k = min(errors, key=lambda option: errors[option])
    known, unknown = scaled[scale]
    predicted = KNeighborsClassifier(k).fit(known, labels).predict(unknown)
    return float(100 * (predicted != test_labels).mean()), f"{k} of values {scale}"


def _left_out_error(features: np.ndarray, labels: np.ndarray, k: int) -> float:
    nearest = NearestNeighbors(n_neighbors=k).fit(features).kneighbors(return_distance=False)
    n_classes = int(labels.max()) + 1
    votes = (labels[nearest][:, :, None] == np.arange(n_classes)).sum(axis=1).argmax(axis=1)
    return float((votes != labels).mean())
