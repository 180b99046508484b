"""Ratios of the errors of two methods over targets, and how much they depend on the source."""

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas
from scipy import stats
from statsmodels.regression.mixed_linear_model import MixedLM, MixedLMResults
from statsmodels.stats.anova import AnovaRM
from statsmodels.stats.power import TTestPower
from statsmodels.tools.sm_exceptions import ConvergenceWarning

from evidence.study_jobs import SOURCES
from evidence.two_way import target_interval

POWER = 0.8
"""Power at which a ratio counts as detectable."""


@dataclass(frozen=True)
class Ratio:
    """The ratio of the errors of two methods.

    Attributes:
        value: Geometric mean over targets of the ratio.
        low: Lower bound of its 95 % interval over targets, by Student's t.
        high: Upper bound.
        p_value: P-value of a ratio of 1.
    """

    value: float
    low: float
    high: float
    p_value: float

    @property
    def text(self) -> str:
        """The ratio with its interval."""
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def ratio_of(differences: Iterable[float]) -> Ratio:
    """Return the ratio of errors whose logarithms have these differences on each target, with a paired t-interval."""
    interval = target_interval(np.array(list(differences), float))
    value, low, high = np.exp([interval.mean, interval.low, interval.high])
    return Ratio(float(value), float(low), float(high), interval.p_value)


def error_ratios(frame: pandas.DataFrame, method: str, others: list[str]) -> dict[str, Ratio]:
    """Return the ratio of a method's error to that of each other one, over targets as a random effect.

    Each target's log ratio is the mean over the sources and seeds that both methods have. With the same runs in every
    cell it is also the estimate of the mixed model (`mixed_model_ratios`). The interval is that of a paired t-test over
    targets, so that it uses the variance of this pair of methods, while the mixed model has one for all.

    Args:
        frame: Runs with the columns `source`, `method`, `target`, `seed` and `log_error`.
        method: Method in the numerator.
        others: Methods in the denominator.
    """
    table = frame.pivot_table(index=["target", "source", "seed"], columns="method", values="log_error")
    return {other: ratio_of((table[method] - table[other]).dropna().groupby("target").mean()) for other in others}


def interaction_ratios(frame: pandas.DataFrame, method: str, others: list[str]) -> dict[str, Ratio]:
    """Return the ratio of errors with the first source, divided by that with the second, for each other method.

    The interval is that of a paired t-test over targets. A value of 1 means that the source does not matter.

    Args:
        frame: Runs with the columns `source`, `method`, `target` and `log_error`, of two sources.
        method: Method in the numerator.
        others: Methods in the denominator.
    """
    table = frame.pivot_table(index=["target", "source"], columns="method", values="log_error")
    first, second = (source for source in SOURCES if source in set(frame.source))
    ratios = {}
    for other in others:
        differences = (table[method] - table[other]).unstack("source")
        ratios[other] = ratio_of((differences[first] - differences[second]).dropna())
    return ratios


def interaction_p_value(frame: pandas.DataFrame) -> float:
    """Return the p-value of no interaction of source and method, by the analysis of variance of repeated measures.

    The targets are the subjects, and the means over seeds their values.
    """
    table = AnovaRM(frame, "log_error", "target", within=["source", "method"], aggregate_func="mean").fit().anova_table
    return float(table.loc["source:method", "Pr > F"])


def detectable_ratio(ratio: Ratio, n_targets: int) -> float:
    """Return the ratio below 1 that a paired t-test over targets finds with a power of 80 % at the 5 % level.

    Args:
        ratio: A ratio whose interval is that of a t-test, from which the standard deviation over targets follows.
        n_targets: Number of targets.
    """
    half = (np.log(ratio.high) - np.log(ratio.low)) / 2
    spread = half / stats.t.ppf(0.975, n_targets - 1) * np.sqrt(n_targets)
    effect = TTestPower().solve_power(nobs=n_targets, alpha=0.05, power=POWER)
    return float(np.exp(-effect * spread))


def mixed_model_ratios(frame: pandas.DataFrame, method: str) -> dict[str, Ratio]:
    """Return the ratio of a method's error to that of each other one, by restricted maximum likelihood.

    The model of the log errors has fixed effects of method and source, and random effects of target and of target by
    method. The intervals are those of the normal distribution. With as many runs in every cell they are also those of
    the analysis of variance (`tests/test_evidence.py`).

    Args:
        frame: Runs with the columns `source`, `method`, `target` and `log_error`.
        method: Method in the numerator.
    """
    others = [name for name in dict.fromkeys(frame.method) if name != method]
    contrast = f"C(method, Treatment('{method}'))"
    formula = f"log_error ~ {contrast}" + (" + source" if frame.source.nunique() > 1 else "")
    fitted = _fit_mixed_model(frame, formula, {"cell": "0 + C(method)"})
    return {other: _contrast(fitted, {f"{contrast}[T.{other}]": -1.0}) for other in others}


def mixed_model_of_sources(
    frame: pandas.DataFrame, method: str
) -> tuple[dict[str, Ratio], dict[str, dict[str, Ratio]]]:
    """Return ratios by one mixed model with an interaction of source and method.

    It has fixed effects of source and of method within source, and random effects of target, of target by method, of
    target by source, and of target by both.

    Args:
        frame: Runs with the columns `source`, `method`, `target` and `log_error`, of two sources.
        method: Method in the numerator.

    Returns:
        For each other method, the ratio of errors with the first source divided by that with the second; and for each
        source, the ratio of the method's error to that of each other one.
    """
    contrast = f"C(method, Treatment('{method}'))"
    parts = {"method": "0 + C(method)", "source": "0 + C(source)", "cell": "0 + C(source):C(method)"}
    fitted = _fit_mixed_model(frame, f"log_error ~ C(source) + C(source):{contrast}", parts)
    term = f"C(source)[{{}}]:{contrast}[T.{{}}]"
    others = [name for name in dict.fromkeys(frame.method) if name != method]
    first, second = (source for source in SOURCES if source in set(frame.source))
    interactions = {
        other: _contrast(fitted, {term.format(first, other): -1.0, term.format(second, other): 1.0}) for other in others
    }
    by_source = {
        source: {other: _contrast(fitted, {term.format(source, other): -1.0}) for other in others}
        for source in (first, second)
    }
    return interactions, by_source


def _fit_mixed_model(frame: pandas.DataFrame, formula: str, parts: Mapping[str, str]) -> MixedLMResults:
    """Fit a model of the log errors with a random effect of target and further variances within it."""
    model = MixedLM.from_formula(formula, groups="target", vc_formula=dict(parts), re_formula="1", data=frame)
    with warnings.catch_warnings():
        # A variance may be 0.
        warnings.filterwarnings("ignore", "The MLE may be on the boundary", ConvergenceWarning)
        # Methods by gradients did not converge on these data.
        return model.fit(reml=True, method="powell")


def _contrast(fitted: MixedLMResults, weights: Mapping[str, float]) -> Ratio:
    """Return the exponential of a weighted sum of fixed effects, with the interval of the normal distribution."""
    effects = fitted.fe_params
    row = np.array([weights.get(name, 0.0) for name in effects.index])
    mean = float(row @ effects)
    error = float(np.sqrt(row @ fitted.cov_params().loc[effects.index, effects.index].to_numpy() @ row))
    value, low, high = np.exp(mean + stats.norm.ppf([0.5, 0.025, 0.975]) * error)
    return Ratio(float(value), float(low), float(high), float(2 * stats.norm.sf(abs(mean) / error)))
