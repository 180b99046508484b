"""Slow and plain twins of the fast code: what it must equal exactly."""

import numpy as np

MASK = (1 << 64) - 1
GAMMA = 0x9E3779B97F4A7C15


def _mix(z: int) -> int:
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & MASK
    return z ^ (z >> 31)


def random_map(seed: int, trial: int, n_source_classes: int, n_classes: int) -> list[int]:
    """Fisher and Yates' shuffle by hand, with Python's own integers."""
    key = _mix(_mix((seed + GAMMA) & MASK) ^ _mix((trial + GAMMA) & MASK))
    pool = list(range(n_source_classes))
    for j in range(n_classes):
        word = _mix((key + (j + 1) * GAMMA) & MASK) >> 32
        i = j + (word * (n_source_classes - j) >> 32)
        pool[i], pool[j] = pool[j], pool[i]
    return pool[:n_classes]


def matches(logits, labels, source_classes) -> int:
    """Samples got right under one map: NumPy's arg-max over the chosen columns in order of source class."""
    source_classes = np.asarray(source_classes)
    order = np.argsort(source_classes)
    predicted = order[logits[:, source_classes[order]].argmax(axis=1)]
    return int((predicted == labels).sum())


def ranking(logits) -> np.ndarray:
    """Classes from the largest logit down, ties to the lowest class."""
    return np.argsort(-(logits + np.float32(0)), axis=1, kind="stable")
