"""Means over targets with their intervals, without modgap."""

from typing import NamedTuple

import numpy as np
from scipy import stats

LEVEL = 0.95


class Interval(NamedTuple):
    """A mean with its interval; as a text with one decimal."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        """Return the mean and both ends with one decimal."""
        return f"{self.mean:.1f} [{self.low:.1f}, {self.high:.1f}]"


def mean_interval(values: np.ndarray) -> Interval:
    """Return the mean of values by target, (n,), with Student's interval at 95 %."""
    mean = float(np.mean(values))
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(values) - 1) * stats.sem(values))
    return Interval(mean, mean - half, mean + half)
