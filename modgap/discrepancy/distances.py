"""Distances d between P(Y_source restricted to the chosen classes | x) and P(Y_target | x), at a given map."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import log_softmax, rel_entr

from modgap.errors import UsageError, unknown_name
from modgap.label_space import LabelSpace, label_space

__all__ = ["MEASURES", "map_discrepancy", "validate_measures"]

ROWS_AT_A_TIME = 4096


def _total_variation(target: np.ndarray, log_source: np.ndarray) -> np.ndarray:
    return np.abs(target - np.exp(log_source)).sum(axis=1) / 2


def _kl(target: np.ndarray, log_source: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(target > 0, target * (np.log(target) - log_source), 0.0).sum(axis=1)


def _jensen_shannon(target: np.ndarray, log_source: np.ndarray) -> np.ndarray:
    source = np.exp(log_source)
    middle = (target + source) / 2
    return (rel_entr(target, middle) + rel_entr(source, middle)).sum(axis=1) / 2


def _hellinger(target: np.ndarray, log_source: np.ndarray) -> np.ndarray:
    return np.sqrt(np.maximum(0.0, 1 - np.sqrt(target * np.exp(log_source)).sum(axis=1)))


def _brier(target: np.ndarray, log_source: np.ndarray) -> np.ndarray:
    return ((target - np.exp(log_source)) ** 2).sum(axis=1)


MEASURES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "brier": _brier,
    "hellinger": _hellinger,
    "jensen-shannon": _jensen_shannon,
    "kl": _kl,
    "total-variation": _total_variation,
}


def map_discrepancy(
    logits: np.ndarray,
    labels: ArrayLike | LabelSpace,
    source_classes: ArrayLike,
    measure: str,
    *,
    temperature: float = 1.0,
    sample_weights: np.ndarray | None = None,
) -> float:
    """Mean distance between the source's restricted softmax and the target's labels under one map.

    The softmax is taken over the K chosen source classes only, of logits / temperature. Lower is nearer.

    Args:
        logits: Source logits (N, C).
        labels: Integer labels (N,), 0/1 labels (N, K), or a label space.
        source_classes: Source class of each target class, shape (K,).
        measure: `total-variation` in [0, 1]; `kl`, the divergence of the source from the target in nats,
            [0, inf); `jensen-shannon` in nats, [0, ln 2]; `hellinger` in [0, 1]; `brier` in [0, 2].
        temperature: Positive.
        sample_weights: What each labeled sample counts, shape (N,); None for 1 each.

    Raises:
        UsageError: When there is no such measure, or the temperature is not positive.

    References:
        Definition 2.1 of MoNA (ICML 2024), which leaves d open.

    Example:
        >>> logits = np.log(np.array([[0.6, 0.3, 0.1], [0.1, 0.8, 0.1]]))
        >>> round(map_discrepancy(logits, [0, 1], [0, 2], "total-variation"), 4)
        0.3214
    """
    validate_measures([measure], temperature)
    space = labels if isinstance(labels, LabelSpace) else label_space(labels)
    chosen = np.asarray(source_classes)
    terms = np.empty(len(space))
    for first in range(0, len(space), ROWS_AT_A_TIME):
        members = np.arange(first, min(first + ROWS_AT_A_TIME, len(space)))
        picked = np.asarray(logits[space.rows[members]][:, chosen], dtype=np.float64)
        terms[members] = MEASURES[measure](space.shares_of(members), log_softmax(picked / temperature, axis=1))
    return float(np.average(terms, weights=sample_weights))


def validate_measures(measures: Sequence[str], temperature: float) -> None:
    """Refuse unknown measures and temperatures that are not positive.

    Raises:
        UsageError: With the nearest names.
    """
    for measure in measures:
        if measure not in MEASURES:
            raise unknown_name("measure", measure, MEASURES)
    if not temperature > 0:
        raise UsageError(f"expected a temperature above 0, got {temperature}")
