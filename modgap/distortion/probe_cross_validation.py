"""Errors of probes in repeated cross-validation, with intervals, and errors of probes with few training samples."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from modgap.distortion.probe_evaluation import EntityF1, ProbeResult, entity_f1, evaluate_probe
from modgap.errors import UsageError
from modgap.probes.folds import repeated_folds
from modgap.probes.input_checks import validate_samples
from modgap.statistics.intervals import MIN_UNITS, SampleErrors, average_errors, estimate_mean
from modgap.statistics.jackknife import group_blocks
from modgap.statistics.splits import Splits
from modgap.statistics.units import unit_numbers

FOLDS = 3
"""Number of folds of a repeat: a probe is fitted on two thirds of the samples and tested on the others."""
REPEATS = 5
"""Default number of repeats, each with new folds."""


@dataclass(frozen=True)
class CrossValidatedProbe:
    """Error of a probe in repeated cross-validation, with an interval that covers the fit and the samples.

    Attributes:
        name: Name of the probe.
        value: Mean error rate over all splits, in [0, 1]; lower is better. It estimates the expected error, on new
            samples or groups, of a probe that is fitted on two thirds of as many samples.
        interval: 95 % interval of this expected error; None with fewer than 8 independent units.
        standard_error: Standard error of the value.
        n_units: Number of independent units: groups, or samples.
        samples: Number of samples. Each repeat tests all of them.
        repeats: Number of repeats of the three folds.
        hyperparameter: "L2 strength" or "neighbors"; empty if the probe has none.
        chosen_values: Value of the hyperparameter that each fit chose; empty if the probe has none.
        grid: Values from which they were chosen.
        entity_f1: F1 of labeled words, without the outside class, over the predictions of all repeats; None if there is
            no outside class.
        notes: Remarks that a reader of the error rate should know, one sentence or more each.
        errors: Error of each sample, for paired comparisons.
    """

    name: str
    value: float
    interval: tuple[float, float] | None
    standard_error: float
    n_units: int
    samples: int
    repeats: int
    hyperparameter: str
    chosen_values: tuple[float, ...]
    grid: tuple[float, ...]
    entity_f1: EntityF1 | None
    notes: tuple[str, ...]
    errors: SampleErrors = field(repr=False)


def cross_validate_probe(
    name: str,
    features: ArrayLike,
    labels: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    repeats: int = REPEATS,
    split_seed: int = 0,
    outside: int | None = None,
    seed: int = 0,
) -> CrossValidatedProbe:
    """Compute the error rate of a probe in repeated stratified three-fold cross-validation.

    Every fit also chooses the hyperparameter anew, on its own training samples. The squared standard error is
    s^2(unit means) / G + s^2(averages of the repeats); see `modgap.statistics.intervals.estimate_mean`. With groups,
    which all repeats share, a jackknife takes the place of the second term: the first repeat is fitted again without
    one block of groups after the other.

    Args:
        name: Name of the probe, as for `evaluate_probe`.
        features: Features, shape (n, D), finite.
        labels: Integer labels, shape (n,).
        groups: Record or subject of each sample, shape (n,). Samples of a group are in one fold, and are held out
            together where the hyperparameter is chosen. None if samples are independent.
        repeats: Number of repeats, at least 2.
        split_seed: Seed of the folds. Two probes with the same samples, groups and split seed can be compared in pairs.
        outside: Label of words that belong to no class. If given, entity F1 is computed too.
        seed: Seed of the held-out samples on which the hyperparameter is chosen.

    Raises:
        InputError: When features, labels or groups cannot be used, or the training samples of a split have one class.
        UsageError: When the name is unknown or there is one repeat.

    Example:
        >>> labels = np.arange(60) % 3
        >>> probe = cross_validate_probe("nearest-mean", np.eye(3)[labels], labels)
        >>> probe.value, [round(end, 3) for end in probe.interval]
        (0.0, [0.0, 0.06])
    """
    if repeats < 2:
        raise UsageError(f"The number of repeats is {repeats}. Expected at least 2.")
    array, truth = validate_samples(features, labels)
    units = unit_numbers(groups, len(truth))
    splits = repeated_folds(truth, None if groups is None else units, FOLDS, repeats, split_seed)
    results = []
    misclassified = np.zeros(splits.test.shape)
    for number, (fit, test) in enumerate(zip(splits.fit, splits.test, strict=True)):
        train_groups = None if groups is None else units[fit]
        parts = (array[fit], truth[fit], array[test], truth[test])
        results.append(evaluate_probe(name, *parts, train_groups=train_groups, seed=seed))
        misclassified[number, test] = results[-1].misclassified
    f1 = None
    if outside is not None:
        predicted = np.concatenate([one.predicted for one in results])
        f1 = entity_f1(predicted, np.concatenate([truth[test] for test in splits.test]), outside)
    errors = average_errors(misclassified, splits, np.full(len(truth), 1 / len(truth)), units)
    if groups is not None:
        fitted = partial(evaluate_probe, name, seed=seed)
        errors = replace(errors, without=_changes_without_blocks(fitted, array, truth, units, splits, misclassified))
    mean = estimate_mean(errors)
    notes = []
    if mean.interval is None:
        notes.append(
            f"There is no interval, because the samples belong to {mean.n_units} groups. At least {MIN_UNITS} are "
            "needed: intervals from fewer groups do not cover the error as often as they claim."
        )
    return CrossValidatedProbe(
        name=name,
        value=mean.value,
        interval=mean.interval,
        standard_error=mean.standard_error,
        n_units=mean.n_units,
        samples=len(truth),
        repeats=repeats,
        hyperparameter=results[0].fit.hyperparameter,
        chosen_values=tuple(one.fit.chosen_value for one in results if one.fit.chosen_value is not None),
        grid=results[0].fit.grid,
        entity_f1=f1,
        notes=(*notes, *_count_notes(results)),
        errors=errors,
    )


def _changes_without_blocks(
    fitted: Callable[..., ProbeResult],
    features: np.ndarray,
    labels: np.ndarray,
    units: np.ndarray,
    splits: Splits,
    misclassified: np.ndarray,
) -> np.ndarray | None:
    """Return the change of the error of the first repeat without each block of groups; None if there are too few."""
    changes = []
    for block in group_blocks(labels, units, splits.seed):
        change, n_judged = 0.0, 0
        for number in range(FOLDS):
            fit, test = splits.fit[number] & ~block, splits.test[number] & ~block
            if len(np.unique(labels[fit])) > 1 and test.any():
                parts = (features[fit], labels[fit], features[test], labels[test])
                wrong = fitted(*parts, train_groups=units[fit]).misclassified
                change += float((wrong - misclassified[number, test]).sum())
                n_judged += int(test.sum())
        if n_judged:
            changes.append(change / n_judged)
    return np.array(changes) if len(changes) > 1 else None


def _count_notes(fits: Sequence[ProbeResult]) -> list[str]:
    """Return the notes of the fits, each once, as its first wording with the number of fits that have such a note."""
    texts: dict[str, list[str]] = {}
    for fit in fits:
        for kind, note in fit.notes_by_kind.items():
            texts.setdefault(kind, []).append(note)
    return [
        notes[0]
        if len(notes) == len(fits) and len(set(notes)) == 1
        else f"{len(notes)} of {len(fits)} fits have a note such as: {notes[0]}"
        for notes in texts.values()
    ]


# Few training samples

SHOTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
"""Numbers of training samples of each class, as far as the smallest class has them."""
DRAWS = 5
"""Number of draws of the training samples."""


@dataclass(frozen=True)
class FewShotCurve:
    """Test error rate of a probe by the number of training samples of each class.

    Attributes:
        name: Name of the probe.
        shots: Numbers of training samples of each class, ascending, shape (M,).
        errors: Test error rate of each draw of the training samples, in [0, 1], shape (M, draws); lower is better.
        mean: Mean error rate over draws, shape (M,).
        sd: Standard deviation of the error rate over draws, shape (M,).
    """

    name: str
    shots: np.ndarray
    errors: np.ndarray
    mean: np.ndarray
    sd: np.ndarray


def few_shot_curve(
    name: str,
    train_features: ArrayLike,
    train_labels: ArrayLike,
    test_features: ArrayLike,
    test_labels: ArrayLike,
    *,
    seed: int = 0,
    train_groups: ArrayLike | None = None,
) -> FewShotCurve:
    """Compute the test error rate of a probe fitted on few training samples of each class, over several draws of them.

    The samples of a draw at few shots are among its samples at more shots. They depend only on the seed and the number
    of the draw, so that the features of two encoders are compared on the same draws of the same samples.

    Args:
        name: Name of the probe.
        train_features: Features of the training samples, shape (n, D).
        train_labels: Integer labels of the training samples, shape (n,).
        test_features: Features of the test samples, shape (n_test, D).
        test_labels: Integer labels of the test samples, shape (n_test,).
        seed: Seed of the draws.
        train_groups: Record or subject of each training sample, shape (n,); see `evaluate_probe`. None if samples are
            independent.

    Raises:
        InputError: When features or labels cannot be used, or the training samples have one class.
        UsageError: When the name is unknown.

    Example:
        >>> labels = np.arange(40) % 4
        >>> curve = few_shot_curve("nearest-mean", np.eye(4)[labels], labels, np.eye(4), np.arange(4))
        >>> curve.shots, curve.mean
        (array([ 1,  2,  5, 10]), array([0., 0., 0., 0.]))
    """
    train, labels = validate_samples(train_features, train_labels, "training")
    smallest = int(np.unique(labels, return_counts=True)[1].min())
    shots = [count for count in SHOTS if count <= smallest]
    units = None if train_groups is None else unit_numbers(train_groups, len(labels))
    errors = np.empty((len(shots), DRAWS))
    for draw in range(DRAWS):
        # Position of each sample in a random order of its class, from 0.
        rng = np.random.default_rng([seed, draw])
        positions = np.empty(len(labels), np.int64)
        for label in np.unique(labels):
            of_class = np.flatnonzero(labels == label)
            positions[rng.permutation(of_class)] = np.arange(len(of_class))
        for index, count in enumerate(shots):
            rows = np.flatnonzero(positions < count)
            groups = None if units is None else units[rows]
            parts = (train[rows], labels[rows], test_features, test_labels)
            errors[index, draw] = evaluate_probe(name, *parts, seed=seed, train_groups=groups).value
    return FewShotCurve(name, np.array(shots), errors, errors.mean(axis=1), errors.std(axis=1, ddof=1))
