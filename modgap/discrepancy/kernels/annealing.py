"""Heat-bath annealing, then hill climbing.

Each step of the annealing draws the source class of one target class, given all the others. Climbing makes the best
single moves and swaps until none of them helps.

If K is small and C is large, climbs from random maps end in many different local optima. A short run at a falling
temperature avoids the shallow ones. Random numbers are a function of the run's key and the step.
"""

import math
from typing import Any

import numpy as np
from numba import njit, uint64

from modgap.discrepancy.kernels.compilation import kernel, shared_kernel
from modgap.discrepancy.kernels.gains import change_map, fill_gains
from modgap.discrepancy.kernels.random_maps import GAMMA, draw_below, mix

NEGLIGIBLE = 40.0
"""Number of temperatures below the best gain from which odds are taken as zero."""
TABLE_SIZE = 512
STAGE = 10
"""Number of steps at each temperature."""


@njit(inline="always")
def _uniform(key, draw):
    """Return a random number in [0, 1) of 53 bits."""
    return (mix(key + uint64(draw + 1) * uint64(GAMMA)) >> uint64(11)) * 2.0**-53


@shared_kernel
def _fill_odds(odds, temperature):
    """Fill odds[d] = exp(-d / temperature) up to the last d that is not negligible; return the number of values."""
    levels = min(len(odds), int(NEGLIGIBLE * temperature) + 1)
    for d in range(levels):
        odds[d] = math.exp(-d / temperature)
    return levels


@njit(inline="always")
def _odds_of(deficit, odds, levels, temperature):
    """Return exp(-deficit / temperature), from the table if it reaches that far."""
    if deficit < levels:
        return odds[deficit]
    if levels == len(odds) and deficit < NEGLIGIBLE * temperature:
        return math.exp(-deficit / temperature)
    return 0.0


@shared_kernel
def _draw_class(gains, highest, odds, levels, temperature, share):
    """Return the class c at which the running sum of exp((gains[c] - highest) / temperature) exceeds a share."""
    total = 0.0
    best = 0
    for c in range(len(gains)):
        total += _odds_of(highest - gains[c], odds, levels, temperature)
    left = share * total
    for c in range(len(gains)):
        odds_of_class = _odds_of(highest - gains[c], odds, levels, temperature)
        left -= odds_of_class
        if odds_of_class > 0:
            best = c
        if left < 0:
            break
    # If rounding keeps the rest above zero, this is the last class with positive odds.
    return best


@shared_kernel
def _highest_gain(gains):
    """Return the largest of the gains (C,) and the lowest class that has it."""
    highest = gains[0]
    for c in range(1, len(gains)):
        highest = max(highest, gains[c])
    c = 0
    while gains[c] < highest:
        c += 1
    return highest, c


def improve(
    source: Any,
    state: Any,
    start: np.ndarray,
    seed: int,
    run: int,
    hot: float,
    cold: float,
    steps: int,
) -> None:
    """Set the state to a map (K,), change the map by heat-bath steps, and climb from it.

    The temperature, in matches, falls geometrically from hot to cold. It is constant for STAGE steps at a time, so that
    the odds of every gain are computed once for them. The climb moves each target class in turn to its best source
    class, until no target class moves in a full round.

    Args:
        source: Rows of logits, see `mapped_rows`, or ranks with an index.
        state: State of the same kind, see `gains`.
        start: Source class of each target class, shape (K,).
        seed: Seed of the random numbers.
        run: Number of the run.
        hot: First temperature.
        cold: Last temperature.
        steps: Number of heat-bath steps.
    """
    gains = np.empty(len(state.owner), state.weights.dtype)
    take_steps(source, state, start, seed, run, hot, cold, steps, gains, np.empty(TABLE_SIZE))


@kernel
def take_steps(source, state, start, seed, run, hot, cold, steps, gains, odds):
    """Do the work of `improve`; it is one function, so that it is compiled once.

    gains (C,) and odds (TABLE_SIZE,) are working space.
    """
    classes = len(state.chosen)
    key = mix(mix(uint64(seed) + uint64(GAMMA)) ^ mix(uint64(run) + uint64(GAMMA)))
    levels = 0
    temperature = hot
    step = 0
    n_unchanged = 0
    # The first change sets the start. It is made in the loop, because each call in the source is compiled anew.
    k = np.int64(-1)
    c = np.int64(0)
    moves = True
    while True:
        if moves:
            change_map(source, state, start, k, c)
        if step >= steps and n_unchanged >= classes:
            break
        anneals = step < steps
        k = draw_below(key, 2 * step, classes) if anneals else (step - steps) % classes
        fill_gains(source, state, k, gains)
        gain, c = _highest_gain(gains)
        if anneals:
            if step % STAGE == 0:
                temperature = hot * (cold / hot) ** (step / max(steps - 1, 1))
                levels = _fill_odds(odds, temperature)
            c = _draw_class(gains, gain, odds, levels, temperature, _uniform(key, 2 * step + 1))
            moves = c != state.chosen[k]
        else:
            moves = gain > 0
            n_unchanged = 0 if moves else n_unchanged + 1
        step += 1
