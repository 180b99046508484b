"""What a pickle of plain data may name, each name bound to a stand-in of our own that only notes what it is given."""

import math
import pickle
import re
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np

__all__ = ["KNOWN", "Array", "DType", "Refused", "StandIn", "Unpickler"]

DTYPE_CODE = re.compile(r"[?bBO]|b1|O[48]|[iu][1248]|f[248]|[SU]\d{1,6}|[hilqHILQefd]")
MOST_DIMENSIONS = 32
MOST_SIZE = 1 << 48
COPIES_A_BYTE = 2


class Refused(Exception):  # noqa: N818 - a verdict on the file, not a fault of this program
    """The file is not a pickle of plain data, or goes beyond a limit."""


class Array:
    """What a pickle says of a NumPy array or scalar, checked."""

    __slots__ = ("items", "scalar", "shape", "value")

    def __init__(self, value: np.ndarray | None = None, scalar: bool = False):
        """An array whose content is known, or will come by `__setstate__`."""
        self.value, self.scalar = value, scalar
        self.shape: tuple[int, ...] = ()
        self.items: list | None = None

    def __setstate__(self, state: Any) -> None:
        """NumPy's (version, shape, dtype, Fortran order, data); once."""
        if self.value is not None or self.items is not None or not isinstance(state, tuple) or len(state) not in (4, 5):
            raise Refused("an array is built from something that is not an array's content")
        shape, dtype, fortran, data = state[-4:]
        if isinstance(dtype, DType) and dtype.code in "O":
            self.shape, self.items = checked_shape(shape), data
            if type(data) is not list or len(data) != math.prod(self.shape):
                raise Refused(f"an array of shape {self.shape} does not hold as many objects")
        else:
            self.value = from_bytes(data, dtype, shape, fortran=bool(fortran))


class DType:
    """A NumPy data type that is a number, a truth value, a string or an object."""

    __slots__ = ("code", "order")

    def __init__(self, code: str):
        """A type of native byte order until `__setstate__` says otherwise."""
        self.code, self.order = "O" if code[0] == "O" else code, "="

    def __setstate__(self, state: Any) -> None:
        """NumPy's (version, byte order, sub-array, names, fields, ...)."""
        order = text(state[1]) if isinstance(state, tuple) and len(state) > 4 else None
        if order not in ("<", ">", "|", "=") or any(part is not None for part in state[2:5]):
            raise Refused("a data type of fields or sub-arrays")
        self.order = "=" if order == "|" else order

    def numpy(self) -> np.dtype:
        """The type itself."""
        prefix = "" if self.code[0] == "?" else self.order
        return np.dtype(f"{prefix}{self.code}")


def text(value: Any) -> str | None:
    """A name in a pickle, which Python 2 wrote as bytes."""
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return value if isinstance(value, str) else None


def checked_shape(shape: Any) -> tuple[int, ...]:
    """A shape of a few small whole numbers."""
    whole = isinstance(shape, tuple) and all(type(size) is int and 0 <= size < MOST_SIZE for size in shape)
    if not whole or len(shape) > MOST_DIMENSIONS:
        raise Refused("an array's shape is not one of whole numbers")
    return shape


def from_bytes(data: Any, dtype: Any, shape: Any, *, fortran: bool) -> np.ndarray:
    """The array that these bytes are, if there are just as many as its shape and type need."""
    if not isinstance(dtype, DType) or dtype.code == "O" or not isinstance(data, bytes | bytearray):
        raise Refused("an array's content is not bytes of a number or string type")
    kind, shape = dtype.numpy(), checked_shape(shape)
    if len(data) != math.prod(shape) * kind.itemsize or not kind.itemsize:
        raise Refused(f"an array of shape {shape} and type {kind} has {len(data)} bytes")
    flat = np.frombuffer(data, kind) if len(data) else np.empty(math.prod(shape), kind)
    return flat.reshape(shape, order="F" if fortran else "C")


class StandIn:
    """What a name in a pickle is bound to: it can be called, and nothing else can be done to it."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]):
        """Bind it to the function that is called."""
        self._call = call

    def __call__(self, *args: Any) -> Any:
        """Note what the pickle gives."""
        try:
            return self._call(*args)
        except TypeError:
            raise Refused("a constructor is called with arguments that it does not take") from None

    def __setstate__(self, state: Any) -> None:
        """Pickles may not change what names are bound to."""
        raise Refused("it tries to change a constructor")


def refuse_call(*args: Any) -> None:
    """Stands for numpy.ndarray, which is only named, as what is to be built."""
    raise Refused("it calls numpy.ndarray")


def reconstruct(subtype: Any, shape: Any, code: Any) -> Array:
    """Stands for numpy's _reconstruct."""
    if subtype is not NDARRAY:
        raise Refused("an array of another class than numpy.ndarray")
    return Array()


def frombuffer(data: Any, dtype: Any, shape: Any, order: Any) -> Array:
    """Stands for numpy's _frombuffer."""
    return Array(from_bytes(data, dtype, shape, fortran=text(order) == "F"))


def scalar(dtype: Any, data: Any) -> Array:
    """Stands for numpy's scalar."""
    return Array(from_bytes(data, dtype, (), fortran=False), scalar=True)


def make_dtype(code: Any, *flags: Any) -> DType:
    """Stands for numpy.dtype."""
    name = text(code)
    if name is None or not DTYPE_CODE.fullmatch(name):
        raise Refused(f"the data type {ascii(code)[:40]}")
    return DType(name)


def empty_bytes() -> bytes:
    """Stands for bytes()."""
    return b""


class Copies:
    """Stand-ins that copy what they are given, up to so many items and characters together.

    One thing in a pickle can be handed over again and again; without a bound its copies would fill the memory.
    """

    def __init__(self, most: int):
        """Start with nothing copied."""
        self._left = most

    def _count(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise Refused("it copies its own content over and over")

    def latin1(self, string: Any, encoding: Any) -> bytes:
        """Stands for _codecs.encode, by which protocol 2 carries bytes."""
        if not isinstance(string, str) or text(encoding) != "latin1":
            raise Refused("it encodes what is not bytes")
        self._count(len(string))
        return string.encode("latin-1")

    def container(self, kind: Callable[..., Any]) -> Callable[..., Any]:
        """Stands for a container: empty, or filled from one list, tuple or set."""

        def build(items: Any = ()) -> Any:
            if type(items) not in (list, tuple, set, frozenset):
                raise Refused("a container is filled from what is not one")
            self._count(len(items))
            return kind(items)

        return build


NDARRAY = StandIn(refuse_call)
NUMPY = {
    ("multiarray", "_reconstruct"): StandIn(reconstruct),
    ("multiarray", "scalar"): StandIn(scalar),
    ("numeric", "_frombuffer"): StandIn(frombuffer),
}


def names(most: int) -> dict[tuple[str, str], StandIn]:
    """All that a pickle may name; together its copies hold at most so many items and characters."""
    copies = Copies(most)
    known = {
        ("numpy", "ndarray"): NDARRAY,
        ("numpy", "dtype"): StandIn(make_dtype),
        ("_codecs", "encode"): StandIn(copies.latin1),
        ("collections", "OrderedDict"): StandIn(copies.container(dict)),
    }
    for core in ("core", "_core"):
        known |= {(f"numpy.{core}.{module}", name): call for (module, name), call in NUMPY.items()}
    for module in ("builtins", "__builtin__"):
        known[module, "bytes"] = StandIn(empty_bytes)
        known |= {(module, kind.__name__): StandIn(copies.container(kind)) for kind in (set, frozenset)}
    return known


KNOWN = frozenset(names(0))


class Unpickler(pickle.Unpickler):
    """Python's own machine, with no names but ours."""

    def __init__(self, stream: BinaryIO, size: int):
        """Read a pickle of so many bytes; strings of Python 2 stay bytes."""
        super().__init__(stream, encoding="bytes")
        self._names = names(COPIES_A_BYTE * size)

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in of a name."""
        try:
            return self._names[module, name]
        except KeyError:
            raise Refused(f"it names {ascii(module)[1:-1][:60]}.{ascii(name)[1:-1][:60]}") from None

    def persistent_load(self, pid: Any) -> Any:
        """Plain data has no persistent ids."""
        raise Refused("it has persistent ids")
