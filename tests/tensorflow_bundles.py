"""Small checkpoints of TensorFlow, written without TensorFlow."""

from collections.abc import Mapping
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


def write_bundle(index: Path, tensors: Mapping[str, np.ndarray], compression: int = 0) -> None:
    """Write the index and the data file of a checkpoint of 32-bit numbers."""
    data = b""
    entries = [(b"", b"\x08\x01")]
    for name in sorted(tensors):
        values = np.ascontiguousarray(tensors[name], "<f4")
        lengths = [b"\x08" + varint(length) for length in values.shape]
        shape = b"".join(b"\x12" + varint(len(one)) + one for one in lengths)
        message = b"\x08\x01\x12" + varint(len(shape)) + shape
        message += (b"\x20" + varint(len(data)) if data else b"") + b"\x28" + varint(values.nbytes) + b"\x35abcd"
        entries.append((name.encode(), message))
        data += values.tobytes()
    trailer = bytes([compression]) + b"crc4"
    values = block(entries)
    content = values + trailer
    places = []
    for part in (block([(b"\xff", varint(0) + varint(len(values)))]), block([])):
        places.append(varint(len(content)) + varint(len(part)))
        content += part + trailer
    footer = (places[1] + places[0]).ljust(40, b"\0") + MAGIC.to_bytes(8, "little")
    index.write_bytes(content + footer)
    index.with_name(f"{index.name.removesuffix('.index')}.data-00000-of-00001").write_bytes(data)
