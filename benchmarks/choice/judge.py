"""How each score agrees with the truth: weighted Kendall tau and regret of its first choice, over targets."""

from collections.abc import Callable, Sequence

import numpy as np
from scipy.stats import weightedtau

__all__ = ["agreement", "normalised_regret", "over_targets", "scratch_errors"]

RESAMPLES = 10_000


def agreement(scores: np.ndarray, errors: np.ndarray) -> float:
    """Weighted Kendall tau of scores (S,), higher is better, and errors (S,): 1 for the same order of sources.

    Sources that stand high weigh more, hyperbolically (Vigna 2015), from both orders.
    """
    return float(weightedtau(scores, -errors).statistic)


def normalised_regret(scores: np.ndarray, errors: np.ndarray) -> float:
    """Error of the first choice above the least, in percentage points of error; of equal firsts the mean."""
    firsts = scores == scores.max()
    return float(errors[firsts].mean() - errors.min())


def over_targets(values: Sequence[float], seed: int = 0) -> tuple[float, float, float]:
    """Mean over targets and its 95 % bootstrap interval over them; NaN values are left out."""
    known = np.array([value for value in values if np.isfinite(value)])
    if len(known) < 2:
        return float(known.mean()) if len(known) else float("nan"), float("nan"), float("nan")
    drawn = np.random.default_rng(seed).choice(known, (RESAMPLES, len(known))).mean(axis=1)
    return float(known.mean()), *(float(q) for q in np.quantile(drawn, [0.025, 0.975]))


def scratch_errors(errors: dict[str, list[float]]) -> list[float]:
    """Mean error of each source's architecture from random weights."""
    return [float(np.mean(each)) for name, each in errors.items() if name.startswith("random:")]


Measure = Callable[[np.ndarray, np.ndarray], float]
