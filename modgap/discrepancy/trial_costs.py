"""Cost model of the two kernels that count the matches of random maps."""

import math

from modgap.discrepancy.kernels.simd import LANES
from modgap.discrepancy.kernels.trials_by_bits import STEP

# Nanoseconds of one thread, measured by benchmarks/montecarlo.py --calibrate (AMD Zen 5, C = 1,000). Only their ratios
# matter for the choice of a kernel.
COLUMN_NS = 0.0105
"""Visit of one chosen column for one sample in one trial."""
BATCH_NS = 90.0
"""Start of one sample for 1,024 trials."""
STEP_NS = 1.13
"""Visit of one class of one sample for 1,024 trials."""
CODE_NS = 5.5
"""Ranking of one value."""
LEADING_NS = 2.9
"""Ranking of one value if only the leading values are needed."""


def walk_length(n_source_classes: int, n_classes: int) -> float:
    """Return the expected number of leading classes until the last of 1,024 trials meets a chosen class."""
    if n_classes == n_source_classes:
        return 1.0
    steps = (math.log(LANES) + 0.58) / -math.log1p(-n_classes / n_source_classes)
    return min(steps, n_source_classes)


def n_leading_ranks(n_source_classes: int, n_classes: int) -> int:
    """Return the smallest number R of ranks, a multiple of STEP, that rarely leaves a trial undecided.

    A map misses the R leading classes of a sample with probability C(C-R, K) / C(C, K). R is chosen so that the
    probability of an undecided trial among the 1,024 trials of a sample is below 1 %.
    """
    n_undecided = float(LANES)
    n_ranks = 0
    while n_undecided > 0.01 and n_ranks < n_source_classes:
        n_undecided *= max(0, n_source_classes - n_classes - n_ranks) / (n_source_classes - n_ranks)
        n_ranks += 1
    return -(-n_ranks // STEP) * STEP


def cheapest_kernel(n_source_classes: int, n_classes: int, trials: int) -> str:
    """Return `columns` or `bits`, the kernel with the lowest expected cost of counting and ranking."""
    batch_ns = BATCH_NS + walk_length(n_source_classes, n_classes) * STEP_NS
    costs = {
        "columns": trials * (n_classes + 1) * COLUMN_NS + n_source_classes * CODE_NS,
        "bits": trials / LANES * batch_ns + n_source_classes * LEADING_NS,
    }
    return min(costs, key=lambda kernel: costs[kernel])
