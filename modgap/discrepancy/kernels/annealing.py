"""Heat-bath annealing: a target class's source class is drawn anew, given all the others.

Where K is small and C large, climbs from random maps end in many different local optima. A short run
at a falling temperature passes the shallow ones by. Random numbers are a function of the run's key and
the step.
"""

import math

import numpy as np
from numba import njit, uint64

from modgap.discrepancy.kernels.gains import fill_gains, move
from modgap.discrepancy.kernels.hill_climbing import first_most
from modgap.discrepancy.kernels.random_maps import GAMMA, _below, _mix

__all__ = ["anneal"]

NEGLIGIBLE = 40.0
ODDS = 512
STAGE = 10


@njit(inline="always")
def _uniform(key, draw):
    """A number in [0, 1), of 53 bits."""
    return (_mix(key + uint64(draw + 1) * uint64(GAMMA)) >> uint64(11)) * 2.0**-53


@njit(nogil=True)
def _fill_odds(odds, temperature):
    """odds[d] = exp(-d / temperature) while that counts; the number of them."""
    levels = min(len(odds), int(NEGLIGIBLE * temperature) + 1)
    for d in range(levels):
        odds[d] = math.exp(-d / temperature)
    return levels


@njit(inline="always")
def _odds_of(behind, odds, levels, temperature):
    """exp(-behind / temperature), from the table where it reaches."""
    if behind < levels:
        return odds[behind]
    if levels == len(odds) and behind < NEGLIGIBLE * temperature:
        return math.exp(-behind / temperature)
    return 0.0


@njit(nogil=True)
def _draw_class(found, most, odds, levels, temperature, share):
    """The class c at which the running sum of exp((found[c] - most) / temperature) passes `share` of it all."""
    total = 0.0
    best = 0
    for c in range(len(found)):
        total += _odds_of(most - found[c], odds, levels, temperature)
    left = share * total
    for c in range(len(found)):
        own = _odds_of(most - found[c], odds, levels, temperature)
        left -= own
        if own > 0:
            best = c
        if left < 0:
            break
    # Rounding may leave nothing below zero: then the last class that had a share.
    return best


@njit(cache=True, nogil=True)
def anneal(source, state, seed, run, hot, cold, steps):
    """Change the map by heat-bath steps; the temperature, in matches, falls geometrically from hot to cold.

    It stays for STAGE steps at a time, for which the odds of every gain are worked out once.
    """
    classes = len(state.chosen)
    key = _mix(_mix(uint64(seed) + uint64(GAMMA)) ^ _mix(uint64(run) + uint64(GAMMA)))
    found = np.empty(len(state.owner), state.weights.dtype)
    odds = np.empty(ODDS)
    levels = 0
    temperature = hot
    for step in range(steps):
        if step % STAGE == 0:
            temperature = hot * (cold / hot) ** (step / max(steps - 1, 1))
            levels = _fill_odds(odds, temperature)
        k = _below(key, 2 * step, classes)
        fill_gains(source, state, k, found)
        most = first_most(found)[0]
        c = _draw_class(found, most, odds, levels, temperature, _uniform(key, 2 * step + 1))
        if c != state.chosen[k]:
            move(source, state, k, c)
