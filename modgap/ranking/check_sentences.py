"""Sentences of the checks of a ranking, and names and numbers in sentences."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from modgap.answers import Verdict
from modgap.answers.formatting import format_interval, format_p_value, format_value
from modgap.errors import count, format_duration, visible_name
from modgap.ranking.checks import CONTROL_AS_GOOD, CONTROL_SIMILAR, CONTROL_UNKNOWN, FEW_SAMPLES, Check
from modgap.ranking.scores import PILOT

SCORE_LABELS = {
    "knn": "k-NN error",
    "linear-probe": "linear-probe error",
    "leep": "LEEP",
    "leep-held-out": "held-out LEEP",
    "soft": "soft discrepancy",
    "soft-matched": "soft discrepancy at matched entropy",
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
Values = Mapping[str, Any]
"""Names and numbers of a check."""
CheckTexts = Mapping[str, tuple[str, str | Callable[[Values], str]]]
"""Title of each check, and its sentence: a template, or a function of the values of the check."""


def score_label(name: str) -> str:
    """Return the name of a score in sentences and heads."""
    return SCORE_LABELS.get(name, name)


def join_names(names: Sequence[str], shown_name: Callable[[str], str] = visible_name) -> str:
    """Return names as `A, B and C`, with the number of further names if there are many."""
    shown = [shown_name(name) for name in names]
    if len(shown) > MAX_NAMES:
        shown = [*shown[: MAX_NAMES - 1], f"{len(shown) - MAX_NAMES + 1} more"]
    return " and ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else shown[0]


def texts_of(values: Values) -> dict[str, Any]:
    """Return the values of a check as they are written in a sentence.

    Names are visible, scores have their labels, and values are followed by their interval in parentheses if it is
    known. Numbers of things stay numbers.
    """
    return {name: _text(name, value, values) for name, value in values.items()}


def _text(name: str, value: Any, values: Values) -> Any:
    if name == "score":
        return score_label(value)
    if isinstance(value, str):
        return visible_name(value)
    if name.endswith("value"):
        interval = values.get(f"{name.removesuffix('value')}interval")
        return f"{format_value(value)} ({format_interval(interval, format_value)})" if interval else format_value(value)
    return format_value(value) if isinstance(value, float) else value


def first_place(values: Values) -> str:
    """Return the start of the sentence on the first source: its name, the number of sources and its score."""
    interval = values["interval"]
    shown = f", 95 % CI {format_interval(interval, format_value)}" if interval else ""
    score = f"{score_label(values['score'])} {format_value(values['value'])}{shown}"
    return f"{visible_name(values['first'])} is first of {values['sources']} ({score})"


def smallest_difference(values: Values) -> str:
    """Return the sentence on the smallest difference that could have been shown, after a space; empty if unknown.

    Comparisons that show a difference do not need it.
    """
    smallest = values.get("smallest") if values.get("result", CONTROL_SIMILAR) == CONTROL_SIMILAR else None
    return "" if smallest is None else f" Only a difference of {format_value(smallest)} or more could have been shown."


def _p_text(values: Values) -> str:
    """Return the p-value of a comparison with a baseline in parentheses. Empty where it is unknown."""
    p_value, comparisons = values.get("p_value"), values.get("comparisons", 1)
    if p_value is None:
        return ""
    shown = format_p_value(p_value)
    shown = shown.replace("<", "< ") if shown.startswith("<") else f"= {shown}"
    corrected = f", corrected for {comparisons} comparisons" if comparisons > 1 else ""
    return f" (p {shown}{corrected})"


def _list_first(texts: Sequence[str], more: str = "more") -> str:
    """Return the first of several texts with semicolons between, and the number of the others."""
    others = f"; and {len(texts) - MAX_NAMES} {more}" if len(texts) > MAX_NAMES else ""
    return f"{'; '.join(texts[:MAX_NAMES])}{others}"


def _other_sources(values: Values) -> str:
    by = "" if values["score"] == PILOT.name else " by this score"
    return f"{first_place(values)} and significantly better than every other source{by}."


def _control(values: Values) -> str:
    shown = texts_of(values)
    control = f"{shown['score']} {shown['control_value']}"
    source = f"{shown['first']} has {shown['value']}{_p_text(values)}"
    start = f"The same architecture with random weights is {values['result'].partition(',')[0]}"
    if values["result"] == CONTROL_UNKNOWN:
        return (
            f"{start} ({control}; {source}). Without intervals it is not known whether the difference is significant."
        )
    return f"{start}: {control}; {source}.{smallest_difference(values)}"


def _controls_above(values: Values) -> str:
    above, compared, first = values["above"], values["compared"], visible_name(values["first"])
    if not above:
        scores = "the score" if compared == 1 else f"all {compared} scores"
        return f"No random-weights control is above {first} by {scores}."
    template = "{score} ({control_value} for {control} and {value} for {first})"
    shown = _list_first([template.format(**texts_of(one), first=first) for one in above])
    verb = "rates" if len(above) == 1 else "rate"
    return f"{len(above)} of {compared} scores {verb} a random-weights control above {first}: {shown}."


def _baseline(values: Values) -> str:
    shown = texts_of(values)
    if values["score"] == PILOT.name:
        source = f"on the same samples; {shown['best_source']} has"
    else:
        source = f"in cross-validation; the linear probe of {shown['best_source']} has"
    start = f"The baseline {shown['baseline']}, without any pretrained model, has an error of {shown['value']}"
    unknown = " Without intervals it is not known whether the difference is significant."
    end = unknown if values["result"] in (CONTROL_AS_GOOD, CONTROL_UNKNOWN) else smallest_difference(values)
    return f"{start} {source} {shown['best_value']}{_p_text(values)}.{end}"


def _control_by_other_scores(values: Values) -> str:
    similar = values["similar"]
    if not similar:
        return f"The random-weights control is significantly worse by all {values['compared']} other scores."
    shown = _list_first(["{score} {value} and {control}".format(**texts_of(one)) for one in similar])
    return (
        f"By {len(similar)} of {values['compared']} other scores, {visible_name(values['first'])} is not significantly "
        f"better than its random-weights control: {shown}."
    )


def _other_scores(values: Values) -> str:
    verb = "puts" if values["agreeing"] == 1 else "put"
    start = f"{values['agreeing']} of {values['compared']} other scores {verb} {visible_name(values['first'])} first."
    others = ["{score} puts {first} first".format(**texts_of(one)) for one in values["disagreeing"]]
    return f"{start} By contrast, {_list_first(others, 'more differ')}." if others else start


def _amount_of_data(values: Values) -> str:
    if values["samples"] < FEW_SAMPLES:
        return f"With {values['samples']:,} samples, only large differences between sources are significant."
    return f"The target has {values['samples']:,} samples."


def _failed_sources(values: Values) -> str:
    verb = "has" if len(values["sources"]) == 1 else "have"
    return f"{join_names(values['sources'])} {verb} no value. The reasons are in the table."


def _pilot(values: Values) -> str:
    if not values["sources"]:
        return "None of the first sources could be fine-tuned. The reasons are below."
    score = score_label(values["score"])
    sentences = [
        f"{count(values['sources'], 'source')} {'was' if values['sources'] == 1 else 'were'} fine-tuned for "
        f"{values['epochs']} epochs at three rates on {values['trained']:,} samples and judged on "
        f"{values['judged']:,} others."
    ]
    if (trainings := values.get("trainings", 1)) > 1:
        sentences.append(
            f"Each was trained {trainings} times at its best learning rate; the standard deviation between these "
            f"trainings is up to {format_value(values['spread'])}, and is part of all intervals."
        )
    sentences.append(f"{visible_name(values['first_by_score'])} is first by {score}.")
    if seconds := values["seconds"]:
        sentences.append(f"This took {format_duration(seconds)}.")
    return " ".join(sentences)


def _known_sources(values: Values) -> str:
    """Return the constant answer, what it rests on, and what of it is not on this machine."""
    named = join_names([values["constant_answer"]])
    sentences = [f"The constant answer of this kind, the first known source, is {named}. {values['origin']}"]
    if values["why"]:
        sentences.append(values["why"])
    sentences += [f"{one['source']} is not on this machine: {one['install']}." for one in values["missing"]]
    return " ".join(sentences)


def _evidence(values: Values) -> str:
    shown = {name: f"{value:.1f}" if isinstance(value, float) else value for name, value in values.items()}
    return (
        "No score is shown to choose a better source than the constant answer of the kind. On {targets} targets, of "
        "{sources} sources the chosen one was on average {known} points of error above the best with that answer "
        "(looked at afterwards, each target left out), {pilots} after a short fine-tuning of all, {constant} if it was "
        "always the same, {probe} by linear probes, and {random_choice} with a random choice."
    ).format(**shown)


CHECKS: CheckTexts = {
    "other-sources": ("Other sources", _other_sources),
    "known-sources": ("Known sources", _known_sources),
    "control": ("Random-weights control", _control),
    "controls-above": ("Controls above the source", _controls_above),
    "baseline": ("Baseline of the field", _baseline),
    "majority-class": (
        "Majority-class baseline",
        "The {score} of {first} is {value}; always predicting the largest class gives {baseline}.",
    ),
    "control-by-other-scores": ("Control by other scores", _control_by_other_scores),
    "other-scores": ("Other scores", _other_scores),
    "largest-source": ("Size", "By number of parameters alone, {source} would be first."),
    "amount-of-data": ("Amount of data", _amount_of_data),
    "groups": ("Few groups", "The target has {groups} groups. Intervals need at least {needed}."),
    "smallest-class": (
        "Small class",
        lambda one: f"The smallest class has {count(one['samples'], 'sample')}, so results for it are unreliable.",
    ),
    "failed-sources": ("Sources without a value", _failed_sources),
    "pilot": ("Short fine-tuning", _pilot),
    "evidence": ("Evidence", _evidence),
}


def check_verdict(check: Check, texts: CheckTexts = CHECKS) -> Verdict:
    """Return a check with its title, and with its numbers in its sentence."""
    title, sentence = texts[check.id]
    shown = sentence.format(**texts_of(check.values)) if isinstance(sentence, str) else sentence(check.values)
    return Verdict(title, "", check.status, shown)
