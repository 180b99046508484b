"""Soft discrepancy, the probability that a source does not give to the classes of the best map, and held-out LEEP."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.optimize import linear_sum_assignment

from modgap.discrepancy.kernels.softmax import add_log_losses, add_mass, add_products, add_slopes
from modgap.discrepancy.probabilities import Probabilities
from modgap.discrepancy.threads import even_ranges, share_work
from modgap.labels.label_space import LabelSpace, label_space
from modgap.statistics.splits import Splits, one_fold_of_all, repeated_halves

MASS_BYTES = 1 << 27
"""Total size of the mass matrices that one pass over the samples may always compute."""
MASS_SHARE = 0.15
"""Share of the size of the logits that the mass matrices of one pass may take, where that is more."""
ERROR_BYTES = 1 << 26
"""Size of the errors of the samples in those folds that are worked on at a time."""


@dataclass(frozen=True)
class SoftMap:
    """Map with the smallest soft error on all samples.

    Attributes:
        value: 1 minus the weighted mean probability of the mapped source classes, in [0, 1]; lower is nearer. A source
            with uniform output has 1 - 1/C, so the chance level 1 - 1/K is not its chance level.
        map: Source class of each target class.
        temperature: Temperature of the softmax.
    """

    value: float
    map: tuple[int, ...]
    temperature: float


@dataclass(frozen=True)
class Labeling:
    """Labels of all samples with their weights, and the folds that maps are fitted and tested in.

    Attributes:
        space: Labels of N samples.
        weights: Weight of each entry of the label space, shape (E,), with sum 1.
        splits: Folds of the samples.
    """

    space: LabelSpace
    weights: np.ndarray
    splits: Splits

    def parts(self, size: int) -> "Iterator[Labeling]":
        """Yield the labeling with `size` of its folds at a time."""
        splits = self.splits
        for first in range(0, len(splits), size):
            folds = slice(first, first + size)
            part = Splits(splits.fit[folds], splits.test[folds], splits.repeats[folds], splits.seed)
            yield Labeling(self.space, self.weights, part)

    @cached_property
    def sample_weights(self) -> np.ndarray:
        """Weight of each sample, shape (N,)."""
        if len(self.weights) == len(self.space):
            return self.weights
        return np.bincount(self.space.entry_samples, self.weights, len(self.space))

    @cached_property
    def entry_shares(self) -> np.ndarray:
        """Share of each entry in the weight of its sample, shape (E,)."""
        return np.asarray(self.weights / self.sample_weights[self.space.entry_samples])


def mass_matrices(probabilities: Probabilities, labelings: Sequence[Labeling]) -> list[np.ndarray]:
    """Return the weighted sum of the probabilities by fold, target class and source class for each labeling.

    Entry (j, k, c) is the sum of weight times probability of source class c over the samples of target class k that
    fold j is fitted on. Samples are added in their order, so that threads do not change any bit.

    Args:
        probabilities: Softmax of N samples.
        labelings: Labels of these samples and folds; several labelings share one pass over the samples.

    Returns:
        One array of shape (J, K, C) for each labeling.
    """
    n_source_classes = probabilities.n_source_classes
    masses = [np.zeros((len(one.splits), one.space.n_classes, n_source_classes)) for one in labelings]
    # One range of source classes is enough if there is a labeling for each thread.
    ranges = even_ranges(n_source_classes, 1 if len(labelings) >= probabilities.threads else probabilities.threads)
    tasks = [(i, *columns) for i in range(len(labelings)) for columns in ranges]
    for first, block in probabilities.blocks():
        fits = [np.ascontiguousarray(one.splits.fit.columns(first, first + len(block)).T) for one in labelings]

        def work(
            queue: Iterator[tuple[int, int, int]],
            first: int = first,
            block: np.ndarray = block,
            fits: list[np.ndarray] = fits,
        ) -> None:
            for i, start, stop in queue:
                space = labelings[i].space
                entries = entries_by_label(space, first, first + len(block))
                samples = space.entry_samples
                weights = labelings[i].weights
                add_mass(block, first, entries, samples, space.labels, weights, fits[i], start, stop, masses[i])

        share_work(tasks, probabilities.threads, work)
    return masses


def entries_by_label(space: LabelSpace, first: int, stop: int) -> np.ndarray:
    """Return the entries of the samples from `first` to before `stop`, in the order of their labels, shape (M,)."""
    entries = np.arange(space.starts[first], space.starts[stop])
    return np.asarray(entries[np.argsort(space.labels[entries], kind="stable")])


def fit_soft_maps(mass: np.ndarray) -> np.ndarray:
    """Return the injective map of each fold that maximizes the sum of its mass, shape (J, K).

    Args:
        mass: Mass matrices, shape (J, K, C), with K <= C.
    """
    return np.array([linear_sum_assignment(table, maximize=True)[1] for table in mass])


def soft_fold_errors(probabilities: Probabilities, labeling: Labeling, maps: np.ndarray) -> np.ndarray:
    """Return 1 minus the probability of the mapped source class for the tested samples of each fold, shape (J, N).

    A multi-label sample has the mean over its labels, in proportion to their weights. Untested samples have 0.

    Args:
        probabilities: Softmax of N samples.
        labeling: Labels and folds.
        maps: Source class of each target class in each fold, shape (J, K).
    """
    space = labeling.space
    shares = labeling.entry_shares
    errors = np.zeros((len(labeling.splits), len(space)))
    for fold, (entries, wrong) in enumerate(_entry_errors(probabilities, labeling, maps)):
        samples = space.entry_samples[entries]
        errors[fold] = np.bincount(samples, shares[entries] * wrong, len(space))
    return errors


def soft_mean(probabilities: Probabilities, labeling: Labeling, maps: np.ndarray) -> float:
    """Return `soft_value` of the maps (J, K) without keeping the errors of all folds in memory."""
    splits = labeling.splits
    folds = _entry_errors(probabilities, labeling, maps)
    sums = [float(labeling.weights[entries] @ wrong) for entries, wrong in folds]
    totals = [float(labeling.sample_weights @ test) for test in splits.test]
    return _mean_over_repeats(splits, sums, totals)


def _mean_over_repeats(splits: Splits, sums: Sequence[float], totals: Sequence[float]) -> float:
    """Return the mean of sum / total over the repeats that test a sample, as `ErrorAverage` does.

    Args:
        splits: The J folds.
        sums: Sum of the weighted errors of each fold, shape (J,).
        totals: Weight of the samples that each fold tests, shape (J,). It is 0 for a repeat in which no class lies in
            both parts, as can happen with few groups of several classes.
    """
    by_repeat = np.bincount(splits.repeats, sums, splits.n_repeats)
    total = np.bincount(splits.repeats, totals, splits.n_repeats)
    return float((by_repeat[total > 0] / total[total > 0]).mean()) if (total > 0).any() else np.nan


def _entry_errors(
    probabilities: Probabilities, labeling: Labeling, maps: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the tested entries (M,) of each fold, and 1 minus the probability of the mapped source class (M,)."""
    space = labeling.space
    for tested, source_classes in zip(labeling.splits.test, maps, strict=True):
        entries = np.flatnonzero(tested[space.entry_samples])
        yield entries, 1 - probabilities.at(space.entry_samples[entries], source_classes[space.labels[entries]])


def soft_errors(probabilities: Probabilities, labeling: Labeling) -> tuple[np.ndarray, np.ndarray]:
    """Fit the soft map of each fold and return its errors (J, N) and the maps (J, K).

    Args:
        probabilities: Softmax of N samples.
        labeling: Labels and folds. The folds are worked on in parts that fit into memory.
    """
    maps = soft_maps(probabilities, labeling)
    return soft_fold_errors(probabilities, labeling, maps), maps


def soft_maps(probabilities: Probabilities, labeling: Labeling) -> np.ndarray:
    """Return the soft map of each fold, shape (J, K).

    Args:
        probabilities: Softmax of N samples.
        labeling: Labels and folds. The folds are worked on in parts that fit into memory.
    """
    parts = label_parts(probabilities, labeling)
    return np.concatenate([fit_soft_maps(mass_matrices(probabilities, [part])[0]) for part in parts])


def label_parts(probabilities: Probabilities, labeling: Labeling) -> Iterator[Labeling]:
    """Yield the labeling with some of its folds at a time, so that their mass matrices fit into memory.

    Args:
        probabilities: Softmax of N samples.
        labeling: Labels and folds.
    """
    size = folds_at_a_time(probabilities, labeling.space.n_classes)
    size = min(size, max(1, ERROR_BYTES // (8 * len(labeling.space))))
    yield from labeling.parts(size)


def folds_at_a_time(probabilities: Probabilities, n_classes: int) -> int:
    """Return the number of folds whose mass matrices are computed in one pass over the samples, at least 1."""
    budget = max(MASS_BYTES, MASS_SHARE * probabilities.logits.nbytes)
    return max(1, int(budget // (8 * n_classes * probabilities.n_source_classes)))


def soft_value(fold_errors: np.ndarray, labeling: Labeling) -> float:
    """Return the mean over repeats of the weighted mean error of the tested samples.

    Args:
        fold_errors: Errors of the samples in each fold, shape (J, N), 0 for samples that a fold does not test.
        labeling: Labels and folds.
    """
    weights = labeling.sample_weights
    splits = labeling.splits
    # Row by row, because a product with a matrix of Booleans would copy it as numbers of eight bytes.
    sums = [float(errors @ weights) for errors in fold_errors]
    return _mean_over_repeats(splits, sums, [float(test @ weights) for test in splits.test])


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
    conditional, space = _conditional(mass, labeling), labeling.space
    errors = np.zeros((len(labeling.splits), len(space)))
    for first, block in probabilities.blocks():
        _add_block(errors, labeling, conditional, first, block, probabilities.threads)
    return maps, errors


def _conditional(mass: np.ndarray, labeling: Labeling) -> np.ndarray:
    """Turn mass matrices into the probability of each target class given each source class in each fold, (J, K, C)."""
    space = labeling.space
    # The weights have sum 1; with N times them, a sample of mean weight counts as one sample.
    mass *= len(space)
    totals = mass.sum(axis=1, keepdims=True)
    weights = (labeling.weights * fit[space.entry_samples] for fit in labeling.splits.fit)
    of_classes = np.stack([np.bincount(space.labels, of_fold, space.n_classes) for of_fold in weights])
    mass += (of_classes / of_classes.sum(axis=1, keepdims=True))[:, :, None]
    mass /= totals + 1
    return mass


def leep_influences(probabilities: Probabilities, labeling: Labeling) -> np.ndarray:
    """Return how much each sample raises the mean log-probability of all labels because LEEP is fitted to it, (N,).

    It is the derivative of LEEP on all samples by the weight of the sample in the class probabilities alone, in nats. A
    split fits one half and then the other, so the spread between splits does not show it.

    Args:
        probabilities: Softmax of N samples.
        labeling: Labels and weights; the folds do not matter.

    References:
        Efron, The Jackknife, the Bootstrap and Other Resampling Plans, SIAM 1982, chapter 6.
    """
    space = labeling.space
    everything = Labeling(space, labeling.weights, one_fold_of_all(len(space), labeling.splits.seed))
    mass = mass_matrices(probabilities, [everything])[0]
    totals = mass[0].sum(axis=0) + 1 / len(space)
    conditional = _conditional(mass, everything)[0]
    # The derivative of the mean log-probability by the mass of each target and source class, (K, C).
    slopes = np.zeros_like(conditional)
    for first, block in probabilities.blocks():
        entries = entries_by_label(space, first, first + len(block))
        add_slopes(block, first, entries, space.entry_samples, space.labels, labeling.weights, conditional, slopes)
    slopes -= (slopes * conditional).sum(axis=0)
    slopes /= totals
    influences = np.zeros(len(space))
    for first, block in probabilities.blocks():
        entries, shares = entries_by_label(space, first, first + len(block)), labeling.entry_shares
        add_products(block, first, entries, space.entry_samples, space.labels, shares, slopes, influences)
    return influences


def _add_block(
    errors: np.ndarray, labeling: Labeling, conditional: np.ndarray, first: int, block: np.ndarray, threads: int
) -> None:
    """Add minus the log-probabilities of the tested samples of one block to the errors (J, N)."""
    space = labeling.space
    test = labeling.splits.test.columns(first, first + len(block))
    entries = entries_by_label(space, first, first + len(block))
    samples = space.entry_samples
    shares = labeling.entry_shares

    def work(queue: Iterator[tuple[int, int]]) -> None:
        for start, stop in queue:
            folds = slice(start, stop)
            add_log_losses(
                block, first, entries, samples, space.labels, shares, test[folds], conditional[folds], errors[folds]
            )

    share_work(even_ranges(len(errors), min(threads, len(errors))), threads, work)


def warm_up() -> None:
    """Compile the kernels of the softmax, or load them from Numba's cache, so that no timing includes it."""
    space = label_space(np.array([0, 1, 0, 1]))
    splits = repeated_halves(space, None, 1, 0)
    labeling = Labeling(space, np.full(4, 0.25), splits)
    probabilities = Probabilities(np.zeros((4, 2)), space.rows)
    soft_errors(probabilities, labeling)
    probabilities.mean_entropy()
