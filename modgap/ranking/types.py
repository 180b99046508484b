"""Request and result of a ranking."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from modgap.forward.sample_request import SampleRequest
from modgap.ranking.known_sources import KnownSources
from modgap.ranking.report_details import ReportDetails
from modgap.ranking.score import ErrorOptions
from modgap.ranking.standings import Standings
from modgap.statistics.paired import PairedDifference
from modgap.statistics.sample_file import SampleFile
from modgap.storage.algorithms import installed_version
from modgap.targets import TargetRequest

if TYPE_CHECKING:
    from modgap.training.pilot import PilotErrors


@dataclass(frozen=True)
class LayerChoice:
    """Choice of a layer on one half of the samples, judged on the other half, over repeated splits.

    Attributes:
        best: Number of the layer with the lowest error on all samples.
        shares: Share of the halves on which each layer was chosen.
        error: Error of the chosen layers on the other halves.
        interval: Its 95 % interval. None if there are too few independent samples or groups.
        last_error: Error of the last layer on the same samples.
        difference: Error of the chosen layers minus that of the last layer.
        corrected_p_value: P-value of the difference, corrected for the number of sources by Holm.
    """

    best: int
    shares: tuple[float, ...]
    error: float
    interval: tuple[float, float] | None
    last_error: float
    difference: PairedDifference
    corrected_p_value: float | None = None


@dataclass(frozen=True)
class LayerCurve:
    """Scores of several layers of a source.

    Attributes:
        source: Name of the source.
        numbers: Number of each layer, from 1.
        names: Name of each layer within the encoder; `output` for the output of the encoder.
        n_layers: Number of layers of the source, which is the number of the last.
        values: Value of each layer by the name of the score.
        intervals: 95 % interval of the error of a linear probe on each layer. Empty if it is not an error by sample.
        choice: Choice of a layer, judged on other samples. None if it could not be made.
        reason: Sentence that says why the source has no curve. Empty if it has one.
    """

    source: str
    numbers: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    n_layers: int = 0
    values: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    intervals: tuple[tuple[float, float] | None, ...] = ()
    choice: LayerChoice | None = None
    reason: str = ""


SOURCE = "source"
CONTROL = "random-weights control"
BASELINE = "baseline"
"""Kinds of rows."""
ALL = "all"
"""Pilots of all sources."""
DEFAULT_SAMPLES = SampleRequest(split="train", limit=2000)
"""Test samples choose no source."""
DEFAULT_ERRORS = ErrorOptions()


class JobCounts(NamedTuple):
    """Numbers of jobs of one stage, by how they ended.

    Attributes:
        computed: Number of jobs that were computed, including those of scores that are not defined on the samples.
        cached: Number of jobs whose results came from the cache.
        failed: Number of jobs that ended with an error.
    """

    computed: int
    cached: int
    failed: int = 0


@dataclass(frozen=True)
class RankRequest:
    """Scores to rank by, and samples to compute them on.

    Attributes:
        scores: Names of the scores to compute. Empty for the default scores.
        by: Name of the score to rank by. None for the default of the target's task, which is given in
            `modgap.ranking.scores.DEFAULT_RANKING_SCORES`.
        resamples: Number of random subsamples for the intervals of scores that are not errors by sample. 0 for no
            intervals of them.
        errors: Weights and splits of scores that are errors by sample.
        samples: Samples of the target, input size, precision and device. The device may be several with commas between;
            one source at a time runs on each.
        head: Classification head of the sources. `auto` takes the head of the source, or fits one on labeled data of
            the source's own modality if the source has none.
        controls: True to score a random-weights control of each source too.
        baselines: Models of the target's field to compare with the sources: `quick` for those that take little time,
            `all` for all that suit the target, `none`, or names with commas between them.
        report_details: True to compute the discrepancy with its null distribution, the map of classes and the t-SNE map
            that the HTML report shows for each source.
        layers: Numbers of the layers of each source to score too, from 1; empty for all, None for the last alone.
        pilot: Number of the first known sources that are fine-tuned for ten epochs at three rates, `ALL` for all
            sources; 0 for none.
    """

    scores: tuple[str, ...] = ()
    by: str | None = None
    resamples: int = 50
    samples: SampleRequest = DEFAULT_SAMPLES
    head: str = "auto"
    controls: bool = True
    baselines: str = "quick"
    report_details: bool = False
    errors: ErrorOptions = DEFAULT_ERRORS
    layers: tuple[int, ...] | None = None
    pilot: int | str = 0


@dataclass(frozen=True)
class TargetSummary:
    """Summary of the samples that the sources were scored on.

    Attributes:
        name: Name of the target.
        task: `classification`, `multi-label` or `regression`.
        samples: Number of samples.
        classes: Number of classes K. For regression, the number of clusters of the values.
        groups: Number of records or subjects. None if every sample is a group by itself.
        largest_class_share: Share of the largest class in the weight of all samples, or share of the samples that have
            the most frequent label of a multi-label target. The weights are those of the errors.
        smallest_class_samples: Number of samples of the smallest class.
        label_entropy: Entropy of the distribution of the classes in nats. None for multi-label targets.
        tested_classes: Number of classes with at least two groups or independent samples, over which held-out errors
            are. None if it is not known.
        tested_entropy: Entropy in nats of the distribution of these classes, by the weights of the errors. None if it
            is not known, and for multi-label targets.
        kind: Kind of the samples, such as `image` or `text`. None if it is not known.
    """

    name: str
    task: str
    samples: int
    classes: int
    groups: int | None
    largest_class_share: float
    smallest_class_samples: int
    label_entropy: float | None = None
    tested_classes: int | None = None
    tested_entropy: float | None = None
    kind: str | None = None

    @property
    def units(self) -> int:
        """Number of groups, or of samples if they are independent."""
        return self.samples if self.groups is None else self.groups


@dataclass(frozen=True)
class SourceRow:
    """A row of the ranking: a source, a random-weights control, or a baseline of the target's field.

    Attributes:
        name: Name of the source.
        kind: `source`, `random-weights control` or `baseline`.
        requested: True if the user named the source. False if it was added as a control.
        reason: Sentence that says why the row could not be scored. Empty if it was scored.
        properties: Properties that do not depend on the target: `parameters` (their number), `head`, `width` (of
            the features) and `classes` (of the head).
        report_details: Results for the HTML report. None if they were not computed.
        provenance: Record of the model, the data and the versions that were used.
    """

    name: str
    kind: str
    requested: bool = True
    reason: str = ""
    properties: Mapping[str, Any] = field(default_factory=dict)
    report_details: ReportDetails | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ScoreTable:
    """One score for all rows of the ranking.

    Attributes:
        name: Name of the score.
        higher_is_better: True if a higher score is better.
        standings: Values, intervals and comparisons of all rows.
        among_sources: Standings of the sources only. Controls and baselines have no value in them. Corrections for the
            number of comparisons count the sources.
        reasons: For each row, a sentence that says why it has no value. Empty if it has one.
        by_sample: True if intervals and comparisons are computed from errors by sample on the same splits, and False if
            they are computed from subsamples.
    """

    name: str
    higher_is_better: bool
    standings: Standings
    among_sources: Standings
    reasons: tuple[str, ...]
    by_sample: bool = False

    @classmethod
    def of_rows(
        cls, name: str, rows: Sequence[SourceRow], standings: Standings, reasons: Iterable[str], *, by_sample: bool
    ) -> "ScoreTable":
        """Return the table of some rows, with the standings of the sources among themselves."""
        is_source = np.array([row.kind == SOURCE for row in rows])
        among_sources = standings.among(is_source)
        return cls(name, standings.higher_is_better, standings, among_sources, tuple(reasons), by_sample)

    @property
    def source_ranks(self) -> np.ndarray:
        """Ranks among the sources only, from 1, shape (rows,).

        It is 0 for controls, for baselines and for sources without a value.
        """
        return self.among_sources.ranks

    @property
    def source_order(self) -> list[int]:
        """Indices of the sources with a value, best first."""
        return self.among_sources.ranked()

    @property
    def first_source(self) -> int | None:
        """Index of the source with rank 1, the first of several equal ones. None if no source has a value."""
        return next(iter(self.source_order), None)


@dataclass(frozen=True)
class Pilot:
    """Errors of the first sources after a short fine-tuning, on other samples.

    Attributes:
        table: The errors of all rows: of the first sources, of the control of the best of them, and of the baselines.
            Other rows have none, and no reason.
        epochs: Number of epochs.
        rates: Number of learning rates, of which the best on the judging samples counts.
        trained: Number of samples that each source was fine-tuned on.
        judged: Number of other samples that its error is measured on.
        results: Errors, mean error of each training and settings of each row that has an error, by its index.
    """

    table: ScoreTable
    epochs: int
    rates: int
    trained: int
    judged: int
    results: Mapping[int, "PilotErrors"] = field(default_factory=dict, repr=False, compare=False)

    def settings(self, index: int) -> tuple[str, ...]:
        """Return the settings that a longer training of a row should share, as KEY=VALUE; empty if there are none."""
        return self.results[index].settings if index in self.results else ()


@dataclass(frozen=True)
class Ranking:
    """Ranking of sources by one score, with other scores beside it.

    Attributes:
        target: Summary of the target's samples. None if no source could be run.
        rows: Sources, random-weights controls and baselines, in the order of the request.
        tables: The table of each score by the score's name.
        by: Name of the score that the sources are ranked by.
        request: The request.
        jobs: Numbers of jobs of each stage.
        seconds: Wall time of each stage in seconds.
        requested: The target as the user named it. None for a plan of its rows alone.
        samples: Errors of the samples by the score that the sources are ranked by, one column for each row that has
            one. None if the score is not an error by sample. They are not part of the record.
        layers: Scores of several layers of each source. Empty if they were not requested.
        pilot: Errors of the first sources after a short fine-tuning. None if it was not requested.
        known: The sources that are known for this kind of target. None for a plan of its rows alone.
        constant: Name of the constant answer of this kind, the first known one of the sources that could be run. Empty
            if none of them is known.
    """

    target: TargetSummary | None
    rows: tuple[SourceRow, ...]
    tables: Mapping[str, ScoreTable]
    by: str
    request: RankRequest
    jobs: Mapping[str, JobCounts]
    seconds: Mapping[str, float]
    requested: TargetRequest | None = None
    samples: SampleFile | None = field(default=None, repr=False, compare=False)
    layers: tuple[LayerCurve, ...] = ()
    pilot: Pilot | None = None
    known: KnownSources | None = None
    constant: str = ""

    @property
    def deciding_table(self) -> ScoreTable:
        """Table that decides which source is best: that of the pilots, if there is one."""
        if self.pilot is not None and self.pilot.table.first_source is not None:
            return self.pilot.table
        return self.tables[self.by]

    @property
    def shown_tables(self) -> Mapping[str, ScoreTable]:
        """Tables of all scores, after that of the pilots if a source has a value by it."""
        return {self.deciding_table.name: self.deciding_table, **self.tables}

    @property
    def version(self) -> str:
        """Version of modgap."""
        return installed_version()

    @property
    def failed(self) -> list[SourceRow]:
        """Rows that the user named and that have no value by the score that they are ranked by."""
        ranks = self.tables[self.by].standings.ranks
        return [row for row, rank in zip(self.rows, ranks, strict=True) if row.requested and not rank]

    def reason(self, index: int) -> str:
        """Return why a row has no value by the score that the sources are ranked by. Empty if it has one."""
        return self.rows[index].reason or self.tables[self.by].reasons[index]

    def rows_with_value(self, kind: str, table: ScoreTable) -> list[int]:
        """Return the indices of the rows of a kind that have a value in a table, in the order of the rows."""
        return [index for index, row in enumerate(self.rows) if row.kind == kind and table.standings.ranks[index]]

    def order(self) -> list[int]:
        """Return the indices of the rows, best first.

        After a pilot, the rows that have an error by it are first, and the others follow in the order of the score.
        Rows without a value come last.
        """
        order = dict.fromkeys(self.deciding_table.standings.ranked())
        return list(order | dict.fromkeys(int(index) for index in self.tables[self.by].standings.order()))
