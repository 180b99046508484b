"""Judgment of a ranking: choice, help and the next commands, made from its checks."""

from collections.abc import Iterator

from modgap.formatting import visible_name
from modgap.ranking import verdict as v
from modgap.ranking.checks import CONTROL_BETTER, CONTROL_UNKNOWN, collect_checks
from modgap.ranking.scores import get_score
from modgap.ranking.source_patterns import split_input_size
from modgap.ranking.standings import MIN_HALF_SAMPLES
from modgap.ranking.types import Ranking
from modgap.ranking.verdict import Check, Verdict

__all__ = ["choice_of", "help_of", "judge"]

RESAMPLES = 50
"""Half-samples that are suggested if a ranking has no intervals."""
HELP_CHECKS = ("control", "raw-values", "majority-class", "control-by-other-scores")
"""Checks that say whether transfer helps."""


def judge(ranking: Ranking) -> Verdict:
    """Judge how clear the first place of a ranking is, and whether transfer helps at all.

    Args:
        ranking: The ranking.

    Returns:
        The verdict, from which all sentences are made.
    """
    checks = {check.id: check for check in collect_checks(ranking)}
    other_sources = checks.get("other-sources")
    choice = choice_of(other_sources)
    help_ = help_of(checks)
    first = other_sources.values["first"] if other_sources else None
    tied = tuple(entry["source"] for entry in other_sources.values["tied"]) if other_sources else ()
    commands = tuple(_commands(ranking, choice, help_, first, tied))
    return Verdict(choice, help_, ranking.by, first, tied, tuple(checks.values()), commands)


def choice_of(other_sources: Check | None) -> str:
    """Return how clear the first place is.

    Args:
        other_sources: The check `other-sources`. None if no source has a value.
    """
    if other_sources is None:
        return v.NONE
    values = other_sources.values
    if values["sources"] == 1:
        return v.SINGLE
    if values["equal"]:
        return v.TIE
    if values["reason"]:
        return v.UNKNOWN
    return v.TIE if values["tied"] else v.CLEAR


def help_of(checks: dict[str, Check]) -> str:
    """Return whether transfer helps. The worst of the controls and baselines decides.

    Args:
        checks: The checks by their names.
    """
    control = checks.get("control")
    if control and control.values["result"] == CONTROL_BETTER:
        return v.NO
    applied = [checks[name] for name in HELP_CHECKS if name in checks]
    majority = checks.get("majority-class")
    if any(check.status == v.FAIL for check in applied) or (majority and majority.status == v.WARN):
        return v.DOUBTFUL
    if control is None:
        return v.NOT_TESTED
    return v.UNKNOWN if control.values["result"] == CONTROL_UNKNOWN else v.LIKELY


def _commands(
    ranking: Ranking, choice: str, help_: str, first: str | None, tied: tuple[str, ...]
) -> Iterator[tuple[str, ...]]:
    """Yield the commands of the next step. A name that cannot be shown unchanged gets no command."""
    target = ranking.target.name if ranking.target else None
    if first is None or target is None or not all(map(_is_plain, (first, target, *tied))):
        return
    without_intervals = ranking.request.resamples < MIN_HALF_SAMPLES and get_score(ranking.by).uses_samples
    if choice == v.UNKNOWN and without_intervals:
        yield _rank_command(ranking, target)
        return
    size = ranking.request.samples.input_size
    if help_ != v.NO:
        chosen = [first, *tied[:1]] if choice == v.TIE else [first]
        folders = ["runs/finetune"] if len(chosen) == 1 else ["runs/finetune-1", "runs/finetune-2"]
        for name, folder in zip(chosen, folders, strict=True):
            yield _train_command("finetune", name, size, target, folder)
    if help_ != v.LIKELY or choice in (v.UNKNOWN, v.SINGLE):
        yield _train_command("scratch", first, size, target, "runs/scratch")


def _is_plain(name: str) -> bool:
    return visible_name(name) == name


def _rank_command(ranking: Ranking, target: str) -> tuple[str, ...]:
    sources = ",".join(row.name for row in ranking.rows if row.requested)
    size = ranking.request.samples.input_size
    input_size = ("--input-size", str(size)) if size else ()
    resamples = ("--resamples", str(RESAMPLES))
    return ("modgap", "rank", "--target", target, "--sources", sources, "--by", ranking.by, *input_size, *resamples)


def _train_command(method: str, source: str, size: int | None, target: str, folder: str) -> tuple[str, ...]:
    name, size_of_source = split_input_size(source)
    input_size = size_of_source or size
    sized = ("--input-size", str(input_size)) if input_size else ()
    return ("modgap", "train", "--method", method, "--source", name, *sized, "--target", target, "--out", folder)
