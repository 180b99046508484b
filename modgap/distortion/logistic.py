"""Multinomial logistic regression for a whole path of L2 strengths: scikit-learn's optima, several times faster.

What makes it fast: features are rotated once onto their principal axes, which leaves the penalty as it is and makes the
curvature nearly diagonal, so that L-BFGS on axes scaled by it needs few steps; directions that no sample has are left
out; each strength starts where the two before it point.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.optimize import minimize
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from modgap.distortion.arrays import one_thread
from modgap.distortion.input_checks import checked_features, checked_samples
from modgap.errors import InputError, UsageError

__all__ = ["STRENGTHS", "LogisticPath", "logistic_path"]

STRENGTHS = tuple(np.logspace(5, -2, 20).tolist())
"""L2 strengths, 1 / C of scikit-learn, the most regularized first."""

WEAKEST, STRONGEST = 1e-6, 1e9
TOLERANCE = 1e-8
MEMORY, POINTS, MOST_STEPS, MOST_STARTS = 20, 3, 5000, 5
FIRST_STEP, LONGEST_JUMP = 1e3, 1e3
"""A far jump from zero or from a stronger penalty takes more passes at once than by steps between."""


@dataclass(frozen=True)
class LogisticPath:
    """Fitted multinomial logistic regressions, one for each L2 strength, in the order that the strengths were given.

    Attributes:
        strengths: L2 strengths, 1 / C of scikit-learn, shape (S,).
        classes: Label of each row of the weights, ascending, shape (K,).
        weights: On standardized features, shape (S, K, D).
        intercepts: Shape (S, K).
        objective: C * sum of cross-entropies (nats) + 0.5 * ||W||^2, shape (S,); lower is a better fit.
        converged: Whether what a further step would gain is at most `tolerance` of the objective, shape (S,).
        evaluations: Passes over the samples that each strength took, not counting steps on the way to it, shape (S,).
        mean: Of each feature, shape (D,).
        scale: Standard deviation of each feature, 1 for constant ones, shape (D,).
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

    def logits(self, features: ArrayLike, index: int) -> np.ndarray:
        """Logits (n, K) of features (n, D) under the strength of this index.

        Raises:
            InputError: When features are not finite, or not D of them.
        """
        array = checked_features(features)
        if array.shape[1] != len(self.mean):
            raise InputError(f"expected {len(self.mean)} features, as the probe was fitted on, got {array.shape[1]}")
        return ((array - self.mean) / self.scale) @ self.weights[index].T + self.intercepts[index]

    def probabilities(self, features: ArrayLike, index: int) -> np.ndarray:
        """P(class | features) under the strength of this index, shape (n, K), rows sum to 1."""
        return torch.softmax(torch.from_numpy(self.logits(features, index)), 1).numpy()

    def predict(self, features: ArrayLike, index: int) -> np.ndarray:
        """The most probable class's label of each sample under the strength of this index, shape (n,)."""
        return self.classes[self.logits(features, index).argmax(1)]


def logistic_path(
    features: ArrayLike,
    labels: ArrayLike,
    strengths: Sequence[float] = STRENGTHS,
    *,
    device: str | torch.device = "cpu",
    tolerance: float = TOLERANCE,
) -> LogisticPath:
    """Multinomial logistic regression on standardized features for every L2 strength.

    The optimum is that of scikit-learn's `LogisticRegression(C=1 / strength)` on features from its `StandardScaler`,
    to about ten times `tolerance` of the objective; with two classes that is the binomial one, whose weights are the
    difference of the two rows given here. All is in double precision.

    Args:
        features: Features (n, D), finite.
        labels: Integer labels (n,) of at least two classes.
        strengths: L2 strengths, WEAKEST to STRONGEST, in any order.
        device: Where to run; one without double precision (mps) leaves it to the processor.
        tolerance: What a further step may still be expected to gain, as a share of the objective.

    Returns:
        The path. The same call gives the same bits on the same machine, whatever the number of threads: it takes one.

    Raises:
        InputError: When features or labels are unusable or have one class.
        UsageError: When a strength is out of range.

    Example:
        >>> path = logistic_path([[0.0], [1.0], [2.0], [4.0]], [3, 3, 5, 5], [1.0, 100.0])
        >>> path.predict([[0.5], [3.0]], 0), path.objective.round(4)
        (array([3, 5]), array([2.0383, 0.0276]))
    """
    array, given = checked_samples(features, labels, "training")
    wanted = _checked_strengths(strengths)
    classes, known = np.unique(given, return_inverse=True)
    if len(classes) < 2:
        raise InputError(f"expected at least two classes to tell apart, got only class {int(classes[0])}")
    scaler = StandardScaler().fit(np.asarray(array, np.float64))
    # Threads that share products this thin wait for each other: on digits two took twenty times as long as one.
    with one_thread(), _one_thread_of_torch():
        scaled = torch.from_numpy(scaler.transform(np.asarray(array, np.float64)))
        rotated, axes = _on_principal_axes(scaled.to(_at(device)))
        on = _CrossEntropy if rotated.device.type == "cpu" else _CrossEntropyOnDevice
        fits = _descend(on(rotated, known.ravel(), len(classes)), wanted, tolerance)
    return _as_path(fits, wanted, classes, axes.cpu().numpy(), scaler)


@contextmanager
def _one_thread_of_torch() -> Iterator[None]:
    """It has a pool and a BLAS of its own, which the others' limits do not reach."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _checked_strengths(strengths: Sequence[float]) -> np.ndarray:
    wanted = np.asarray(strengths, np.float64)
    if wanted.ndim != 1 or not len(wanted):
        raise UsageError(f"expected a list of L2 strengths, at least one, got {strengths!r}")
    bad = wanted[~((wanted >= WEAKEST) & (wanted <= STRONGEST))]
    if len(bad):
        raise UsageError(f"expected L2 strengths (1 / C) from {WEAKEST:g} to {STRONGEST:g}, got {bad[0]:g}")
    return wanted


def _at(device: str | torch.device) -> torch.device:
    place = torch.device(device)
    return torch.device("cpu") if place.type == "mps" else place


def _on_principal_axes(features: Tensor) -> tuple[Tensor, Tensor]:
    """Features (n, r) along their principal axes with any variance, and these axes, orthonormal, (D, r)."""
    frame = None
    if len(features) < features.shape[1]:
        # Not by the (n, n) products, whose small eigenvalues are off by the square of the precision.
        frame, triangle = torch.linalg.qr(features.T)
        features = triangle.T
    variances, axes = torch.linalg.eigh(features.T @ features)
    kept = variances > variances[-1].clamp(min=0) * max(features.shape) * torch.finfo(features.dtype).eps
    axes = axes[:, kept]
    return features @ axes, axes if frame is None else frame @ axes


class _CrossEntropy:
    """Sum of cross-entropies and its gradient at weights and intercepts together, (K, r + 1), in NumPy.

    On processors NumPy's products of a few rows with many were up to four times as fast as PyTorch's.
    """

    def __init__(self, features: Tensor, labels: np.ndarray, classes: int):
        self.classes, self.width, self.evaluations = classes, features.shape[1], 0
        self.curvatures = np.append((features**2).sum(0).cpu().numpy(), float(len(features)))
        self._labels, self._rows = labels, np.arange(len(labels))
        self._prepare(features)

    def _prepare(self, features: Tensor) -> None:
        self._features: Any = features.numpy()

    def __call__(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        self.evaluations += 1
        shares, loss = self._softmax(theta)
        shares[self._labels, self._rows] -= 1
        return loss, np.column_stack([shares @ self._features, shares.sum(1)])

    def spread(self, theta: np.ndarray) -> float:
        """Mean of p (1 - p) over samples and classes: how curved the loss is for features of unit size."""
        shares, _ = self._softmax(theta)
        return float((shares * (1 - shares)).mean())

    def _softmax(self, theta: np.ndarray) -> tuple[Any, float]:
        """P(class), (K, n), and the loss; samples lie along the second axis, where products are faster."""
        logits = theta[:, :-1] @ self._features.T
        logits += theta[:, -1:]
        logits -= logits.max(0)
        own = logits[self._labels, self._rows].sum()
        np.exp(logits, out=logits)
        totals = logits.sum(0)
        logits /= totals
        return logits, float(np.log(totals).sum() - own)


class _CrossEntropyOnDevice(_CrossEntropy):
    """The same in PyTorch, for accelerators."""

    def _prepare(self, features: Tensor) -> None:
        self._features = features
        self._index = (
            torch.from_numpy(self._labels).to(features.device),
            torch.from_numpy(self._rows).to(features.device),
        )

    def __call__(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        self.evaluations += 1
        shares, loss = self._softmax(theta)
        shares[self._index] -= 1
        gradient = torch.cat([shares @ self._features, shares.sum(1, keepdim=True)], 1)
        return loss, gradient.cpu().numpy()

    def _softmax(self, theta: np.ndarray) -> tuple[Any, float]:
        values = torch.from_numpy(theta).to(self._features.device)
        logits = torch.addmm(values[:, -1:], values[:, :-1], self._features.T)
        logits -= logits.amax(0)
        own = logits[self._index].sum()
        shares = logits.exp_()
        totals = shares.sum(0)
        return shares.div_(totals), float(totals.log().sum() - own)


@dataclass(frozen=True)
class _Fit:
    theta: np.ndarray
    value: float
    converged: bool
    evaluations: int


def _descend(loss: _CrossEntropy, strengths: np.ndarray, tolerance: float) -> list[_Fit]:
    """A fit for each strength, from the most regularized to the least, each started from those before."""
    fits: dict[int, _Fit] = {}
    known: dict[float, np.ndarray] = {}
    # Two classes share one weight vector in scikit-learn: as two opposite halves they need twice the penalty.
    factor = 2.0 if loss.classes == 2 else 1.0
    for index, strength in _with_steps_between(strengths):
        at = float(np.log(strength))
        start = _continued(known, at) if known else np.zeros((loss.classes, loss.width + 1))
        fits[index] = _fit(loss, start, factor * strength, tolerance)
        known = dict([*known.items(), (at, fits[index].theta)][-POINTS:])
    return [fits[index] for index in range(len(strengths))]


def _with_steps_between(strengths: np.ndarray) -> list[tuple[int, float]]:
    """(index, strength) from the most regularized on; a long jump in steps of ten, under the index that it ends at."""
    steps: list[tuple[int, float]] = []
    before = FIRST_STEP
    for index in np.argsort(-strengths, kind="stable"):
        strength = float(strengths[index])
        if before / strength > LONGEST_JUMP:
            between = np.geomspace(before, strength, int(np.ceil(np.log10(before / strength))) + 1)
            steps += [(int(index), float(step)) for step in between[1:-1]]
        steps.append((int(index), strength))
        before = strength
    return steps


def _continued(known: dict[float, np.ndarray], at: float) -> np.ndarray:
    """Where the last optima point: their polynomial in the logarithm of the strength, no further than one step on."""
    places = list(known)
    if len(places) > 1:
        at = max(at, 2 * places[-1] - places[-2])
    shares = [np.prod([(at - other) / (own - other) for other in places if other != own]) for own in places]
    return np.tensordot(shares, np.stack(list(known.values())), 1)


def _fit(loss: _CrossEntropy, theta: np.ndarray, ridge: float, tolerance: float) -> _Fit:
    """The optimum at one strength; the scaling is renewed where a search ends before it is there."""
    before = loss.evaluations
    for _ in range(MOST_STARTS):
        search = _Search(loss, theta, ridge, tolerance)
        search.run()
        theta = search.theta
        if search.converged:
            break
    return _Fit(theta, search.value, search.converged, loss.evaluations - before)


class _Search:
    """L-BFGS in coordinates u where theta = start + u * scale and the curvature is about the unit matrix."""

    def __init__(self, loss: _CrossEntropy, start: np.ndarray, ridge: float, tolerance: float):
        self._loss, self._start, self._tolerance = loss, start, tolerance
        self._ridge = np.append(np.full(start.shape[1] - 1, ridge), 0.0)
        self._scale = (max(loss.spread(start), 1e-12) * loss.curvatures + self._ridge) ** -0.5
        self.theta, self.value, self.converged = start, np.inf, False

    def run(self) -> None:
        """Search until converged, or until L-BFGS finds no lower point."""
        nothing = np.zeros(self._start.size)
        self._evaluate(nothing)
        if self.converged:
            return
        options = {"maxcor": MEMORY, "maxiter": MOST_STEPS, "maxfun": MOST_STEPS, "ftol": 0, "gtol": 0}
        minimize(self._evaluate, nothing, jac=True, method="L-BFGS-B", callback=self._stop, options=options)

    def _evaluate(self, u: np.ndarray) -> tuple[float, np.ndarray]:
        theta = self._start + u.reshape(self._start.shape) * self._scale
        loss, gradient = self._loss(theta)
        value = loss + 0.5 * float((self._ridge * theta**2).sum())
        scaled = (gradient + self._ridge * theta) * self._scale
        # With about unit curvature a Newton step gains half the squared gradient.
        converged = 0.5 * float((scaled**2).sum()) <= self._tolerance * value
        if value <= self.value:
            self.theta, self.value, self.converged = theta, value, converged
        return value, scaled.ravel()

    def _stop(self, u: np.ndarray) -> None:
        if self.converged:
            raise StopIteration


def _as_path(
    fits: list[_Fit], strengths: np.ndarray, classes: np.ndarray, axes: np.ndarray, scaler: StandardScaler
) -> LogisticPath:
    thetas = np.stack([fit.theta for fit in fits])
    return LogisticPath(
        strengths=strengths,
        classes=classes,
        weights=thetas[:, :, :-1] @ axes.T,
        intercepts=thetas[:, :, -1].copy(),
        objective=np.array([fit.value for fit in fits]) / strengths,
        converged=np.array([fit.converged for fit in fits]),
        evaluations=np.array([fit.evaluations for fit in fits]),
        mean=scaler.mean_,
        scale=scaler.scale_,
    )
