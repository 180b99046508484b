"""Short definitions of a ranking's terms, with the numbers of the run."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from modgap.formatting import format_value
from modgap.ranking.types import RAW_VALUES

__all__ = ["definitions"]

LIKELIHOOD_SCORES = {
    "leep": "the mean log probability that the source's own class predictions give to the correct target label",
    "nce": "the mean log probability of the target label given the source's predicted class",
    "n-leep": "the mean log probability that clusters of the source's features give to the correct target label",
}


def definitions(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the title and the text of each definition that the page needs.

    Args:
        record: Record of a ranking.
    """
    return list(_definitions(record))


def _definitions(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    descriptions = record["score_descriptions"]
    by = record["by"]
    if by in descriptions:
        yield f"{descriptions[by]['label']}, the score that decides", _deciding_score(record)
    resamples = record["request"]["resamples"]
    if resamples:
        yield (
            "Interval and letters",
            f"The lines are 95 % intervals, estimated from {resamples} random halves of the samples. Two sources share "
            "a letter if they are not significantly different at the 95 % level.",
        )
    if any(row["control_of"] for row in record["sources"]):
        yield (
            "Random-weights control",
            "This is the same architecture without pretraining. If it does as well as the source, the pretraining does "
            "not help on this target.",
        )
    if any(row["kind"] == RAW_VALUES for row in record["sources"]):
        yield (
            "Raw values",
            "These are the samples as they are, without a model. If they do as well as the features, a small model "
            "trained from scratch may do as well as a transfer.",
        )
    for name in ("discrepancy", "knn"):
        if name in descriptions and name != by:
            yield _capitalize(descriptions[name]["label"]), _describe(name, descriptions[name])


def _capitalize(text: str) -> str:
    return text if text.startswith("k-") else text[:1].upper() + text[1:]


def _deciding_score(record: Mapping[str, Any]) -> str:
    name = record["by"]
    description = record["score_descriptions"][name]
    if name not in LIKELIHOOD_SCORES:
        return _describe(name, description)
    text = f"{description['label']} is {LIKELIHOOD_SCORES[name]}. 0 is perfect."
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
    if name == "knn":
        majority = f" Always predicting the largest class has an error of {level}." if reference else ""
        return f"This is the error rate of the nearest neighbors in the source's features.{majority}"
    direction = "Higher" if description["higher_is_better"] else "Lower"
    unit = f" ({description['unit']})" if description["unit"] else ""
    title = str(description["title"]).rstrip(".")
    return f"{title}{unit}. {direction} is better."
