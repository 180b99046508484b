"""Decorators of kernels with the options that make them compile fast."""

import gc
from collections.abc import Callable
from typing import Any

from numba import njit
from numba.core.caching import FunctionCache


class KernelCache(FunctionCache):
    """Numba's cache, in which an entry of an earlier version of modgap counts as missing.

    An entry names the classes of a kernel's arguments. Without this, a class with a new name would make it unreadable.
    """

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the compiled function for a signature, or None if there is none that can be read."""
        try:
            return super().load_overload(sig, target_context)
        except (AttributeError, ImportError):
            self.flush()
            return None


def _without_collection(compile: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that compiles while the garbage collector rests.

    Compiling makes millions of short-lived objects, and each collection goes through all objects of the process.
    """

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        collects = gc.isenabled()
        gc.disable()
        try:
            return compile(*args, **kwargs)
        finally:
            if collects:
                gc.enable()

    return wrapped


def _cached(**options: bool) -> Callable[[Callable[..., Any]], Any]:
    """Return a decorator that compiles a function when it is called first, and keeps it in Numba's cache."""

    def decorate(function: Callable[..., Any]) -> Any:
        dispatcher = njit(**options)(function)
        dispatcher._cache = KernelCache(function)
        dispatcher.compile = _without_collection(dispatcher.compile)
        return dispatcher

    return decorate


# Wrappers for calls from Python and from C, and counting the references of arrays, take a large part of the time of
# compilation. Without reference counts (_nrt), a function cannot allocate an array, and must not return one.
kernel = _cached(nogil=True, no_cfunc_wrapper=True, _nrt=False)
"""Compile a function that Python calls and that allocates no array, and keep it in Numba's cache."""

allocating_kernel = _cached(nogil=True, no_cfunc_wrapper=True)
"""Compile a function that Python calls and that may allocate arrays, and keep it in Numba's cache."""

inner_kernel = njit(nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True, _nrt=False)
"""Compile a function that only kernels call and that allocates no array; Python cannot call it."""

shared_kernel = _cached(nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True, _nrt=False)
"""Compile a function like `inner_kernel` that several kernels call, and keep it in Numba's cache for all of them."""
