"""Inputs of a comparison: paths of result folders and files of errors, with names if the user chose some."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from modgap.comparison.error_columns import SUFFIXES, read_error_file
from modgap.comparison.error_table import CSV, DISCREPANCY, ErrorTable
from modgap.comparison.result_folders import read_folder
from modgap.errors import InputError, UsageError, unknown_name
from modgap.storage.paths import expand_user

__all__ = ["LOGITS_TARGET", "choose_estimator", "name_targets", "read_inputs", "unique_systems"]

ESTIMATOR_ORDER = ("search", "soft", "soft-matched")
"""Estimators in the order in which the default is chosen."""
LOGITS_TARGET = "your logits"


@dataclass(frozen=True)
class _NamedPath:
    path: Path
    name: str | None


def read_inputs(texts: Sequence[str]) -> list[ErrorTable]:
    """Read result folders and files of errors.

    Args:
        texts: Paths, or NAME=PATH. The name is that of a folder's system, or of the target of a file of errors.

    Raises:
        InputError: If a path does not exist, or has no errors of samples.
        UsageError: If a name does not apply.
    """
    return [table for text in texts for table in _read_path(_parse(text))]


def _parse(text: str) -> _NamedPath:
    """Return path and name; a path that exists may contain an equals sign."""
    path = expand_user(text)
    name, separator, rest = text.partition("=")
    if not path.exists() and separator and name and expand_user(rest).exists():
        return _NamedPath(expand_user(rest), name)
    return _NamedPath(path, None)


def _read_path(item: _NamedPath) -> list[ErrorTable]:
    path = item.path
    if path.is_dir():
        return _rename_system(read_folder(path), item.name)
    if not path.exists():
        raise InputError(f"{path} does not exist. Pass a result folder of modgap, or a CSV file of errors by sample.")
    if path.name.lower().endswith(SUFFIXES):
        return [read_error_file(path, item.name)]
    if path.suffix.lower() in (".json", ".npz"):
        raise InputError(
            f"{path} is a single file{_of_json(path)}. Pass the folder that `out` wrote, which also has the errors of "
            "the samples in samples.npz."
        )
    raise InputError(
        f"{path} is not a result folder of modgap, and not a file of errors ({', '.join(SUFFIXES)}). Pass one of these."
    )


def _of_json(path: Path) -> str:
    return ", and a record has no errors of samples to compare" if path.suffix.lower() == ".json" else ""


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
    name = estimator or _common_estimator(discrepancies)
    _check_estimator(discrepancies, name)
    return [_with_estimator(table, name) if table.kind == DISCREPANCY else table for table in tables]


def _common_estimator(tables: Sequence[ErrorTable]) -> str:
    shared = [name for name in ESTIMATOR_ORDER if all(name in table.columns for table in tables)]
    if shared:
        return shared[0]
    described = ", ".join(f"{table.origin} ({', '.join(table.columns)})" for table in tables)
    raise InputError(
        f"The folders have no estimator in common: {described}. Run modgap discrepancy with the same --estimator."
    )


def _check_estimator(tables: Sequence[ErrorTable], name: str) -> None:
    names = {column for table in tables for column in table.columns}
    if name not in names:
        raise unknown_name("estimator", name, names)
    for table in tables:
        if name not in table.columns:
            raise InputError(
                f"{table.origin} has no errors of the estimator {name}, only of {', '.join(table.columns)}. Choose "
                f"another `estimator`, or run again: {table.command} --estimator {name}"
            )


def _with_estimator(table: ErrorTable, estimator: str) -> ErrorTable:
    assert table.system is not None
    return table.with_columns({table.system: table.columns[estimator]}, f"held-out error ({estimator})")


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
    renamed = [_with_folder_names(table, {name for name in table.columns if counts[name] > 1}) for table in tables]
    _check_unique(renamed)
    return renamed


def _with_folder_names(table: ErrorTable, repeated: set[str]) -> ErrorTable:
    if not repeated:
        return table
    folder = Path(table.origin).name if table.kind != CSV else table.origin
    return table.with_columns(
        {f"{name} ({folder})" if name in repeated else name: errors for name, errors in table.columns.items()}
    )


def _check_unique(tables: Iterable[ErrorTable]) -> None:
    origins: dict[str, str] = {}
    for table in tables:
        for name in table.columns:
            if name in origins:
                raise InputError(
                    f"{origins[name]} and {table.origin} both have the errors of {name} on {table.target}. Pass each "
                    "folder once, and give systems names with NAME=FOLDER."
                )
            origins[name] = table.origin
