"""Sources whose features and logits are in hand already: a score of each with its interval, and how they stand."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from modgap.errors import InputError, UsageError
from modgap.ranking.half_samples import on_halves
from modgap.ranking.score import Score
from modgap.ranking.scores import score
from modgap.ranking.source_outputs import CLASSIFICATION, Evidence
from modgap.ranking.standings import Standings, standings

__all__ = ["compare"]


def compare(name: str, sources: Mapping[str, Evidence], *, resamples: int = 50, seed: int = 0) -> Standings:
    """What `modgap rank` says of a score, without its models, cache and jobs.

    ```
    sources = {"swin": Evidence(features, labels, logits), "vit": Evidence(others, labels)}
    found = compare("logme", sources)
    found.values, found.intervals, found.ranks, found.beats
    ```

    Args:
        name: Of the score, as `modgap scores` lists them.
        sources: By name, what each gave on the same samples in the same order. Labels may be anything that can be
            sorted, or 0 and 1 of multi-label data, shape (n, K); values may be of shape (n,) where there is one.
        resamples: Half-samples for intervals; none are told of fewer than ten.
        seed: Of the halves and of what the score draws.

    Returns:
        Standings; all arrays are in the order of the sources, and `beats[i, j]` is the probability that source i is
        better than source j. `size` and `source-error` are NaN where `facts` has no `parameters`, `source_error`.

    Raises:
        InputError: When the score is not defined for a source, arrays do not fit each other, or the sources' labels,
            values or groups are not the same; names the source.
        UsageError: When there is no such score; names the near ones.
    """
    own = score(name)
    if not sources:
        raise InputError("expected one source at least, got none")
    checked = {each: _checked(each, evidence) for each, evidence in sources.items()}
    first = next(iter(checked.values()))
    for each, evidence in checked.items():
        for field in ("labels", "values", "groups"):
            if not np.array_equal(getattr(evidence, field), getattr(first, field)):
                raise InputError(f"source {each}: its {field} are not those of the first; give all the same samples")
        if reason := own.missing(evidence):
            raise InputError(f"source {each}: score {name}: {reason}")
    if first.task == CLASSIFICATION and first.n_classes < 2:
        raise InputError("expected at least two target classes, got one; there is nothing to tell apart")
    values = [_value(own, each, evidence, seed) for each, evidence in checked.items()]
    halves = np.array([on_halves(own, evidence, seed, range(resamples)) for evidence in checked.values()])
    return standings(values, halves, higher_is_better=own.higher_is_better, bounds=own.bounds)


def _value(own: Score, name: str, evidence: Evidence, seed: int) -> float:
    try:
        return own.of(evidence, seed)
    except UsageError:
        raise
    except InputError as error:
        raise InputError(f"source {name}: {error}") from error


def _checked(name: str, given: Evidence) -> Evidence:
    """The same as arrays of the shapes that scores take, classes numbered from 0."""
    labels = np.asarray(given.labels)
    arrays: dict[str, Any] = {
        field: None if getattr(given, field) is None else np.asarray(getattr(given, field))
        for field in ("features", "logits", "values", "groups")
    }
    if labels.ndim == 1:
        labels = np.unique(labels, return_inverse=True)[1]
    elif labels.ndim != 2 or not np.isin(labels, (0, 1)).all():
        raise InputError(f"source {name}: expected labels (n,), or 0 and 1 of shape (n, K), got shape {labels.shape}")
    if arrays["values"] is not None and arrays["values"].ndim == 1:
        arrays["values"] = arrays["values"][:, None]
    for field, array in arrays.items():
        if array is None:
            continue
        if array.ndim != (1 if field == "groups" else 2) or len(array) != len(labels):
            raise InputError(
                f"source {name}: expected {field} of {len(labels)} samples, a row each, as there are labels; got shape "
                f"{array.shape}"
            )
        if field != "groups" and array.dtype.kind not in "fiub":
            raise InputError(f"source {name}: expected numbers in {field}, got {array.dtype}")
    return replace(given, labels=labels, **arrays)
