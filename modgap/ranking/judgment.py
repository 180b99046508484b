"""Judgment of a ranking: how clear the first place is, whether a transfer helps, and the commands of the next step."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from modgap.answers import FAIL, WARN
from modgap.errors import can_be_typed
from modgap.ranking.checks import (
    CONTROL_AS_GOOD,
    CONTROL_BETTER,
    CONTROL_SIMILAR,
    CONTROL_UNKNOWN,
    CONTROL_WORSE,
    Check,
    collect_checks,
    control_index,
)
from modgap.ranking.field_baselines import BASELINE_PREFIX
from modgap.ranking.scores import get_score
from modgap.ranking.source_outputs import CLASSIFICATION
from modgap.ranking.source_patterns import split_input_size
from modgap.ranking.standings import MIN_SUBSAMPLES
from modgap.ranking.types import DEFAULT_ERRORS, DEFAULT_SAMPLES, SOURCE, Ranking, RankRequest
from modgap.sources import control_name, is_control
from modgap.storage.json_records import plain_values

CLEAR = "clear"
TIE = "tie"
UNKNOWN = "unknown"
SINGLE = "single"
NONE = "none"
"""How clear the first place is.

`UNKNOWN` is also an answer to whether a transfer helps.
"""
LIKELY = "likely"
DOUBTFUL = "doubtful"
NOT_TESTED = "not-tested"
NO = "no"
"""Answers to the question of whether a transfer helps."""
AS_GOOD = (CONTROL_SIMILAR, CONTROL_AS_GOOD, CONTROL_BETTER)
"""Results of baselines that a source is not shown to beat."""
HELP_CHECKS = {
    "control": (FAIL,),
    "baseline": (FAIL,),
    "majority-class": (FAIL, WARN),
    "control-by-other-scores": (FAIL,),
    "controls-above": (WARN,),
}
"""Checks by scores that make the help of a transfer doubtful, with the statuses that do."""


@dataclass(frozen=True)
class Judgment:
    """Judgment of a ranking, from which all sentences of its answer are made.

    Attributes:
        choice: `clear` (the first source is significantly the best), `tie` (others may be as good), `unknown` (the
            significance is not known), `single` (only one source has a value) or `none` (no source has one). It depends
            only on the errors after a short fine-tuning, or without one on the score that the sources are ranked by.
        help: Answer to the question of whether transfer helps at all: `likely`, `doubtful`, `unknown` (there are no
            intervals), `not-tested` (there is no random-weights control) or `no`. It depends only on random-weights
            controls and baselines, and the worst of them decides; after a short fine-tuning of the control, only this
            and the best baseline of the field.
        by: Name of the score that the sources are ranked by.
        first: Name of the first source. None if no source has a value.
        tied: Names of the other sources that are not significantly different from the first, best first.
        checks: The checks, failed ones first.
        commands: Commands that are the next step, as lists of arguments.
    """

    choice: str
    help: str
    by: str
    first: str | None = None
    tied: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()
    commands: tuple[tuple[str, ...], ...] = ()

    def check(self, check_id: str) -> Check | None:
        """Return the check of a name. None if it does not apply to this ranking."""
        return next((check for check in self.checks if check.id == check_id), None)

    @property
    def tuned(self) -> str:
        """The rows that were fine-tuned: the sources and a control (`BOTH`), the sources alone, or none (`NOTHING`).

        The sources alone are `WITH_SCORE` if a score compares them with a control, and `WITHOUT_CONTROL` otherwise.
        """
        return _tuned(self.check("other-sources"), self.check("control"))

    @property
    def beside_baseline(self) -> str:
        """Result of the best baseline beside the best source, such as `CONTROL_BETTER`; empty if there is none."""
        check = self.check("baseline")
        return check.result if check else ""

    @property
    def beside_majority(self) -> str:
        """Status of the comparison with always predicting the largest class; empty if there is none."""
        check = self.check("majority-class")
        return check.status if check else ""

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict as plain values for the record of the ranking."""
        return dict(plain_values(asdict(self)))


NOTHING = "nothing"
WITH_SCORE = "sources, with a control by a score"
WITHOUT_CONTROL = "sources, without a control"
BOTH = "sources and control"
SOURCES = (WITH_SCORE, WITHOUT_CONTROL, BOTH)
"""The rows that were fine-tuned."""


def _tuned(of_source: Check | None, control: Check | None) -> str:
    if of_source is None or not of_source.is_fine_tuned:
        return NOTHING
    if control is None:
        return WITHOUT_CONTROL
    return BOTH if control.is_fine_tuned else WITH_SCORE


def judge(ranking: Ranking) -> Judgment:
    """Judge how clear the first place of a ranking is, and whether transfer helps at all.

    Args:
        ranking: The ranking.

    Returns:
        The verdict, from which all sentences are made.
    """
    checks = {check.id: check for check in collect_checks(ranking)}
    others = checks.get("other-sources")
    help_ = help_of(checks)
    first = others.first if others else None
    tied = tuple(entry["source"] for entry in others.values["tied"]) if others else ()
    judgment = Judgment(choice_of(others), help_, ranking.by, first, tied, tuple(checks.values()))
    return replace(judgment, commands=tuple(_next_commands(ranking, judgment)))


def choice_of(other_sources: Check | None) -> str:
    """Return how clear the first place is.

    Args:
        other_sources: The check `other-sources`. None if no source has a value.
    """
    if other_sources is None:
        return NONE
    values = other_sources.values
    if values["sources"] == 1:
        return SINGLE
    if values["reason"] and not values["equal"]:
        return UNKNOWN
    return TIE if values["equal"] or values["tied"] else CLEAR


def help_of(checks: Mapping[str, Check]) -> str:
    """Return whether transfer helps. The worst of the controls and baselines decides.

    A baseline that is significantly better than every source decides it. After a short fine-tuning, the errors of the
    control and of the best baseline decide alone: scores hardly tell whether pretraining helps
    (docs/evidence.md). If the control could not be fine-tuned, the scores decide.

    Args:
        checks: The checks by their names.
    """
    control, baseline = checks.get("control"), checks.get("baseline")
    compared = [one.result for one in (control, baseline) if one]
    if CONTROL_BETTER in compared:
        return NO
    if _tuned(checks.get("other-sources"), control) in (BOTH, WITHOUT_CONTROL):
        is_doubtful = any(one.result in AS_GOOD for one in (control, baseline) if one)
    else:
        is_doubtful = any(checks[name].status in bad for name, bad in HELP_CHECKS.items() if name in checks)
    if is_doubtful:
        return DOUBTFUL
    if control is None:
        return NOT_TESTED
    return UNKNOWN if CONTROL_UNKNOWN in compared else LIKELY


PILOT_SOURCES = 3
"""Sources that are fine-tuned shortly in the command that a ranking suggests."""


def _next_commands(ranking: Ranking, judgment: Judgment) -> Iterator[tuple[str, ...]]:
    """Yield the commands of the next step. A name that cannot be shown unchanged gets no command."""
    target, first = ranking.target, judgment.first
    if first is None or target is None or not can_be_typed(first, *judgment.tied, *_data_options(ranking)):
        return
    by_subsamples = get_score(ranking.by).uses_samples and not ranking.tables[ranking.by].by_sample
    without_intervals = by_subsamples and ranking.request.resamples < MIN_SUBSAMPLES
    can_repeat = all(can_be_typed(row.name) and "," not in row.name for row in ranking.rows if row.requested)
    n_sources = sum(row.kind == SOURCE and not row.reason for row in ranking.rows)
    baseline = judgment.check("baseline")
    if baseline and baseline.result == CONTROL_BETTER:
        yield _baseline_command(ranking, baseline)
        yield _train_command(ranking, "finetune", first, "runs/finetune")
    elif judgment.choice == UNKNOWN and without_intervals and can_repeat:
        yield _rank_command(ranking, "--resamples", RankRequest.resamples)
    elif can_repeat and target.task == CLASSIFICATION and ranking.pilot is None and n_sources > 1:
        yield _rank_command(ranking, "--pilot", min(n_sources, PILOT_SOURCES))
    else:
        yield from _train_commands(ranking, judgment, [first, *judgment.tied])


def _baseline_command(ranking: Ranking, check: Check) -> tuple[str, ...]:
    """Return the command that fits a baseline."""
    method = f"{BASELINE_PREFIX}{check.values['baseline']}"
    data = _data_options(ranking)
    return ("modgap", "train", "--method", method, *data, *_limit_option(ranking), "--out", "runs/baseline")


def _train_commands(ranking: Ranking, judgment: Judgment, names: list[str]) -> Iterator[tuple[str, ...]]:
    """Yield the commands that train the first sources, and what may be as good: a baseline, or random weights."""
    if judgment.help != NO and judgment.choice == TIE and len(names) > 1:
        for number, name in enumerate(names[:2], start=1):
            yield _train_command(ranking, "finetune", name, f"runs/finetune-{number}")
    elif judgment.help != NO:
        yield _train_command(ranking, "finetune", names[0], "runs/finetune")
    control, baseline = judgment.check("control"), judgment.check("baseline")
    may_be_as_good = baseline is not None and baseline.result != CONTROL_WORSE
    if baseline and may_be_as_good:
        yield _baseline_command(ranking, baseline)
    beats_control = control is not None and control.result == CONTROL_WORSE
    is_doubtful = judgment.help != LIKELY or judgment.choice in (UNKNOWN, SINGLE)
    if is_doubtful and not (may_be_as_good and beats_control):
        yield _train_command(ranking, "scratch", names[0], "runs/scratch")


def _data_options(ranking: Ranking) -> tuple[str, ...]:
    """Return the options that name the target, where its data are and how to read them, as the user passed them."""
    target, requested = ranking.target, ranking.requested
    custom = requested.custom_data.options() if requested and requested.custom_data else {}
    options = {"--target": target and target.name, **{f"--{name}": value for name, value in custom.items()}}
    return _options(options | {"--data-dir": requested and requested.data_dir})


def _options(values: Mapping[str, Any]) -> tuple[str, ...]:
    """Return options with their values as arguments. An option whose value is None is left out."""
    return tuple(part for name, value in values.items() if value is not None for part in (name, str(value)))


def _rank_command(ranking: Ranking, option: str, value: int) -> tuple[str, ...]:
    """Return the command that repeats a ranking with an option."""
    names = [row.name for row in ranking.rows if row.requested]
    added = {control_name(name) for name in names if not is_control(name)} if ranking.request.controls else set()
    pseudo_classes = ranking.requested.pseudo_classes if ranking.requested else None
    options = request_options(ranking.request, ranking.by, pseudo_classes, without=option)
    return (
        "modgap",
        "rank",
        *_data_options(ranking),
        "--sources",
        ",".join(name for name in names if name not in added),
        *options,
        option,
        str(value),
    )


def request_options(
    request: RankRequest, by: str | None, pseudo_classes: int | None, without: str = ""
) -> tuple[str, ...]:
    """Return the options of `modgap rank` that are no defaults, but for scores to show, layers, pilots and data.

    Args:
        request: The request.
        by: Score to rank by. None for the default.
        pseudo_classes: Number of clusters that replace values. None for the default.
        without: Name of an option to leave out.
    """
    samples = request.samples
    options = {
        "--by": by,
        "--split": (samples.split or "all") if samples.split != DEFAULT_SAMPLES.split else None,
        "--limit": samples.limit or 0 if samples.limit != DEFAULT_SAMPLES.limit else None,
        "--pseudo-classes": pseudo_classes,
        "--input-size": samples.input_size,
        "--representation": samples.representation,
        "--weight": request.errors.weight,
        "--splits": request.errors.splits if request.errors.splits != DEFAULT_ERRORS.splits else None,
        "--per-class": request.errors.per_class,
        "--dtype": None if samples.dtype == DEFAULT_SAMPLES.dtype else samples.dtype,
        "--seed": samples.seed or None,
        "--head": request.head if request.head != RankRequest.head else None,
        "--resamples": None if request.resamples == RankRequest.resamples else request.resamples,
        "--baselines": None if request.baselines == RankRequest.baselines else request.baselines,
    }
    options.pop(without, None)
    return (*_options(options), *(() if request.controls else ("--no-controls",)))


def _train_command(ranking: Ranking, method: str, source: str, folder: str) -> tuple[str, ...]:
    """Return the command that trains a source with the settings that its short fine-tuning chose."""
    name, size = split_input_size(source)
    of_source = _options({"--source": name, "--input-size": size or ranking.request.samples.input_size or None})
    settings: tuple[str, ...] = ()
    if ranking.pilot is not None:
        # For a training from scratch, the settings of the control count if it was fine-tuned.
        index = next(i for i, row in enumerate(ranking.rows) if row.name == source)
        control = control_index(ranking, index) if method == "scratch" else None
        settings = () if control is None else ranking.pilot.settings(control)
        settings = settings or ranking.pilot.settings(index)
    chosen = (part for setting in settings for part in ("--set", setting))
    options = (*of_source, *_data_options(ranking), *_limit_option(ranking), *chosen)
    return ("modgap", "train", "--method", method, *options, "--out", folder)


def _limit_option(ranking: Ranking) -> tuple[str, ...]:
    """Return the option of the limit of samples, if the user passed another than the ranking's default."""
    limit = ranking.request.samples.limit
    return _options({"--limit": limit if limit and limit != DEFAULT_SAMPLES.limit else None})
