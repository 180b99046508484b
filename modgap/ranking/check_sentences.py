"""Sentences of the checks of a ranking, and names and numbers in sentences."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from modgap.formatting import count, format_duration, format_p_value, format_value, visible_name
from modgap.ranking.baseline_checks import CONTROL_AS_GOOD, CONTROL_BETTER, CONTROL_SIMILAR, CONTROL_WORSE
from modgap.ranking.checks import FEW_SAMPLES
from modgap.ranking.verdict import PILOT_NAME

__all__ = [
    "CHECK_TEXTS",
    "CHECK_TITLES",
    "first_place",
    "join_names",
    "score_label",
    "smallest_difference",
    "value_with_interval",
]

SCORE_LABELS = {
    "discrepancy": "discrepancy",
    "knn": "k-NN error",
    "linear-probe": "linear-probe error",
    "leep": "LEEP",
    "leep-held-out": "held-out LEEP",
    "soft": "soft discrepancy",
    "soft-matched": "soft discrepancy at matched entropy",
    "entropy": "entropy",
    "n-leep": "N-LEEP",
    "nce": "NCE",
    "logme": "LogME",
    "h-score": "H-score",
    "gbc": "GBC",
    "parc": "PARC",
    "otdd": "OTDD",
    "transrate": "TransRate",
    "size": "number of parameters",
    "source-error": "error on the source's own data",
    "pilot": "error after a short fine-tuning",
}
"""Names of scores in sentences. Other scores go by the names of the command."""
MAX_NAMES = 4
"""Most names in a list of names."""


def score_label(name: str) -> str:
    """Return the name of a score in sentences and heads."""
    return SCORE_LABELS.get(name, name)


def join_names(names: Sequence[str]) -> str:
    """Return names as `A, B and C`, with the number of further names if there are many."""
    shown = [visible_name(name) for name in names]
    if len(shown) > MAX_NAMES:
        shown = [*shown[: MAX_NAMES - 1], f"{len(shown) - MAX_NAMES + 1} more"]
    return " and ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else shown[0]


def value_with_interval(values: Mapping[str, Any], prefix: str = "") -> str:
    """Return a value, followed by its interval in parentheses if it is known."""
    interval = values[f"{prefix}interval"]
    shown = f" ({_interval(interval)})" if interval else ""
    return f"{format_value(values[f'{prefix}value'])}{shown}"


def _interval(interval: Sequence[float]) -> str:
    return f"{format_value(interval[0])} to {format_value(interval[1])}"


def first_place(values: Mapping[str, Any]) -> str:
    """Return the start of the sentence on the first source: its name, the number of sources and its score."""
    interval = values["interval"]
    shown = f", 95 % CI {_interval(interval)}" if interval else ""
    score = f"{score_label(values['score'])} {format_value(values['value'])}{shown}"
    return f"{visible_name(values['first'])} is first of {values['sources']} ({score})"


def _clear_text(values: Mapping[str, Any]) -> str:
    by = "" if values["score"] == PILOT_NAME else " by this score"
    return f"{first_place(values)} and significantly better than every other source{by}."


def smallest_difference(values: Mapping[str, Any]) -> str:
    """Return the sentence on the smallest difference that could have been shown, after a space; empty if unknown."""
    smallest = values.get("smallest")
    return "" if smallest is None else f" Only a difference of {format_value(smallest)} or more could have been shown."


def _p_text(values: Mapping[str, Any]) -> str:
    """Return the p-value of a comparison with a baseline in parentheses. Empty where it is unknown."""
    p_value, comparisons = values.get("p_value"), values.get("comparisons", 1)
    if p_value is None:
        return ""
    shown = format_p_value(p_value)
    shown = shown.replace("<", "< ") if shown.startswith("<") else f"= {shown}"
    corrected = f", corrected for {comparisons} comparisons" if comparisons > 1 else ""
    return f" (p {shown}{corrected})"


def _control_text(values: Mapping[str, Any]) -> str:
    score = score_label(values["score"])
    control = value_with_interval(values, "control_")
    source = f"{visible_name(values['first'])} has {value_with_interval(values)}{_p_text(values)}"
    if values["result"] == CONTROL_BETTER:
        return f"The same architecture with random weights is significantly better: {score} {control}; {source}."
    if values["result"] == CONTROL_SIMILAR:
        return (
            f"The same architecture with random weights is not significantly different: {score} {control}; {source}."
            f"{smallest_difference(values)}"
        )
    if values["result"] == CONTROL_AS_GOOD:
        return f"The same architecture with random weights is at least as good: {score} {control}; {source}."
    if values["result"] == CONTROL_WORSE:
        return f"The same architecture with random weights is significantly worse: {score} {control}; {source}."
    return (
        f"The same architecture with random weights is worse ({score} {control}; {source}). Without intervals it is "
        "not known whether the difference is significant."
    )


def _controls_above_text(values: Mapping[str, Any]) -> str:
    above = values["above"]
    first = visible_name(values["first"])
    if not above:
        scores = "the score" if values["compared"] == 1 else f"all {values['compared']} scores"
        return f"{first} is above every random-weights control by {scores}."
    shown = "; ".join(
        f"{score_label(one['score'])} ({format_value(one['control_value'])} for {visible_name(one['control'])} and "
        f"{format_value(one['value'])} for {first})"
        for one in above[:MAX_NAMES]
    )
    more = f"; and {len(above) - MAX_NAMES} more" if len(above) > MAX_NAMES else ""
    verb = "rates" if len(above) == 1 else "rate"
    return f"{len(above)} of {values['compared']} scores {verb} a random-weights control above {first}: {shown}{more}."


def _raw_values_text(values: Mapping[str, Any]) -> str:
    if values["score"] == PILOT_NAME:
        return (
            f"Nearest neighbors of the raw values, without any model, have an error of {value_with_interval(values)} "
            f"on the same samples; {visible_name(values['first'])} has {format_value(values['first_value'])}"
            f"{_p_text(values)}.{smallest_difference(values) if values.get('result') == CONTROL_SIMILAR else ''}"
        )
    score = score_label(values["score"])
    best = f"{format_value(values['best_value'])} at best ({visible_name(values['best_source'])})"
    first = f" and {format_value(values['first_value'])} for {visible_name(values['first'])}"
    also = "" if values["first"] == values["best_source"] else first
    return f"Without any model, the {score} is {value_with_interval(values)}. With features it is {best}{also}."


def _majority_text(values: Mapping[str, Any]) -> str:
    return (
        f"The {score_label(values['score'])} of {visible_name(values['first'])} is {value_with_interval(values)}; "
        f"always predicting the largest class gives {format_value(values['baseline'])}."
    )


def _other_controls_text(values: Mapping[str, Any]) -> str:
    similar = values["similar"]
    if not similar:
        return f"The random-weights control is significantly worse by all {values['compared']} other scores."
    shown = "; ".join(
        f"{score_label(one['score'])} {format_value(one['value'])} and {format_value(one['control'])}"
        for one in similar[:MAX_NAMES]
    )
    more = f"; and {len(similar) - MAX_NAMES} more" if len(similar) > MAX_NAMES else ""
    return (
        f"By {len(similar)} of {values['compared']} other scores, {visible_name(values['first'])} is not significantly "
        f"better than its random-weights control: {shown}{more}."
    )


def _other_scores_text(values: Mapping[str, Any]) -> str:
    verb = "puts" if values["agreeing"] == 1 else "put"
    start = f"{values['agreeing']} of {values['compared']} other scores {verb} {visible_name(values['first'])} first."
    others = [f"{score_label(one['score'])} puts {visible_name(one['first'])} first" for one in values["disagreeing"]]
    if not others:
        return start
    more = f"; and {len(others) - MAX_NAMES} more differ" if len(others) > MAX_NAMES else ""
    return f"{start} By contrast, {'; '.join(others[:MAX_NAMES])}{more}."


def _samples_text(values: Mapping[str, Any]) -> str:
    samples = values["samples"]
    if samples < FEW_SAMPLES:
        return f"With {samples:,} samples, only large differences between sources are significant."
    return f"The target has {samples:,} samples."


def _smallest_class_text(values: Mapping[str, Any]) -> str:
    samples = "1 sample" if values["samples"] == 1 else f"{values['samples']} samples"
    return f"The smallest class has {samples}, so results for it are unreliable."


def _groups_text(values: Mapping[str, Any]) -> str:
    return f"The target has {values['groups']} groups. Intervals need at least {values['needed']}."


def _failed_text(values: Mapping[str, Any]) -> str:
    names = values["sources"]
    verb = "has" if len(names) == 1 else "have"
    return f"{join_names(names)} {verb} no value. The reasons are in the table."


def _budget_text(values: Mapping[str, Any]) -> str:
    rounds = values["rounds"]
    start = (
        f"{format_duration(values['seconds'])} of {format_duration(values['budget'])} were spent on "
        f"{count(len(rounds), 'round')}, with {100 * values['work']:.0f} % of the passes of a full ranking."
    )
    sentences = [start, *(_left_out_text(one) for one in rounds if one["left_out"])]
    if values["samples"] < values["all_samples"]:
        sentences.append(
            f"The budget ended at {values['samples']:,} of {values['all_samples']:,} samples, so other scores and "
            "controls were not computed."
        )
    return " ".join(sentences)


def _left_out_text(one: Mapping[str, Any]) -> str:
    names = join_names(one["left_out"])
    start = f"Left out after {one['samples']:,} samples: {names}"
    if one["chance"] is None:
        return f"{start}."
    return (
        f"{start}; of these, {visible_name(one['closest'])} is the most likely to be better than the first "
        f"(probability {one['chance']:.2g} by these samples)."
    )


def _pilot_text(values: Mapping[str, Any]) -> str:
    if not values["sources"]:
        return "None of the first sources could be fine-tuned. The reasons are below."
    tuned = f"{count(values['sources'], 'source')} {'was' if values['sources'] == 1 else 'were'} fine-tuned"
    score = score_label(values["score"])
    sentences = [
        f"{tuned} for {values['epochs']} epochs on {values['trained']:,} samples and judged on {values['judged']:,} "
        "others.",
        f"{visible_name(values['first_by_score'])} is first by {score}.",
    ]
    if trainings := values.get("trainings"):
        sentences.insert(1, f"Each was trained {trainings} times at its best learning rate; {_spread_text(values)}")
    if seconds := values.get("seconds"):
        sentences.append(f"This took {format_duration(seconds)}.")
    if values["sources"] < values.get("of", 0):
        sentences.append(
            f"The order by {score}, which chose these of {values['of']} sources, is not shown to be better than a "
            "fixed list."
        )
    return " ".join(sentences)


def _spread_text(values: Mapping[str, Any]) -> str:
    return (
        f"the standard deviation between these trainings is up to {format_value(values['spread'])}, and is part of all "
        "intervals."
    )


def _evidence_text(values: Mapping[str, Any]) -> str:
    advised = values.get("advised")
    of_first = "" if advised is None else f" {advised:.1f} after one of the first three by TransRate,"
    named = values.get("same_named")
    same = "" if named is None else f" TransRate named the same source on {named} of the targets."
    return (
        f"No score chose significantly better than always naming the same good source in modgap's benchmark "
        f"({values['sources']} sources, {values['targets']} targets). The chosen source was on average "
        f"{values['default_score']:.1f} points of error above the best by TransRate, {values['constant']:.1f} if it "
        f"was always the same, {values['short_fine_tuning']:.1f} after a short fine-tuning of all,"
        f"{of_first} and {values['random_choice']:.1f} with a "
        f"random choice.{same} TransRate told in {values['help_told']} % of the cases "
        f"whether a source or its random-weights control is better; always naming the source is right in "
        f"{values['help_always']} %."
    )


CHECK_TITLES = {
    "other-sources": "Other sources",
    "control": "Random-weights control",
    "controls-above": "Controls above the source",
    "raw-values": "Raw values",
    "majority-class": "Majority-class baseline",
    "control-by-other-scores": "Control by other scores",
    "other-scores": "Other scores",
    "largest-source": "Size",
    "amount-of-data": "Amount of data",
    "groups": "Few groups",
    "smallest-class": "Small class",
    "failed-sources": "Sources without a value",
    "budget": "Budget",
    "pilot": "Short fine-tuning",
    "evidence": "Evidence",
}
CHECK_TEXTS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "other-sources": _clear_text,
    "control": _control_text,
    "controls-above": _controls_above_text,
    "raw-values": _raw_values_text,
    "majority-class": _majority_text,
    "control-by-other-scores": _other_controls_text,
    "other-scores": _other_scores_text,
    "largest-source": lambda values: f"By number of parameters alone, {visible_name(values['source'])} would be first.",
    "amount-of-data": _samples_text,
    "groups": _groups_text,
    "smallest-class": _smallest_class_text,
    "failed-sources": _failed_text,
    "budget": _budget_text,
    "pilot": _pilot_text,
    "evidence": _evidence_text,
}
