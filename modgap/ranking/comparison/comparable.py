"""Checks that errors are comparable, with a message that says why they are not and what to do."""

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from modgap.errors import InputError, count, visible_name
from modgap.ranking.comparison.error_table import CSV, DISCREPANCY, DISTORTION, RANKING, TRAINING, ErrorTable
from modgap.ranking.comparison.inputs import unique_systems
from modgap.statistics.intervals import SampleErrors

REMEDIES = {
    "metric": "Compare runs that are tested by the same metric.",
    "protocol": 'Train both with or both without `protocol="orca"`, which chooses the epoch on the test samples.',
    "weights": "Run both with the same `weight`.",
}
SAMPLE_OPTIONS = {
    DISCREPANCY: "Run both with the same `split`, `limit` and `seed`.",
    TRAINING: "Train both with the same `limit`, `seed` and `protocol`.",
    DISTORTION: "Run both with the same `limit` and `seed`.",
    RANKING: "Run both with the same `split`, `limit` and `seed`.",
    CSV: "Give both files the same samples.",
}


def collect_targets(tables: Sequence[ErrorTable]) -> list[ErrorTable]:
    """Return one table of the errors of all systems for each target, after checking that they are comparable.

    The errors of a table have the same samples, weights, units, and number and seed of splits.

    Args:
        tables: Tables with a target each, whose columns are systems.

    Raises:
        InputError: If the tables differ in kind, samples, classes, weights or splits, or a system has no errors on a
            target. The message says what to do.
    """
    for other in tables[1:]:
        _check_kind(tables[0], other)
    by_target: dict[str, list[ErrorTable]] = {}
    for table in tables:
        by_target.setdefault(str(table.target), []).append(table)
    targets = [_merge(unique_systems(members)) for members in by_target.values()]
    for target in targets[1:]:
        _check_between_targets(targets[0], target)
    _check_complete(targets)
    return targets


def _check_kind(first: ErrorTable, other: ErrorTable) -> None:
    if first.kind != other.kind:
        raise InputError(
            f"{first.origin} is a {first.kind} and {other.origin} a {other.kind}. Their errors mean different things, "
            "so compare them separately."
        )
    if first.metric != other.metric:
        raise InputError(
            f"{first.origin} has the {first.metric} and {other.origin} the {other.metric}, which are not comparable. "
            "Compare results that have the same metric."
        )


def _merge(tables: Sequence[ErrorTable]) -> ErrorTable:
    """Return the systems of tables of one target as one table."""
    first = tables[0]
    for other in tables[1:]:
        _check_same_problem(first, other)
        _check_same_samples(first, other)
        _check_same_splits(first, other)
    systems = {name: errors for table in tables for name, errors in table.columns.items()}
    # Units differ where the systems have other copies of samples, which merge groups.
    units = reduce(_joined, (errors.units for errors in systems.values()))
    merged = first.with_columns({name: replace(errors, units=units) for name, errors in systems.items()})
    return replace(merged, bounded=all(table.bounded for table in tables))


def _joined(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the smallest units of which each holds whole units of two kinds, in the order of their first sample."""
    one, two = _partition(first), _partition(second)
    n_nodes = int(one.max()) + int(two.max()) + 2
    links = coo_array((np.ones(len(one)), (one, int(one.max()) + 1 + two)), shape=(n_nodes, n_nodes))
    return _partition(connected_components(links, directed=False)[1][one])


def _check_same_problem(first: ErrorTable, other: ErrorTable) -> None:
    """Raise if the number of classes, of samples a class, or another condition differs."""
    pair = f"{first.origin} and {other.origin}"
    classes = (first.samples.n_classes, other.samples.n_classes)
    if classes[0] != classes[1]:
        raise InputError(
            f"{pair} have {classes[0]} and {classes[1]} target classes. An error over more classes is higher, so they "
            f"are not comparable. {SAMPLE_OPTIONS[first.kind]}"
        )
    if first.samples.per_class != other.samples.per_class:
        raise InputError(
            f"The maps of {first.origin} are fitted on {_fitted_on(first.samples.per_class)} and those of "
            f"{other.origin} on {_fitted_on(other.samples.per_class)}. Maps that are fitted on more samples are "
            "better, so they are not comparable. Run both with the same `per_class`."
        )
    for name in first.conditions.keys() & other.conditions.keys():
        if first.conditions[name] != other.conditions[name]:
            raise InputError(
                f"{first.origin} and {other.origin} have different {name}: {first.conditions[name]} and "
                f"{other.conditions[name]}. {REMEDIES[name]}"
            )


def _fitted_on(per_class: int | None) -> str:
    return "one half of the samples" if per_class is None else f"{count(per_class, 'sample')} of each class"


def _check_same_samples(first: ErrorTable, other: ErrorTable) -> None:
    one = first.samples
    two = other.samples
    remedy = SAMPLE_OPTIONS[first.kind]
    if len(one.ids) != len(two.ids):
        raise InputError(
            f"{first.origin} has {count(len(one.ids), 'sample')} of {first.target}, and {other.origin} has "
            f"{len(two.ids):,}. A paired comparison needs the same samples. {remedy}"
        )
    if not np.array_equal(one.ids.astype(str), two.ids.astype(str)):
        n_other = len(np.setdiff1d(two.ids.astype(str), one.ids.astype(str)))
        raise InputError(
            f"{first.origin} and {other.origin} have different samples of {first.target} ({n_other:,} of "
            f"{len(two.ids):,} are not in both). A paired comparison needs the same samples in the same order. {remedy}"
        )
    differs = first.data is not None and other.data is not None and first.data != other.data
    if differs or not np.array_equal(one.labels, two.labels):
        raise InputError(
            f"{first.origin} and {other.origin} were computed from different data of {first.target}: its files or "
            f"labels have changed in between. Run again: {other.command or 'the command that wrote them'}"
        )


def _check_same_splits(first: ErrorTable, other: ErrorTable) -> None:
    one = next(iter(first.columns.values()))
    two = next(iter(other.columns.values()))
    pair = f"{first.origin} and {other.origin}"
    if not np.array_equal(_groups(first, one), _groups(other, two)):
        raise InputError(f"{pair} have different groups of samples. Run both with the same groups, or both without.")
    if not np.allclose(one.weights, two.weights, rtol=1e-6) or (one.strata is None) != (two.strata is None):
        raise InputError(f"The samples have different weights in {pair}. Run both with the same `weight`.")
    if not np.array_equal(one.tested, two.tested):
        raise InputError(
            f"{pair} have errors of different samples: {len(one.tested):,} and {len(two.tested):,} are tested. Run "
            "both with the same options."
        )
    if one.split_seed != two.split_seed or len(one.averages) != len(two.averages):
        raise InputError(
            f"{pair} come from different splits: {count(len(one.averages), 'split')} with seed {one.split_seed}, and "
            f"{len(two.averages)} with seed {two.split_seed}. Run both with the same `splits` and `seed`."
        )


def _groups(table: ErrorTable, errors: SampleErrors) -> np.ndarray:
    """Return the number of each sample's group, or of the sample itself, whatever copies merge."""
    return _partition(np.arange(len(errors.units)) if table.samples.groups is None else table.samples.groups)


def _partition(units: np.ndarray) -> np.ndarray:
    """Return the numbers of units in the order of their first sample, so that only the partition counts."""
    _, firsts, numbers = np.unique(units, return_index=True, return_inverse=True)
    ranks = np.argsort(np.argsort(firsts))
    return np.asarray(ranks[numbers.ravel()])


def _check_between_targets(first: ErrorTable, other: ErrorTable) -> None:
    if first.samples.per_class != other.samples.per_class:
        raise InputError(
            f"On {first.target}, maps are fitted on {_fitted_on(first.samples.per_class)}, and on {other.target} on "
            f"{_fitted_on(other.samples.per_class)}, so their differences are not comparable. Use the same `per_class` "
            "for all targets."
        )
    by_class = [next(iter(one.columns.values())).strata is not None for one in (first, other)]
    if by_class[0] != by_class[1]:
        raise InputError(
            f"Errors are means over classes on one of {first.target} and {other.target} only. Use the same `weight` "
            "for all targets."
        )


def _check_complete(targets: Sequence[ErrorTable]) -> None:
    """Raise if a system has no errors on one of the targets, or there are fewer than two systems."""
    names = list(dict.fromkeys(name for one in targets for name in one.columns))
    for one in targets:
        missing = [name for name in names if name not in one.columns]
        if missing:
            listed = ", ".join(visible_name(str(target.target)) for target in targets)
            raise InputError(
                f"There are no errors of {visible_name(missing[0])} on {visible_name(str(one.target))}. Comparing over "
                f"{len(targets)} targets ({listed}) needs every system on every target: add its results, or leave out "
                "the others. Systems are matched by name, which NAME=FOLDER sets."
            )
    if len(names) < 2:
        raise InputError(
            f"There are errors of one system only ({visible_name(names[0])}). At least two are needed: pass the "
            "results of another one on the same samples."
        )
