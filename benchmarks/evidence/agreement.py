"""How well orders of the sources agree with their errors, and what the protocol concludes from it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from evidence.two_way import MeanInterval, regrets, target_interval, two_way_interval
from modgap.statistics.multiple_comparisons import holm

CONSTANT = "constant answer"


@dataclass(frozen=True)
class Agreement:
    """Agreement of one order of the sources with their errors.

    Attributes:
        regret: Error of the first choice minus the lowest error, with its interval over targets and sources.
        tau: Weighted Kendall tau over the sources for which the order is defined, with the same interval.
        here: Regret minus that of the constant answer, with its interval over targets, for these sources.
        corrected: P-value of `here`, corrected by Holm for all orders; NaN for the constant answer.
        over_random: Regret minus that of a random choice, with its interval over targets, for these sources.
        tau_gain: Weighted tau minus that of the constant answer, with the same interval.
        difference: The same difference with its interval over targets and sources.
        defined: Share of sources and targets for which the order is defined.
    """

    regret: MeanInterval
    tau: MeanInterval
    here: MeanInterval
    corrected: float
    over_random: MeanInterval
    tau_gain: MeanInterval
    difference: MeanInterval
    defined: float


@dataclass(frozen=True)
class Judgment:
    """Conclusion of the protocol about the ranking.

    Attributes:
        default: The score that the development targets chose.
        better: Whether it is better than the constant answer for these sources.
        in_general: Whether it is for other sources too.
        pilots: The pilots whose intervals over targets lie below 0.
        significant: All orders whose corrected p-value is at most .05 and whose regret is lower.
    """

    default: str
    better: bool
    in_general: bool
    pilots: tuple[str, ...]
    significant: tuple[str, ...]

    @property
    def text(self) -> str:
        """The conclusion in one sentence."""
        if self.better:
            where = "in general" if self.in_general else "for these sources"
            return f"{self.default}, chosen on the development targets, is better than the {CONSTANT} {where}."
        if self.pilots:
            return (
                f"{self.default}, chosen on the development targets, is not shown to be better than the {CONSTANT}, "
                f"but for these sources {' and '.join(self.pilots)} {'is' if len(self.pilots) == 1 else 'are'}."
            )
        chosen = f"Neither {self.default}, chosen on the development targets, nor a pilot"
        return f"{chosen} is shown to be better than the {CONSTANT}."


def agreements(named: Mapping[str, np.ndarray], errors: np.ndarray, resamples: int) -> dict[str, Agreement]:
    """Return the agreement of each order with the errors.

    Args:
        named: Orders by name, higher is better, each (S, T); NaN where one is not defined. One is the constant answer.
        errors: Errors in percent, (S, T).
        resamples: Number of resamples of sources and targets.
    """
    everything = np.arange(errors.shape[0]), np.arange(errors.shape[1])
    constant = regrets(named[CONSTANT], errors, *everything)
    here = {name: target_interval(regrets(scores, errors, *everything) - constant) for name, scores in named.items()}
    others = [name for name in named if name != CONSTANT]
    corrected = dict(zip(others, holm([here[name].p_value for name in others]), strict=True))
    constant_taus = _taus(named[CONSTANT], errors, *everything)
    random = random_regrets(errors)
    by_score = {}
    for name, scores in named.items():
        regret, tau, difference = _two_way(scores, named[CONSTANT], errors, resamples)
        by_score[name] = Agreement(
            regret,
            tau,
            here[name],
            float(corrected.get(name, np.nan)),
            target_interval(regrets(scores, errors, *everything) - random),
            target_interval(_taus(scores, errors, *everything) - constant_taus),
            difference,
            float((~np.isnan(scores)).mean()),
        )
    return by_score


def _two_way(
    scores: np.ndarray, constant: np.ndarray, errors: np.ndarray, resamples: int
) -> tuple[MeanInterval, MeanInterval, MeanInterval]:
    def regret(sources: np.ndarray, targets: np.ndarray) -> np.ndarray:
        return regrets(scores, errors, sources, targets)

    def tau(sources: np.ndarray, targets: np.ndarray) -> np.ndarray:
        return _taus(scores, errors, sources, targets)

    def difference(sources: np.ndarray, targets: np.ndarray) -> np.ndarray:
        return regret(sources, targets) - regrets(constant, errors, sources, targets)

    return (
        two_way_interval(regret, *errors.shape, resamples=resamples, centered=True),
        two_way_interval(tau, *errors.shape, resamples=resamples, centered=True),
        two_way_interval(difference, *errors.shape, resamples=resamples),
    )


def _taus(scores: np.ndarray, errors: np.ndarray, sources: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the weighted Kendall tau of scores and negative errors for each target; 0 where it is undefined."""
    taus = []
    for target in targets:
        scored = sources[~np.isnan(scores[sources, target])]
        taus.append(weighted_tau(scores[scored, target], -errors[scored, target]))
    return np.array(taus)


def weighted_tau(one: np.ndarray, other: np.ndarray) -> float:
    """Return the weighted Kendall tau of scipy.stats.weightedtau, which takes ten times as long; 0 if undefined.

    Args:
        one: Values (n,).
        other: Values (n,).
    """
    signs = np.sign(one[:, None] - one), np.sign(other[:, None] - other)
    taus = []
    for keys in ((other, one), (one, other)):
        weights = np.empty(len(one))
        # The largest value has rank 1, and of equal values that with the larger other value.
        weights[np.lexsort(keys)[::-1]] = 1 / np.arange(1, len(one) + 1)
        pairs = weights[:, None] + weights
        norm = float((pairs * signs[0] ** 2).sum() * (pairs * signs[1] ** 2).sum())
        taus.append(float((pairs * signs[0] * signs[1]).sum()) / np.sqrt(norm) if norm else 0.0)
    return float(np.mean(taus))


def random_regrets(errors: np.ndarray) -> np.ndarray:
    """Return the expected regret of a random choice on each target, (T,)."""
    expected: np.ndarray = errors.mean(axis=0) - errors.min(axis=0)
    return expected


def random_regret(errors: np.ndarray) -> float:
    """Return the mean regret of a random choice."""
    return float(random_regrets(errors).mean())


def with_record(scores: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Return how a score orders the sources together with their errors on the other targets, (S, T).

    For each target, the errors of the others are regressed on the score and on the mean error of the source on the
    targets that are left, both without the target's mean. The score is standardized within each target, and 0 where it
    is not defined. The order is that of the predicted errors.

    Args:
        scores: The score, (S, T), higher is better.
        errors: Errors in percent, (S, T).
    """
    n_targets = errors.shape[1]
    spread = np.nanstd(scores, axis=0)
    standard = np.nan_to_num((scores - np.nanmean(scores, axis=0)) / np.where(spread > 0, spread, 1))

    def predictors(target: int, others: np.ndarray) -> np.ndarray:
        record = errors[:, others[others != target]].mean(axis=1)
        return np.column_stack([record - record.mean(), standard[:, target]])

    combined = np.empty_like(errors)
    for target in range(n_targets):
        others = np.delete(np.arange(n_targets), target)
        of_others = np.vstack([predictors(other, others) for other in others])
        centered = (errors - errors.mean(axis=0))[:, others].T.ravel()
        combined[:, target] = -predictors(target, others) @ np.linalg.lstsq(of_others, centered, rcond=None)[0]
    return combined


def default_score(scores: Mapping[str, np.ndarray], errors: np.ndarray) -> str:
    """Return the score with the lowest mean regret, among those that are defined for every source and target.

    Of scores with the same regret, the one with the highest mean weighted tau counts.

    Args:
        scores: Scores of the development targets by name, each (S, T); NaN where one is not defined.
        errors: Their errors, (S, T).
    """
    everything = np.arange(errors.shape[0]), np.arange(errors.shape[1])
    defined = [name for name, values in scores.items() if not np.isnan(values).any()]

    def order(name: str) -> tuple[float, float]:
        regret = float(regrets(scores[name], errors, *everything).mean())
        return round(regret, 9), -float(_taus(scores[name], errors, *everything).mean())

    return min(defined, key=order)


def judge(default: str, by_score: Mapping[str, Agreement], pilots: Mapping[str, np.ndarray]) -> Judgment:
    """Return what the protocol concludes on the test targets.

    Args:
        default: The score that the development targets chose, which is judged without a correction.
        by_score: Agreements on the test targets.
        pilots: The pilots by name.
    """
    one = by_score[default]
    return Judgment(
        default,
        better=one.here.high < 0,
        in_general=one.here.high < 0 and one.difference.high < 0,
        pilots=tuple(name for name in pilots if by_score[name].here.high < 0),
        significant=tuple(name for name, each in by_score.items() if each.corrected <= 0.05 and each.here.mean < 0),
    )
