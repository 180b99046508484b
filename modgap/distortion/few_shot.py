"""Error of a probe by how many samples of each class it was fitted on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from modgap.distortion.input_checks import checked_samples
from modgap.distortion.probes import probe
from modgap.errors import UsageError

__all__ = ["FewShotCurve", "few_shot_curve"]

SHOTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


@dataclass(frozen=True)
class FewShotCurve:
    """Test error of a probe by how many samples of each class it was fitted on.

    Attributes:
        name: Of the probe.
        shots: Training samples a class, ascending, shape (M,).
        errors: Share of test samples got wrong in each draw, shape (M, draws), in [0, 1]; lower is better.
        mean: Over draws, shape (M,).
        sd: Over draws, shape (M,); NaN with one draw.
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
    **options,
) -> FewShotCurve:
    """Error of a probe at few training samples a class, over several draws of them.

    A draw's samples at fewer shots are among those at more. The samples of a draw depend on seed and draw alone, so
    that two encoders' features of the same samples are compared on the same draws.

    Args:
        name: Of the probe.
        train_features: Features (n, D).
        train_labels: Integer labels (n,).
        test_features: Features (n_test, D).
        test_labels: Integer labels (n_test,).
        shots: Samples a class; None for 1, 2, 5, 10, ... as far as the smallest class goes.
        draws: How many draws.
        seed: Of the draws.
        **options: As `probe` takes them.

    Raises:
        InputError: As `probe` does.
        UsageError: When shots or draws are out of range.

    Example:
        >>> labels = np.arange(40) % 4
        >>> curve = few_shot_curve("nearest-mean", np.eye(4)[labels], labels, np.eye(4), np.arange(4), draws=2)
        >>> curve.shots, curve.mean
        (array([ 1,  2,  5, 10]), array([0., 0., 0., 0.]))
    """
    train, labels = checked_samples(train_features, train_labels, "training")
    smallest = int(np.unique(labels, return_counts=True)[1].min())
    wanted = sorted(set(shots)) if shots is not None else [count for count in SHOTS if count <= smallest]
    if not wanted or wanted[0] < 1 or wanted[-1] > smallest:
        raise UsageError(f"expected shots from 1 to {smallest}, the samples of the smallest class, got {wanted}")
    if draws < 1:
        raise UsageError(f"expected at least one draw, got {draws}")
    errors = np.empty((len(wanted), draws))
    for draw in range(draws):
        turns = _turns(labels, np.random.default_rng([seed, draw]))
        for at, count in enumerate(wanted):
            rows = np.flatnonzero(turns < count)
            errors[at, draw] = probe(
                name, train[rows], labels[rows], test_features, test_labels, seed=seed, **options
            ).value
    sd = errors.std(axis=1, ddof=1) if draws > 1 else np.full(len(wanted), np.nan)
    return FewShotCurve(name, np.array(wanted), errors, errors.mean(axis=1), sd)


def _turns(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Place of each sample in a random order of its class, from 0; (n,)."""
    turns = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        turns[rng.permutation(rows)] = np.arange(len(rows))
    return turns
