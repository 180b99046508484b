"""Check of a transferability score: its description, finite values within its bounds, and determinism."""

import math

import numpy as np

from modgap.ranking.score import ErrorOptions, Score
from modgap.ranking.scores import get_score
from modgap.ranking.source_outputs import CLASSIFICATION, MULTI_LABEL, REGRESSION, SourceOutputs

__all__ = ["check_score"]

N_SAMPLES = 60
N_CLASSES = 3
TOLERANCE = 1e-6
"""Largest distance of a value from the bounds of its score."""


def check_score(score: str | Score) -> None:
    """Check a score on synthetic outputs of a source, for each of its tasks.

    The rules are:

    - The description is complete, the version is at least 1, and the tasks are known.
    - The score has a function for each of its tasks: `compute`, or `errors` where the task is one of `error_tasks`.
    - `compute` returns a finite number within the bounds, and the same one for the same seed.
    - `errors` returns an error for each sample, of which at least one is finite, and the same ones for the same seed.
      Their mean, or minus their mean if higher scores are better, is within the bounds.

    Args:
        score: Name of an installed score, or a score.

    Raises:
        AssertionError: If the score breaks one of these rules.
    """
    score = get_score(score) if isinstance(score, str) else score
    for field in ("name", "title", "reference"):
        assert getattr(score, field).strip(), f"The {field} of the score {score.name!r} is empty."
    assert score.version >= 1, f"The version of {score.name} is {score.version}. Expected a number from 1 on."
    unknown = set(score.tasks) - {CLASSIFICATION, MULTI_LABEL, REGRESSION}
    assert score.tasks, f"{score.name} has no tasks."
    assert not unknown, f"{score.name} has the unknown task {', '.join(sorted(unknown))}."
    for task in score.tasks:
        outputs = _outputs(task)
        if score.compute is not None:
            _check_values(score, task, outputs)
        if score.errors is not None and task in score.error_tasks:
            _check_errors(score, task, outputs)
        reachable = score.compute if task not in score.error_tasks else score.errors
        assert reachable is not None, f"{score.name} computes nothing for {task} targets. It needs compute, or errors."


def _outputs(task: str) -> SourceOutputs:
    """Return outputs of a source on synthetic samples whose classes are nearly separable.

    For regression, the labels are pseudo-classes, and the values are two features with noise.
    """
    rng = np.random.default_rng(0)
    labels = np.arange(N_SAMPLES) % N_CLASSES
    features = rng.standard_normal((N_SAMPLES, 8))
    features[np.arange(N_SAMPLES), labels] += 3
    logits = rng.standard_normal((N_SAMPLES, 12)).astype(np.float32)
    logits[np.arange(N_SAMPLES), labels + 2] += 3
    surrogate = features + 1, labels
    values = features[:, :2] + 0.1 * rng.standard_normal((N_SAMPLES, 2)) if task == REGRESSION else None
    task_labels = np.eye(N_CLASSES, dtype=np.int64)[labels] if task == MULTI_LABEL else labels
    properties = {"parameters": 1000, "source_error": 0.25}
    return SourceOutputs(features, task_labels, logits, values, None, surrogate, properties)


def _check_values(score: Score, task: str, outputs: SourceOutputs) -> None:
    assert score.compute is not None
    first, second = (score.compute(outputs, 0) for _ in range(2))
    assert isinstance(first, int | float | np.number), f"{score.name} returned a {type(first).__name__}, not a number."
    assert math.isfinite(first), f"{score.name} is {first} on {task} samples whose classes are nearly separable."
    assert first == second, f"{score.name} differs between two calls with the same seed: {first} and {second}."
    _check_bounds(score, float(first))


def _check_errors(score: Score, task: str, outputs: SourceOutputs) -> None:
    assert score.errors is not None
    errors, again = (score.errors(outputs, ErrorOptions(), 0) for _ in range(2))
    n_errors = len(errors.errors)
    assert n_errors == N_SAMPLES, f"{score.name} has {n_errors} errors for {N_SAMPLES} {task} samples."
    assert np.isfinite(errors.errors).any(), f"{score.name} has no finite error for {task} samples."
    same = np.array_equal(errors.errors, again.errors, equal_nan=True)
    assert same, f"The errors of {score.name} differ between two calls with the same seed."
    _check_bounds(score, score.mean_of(errors).value)


def _check_bounds(score: Score, value: float) -> None:
    low, high = score.bounds
    inside = low - TOLERANCE <= value <= high + TOLERANCE
    assert inside, f"{score.name} is {value}, which is not within its bounds {low} and {high}."
