"""Cross-validated LEEP: log-probability of labels that are predicted through the source's classes."""

from collections.abc import Iterator

import numpy as np

from modgap.discrepancy.probabilities import Probabilities
from modgap.discrepancy.soft import Labeling, label_parts, mass_matrices
from modgap.discrepancy.threads import share_work

__all__ = ["leep_fold_errors"]


def leep_fold_errors(probabilities: Probabilities, labeling: Labeling) -> np.ndarray:
    """Return minus the log-probability of the label of the tested samples in each fold, in nats, shape (J, N).

    The probability of target class y given source class z is (sum of theta_z over the samples of class y + the prior of
    y) / (sum of theta_z over all samples + 1), on the samples that a fold is fitted on, where theta is the softmax. A
    multi-label sample has the mean over its labels. Untested samples have 0.

    Args:
        probabilities: Softmax of N samples.
        labeling: Labels, weights and folds.

    References:
        Nguyen et al., "LEEP: A New Measure to Evaluate Transferability of Learned Representations", ICML 2020, equation
        (2), with a prior and on samples that it was not fitted on.
    """
    parts = [_leep_of_part(probabilities, part) for part in label_parts(probabilities, labeling)]
    return np.concatenate(parts)


def _leep_of_part(probabilities: Probabilities, labeling: Labeling) -> np.ndarray:
    space = labeling.space
    conditional = mass_matrices(probabilities, [labeling])[0]
    # The weights have sum 1; with N times them, a sample of mean weight counts as one sample.
    conditional *= len(space)
    totals = conditional.sum(axis=1, keepdims=True)
    conditional += _priors(labeling)[:, :, None]
    conditional /= totals + 1
    errors = np.zeros((len(labeling.splits), len(space)))
    for first, block in probabilities.blocks():
        _add_block(errors, labeling, conditional, first, block, probabilities.threads)
    return errors


def _priors(labeling: Labeling) -> np.ndarray:
    """Return the share of each target class among the samples that each fold is fitted on, shape (J, K)."""
    space = labeling.space
    fits = labeling.splits.fit[:, space.entry_samples]
    totals = np.stack([np.bincount(space.labels, labeling.weights * fit, space.n_classes) for fit in fits])
    priors: np.ndarray = totals / totals.sum(axis=1, keepdims=True)
    return priors


def _add_block(
    errors: np.ndarray, labeling: Labeling, conditional: np.ndarray, first: int, block: np.ndarray, threads: int
) -> None:
    """Add minus the log-probabilities of the tested samples of one block to the errors (J, N)."""
    space = labeling.space
    entries = np.arange(space.starts[first], space.starts[first + len(block)])
    by_label = [entries[space.labels[entries] == label] for label in range(space.n_classes)]
    entry_samples = space.entry_samples
    shares = labeling.entry_shares

    def work(queue: Iterator[int]) -> None:
        for fold in queue:
            for label, of_label in enumerate(by_label):
                tested = of_label[labeling.splits.test[fold][entry_samples[of_label]]]
                samples = entry_samples[tested]
                # einsum, unlike a product of BLAS, adds in the same order for any number of threads.
                predicted = np.einsum("bc,c->b", block[samples - first], conditional[fold, label])
                errors[fold] -= np.bincount(samples, shares[tested] * np.log(predicted), len(space))

    share_work(range(len(errors)), threads, work)
