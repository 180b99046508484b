"""Commands of the next step of a ranking: another ranking, a measurement, or the trainings to compare."""

from collections.abc import Iterator, Mapping
from typing import Any

from modgap.errors import visible_name
from modgap.ranking.checks import (
    CONTROL_BETTER,
    CONTROL_WORSE,
    FORECASTED,
    LIKELY,
    NO,
    SINGLE,
    TIE,
    UNKNOWN,
    Check,
    control_index,
)
from modgap.ranking.field_baselines import BASELINE_PREFIX
from modgap.ranking.score import CLASSIFICATION
from modgap.ranking.scores import get_score
from modgap.ranking.source_patterns import split_input_size
from modgap.ranking.standings import MIN_SUBSAMPLES
from modgap.ranking.types import DEFAULT_ERRORS, DEFAULT_SAMPLES, SOURCE, Ranking

__all__ = ["PILOT_SOURCES", "next_commands"]

RESAMPLES = 50
"""Subsamples that are suggested if a ranking has no intervals; the default of `modgap rank`."""
PILOT_SOURCES = 3
"""Sources that are fine-tuned shortly in the command that a ranking suggests."""
DEFAULT_BASELINES = "quick"


def next_commands(
    ranking: Ranking,
    choice: str,
    help_: str,
    first: str | None,
    tied: tuple[str, ...],
    checks: Mapping[str, Check],
) -> Iterator[tuple[str, ...]]:
    """Yield the commands of the next step. A name that cannot be shown unchanged gets no command."""
    target = ranking.target
    if first is None or target is None:
        return
    data = ("--target", target.name, *_data_options(ranking))
    if not all(map(_is_plain, (first, *tied, *data))):
        return
    by_subsamples = get_score(ranking.by).uses_samples and not ranking.tables[ranking.by].by_sample
    without_intervals = by_subsamples and ranking.request.resamples < MIN_SUBSAMPLES
    can_repeat = all(_is_plain(row.name) and "," not in row.name for row in ranking.rows if row.requested)
    n_sources = sum(row.kind == SOURCE and not row.reason for row in ranking.rows)
    baseline = checks.get("baseline")
    if baseline and baseline.result == CONTROL_BETTER:
        yield _baseline_command(ranking, baseline, data)
        yield _train_command(ranking, "finetune", first, data, "runs/finetune")
    elif choice == UNKNOWN and without_intervals and can_repeat:
        yield _rank_command(ranking, data, "--resamples", RESAMPLES)
    elif can_repeat and target.task == CLASSIFICATION and ranking.pilot is None and n_sources > 1:
        # Few epochs tell enough with a history alone.
        yield _rank_command(ranking, data, "--pilot", None if ranking.has_history else min(n_sources, PILOT_SOURCES))
    else:
        yield from _train_commands(ranking, choice, help_, [first, *tied], data, checks)


def _baseline_command(ranking: Ranking, check: Check, data: tuple[str, ...]) -> tuple[str, ...]:
    """Return the command that fits a baseline."""
    method = f"{BASELINE_PREFIX}{check.values['baseline']}"
    return ("modgap", "train", "--method", method, *data, *_limit_option(ranking), "--out", "runs/baseline")


def _train_commands(
    ranking: Ranking,
    choice: str,
    help_: str,
    names: list[str],
    data: tuple[str, ...],
    checks: Mapping[str, Check],
) -> Iterator[tuple[str, ...]]:
    """Yield the commands that train the first sources, and what may be as good: a baseline, or random weights."""
    if help_ != NO and choice in (TIE, FORECASTED) and len(names) > 1:
        for number, name in enumerate(names[:2], start=1):
            yield _train_command(ranking, "finetune", name, data, f"runs/finetune-{number}")
    elif help_ != NO:
        yield _train_command(ranking, "finetune", names[0], data, "runs/finetune")
    control, baseline = checks.get("control"), checks.get("baseline")
    may_be_as_good = baseline is not None and baseline.result != CONTROL_WORSE
    if baseline and may_be_as_good:
        yield _baseline_command(ranking, baseline, data)
    beats_control = control is not None and control.result == CONTROL_WORSE
    if (help_ != LIKELY or choice in (UNKNOWN, SINGLE)) and not (may_be_as_good and beats_control):
        yield _train_command(ranking, "scratch", names[0], data, "runs/scratch")


def _is_plain(name: str) -> bool:
    return visible_name(name) == name


def _data_options(ranking: Ranking) -> tuple[str, ...]:
    """Return the options that say where the target's data are and how to read them, as the user passed them."""
    requested = ranking.requested
    options = requested.custom_data.options() if requested and requested.custom_data else {}
    data_dir = requested and requested.data_dir
    return _options({f"--{name}": value for name, value in options.items()} | {"--data-dir": data_dir})


def _options(values: Mapping[str, Any]) -> tuple[str, ...]:
    """Return options with their values as arguments. An option whose value is None is left out."""
    return tuple(part for name, value in values.items() if value is not None for part in (name, str(value)))


def _rank_command(ranking: Ranking, data: tuple[str, ...], option: str, value: int | None) -> tuple[str, ...]:
    """Return the command that repeats a ranking with an option, which has a value or none."""
    samples, request = ranking.request.samples, ranking.request
    sources = ",".join(row.name for row in ranking.rows if row.requested)
    options = {
        # A history counts only where no score is named.
        "--by": None if ranking.has_history else ranking.by,
        "--split": (samples.split or "all") if samples.split != DEFAULT_SAMPLES.split else None,
        "--limit": samples.limit or 0 if samples.limit != DEFAULT_SAMPLES.limit else None,
        "--pseudo-classes": ranking.requested and ranking.requested.pseudo_classes,
        "--input-size": samples.input_size,
        "--representation": samples.representation,
        "--weight": request.errors.weight,
        "--splits": request.errors.splits if request.errors.splits != DEFAULT_ERRORS.splits else None,
        "--per-class": request.errors.per_class,
        "--seed": samples.seed or None,
        "--resamples": None if request.resamples == RESAMPLES else request.resamples,
        "--baselines": None if request.baselines == DEFAULT_BASELINES else request.baselines,
    }
    options.pop(option, None)
    last = (option,) if value is None else (option, str(value))
    return ("modgap", "rank", *data, "--sources", sources, *_options(options), *last)


def _train_command(ranking: Ranking, method: str, source: str, data: tuple[str, ...], folder: str) -> tuple[str, ...]:
    """Return the command that trains a source with the settings that its short fine-tuning chose."""
    chosen = (part for setting in _chosen_settings(ranking, method, source) for part in ("--set", setting))
    options = (*_source_options(ranking, source), *data, *_limit_option(ranking), *chosen)
    return ("modgap", "train", "--method", method, *options, "--out", folder)


def _limit_option(ranking: Ranking) -> tuple[str, ...]:
    """Return the option of the limit of samples, if the user passed another than the ranking's default."""
    limit = ranking.request.samples.limit
    return _options({"--limit": limit if limit and limit != DEFAULT_SAMPLES.limit else None})


def _source_options(ranking: Ranking, source: str) -> tuple[str, ...]:
    """Return the options of a training that name a source and the size of its input."""
    name, size = split_input_size(source)
    return ("--source", name, *_options({"--input-size": size or ranking.request.samples.input_size or None}))


def _chosen_settings(ranking: Ranking, method: str, source: str) -> tuple[str, ...]:
    """Return the settings that a short fine-tuning chose for a source, or for its control if it is not pretrained."""
    if ranking.pilot is None:
        return ()
    index = next(i for i, row in enumerate(ranking.rows) if row.name == source)
    control = control_index(ranking, index) if method == "scratch" else None
    settings = () if control is None else ranking.pilot.settings(control)
    return settings or ranking.pilot.settings(index)
