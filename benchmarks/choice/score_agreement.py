"""Agreement of scores with the test errors after fine-tuning: weighted Kendall tau, and regret of the first choice."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

__all__ = [
    "ScoreAgreement",
    "compare_with_errors",
    "compare_with_other_seeds",
    "mean_and_interval",
    "regret",
    "regret_of_constant_answer",
    "regret_of_score_chosen_on_other_targets",
    "weighted_tau",
]

MIN_SOURCES = 3
MIN_TARGETS = 6
"""Fewest targets for which an interval over targets is computed."""


@dataclass(frozen=True)
class ScoreAgreement:
    """Agreement of a score with the test errors, with one value per target; NaN where the score is not defined.

    Attributes:
        taus: Weighted Kendall tau, in [-1, 1], shape (T,).
        regrets: Error of the score's first choice minus the lowest error of all sources, in points, shape (T,).
        n_values: Number of pairs of source and target for which the score is defined.
    """

    taus: np.ndarray
    regrets: np.ndarray
    n_values: int


def weighted_tau(scores: np.ndarray, errors: np.ndarray) -> float:
    """Return the weighted Kendall tau of scores (S,), higher is better, and errors (S,); 1 means the same order.

    Sources with high ranks in either order have hyperbolically larger weights (Vigna 2015). The result is NaN if all
    scores are equal.
    """
    return float(stats.weightedtau(scores, -errors).statistic)


def regret(scores: np.ndarray, errors: np.ndarray) -> float:
    """Return the error of the first choice minus the lowest error, in points; the mean over tied first choices."""
    return float(errors[scores == scores.max()].mean() - errors.min())


def compare_with_errors(
    scores: Sequence[Mapping[str, float | None]], errors: Sequence[Mapping[str, float]]
) -> ScoreAgreement:
    """Compare a score with the test errors.

    The regret is relative to the best of all sources, also if the score is not defined for that source.

    Args:
        scores: For each target, the score of each source, higher is better; None where it is not defined.
        errors: For each target, the test error of each source.
    """
    taus = []
    regrets = []
    count = 0
    for target_scores, target_errors in zip(scores, errors, strict=True):
        scored = [source for source in target_errors if target_scores.get(source) is not None]
        count += len(scored)
        if len(scored) < MIN_SOURCES:
            taus.append(np.nan)
            regrets.append(np.nan)
            continue
        score_values = np.array([target_scores[source] for source in scored], float)
        error_values = np.array([target_errors[source] for source in scored])
        taus.append(weighted_tau(score_values, error_values))
        regrets.append(regret(score_values, error_values) + error_values.min() - min(target_errors.values()))
    return ScoreAgreement(np.array(taus), np.array(regrets), count)


def compare_with_other_seeds(
    errors: Sequence[Mapping[str, Sequence[float]]], scores: Sequence[Mapping[str, float | None]] | None = None
) -> ScoreAgreement:
    """Compare one fine-tuning of each source, or a score, with the mean error of the other seeds.

    These means have one seed less than those in `compare_with_errors`, so they are noisier and the regrets are larger.
    A score must be compared with the same means as one fine-tuning.

    Args:
        errors: For each target, the errors of each source, one per seed; at least two seeds.
        scores: For each target, the score of each source, higher is better. The default is one fine-tuning.
    """
    by_seed = []
    for seed in range(min(len(seeds) for target in errors for seeds in target.values())):
        one_seed = [{source: -seeds[seed] for source, seeds in target.items()} for target in errors]
        other_seeds = [
            {source: float(np.mean(np.delete(seeds, seed))) for source, seeds in target.items()} for target in errors
        ]
        by_seed.append(compare_with_errors(scores or one_seed, other_seeds))
    return ScoreAgreement(
        np.mean([agreement.taus for agreement in by_seed], axis=0),
        np.mean([agreement.regrets for agreement in by_seed], axis=0),
        by_seed[0].n_values,
    )


def regret_of_score_chosen_on_other_targets(
    agreements: Mapping[str, ScoreAgreement], *, by_tau: bool
) -> tuple[list[str], float]:
    """Return the score that is best on the other targets, for each target, and the mean regret of these choices.

    The best of many scores looks better on the targets on which it was chosen than on new ones. This is the regret on
    targets that were not used to choose. Scores that are not defined for every source on every target are left out.

    Args:
        agreements: Agreement of each score with the errors.
        by_tau: Choose the highest mean tau; if false, the lowest mean regret.
    """
    most = max(agreement.n_values for agreement in agreements.values())
    complete = {
        name: agreement
        for name, agreement in agreements.items()
        if agreement.n_values == most and np.isfinite(agreement.taus).all()
    }
    names = list(complete)
    regrets = np.array([agreement.regrets for agreement in complete.values()])
    costs = -np.array([agreement.taus for agreement in complete.values()]) if by_tau else regrets
    chosen = [int(np.delete(costs, target, axis=1).mean(axis=1).argmin()) for target in range(costs.shape[1])]
    return [names[n] for n in chosen], float(np.mean([regrets[n, target] for target, n in enumerate(chosen)]))


def regret_of_constant_answer(errors: Sequence[Mapping[str, float]]) -> tuple[list[str], np.ndarray]:
    """Return the source that is best on the other targets, for each target, and the regret of this choice, shape (T,).

    The choice uses neither the target nor any score. A score that does not beat it adds nothing to the knowledge of
    which source is good in general.

    Args:
        errors: For each target, the test error of each source; the same sources for all targets.
    """
    sources = list(errors[0])
    table = np.array([[target[source] for source in sources] for target in errors])
    chosen = [int(np.delete(table, target, axis=0).mean(axis=0).argmin()) for target in range(len(table))]
    regrets = table[np.arange(len(table)), chosen] - table.min(axis=1)
    return [sources[index] for index in chosen], regrets


def mean_and_interval(
    values: Sequence[float] | np.ndarray, bounds: tuple[float, float] = (-np.inf, np.inf)
) -> tuple[float, float, float]:
    """Return the mean over targets and the bounds of its 95 % interval by Student's t; NaN values are left out.

    A target is one observation, whatever the number of its seeds, because the seeds of a target are not independent.
    With fewer than six targets the bounds are NaN.
    """
    finite = np.asarray(values, float)
    finite = finite[np.isfinite(finite)]
    mean = float(finite.mean()) if len(finite) else np.nan
    if len(finite) < MIN_TARGETS:
        return mean, np.nan, np.nan
    half_width = stats.t.ppf(0.975, len(finite) - 1) * finite.std(ddof=1) / np.sqrt(len(finite))
    low, high = np.clip([mean - half_width, mean + half_width], *bounds)
    return mean, float(low), float(high)
