"""Choices of algorithm and of memory that depend only on sizes, so that results never depend on the clock."""

import functools

# Largest number of target classes for which the search reads rows of logits, and the same where a ranking does not fit
# into memory. The more classes there are, the fewer samples a step with tables touches; a step with rows always touches
# the same share. Measured in milliseconds for 500 steps at N = C = 1,000, with tables and with rows: K = 2: 50, 3;
# 4: 16, 4; 8: 13, 5; 10: 16, 7; 16: 13, 8; 24: 10, 8; 32: 8, 8 without signal. With signal, where fewer steps change
# the map: 13, 1; 5, 1; 7, 6; 5, 4; 5, 7; 6, 8; 5, 10. Values of C from 50 to 21,841 and of N from 200 to 10,000 move
# the crossing only a little.
ROWS = 12
ROWS_UNRANKED = 24

LEFT_OPEN = 5e-4
MEMORY = 1 << 30
BYTES_PER_RANK = 8


def should_search_rows(n_samples: int, n_source_classes: int, n_classes: int) -> bool:
    """Return True if the search should count gains from rows of logits (N, C), not from tables by ranks."""
    ranking_fits = _n_ranks_wanted(n_source_classes, n_classes) * BYTES_PER_RANK * n_samples <= MEMORY
    return n_classes <= (ROWS if ranking_fits else ROWS_UNRANKED)


def n_ranks_needed(n_samples: int, n_source_classes: int, n_classes: int) -> int:
    """Return the number R of ranks of logits (N, C) that the search uses: one if it reads rows of logits."""
    if should_search_rows(n_samples, n_source_classes, n_classes):
        return 1
    return n_ranks_worth_keeping(n_samples, n_source_classes, n_classes)


def n_ranks_worth_keeping(n_samples: int, n_source_classes: int, n_classes: int) -> int:
    """Return the number R of ranks that matter; only ranks above a sample's second-best chosen class ever do.

    A random map has at most one of its K classes among the R leading classes of a sample with a hypergeometric
    probability. R is the smallest number of ranks for which this probability is below LEFT_OPEN, within MEMORY.
    """
    most = MEMORY // (BYTES_PER_RANK * n_samples)
    return max(1, min(_n_ranks_wanted(n_source_classes, n_classes), most))


@functools.cache
def _n_ranks_wanted(n_source_classes: int, n_classes: int) -> int:
    p_none = 1.0
    n_ranks = 0
    for n_ranks in range(1, n_source_classes + 1):
        rest = n_source_classes - n_classes - n_ranks + 1
        if rest <= 0:
            # With one rank more, two of the K classes are always among the leading ones.
            n_ranks += 1
            break
        p_none *= rest / (n_source_classes - n_ranks + 1)
        if p_none * (1 + n_classes * n_ranks / rest) < LEFT_OPEN:
            break
    return n_ranks
