"""What sizes alone decide, so that results never depend on the clock: which way is the cheaper, what is kept."""

__all__ = ["n_ranks_needed", "n_ranks_worth_keeping", "should_search_rows", "should_walk_ranks"]

# A class met on a walk down the ranks costs about a sixth of a logit read out of order: measured at
# C = 1,000, where walking is the faster from K = 12 on.
STEPS_PER_READING = 6

# Up to how many target classes the search reads rows, and where a ranking would not fit. A step of the
# tables touches the fewer samples the more classes there are, one of the rows the same share. Measured in
# milliseconds for 500 steps at N = C = 1,000, tables and rows: K = 2: 50, 3; 4: 16, 4; 8: 13, 5; 10: 16, 7;
# 16: 13, 8; 24: 10, 8; 32: 8, 8 without signal, and with it, where fewer steps move: 13, 1; 5, 1; 7, 6;
# 5, 4; 5, 7; 6, 8; 5, 10. C from 50 to 21,841 and N from 200 to 10,000 move the crossing by little.
ROWS = 12
ROWS_UNRANKED = 24

LEFT_OPEN = 5e-4
MEMORY = 1 << 30
BYTES_PER_RANK = 8


def should_walk_ranks(n_source_classes: int, n_classes: int) -> bool:
    """Whether the assignment walks down the ranks to a chosen class, rather than read all chosen logits."""
    return n_source_classes < STEPS_PER_READING * n_classes * (n_classes + 1)


def should_search_rows(n_samples: int, n_source_classes: int, n_classes: int) -> bool:
    """Whether the search counts gains from rows of logits (N, C), rather than keep tables of them by ranks."""
    fits = _ranks_wanted(n_source_classes, n_classes) * BYTES_PER_RANK * n_samples <= MEMORY
    return n_classes <= (ROWS if fits else ROWS_UNRANKED)


def n_ranks_needed(n_samples: int, n_source_classes: int, n_classes: int) -> int:
    """Ranks R of logits (N, C) that assignment and search have a use for."""
    rows = should_search_rows(n_samples, n_source_classes, n_classes) and not should_walk_ranks(
        n_source_classes, n_classes
    )
    return 1 if rows else n_ranks_worth_keeping(n_samples, n_source_classes, n_classes)


def n_ranks_worth_keeping(n_samples: int, n_source_classes: int, n_classes: int) -> int:
    """Ranks R that matter: only those above a sample's second-best chosen class ever do.

    A random map leaves at most one of its K classes among a sample's R leading ones with a
    hypergeometric probability; R is the smallest that makes it LEFT_OPEN, within MEMORY.
    """
    return max(1, min(_ranks_wanted(n_source_classes, n_classes), MEMORY // (BYTES_PER_RANK * n_samples)))


def _ranks_wanted(n_source_classes: int, n_classes: int) -> int:
    none = 1.0
    kept = 0
    for kept in range(1, n_source_classes + 1):
        rest = n_source_classes - n_classes - kept + 1
        if rest <= 0:
            # With one rank more, two of the K classes are always among the leading ones.
            kept += 1
            break
        none *= rest / (n_source_classes - kept + 1)
        if none * (1 + n_classes * kept / rest) < LEFT_OPEN:
            break
    return kept
