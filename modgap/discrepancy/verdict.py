"""Conclusions from a discrepancy: the one table of decisions from which texts, pages, figures and records take theirs.

Every function takes the numbers of `Evidence` and nothing else, so that a sentence cannot say more than they do. The
words have one meaning each: *pretraining helps* is a lower error than that of three or more networks of the same
architecture with random weights on the same samples; a source *knows something* about classes if pretraining helps, and
its error is lower than with permuted labels and than that of the majority class; *not shown* means that the data cannot
decide.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import PurePath
from types import MappingProxyType

from scipy import stats

from modgap.answers.formatting import confidence_interval, known_interval, p_value_text
from modgap.errors import CONTROL_PREFIX, count
from modgap.statistics.intervals import LEVEL, MIN_UNITS
from modgap.statistics.multiple_comparisons import SIGNIFICANCE_LEVEL
from modgap.statistics.permutations import smallest_p_value
from modgap.storage.json_records import Record

ENOUGH_CONTROLS = 3
"""Fewest random initializations from which a statement on pretraining is made, and their variance is estimated."""
CONTROL_HINT = "Pass --control (in Python control=3) to compare with the same architecture with random weights."
LOGITS_HINT = "Compare with logits of the same architecture with random weights, see modgap compare."

ERROR_NAMES = {"montecarlo": "Monte-Carlo", "search": "search"}
"""Names of the errors of estimators that a permutation test can be made with, beside the soft error."""

STATUSES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "no map": ("{target} has more classes than {source}", ""),
        "no held-out error": ("No held-out error: it is not shown what {source} knows", ""),
        "labels not permuted": (
            "{source} has an error of {error} on {target}, without a test",
            "So this does not show that {source} knows anything about {classes}.",
        ),
        "nothing shown": (
            "It is not shown that {source} knows anything about {target}",
            "So this does not show that the outputs of {source} carry information about {classes}.",
        ),
        "not better than the majority class": (
            "On {target}, {source} is not shown to be better than the majority class",
            "So the outputs of {source} carry information about {classes}, but the map is not shown to be better than "
            "always predicting the largest class.",
        ),
        "carries information": (
            "Outputs of {source} carry information about {target}, as those of untrained networks do",
            "So the outputs of {source} carry information about {classes}, as those of untrained networks do.{hint}",
        ),
        "better than few controls": (
            "On {target}, {source} is better than {controls}",
            "So the outputs of {source} carry information about {classes}, more than those of {controls}.",
        ),
        "not better than few controls": (
            "On {target}, {source} is not shown to be better than {controls}",
            "So the outputs of {source} carry information about {classes}, as those of untrained networks do.",
        ),
        "pretraining not shown": (
            "It is not shown that pretraining helps {source} on {target}",
            "So the outputs of {source} carry information about {classes}, as those of untrained networks do.",
        ),
        "controls are better": (
            "On {target}, random weights are better than the pretrained {source}",
            "So the outputs of {source} carry information about {classes}, but less than those of random weights.",
        ),
        "knows something": (
            "{source} knows something about {target}: its error is {error}, with random weights {control_error}",
            "{source} therefore knows something about {classes}.",
        ),
    }
)
"""Title and sentence of each status of a verdict, in the order in which the table of decisions is read."""


@dataclass(frozen=True)
class ControlEvidence:
    """Comparison with random-weights controls.

    Attributes:
        n: Number of random initializations.
        held_out: Their mean held-out error.
        difference: Held-out error of the source minus theirs.
        interval: 95 % interval of the difference; None if there are too few samples or groups.
        p_value: Its two-sided p-value; None where there is no interval.
        smallest: Smallest difference that would have been significant; None where it is unknown.
    """

    n: int
    held_out: float
    difference: float
    interval: tuple[float, float] | None
    p_value: float | None
    smallest: float | None


@dataclass(frozen=True)
class Evidence:
    """The numbers that a verdict depends on.

    Attributes:
        source: Name of the source as shown; empty if it has none.
        target: Name of the target as shown.
        estimator: Estimator whose error is reported; None if there is none.
        in_sample: Its error on the samples that chose the map; None without a map.
        held_out: Its held-out error; None if it was not computed.
        interval: 95 % interval of the held-out error; None with too few samples or groups.
        n_units: Number of tested samples or groups; None if the record is too old to have it.
        in_groups: True if the units are groups.
        splits: Number of repeated splits; 0 if no samples were held out.
        n_tested_classes: Number of classes that held-out errors are over.
        n_classes: Number of classes of the target.
        chance: Chance level.
        majority: Majority-class baseline.
        p_value: p-value of the permutation test; None without one.
        permutations: Number of permutations that were requested.
        permuted: Mean error with permuted labels on the scale of the held-out error; None if it is unknown.
        soft: Soft held-out error with the real labels and with permuted ones, if the test is made with it and another
            error is reported; else None.
        tested_by: Estimator that the test is made with and whose mean error `permuted` is, if it is neither the soft
            error nor the one that is reported; else None.
        is_ordered: True if labels were shuffled although samples that follow each other are alike, so that the p-value
            is too low.
        control: Comparison with random-weights controls; None without one.
        is_control: True if the source has random weights itself.
        is_measured: True if modgap ran the source, so that it can run the same architecture with random weights.
    """

    source: str
    target: str
    estimator: str | None
    in_sample: float | None
    held_out: float | None
    interval: tuple[float, float] | None
    n_units: int | None
    in_groups: bool
    splits: int
    n_tested_classes: int
    n_classes: int
    chance: float
    majority: float
    p_value: float | None = None
    permutations: int = 0
    permuted: float | None = None
    soft: tuple[float, float] | None = None
    tested_by: str | None = None
    is_ordered: bool = False
    control: ControlEvidence | None = None
    is_control: bool = False
    is_measured: bool = True

    def named(self, source: str, target: str) -> "Evidence":
        """Return the evidence with other names, such as shorter ones for the title of a figure."""
        return replace(self, source=source, target=target)


@dataclass(frozen=True)
class Finding:
    """The answer to one question.

    Attributes:
        status: `yes`, `no`, `not shown`, `unknown` or `few controls`; one of `STATUSES` for a verdict.
        sentence: The answer in whole sentences; empty if there is nothing to say.
        title: The answer in a few words, for the title of a page or figure; empty for one comparison.
    """

    status: str
    sentence: str
    title: str = ""


def best_estimator(held_out: dict[str, float | None]) -> str | None:
    """Return the estimator to report: `search` if it ran, else the one with a held-out error, else the last.

    Args:
        held_out: Held-out error of each estimator that ran; None for those without one.
    """
    tested = [name for name, error in held_out.items() if error is not None]
    return "search" if "search" in held_out else next(iter([*tested, *reversed(held_out)]), None)


def evidence_of_record(record: Record) -> Evidence:
    """Return the numbers that the verdict depends on, from a record of `modgap discrepancy --json`."""
    name = best_estimator({name: one["held_out"] for name, one in record["estimates"].items()})
    estimate = record["estimates"][name] if name else {}
    tested_by = record["permutations_for"]
    null = record["estimates"][tested_by]["held_out_null"] if tested_by else None
    source = record["source"] or ""
    numbers = Evidence(
        source=source,
        target=PurePath(record["target"]).name or record["target"],
        estimator=name,
        in_sample=estimate.get("value"),
        held_out=estimate.get("held_out"),
        interval=known_interval(estimate.get("held_out_interval")),
        n_units=record.get("n_units"),
        in_groups=record["n_groups"] is not None,
        splits=record["splits"],
        n_tested_classes=record["n_tested_classes"],
        n_classes=record["n_target_classes"],
        chance=record["chance"],
        majority=record["prior"],
        control=None if record["control"] is None else _control_evidence(record["control"]),
        is_control=source.startswith(CONTROL_PREFIX),
        is_measured=bool(source) and "logits" not in record.get("provenance", {}),
    )
    if null is None:
        return numbers
    is_soft = tested_by == "soft" and name != "soft"
    return replace(
        numbers,
        p_value=null["p_value"],
        permutations=null["requested"],
        permuted=record["permuted_error"] if is_soft else null["mean"],
        soft=(record["estimates"]["soft"]["held_out"], null["mean"]) if is_soft else None,
        tested_by=None if is_soft or tested_by == name else tested_by,
        is_ordered=record.get("is_ordered", False) and record["permutations_by"] == "shuffle",
    )


def _control_evidence(control: Record) -> ControlEvidence:
    difference = control["difference"]
    values = (difference["value"], known_interval(difference["interval"]), difference["p_value"])
    return ControlEvidence(control["n"], control["held_out"], *values, control.get("smallest_difference"))


def error_name(estimator: str | None) -> str:
    """Return the name of the held-out error that an estimator has."""
    return "soft held-out error" if estimator == "soft" else "held-out error"


def error_sentence(numbers: Evidence) -> str:
    """Return the held-out error with its interval, its classes and the chance level, or why there is none."""
    if numbers.estimator is None:
        return "The target has more classes than the source, so only some of them can be compared at a time."
    if numbers.held_out is None:
        return f"The error on all samples is {numbers.in_sample:.3f}. {_no_test_sentence(numbers)}"
    value = f"{numbers.held_out:.3f}{confidence_interval(numbers.interval, between='-')}"
    name = error_name(numbers.estimator)
    # A soft error is 1 - a probability, and no share of wrong samples.
    chance = "" if _is_soft(numbers) else f"; the chance level is {numbers.chance:.3f}"
    sentence = f"The {name} is {value} over {_classes(numbers)}{chance}."
    if numbers.interval is None and numbers.n_units is not None:
        units = count(numbers.n_units, "group" if numbers.in_groups else "sample")
        are = "is" if numbers.n_units == 1 else "are"
        sentence += f" There is no interval, because {units} {are} too few (at least {MIN_UNITS} are needed)."
    return sentence


def _no_test_sentence(numbers: Evidence) -> str:
    if not numbers.splits:
        return "It is too low, because the map was chosen on the same samples, and no samples were held out (0 splits)."
    if numbers.n_tested_classes < 2:
        return (
            "There is no held-out error, because fewer than two classes have two samples or groups, so this error does "
            "not show what the source knows."
        )
    too_low = "It is too low, because the map was chosen on the same samples."
    return f"{too_low} The estimator {numbers.estimator} has no held-out error."


def _all_tested(numbers: Evidence) -> bool:
    return numbers.n_tested_classes in (0, numbers.n_classes)


def _classes(numbers: Evidence) -> str:
    if _all_tested(numbers):
        return "both classes" if numbers.n_classes == 2 else f"all {numbers.n_classes:,} classes"
    return f"{numbers.n_tested_classes:,} of {numbers.n_classes:,} classes"


def _is_soft(numbers: Evidence) -> bool:
    return numbers.estimator is not None and numbers.estimator.startswith("soft")


def majority_finding(numbers: Evidence) -> Finding:
    """Return whether the held-out error lies below that of always predicting the largest class, beyond its interval.

    It is unknown for a soft error, which has no such baseline.
    """
    if numbers.held_out is None or _is_soft(numbers):
        return Finding("unknown", "")
    level = f"the majority-class baseline ({numbers.majority:.3f})"
    below = numbers.majority - numbers.held_out
    if below <= 0:
        return Finding("no", f"It is not below {level}.")
    if numbers.interval is None:
        return Finding("unknown", f"Without an interval it is not known whether it is below {level}.")
    if numbers.interval[1] >= numbers.majority:
        return Finding("not shown", f"It is not shown to be below {level}, which lies within its interval.")
    return Finding("yes", f"It is {below:.3f} below {level}.")


def labels_finding(numbers: Evidence) -> Finding:
    """Return whether the held-out error is lower than with permuted labels, by the permutation test."""
    if numbers.held_out is None:
        return Finding("unknown", "")
    if numbers.p_value is None:
        return Finding("unknown", "Labels were not permuted, so it is not known whether this could be luck.")
    if numbers.soft:
        real, permuted = numbers.soft
        level = f"With permuted labels it is {numbers.permuted:.3f}, and the" if numbers.permuted is not None else "The"
        text = f"{level} soft error is {permuted:.3f} where the real labels give {real:.3f}"
    else:
        error = "it" if numbers.tested_by is None else f"the {ERROR_NAMES[numbers.tested_by]} error"
        text = f"With permuted labels {error} is {numbers.permuted:.3f}"
    text += f" ({p_value_text(numbers.p_value)})"
    smallest = smallest_p_value(numbers.permutations)
    if numbers.p_value <= SIGNIFICANCE_LEVEL and numbers.is_ordered:
        return Finding(
            "not shown",
            f"{text}, but this p-value is too low, because samples that follow each other are alike. If they are in "
            'the order of time, pass --permutations-by shifts (in Python permutations_by="shifts").',
        )
    if numbers.p_value <= SIGNIFICANCE_LEVEL:
        return Finding("yes", f"{text}.")
    if smallest > SIGNIFICANCE_LEVEL and numbers.p_value <= smallest:
        permutations = count(numbers.permutations, "permutation")
        return Finding(
            "not shown", f"{text}, which is the smallest p-value that {permutations} can give. Use 19 or more."
        )
    return Finding("not shown", f"{text}, which is not significantly different.")


def control_finding(numbers: Evidence) -> Finding:
    """Return whether the held-out error is lower than that of the random-weights controls, and what this shows."""
    control = numbers.control
    if control is None:
        return Finding("unknown", "")
    shown = f"The random-weights control ({_initializations(control.n)}) has {control.held_out:.3f}"
    if control.p_value is None or control.interval is None:
        units = "groups" if numbers.in_groups else "samples"
        return Finding("unknown", f"{shown}; there are too few {units} to compare them (at least {MIN_UNITS}).")
    low, high = control.interval
    interval = f"95 % CI {low:+.3f} to {high:+.3f}; {p_value_text(control.p_value)}"
    shown += f"; the difference is {control.difference:+.3f} ({interval})"
    source = numbers.source or "the source"
    if control.p_value > SIGNIFICANCE_LEVEL:
        smallest = ""
        if control.smallest is not None and control.smallest >= 1:
            smallest = " No difference could have been shown by so few samples and initializations."
        elif control.smallest is not None:
            smallest = f" The smallest difference that could have been shown is {control.smallest:.3f}."
        what = (
            "that pretraining helps"
            if control.n >= ENOUGH_CONTROLS
            else f"that {source} is better than {_these(control.n)}"
        )
        return Finding("not shown", f"{shown}. It is not shown {what}.{smallest}")
    if control.n < ENOUGH_CONTROLS:
        better = "better" if control.difference < 0 else "worse"
        text = f"{shown}, so {source} is {better} than {_these(control.n)}."
        more = (
            f" At least {ENOUGH_CONTROLS} random initializations are needed to show whether pretraining helps "
            f"(--control {ENOUGH_CONTROLS}; in Python control={ENOUGH_CONTROLS})."
        )
        return Finding("few controls" if control.difference < 0 else "no", text + more)
    if control.difference < 0:
        return Finding("yes", f"{shown}, so pretraining helps.")
    return Finding("no", f"{shown}, so random weights are better.")


def _initializations(n: int) -> str:
    return "one random initialization" if n == 1 else f"{n} random initializations"


def _these(n: int) -> str:
    return "this one random initialization" if n == 1 else f"these {n} random initializations"


def verdict(numbers: Evidence) -> Finding:
    """Return what all comparisons together show: the status, its sentence and its title."""
    status = _status(numbers)
    title, sentence = STATUSES[status]
    control = numbers.control
    # The hint says how to compare with random weights, if this was not done and can be.
    hint = f" {CONTROL_HINT if numbers.is_measured else LOGITS_HINT}"
    values = {
        "source": numbers.source or "the source",
        "target": numbers.target if _all_tested(numbers) else f"{_classes(numbers)} of {numbers.target}",
        "classes": "these classes" if _all_tested(numbers) else f"the {_classes(numbers)} that could be tested",
        "error": "" if numbers.held_out is None else f"{numbers.held_out:.3f}",
        "controls": _initializations(control.n) if control else "",
        "control_error": f"{control.held_out:.3f}" if control else "",
        "hint": "" if control is not None or numbers.is_control else hint,
    }
    text = title.format_map(values)
    is_unnamed = not numbers.source and text.startswith("the source")
    return Finding(status, sentence.format_map(values), text[0].upper() + text[1:] if is_unnamed else text)


def _status(numbers: Evidence) -> str:
    """Return the first status that applies."""
    if numbers.estimator is None:
        return "no map"
    if numbers.held_out is None:
        return "no held-out error"
    if numbers.p_value is None:
        return "labels not permuted"
    if labels_finding(numbers).status != "yes":
        return "nothing shown"
    control = control_finding(numbers).status
    is_few = numbers.control is not None and numbers.control.n < ENOUGH_CONTROLS
    if control == "no" and not is_few:
        return "controls are better"
    if majority_finding(numbers).status in ("no", "not shown"):
        return "not better than the majority class"
    if control == "few controls":
        return "better than few controls"
    if control in ("no", "not shown"):
        return "not better than few controls" if is_few else "pretraining not shown"
    return "knows something" if control == "yes" else "carries information"


def answer(numbers: Evidence) -> str:
    """Return all findings in whole sentences, the verdict last."""
    findings = [majority_finding(numbers), labels_finding(numbers), control_finding(numbers), verdict(numbers)]
    return " ".join(filter(None, [error_sentence(numbers), *(one.sentence for one in findings)]))


def classes_title(n_better: int, n_tested: int, n_classes: int, target: str) -> str:
    """Return the title of a figure of classes, by the number of those whose error lies below their baseline.

    Of classes without any signal, about one in forty lies below its baseline by chance.

    Args:
        n_better: Number of classes whose whole 95 % interval lies below the baseline.
        n_tested: Number of classes that were tested.
        n_classes: Number of classes of the target.
        target: Name of the target as shown.
    """
    tested = f"{n_tested:,} classes of {target}"
    if n_tested < n_classes:
        tested = f"{n_tested:,} tested classes (of {n_classes:,}) of {target}"
    by_chance = float(stats.binom.sf(n_better - 1, n_tested, (1 - LEVEL) / 2))
    if by_chance > SIGNIFICANCE_LEVEL:
        return f"It is not shown that the map beats the baseline on any of {tested}"
    return f"The map beats the baseline on {n_better:,} of {tested}"
