"""The error without any source: nearest neighbors on the raw values of the labeled samples."""

import time
from collections.abc import Iterable

import numpy as np
from result_log import ResultLog

from evidence.ranking_jobs import Job
from evidence.ranking_work import read_labeled
from modgap.errors import InputError
from modgap.ranking.raw_values import RAW, nearest_neighbors, raw_features

__all__ = ["raw_errors", "run_raw"]


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
