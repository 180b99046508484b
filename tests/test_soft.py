"""Soft discrepancy, cross-validated LEEP and the matched temperature, against naive code."""

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from scipy.special import log_softmax, softmax

from modgap.discrepancy import label_space
from modgap.discrepancy import probabilities as probabilities_module
from modgap.discrepancy import soft as soft_module
from modgap.discrepancy import threads as threads_module
from modgap.discrepancy.kernels.softmax import exponentials, new_powers
from modgap.discrepancy.probabilities import Probabilities, matched_temperature
from modgap.discrepancy.soft import Labeling, mass_matrices, soft_errors, soft_maps_and_leep_errors, soft_value
from modgap.errors import InputError
from modgap.statistics.splits import repeated_halves
from modgap.statistics.weights import entry_weights

N_PROBLEMS = 500


def random_problem(seed):
    """Return logits, the 0/1 or class labels, groups or None, and what counts equally."""
    rng = np.random.default_rng(seed)
    k = int(rng.integers(2, 6))
    n = int(rng.integers(4 * k, 60))
    labels = rng.permutation(np.concatenate([np.repeat(np.arange(k), 2), rng.integers(0, k, n - 2 * k)]))
    logits = rng.standard_normal((n, int(rng.integers(k, 30)))) * rng.choice([0.1, 1, 5])
    table = labels
    if seed % 4 == 1:
        table = np.eye(k, dtype=int)[labels] | (rng.random((n, k)) < 0.2)
    groups = np.unique(rng.integers(0, 12, n), return_inverse=True)[1] if seed % 3 == 1 else None
    return logits, table, groups, ("samples", "groups", "classes")[seed % 3]


def labeling_of(table, groups, weighting, n_repeats=2):
    space = label_space(table)
    weights = entry_weights(space, groups, weighting)
    return Labeling(space, weights, repeated_halves(space, groups, n_repeats, 5))


def naive_soft_errors(theta, labeling):
    """Return the soft errors (J, N) and the value, one sample at a time."""
    space, splits = labeling.space, labeling.splits
    errors = np.zeros(splits.test.shape)
    averages = []
    sample_weights = np.zeros(len(space))
    for entry, sample in enumerate(space.entry_samples):
        sample_weights[sample] += labeling.weights[entry]
    for fold in range(len(splits)):
        mass = np.zeros((space.n_classes, theta.shape[1]))
        for entry, sample in enumerate(space.entry_samples):
            if splits.fit[fold][sample]:
                mass[space.labels[entry]] += labeling.weights[entry] * theta[sample]
        chosen = linear_sum_assignment(mass, maximize=True)[1]
        for entry, sample in enumerate(space.entry_samples):
            if splits.test[fold][sample]:
                share = labeling.weights[entry] / sample_weights[sample]
                errors[fold, sample] += share * (1 - theta[sample, chosen[space.labels[entry]]])
    for repeat in range(splits.n_repeats):
        folds = splits.repeats == repeat
        tested = np.asarray(splits.test)[folds].any(axis=0)
        averages.append((errors[folds].sum(axis=0) * sample_weights).sum() / sample_weights[tested].sum())
    return errors, float(np.mean(averages))


def test_soft_errors_of_500_random_problems_are_those_of_a_loop():
    for seed in range(N_PROBLEMS):
        logits, table, groups, weighting = random_problem(seed)
        labeling = labeling_of(table, groups, weighting)
        errors, _ = soft_errors(Probabilities(logits, labeling.space.rows), labeling)
        expected, value = naive_soft_errors(softmax(logits, axis=1), labeling)
        np.testing.assert_allclose(errors, expected, atol=1e-12, err_msg=str(seed))
        assert soft_value(errors, labeling) == pytest.approx(value, abs=1e-12)


def test_leep_of_500_random_problems_is_that_of_a_loop():
    for seed in range(N_PROBLEMS):
        logits, table, groups, weighting = random_problem(seed)
        labeling = labeling_of(table, groups, weighting, 1)
        space, splits = labeling.space, labeling.splits
        theta = softmax(logits, axis=1)
        expected = np.zeros(splits.test.shape)
        for fold in range(len(splits)):
            counts = np.zeros((space.n_classes, theta.shape[1]))
            prior = np.zeros(space.n_classes)
            for entry, sample in enumerate(space.entry_samples):
                if splits.fit[fold][sample]:
                    counts[space.labels[entry]] += len(space) * labeling.weights[entry] * theta[sample]
                    prior[space.labels[entry]] += labeling.weights[entry]
            prior /= prior.sum()
            conditional = (counts + prior[:, None]) / (counts.sum(axis=0) + 1)
            np.testing.assert_allclose(conditional.sum(axis=0), 1)
            for entry, sample in enumerate(space.entry_samples):
                if splits.test[fold][sample]:
                    share = labeling.entry_shares[entry]
                    expected[fold, sample] -= share * np.log(conditional[space.labels[entry]] @ theta[sample])
        _, found = soft_maps_and_leep_errors(Probabilities(logits, space.rows), labeling)
        np.testing.assert_allclose(found, expected, atol=1e-10, err_msg=str(seed))


@pytest.mark.parametrize("is_kept", [True, False])
def test_threads_and_blocks_change_no_bit(monkeypatch, is_kept):
    logits, table, groups, weighting = random_problem(7)
    labeling = labeling_of(table, groups, weighting, 3)
    reference = Probabilities(logits, labeling.space.rows)
    mass = mass_matrices(reference, [labeling])[0]
    errors, maps = soft_errors(reference, labeling)
    _, leep = soft_maps_and_leep_errors(reference, labeling)
    if not is_kept:
        monkeypatch.setattr(probabilities_module, "KEPT_BYTES", 0)
        monkeypatch.setattr(probabilities_module, "BLOCK_BYTES", 8 * logits.shape[1] * 7)
        monkeypatch.setattr(probabilities_module, "SUMMED_BYTES", 8 * logits.shape[1] * 7)
        monkeypatch.setattr(threads_module, "RESIDENT_BYTES", logits.nbytes // 3)
        monkeypatch.setattr(soft_module, "MASS_SHARE", 0.0)
        monkeypatch.setattr(soft_module, "MASS_BYTES", 8 * labeling.space.n_classes * logits.shape[1])
    for threads in (1, 2, 4):
        probabilities = Probabilities(logits, labeling.space.rows, 1.0, threads)
        assert probabilities.is_kept == is_kept
        np.testing.assert_array_equal(mass_matrices(probabilities, [labeling])[0], mass)
        other, other_maps = soft_errors(probabilities, labeling)
        np.testing.assert_array_equal(other, errors)
        np.testing.assert_array_equal(other_maps, maps)
        together = soft_maps_and_leep_errors(probabilities, labeling)
        for found, expected in zip(together, (maps, leep), strict=True):
            np.testing.assert_array_equal(found, expected)
        assert probabilities.mean_entropy() == reference.mean_entropy()


def test_exponentials_agree_with_numpy_to_the_last_digits():
    exponents = -np.concatenate([np.linspace(0, 699, 100_001), np.geomspace(1e-300, 1, 1000), [705, 1e9, np.inf]])
    out = np.empty(len(exponents))
    exponentials(exponents, out, *new_powers(len(exponents)))
    np.testing.assert_allclose(out[:-3], np.exp(exponents[:-3]), rtol=4e-16)
    assert out[-3:].tolist() == [0, 0, 0]


@pytest.mark.parametrize("scale", [1e-3, 1, 1e3, 1e6])
def test_probabilities_and_entropy_are_those_of_scipy(scale):
    logits = scale * np.random.default_rng(0).standard_normal((40, 25))
    probabilities = Probabilities(logits, np.arange(40), 2.0)
    expected = softmax(logits / 2, axis=1)
    ((_, block),) = probabilities.blocks()
    np.testing.assert_allclose(block, expected, rtol=1e-9, atol=1e-300)
    entropies = -(expected * np.where(expected > 0, log_softmax(logits / 2, axis=1), 0)).sum(axis=1)
    assert probabilities.mean_entropy() == pytest.approx(entropies.mean(), abs=1e-9)
    classes = np.arange(40) % 25
    np.testing.assert_array_equal(probabilities.at(np.arange(40), classes), block[np.arange(40), classes])


@pytest.mark.parametrize("scale", [1e-4, 1, 1e4])
def test_the_matched_temperature_gives_half_of_log_k(scale):
    logits = scale * np.random.default_rng(0).standard_normal((60, 30))
    probabilities = Probabilities(logits, np.arange(60))
    temperature = matched_temperature(probabilities, 4)
    assert probabilities.mean_entropy(temperature) == pytest.approx(np.log(4) / 2, abs=1e-6)
    assert temperature == pytest.approx(scale * matched_temperature(Probabilities(logits / scale, np.arange(60)), 4))


def test_constant_logits_have_no_matched_temperature():
    for logits in (np.zeros((20, 5)), np.tile([1.0, 1.0, 0.0], (20, 1))):
        with pytest.raises(InputError, match="constant"):
            matched_temperature(Probabilities(logits, np.arange(20)), 2)


def test_a_uniform_source_has_the_soft_error_of_chance_among_its_own_classes():
    labeling = labeling_of(np.arange(40) % 4, None, "samples")
    errors, _ = soft_errors(Probabilities(np.zeros((40, 10)), np.arange(40)), labeling)
    assert soft_value(errors, labeling) == pytest.approx(0.9)
