"""A pilot of the first sources by a score alone, as `modgap rank --pilot` makes it."""

import numpy as np

from evidence.two_way import regrets, target_interval
from modgap.cli.output import print_table

NUMBERS = (2, 3, 5)
"""Numbers of sources that are fine-tuned; `modgap rank` advises three."""


def pilot_of_first(pilot: np.ndarray, scores: np.ndarray, n_first: int) -> np.ndarray:
    """Return a pilot of the first sources by a score, (S, T), with NaN for the others.

    Args:
        pilot: The pilot of all sources, (S, T), higher is better.
        scores: Score of each source and target, (S, T), higher is better. NaN is last.
        n_first: Number of sources that are fine-tuned.
    """
    ranks = np.argsort(np.argsort(np.nan_to_num(-scores, nan=np.inf), axis=0, kind="stable"), axis=0)
    return np.where(ranks < n_first, pilot, np.nan)


def print_first_pilots(pilot: np.ndarray, scores: np.ndarray, constant: np.ndarray, errors: np.ndarray) -> None:
    """Print the regret of the pilot of the first few sources, and its difference to the constant answer.

    Args:
        pilot: The pilot of all sources, (S, T), higher is better.
        scores: The default score, (S, T), higher is better.
        constant: The constant answer, (S, T), higher is better.
        errors: Test errors, (S, T).
    """
    everything = np.arange(errors.shape[0]), np.arange(errors.shape[1])
    of_constant = regrets(constant, errors, *everything)
    rows = []
    for n_first in NUMBERS:
        regrets_of_choice = regrets(pilot_of_first(pilot, scores, n_first), errors, *everything)
        difference = target_interval(regrets_of_choice - of_constant)
        interval = f"{difference.mean:.1f} [{difference.low:.1f}, {difference.high:.1f}]"
        rows.append([str(n_first), f"{regrets_of_choice.mean():.1f}", interval])
    print_table(
        ["fine-tuned", "regret", "minus the constant answer's [95 %]"],
        rows,
        "pilot at three rates of the first sources by the default score, added after the other tables were made",
    )
