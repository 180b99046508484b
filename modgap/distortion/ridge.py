"""One-vs-rest ridge regression in closed form: all strengths and leave-one-out errors from one decomposition."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.linalg

__all__ = ["RidgePath", "ridge_path"]


@dataclass(frozen=True)
class RidgePath:
    """Fitted least-squares classifiers, one for each L2 strength.

    Attributes:
        strengths: L2 strengths, `alpha` of scikit-learn's Ridge, shape (S,).
        weights: On the features given, one row a class, shape (S, K, D).
        intercepts: Shape (S, K).
        left_out: Share of samples that the fit without them gets wrong, shape (S,), in [0, 1]; lower is better.
    """

    strengths: np.ndarray
    weights: np.ndarray
    intercepts: np.ndarray
    left_out: np.ndarray


def ridge_path(features: np.ndarray, labels: np.ndarray, strengths: Sequence[float]) -> RidgePath:
    """Least squares on 0/1 targets with an L2 penalty on all but the intercept, for every strength.

    The leave-one-out predictions are exact: y_i - (y_i - f(x_i)) / (1 - h_ii) with h the diagonal of the hat matrix,
    the intercept's 1 / n included. One eigendecomposition of the smaller of the (D, D) and (n, n) products serves all.

    Args:
        features: Features (n, D), finite; standardized, or strengths mean little.
        labels: Classes 0..K-1, shape (n,).
        strengths: L2 strengths, positive.

    Example:
        >>> ridge_path(np.array([[0.0], [1], [4], [5]]), np.array([0, 0, 1, 1]), [1.0]).left_out
        array([0.])
    """
    targets = np.eye(int(labels.max()) + 1)[labels]
    middle, shares = features.mean(0), targets.mean(0)
    left, values, right = _decomposed(features - middle)
    projected, squares = left.T @ (targets - shares), values**2
    weights, wrong = [], []
    for strength in strengths:
        shrunk = squares / (squares + strength)
        fitted = shares + left @ (shrunk[:, None] * projected)
        leverage = 1 / len(labels) + (left**2) @ shrunk
        without = targets - (targets - fitted) / np.maximum(1 - leverage, 1e-12)[:, None]
        wrong.append(float((without.argmax(1) != labels).mean()))
        weights.append(((values / (squares + strength))[:, None] * projected).T @ right.T)
    stacked = np.stack(weights)
    return RidgePath(np.asarray(strengths, np.float64), stacked, shares - stacked @ middle, np.array(wrong))


def _decomposed(centered: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Left vectors (n, r), singular values (r,) above zero and right vectors (D, r)."""
    n, width = centered.shape
    squares, vectors = scipy.linalg.eigh(centered @ centered.T if n < width else centered.T @ centered)
    kept = squares > squares[-1] * max(n, width) * np.finfo(np.float64).eps
    values, vectors = np.sqrt(squares[kept]), vectors[:, kept]
    if n < width:
        return vectors, values, centered.T @ vectors / values
    return centered @ vectors / values, values, vectors
