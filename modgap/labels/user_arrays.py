"""Arrays and labels as users have them, converted to the arrays that modgap computes with."""

import logging
from collections.abc import Iterator, Mapping, Sequence, Set
from os import PathLike
from typing import Any

import numpy as np

from modgap.errors import InputError, count, first_line
from modgap.labels.written_names import NumberedNames, number_names

BOOLEANS = {"False": 0, "True": 1}
"""Numbers of the classes whose names are made of truth values."""
LARGEST_EXACT_FLOAT = 2**53
"""Number from which not every whole number is a float of double precision."""
NAMES_SHOWN = 3
"""Most names in a line of the log."""
MISSING_TEXTS = ("nan", "NaT")
"""Texts that NumPy makes of missing values in a list of texts."""
NOT_ARRAYS = (str, bytes, PathLike, Mapping, Set, Iterator, type(None))
"""Types of which NumPy would make an array of one value."""

log = logging.getLogger("modgap")


def to_numpy(array: object, name: str = "array") -> np.ndarray:
    """Return an array-like object as a NumPy array.

    NumPy arrays and memory maps are returned as they are. PyTorch tensors may need gradients, lie on a GPU, be sparse
    or quantized, or be bfloat16, which becomes float32. pandas and Arrow objects, sparse matrices of SciPy and nested
    lists are converted. Missing numbers of pandas and Arrow become NaN. Lists of texts become arrays of objects,
    because NumPy would make the text 'nan' of NaN, and drop a NUL at the end of a text.

    Args:
        array: The object to convert.
        name: Name of the argument, for the message.

    Raises:
        InputError: If values are masked, or the object is no array, has rows of different lengths or has no values.

    Example:
        >>> to_numpy([[1, 2], [3, 4]]).shape
        (2, 2)
    """
    if masked := sum(int(np.sum(part.mask)) for part in _masked_arrays(array)):
        raise InputError(
            f"{name} has {count(masked, 'masked value')}, and modgap does not use masks. Select the rows "
            "without masked values, or fill them with .filled(VALUE)."
        )
    if isinstance(array, np.ndarray):
        return array.data if isinstance(array, np.ma.MaskedArray) else array
    if isinstance(array, NOT_ARRAYS):
        raise InputError(
            f"{name} is of type {type(array).__name__}. Expected an array, a list, a tensor or a pandas object."
        )
    try:
        return _converted(array, name)
    except InputError:
        raise
    except (ValueError, TypeError, RuntimeError) as error:
        raise InputError(
            f"{name} cannot be converted to an array ({first_line(error)}). Expected rows of one length."
        ) from error


def _converted(array: Any, name: str) -> np.ndarray:
    """Return a tensor, a pandas or Arrow object, a sparse matrix or a nested list as an array."""
    if hasattr(array, "detach") and hasattr(array, "cpu"):
        tensor = array.detach()
        if tensor.is_meta:
            raise InputError(f"{name} is a tensor on the device meta, which has no values. Load its values first.")
        tensor = tensor.dequantize() if tensor.is_quantized else tensor
        tensor = (tensor if str(tensor.layout) == "torch.strided" else tensor.to_dense()).cpu()
        return np.asarray(tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor.resolve_conj())
    if hasattr(array, "tocsr"):
        return np.asarray(array.toarray())
    if type(array).__module__.partition(".")[0] == "pyarrow":
        array = array.to_pandas()
    if isinstance(array, list | tuple) and any(isinstance(value, str | bytes) for value in array):
        return np.fromiter(array, object, len(array))
    if not hasattr(array, "to_numpy"):
        return np.asarray(array)
    values = np.asarray(array.to_numpy())
    dtypes = np.atleast_1d(np.asarray(getattr(array, "dtypes", None), object))
    if values.dtype.kind == "O" and all(getattr(dtype, "kind", "O") in "iuf" for dtype in dtypes):
        # pandas' own types of numbers have a missing value that NumPy has no number for.
        return np.asarray(array.to_numpy(np.float64, na_value=np.nan))
    return values


def _masked_arrays(array: object) -> Iterator[np.ma.MaskedArray]:
    """Yield a masked array, or the masked arrays and values in a nested list or an array of objects."""
    if isinstance(array, np.ma.MaskedArray):
        yield array
    elif isinstance(array, list | tuple) or (isinstance(array, np.ndarray) and array.dtype.kind == "O" and array.ndim):
        for element in array:
            if isinstance(element, list | tuple | np.ndarray):
                yield from _masked_arrays(element)


def number_labels(labels: object) -> NumberedNames:
    """Number the classes of labels from 0, whatever kind of labels they are, and log how they were converted.

    Whole numbers 0..K-1 without gaps are kept. Other whole numbers of at least 0, booleans and strings are numbered in
    sorted order, and categories in their own order. One-hot rows become class numbers. If any row has another number of
    ones, the labels are multi-label, and are kept.

    Args:
        labels: Labels of shape (N,) or (N, 1), or 0/1 labels of shape (N, K).

    Raises:
        InputError: If a label is missing, negative, infinite or not whole, or the shape is another one.

    Example:
        >>> number_labels(["cat", "dog", "cat"])
        NumberedNames(numbers=array([0, 1, 0]), names=('cat', 'dog'))
        >>> number_labels([1, 2, 2]).numbers, number_labels([[0, 1], [1, 0]]).numbers
        (array([0, 1, 1]), array([1, 0]))
    """
    categories = getattr(getattr(labels, "dtype", None), "categories", None)
    array = to_numpy(labels, "labels")
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 2:
        return _number_rows(array)
    if array.ndim != 1:
        raise InputError(f"The labels have shape {array.shape}. Expected (N,), or (N, K) with the values 0 and 1.")
    return _number_values(array) if categories is None else _number_categories(array, list(categories))


def _number_rows(array: np.ndarray) -> NumberedNames:
    """Return the class numbers of one-hot rows, or multi-label rows as they are."""
    if array.dtype.kind not in "biuf" or not np.isin(array, (0, 1)).all():
        raise InputError(
            f"The labels have shape {array.shape} and values other than 0 and 1. Expected class labels of shape "
            "(N,), or 0/1 labels of shape (N, K)."
        )
    if len(array) and (array.sum(axis=1) == 1).all():
        text = "Each row of the labels has a single 1, so they are read as one-hot labels of %d classes."
        log.info(text, array.shape[1])
        return NumberedNames(array.argmax(axis=1), ())
    text = (
        "The labels have %d columns of 0 and 1, so a sample can have several of %d labels (multi-label). If each "
        "sample has one class, pass its number, as labels.argmax(axis=1)."
    )
    log.info(text, array.shape[1], array.shape[1])
    return NumberedNames(array.astype(np.uint8), ())


def _number_values(array: np.ndarray) -> NumberedNames:
    if array.dtype.kind in "fiu":
        return _number_numbers(array)
    if array.dtype.kind not in "ObUS":
        raise InputError(f"The labels have dtype {array.dtype}. Expected numbers, strings, booleans or categories.")
    _raise_if_missing(_missing_values(array))
    if array.dtype.kind == "O" and _are_numbers(array):
        return _number_numbers(np.array(array.tolist()))
    return number_names(array)


def _are_numbers(array: np.ndarray) -> bool:
    """Return True if labels are numbers or booleans rather than names; objects must all be numbers."""
    if array.dtype.kind != "O":
        return array.dtype.kind in "biuf"
    return all(isinstance(value, int | float | np.number) and not isinstance(value, bool) for value in array.ravel())


def _number_categories(array: np.ndarray, categories: list[object]) -> NumberedNames:
    _raise_if_missing(_missing_values(array))
    present = set(array.tolist())
    used = [category for category in categories if category in present]
    unused = [str(category) for category in categories if category not in present]
    positions = {category: position for position, category in enumerate(used)}
    labels = np.array([positions[value] for value in array.tolist()], np.int64)
    named = number_names(used)
    if unused:
        log.info("Categories without a sample are left out: %s.", _shown(unused))
    return NumberedNames(labels, tuple(named.names[number] for number in named.numbers))


def _number_numbers(array: np.ndarray) -> NumberedNames:
    """Number integers or whole floats: keep 0..K-1 without gaps, and number others in sorted order."""
    if array.dtype.kind == "f":
        array = _whole_numbers(array)
    values, labels = np.unique(array, return_inverse=True)
    if len(values) and values[0] < 0:
        raise InputError(
            f"The label {values[0]} is negative, and negative labels often mark samples without a label. Drop these "
            "samples, or number the classes from 0."
        )
    if not len(values) or values[-1] == len(values) - 1:
        return NumberedNames(array.astype(np.int64), ())
    names = tuple(str(value) for value in values)
    log.info("The labels %s are renumbered 0 to %d.", _shown(names), len(values) - 1)
    return NumberedNames(labels, names)


def _whole_numbers(array: np.ndarray) -> np.ndarray:
    """Return floats as integers, or raise if one of them is missing, infinite or not whole."""
    _raise_if_missing(np.isnan(array))
    fractional = (array != np.floor(array)) | (np.abs(array) >= LARGEST_EXACT_FLOAT)
    if fractional.any():
        raise InputError(
            f"The label {array[fractional][0]} is not a whole number. Labels are classes. For a regression target, "
            "make classes with modgap.discrepancy.pseudo_classes."
        )
    return array.astype(np.int64)


def number_groups(groups: object, n_samples: int) -> np.ndarray:
    """Return the group of each sample as a number from 0, in the order of the groups' values, shape (N,).

    Args:
        groups: Record, subject or other group of each sample, of one type that can be sorted, shape (N,) or (N, 1).
        n_samples: Number N of samples.

    Raises:
        InputError: If there is not one group for each sample, a group is missing or cannot be sorted, or two groups
            differ only in spaces or in the form of Unicode.

    Example:
        >>> number_groups(["anna", "ben", "anna"], 3)
        array([0, 1, 0])
    """
    array = to_numpy(groups, "groups")
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise InputError(f"The groups have shape {array.shape}. Expected one group for each sample, ({n_samples},).")
    if len(array) != n_samples:
        raise InputError(f"There are {len(array)} groups for {n_samples} samples. Expected one group for each sample.")
    _raise_if_missing(_missing_values(array), "groups", "give each of them a group")
    if array.dtype.kind in "US" or (array.dtype.kind == "O" and all(isinstance(value, str | bytes) for value in array)):
        return number_names(array, "group").numbers
    try:
        numbers: np.ndarray = np.unique(array, return_inverse=True)[1]
    except TypeError as error:
        raise InputError(f"The groups cannot be sorted ({error}). Expected groups of one type.") from error
    return numbers


def names_of_classes(names: Sequence[str], numbered: NumberedNames, labels: object, argument: str) -> tuple[str, ...]:
    """Return the names of the classes that have samples, in the order of their numbers.

    Args:
        names: Names that the user passes. If labels are numbers, name n belongs to label n, and labels without a sample
            have a name too. For 0/1 labels of shape (N, K) they are the names of the K columns. If labels are names
            themselves, all of them must be among these. Empty for the names that the labels have.
        numbered: Result of `number_labels` for the labels.
        labels: The labels as the user has them.
        argument: Name by which the user passes the names, for the message.

    Raises:
        InputError: If a class has no name, or two have the same.

    Example:
        >>> labels = [0, 2, 2]
        >>> names_of_classes(["A", "B", "C"], number_labels(labels), labels, "target_classes")
        ('A', 'C')
    """
    if not names:
        return numbered.names
    array = to_numpy(labels, "labels")
    if repeated := next((name for number, name in enumerate(names) if name in names[:number]), None):
        raise InputError(f"{argument} has the name {repeated!r} twice. Give each class a name of its own.")
    if not _are_numbers(array):
        unnamed = sorted(set(numbered.names) - set(names))
        if unnamed:
            raise InputError(
                f"The label {unnamed[0]!r} is not in {argument}. The labels are names themselves: leave out "
                f"{argument}, or pass all of them."
            )
        return numbered.names
    n_columns = array.shape[1] if array.ndim == 2 and array.shape[1] > 1 else None
    if n_columns is not None and len(names) != n_columns:
        raise InputError(
            f"{argument} has {count(len(names), 'name')}, but the labels have {count(n_columns, 'column')}. "
            "Expected one name for each column."
        )
    n_classes = n_columns or int(numbered.numbers.max(initial=-1)) + 1
    # Labels that were numbered anew have their former numbers as names. Others have no names.
    numbers = [int(name) if name.isdecimal() else int(float(BOOLEANS.get(name, name))) for name in numbered.names]
    values = numbers or list(range(n_classes))
    if max(values, default=-1) >= len(names):
        raise InputError(
            f"The label {max(values)} has no name. {argument} has {count(len(names), 'name')}, which are those of the "
            f"labels 0 to {len(names) - 1}. Number the classes from 0, or add the missing names."
        )
    return tuple(names[value] for value in values)


def align_rows(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Return arrays whose rows belong together, with pandas objects reordered by the index of the first of them.

    Arrays without an index, and pandas objects of equal indexes, belong together by position.

    Args:
        arrays: Arrays by the name of the argument, for the message; None for an absent one.

    Raises:
        InputError: If the indexes have different labels, or a label twice, or if they have another order and there is
            an array without an index.

    Example:
        >>> import pandas as pd
        >>> a, b = pd.Series([1, 2], index=["x", "y"]), pd.Series([20, 10], index=["y", "x"])
        >>> align_rows({"a": a, "b": b})["b"].tolist()
        [10, 20]
    """
    indexes = {name: array.index for name, array in arrays.items() if hasattr(array, "iloc")}
    first = next(iter(indexes), None)
    aligned = dict(arrays)
    for name, index in indexes.items():
        # Other checks report different lengths.
        if first is None or index.equals(indexes[first]) or len(index) != len(indexes[first]):
            continue
        rows = index.get_indexer(indexes[first]) if index.is_unique and indexes[first].is_unique else np.array([-1])
        if (rows < 0).any():
            raise InputError(
                f"The indexes of {first} and {name} do not have the same labels, each once, so it is not known which "
                "of their rows belong together. Give them the same index, or pass both with .to_numpy() if their rows "
                "are in the same order."
            )
        if unindexed := [other for other, array in arrays.items() if array is not None and other not in indexes]:
            raise InputError(
                f"The indexes of {first} and {name} have different orders, and {unindexed[0]} has no index, so it is "
                f"not known which of their rows belong together. Give {unindexed[0]} the same index, or pass all with "
                ".to_numpy() if their rows are in the same order."
            )
        aligned[name] = arrays[name].iloc[rows]
    return aligned


def check_lengths(logits: np.ndarray, labels: np.ndarray, groups: np.ndarray | None = None) -> None:
    """Raise if logits, labels and groups are not of the same number of samples.

    Args:
        logits: Logits of shape (N, C).
        labels: Numbered labels of shape (N,) or (N, K).
        groups: Group of each sample, shape (N,); None if there are none.

    Raises:
        InputError: If the numbers differ. The message says if the logits look transposed.
    """
    n_labels = len(labels)
    if logits.ndim == 2 and len(logits) != n_labels:
        transposed = " The logits look transposed: use logits.T." if logits.shape[1] == n_labels else ""
        raise InputError(
            f"The logits have shape {logits.shape}, but there are {n_labels} labels. Expected one row of logits per "
            f"label.{transposed}"
        )
    if groups is not None and groups.ndim == 0:
        raise InputError(f"groups is one value. Expected one group per label, shape ({n_labels},).")
    if groups is not None and len(groups) != n_labels:
        raise InputError(f"There are {len(groups)} groups, but {n_labels} labels. Expected one group per label.")


def check_source_names(names: Sequence[str], logits: np.ndarray, argument: str) -> None:
    """Raise if there are names of source classes, but not one for each column of the logits.

    Args:
        names: Names of the source classes; empty if there are none.
        logits: Logits of shape (N, C).
        argument: Name by which the user passes the names, for the message.

    Raises:
        InputError: If the numbers differ.
    """
    if names and logits.ndim == 2 and len(names) != logits.shape[1]:
        raise InputError(
            f"{argument} has {count(len(names), 'name')}, but the logits have {count(logits.shape[1], 'column')}. "
            "Expected one name for each column."
        )


def _missing_values(array: np.ndarray) -> np.ndarray:
    """Return a mask of the values that are None, NaN, NaT, the NA of pandas, or a text in `MISSING_TEXTS`, (N,)."""
    if array.dtype.kind in "US":
        return np.isin(array, np.array(MISSING_TEXTS, array.dtype.kind))
    if array.dtype.kind != "O":
        return np.asarray(array != array)
    import pandas as pd

    return np.asarray(pd.isna(array))


def _raise_if_missing(missing: np.ndarray, kind: str = "labels", way_out: str = "give their class a name") -> None:
    if missing.any():
        rows = np.flatnonzero(missing)
        raise InputError(
            f"{len(rows)} of {len(missing)} {kind} are missing (first in row {rows[0]}). Drop these samples, or "
            f"{way_out}."
        )


def _shown(names: list[str] | tuple[str, ...]) -> str:
    if len(names) <= NAMES_SHOWN:
        return ", ".join(names)
    return f"{', '.join(names[: NAMES_SHOWN - 1])}, ..., {names[-1]}"
