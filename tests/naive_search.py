"""Plain NumPy versions of the search."""

import itertools

import numpy as np


def problem(rng, n_samples, n_source_classes, n_classes, signal=0.0, ties=False):
    """Return random logits, plus a random profile of each class times the signal, and labels."""
    labels = rng.permutation(np.arange(n_samples) % n_classes)
    logits = rng.standard_normal((n_samples, n_source_classes))
    logits += signal * rng.standard_normal((n_classes, n_source_classes))[labels]
    return np.round(logits * 2 if ties else logits, 0 if ties else 6).astype(np.float32), labels


def planted(rng, n_samples, n_source_classes, n_classes, share=0.6):
    """Return logits, labels and a planted map, under which at least this share of the samples is correct."""
    hidden = rng.permutation(n_source_classes)[:n_classes]
    labels = rng.permutation(np.arange(n_samples) % n_classes)
    logits = rng.standard_normal((n_samples, n_source_classes)).astype(np.float32)
    rows = np.arange(n_samples)
    best = logits[:, hidden].max(axis=1)
    lucky = rng.random(n_samples) < share
    logits[rows[lucky], hidden[labels[lucky]]] = best[lucky] + 0.01
    return logits, labels, hidden


def predictions(logits, chosen):
    """Return the predicted target class of each sample; ties go to the lowest source class."""
    order = np.argsort(chosen)
    return order[logits[:, np.asarray(chosen)[order]].argmax(axis=1)]


def value(logits, labels, chosen):
    return float((predictions(logits, chosen) != labels).mean())


def optimum(logits, labels, n_classes):
    """Return the smallest value over all injective maps, and the first map that has it in lexicographic order."""
    maps = itertools.permutations(range(logits.shape[1]), n_classes)
    return min(((value(logits, labels, chosen), chosen) for chosen in maps), key=lambda pair: pair[0])


def move_gains(logits, labels, chosen, weights):
    """Return the weight of matches gained by moving each target class to each source class; 0 if it is taken."""
    chosen = np.asarray(chosen)
    before = weights[predictions(logits, chosen) == labels].sum()
    gains = np.zeros((len(chosen), logits.shape[1]), np.int64)
    for k, c in itertools.product(range(len(chosen)), np.setdiff1d(np.arange(logits.shape[1]), chosen)):
        moved = chosen.copy()
        moved[k] = c
        gains[k, c] = weights[predictions(logits, moved) == labels].sum() - before
    return gains
