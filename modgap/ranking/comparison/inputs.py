"""Inputs of a comparison: result folders and files of errors, with names if the user chose some, and their checks."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from pathlib import Path

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from modgap.errors import InputError, UsageError, count, unknown_name, visible_name
from modgap.ranking.comparison.error_table import (
    CSV,
    DISCREPANCY,
    DISTORTION,
    RANKING,
    TRAINING,
    ErrorTable,
    read_error_file,
)
from modgap.ranking.score import ERROR_RATE
from modgap.ranking.scores import get_score, score_names
from modgap.statistics.intervals import SampleErrors
from modgap.statistics.sample_file import SAMPLES_FILE, SampleFile, numbered_sample_file, read_sample_file
from modgap.storage.digests import FILES, check_named_file
from modgap.storage.json_records import Record, read_json
from modgap.storage.paths import expand_user
from modgap.targets.data_frames import SUFFIXES

ESTIMATOR_ORDER = ("search", "soft", "soft-matched")
"""Estimators in the order in which the default is chosen."""
LOGITS_TARGET = "your logits"
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


def read_inputs(texts: Sequence[str]) -> list[ErrorTable]:
    """Read result folders and files of errors.

    Args:
        texts: Paths, or NAME=PATH. The name is that of a folder's system, or of the target of a file of errors.

    Raises:
        InputError: If a path does not exist, or has no errors of samples.
        UsageError: If a name does not apply.
    """
    return [table for text in texts for table in _read_path(*_parse(text))]


def _parse(text: str) -> tuple[Path, str | None]:
    """Return path and name; a path that exists may contain an equals sign."""
    path = expand_user(text)
    name, separator, rest = text.partition("=")
    if not path.exists() and separator and name and expand_user(rest).exists():
        return expand_user(rest), name
    return path, None


def _read_path(path: Path, name: str | None) -> list[ErrorTable]:
    if path.is_dir():
        return _rename_system(read_folder(path), name)
    if not path.exists():
        raise InputError(f"{path} does not exist. Pass a result folder of modgap, or a CSV file of errors by sample.")
    if path.name.lower().endswith(SUFFIXES):
        return [read_error_file(path, name)]
    if path.suffix.lower() in (".json", ".npz"):
        of_json = ", and a record has no errors of samples to compare" if path.suffix.lower() == ".json" else ""
        raise InputError(
            f"{path} is a single file{of_json}. Pass the folder that `out` wrote, which also has the errors of "
            "the samples in samples.npz."
        )
    raise InputError(
        f"{path} is not a result folder of modgap, and not a file of errors ({', '.join(SUFFIXES)}). Pass one of these."
    )


def _rename_system(tables: list[ErrorTable], name: str | None) -> list[ErrorTable]:
    """Return tables of one system with the name that the user chose for it."""
    if name is None:
        return tables
    table = tables[0]
    if len(tables) == 1 and table.system is not None:
        return [replace(table, system=name)]
    if len(tables) == 1 and len(table.columns) == 1:
        return [table.with_columns({name: next(iter(table.columns.values()))})]
    raise UsageError(
        f"{name}= does not apply to {table.origin}, which has the errors of several systems. Pass the folder without "
        "a name."
    )


def choose_estimator(tables: Sequence[ErrorTable], estimator: str | None) -> list[ErrorTable]:
    """Return tables whose columns are systems, by the errors of one estimator where there are several.

    Args:
        tables: Tables of errors.
        estimator: Name of the estimator of discrepancies; None for the first of search, soft and soft-matched that all
            folders have.

    Raises:
        UsageError: If the estimator does not apply, or is unknown.
        InputError: If a folder does not have it.
    """
    discrepancies = [table for table in tables if table.kind == DISCREPANCY]
    if not discrepancies:
        if estimator is not None:
            raise UsageError(f"`estimator={estimator!r}` applies to folders of modgap discrepancy. Leave it out.")
        return list(tables)
    shared = [name for name in ESTIMATOR_ORDER if all(name in table.columns for table in discrepancies)]
    if not estimator and not shared:
        described = ", ".join(f"{table.origin} ({', '.join(table.columns)})" for table in discrepancies)
        raise InputError(
            f"The folders have no estimator in common: {described}. Run modgap discrepancy with the same --estimator."
        )
    name = estimator or shared[0]
    names = {column for table in discrepancies for column in table.columns}
    if name not in names:
        raise unknown_name("estimator", name, names)
    for table in discrepancies:
        if name not in table.columns:
            raise InputError(
                f"{table.origin} has no errors of the estimator {name}, only of {', '.join(table.columns)}. Choose "
                f"another `estimator`, or run again: {table.command} --estimator {name}"
            )
    metric = f"held-out error ({name})"
    return [
        table.with_columns({str(table.system): table.columns[name]}, metric) if table.kind == DISCREPANCY else table
        for table in tables
    ]


def name_targets(tables: Sequence[ErrorTable]) -> list[ErrorTable]:
    """Return the tables with a target each: that of the others for logits, whose target is not known.

    Raises:
        InputError: If logits are compared over several targets.
    """
    names = list(dict.fromkeys(table.target for table in tables if table.target is not None))
    unnamed = [table for table in tables if table.target is None]
    if unnamed and len(names) > 1:
        raise InputError(
            f"The target of {unnamed[0].origin} is not known, because it was computed from a file of logits. Compare "
            f"it with results on one target, not on {len(names)}."
        )
    target = names[0] if names else LOGITS_TARGET
    return [table if table.target is not None else replace(table, target=target) for table in tables]


def unique_systems(tables: Sequence[ErrorTable]) -> list[ErrorTable]:
    """Return the tables of one target with names of systems that are unique.

    Systems of the same name get the name of their folder in parentheses.

    Args:
        tables: Tables of one target, whose columns are systems.

    Raises:
        InputError: If names are not unique even so.
    """
    counts = Counter(name for table in tables for name in table.columns)
    renamed = []
    for table in tables:
        folder = Path(table.origin).name if table.kind != CSV else table.origin
        names = {name: f"{name} ({folder})" if counts[name] > 1 else name for name in table.columns}
        is_repeated = any(counts[name] > 1 for name in names)
        columns = {names[name]: errors for name, errors in table.columns.items()}
        renamed.append(table.with_columns(columns) if is_repeated else table)
    origins: dict[str, str] = {}
    for table in renamed:
        for name in table.columns:
            if name in origins:
                raise InputError(
                    f"{origins[name]} and {table.origin} both have the errors of {name} on {table.target}. Pass each "
                    "folder once, and give systems names with NAME=FOLDER."
                )
            origins[name] = table.origin
    return renamed


# Checks that errors are comparable, with a message that says why they are not and what to do


def collect_targets(tables: Sequence[ErrorTable]) -> list[ErrorTable]:
    """Return one table of the errors of all systems for each target, after checking that they are comparable.

    The errors of a table have the same samples, weights, units, and number and seed of splits.

    Args:
        tables: Tables with a target each, whose columns are systems.

    Raises:
        InputError: If the tables differ in kind, samples, classes, weights or splits, or a system has no errors on a
            target. The message says what to do.
    """
    first = tables[0]
    for other in tables[1:]:
        if first.kind != other.kind:
            raise InputError(
                f"{first.origin} is a {first.kind} and {other.origin} a {other.kind}. Their errors mean different "
                "things, so compare them separately."
            )
        if first.metric != other.metric:
            raise InputError(
                f"{first.origin} has the {first.metric} and {other.origin} the {other.metric}, which are not "
                "comparable. Compare results that have the same metric."
            )
    by_target: dict[str, list[ErrorTable]] = {}
    for table in tables:
        by_target.setdefault(str(table.target), []).append(table)
    targets = [_merge(unique_systems(members)) for members in by_target.values()]
    for target in targets[1:]:
        _check_between_targets(targets[0], target)
    _check_complete(targets)
    return targets


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
    import pandas as pd

    return np.asarray(pd.factorize(units)[0])


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


# Result folders

DISCREPANCY_SCHEMA = 2
RANKING_SCHEMA = 2
RATE_METRIC = "0-1 error %"
"""Metric of training runs whose samples are stored as error rates in [0, 1]."""


def read_folder(folder: Path) -> list[ErrorTable]:
    """Read the errors of the samples in a result folder, one table for each target.

    Args:
        folder: Folder that `modgap discrepancy`, `distortion`, `train` or `rank` wrote.

    Raises:
        InputError: If the folder has no results, or no errors of samples. The message says what to do.
    """
    for name, (kind, read) in READERS.items():
        path = folder / name
        if not path.exists():
            continue
        try:
            record = read_json(path, checked_key=FILES)
            if record.get("kind") != kind:
                raise InputError(f"{path} is not the record of a {kind}. Pass a folder that modgap wrote with `out`.")
            return read(record, folder)
        except RecursionError as error:
            raise InputError(f"{path} is damaged. Run the command that wrote it again.") from error
        except (AttributeError, LookupError, TypeError) as error:
            raise InputError(
                f"{path} is incomplete or damaged ({error!r}). Run the command that wrote it again."
            ) from error
    raise InputError(
        f"There are no results in {folder}. Pass a folder that modgap discrepancy, distortion, train, "
        "transfer or rank wrote with `out`."
    )


def _read_discrepancy(record: Record, folder: Path) -> list[ErrorTable]:
    if record.get("schema") != DISCREPANCY_SCHEMA:
        raise InputError(
            f"{folder} was written by another version of modgap (schema {record.get('schema')}). This version reads "
            f"schema {DISCREPANCY_SCHEMA}. Run again: {_discrepancy_command(record, folder)}"
        )
    samples = read_samples(folder, _discrepancy_command(record, folder))
    return [discrepancy_table(record, samples, str(folder), folder.name)]


def discrepancy_table(record: Record, samples: SampleFile, origin: str, name: str) -> ErrorTable:
    """Return the errors of a discrepancy.

    Args:
        record: Record of the discrepancy.
        samples: Errors of the samples by estimator.
        origin: Path of the folder, or description of the result.
        name: Name of the system if the record has no source, as for a file of logits.
    """
    source = record["source"]
    embedding = record["provenance"].get("embedding", {})
    if source is not None and embedding.get("embedder", "native") != "native":
        source = f"{source} with a trained embedder"
    return ErrorTable(
        origin=origin,
        kind=DISCREPANCY,
        target=None if source is None else str(record["target"]),
        samples=samples,
        metric="held-out error",
        bounded=True,
        system=name if source is None else str(source),
        conditions={"weights": str(record["weighting"])},
        data=record["provenance"].get("target"),
        command=_discrepancy_command(record, Path(origin)),
    )


def _discrepancy_command(record: Record, folder: Path) -> str:
    if record.get("source") is None:
        return f"modgap discrepancy --logits {record.get('target')} --out {folder}"
    return f"modgap discrepancy --source {record['source']} --target {record.get('target')} --out {folder}"


def _read_run(record: Record, folder: Path) -> list[ErrorTable]:
    result = record["result"]
    source = f" --source {record['source']}" if record["source"] else ""
    command = f"modgap train --method {record['method']}{source} --target {record['target']}"
    if result is None:
        raise InputError(f"The run in {folder} is not finished. Resume it: {command} --out {folder} --resume")
    if reason := result.get("no_sample_errors"):
        raise InputError(f"The run in {folder} cannot be compared sample by sample. {reason}")
    check_named_file(folder, record, folder / SAMPLES_FILE)
    unit = "error rate" if result["metric"] == RATE_METRIC else str(result["metric"])
    # Neither of the others looks at the test samples before the test.
    protocol = "orca" if record["protocol"] == "orca" else "validation"
    table = ErrorTable(
        origin=str(folder),
        kind=TRAINING,
        target=str(record["target"]),
        samples=read_samples(folder, f"{command} --out {folder}"),
        metric=f"test {unit}",
        bounded=result["metric"] == RATE_METRIC,
        conditions={"metric": str(result["metric"]), "protocol": protocol},
        data=record["provenance"].get("target"),
        command=f"{command} --out {folder}",
    )
    return [table]


def _read_distortion(record: Record, folder: Path) -> list[ErrorTable]:
    surrogates = record["surrogates"]
    names = [str(surrogate["name"]) for surrogate in surrogates]
    command = f"modgap distortion --source {record['source']} --surrogate {' --surrogate '.join(names)} --out {folder}"
    return [
        ErrorTable(
            origin=str(folder),
            kind=DISTORTION,
            target=name,
            samples=read_samples(folder, command, numbered_sample_file(number, len(names))),
            metric=f"{record['request']['probes'][0]} probe error",
            bounded=True,
            data=surrogate["samples"],
            command=command,
        )
        for number, (name, surrogate) in enumerate(zip(names, surrogates, strict=True))
    ]


def _read_ranking(record: Record, folder: Path) -> list[ErrorTable]:
    target = record["target"]
    name = str(target["name"] if isinstance(target, Mapping) else target)
    command = f"modgap rank --target {name} --sources A,B --by discrepancy --out {folder}"
    if record.get("schema") == RANKING_SCHEMA and not (folder / SAMPLES_FILE).exists():
        raise InputError(
            f"The ranking in {folder} is by {record['by']}, which is not an error by sample, so its sources cannot be "
            f"compared sample by sample. Rank by such an error: {command}"
        )
    samples = read_samples(folder, command)
    if record["by"] in score_names():
        bounded = get_score(record["by"]).bounds == ERROR_RATE
    else:
        values = np.concatenate([errors.errors for errors in samples.errors.values()])
        bounded = bool(((values >= 0) & (values <= 1)).all())
    # A score of which higher values are better is minus its errors.
    score = record["score_descriptions"][record["by"]]
    metric = f"minus {score['label']}" if score["higher_is_better"] else str(score["label"])
    rows = record.get("sources") or [{}]
    data = rows[0].get("provenance", {}).get("target")
    return [ErrorTable(str(folder), RANKING, name, samples, metric, bounded, data=data)]


def read_samples(folder: Path, command: str, name: str = SAMPLES_FILE) -> SampleFile:
    """Read the errors of the samples in a folder.

    Args:
        folder: The folder.
        command: Command that writes the folder, for the message.
        name: Name of the file.

    Raises:
        InputError: If there is no such file, or it is damaged.
    """
    path = folder / name
    if not path.exists():
        raise InputError(
            f"There is no {name} in {folder}, and the record alone has no errors of samples to compare. "
            f"Run again: {command}"
        )
    return read_sample_file(path)


READERS: Mapping[str, tuple[str, Callable[[Record, Path], list[ErrorTable]]]] = {
    "ranking.json": (RANKING, _read_ranking),
    "result.json": (DISCREPANCY, _read_discrepancy),
    "distortion.json": (DISTORTION, _read_distortion),
    "run.json": ("run", _read_run),
}
"""Kind of the record in each file of results, and its reader."""
