"""Cross-validated LEEP: log-probability of labels that are predicted through the source's classes."""

import itertools
from collections.abc import Iterator

import numpy as np

from modgap.discrepancy.kernels.softmax import add_log_losses
from modgap.discrepancy.probabilities import Probabilities
from modgap.discrepancy.soft import Labeling, entries_by_label, fit_soft_maps, mass_matrices
from modgap.discrepancy.threads import share_work

__all__ = ["soft_maps_and_leep_errors"]


def soft_maps_and_leep_errors(probabilities: Probabilities, labeling: Labeling) -> tuple[np.ndarray, np.ndarray]:
    """Return the soft maps (J, K), and minus the log-probability of the labels of the tested samples (J, N), in nats.

    The probability of target class y given source class z is (sum of theta_z over the samples of class y + the prior of
    y) / (sum of theta_z over all samples + 1), on the samples that a fold is fitted on, where theta is the softmax. A
    multi-label sample has the mean over its labels. Untested samples have 0. Both results come from the same sums.

    Args:
        probabilities: Softmax of N samples.
        labeling: Labels, weights and folds, so few of them that their sums fit into memory.

    References:
        Nguyen et al., "LEEP: A New Measure to Evaluate Transferability of Learned Representations", ICML 2020, equation
        (2), with a prior and on samples that it was not fitted on.
    """
    mass = mass_matrices(probabilities, [labeling])[0]
    maps = fit_soft_maps(mass)
    return maps, _log_losses(probabilities, labeling, _conditional(mass, labeling))


def _conditional(mass: np.ndarray, labeling: Labeling) -> np.ndarray:
    """Turn mass matrices into the probability of each target class given each source class in each fold, (J, K, C)."""
    # The weights have sum 1; with N times them, a sample of mean weight counts as one sample.
    mass *= len(labeling.space)
    totals = mass.sum(axis=1, keepdims=True)
    mass += _priors(labeling)[:, :, None]
    mass /= totals + 1
    return mass


def _priors(labeling: Labeling) -> np.ndarray:
    """Return the share of each target class among the samples that each fold is fitted on, shape (J, K)."""
    space = labeling.space
    weights = (labeling.weights * fit[space.entry_samples] for fit in labeling.splits.fit)
    totals = np.stack([np.bincount(space.labels, of_fold, space.n_classes) for of_fold in weights])
    priors: np.ndarray = totals / totals.sum(axis=1, keepdims=True)
    return priors


def _log_losses(probabilities: Probabilities, labeling: Labeling, conditional: np.ndarray) -> np.ndarray:
    """Return minus the log-probability of the label of the tested samples in each fold, shape (J, N)."""
    errors = np.zeros((len(labeling.splits), len(labeling.space)))
    for first, block in probabilities.blocks():
        _add_block(errors, labeling, conditional, first, block, probabilities.threads)
    return errors


def _add_block(
    errors: np.ndarray, labeling: Labeling, conditional: np.ndarray, first: int, block: np.ndarray, threads: int
) -> None:
    """Add minus the log-probabilities of the tested samples of one block to the errors (J, N)."""
    space = labeling.space
    test = labeling.splits.test.columns(first, first + len(block))
    entries = entries_by_label(space, first, first + len(block))
    samples = space.entry_samples
    shares = labeling.entry_shares
    edges = np.linspace(0, len(errors), min(threads, len(errors)) + 1).astype(int)

    def work(queue: Iterator[tuple[int, int]]) -> None:
        for start, stop in queue:
            folds = slice(start, stop)
            add_log_losses(
                block, first, entries, samples, space.labels, shares, test[folds], conditional[folds], errors[folds]
            )

    share_work(itertools.pairwise(edges), threads, work)
