"""Random injective maps as a pure function of (seed, trial): any shard, any thread, the same map.

The generator is SplitMix64 (Steele, Lea, Flood 2014) used by counter: draw j of a trial is the mix
of the trial's key and j. A draw is scaled to its range by a 32-bit multiply-shift, whose bias is at
most C / 2**32.
"""

from numba import int64, njit, uint64

__all__ = ["draw_maps"]

GAMMA = 0x9E3779B97F4A7C15


@njit(inline="always")
def _mix(z):
    z = (z ^ (z >> uint64(30))) * uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> uint64(27))) * uint64(0x94D049BB133111EB)
    return z ^ (z >> uint64(31))


@njit(inline="always")
def _below(key, draw, limit):
    word = _mix(key + uint64(draw + 1) * uint64(GAMMA)) >> uint64(32)
    return int64((word * uint64(limit)) >> uint64(32))


@njit(cache=True, nogil=True)
def draw_maps(seed, first, maps, pool):
    """Fill maps (trials, K) with the injective maps of trials first, first + 1, ...

    `pool` is arange(C), shuffled by the K swaps of a trial and restored by the same swaps backwards,
    so that a trial costs K and not C steps.
    """
    trials, chosen = maps.shape
    seed_key = _mix(uint64(seed) + uint64(GAMMA))
    for t in range(trials):
        key = _mix(seed_key ^ _mix(uint64(first + t) + uint64(GAMMA)))
        for j in range(chosen):
            i = j + _below(key, j, len(pool) - j)
            pool[i], pool[j] = pool[j], pool[i]
            maps[t, j] = pool[j]
        for j in range(chosen - 1, -1, -1):
            i = j + _below(key, j, len(pool) - j)
            pool[i], pool[j] = pool[j], pool[i]
