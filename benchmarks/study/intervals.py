"""Intervals of a mean over targets whose values were measured with several seeds each."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import t

Interval = tuple[float, float]
FEWEST_TARGETS = 6
"""Fewest targets from which an interval over targets is computed."""


def interval_over_seeds(by_target: Sequence[Sequence[float]]) -> Interval | None:
    """Return the 95 % interval of the mean over these targets, as a statement about other seeds.

    The variances of the targets' means over seeds are added, with Satterthwaite's degrees of freedom of a sum of
    independent variances.

    Args:
        by_target: Values of each target, one a seed.

    Returns:
        The interval; an empty one at the mean if no target varies; None if a target has one seed.
    """
    if any(len(values) < 2 for values in by_target):
        return None
    variances = [float(np.var(values, ddof=1)) / len(values) for values in by_target]
    mean = float(np.mean([np.mean(values) for values in by_target]))
    total = sum(variances)
    if total == 0:
        return mean, mean
    freedom = total**2 / sum(
        variance**2 / (len(values) - 1) for variance, values in zip(variances, by_target, strict=True)
    )
    return _interval(mean, np.sqrt(total) / len(by_target), freedom)


def interval_over_targets(by_target: Sequence[Sequence[float]]) -> Interval | None:
    """Return the 95 % interval of the mean as a statement about further targets; None for fewer than six targets.

    It is Student's t over the targets' means, because seeds of one target are correlated.

    Args:
        by_target: Values of each target, one a seed.
    """
    if len(by_target) < FEWEST_TARGETS:
        return None
    return _student([float(np.mean(values)) for values in by_target])


def pooled_interval(by_target: Sequence[Sequence[float]]) -> Interval:
    """Return Student's interval over all values, as if seeds of one target were independent, which they are not."""
    return _student([value for values in by_target for value in values])


def _student(values: Sequence[float]) -> Interval:
    return _interval(float(np.mean(values)), float(np.std(values, ddof=1)) / np.sqrt(len(values)), len(values) - 1)


def _interval(mean: float, standard_error: float, freedom: float) -> Interval:
    margin = float(t.ppf(0.975, freedom)) * float(standard_error)
    return mean - margin, mean + margin
