"""Plain data as JSON and numbered arrays, in one safetensors file."""

import json
import math
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np

from modgap.storage.unpickling.stand_ins import Array, DType, RejectedPickleError, StandIn

SAFETENSORS_CODES = {
    "b1": "BOOL", "i1": "I8", "u1": "U8", "i2": "I16", "u2": "U16", "i4": "I32", "u4": "U32", "i8": "I64", "u8": "U64",
    "f2": "F16", "f4": "F32", "f8": "F64",
}  # fmt: skip
"""Type in safetensors for each NumPy type that safetensors has; others are stored as bytes."""
MAX_INTEGER_BITS = 64


class Tree:
    """Encoder of an object as JSON, with its arrays in a list.

    Attributes:
        arrays: Arrays of the encoded objects, by number.
    """

    def __init__(self, max_nodes: int, max_depth: int) -> None:
        """Start empty.

        Args:
            max_nodes: Largest number of objects.
            max_depth: Largest depth of nesting.
        """
        self.arrays: list[np.ndarray] = []
        self._node_of_array: dict[int, list[object]] = {}
        self._n_nodes = 0
        self._max_nodes = max_nodes
        self._max_depth = max_depth

    def encode(self, value: object, depth: int = 0) -> object:
        """Return the JSON of a value: the value itself, or a list that starts with its kind.

        Raises:
            RejectedPickleError: When the value is not plain, or goes beyond a limit.
        """
        self._n_nodes += 1
        if self._n_nodes > self._max_nodes:
            raise RejectedPickleError(f"it unfolds into more than {self._max_nodes} objects")
        if depth > self._max_depth:
            raise RejectedPickleError(f"it is nested deeper than {self._max_depth} levels, or contains itself", "depth")
        if type(value) is int and value.bit_length() > MAX_INTEGER_BITS:
            raise RejectedPickleError(f"it has an integer of {value.bit_length()} bits, more than {MAX_INTEGER_BITS}")
        if value is None or type(value) in (bool, float, str, int):
            return value
        return self._encode_compound(value, depth + 1)

    def _encode_compound(self, value: Any, depth: int) -> list[object]:
        if isinstance(value, bytes | bytearray):
            return ["bytes", value.decode("latin-1")]
        if isinstance(value, Array):
            return self._encode_array(value, depth)
        if isinstance(value, DType):
            return ["dtype", value.numpy().str]
        if type(value) is dict:
            if any(isinstance(key, Array | DType | StandIn) for key in value):
                raise RejectedPickleError("it has a dictionary with a key that is not plain data")
            return ["dict", [[self.encode(key, depth), self.encode(item, depth)] for key, item in value.items()]]
        if type(value) in (list, tuple, set, frozenset):
            return [type(value).__name__, [self.encode(item, depth) for item in value]]
        raise RejectedPickleError(f"it has an object of type {type(value).__name__}")

    def _encode_array(self, array: Array, depth: int) -> list[object]:
        if array.items is not None:
            # A pickle can add objects to the list after the array took it.
            if len(array.items) != math.prod(array.shape):
                raise RejectedPickleError(f"it has an array of shape {array.shape} with {len(array.items)} objects")
            return ["objects", list(array.shape), [self.encode(item, depth) for item in array.items]]
        if array.value is None:
            raise RejectedPickleError("it has an array without content")
        if id(array) not in self._node_of_array:
            value = to_plain_array(array.value)
            kind = "scalar" if array.scalar else "array"
            self._node_of_array[id(array)] = [kind, len(self.arrays), value.dtype.str, list(value.shape)]
            self.arrays.append(value)
        return self._node_of_array[id(array)]


def to_plain_array(array: np.ndarray) -> np.ndarray:
    """Return an array in C order and little-endian, with booleans 0 and 1.

    Raises:
        RejectedPickleError: When text has code points that do not exist.
    """
    if array.dtype.kind == "b":
        is_true: np.ndarray = array.view(np.uint8) != 0
        return is_true
    plain = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(array.shape)
    if plain.dtype.kind == "U" and plain.size and np.frombuffer(plain.tobytes(), "<u4").max() > sys.maxunicode:
        raise RejectedPickleError("it has text with characters that do not exist")
    return plain


def write(path: Path, arrays: list[np.ndarray], metadata: dict[str, str]) -> None:
    """Write a new safetensors file of numbered arrays, in descending order of alignment, so that all are aligned."""
    order = sorted(range(len(arrays)), key=lambda i: -arrays[i].dtype.alignment)
    fields: dict[str, object] = {"__metadata__": metadata}
    offset = 0
    for number in order:
        array = arrays[number]
        code = SAFETENSORS_CODES.get(array.dtype.str[1:])
        shape = list(array.shape) if code else [array.nbytes]
        fields[str(number)] = {"dtype": code or "U8", "shape": shape, "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    header = json.dumps(fields).encode()
    header += b" " * (-len(header) % 8)
    with path.open("xb") as stream:
        stream.write(struct.pack("<Q", len(header)) + header)
        for number in order:
            stream.write(arrays[number].tobytes())
