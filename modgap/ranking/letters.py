"""Letters of groups of sources: two sources share a letter if they are not significantly different."""

import numpy as np

from modgap.ranking.types import ScoreTable

__all__ = ["MOST_LETTERED", "group_letters", "source_letters"]

MOST_LETTERED = 60
"""Most members that get letters: the number of groups can grow exponentially with theirs."""

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def group_letters(different: np.ndarray) -> list[str]:
    """Return a compact letter display: two members share a letter exactly if they are not different.

    Args:
        different: True for each pair that differs significantly, shape (n, n), symmetric, with the best member first.

    Returns:
        The letters of each member, starting with A for the group of the first. All are empty if there are more than 60
        members, or if more letters are needed than the alphabet has.

    References:
        Piepho, "An algorithm for a letter-based representation of all-pairwise comparisons", Journal of Computational
        and Graphical Statistics, 2004.

    Example:
        >>> group_letters(np.array([[False, False, True], [False, False, False], [True, False, False]]))
        ['A', 'AB', 'B']
    """
    if len(different) > MOST_LETTERED:
        return [""] * len(different)
    groups = [frozenset(range(len(different)))] if len(different) else []
    for one, other in np.argwhere(np.triu(different, 1)).tolist():
        split = [
            part
            for group in groups
            for part in ((group - {one}, group - {other}) if {one, other} <= group else (group,))
        ]
        unique = list(dict.fromkeys(split))
        groups = [group for group in unique if not any(group < another for another in unique)]
    if len(groups) > len(ALPHABET):
        return [""] * len(different)
    ordered = sorted(groups, key=lambda group: sorted(group))
    return [
        "".join(ALPHABET[number] for number, group in enumerate(ordered) if member in group)
        for member in range(len(different))
    ]


def source_letters(table: ScoreTable) -> dict[int, str]:
    """Return the letters of each source by one score, by the index of its row. Empty if a significance is unknown."""
    standings = table.among_sources
    ranked = [int(index) for index in standings.order() if standings.ranks[index] > 0]
    pairs = np.ix_(ranked, ranked)
    if len(ranked) < 2 or not np.isfinite(standings.p_values[pairs]).all():
        return {}
    return dict(zip(ranked, group_letters(standings.different[pairs]), strict=True))
