"""Wilcoxon's signed-rank test of many rows at once, exact with ties for up to 30 differences."""

import numpy as np
from scipy import special
from scipy.stats import rankdata

__all__ = ["MOST_EXACT", "signed_rank_p_values"]

MOST_EXACT = 30
"""Most differences of a row with an exact p-value; of more it is the normal approximation."""
ROWS_AT_ONCE = 2000


def signed_rank_p_values(differences: np.ndarray) -> np.ndarray:
    """Return the two-sided p-value of each row of differences; 1 where all are zero.

    Differences of zero are left out. Equal sizes share their mean rank, and the distribution is that of these ranks:
    the number of signs with each rank sum, counted one difference after the other.

    Args:
        differences: Paired differences, shape (R, T).

    Returns:
        P-values, shape (R,).

    References:
        Wilcoxon, "Individual comparisons by ranking methods", Biometrics Bulletin 1, 1945.
    """
    sizes = np.abs(differences)
    # Differences of zero have rank 0, whose sign does not matter. Ranks are doubled, which makes them whole numbers.
    ranks = np.where(sizes > 0, rankdata(np.where(sizes > 0, sizes, np.inf), axis=1), 0.0)
    observed = np.abs((np.sign(differences) * ranks).sum(axis=1))
    if differences.shape[1] > MOST_EXACT:
        scale = np.sqrt((ranks**2).sum(axis=1))
        approximate: np.ndarray = special.erfc(observed / np.where(scale > 0, scale, 1) / np.sqrt(2))
        return approximate
    doubled = np.rint(2 * ranks).astype(np.int64)
    limits = np.rint(2 * observed).astype(np.int64)
    parts = range(0, len(doubled), ROWS_AT_ONCE)
    found = [_exact(doubled[start : start + ROWS_AT_ONCE], limits[start : start + ROWS_AT_ONCE]) for start in parts]
    return np.concatenate(found) if found else np.ones(0)


def _exact(ranks: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Return the share of all signs whose rank sum is as far from zero as the observed one.

    Args:
        ranks: Doubled ranks, shape (R, T).
        observed: Sizes of the doubled sums of the signed ranks, shape (R,).
    """
    n_differences = ranks.shape[1]
    sums = np.arange(n_differences * (n_differences + 1) + 1)
    counts = np.zeros((len(ranks), len(sums)))
    counts[:, 0] = 1
    for column in ranks.T:
        sources = sums - column[:, None]
        counts += np.where(sources >= 0, np.take_along_axis(counts, np.maximum(sources, 0), axis=1), 0)
    # With a sum P of the positive ranks, the sum of the signed ranks is 2 P minus the sum of all.
    far = np.abs(2 * sums - ranks.sum(axis=1)[:, None]) >= observed[:, None]
    shares: np.ndarray = (counts * far).sum(axis=1) / 2.0**n_differences
    return shares
