"""Tables that readers return: samples, labels, splits and groups; and functions that make them of stored arrays."""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike

from modgap.errors import InputError

Item = TypeVar("Item")

SPLITS = ("train", "val", "test")
MAX_POOLED_VALUES = 1024
"""Largest number of values of one dense target in a row that is clustered. Larger targets are averaged down to it."""


class Samples(Protocol):
    """Samples by index, which may be read only when they are asked for.

    A sample is an image (C, H, W), a series or sound (C, length), a video (frames, C, H, W) or a string. The shapes of
    samples may differ. A plain tuple of arrays is a form of samples too.
    """

    def __len__(self) -> int:
        """Return the number of samples."""

    def __getitem__(self, index: int) -> Any:
        """Return one sample: an array or a string."""


@runtime_checkable
class PartialSamples(Samples, Protocol):
    """Samples of which a part of the last axis, such as a section of a sound, can be read without the rest."""

    def length(self, index: int) -> int | None:
        """Return the length of a sample's last axis; None if the whole sample must be read to know it."""

    def part(self, index: int, start: int, stop: int) -> np.ndarray:
        """Return the values of a sample from `start` to `stop` of its last axis."""


@dataclass(frozen=True)
class ArraySamples:
    """Samples of one shape in one array, (N, C, H, W) or (N, C, length)."""

    array: np.ndarray

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.array)

    def __getitem__(self, index: int) -> np.ndarray:
        """Return one sample."""
        sample: np.ndarray = self.array[index]
        return sample


@dataclass(frozen=True)
class TextSamples:
    """Samples that are strings."""

    texts: Sequence[str]

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.texts)

    def __getitem__(self, index: int) -> str:
        """Return one sample."""
        return self.texts[index]


@dataclass(frozen=True)
class StoredSamples(Generic[Item]):
    """Samples that a function reads, each when it is used.

    Attributes:
        items: Paths of the samples, their numbers, or whatever else the function takes.
        read: Returns the sample of an item.
    """

    items: Sequence[Item]
    read: Callable[[Item], np.ndarray]

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.items)

    def __getitem__(self, index: int) -> np.ndarray:
        """Return one sample."""
        return self.read(self.items[index])


@dataclass(frozen=True)
class TransformedSamples:
    """Samples to which a function is applied each time one is read."""

    samples: Samples
    function: Callable[[Any], Any]

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.samples)

    def __getitem__(self, index: int) -> Any:
        """Return the function's value for one sample."""
        return self.function(self.samples[index])


@dataclass(frozen=True)
class SelectedSamples:
    """Some of the samples, in the order of their indices `rows`, shape (N,)."""

    samples: Samples
    rows: np.ndarray

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        """Return one sample."""
        return self.samples[int(self.rows[index])]


@dataclass(frozen=True)
class ConcatenatedSamples:
    """Samples of several parts, one part after the other."""

    parts: tuple[Samples, ...]

    @functools.cached_property
    def _ends(self) -> np.ndarray:
        return np.cumsum([len(part) for part in self.parts])

    def __len__(self) -> int:
        """Return the number of samples."""
        return int(self._ends[-1]) if self.parts else 0

    def __getitem__(self, index: int) -> Any:
        """Return one sample."""
        part, index = self.part_of(index)
        return part[index]

    def part_of(self, index: int) -> tuple[Samples, int]:
        """Return the part that has a sample, and the number of the sample in it."""
        # The range counts a negative index from the end, and raises IndexError for one beyond.
        index = range(len(self))[index]
        part = int(np.searchsorted(self._ends, index, side="right"))
        return self.parts[part], index - int(self._ends[part]) + len(self.parts[part])


def stored_sample(samples: Samples, index: int) -> Any:
    """Return a sample before any function is applied to it: an array or a string, or the paths of its files.

    Args:
        samples: The samples.
        index: Number of the sample.
    """
    while True:
        if isinstance(samples, TransformedSamples):
            samples = samples.samples
        elif isinstance(samples, SelectedSamples):
            index, samples = int(samples.rows[index]), samples.samples
        elif isinstance(samples, ConcatenatedSamples):
            samples, index = samples.part_of(index)
        else:
            files = getattr(samples, "files_of", None)
            return samples[index] if files is None else files(index)


def have_one_shape(samples: Samples) -> bool:
    """Return True if all samples come from arrays of one shape; False if their shapes may differ.

    At most the first sample of each concatenated part is read.
    """
    while isinstance(samples, TransformedSamples | SelectedSamples):
        samples = samples.samples
    if isinstance(samples, ConcatenatedSamples):
        shapes = {np.shape(part[0]) for part in samples.parts if len(part)}
        return len(shapes) == 1 and all(have_one_shape(part) for part in samples.parts)
    return isinstance(samples, ArraySamples) and samples.array.dtype != object


@dataclass(frozen=True)
class Table:
    """Data of a target as a reader returns it.

    Attributes:
        samples: The N samples.
        labels: Class of each sample in 0..K-1, shape (N,), or 0/1 labels, shape (N, K). None for real-valued
            targets that have not been clustered into pseudo-classes.
        targets: Real-valued target y of each sample (regression, dense targets), each of one shape. They are read
            on access, as samples are. None for classification.
        classes: Class names in the order of the labels. None if the data has no names.
        splits: Index into SPLITS of each sample, shape (N,). None if the data defines no splits.
        groups: Record, subject or field of each sample, shape (N,), by the name of the grouping. None if the data
            has no groups.
        masks: 0/1 arrays of the targets' shape, 1 where a value counts. None where all values count.
        target_scale: Mean and standard deviation (sd), each of the targets' shape, if a step standardized the
            targets: y * sd + mean is in the manifest's unit. None if the targets are in this unit.
        columns: Names of the columns of a table that the samples are made of, in order. None for other data.
        levels: Level of the background of each sample in the unit of its values, shape (N,), for augmentation. None if
            unknown.
        noise: Samples without labels, of any number, that augmentation mixes into others. None if there are none.
        names: Name by which a file that lists splits refers to each sample. None if such a file refers to samples by
            their index from 0, and after the splits have been completed.
        group_like: Columns of values whose names and repeated whole numbers suggest groups.
    """

    samples: Samples
    labels: np.ndarray | None = None
    classes: Sequence[str] | None = None
    splits: np.ndarray | None = None
    groups: dict[str, np.ndarray] | None = None
    targets: Samples | None = None
    masks: Samples | None = None
    target_scale: tuple[np.ndarray, np.ndarray] | None = None
    columns: tuple[str, ...] | None = None
    levels: np.ndarray | None = None
    noise: Samples | None = None
    names: Sequence[str] | None = None
    group_like: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.samples)

    @property
    def class_labels(self) -> np.ndarray:
        """Labels, which must be available.

        Raises:
            InputError: When the table has real-valued targets only.
        """
        if self.labels is None:
            raise InputError(
                "expected classes, got real-valued targets. Set pseudo_classes in the manifest to cluster them."
            )
        return self.labels

    def select(self, rows: np.ndarray) -> "Table":
        """Return the table of a selection of samples.

        Args:
            rows: Indices of the samples, shape (M,).
        """
        present = {name: value for name, value in vars(self).items() if value is not None}
        changes: dict[str, Any] = {
            name: present[name][rows] for name in ("labels", "splits", "levels") if name in present
        }
        streams = present.keys() & {"samples", "targets", "masks"}
        changes |= {name: SelectedSamples(present[name], rows) for name in streams}
        groups = None if self.groups is None else {name: numbers[rows] for name, numbers in self.groups.items()}
        names = None if self.names is None else [self.names[row] for row in rows]
        return replace(self, groups=groups, names=names, **changes)


def computing_type(dtype: np.dtype) -> np.dtype:
    """Return the type in which values of a type are computed: float32, or float64 if float32 would round them.

    Samples have this type until they are standardized or scaled, because a large offset, such as that of a Unix time,
    leaves no digits of float32 for their differences.

    Example:
        >>> [str(computing_type(np.dtype(name))) for name in ("uint8", "float32", "int64", "float64")]
        ['float32', 'float32', 'float64', 'float64']
    """
    return np.dtype(np.float32 if np.can_cast(dtype, np.float32) else np.float64)


def pool_targets(targets: Samples, masks: Samples | None = None, max_values: int = MAX_POOLED_VALUES) -> np.ndarray:
    """Return the values of each target as one row, averaged over blocks of neighbors if there are too many.

    The longest axis, which is usually space or time, is halved by the mean of each two neighbors until the values are
    few enough. Clusters of the rows are then clusters of the targets on a coarser grid. A last value without a neighbor
    is dropped.

    Args:
        targets: N targets of one shape.
        masks: 0/1 of their shape, 1 where a value counts. The others are the mean of those of the same target that do.
        max_values: Largest number of values D in a row.

    Returns:
        Rows (N, D), float64.

    Raises:
        InputError: When the targets differ in size.
    """
    rows = []
    for number in range(len(targets)):
        values = np.asarray(targets[number], dtype=np.float64)
        if masks is not None:
            counts = np.broadcast_to(np.asarray(masks[number]) != 0, values.shape)
            values = np.where(counts, values, values[counts].mean() if counts.any() else 0)
        rows.append(_coarsen(values, max_values).ravel())
    sizes = {row.size for row in rows}
    if len(sizes) > 1:
        raise InputError(f"expected values of one shape to cluster, got sizes from {min(sizes)} to {max(sizes)}")
    return np.stack(rows)


def _coarsen(values: np.ndarray, max_values: int) -> np.ndarray:
    while values.size > max_values:
        axis = int(np.argmax(values.shape))
        half = values.shape[axis] // 2
        pairs = values[(slice(None),) * axis + (slice(2 * half),)]
        shape = (*values.shape[:axis], half, 2, *values.shape[axis + 1 :])
        values = pairs.reshape(shape).mean(axis=axis + 1)
    return values


MAX_LISTED = 20
"""Largest number of entries that an error message lists."""


def _reshape_sample(sample: ArrayLike, axes: Sequence[int] | None, shape: Sequence[int] | None) -> np.ndarray:
    """Transpose and reshape one sample; values become 8-bit, float32, or float64 if float32 would round them."""
    array = np.asarray(sample)
    if axes is not None:
        array = array.transpose(axes)
    if shape is not None:
        array = array.reshape(shape)
    return array if array.dtype == np.uint8 else array.astype(computing_type(array.dtype), copy=False)


def shape_samples(
    array: np.ndarray, where: str, axes: Sequence[int] | None = None, shape: Sequence[int] | None = None
) -> Samples:
    """Return an array (N, ...) as samples, whose axes are reordered before they get their shape.

    Only the first sample is read, to check that axes and shape fit.

    Args:
        array: Numbers with one shape for all samples, or N arrays of numbers of any shape.
        where: Description of the array for error messages.
        axes: Order of a sample's axes, such as [1, 0] to swap two. None keeps the order.
        shape: Shape of a sample after its axes are reordered; -1 for a size that follows from the others. None keeps
            that shape.

    Raises:
        InputError: When the array does not contain numbers, or axes or shape do not fit.
    """
    reshape = functools.partial(_reshape_sample, axes=axes, shape=shape)
    if array.ndim == 0 or (array.dtype != object and array.dtype.kind not in "fiub"):
        raise InputError(f"expected numbers, with one sample in each row, in {where}, got {array.dtype} {array.shape}")
    try:
        if len(array):
            reshape(array[0])
    except (ValueError, TypeError) as error:
        raise InputError(
            f"samples of {where}, {array.dtype} {array.shape}, do not fit axes {axes} and shape {shape}: {error}"
        ) from error
    # Anything but an array in memory or in a memory map, such as an HDF5 dataset, is read row by row.
    if not isinstance(array, np.ndarray) or array.dtype not in (np.uint8, np.float32, np.float64):
        return TransformedSamples(ArraySamples(array), reshape)
    if axes is not None:
        array = array.transpose(0, *(axis + 1 for axis in axes))
    if shape is not None:
        # NumPy cannot infer a size of -1 from an empty array.
        array = array.reshape(len(array), *(shape if len(array) else [max(size, 0) for size in shape]))
    return ArraySamples(array)


def get_entry(record: Any, name: str, where: str) -> Any:
    """Return the entry of a dictionary under a name such as `labels`, or `train/labels` for nested dictionaries.

    Pickles of Python 2 have names that are bytes; these are found too. An array that holds one object stands for
    that object.

    Args:
        record: The dictionary.
        name: Name of the entry.
        where: Description of the dictionary for error messages.

    Raises:
        InputError: When there is no such entry.
    """
    for part in name.split("/"):
        if isinstance(record, np.ndarray) and record.dtype == object and record.ndim == 0:
            record = record.item()
        keys = {part, part.encode()} & set(record) if isinstance(record, Mapping) else set()
        if not keys:
            description = f"is {type(record).__name__}"
            if isinstance(record, Mapping):
                names = [key.decode("latin-1") if isinstance(key, bytes) else str(key) for key in record]
                description = f"has {', '.join(names[:MAX_LISTED])}"
            raise InputError(f"expected an entry {name} in {where}, which {description}")
        record = record[keys.pop()]
    return record


def class_numbers(
    labels: ArrayLike, where: str, label_values: Sequence[str | int] | None = None, first: int = 0
) -> np.ndarray:
    """Return the class of each sample, shape (N,), or 0/1 labels, shape (N, K), as int64.

    Labels in a single column, shape (N, 1), are classes.

    Args:
        labels: List or array of numbers, or of elements of `label_values`.
        where: Description of the labels for error messages.
        label_values: Values that stand for class 0, 1, ...; None if the labels are numbers.
        first: Number that stands for class 0, where the labels are numbers.

    Raises:
        InputError: When a label is not one of the values, not an integer, or below the first.
    """
    array = np.asarray(labels)
    if label_values is not None:
        number = {value: index for index, value in enumerate(label_values)}
        decoded = [label.decode("latin-1") if isinstance(label, bytes) else label for label in array.tolist()]
        if unknown := sorted({str(label) for label in decoded if label not in number}):
            expected = ", ".join(map(str, label_values))
            raise InputError(f"expected labels {expected} in {where}, got {', '.join(unknown[:5])}")
        return np.array([number[label] for label in decoded], np.int64)
    if array.dtype == object:
        array = np.array(array.tolist())
    if array.ndim not in (1, 2) or array.dtype.kind not in "fiub" or (array != np.floor(array)).any():
        raise InputError(f"expected integer labels (N,) or (N, K) in {where}, got {array.dtype} {array.shape}")
    array = array.astype(np.int64)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.size and array.min() < first:
        raise InputError(f"expected labels of at least {first} in {where}, got {array.min()}")
    return array - first


def split_codes(parts: Iterable[tuple[int | None, int]]) -> np.ndarray | None:
    """Return the index into SPLITS of each sample, for parts of the samples that follow each other.

    Args:
        parts: Index into SPLITS and number of samples of each part. An index of None means that the data defines no
            splits, and the result is None.
    """
    codes, sizes = zip(*parts, strict=True)
    return None if None in codes else np.repeat(codes, sizes)


class WordInText(str):
    """A word that carries its sentence. It is equal to the word wherever a string is expected.

    A model that returns one output for a whole string (the logits of a classifier) must be given the word itself,
    because all words of a sentence would get the same output otherwise. An encoder that returns one feature for
    each token takes `text` instead. The feature of the word is then that of the first token at or after
    `start` and before `end`, according to the tokenizer's character offsets.

    Attributes:
        text: The sentence, its words joined by spaces.
        start: Position of the word's first character in the sentence.
        end: Position after the word's last character.

    Example:
        >>> word = WordInText.from_words(["Swin", "transformers", "see"], 1)
        >>> word, word.text, word.text[word.start : word.end] == word
        ('transformers', 'Swin transformers see', True)
    """

    __slots__ = ("end", "start", "text")
    text: str
    start: int
    end: int

    def __new__(cls, text: str, start: int, end: int) -> "WordInText":
        """Return the word text[start:end]."""
        word = super().__new__(cls, text[start:end])
        for name, value in (("text", text), ("start", start), ("end", end)):
            object.__setattr__(word, name, value)
        return word

    @classmethod
    def from_words(cls, sentence: Sequence[str], index: int) -> "WordInText":
        """Return the word with this index in a sentence."""
        start = sum(len(word) + 1 for word in sentence[:index])
        return cls(" ".join(sentence), start, start + len(sentence[index]))

    def __setattr__(self, name: str, value: object) -> None:
        """Raise AttributeError, because words are immutable."""
        raise AttributeError(f"cannot set {name}: a WordInText is immutable")

    def __reduce__(self) -> tuple[type["WordInText"], tuple[str, int, int]]:
        """Return the sentence and the word's position, for copies and for other processes."""
        return type(self), (self.text, self.start, self.end)
