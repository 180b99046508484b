"""Independent jobs of a ranking, whose results are in the cache, and the table that those of one score make."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from modgap.errors import InputError, UsageError
from modgap.forward.inference_setup import LogitsRequest
from modgap.jobs import Failure, hold_device, without_raising
from modgap.process.resources import reused_memory
from modgap.ranking.cached_job import CachedJob
from modgap.ranking.extraction import Extracted, prepare_extraction, read_surrogate_outputs
from modgap.ranking.plan import RankPlan
from modgap.ranking.score import ErrorOptions
from modgap.ranking.scores import get_score
from modgap.ranking.source_outputs import SourceOutputs, load_sample_numbers, load_source_outputs
from modgap.ranking.standings import (
    SUBSAMPLES_VERSION,
    compute_error_standings,
    decode_errors,
    error_arrays,
    score_subsamples,
    subsample_standings,
)
from modgap.ranking.types import BASELINE, RankRequest, ScoreTable, SourceRow, TargetSummary
from modgap.statistics.intervals import SampleErrors
from modgap.statistics.sample_file import SampleFile
from modgap.storage.cache import CacheEntry
from modgap.targets import TargetRequest
from modgap.targets.splits import stratification_labels

BLOCK = 25
"""Subsamples in each job."""
WITHOUT_SCORES = "A baseline has only a cross-validated error."

ScoreResult = np.ndarray | SampleErrors
"""Result of a job of a score: values on all samples or on subsamples, or errors by sample."""


@dataclass(frozen=True)
class ExtractJob:
    """Pass of one source over the target's samples.

    Attributes:
        source: Name of the source.
        target: The target as the user names it, with absolute paths.
        request: Samples, input size, device and head.
    """

    source: str
    target: TargetRequest
    request: LogitsRequest

    @without_raising
    def __call__(self) -> Extracted:
        """Extract the outputs, or return the reason why that failed, which the row of the source shows."""
        extraction = prepare_extraction(self.source, self.target.open(), self.request)
        if (cached := extraction.find_cached()) is not None:
            return cached
        with hold_device(self.request.samples.device) as device:
            return extraction.run(device)


@dataclass(frozen=True)
class OutputsJob(CachedJob[ScoreResult | Failure]):
    """Job on the outputs of one source. It stores too that a score is not defined on them.

    Attributes:
        outputs_key: Cache key of the source's outputs.
        score: Name of the score.
        seed: Seed of splits, of subsamples and of the score's own random numbers.
    """

    outputs_key: str
    score: str
    seed: int

    def identity(self) -> dict[str, object]:
        """Return the fields, and the version of the score."""
        return {**asdict(self), "version": get_score(self.score).version}

    @abstractmethod
    def _evaluate(self, outputs: SourceOutputs) -> ScoreResult:
        """Compute the result from the outputs."""

    def _compute(self) -> ScoreResult | Failure:
        outputs = load_source_outputs(self.outputs_key)
        try:
            with reused_memory():
                return self._evaluate(outputs)
        except UsageError:
            # Not stored: a library that is missing now may be installed later.
            raise
        except InputError as error:
            # Stored: the samples and the source decide this, so it would be the same next time.
            return Failure(str(error), is_result=True)

    def _encode(self, result: ScoreResult | Failure) -> CacheEntry:
        if isinstance(result, Failure):
            return CacheEntry({}, {"job": asdict(self), "reason": result.reason})
        arrays = {"values": result} if isinstance(result, np.ndarray) else error_arrays(result)
        return CacheEntry(arrays, {"job": asdict(self), "reason": ""})

    def _decode(self, entry: CacheEntry) -> ScoreResult | Failure:
        if reason := entry.metadata["reason"]:
            return Failure(reason, is_result=True)
        values = entry.arrays.get("values")
        return decode_errors(entry.arrays, self.seed) if values is None else np.array(values)


@dataclass(frozen=True)
class ScoreJob(OutputsJob):
    """One score of one source on all samples or on some subsamples: values, shape (last - first,).

    The values of subsamples on which the score is not defined are NaN.

    Attributes:
        first: Number of the first subsample. -1 stands for all samples.
        last: Number after that of the last subsample.
        surrogate_key: Cache key of the source's outputs on labeled data of its own modality. Empty if the score does
            not use them, or if there are none.
    """

    cache_kind = "scores"
    first: int
    last: int
    surrogate_key: str = ""

    def identity(self) -> dict[str, object]:
        """Return the fields, and the versions of the score and of the choice of subsamples."""
        return super().identity() | ({"subsamples": SUBSAMPLES_VERSION} if self.first >= 0 else {})

    def _evaluate(self, outputs: SourceOutputs) -> np.ndarray:
        surrogate = read_surrogate_outputs(self.surrogate_key) if self.surrogate_key else None
        if surrogate is not None:
            features, labels, error = surrogate
            properties = {**outputs.properties, "source_error": error}
            outputs = replace(outputs, surrogate=(features, labels), properties=properties)
        score = get_score(self.score)
        on_all = [score.evaluate(outputs, self.seed)] if self.first < 0 else []
        on_subsamples = score_subsamples(score, outputs, self.seed, range(max(self.first, 0), self.last))
        return np.array([*on_all, *on_subsamples], np.float64)


@dataclass(frozen=True)
class ErrorsJob(OutputsJob):
    """Errors of one source on all samples, by a score that is a mean of errors by sample.

    Attributes:
        options: Weights and splits, as far as the score uses them.
    """

    cache_kind = "sample_errors"
    options: ErrorOptions

    def _evaluate(self, outputs: SourceOutputs) -> SampleErrors:
        return get_score(self.score).sample_errors(outputs, self.options, self.seed)


def score_jobs(
    outputs_key: str, score_name: str, request: RankRequest, task: str, surrogate_key: str = ""
) -> list[ScoreJob | ErrorsJob]:
    """Return the jobs of one score of one source: one for errors by sample, else one for each block of subsamples.

    Args:
        outputs_key: Cache key of the source's outputs.
        score_name: Name of the score.
        request: The request of the ranking.
        task: Task of the target.
        surrogate_key: Cache key of the source's outputs on labeled data of its own modality. Empty if there are none.
    """
    score = get_score(score_name)
    seed = request.samples.seed
    if task in score.error_tasks:
        return [ErrorsJob(outputs_key, score_name, seed, score.options_in_use(request.errors))]
    resamples = request.resamples if score.uses_samples else 0
    blocks = [(-1, 0), *((first, min(first + BLOCK, resamples)) for first in range(0, resamples, BLOCK))]
    own_key = surrogate_key if score.takes_surrogate else ""
    return [ScoreJob(outputs_key, score_name, seed, first, last, own_key) for first, last in blocks]


def score_table(
    score_name: str,
    rows: Sequence[SourceRow],
    results: Mapping[int, Sequence[ScoreResult | Failure]],
    plan: RankPlan,
    summary: TargetSummary | None,
) -> ScoreTable:
    """Return the values and comparisons of one score for all rows.

    Args:
        score_name: Name of the score.
        rows: The rows of the ranking.
        results: Results of the jobs of the score for each row that could be run, by its index.
        plan: The plan of the ranking.
        summary: Summary of the target's samples. None if no source could be run.
    """
    score = get_score(score_name)
    reasons = [row.reason or (WITHOUT_SCORES if row.kind == BASELINE else "") for row in rows]
    for index, of_row in results.items():
        reasons[index] = next((one.reason for one in of_row if isinstance(one, Failure)), "")
    computed = {index: of_row for index, of_row in results.items() if not reasons[index]}
    by_sample = plan.task in score.error_tasks
    if by_sample:
        errors = {index: one for index, (one, *_) in computed.items() if isinstance(one, SampleErrors)}
        standings = compute_error_standings(score, [errors.get(index) for index in range(len(rows))])
    else:
        # The value on all samples, and then those on subsamples.
        values = np.full((len(rows), 1 + (plan.request.resamples if score.uses_samples else 0)), np.nan)
        for index, of_row in computed.items():
            values[index] = np.concatenate([one for one in of_row if isinstance(one, np.ndarray)])
        standings = subsample_standings(score, values[:, 0], values[:, 1:], summary.units if summary else None)
    for index in computed:
        if not np.isfinite(standings.values[index]):
            missing = "is not defined on these samples" if score.uses_samples else "is not known for this source"
            reasons[index] = f"The score {score.name} {missing}."
    return ScoreTable.of_rows(score_name, rows, standings, reasons, by_sample=by_sample)


def errors_by_score(
    rows: Sequence[SourceRow],
    results: Mapping[int, Sequence[ScoreResult | Failure]],
    extracted: Mapping[int, Extracted],
    plan: RankPlan,
) -> SampleFile | None:
    """Return the errors of the tested samples by the score to rank by; None if it is not an error by sample.

    Args:
        rows: The rows of the ranking.
        results: Results of the jobs of the score for each row that could be run, by its index.
        extracted: References to the outputs of each row that could be run, by its index.
        plan: The plan of the ranking.
    """
    errors = {rows[index].name: one for index, (one, *_) in results.items() if isinstance(one, SampleErrors)}
    if not errors:
        return None
    key = next(iter(extracted.values())).key
    outputs, first = load_source_outputs(key), next(iter(errors.values()))
    tested = first.tested
    columns = {}
    for name, one in errors.items():
        by_sample = {part: getattr(one, part)[tested] for part in ("errors", "weights", "units")}
        columns[name] = replace(one, **by_sample, strata=None if one.strata is None else one.strata[tested])
    numbers, labels = load_sample_numbers(key)[tested], stratification_labels(outputs.labels)[tested]
    groups = None if outputs.groups is None else first.units[tested]
    per_class = get_score(plan.scores[0]).options_in_use(plan.request.errors).per_class
    return SampleFile(numbers, labels, groups, columns, outputs.n_classes, per_class)
