"""Random injective maps as a pure function of (seed, trial), so that every shard and thread draws the same map.

The generator is a counter-based SplitMix64 (Steele, Lea, Flood 2014): draw j of a trial is the mix of the trial's key
and j. A draw is scaled to its range by a 32-bit multiply-shift, whose bias is at most C / 2**32.
"""

from numba import int64, njit, uint64

from modgap.discrepancy.kernels.compilation import kernel

GAMMA = 0x9E3779B97F4A7C15


@njit(inline="always")
def mix(z):
    """Return the finalizer of SplitMix64 of a uint64."""
    z = (z ^ (z >> uint64(30))) * uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> uint64(27))) * uint64(0x94D049BB133111EB)
    return z ^ (z >> uint64(31))


@njit(inline="always")
def draw_below(key, draw, limit):
    """Return a random integer from 0 to limit - 1, a function of the key and the number of the draw."""
    word = mix(key + uint64(draw + 1) * uint64(GAMMA)) >> uint64(32)
    return int64((word * uint64(limit)) >> uint64(32))


@kernel
def draw_maps(seed, first, trials, classes, trial_step, class_step, maps, pool):
    """Draw the injective maps of `classes` target classes of the trials first, first + 1, ...

    The class of trial t and target class j is written at maps[t * trial_step + j * class_step], so that arrays of both
    orders have the same type and the kernel is compiled once. pool is arange(C). The K swaps of a trial shuffle it, and
    the same swaps in reverse order restore it, so that a trial takes K and not C steps.
    """
    seed_key = mix(uint64(seed) + uint64(GAMMA))
    for t in range(trials):
        key = mix(seed_key ^ mix(uint64(first + t) + uint64(GAMMA)))
        for j in range(classes):
            i = j + draw_below(key, j, len(pool) - j)
            pool[i], pool[j] = pool[j], pool[i]
            maps[t * trial_step + j * class_step] = pool[j]
        for j in range(classes - 1, -1, -1):
            i = j + draw_below(key, j, len(pool) - j)
            pool[i], pool[j] = pool[j], pool[i]
