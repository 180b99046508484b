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
DEFAULT_STRENGTH = 1.0
"""L2 strength of probes that do not choose one: the default of scikit-learn's LogisticRegression."""
LOWEST_SD = 1e-3
"""Standard deviation of a feature, relative to the median of those that vary, below which training leaves it out."""
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
        mean: Mean of each feature, shape (D,).
        scale: Number by which each feature is divided, its standard deviation, or 1 for constant features; shape (D,).
    """

    strengths: np.ndarray
    classes: np.ndarray
    weights: np.ndarray
    intercepts: np.ndarray
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
        >>> path.predict([[0.5], [3.0]], 0)
        array([3, 5])
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
        thetas = _fit_path(CrossEntropy(rotated, codes.ravel(), len(classes)), checked_strengths)
    return LogisticPath(
        strengths=checked_strengths,
        classes=classes,
        weights=thetas[:, :, :-1] @ axes.numpy().T,
        intercepts=thetas[:, :, -1].copy(),
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


def _fit_path(loss: CrossEntropy, strengths: np.ndarray) -> np.ndarray:
    """Return the optimum at each strength: weights with the intercepts in the last column, shape (S, K, r + 1).

    They are computed from the most to the least regularized, each from the optima of those before it.
    """
    thetas = np.zeros((len(strengths), loss.n_classes, loss.width + 1))
    # Theta by the logarithm of the strength, in the order of computation.
    optima: dict[float, np.ndarray] = {}
    # scikit-learn has one weight vector for two classes. Here each class has the half of it with one sign, so that the
    # sum of squares is half as large, and needs twice the penalty.
    factor = 2.0 if loss.n_classes == 2 else 1.0
    # The optimum at a strength in between has the index of the next one of the path, whose optimum replaces it.
    for index, strength in _insert_intermediate_strengths(strengths):
        position = float(np.log(strength))
        start = _extrapolate(optima, position) if optima else thetas[index]
        # A search that ends before convergence is restarted from its best point, with the scaling at this point.
        for _ in range(MAX_RESTARTS):
            start, has_converged = _search(loss, start, factor * strength)
            if has_converged:
                break
        thetas[index] = start
        optima = dict([*optima.items(), (position, start)][-EXTRAPOLATED:])
    return thetas


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


def _search(loss: CrossEntropy, start: np.ndarray, ridge: float) -> tuple[np.ndarray, bool]:
    """Search an optimum by L-BFGS in coordinates u where theta = start + u * scale and the curvature is about 1.

    Args:
        loss: Sum of cross-entropies.
        start: Start of the search, shape (K, r + 1).
        ridge: Factor of half the sum of squared weights. The intercepts have no penalty.

    Returns:
        The best point, and True if a further step from it would gain at most `TOLERANCE` of the objective.
    """
    ridges = np.append(np.full(start.shape[1] - 1, ridge), 0.0)
    # The curvature by a weight is about the mean of p (1 - p) times the feature's sum of squares, plus the ridge.
    scale = (max(loss.mean_variance(start), 1e-12) * loss.curvatures + ridges) ** -0.5
    best, lowest, has_converged = start, np.inf, False

    def evaluate(u: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the objective at u, and its gradient by u; keep the point if it is the best one so far."""
        nonlocal best, lowest, has_converged
        theta = start + u.reshape(start.shape) * scale
        cross_entropy, gradient = loss(theta)
        value = cross_entropy + 0.5 * float((ridges * theta**2).sum())
        scaled = (gradient + ridges * theta) * scale
        if value <= lowest:
            # With about unit curvature a Newton step gains half the squared gradient.
            has_converged = 0.5 * float((scaled**2).sum()) <= TOLERANCE * value
            best, lowest = theta, value
        return value, scaled.ravel()

    def stop(_u: np.ndarray) -> None:
        if has_converged:
            raise StopIteration

    origin = np.zeros(start.size)
    evaluate(origin)
    if not has_converged:
        options = {"maxcor": MEMORY, "maxiter": MAX_STEPS, "maxfun": MAX_STEPS, "ftol": 0, "gtol": 0}
        minimize(evaluate, origin, jac=True, method="L-BFGS-B", callback=stop, options=options)
    return best, has_converged


def with_constants(features: np.ndarray) -> np.ndarray:
    """Return features (n, D) in which those that hardly vary are constant, so that a probe ignores them.

    A probe whose features are then trained needs this: an update of the encoder moves such a feature by many times its
    standard deviation, and the logits with it.
    """
    sd = features.std(axis=0)
    lowest = LOWEST_SD * np.median(sd[sd > 0]) if sd.any() else 0
    return np.where(sd >= lowest, features, features[0])
