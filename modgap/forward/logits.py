"""Logits of a source on a target, computed once and stored in the cache, or read from the files that users have."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modgap.errors import InputError, Progress, UsageError, count
from modgap.forward.inference_setup import (
    LogitsRequest,
    TrainedEmbedder,
    samples_record,
    set_up_inference,
    warn_about_small_classes,
)
from modgap.forward.surrogate_target import headless_error_with_surrogates, open_head_surrogate
from modgap.labels.user_arrays import (
    align_rows,
    check_lengths,
    check_source_names,
    names_of_classes,
    number_labels,
    to_numpy,
)
from modgap.labels.written_names import number_names, real_numbers
from modgap.sources import HeadlessError, SourceHandle
from modgap.storage.algorithms import algorithm_versions, installed_version
from modgap.storage.array_formats import map_npy
from modgap.storage.cache import CacheEntry, cache_key, find_cached, store_rows
from modgap.storage.paths import expand_user, has_suffix
from modgap.targets import Target
from modgap.targets.data_frames import SUFFIXES as FRAME_SUFFIXES
from modgap.targets.data_frames import drop_index_columns, list_names, named_texts, read_frame

if TYPE_CHECKING:
    from modgap.targets.data_frames import Column

__all__ = ["LogitsRequest", "SourceLogits", "TrainedEmbedder", "logits_of_arrays", "read_logits_file", "source_logits"]

KIND = "logits"
"""Kind of the cache entries."""


@dataclass(frozen=True)
class SourceLogits:
    """Logits of a source on a target, with everything that the estimators and the report need.

    Attributes:
        logits: Logits of shape (N, C): float32 if modgap computed them, else of the user's type. They may be
            memory-mapped from disk.
        labels: Target classes 0..K-1 of the samples, shape (N,); or 0/1 labels of shape (N, K) for a multi-label
            target.
        groups: Record, subject or field of each sample, shape (N,); None where every sample is independent.
        source_classes: Names of the C source classes.
        target_classes: Names of the K target classes.
        provenance: Record of the weights, the data, the embedding and the versions.
        seconds: Wall time to compute or read the logits, in seconds.
        cached: True if the logits were read from the cache.
        rows: Number of each sample in the target, shape (N,); None for the number of the row.
    """

    logits: np.ndarray
    labels: np.ndarray
    groups: np.ndarray | None
    source_classes: tuple[str, ...]
    target_classes: tuple[str, ...]
    provenance: dict[str, Any]
    seconds: float = 0.0
    cached: bool = False
    rows: np.ndarray | None = None

    def subset(self, rows: np.ndarray) -> "SourceLogits":
        """Return the logits of some samples.

        Args:
            rows: Numbers of the rows to keep, shape (M,).

        Raises:
            InputError: If a class loses all its samples.
        """
        labels = self.labels[rows]
        lost = _n_classes(self.labels) - _n_classes(labels)
        if lost:
            raise InputError(
                f"The chosen samples have none of {count(lost, 'class', 'classes')}. Choose more samples, or drop "
                "these classes."
            )
        numbers = rows if self.rows is None else self.rows[rows]
        groups = None if self.groups is None else self.groups[rows]
        return replace(self, logits=self.logits[rows], labels=labels, groups=groups, rows=numbers)


def _n_classes(labels: np.ndarray) -> int:
    """Return the number of classes that have a sample."""
    return int(labels.any(axis=0).sum()) if labels.ndim == 2 else len(np.unique(labels))


def source_logits(
    handle: SourceHandle,
    target: Target,
    request: LogitsRequest,
    progress: Progress | None = None,
    embedder: TrainedEmbedder | None = None,
) -> SourceLogits:
    """Return the logits of the source on the target, from the cache if they are there.

    The key of a cache entry contains everything that decides its content: weights, data, selection of samples,
    embedding, precision and versions. A damaged entry causes a warning and is computed again. A disk that cannot
    store a new entry causes a warning, too.

    With a trained embedder, only samples that it was not trained on are used. They pass through the source's
    pretrained encoder and head.

    Args:
        handle: The source.
        target: The target.
        request: The samples, their size and the head.
        progress: Called with `logits` and the fraction of the work done since the last call.
        embedder: A trained embedder that replaces the source's native input; None for the native input.

    Raises:
        InputError: When the data, the weights or the labels cannot be used.
        HeadlessError: When the source has no head and none was requested.
    """
    start = time.perf_counter()
    samples = request.samples
    head: str | dict[str, object] = "own"
    if request.head != "own":
        # The marker tells these entries from older ones, in which a head could see its training samples again.
        head = {**open_head_surrogate(request.head).fingerprint, "training_samples": "left out"}
    cache_record = {
        "source": handle.fingerprint(),
        **samples_record(target, samples, samples.input_size),
        "head": head,
        "embedder": embedder.fingerprint if embedder else "native",
        "algorithms": algorithm_versions("reading", "inference", "fitted heads"),
    }
    key = cache_key(cache_record)
    cached = find_cached(KIND, key, _decode)
    if cached is not None:
        warn_about_small_classes(cached.labels, cached.target_classes)
        return replace(cached, seconds=time.perf_counter() - start)
    try:
        setup = set_up_inference(handle, target, request, cache_record, embedder)
    except HeadlessError as error:
        raise headless_error_with_surrogates(error, handle) from error
    arrays = {"labels": setup.labels, "rows": setup.rows}
    if setup.groups is not None:
        arrays["groups"] = setup.groups
    record = {
        "source_classes": list(setup.source.class_names),
        "target_classes": list(setup.target_classes),
        "provenance": setup.provenance,
    }

    def batches() -> Iterator[np.ndarray]:
        for batch in setup.batches(request):
            yield batch
            if progress:
                progress("logits", len(batch) / len(setup.rows))

    shape = (len(setup.rows), len(setup.source.class_names))
    logits = store_rows(KIND, key, CacheEntry(arrays, record), "logits", shape, batches())
    computed = _decode(CacheEntry({**arrays, "logits": logits}, record))
    return replace(computed, seconds=time.perf_counter() - start, cached=False)


def _decode(entry: CacheEntry) -> SourceLogits:
    """Return the logits in a cache entry."""
    arrays = entry.arrays
    record = entry.metadata
    return SourceLogits(
        logits=arrays["logits"],
        labels=np.array(arrays["labels"]),
        groups=np.array(arrays["groups"]) if "groups" in arrays else None,
        source_classes=tuple(record["source_classes"]),
        target_classes=tuple(record["target_classes"]),
        provenance=record["provenance"],
        cached=True,
        rows=np.array(arrays["rows"]) if "rows" in arrays else None,
    )


ARRAY_SUFFIXES = (".npz", ".safetensors")
TORCH_SUFFIXES = (".pt", ".pth")
NAMES = ("logits", "labels", "groups", "class_names", "source_class_names")
"""Names of the arrays in a file. The first two must be there."""
GROUP_COLUMNS = ("group", "groups")
"""Names of the column of groups in a table, in any case. The first that the table has is used."""
LABEL_COLUMNS = ("labels", "label", "class", "target", "y")
"""Names of the column of labels in a table, in any case. The first that the table has is used."""
Content = dict[str, Any]
"""Arrays of a file by name, among them those of `NAMES`."""


def logits_of_arrays(
    arrays: Content,
    source_classes: Sequence[str],
    target_classes: Sequence[str],
    provenance: dict[str, Any],
    *,
    arguments: tuple[str, str] = ("source_classes", "target_classes"),
) -> SourceLogits:
    """Return logits and labels that a user has, after checking that they belong together.

    Args:
        arrays: `logits` (N, C), `labels` (N,) or (N, K) and, optionally, `groups` (N,); None counts as absent.
        source_classes: Names of the C source classes; empty to show their numbers.
        target_classes: Names of the labels 0, 1, 2, ...; empty for the names in the labels, or else the numbers.
        provenance: Record of where the logits come from.
        arguments: Names of the two lists of classes, for messages.

    Raises:
        InputError: If logits, labels, groups or names cannot be used, or do not fit.
    """
    rows = align_rows({name: arrays.get(name) for name in ("logits", "labels", "groups")})
    logits = to_numpy(rows["logits"], "logits")
    numbered = number_labels(rows["labels"])
    groups = None if rows["groups"] is None else to_numpy(rows["groups"], "groups")
    check_lengths(logits, numbered.numbers, groups)
    check_source_names(source_classes, logits, arguments[0])
    names = names_of_classes(target_classes, numbered, rows["labels"], arguments[1])
    return SourceLogits(logits, numbered.numbers, groups, tuple(source_classes), names, provenance)


def read_logits_file(path: str) -> SourceLogits:
    """Read logits that were computed elsewhere.

    Args:
        path: A `.npz`, `.safetensors` or `.pt` file with `logits` (N, C), `labels` (N,) and, optionally, `groups` (N,)
            and the strings `class_names` (K,) and `source_class_names` (C,); or `logits.npy` with `labels.npy` beside
            it, and the others too if they are there; or a CSV or Parquet file with a column of the labels, optionally
            one named group, and one column for each source class.

    Raises:
        InputError: When the file is missing or damaged, lacks an array, or logits and labels do not fit.
        UsageError: When the file has another suffix.
    """
    from modgap.storage.digests import file_digest

    start = time.perf_counter()
    file = expand_user(path)
    content = _read_content(file, path)
    missing = [name for name in NAMES[:2] if name not in content]
    if missing:
        present = ", ".join(sorted(content)) or "no arrays"
        raise InputError(f"{path} has no array {' and no array '.join(missing)}. It has: {present}.")
    digests = {"logits": file_digest(file)}
    if has_suffix(file, (".npy",)):
        digests["labels"] = file_digest(file.with_name("labels.npy"))
    try:
        read = logits_of_arrays(
            content,
            _strings(content, "source_class_names"),
            _strings(content, "class_names"),
            {"modgap": installed_version(), **digests},
            arguments=("source_class_names", "class_names"),
        )
    except InputError as error:
        raise type(error)(f"{path}: {error}") from error
    return replace(read, seconds=time.perf_counter() - start)


def _read_content(file: Path, path: str) -> Content:
    """Return the arrays of a file by name."""
    if not has_suffix(file, (*ARRAY_SUFFIXES, *TORCH_SUFFIXES, *FRAME_SUFFIXES, ".npy")):
        raise UsageError(
            f"{path} is not a file of logits that can be read. Expected an .npz, .safetensors, .npy, .pt, .csv, .tsv "
            "or .parquet file."
        )
    if not file.is_file():
        raise InputError(f"The logits file {path} does not exist.")
    if has_suffix(file, FRAME_SUFFIXES):
        return _read_columns(file)
    if has_suffix(file, TORCH_SUFFIXES):
        from modgap.targets.readers.pt import load_dictionary

        return {str(name): value for name, value in load_dictionary(file).items()}
    if not has_suffix(file, (".npy",)):
        from modgap.targets.readers.arrays import load_arrays

        return dict(load_arrays(file))
    # The other arrays are in files of their names beside that of the logits.
    siblings = {name: file.with_name(f"{name}.npy") for name in NAMES[1:]}
    labels = siblings["labels"]
    if file == labels or not labels.is_file():
        raise InputError(f"There are no labels for {file}. Expected them in {labels}, one for each row of the logits.")
    return {"logits": map_npy(file)} | {name: map_npy(path) for name, path in siblings.items() if path.is_file()}


def _read_columns(file: Path) -> Content:
    """Return labels, groups and logits from the columns of a table."""

    def columns_of_names(columns: Sequence[str]) -> list[str]:
        """Return the columns of labels and groups, whose values are read as they are written."""
        return list(filter(None, (_find_column(columns, LABEL_COLUMNS), _find_column(columns, GROUP_COLUMNS))))

    frame = read_frame(file, columns_of_names)
    label = _find_column(frame.columns, LABEL_COLUMNS)
    if label is None:
        raise InputError(
            f"{file} has no column of labels. Expected one named {' or '.join(LABEL_COLUMNS)}. It has: "
            f"{list_names(frame.columns)}."
        )
    group = _find_column(frame.columns, GROUP_COLUMNS)
    used_columns = [label] if group is None else [label, group]
    values = drop_index_columns(frame, used_columns, file).drop(columns=used_columns)
    texts = [name for name in values.columns if values[name].dtype.kind not in "fiu"]
    if texts:
        raise InputError(
            f"{file} has text in {list_names(texts)}. Expected numbers, the logits of one source class, in each column "
            "but those of labels and groups."
        )
    content: Content = {
        "logits": values.to_numpy(dtype=np.float32),
        "labels": _named_values(frame[label], file, "label"),
    }
    names = [str(name) for name in values.columns]
    if names != [str(number) for number in range(len(names))]:
        content["source_class_names"] = names
    return content if group is None else content | {"groups": _named_values(frame[group], file, "group")}


def _named_values(column: "Column", file: Path, noun: str) -> np.ndarray:
    """Return labels or groups as numbers if they are written as plain ones, else as they are written."""
    values = named_texts(column, file, noun)
    if values.dtype.kind not in "OT" or values.isna().any():
        return np.asarray(values)
    texts = values.to_numpy(dtype=object)
    if (numbers := real_numbers(texts)) is not None:
        return numbers
    return number_names(texts, noun, "refuse", f"They are in the column {str(column.name)!r} of {file}.").values


def _find_column(columns: Sequence[Any], names: Sequence[str]) -> str | None:
    """Return the column with the first of the names that a column has, in upper or lower case; None if none has."""
    return next((column for name in names for column in columns if str(column).lower() == name), None)


def _strings(content: Content, name: str) -> tuple[str, ...]:
    """Return the strings of the array or list with a name, or an empty tuple if there is none."""
    if name not in content:
        return ()
    values = np.asarray(content[name])
    if values.ndim != 1 or values.dtype.kind not in "US":
        raise InputError(
            f"{name} has dtype {values.dtype} and shape {values.shape}. Expected one string for each class. Save it as "
            f"np.array(names, dtype=str)."
        )
    return tuple(np.char.decode(values, "utf-8").tolist() if values.dtype.kind == "S" else values.tolist())
