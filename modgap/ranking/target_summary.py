"""Summary of the samples that sources are scored on."""

import numpy as np

from modgap.label_space import label_space
from modgap.ranking.source_outputs import SourceOutputs
from modgap.ranking.types import TargetSummary
from modgap.statistics.bootstrap import group_numbers
from modgap.statistics.weights import choose_weighting, entry_weights

__all__ = ["summarize_target"]


def summarize_target(name: str, outputs: SourceOutputs, weight: str | None) -> TargetSummary:
    """Return the summary of a target's samples.

    Args:
        name: Name of the target.
        outputs: Outputs of any source on the samples.
        weight: What counts equally in an error, which the share of the largest class depends on.
    """
    counts = np.bincount(outputs.labels) if outputs.labels.ndim == 1 else outputs.labels.sum(axis=0)
    return TargetSummary(
        name=name,
        task=outputs.task,
        samples=len(outputs),
        classes=outputs.n_classes,
        groups=None if outputs.groups is None else len(np.unique(outputs.groups)),
        largest_class_share=_largest_class_share(outputs, weight),
        smallest_class_samples=int(counts.min()),
        label_entropy=_entropy(counts) if outputs.labels.ndim == 1 else None,
    )


def _largest_class_share(outputs: SourceOutputs, weight: str | None) -> float:
    if outputs.labels.ndim > 1:
        return float(outputs.labels.sum(axis=0).max() / len(outputs))
    groups = None if outputs.groups is None else group_numbers(outputs.groups, len(outputs))
    weights = entry_weights(label_space(outputs.labels), groups, choose_weighting(weight, groups))
    return float(np.bincount(outputs.labels, weights).max())


def _entropy(counts: np.ndarray) -> float:
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())
