"""The relation of the paper's title: discrepancy against the error after transfer, over sources and targets."""

from collections.abc import Callable, Mapping

import numpy as np
from scipy import stats

from evidence.two_way import MeanInterval, two_way_interval
from modgap.cli.output import print_table

RELATED = ("discrepancy", "soft", "soft-matched", "leep", "leep-held-out")
"""Scores whose relation to the error is reported."""
EVERYWHERE = "leep"
"""The score beside which those of fewer cells are reported."""


def without_effects(table: np.ndarray) -> np.ndarray:
    """Return a table (S, T) without the effects of its rows and columns: what is left is their interaction.

    The effects are fitted by least squares to the known cells; NaN stays NaN.
    """
    known = ~np.isnan(table)
    if known.all():
        rest: np.ndarray = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0, keepdims=True) + table.mean()
        return rest
    row, column = np.nonzero(known)
    effects = np.zeros((len(row), sum(table.shape)))
    cells = np.arange(len(row))
    effects[cells, row] = effects[cells, table.shape[0] + column] = 1
    values = table[known]
    rest = np.full(table.shape, np.nan)
    rest[known] = values - effects @ np.linalg.lstsq(effects, values, rcond=None)[0]
    return rest


def relation(scores: np.ndarray, errors: np.ndarray, *, resamples: int) -> dict[str, MeanInterval]:
    """Return rank correlations of a score with the error, with intervals over sources and targets.

    Args:
        scores: The score, higher is better, (S, T); NaN where it is not defined. Such cells are left out.
        errors: Errors after transfer, (S, T).
        resamples: Number of resamples.

    Returns:
        Spearman's rho of the negative score and the error: `all` cells; the mean `within targets`, over the sources of
        each; and of the `interaction`, with the effects of source and target removed from both.
    """
    worse = -scores
    errors = np.where(np.isnan(scores), np.nan, errors)

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
    return {
        name: two_way_interval(kind, *errors.shape, resamples=resamples, pooled=kind is not within)
        for name, kind in kinds.items()
    }


def _part(table: np.ndarray, sources: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return table[np.ix_(sources, targets)]


def _rho(one: np.ndarray, other: np.ndarray) -> float:
    known = ~np.isnan(one)
    one, other = one[known], other[known]
    if len(one) < 2 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    # This is scipy.stats.spearmanr without its p-value, which takes four times as long.
    return float(np.corrcoef(stats.rankdata(one), stats.rankdata(other))[0, 1])


def _relation_row(name: str, scores: np.ndarray, errors: np.ndarray, resamples: int) -> list[str]:
    measured = relation(scores, errors, resamples=resamples)
    cells = [f"{one.mean:+.2f} [{one.low:+.2f}, {one.high:+.2f}]" for one in measured.values()]
    return [name, f"{(~np.isnan(scores)).sum()} of {scores.size}", *cells]


def print_relations(scores: Mapping[str, np.ndarray], errors: np.ndarray, *, resamples: int) -> None:
    """Print the relation of each score to the errors over the cells in which it is defined.

    Scores that are not defined for all cells are related to the errors of fewer, so the relation of LEEP, which is
    defined nearly everywhere, is printed for these cells too.
    """
    rows = []
    seen = set()
    for name in RELATED:
        if name not in scores:
            continue
        rows.append(_relation_row(name, scores[name], errors, resamples))
        known = ~np.isnan(scores[name])
        if name != EVERYWHERE and EVERYWHERE in scores and not known.all() and known.tobytes() not in seen:
            seen.add(known.tobytes())
            same = np.where(known, scores[EVERYWHERE], np.nan)
            rows.append(_relation_row(f"{EVERYWHERE}, the same cells", same, errors, resamples))
    print_table(
        ["score", "cells", "all [95 %]", "within targets [95 %]", "effects of source and target removed [95 %]"],
        rows,
        "Spearman's rho of the score (turned so that higher is worse) and the test error, intervals over both",
    )
