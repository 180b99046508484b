"""Plan of a ranking: its rows, its scores, and checks before anything is computed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from modgap.errors import InputError, UsageError, check_minimum, unknown_name
from modgap.forward.inference_setup import LogitsRequest
from modgap.jobs import Backend
from modgap.ranking.field_baselines import BASELINE_PREFIX, BaselineJob, baseline_jobs, chosen_baselines
from modgap.ranking.known_sources import KnownSources, known_sources_of
from modgap.ranking.scores import DEFAULT_RANKING_SCORES, default_scores, get_score, score_names
from modgap.ranking.source_outputs import CLASSIFICATION, MULTI_LABEL, REGRESSION
from modgap.ranking.source_patterns import split_input_size
from modgap.ranking.stages import JobMonitor
from modgap.ranking.types import ALL, CONTROL, SOURCE, RankRequest, SourceRow
from modgap.sources import control_name, is_control, open_source
from modgap.statistics.weights import WEIGHTS
from modgap.targets import Table, TargetRequest

ALWAYS = ("size",)
"""Scores that are always computed: baselines that do not depend on the target."""
PROBE = "linear-probe"
"""Score of the sources that baselines are compared with."""


@dataclass(frozen=True)
class RankPlan:
    """Everything that is needed to compute a ranking.

    Attributes:
        rows: Rows of the sources and their controls, without results.
        baselines: Jobs of the baselines of the target's field that are compared with them.
        scores: Names of the scores. The first is the one to rank by.
        target: The target as the user names it, with absolute paths, because workers may be in another folder.
        task: Task of the target: `classification`, `multi-label` or `regression`.
        kind: Kind of its samples, such as `image` or `text`.
        request: The request.
        backend: Backend that runs the jobs.
        monitor: Tells the progress.
        known: The sources that are known for this kind of target, by fine-tuning.
    """

    rows: list[SourceRow]
    baselines: tuple[BaselineJob, ...]
    scores: tuple[str, ...]
    target: TargetRequest
    task: str
    kind: str
    request: RankRequest
    backend: Backend
    monitor: JobMonitor
    known: KnownSources

    @property
    def device(self) -> str:
        """Name of the devices of which each pass holds one."""
        return self.request.samples.device

    def side_by_side(self, n_passes: int) -> int:
        """Return how many of several passes run at once."""
        return self.backend.side_by_side(n_passes, self.device)

    def pass_request(self, n_passes: int) -> LogitsRequest:
        """Return the request of each of several passes, which share the cores that would otherwise be idle."""
        idle_cores = self.backend.idle_cores(n_passes, self.device)
        # The source runs over labeled data of its own modality too if a score uses them.
        surrogate = any(get_score(name).takes_surrogate for name in self.scores)
        return LogitsRequest(self.request.samples, self.request.head, surrogate=surrogate, side_by_side=idle_cores)


def plan_ranking(
    target: TargetRequest,
    sources: Sequence[str],
    request: RankRequest,
    backend: Backend,
    monitor: JobMonitor | None = None,
) -> RankPlan:
    """Return the plan of a ranking, after checks of the target and of all names.

    Args:
        target: The target as the user names it.
        sources: Names of the sources.
        request: Scores, samples and precision.
        backend: Backend that runs the jobs.
        monitor: Tells the progress. None to tell nobody.

    Raises:
        UsageError: If there are no sources, or if an option or a score is unknown.
        InputError: If the target cannot be used.
    """
    rows = _list_rows(sources, request)
    _check_names(sources, request)
    opened = target.open()
    table = opened.read()
    task = CLASSIFICATION if np.asarray(table.labels).ndim == 1 else MULTI_LABEL
    task = task if table.targets is None else REGRESSION
    by = _choose_ranking_score(table, task, request)
    _check_pilot(task, request)
    absolute = target.absolute()
    baselines = chosen_baselines(request.baselines, opened, request.samples, len(rows), request.errors.weight)
    compared = (PROBE,) if baselines else ()
    return RankPlan(
        rows=rows,
        baselines=tuple(baseline_jobs(baselines, absolute, opened, request.samples, request.errors)),
        scores=tuple(dict.fromkeys((by, *(request.scores or default_scores()), *compared, *ALWAYS))),
        target=absolute,
        task=task,
        kind=opened.manifest.input.kind,
        request=replace(request, by=by),
        backend=backend,
        monitor=monitor or JobMonitor(),
        known=known_sources_of(target, table, opened.manifest, "fine_tuned"),
    )


def _list_rows(sources: Sequence[str], request: RankRequest) -> list[SourceRow]:
    """Return the rows of the sources and of their random-weights controls.

    Raises:
        UsageError: If there are no sources, or a baseline is among them.
    """
    names = list(dict.fromkeys(sources))
    if not names:
        raise UsageError("No source was named. Run `modgap sources` for a list of them.")
    if named := next((name for name in names if name.startswith(BASELINE_PREFIX)), None):
        raise UsageError(
            f"{named} is a baseline, not a source. Remove it from the sources: a ranking compares them with baselines "
            "of the field by itself."
        )
    # If all sources have random weights they are ranked as sources, not as controls.
    only_random = all(map(is_control, names))
    rows = [SourceRow(name, CONTROL if is_control(name) and not only_random else SOURCE) for name in names]
    if request.controls and not only_random:
        controls = [control_name(row.name) for row in rows if row.kind == SOURCE]
        rows += [SourceRow(name, CONTROL, requested=False) for name in controls if name not in names]
    return rows


def _check_names(sources: Sequence[str], request: RankRequest) -> None:
    """Raise a UsageError for unknown names before anything is computed. Other failures get a row with the reason."""
    weight = request.errors.weight
    if weight is not None and weight not in WEIGHTS:
        raise unknown_name("weight", weight, WEIGHTS)
    check_minimum("splits", request.errors.splits, 1)
    check_minimum("per_class", request.errors.per_class, 1)
    check_minimum("resamples", request.resamples, 0)
    if isinstance(request.pilot, int):
        check_minimum("pilot", request.pilot, 0)
    elif request.pilot != ALL:
        raise UsageError(f"`pilot` is {request.pilot!r}. Expected a number of sources, or {ALL!r}.")
    for name in (*request.scores, *filter(None, [request.by])):
        get_score(name)
    for name in sources:
        try:
            open_source(split_input_size(name)[0])
        except UsageError:
            raise
        except InputError:
            pass


def _check_pilot(task: str, request: RankRequest) -> None:
    """Raise a UsageError if pilots are not defined on the target."""
    if request.pilot and task != CLASSIFICATION:
        raise UsageError(f"`pilot` needs a target with one class for each sample, and this is a {task} target.")


def _choose_ranking_score(table: Table, task: str, request: RankRequest) -> str:
    """Return the name of the score to rank by.

    Raises:
        UsageError: If the score is not defined for any source, before any source is run.
        InputError: If the target has fewer than two classes.
    """
    score = get_score(request.by or DEFAULT_RANKING_SCORES[task])
    if task == CLASSIFICATION and len(np.unique(np.asarray(table.labels))) < 2:
        raise InputError("The target has one class. At least two are needed.")
    headless = request.head == "none"
    usable = ", ".join(
        one.name
        for one in map(get_score, score_names())
        if task in one.tasks and one.uses_samples and not (headless and one.needs_logits)
    )
    if task not in score.tasks:
        raise UsageError(
            f"The score {score.name} is not defined for {task} targets. Pass one of these to `by`: {usable}."
        )
    if score.needs_logits and headless:
        raise UsageError(
            f'The score {score.name} needs a classification head. Remove `head="none"`, or pass one of these to `by`: '
            f"{usable}."
        )
    return score.name
