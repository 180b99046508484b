"""Plain NumPy twins of the search, the assignment and the bounds."""

import itertools

import numpy as np


def problem(rng, n_samples, n_source_classes, n_classes, signal=0.0, ties=False):
    """Random logits, with a random profile of each class added where there is signal, and labels."""
    labels = rng.permutation(np.arange(n_samples) % n_classes)
    logits = rng.standard_normal((n_samples, n_source_classes))
    logits += signal * rng.standard_normal((n_classes, n_source_classes))[labels]
    return np.round(logits * 2 if ties else logits, 0 if ties else 6).astype(np.float32), labels


def planted(rng, n_samples, n_source_classes, n_classes, share=0.6):
    """Problem whose map is known: with this share the class's own logit tops its planted rivals'."""
    hidden = rng.permutation(n_source_classes)[:n_classes]
    labels = rng.permutation(np.arange(n_samples) % n_classes)
    logits = rng.standard_normal((n_samples, n_source_classes)).astype(np.float32)
    rows = np.arange(n_samples)
    best = logits[:, hidden].max(axis=1)
    lucky = rng.random(n_samples) < share
    logits[rows[lucky], hidden[labels[lucky]]] = best[lucky] + 0.01
    return logits, labels, hidden


def predictions(logits, chosen):
    """Target class predicted for each sample; ties to the lowest source class."""
    order = np.argsort(chosen)
    return order[logits[:, np.asarray(chosen)[order]].argmax(axis=1)]


def value(logits, labels, chosen):
    return float((predictions(logits, chosen) != labels).mean())


def optimum(logits, labels, n_classes):
    """(value, first map) over all injective maps, in lexicographic order."""
    maps = itertools.permutations(range(logits.shape[1]), n_classes)
    return min(((value(logits, labels, chosen), chosen) for chosen in maps), key=lambda pair: pair[0])


def move_gains(logits, labels, chosen, weights):
    """Weight of matches gained by moving each target class to each free source class; 0 where it is taken."""
    chosen = np.asarray(chosen)
    before = weights[predictions(logits, chosen) == labels].sum()
    gains = np.zeros((len(chosen), logits.shape[1]), np.int64)
    for k, c in itertools.product(range(len(chosen)), np.setdiff1d(np.arange(logits.shape[1]), chosen)):
        moved = chosen.copy()
        moved[k] = c
        gains[k, c] = weights[predictions(logits, moved) == labels].sum() - before
    return gains


def best_permutation(logits, labels, subset):
    """(value, map) of the best permutation of a subset."""
    maps = itertools.permutations(sorted(subset))
    return min(((value(logits, labels, chosen), chosen) for chosen in maps), key=lambda pair: pair[0])


def group_optimum(logits, labels, group):
    """Most matches of the samples of a group of target classes under maps of the group alone."""
    members = np.isin(labels, group)
    own = np.searchsorted(group, labels[members])
    return round((1 - optimum(logits[members], own, len(group))[0]) * members.sum())
