"""The probes by name: linear, ridge, k-NN and nearest mean, fitted on training samples."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from modgap.errors import UsageError
from modgap.probes.linear_probe import fit_linear_probe
from modgap.probes.logistic import STRENGTHS
from modgap.probes.ridge import ridge_path

__all__ = ["METRICS", "PROBES", "VALIDATED", "FittedProbe", "ProbeTask", "default_grid"]

NEIGHBORS = (1, 3, 5, 10, 20)
METRICS = ("cosine", "euclidean")
VALIDATED = ("linear", "knn")
"""Probes that choose their hyperparameter on held-out training samples. With groups, `ridge` does so too."""


@dataclass(frozen=True)
class ProbeTask:
    """Training samples and options of a probe.

    Attributes:
        features: Features, float64, shape (n, D).
        labels: Class numbers 0..K-1, shape (n,).
        held_out: Mask of the samples on which the hyperparameter is chosen, shape (n,). If no sample is held out,
            `ridge` chooses by its exact leave-one-out errors, and the others take a default.
        grid: Values of the hyperparameter from which to choose.
        metric: Distance of the k-NN probe, one of `METRICS`.
        device: PyTorch device on which the linear probe is fitted.
    """

    features: np.ndarray
    labels: np.ndarray
    held_out: np.ndarray
    grid: tuple[float, ...]
    metric: str
    device: str


@dataclass(frozen=True)
class FittedProbe:
    """A fitted probe and the choice of its hyperparameter.

    Attributes:
        predict: Function from features (n, D) to class numbers (n,).
        hyperparameter: "L2 strength" or "neighbors"; empty if the probe has none.
        chosen_value: Chosen value of the hyperparameter; None if the probe has none.
        grid: Values from which it was chosen.
        validation_errors: Error rate of each value on held-out training samples; empty if none could be held out.
    """

    predict: Callable[[np.ndarray], np.ndarray]
    hyperparameter: str = ""
    chosen_value: float | None = None
    grid: tuple[float, ...] = ()
    validation_errors: tuple[float, ...] = ()


def default_grid(name: str) -> tuple[float, ...]:
    """Return the values from which a probe chooses by default: numbers of neighbors, or L2 strengths."""
    return NEIGHBORS if name == "knn" else STRENGTHS


def _fit_linear(task: ProbeTask) -> FittedProbe:
    probe = fit_linear_probe(task.features, task.labels, task.grid, held_out=task.held_out, device=task.device)
    return FittedProbe(probe.predict, "L2 strength", probe.strength, probe.strengths, probe.validation_errors)


def _fit_ridge(task: ProbeTask) -> FittedProbe:
    grid = tuple(sorted(map(float, task.grid), reverse=True))
    if not grid or not all(0 < strength < np.inf for strength in grid):
        raise UsageError(f"The L2 strengths are {task.grid}. Expected at least one positive number.")
    scaler = StandardScaler().fit(task.features)
    path = ridge_path(scaler.transform(task.features), task.labels, grid)
    errors = _held_out_ridge_errors(task, grid) if task.held_out.any() else path.leave_one_out_errors
    best = int(errors.argmin())

    def predict(features: np.ndarray) -> np.ndarray:
        outputs = scaler.transform(features) @ path.weights[best].T + path.intercepts[best]
        return np.asarray(outputs.argmax(1))

    return FittedProbe(predict, "L2 strength", grid[best], grid, tuple(errors.tolist()))


def _held_out_ridge_errors(task: ProbeTask, grid: Sequence[float]) -> np.ndarray:
    """Return the error rate of each strength on the held-out samples, fitted on the others, shape (len(grid),)."""
    features = task.features[~task.held_out]
    scaler = StandardScaler().fit(features)
    path = ridge_path(scaler.transform(features), task.labels[~task.held_out], grid)
    test = scaler.transform(task.features[task.held_out])
    outputs = np.einsum("nd,skd->snk", test, path.weights, optimize=True) + path.intercepts[:, None]
    return np.asarray((outputs.argmax(axis=2) != task.labels[task.held_out]).mean(axis=1))


def _fit_knn(task: ProbeTask) -> FittedProbe:
    if not task.grid or any(k < 1 or k != int(k) for k in task.grid):
        raise UsageError(f"The numbers of neighbors are {task.grid}. Expected at least one integer, 1 or more.")
    most = len(task.labels) - int(task.held_out.sum())
    grid = tuple(sorted({min(int(k), most) for k in task.grid}))
    errors: tuple[float, ...] = ()
    chosen = grid[0]
    if task.held_out.any():
        remaining = ~task.held_out
        votes = _majority_votes(
            task.features[remaining], task.labels[remaining], task.features[task.held_out], grid, task.metric
        )
        errors = tuple((votes != task.labels[task.held_out]).mean(axis=1).tolist())
        chosen = grid[int(np.argmin(errors))]

    def predict(features: np.ndarray) -> np.ndarray:
        return np.asarray(_majority_votes(task.features, task.labels, features, (chosen,), task.metric)[0])

    return FittedProbe(predict, "neighbors", chosen, grid, errors)


def _majority_votes(
    features: np.ndarray, labels: np.ndarray, queries: np.ndarray, grid: Sequence[int], metric: str
) -> np.ndarray:
    """Return the most frequent class of the k nearest neighbors for every k of the grid, shape (len(grid), n).

    Of equally frequent classes the lowest is taken.
    """
    search = NearestNeighbors(n_neighbors=max(grid), metric=metric, algorithm="brute").fit(features)
    neighbor_labels = labels[search.kneighbors(queries, return_distance=False)]
    n_classes = int(labels.max()) + 1
    rows = np.arange(len(queries))[:, None]
    votes = []
    for k in grid:
        cells = (rows * n_classes + neighbor_labels[:, :k]).ravel()
        counts = np.bincount(cells, minlength=len(queries) * n_classes)
        votes.append(counts.reshape(len(queries), n_classes).argmax(1))
    return np.stack(votes)


def _fit_nearest_mean(task: ProbeTask) -> FittedProbe:
    scaler = StandardScaler().fit(task.features)
    counts = np.bincount(task.labels)
    means = (np.eye(len(counts))[task.labels].T @ scaler.transform(task.features)) / counts[:, None]

    def predict(features: np.ndarray) -> np.ndarray:
        # Squared distances, without the term that is the same for all classes.
        distances = (means**2).sum(1) - 2 * scaler.transform(features) @ means.T
        return np.asarray(distances.argmin(1))

    return FittedProbe(predict)


PROBES: dict[str, Callable[[ProbeTask], FittedProbe]] = {
    "linear": _fit_linear,
    "ridge": _fit_ridge,
    "knn": _fit_knn,
    "nearest-mean": _fit_nearest_mean,
}
"""Functions that fit a probe, by the name of the probe."""
