"""A subset with as many samples of each group, on which groups are exchangeable whatever their sizes."""

import numpy as np
from numpy.typing import ArrayLike

from modgap.errors import InputError, UsageError, count
from modgap.labels.user_arrays import number_groups, to_numpy

__all__ = ["equal_group_rows"]

EQUAL_GROUPS_SALT = 0xE6


def equal_group_rows(groups: ArrayLike | None, per_group: int, seed: int) -> np.ndarray:
    """Draw the same number of samples from each group.

    Args:
        groups: Group of each sample, of any sortable type, shape (N,); None raises.
        per_group: Number of samples to draw from each group.
        seed: Seed of the draw.

    Returns:
        Row numbers in ascending order, shape (G * per_group,).

    Raises:
        UsageError: If there are no groups, or the number is below 1.
        InputError: If a group has fewer samples.
    """
    if per_group < 1:
        raise UsageError(f"`per_group` is {per_group}. Expected a number of at least 1.")
    if groups is None:
        raise UsageError("`per_group` needs groups, and the samples have none. Leave it out.")
    numbers = number_groups(groups, len(to_numpy(groups, "groups")))
    sizes = np.bincount(numbers)
    if sizes.min() < per_group:
        n_small = int((sizes < per_group).sum())
        raise InputError(
            f"`per_group` is {per_group}, but {count(n_small, 'group')} of {len(sizes)} have fewer samples. "
            f"The smallest group has {count(int(sizes.min()), 'sample')}. Pass `per_group={int(sizes.min())}` or less."
        )
    order = np.random.default_rng([seed, EQUAL_GROUPS_SALT]).permutation(len(numbers))
    by_group = order[np.argsort(numbers[order], kind="stable")]
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    return np.sort((by_group[starts[:, None] + np.arange(per_group)]).ravel())
