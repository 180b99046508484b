"""Score sources from arrays that are already in memory, without models, cache or jobs."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from modgap.errors import InputError, UsageError
from modgap.labels.user_arrays import number_groups, number_labels, to_numpy
from modgap.probes.input_checks import describe_non_finite_rows
from modgap.ranking.score import ErrorOptions
from modgap.ranking.scores import get_score
from modgap.ranking.source_outputs import CLASSIFICATION, SourceOutputs
from modgap.ranking.standings import (
    Standings,
    compute_error_standings,
    count_units,
    score_subsamples,
    subsample_standings,
)

Value = TypeVar("Value")

ARRAYS = ("features", "logits", "values", "groups")
"""Fields of SourceOutputs with one row or entry a sample, besides the labels."""


def score_sources(
    score_name: str,
    sources: Mapping[str, SourceOutputs],
    *,
    resamples: int = 50,
    weight: str | None = None,
    splits: int = 20,
    per_class: int | None = None,
    seed: int = 0,
) -> Standings:
    """Score each source and compare the sources, as `modgap rank` does.

    ```
    sources = {"swin": SourceOutputs(swin_features, labels, swin_logits), "vit": SourceOutputs(vit_features, labels)}
    standings = score_sources("logme", sources)
    standings.values, standings.intervals, standings.ranks, standings.win_probabilities
    ```

    Args:
        score_name: Name of the score, as `modgap scores` lists it.
        sources: The outputs of each source by its name, all on the same samples in the same order. Class labels may be
            names, or whole numbers that are not negative. Multi-label targets have 0/1 labels of shape (n, K), with a 1
            in each column. The values of a regression target may have shape (n,) if there is one value a sample.
        resamples: Number of random subsamples for the intervals of scores that are not errors by sample. With fewer
            than ten there are no intervals.
        weight: What counts equally in an error by sample: `samples`, `groups` or `classes`. None for groups where there
            are groups, else samples.
        splits: Number of repeated splits for errors by sample.
        per_class: Number of samples of each class that maps are fitted on. None to fit them on halves.
        seed: Seed of the subsamples and of the score's own random numbers.

    Returns:
        Standings. All arrays are in the order of the sources, and `win_probabilities[i, j]` is the probability that
        source i is better than source j. The scores `size` and `source-error` are NaN for sources whose `properties`
        lack `parameters` or `source_error`.

    Raises:
        InputError: If the score is not defined for a source, if arrays do not fit each other, if labels, values or
            groups are missing or not finite, or if those of the sources differ. The message names the source.
        UsageError: If there is no score of this name. The message suggests similar names.
    """
    score = get_score(score_name)
    if not sources:
        raise InputError("There are no sources to score. Pass at least one.")
    checked = {name: _convert_arrays(name, outputs) for name, outputs in sources.items()}
    first_name, first = next(iter(checked.items()))
    for name, outputs in checked.items():
        for field in ("labels", "values", "groups"):
            if not np.array_equal(getattr(outputs, field), getattr(first, field)):
                raise InputError(
                    f"The {field} of source {name} differ from those of source {first_name}. All sources must be given "
                    "on the same samples in the same order."
                )
    for name, outputs in checked.items():
        if reason := score.explain_undefined(outputs):
            raise InputError(f"Source {name} cannot be scored. {reason}")
    if first.task == CLASSIFICATION and first.n_classes < 2:
        raise InputError("The target has one class. At least two are needed.")
    if first.task in score.error_tasks:
        options = score.options_in_use(ErrorOptions(weight, splits, per_class))
        errors = [_computed(name, score.sample_errors, outputs, options, seed) for name, outputs in checked.items()]
        return compute_error_standings(score, errors)
    values = [_computed(name, score.evaluate, outputs, seed) for name, outputs in checked.items()]
    resampled = np.array([score_subsamples(score, outputs, seed, range(resamples)) for outputs in checked.values()])
    return subsample_standings(score, values, resampled, count_units(first))


def _computed(source_name: str, compute: Callable[..., Value], *arguments: Any) -> Value:
    """Return what a function computes from arrays of a source. Its errors name the source."""
    try:
        return compute(*arguments)
    except UsageError:
        raise
    except InputError as error:
        raise InputError(f"Source {source_name} cannot be scored. {error}") from error


def _convert_arrays(source_name: str, outputs: SourceOutputs) -> SourceOutputs:
    """Return the same outputs as arrays of the shapes that scores take, with classes numbered from 0."""
    labels = _convert_labels(source_name, outputs.labels)
    fields = {field: array for field in ARRAYS if (array := getattr(outputs, field)) is not None}
    arrays: dict[str, Any] = {field: to_numpy(one, f"{field} of source {source_name}") for field, one in fields.items()}
    if "values" in arrays and arrays["values"].ndim == 1:
        arrays["values"] = arrays["values"][:, None]
    for field, array in arrays.items():
        n_axes = 1 if field == "groups" else 2
        if array.ndim != n_axes or len(array) != len(labels):
            expected = f"({len(labels)},)" if field == "groups" else f"({len(labels)}, ...) with two axes"
            raise InputError(
                f"The {field} of source {source_name} have shape {array.shape}. Expected {expected}, because there are "
                f"labels of {len(labels)} samples."
            )
        if field != "groups" and array.dtype.kind not in "fiub":
            raise InputError(f"The {field} of source {source_name} have dtype {array.dtype}. Expected numbers.")
        if field == "values" and (rows := describe_non_finite_rows(array)):
            raise InputError(f"The values of source {source_name} have {rows}. Drop these samples.")
    if "groups" in arrays:
        arrays["groups"] = _computed(source_name, number_groups, arrays["groups"], len(labels))
    return replace(outputs, labels=labels, **arrays)


def _convert_labels(source_name: str, labels: ArrayLike) -> np.ndarray:
    array = to_numpy(labels, f"labels of source {source_name}")
    if array.ndim in (1, 2) and not len(array):
        raise InputError(f"The labels of source {source_name} are empty. Expected at least one sample.")
    if array.ndim == 1:
        return _computed(source_name, number_labels, array).numbers
    if array.ndim != 2 or not np.isin(array, (0, 1)).all():
        raise InputError(
            f"The labels of source {source_name} have shape {array.shape}. Expected class labels of shape (n,), or 0/1 "
            "labels of shape (n, K)."
        )
    empty_columns = np.flatnonzero(~array.any(axis=0))
    if len(empty_columns):
        raise InputError(
            f"The labels of source {source_name} have no sample for {len(empty_columns)} of {array.shape[1]} classes "
            f"(first: column {empty_columns[0]}). Every class needs a sample. Drop the empty columns."
        )
    return array
