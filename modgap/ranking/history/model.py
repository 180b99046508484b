"""The crossed model of errors: what earlier targets tell about the errors of sources on a new one.

An error in [0, 1] enters as z = arcsin(sqrt(error)). Each source s has F variables on each target t: its error after
the whole training, which is to be forecast, and cheaper errors that are related to it, such as those of pilots. With

    z_st = m + c_s + a_t + b_st,    c ~ N(0, C),    a ~ N(0, A),    b ~ N(0, B),

all F x F and independent, a source that was good before is expected to be good again, and pilots on the new target move
the expectation as far as their errors agreed with the final ones before. Any value may be missing. Complete tables have
a closed form, which is that of the two-way analysis of variance (Searle, Casella and McCulloch, Variance Components,
1992). Tables with holes are fitted by the EM algorithm for restricted likelihood.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

SMALLEST_SHARE = 1e-6
"""Smallest eigenvalue of a covariance of effects, relative to the largest eigenvalue of all three covariances.

In the steps of EM it is relative to the largest variance of z.
"""
SMALLEST_VARIANCE = 1e-12
"""Smallest eigenvalue of a covariance of effects where all errors are nearly equal, so that a share of it vanishes."""
LOADINGS = (0.02, 0.98)
"""Range of the loadings of the variables on the one factor of `_one_factor`."""
FACTOR_SHARE = 0.5
"""Weight of the approximation by one factor in each covariance, which is otherwise the estimated one."""
TOLERANCE = 1e-5
"""Largest change of a covariance in a step of EM, relative to its largest value, at which it has converged."""
MOST_STEPS = 2000
DRAWS = 4000
"""Number of draws from which the probabilities of being best are counted."""


def transform_error(error: np.ndarray) -> np.ndarray:
    """Return arcsin(sqrt(error)) of errors in [0, 1], whose sampling variance is about 1 / (4 n) at every error."""
    return np.asarray(np.arcsin(np.sqrt(error)))


def error_of(mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Return the expected error in [0, 1] of a normally distributed z: sin(z)^2 has the mean (1 - E cos 2z) / 2."""
    return np.asarray((1 - np.cos(2 * mean) * np.exp(-2 * variance)) / 2)


@dataclass(frozen=True)
class Components:
    """Mean and covariances of the effects.

    Attributes:
        mean: Mean m, (F,).
        source: Covariance C of the effects of sources, (F, F).
        target: Covariance A of the effects of targets, (F, F).
        residual: Covariance B of what source and target do not explain, (F, F).
    """

    mean: np.ndarray
    source: np.ndarray
    target: np.ndarray
    residual: np.ndarray


@dataclass(frozen=True)
class HistoryModel:
    """A fitted model of earlier errors.

    Attributes:
        components: Mean and covariances.
        effects: Effect of each source given its errors, (S, F).
        covariances: Covariance of each effect given these errors, the mean and the effects of the targets, (S, F, F).
        n_targets: Number n of targets.
        noise: Mean sampling variance of z in the history by variable, (F,), which is a part of the residual covariance.
            It is 0 where it is unknown.
    """

    components: Components
    effects: np.ndarray
    covariances: np.ndarray
    n_targets: int
    noise: np.ndarray


@dataclass(frozen=True)
class Forecast:
    """Distribution of the error of P sources after a whole training on a new target, given history and pilots.

    Attributes:
        mean: Mean of z, (P,).
        variance: Its variance, (P,).
        error: Expected error in [0, 1], (P,).
        best: Probability of having the lowest z of these sources, (P,).
    """

    mean: np.ndarray
    variance: np.ndarray
    error: np.ndarray
    best: np.ndarray

    def interval(self, level: float = 0.8) -> np.ndarray:
        """Return the lower and upper end of the central interval of each error, (P, 2), in [0, 1].

        Args:
            level: Probability that the interval contains the error, in (0, 1).
        """
        from scipy.stats import norm

        margin = norm.ppf((1 + level) / 2) * np.sqrt(self.variance)
        ends = np.clip(np.stack([self.mean - margin, self.mean + margin], axis=1), 0, np.pi / 2)
        return np.asarray(np.sin(ends) ** 2)


def fit_history(z: np.ndarray, held_out: np.ndarray | None = None) -> HistoryModel:
    """Fit the model to the errors of sources on earlier targets.

    Args:
        z: Transformed errors, (S, n, F), NaN where a value is missing. The first variable is to be forecast.
        held_out: Number of samples on which each error was measured, (n, F) or (S, n, F), NaN where it is unknown. The
            residual covariance contains their sampling variance. None for errors without one.

    Raises:
        ValueError: When there are fewer than two sources or targets, or a variable has no value.
    """
    n_sources, n_targets, n_variables = z.shape
    seen = np.isfinite(z)
    if n_sources < 2 or n_targets < 2 or not seen.any(axis=(0, 1)).all():
        raise ValueError("a history needs two sources, two targets, and a value of each variable")
    raw = _closed_form(z) if seen.all() else _restricted_likelihood(z)
    largest = max(np.linalg.eigvalsh(one)[-1] for one in (raw.source, raw.target, raw.residual))
    floor = max(SMALLEST_SHARE * largest, SMALLEST_VARIANCE)
    components = Components(raw.mean, *(_shrink(one, floor) for one in (raw.source, raw.target, raw.residual)))
    cells = _Cells.of(z)
    mean, sources, _ = _posterior(cells, components)
    weights = cells.by_source(cells.weights(components.residual))
    covariances = np.linalg.inv(np.linalg.inv(components.source) + weights)
    noise = np.zeros(n_variables)
    if held_out is not None:
        variances = np.broadcast_to(1 / (4 * held_out), z.shape)
        counted = seen & np.isfinite(variances)
        noise = np.where(counted, variances, 0).sum(axis=(0, 1)) / np.maximum(counted.sum(axis=(0, 1)), 1)
    fitted = Components(mean, components.source, components.target, components.residual)
    return HistoryModel(fitted, sources, covariances, n_targets, noise)


def forecast(
    model: HistoryModel,
    sources: Sequence[int | None],
    z: np.ndarray | None = None,
    held_out: np.ndarray | None = None,
    seed: int = 0,
) -> Forecast:
    """Return what the history and pilots tell about P sources on a new target.

    In the symbols of this module, source s has z_s = m + c_s + a + d_s on the new target. The effect a of the target is
    common to all sources. The deviation d_s of a source has the covariance D_s of its residual and of what the history
    leaves open about its effect c_s. Given a, the sources are independent, so that the pilots first tell about a, and
    then about each d_s.

    Args:
        model: The fitted model.
        sources: Index of each source in the history; None for a source without history.
        z: Transformed errors on the new target, (P, F), NaN where there is none. None before any pilot.
        held_out: Numbers of samples on which they were measured, (P, F), NaN where one is unknown. None if their
            sampling variance is that of the history.
        seed: Seed of the draws that count how often a source is best.
    """
    parts, n_variables = model.components, len(model.components.mean)
    n_sources = len(model.effects)
    effects = np.array([model.effects[one] if one is not None else np.zeros(n_variables) for one in sources])
    # The mean has errors of its own: C / S for a source without history, and A / n for a new target.
    without_history = parts.source * (1 + 1 / n_sources)
    target_prior = parts.target * (1 + 1 / model.n_targets)
    deviations = parts.residual + np.array(
        [model.covariances[one] if one is not None else without_history for one in sources]
    )
    prior = parts.mean + effects
    observed = np.full(prior.shape, np.nan) if z is None else z
    # By how much the sampling variance of the new errors exceeds that of the history, (P, F).
    extra = np.zeros(observed.shape)
    if held_out is not None:
        variances = np.where(np.isfinite(observed) & np.isfinite(held_out), 1 / (4 * held_out), 0)
        extra = np.maximum(0, variances - model.noise)
    rows = zip(np.isfinite(observed), deviations, extra, strict=True)
    weights = np.stack([_observed_precision(seen, covariance + np.diag(more)) for seen, covariance, more in rows])
    surprises = np.where(np.isfinite(observed), observed - prior, 0)
    # Covariance and mean of the target's effect given the pilots.
    target_covariance = target_prior @ np.linalg.inv(np.eye(n_variables) + weights.sum(axis=0) @ target_prior)
    target_effect = target_covariance @ np.einsum("pij,pj->i", weights, surprises)
    # Given this effect a, z has the mean prior + gains (surprises - a) + a, and the covariance D - gains D.
    gains = deviations @ weights
    slopes = np.eye(n_variables) - gains
    means = prior + np.einsum("pij,pj->pi", gains, surprises) + slopes @ target_effect
    # From here on, only the first variable counts, which is the one to forecast.
    mean = means[:, 0]
    target_slopes = slopes[:, 0]
    deviation_variance = np.maximum((deviations - gains @ deviations)[:, 0, 0], 0)
    variance = deviation_variance + np.einsum("pi,ij,pj->p", target_slopes, target_covariance, target_slopes)
    best = _best_probabilities(mean, deviation_variance, target_slopes, target_covariance, seed)
    return Forecast(mean, variance, error_of(mean, variance), best)


def _best_probabilities(
    mean: np.ndarray, variance: np.ndarray, target_slopes: np.ndarray, target_covariance: np.ndarray, seed: int
) -> np.ndarray:
    """Return the share of random draws of z in which each source has the lowest value, (P,).

    Args:
        mean: Mean of z, (P,).
        variance: Variance of z given the effect of the target, (P,).
        target_slopes: Change of z by the effect of the target, (P, F).
        target_covariance: Covariance of this effect, (F, F).
        seed: Seed of the draws.
    """
    rng = np.random.default_rng(seed)
    values, vectors = np.linalg.eigh((target_covariance + target_covariance.T) / 2)
    effects = rng.standard_normal((DRAWS, len(values))) @ (vectors * np.sqrt(np.maximum(values, 0))).T
    z = mean + effects @ target_slopes.T + rng.standard_normal((DRAWS, len(mean))) * np.sqrt(variance)
    return np.asarray(np.bincount(z.argmin(axis=1), minlength=len(mean)) / DRAWS)


# Covariances


def _closed_form(z: np.ndarray) -> Components:
    """Return mean and covariances of a complete table from its two-way analysis of variance."""
    n_sources, n_targets, _ = z.shape
    mean = z.mean(axis=(0, 1))
    of_sources, of_targets = z.mean(axis=1) - mean, z.mean(axis=0) - mean
    residuals = z - mean - of_sources[:, None] - of_targets
    residual = np.einsum("sti,stj->ij", residuals, residuals) / ((n_sources - 1) * (n_targets - 1))
    source = of_sources.T @ of_sources / (n_sources - 1) - residual / n_targets
    target = of_targets.T @ of_targets / (n_targets - 1) - residual / n_sources
    return Components(mean, source, target, residual)


def _shrink(covariance: np.ndarray, floor: float) -> np.ndarray:
    """Return the weighted mean of a covariance and its approximation by one factor, with positive eigenvalues.

    Args:
        covariance: The estimated covariance, (F, F), whose eigenvalues may be negative.
        floor: Smallest eigenvalue to which others are raised first.
    """
    positive = _positive(covariance, floor)
    return np.asarray((1 - FACTOR_SHARE) * positive + FACTOR_SHARE * _one_factor(positive))


def _positive(covariance: np.ndarray, floor: float) -> np.ndarray:
    """Return a covariance with its eigenvalues raised to at least a floor."""
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    return np.asarray((vectors * np.maximum(values, floor)) @ vectors.T)


def _one_factor(covariance: np.ndarray) -> np.ndarray:
    """Return the covariance of the same variances whose correlations are products of loadings, by least squares."""
    sd = np.sqrt(np.diag(covariance))
    correlations = covariance / np.outer(sd, sd)
    if len(sd) < 2:
        return covariance
    off_diagonal = ~np.eye(len(sd), dtype=bool)

    def loss(loadings: np.ndarray) -> tuple[float, np.ndarray]:
        differences = np.where(off_diagonal, np.outer(loadings, loadings) - correlations, 0)
        return float((differences**2).sum() / 2), 2 * differences @ loadings

    start = np.clip(np.abs(np.linalg.eigh(correlations)[1][:, -1]), *LOADINGS)
    fitted = minimize(loss, start, jac=True, bounds=[LOADINGS] * len(sd), method="L-BFGS-B").x
    approximated = np.outer(fitted, fitted)
    np.fill_diagonal(approximated, 1)
    return approximated * np.outer(sd, sd)


# Tables with holes


Moments = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Sums of the expected products of the effects of sources, of those of targets, and of the residuals of the cells, each
(F, F)."""


def _restricted_likelihood(z: np.ndarray) -> Components:
    """Return mean and covariances by the EM algorithm, whose latent variables are the mean and all effects.

    The mean has a flat prior, so that the likelihood is the restricted one (Dempster, Laird and Rubin, 1977).
    """
    cells = _Cells.of(z)
    total = np.nanvar(z, axis=(0, 1))
    counts = (*cells.shape, len(cells.z))
    floor = max(SMALLEST_SHARE * total.max(), SMALLEST_VARIANCE)
    # Each of the three covariances starts with a third of the variance.
    parts = Components(np.nanmean(z, axis=(0, 1)), *(np.diag(total / 3 + SMALLEST_VARIANCE) for _ in range(3)))
    for _ in range(MOST_STEPS):
        mean, _, moments = _posterior(cells, parts)
        # Few targets and many variables fit without a residual, so that a covariance would become singular.
        updated = [_positive(moment / count, floor) for moment, count in zip(moments, counts, strict=True)]
        previous = (parts.source, parts.target, parts.residual)
        change = max(np.abs(new - old).max() / np.abs(old).max() for new, old in zip(updated, previous, strict=True))
        parts = Components(mean, *updated)
        if change < TOLERANCE:
            break
    return parts


def _observed_precision(seen: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Return the inverse of the covariance of the variables that were seen, with zeros for the others, (F, F)."""
    precision = np.zeros_like(covariance)
    precision[np.ix_(seen, seen)] = np.linalg.inv(covariance[np.ix_(seen, seen)])
    return precision


@dataclass(frozen=True)
class _Cells:
    """The cells of a table that have a value.

    Attributes:
        sources: Index of the source of each cell, (K,).
        targets: Index of its target, (K,).
        z: Values, with zeros where one is missing, (K, F).
        seen: Where there is a value, (K, F).
        shape: Number of sources S and number of targets n.
    """

    sources: np.ndarray
    targets: np.ndarray
    z: np.ndarray
    seen: np.ndarray
    shape: tuple[int, int]

    @classmethod
    def of(cls, z: np.ndarray) -> "_Cells":
        """Return the cells of a table (S, n, F) in which at least one variable has a value."""
        sources, targets = np.nonzero(np.isfinite(z).any(axis=2))
        values = z[sources, targets]
        return cls(sources, targets, np.nan_to_num(values), np.isfinite(values), z.shape[:2])

    def weights(self, residual: np.ndarray) -> np.ndarray:
        """Return the precision of the residual of each cell in the variables that it has, (K, F, F)."""
        patterns, indices = np.unique(self.seen, axis=0, return_inverse=True)
        return np.stack([_observed_precision(pattern, residual) for pattern in patterns])[indices.ravel()]

    def by_source(self, values: np.ndarray) -> np.ndarray:
        """Return the sums of values of the cells (K, ...) over targets, (S, ...)."""
        return _sums(self.sources, values, self.shape[0])

    def by_target(self, values: np.ndarray) -> np.ndarray:
        """Return the sums of values of the cells (K, ...) over sources, (n, ...)."""
        return _sums(self.targets, values, self.shape[1])


def _sums(indices: np.ndarray, values: np.ndarray, size: int) -> np.ndarray:
    """Return the sums of the values (K, ...) that have the same index, (size, ...)."""
    sums = np.zeros((size, *values.shape[1:]))
    np.add.at(sums, indices, values)
    return sums


def _posterior(cells: _Cells, parts: Components) -> tuple[np.ndarray, np.ndarray, Moments]:
    """Return the mean (F,), the effects of the sources (S, F) and the moments of all effects, given the errors.

    Their distribution is normal. Its precision matrix is block diagonal in the effects of the sources, which are
    independent given the rest: the mean and the effects of the targets. So the effects of the sources are eliminated
    (a Schur complement), the rest with its (n + 1) F unknowns is solved for, and the effects of the sources follow.
    """
    (n_sources, n_targets), n_variables = cells.shape, len(parts.mean)
    size = (n_targets + 1) * n_variables
    weights = cells.weights(parts.residual)
    weighted = np.einsum("kij,kj->ki", weights, cells.z)
    of_sources, right_of_sources = cells.by_source(weights), cells.by_source(weighted)
    # The blocks of the precision between each source's effect and the rest: the mean at 0, then each target.
    shared_blocks = np.zeros((n_sources, n_variables, n_targets + 1, n_variables))
    shared_blocks[:, :, 0] = of_sources
    shared_blocks[cells.sources, :, cells.targets + 1] = weights
    shared = shared_blocks.reshape(n_sources, n_variables, size)
    # Given the rest, the effects of the sources have these covariances, and the means `source_covariances @
    # right_of_sources - solved @ rest`.
    source_covariances = np.linalg.inv(np.linalg.inv(parts.source) + of_sources)
    solved = source_covariances @ shared
    precision = _rest_precision(cells.by_target(weights), np.linalg.inv(parts.target))
    precision -= shared.reshape(-1, size).T @ solved.reshape(-1, size)
    right = np.concatenate([weighted.sum(axis=0)[None], cells.by_target(weighted)]).ravel()
    right -= solved.reshape(-1, size).T @ right_of_sources.ravel()
    covariance = np.linalg.inv((precision + precision.T) / 2)
    rest = covariance @ right
    sources = np.einsum("sij,sj->si", source_covariances, right_of_sources) - solved @ rest
    mean, targets = rest[:n_variables], rest[n_variables:].reshape(n_targets, n_variables)

    # Covariance of each source's effect with the rest, and of the effect itself, where the rest is not given.
    crossed = -(solved.reshape(-1, size) @ covariance).reshape(solved.shape)
    marginal = source_covariances - crossed @ solved.transpose(0, 2, 1)
    blocks = covariance.reshape(n_targets + 1, n_variables, n_targets + 1, n_variables)
    of_targets = np.einsum("titj->tij", blocks[1:, :, 1:])
    of_sums = _sum_covariances(cells, blocks, of_targets, marginal, crossed)
    residuals = cells.seen * (cells.z - mean - sources[cells.sources] - targets[cells.targets])
    moments = (
        sources.T @ sources + marginal.sum(axis=0),
        targets.T @ targets + of_targets.sum(axis=0),
        _residual_moment(residuals, of_sums, weights, parts.residual),
    )
    return mean, sources, moments


def _sum_covariances(
    cells: _Cells, blocks: np.ndarray, of_targets: np.ndarray, of_sources: np.ndarray, crossed: np.ndarray
) -> np.ndarray:
    """Return the covariance of the sum of mean, effect of the source and effect of the target in each cell, (K, F, F).

    Args:
        cells: The cells.
        blocks: Covariance of the mean, which is at 0, and the effects of the targets, (n + 1, F, n + 1, F).
        of_targets: Covariance of the effect of each target, (n, F, F).
        of_sources: Covariance of the effect of each source, (S, F, F).
        crossed: Covariance of the effect of each source with the mean and the effects of the targets,
            (S, F, (n + 1) F).
    """
    with_mean = blocks[0, :, 1:].transpose(1, 0, 2)
    linked = crossed.reshape(*of_sources.shape[:2], *blocks.shape[2:])
    pairs = (linked[:, :, 0][cells.sources] + linked[cells.sources, :, cells.targets + 1]) + with_mean[cells.targets]
    pairs = pairs + pairs.transpose(0, 2, 1)
    return np.asarray(blocks[0, :, 0] + of_targets[cells.targets] + of_sources[cells.sources] + pairs)


def _rest_precision(of_targets: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """Return the precision of the mean and of the effects of targets before the sources are eliminated.

    Args:
        of_targets: Sum of the precisions of the cells of each target, (n, F, F).
        prior: Precision of the effect of a target, (F, F).
    """
    n_targets, n_variables, _ = of_targets.shape
    blocks = np.zeros((n_targets + 1, n_variables, n_targets + 1, n_variables))
    blocks[0, :, 0] = of_targets.sum(axis=0)
    for number, weight in enumerate(of_targets, 1):
        blocks[0, :, number] = blocks[number, :, 0] = weight
        blocks[number, :, number] = weight + prior
    return blocks.reshape((n_targets + 1) * n_variables, -1)


def _residual_moment(
    residuals: np.ndarray, covariances: np.ndarray, weights: np.ndarray, residual: np.ndarray
) -> np.ndarray:
    """Return the sum over cells of the expected product of the residual with itself, (F, F).

    Some variables of a residual b may be missing. With the precision W of the others (zeros elsewhere), b has the mean
    B W r and the covariance B - B W B given the residual r of the others.

    Args:
        residuals: Mean of r in each cell, (K, F), 0 where a variable is missing.
        covariances: Covariance of r in each cell, (K, F, F).
        weights: Precision W of each cell, (K, F, F).
        residual: Covariance B of the residuals, (F, F).
    """
    products = np.einsum("ci,cj->cij", residuals, residuals) + covariances
    inner = np.einsum("cij,cjk,ckl->il", weights, products, weights, optimize=True) - weights.sum(axis=0)
    return np.asarray(len(residuals) * residual + residual @ inner @ residual)


def portfolio(errors: np.ndarray, size: int) -> list[int]:
    """Return indices of sources that are chosen so that on each earlier target one of them is good.

    Each next source is the one that most lowers the mean over targets of the lowest error in the portfolio. This gain
    is submodular, so the greedy choice has at least 63 % of the largest possible gain (Nemhauser, Wolsey and Fisher,
    1978).

    Args:
        errors: Errors of sources on earlier targets, (S, n), NaN where one is missing.
        size: Largest number of sources. Those without any error are left out.
    """
    # A source that was never tried on a target counts as the worst there.
    filled = np.where(np.isfinite(errors), errors, np.nanmax(errors, axis=0, initial=0))
    lowest = np.full(errors.shape[1], np.inf)
    tried = np.isfinite(errors).any(axis=1)
    chosen: list[int] = []
    for _ in range(min(size, tried.sum())):
        means = np.where(tried, np.minimum(filled, lowest).mean(axis=1), np.inf)
        means[chosen] = np.inf
        chosen.append(int(means.argmin()))
        lowest = np.minimum(lowest, filled[chosen[-1]])
    return chosen
