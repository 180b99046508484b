"""Repeated splits of samples into a part that a map is fitted on and a part that it is tested on."""

from dataclasses import dataclass

import numpy as np

from modgap.labels.label_space import LabelSpace, row_numbers
from modgap.statistics.masks import Masks
from modgap.statistics.units import unit_numbers

HALVES_SALT = 0xA1
PER_CLASS_SALT = 0xA2


@dataclass(frozen=True)
class Splits:
    """Pairs of a part to fit on and a part to test on. Each pair is a fold, and the folds of a repeat belong together.

    Attributes:
        fit: True for the samples that each fold is fitted on, shape (J, N).
        test: True for the samples that each fold is tested on, shape (J, N).
        repeats: Number of the repeat that each fold belongs to, from 0, shape (J,).
        seed: Seed that the splits were drawn with.
    """

    fit: Masks
    test: Masks
    repeats: np.ndarray
    seed: int

    def __len__(self) -> int:
        """Return the number J of folds."""
        return len(self.repeats)

    @property
    def n_repeats(self) -> int:
        """Number S of repeats."""
        return int(self.repeats.max()) + 1 if len(self.repeats) else 0

    def first(self, n_repeats: int) -> "Splits":
        """Return the first repeats alone."""
        chosen = self.repeats < n_repeats
        return Splits(self.fit[chosen], self.test[chosen], self.repeats[chosen], self.seed)

    def with_tests(self) -> "Splits":
        """Return the repeats that test a sample, numbered from 0.

        With few groups of several classes, a repeat may have no class in both halves, and then it tests none.
        """
        tests = np.bincount(self.repeats, [test.any() for test in self.test], self.n_repeats) > 0
        if tests.all():
            return self
        chosen = tests[self.repeats]
        repeats = np.cumsum(tests)[self.repeats[chosen]] - 1
        return Splits(self.fit[chosen], self.test[chosen], repeats, self.seed)

    def permuted(self, donors: np.ndarray) -> "Splits":
        """Return splits in which sample i is in the parts of sample `donors[i]`.

        If labels move together with the splits, permuted labels are split exactly as the real ones are.
        """
        return Splits(self.fit.take(donors), self.test.take(donors), self.repeats, self.seed)


def one_fold_of_all(n_samples: int, seed: int) -> Splits:
    """Return a single fold that is fitted and tested on all samples."""
    everything = Masks.pack(np.ones((1, n_samples), bool))
    return Splits(everything, everything, np.zeros(1, np.int64), seed)


def repeated_halves(space: LabelSpace, groups: np.ndarray | None, n_repeats: int, seed: int) -> Splits:
    """Split the samples into halves, again and again, stratified by class, with groups kept together.

    Each half is fitted on and the other half is tested on, so that a repeat has two folds and tests every sample once.
    A group counts for its rarest class. If all samples of a class fall into one half, because the class has few groups
    that other classes share, they are fitted on in both folds and are not tested in this repeat.

    Args:
        space: Labels of N samples.
        groups: Number of each sample's group, shape (N,); None if samples are independent.
        n_repeats: Number S of repeats.
        seed: Seed of the splits. Repeat s depends only on the labels, the groups, the seed and s.
    """
    numbers = unit_numbers(groups, len(space))
    # Each group is stratified by the one of its classes that has the fewest groups, shape (G,).
    cells = np.unique(np.stack([numbers[space.entry_samples], space.labels], axis=1), axis=0)
    n_groups = np.bincount(cells[:, 1], minlength=space.n_classes)
    order = np.lexsort((cells[:, 1], n_groups[cells[:, 1]], cells[:, 0]))
    strata = cells[order][np.unique(cells[order, 0], return_index=True)[1], 1]
    fit, test = [], []
    for repeat in range(n_repeats):
        halves = _half_of_samples(space, numbers, strata, seed, repeat)
        fit.append(Masks.pack(halves != other for other in (1, 0)))
        test.append(Masks.pack(halves == other for other in (1, 0)))
    repeats = np.repeat(np.arange(n_repeats), 2)
    return Splits(Masks.stack(fit, len(space)), Masks.stack(test, len(space)), repeats, seed)


def _half_of_samples(space: LabelSpace, groups: np.ndarray, strata: np.ndarray, seed: int, repeat: int) -> np.ndarray:
    """Return 0 or 1 for the half of each sample, and 2 for samples that belong to both halves, shape (N,)."""
    rng = np.random.default_rng([seed, HALVES_SALT, repeat])
    halves = np.empty(len(strata), np.int8)
    order = np.lexsort((rng.random(len(strata)), rng.permutation(space.n_classes)[strata]))
    # Classes of odd size give their extra group to the two halves in turn, so that the halves stay equal.
    halves[order] = (np.arange(len(order)) + rng.integers(2)) % 2
    of_samples: np.ndarray = halves[groups]
    # Groups that have a class whose samples are all in one half belong to both.
    counts = np.zeros((2, space.n_classes), np.int64)
    np.add.at(counts, (of_samples[space.entry_samples], space.labels), 1)
    one_sided = (counts == 0).any(axis=0)
    if not one_sided.any():
        return of_samples
    touched = np.unique(groups[space.entry_samples][one_sided[space.labels]])
    return np.where(np.isin(groups, touched), np.int8(2), of_samples)


def per_class_splits(
    labels: np.ndarray, groups: np.ndarray | None, per_class: int, n_repeats: int, seed: int
) -> Splits:
    """Draw a number of samples of each class to fit on, again and again, and test on the other samples.

    With groups, the samples of a class are drawn from as few whole groups as needed, and no other sample of these
    groups is tested.

    Args:
        labels: Class of each sample, 0..K-1, shape (N,).
        groups: Number of each sample's group, shape (N,); None if samples are independent.
        per_class: Number n of samples of each class to fit on.
        n_repeats: Number S of repeats, each with one fold.
        seed: Seed of the splits.
    """
    numbers = unit_numbers(groups, len(labels))
    fit = np.zeros((n_repeats, len(labels)), bool)
    test = np.zeros((n_repeats, len(labels)), bool)
    for repeat in range(n_repeats):
        rng = np.random.default_rng([seed, PER_CLASS_SALT, per_class, repeat])
        fit[repeat] = _draw_per_class(labels, numbers, per_class, rng)
        test[repeat] = ~np.isin(numbers, numbers[fit[repeat]])
    return Splits(Masks.pack(fit), Masks.pack(test), np.arange(n_repeats), seed)


def _draw_per_class(labels: np.ndarray, groups: np.ndarray, per_class: int, rng: np.random.Generator) -> np.ndarray:
    """Return a mask with `per_class` samples of each class, from the first groups in a random order, shape (N,)."""
    group_order = rng.permutation(int(groups.max()) + 1)
    position_of_group = np.argsort(group_order)
    within = rng.random(len(labels))
    order = np.lexsort((within, position_of_group[groups], labels))
    sorted_labels = labels[order]
    starts = np.searchsorted(sorted_labels, np.arange(int(labels.max()) + 1))
    is_first = np.arange(len(labels)) - starts[sorted_labels] < per_class
    mask = np.zeros(len(labels), bool)
    mask[order[is_first]] = True
    return mask


def testable_samples(space: LabelSpace, groups: np.ndarray | None) -> np.ndarray:
    """Return the samples of which all classes have at least two samples or, with groups, two groups.

    A class with a single sample or group cannot be fitted and tested. Its samples are left out, which may leave another
    class of a multi-label target with a single sample, so this is repeated.

    Args:
        space: Labels of N samples.
        groups: Number of each sample's group, shape (N,); None if samples are independent.

    Returns:
        Numbers of the samples in ascending order, shape (M,).
    """
    numbers = np.arange(len(space)) if groups is None else groups
    entry_samples = space.entry_samples
    is_testable = np.ones(len(space), bool)
    while True:
        in_use = is_testable[entry_samples]
        pairs = np.unique(np.stack([space.labels[in_use], numbers[entry_samples[in_use]]], axis=1), axis=0)
        n_units = np.bincount(pairs[:, 0], minlength=space.n_classes)
        too_few = (n_units < 2)[space.labels] & in_use
        if not too_few.any():
            return row_numbers(len(is_testable)) if is_testable.all() else np.flatnonzero(is_testable)
        is_testable[entry_samples[too_few]] = False
