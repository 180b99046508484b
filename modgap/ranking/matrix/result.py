"""The matrix of sources and targets: scores, ranks, and which sources are not significantly different."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from modgap.ranking.types import JobCounts

DECIDING = "deciding"
"""Name of the measure that has, for each target, the score that its sources are ranked by, where these differ."""


@dataclass(frozen=True)
class Row:
    """A source or a random-weights control.

    Attributes:
        name: Its name.
        kind: `source` or `random-weights control`.
        input: Kind of its input, such as `image`. Empty if it is unknown.
        parameters: Number of its parameters. None if it is unknown.
    """

    name: str
    kind: str
    input: str = ""
    parameters: int | None = None


@dataclass(frozen=True)
class Column:
    """A target.

    Attributes:
        name: Its name or absolute path.
        samples_kind: Kind of its samples, such as `series`. Empty if it is unknown.
        samples: Number of samples that the sources were scored on.
        score: Name of the score that its sources are ranked by.
        choice: How clear the first place is on this target, as in the verdict of its ranking.
        help: Whether transfer helps on this target, as in the verdict of its ranking.
    """

    name: str
    samples_kind: str
    samples: int
    score: str
    choice: str
    help: str


@dataclass(frozen=True)
class Measure:
    """One score of R rows on T targets.

    Attributes:
        name: Name of the score, or `deciding`.
        higher_is_better: True where higher is better, shape (T,).
        values: Scores, shape (R, T). NaN where there is none.
        intervals: 95 % interval of each score, shape (R, T, 2). NaN where it is unknown.
        similar: True for the first source of each target, for the sources that are not significantly different from it,
            and for the controls that are not significantly worse, shape (R, T).
    """

    name: str
    higher_is_better: np.ndarray
    values: np.ndarray
    intervals: np.ndarray
    similar: np.ndarray


@dataclass(frozen=True)
class Standing:
    """A source over all targets.

    Attributes:
        source: Name of the source.
        mean_rank: Mean of its ranks over the targets, from 1; a source without a value on a target has the mean of the
            ranks that are left there.
        n_targets: Number of targets on which it has a value.
        p_value: Corrected p-value of the sign test of this source and the first over the targets; None for the first,
            if there are too few targets on which they differ for any significance, or if either lacks a value
            somewhere.
        letters: Letters of its groups: sources that share one are not significantly different. Empty if unknown.
        is_ahead: True if the test finds it significantly better than the first, whose mean rank is lower.
    """

    source: str
    mean_rank: float
    n_targets: int
    p_value: float | None
    letters: str
    is_ahead: bool = False


@dataclass(frozen=True)
class Agreement:
    """How far another score orders the sources as the score that decides.

    Attributes:
        score: Name of the other score.
        tau: Mean over the targets of Kendall's tau-b of the two orders; NaN if there is no target with two values.
        same_first: Number of targets on which both have the same first source.
        n_targets: Number of targets on which both have values of at least two sources.
    """

    score: str
    tau: float
    same_first: int
    n_targets: int


@dataclass(frozen=True)
class Matrix:
    """Scores of S sources and of their controls on T targets.

    Attributes:
        rows: The sources by mean rank, then the controls.
        columns: The targets.
        measures: The score that decides, or `deciding` where targets differ in it, then all other scores, by name.
        ranks: Ranks of the sources by the score that decides, from 1, ties share their mean, shape (S, T). NaN where
            there is no score.
        standings: Each source over all targets, in the order of the rows.
        agreement: The other scores beside the one that decides.
        reasons: Why there is no score, by source and target.
        failed: Number of jobs that failed.
        request: Record of the samples and scores.
        options: Options of `modgap rank` of the request, for a command with other sources or targets.
        failure: Reason of the first failed job. Empty if none failed.
        unreadable: Why a target cannot be ranked, by target.
        without_source: Names of the targets on which all sources failed.
        jobs: Numbers of jobs, one for each row and target. They are not part of the record.
    """

    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    measures: Mapping[str, Measure]
    ranks: np.ndarray
    standings: tuple[Standing, ...]
    agreement: tuple[Agreement, ...]
    reasons: Mapping[tuple[str, str], str]
    failed: int
    request: Mapping[str, Any]
    options: tuple[str, ...] = ()
    failure: str = ""
    unreadable: Mapping[str, str] = field(default_factory=dict)
    without_source: tuple[str, ...] = ()
    jobs: JobCounts = field(default_factory=lambda: JobCounts(0, 0))

    @property
    def first_measure(self) -> Measure:
        """The measure by which the sources are ranked."""
        return next(iter(self.measures.values()))

    @property
    def values(self) -> np.ndarray:
        """Values of the sources by the score that decides, shape (S, T)."""
        return self.first_measure.values[: len(self.standings)]

    @property
    def best(self) -> np.ndarray:
        """True where a source is the first of a target or not significantly different from it, shape (S, T)."""
        return self.first_measure.similar[: len(self.standings)]
