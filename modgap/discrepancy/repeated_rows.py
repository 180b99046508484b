"""Samples with equal logits: copies of one sample, which are no independent samples."""

from dataclasses import dataclass, replace
from hashlib import blake2b

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from modgap.discrepancy.input_checks import validate_labels
from modgap.labels.label_space import LabelSpace
from modgap.labels.user_arrays import number_groups
from modgap.statistics.intervals import MIN_UNITS
from modgap.storage.memory_map import release_pages

ROWS_AT_A_TIME = 4096
MOST_ROWS_COMPARED = 1000
"""Number of different repeated rows of which the values are compared."""
NOT_COPIES = (
    "{} are not taken for copies: the source may have one output for different samples, or merging them would join "
    "more than one in eight groups. If they are copies, the p-value and the intervals are too small: remove them, or "
    "pass groups that hold them together."
)


@dataclass(frozen=True)
class RepeatedRows:
    """The samples whose logits equal those of another sample.

    Attributes:
        n_samples: Number of these samples.
        n_merged: Number of them that are taken for copies of one another.
        merged_groups: Number of each sample's group, shape (N,), in which copies have one group together with all
            samples of the groups that they come from; None if there are no copies.
    """

    n_samples: int
    n_merged: int
    merged_groups: np.ndarray | None


def remarks_on_copies(n_repeated: int, n_copies: int, n_samples: int) -> list[str]:
    """Return sentences that say how many samples have equal logits, and what they are taken for.

    Args:
        n_repeated: Number of samples whose logits equal those of another sample.
        n_copies: Number of them that are taken for copies of one another.
        n_samples: Number of all samples.
    """
    if not n_repeated:
        return []
    repeated = f"{n_repeated:,} of {n_samples:,} samples have the same logits as another."
    if not n_copies:
        return [f"{repeated} {NOT_COPIES.format('They')}"]
    those = "They" if n_copies == n_repeated else f"{n_copies:,} of them"
    remarks = [
        f"{repeated} {those} are taken for copies: each of them counts in an error, and splits, shuffled labels and "
        "intervals keep equal samples together."
    ]
    if n_copies < n_repeated:
        remarks.append(NOT_COPIES.format(f"The other {n_repeated - n_copies:,}"))
    return remarks


def groups_with_copies(logits: ArrayLike, labels: ArrayLike, groups: ArrayLike | None) -> RepeatedRows:
    """Find samples with equal logits, and merge those that are copies into groups, as `repeated_rows` does.

    Logits that cannot be used have no copies; `modgap.discrepancy.estimate` says what is wrong with them.

    Args:
        logits: Source logits, shape (N', C).
        labels: Target labels, as for `modgap.discrepancy.estimate`.
        groups: Group of each sample, shape (N',); None if samples are independent.

    Returns:
        The repeated samples, with merged groups of shape (N',).

    Raises:
        InputError: If labels or groups cannot be used.
    """
    array = np.asarray(logits)
    if array.ndim != 2 or array.dtype.kind not in "fiu" or not len(array):
        return RepeatedRows(0, 0, None)
    space = validate_labels(labels, len(array))
    numbers = None if groups is None else number_groups(groups, len(array))
    of_labeled = repeated_rows(array, space, None if numbers is None else numbers[space.rows])
    if of_labeled.merged_groups is None:
        return of_labeled
    # Samples without a label are not used, so that each may be a group of its own.
    all_groups = len(array) + np.arange(len(array))
    all_groups[space.rows] = of_labeled.merged_groups
    return replace(of_labeled, merged_groups=all_groups)


def repeated_rows(logits: np.ndarray, space: LabelSpace, groups: np.ndarray | None) -> RepeatedRows:
    """Find samples with equal logits, and merge those that are copies into groups.

    Outputs of a network are real numbers, so that equal rows come from equal samples. This does not hold where a source
    has few different outputs, such as predicted classes in place of logits, or a network that is dead for many samples.
    Equal rows are therefore not merged if

    - rows that are repeated have so few different values that rows of different samples are expected to be equal;
    - without groups, a row belongs to more than one in eight samples, and their labels differ;
    - with groups, a row, or the copies that link groups to each other, occur in more than one in eight groups, and in
      more than two.

    Copies with different labels stay together as well, so that their labels are permuted among themselves alone, which
    does not change an error: they add no evidence.

    Args:
        logits: The user's logits, shape (N', C); they may be memory-mapped.
        space: Labels of the N samples.
        groups: Number of each sample's group, shape (N,); None if samples are independent.
    """
    rows = _row_numbers(logits, space.rows)
    sizes = np.bincount(rows)
    is_repeated = sizes > 1
    n_samples = int(sizes[is_repeated].sum())
    if not n_samples:
        return RepeatedRows(0, 0, None)
    merged = is_repeated
    if _is_discrete(logits[space.rows[_first_samples(rows)[is_repeated][:MOST_ROWS_COMPARED]]], len(space)):
        merged = np.zeros_like(is_repeated)
    elif groups is None:
        merged &= (sizes * MIN_UNITS <= len(space)) | (_n_different(rows, space.label_set_ids) == 1)
    else:
        merged &= _links_few_groups(rows, merged, groups)
    n_merged = int(sizes[merged].sum())
    return RepeatedRows(n_samples, n_merged, _merge(rows, merged, groups) if n_merged else None)


def _row_numbers(logits: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """Return a number from 0 for the row of each sample, which equal rows share."""
    digests = np.empty(len(samples), np.uint64)
    for start in range(0, len(samples), ROWS_AT_A_TIME):
        # The sum turns -0 into 0, which is equal but has other bytes.
        block = np.ascontiguousarray(logits[samples[start : start + ROWS_AT_A_TIME]] + 0)
        for offset, row in enumerate(block):
            digests[start + offset] = int.from_bytes(blake2b(row, digest_size=8).digest())
        release_pages(logits)
    return np.asarray(np.unique(digests, return_inverse=True)[1])


def _first_samples(rows: np.ndarray) -> np.ndarray:
    """Return the first sample that has each row."""
    return np.asarray(np.unique(rows, return_index=True)[1])


def _n_different(rows: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the number of different values, such as labels or groups, of the samples of each row."""
    pairs = np.unique(np.stack([rows, values], axis=1), axis=0)
    return np.bincount(pairs[:, 0])


def _is_discrete(repeated: np.ndarray, n_samples: int) -> bool:
    """Return True if rows have so few different values that those of different samples are expected to be equal.

    The chance that two rows are equal is estimated by the product over the columns of the chance that two of them have
    equal values. It is compared with the number of pairs of samples. Where a few rows are repeated, they have to have
    more different values than there are rows, which one-hot rows do not have.

    Args:
        repeated: The different rows that are repeated, shape (D, C).
        n_samples: Number N of samples.
    """
    n_rows = len(repeated)
    if len(np.unique(repeated)) <= max(2, min(n_rows, MIN_UNITS)):
        return True
    if n_rows < 2:
        return False
    sizes = [np.unique(column, return_counts=True)[1] for column in repeated.T]
    equal = np.array([(one * (one - 1.0)).sum() for one in sizes]) / (n_rows * (n_rows - 1.0))
    with np.errstate(divide="ignore"):
        return bool(np.log(equal).sum() + np.log(n_samples * (n_samples - 1.0) / 2) >= 0)


def _links_few_groups(rows: np.ndarray, merged: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return which rows are in one group, or link at most one in eight groups, or two, to each other, shape (D,).

    Args:
        rows: Number of each sample's row, shape (N,).
        merged: True for the rows that are copies of one sample, as far as this is known without the groups, shape (D,).
        groups: Number of each sample's group, shape (N,).
    """
    most = max(2, len(np.unique(groups)) / MIN_UNITS)
    n_groups = _n_different(rows, groups)
    linked = _merge(rows, merged & (n_groups <= most), groups)
    n_linked = _n_different(linked, groups)[linked[_first_samples(rows)]]
    return np.asarray((n_groups == 1) | ((n_groups <= most) & (n_linked <= most)))


def _merge(rows: np.ndarray, merged: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    """Return groups in which all samples of a merged row, and of the groups that they are in, belong together, (N,)."""
    units = np.arange(len(rows)) if groups is None else groups
    n_units = int(units.max()) + 1
    is_merged = merged[rows]
    links = (np.ones(is_merged.sum()), (units[is_merged], n_units + rows[is_merged]))
    n_nodes = n_units + len(merged)
    parts = connected_components(coo_array(links, shape=(n_nodes, n_nodes)), directed=False)[1]
    return np.asarray(np.unique(parts[units], return_inverse=True)[1])
