"""Comparisons of many pairs: Holm's correction, and groups of members that do not differ significantly."""

import numpy as np
from numpy.typing import ArrayLike

SIGNIFICANCE_LEVEL = 0.05
"""Largest p-value, corrected where there are several tests, that is significant."""
MOST_LETTERED = 60
"""Most members that get letters. Displays of more members are no longer readable."""
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def holm(p_values: ArrayLike) -> np.ndarray:
    """Return p-values corrected for the number of tests, which control the family-wise error rate.

    Args:
        p_values: P-values of m tests, shape (m,). NaN for tests that could not be made; they are not counted.

    Returns:
        Corrected p-values, at most 1, shape (m,).

    References:
        Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6, 1979.

    Example:
        >>> holm([0.01, 0.04, 0.03]).round(6).tolist()
        [0.03, 0.06, 0.06]
    """
    values = np.asarray(p_values, np.float64)
    corrected = np.full(values.shape, np.nan)
    tested = np.flatnonzero(np.isfinite(values))
    order = tested[np.argsort(values[tested], kind="stable")]
    factors = len(order) - np.arange(len(order))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(values[order] * factors))
    return corrected


def similar_groups(different: np.ndarray) -> list[list[int]] | None:
    """Return the groups of members that do not differ: the largest sets of which no two members differ.

    Two members are together in a group exactly if they do not differ. Groups may overlap, and need not be runs of
    members. There can be 3 to the power of a third of the number of members, so they are listed one by one, and the
    first beyond the alphabet ends the search. Piepho's algorithm gives the same groups, but it can pass through 2 to
    the 26th on the way to 27.

    Every set but the first follows from another one: a member joins, those that differ from it leave, and so do those
    behind it, and others join in their order as far as they can.

    Args:
        different: True for each pair that differs significantly, shape (n, n), symmetric, with the best member first.

    Returns:
        The groups as sorted lists of members, that of the best member first. None for more than 60 members, or if there
        are more groups than letters in the alphabet.

    References:
        Piepho, "An algorithm for a letter-based representation of all-pairwise comparisons", Journal of Computational
        and Graphical Statistics, 2004.
        Johnson, Yannakakis and Papadimitriou, "On generating all maximal independent sets", Information Processing
        Letters, 1988.

    Example:
        >>> similar_groups(np.array([[False, True, False], [True, False, False], [False, False, False]]))
        [[0, 2], [1, 2]]
    """
    if len(different) > MOST_LETTERED:
        return None
    members = range(len(different))
    rivals = [frozenset(np.flatnonzero(row).tolist()) for row in different]

    def complete(group: set[int]) -> frozenset[int]:
        for member in members:
            if not rivals[member] & group:
                group.add(member)
        return frozenset(group)

    waiting = [complete(set())] if len(different) else []
    groups = set(waiting)
    while waiting:
        group = waiting.pop()
        for joining in set(members) - group:
            ahead = {member for member in group if member < joining}
            following = complete((ahead - rivals[joining]) | {joining})
            if following not in groups:
                groups.add(following)
                waiting.append(following)
            if len(groups) > len(ALPHABET):
                return None
    return sorted(sorted(group) for group in groups)


def group_letters(different: np.ndarray) -> list[str]:
    """Return a compact letter display: two members share a letter exactly if they are not different.

    Args:
        different: True for each pair that differs significantly, shape (n, n), symmetric, with the best member first.

    Returns:
        The letters of each member, starting with A for the group of the first. All are empty if `similar_groups` has
        none.

    Example:
        >>> group_letters(np.array([[False, False, True], [False, False, False], [True, False, False]]))
        ['A', 'AB', 'B']
    """
    groups = similar_groups(different) or []
    return [
        "".join(letter for letter, group in zip(ALPHABET, groups, strict=False) if member in group)
        for member in range(len(different))
    ]
