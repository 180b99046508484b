"""Value of a score that a source without any information about the labels has."""

from dataclasses import dataclass

from modgap.ranking.score import CLASSIFICATION
from modgap.ranking.types import TargetSummary

__all__ = ["ReferenceValue", "reference_value"]

HELD_OUT_LEEP = "leep-held-out"
LIKELIHOOD_SCORES = ("leep", HELD_OUT_LEEP, "nce", "n-leep")
"""Scores that are mean log-likelihoods of the labels."""


@dataclass(frozen=True)
class ReferenceValue:
    """Value of a score that a source without any information about the labels has.

    Attributes:
        label: Name of the value, such as "chance level".
        value: The value, in the unit of the score.
    """

    label: str
    value: float


def reference_value(score_name: str, target: TargetSummary | None) -> ReferenceValue | None:
    """Return the reference value of a score on a target. None if the score has no such value.

    Args:
        score_name: Name of the score.
        target: Summary of the target's samples. None if no source could be run.
    """
    if target is None or target.task != CLASSIFICATION:
        return None
    entropy = target.tested_entropy if score_name == HELD_OUT_LEEP else target.label_entropy
    if score_name in LIKELIHOOD_SCORES and entropy is not None:
        return ReferenceValue("no information", -entropy)
    if score_name == "discrepancy":
        return ReferenceValue("chance level", 1 - 1 / (target.tested_classes or target.classes))
    if score_name in ("knn", "linear-probe"):
        return ReferenceValue("majority class", 1 - target.largest_class_share)
    return None
