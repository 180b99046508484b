"""Heat-bath annealing: a target class's source class is drawn anew, given all the others.

Where K is small and C large, climbs from random maps end in many different local optima. A short run
at a falling temperature passes the shallow ones by. Random numbers are a function of the run's key and
the step.
"""

import math

import numpy as np
from numba import njit, uint64

from modgap.discrepancy._climbing import swap_gain
from modgap.discrepancy._drawing import GAMMA, _below, _mix
from modgap.discrepancy._tables import move

__all__ = ["anneal"]

NEGLIGIBLE = 40.0


@njit(inline="always")
def _uniform(key, draw):
    """A number in [0, 1), of 53 bits."""
    return (_mix(key + uint64(draw + 1) * uint64(GAMMA)) >> uint64(11)) * 2.0**-53


@njit(nogil=True)
def _fill_gains(state, k, found):
    """Matches gained by giving k each source class (C,), where a taken one means a swap; the largest."""
    gains, losses = state.gains[k], state.losses
    for c in range(len(found)):
        found[c] = gains[c] - losses[c] + state.bases[k]
    for other in range(len(state.chosen)):
        found[state.chosen[other]] = swap_gain(state.confusion, k, other) if other != k else 0
    most = found[0]
    for c in range(1, len(found)):
        most = max(most, found[c])
    return most


@njit(nogil=True)
def _draw_class(found, most, temperature, share, sums):
    """The class c at which the running sum of exp(found[c] / temperature) passes `share` of the total."""
    total, least = 0.0, most - NEGLIGIBLE * temperature
    for c in range(len(found)):
        if found[c] > least:
            total += math.exp((found[c] - most) / temperature)
        sums[c] = total
    c = np.searchsorted(sums, share * total, side="right")
    # Rounding may carry share * total up to the total itself.
    return c if c < len(found) else np.searchsorted(sums, total)


@njit(cache=True, nogil=True)
def anneal(ranks, state, seed, run, hot, cold, steps):
    """Change the map by heat-bath steps whose temperature falls geometrically from hot to cold samples."""
    classes, sources = state.gains.shape
    key = _mix(_mix(uint64(seed) + uint64(GAMMA)) ^ _mix(uint64(run) + uint64(GAMMA)))
    found, sums = np.empty(sources, np.int32), np.empty(sources, np.float64)
    for step in range(steps):
        temperature = hot * (cold / hot) ** (step / max(steps - 1, 1))
        k = _below(key, 2 * step, classes)
        most = _fill_gains(state, k, found)
        c = _draw_class(found, most, temperature, _uniform(key, 2 * step + 1), sums)
        if c != state.chosen[k]:
            move(ranks, state, k, c)
