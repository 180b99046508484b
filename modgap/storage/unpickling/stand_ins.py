"""Names that a pickle of plain data may use, each bound to a stand-in that only records its arguments."""

import math
import pickle
import re
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np

DTYPE_CODE = re.compile(r"[?bBO]|b1|O[48]|[iu][1248]|f[248]|[SU]\d{1,6}|[hilqHILQefd]")
MAX_DIMENSIONS = 32
MAX_AXIS_SIZE = 1 << 48
COPIES_PER_BYTE = 2
"""Number of items and characters that the stand-ins may copy for each byte of the pickle."""
MAX_NAME_LENGTH = 60
"""Characters of a module or name that an error message has at most."""


class RejectedPickleError(Exception):
    """The file is not a pickle of plain data, or goes beyond a limit.

    Attributes:
        limit: Name of the limit; empty for other reasons.
    """

    def __init__(self, reason: str, limit: str = "") -> None:
        """Keep the reason and the name of the limit."""
        super().__init__(reason)
        self.limit = limit


class Array:
    """The checked description of a NumPy array or scalar in a pickle.

    Attributes:
        value: The array. None for an array of objects, or before `__setstate__`.
        scalar: True for a NumPy scalar.
        shape: Shape of an array of objects.
        items: Objects of an array of objects, in C order. None for other arrays.
    """

    __slots__ = ("items", "scalar", "shape", "value")

    def __init__(self, value: np.ndarray | None = None, scalar: bool = False) -> None:
        """Take the content, or None if `__setstate__` will set it."""
        self.value = value
        self.scalar = scalar
        self.shape: tuple[int, ...] = ()
        self.items: list[object] | None = None

    def __setstate__(self, state: object) -> None:
        """Set the content from NumPy's (version, shape, dtype, Fortran order, data); possible once."""
        if self.value is not None or self.items is not None or not isinstance(state, tuple) or len(state) not in (4, 5):
            raise RejectedPickleError("it builds an array from something that is not the content of an array")
        shape, dtype, fortran, data = state[-4:]
        if isinstance(dtype, DType) and dtype.code in "O":
            self.shape = check_shape(shape)
            self.items = data
            if type(data) is not list or len(data) != math.prod(self.shape):
                raise RejectedPickleError(f"it has an array of shape {self.shape} with another number of objects")
        else:
            self.value = array_from_bytes(data, dtype, shape, fortran=bool(fortran))


class DType:
    """A NumPy data type: number, boolean, string or object.

    Attributes:
        code: NumPy's code without the byte order.
        order: Byte order: `<`, `>` or `=`.
    """

    __slots__ = ("code", "order")

    def __init__(self, code: str) -> None:
        """Take a code; the byte order is native unless `__setstate__` sets another."""
        self.code = "O" if code[0] == "O" else code
        self.order = "="

    def __setstate__(self, state: Any) -> None:
        """Set the byte order from NumPy's (version, byte order, sub-array, names, fields, ...)."""
        order = to_text(state[1]) if isinstance(state, tuple) and len(state) > 4 else None
        if order not in ("<", ">", "|", "=") or any(part is not None for part in state[2:5]):
            raise RejectedPickleError("it has a data type of fields or sub-arrays")
        self.order = "=" if order == "|" else order

    def numpy(self) -> np.dtype:
        """Return the NumPy data type."""
        prefix = "" if self.code[0] == "?" else self.order
        return np.dtype(f"{prefix}{self.code}")


def to_text(value: object) -> str | None:
    """Return a name in a pickle as text, also if Python 2 wrote it as bytes. None if it is neither."""
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return value if isinstance(value, str) else None


def check_shape(shape: object) -> tuple[int, ...]:
    """Return a shape if it is a short tuple of integers in range; raise RejectedPickleError otherwise."""
    if (
        isinstance(shape, tuple)
        and len(shape) <= MAX_DIMENSIONS
        and all(type(size) is int and 0 <= size < MAX_AXIS_SIZE for size in shape)
    ):
        return shape
    raise RejectedPickleError("it has an array whose shape is not a short tuple of non-negative integers")


def array_from_bytes(data: object, dtype: object, shape: object, *, fortran: bool) -> np.ndarray:
    """Return the array with this content; raise RejectedPickleError unless its shape and type need as many bytes."""
    if not isinstance(dtype, DType) or dtype.code == "O" or not isinstance(data, bytes | bytearray):
        raise RejectedPickleError("it has an array whose content is not bytes of a number or string type")
    numpy_dtype = dtype.numpy()
    shape = check_shape(shape)
    if len(data) != math.prod(shape) * numpy_dtype.itemsize or not numpy_dtype.itemsize:
        raise RejectedPickleError(f"an array of shape {shape} and type {numpy_dtype} has {len(data)} bytes")
    flat = np.frombuffer(data, numpy_dtype) if len(data) else np.empty(math.prod(shape), numpy_dtype)
    return flat.reshape(shape, order="F" if fortran else "C")


class StandIn:
    """The object that a name in a pickle is bound to. A pickle can call it, and do nothing else with it."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., object]) -> None:
        """Bind the name to a function."""
        self._call = call

    def __call__(self, *args: object) -> object:
        """Call the function with the pickle's arguments."""
        try:
            return self._call(*args)
        except TypeError:
            raise RejectedPickleError(
                "it calls a constructor with arguments that the constructor does not take"
            ) from None

    def __setstate__(self, state: object) -> None:
        """Raise RejectedPickleError, because pickles must not change stand-ins."""
        raise RejectedPickleError("it tries to change a constructor")


def refuse_call(*_args: object) -> None:
    """Stand in for numpy.ndarray, which plain data names as the class of an array but never calls."""
    raise RejectedPickleError("it calls numpy.ndarray")


def reconstruct(subtype: object, _shape: object, _code: object) -> Array:
    """Stand in for numpy's _reconstruct."""
    if subtype is not NDARRAY:
        raise RejectedPickleError("it has an array of another class than numpy.ndarray")
    return Array()


def frombuffer(data: object, dtype: object, shape: object, order: object) -> Array:
    """Stand in for numpy's _frombuffer."""
    return Array(array_from_bytes(data, dtype, shape, fortran=to_text(order) == "F"))


def scalar(dtype: object, data: object) -> Array:
    """Stand in for numpy's scalar."""
    return Array(array_from_bytes(data, dtype, (), fortran=False), scalar=True)


def make_dtype(code: object, *_flags: object) -> DType:
    """Stand in for numpy.dtype."""
    name = to_text(code)
    if name is None or not DTYPE_CODE.fullmatch(name):
        raise RejectedPickleError(f"it has the unsupported data type {ascii(code)[:40]}")
    return DType(name)


class CopyBudget:
    """Stand-ins that copy their arguments, with a limit on the total number of copied items and characters.

    A pickle can pass one object again and again. Without a limit its copies would fill the memory.
    """

    def __init__(self, limit: int) -> None:
        """Start with nothing copied."""
        self._remaining = limit

    def _spend(self, size: int) -> None:
        self._remaining -= size
        if self._remaining < 0:
            raise RejectedPickleError("it copies its own content over and over")

    def latin1(self, string: object, encoding: object) -> bytes:
        """Stand in for _codecs.encode, by which protocol 2 stores bytes."""
        if not isinstance(string, str) or to_text(encoding) != "latin1":
            raise RejectedPickleError("it encodes something that is not bytes")
        self._spend(len(string))
        return string.encode("latin-1")

    def container(self, kind: Callable[..., object]) -> Callable[..., object]:
        """Return a stand-in for a container type: empty, or filled from one list, tuple or set."""

        def build(items: Any = ()) -> object:
            if type(items) not in (list, tuple, set, frozenset):
                raise RejectedPickleError("it fills a container from something that is not a container")
            self._spend(len(items))
            return kind(items)

        return build


NDARRAY = StandIn(refuse_call)
NUMPY_CORE = {
    ("multiarray", "_reconstruct"): StandIn(reconstruct),
    ("multiarray", "scalar"): StandIn(scalar),
    ("numeric", "_frombuffer"): StandIn(frombuffer),
}
"""Stand-ins by module below numpy.core, which is numpy._core in NumPy 2, and name."""


def bind_names(copy_limit: int) -> dict[tuple[str, str], StandIn]:
    """Return the stand-in of each module and name that a pickle may use.

    Args:
        copy_limit: Largest total number of items and characters that the stand-ins may copy.
    """
    budget = CopyBudget(copy_limit)
    stand_ins = {
        ("numpy", "ndarray"): NDARRAY,
        ("numpy", "dtype"): StandIn(make_dtype),
        ("_codecs", "encode"): StandIn(budget.latin1),
        ("collections", "OrderedDict"): StandIn(budget.container(dict)),
    }
    for core in ("core", "_core"):
        stand_ins |= {(f"numpy.{core}.{module}", name): call for (module, name), call in NUMPY_CORE.items()}
    for module in ("builtins", "__builtin__"):
        stand_ins[module, "bytes"] = StandIn(lambda: b"")
        stand_ins |= {(module, kind.__name__): StandIn(budget.container(kind)) for kind in (set, frozenset)}
    return stand_ins


ALLOWED_NAMES = frozenset(bind_names(0))


class Unpickler(pickle.Unpickler):
    """Python's unpickler with stand-ins as its only names."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        """Read a pickle of `size` bytes. Strings of Python 2 stay bytes."""
        super().__init__(stream, encoding="bytes")
        self._stand_ins = bind_names(COPIES_PER_BYTE * size)

    def find_class(self, module: str, name: str) -> StandIn:
        """Return the stand-in of a name; raise RejectedPickleError if the name is not allowed."""
        try:
            return self._stand_ins[module, name]
        except KeyError:
            shown = [ascii(part)[1:-1][:MAX_NAME_LENGTH] for part in (module, name)]
            raise RejectedPickleError(f"it names {'.'.join(shown)}") from None

    def persistent_load(self, _pid: object) -> object:
        """Raise RejectedPickleError, because plain data has no persistent ids."""
        raise RejectedPickleError("it has persistent ids")
