"""Independent jobs of a ranking, whose results are in the cache, and the table that those of one score make."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

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

Result = TypeVar("Result")


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

    def load_cached(self) -> Extracted | None:
        """Return the reference to the outputs if they are in the cache, which needs no device. None if they are not."""
        try:
            return prepare_extraction(self.source, self.target.open(), self.request).find_cached()
        except Exception:  # Without weights or data it is not known what would be in the cache.
            return None


@dataclass(frozen=True)
class OutputsJob(CachedJob[Result | Failure]):
    """Job on the outputs of one source. It stores too that a score is not defined on them.

    Attributes:
        outputs_key: Cache key of the source's outputs.
        score: Name of the score.
        seed: Seed of splits, of subsamples and of the score's own random numbers.
    """

    outputs_key: str
    score: str
    seed: int

    def identity(self) -> dict[str, Any]:
        """Return the fields, and the version of the score."""
        return {**asdict(self), "version": get_score(self.score).version}

    @abstractmethod
    def _evaluate(self, outputs: SourceOutputs) -> Result:
        """Compute the result from the outputs."""

    @abstractmethod
    def _arrays(self, result: Result) -> dict[str, np.ndarray]:
        """Return the arrays of the cache entry of a result."""

    @abstractmethod
    def _read(self, arrays: Mapping[str, np.ndarray]) -> Result:
        """Return the result in the arrays of a cache entry."""

    def _compute(self) -> Result | Failure:
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

    def _encode(self, result: Result | Failure) -> CacheEntry:
        arrays, reason = ({}, result.reason) if isinstance(result, Failure) else (self._arrays(result), "")
        return CacheEntry(arrays, {"job": asdict(self), "reason": reason})

    def _decode(self, entry: CacheEntry) -> Result | Failure:
        reason = entry.metadata["reason"]
        return Failure(reason, is_result=True) if reason else self._read(entry.arrays)


@dataclass(frozen=True)
class ScoreJob(OutputsJob[np.ndarray]):
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

    def identity(self) -> dict[str, Any]:
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

    def _arrays(self, result: np.ndarray) -> dict[str, np.ndarray]:
        return {"values": result}

    def _read(self, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.array(arrays["values"])


@dataclass(frozen=True)
class ErrorsJob(OutputsJob[SampleErrors]):
    """Errors of one source on all samples, by a score that is a mean of errors by sample.

    Attributes:
        options: Weights and splits, as far as the score uses them.
    """

    cache_kind = "sample_errors"
    options: ErrorOptions

    def _evaluate(self, outputs: SourceOutputs) -> SampleErrors:
        return get_score(self.score).sample_errors(outputs, self.options, self.seed)

    def _arrays(self, result: SampleErrors) -> dict[str, np.ndarray]:
        return error_arrays(result)

    def _read(self, arrays: Mapping[str, np.ndarray]) -> SampleErrors:
        return decode_errors(arrays, self.seed)


def score_jobs(source: Extracted, score_name: str, request: RankRequest, task: str) -> list[ScoreJob | ErrorsJob]:
    """Return the jobs of one score of one source: one for errors by sample, else one for each block of subsamples.

    Args:
        source: Reference to the outputs of the source.
        score_name: Name of the score.
        request: The request of the ranking.
        task: Task of the target.
    """
    score = get_score(score_name)
    seed = request.samples.seed
    if task in score.error_tasks:
        return [ErrorsJob(source.key, score_name, seed, score.options_in_use(request.errors))]
    resamples = request.resamples if score.uses_samples else 0
    blocks = [(-1, 0), *((first, min(first + BLOCK, resamples)) for first in range(0, resamples, BLOCK))]
    own_key = source.surrogate_key if score.takes_surrogate else ""
    return [ScoreJob(source.key, score_name, seed, first, last, own_key) for first, last in blocks]


def results_by_row(
    score_name: str, extracted: Mapping[int, Extracted], scored: Mapping[Any, Any], plan: RankPlan
) -> dict[int, list[Any]]:
    """Return the results of the jobs of one score for each row that could be run, by its index.

    Args:
        score_name: Name of the score.
        extracted: References to the outputs of each row that could be run, by its index.
        scored: Result of each job.
        plan: The plan of the ranking.
    """
    return {
        index: [scored[job] for job in score_jobs(source, score_name, plan.request, plan.task)]
        for index, source in extracted.items()
    }


def score_table(
    score_name: str,
    rows: Sequence[SourceRow],
    results: Mapping[int, Sequence[Any]],
    plan: RankPlan,
    summary: TargetSummary | None,
) -> ScoreTable:
    """Return the values and comparisons of one score for all rows.

    Args:
        score_name: Name of the score.
        rows: The rows of the ranking.
        results: Results of the jobs of the score, as from `results_by_row`.
        plan: The plan of the ranking.
        summary: Summary of the target's samples. None if no source could be run.
    """
    score = get_score(score_name)
    reasons = [row.reason or (WITHOUT_SCORES if row.kind == BASELINE else "") for row in rows]
    for index, of_row in results.items():
        failure = next((result for result in of_row if isinstance(result, Failure)), None)
        reasons[index] = failure.reason if failure else ""
    values = {index: of_row for index, of_row in results.items() if not reasons[index]}
    by_sample = plan.task in score.error_tasks
    if by_sample:
        standings = compute_error_standings(score, [values.get(index, [None])[0] for index in range(len(rows))])
    else:
        on_all = np.full(len(rows), np.nan)
        on_subsamples = np.full((len(rows), plan.request.resamples if score.uses_samples else 0), np.nan)
        for index, (value, *blocks) in values.items():
            on_all[index] = value[0]
            on_subsamples[index] = np.concatenate([np.empty(0), *blocks])
        standings = subsample_standings(score, on_all, on_subsamples, summary.units if summary else None)
    for index in values:
        if not np.isfinite(standings.values[index]):
            missing = "is not defined on these samples" if score.uses_samples else "is not known for this source"
            reasons[index] = f"The score {score.name} {missing}."
    return ScoreTable.of_rows(score_name, rows, standings, reasons, by_sample=by_sample)


def errors_by_score(
    rows: Sequence[SourceRow], results: Mapping[int, Sequence[Any]], extracted: Mapping[int, Extracted], plan: RankPlan
) -> SampleFile | None:
    """Return the errors of the tested samples by the score to rank by; None if it is not an error by sample.

    Args:
        rows: The rows of the ranking.
        results: Results of the jobs of the score, as from `results_by_row`.
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
