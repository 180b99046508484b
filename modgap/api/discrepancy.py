"""The discrepancy of a source and a target, from arrays, from their names, or from a file of logits.

All three public functions get the logits first, and then estimate the discrepancy from them in
`_estimate_from_logits`. Only `measure` has the source itself, so only it can compare with random-weights controls.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict, Unpack

from modgap.api.arguments import public_function
from modgap.api.opening import open_source, target_request
from modgap.discrepancy.control import compare_with_controls
from modgap.discrepancy.displayed import DiscrepancyResult
from modgap.discrepancy.estimate import ESTIMATORS, held_out_samples
from modgap.discrepancy.estimate import estimate as estimate_discrepancy
from modgap.discrepancy.labeled_samples import equal_group_rows
from modgap.discrepancy.repeated_rows import groups_with_copies, remarks_on_copies
from modgap.errors import Progress, UsageError, check_minimum, count, format_duration
from modgap.forward.logits import LogitsRequest, SourceLogits, logits_of_arrays, read_logits_file, source_logits
from modgap.forward.sample_request import SampleRequest
from modgap.sources import open_control
from modgap.sources.source import control_name, is_control
from modgap.targets import CustomData

CONTROL_STAGES = ("soft", "held-out search")
"""Stages of the estimation that are repeated for each control, as `Discrepancy.seconds` names them."""

log = logging.getLogger("modgap")


class EstimateOptions(TypedDict, total=False):
    """Further keyword arguments of `modgap.measure`: those of `modgap.discrepancy.estimate` that need no samples."""

    weight: str | None
    splits: int
    per_class: int | None
    permutations: int
    permutations_for: str
    permutations_by: str
    trials: int
    spread: int
    classes: int | None
    measures: Sequence[str]
    temperature: float
    threads: int | None


class SeededOptions(EstimateOptions, total=False):
    """Further keyword arguments of `modgap.estimate`: those of `modgap.measure`, and the seed."""

    seed: int


@public_function
def estimate(
    logits: Any,
    labels: Any,
    *,
    groups: Any = None,
    source_classes: Sequence[str] = (),
    target_classes: Sequence[str] = (),
    source: str | None = None,
    target: str = "your logits",
    estimators: str | Sequence[str] | None = None,
    per_group: int | None = None,
    progress: Progress | None = None,
    **options: Unpack[SeededOptions],
) -> DiscrepancyResult:
    """Estimate the modality knowledge discrepancy from logits and labels that you have already.

    Args:
        logits: Source logits of the target's samples, shape (N, C): a NumPy array, memory map, nested list, pandas
            object or torch tensor. pandas objects among logits, labels and groups are aligned by their index; arrays
            without an index belong together by position. Masked values are refused.
        labels: Target labels of shape (N,): integers, whole floats, strings, booleans or categories; or 0/1 labels of
            shape (N, K). Classes are numbered from 0 in sorted order and keep their names.
        groups: Record, subject or field of each sample, shape (N,); None if samples are independent.
        source_classes: Names of the C source classes; empty to show their numbers.
        target_classes: Names of the classes. If labels are numbers, these are the names of 0, 1, 2, ..., including
            those that no sample has; for 0/1 labels, the names of the K columns. Empty to show the labels as they are.
        source: Name of the source to show; None if it has no name.
        target: Name of the target to show.
        estimators: One name or several of `montecarlo`, `search` and `soft`; None for all.
        per_group: Number of samples to use of each group, so that the permutation test is exact if the size of a group
            depends on its class; None for all samples.
        progress: Called with the name of a stage and the share of its work done since the last call.
        options: Further keyword arguments of `modgap.discrepancy.estimate`, such as `seed`, `weight`, `per_class` or
            `permutations`.

    Returns:
        The result. It prints as the command does, `result["search"]` is one estimate, and `.to_frame()`, `.to_dict()`
        and `.plot()` convert it.

    Raises:
        InputError: If logits, labels or groups cannot be used. The message says what is wrong and where.
        UsageError: If a number is out of range or a name is unknown.

    References:
        MoNA (ICML 2024), Definition 2.1 and Algorithm 2.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> labels = np.repeat(["rest", "walk", "run"], 40)
        >>> logits = rng.standard_normal((120, 200))
        >>> logits[np.arange(120), np.repeat([5, 6, 7], 40)] += 3
        >>> result = estimate(logits, labels, estimators="search", permutations=0)
        >>> round(result["search"].held_out, 2), result.best_map()
        (0.02, [('rest', '5'), ('run', '7'), ('walk', '6')])
    """
    arrays = {"logits": logits, "labels": labels, "groups": groups}
    logits_in_memory = logits_of_arrays(arrays, source_classes, target_classes, {"logits": "in memory"})
    chosen = _draw_per_group(logits_in_memory, per_group, options.get("seed", 0))
    return _estimate_from_logits(source, target, chosen, estimators, progress, options)


@public_function
def measure(
    source: str,
    target: str | Path | tuple[Any, Any],
    *,
    split: str | None = None,
    limit: int | None = None,
    input_size: int | None = None,
    representation: str | None = None,
    dtype: str = "float32",
    device: str = "auto",
    batch_size: int | None = None,
    loader_workers: int | None = None,
    head: str = "own",
    embedder: str | Path | None = None,
    weights: str | None = None,
    custom_data: CustomData | Mapping[str, str] | None = None,
    data_dir: str | Path | None = None,
    pseudo_classes: int | None = None,
    estimators: str | Sequence[str] | None = None,
    per_group: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    control: int = 0,
    **options: Unpack[EstimateOptions],
) -> DiscrepancyResult:
    """Measure how far a source model's knowledge is from target data, as `modgap discrepancy` does.

    Args:
        source: Name of the source, as for `modgap.open_source`.
        target: Name or path of the target, or a pair (x, y) of arrays, as for `modgap.open_target`.
        split: `all`, `train`, `val` or `test`; None for all samples.
        limit: Largest number of samples, drawn in proportion to the classes; None for all.
        input_size: Height and width of the source's input in pixels; None for the source's default.
        representation: How time series and audio are turned into model input; None for the manifest's choice.
        dtype: `float32`, or `bfloat16` or `float16` for mixed precision; `auto` for `bfloat16` on a CUDA GPU that has
            it, and `float32` elsewhere.
        device: `auto`, `cpu`, `cuda` or `mps`.
        batch_size: Number of samples in a batch; None for an automatic choice.
        loader_workers: Number of processes that read and prepare samples ahead of the model; 0 for a thread, None for
            an automatic choice.
        head: `own` for the source's head, or `probe:SURROGATE` to fit a linear probe for a bare encoder.
        embedder: Folder of a run whose embedder replaces the source's embedder; None for the source's.
        weights: File or folder to take the source's weights from; None for the source's default weights.
        custom_data: Description of custom data, or its fields as a mapping such as `{"label_column": "rhythm"}`.
        data_dir: Data directory that holds the files of the target's manifest; None for the default one.
        pseudo_classes: Number of clusters of the values of a regression target, which serve as its classes; None for
            the manifest's.
        estimators: One name or several of `montecarlo`, `search` and `soft`; None for all.
        per_group: Number of samples to use of each group, so that the permutation test is exact if the size of a group
            depends on its class; None for all samples.
        seed: Seed of every random draw.
        progress: Called with the name of a stage and the share of its work done since the last call.
        control: Number of random-weights controls of the source to compare it with, on the same samples and splits; 0
            for none. Fewer than 3 do not show whether pretraining helps.
        options: Further keyword arguments of `modgap.discrepancy.estimate`, such as `weight` or `permutations`.

    Returns:
        The result, as that of `modgap.estimate`. `result.result.control` is the comparison with the controls.

    Raises:
        InputError: If the source, the target or their combination cannot be used.
        UsageError: If a number is out of range or a name is unknown.

    Example:
        >>> result = measure("vit-fashion", "digits", limit=300, estimators="search", permutations=0)
        >>> result.result.n_samples, result["search"].held_out < result.result.chance
        (300, True)
    """
    check_minimum("control", control, 0)
    samples = SampleRequest(split, limit, seed, input_size, representation, dtype, device, batch_size, loader_workers)
    request = LogitsRequest(samples, head=head, compared=options.get("classes"))
    settings: SeededOptions = {**options, "seed": seed}
    requested = target_request(target, custom_data, data_dir, pseudo_classes)
    handle = open_source(source, weights=weights)
    data = requested.open()
    trained_embedder = None
    if embedder:
        from modgap.training.adapted_embedder import run_embedder

        # The run was trained on the target's values, and does not depend on how they are clustered.
        unclustered = replace(requested, pseudo_classes=None).open() if pseudo_classes else data
        if representation:
            raise UsageError(
                "`representation` does not apply to the embedder of a run. It applies only to the source's embedder. "
                "Remove `representation` or `embedder`."
            )
        trained_embedder = run_embedder(embedder, source, handle, requested.name, unclustered, input_size=input_size)
    if control and (embedder or is_control(source)):
        what = "the embedder of a run" if embedder else f"{source}, which has random weights itself"
        raise UsageError(f"`control` does not apply to {what}. Leave it out.")
    logits = _draw_per_group(source_logits(handle, data, request, progress, trained_embedder), per_group, seed)
    result = _estimate_from_logits(source, requested.name, logits, estimators, progress, settings)
    # Elsewhere the record has only what these options led to, of which the command cannot be made again.
    named = {"weights": weights, "data_dir": data_dir, "pseudo_classes": pseudo_classes}
    named |= {"representation": representation, "per_group": per_group, "dtype": None if dtype == "float32" else dtype}
    given = {option: str(value) for option, value in named.items() if value is not None}
    result = replace(result, provenance={**result.provenance, "options": given})
    tested = result.result.tested_samples
    if control and (tested is None or result.result.best_estimator not in tested.errors):
        log.warning(
            "Nothing was compared with random weights, because the maps were not tested on other samples. That needs "
            "the estimator search or soft, at least one split, and no more target classes than source classes."
        )
        return result
    if not control:
        return result
    seconds = sum(result.result.seconds.get(stage, 0.0) for stage in CONTROL_STAGES)
    # Logits from the cache do not show how long the network takes. In this case the first control shows it.
    _announce_controls(control, logits, seconds)
    control_logits = [source_logits(open_control(source, seed=0), data, request, progress)]
    if logits.cached:
        _announce_controls(control - 1, control_logits[0], seconds)
    control_logits += [source_logits(open_control(source, seed), data, request, progress) for seed in range(1, control)]
    return _with_control(result, logits, [_draw_per_group(one, per_group, seed) for one in control_logits], settings)


def measure_logits_file(
    path: str,
    *,
    estimators: str | Sequence[str] | None = None,
    per_group: int | None = None,
    progress: Progress | None = None,
    **options: Unpack[SeededOptions],
) -> DiscrepancyResult:
    """Measure the modality knowledge discrepancy from a file of logits and labels.

    Args:
        path: File to read, see `modgap.forward.logits.read_logits_file`.
        estimators: One name or several of `montecarlo`, `search` and `soft`; None for all.
        per_group: Number of samples to use of each group; None for all samples.
        progress: Called with the name of a stage and the share of its work done since the last call.
        options: Further keyword arguments of `modgap.discrepancy.estimate`.

    Raises:
        InputError: If the file cannot be read, or its logits and labels cannot be used.
    """
    logits = _draw_per_group(read_logits_file(path), per_group, options.get("seed", 0))
    return _estimate_from_logits(None, path, logits, estimators, progress, options)


def _draw_per_group(logits: SourceLogits, per_group: int | None, seed: int) -> SourceLogits:
    """Return the logits of `per_group` samples of each group, drawn at random; those of all samples for None."""
    if per_group is None:
        return logits
    return logits.subset(equal_group_rows(logits.groups, per_group, seed))


def _estimate_from_logits(
    source: str | None,
    target: str,
    logits: SourceLogits,
    estimators: str | Sequence[str] | None,
    progress: Progress | None,
    options: SeededOptions,
) -> DiscrepancyResult:
    """Estimate the discrepancy, with copies of a sample in one group, and warn if there are samples of equal logits.

    Args:
        source: Name of the source to show; None if it has no name.
        target: Name of the target to show.
        logits: Logits, labels and groups.
        estimators: One name or several; None for all.
        progress: Called with the name of a stage and the share of its work done since the last call.
        options: Further keyword arguments of `modgap.discrepancy.estimate`.
    """
    copies = groups_with_copies(logits.logits, logits.labels, logits.groups)
    result = estimate_discrepancy(
        logits.logits,
        logits.labels,
        groups=logits.groups,
        merged_groups=copies.merged_groups,
        estimators=[estimators] if isinstance(estimators, str) else ESTIMATORS if estimators is None else estimators,
        progress=progress,
        **options,
    )
    result = replace(result, n_repeated=copies.n_samples, n_copies=copies.n_merged)
    if copies.n_samples:
        log.warning(" ".join(remarks_on_copies(copies.n_samples, copies.n_merged, result.n_samples)))
    return DiscrepancyResult(
        source=source,
        target=target,
        result=result,
        source_classes=logits.source_classes,
        target_classes=logits.target_classes,
        provenance=logits.provenance,
        logits_seconds=logits.seconds,
        sample_ids=logits.rows,
    )


def _announce_controls(n_controls: int, logits: SourceLogits, seconds: float) -> None:
    """Log how long random-weights controls are expected to take, unless `logits` come from the cache.

    Args:
        n_controls: Number of controls that are still to run.
        logits: Logits of a network of the same architecture, whose time is that of a control.
        seconds: Expected time of the held-out errors of one control, in seconds.
    """
    if n_controls and not logits.cached:
        expected = format_duration(n_controls * (logits.seconds + seconds))
        log.info("%s: about %s, or less if the cache has some.", count(n_controls, "random-weights control"), expected)


def _with_control(
    result: DiscrepancyResult, logits: SourceLogits, control_logits: Sequence[SourceLogits], options: Mapping[str, Any]
) -> DiscrepancyResult:
    """Return the result with its comparison with random-weights controls on the same samples and splits.

    The copies of samples are those among the source's logits, also for the controls, so that the splits are the same.

    Args:
        result: Result of the source.
        logits: Logits of the source.
        control_logits: Logits of each control, for the same samples in the same order.
        options: Keyword arguments of `modgap.discrepancy.estimate` with which the result was estimated.
    """
    tested, estimator = result.result.tested_samples, result.result.best_estimator
    assert tested is not None
    assert estimator is not None
    chosen = {name: options[name] for name in ("weight", "splits", "per_class", "seed", "threads") if name in options}
    merged = groups_with_copies(logits.logits, logits.labels, logits.groups).merged_groups
    # The search of the source starts from the soft maps if there are any. The search of a control has to do the same.
    # `soft-matched` comes with `soft`.
    computed = {estimator.split("-")[0], *result.result.estimates}
    estimators = [name for name in ("search", "soft") if name in computed]
    chosen |= {"groups": logits.groups, "merged_groups": merged, "estimators": estimators}
    errors = [held_out_samples(one.logits, one.labels, **chosen) for one in control_logits]
    name, compared = control_name(result.source or ""), [one for one in errors if one is not None]
    control = compare_with_controls(tested, compared, name, estimator)
    return replace(result, result=replace(result.result, control=control))
