"""Letters of groups of sources: two sources share a letter if they are not significantly different."""

import numpy as np

from modgap.ranking.types import ScoreTable

__all__ = ["MOST_LETTERED", "group_letters", "source_letters"]

MOST_LETTERED = 60
"""Most members that get letters. Displays of more members are no longer readable."""

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def group_letters(different: np.ndarray) -> list[str]:
    """Return a compact letter display: two members share a letter exactly if they are not different.

    The groups are the largest sets of members of which no two are different. There can be 3 to the power of a third of
    the number of members, so they are listed one by one, and the first beyond the alphabet ends the search. Piepho's
    algorithm gives the same groups, but it can pass through 2 to the 26th on the way to 27.

    Args:
        different: True for each pair that differs significantly, shape (n, n), symmetric, with the best member first.

    Returns:
        The letters of each member, starting with A for the group of the first. All are empty if there are more than 60
        members, or if more letters are needed than the alphabet has.

    References:
        Piepho, "An algorithm for a letter-based representation of all-pairwise comparisons", Journal of Computational
        and Graphical Statistics, 2004.
        Johnson, Yannakakis and Papadimitriou, "On generating all maximal independent sets", Information Processing
        Letters, 1988.

    Example:
        >>> group_letters(np.array([[False, False, True], [False, False, False], [True, False, False]]))
        ['A', 'AB', 'B']
    """
    if len(different) > MOST_LETTERED:
        return [""] * len(different)
    groups = _maximal_groups(different, len(ALPHABET))
    if groups is None:
        return [""] * len(different)
    ordered = sorted(groups, key=lambda group: sorted(group))
    return [
        "".join(ALPHABET[number] for number, group in enumerate(ordered) if member in group)
        for member in range(len(different))
    ]


def _maximal_groups(different: np.ndarray, most: int) -> set[frozenset[int]] | None:
    """Return the largest sets of members of which no two are different. None if there are more than `most`.

    Every set but the first follows from another one: a member joins, those that differ from it leave, and so do those
    behind it, and others join in their order as far as they can.
    """
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
            if len(groups) > most:
                return None
    return groups


def source_letters(table: ScoreTable) -> dict[int, str]:
    """Return the letters of each source by one score, by the index of its row. Empty if a significance is unknown."""
    standings = table.among_sources
    ranked = [int(index) for index in standings.order() if standings.ranks[index] > 0]
    pairs = np.ix_(ranked, ranked)
    if len(ranked) < 2 or not np.isfinite(standings.p_values[pairs]).all():
        return {}
    return dict(zip(ranked, group_letters(standings.different[pairs]), strict=True))
