"""Summary of the samples that sources are scored on, and the scores of a source without information about them."""

import numpy as np

from modgap.labels.label_space import label_space
from modgap.ranking.source_outputs import CLASSIFICATION, SourceOutputs
from modgap.ranking.types import TargetSummary
from modgap.statistics.splits import testable_samples
from modgap.statistics.units import unit_numbers
from modgap.statistics.weights import choose_weighting, entry_weights


def summarize_target(name: str, outputs: SourceOutputs, weight: str | None, kind: str | None = None) -> TargetSummary:
    """Return the summary of a target's samples.

    Args:
        name: Name of the target.
        outputs: Outputs of any source on the samples.
        weight: What counts equally in an error, which the share of the largest class depends on.
        kind: Kind of the samples, such as `image`. None if it is not known.
    """
    counts = np.bincount(outputs.labels) if outputs.labels.ndim == 1 else outputs.labels.sum(axis=0)
    space = label_space(outputs.labels)
    groups = None if outputs.groups is None else unit_numbers(outputs.groups, len(outputs))
    largest_share = float(counts.max() / len(outputs))
    if outputs.labels.ndim == 1:
        weights = entry_weights(space, groups, choose_weighting(weight, groups))
        largest_share = float(np.bincount(outputs.labels, weights).max())
    # The weight of each class among the samples that held-out errors are computed on.
    tested: np.ndarray = np.zeros(space.n_classes)
    testable = testable_samples(space, groups)
    if len(testable):
        subset, units = space.subset(testable), None if groups is None else groups[testable]
        weights = entry_weights(subset, units, choose_weighting(weight, units))
        tested = np.bincount(subset.labels, weights, minlength=space.n_classes)
    return TargetSummary(
        name=name,
        task=outputs.task,
        samples=len(outputs),
        classes=outputs.n_classes,
        groups=None if outputs.groups is None else len(np.unique(outputs.groups)),
        largest_class_share=largest_share,
        smallest_class_samples=int(counts.min()),
        label_entropy=_entropy(counts) if outputs.labels.ndim == 1 else None,
        tested_classes=int((tested > 0).sum()) or None,
        tested_entropy=_entropy(tested) if outputs.labels.ndim == 1 and tested.any() else None,
        kind=kind,
    )


def _entropy(counts: np.ndarray) -> float:
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())


HELD_OUT_LEEP = "leep-held-out"
LIKELIHOOD_SCORES = ("leep", HELD_OUT_LEEP, "nce", "n-leep")
"""Scores that are mean log-likelihoods of the labels."""


def reference_value(score_name: str, target: TargetSummary | None) -> tuple[str, float] | None:
    """Return the value of a score that a source without any information about the labels has.

    It comes with its name, such as "chance level". None if the score has no such value.

    Args:
        score_name: Name of the score.
        target: Summary of the target's samples. None if no source could be run.
    """
    if target is None or target.task != CLASSIFICATION:
        return None
    entropy = target.tested_entropy if score_name == HELD_OUT_LEEP else target.label_entropy
    if score_name in LIKELIHOOD_SCORES and entropy is not None:
        return "no information", -entropy
    if score_name == "discrepancy":
        return "chance level", 1 - 1 / (target.tested_classes or target.classes)
    if score_name in ("knn", "linear-probe"):
        return "majority class", 1 - target.largest_class_share
    return None
