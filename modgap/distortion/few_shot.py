"""Error rate of a probe by the number of training samples of each class."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from modgap.distortion.probe_evaluation import evaluate_probe
from modgap.errors import UsageError
from modgap.probes.input_checks import validate_samples
from modgap.statistics.bootstrap import group_numbers

__all__ = ["FewShotCurve", "few_shot_curve"]

SHOTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


@dataclass(frozen=True)
class FewShotCurve:
    """Test error rate of a probe by the number of training samples of each class.

    Attributes:
        name: Name of the probe.
        shots: Numbers of training samples of each class, ascending, shape (M,).
        errors: Test error rate of each draw of the training samples, in [0, 1], shape (M, draws); lower is better.
        mean: Mean error rate over draws, shape (M,).
        sd: Standard deviation of the error rate over draws, shape (M,); NaN with one draw.
    """

    name: str
    shots: np.ndarray
    errors: np.ndarray
    mean: np.ndarray
    sd: np.ndarray


def few_shot_curve(
    name: str,
    train_features: ArrayLike,
    train_labels: ArrayLike,
    test_features: ArrayLike,
    test_labels: ArrayLike,
    *,
    shots: Sequence[int] | None = None,
    draws: int = 5,
    seed: int = 0,
    train_groups: ArrayLike | None = None,
    **options: Any,
) -> FewShotCurve:
    """Compute the test error rate of a probe fitted on few training samples of each class, over several draws of them.

    The samples of a draw at few shots are among its samples at more shots. They depend only on the seed and the number
    of the draw, so that the features of two encoders are compared on the same draws of the same samples.

    Args:
        name: Name of the probe.
        train_features: Features of the training samples, shape (n, D).
        train_labels: Integer labels of the training samples, shape (n,).
        test_features: Features of the test samples, shape (n_test, D).
        test_labels: Integer labels of the test samples, shape (n_test,).
        shots: Numbers of training samples of each class; None for 1, 2, 5, 10, ... up to the size of the smallest
            class.
        draws: Number of draws.
        seed: Seed of the draws.
        train_groups: Record or subject of each training sample, shape (n,); see `evaluate_probe`. None if samples are
            independent.
        **options: Options of `evaluate_probe`.

    Raises:
        InputError: When features or labels cannot be used, or the training samples have one class.
        UsageError: When shots, draws or an option are out of range.

    Example:
        >>> labels = np.arange(40) % 4
        >>> curve = few_shot_curve("nearest-mean", np.eye(4)[labels], labels, np.eye(4), np.arange(4), draws=2)
        >>> curve.shots, curve.mean
        (array([ 1,  2,  5, 10]), array([0., 0., 0., 0.]))
    """
    train, labels = validate_samples(train_features, train_labels, "training")
    numbers = _validate_shots(shots, labels)
    if draws < 1:
        raise UsageError(f"The number of draws is {draws}. Expected at least 1.")
    units = None if train_groups is None else group_numbers(train_groups, len(labels))
    errors = np.empty((len(numbers), draws))
    for draw in range(draws):
        positions = _positions_in_class(labels, np.random.default_rng([seed, draw]))
        for index, count in enumerate(numbers):
            rows = np.flatnonzero(positions < count)
            options["train_groups"] = None if units is None else units[rows]
            result = evaluate_probe(name, train[rows], labels[rows], test_features, test_labels, seed=seed, **options)
            errors[index, draw] = result.value
    sd = errors.std(axis=1, ddof=1) if draws > 1 else np.full(len(numbers), np.nan)
    return FewShotCurve(name, np.array(numbers), errors, errors.mean(axis=1), sd)


def _validate_shots(shots: Sequence[int] | None, labels: np.ndarray) -> list[int]:
    smallest = int(np.unique(labels, return_counts=True)[1].min())
    numbers = sorted(set(shots)) if shots is not None else [count for count in SHOTS if count <= smallest]
    if not numbers or numbers[0] < 1 or numbers[-1] > smallest:
        raise UsageError(
            f"The shots are {numbers}. Expected numbers from 1 to {smallest}, the size of the smallest class."
        )
    return numbers


def _positions_in_class(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the position of each sample in a random order of its class, from 0, shape (n,)."""
    positions = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        positions[rng.permutation(rows)] = np.arange(len(rows))
    return positions
