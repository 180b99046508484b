"""Rank sources by how well they suit a target: features once a source, then scores on all samples and on halves."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from modgap import __version__
from modgap.errors import UsageError
from modgap.ranking.backends import Backend, run_jobs
from modgap.ranking.details import DetailJob, Details
from modgap.ranking.extraction import Extracted, evidence_of
from modgap.ranking.jobs import ExtractJob, Failure, ScoreJob, accelerators
from modgap.ranking.raw import RAW
from modgap.ranking.scores import DEFAULT, score, usual_scores
from modgap.ranking.standings import Standings, standings
from modgap.targets import OwnData, manifest_names, open_target

__all__ = ["RankRequest", "Ranking", "ScoreTable", "SourceRow", "TargetSummary", "rank"]

BLOCK = 25
"""Half-samples of a job."""
BASELINES = ("size", "source-error")
"""Scores that stand beside any others."""
SOURCE, CONTROL, NO_MODEL = "source", "control", "no model"

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class RankRequest:
    """What to rank by, and on what.

    Attributes:
        scores: Names of the scores; none for the usual ones.
        by: The score that decides.
        resamples: Half-samples for intervals; 0 for none.
        split: `all`, or one of train, val and test.
        limit: A stratified choice of so many samples.
        seed: Of every draw.
        input_size: Height and width of the sources' input in pixels; None for their own.
        representation: How series become images; None for the manifest's way.
        dtype: float32, or bfloat16 or float16 for mixed precision.
        device: auto, cpu, cuda or mps; of several CUDA devices each has a process of its own.
        batch_size: Samples at a time through a source; fixed, since it changes last bits.
        head: `auto`: the source's own, or one fitted on its own surrogate where it has none.
        controls: Whether each source's random control is scored too.
        raw: Whether the samples' own values are scored in place of features.
        details: Whether discrepancy with null, map of classes and t-SNE map are made for the report.
    """

    scores: tuple[str, ...] = ()
    by: str = DEFAULT
    resamples: int = 50
    split: str = "all"
    limit: int | None = 2000
    seed: int = 0
    input_size: int | None = None
    representation: str | None = None
    dtype: str = "float32"
    device: str = "auto"
    batch_size: int = 16
    head: str = "auto"
    controls: bool = True
    raw: bool = True
    details: bool = False


@dataclass(frozen=True)
class TargetSummary:
    """The target, as far as it was looked at.

    Attributes:
        name: Its name.
        task: `classes`, `several labels`, or `values`.
        samples: Samples used.
        classes: K, classes or clusters.
        groups: Records or subjects; None where each sample is its own.
        largest: Share of the largest class; of several labels the most frequent one's.
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


def rank(
    target: str,
    sources: Sequence[str],
    request: RankRequest | None = None,
    backend: Backend | None = None,
    *,
    own: OwnData | None = None,
    place: Path | None = None,
    pseudo_classes: int | None = None,
    progress: Progress | None = None,
) -> Ranking:
    """Score sources on a target.

    Args:
        target: As for `modgap.targets.open_target`.
        sources: As for `modgap.sources.open_source`.
        request: Scores, samples, precision; None for the defaults.
        backend: Where the jobs run; None for this machine's cores.
        own: What data of one's own does not say of itself.
        place: Folder in which a manifest's files lie.
        pseudo_classes: Clusters that stand for a real-valued target's values.
        progress: Called with a stage's name and the share of its work done since the last call.

    Returns:
        A row a source, failed ones with their reason.

    Raises:
        UsageError: When there are no sources, or an option or score is unknown.
        InputError: When the target cannot be used.
    """
    request, backend = request or RankRequest(), backend or Backend()
    names = _row_names(sources, request)
    scores = tuple(dict.fromkeys((request.by, *(request.scores or usual_scores()), *BASELINES)))
    for name in scores:
        score(name)
    opened = {"name": target, "own": own, "place": place, "pseudo_classes": pseudo_classes}
    open_target(target, own=own, place=place, pseudo_classes=pseudo_classes).read()
    opened |= {"name": _absolute(target), "place": place and Path(place).resolve()}
    with _threads_restored():
        found = _ranked(names, set(sources), scores, opened, request, backend, progress)
    return replace(found, target=found.target and replace(found.target, name=target))


def _absolute(target: str) -> str:
    """Workers may have another working directory."""
    path = Path(target).expanduser()
    return str(path.resolve()) if path.exists() and target not in manifest_names() else target


def _row_names(sources: Sequence[str], request: RankRequest) -> list[tuple[str, str]]:
    """Names and kinds of the rows."""
    plain = list(dict.fromkeys(sources))
    controls_alone = all(name.startswith("random:") for name in plain)
    if not plain:
        raise UsageError("expected at least one source to rank; see modgap sources")
    if RAW in plain:
        raise UsageError(f"{RAW} names the row without a model; leave it out of the sources")
    rows = [(n, CONTROL if n.startswith("random:") and not controls_alone else SOURCE) for n in plain]
    if request.controls and not controls_alone:
        rows += [(f"random:{n}", CONTROL) for n, kind in rows if kind == SOURCE and f"random:{n}" not in plain]
    return rows + ([(RAW, NO_MODEL)] if request.raw else [])


@contextmanager
def _threads_restored() -> Iterator[None]:
    """Jobs fix the number of threads of their process, which may be this one."""
    import torch
    from threadpoolctl import threadpool_limits

    threads = torch.get_num_threads()
    with threadpool_limits():
        yield
    torch.set_num_threads(threads)


def _ranked(
    names: list[tuple[str, str]], asked: set[str], scores: tuple[str, ...], opened: dict[str, Any],
    request: RankRequest, backend: Backend, progress: Progress | None,
) -> Ranking:  # fmt: skip
    began = time.perf_counter()
    extracted = _extracted([name for name, _ in names], opened, request, backend, progress)
    names, extracted = _without_idle_controls(names, extracted, asked)
    there = {n: found for n, found in enumerate(extracted) if isinstance(found, Extracted)}
    counts = {"features": _counted(there.values())}
    at = {"features": time.perf_counter() - began}
    began = time.perf_counter()
    jobs = [
        ScoreJob(found.key, name, request.seed, first, last)
        for found in there.values()
        for name in scores
        for first, last in _blocks(request.resamples if score(name).resampled else 0)
    ]
    done, counts["scores"] = _run("scores", jobs, backend, progress)
    at["scores"] = time.perf_counter() - began
    details: dict[Any, Any] = {}
    if request.details:
        began = time.perf_counter()
        wanted = [DetailJob(found.key, request.seed) for found in there.values()]
        details, counts["details"] = _run("details", wanted, backend, progress)
        at["details"] = time.perf_counter() - began
    rows = tuple(
        _row(name, kind, name in asked, found, details, request)
        for (name, kind), found in zip(names, extracted, strict=True)
    )
    tables = {name: _table(name, rows, there, done, request) for name in scores}
    return Ranking(_summary(opened["name"], there), rows, tables, request.by, request, counts, at)


def _without_idle_controls(
    names: list[tuple[str, str]], extracted: list[Extracted | Failure], asked: set[str]
) -> tuple[list[tuple[str, str]], list[Extracted | Failure]]:
    """Without the controls that nobody asked for and that could not be made, and the row of texts' own values."""
    kept = [
        (named, found)
        for named, found in zip(names, extracted, strict=True)
        if isinstance(found, Extracted) or named[0] in asked
    ]
    return [named for named, _ in kept], [found for _, found in kept]


def _extracted(
    names: list[str], opened: dict[str, Any], request: RankRequest, backend: Backend, progress: Progress | None
) -> list[Extracted | Failure]:
    wanted = {
        name: getattr(request, name)
        for name in ("device", "split", "limit", "seed", "input_size", "representation", "dtype", "batch_size", "head")
    }
    jobs = [ExtractJob(name, opened, wanted) for name in names]
    if backend.name == "loky" and (devices := accelerators(request.device)):
        # A process a device: several on one would fill its memory.
        backend = replace(backend, workers=devices)
    found: list[Extracted | Failure] = [Failure("it was not run")] * len(names)
    for number, result in run_jobs(jobs, backend):
        found[number] = result
        if progress:
            progress("features", 1 / len(names))
    return found


def _counted(found: Any) -> tuple[int, int]:
    listed = [each.cached for each in found]
    return len(listed) - sum(listed), sum(listed)


def _blocks(resamples: int) -> list[tuple[int, int]]:
    """Ranges of half-samples; -1 to 0 is the whole."""
    return [(-1, 0), *((first, min(first + BLOCK, resamples)) for first in range(0, resamples, BLOCK))]


def _run(
    stage: str, jobs: Sequence[Any], backend: Backend, progress: Progress | None
) -> tuple[dict[Any, Any], tuple[int, int]]:
    """Results by job, those in the cache first, and how many were done now and before."""
    results = {job: found for job in jobs if (found := job.done()) is not None}
    before = len(results)
    left = [job for job in jobs if job not in results]
    if progress and before:
        progress(stage, before / len(jobs))
    for number, result in run_jobs(left, backend):
        results[left[number]] = result
        if progress:
            progress(stage, 1 / len(jobs))
    return results, (len(left), before)


def _row(
    name: str, kind: str, asked: bool, found: Extracted | Failure, details: Mapping[Any, Any], request: RankRequest
) -> SourceRow:
    if isinstance(found, Failure):
        return SourceRow(name, kind, asked, found.reason)
    own = details.get(DetailJob(found.key, request.seed))
    return SourceRow(name, kind, asked, "", found.facts, own if isinstance(own, Details) else None, found.provenance)


def _table(
    name: str, rows: Sequence[SourceRow], there: Mapping[int, Extracted], done: Mapping[Any, Any], request: RankRequest
) -> ScoreTable:
    own = score(name)
    count = request.resamples if own.resampled else 0
    values, halves = np.full(len(rows), np.nan), np.full((len(rows), count), np.nan)
    reasons = [row.reason for row in rows]
    for number, found in there.items():
        parts = [done[ScoreJob(found.key, name, request.seed, *block)] for block in _blocks(count)]
        failures = [part.reason for part in parts if isinstance(part, Failure)]
        if failures:
            reasons[number] = failures[0]
            continue
        values[number] = parts[0][0]
        halves[number] = np.concatenate([np.empty(0), *parts[1:]])
        if not np.isfinite(values[number]):
            reasons[number] = "not known" if not own.resampled else "not defined on these samples"
    read: dict[str, Any] = {"higher_is_better": own.higher_is_better, "bounds": own.bounds}
    everything = standings(values, halves, **read)
    models = np.array([row.kind == SOURCE for row in rows])
    alone = standings(
        np.where(models, values, np.nan), halves, higher_is_better=own.higher_is_better, bounds=own.bounds
    )
    return ScoreTable(name, own.higher_is_better, everything, alone.ranks, alone.rank_intervals, tuple(reasons))


def _summary(name: str, there: Mapping[int, Extracted]) -> TargetSummary | None:
    if not there:
        return None
    evidence = evidence_of(next(iter(there.values())).key)
    counts = np.bincount(evidence.labels) if evidence.labels.ndim == 1 else evidence.labels.sum(axis=0)
    groups = None if evidence.groups is None else len(np.unique(evidence.groups))
    return TargetSummary(
        name, evidence.task, len(evidence), evidence.n_classes, groups, float(counts.max() / len(evidence)),
        int(counts.min()),
    )  # fmt: skip
