"""Blocks of groups, without which models are fitted to see how much their error depends on the groups."""

import numpy as np

from modgap.statistics.intervals import MIN_UNITS

BLOCKS = 10
"""Largest number of blocks."""
BLOCKS_SALT = 0xA3


def group_blocks(labels: np.ndarray, groups: np.ndarray | None, seed: int) -> list[np.ndarray]:
    """Divide the groups into at most ten blocks, over which the groups of each class are spread evenly.

    Models that are fitted to few groups of a class depend on each of them. Neither the errors of the groups nor the
    spread between repeated splits of the same groups shows that, but leaving out one block after the other does.

    Args:
        labels: Class of each sample, shape (N,).
        groups: Number of each sample's group, from 0, shape (N,); None if no blocks are needed.
        seed: Seed of the blocks.

    Returns:
        For each block, a mask that is True for its samples, shape (N,). Nothing without groups, or with fewer than
        eight, which have no interval.
    """
    if groups is None or groups.max() + 1 < MIN_UNITS:
        return []
    labels_of_groups = labels[np.unique(groups, return_index=True)[1]]
    n_groups = len(labels_of_groups)
    rng = np.random.default_rng([seed, BLOCKS_SALT])
    blocks = np.empty(n_groups, np.int64)
    blocks[np.lexsort((rng.random(n_groups), labels_of_groups))] = np.arange(n_groups) % BLOCKS
    return [blocks[groups] == block for block in range(min(BLOCKS, n_groups))]
