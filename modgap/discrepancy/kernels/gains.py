"""Functions that dispatch on the type of the state: tables of gains, or gains from rows of logits."""

from numba import njit
from numba.extending import overload

from modgap.discrepancy.kernels import dense_gains, table_gains

__all__ = ["fill_gains", "move", "restart_from"]


def fill_gains(source, state, k, out):
    """Write the matches gained by moving target class k to each source class into out (C,); taken classes mean a swap.

    This function can only be called from kernels.
    """
    raise NotImplementedError("This function can only be called from kernels.")


def move(source, state, k, c):
    """Move target class k to another source class c; if c is taken, the two target classes swap.

    This function can only be called from kernels.
    """
    raise NotImplementedError("This function can only be called from kernels.")


def _set_map(source, state, chosen):
    raise NotImplementedError("This function can only be called from kernels.")


@njit(cache=True, nogil=True)
def restart_from(source, state, chosen):
    """Set the state to a map (K,)."""
    _set_map(source, state, chosen)


def _kernel_module(state):
    """Return the module of the kernels for a state's Numba type."""
    return dense_gains if state.instance_class is dense_gains.DenseState else table_gains


@overload(fill_gains)
def _fill_gains(source, state, k, out):
    kernel = _kernel_module(state).fill_gains
    return lambda source, state, k, out: kernel(source, state, k, out)


@overload(move)
def _move(source, state, k, c):
    kernel = _kernel_module(state).move
    return lambda source, state, k, c: kernel(source, state, k, c)


@overload(_set_map)
def _restart_from(source, state, chosen):
    kernel = _kernel_module(state).restart_from
    return lambda source, state, chosen: kernel(source, state, chosen)
