"""One name for each thing that tables of gains and rows of logits both do: which does it, the state's type says."""

from numba import njit
from numba.extending import overload

from modgap.discrepancy.kernels import dense_gains, table_gains

__all__ = ["fill_gains", "move", "restart_from"]


def fill_gains(source, state, k, found):
    """Matches gained by giving target class k each source class, into found (C,), where a taken one means a swap."""
    raise NotImplementedError("for kernels only")


def move(source, state, k, c):
    """Move target class k to source class c (not its own), swapping where c is taken. For kernels only."""
    raise NotImplementedError("for kernels only")


def _take_map(source, state, chosen):
    raise NotImplementedError("for kernels only")


@njit(cache=True, nogil=True)
def restart_from(source, state, chosen):
    """Forget the state's map and what follows from it, and take another (K,)."""
    _take_map(source, state, chosen)


def _kernels_of(state):
    return dense_gains if state.instance_class is dense_gains.DenseState else table_gains


@overload(fill_gains)
def _fill_gains(source, state, k, found):
    kernel = _kernels_of(state).fill_gains
    return lambda source, state, k, found: kernel(source, state, k, found)


@overload(move)
def _move(source, state, k, c):
    kernel = _kernels_of(state).move
    return lambda source, state, k, c: kernel(source, state, k, c)


@overload(_take_map)
def _restart_from(source, state, chosen):
    kernel = _kernels_of(state).restart_from
    return lambda source, state, chosen: kernel(source, state, chosen)
