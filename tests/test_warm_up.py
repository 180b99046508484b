"""The kernels that a problem needs are compiled before its stages are timed, and no others."""

from dataclasses import replace

import numpy as np
import pytest
from numba.core.registry import CPUDispatcher

from modgap.discrepancy.estimator_chain import HARD_ESTIMATORS, EstimatorInputs, run_chain, warm_up
from modgap.discrepancy.kernels import (
    annealing,
    predictions,
    random_maps,
    rank_index,
    rank_order,
    trials_by_bits,
    trials_by_columns,
)
from modgap.discrepancy.predictions import predicted_classes
from modgap.labels.label_space import label_space

MODULES = (
    annealing,
    predictions,
    random_maps,
    rank_index,
    rank_order,
    trials_by_bits,
    trials_by_columns,
)
KERNELS = {
    f"{module.__name__}.{name}": kernel
    for module in MODULES
    for name, kernel in vars(module).items()
    if isinstance(kernel, CPUDispatcher) and not name.startswith("_") and kernel.py_func.__module__ == module.__name__
}


def loaded():
    """Return the kernels that are compiled or loaded from the cache, with the types of their arguments."""
    return {(name, signature) for name, kernel in KERNELS.items() for signature in kernel.signatures}


@pytest.fixture
def nothing_loaded():
    for kernel in KERNELS.values():
        kernel._reset_overloads()
    assert not loaded()


def inputs_of(shape, trials, names=HARD_ESTIMATORS):
    n_samples, n_source_classes, n_classes = shape
    logits = np.random.default_rng(0).standard_normal((n_samples, n_source_classes), np.float32)
    logits.flags.writeable = False
    return EstimatorInputs(logits, names, n_classes, trials=trials)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("shape", "trials"),
    [((60, 300, 3), 50), ((90, 20, 4), 50), ((60, 120, 30), 2000), ((300, 70, 20), 50_000), ((40, 66_000, 3), 20)],
)
def test_the_chain_compiles_no_kernel_after_the_warm_up(nothing_loaded, shape, trials, weighted):
    inputs = inputs_of(shape, trials)
    space = label_space(np.arange(shape[0]) % shape[2])
    weights = None
    if weighted:
        weights = 1 + space.labels
        space = replace(space, weights=weights)
    warm_up(inputs, weights, weights)
    before = loaded()
    run_chain(inputs, space, weights)
    assert loaded() == before


@pytest.mark.parametrize("names", [("montecarlo",), ("search",)])
def test_the_warm_up_compiles_only_what_the_chain_uses(nothing_loaded, names):
    inputs = inputs_of((60, 300, 3), 50, names)
    space = label_space(np.arange(60) % 3)
    warm_up(inputs, None)
    before = loaded()
    for kernel in KERNELS.values():
        kernel._reset_overloads()
    run_chain(inputs, space)
    predicted_classes(inputs.logits, space.rows, np.arange(3))
    assert loaded() == before
