"""Slow and plain NumPy versions that the fast code must equal exactly."""

import numpy as np

MASK = (1 << 64) - 1
GAMMA = 0x9E3779B97F4A7C15


def _mix(z: int) -> int:
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & MASK
    return z ^ (z >> 31)


def random_map(seed: int, trial: int, n_source_classes: int, n_classes: int) -> list[int]:
    """Return a random map by the Fisher-Yates shuffle, with Python integers."""
    key = _mix(_mix((seed + GAMMA) & MASK) ^ _mix((trial + GAMMA) & MASK))
    pool = list(range(n_source_classes))
    for j in range(n_classes):
        word = _mix((key + (j + 1) * GAMMA) & MASK) >> 32
        i = j + (word * (n_source_classes - j) >> 32)
        pool[i], pool[j] = pool[j], pool[i]
    return pool[:n_classes]


def matches(logits, labels, source_classes) -> int:
    """Return the number of correct samples under one map, by NumPy's arg-max over columns in order of source class."""
    source_classes = np.asarray(source_classes)
    order = np.argsort(source_classes)
    predicted = order[logits[:, source_classes[order]].argmax(axis=1)]
    return int((predicted == labels).sum())


def ranking(logits) -> np.ndarray:
    """Return the classes from the largest logit down, with ties to the lowest class."""
    return np.argsort(-(logits + np.float32(0)), axis=1, kind="stable")
