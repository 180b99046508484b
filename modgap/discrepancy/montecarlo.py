"""The paper's estimator: the smallest 0-1 discrepancy among random maps (Algorithm 2)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from modgap.discrepancy.halves import MATCHED_TWICE, HeldOut
from modgap.discrepancy.problem import Problem
from modgap.discrepancy.trials import TrialCounts, drawn_map

__all__ = ["MonteCarlo", "held_out_maps", "summarise"]

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


def summarise(problem: Problem, counts: TrialCounts) -> MonteCarlo:
    """The estimate from the counts of a whole range of trials that starts at 0."""
    entries = len(problem.rows)
    matches = counts.matches.sum(axis=1, dtype=np.int64)
    best = int(matches.argmax())
    least = 1 - np.maximum.accumulate(matches) / entries
    at = list(_one_two_five(len(matches)))
    return MonteCarlo(
        value=float(least[-1]),
        map=tuple(int(c) for c in drawn_map(problem, counts.seed, counts.start + best)),
        trials=len(matches),
        mean=float(1 - matches.mean() / entries),
        sd=float(matches.std() / entries),
        quantiles={str(q): float(1 - np.quantile(matches, 1 - q) / entries) for q in QUANTILES},
        running_minimum=tuple((t, float(least[t - 1])) for t in at),
        histogram=_histogram(matches, entries),
    )


def held_out_maps(problem: Problem, counts: TrialCounts) -> HeldOut:
    """For each half, the map that is best on it, and its errors on the other."""
    searched = np.stack([counts.matches[:, half] for half in (0, 1)], axis=1)
    if problem.n_parts > MATCHED_TWICE:
        searched = searched + counts.matches[:, MATCHED_TWICE:]
    best = searched.argmax(axis=0)
    sizes = np.bincount(problem.parts, minlength=2)
    errors = sum(int(sizes[1 - half] - counts.matches[best[half], 1 - half]) for half in (0, 1))
    maps = [drawn_map(problem, counts.seed, counts.start + int(trial)) for trial in best]
    return HeldOut(errors / int(sizes[0] + sizes[1]), int(sizes[0] + sizes[1]), (maps[0], maps[1]))


def _one_two_five(last: int) -> Iterator[int]:
    unit = 1
    while unit < last:
        yield from (unit * digit for digit in (1, 2, 5) if unit * digit < last)
        unit *= 10
    yield last


def _histogram(matches: Sequence[int], entries: int) -> dict[str, list]:
    low, high = int(min(matches)), int(max(matches)) + 1
    step = max(1, -(-(high - low) // BINS))
    edges = np.arange(low, high + step, step)
    counts, _ = np.histogram(matches, edges)
    # Wrong shares fall as matches rise, so the bins turn round; half a sample centres each on its value.
    return {"edges": (1 - (edges[::-1] - 0.5) / entries).tolist(), "counts": counts[::-1].tolist()}
