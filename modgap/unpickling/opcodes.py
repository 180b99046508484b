"""A pickle's opcodes, gone through before any is run."""

import os
import pickletools
from typing import Any, BinaryIO, cast

from modgap.unpickling.stand_ins import KNOWN, Refused

__all__ = ["check_opcodes"]

PLAIN = frozenset(
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
"""Opcodes that plain data needs: no persistent ids, extension registry, other constructors or foreign buffers."""


class Measured:
    """A stream from its present place on that never reads more than there is."""

    def __init__(self, stream: BinaryIO):
        """Measure what is left."""
        self._stream, self._start = stream, stream.tell()
        self._end = stream.seek(0, os.SEEK_END)
        stream.seek(self._start)

    @property
    def left(self) -> int:
        """Bytes not read yet."""
        return self._end - self._stream.tell()

    def read(self, size: int) -> bytes:
        """So many bytes."""
        if not 0 <= size <= self.left:
            raise Refused(f"it announces {size} bytes where {self.left} are left")
        return self._stream.read(size)

    def readline(self) -> bytes:
        """A line."""
        return self._stream.readline()

    def tell(self) -> int:
        """Place in the stream."""
        return self._stream.tell()


def check_opcodes(stream: BinaryIO, most: int) -> int:
    """Go through a pickle's opcodes without running them; leaves the stream where it was.

    Returns:
        Their number.

    Raises:
        Refused: When there are more than `most`, one is not PLAIN, or one announces more than there is.
    """
    start, source = stream.tell(), Measured(stream)
    number = 0
    for number, (opcode, given, _) in enumerate(pickletools.genops(cast(BinaryIO, source)), 1):
        argument: Any = given
        if number > most:
            raise Refused(f"it has more than {most} opcodes")
        if opcode.name not in PLAIN:
            raise Refused(f"it has the opcode {opcode.name}, which plain data does not need")
        # The machine makes room for as many notes as the highest number says.
        if "PUT" in opcode.name and int(argument) > most:
            raise Refused(f"it notes an object under the number {argument}")
        if opcode.name == "FRAME" and argument > source.left:
            raise Refused(f"it announces {argument} bytes where {source.left} are left")
        if opcode.name == "GLOBAL" and tuple(argument.split(" ", 1)) not in KNOWN:
            raise Refused(f"it names {ascii('.'.join(argument.split(' ', 1)))[1:-1][:120]}")
    stream.seek(start)
    return number
