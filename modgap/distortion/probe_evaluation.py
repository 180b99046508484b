"""Test errors of probes: how well classes can be predicted from features, with an interval and the choices made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from modgap.distortion.probe_methods import METRICS, PROBES, VALIDATED, FittedProbe, ProbeTask, default_grid
from modgap.distortion.statistics import EntityF1, entity_f1
from modgap.errors import InputError, UsageError, unknown_name
from modgap.probes.folds import held_out_mask
from modgap.probes.input_checks import validate_samples
from modgap.statistics.bootstrap import group_numbers
from modgap.statistics.intervals import SampleErrors, estimate_mean

__all__ = ["ProbeResult", "evaluate_probe"]


@dataclass(frozen=True)
class ProbeResult:
    """Errors of a fitted probe on test samples.

    Attributes:
        name: Name of the probe.
        value: Error rate on the test samples, in [0, 1]; lower is better.
        interval: 95 % interval of the error rate of this fitted probe on new samples or groups. It does not cover
            that another training set gives another probe. None with fewer than 8 groups.
        misclassified: Whether each test sample is misclassified, shape (test_samples,).
        predicted: Label predicted for each test sample, shape (test_samples,).
        test_samples: Number of test samples.
        training_samples: Number of training samples, including those on which the hyperparameter was chosen.
        hyperparameter: "L2 strength" or "neighbors"; empty if the probe has none.
        chosen_value: Chosen value of the hyperparameter; None if the probe has none.
        grid: Values from which it was chosen.
        validation_errors: Error rate of each value on training samples that were left out of its fit; empty if none
            could be left out.
        entity_f1: F1 of labeled words, without the outside class; None if there is no outside class.
        notes_by_kind: Remarks that a reader of the error rate should know, by their kind.
    """

    name: str
    value: float
    interval: tuple[float, float] | None
    misclassified: np.ndarray
    predicted: np.ndarray
    test_samples: int
    training_samples: int
    hyperparameter: str
    chosen_value: float | None
    grid: tuple[float, ...]
    validation_errors: tuple[float, ...]
    entity_f1: EntityF1 | None
    notes_by_kind: Mapping[str, str]

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks that a reader of the error rate should know."""
        return tuple(self.notes_by_kind.values())


def evaluate_probe(
    name: str,
    train_features: ArrayLike,
    train_labels: ArrayLike,
    test_features: ArrayLike,
    test_labels: ArrayLike,
    *,
    seed: int = 0,
    train_groups: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    grid: Sequence[float] | None = None,
    held_out: float = 0.2,
    metric: str = "cosine",
    outside: int | None = None,
    device: str = "cpu",
) -> ProbeResult:
    """Fit a probe on training samples and compute its error rate on test samples.

    - `linear`: multinomial logistic regression on standardized features. The L2 strength is chosen on a stratified
      held-out share of the training samples, then the probe is fitted on all of them. Its error rate is the distortion
      of source knowledge of MoNA (ICML 2024), section 2.2.
    - `ridge`: one-vs-rest least squares on standardized features. The L2 strength is chosen by exact leave-one-out, or,
      with groups, as for `linear`.
    - `knn`: majority vote of the nearest neighbors. Their number is chosen as for `linear`.
    - `nearest-mean`: the class with the nearest mean, on standardized features.

    Of values with equal error rates the most regularized strength, or the fewest neighbors, is chosen.

    Args:
        name: Name of the probe.
        train_features: Features of the training samples, shape (n, D), finite.
        train_labels: Integer labels of the training samples, shape (n,).
        test_features: Features of the test samples, shape (n_test, D), finite.
        test_labels: Integer labels of the test samples, shape (n_test,). Samples of classes without training samples
            count as misclassified.
        seed: Seed of the held-out share.
        train_groups: Record or subject of each training sample, shape (n,); the samples of a group are held out
            together where the hyperparameter is chosen. None if samples are independent.
        groups: Record or subject of each test sample, shape (n_test,), for the interval; None if samples are
            independent.
        grid: L2 strengths or numbers of neighbors from which to choose; None for the default of the probe.
        held_out: Share of the training samples, or groups, of each class on which the hyperparameter is chosen, in
            (0, 1). A class with one sample or group is not held out.
        metric: Distance of `knn`: cosine or euclidean.
        outside: Label of words that belong to no class. If given, entity F1 is computed too.
        device: PyTorch device on which `linear` is fitted.

    Raises:
        InputError: When features, labels or groups cannot be used, or the training samples have one class.
        UsageError: When a name is unknown or an option out of range.

    Example:
        >>> labels = np.arange(40) % 4
        >>> features = np.eye(4)[labels] + 0.1 * np.random.default_rng(0).standard_normal((40, 4))
        >>> result = evaluate_probe("nearest-mean", features[:20], labels[:20], features[20:], labels[20:])
        >>> result.value, result.test_samples
        (0.0, 20)
    """
    _validate_options(name, held_out, metric)
    train, train_integers = validate_samples(train_features, train_labels, "training")
    test, truth = validate_samples(test_features, test_labels, "test")
    if train.shape[1] != test.shape[1]:
        raise InputError(
            f"The test samples have {test.shape[1]} features, but the training samples have {train.shape[1]}."
        )
    classes, codes = _encode_classes(train_integers)
    mask = _validation_mask(name, codes, held_out, seed, train_groups)
    values = tuple(default_grid(name) if grid is None else grid)
    fitted = PROBES[name](ProbeTask(train.astype(np.float64), codes, mask, values, metric, device))
    predicted = classes[fitted.predict(test.astype(np.float64))]
    misclassified = predicted != truth
    return ProbeResult(
        name=name,
        value=float(misclassified.mean()),
        interval=_interval_of_fitted_probe(misclassified, groups),
        misclassified=misclassified,
        predicted=predicted,
        test_samples=len(test),
        training_samples=len(train),
        hyperparameter=fitted.hyperparameter,
        chosen_value=fitted.chosen_value,
        grid=fitted.grid,
        validation_errors=fitted.validation_errors,
        entity_f1=None if outside is None else entity_f1(predicted, truth, outside),
        notes_by_kind={
            **_single_sample_note(name, codes),
            **_unseen_class_note(truth, classes),
            **_choice_note(fitted),
        },
    )


def _validation_mask(name: str, codes: np.ndarray, held_out: float, seed: int, groups: ArrayLike | None) -> np.ndarray:
    """Return the mask of the training samples on which the hyperparameter is chosen, shape (n,)."""
    if name in VALIDATED and groups is None:
        return held_out_mask(codes, held_out, seed)
    if name in VALIDATED or (name == "ridge" and groups is not None):
        return held_out_mask(codes, held_out, seed, group_numbers(groups, len(codes)))
    return np.zeros(len(codes), bool)


def _interval_of_fitted_probe(misclassified: np.ndarray, groups: ArrayLike | None) -> tuple[float, float] | None:
    units = group_numbers(groups, len(misclassified))
    weights = np.full(len(units), 1 / len(units))
    errors = SampleErrors(misclassified.astype(float), weights, units, misclassified.mean(keepdims=True), None, 0)
    return estimate_mean(errors).interval


def _validate_options(name: str, held_out: float, metric: str) -> None:
    if name not in PROBES:
        raise unknown_name("probe", name, PROBES)
    if not 0 < held_out < 1:
        raise UsageError(f"The held-out share is {held_out:g}. Expected a number between 0 and 1.")
    if metric not in METRICS:
        raise unknown_name("metric", metric, METRICS)


def _encode_classes(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the classes, shape (K,), and the class number 0..K-1 of each training sample, shape (n,)."""
    classes, codes = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise InputError(f"The training labels have one class ({int(classes[0])}). At least two are needed.")
    return classes, codes.ravel()


def _single_sample_note(name: str, codes: np.ndarray) -> dict[str, str]:
    single = int((np.bincount(codes) == 1).sum())
    if name not in VALIDATED or not single:
        return {}
    note = f"{single} classes have one training sample. These samples are not used to choose the hyperparameter."
    return {"single sample": note}


def _unseen_class_note(truth: np.ndarray, classes: np.ndarray) -> dict[str, str]:
    unseen = ~np.isin(truth, classes)
    if not unseen.any():
        return {}
    n_classes = len(np.unique(truth[unseen]))
    note = (
        f"{unseen.sum()} test samples belong to {n_classes} classes without training samples. "
        "They count as misclassified."
    )
    return {"unseen class": note}


def _choice_note(fitted: FittedProbe) -> dict[str, str]:
    if fitted.chosen_value is None:
        return {}
    chosen = f"{fitted.hyperparameter} {fitted.chosen_value:g}"
    if not fitted.validation_errors:
        return {"default": f"{chosen} is a default: no class has a sample that can be held out to choose it."}
    at_end = fitted.chosen_value in (fitted.grid[0], fitted.grid[-1]) and fitted.hyperparameter == "L2 strength"
    if at_end and len(set(fitted.validation_errors)) > 1:
        return {"end of grid": f"The chosen {chosen} is at an end of its grid. A wider grid may give a lower error."}
    return {}
