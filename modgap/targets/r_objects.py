"""Data of R: vectors, lists and data frames in R's binary format, read without running code.

A file of R can hold functions, environments and expressions. None of them is data, so a file with one among the objects
that are read is refused. Sizes are compared with the bytes that are there before anything is allocated.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["RVector", "RefusedRDataError", "parse_r_object"]

MAX_DEPTH = 100
MAX_ITEMS = 5_000_000
"""Largest number of objects, each string included, because a small one takes more bytes in memory than in the file."""
MISSING_INTEGER = -(2**31)
HAS_ATTRIBUTES = 1 << 9
HAS_TAG = 1 << 10
LATIN1 = 1 << 2
"""Bit of a string's flags that says that it is encoded as Latin-1."""
SYMBOL, PAIRLIST, STRING, LOGICAL, INTEGER, REAL, STRINGS, LIST, RAW = 1, 2, 9, 10, 13, 14, 16, 19, 24
ALTERNATIVE, REFERENCE, NULL = 238, 255, 254
"""Codes of the types of R. An alternative representation is a compact form of a vector, such as 1:100."""
NUMBERS: dict[int, np.dtype[Any]] = {
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
        attributes: Attributes of R by name, such as names, levels, class and dim.
    """

    values: Any
    attributes: dict[str, "RVector"] = field(default_factory=dict)

    def strings(self, name: str) -> list[str]:
        """Return an attribute that has strings; empty if there is none."""
        attribute = self.attributes.get(name)
        return [] if attribute is None or not isinstance(attribute.values, list) else list(map(str, attribute.values))


def parse_r_object(content: bytes) -> Any:
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
        self._references: list[str] = []

    def parse(self) -> Any:
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

    def _item(self, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise RefusedRDataError(f"its objects are nested more than {MAX_DEPTH} levels deep")
        self._n_items += 1
        if self._n_items > MAX_ITEMS:
            raise RefusedRDataError(f"it has more than {MAX_ITEMS:,} objects")
        flags = self._integer()
        kind = flags & 0xFF
        readers: dict[int, Callable[[], Any]] = {
            NULL: lambda: None,
            SYMBOL: lambda: self._symbol(depth),
            REFERENCE: lambda: self._reference(flags),
            PAIRLIST: lambda: self._pairlist(flags, depth),
            STRING: lambda: self._string(flags),
            ALTERNATIVE: lambda: self._alternative(depth),
        }
        if kind in readers:
            return readers[kind]()
        return self._vector(flags, depth)

    def _vector(self, flags: int, depth: int) -> RVector:
        kind = flags & 0xFF
        if kind in NUMBERS:
            dtype = NUMBERS[kind]
            length = self._length(dtype.itemsize)
            values: Any = np.frombuffer(self._take(length * dtype.itemsize), dtype).astype(dtype.newbyteorder("="))
        elif kind in (STRINGS, LIST):
            values = [self._item(depth + 1) for _ in range(self._length(4))]
        else:
            raise RefusedRDataError(f"it has an object of type {kind}, which is not data")
        attributes = self._item(depth + 1) if flags & HAS_ATTRIBUTES else None
        return RVector(values, _named_vectors(attributes))

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

    def _pairlist(self, flags: int, depth: int) -> dict[str, Any]:
        """Return the items of a list of pairs by their names; those without a name by their numbers."""
        items: dict[str, Any] = {}
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


def _named_vectors(attributes: Any) -> dict[str, RVector]:
    items = attributes if isinstance(attributes, dict) else {}
    return {name: value for name, value in items.items() if isinstance(value, RVector)}
