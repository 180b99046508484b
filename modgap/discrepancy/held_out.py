"""Errors of maps on samples that they were not fitted on, and the confusion of classes in them."""

from collections.abc import Iterator

import numpy as np

from modgap.discrepancy.predictions import predicted_classes
from modgap.discrepancy.soft import Labeling
from modgap.discrepancy.threads import share_work

__all__ = ["fold_confusion", "fold_errors", "fold_predictions"]


def fold_predictions(logits: np.ndarray, labeling: Labeling, maps: np.ndarray, threads: int = 1) -> np.ndarray:
    """Return the predicted target class of the tested samples of each fold, and -1 for other samples, shape (J, N).

    Args:
        logits: Source logits, shape (N', C).
        labeling: Labels and folds.
        maps: Source class of each target class in each fold, shape (J, K).
        threads: Number of worker threads; it does not change the result.
    """
    # Signed integers of the smallest size, because there is a value for each fold and sample.
    predicted = np.full(labeling.splits.test.shape, -1, np.min_scalar_type(-labeling.space.n_classes))

    def work(queue: Iterator[int]) -> None:
        for fold in queue:
            tested = np.flatnonzero(labeling.splits.test[fold])
            predicted[fold, tested] = predicted_classes(logits, labeling.space.rows[tested], maps[fold])

    share_work(range(len(maps)), threads, work)
    return predicted


def fold_errors(labeling: Labeling, predicted: np.ndarray) -> np.ndarray:
    """Return the error of each tested sample in each fold: equation (10), or its multi-label form, shape (J, N).

    Errors of single labels are Booleans.

    Args:
        labeling: Labels and folds.
        predicted: Predicted target class of each sample in each fold, -1 for samples that a fold does not test, (J, N).
    """
    space = labeling.space
    if space.weights is None and len(space.labels) == len(space):
        wrong: np.ndarray = (predicted != space.labels) & (predicted >= 0)
        return wrong
    shares = labeling.entry_shares
    entry_samples = space.entry_samples
    errors = np.zeros(predicted.shape)
    for fold, classes in enumerate(predicted):
        correct = np.bincount(entry_samples, shares * (space.labels == classes[entry_samples]), len(space))
        errors[fold] = np.where(classes >= 0, 1 - correct, 0.0)
    return errors


def fold_confusion(labeling: Labeling, predicted: np.ndarray) -> np.ndarray:
    """Return the number of tested samples by label (rows) and prediction (columns), per repeat, shape (K, K).

    A sample counts once, and a multi-label sample is shared evenly among the rows of its labels.

    Args:
        labeling: Labels and folds.
        predicted: Predicted target class of each sample in each fold, -1 for samples that a fold does not test, (J, N).
    """
    space = labeling.space
    entry_samples = space.entry_samples
    shares = space.entry_weights / space.sample_weights[entry_samples]
    matrix = np.zeros((space.n_classes, space.n_classes))
    for classes in predicted:
        tested = np.flatnonzero(classes[entry_samples] >= 0)
        np.add.at(matrix, (space.labels[tested], classes[entry_samples[tested]]), shares[tested])
    return matrix / labeling.splits.n_repeats
