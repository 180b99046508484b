"""Statistics of probes on test samples: entity F1, and the difference of two error rates on the same samples."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binomtest

from modgap.errors import InputError
from modgap.probes.input_checks import validate_labels
from modgap.statistics.bootstrap import group_numbers, mean_interval

__all__ = ["EntityF1", "PairedDifference", "entity_f1", "paired_difference"]


@dataclass(frozen=True)
class PairedDifference:
    """Difference of the error rates of two probes on the same test samples.

    Attributes:
        value: Error rate of the first probe minus that of the second, in [-1, 1]; negative if the first is better.
        interval: 95 % bootstrap interval of the difference; NaN with fewer than two groups.
        p_value: p-value of the two-sided exact McNemar test of no difference. With groups the test is over groups, each
            counted for the probe that misclassifies more of its samples.
        only_first: Number of samples that only the first probe misclassifies.
        only_second: Number of samples that only the second probe misclassifies.
        samples: Number of test samples.
    """

    value: float
    interval: tuple[float, float]
    p_value: float
    only_first: int
    only_second: int
    samples: int


def paired_difference(
    first_misclassified: ArrayLike,
    second_misclassified: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    seed: int = 0,
) -> PairedDifference:
    """Compare the error rates of two probes, or of two encoders under the same probe, on the same test samples.

    Args:
        first_misclassified: Whether the first probe misclassifies each sample, booleans, shape (n,).
        second_misclassified: Whether the second probe misclassifies each sample, in the same order, shape (n,).
        groups: Record or subject of each sample, shape (n,); None if samples are independent.
        seed: Seed of the bootstrap.

    Raises:
        InputError: When the two are not booleans of the same samples, or there is not one group for each sample.

    Example:
        >>> difference = paired_difference([True] * 8 + [False] * 12, [True] * 2 + [False] * 18)
        >>> difference.value, difference.p_value
        (0.3, 0.03125)
    """
    first = _validate_mask(first_misclassified)
    second = _validate_mask(second_misclassified)
    if len(first) != len(second):
        raise InputError(
            f"The two probes were tested on {len(first)} and {len(second)} samples. "
            "A paired comparison needs the same samples in the same order."
        )
    signs = first.astype(np.int64) - second.astype(np.int64)
    group_sums = np.bincount(group_numbers(groups, len(signs)), signs)
    worse = int((group_sums > 0).sum())
    better = int((group_sums < 0).sum())
    return PairedDifference(
        value=float(signs.mean()),
        interval=mean_interval(signs, groups=groups, seed=seed),
        p_value=float(binomtest(worse, worse + better).pvalue) if worse + better else 1.0,
        only_first=int((signs > 0).sum()),
        only_second=int((signs < 0).sum()),
        samples=len(signs),
    )


def _validate_mask(misclassified: ArrayLike) -> np.ndarray:
    array = np.asarray(misclassified)
    if array.ndim != 1 or array.dtype != bool or not len(array):
        raise InputError(
            f"The mask of misclassified samples has type {array.dtype} and shape {array.shape}. "
            "Expected booleans of shape (n,), with n at least 1."
        )
    return array


@dataclass(frozen=True)
class EntityF1:
    """F1 of words over all classes except the outside class; each sample is one labeled word.

    Attributes:
        value: Micro F1, in [0, 1], higher is better; NaN if no word has such a class or is predicted to have one.
        precision: Share of the words predicted to have a class that do have it; NaN if there are none.
        recall: Share of the words with a class for which it is predicted; NaN if there are none.
    """

    value: float
    precision: float
    recall: float


def entity_f1(predicted: ArrayLike, truth: ArrayLike, outside: int) -> EntityF1:
    """Compute the micro F1 over all classes of words except the outside class.

    An error rate means little where most words are outside. This F1 counts words, not entities of several words.

    Args:
        predicted: Predicted labels, shape (n,).
        truth: True labels, shape (n,).
        outside: Label of words that belong to no class.

    Raises:
        InputError: When labels are not integers, or their numbers differ.

    Example:
        >>> entity_f1([0, 1, 2, 0], [0, 1, 1, 2], outside=0).value
        0.4
    """
    true_labels = validate_labels(truth, np.size(truth), "test")
    predictions = validate_labels(predicted, len(true_labels), "predicted")
    inside = true_labels != outside
    correct = int(((predictions == true_labels) & inside).sum())
    positives = int(inside.sum())
    predicted_positives = int((predictions != outside).sum())
    return EntityF1(
        value=_ratio(2 * correct, positives + predicted_positives),
        precision=_ratio(correct, predicted_positives),
        recall=_ratio(correct, positives),
    )


def _ratio(part: int, total: int) -> float:
    return part / total if total else float("nan")
