"""Probes by name: how well classes can be read off features, each with what it chose and how sure it is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from modgap.bootstrap import mean_interval
from modgap.distortion.input_checks import checked_samples
from modgap.distortion.logistic import STRENGTHS, logistic_path
from modgap.distortion.ridge import ridge_path
from modgap.distortion.statistics import EntityF1, entity_f1
from modgap.errors import InputError, UsageError, unknown_name

__all__ = ["PROBES", "ProbeResult", "probe"]

NEIGHBORS = (1, 3, 5, 10, 20)
METRICS = ("cosine", "euclidean")


@dataclass(frozen=True)
class ProbeResult:
    """What a probe, fitted on training samples, gets wrong on test samples.

    Attributes:
        name: Of the probe.
        value: Share of test samples got wrong, in [0, 1]; lower is better.
        interval: 95 % bootstrap interval over test samples, or over their groups; NaN with fewer than two groups.
        wrong: Whether each test sample was got wrong, booleans (samples,).
        predicted: Label predicted for each test sample, shape (samples,).
        samples: Test samples.
        trained_on: Training samples, those that chose the hyper-parameter included.
        hyperparameter: What was chosen, "L2 strength" or "neighbors"; empty where there is nothing to choose.
        chosen: Its value; None where there is nothing to choose.
        grid: The values it was chosen from.
        validation: Error of each of them on training samples left out of its fit; empty where none could be.
        entity_f1: Of words, the outside class left out; None where none was named.
        notes: What a reader of the value should know, a line each.
    """

    name: str
    value: float
    interval: tuple[float, float]
    wrong: np.ndarray
    predicted: np.ndarray
    samples: int
    trained_on: int
    hyperparameter: str
    chosen: float | None
    grid: tuple[float, ...]
    validation: tuple[float, ...]
    entity_f1: EntityF1 | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Task:
    """Training samples, classes renumbered 0..K-1, and which of them choose hyper-parameters."""

    features: np.ndarray
    labels: np.ndarray
    held: np.ndarray
    grid: tuple[float, ...]
    metric: str
    device: str

    @property
    def kept(self) -> tuple[np.ndarray, np.ndarray]:
        return self.features[~self.held], self.labels[~self.held]


@dataclass(frozen=True)
class _Fitted:
    predict: Callable[[np.ndarray], np.ndarray]
    hyperparameter: str = ""
    chosen: float | None = None
    grid: tuple[float, ...] = ()
    errors: tuple[float, ...] = ()


def probe(
    name: str,
    train_features: ArrayLike,
    train_labels: ArrayLike,
    test_features: ArrayLike,
    test_labels: ArrayLike,
    *,
    seed: int = 0,
    groups: ArrayLike | None = None,
    grid: Sequence[float] | None = None,
    held_out: float = 0.2,
    metric: str = "cosine",
    outside: int | None = None,
    device: str = "cpu",
) -> ProbeResult:
    """Fit a probe on training samples and judge it on test samples.

    - `linear`: multinomial logistic regression on standardized features, the L2 strength chosen on a stratified share
      of the training samples, then fitted again on all of them. Its error is the distortion of source knowledge of
      MoNA (ICML 2024), section 2.2.
    - `ridge`: one-vs-rest least squares on standardized features, the L2 strength chosen by exact leave-one-out.
    - `knn`: a vote of the nearest neighbors, how many chosen as for `linear`.
    - `nearest-mean`: the class whose mean is nearest, on standardized features.

    Of equally good values the most regularized strength or the fewest neighbors are taken.

    Args:
        name: Of the probe.
        train_features: Features (n, D), finite.
        train_labels: Integer labels (n,).
        test_features: Features (n_test, D), finite.
        test_labels: Integer labels (n_test,); classes that training lacks count as got wrong.
        seed: Of the held-out share and the bootstrap.
        groups: Record or subject of each test sample, (n_test,), for the interval; None where each is its own.
        grid: L2 strengths or numbers of neighbors to choose from; None for the probe's own.
        held_out: Share of each class's training samples that chooses; a class of one sample stays in training.
        metric: Of `knn`: cosine or euclidean.
        outside: Label of words of no class; then entity F1 is given beside the error.
        device: Where `linear` is fitted.

    Raises:
        InputError: When features or labels are unusable, or training has one class.
        UsageError: When a name or an option is unknown or out of range.

    Example:
        >>> labels = np.arange(40) % 4
        >>> features = np.eye(4)[labels] + 0.1 * np.random.default_rng(0).standard_normal((40, 4))
        >>> result = probe("nearest-mean", features[:20], labels[:20], features[20:], labels[20:])
        >>> result.value, result.samples
        (0.0, 20)
    """
    if name not in PROBES:
        raise unknown_name("probe", name, PROBES)
    train, known = checked_samples(train_features, train_labels, "training")
    test, truth = checked_samples(test_features, test_labels, "test")
    if train.shape[1] != test.shape[1]:
        raise InputError(f"expected as many test features as training features, {train.shape[1]}, got {test.shape[1]}")
    task, classes, notes = _task(name, train, known, seed, grid, held_out, metric, device)
    fitted = PROBES[name](task)
    predicted = classes[fitted.predict(test.astype(np.float64))]
    wrong = predicted != truth
    return ProbeResult(
        name=name,
        value=float(wrong.mean()),
        interval=mean_interval(wrong, groups=groups, seed=seed),
        wrong=wrong,
        predicted=predicted,
        samples=len(test),
        trained_on=len(train),
        hyperparameter=fitted.hyperparameter,
        chosen=fitted.chosen,
        grid=fitted.grid,
        validation=fitted.errors,
        entity_f1=None if outside is None else entity_f1(predicted, truth, outside),
        notes=(*notes, *_unseen(truth, classes), *_on_choice(fitted)),
    )


def _task(
    name: str,
    features: np.ndarray,
    labels: np.ndarray,
    seed: int,
    grid: Sequence[float] | None,
    held_out: float,
    metric: str,
    device: str,
) -> tuple[_Task, np.ndarray, list[str]]:
    if not 0 < held_out < 1:
        raise UsageError(f"expected a held-out share between 0 and 1, got {held_out:g}")
    if metric not in METRICS:
        raise unknown_name("metric", metric, METRICS)
    classes, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if len(classes) < 2:
        raise InputError(
            f"expected at least two classes among the training labels, got only class {int(classes[0])}; a probe needs "
            "classes to tell apart"
        )
    alone = int((counts == 1).sum())
    chooses = name in ("linear", "knn")
    notes = (
        [f"{alone} classes have one training sample, which takes no part in the choice"] if chooses and alone else []
    )
    held = _held(codes.ravel(), held_out, seed) if chooses else np.zeros(len(labels), bool)
    wanted = tuple(_own_grid(name) if grid is None else grid)
    return _Task(features.astype(np.float64), codes.ravel(), held, wanted, metric, device), classes, notes


def _own_grid(name: str) -> tuple[float, ...]:
    return NEIGHBORS if name == "knn" else STRENGTHS


def _held(codes: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Which samples are held out: of every class this share, rounded, but at least one and never all; (n,)."""
    held = np.zeros(len(codes), bool)
    rng = np.random.default_rng(seed)
    for code in range(codes.max() + 1):
        rows = rng.permutation(np.flatnonzero(codes == code))
        if len(rows) > 1:
            held[rows[: min(max(round(share * len(rows)), 1), len(rows) - 1)]] = True
    return held


def _best(errors: Sequence[float], grid: Sequence[float]) -> float:
    """The grid's first value of the lowest error; its middle where nothing could be held out."""
    return grid[int(np.argmin(errors))] if len(errors) else grid[len(grid) // 2]


def _linear(task: _Task) -> _Fitted:
    grid = tuple(sorted(map(float, task.grid), reverse=True))
    errors: tuple[float, ...] = ()
    if task.held.any():
        path = logistic_path(*task.kept, grid, device=task.device)
        held, truth = task.features[task.held], task.labels[task.held]
        errors = tuple(float((path.predict(held, index) != truth).mean()) for index in range(len(grid)))
    chosen = _best(errors, grid)
    final = logistic_path(task.features, task.labels, [chosen], device=task.device)
    return _Fitted(lambda features: final.predict(features, 0), "L2 strength", chosen, grid, errors)


def _ridge(task: _Task) -> _Fitted:
    grid = tuple(sorted(map(float, task.grid), reverse=True))
    if not grid or not all(0 < strength < np.inf for strength in grid):
        raise UsageError(f"expected positive L2 strengths, at least one, got {task.grid}")
    scaler = StandardScaler().fit(task.features)
    path = ridge_path(scaler.transform(task.features), task.labels, grid)
    errors = tuple(path.left_out.tolist())
    at = grid.index(_best(errors, grid))

    def predict(features: np.ndarray) -> np.ndarray:
        return (scaler.transform(features) @ path.weights[at].T + path.intercepts[at]).argmax(1)

    return _Fitted(predict, "L2 strength", grid[at], grid, errors)


def _knn(task: _Task) -> _Fitted:
    if not task.grid or any(k < 1 or k != int(k) for k in task.grid):
        raise UsageError(f"expected numbers of neighbors from 1, at least one, got {task.grid}")
    most = len(task.labels) - int(task.held.sum())
    grid = tuple(sorted({min(int(k), most) for k in task.grid}))
    errors: tuple[float, ...] = ()
    if task.held.any():
        votes = _votes(*task.kept, task.features[task.held], grid, task.metric)
        errors = tuple((votes != task.labels[task.held]).mean(axis=1).tolist())
    chosen = int(_best(errors, grid)) if errors else grid[0]
    return _Fitted(
        lambda features: _votes(task.features, task.labels, features, (chosen,), task.metric)[0],
        "neighbors",
        chosen,
        grid,
        errors,
    )


def _votes(features: np.ndarray, labels: np.ndarray, asked: np.ndarray, grid: Sequence[int], metric: str) -> np.ndarray:
    """Class that most of the k nearest have, the lowest of equals, for every k of the grid; (len(grid), n)."""
    search = NearestNeighbors(n_neighbors=max(grid), metric=metric, algorithm="brute").fit(features)
    near = labels[search.kneighbors(asked, return_distance=False)]
    n_classes, rows = int(labels.max()) + 1, np.arange(len(asked))[:, None]
    return np.stack(
        [
            np.bincount((rows * n_classes + near[:, :k]).ravel(), minlength=len(asked) * n_classes)
            .reshape(len(asked), n_classes)
            .argmax(1)
            for k in grid
        ]
    )


def _nearest_mean(task: _Task) -> _Fitted:
    scaler = StandardScaler().fit(task.features)
    counts = np.bincount(task.labels)
    means = (np.eye(len(counts))[task.labels].T @ scaler.transform(task.features)) / counts[:, None]
    # Squared distances less what is the same for all classes.
    return _Fitted(lambda features: ((means**2).sum(1) - 2 * scaler.transform(features) @ means.T).argmin(1))


PROBES: dict[str, Callable[[_Task], _Fitted]] = {
    "linear": _linear,
    "ridge": _ridge,
    "knn": _knn,
    "nearest-mean": _nearest_mean,
}
"""By name: what fits a probe."""


def _unseen(truth: np.ndarray, classes: np.ndarray) -> list[str]:
    unseen = ~np.isin(truth, classes)
    if not unseen.any():
        return []
    kinds = len(np.unique(truth[unseen]))
    return [f"{unseen.sum()} test samples of {kinds} classes that training lacks count as got wrong"]


def _on_choice(fitted: _Fitted) -> list[str]:
    if fitted.chosen is None:
        return []
    if not fitted.errors:
        return [f"{fitted.hyperparameter} {fitted.chosen:g} was not chosen: no class has a sample to hold out"]
    at_end = fitted.chosen in (fitted.grid[0], fitted.grid[-1]) and fitted.hyperparameter == "L2 strength"
    if at_end and len(set(fitted.errors)) > 1:
        return [f"the chosen L2 strength {fitted.chosen:g} is at an end of its grid: a wider one may do better"]
    return []
