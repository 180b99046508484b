"""Multinomial logistic regression for many L2 strengths at once, several times faster than scikit-learn.

The optima are the same. Three things make it fast. Features are rotated once onto their principal axes, which leaves
the penalty unchanged and makes the curvature nearly diagonal, so that L-BFGS on axes scaled by the curvature needs few
steps. Directions in which the samples do not vary are left out. Each strength starts from the extrapolation of the
optima before it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.optimize import minimize
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from modgap.errors import InputError, UsageError
from modgap.probes.cross_entropy import CrossEntropy
from modgap.probes.input_checks import validate_features, validate_samples
from modgap.probes.single_thread import single_thread

STRENGTHS = tuple(np.logspace(5, -2, 20).tolist())
"""L2 strengths, 1 / C of scikit-learn, the most regularized first."""

WEAKEST = 1e-6
STRONGEST = 1e9
"""Smallest and largest L2 strength that can be fitted."""
TOLERANCE = 1e-8
"""Gain of a further step, as a share of the objective, at which a search has converged."""
MEMORY = 20
"""Number of earlier steps from which L-BFGS estimates the curvature."""
EXTRAPOLATED = 3
"""Number of earlier optima from which the start of the next strength is extrapolated."""
MAX_STEPS = 5000
"""Largest number of L-BFGS steps, and of passes over the samples, of one search."""
MAX_RESTARTS = 5
"""Largest number of searches at one strength, including the first one."""
FIRST_STRENGTH = 1e3
"""Strength from which the first jump is counted: the optimum is then near zero."""
LONGEST_JUMP = 1e3
"""Ratio of successive strengths above which a search takes fewer passes with strengths in between."""


@dataclass(frozen=True)
class LogisticPath:
    """Multinomial logistic regressions, one for each L2 strength, in the order in which the strengths were passed.

    Attributes:
        strengths: L2 strengths, 1 / C of scikit-learn, shape (S,).
        classes: Label of each row of the weights, ascending, shape (K,).
        weights: Weights of the standardized features, shape (S, K, D).
        intercepts: Intercept of each class, shape (S, K).
        objective: C * sum of cross-entropies (nats) + 0.5 * ||W||^2, shape (S,); lower is a better fit. With two
            classes, W is the difference of the two rows of weights, as in scikit-learn.
        converged: True where a further step would gain at most `TOLERANCE` of the objective, shape (S,).
        evaluations: Number of passes over the samples for each strength, shape (S,). Passes for strengths in between
            are not included.
        mean: Mean of each feature, shape (D,).
        scale: Number by which each feature is divided, its standard deviation, or 1 for constant features; shape (D,).
    """

    strengths: np.ndarray
    classes: np.ndarray
    weights: np.ndarray
    intercepts: np.ndarray
    objective: np.ndarray
    converged: np.ndarray
    evaluations: np.ndarray
    mean: np.ndarray
    scale: np.ndarray

    def logits(self, features: ArrayLike, index: int = 0) -> np.ndarray:
        """Return the logits, shape (n, K), of the regression with one of the strengths.

        Args:
            features: Features, shape (n, D), finite; not standardized.
            index: Index of the strength in `strengths`.

        Raises:
            InputError: When the features are not finite, or not as many as the regression was fitted on.
        """
        array = validate_features(features)
        if array.shape[1] != len(self.mean):
            raise InputError(
                f"The samples have {array.shape[1]} features, but the probe was fitted on {len(self.mean)}."
            )
        return np.asarray(((array - self.mean) / self.scale) @ self.weights[index].T + self.intercepts[index])

    def predict(self, features: ArrayLike, index: int = 0) -> np.ndarray:
        """Return the label of each sample's most probable class, shape (n,); the arguments are those of `logits`."""
        return np.asarray(self.classes[self.logits(features, index).argmax(1)])

    def affine(self) -> tuple[np.ndarray, np.ndarray]:
        """Return weights (K, D) and biases (K,) of the first strength for features that are not standardized."""
        weights = self.weights[0] / self.scale
        return weights, self.intercepts[0] - weights @ self.mean


def logistic_path(
    features: ArrayLike, labels: ArrayLike, strengths: Sequence[float] = STRENGTHS, *, factors: ArrayLike | None = None
) -> LogisticPath:
    """Fit multinomial logistic regression on standardized features for every L2 strength.

    The optimum is that of scikit-learn's `LogisticRegression(C=1 / strength)` on features from its `StandardScaler`,
    to about ten times `TOLERANCE` of the objective. With two classes scikit-learn fits the binomial regression; its
    weights are the difference of the two rows of weights here. All computations are in double precision.

    Args:
        features: Features, shape (n, D), finite.
        labels: Integer labels of at least two classes, shape (n,).
        strengths: L2 strengths, WEAKEST to STRONGEST, in any order.
        factors: Number above 0 by which each standardized feature is multiplied, shape (D,), so that its L2 strength is
            divided by the square; None for 1. The `scale` of the path is divided by this number.

    Returns:
        The path. The same call returns the same bits on the same machine, since it uses one thread.

    Raises:
        InputError: When features or labels cannot be used, or there is only one class.
        UsageError: When a strength is out of range.

    Example:
        >>> path = logistic_path([[0.0], [1.0], [2.0], [4.0]], [3, 3, 5, 5], [1.0, 100.0])
        >>> path.predict([[0.5], [3.0]], 0), path.objective.round(4)
        (array([3, 5]), array([2.0383, 0.0276]))
    """
    array, integers = validate_samples(features, labels, "training")
    array = array.astype(np.float64)
    checked_strengths = _validate_strengths(strengths)
    classes, codes = np.unique(integers, return_inverse=True)
    if len(classes) < 2:
        raise InputError(f"The training labels have one class ({int(classes[0])}). At least two are needed.")
    scaler = StandardScaler().fit(array)
    if factors is not None:
        scaler.scale_ = scaler.scale_ / np.asarray(factors, np.float64)
    # Threads that share products this thin wait for each other: on digits two threads took twenty times as long as one.
    with single_thread():
        standardized = torch.from_numpy(scaler.transform(array))
        rotated, axes = _rotate_to_principal_axes(standardized)
        fits = _fit_path(CrossEntropy(rotated, codes.ravel(), len(classes)), checked_strengths)
    thetas, values, converged, evaluations = map(np.array, zip(*fits, strict=True))
    return LogisticPath(
        strengths=checked_strengths,
        classes=classes,
        weights=thetas[:, :, :-1] @ axes.numpy().T,
        intercepts=thetas[:, :, -1].copy(),
        objective=values / checked_strengths,
        converged=converged,
        evaluations=evaluations,
        mean=scaler.mean_,
        scale=scaler.scale_,
    )


def _validate_strengths(strengths: Sequence[float]) -> np.ndarray:
    array = np.asarray(strengths, np.float64)
    if array.ndim != 1 or not len(array):
        raise UsageError(f"The L2 strengths are {strengths!r}. Expected a list of at least one number.")
    bad = array[~((array >= WEAKEST) & (array <= STRONGEST))]
    if len(bad):
        raise UsageError(f"L2 strength {bad[0]:g} (1 / C) is out of range. Expected {WEAKEST:g} to {STRONGEST:g}.")
    return array


def _rotate_to_principal_axes(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return centered features (n, r) along their principal axes of nonzero variance, and these axes (D, r).

    The axes are orthonormal, so that the norm of the weights, and with it the penalty, is the same along them.
    """
    basis = None
    if len(features) < features.shape[1]:
        # The samples span at most n dimensions. Their coordinates come from QR, and not from the (n, n) inner products
        # of the samples, whose small eigenvalues are inaccurate.
        basis, triangle = torch.linalg.qr(features.T)
        features = triangle.T
    variances, axes = torch.linalg.eigh(features.T @ features)
    nonzero = variances > variances[-1].clamp(min=0) * max(features.shape) * torch.finfo(features.dtype).eps
    axes = axes[:, nonzero]
    return features @ axes, axes if basis is None else basis @ axes


Fit = tuple[np.ndarray, float, bool, int]
"""The optimum at one strength: weights of the rotated features with the intercepts in the last column, (K, r + 1); the
sum of cross-entropies plus penalty, which is the objective times the strength; True if a further step would gain at
most `TOLERANCE`; and the number of passes over the samples."""


def _fit_path(loss: CrossEntropy, strengths: np.ndarray) -> list[Fit]:
    """Return a fit for each strength, in the order of the strengths.

    They are computed from the most to the least regularized, each from the optima of those before it.
    """
    fits: dict[int, Fit] = {}
    # Theta by the logarithm of the strength, in the order of computation.
    optima: dict[float, np.ndarray] = {}
    # scikit-learn has one weight vector for two classes. Here each class has the half of it with one sign, so that the
    # sum of squares is half as large, and needs twice the penalty.
    factor = 2.0 if loss.n_classes == 2 else 1.0
    # The fit of a strength in between has the index of the next one of the path, whose fit replaces it.
    for index, strength in _insert_intermediate_strengths(strengths):
        position = float(np.log(strength))
        start = _extrapolate(optima, position) if optima else np.zeros((loss.n_classes, loss.width + 1))
        fits[index] = _fit_strength(loss, start, factor * strength)
        optima = dict([*optima.items(), (position, fits[index][0])][-EXTRAPOLATED:])
    return [fits[index] for index in range(len(strengths))]


def _insert_intermediate_strengths(strengths: np.ndarray) -> list[tuple[int, float]]:
    """Return (index, strength) in descending order of the strengths, with long jumps split into factors of at most ten.

    Strengths in between have the index of the strength at which the jump ends.
    """
    steps: list[tuple[int, float]] = []
    before = FIRST_STRENGTH
    for index in np.argsort(-strengths, kind="stable"):
        strength = float(strengths[index])
        if before / strength > LONGEST_JUMP:
            between = np.geomspace(before, strength, int(np.ceil(np.log10(before / strength))) + 1)
            steps += [(int(index), float(step)) for step in between[1:-1]]
        steps.append((int(index), strength))
        before = strength
    return steps


def _extrapolate(optima: dict[float, np.ndarray], position: float) -> np.ndarray:
    """Return the extrapolation of the last optima by the polynomial through them.

    The polynomial is not followed further beyond the last optimum than the distance between the last two.

    Args:
        optima: Theta by the logarithm of the strength, in descending order of the strengths.
        position: Logarithm of the next strength.
    """
    positions = list(optima)
    if len(positions) > 1:
        position = max(position, 2 * positions[-1] - positions[-2])
    # Lagrange's form of the polynomial.
    coefficients = [
        np.prod([(position - other) / (node - other) for other in positions if other != node]) for node in positions
    ]
    return np.tensordot(coefficients, np.stack(list(optima.values())), 1)


def _fit_strength(loss: CrossEntropy, theta: np.ndarray, ridge: float) -> Fit:
    """Return the optimum at one strength.

    A search that ends before convergence is restarted from its best point, with the scaling at this point.

    Args:
        loss: Sum of cross-entropies.
        theta: Start of the search, shape (K, r + 1).
        ridge: Factor of half the sum of squared weights.
    """
    before = loss.evaluations
    for _ in range(MAX_RESTARTS):
        search = _Search(loss, theta, ridge)
        search.run()
        theta = search.theta
        if search.converged:
            break
    return theta, search.value, search.converged, loss.evaluations - before


class _Search:
    """L-BFGS in coordinates u where theta = start + u * scale and the curvature is about the unit matrix.

    Attributes:
        theta: Best point so far, shape (K, r + 1).
        value: Objective at this point.
        converged: True if a further step from this point would gain at most `TOLERANCE`.
    """

    def __init__(self, loss: CrossEntropy, start: np.ndarray, ridge: float) -> None:
        self._loss = loss
        self._start = start
        # The intercepts have no penalty.
        self._ridge = np.append(np.full(start.shape[1] - 1, ridge), 0.0)
        # The curvature by a weight is about the mean of p (1 - p) times the feature's sum of squares, plus the ridge.
        self._scale = (max(loss.mean_variance(start), 1e-12) * loss.curvatures + self._ridge) ** -0.5
        self.theta = start
        self.value = np.inf
        self.converged = False

    def run(self) -> None:
        """Search until convergence, or until L-BFGS finds no lower point."""
        origin = np.zeros(self._start.size)
        self._evaluate(origin)
        if self.converged:
            return
        options = {"maxcor": MEMORY, "maxiter": MAX_STEPS, "maxfun": MAX_STEPS, "ftol": 0, "gtol": 0}
        minimize(self._evaluate, origin, jac=True, method="L-BFGS-B", callback=self._stop, options=options)

    def _evaluate(self, u: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the objective at u, and its gradient by u; keep the point if it is the best one so far."""
        theta = self._start + u.reshape(self._start.shape) * self._scale
        loss, gradient = self._loss(theta)
        value = loss + 0.5 * float((self._ridge * theta**2).sum())
        scaled = (gradient + self._ridge * theta) * self._scale
        # With about unit curvature a Newton step gains half the squared gradient.
        converged = 0.5 * float((scaled**2).sum()) <= TOLERANCE * value
        if value <= self.value:
            self.theta = theta
            self.value = value
            self.converged = converged
        return value, scaled.ravel()

    def _stop(self, _u: np.ndarray) -> None:
        if self.converged:
            raise StopIteration
