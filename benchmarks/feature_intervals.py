"""Measure the coverage of the intervals of `knn` and `linear-probe` in simulated data sets.

    python benchmarks/feature_intervals.py [--data-sets 400]

Each data set has Gaussian features whose means depend on the class. The truth is the mean error over all data sets of a
cell. The table has the share of 95 % intervals that contain the truth, with its standard error, and their mean length:
for the errors by sample of five cross-validations, as in `modgap rank`, of one cross-validation, and for subsamples
(k-NN only).
"""

import argparse
from unittest import mock

import numpy as np

from modgap.ranking import cross_validation
from modgap.ranking.score import ErrorOptions
from modgap.ranking.scores import get_score
from modgap.ranking.source_outputs import SourceOutputs
from modgap.ranking.standings import SPREAD_FACTOR, compute_standings, score_subsamples

CELLS = ((60, 20, 2), (200, 30, 4))
"""Numbers of samples, features and classes."""
SHIFT = 0.7
SUBSAMPLES = 20


def simulate(n_samples: int, width: int, n_classes: int, seed: int) -> SourceOutputs:
    """Return features whose means depend on the class."""
    rng = np.random.default_rng([n_samples, seed])
    labels = np.arange(n_samples) % n_classes
    return SourceOutputs(rng.standard_normal((n_samples, width)) + SHIFT * np.eye(n_classes, width)[labels], labels)


def by_sample(name: str, outputs: SourceOutputs, repeats: int) -> tuple[float, tuple[float, float]]:
    """Return value and interval from the errors by sample of a number of cross-validations."""
    with mock.patch.object(cross_validation, "REPEATS", repeats):
        mean = get_score(name).mean_of(get_score(name).sample_errors(outputs, ErrorOptions()))
    assert mean.interval is not None
    return mean.value, mean.interval


def by_subsamples(name: str, outputs: SourceOutputs) -> tuple[float, tuple[float, float]]:
    """Return value and interval from subsamples."""
    score = get_score(name)
    value = score.evaluate(outputs)
    resampled = score_subsamples(score, outputs, 0, range(SUBSAMPLES))[None]
    low, high = compute_standings(
        [value], resampled, higher_is_better=False, bounds=(0, 1), n_units=len(outputs), spread_factor=SPREAD_FACTOR
    ).intervals[0]
    return value, (float(low), float(high))


def main() -> None:
    """Print one line for each cell, score and method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-sets", type=int, default=400)
    count = parser.parse_args().data_sets
    methods = {
        "five cross-validations": lambda name, one: by_sample(name, one, 5),
        "one cross-validation": lambda name, one: by_sample(name, one, 1),
        "subsamples": by_subsamples,
    }
    for cell in CELLS:
        data_sets = [simulate(*cell, seed) for seed in range(count)]
        for name in ("knn", "linear-probe"):
            for method, interval_of in methods.items():
                if method == "subsamples" and name != "knn":
                    continue
                results = [interval_of(name, one) for one in data_sets]
                truth = np.mean([value for value, _ in results])
                ends = np.array([interval for _, interval in results])
                covered = float(((ends[:, 0] <= truth) & (truth <= ends[:, 1])).mean())
                error = np.sqrt(covered * (1 - covered) / count)
                length = float((ends[:, 1] - ends[:, 0]).mean())
                print(
                    f"{cell[0]} samples, {cell[2]} classes, {name}, {method}: coverage {covered:.3f} (se {error:.3f}), "
                    f"mean length {length:.3f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
