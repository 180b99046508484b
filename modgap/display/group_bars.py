"""Bars beside the rows of a figure, each of which joins rows that are not significantly different."""

from collections.abc import Sequence

__all__ = ["assign_lanes"]


def assign_lanes(groups: Sequence[tuple[int, int]], most_lanes: int) -> list[tuple[int, int, int]]:
    """Return first row, last row and lane of each bar, so that bars in a lane do not touch.

    Args:
        groups: First and last row of each bar, in increasing order.
        most_lanes: Number of lanes; bars that do not fit are left out.

    Example:
        >>> assign_lanes([(0, 2), (1, 3), (3, 4)], 2)
        [(0, 2, 0), (1, 3, 1), (3, 4, 0)]
    """
    ends: list[int] = []
    bars = []
    for first, last in groups:
        lane = next((lane for lane, end in enumerate(ends) if end < first), len(ends))
        if lane == most_lanes:
            continue
        ends[lane : lane + 1] = [last]
        bars.append((first, last, lane))
    return bars
