"""Estimation of the modality knowledge discrepancy from logits and labels."""

import os
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from modgap.discrepancy.distances import validate_measures
from modgap.discrepancy.estimator_chain import ESTIMATORS, EstimatorInputs, warm_up
from modgap.discrepancy.inference import Inference, MeasureInputs
from modgap.discrepancy.input_checks import validate_groups, validate_labels, validate_logits
from modgap.discrepancy.kway import k_way, validate_k_way
from modgap.discrepancy.result import Bounds, Discrepancy
from modgap.errors import UsageError, unknown_name
from modgap.label_space import validate_class_count
from modgap.progress import Progress

__all__ = ["estimate"]

LARGEST_NUMBER = 1 << 62


def estimate(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    estimators: Sequence[str] = ESTIMATORS,
    trials: int = 100_000,
    subsets: int = 1000,
    restarts: int = 1,
    null: int = 19,
    bootstrap: int = 1000,
    spread: int = 4,
    bound_seconds: float = 0.0,
    classes: int | None = None,
    balanced: bool = False,
    measures: Sequence[str] = (),
    temperature: float = 1.0,
    seed: int = 0,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Discrepancy:
    """Estimate the modality knowledge discrepancy (Definition 2.1) from source logits on target samples.

    By default, everything that is needed to interpret a value is computed: the null distribution (19 permutations,
    the fewest that can give p = 0.05), the held-out value with its interval, and the spread of the Monte-Carlo
    minimum. These cost about 20, 1 and 4 times the estimate itself. Long computations are announced before they run.

    Args:
        logits: Finite source logits, shape (N, C); they may be memory-mapped.
        labels: Target labels 0..K-1 of shape (N,), each class at least once, with K <= C; or 0/1 labels of shape
            (N, K) with one or more ones in a row.
        groups: Record, subject or field that each sample comes from, shape (N,). Samples of one group are not
            independent, so halves, permutations and intervals keep them together. None if samples are independent.
        estimators: Names of estimators: `montecarlo`, `assignment` and `search`. Each starts from those before it.
        trials: Number of random maps of the Monte-Carlo estimator.
        subsets: Number of random subsets of source classes of the assignment estimator.
        restarts: Number of restarts of the search.
        null: Number of permutations of the labels; 0 for no null distribution.
        bootstrap: Number of resamples of the held-out interval for grouped, multi-label or balanced data; 0 for no
            interval. Other data get Wilson's interval, which needs no resamples.
        spread: Number of further seeds of the Monte-Carlo trials; 0 for no spread.
        bound_seconds: Time limit in seconds for the certified lower bound, and the same again for the lower bound
            with permuted labels; 0 for neither. How high the bounds get depends on the machine.
        classes: Number k of target classes to compare at a time, in random choices of them; this allows K > C. None
            to compare only all classes.
        balanced: Return means over classes instead of means over samples, for long-tailed classes.
        measures: Further distance measures to compute at each solution's map, see `map_discrepancy`.
        temperature: Temperature of the softmax that these measures use.
        seed: Seed of every random draw.
        threads: Number of worker threads; None for one for each core. It does not change the result.
        progress: Called with the name of a stage and the share of its work done since the last call.

    Returns:
        The estimates with the chance level, null distributions and held-out values.

    Raises:
        InputError: If logits, labels or groups are not as described.
        UsageError: If a number is out of range or a name is unknown.

    References:
        MoNA (ICML 2024), Definition 2.1, equations (10) and (11), Algorithm 2.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> labels = np.repeat([0, 1, 2], 40)
        >>> logits = rng.standard_normal((120, 200)).astype("float32")
        >>> logits[np.arange(120), labels + 5] += 3
        >>> result = estimate(logits, labels, null=9)
        >>> {name: round(estimate.held_out, 3) for name, estimate in result.estimates.items()}
        {'montecarlo': 0.233, 'assignment': 0.233, 'search': 0.017}
        >>> result.estimates["search"].solution.map
        (5, 6, 7)
    """
    _validate_numbers(
        trials=(trials, 1),
        subsets=(subsets, 0),
        restarts=(restarts, 0),
        null=(null, 0),
        bootstrap=(bootstrap, 0),
        spread=(spread, 0),
        bound_seconds=(bound_seconds, 0),
        seed=(seed, 0),
        classes=(classes, 2),
        threads=(threads, 1),
    )
    names = _validate_estimators(estimators)
    validate_measures(measures, temperature)
    array = validate_logits(logits)
    space = validate_labels(labels, len(array))
    if classes is not None:
        validate_k_way(space, classes, array.shape[1])
    group_numbers = None if groups is None else validate_groups(groups, len(array))[space.rows]
    if classes is None or classes > space.n_classes:
        validate_class_count(space.n_classes, array.shape[1])
    n_threads = threads or os.cpu_count() or 1
    inputs = EstimatorInputs(array, group_numbers, names, space.n_classes, trials, subsets, restarts, seed, n_threads)
    used_space = space.balanced() if balanced else space
    has_injective_map = space.n_classes <= array.shape[1]
    _warm_up_kernels(inputs, used_space.weights, classes)
    measure_inputs = MeasureInputs(np.asarray(logits), space, used_space.sample_weights, measures, temperature)
    inference = Inference(inputs, used_space, measure_inputs, null, bootstrap, spread, progress)
    seconds: dict[str, float] = {}
    estimates = inference.estimates(seconds) if has_injective_map else {}
    bounds = inference.bounds(bound_seconds, seconds) if has_injective_map else Bounds(None, None, None, None)
    return Discrepancy(
        n_samples=len(space),
        n_groups=None if group_numbers is None else len(np.unique(group_numbers)),
        n_source_classes=array.shape[1],
        n_target_classes=space.n_classes,
        n_unlabeled=len(array) - len(space),
        n_untested=len(space) - inference.n_tested,
        chance=1 - 1 / space.n_classes,
        prior=float(1 - used_space.class_shares.max()),
        floor=used_space.floor,
        balanced=balanced,
        estimates=estimates,
        bounds=bounds,
        k_way=k_way(inputs, space, classes, seconds=seconds) if classes else None,
        seed=seed,
        seconds=seconds,
        held_out_confusion=inference.held_out_confusion,
    )


def _warm_up_kernels(inputs: EstimatorInputs, weights: np.ndarray | None, classes: int | None) -> None:
    """Compile the kernels for all target classes, if there is an injective map, and for `classes` of them."""
    if inputs.n_classes <= inputs.logits.shape[1]:
        warm_up(inputs, weights)
    if classes is not None:
        warm_up(replace(inputs, n_classes=classes), None)


def _validate_estimators(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of estimators in the order in which they run."""
    for name in names:
        if name not in ESTIMATORS:
            raise unknown_name("estimator", name, ESTIMATORS)
    if not names:
        raise UsageError(f"There is no estimator. Expected at least one of {', '.join(ESTIMATORS)}.")
    return tuple(name for name in ESTIMATORS if name in names)


def _validate_numbers(**limits: tuple[float | None, float]) -> None:
    """Raise a UsageError for the first number that is below its minimum or too large; each is (value, minimum)."""
    for name, (value, minimum) in limits.items():
        if value is not None and not value >= minimum:
            raise UsageError(f"{name} is {value}. Expected a number of at least {minimum}.")
        if value is not None and value >= LARGEST_NUMBER:
            raise UsageError(f"{name} is {value}. Expected a number below 2**62.")
