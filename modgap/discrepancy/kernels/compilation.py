"""Decorators of kernels with the options that make them compile fast."""

from numba import njit

__all__ = ["inner_kernel", "kernel"]

# Wrappers for calls from Python and from C take a large part of the time of compilation.
kernel = njit(cache=True, nogil=True, no_cfunc_wrapper=True)
"""Compile a function that Python calls, and keep it in Numba's cache."""

inner_kernel = njit(nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
"""Compile a function that only kernels call; Python cannot call it."""
