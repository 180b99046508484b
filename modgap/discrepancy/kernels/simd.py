"""Fixed-width vectors as values inside Numba functions.

Numba has no vector type: a running maximum over 64 samples, or the bits of 1,024 trials, would be stored in memory and
loaded again at each step. The types below are LLVM vectors. LLVM keeps them in registers and splits them to the width
of the machine (AVX-512, AVX2, NEON).
"""

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

LANES = 1024
CACHE_LINE = 64


class Vector(types.Type):
    """A vector of `lanes` unsigned integers of `bits` bits each."""

    def __init__(self, lanes, bits):
        """Name the type by its sizes."""
        self.lanes = lanes
        self.bits = bits
        super().__init__(name=f"Vector({lanes} x u{bits})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, vector):
        super().__init__(manager, vector, ir.VectorType(ir.IntType(vector.bits), vector.lanes))


def aligned(shape: int | tuple[int, ...], dtype: npt.DTypeLike) -> np.ndarray:
    """Return zeros that start on a cache line, so that no vector extends over two."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.zeros(size + CACHE_LINE, np.uint8)
    start = -raw.ctypes.data % CACHE_LINE
    return raw[start : start + size].view(dtype).reshape(shape)


def _address(context, builder, array_type, array, offset, vector):
    data = context.make_array(array_type)(context, builder, array).data
    pointer = context.get_value_type(vector).as_pointer()
    return builder.bitcast(builder.gep(data, [offset]), pointer)


def _loader(lanes):
    @intrinsic
    def load(typing, array, offset):
        """Return the `lanes` values of a flat array from `offset` on."""
        vector = Vector(lanes, array.dtype.bitwidth)

        def generate(context, builder, signature, args):
            address = _address(context, builder, array, args[0], args[1], vector)
            return builder.load(address, align=vector.bits // 8)

        return vector(array, types.intp), generate

    return load


load_64 = _loader(64)
load_32 = _loader(32)
load_16_words = _loader(LANES // 64)


@intrinsic
def store(typing, array, offset, value):
    """Write a vector into a flat array at `offset`."""

    def generate(context, builder, signature, args):
        address = _address(context, builder, array, args[0], args[1], value)
        builder.store(args[2], address, align=value.bits // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), generate


def _lanewise(operation):
    @intrinsic
    def apply(typing, a, b):
        return a(a, a), lambda context, builder, signature, args: operation(builder, *args)

    return apply


def _ones(vector):
    return ir.Constant(vector, [(1 << vector.element.width) - 1] * vector.count)


def _umax(builder, a, b):
    name = f"llvm.umax.v{a.type.count}i{a.type.element.width}"
    signature = ir.FunctionType(a.type, [a.type, a.type])
    return builder.call(cgutils.get_or_insert_function(builder.module, signature, name), [a, b])


bit_and = _lanewise(lambda builder, a, b: builder.and_(a, b))
bit_or = _lanewise(lambda builder, a, b: builder.or_(a, b))
bit_xor = _lanewise(lambda builder, a, b: builder.xor(a, b))
bit_and_not = _lanewise(lambda builder, a, b: builder.and_(a, builder.xor(b, _ones(b.type))))
highest = _lanewise(_umax)


@intrinsic
def no_bits(typing):
    """Return a 1,024-bit vector with no bit set."""
    vector = Vector(LANES // 64, 64)

    def generate(context, builder, signature, args):
        return ir.Constant(context.get_value_type(vector), None)

    return vector(), generate


@intrinsic
def is_zero(typing, value):
    """Return True if no bit is set in any lane."""

    def generate(context, builder, signature, args):
        lanes = builder.icmp_unsigned("!=", args[0], ir.Constant(args[0].type, None))
        mask = builder.bitcast(lanes, ir.IntType(value.lanes))
        return builder.icmp_unsigned("==", mask, ir.Constant(mask.type, 0))

    return types.boolean(value), generate


@intrinsic
def equal_lanes(typing, a, b):
    """Return a uint64 whose bit j tells whether lane j of a equals lane j of b."""

    def generate(context, builder, signature, args):
        mask = builder.bitcast(builder.icmp_unsigned("==", *args), ir.IntType(a.lanes))
        return mask if a.lanes == 64 else builder.zext(mask, ir.IntType(64))

    return types.uint64(a, a), generate


@intrinsic
def popcount(typing, word):
    """Return the number of bits of a uint64 that are set."""
    return types.int64(types.uint64), lambda context, builder, signature, args: builder.ctpop(args[0])
