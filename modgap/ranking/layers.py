"""Scores of several layers of each source from one pass, and a choice of a layer that is judged on other samples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from modgap.answers.formatting import format_p_value
from modgap.errors import InputError, visible_name
from modgap.forward.inference_setup import InferenceSetup, LogitsRequest, set_up_inference
from modgap.forward.pooled_layers import OUTPUT, PooledLayers, block_names
from modgap.jobs import Failure, hold_device, without_raising
from modgap.labels.label_space import LabelSpace, label_space
from modgap.ranking.check_sentences import join_names
from modgap.ranking.extraction import Extracted, outputs_key_content, sample_arrays, store_outputs
from modgap.ranking.jobs import ScoreResult, score_jobs
from modgap.ranking.plan import RankPlan
from modgap.ranking.score import Score
from modgap.ranking.scores import get_score
from modgap.ranking.source_outputs import CLASSIFICATION, KIND, load_source_outputs
from modgap.ranking.source_patterns import split_input_size
from modgap.ranking.stages import run_stage
from modgap.ranking.types import SOURCE, JobCounts, LayerChoice, LayerCurve, SourceRow
from modgap.sources import open_source
from modgap.statistics.intervals import SampleErrors, average_errors, estimate_mean
from modgap.statistics.multiple_comparisons import SIGNIFICANCE_LEVEL, holm
from modgap.statistics.paired import paired_difference
from modgap.statistics.splits import Splits, repeated_halves, testable_samples
from modgap.storage.algorithms import algorithm_versions
from modgap.storage.cache import CacheEntry, cache_key, find_cached, store
from modgap.targets import TargetRequest
from modgap.training.surrogate import SurrogateBatch

LAYERS_KIND = "layers"
"""Kind of the cache entries that name the outputs of each layer."""


LayerOutputs = tuple[LayerCurve, tuple[str, ...], bool]
"""Some layers of a source: a curve without scores, the keys of their features in the cache, and if all were there."""


class _BatchLayers(PooledLayers):
    """Pooled layers of a batch of the source's input."""

    def forward(self, batch: Any) -> Tensor:
        return super().forward(SurrogateBatch(batch))


@dataclass(frozen=True)
class LayersJob:
    """Pass of one source over the target's samples that keeps the features of several layers.

    Attributes:
        source: Name of the source.
        target: The target as the user names it, with absolute paths.
        request: Samples, input size and device; no head is needed.
        numbers: Numbers of the layers; empty for all.
    """

    source: str
    target: TargetRequest
    request: LogitsRequest
    numbers: tuple[int, ...]

    @without_raising
    def __call__(self) -> LayerOutputs:
        """Return the references to the features, or the reason why there are none."""
        with hold_device(self.request.samples.device) as device:
            outputs = self._extract(device)
            assert outputs is not None
            return outputs

    def load_cached(self) -> LayerOutputs | None:
        """Return the references to the features if all are in the cache, which needs no device; None if not."""
        try:
            return self._extract(None)
        except Exception:  # Without weights or data it is not known what would be in the cache.
            return None

    def _extract(self, device: str | None) -> LayerOutputs | None:
        """Return the features of some layers, from the cache or from one pass on a device that keeps all layers.

        Without a device they are None if they are not in the cache.
        """
        target = self.target.open()
        name, size = split_input_size(self.source)
        size = size or self.request.samples.input_size
        samples = replace(self.request.samples, device=device or "cpu", input_size=size)
        request = replace(self.request, samples=samples, head="none")
        handle = open_source(name)
        versions = algorithm_versions("reading", "inference", "pooled layers")
        content = outputs_key_content(handle, target, request) | {"algorithms": versions}
        key = cache_key(content)
        names = find_cached(LAYERS_KIND, key, lambda entry: tuple(entry.metadata["layers"]))
        is_cached = names is not None and all(
            find_cached(KIND, _layer_key(content, layer), lambda entry: entry.metadata) for layer in names
        )
        if device is None and not is_cached:
            return None
        if names is None or not is_cached:
            setup = set_up_inference(handle, target, replace(request, compared=2), content)
            names = _run_layers(setup, request, content)
            store(LAYERS_KIND, key, CacheEntry({}, {"layers": list(names)}))
        if self.numbers and self.numbers[-1] > len(names):
            raise InputError(f"The source has {len(names)} layers, and layer {self.numbers[-1]} was requested.")
        # The last layer is among them, because the others are compared with it.
        chosen = tuple(sorted({*self.numbers, len(names)})) if self.numbers else tuple(range(1, len(names) + 1))
        picked = tuple(names[number - 1] for number in chosen)
        keys = tuple(_layer_key(content, layer) for layer in picked)
        return LayerCurve(self.source, chosen, picked, len(names)), keys, is_cached


def _layer_key(content: Mapping[str, object], layer: str) -> str:
    return cache_key({**content, "layer": layer})


def _run_layers(setup: InferenceSetup, request: LogitsRequest, content: Mapping[str, object]) -> tuple[str, ...]:
    """Run the source, store the features of each layer, and return the names of the layers."""
    parts = setup.source.split()
    # The output of the encoder is that of its last block, after what follows the block.
    names = (*block_names(parts.encoder)[:-1], OUTPUT)
    model = _BatchLayers(parts, parts.encoder, names, setup.source.convolutional).eval()
    setup = replace(setup, source=replace(setup.source, model=model))
    outputs = np.concatenate(list(setup.batches(request)))
    arrays = sample_arrays(setup.labels, setup.rows, setup.groups, setup.table)
    edges = np.cumsum((0, *model.widths))
    for layer, first, last in zip(names, edges[:-1], edges[1:], strict=True):
        properties = {"head": "none", "width": int(last - first), "classes": 0}
        record = {
            "properties": properties,
            "provenance": setup.provenance | {"layer": layer},
            "source_classes": [],
            "target_classes": list(setup.target_classes),
        }
        store_outputs(np.ascontiguousarray(outputs[:, first:last]), arrays, record, _layer_key(content, layer))
    return names


JUDGED_BY = "linear-probe"
"""Score by whose errors a layer is chosen and judged."""
SPLITS = 20


def measure_layers(
    plan: RankPlan, rows: Sequence[SourceRow], extracted: Mapping[int, Extracted]
) -> tuple[tuple[LayerCurve, ...], dict[str, JobCounts]]:
    """Score the layers of each source that could be run.

    Args:
        plan: The plan of the ranking, whose request names layers.
        rows: All rows.
        extracted: References to the outputs of each row that could be run, by its index.

    Returns:
        The curve of each source, and numbers of jobs by stage.
    """
    numbers = plan.request.layers
    assert numbers is not None
    sources = [rows[index].name for index in extracted if rows[index].kind == SOURCE]
    request = replace(plan.pass_request(len(sources)), head="none", surrogate=False)
    jobs = [LayersJob(name, plan.target, request, numbers) for name in sources]
    results_by_index = plan.backend.run(jobs, device=plan.device)
    outputs: dict[str, LayerOutputs | Failure] = {sources[index]: result for index, result in results_by_index}
    computed = [result for result in outputs.values() if not isinstance(result, Failure)]
    n_cached = sum(is_cached for _, _, is_cached in computed)
    counts = {"layers": JobCounts(len(computed) - n_cached, n_cached, len(outputs) - len(computed))}
    scores, on_all = _scores(plan), replace(plan.request, resamples=0)
    pairs = [(key, score.name) for _, keys, _ in computed for key in keys for score in scores]
    planned = [score_jobs(key, name, on_all, plan.task)[0] for key, name in pairs]
    results, counts["scores of layers"] = run_stage("scores of layers", planned, plan.backend, plan.monitor)
    scored = {pair: results[job] for pair, job in zip(pairs, planned, strict=True)}
    curves = []
    for name in sources:
        result = outputs[name]
        if isinstance(result, Failure):
            curves.append(LayerCurve(name, reason=result.reason))
        else:
            curves.append(_curve(*result[:2], scored, plan))
    # P-values of the choices are corrected for the number of sources.
    p_values = [curve.choice.difference.p_value if curve.choice else None for curve in curves]
    corrected = holm([np.nan if p_value is None else p_value for p_value in p_values])
    for number, (curve, p_value) in enumerate(zip(curves, corrected, strict=True)):
        if curve.choice and np.isfinite(p_value):
            curves[number] = replace(curve, choice=replace(curve.choice, corrected_p_value=float(p_value)))
    return tuple(curves), counts


def _scores(plan: RankPlan) -> list[Score]:
    """Return the scores of features alone, the one that a layer is judged by first."""
    scores = [get_score(name) for name in dict.fromkeys((JUDGED_BY, *plan.scores))]
    return [
        score
        for score in scores
        if plan.task in score.tasks and score.uses_samples and not score.needs_logits and not score.needs_surrogate
    ]


def _curve(
    curve: LayerCurve, keys: Sequence[str], scored: Mapping[tuple[str, str], ScoreResult | Failure], plan: RankPlan
) -> LayerCurve:
    values: dict[str, tuple[float, ...]] = {}
    intervals: tuple[tuple[float, float] | None, ...] = ()
    choice = None
    for score in _scores(plan):
        by_layer = [scored[key, score.name] for key in keys]
        values[score.name] = tuple(_value(score, result) for result in by_layer)
        errors = [result for result in by_layer if isinstance(result, SampleErrors)]
        if score.name == JUDGED_BY and len(errors) == len(by_layer):
            intervals = tuple(estimate_mean(one).interval for one in errors)
            if plan.task == CLASSIFICATION:
                choice = choose_layer(errors, load_source_outputs(keys[0]).labels, plan.request.samples.seed)
                choice = choice and replace(choice, best=curve.numbers[choice.best])
    return replace(curve, values=values, intervals=intervals, choice=choice)


def _value(score: Score, result: ScoreResult | Failure) -> float:
    if isinstance(result, Failure):
        return float("nan")
    return score.mean_of(result).value if isinstance(result, SampleErrors) else float(result[0])


def choose_layer(errors: Sequence[SampleErrors], labels: np.ndarray, seed: int) -> LayerChoice | None:
    """Choose the layer with the lowest error on one half of the samples, and judge it on the other half.

    The lowest of several errors on the same samples is too low an estimate for new samples. This choice is made on one
    half, again and again, and only the errors of the other half count.

    Args:
        errors: Errors by sample of each layer, the last of which is the output of the encoder.
        labels: Class of each sample, shape (n,).
        seed: Seed of the splits, whose halves are stratified by class and keep groups together.

    Returns:
        The choice, whose `best` is the position of the layer with the lowest error on all samples; None if there is one
        layer, or if no class has two samples or groups.
    """
    first = errors[0]
    # Samples whose class has two samples or groups.
    tested = first.tested[testable_samples(*_space_and_groups(first, labels, first.tested))]
    if len(errors) < 2 or len(np.unique(labels[tested])) < 2:
        return None
    space, groups = _space_and_groups(first, labels, tested)
    units = first.units[tested]
    splits = repeated_halves(space, groups, SPLITS, seed)
    values = np.array([one.errors[tested] for one in errors])
    weights = first.weights[tested]
    strata = None if first.strata is None else first.strata[tested]
    picks = np.array([int(np.argmin(values[:, fit] @ weights[fit])) for fit in splits.fit])

    def mean(fold_errors: np.ndarray, splits: Splits) -> SampleErrors:
        return average_errors(fold_errors, splits, weights, units, strata)

    judged = mean(values[picks], splits)
    last = mean(np.broadcast_to(values[-1], (len(splits), len(tested))), splits)
    share = np.bincount(picks, minlength=len(errors)) / len(picks)
    judged_mean, last_mean = estimate_mean(judged), estimate_mean(last)
    return LayerChoice(
        best=int(np.argmin(values @ weights)),
        shares=tuple(share.tolist()),
        error=judged_mean.value,
        interval=judged_mean.interval,
        last_error=last_mean.value,
        difference=paired_difference(judged, last),
    )


def _space_and_groups(
    errors: SampleErrors, labels: np.ndarray, samples: np.ndarray
) -> tuple[LabelSpace, np.ndarray | None]:
    units = errors.units[samples]
    space = label_space(np.unique(labels[samples], return_inverse=True)[1])
    return space, None if len(np.unique(units)) == len(units) else units


def layer_finding(curves: Sequence[LayerCurve]) -> str:
    """Return what the choices of layers show, as the end of a sentence."""
    judged = [curve for curve in curves if curve.choice is not None]
    better = [curve.source for curve in judged if is_better(curve)]
    if better:
        verb = "does" if len(better) == 1 else "do"
        layer = "an earlier layer" if len(better) == 1 else "earlier layers"
        return f"{layer} of {join_names(better)} {verb} better than the output"
    if judged:
        return "no earlier layer does significantly better than the output"
    return "the error depends on the layer"


def is_better(curve: LayerCurve) -> bool:
    """Return True if layers chosen on other samples have a significantly lower error than the last layer."""
    if curve.choice is None:
        return False
    p_value = curve.choice.corrected_p_value
    return curve.choice.difference.value < 0 and p_value is not None and p_value <= SIGNIFICANCE_LEVEL


LAYER_COLUMNS = ("source", "layers", "lowest at", "chosen on other samples", "95 % CI", "last layer", "difference", "p")


def layer_row(curve: LayerCurve) -> list[str]:
    """Return the row of a source in a table with LAYER_COLUMNS."""
    values = curve.values.get(JUDGED_BY, ())
    finite = [value for value in values if np.isfinite(value)]
    lowest = f"{curve.numbers[values.index(min(finite))]}" if finite else "-"
    row = [visible_name(curve.source), f"{curve.n_layers}" if curve.numbers else "-", lowest]
    choice = curve.choice
    if choice is None:
        return [*row, "-", "", f"{values[-1]:.3f}" if finite else "-", "", ""]
    low, high = choice.interval or (float("nan"), float("nan"))
    interval = f"{low:.3f}-{high:.3f}" if choice.interval else ""
    p_value = "" if choice.corrected_p_value is None else format_p_value(choice.corrected_p_value)
    errors = f"{choice.error:.3f}", interval, f"{choice.last_error:.3f}", f"{choice.difference.value:+.3f}"
    return [*row, *errors, p_value]
