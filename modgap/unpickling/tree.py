"""Plain data as JSON and numbered arrays, in one safetensors file."""

import json
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np

from modgap.unpickling.stand_ins import Array, DType, Refused, StandIn

__all__ = ["Tree", "write"]

SAFETENSORS = {
    "b1": "BOOL", "i1": "I8", "u1": "U8", "i2": "I16", "u2": "U16", "i4": "I32", "u4": "U32", "i8": "I64", "u8": "U64",
    "f2": "F16", "f4": "F32", "f8": "F64",
}  # fmt: skip
MOST_BITS = 64


class Tree:
    """The object as JSON, with its arrays set apart."""

    def __init__(self, most: int, depth: int):
        """Start with nothing; at most so many objects, nested at most so deep, are taken."""
        self.arrays: list[np.ndarray] = []
        self._known: dict[int, Any] = {}
        self._nodes, self._most, self._depth = 0, most, depth

    def of(self, value: Any, depth: int = 0) -> Any:
        """JSON of a value: itself, or a list that starts with its kind."""
        self._nodes += 1
        if self._nodes > self._most:
            raise Refused(f"it unfolds into more than {self._most} objects")
        if depth > self._depth:
            raise Refused(f"it is nested deeper than {self._depth} levels, or holds itself")
        if value is None or type(value) in (bool, float, str):
            return value
        if type(value) is int:
            if value.bit_length() > MOST_BITS:
                raise Refused(f"an integer of {value.bit_length()} bits")
            return value
        return self._compound(value, depth + 1)

    def _compound(self, value: Any, depth: int) -> list:
        if isinstance(value, bytes | bytearray):
            return ["bytes", value.decode("latin-1")]
        if isinstance(value, Array):
            return self._array(value, depth)
        if isinstance(value, DType):
            return ["dtype", value.numpy().str]
        if type(value) is dict:
            if any(isinstance(key, Array | DType | StandIn) for key in value):
                raise Refused("a dictionary's key is not plain")
            return ["dict", [[self.of(key, depth), self.of(item, depth)] for key, item in value.items()]]
        if type(value) in (list, tuple, set, frozenset):
            return [type(value).__name__, [self.of(item, depth) for item in value]]
        raise Refused(f"an object of {type(value).__name__}")

    def _array(self, array: Array, depth: int) -> list:
        if array.items is not None:
            return ["objects", list(array.shape), [self.of(item, depth) for item in array.items]]
        if array.value is None:
            raise Refused("an array without content")
        if id(array) not in self._known:
            value = plain_array(array.value)
            kind = "scalar" if array.scalar else "array"
            self._known[id(array)] = [kind, len(self.arrays), value.dtype.str, list(value.shape)]
            self.arrays.append(value)
        return self._known[id(array)]


def plain_array(array: np.ndarray) -> np.ndarray:
    """The array in C order, little-endian, with truth values 0 and 1 and text of real characters."""
    if array.dtype.kind == "b":
        return array.view(np.uint8) != 0
    plain = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(array.shape)
    if plain.dtype.kind == "U" and plain.size and np.frombuffer(plain.tobytes(), "<u4").max() > sys.maxunicode:
        raise Refused("text with characters that there are not")
    return plain


def write(path: Path, arrays: list[np.ndarray], metadata: dict[str, str]) -> None:
    """A new safetensors file of numbered arrays, those of the largest values first, so that all are aligned."""
    order = sorted(range(len(arrays)), key=lambda i: -arrays[i].dtype.alignment)
    fields: dict[str, Any] = {"__metadata__": metadata}
    offset = 0
    for number in order:
        array = arrays[number]
        code = SAFETENSORS.get(array.dtype.str[1:])
        shape = list(array.shape) if code else [array.nbytes]
        fields[str(number)] = {"dtype": code or "U8", "shape": shape, "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    header = json.dumps(fields).encode()
    header += b" " * (-len(header) % 8)
    with path.open("xb") as stream:
        stream.write(struct.pack("<Q", len(header)) + header)
        for number in order:
            stream.write(arrays[number].tobytes())
