"""Estimation of the modality knowledge discrepancy from logits and labels."""

from collections.abc import Sequence
from dataclasses import replace
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from modgap.discrepancy.distances import validate_measures
from modgap.discrepancy.estimator_chain import HARD_ESTIMATORS, EstimatorInputs, timed, warm_up
from modgap.discrepancy.inference import (
    HeldOut,
    InferenceTask,
    compute_estimates,
    compute_held_out,
    tested_samples,
)
from modgap.discrepancy.input_checks import validate_labels, validate_logits
from modgap.discrepancy.kway import KWay, k_way, validate_k_way
from modgap.discrepancy.labeled_samples import LabeledSamples
from modgap.discrepancy.result import Discrepancy, TestedSamples
from modgap.discrepancy.soft import warm_up as warm_up_soft
from modgap.errors import Progress, UsageError, unknown_name
from modgap.labels.label_space import validate_class_count
from modgap.labels.user_arrays import number_groups
from modgap.process.resources import idle_cores
from modgap.statistics.intervals import estimate_log_mean
from modgap.statistics.permutations import PERMUTATIONS_BY
from modgap.statistics.weights import choose_weighting, integer_weights

ESTIMATORS = (*HARD_ESTIMATORS, "soft")
"""Names of the estimators."""
HELD_OUT = ("search", "soft")
"""Estimators that `held_out_samples` computes the errors of."""
PERMUTABLE = ("soft", "search", "montecarlo")
"""Estimators that a permutation test can be made with."""
LARGEST_NUMBER = 1 << 62
"""Number that whole numbers in the options have to be below."""


def estimate(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    merged_groups: ArrayLike | None = None,
    estimators: Sequence[str] = ESTIMATORS,
    weight: str | None = None,
    splits: int = 20,
    per_class: int | None = None,
    permutations: int = 99,
    permutations_for: str = "soft",
    permutations_by: str = "shuffle",
    trials: int = 100_000,
    spread: int = 0,
    classes: int | None = None,
    measures: Sequence[str] = (),
    temperature: float = 1.0,
    seed: int = 0,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Discrepancy:
    """Estimate the modality knowledge discrepancy (Definition 2.1) from source logits on target samples.

    By default, everything that is needed to interpret a value is computed: held-out errors over 20 repeated splits with
    their intervals, and a permutation test. Long computations are announced.

    Args:
        logits: Finite source logits, shape (N, C); they may be memory-mapped.
        labels: Target labels 0..K-1 of shape (N,); or 0/1 labels of shape (N, K), in which samples whose row has no
            one are left out. Each class has at least one sample, and K <= C unless `classes` is set.
        groups: Record, subject or field that each sample comes from, shape (N,). Samples of one group are not
            independent, so splits, permutations and intervals keep them together. None if samples are independent.
        merged_groups: Group of each sample, shape (N,), after merging the groups, or independent samples, that have
            copies of one sample, as `modgap.discrepancy.repeated_rows.groups_with_copies` finds them. Splits, shuffled
            labels and intervals keep these merged groups together, but `groups` still decide what counts equally. None
            if there are no copies. This function does not look for copies.
        estimators: Names of estimators: `montecarlo` and `search` of the 0-1 error, and `soft`. The search starts from
            the best random map.
        weight: What counts equally in an error: `samples`, `groups` or `classes`; None for groups where there are
            groups, else samples. `montecarlo` counts samples, as the paper does.
        splits: Number of repeated splits; 0 for no held-out errors.
        per_class: Number n of samples of each class that maps are fitted on, so that targets of different size are
            comparable; None to fit on halves.
        permutations: Largest number of permutations of the labels; 0 for no permutation test. The test stops at the
            tenth permuted value that is at or below the real one.
        permutations_for: Estimator that the test is made with: `soft`, over all splits, or over the first of them on
            large problems; or `search` or `montecarlo`, on one split.
        permutations_by: How labels move inside a group of several classes: `shuffle`, if its samples are exchangeable,
            or `shifts`, if they are in the order of time. The labels then move on by a random number of samples.
            Without groups, all samples are one sequence.
        trials: Number of random maps of the Monte-Carlo estimator.
        spread: Number of further seeds of the Monte-Carlo trials, which show how much its minimum varies.
        classes: Number k of target classes to compare at a time, in random choices of them; this allows K > C. None
            to compare only all classes.
        measures: Further distance measures to compute at each solution's map, see `map_discrepancy`.
        temperature: Temperature of the softmax that these measures use.
        seed: Seed of every random draw.
        threads: Number of worker threads; None for one for each idle core. It does not change the result.
        progress: Called with the name of a stage and the share of its work done since the last call.

    Returns:
        The estimates with chance level, permutation test and held-out values.

    Raises:
        InputError: If logits, labels or groups are not as described, or there are too few samples for `per_class`.
        UsageError: If a number is out of range or a name is unknown.

    References:
        MoNA (ICML 2024), Definition 2.1, equations (10) and (11), Algorithm 2.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> labels = np.repeat([0, 1, 2], 40)
        >>> logits = rng.standard_normal((120, 200)).astype("float32")
        >>> logits[np.arange(120), labels + 5] += 3
        >>> result = estimate(logits, labels, permutations=19)
        >>> round(result.estimates["search"].held_out, 3), result.null.p_value
        (0.017, 0.05)
        >>> result.estimates["search"].solution.map
        (5, 6, 7)
    """
    _validate_numbers(
        trials=(trials, 1),
        splits=(splits, 0),
        per_class=(per_class, 1),
        permutations=(permutations, 0),
        spread=(spread, 0),
        seed=(seed, 0),
        classes=(classes, 2),
        threads=(threads, 1),
    )
    names = _validate_estimators(estimators, permutations, permutations_for)
    validate_measures(measures, temperature)
    if permutations_by not in PERMUTATIONS_BY:
        raise unknown_name("kind of permutations", permutations_by, PERMUTATIONS_BY)
    array, labeled = _labeled_samples(logits, labels, groups, merged_groups, weight, classes, permutations_by)
    n_classes = labeled.space.n_classes
    inputs = EstimatorInputs(array, names, n_classes, trials, seed, threads or idle_cores())
    task = InferenceTask(
        inputs,
        # The softmax needs the values. `array` may have ranks in their place, in the same order.
        logits=np.asarray(logits),
        labeled=labeled,
        splits=splits,
        per_class=per_class,
        permutations=permutations,
        permutations_for=permutations_for,
        spread=spread,
        measures=measures,
        temperature=temperature,
        progress=progress,
    )
    _warm_up_kernels(task, classes)
    k_way_result = None
    if classes is not None:
        with timed(task.seconds, "k_way"):
            k_way_result = k_way(task.inputs, task.logits, task.labeled, classes, task.per_class)
    return _run_inference(task, k_way_result)


def held_out_samples(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    merged_groups: ArrayLike | None = None,
    estimators: Sequence[str] = ("search", "soft"),
    weight: str | None = None,
    splits: int = 20,
    per_class: int | None = None,
    seed: int = 0,
    threads: int | None = None,
    progress: Progress | None = None,
) -> TestedSamples | None:
    """Compute only the held-out error of each sample, such as for a paired comparison with another source.

    Args:
        logits: Finite source logits, shape (N, C).
        labels: Target labels, as for `estimate`.
        groups: Group of each sample, shape (N,); None if samples are independent.
        merged_groups: Group of each sample in which groups that share copies are merged, as for `estimate`.
        estimators: `search`, `soft` or both. `soft` brings `soft-matched` too, unless no temperature can be matched.
        weight: What counts equally in an error, as for `estimate`.
        splits: Number of repeated splits.
        per_class: Number of samples of each class that maps are fitted on; None to fit on halves.
        seed: Seed of the splits. Sources with the same samples, labels and seed have the same splits.
        threads: Number of worker threads; None for one for each idle core. It does not change the result.
        progress: Called with the name of a stage and the share of its work done since the last call.

    Returns:
        The tested samples with their errors; None if fewer than two classes have two samples or groups.

    Raises:
        InputError: If logits, labels or groups are not as for `estimate`.
        UsageError: If a number is out of range or a name is unknown.
    """
    _validate_numbers(splits=(splits, 1), per_class=(per_class, 1), seed=(seed, 0), threads=(threads, 1))
    names = _validate_estimators(estimators, 0, "soft", HELD_OUT)
    array, labeled = _labeled_samples(logits, labels, groups, merged_groups, weight)
    n_threads = threads or idle_cores()
    inputs = EstimatorInputs(array, names, labeled.space.n_classes, trials=1, seed=seed, threads=n_threads)
    task = InferenceTask(inputs, np.asarray(logits), labeled, splits, per_class, progress=progress)
    _warm_up_kernels(task, None)
    return tested_samples(task, compute_held_out(task))


def _labeled_samples(
    logits: ArrayLike,
    labels: ArrayLike,
    groups: ArrayLike | None,
    merged_groups: ArrayLike | None,
    weight: str | None,
    classes: int | None = None,
    permutations_by: str = "shuffle",
) -> tuple[np.ndarray, LabeledSamples]:
    """Return logits in float32 with the order of the user's, and the samples with a label, after checking the arrays.

    Args:
        logits: Source logits, shape (N, C).
        labels: Target labels.
        groups: Group of each sample, shape (N,), or None.
        merged_groups: Merged group of each sample, shape (N,), or None.
        weight: What counts equally in an error; None for the default.
        classes: Number of target classes to compare at a time, or None.
        permutations_by: How labels move inside a group of several classes.
    """
    array = validate_logits(logits)
    space = validate_labels(labels, len(array))
    if classes is not None:
        validate_k_way(space, classes, array.shape[1])
    group_numbers, merged_numbers = (
        None if one is None else number_groups(one, len(array))[space.rows] for one in (groups, merged_groups)
    )
    weighting = choose_weighting(weight or None, group_numbers)
    if classes is None:
        validate_class_count(space.n_classes, array.shape[1])
    return array, LabeledSamples(space, group_numbers, merged_numbers, weighting, permutations_by)


def _run_inference(task: InferenceTask, k_way_result: KWay | None) -> Discrepancy:
    """Run each step of the inference, and collect the results.

    With more target than source classes there is no injective map of all target classes. The result then has only the
    comparison of some classes at a time.

    Args:
        task: The task.
        k_way_result: Comparison of some target classes at a time; None if it was not requested.
    """
    labeled = task.labeled
    space = labeled.space
    n_source_classes = task.inputs.logits.shape[1]
    has_map = space.n_classes <= n_source_classes
    held_out = compute_held_out(task) if has_map else HeldOut()
    estimates, permuted_error = compute_estimates(task, held_out) if has_map else ({}, None)
    problem = task.problem
    n_tested_classes = len(problem.classes) if problem else 0
    entropy = task.probabilities.mean_entropy() if has_map and task.uses_soft else None
    leep = estimate_log_mean(held_out.leep) if held_out.leep else None
    return Discrepancy(
        n_samples=len(space),
        n_groups=None if labeled.groups is None else len(np.unique(labeled.groups)),
        n_source_classes=n_source_classes,
        n_target_classes=space.n_classes,
        n_tested_classes=n_tested_classes,
        n_unlabeled=len(task.inputs.logits) - len(space),
        n_untested=len(space) - (len(problem.samples) if problem else 0),
        weighting=labeled.weighting,
        splits=task.splits,
        per_class=task.per_class,
        chance=1 - 1 / (n_tested_classes or space.n_classes),
        prior=(problem.labeled if problem else labeled).prior,
        floor=space.floor,
        relative_entropy=None if entropy is None else entropy / float(np.log(n_source_classes)),
        matched_temperature=held_out.matched_temperature,
        leep=leep.value if leep else None,
        leep_interval=leep.interval if leep else None,
        permuted_error=permuted_error,
        permutations_for=task.permutations_for if task.permutations and problem and has_map else None,
        permutations_by=labeled.permutations_by,
        is_ordered=task.is_ordered,
        estimates=estimates,
        k_way=k_way_result,
        seed=task.inputs.seed,
        seconds=task.seconds,
        n_units=len(np.unique(problem.labeled.units)) if problem else None,
        held_out_confusion=held_out.confusion,
        tested_samples=tested_samples(task, held_out),
    )


def _warm_up_kernels(task: InferenceTask, classes: int | None) -> None:
    """Compile the kernels for all target classes, if there is an injective map, and for `classes` of them."""
    inputs = task.inputs
    warm_up_soft()
    if inputs.n_classes <= inputs.logits.shape[1]:
        warm_up(inputs, integer_weights(task.labeled.weights), task.space.weights)
    if classes is not None:
        warm_up(replace(inputs, n_classes=classes), None)


def _validate_estimators(
    names: Sequence[str], permutations: int, permutations_for: str, choices: tuple[str, ...] = ESTIMATORS
) -> tuple[str, ...]:
    """Return the names of estimators in the order of `ESTIMATORS`, after checking them and the permutation test.

    Args:
        names: Names of the requested estimators.
        permutations: Largest number of permutations; 0 for no permutation test.
        permutations_for: Estimator that the permutation test is made with.
        choices: Names that may be requested.

    Raises:
        UsageError: If a name is unknown or may not be requested, or the permutation test needs another estimator.
    """
    if isinstance(names, str):
        raise UsageError(f"`estimators` is the text {names!r}. Expected a list of names, such as [{names!r}].")
    for name in names:
        if name not in ESTIMATORS:
            raise unknown_name("estimator", name, choices)
        if name not in choices:
            raise UsageError(f"The estimator {name} has no errors of samples. Expected some of {', '.join(choices)}.")
    if not names:
        raise UsageError(f"There is no estimator. Expected at least one of {', '.join(choices)}.")
    if permutations_for not in PERMUTABLE:
        raise unknown_name("estimator for permutations", permutations_for, PERMUTABLE)
    if permutations and permutations_for not in (*names, "soft"):
        raise UsageError(
            f"`permutations_for` is {permutations_for}, which is not among the estimators. Add it to them."
        )
    return tuple(name for name in ESTIMATORS if name in names)


def _validate_numbers(**limits: tuple[Any, float]) -> None:
    """Raise a UsageError for the first number that is out of range or not whole.

    Args:
        limits: Value and minimum of each option, by name. The value None is always allowed.
    """
    for name, (value, minimum) in limits.items():
        is_whole = value is None or isinstance(value, Integral)
        if not is_whole:
            raise UsageError(f"`{name}` is {value!r}. Expected a number without a fraction.")
        if value is not None and not value >= minimum:
            raise UsageError(f"`{name}` is {value}. Expected a number of at least {minimum}.")
        if value is not None and value >= LARGEST_NUMBER:
            raise UsageError(f"`{name}` is {value}. Expected a number below 2**62.")
