"""Summary of the samples that sources are scored on."""

import numpy as np

from modgap.label_space import label_space
from modgap.ranking.source_outputs import SourceOutputs
from modgap.ranking.types import TargetSummary
from modgap.statistics.bootstrap import group_numbers
from modgap.statistics.splits import testable_samples
from modgap.statistics.weights import choose_weighting, entry_weights

__all__ = ["summarize_target"]


def summarize_target(name: str, outputs: SourceOutputs, weight: str | None, kind: str | None = None) -> TargetSummary:
    """Return the summary of a target's samples.

    Args:
        name: Name of the target.
        outputs: Outputs of any source on the samples.
        weight: What counts equally in an error, which the share of the largest class depends on.
        kind: Kind of the samples, such as `image`. None if it is not known.
    """
    counts = np.bincount(outputs.labels) if outputs.labels.ndim == 1 else outputs.labels.sum(axis=0)
    tested = _tested_weights(outputs, weight)
    return TargetSummary(
        name=name,
        task=outputs.task,
        samples=len(outputs),
        classes=outputs.n_classes,
        groups=None if outputs.groups is None else len(np.unique(outputs.groups)),
        largest_class_share=_largest_class_share(outputs, weight),
        smallest_class_samples=int(counts.min()),
        label_entropy=_entropy(counts) if outputs.labels.ndim == 1 else None,
        tested_classes=int((tested > 0).sum()) or None,
        tested_entropy=_entropy(tested) if outputs.labels.ndim == 1 and tested.any() else None,
        kind=kind,
    )


def _tested_weights(outputs: SourceOutputs, weight: str | None) -> np.ndarray:
    """Return the weight of each class (K,) among the samples that held-out errors are computed on."""
    groups = None if outputs.groups is None else group_numbers(outputs.groups, len(outputs))
    space = label_space(outputs.labels)
    kept = testable_samples(space, groups)
    if not len(kept):
        return np.zeros(space.n_classes)
    tested = space.subset(kept)
    groups = None if groups is None else groups[kept]
    weights = entry_weights(tested, groups, choose_weighting(weight, groups))
    return np.bincount(tested.labels, weights, minlength=space.n_classes)


def _largest_class_share(outputs: SourceOutputs, weight: str | None) -> float:
    if outputs.labels.ndim > 1:
        return float(outputs.labels.sum(axis=0).max() / len(outputs))
    groups = None if outputs.groups is None else group_numbers(outputs.groups, len(outputs))
    weights = entry_weights(label_space(outputs.labels), groups, choose_weighting(weight, groups))
    return float(np.bincount(outputs.labels, weights).max())


def _entropy(counts: np.ndarray) -> float:
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())
