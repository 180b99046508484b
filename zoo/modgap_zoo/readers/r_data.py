"""Data frames, lists and S4 objects of R: .rda files, and stores of packages (.rdb with .rdx). No code of R runs.

A file of R can hold functions, environments and expressions. None of them is data, so a file with one among the objects
that are read is refused. The call that made an S4 object is among its slots, and is skipped. Sizes are compared
with the bytes that are there before anything is allocated.
"""

import bz2
import gzip
import io
import lzma
import math
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from modgap.errors import InputError, format_bytes
from modgap.storage.damaged_files import convert_read_errors
from modgap.storage.limits import check_memory
from modgap.targets.file_layout import single_file
from modgap.targets.samples import SPLITS, ArraySamples, Samples, Table, TextSamples

MAX_DEPTH = 100
MAX_ITEMS = 5_000_000
"""Largest number of objects, each string included, because a small one takes more bytes in memory than in the file."""
MISSING_INTEGER = -(2**31)
HAS_ATTRIBUTES = 1 << 9
HAS_TAG = 1 << 10
LATIN1 = 1 << 2
"""Bit of a string's flags that says that it is encoded as Latin-1."""
SYMBOL, PAIRLIST, CALL, STRING, LOGICAL, INTEGER, REAL, STRINGS, LIST, RAW, S4 = 1, 2, 6, 9, 10, 13, 14, 16, 19, 24, 25
ALTERNATIVE, REFERENCE, NULL = 238, 255, 254
"""Codes of the types of R. An alternative representation is a compact form of a vector, such as 1:100."""
NUMBERS: dict[int, np.dtype] = {
    LOGICAL: np.dtype(">i4"),
    INTEGER: np.dtype(">i4"),
    REAL: np.dtype(">f8"),
    RAW: np.dtype("u1"),
}


class RefusedRDataError(ValueError):
    """Bytes are not the data of R that is expected; the message gives the reason."""


@dataclass(frozen=True)
class RVector:
    """A vector or list of R.

    Attributes:
        values: Numbers (N,), or a list of N strings, N objects, or None for missing strings.
        attributes: Attributes of R by name, such as names, levels, class and dim; the slots of an S4 object.
        has_slots: True for an S4 object, which has no values of its own.
    """

    values: Any
    attributes: dict[str, "RVector"] = field(default_factory=dict)
    has_slots: bool = False

    def strings(self, name: str) -> list[str]:
        """Return an attribute that has strings; empty if there is none."""
        attribute = self.attributes.get(name)
        return [] if attribute is None or not isinstance(attribute.values, list) else list(map(str, attribute.values))


def parse_r_object(content: bytes) -> object:
    """Return the object in R's binary format (XDR, versions 2 and 3), without the header of an .rda file.

    Raises:
        RefusedRDataError: When the bytes are damaged, or have functions, environments or expressions.
    """
    try:
        return _Parser(content).parse()
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise RefusedRDataError(f"it is damaged: {error}") from error


class _Parser:
    """Parser of one object; it moves forward through the bytes."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._position = 0
        self._n_items = 0
        self._n_open_objects = 0
        self._references: list[str] = []

    def parse(self) -> object:
        if self._take(2) != b"X\n":
            raise RefusedRDataError("it is not in the binary format of R")
        version, _, _ = self._integer(), self._integer(), self._integer()
        if version not in (2, 3):
            raise RefusedRDataError(f"it has version {version} of the format, not 2 or 3")
        if version == 3:
            self._take(self._length(1))
        return self._item(0)

    def _take(self, size: int) -> bytes:
        if size < 0 or self._position + size > len(self._content):
            raise RefusedRDataError("it ends within an object")
        self._position += size
        return self._content[self._position - size : self._position]

    def _integer(self) -> int:
        return int(struct.unpack(">i", self._take(4))[0])

    def _length(self, item_size: int) -> int:
        """Return the length of a vector, whose items have at least this number of bytes."""
        length = self._integer()
        if not 0 <= length <= (len(self._content) - self._position) // item_size:
            raise RefusedRDataError(f"it claims a vector of length {length:,}, which it does not contain")
        return length

    def _item(self, depth: int) -> object:
        if depth > MAX_DEPTH:
            raise RefusedRDataError(f"its objects are nested more than {MAX_DEPTH} levels deep")
        self._n_items += 1
        if self._n_items > MAX_ITEMS:
            raise RefusedRDataError(f"it has more than {MAX_ITEMS:,} objects")
        flags = self._integer()
        kind = flags & 0xFF
        readers: dict[int, Callable[[], object]] = {
            NULL: lambda: None,
            SYMBOL: lambda: self._symbol(depth),
            REFERENCE: lambda: self._reference(flags),
            PAIRLIST: lambda: self._pairlist(flags, depth),
            STRING: lambda: self._string(flags),
            ALTERNATIVE: lambda: self._alternative(depth),
        }
        if kind == CALL and self._n_open_objects:
            self._pairlist(flags & ~0xFF | PAIRLIST, depth)
            return None
        if kind in readers:
            return readers[kind]()
        return self._vector(flags, depth)

    def _vector(self, flags: int, depth: int) -> RVector:
        kind = flags & 0xFF
        if kind in NUMBERS:
            dtype = NUMBERS[kind]
            length = self._length(dtype.itemsize)
            values: Any = np.frombuffer(self._take(length * dtype.itemsize), dtype).astype(dtype.newbyteorder("="))
        elif kind == S4:
            values = []
        elif kind in (STRINGS, LIST):
            values = [self._item(depth + 1) for _ in range(self._length(4))]
        else:
            raise RefusedRDataError(f"it has an object of type {kind}, which is not data")
        self._n_open_objects += kind == S4
        attributes = self._item(depth + 1) if flags & HAS_ATTRIBUTES else None
        self._n_open_objects -= kind == S4
        return RVector(values, _named_vectors(attributes), has_slots=kind == S4)

    def _symbol(self, depth: int) -> str:
        name = str(self._item(depth + 1))
        self._references.append(name)
        return name

    def _reference(self, flags: int) -> str:
        number = flags >> 8 or self._integer()
        if not 1 <= number <= len(self._references):
            raise RefusedRDataError(f"it refers to object {number}, which it does not contain")
        return self._references[number - 1]

    def _string(self, flags: int) -> str | None:
        if self._content[self._position : self._position + 4] == b"\xff\xff\xff\xff":
            self._take(4)
            return None
        encoding = "latin-1" if flags >> 12 & LATIN1 else "utf-8"
        return self._take(self._length(1)).decode(encoding)

    def _pairlist(self, flags: int, depth: int) -> dict[str, object]:
        """Return the items of a list of pairs by their names; those without a name by their numbers."""
        items: dict[str, object] = {}
        while flags & 0xFF == PAIRLIST:
            if flags & HAS_ATTRIBUTES:
                self._item(depth + 1)
            name = str(self._item(depth + 1)) if flags & HAS_TAG else str(len(items))
            items[name] = self._item(depth + 1)
            flags = self._integer()
        if flags & 0xFF != NULL:
            raise RefusedRDataError(f"a list of pairs ends with an object of type {flags & 0xFF}")
        return items

    def _alternative(self, depth: int) -> RVector:
        """Return a vector in an alternative representation: a compact sequence, or a wrapped vector."""
        info, state, attributes = (self._item(depth + 1) for _ in range(3))
        name = str(info.get("0")) if isinstance(info, dict) else ""
        if name in ("compact_intseq", "compact_realseq") and isinstance(state, RVector) and len(state.values) == 3:
            length, first, step = map(float, state.values)
            if not 0 <= length <= len(self._content):
                raise RefusedRDataError(f"it claims a sequence of {length:,.0f} numbers")
            values: Any = first + step * np.arange(int(length))
            values = values.astype(np.int32) if name == "compact_intseq" else values
        elif name.startswith("wrap_") and isinstance(state, RVector) and isinstance(state.values[0], RVector):
            values = state.values[0].values
        else:
            raise RefusedRDataError(f"it has a vector in the form {name!r}, which is not supported")
        return RVector(values, _named_vectors(attributes))


def _named_vectors(attributes: object) -> dict[str, RVector]:
    items = attributes if isinstance(attributes, dict) else {}
    return {name: value for name, value in items.items() if isinstance(value, RVector)}


MAX_FILE_BYTES = 64 << 20
MAX_OBJECT_BYTES = 256 << 20
"""Largest size of a file, and of an object after decompression."""
RDA_HEADERS = (b"RDX2\n", b"RDX3\n")
STORE_HEADER_BYTES = 4
"""A record of a store begins with the size of the decompressed object, and perhaps a letter for the compression."""
STORE_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 6}]


def _read_object(files: Mapping[str, Sequence[Path]], name: str) -> RVector:
    """Return an object by its name from an .rda file, or from the store of a package of R.

    An .rda file may be compressed by gzip, bzip2 or xz. A store is an .rdb file, whose index, an .rdx file, has the
    position and size of each object.

    Args:
        files: The file under the role `data`, and the index of a store under `index`.
        name: Name of the object.

    Raises:
        InputError: When a file is damaged, too large, has no such object, or has objects that are not data.
    """
    path = single_file(files, "data")
    index = single_file(files, "index") if "index" in files else None
    with convert_read_errors(path, name):
        if index is None:
            content = _decompress_file(path)
            if not content.startswith(RDA_HEADERS):
                raise RefusedRDataError("it is not an .rda file in the binary format of R")
            objects = parse_r_object(content[len(RDA_HEADERS[0]) :])
            return _select(objects if isinstance(objects, dict) else {}, name)
        table = _columns(parse_r_object(_decompress_file(index)))
        position, size = map(int, _select(_columns(table.get("variables")), name).values)
        if not 0 < size <= MAX_FILE_BYTES or position < 0:
            raise RefusedRDataError("its index has an impossible position")
        with path.open("rb") as stream:
            stream.seek(position)
            record = stream.read(size)
        value = parse_r_object(_decompress_record(record))
        if not isinstance(value, RVector):
            raise RefusedRDataError("it is not a vector or a list")
        return value


def _columns(value: object) -> dict[str, object]:
    """Return the items of a list of R by their names."""
    if not isinstance(value, RVector) or not isinstance(value.values, list):
        raise RefusedRDataError("it has no list of objects")
    return dict(zip(value.strings("names"), value.values, strict=False))


def _select(objects: dict[str, object], name: str) -> RVector:
    value = objects.get(name)
    if not isinstance(value, RVector):
        raise RefusedRDataError(f"it has no object {name!r}. Its objects are: {', '.join(sorted(objects)) or 'none'}")
    return value


def _decompress_file(path: Path) -> bytes:
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise RefusedRDataError(f"it has more than {format_bytes(MAX_FILE_BYTES)}")
    check_memory(path, size)
    content = path.read_bytes()
    openers: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
    for magic, opener in openers.items():
        if content.startswith(magic):
            content = opener(io.BytesIO(content)).read(MAX_OBJECT_BYTES + 1)
            if len(content) > MAX_OBJECT_BYTES:
                raise RefusedRDataError(f"it has more than {format_bytes(MAX_OBJECT_BYTES)} after decompression")
            break
    return content


def _decompress_record(record: bytes) -> bytes:
    """Return the bytes of an object in a store, compressed by zlib, bzip2 or LZMA."""
    size = int.from_bytes(record[:STORE_HEADER_BYTES], "big")
    if size > MAX_OBJECT_BYTES:
        raise RefusedRDataError(f"it has more than {format_bytes(MAX_OBJECT_BYTES)} after decompression")
    letter = record[STORE_HEADER_BYTES : STORE_HEADER_BYTES + 1]
    compressed = record[STORE_HEADER_BYTES + 1 :]
    if letter == b"2":
        content = bz2.BZ2Decompressor().decompress(compressed, size + 1)
    elif letter == b"Z":
        content = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=STORE_FILTERS).decompress(compressed, size + 1)
    else:
        content = zlib.decompressobj().decompress(record[STORE_HEADER_BYTES:], size + 1)
    if len(content) != size:
        raise RefusedRDataError(f"an object has {len(content):,} bytes or more where {size:,} are expected")
    return content


def sample_versions() -> dict[str, str]:
    """Return no versions, because the samples of a file are the same in all versions of this reader."""
    return {}


def read(
    files: Mapping[str, Sequence[Path]],
    *,
    object_name: str,
    label: str | Sequence[str],
    label_object: bool = False,
    array: str | None = None,
    columns: Sequence[str] | None = None,
    categories: Sequence[str] = (),
    group: str | None = None,
    drop: Sequence[str] = (),
    split: str | None = None,
    missing_values: Literal["refuse", "keep", "drop"] = "refuse",
    regression: bool = False,
    text: bool = False,
) -> Table:
    """Read a data frame, or a list or S4 object with values and a vector of labels.

    The slots of an S4 object are its columns. Those of a list in a slot have both names, such as other$year.

    Args:
        files: One path under the role `data`, of an .rda or .rdb file; the index of an .rdb file under `index`.
        object_name: Name of the object in the file.
        label: Column of the labels: a factor, or numbers. Several are factors, whose combinations are the classes.
        label_object: True if `label` is not a column, but another object of the file with a label for each row.
        array: Column that is an array whose last axis numbers the samples. Its other axes are those of a sample, the
            last one first, and one of 1 before a single axis. None reads the columns of numbers and the matrices as
            features (1, D).
        columns: Columns that samples are made of. None takes all that have no other purpose.
        categories: Columns that are factors, each of which becomes a column of 0 and 1 for each of its levels.
        group: Column of the groups of samples that belong together, which the table has under the name `group`.
        drop: Columns that are not read.
        split: Column that is a factor with the names of splits, train and test in upper or lower case. None if the
            data defines no splits.
        missing_values: `refuse` raises an error for a missing value, `keep` keeps it as NaN for the step `fill`, and
            `drop` leaves out the rows that have some, or that have no class.
        regression: True if the labels are real-valued targets.
        text: True to write the levels of all factors and the strings in a row one after the other, as the letters of
            DNA. The factors of haploid genotypes (genind) are their loci, of which a missing one is written as n.

    Raises:
        InputError: When a file is damaged, a column is missing or has another kind of values, or a value is missing.
    """
    path = single_file(files, "data")
    vectors = _vectors(_read_object(files, object_name))
    labels = (label,) if isinstance(label, str) else tuple(label)
    if label_object:
        vectors |= {name: _read_object(files, name) for name in labels}
    location = f"{object_name} in {path}"
    named = [name for name in (split, group, array) if name is not None]
    for name in (*labels, *drop, *categories, *(columns or ()), *named):
        if name not in vectors:
            available = ", ".join(list(vectors)[:8]) or "none"
            raise InputError(f"There is no column {name!r} in {location}. The first columns are: {available}.")
    n_samples = len(vectors[labels[0]].values)
    others = [name for name in vectors if name not in (*labels, split, group, *drop)]
    features = {name: vectors[name] for name in (others if columns is None else columns)}
    codes = None if split is None else _split_codes(vectors[split], f"column {split!r} of {location}")
    groups = None if group is None else {"group": _group_names(vectors[group], n_samples, f"{group!r} of {location}")}
    rows = np.arange(n_samples)
    if text:
        samples: Samples = _texts(_loci(vectors, location) or features, n_samples, location)
    elif array is not None:
        samples = ArraySamples(_array(vectors[array], n_samples, f"column {array!r} of {location}"))
    else:
        values = _numbers(features, categories, n_samples, location, missing_values != "refuse")
        samples = ArraySamples(values[:, None])
        rows = np.flatnonzero(np.isfinite(values).all(axis=1)) if missing_values == "drop" else rows
    table = Table(samples, splits=codes, groups=groups)
    if regression:
        targets = _matrix(vectors[labels[0]], n_samples, f"column {labels[0]!r} of {location}")
        table = replace(table, targets=ArraySamples(targets))
    else:
        numbers, names = _classes([vectors[name] for name in labels], n_samples, location, missing_values == "drop")
        table = replace(table, labels=numbers, classes=names)
        rows = rows[numbers[rows] >= 0]
    return table if len(rows) == n_samples else table.select(rows)


def _classes(
    labels: Sequence[RVector], n_samples: int, location: str, keep_missing: bool
) -> tuple[np.ndarray, list[str]]:
    """Return the class of each sample, -1 for none, and the names of the classes: levels, combinations, or numbers."""
    if len(labels) == 1 and "levels" not in labels[0].attributes:
        values, numbers = np.unique(_matrix(labels[0], n_samples, location), return_inverse=True)
        names = [f"{value:.0f}" if value % 1 == 0 else repr(float(value)) for value in values]
        return numbers.ravel().astype(np.int64), names
    numbers, names = _level_numbers(labels[0], n_samples, location, keep_missing), labels[0].strings("levels")
    for factor in labels[1:]:
        levels = factor.strings("levels")
        others = _level_numbers(factor, n_samples, location, keep_missing)
        numbers = np.where((numbers < 0) | (others < 0), -1, numbers * len(levels) + others)
        names = [f"{name} {level}" for name in names for level in levels]
    return numbers, names


def _group_names(vector: RVector, n_samples: int, location: str) -> np.ndarray:
    """Return the group of each sample: numbers, those of a factor, or strings."""
    if len(vector.values) != n_samples or (isinstance(vector.values, list) and None in vector.values):
        raise InputError(f"expected a group for each of {n_samples} rows in column {location}")
    return np.asarray(vector.values)


def _vectors(value: RVector, *, nested: bool = False) -> dict[str, RVector]:
    """Return the vectors of a list by their names, or the slots of an S4 object, with the vectors of lists in them."""
    items: list[object] = value.values if isinstance(value.values, list) else []
    pairs = value.attributes.items() if value.has_slots else zip(value.strings("names"), items, strict=False)
    vectors = {name: vector for name, vector in pairs if isinstance(vector, RVector)}
    if value.has_slots or nested:
        for name, vector in list(vectors.items()):
            inner_vectors = _vectors(vector, nested=True)
            vectors |= {f"{name}${inner}": inner_vector for inner, inner_vector in inner_vectors.items()}
    return vectors


def _level_numbers(factor: RVector, n_samples: int, location: str, keep_missing: bool = False) -> np.ndarray:
    """Return the number of each value's level, from 0, and -1 for missing values if they are kept."""
    levels = factor.strings("levels")
    numbers = np.asarray(factor.values)
    if not levels or numbers.dtype.kind != "i" or numbers.shape != (n_samples,):
        raise InputError(f"expected a factor with {n_samples} values in {location}")
    is_missing = (numbers == MISSING_INTEGER) & keep_missing
    if not ((numbers >= 1) & (numbers <= len(levels)) | is_missing).all():
        raise InputError(f"expected a level in each row of a factor in {location}, some are missing")
    return np.where(is_missing, -1, numbers.astype(np.int64) - 1)


def _matrix(vector: RVector, n_samples: int, location: str, keep_missing: bool = False) -> np.ndarray:
    """Return the values (N, D) of a column or matrix as numbers, with NaN for missing ones if they are kept."""
    values = np.asarray(vector.values)
    shape = np.ravel(vector.attributes["dim"].values if "dim" in vector.attributes else len(values))
    is_number = values.dtype.kind in "if" and "levels" not in vector.attributes
    if not is_number or shape[0] != n_samples or not n_samples or values.size % n_samples:
        raise InputError(f"expected numbers in {location}, with {n_samples} rows. Drop other columns.")
    numbers = np.where(values == MISSING_INTEGER, np.nan, values) if values.dtype.kind == "i" else values
    if np.isinf(numbers).any() or (np.isnan(numbers).any() and not keep_missing):
        raise InputError(f"expected a finite number in each row of {location}, some are missing")
    return numbers.astype(np.float64).reshape(n_samples, -1, order="F")


def _numbers(
    features: Mapping[str, RVector], categories: Sequence[str], n_samples: int, location: str, keep_missing: bool
) -> np.ndarray:
    """Return the values (N, D) of all columns."""
    parts = []
    for name, vector in features.items():
        column = f"column {name!r} of {location}"
        if name in categories:
            # A column of 0 and 1 for each level, with NaN where it is missing.
            numbers = _level_numbers(vector, n_samples, column, keep_missing)
            parts.append(np.where(numbers[:, None] < 0, np.nan, np.eye(len(vector.strings("levels")))[numbers]))
        else:
            parts.append(_matrix(vector, n_samples, column, keep_missing))
    if not parts:
        raise InputError(f"expected columns of numbers beside the labels of {location}, got none")
    return np.concatenate(parts, axis=1)


def _array(vector: RVector, n_samples: int, location: str) -> np.ndarray:
    """Return the slices (N, ...) of an array of numbers along its last axis, with their axes reversed."""
    shape = np.ravel(vector.attributes["dim"].values if "dim" in vector.attributes else 0).tolist()
    values = np.asarray(vector.values)
    if len(shape) < 2 or shape[-1] != n_samples or min(shape) < 1 or values.size != math.prod(shape):
        raise InputError(f"expected an array whose last axis has {n_samples} samples in {location}, got {shape}")
    axes = (1, *shape[:-1][::-1]) if len(shape) == 2 else shape[:-1][::-1]
    return _matrix(RVector(values), values.size, location).reshape(n_samples, *axes)


def _texts(features: Mapping[str, RVector], n_samples: int, location: str) -> TextSamples:
    """Return samples that are texts: the levels of all factors of a row, and its strings."""
    parts = []
    for name, vector in features.items():
        column = f"column {name!r} of {location}"
        values = vector.values
        if not isinstance(values, list):
            levels = vector.strings("levels")
            values = [levels[number] for number in _level_numbers(vector, n_samples, column)]
        elif len(values) != n_samples or not all(isinstance(value, str) for value in values):
            raise InputError(f"expected {n_samples} strings in {column}, some are missing")
        parts.append(values)
    return TextSamples(["".join(row) for row in zip(*parts, strict=True)])


def _loci(vectors: Mapping[str, RVector], location: str) -> dict[str, RVector]:
    """Return the loci of haploid genotypes as factors, with the level n where one is missing; none for other objects.

    Genotypes (genind) have the number of copies of each allele in a matrix, with the locus of each allele.
    """
    slots = ("tab", "loc.fac", "all.names")
    if not all(name in vectors for name in slots):
        return {}
    counts, locus_of_allele, alleles = (vectors[name] for name in slots)
    n_alleles = len(locus_of_allele.values)
    n_samples = len(counts.values) // max(n_alleles, 1)
    table = _matrix(counts, n_samples, location, keep_missing=True)
    numbers = _level_numbers(locus_of_allele, n_alleles, location)
    names = [part.values for part in alleles.values if isinstance(part, RVector)]
    if table.shape[1:] != numbers.shape or [*map(len, names)] != np.bincount(numbers, minlength=len(names)).tolist():
        raise InputError(f"expected the locus and the name of each allele of the genotypes {location}")
    loci = {}
    for locus, levels in enumerate(names):
        copies = np.nan_to_num(table[:, numbers == locus])
        if not np.isin(copies, (0, 1)).all() or (copies.sum(axis=1) > 1).any():
            raise InputError(f"expected at most one allele at each locus of the genotypes {location}, which are texts")
        chosen = np.where(copies.any(axis=1), copies.argmax(axis=1), len(levels)) + 1
        loci[str(locus)] = RVector(chosen.astype(np.int32), {"levels": RVector([*levels, "n"])})
    return loci


def _split_codes(factor: RVector, location: str) -> np.ndarray:
    """Return the index into SPLITS of each sample."""
    names = [name.lower() for name in factor.strings("levels")]
    if not names or not set(names) <= set(SPLITS):
        raise InputError(f"expected the names of splits ({', '.join(SPLITS)}) in {location}, got {', '.join(names)}")
    codes: np.ndarray = np.array([SPLITS.index(name) for name in names])
    return np.take(codes, _level_numbers(factor, len(factor.values), location))
