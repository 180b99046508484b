"""Page of a discrepancy: how far a source's knowledge is from a target."""

from collections.abc import Mapping
from typing import Any

from modgap.discrepancy.answer import answer_of_record
from modgap.formatting import format_error
from modgap.report_page.rendering import render_answer

__all__ = ["render_discrepancy"]


def render_discrepancy(record: Mapping[str, Any], record_name: str = "result.json") -> str:
    """Render the page of a discrepancy.

    Args:
        record: Record that `modgap discrepancy --json` prints.
        record_name: Name of the file that the record comes from.

    Returns:
        The HTML text. It loads nothing from outside.
    """
    summary = f"{len(record['estimates'])} estimators, {sum(record['seconds'].values()):.1f} s"
    return render_answer(record, record_name, answer_of_record, _definitions(record), summary, _settings(record))


def _definitions(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        (
            "Discrepancy",
            "This is the error rate of the best one-to-one map from target classes to source classes. 0 means that the "
            "source's classes separate the target's classes perfectly.",
        ),
        (
            "Held-out error",
            "The map is fitted on a part of the samples and tested on the others, over repeated splits. This is the "
            "value to compare by. Values are comparable only if the maps are fitted on as many samples a class.",
        ),
        (
            "Permuted labels",
            "The same estimate with permuted labels shows what a source without knowledge gets. The soft error is the "
            "probability that the source does not give to the class of the map.",
        ),
        (
            "Chance level and majority class",
            f"A random map has an expected error of {format_error(record['chance'])}. Always predicting the largest "
            f"class has an error of {format_error(record['prior'])}.",
        ),
    ]


def _settings(record: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [
        ("Source", record["source"] or "a file of logits"),
        ("Target", record["target"]),
        ("Estimators", list(record["estimates"])),
        ("Seed", record["seed"]),
        ("Seconds", {name: round(value, 1) for name, value in record["seconds"].items()}),
    ]
