"""Monte-Carlo estimator of the paper: the smallest 0-1 discrepancy among random maps (Algorithm 2)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from modgap.discrepancy.problem import Problem
from modgap.discrepancy.trials import TrialCounts, count_trials, random_map

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


def montecarlo(
    logits: np.ndarray, labels: np.ndarray, *, trials: int = 100_000, seed: int = 0, threads: int = 1
) -> MonteCarlo:
    """Estimate the smallest 0-1 discrepancy among random injective maps (Algorithm 2).

    Args:
        logits: Source logits, finite, float32, C-contiguous, shape (N, C).
        labels: Target labels 0..K-1, with K <= C, shape (N,).
        trials: Number of random maps.
        seed: Seed of the maps; map t depends only on (seed, t).
        threads: Number of worker threads; it does not change the result.

    Example:
        >>> labels = np.repeat([0, 1], 50)
        >>> logits = np.random.default_rng(0).standard_normal((100, 9)).astype("float32")
        >>> logits[np.arange(100), labels + 3] += 3
        >>> result = montecarlo(logits, labels, trials=1000)
        >>> result.map, round(result.value, 2), round(result.mean, 2)
        ((3, 4), 0.01, 0.51)
    """
    rows = np.arange(len(labels))
    n_classes = int(labels.max()) + 1
    problem = Problem(logits, rows, labels, np.zeros(len(labels), np.int64), n_classes, 1)
    return summarize(problem, count_trials(problem, seed=seed, stop=trials, threads=threads))


def summarize(problem: Problem, counts: TrialCounts, parts: Sequence[int] | None = None) -> MonteCarlo:
    """Summarize the counts of all trials over some parts of the samples.

    Args:
        problem: Logits and labels.
        counts: Matches of the trials by part.
        parts: Parts whose matches are added; None for all parts.
    """
    chosen = list(range(problem.n_parts)) if parts is None else list(parts)
    total = int(problem.part_weights[chosen].sum())
    matches = counts.matches[:, chosen].sum(axis=1, dtype=np.int64)
    best = int(matches.argmax())
    matches_at_quantiles = np.quantile(matches, 1 - np.array(QUANTILES))
    smallest = 1 - np.maximum.accumulate(matches) / total
    return MonteCarlo(
        value=float(smallest[-1]),
        map=tuple(int(c) for c in random_map(problem, counts.seed, counts.start + best)),
        trials=len(matches),
        mean=float(1 - matches.mean() / total),
        sd=float(matches.std() / total),
        quantiles=dict(zip(map(str, QUANTILES), (1 - matches_at_quantiles / total).tolist(), strict=True)),
        running_minimum=tuple((t, float(smallest[t - 1])) for t in sorted({*one_two_five(len(matches)), len(matches)})),
        histogram=_histogram(matches, total),
    )


def one_two_five(largest: int) -> Iterator[int]:
    """Yield 1, 2, 5, 10, 20, 50, ... up to `largest`."""
    unit = 1
    while unit <= largest:
        yield from (unit * digit for digit in (1, 2, 5) if unit * digit <= largest)
        unit *= 10


def _histogram(matches: np.ndarray, total: int) -> dict[str, list[float]]:
    low = int(min(matches))
    high = int(max(matches)) + 1
    step = max(1, -(-(high - low) // BINS))
    edges = np.arange(low, high + step, step)
    counts, _ = np.histogram(matches, edges)
    # Errors fall as matches rise, so the bins are reversed; half a sample centers each bin on its value.
    return {"edges": (1 - (edges[::-1] - 0.5) / total).tolist(), "counts": counts[::-1].tolist()}
