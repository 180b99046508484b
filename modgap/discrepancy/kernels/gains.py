"""Functions that dispatch on the type of the state: tables of gains, or gains from rows of logits."""

from numba.extending import overload

from modgap.discrepancy.kernels import dense_gains, table_gains

# Like `inner_kernel`, without wrappers for calls from Python and without reference counts.
OPTIONS = {"nogil": True, "no_cpython_wrapper": True, "no_cfunc_wrapper": True, "_nrt": False}


def fill_gains(source, state, k, out):
    """Write the matches gained by moving target class k to each source class into out (C,); taken classes mean a swap.

    This function can only be called from kernels.
    """
    raise NotImplementedError("This function can only be called from kernels.")


def change_map(source, state, start, k, c):
    """Move target class k to another source class c; if c is taken, the two target classes swap.

    If k is negative, set the state to the map `start` (K,) instead. Both are one function, because they share most of
    what has to be compiled. This function can only be called from kernels.
    """
    raise NotImplementedError("This function can only be called from kernels.")


def _kernel_module(state):
    """Return the module of the kernels for a state's Numba type."""
    return dense_gains if state.instance_class is dense_gains.DenseState else table_gains


@overload(fill_gains, jit_options=OPTIONS)
def _fill_gains(source, state, k, out):
    return _kernel_module(state).fill_gains


@overload(change_map, jit_options=OPTIONS)
def _change_map(source, state, start, k, c):
    return _kernel_module(state).change_map
