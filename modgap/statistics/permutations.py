"""Permutation tests: labels that move between samples or groups, and a sequential rule for the number of them."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

STOP_AFTER = 10
"""Number of permuted values at or below the real value at which a test stops."""
PERMUTATIONS_BY = ("shuffle", "shifts")
"""How labels can move inside a group of several classes."""
PERMUTATION_SALT = 0xB2
MOST_SAMPLES_LOOKED_AT = 20_000
MOST_OUTPUTS_LOOKED_AT = 64
"""Largest part of the logits in which an order of the samples is looked for."""
LARGEST_LIKENESS = 0.2
"""Likeness of neighbors up to which samples count as exchangeable."""
STANDARD_ERRORS = 3.0
TOLERANCE = 1e-9
"""Values that differ by less are equal, so that round-off does not turn a tie into a difference."""


@dataclass(frozen=True)
class NullDistribution:
    """Distribution of a statistic with labels permuted across samples or groups.

    Attributes:
        mean: Mean over the permutations that were drawn.
        sd: Standard deviation over these permutations (ddof 1; 0 for a single permutation).
        p_value: One-sided p-value. With b of R permuted values at or below the real one it is (1 + b) / (R + 1). A test
            that stopped at the tenth such value after R permutations has p = 10 / R (Besag and Clifford, 1991). If the
            labels are exchangeable under the null hypothesis, P(p <= a) <= a for every level a.
        repeats: Number R of permutations that were drawn.
        requested: Number of permutations that would have been drawn without the sequential rule.
    """

    mean: float
    sd: float
    p_value: float
    repeats: int
    requested: int


def summarize_null(
    value: float, permuted: Sequence[float], requested: int | None = None, *, sequential: bool = True
) -> NullDistribution:
    """Summarize permuted values, of which the sequential rule uses those up to the tenth at or below the real value.

    A permuted value that is not a number counts as one at or below the real value, so that it never lowers the
    p-value, and not in the mean.

    Args:
        value: Value with the real labels.
        permuted: Value of each permutation, in the order of the permutations, at least one.
        requested: Number of permutations that would be drawn without the rule; None for all that are passed.
        sequential: False to use all permutations.

    Example:
        >>> summarize_null(0.25, [0.5, 0.75])
        NullDistribution(mean=0.625, sd=0.1767766952966369, p_value=0.3333333333333333, repeats=2, requested=2)
    """
    values = np.asarray(permuted, dtype=float)
    at_most = np.flatnonzero(~(values > value + TOLERANCE))
    stopped = sequential and len(at_most) >= STOP_AFTER
    if stopped:
        values = values[: at_most[STOP_AFTER - 1] + 1]
    p_value = STOP_AFTER / len(values) if stopped else (1 + len(at_most)) / (len(values) + 1)
    finite = values[np.isfinite(values)]
    mean = float(finite.mean()) if len(finite) else np.nan
    sd = float(finite.std(ddof=1)) if len(finite) > 1 else 0.0
    return NullDistribution(mean, sd, min(1.0, p_value), len(values), requested or len(permuted))


def smallest_p_value(permutations: int) -> float:
    """Return the smallest p-value that a number of permutations can give."""
    return 1 / (permutations + 1)


def draw_null(
    statistics: Callable[[range], Sequence[float]],
    value: float,
    permutations: int,
    progress: Callable[[int], None] | None = None,
) -> NullDistribution:
    """Draw permuted values until ten are at or below the real value, or the number of permutations is reached.

    The rule goes by the number of the permutation, and never by the order in which threads finish.

    Args:
        statistics: Function of a range of numbers of permutations, from 0, that returns the permuted values.
        value: Value with the real labels.
        permutations: Largest number of permutations, at least 1.
        progress: Called with the number of permutations that were drawn since the last call.

    References:
        Besag and Clifford, "Sequential Monte Carlo p-values", Biometrika 78, 1991.
    """
    values: list[float] = []
    while len(values) < permutations and sum(not v > value + TOLERANCE for v in values) < STOP_AFTER:
        # Values beyond the stopping point are computed in vain, so the first batches are small.
        size = min(permutations - len(values), max(STOP_AFTER, len(values)))
        values += statistics(range(len(values), len(values) + size))
        if progress:
            progress(size)
    return summarize_null(value, values, permutations)


def permute_samples(
    label_set_ids: np.ndarray,
    groups: np.ndarray | None,
    seed: int,
    repeat: int,
    by: str = "shuffle",
    exchangeable: np.ndarray | None = None,
) -> np.ndarray:
    """Return the sample whose labels each sample takes in one permutation, shape (N,).

    Without groups, labels move between samples. With groups, they move between the groups whose samples all have the
    same labels, and within each group whose samples do not. `shuffle` assumes that the samples of such a group are
    exchangeable under the null hypothesis. `shifts` moves the labels of the group on by a random number of samples, and
    those at its end to its beginning. It assumes that samples are in the order of time and that the group is
    stationary: what two samples have in common depends on their distance alone. Without groups, all samples are then
    one sequence.

    Args:
        label_set_ids: Number of each sample's set of labels, shape (N,).
        groups: Group of each sample, shape (N,), or None if the samples are independent.
        seed: Seed of the permutations.
        repeat: Number of the permutation.
        by: `shuffle` or `shifts`.
        exchangeable: Number of each sample's set of groups, equal for all samples of a group, shape (N,). Labels move
            between the groups of a set alone. None if they move between all groups.
    """
    rng = np.random.default_rng([seed, PERMUTATION_SALT, repeat])
    if groups is None and by == "shuffle":
        return rng.permutation(len(label_set_ids))
    numbers, firsts, is_mixed = _mixed_groups(label_set_ids, groups)
    group_donors = firsts.copy()
    sets = np.zeros_like(firsts) if exchangeable is None else exchangeable[firsts]
    for one in np.unique(sets):
        of_set = ~is_mixed & (sets == one)
        group_donors[of_set] = rng.permutation(firsts[of_set])
    order = np.argsort(numbers, kind="stable")
    if by == "shuffle":
        donors = np.lexsort((rng.random(len(label_set_ids)), numbers))
    else:
        sizes = np.bincount(numbers)
        starts = np.cumsum(sizes) - sizes
        of_sample = np.repeat(np.arange(len(sizes)), sizes)
        moved = np.arange(len(order)) - starts[of_sample] + rng.integers(0, sizes)[of_sample]
        donors = order[starts[of_sample] + moved % sizes[of_sample]]
    donors_within = np.empty(len(label_set_ids), np.int64)
    donors_within[order] = donors
    return np.where(is_mixed[numbers], donors_within, group_donors[numbers])


def permute_merged_groups(
    label_set_ids: np.ndarray,
    groups: np.ndarray | None,
    merged_groups: np.ndarray | None,
    seed: int,
    repeat: int,
    by: str = "shuffle",
) -> np.ndarray:
    """Return the sample whose labels each sample takes if groups that share copies of a sample are merged, shape (N,).

    `shuffle` keeps merged groups together. Labels move between those alone that are merged from equally many groups or
    samples: if all copies count in an error, and one class has more of them, its share would change otherwise. `shifts`
    moves labels within the groups, or the one sequence, whose order a merged group does not have.

    Args:
        label_set_ids: Number of each sample's set of labels, shape (N,).
        groups: Group of each sample, shape (N,); None if samples are independent.
        merged_groups: Merged group of each sample, shape (N,); None if no groups are merged.
        seed: Seed of the permutations.
        repeat: Number of the permutation.
        by: `shuffle` or `shifts`.
    """
    if merged_groups is None or by != "shuffle":
        return permute_samples(label_set_ids, groups, seed, repeat, by)
    numbers = np.unique(merged_groups, return_inverse=True)[1]
    firsts = np.arange(len(numbers)) if groups is None else np.unique(groups, return_index=True)[1]
    n_merged = np.bincount(numbers[firsts])[numbers]
    return permute_samples(label_set_ids, numbers, seed, repeat, by, n_merged)


def _mixed_groups(label_set_ids: np.ndarray, groups: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the number of each sample's group, the first sample of each group, and which groups have several labels.

    Without groups, all samples are one group.
    """
    if groups is None:
        groups = np.zeros(len(label_set_ids), np.int64)
    numbers = np.unique(groups, return_inverse=True)[1]
    firsts = np.unique(numbers, return_index=True)[1]
    is_mixed = np.zeros(len(firsts), bool)
    np.logical_or.at(is_mixed, numbers, label_set_ids != label_set_ids[firsts][numbers])
    return numbers, firsts, is_mixed


def count_shifts(label_set_ids: np.ndarray, groups: np.ndarray | None) -> float:
    """Return the number of permutations among which `shifts` draws, which may be infinite as a float.

    Args:
        label_set_ids: Number of each sample's set of labels, shape (N,).
        groups: Group of each sample, shape (N,); None if all samples are one sequence.
    """
    numbers, _, is_mixed = _mixed_groups(label_set_ids, groups)
    pure = int(np.count_nonzero(~is_mixed))
    log_count = float(np.log(np.bincount(numbers)[is_mixed]).sum()) + math.lgamma(pure + 1)
    return float(np.round(math.exp(log_count))) if log_count < math.log(1e12) else math.inf


def are_ordered(label_set_ids: np.ndarray, groups: np.ndarray, logits: np.ndarray, rows: np.ndarray) -> bool:
    """Return whether neighbors in groups of several classes are too much alike to be exchangeable.

    It is true if neighbors have the same labels far more often than in random order, and if the outputs of neighbors
    with the same labels are nearer to each other than those of other samples of that group with these labels. Labels
    that are sorted are no reason for doubt if the outputs do not go with them.

    Args:
        label_set_ids: Number of each sample's set of labels, shape (N,).
        groups: Group of each sample, shape (N,).
        logits: Logits, shape (N', C), of which parts are read.
        rows: Row of each sample in the logits, shape (N,).
    """
    numbers, _, is_mixed = _mixed_groups(label_set_ids, groups)
    order = np.argsort(numbers, kind="stable")
    order = order[is_mixed[numbers[order]]][:MOST_SAMPLES_LOOKED_AT]
    if len(order) < 2:
        return False
    blocks, labels = numbers[order], label_set_ids[order]
    one_labels = np.unique(labels, return_inverse=True)[1]
    cells = np.unique(blocks * (one_labels.max() + 1) + one_labels, return_inverse=True)[1]
    if not _are_alike(*_label_distances(one_labels, cells, blocks)):
        return False
    columns = np.arange(0, logits.shape[1], max(1, logits.shape[1] // MOST_OUTPUTS_LOOKED_AT))
    return _are_alike(*_output_distances(logits[np.ix_(rows[order], columns)].astype(float), cells))


def _are_alike(of_neighbors: float, expected: float, n_pairs: int) -> bool:
    """Return whether the distances of neighbors are clearly smaller than in random order.

    The likeness, 1 - distance / expected distance, is the autocorrelation of lag 1. In random order, its standard error
    is at most about 1 / sqrt(number of pairs).
    """
    if n_pairs == 0 or expected <= 0:
        return False
    return 1 - of_neighbors / expected > max(LARGEST_LIKENESS, STANDARD_ERRORS / math.sqrt(n_pairs))


def _label_distances(labels: np.ndarray, cells: np.ndarray, blocks: np.ndarray) -> tuple[float, float, int]:
    """Return the number of neighbors with other labels, its expectation in random order, and the number of pairs."""
    together = blocks[1:] == blocks[:-1]
    differ = float(np.count_nonzero(together & (labels[1:] != labels[:-1])))
    sizes = np.bincount(cells)[cells]
    n_samples = np.bincount(blocks)
    equal = np.bincount(blocks, sizes - 1) / np.maximum(n_samples * (n_samples - 1.0), 1)
    pairs = np.bincount(blocks[1:][together], minlength=len(n_samples))
    return differ, float(pairs @ (1 - equal)), int(pairs.sum())


def _output_distances(outputs: np.ndarray, cells: np.ndarray) -> tuple[float, float, int]:
    """Return the sum of squared distances of neighbors in a cell, its expectation in random order, and their number."""
    together = cells[1:] == cells[:-1]
    sizes = np.bincount(cells)
    pairs = np.bincount(cells[1:][together], minlength=len(sizes))
    distances = float(((outputs[1:] - outputs[:-1])[together] ** 2).sum())
    expected = 0.0
    for column in outputs.T:
        means = np.bincount(cells, column) / sizes
        squares = np.bincount(cells, (column - means[cells]) ** 2)
        expected += float(pairs @ (2 * squares / np.maximum(sizes - 1, 1)))
    return distances, expected, int(pairs.sum())
