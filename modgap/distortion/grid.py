"""Tables over encoders: one row for each, and cells of the paper's Fig. 3 (target x epochs x method, over seeds)."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from modgap.answers.formatting import format_interval, format_p_value
from modgap.distortion.measurement import EncoderResult
from modgap.statistics.intervals import student_margin

DISPLAY_NAMES = {
    "knn": "k-NN",
    "linear_cka": "linear CKA",
    "kernel_cka": "kernel CKA",
    "procrustes": "Procrustes",
    "knn_overlap": "k-NN overlap",
}


def display_name(name: str) -> str:
    """Return the printed name of a probe or a similarity measure.

    Example:
        >>> display_name("linear_cka"), display_name("ridge")
        ('linear CKA', 'ridge')
    """
    return DISPLAY_NAMES.get(name, name.replace("_", " "))


@dataclass(frozen=True)
class GridCell:
    """Error rate of the runs of one method on one target after some epochs.

    Attributes:
        target: Target on which the runs were trained.
        method: Method of the runs.
        epoch: Epoch of stage 2.
        mean: Mean error rate of the first probe over seeds, in [0, 1]; lower is better. Runs with one seed count once.
        interval: 95 % interval of the mean: Student's t over seeds; with one seed, the interval of the probe over
            splits and samples or groups, NaN if it has none.
        seeds: Number of seeds.
    """

    target: str
    method: str
    epoch: int
    mean: float
    interval: tuple[float, float]
    seeds: int


def grid_cells(results: Sequence[EncoderResult]) -> list[GridCell]:
    """Return the error rates of runs by target, method and epoch (MoNA, Fig. 3), in the order of their first run."""
    groups: dict[tuple[str, str, int], list[EncoderResult]] = {}
    for result in results:
        encoder = result.encoder
        if encoder.run is not None and encoder.trained_epochs is not None:
            groups.setdefault((str(encoder.target), encoder.method, encoder.trained_epochs), []).append(result)
    return [GridCell(*key, *_mean_over_seeds(members)) for key, members in groups.items()]


def _mean_over_seeds(results: Sequence[EncoderResult]) -> tuple[float, tuple[float, float], int]:
    by_seed: dict[int | None, list[float]] = {}
    for result in results:
        by_seed.setdefault(result.encoder.seed, []).append(result.first_probe.value)
    errors = np.array([np.mean(values) for values in by_seed.values()])
    mean = float(errors.mean())
    if len(errors) == 1:
        return mean, results[0].first_probe.interval or (math.nan, math.nan), 1
    margin = student_margin(errors)
    return mean, (max(0.0, mean - margin), min(1.0, mean + margin)), len(errors)


def encoder_table(results: Sequence[EncoderResult]) -> tuple[list[str], list[list[str]]]:
    """Return the heads and rows of a table with one row for each encoder.

    Its columns are the error rate of each probe, the difference to the untouched encoder and the similarity to it.

    Args:
        results: Results on one surrogate.
    """
    probes = list(results[0].probes)
    measures = list(dict.fromkeys(name for result in results for name in result.similarity))
    has_f1 = any(probe.entity_f1 for result in results for probe in result.probes.values())
    heads = [
        "encoder",
        f"{display_name(probes[0])} error",
        "95 % CI of error",
        "minus untouched",
        "95 % CI of difference",
        "p",
        *(f"{display_name(name)} error" for name in probes[1:]),
        *(["entity F1"] if has_f1 else []),
        *(display_name(name) for name in measures),
    ]
    return heads, [list(_table_row(result, measures, has_f1)) for result in results]


def _table_row(result: EncoderResult, measures: Sequence[str], has_f1: bool) -> Iterator[str]:
    first, *others = result.probes.values()
    yield from (result.label, f"{first.value:.3f}", format_interval(first.interval))
    difference = result.difference
    if difference is None:
        yield from ("-", "-", "-")
    else:
        yield f"{difference.value:+.3f}"
        yield from (format_interval(difference.interval), format_p_value(difference.p_value))
    yield from (f"{other.value:.3f}" for other in others)
    if has_f1:
        yield f"{first.entity_f1.value:.3f}" if first.entity_f1 else "-"
    for name in measures:
        layers = list(result.similarity.get(name, {}).values())
        yield f"{layers[-1].value:.3f}" if layers else "-"
