"""Softmax over all source classes in double precision, and sums of it by target class.

The exponential is computed from additions and multiplications in a fixed order, so that it has the same bits on every
machine; those of mathematics libraries differ in the last bit.
"""

import numpy as np
from numba import njit

from modgap.discrepancy.kernels.compilation import inner_kernel, kernel

LOG2_E = 1.4426950408889634
LN2_HIGH = 0.6931471803691238
LN2_LOW = 1.9082149292705877e-10
SMALLEST_EXPONENT = -700.0
"""Exponent below which the exponential is 0; doubles end near -745."""


def new_powers(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return working space for powers of two, shape (size,), as integers and as floats of the same memory."""
    powers = np.empty(size, np.int64)
    return powers, powers.view(np.float64)


@njit(inline="always")
def _reduced(exponent):
    """Return the number of halvings and the remainder of an exponent, and the exponential of the remainder."""
    halvings = np.floor(exponent * LOG2_E + 0.5)
    r = (exponent - halvings * LN2_HIGH) - halvings * LN2_LOW
    series = 1.0 / 6227020800.0
    series = series * r + 1.0 / 479001600.0
    series = series * r + 1.0 / 39916800.0
    series = series * r + 1.0 / 3628800.0
    series = series * r + 1.0 / 362880.0
    series = series * r + 1.0 / 40320.0
    series = series * r + 1.0 / 5040.0
    series = series * r + 1.0 / 720.0
    series = series * r + 1.0 / 120.0
    series = series * r + 1.0 / 24.0
    series = series * r + 1.0 / 6.0
    series = series * r + 0.5
    series = series * r + 1.0
    series = series * r + 1.0
    return halvings, series


@inner_kernel
def _exponentiate(row, largest, inverse_temperature, out, powers, power_values):
    """Write exp((row - largest) * inverse_temperature) into out (C,).

    powers (C,) is working space for integers, and power_values (C,) is the same memory as floats.
    """
    for c in range(len(row)):
        exponent = max((row[c] - largest) * inverse_temperature, SMALLEST_EXPONENT)
        halvings, series = _reduced(exponent)
        powers[c] = (np.int64(halvings) + 1023) << 52
        out[c] = series
    for c in range(len(row)):
        out[c] *= power_values[c]
    for c in range(len(row)):
        if (row[c] - largest) * inverse_temperature < SMALLEST_EXPONENT:
            out[c] = 0.0


@inner_kernel
def _sum_of(values):
    """Return the sum of values (C,), from four partial sums."""
    a = 0.0
    b = 0.0
    c = 0.0
    d = 0.0
    stop = len(values) - len(values) % 4
    for i in range(0, stop, 4):
        a += values[i]
        b += values[i + 1]
        c += values[i + 2]
        d += values[i + 3]
    for i in range(stop, len(values)):
        a += values[i]
    return (a + b) + (c + d)


@kernel
def fill_probabilities(logits, inverse_temperature, probabilities, largest, sums, powers, power_values):
    """Write the softmax of logits (B, C) times the inverse temperature into probabilities (B, C).

    The largest logit and the sum of the exponentials of each row are written into largest (B,) and sums (B,). powers
    and power_values are working space; see `new_powers`.
    """
    n_classes = logits.shape[1]
    for i in range(len(logits)):
        largest[i] = logits[i, 0]
        for c in range(1, n_classes):
            largest[i] = max(largest[i], logits[i, c])
        _exponentiate(logits[i], largest[i], inverse_temperature, probabilities[i], powers, power_values)
        sums[i] = _sum_of(probabilities[i])
        for c in range(n_classes):
            probabilities[i, c] /= sums[i]


@kernel
def fill_entropies(logits, inverse_temperature, entropies, exponentials_of_row, terms, powers, power_values):
    """Write the entropy in nats of the softmax of each row of logits (B, C) into entropies (B,).

    exponentials_of_row (C,), terms (C,), powers and power_values are working space; see `new_powers`.
    """
    n_classes = logits.shape[1]
    for i in range(len(logits)):
        largest = logits[i, 0]
        for c in range(1, n_classes):
            largest = max(largest, logits[i, c])
        _exponentiate(logits[i], largest, inverse_temperature, exponentials_of_row, powers, power_values)
        for c in range(n_classes):
            terms[c] = exponentials_of_row[c] * ((largest - logits[i, c]) * inverse_temperature)
        total = _sum_of(exponentials_of_row)
        entropies[i] = np.log(total) + _sum_of(terms) / total


@kernel
def exponentials(exponents, out, powers, power_values):
    """Write the exponential of exponents of at most 0, shape (M,), into out (M,), with the bits of the softmax.

    powers and power_values are working space; see `new_powers`.
    """
    _exponentiate(exponents, 0.0, 1.0, out, powers, power_values)


@kernel
def add_mass(probabilities, first_sample, entries, samples, labels, weights, fit, first_class, last_class, mass):
    """Add the weighted probabilities of entries to the sums by fold and target class, mass (J, K, C).

    The entries are in the order of their labels, so that the sums of one target class stay in the processor's cache.

    Args:
        probabilities: Softmax of B samples, shape (B, C).
        first_sample: Number of the first of these samples.
        entries: Numbers of the entries of these samples, shape (M,).
        samples: Sample of each entry, shape (E,).
        labels: Target class of each entry, shape (E,).
        weights: Weight of each entry, shape (E,).
        fit: True for those of these samples that each fold is fitted on, shape (B, J).
        first_class: First source class to add.
        last_class: Source class to stop before.
        mass: Sums by fold, target class and source class.
    """
    for entry in entries:
        sample = samples[entry]
        row = probabilities[sample - first_sample, first_class:last_class]
        weight = weights[entry]
        for j in range(fit.shape[1]):
            if fit[sample - first_sample, j]:
                sums = mass[j, labels[entry], first_class:last_class]
                for c in range(len(sums)):
                    sums[c] += weight * row[c]


@inner_kernel
def _dot(left, right):
    """Return the sum of products of left (C,) and right (C,), from four partial sums."""
    a = 0.0
    b = 0.0
    c = 0.0
    d = 0.0
    stop = len(left) - len(left) % 4
    for i in range(0, stop, 4):
        a += left[i] * right[i]
        b += left[i + 1] * right[i + 1]
        c += left[i + 2] * right[i + 2]
        d += left[i + 3] * right[i + 3]
    for i in range(stop, len(left)):
        a += left[i] * right[i]
    return (a + b) + (c + d)


@kernel
def add_log_losses(probabilities, first_sample, entries, samples, labels, shares, test, conditional, errors):
    """Add minus the log-probability of the labels of tested samples to their errors (J, N).

    Args:
        probabilities: Softmax of B samples, shape (B, C).
        first_sample: Number of the first of these samples.
        entries: Numbers of the entries of these samples, in the order of their labels, shape (M,).
        samples: Sample of each entry, shape (E,).
        labels: Target class of each entry, shape (E,).
        shares: Share of each entry in the weight of its sample, shape (E,).
        test: True for those of these samples that each fold is tested on, shape (J, B).
        conditional: Probability of each target class given each source class in each fold, shape (J, K, C).
        errors: Errors of the samples in each fold.
    """
    for entry in entries:
        sample = samples[entry]
        for j in range(len(test)):
            if test[j, sample - first_sample]:
                predicted = _dot(probabilities[sample - first_sample], conditional[j, labels[entry]])
                errors[j, sample] -= shares[entry] * np.log(predicted)


@kernel
def add_slopes(probabilities, first_sample, entries, samples, labels, weights, conditional, slopes):
    """Add the derivative of the mean log-probability of the labels by each conditional probability to slopes (K, C).

    The conditional probabilities have shape (K, C), and the other arguments are those of `add_mass`.
    """
    for entry in entries:
        row = probabilities[samples[entry] - first_sample]
        share = weights[entry] / _dot(row, conditional[labels[entry]])
        for c in range(len(row)):
            slopes[labels[entry], c] += share * row[c]


@kernel
def add_products(probabilities, first_sample, entries, samples, labels, shares, table, sums):
    """Add the products of each sample's probabilities with the rows of its labels in a table (K, C) to sums (N,).

    The other arguments are those of `add_slopes`, with the share of each entry in the weight of its sample.
    """
    for entry in entries:
        row = probabilities[samples[entry] - first_sample]
        sums[samples[entry]] += shares[entry] * _dot(row, table[labels[entry]])
