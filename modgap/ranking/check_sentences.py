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
    "forecast": "expected error",
    "chance": "probability of being best",
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


def _budget(values: Values) -> str:
    rounds = values["rounds"]
    start = (
        f"{format_duration(values['seconds'])} of {format_duration(values['budget'])} were spent on "
        f"{count(len(rounds), 'round')}, with {100 * values['work']:.0f} % of the passes of a full ranking."
    )
    sentences = [start, *(_left_out(one) for one in rounds if one["left_out"])]
    if values["samples"] < values["all_samples"]:
        sentences.append(
            f"The budget ended at {values['samples']:,} of {values['all_samples']:,} samples, so other scores and "
            "controls were not computed."
        )
    return " ".join(sentences)


def _left_out(one: Values) -> str:
    start = f"Left out after {one['samples']:,} samples: {join_names(one['left_out'])}"
    if one["chance"] is None:
        return f"{start}."
    return (
        f"{start}; of these, {visible_name(one['closest'])} is the most likely to be better than the first "
        f"(probability {one['chance']:.2g} by these samples)."
    )


def _pilot(values: Values) -> str:
    if not values["sources"]:
        return "None of the first sources could be fine-tuned. The reasons are below."
    score = score_label(values["score"])
    sentences = [
        f"{count(values['sources'], 'source')} {'was' if values['sources'] == 1 else 'were'} fine-tuned for "
        f"{_epochs(values['epochs'], values['rates'])} on {values['trained']:,} samples and judged on "
        f"{values['judged']:,} others."
    ]
    if values["other_sources"]:
        verb = "was" if values["other_sources"] == 1 else "were"
        epochs = _epochs(values["other_epochs"], values["other_rates"])
        sentences.append(f"{count(values['other_sources'], 'source')} {verb} also fine-tuned for {epochs}.")
    if (minutes := values["minutes"]) and values["untried"]:
        limit = format_duration(60 * minutes)
        sentences.append(f"The limit of {limit} left no time for {count(values['untried'], 'other source')}.")
    if (trainings := values.get("trainings", 1)) > 1:
        sentences.append(
            f"Each was trained {trainings} times at its best learning rate; the standard deviation between these "
            f"trainings is up to {format_value(values['spread'])}, and is part of all intervals."
        )
    if not values["by_history"]:
        sentences.append(f"{visible_name(values['first_by_score'])} is first by {score}.")
    if seconds := values["seconds"]:
        sentences.append(f"This took {format_duration(seconds)}.")
    if values["sources"] < values["of"] and not values["by_history"]:
        sentences.append(
            f"The order by {score}, which chose these of {values['of']} sources, is not shown to be better than a "
            "fixed list."
        )
    if values["rates"] == 1 and not values["by_history"]:
        sentences.append("Without a history, errors after few epochs choose no better than a fixed list.")
    return " ".join(sentences)


def _epochs(epochs: int, rates: int) -> str:
    return f"{epochs} epochs at three rates" if rates > 1 else count(epochs, "epoch")


def uncounted_pilots(names: Sequence[str]) -> str:
    """Return the sentence on pilots that no earlier target has, by the names of their errors; empty without any.

    Example:
        >>> uncounted_pilots(["pilot-3", "pilot-rates"])
        'Pilots of 3 epochs and ten epochs at three rates do not count, since none of the earlier targets has them.'
    """
    if not names:
        return ""
    epochs = [name.removeprefix("pilot-") for name in names]
    kinds = [count(int(one), "epoch") if one.isdecimal() else "ten epochs at three rates" for one in epochs]
    return f"Pilots of {join_names(kinds)} do not count, since none of the earlier targets has them."


def format_chance(chance: float) -> str:
    """Return a probability as a percentage.

    Example:
        >>> format_chance(0.004), format_chance(0.423), format_chance(0.9996)
        ('less than 1 %', '42 %', 'more than 99 %')
    """
    if chance < 0.01:
        return "less than 1 %"
    return "more than 99 %" if chance > 0.99 else f"{100 * chance:.0f} %"


def _history(values: Values) -> str:
    """Return what the history is, and where it may tell less."""
    with_error = "all" if values["known"] == values["sources"] else f"{values['known']} of"
    sentences = [
        f"Errors of {with_error} {count(values['sources'], 'source')} on {count(values['targets'], 'earlier target')} "
        f"are known.",
        *_constant_answer(values),
    ]
    if values["status"] == "too-short":
        before, pilots = (
            join_names([values[name]] if values[name] else ["none"]) for name in ("before", "first_of_pilots")
        )
        decides = "the pilots at three rates decide" if values["pilots_decide"] else "the earlier targets alone decide"
        sentences.append(
            f"That is too few to combine them with pilots, so {decides}. The earlier targets name {before}, and "
            f"the pilots {pilots}."
        )
    if values["status"] == "other-setup":
        sentences.append(
            "They were measured with other numbers of labeled samples, epochs or rates, so that they tell an order "
            "and no expected error."
        )
    if values["kind"] and not values["kind_is_known"]:
        sentences.append(f"None of these targets has samples of the kind {values['kind']}, so they may tell less.")
    if values["left_out"]:
        names = join_names(values["left_out"])
        reason = "is left out, since it shares" if len(values["left_out"]) == 1 else "are left out, since they share"
        sentences.append(f"{names} {reason} samples with this target.")
    n_more, seconds = values["more"]
    if values.get("unknown"):
        verb, names = "has" if len(values["unknown"]) == 1 else "have", join_names(values["unknown"])
        sentences.append(f"{names} {verb} no errors on earlier targets; `modgap history build` measures them.")
    if n_more:
        sentences.append(
            f"Ten epochs at three rates of {count(n_more, 'source')} that may be the best would take about "
            f"{format_duration(seconds)} more. In replays they narrowed intervals, and chose no better."
        )
    return " ".join(sentences)


def _constant_answer(values: Values) -> list[str]:
    """Return the sentence of the source that is named without a look at the target; none without a history."""
    if not values.get("constant_answer"):
        return []
    named = join_names([values["constant_answer"]])
    return [f"The constant answer, the source that was best on earlier targets beside the others on each, is {named}."]


def _evidence(values: Values) -> str:
    finding = (
        f"No score chose significantly better than always naming the same good source in modgap's benchmark "
        f"({values['sources']} sources, {values['targets']} targets). The chosen source was on average "
        f"{values['default_score']:.1f} points of error above the best by TransRate, {values['constant']:.1f} if it "
        f"was always the same, {values['short_fine_tuning']:.1f} after a short fine-tuning of all, "
        f"{values['advised']:.1f} after one of the first three by TransRate, and {values['random_choice']:.1f} with a "
        f"random choice. TransRate named the same source on {values['same_named']} of the targets. "
        f"TransRate told in {values['help_told']} % of the cases whether a source or its random-weights control is "
        f"better; always naming the source is right in {values['help_always']} %."
    )
    return " ".join([*_constant_answer(values), finding])


CHECKS: CheckTexts = {
    "other-sources": ("Other sources", _other_sources),
    "history": ("Earlier targets", _history),
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
    "budget": ("Budget", _budget),
    "pilot": ("Short fine-tuning", _pilot),
    "evidence": ("Evidence", _evidence),
}


def check_verdict(check: Check, texts: CheckTexts = CHECKS) -> Verdict:
    """Return a check with its title, and with its numbers in its sentence."""
    title, sentence = texts[check.id]
    shown = sentence.format(**texts_of(check.values)) if isinstance(sentence, str) else sentence(check.values)
    return Verdict(title, "", check.status, shown)
