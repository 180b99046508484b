"""Count how often a source that is one more random initialization is called better than its controls.

    python benchmarks/control_level.py [--data-sets 4000]       about two minutes on one core

Each data set has N samples of different difficulty, and n + 1 networks that differ in their mean error by a standard
deviation, like random initializations. The first is taken for the pretrained source. The error is called significantly
lower if p <= .05 and the difference is below 0, which should happen in .025 of the data sets. "s^2/n" takes the
variance between the controls for that of their mean alone. Expected result: with three or five controls the rate is at
most .025 within two standard errors, with "s^2/n" up to .12, and with one control up to .22.
"""

import argparse

import numpy as np
from scipy import stats

from modgap.discrepancy.control import compare_with_controls
from modgap.discrepancy.result import TestedSamples
from modgap.statistics.intervals import SampleErrors, degrees_of_freedom

LEVEL = 0.05


def tested_samples(errors: np.ndarray) -> TestedSamples:
    """Return samples with these errors, each of which is a unit."""
    n = len(errors)
    sample_errors = SampleErrors(errors, np.ones(n), np.arange(n), np.array([errors.mean()]), None, 0)
    return TestedSamples(np.arange(n), np.zeros(n, int), None, {"search": sample_errors})


def p_value_of_the_mean(errors: np.ndarray) -> float:
    """Return the p-value with the variance s^2/n between the controls, from the errors (n + 1, N)."""
    differences = errors[0] - errors[1:].mean(axis=0)
    n, n_samples = len(errors) - 1, errors.shape[1]
    variance = differences.var(ddof=1) / n_samples
    between = errors[1:].mean(axis=1).var(ddof=1) / n if n > 2 else 0.0
    degrees = degrees_of_freedom([(variance, n_samples - 1), (between, n - 1 if between else np.inf)])
    return float(2 * stats.t.sf(abs(differences.mean()) / np.sqrt(variance + between), degrees))


def rates(sd: float, n_samples: int, n_controls: int, data_sets: int, effect: float = 0.0) -> tuple[float, float]:
    """Return how often the source is called better, with the variance of the mean and with that of a further draw."""
    counts = np.zeros(2)
    for seed in range(data_sets):
        rng = np.random.default_rng([seed, n_samples, n_controls, round(1000 * sd)])
        difficulty = 0.4 + 0.6 * rng.beta(2, 2, n_samples)
        levels = sd * rng.standard_normal((n_controls + 1, 1)) - effect * (np.arange(n_controls + 1) == 0)[:, None]
        errors = (rng.random((n_controls + 1, n_samples)) < np.clip(difficulty + levels, 0, 1)).astype(float)
        if errors[0].mean() >= errors[1:].mean():
            continue
        source, *controls = map(tested_samples, errors)
        further = compare_with_controls(source, controls, "control", "search").difference.p_value
        counts += [p_value_of_the_mean(errors) <= LEVEL, further is not None and further <= LEVEL]
    share_of_the_mean, share = counts / data_sets
    return float(share_of_the_mean), float(share)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-sets", type=int, default=4000)
    data_sets = parser.parse_args().data_sets
    print("| sd of networks | N | controls | s^2/n | s^2 (1 + 1/n) | power at a difference of .2 |")
    print("|---|---|---|---|---|---|")
    for sd in (0.0, 0.02, 0.05):
        for n_samples in (100, 400):
            for n_controls in (1, 3, 5):
                null = rates(sd, n_samples, n_controls, data_sets)
                power = rates(sd, n_samples, n_controls, data_sets // 4, 0.2)[1]
                errors = [np.sqrt(rate * (1 - rate) / data_sets) for rate in null]
                cells = [f"{rate:.3f} ({error:.3f})" for rate, error in zip(null, errors, strict=True)]
                print(f"| {sd:g} | {n_samples} | {n_controls} | {' | '.join(cells)} | {power:.2f} |", flush=True)


if __name__ == "__main__":
    main()
