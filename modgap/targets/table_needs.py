"""Tables of features: whether rows are features or series, and one message for all that a table lacks."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from modgap.errors import UsageError
from modgap.targets.categories import category_columns
from modgap.targets.data_frames import list_names
from modgap.targets.readers.csv import GROUP_NAMES, LABEL_NAMES, find_split_column

if TYPE_CHECKING:
    from pandas import DataFrame

MOMENT_NAMES = {"time", "t", "timestamp"}
"""Names of columns that make rows look like moments of series in long format."""


def _feature_columns(options: Mapping[str, str], frame: "DataFrame") -> list[object]:
    """Return the names of the columns of a table that can be features: those without another known purpose."""
    purposes = {
        options.get("label_column"),
        options.get("group"),
        options.get("split_from"),
        find_split_column(frame.columns),
    }
    if options.get("label_column") is None:
        purposes |= {name for name in frame.columns if str(name).lower() in LABEL_NAMES}
    columns = options.get("columns")
    chosen = None if columns is None else {name.strip() for name in columns.split(",")}
    return [name for name in frame.columns if name not in purposes and (chosen is None or str(name) in chosen)]


def has_named_features(options: Mapping[str, str], frame: "DataFrame", least: int = 2) -> bool:
    """Return True if columns have names of their own, and are no numbered values of a series, nor rows its moments.

    Args:
        options: Fields of the description of the data.
        frame: The table.
        least: Smallest number of names that differ by more than a number.
    """
    names = [str(name).lower() for name in _feature_columns(options, frame)]
    stems = {name.rstrip("0123456789._- ") for name in names}
    return len(stems) >= least and not MOMENT_NAMES & set(names)


def refuse_at_once(path: Path, options: Mapping[str, str], frame: "DataFrame") -> None:
    """Raise one error for all that a table of features lacks, if it is more than one thing.

    Raises:
        UsageError: If it lacks several of these: a label column, numbers in each column, and values for missing cells.
    """
    is_table = options.get("kind") == "table" or (options.get("kind") is None and has_named_features(options, frame))
    if not is_table or options.get("series_column") or "text" in frame.columns:
        return
    needs, passed = [], dict(options)
    features = _feature_columns(options, frame)
    if options.get("label_column") is None and not any(str(name).lower() in LABEL_NAMES for name in frame.columns):
        needs.append(f"a label column (one of {list_names(frame.columns)})")
        passed["label_column"] = "COLUMN"
    suspects = [name for name in features if GROUP_NAMES.fullmatch(str(name))] if options.get("group") is None else []
    categories = category_columns(frame, [name for name in features if name not in suspects])
    texts = [name for name in features if frame[name].dtype.kind not in "fiub" and name not in (*suspects, *categories)]
    numbers = [name for name in features if name not in (*texts, *suspects)]
    if texts:
        needs.append(
            f"numbers or categories in each column of values (got other text in {list_names(texts)}: leave these out)"
        )
        if not any("," in str(name) for name in numbers):
            passed["columns"] = ",".join(map(str, numbers))
    missing = [name for name in numbers if name not in categories and frame[name].isna().any()]
    if missing and options.get("fill") is None:
        needs.append(f"values in place of missing cells (in {list_names(missing)})")
        passed["fill"] = "median"
    if len(needs) < 2:
        return
    group = ""
    if suspects:
        passed["group"] = str(suspects[0])
        group = f" The group is right if {suspects[0]} says which samples belong together."
    # One of the names may be that of the label.
    if not has_named_features(passed, frame, 3 if "COLUMN" in passed.values() else 2):
        passed = {"kind": "table", **passed}
    label = " COLUMN is that of the label, which is no column of values." if "COLUMN" in passed.values() else ""
    listed = "; ".join(f"({number + 1}) {need}" for number, need in enumerate(needs))
    raise UsageError(f"{path} needs {len(needs)} things: {listed}. Pass `custom_data={passed!r}`.{label}{group}")
