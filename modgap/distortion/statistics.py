"""Scores of a probe on test samples: entity F1, two probes on the same samples."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binomtest

from modgap.bootstrap import group_numbers, mean_interval
from modgap.distortion.input_checks import checked_labels
from modgap.errors import InputError

__all__ = ["EntityF1", "PairedDifference", "entity_f1", "paired_difference"]


def _checked_wrong(wrong: ArrayLike) -> np.ndarray:
    array = np.asarray(wrong)
    if array.ndim != 1 or array.dtype != bool or not len(array):
        raise InputError(
            f"expected for at least one test sample whether it was got wrong, booleans (n,), got {array.dtype} "
            f"{array.shape}"
        )
    return array


@dataclass(frozen=True)
class PairedDifference:
    """Error rates of two probes on the same test samples.

    Attributes:
        value: Error of the first minus error of the second, in [-1, 1]; negative where the first is better.
        interval: 95 % bootstrap interval of it; NaN with fewer than two groups.
        p_value: Two-sided exact McNemar test of no difference; over groups, where given, each counted for the probe
            that got more of it wrong.
        only_first: Samples that only the first got wrong.
        only_second: Samples that only the second got wrong.
        samples: Test samples.
    """

    value: float
    interval: tuple[float, float]
    p_value: float
    only_first: int
    only_second: int
    samples: int


def paired_difference(
    wrong_first: ArrayLike, wrong_second: ArrayLike, groups: ArrayLike | None = None, *, seed: int = 0
) -> PairedDifference:
    """Whether one probe, or one encoder under the same probe, errs more than another on the same test samples.

    Args:
        wrong_first: Whether the first got each sample wrong, booleans (n,).
        wrong_second: The same of the second, in the same order.
        groups: Record or subject of each sample, shape (n,); None where each is its own.
        seed: Of the bootstrap.

    Raises:
        InputError: When the two are not of the same samples, or groups do not fit.

    Example:
        >>> difference = paired_difference([True] * 8 + [False] * 12, [True] * 2 + [False] * 18)
        >>> difference.value, difference.p_value
        (0.3, 0.03125)
    """
    first, second = _checked_wrong(wrong_first), _checked_wrong(wrong_second)
    if len(first) != len(second):
        raise InputError(
            f"expected both probes on the same test samples, got {len(first)} and {len(second)}; a paired comparison "
            "needs the same samples in the same order"
        )
    signs = first.astype(np.int64) - second.astype(np.int64)
    by_group = np.bincount(group_numbers(groups, len(signs)), signs)
    more, less = int((by_group > 0).sum()), int((by_group < 0).sum())
    return PairedDifference(
        value=float(signs.mean()),
        interval=mean_interval(signs, groups=groups, seed=seed),
        p_value=float(binomtest(more, more + less).pvalue) if more + less else 1.0,
        only_first=int((signs > 0).sum()),
        only_second=int((signs < 0).sum()),
        samples=len(signs),
    )


@dataclass(frozen=True)
class EntityF1:
    """How well the samples that are not outside were found, each sample one labeled word.

    Attributes:
        value: Micro F1 over all classes but the outside one, in [0, 1], higher is better; NaN where no such class was
            there or predicted.
        precision: Of the words said to be of a class, the share that is; NaN where there are none.
        recall: Of the words of a class, the share found; NaN where there are none.
    """

    value: float
    precision: float
    recall: float


def entity_f1(predicted: ArrayLike, truth: ArrayLike, outside: int) -> EntityF1:
    """Micro F1 over the classes of words, the outside one left out: an error rate says little where most are outside.

    It counts words, not whole entities of several words.

    Args:
        predicted: Predicted labels (n,).
        truth: True labels (n,).
        outside: The label of words of no class.

    Raises:
        InputError: When labels are no integers or not equally many.

    Example:
        >>> entity_f1([0, 1, 2, 0], [0, 1, 1, 2], outside=0).value
        0.4
    """
    real = checked_labels(truth, np.size(truth), "test")
    said = checked_labels(predicted, len(real), "predicted")
    inside = real != outside
    found, positive, claimed = int(((said == real) & inside).sum()), int(inside.sum()), int((said != outside).sum())
    return EntityF1(_share(2 * found, positive + claimed), _share(found, claimed), _share(found, positive))


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
