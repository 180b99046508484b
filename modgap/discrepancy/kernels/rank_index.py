"""Rearrange ranked source classes of samples (E, R) by class."""

from modgap.discrepancy.kernels.compilation import kernel


@kernel
def fill_class_index(leading, firsts, samples, ranks, positions):
    """Sort the (sample, rank) pairs of the leading classes (E, R) by class, into samples (E R,) and ranks (E R,).

    firsts (C + 1,), all zero before the call, receives the first position of each class. positions (C,) is working
    space.
    """
    for i in range(leading.shape[0]):
        for r in range(leading.shape[1]):
            firsts[leading[i, r] + 1] += 1
    for c in range(len(firsts) - 1):
        positions[c] = firsts[c]
        firsts[c + 1] += firsts[c]
    for i in range(leading.shape[0]):
        for r in range(leading.shape[1]):
            c = leading[i, r]
            samples[positions[c]] = i
            ranks[positions[c]] = r
            positions[c] += 1
