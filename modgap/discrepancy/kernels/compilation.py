"""Decorators of kernels with the options that make them compile fast."""

from numba import njit

__all__ = ["allocating_kernel", "inner_kernel", "kernel", "shared_kernel"]

# Wrappers for calls from Python and from C, and counting the references of arrays, take a large part of the time of
# compilation. Without reference counts (_nrt), a function cannot allocate an array, and must not return one.
kernel = njit(cache=True, nogil=True, no_cfunc_wrapper=True, _nrt=False)
"""Compile a function that Python calls and that allocates no array, and keep it in Numba's cache."""

allocating_kernel = njit(cache=True, nogil=True, no_cfunc_wrapper=True)
"""Compile a function that Python calls and that may allocate arrays, and keep it in Numba's cache."""

inner_kernel = njit(nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True, _nrt=False)
"""Compile a function that only kernels call and that allocates no array; Python cannot call it."""

shared_kernel = njit(cache=True, nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True, _nrt=False)
"""Compile a function like `inner_kernel` that several kernels call, and keep it in Numba's cache for all of them."""
