"""Short definitions of a ranking's terms, with the numbers of the run."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from modgap.formatting import format_value
from modgap.ranking.types import RAW_VALUES
from modgap.report_page.rendering import capitalize

__all__ = ["decided_by", "definitions", "has_intervals", "interval_note"]

LIKELIHOOD_SCORES = {
    "leep": "the mean log probability that the source's own class predictions give to the correct target label",
    "leep-held-out": "the mean log probability that the source's class predictions give to the correct target label, "
    "with class probabilities that were fitted on other samples",
    "nce": "the mean log probability of the target label given the source's predicted class",
    "n-leep": "the mean log probability that clusters of the source's features give to the correct target label",
}


def decided_by(record: Mapping[str, Any]) -> str:
    """Return the name of the score that decides, or `pilot`; records of earlier versions have the score alone.

    Args:
        record: Record of a ranking.
    """
    name: str = record.get("decided_by", record["by"])
    return name


def definitions(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the title and the text of each definition that the page needs.

    Args:
        record: Record of a ranking.
    """
    return list(_definitions(record))


def _definitions(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    descriptions = record["score_descriptions"]
    by = decided_by(record)
    if by in descriptions:
        yield f"{capitalize(descriptions[by]['label'])}, which decides the ranking", _deciding_score(record)
    if has_intervals(record):
        yield "Interval and letters", interval_note(record)
    if any(row["control_of"] for row in record["sources"]):
        yield (
            "Random-weights control",
            "This is the same architecture without pretraining. If it does as well as the source, pretraining does not "
            "help on this target by this score.",
        )
    if any(row["kind"] == RAW_VALUES for row in record["sources"]):
        yield (
            "Raw values",
            "These are the samples as they are, without a model. If they do as well as the features, a small model "
            "trained from scratch may do as well as a transfer.",
        )
    for name in ("discrepancy", "knn"):
        if name in descriptions and name != by:
            yield capitalize(descriptions[name]["label"]), _describe(name, descriptions[name])


def has_intervals(record: Mapping[str, Any]) -> bool:
    """Return True if any source has an interval by the score that decides."""
    by = decided_by(record)
    intervals = [row["scores"][by]["interval"] for row in record["sources"] if by in row["scores"]]
    return any(end is not None for interval in intervals for end in interval)


def interval_note(record: Mapping[str, Any]) -> str:
    """Return how intervals and letters were computed for the score that the sources are ranked by.

    Args:
        record: Record of a ranking.
    """
    if not has_intervals(record):
        return "No intervals were computed."
    request = record["request"]
    if record["score_descriptions"][decided_by(record)]["by_sample"]:
        origin = "from the errors of the samples, which are paired between sources"
    else:
        origin = f"from {request['resamples']} random subsamples of nine tenths of the samples"
    return (
        f"The lines are 95 % intervals {origin}. Two sources share a letter if they are not significantly different at "
        "the 95 % level, corrected for the number of all pairs (Holm)."
    )


def _deciding_score(record: Mapping[str, Any]) -> str:
    name = decided_by(record)
    description = record["score_descriptions"][name]
    if name not in LIKELIHOOD_SCORES:
        return _describe(name, description)
    text = f"{capitalize(description['label'])} is {LIKELIHOOD_SCORES[name]}. 0 is perfect."
    reference = description["reference"]
    first = next((row["scores"][name]["value"] for row in record["sources"] if row["rank"] == 1), None)
    if reference is None or first is None:
        return text
    return (
        f"{text} {format_value(reference['value'])} means that the predictions say nothing about the labels. Here "
        f"{format_value(first)} is a probability of {format_value(math.exp(first))} for the correct class (geometric "
        f"mean), and no information is {format_value(math.exp(reference['value']))}."
    )


def _describe(name: str, description: Mapping[str, Any]) -> str:
    reference = description["reference"]
    level = format_value(reference["value"]) if reference else ""
    if name == "discrepancy":
        chance = f" The chance level is {level}." if reference else ""
        return (
            "This is the error rate of the best one-to-one map from target classes to source classes, on samples that "
            f"were not used to choose the map.{chance} With permuted labels the same search shows how low the error "
            "gets by luck."
        )
    if name in ("soft", "soft-matched"):
        temperature = " The temperature is chosen so that all sources are equally confident." if name != "soft" else ""
        return (
            "This is the probability that the source does not give to the class of the best one-to-one map, on samples "
            f"that were not used to choose the map.{temperature} Most of it is the confidence of the source, so it is "
            "not an error rate and the chance level is not its baseline."
        )
    if name == "knn":
        majority = f" Always predicting the largest class has an error of {level}." if reference else ""
        return (
            f"This is the cross-validated error rate of the five nearest neighbors in the source's features.{majority}"
        )
    direction = "Higher" if description["higher_is_better"] else "Lower"
    unit = f" ({description['unit']})" if description["unit"] else ""
    title = str(description["title"]).rstrip(".")
    return f"{title}{unit}. {direction} is better."
