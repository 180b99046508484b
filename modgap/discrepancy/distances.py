"""Distances d between P(Y_source restricted to the chosen classes | x) and P(Y_target | x) under one map."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import log_softmax, rel_entr

from modgap.errors import UsageError, unknown_name
from modgap.labels.label_space import LabelSpace, label_space

ROWS_AT_A_TIME = 4096


def _kl(target: np.ndarray, log_source: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(target > 0, target * (np.log(target) - log_source), 0.0).sum(axis=1))


def _jensen_shannon(target: np.ndarray, log_source: np.ndarray) -> np.ndarray:
    source = np.exp(log_source)
    middle = (target + source) / 2
    return np.asarray((rel_entr(target, middle) + rel_entr(source, middle)).sum(axis=1) / 2)


MEASURES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "brier": lambda target, log_source: ((target - np.exp(log_source)) ** 2).sum(axis=1),
    "hellinger": lambda target, log_source: np.sqrt(
        np.maximum(0.0, 1 - np.sqrt(target * np.exp(log_source)).sum(axis=1))
    ),
    "jensen-shannon": _jensen_shannon,
    "kl": _kl,
    "total-variation": lambda target, log_source: np.abs(target - np.exp(log_source)).sum(axis=1) / 2,
}
"""Distances of each sample by name, of the target's probabilities (N, K) and the source's log-probabilities (N, K)."""


def map_discrepancy(
    logits: np.ndarray,
    labels: ArrayLike | LabelSpace,
    source_classes: ArrayLike,
    measure: str,
    *,
    temperature: float = 1.0,
    sample_weights: np.ndarray | None = None,
) -> float:
    """Compute the mean distance between the source's restricted softmax and the target's labels under one map.

    The softmax is taken over the K chosen source classes only, of logits / temperature. Lower is nearer.

    Args:
        logits: Source logits, shape (N, C).
        labels: Integer labels (N,), 0/1 labels (N, K), or a label space.
        source_classes: Source class of each target class, shape (K,).
        measure: `total-variation` in [0, 1]; `kl`, the divergence of the source from the target in nats,
            [0, inf); `jensen-shannon` in nats, [0, ln 2]; `hellinger` in [0, 1]; `brier` in [0, 2].
        temperature: Temperature of the softmax, above 0.
        sample_weights: Weight of each labeled sample, shape (N,); None if every sample weighs 1.

    Raises:
        UsageError: If the measure is unknown or the temperature is not above 0.

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
        samples = np.arange(first, min(first + ROWS_AT_A_TIME, len(space)))
        chosen_logits = np.asarray(logits[space.rows[samples]][:, chosen], dtype=np.float64)
        log_source = log_softmax(chosen_logits / temperature, axis=1)
        terms[samples] = MEASURES[measure](space.probabilities(samples), log_source)
    return float(np.average(terms, weights=sample_weights))


def validate_measures(measures: Sequence[str], temperature: float) -> None:
    """Check that all measures exist and that the temperature is above 0.

    Raises:
        UsageError: If a measure is unknown, with the nearest names, or the temperature is not above 0.
    """
    for measure in measures:
        if measure not in MEASURES:
            raise unknown_name("measure", measure, MEASURES)
    if not temperature > 0:
        raise UsageError(f"The temperature is {temperature}. Expected a temperature above 0.")
