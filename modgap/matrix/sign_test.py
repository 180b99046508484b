"""The sign test of many rows of differences at once."""

import numpy as np
from scipy import stats

__all__ = ["sign_test_p_values"]


def sign_test_p_values(differences: np.ndarray) -> np.ndarray:
    """Return the exact two-sided p-value of each row of differences; 1 where all are zero.

    Only the signs count, so the result does not depend on the scale of each difference. Differences of zero are left
    out.

    Args:
        differences: Paired differences, shape (R, T).

    Returns:
        P-values, shape (R,).

    References:
        Dixon and Mood, "The statistical sign test", Journal of the American Statistical Association 41, 1946.
    """
    positive, negative = (differences > 0).sum(axis=1), (differences < 0).sum(axis=1)
    p_values: np.ndarray = np.minimum(
        1.0, 2 * stats.binom.cdf(np.minimum(positive, negative), positive + negative, 0.5)
    )
    return p_values
