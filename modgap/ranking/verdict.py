"""Verdict of a ranking: how clear the first place is, and which grounds speak for or against the first source."""

from dataclasses import dataclass, replace

import numpy as np

from modgap.ranking.score import CLASSIFICATION
from modgap.ranking.scores import get_score
from modgap.ranking.standings import MIN_HALF_SAMPLES, SURELY_BETTER, SURELY_WORSE
from modgap.ranking.types import CONTROL, RAW_VALUES, SOURCE, Ranking, ScoreTable

__all__ = ["Competitor", "ErrorComparison", "Verdict", "choose_kind", "judge"]

NOT_SCORED = "not scored"
SINGLE = "single source"
EQUAL = "equal sources"
UNCERTAIN = "unknown significance"
TIED = "not significant"
DOUBTFUL = "doubtful"
RECOMMENDED = "recommended"
"""Kinds of verdicts."""

CONTROL_WORSE = "significantly worse"
CONTROL_SIMILAR = "not significantly different"
CONTROL_BETTER = "significantly better"
"""Results of the comparison with the random-weights control."""

ERROR_SCORES = ("knn", "linear-probe", "discrepancy")
"""Scores that are error rates. The first is computed unless raw values are excluded."""
RAW_VALUE_SCORES = ("linear-probe", "knn")
"""Scores that compare features with raw values."""
BASELINE_SCORES = ("size", "source-error")
"""Scores that do not count as support, because they do not depend on the target."""


@dataclass(frozen=True)
class Competitor:
    """Source that is not significantly different from the first.

    Attributes:
        name: Name of the source.
        win_probability: Probability that it is better than the first.
    """

    name: str
    win_probability: float


@dataclass(frozen=True)
class ErrorComparison:
    """Comparison of an error with that of a baseline.

    Attributes:
        score: Name of the score, which is an error.
        error: Error of the source.
        interval: 95 % interval of the error. None if it is unknown.
        baseline: Error of the baseline.
    """

    score: str
    error: float
    interval: tuple[float, float] | None
    baseline: float


@dataclass(frozen=True)
class Verdict:
    """Verdict of a ranking and its grounds, from which all sentences of the recommendation are made.

    Attributes:
        kind: `recommended` (significantly the best, and nothing speaks against it), `doubtful` (significantly the best,
            but a ground speaks against it), `not significant` (others may be better), `unknown significance`, `equal
            sources` (several have the same best value), `single source`, or `not scored`.
        by: Name of the score that the sources are ranked by.
        n_sources: Number of sources that have a value by this score.
        best: Name of the first source. None if no source has a value.
        equals: Names of other sources with exactly the same value.
        competitors: Other sources that are not significantly different from the first, best first.
        runner_up: Name of the next best source. None if there is none.
        uncertainty_reason: Reason why the significance is unknown. Empty if it is known.
        control: Result of the random-weights control compared with the first source: `significantly worse`, `not
            significantly different` or `significantly better`. None if it is unknown.
        majority: Comparison of the first source's error with that of always predicting the majority class. None if the
            error is significantly smaller, or if the comparison does not apply.
        raw_values: Comparison of the error of the best source (as `baseline`) with that of raw values. None if raw
            values do worse than the features of some source.
        largest: Name of the source with the most parameters, if it is not the first source.
        agreeing: Names of other scores that rank the first source first.
        disagreeing: Names of other scores that do not.
        unconvincing: Names of agreeing scores by which the random-weights control is at least as good.
    """

    kind: str
    by: str
    n_sources: int = 0
    best: str | None = None
    equals: tuple[str, ...] = ()
    competitors: tuple[Competitor, ...] = ()
    runner_up: str | None = None
    uncertainty_reason: str = ""
    control: str | None = None
    majority: ErrorComparison | None = None
    raw_values: ErrorComparison | None = None
    largest: str | None = None
    agreeing: tuple[str, ...] = ()
    disagreeing: tuple[str, ...] = ()
    unconvincing: tuple[str, ...] = ()

    @property
    def has_doubts(self) -> bool:
        """True if a ground speaks against transferring from the first source."""
        fails_control = self.control in (CONTROL_SIMILAR, CONTROL_BETTER)
        return fails_control or self.majority is not None or self.raw_values is not None


def judge(ranking: Ranking) -> Verdict:
    """Judge how clear the first place of a ranking is, and collect the grounds for and against the first source.

    Args:
        ranking: The ranking.

    Returns:
        The verdict.
    """
    table = ranking.tables[ranking.by]
    first = table.first_source
    if first is None:
        return Verdict(NOT_SCORED, ranking.by)
    agreeing, disagreeing, unconvincing = _other_scores(ranking, first)
    grounds = Verdict(
        kind=DOUBTFUL,
        by=ranking.by,
        n_sources=int((table.source_ranks > 0).sum()),
        best=ranking.rows[first].name,
        equals=tuple(ranking.rows[index].name for index in np.flatnonzero(table.source_ranks == 1)[1:]),
        competitors=_competitors(ranking, table, first),
        runner_up=_runner_up(ranking, table, first),
        uncertainty_reason=_uncertainty_reason(ranking, table, first),
        control=_compare_control(ranking, table, first),
        majority=_compare_majority(ranking, first),
        raw_values=_compare_raw_values(ranking, first),
        largest=_largest_source(ranking, first),
        agreeing=agreeing,
        disagreeing=disagreeing,
        unconvincing=unconvincing,
    )
    return choose_kind(grounds)


def choose_kind(grounds: Verdict) -> Verdict:
    """Return the verdict with the kind that follows from its grounds."""
    if grounds.n_sources == 1:
        return replace(grounds, kind=SINGLE)
    if grounds.equals:
        return replace(grounds, kind=EQUAL)
    if grounds.uncertainty_reason:
        return replace(grounds, kind=UNCERTAIN)
    if grounds.competitors:
        return replace(grounds, kind=TIED)
    return replace(grounds, kind=DOUBTFUL if grounds.has_doubts else RECOMMENDED)


def _other_sources(table: ScoreTable, first: int) -> list[int]:
    """Return the indices of the other sources with a value, best first."""
    others = [int(index) for index in np.flatnonzero(table.source_ranks) if index != first]
    return sorted(others, key=lambda index: int(table.source_ranks[index]))


def _competitors(ranking: Ranking, table: ScoreTable, first: int) -> tuple[Competitor, ...]:
    tied = set(table.standings.tied_with(first).tolist())
    return tuple(
        Competitor(ranking.rows[index].name, float(table.standings.win_probabilities[index, first]))
        for index in _other_sources(table, first)
        if index in tied
    )


def _runner_up(ranking: Ranking, table: ScoreTable, first: int) -> str | None:
    others = _other_sources(table, first)
    return ranking.rows[others[0]].name if others else None


def _uncertainty_reason(ranking: Ranking, table: ScoreTable, first: int) -> str:
    if np.isfinite(table.standings.win_probabilities[first, _other_sources(table, first)]).all():
        return ""
    if not get_score(ranking.by).uses_samples:
        return f"{ranking.by} does not depend on the samples"
    if ranking.request.resamples < MIN_HALF_SAMPLES:
        return f"an interval needs --resamples {MIN_HALF_SAMPLES} or more"
    return "there are too few samples or groups to divide into halves"


def _control_index(ranking: Ranking, first: int) -> int | None:
    """Return the index of the row with the same architecture and random weights. None if there is none."""
    name = f"random:{ranking.rows[first].name}"
    return next((i for i, row in enumerate(ranking.rows) if row.name == name and row.kind == CONTROL), None)


def _compare_control(ranking: Ranking, table: ScoreTable, first: int) -> str | None:
    control = _control_index(ranking, first)
    if control is None or not table.standings.ranks[control]:
        return None
    probability = table.standings.win_probabilities[first, control]
    if not np.isfinite(probability) and get_score(ranking.by).uses_samples:
        # Without half-samples the values show that the source is no better, but not that it is significantly better.
        first_rank, control_rank = table.standings.ranks[[first, control]]
        if first_rank == control_rank:
            return CONTROL_SIMILAR
        return CONTROL_BETTER if control_rank < first_rank else None
    if not np.isfinite(probability):
        return None
    if probability <= SURELY_WORSE:
        return CONTROL_BETTER
    return CONTROL_SIMILAR if probability < SURELY_BETTER else CONTROL_WORSE


def _compare_majority(ranking: Ranking, first: int) -> ErrorComparison | None:
    """Compare the error with that of always predicting the majority class, by an error score.

    The score that the sources are ranked by is used if it is an error rate, otherwise k-NN.
    """
    score_name = ranking.by if ranking.by in ERROR_SCORES else ERROR_SCORES[0]
    table = ranking.tables.get(score_name)
    if table is None or not ranking.target or ranking.target.task != CLASSIFICATION:
        return None
    error = float(table.standings.values[first])
    low, high = table.standings.intervals[first].tolist()
    baseline = 1 - ranking.target.largest_class_share
    if not (error >= baseline or high >= baseline):
        return None
    return ErrorComparison(score_name, error, (low, high) if np.isfinite(high) else None, baseline)


def _compare_raw_values(ranking: Ranking, first: int) -> ErrorComparison | None:
    raw = next((i for i, row in enumerate(ranking.rows) if row.kind == RAW_VALUES), None)
    if raw is None:
        return None
    for score_name in RAW_VALUE_SCORES:
        table = ranking.tables.get(score_name)
        if table is None or not np.isfinite(table.standings.values[[raw, first]]).all():
            continue
        best_error = float(np.nanmin(np.where(table.source_ranks > 0, table.standings.values, np.nan)))
        raw_error = float(table.standings.values[raw])
        if raw_error <= best_error:
            low, high = table.standings.intervals[raw].tolist()
            return ErrorComparison(score_name, raw_error, (low, high) if np.isfinite(high) else None, best_error)
    return None


def _largest_source(ranking: Ranking, first: int) -> str | None:
    sizes = [row.properties.get("parameters") or 0 if row.kind == SOURCE else 0 for row in ranking.rows]
    largest = int(np.argmax(sizes))
    several = sum(size > 0 for size in sizes) > 1
    return ranking.rows[largest].name if several and largest != first else None


def _other_scores(ranking: Ranking, first: int) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Return the names of agreeing, disagreeing and unconvincing scores, as described at Verdict."""
    others = {
        name: table
        for name, table in ranking.tables.items()
        if name not in (ranking.by, *BASELINE_SCORES) and (table.source_ranks > 0).sum() > 1
    }
    agreeing = tuple(name for name, table in others.items() if table.source_ranks[first] == 1)
    disagreeing = tuple(name for name in others if name not in agreeing)
    control = _control_index(ranking, first)
    if control is None:
        return agreeing, disagreeing, ()
    unconvincing = tuple(name for name in agreeing if _is_no_worse(others[name], control, first))
    return agreeing, disagreeing, unconvincing


def _is_no_worse(table: ScoreTable, index: int, other: int) -> bool:
    return bool(0 < table.standings.ranks[index] <= table.standings.ranks[other])
