"""Monte-Carlo estimator of the paper: the smallest 0-1 discrepancy among random maps (Algorithm 2)."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from modgap.discrepancy.problem import ONE_TWO_FIVE, Problem
from modgap.discrepancy.trials import random_map

QUANTILES = (0.0001, 0.001, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95)
BINS = 60


@dataclass(frozen=True)
class MonteCarlo:
    """Result of T random injective maps.

    Attributes:
        value: Smallest error over the trials, in [0, 1]; lower is nearer.
        map: Source class of each target class in the best trial, the first one if several are equal.
        trials: Number T of trials.
        mean: Mean error over the trials.
        sd: Standard deviation of the error over the trials (ddof 0).
        quantiles: Quantiles of the error over the trials, by their level.
        running_minimum: Pairs of a number of trials and the smallest error so far, at 1, 2, 5, 10, ... and T trials.
        histogram: Histogram of the error over the trials: `edges` (bins + 1,) and `counts` (bins,).
    """

    value: float
    map: tuple[int, ...]
    trials: int
    mean: float
    sd: float
    quantiles: dict[str, float]
    running_minimum: tuple[tuple[int, float], ...]
    histogram: dict[str, list[float]] = field(repr=False)


def summarize(problem: Problem, counts: np.ndarray, seed: int = 0, parts: Sequence[int] | None = None) -> MonteCarlo:
    """Summarize the counts of all trials over some parts of the samples.

    Args:
        problem: Logits and labels.
        counts: Matches by trial and by part, shape (trials, parts).
        seed: Seed of the maps.
        parts: Parts whose matches are added; None for all parts.
    """
    chosen = list(range(problem.n_parts)) if parts is None else list(parts)
    total = int(problem.part_weights[chosen].sum())
    matches = counts[:, chosen].sum(axis=1, dtype=np.int64)
    best = int(matches.argmax())
    matches_at_quantiles = np.quantile(matches, 1 - np.array(QUANTILES))
    smallest = 1 - np.maximum.accumulate(matches) / total
    steps = [*(step for step in ONE_TWO_FIVE if step < len(matches)), len(matches)]
    return MonteCarlo(
        value=float(smallest[-1]),
        map=tuple(int(c) for c in random_map(problem, seed, best)),
        trials=len(matches),
        mean=float(1 - matches.mean() / total),
        sd=float(matches.std() / total),
        quantiles=dict(zip(map(str, QUANTILES), (1 - matches_at_quantiles / total).tolist(), strict=True)),
        running_minimum=tuple((step, float(smallest[step - 1])) for step in steps),
        histogram=_histogram(matches, total),
    )


def _histogram(matches: np.ndarray, total: int) -> dict[str, list[float]]:
    low = int(min(matches))
    high = int(max(matches)) + 1
    step = max(1, -(-(high - low) // BINS))
    edges = np.arange(low, high + step, step)
    counts, _ = np.histogram(matches, edges)
    # Errors fall as matches rise, so the bins are reversed; half a sample centers each bin on its value.
    return {"edges": (1 - (edges[::-1] - 0.5) / total).tolist(), "counts": counts[::-1].tolist()}
