"""Small checkpoints of TensorFlow, written without TensorFlow."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

MAGIC = 0xDB4775248B80FB57


def varint(value: int) -> bytes:
    """Return a number in the form of variable length."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def block(entries: list[tuple[bytes, bytes]]) -> bytes:
    """Return a block of a table, whose keys share prefixes, without its trailer."""
    out = bytearray()
    before = b""
    for key, value in entries:
        shared = next((i for i, (a, b) in enumerate(zip(before, key)) if a != b), min(len(before), len(key)))  # noqa: B905
        out += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        before = key
    return bytes(out) + (0).to_bytes(4, "little") + (1).to_bytes(4, "little")


def tensor_message(shape: Sequence[int], offset: int, size: int) -> bytes:
    """Return the description of a tensor of 32-bit numbers in an index."""
    lengths = [b"\x08" + varint(length) for length in shape]
    dimensions = b"".join(b"\x12" + varint(len(one)) + one for one in lengths)
    place = (b"\x20" + varint(offset) if offset else b"") + b"\x28" + varint(size)
    return b"\x08\x01\x12" + varint(len(dimensions)) + dimensions + place + b"\x35abcd"


def write_table(
    index: Path, entries: list[tuple[bytes, bytes]], data: bytes, compression: int = 0, repeats: int = 1
) -> None:
    """Write an index with these entries, and the data file. The index lists its block of values `repeats` times."""
    trailer = bytes([compression]) + b"crc4"
    values = block(entries)
    content = values + trailer
    places = []
    listed = [(b"\xff%04d" % number, varint(0) + varint(len(values))) for number in range(repeats)]
    for part in (block(listed), block([])):
        places.append(varint(len(content)) + varint(len(part)))
        content += part + trailer
    footer = (places[1] + places[0]).ljust(40, b"\0") + MAGIC.to_bytes(8, "little")
    index.write_bytes(content + footer)
    index.with_name(f"{index.name.removesuffix('.index')}.data-00000-of-00001").write_bytes(data)


def write_bundle(index: Path, tensors: Mapping[str, np.ndarray], compression: int = 0) -> None:
    """Write the index and the data file of a checkpoint of 32-bit numbers."""
    data = b""
    entries = [(b"", b"\x08\x01")]
    for name in sorted(tensors):
        values = np.ascontiguousarray(tensors[name], "<f4")
        entries.append((name.encode(), tensor_message(values.shape, len(data), values.nbytes)))
        data += values.tobytes()
    write_table(index, entries, data, compression)
