"""Means over targets with their intervals, and texts and tables of them, without modgap."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

LEVEL = 0.95
POWER = 0.8
"""Power at which a difference counts as detectable."""
SMALLEST_P = 0.001


class Interval(NamedTuple):
    """A mean with its interval; as a text with one decimal."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        """Return the mean and both ends with one decimal."""
        return f"{shown(self.mean)} [{shown(self.low)}, {shown(self.high)}]"


class PrintedTable(NamedTuple):
    """A table of texts: one line above it, the heads of its columns, and the cells of its rows."""

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]

    @property
    def markdown(self) -> list[str]:
        """The lines of the table in a page."""
        head = [f"| {' | '.join(self.heads)} |", f"|{'---|' * len(self.heads)}"]
        title = self.title if self.title.endswith("?") else f"{self.title}:"
        return [title, "", *head, *(f"| {' | '.join(row)} |" for row in self.rows)]


def shown(value: float) -> str:
    """Return a number with one decimal, and 0.0 without a sign."""
    return f"{round(value, 1) + 0.0:.1f}"


def mean_interval(values: np.ndarray) -> Interval:
    """Return the mean of values by target, (n,), with Student's interval at 95 %."""
    mean = float(np.mean(values))
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(values) - 1) * stats.sem(values))
    return Interval(mean, mean - half, mean + half)


def interval_text(values: Any, *, counted: bool = False) -> str:
    """Return a mean with its interval as a text; one value without interval, and nothing for none.

    Args:
        values: Values by target, (n,).
        counted: True to add their number, and for nothing if there is one alone.
    """
    values = np.asarray(values, float)
    if len(values) < 2:
        return shown(values[0]) if len(values) and not counted else ""
    return f"{mean_interval(values)}{f' ({len(values)})' if counted else ''}"


def p_value_text(p_value: float) -> str:
    """Return a p-value as it stands in a table."""
    return f"p = {p_value:.2g}" if p_value >= SMALLEST_P else f"p < {SMALLEST_P}"


def share_text(successes: int, trials: int) -> str:
    """Return a share in percent with its exact 95 % interval; nothing for no trials."""
    if not trials:
        return ""
    low, high = stats.binomtest(successes, trials).proportion_ci()
    return f"{100 * successes / trials:.0f} % [{100 * low:.0f}, {100 * high:.0f}]"


def exact_zeros(differences: Any) -> Any:
    """Return differences of errors in percent in which equal errors, of other rounding, differ by exactly 0."""
    return np.round(differences, 9)


def mean_p_value(differences: np.ndarray) -> float:
    """Return the p-value of a mean of 0 by Student's t; of equal differences it is 0, or 1 if they are 0."""
    if np.ptp(differences) == 0:
        return float(differences[0] == 0)
    return float(stats.ttest_1samp(differences, 0).pvalue)


def detectable_table(differences: Mapping[str, Any]) -> PrintedTable:
    """Return what the judging targets detect with a power of 80 %, with the spread that was found on them.

    Args:
        differences: Differences by judging target of each comparison, by what is compared.
    """
    from statsmodels.stats.power import TTestPower

    rows = []
    for name, values in differences.items():
        spread, number = float(np.std(values, ddof=1)), len(values)
        effect = float(TTestPower().solve_power(nobs=number, alpha=1 - LEVEL, power=POWER)) * spread
        rows.append([name, str(number), f"{spread:.1f}", f"{effect:.1f}"])
    heads = ["difference", "targets", "standard deviation", "detectable with a power of 80 %"]
    return PrintedTable("What the design could detect with the spread that was found", heads, rows)


def without_largest(differences: pd.Series) -> pd.Series:
    """Return differences by target without the one that is farthest from 0."""
    return differences.drop(differences.abs().idxmax())
