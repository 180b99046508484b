"""Units of statistics: independent samples, or groups of samples that are drawn as a whole."""

import numpy as np
from numpy.typing import ArrayLike

from modgap.errors import InputError


def unit_numbers(groups: ArrayLike | None, n_samples: int) -> np.ndarray:
    """Return the number of each sample's group, counted from 0 in the order of the group values, shape (n,).

    Args:
        groups: Record, subject or other group of each sample, shape (n,). None if samples are independent: each sample
            is then a group.
        n_samples: Number of samples n.

    Raises:
        InputError: When the number of groups is not the number of samples.
    """
    if groups is None:
        return np.arange(n_samples)
    array = np.asarray(groups)
    if array.shape != (n_samples,):
        raise InputError(
            f"The groups have shape {array.shape}, but there are {n_samples} samples. "
            f"Pass one group for each sample, shape ({n_samples},)."
        )
    return np.unique(array, return_inverse=True)[1].ravel()
