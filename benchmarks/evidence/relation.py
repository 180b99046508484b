"""The relation of the paper's title: discrepancy against the error after transfer, over sources and targets."""

from collections.abc import Callable, Mapping

import numpy as np
from scipy import stats

from evidence.two_way import MeanInterval, two_way_interval
from modgap.cli.output import print_table

__all__ = ["RELATED", "print_relations", "relation", "without_effects"]

RELATED = ("discrepancy", "soft", "soft-matched", "leep", "leep-held-out")
"""Scores whose relation to the error is reported."""


def without_effects(table: np.ndarray) -> np.ndarray:
    """Return a table (S, T) without the effects of its rows and columns: what is left is their interaction."""
    rest: np.ndarray = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0, keepdims=True) + table.mean()
    return rest


def relation(scores: np.ndarray, errors: np.ndarray, *, resamples: int) -> dict[str, MeanInterval]:
    """Return rank correlations of a score with the error, with intervals over sources and targets.

    Args:
        scores: The score, higher is better, (S, T).
        errors: Errors after transfer, (S, T).
        resamples: Number of resamples.

    Returns:
        Spearman's rho of the negative score and the error: `all` cells; the mean `within targets`, over the sources of
        each; and of the `interaction`, with the effects of source and target removed.
    """
    worse = -scores

    def everywhere(sources: np.ndarray, targets: np.ndarray) -> np.ndarray:
        return np.array([_rho(_part(worse, sources, targets).ravel(), _part(errors, sources, targets).ravel())])

    def within(sources: np.ndarray, targets: np.ndarray) -> np.ndarray:
        pairs = zip(_part(worse, sources, targets).T, _part(errors, sources, targets).T, strict=True)
        return np.array([_rho(one, other) for one, other in pairs])

    def interaction(sources: np.ndarray, targets: np.ndarray) -> np.ndarray:
        rests = [without_effects(_part(table, sources, targets)).ravel() for table in (worse, errors)]
        return np.array([_rho(*rests)])

    kinds: Mapping[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
        "all": everywhere,
        "within targets": within,
        "interaction": interaction,
    }
    return {name: two_way_interval(kind, *errors.shape, resamples=resamples) for name, kind in kinds.items()}


def _part(table: np.ndarray, sources: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return table[np.ix_(sources, targets)]


def _rho(one: np.ndarray, other: np.ndarray) -> float:
    if len(one) < 2 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    # This is scipy.stats.spearmanr without its p-value, which takes four times as long.
    return float(np.corrcoef(stats.rankdata(one), stats.rankdata(other))[0, 1])


def print_relations(scores: Mapping[str, np.ndarray], errors: np.ndarray, *, resamples: int) -> None:
    """Print the relation of each score that is defined for all sources and targets, or for all of some sources."""
    rows = []
    for name in RELATED:
        if name not in scores:
            continue
        known = ~np.isnan(scores[name]).any(axis=1)
        if known.sum() < 3:
            continue
        found = relation(scores[name][known], errors[known], resamples=resamples)
        cells = [f"{one.mean:+.2f} [{one.low:+.2f}, {one.high:+.2f}]" for one in found.values()]
        rows.append([name, f"{known.sum()} x {errors.shape[1]}", *cells])
    print_table(
        ["score", "cells", "all [95 %]", "within targets [95 %]", "effects of source and target removed [95 %]"],
        rows,
        "Spearman's rho of the score (turned so that higher is worse) and the test error, intervals over both",
    )
