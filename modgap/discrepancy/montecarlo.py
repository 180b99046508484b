"""The paper's estimator: the smallest 0-1 discrepancy among random maps (Algorithm 2)."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from modgap.discrepancy.held_out import IN_BOTH_HALVES
from modgap.discrepancy.problem import Problem
from modgap.discrepancy.trials import TrialCounts, count_trials, random_map

__all__ = ["MonteCarlo", "half_maps", "montecarlo", "summarize"]

QUANTILES = (0.0001, 0.001, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95)
BINS = 60


@dataclass(frozen=True)
class MonteCarlo:
    """What T random injective maps give.

    Attributes:
        value: Smallest share of samples got wrong over the trials, in [0, 1]; lower is nearer.
        map: Source class of each target class under the best trial (the first one, if several).
        trials: T.
        mean: Mean over trials.
        sd: Standard deviation over trials (ddof 0).
        quantiles: Quantiles over trials, by their level.
        running_minimum: (trials so far, smallest value so far), at 1, 2, 5, 10, ... and T trials.
        histogram: `edges` (bins + 1,) and `counts` (bins,) over trials.
    """

    value: float
    map: tuple[int, ...]
    trials: int
    mean: float
    sd: float
    quantiles: dict[str, float]
    running_minimum: tuple[tuple[int, float], ...]
    histogram: dict[str, list] = field(repr=False)


def montecarlo(
    logits: np.ndarray, labels: np.ndarray, *, trials: int = 100_000, seed: int = 0, threads: int = 1
) -> MonteCarlo:
    """Smallest 0-1 discrepancy among random injective maps (Algorithm 2).

    Args:
        logits: Source logits, finite, float32, C-contiguous, shape (N, C).
        labels: Target labels 0..K-1, K <= C, shape (N,).
        trials: Random maps.
        seed: Seed of the maps; map t depends on (seed, t) alone.
        threads: Worker threads; the result does not depend on it.

    Example:
        >>> labels = np.repeat([0, 1], 50)
        >>> logits = np.random.default_rng(0).standard_normal((100, 9)).astype("float32")
        >>> logits[np.arange(100), labels + 3] += 3
        >>> found = montecarlo(logits, labels, trials=1000)
        >>> found.map, round(found.value, 2), round(found.mean, 2)
        ((3, 4), 0.01, 0.51)
    """
    rows = np.arange(len(labels))
    n_classes = int(labels.max()) + 1
    problem = Problem(logits, rows, labels, np.zeros(len(labels), np.int64), n_classes, 1)
    return summarize(problem, count_trials(problem, seed=seed, stop=trials, threads=threads))


def summarize(problem: Problem, counts: TrialCounts) -> MonteCarlo:
    """The estimate from the counts of a whole range of trials, over all parts."""
    return _summary(problem, counts, tuple(range(problem.n_parts)))


def half_maps(problem: Problem, counts: TrialCounts) -> list[MonteCarlo]:
    """The estimates on half 0 and on half 1, each with the samples that are searched with both."""
    both = tuple(range(IN_BOTH_HALVES, problem.n_parts))
    return [_summary(problem, counts, (half, *both)) for half in range(min(2, problem.n_parts))]


def _summary(problem: Problem, counts: TrialCounts, parts: tuple[int, ...]) -> MonteCarlo:
    total = int(problem.part_weights[list(parts)].sum())
    matches = counts.matches[:, parts].sum(axis=1, dtype=np.int64)
    best = int(matches.argmax())
    levels = np.quantile(matches, 1 - np.array(QUANTILES))
    least = 1 - np.maximum.accumulate(matches) / total
    return MonteCarlo(
        value=float(least[-1]),
        map=tuple(int(c) for c in random_map(problem, counts.seed, counts.start + best)),
        trials=len(matches),
        mean=float(1 - matches.mean() / total),
        sd=float(matches.std() / total),
        quantiles=dict(zip(map(str, QUANTILES), (1 - levels / total).tolist(), strict=True)),
        running_minimum=tuple((t, float(least[t - 1])) for t in _one_two_five(len(matches))),
        histogram=_histogram(matches, total),
    )


def _one_two_five(last: int) -> Iterator[int]:
    unit = 1
    while unit < last:
        yield from (unit * digit for digit in (1, 2, 5) if unit * digit < last)
        unit *= 10
    yield last


def _histogram(matches: np.ndarray, total: int) -> dict[str, list]:
    low = int(min(matches))
    high = int(max(matches)) + 1
    step = max(1, -(-(high - low) // BINS))
    edges = np.arange(low, high + step, step)
    counts, _ = np.histogram(matches, edges)
    # Wrong shares fall as matches rise, so the bins turn round; half a sample centers each on its value.
    return {"edges": (1 - (edges[::-1] - 0.5) / total).tolist(), "counts": counts[::-1].tolist()}
