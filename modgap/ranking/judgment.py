"""Judgment of a ranking: choice, help and the next commands, made from its checks."""

from collections.abc import Iterator

from modgap.formatting import visible_name
from modgap.ranking import verdict as v
from modgap.ranking.baseline_checks import (
    CONTROL_AS_GOOD,
    CONTROL_BETTER,
    CONTROL_SIMILAR,
    CONTROL_UNKNOWN,
    control_index,
    neighbors_result,
)
from modgap.ranking.checks import collect_checks
from modgap.ranking.score import CLASSIFICATION
from modgap.ranking.scores import get_score
from modgap.ranking.source_patterns import split_input_size
from modgap.ranking.standings import MIN_SUBSAMPLES
from modgap.ranking.types import DEFAULT_ERRORS, DEFAULT_SAMPLES, SOURCE, Ranking
from modgap.ranking.verdict import Check, Judgment

__all__ = ["PILOT_SOURCES", "choice_of", "help_of", "judge"]

RESAMPLES = 50
"""Subsamples that are suggested if a ranking has no intervals; the default of `modgap rank`."""
PILOT_SOURCES = 3
"""Sources that are fine-tuned shortly in the command that a ranking suggests."""
HELP_CHECKS = ("control", "raw-values", "majority-class", "control-by-other-scores")
"""Checks that make the help of a transfer doubtful if they fail."""
PROBE = "linear-probe"
CONTROLS = 3
"""Random-weights controls in the command that is suggested for a source of texts."""
WARNING_HELP_CHECKS = ("majority-class", "controls-above")
"""Checks that make it doubtful if they only warn."""


def judge(ranking: Ranking) -> Judgment:
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
    return Judgment(choice, help_, ranking.by, first, tied, tuple(checks.values()), commands)


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

    After a short fine-tuning, the errors of the control and of nearest neighbors of the raw values decide alone: scores
    hardly tell whether pretraining helps (docs/evidence.md). If the control could not be fine-tuned, the scores decide.

    Args:
        checks: The checks by their names.
    """
    control = checks.get("control")
    if control and control.values["result"] == CONTROL_BETTER:
        return v.NO
    others = checks.get("other-sources")
    is_fine_tuned = others is not None and others.values["score"] == v.PILOT_NAME
    if is_fine_tuned and (control is None or control.values["score"] == v.PILOT_NAME):
        result = control.values["result"] if control else None
        return _help_after_fine_tuning(result, neighbors_result(checks.get("raw-values")))
    applied = [checks[name] for name in HELP_CHECKS if name in checks]
    warnings = [checks[name] for name in WARNING_HELP_CHECKS if name in checks]
    if any(check.status == v.FAIL for check in applied) or any(check.status == v.WARN for check in warnings):
        return v.DOUBTFUL
    if control is None:
        return v.NOT_TESTED
    return v.UNKNOWN if control.values["result"] == CONTROL_UNKNOWN else v.LIKELY


def _help_after_fine_tuning(control: str | None, neighbors: str | None) -> str:
    """Return whether transfer helps, from the results of the fine-tuned control and of neighbors of the raw values."""
    as_good = (CONTROL_SIMILAR, CONTROL_AS_GOOD, CONTROL_BETTER)
    if control in as_good or neighbors in as_good:
        return v.DOUBTFUL
    if control is None:
        return v.NOT_TESTED
    return v.UNKNOWN if CONTROL_UNKNOWN in (control, neighbors) else v.LIKELY


def _commands(
    ranking: Ranking, choice: str, help_: str, first: str | None, tied: tuple[str, ...]
) -> Iterator[tuple[str, ...]]:
    """Yield the commands of the next step. A name that cannot be shown unchanged gets no command."""
    target = ranking.target.name if ranking.target else None
    if first is None or target is None:
        return
    data = ("--target", target, *_data_options(ranking))
    if not all(map(_is_plain, (first, *tied, *data))):
        return
    by_subsamples = get_score(ranking.by).uses_samples and not ranking.tables[ranking.by].by_sample
    without_intervals = by_subsamples and ranking.request.resamples < MIN_SUBSAMPLES
    can_repeat = all(_is_plain(row.name) and "," not in row.name for row in ranking.rows if row.requested)
    if choice == v.UNKNOWN and without_intervals and can_repeat:
        yield _rank_command(ranking, data, "--resamples", RESAMPLES)
        return
    n_sources = sum(row.kind == SOURCE and not row.reason for row in ranking.rows)
    if ranking.target is not None and ranking.target.kind == "text":
        # Texts cannot be trained on. A linear probe is a model that works for them.
        if ranking.by != PROBE and can_repeat:
            yield _rank_command(ranking, data, "--by", PROBE)
        elif ranking.by == PROBE and _head_of(ranking, first) != "none":
            yield _discrepancy_command(ranking, first, data)
        return
    is_classification = ranking.target is not None and ranking.target.task == CLASSIFICATION
    if can_repeat and is_classification and ranking.pilot is None and n_sources > 1:
        yield _rank_command(ranking, data, "--pilot", min(n_sources, PILOT_SOURCES))
        return
    if help_ != v.NO:
        chosen = [first, *tied[:1]] if choice == v.TIE else [first]
        folders = ["runs/finetune"] if len(chosen) == 1 else ["runs/finetune-1", "runs/finetune-2"]
        for name, folder in zip(chosen, folders, strict=True):
            yield _train_command(ranking, "finetune", name, data, folder)
    if help_ != v.LIKELY or choice in (v.UNKNOWN, v.SINGLE):
        yield _train_command(ranking, "scratch", first, data, "runs/scratch")


def _is_plain(name: str) -> bool:
    return visible_name(name) == name


def _data_options(ranking: Ranking) -> tuple[str, ...]:
    """Return the options that say where the target's data are and how to read them, as the user passed them."""
    options = ranking.custom_data.options() if ranking.custom_data else {}
    custom = (part for option, value in options.items() for part in (f"--{option}", value))
    data_dir = ("--data-dir", str(ranking.data_dir)) if ranking.data_dir else ()
    return (*custom, *data_dir)


def _limit_option(ranking: Ranking) -> tuple[str, ...]:
    """Return the limit of samples for training, if the user passed another than the ranking's default."""
    limit = ranking.request.samples.limit
    return ("--limit", str(limit)) if limit and limit != DEFAULT_SAMPLES.limit else ()


def _rank_command(ranking: Ranking, data: tuple[str, ...], option: str, value: int | str) -> tuple[str, ...]:
    """Return the command that repeats a ranking with another value of an option."""
    samples = ranking.request.samples
    resamples = ranking.request.resamples
    sources = ",".join(row.name for row in ranking.rows if row.requested)
    options = {
        "--by": ranking.by,
        "--split": (samples.split or "all") if samples.split != DEFAULT_SAMPLES.split else None,
        "--limit": samples.limit or 0 if samples.limit != DEFAULT_SAMPLES.limit else None,
        "--pseudo-classes": ranking.pseudo_classes,
        "--input-size": samples.input_size,
        "--representation": samples.representation,
        "--weight": ranking.request.errors.weight,
        "--splits": ranking.request.errors.splits if ranking.request.errors.splits != DEFAULT_ERRORS.splits else None,
        "--per-class": ranking.request.errors.per_class,
        "--seed": samples.seed or None,
        "--resamples": None if resamples == RESAMPLES else resamples,
    }
    changed = {**{name: one for name, one in options.items() if name != option}, option: value}
    passed = (part for name, one in changed.items() if one is not None for part in (name, str(one)))
    return ("modgap", "rank", *data, "--sources", sources, *passed)


def _discrepancy_command(ranking: Ranking, source: str, data: tuple[str, ...]) -> tuple[str, ...]:
    name, size = split_input_size(source)
    clusters = ("--pseudo-classes", str(ranking.pseudo_classes)) if ranking.pseudo_classes else ()
    sized = ("--input-size", str(size)) if size else ()
    head = _head_of(ranking, source)
    fitted = ("--head", head) if head != "own" else ()
    return ("modgap", "discrepancy", "--source", name, *fitted, *sized, *data, *clusters, "--control", str(CONTROLS))


def _head_of(ranking: Ranking, source: str) -> str:
    """Return the head of a source in a ranking: `own`, `none`, or `probe:` and the data that it was fitted on."""
    row = next(row for row in ranking.rows if row.name == source)
    return str(row.properties.get("head", "own"))


def _train_command(ranking: Ranking, method: str, source: str, data: tuple[str, ...], folder: str) -> tuple[str, ...]:
    """Return the command that trains a source with the settings that its short fine-tuning chose."""
    name, size_of_source = split_input_size(source)
    input_size = size_of_source or ranking.request.samples.input_size
    sized = ("--input-size", str(input_size)) if input_size else ()
    chosen = (part for setting in _chosen_settings(ranking, method, source) for part in ("--set", setting))
    options = (*sized, *data, *_limit_option(ranking), *chosen)
    return ("modgap", "train", "--method", method, "--source", name, *options, "--out", folder)


def _chosen_settings(ranking: Ranking, method: str, source: str) -> tuple[str, ...]:
    """Return the settings that a short fine-tuning chose for a source, or for its control if it is not pretrained."""
    if ranking.pilot is None:
        return ()
    index = next(i for i, row in enumerate(ranking.rows) if row.name == source)
    control = control_index(ranking, index) if method == "scratch" else None
    settings = () if control is None else ranking.pilot.settings(control)
    return settings or ranking.pilot.settings(index)
