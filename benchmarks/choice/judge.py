"""How each score agrees with the truth: weighted Kendall tau and regret of its first choice, over targets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

__all__ = ["Verdict", "agreement", "by_other_seeds", "chosen_elsewhere", "judged", "over_targets", "regret"]

LEAST_SOURCES = 3


@dataclass(frozen=True)
class Verdict:
    """A way of choosing against the truth, one value a target; NaN where it could not judge.

    Attributes:
        taus: Weighted Kendall tau, in [-1, 1], shape (T,).
        regrets: Error of its first choice above the least of all sources, in points, shape (T,).
        sources: How many sources it could judge, over all targets.
    """

    taus: np.ndarray
    regrets: np.ndarray
    sources: int


def agreement(scores: np.ndarray, errors: np.ndarray) -> float:
    """Weighted Kendall tau of scores (S,), higher is better, and errors (S,): 1 for the same order of sources.

    Sources that stand high weigh more, hyperbolically (Vigna 2015), from both orders. NaN where all scores are equal.
    """
    return float(stats.weightedtau(scores, -errors).statistic)


def regret(scores: np.ndarray, errors: np.ndarray) -> float:
    """Error of the first choice above the least, in points of error; of equal firsts the mean."""
    return float(errors[scores == scores.max()].mean() - errors.min())


def judged(scores: Sequence[Mapping[str, float | None]], errors: Sequence[Mapping[str, float]]) -> Verdict:
    """A score against the truth.

    Args:
        scores: For each target the score by source, the higher the better; None where it is not defined.
        errors: For each target the true error of each source to be compared.

    Returns:
        What it is worth. The best of all sources is what a choice is measured by, also where the score cannot judge it.
    """
    taus, regrets, count = [], [], 0
    for own, truth in zip(scores, errors, strict=True):
        there = [source for source in truth if own.get(source) is not None]
        count += len(there)
        if len(there) < LEAST_SOURCES:
            taus.append(np.nan)
            regrets.append(np.nan)
            continue
        values = np.array([own[source] for source in there], float)
        wrong = np.array([truth[source] for source in there])
        taus.append(agreement(values, wrong))
        regrets.append(regret(values, wrong) + wrong.min() - min(truth.values()))
    return Verdict(np.array(taus), np.array(regrets), count)


def by_other_seeds(errors: Sequence[Mapping[str, Sequence[float]]], scores: Sequence[Mapping] | None = None) -> Verdict:
    """How well one fine-tuning of each source chooses, judged by the mean of the other seeds; or a score judged so.

    These truths have a seed less than those of `judged`, so regrets are larger by their noise: what is to be compared
    with one fine-tuning must be judged as it is.

    Args:
        errors: For each target the errors of each source, one a seed; two seeds at least.
        scores: As for `judged`; None for the fine-tuning itself.
    """
    found = []
    for seed in range(min(len(each) for truth in errors for each in truth.values())):
        own = scores or [{source: -each[seed] for source, each in truth.items()} for truth in errors]
        rest = [{source: float(np.mean(np.delete(each, seed))) for source, each in of.items()} for of in errors]
        found.append(judged(own, rest))
    taus, regrets = (np.mean([getattr(each, field) for each in found], axis=0) for field in ("taus", "regrets"))
    return Verdict(taus, regrets, found[0].sources)


def chosen_elsewhere(verdicts: Mapping[str, Verdict], *, by_tau: bool) -> tuple[list[str], float]:
    """The score that is best on the other targets, for each target, and the mean regret of what that chooses there.

    What the best of many scores is worth where it was not chosen. Scores that cannot judge every source on every target
    are left out.
    """
    most = max(each.sources for each in verdicts.values())
    whole = {n: each for n, each in verdicts.items() if each.sources == most and np.isfinite(each.taus).all()}
    names = list(whole)
    regrets = np.array([each.regrets for each in whole.values()])
    costs = -np.array([each.taus for each in whole.values()]) if by_tau else regrets
    chosen = [int(np.delete(costs, target, axis=1).mean(axis=1).argmin()) for target in range(costs.shape[1])]
    return [names[n] for n in chosen], float(np.mean([regrets[n, target] for target, n in enumerate(chosen)]))


def over_targets(
    values: Sequence[float] | np.ndarray, bounds: tuple[float, float] = (-np.inf, np.inf)
) -> tuple[float, float, float]:
    """Mean over targets and its 95 % interval by Student's t; NaN values are left out."""
    known = np.asarray(values, float)
    known = known[np.isfinite(known)]
    mean = float(known.mean()) if len(known) else np.nan
    if len(known) < 2:
        return mean, np.nan, np.nan
    reach = stats.t.ppf(0.975, len(known) - 1) * known.std(ddof=1) / np.sqrt(len(known))
    low, high = np.clip([mean - reach, mean + reach], *bounds)
    return mean, float(low), float(high)
