"""Tensors in a checkpoint of TensorFlow, which is an index file beside a data file, read without TensorFlow.

The index is a sorted table of LevelDB whose values are small Protocol Buffers messages: the type, the shape and the
place of each tensor in the data file.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from modgap.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

MAGIC = 0xDB4775248B80FB57
FOOTER_BYTES = 48
TRAILER_BYTES = 5
"""Bytes after each block: its compression, which is 0, and its checksum."""
MOST_INDEX_BYTES = 1 << 20
MOST_DATA_BYTES = 1 << 28
"""Largest files that are read. The index of musicnn has 5 KB, and its values 9 MB."""
MOST_NAME_BYTES = 1 << 10
"""Longest name of a tensor. A name repeats the beginning of the one before, so few bytes could hold long names."""
MOST_DIMENSIONS = 8
MOST_BITS = 63
FLOAT32 = 1
"""Number of the type in TensorFlow."""
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Kinds of fields in Protocol Buffers."""
TYPE_FIELD, SHAPE_FIELD, SHARD_FIELD, OFFSET_FIELD, SIZE_FIELD = 1, 2, 3, 4, 5
DIMENSION_FIELD = 2
LENGTH_FIELD = 1


Entry = tuple[tuple[int, ...], int, int]
"""Shape of a tensor, and its first byte and number of bytes in the data file."""


def data_file(index: Path) -> Path:
    """Return the file of the values that belongs to an index file."""
    return index.with_name(f"{index.name.removesuffix('.index')}.data-00000-of-00001")


def read_tensorflow_bundle(index: Path) -> "dict[str, Tensor]":
    """Return the tensors of 32-bit floating-point numbers in a checkpoint by name.

    Args:
        index: The index file. The values are in the `.data-00000-of-00001` file beside it.

    Raises:
        InputError: When a file is missing, too large or damaged, has compressed blocks, or describes more values than
            it has.
    """
    import torch

    values = data_file(index)
    content = _read(index, MOST_INDEX_BYTES)
    data = _read(values, MOST_DATA_BYTES)
    try:
        entries = dict(_entries(content))
    except (IndexError, ValueError) as error:
        raise InputError(f"{index} is not an index of a TensorFlow checkpoint, or it is damaged: {error}") from error
    if (total := sum(size for _, _, size in entries.values())) > len(data):
        raise InputError(
            f"{index} describes tensors of {total:,} bytes, and {values.name} has {len(data):,}. The checkpoint is "
            "damaged, or it was not written by TensorFlow."
        )
    tensors = {}
    for name, (shape, offset, size) in entries.items():
        fits_shape = size == 4 * math.prod(shape) and len(shape) <= MOST_DIMENSIONS
        # Without values, the other lengths could be of any size.
        if not (fits_shape and max(shape, default=0) <= len(data) and offset + size <= len(data)):
            raise InputError(f"{values} does not hold the tensor {name} that {index.name} describes.")
        array = np.frombuffer(data, "<f4", size // 4, offset).reshape(shape)
        tensors[name] = torch.from_numpy(array.astype(np.float32))
    return tensors


def _read(path: Path, most: int) -> bytes:
    try:
        size = path.stat().st_size
        if size > most:
            raise InputError(f"{path} has {size:,} bytes. A checkpoint file of at most {most:,} bytes can be read.")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"The checkpoint file {path} cannot be read: {error.strerror}.") from error


def _entries(content: bytes) -> Iterator[tuple[str, Entry]]:
    """Yield the name and the place of each tensor of 32-bit numbers in a table."""
    footer = content[-FOOTER_BYTES:]
    if len(footer) < FOOTER_BYTES or int.from_bytes(footer[-8:], "little") != MAGIC:
        raise ValueError("its end is not that of a table")
    # The footer begins with the places of two blocks, the second of which lists the blocks of values.
    _, position = _varint(footer, 0)
    _, position = _varint(footer, position)
    n_bytes = 0
    for _, handle in _block(content, footer[position:]):
        n_bytes += _varint(handle, _varint(handle, 0)[1])[0]
        if n_bytes > len(content):
            raise ValueError("its blocks overlap")
        for key, value in _block(content, handle):
            # The empty key is the header of the checkpoint.
            entry = _entry(value) if key else None
            if entry is not None:
                yield key.decode(), entry


def _block(content: bytes, handle: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values of a block, whose place is given; a key shares a prefix with the one before."""
    offset, position = _varint(handle, 0)
    size, _ = _varint(handle, position)
    block = content[offset : offset + size]
    trailer = content[offset + size : offset + size + TRAILER_BYTES]
    if len(block) < size or len(trailer) < TRAILER_BYTES:
        raise ValueError("a block ends beyond the file")
    if trailer[0]:
        raise ValueError("its blocks are compressed")
    restarts = int.from_bytes(block[-4:], "little")
    end = size - 4 * (restarts + 1)
    if size < 4 or end < 0:
        raise ValueError("a block is too short")
    key = b""
    position = 0
    while position < end:
        shared, position = _varint(block, position)
        own, position = _varint(block, position)
        length, position = _varint(block, position)
        if shared > len(key) or position + own + length > end:
            raise ValueError("an entry ends beyond its block")
        if shared + own > MOST_NAME_BYTES:
            raise ValueError(f"a name has more than {MOST_NAME_BYTES:,} bytes")
        key = key[:shared] + block[position : position + own]
        yield key, block[position + own : position + own + length]
        position += own + length


def _entry(message: bytes) -> Entry | None:
    """Return the place of a tensor, or None if it has another type than 32-bit floating-point numbers."""
    fields = dict(_fields(message))
    if fields.get(TYPE_FIELD) != FLOAT32:
        return None
    if fields.get(SHARD_FIELD, 0):
        raise ValueError("its values are in several files")
    shape = fields.get(SHAPE_FIELD, b"")
    if not isinstance(shape, bytes):
        raise ValueError("a shape is damaged")
    lengths = [dict(_fields(value)).get(LENGTH_FIELD, 0) for number, value in _fields(shape)
               if number == DIMENSION_FIELD and isinstance(value, bytes)]  # fmt: skip
    values = [fields.get(OFFSET_FIELD, 0), fields.get(SIZE_FIELD, 0), *lengths]
    numbers = [value for value in values if isinstance(value, int)]
    if len(numbers) < len(values):
        raise ValueError("the place of a tensor is damaged")
    return tuple(numbers[2:]), numbers[0], numbers[1]


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield the number and the value of each field of a message."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        kind = tag & 7
        if kind == VARINT:
            value, position = _varint(message, position)
            yield tag >> 3, value
            continue
        length = {FIXED64: 8, FIXED32: 4}.get(kind, 0)
        if kind == BYTES:
            length, position = _varint(message, position)
        if (not length and kind != BYTES) or position + length > len(message):
            raise ValueError("a message is damaged")
        yield tag >> 3, message[position : position + length]
        position += length


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """Return a number of variable length and the position after it."""
    value = 0
    for shift in range(0, MOST_BITS, 7):
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("a number is too long")
