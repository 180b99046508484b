"""Rank sources by how well they suit a target: features once a source, then scores on all samples and on halves."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from modgap.errors import InputError, UsageError
from modgap.forward.inference_setup import LogitsRequest
from modgap.progress import Progress
from modgap.ranking.backends import Backend, run_jobs
from modgap.ranking.extraction import Extracted, evidence_of
from modgap.ranking.jobs import ExtractJob, Failure, ScoreJob, accelerators
from modgap.ranking.raw_values import RAW
from modgap.ranking.report_details import DetailJob, Details
from modgap.ranking.score import CLASSIFICATION, MULTI_LABEL, REGRESSION
from modgap.ranking.scores import DEFAULTS, score, score_names, usual_scores
from modgap.ranking.source_patterns import with_size
from modgap.ranking.standings import standings
from modgap.ranking.types import (
    CONTROL,
    NO_MODEL,
    SOURCE,
    Ranking,
    RankRequest,
    ScoreTable,
    SourceRow,
    TargetSummary,
)  # fmt: skip
from modgap.sources import open_source
from modgap.targets import CustomData, Table, manifest_names, open_target

__all__ = ["rank"]

BATCH_SIZE = 16
"""Default number of samples in a batch. It is fixed, because the last bits of features depend on it."""
BLOCK = 25
"""Half-samples of a job."""
BASELINES = ("size", "source-error")
"""Scores that stand beside any others."""
AGAINST_RAW = "knn"
"""What features and the samples' own values are compared by, whatever scores are asked for."""


def rank(
    target: str,
    sources: Sequence[str],
    request: RankRequest | None = None,
    backend: Backend | None = None,
    *,
    custom_data: CustomData | None = None,
    data_dir: Path | None = None,
    pseudo_classes: int | None = None,
    progress: Progress | None = None,
) -> Ranking:
    """Score sources on a target.

    Args:
        target: As for `modgap.targets.open_target`.
        sources: As for `modgap.sources.open_source`.
        request: Scores, samples, precision; None for the defaults.
        backend: Where the jobs run; None for this machine's cores.
        custom_data: Description of custom data: kind, label column, groups and so on.
        data_dir: Folder in which a manifest's files lie.
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
    for name in (*request.scores, *filter(None, [request.by])):
        score(name)
    for name in sources:
        _check_name(name)
    opened = {"name": target, "custom_data": custom_data, "data_dir": data_dir, "pseudo_classes": pseudo_classes}
    table = open_target(target, custom_data=custom_data, data_dir=data_dir, pseudo_classes=pseudo_classes).read()
    by = _deciding(table, request)
    against = (AGAINST_RAW,) if request.raw else ()
    scores = tuple(dict.fromkeys((by, *(request.scores or usual_scores()), *against, *BASELINES)))
    opened |= {"name": _absolute(target), "data_dir": data_dir and Path(data_dir).resolve()}
    with _threads_restored():
        found = _ranked(names, set(sources), scores, opened, replace(request, by=by), backend, progress)
    return replace(found, target=found.target and replace(found.target, name=target))


def _check_name(name: str) -> None:
    """Refuse what no source is called before anything is computed; what else fails is a row with its reason."""
    try:
        open_source(with_size(name)[0])
    except UsageError:
        raise
    except InputError:
        pass


def _deciding(table: Table, request: RankRequest) -> str:
    """Name of the score that decides; refuses before any source has run what would fail for all of them."""
    labels = np.asarray(table.labels)
    task = REGRESSION if table.targets is not None else CLASSIFICATION if labels.ndim == 1 else MULTI_LABEL
    by = score(request.by or DEFAULTS[task])
    if task == CLASSIFICATION and len(np.unique(labels)) < 2:
        raise InputError("expected at least two target classes, got one; there is nothing to tell apart")
    headless = request.head == "none"
    fit = [
        each.name
        for each in map(score, score_names())
        if task in each.tasks and each.resampled and not (headless and each.needs_logits)
    ]
    if task not in by.tasks:
        raise UsageError(f"score {by.name} is not defined for {task} targets; --by takes: {', '.join(fit)}")
    if by.needs_logits and headless:
        raise UsageError(f"score {by.name} needs a head; leave --head none out, or take --by: {', '.join(fit)}")
    return by.name


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
    extracted = _extracted(names, asked, opened, request, backend, progress)
    names, extracted = _without_idle_controls(names, extracted, asked)
    there = {n: found for n, found in enumerate(extracted) if isinstance(found, Extracted)}
    counts = {"features": _counted(there.values())}
    at = {"features": time.perf_counter() - began}
    began = time.perf_counter()
    jobs = [
        ScoreJob(found.key, name, request.samples.seed, first, last)
        for found in there.values()
        for name in scores
        for first, last in _blocks(request.resamples if score(name).resampled else 0)
    ]
    done, counts["scores"] = _run("scores", jobs, backend, progress)
    at["scores"] = time.perf_counter() - began
    details: dict[Any, Any] = {}
    if request.details:
        began = time.perf_counter()
        wanted = [DetailJob(found.key, request.samples.seed) for found in there.values()]
        details, counts["details"] = _run("details", wanted, backend, progress)
        at["details"] = time.perf_counter() - began
    rows = tuple(
        _row(name, kind, name in asked, found, details, request)
        for (name, kind), found in zip(names, extracted, strict=True)
    )
    tables = {name: _table(name, rows, there, done, request) for name in scores}
    return Ranking(_summary(opened["name"], there), rows, tables, scores[0], request, counts, at)


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
    names: Sequence[tuple[str, str]], asked: set[str], opened: dict[str, Any], request: RankRequest, backend: Backend,
    progress: Progress | None,
) -> list[Extracted | Failure]:  # fmt: skip
    """Of each row; the controls that nobody asked for after their sources, and only where these could be had."""
    if backend.name == "loky" and (devices := accelerators(request.samples.device)):
        # A process a device: several on one would fill its memory.
        backend = replace(backend, workers=devices)
    added = [name for name, kind in names if kind == CONTROL and name not in asked]
    wanted = [name for name, kind in names if kind != NO_MODEL and name not in added]
    found = dict(_passes(wanted, opened, request, backend, progress, len(names)))
    if any(isinstance(each, Extracted) for each in found.values()):
        models = [n for n in added if isinstance(found[n.removeprefix("random:")], Extracted)]
        rest = [*models, *(name for name, kind in names if kind == NO_MODEL)]
        found |= dict(_passes(rest, opened, request, backend, progress, len(names)))
    return [found.get(name, Failure("it was not run")) for name, _ in names]


def _passes(
    names: Sequence[str], opened: dict[str, Any], request: RankRequest, backend: Backend, progress: Progress | None,
    count: int,
) -> Iterator[tuple[str, Extracted | Failure]]:  # fmt: skip
    samples = replace(request.samples, batch_size=request.samples.batch_size or BATCH_SIZE)
    wanted = LogitsRequest(samples, head=request.head)
    for number, result in run_jobs([ExtractJob(name, opened, wanted) for name in names], backend):
        yield names[number], result
        if progress:
            progress("features", 1 / count)


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
    own = details.get(DetailJob(found.key, request.samples.seed))
    return SourceRow(name, kind, asked, "", found.facts, own if isinstance(own, Details) else None, found.provenance)


def _table(
    name: str, rows: Sequence[SourceRow], there: Mapping[int, Extracted], done: Mapping[Any, Any], request: RankRequest
) -> ScoreTable:
    own = score(name)
    count = request.resamples if own.resampled else 0
    values, halves = np.full(len(rows), np.nan), np.full((len(rows), count), np.nan)
    reasons = [row.reason for row in rows]
    for number, found in there.items():
        parts = [done[ScoreJob(found.key, name, request.samples.seed, *block)] for block in _blocks(count)]
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
