"""What a ranking is asked for, and what it gives."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from modgap import __version__
from modgap.forward.sample_request import SampleRequest
from modgap.ranking.report_details import Details
from modgap.ranking.standings import Standings

__all__ = [
    "CONTROL", "NO_MODEL", "SOURCE", "RankRequest", "Ranking", "ScoreTable", "SourceRow", "TargetSummary",
]  # fmt: skip

SOURCE, CONTROL, NO_MODEL = "source", "control", "no model"
"""Kinds of rows."""


DEFAULT_SAMPLES = SampleRequest(limit=2000)


@dataclass(frozen=True)
class RankRequest:
    """What to rank by, and on what.

    Attributes:
        scores: Names of the scores; none for the usual ones.
        by: The score that decides; None for the default of the target's task, `modgap.ranking.scores.DEFAULTS`.
        resamples: Half-samples for intervals; 0 for none.
        samples: Which samples, at what size, on what device; of several CUDA devices each has a process of its own. The
            batch size None stands for 16 on every device, because the last bits of features depend on it.
        head: `auto`: the source's own, or one fitted on its own surrogate where it has none.
        controls: Whether each source's random control is scored too.
        raw: Whether the samples' own values are scored in place of features.
        details: Whether discrepancy with null, map of classes and t-SNE map are made for the report.
    """

    scores: tuple[str, ...] = ()
    by: str | None = None
    resamples: int = 50
    samples: SampleRequest = DEFAULT_SAMPLES
    head: str = "auto"
    controls: bool = True
    raw: bool = True
    details: bool = False


@dataclass(frozen=True)
class TargetSummary:
    """The target, as far as it was looked at.

    Attributes:
        name: Its name.
        task: `classification`, `multi-label` or `regression`.
        samples: Samples used.
        classes: K, classes or clusters.
        groups: Records or subjects; None where each sample is its own.
        largest: Share of the largest class; of multi-label data the most frequent one's.
        smallest: Samples of the smallest class.
    """

    name: str
    task: str
    samples: int
    classes: int
    groups: int | None
    largest: float
    smallest: int


@dataclass(frozen=True)
class SourceRow:
    """A line of the ranking.

    Attributes:
        name: Of the source.
        kind: `source`, `control` (random weights), or `no model` (the samples' own values).
        asked: Whether it was named, not added as a control.
        reason: Why it could not be scored; empty where it was.
        facts: `parameters`, `source_error`, `head`, `width`, `classes`.
        details: For the report; None where none were made.
        provenance: What was run on what.
    """

    name: str
    kind: str
    asked: bool = True
    reason: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    details: Details | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ScoreTable:
    """One score of all rows.

    Attributes:
        name: Of the score.
        higher_is_better: Its direction.
        all: Values, intervals and pairs over all rows.
        sources: Ranks among the sources alone, 0 for the other rows.
        rank_intervals: 95 % interval of those ranks, shape (rows, 2).
        reasons: Why a row has no value; empty where it has.
    """

    name: str
    higher_is_better: bool
    all: Standings
    sources: np.ndarray
    rank_intervals: np.ndarray
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Ranking:
    """Sources by scores.

    Attributes:
        target: What they were judged on.
        rows: Sources, their controls, and no model, in the order asked.
        tables: One a score.
        by: Name of the score that decides.
        request: What was asked for.
        jobs: How many of each stage were done now, and how many were found done.
        seconds: Wall time by stage.
    """

    target: TargetSummary | None
    rows: tuple[SourceRow, ...]
    tables: Mapping[str, ScoreTable]
    by: str
    request: RankRequest
    jobs: Mapping[str, tuple[int, int]]
    seconds: Mapping[str, float]

    @property
    def version(self) -> str:
        """Of modgap."""
        return __version__

    @property
    def failed(self) -> list[SourceRow]:
        """Sources that could not be scored, or not by the score that decides; and controls that were asked for."""
        decided = self.tables[self.by].all.ranks
        return [row for row, rank in zip(self.rows, decided, strict=True) if row.asked and not rank]

    def reason(self, number: int) -> str:
        """Why a row has no value by the score that decides; empty where it has."""
        return self.rows[number].reason or self.tables[self.by].reasons[number]

    def order(self) -> list[int]:
        """Numbers of the rows, best first by the score that decides, those without a value last."""
        return [int(number) for number in self.tables[self.by].all.order()]
