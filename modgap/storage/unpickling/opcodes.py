"""Check the opcodes of a pickle before any of them runs."""

import os
import pickletools
from typing import Any, BinaryIO, cast

from modgap.storage.unpickling.stand_ins import ALLOWED_NAMES, RejectedPickleError

ALLOWED_OPCODES = frozenset(
    [
        *("PROTO", "FRAME", "STOP", "MARK", "POP", "POP_MARK", "DUP", "NONE", "NEWTRUE", "NEWFALSE"),
        *("INT", "LONG", "LONG1", "LONG4", "BININT", "BININT1", "BININT2", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
        *("EMPTY_LIST", "APPEND", "APPENDS", "LIST", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
        *("EMPTY_DICT", "DICT", "SETITEM", "SETITEMS", "EMPTY_SET", "ADDITEMS", "FROZENSET"),
        *("GET", "BINGET", "LONG_BINGET", "PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"),
        *("GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD"),
    ]
)
"""Opcodes that plain data needs: no persistent ids, extension registry, other constructors or out-of-band buffers."""
MAX_NAME_LENGTH = 120
"""Characters of a name that an error message has at most."""


class BoundedStream:
    """A stream from its current position on that refuses to read more bytes than it has."""

    def __init__(self, stream: BinaryIO) -> None:
        """Measure the rest of a stream."""
        self._stream = stream
        start = stream.tell()
        self._end = stream.seek(0, os.SEEK_END)
        stream.seek(start)

    @property
    def remaining(self) -> int:
        """Number of bytes that have not been read."""
        return self._end - self._stream.tell()

    def read(self, size: int) -> bytes:
        """Read exactly `size` bytes.

        Raises:
            RejectedPickleError: When fewer bytes remain, or the size is negative.
        """
        if not 0 <= size <= self.remaining:
            raise RejectedPickleError(f"it announces {size} bytes where {self.remaining} are left")
        return self._stream.read(size)

    def readline(self) -> bytes:
        """Read a line."""
        return self._stream.readline()

    def tell(self) -> int:
        """Return the position in the stream."""
        return self._stream.tell()


def check_opcodes(stream: BinaryIO, limit: int) -> int:
    """Check a pickle's opcodes without running them. The stream's position does not change.

    Args:
        stream: Stream at the start of a pickle.
        limit: Largest number of opcodes.

    Returns:
        The number of opcodes.

    Raises:
        RejectedPickleError: When there are more than `limit` opcodes, one of them is not allowed, or one announces
            more bytes than there are.
    """
    start = stream.tell()
    source = BoundedStream(stream)
    number = 0
    for number, (opcode, value, _) in enumerate(pickletools.genops(cast(BinaryIO, source)), 1):
        if number > limit:
            raise RejectedPickleError(f"it has more than {limit} opcodes", "opcodes")
        _check_opcode(opcode.name, value, limit, source)
    stream.seek(start)
    return number


def _check_opcode(name: str, value: Any, limit: int, source: BoundedStream) -> None:
    if name not in ALLOWED_OPCODES:
        raise RejectedPickleError(f"it has the opcode {name}, which plain data does not need")
    # The unpickler allocates a memo that is as long as its largest number.
    if "PUT" in name and int(value) > limit:
        raise RejectedPickleError(f"it stores an object under the memo number {value}, more than {limit}")
    if name == "FRAME" and value > source.remaining:
        raise RejectedPickleError(f"it announces {value} bytes where {source.remaining} are left")
    if name == "GLOBAL" and tuple(value.split(" ", 1)) not in ALLOWED_NAMES:
        raise RejectedPickleError(f"it names {ascii('.'.join(value.split(' ', 1)))[1:-1][:MAX_NAME_LENGTH]}")
