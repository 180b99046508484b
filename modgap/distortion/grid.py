"""Tables over encoders: one row for each, and cells of the paper's Fig. 3 (target x epochs x method, over seeds)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from modgap.distortion.measurement import EncoderResult
from modgap.statistics.intervals import student_margin

DISPLAY_NAMES = {
    "knn": "k-NN",
    "linear_cka": "linear CKA",
    "kernel_cka": "kernel CKA",
    "procrustes": "Procrustes",
    "knn_overlap": "k-NN overlap",
}


def starts_from_source(method: str) -> bool:
    """Return True if the runs of a method start from the source, so that they have knowledge of it to lose.

    Example:
        >>> starts_from_source("lp-ft"), starts_from_source("scratch (2)")
        (True, False)
    """
    return method.split()[:1] != ["scratch"]


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
    cells = []
    for key, members in groups.items():
        by_seed: dict[int | None, list[float]] = {}
        for result in members:
            by_seed.setdefault(result.encoder.seed, []).append(result.first_probe.value)
        errors = np.array([np.mean(values) for values in by_seed.values()])
        mean = float(errors.mean())
        interval = (members[0].first_probe.interval if len(members) == 1 else None) or (math.nan, math.nan)
        if len(errors) > 1:
            margin = student_margin(errors)
            interval = max(0.0, mean - margin), min(1.0, mean + margin)
        cells.append(GridCell(*key, mean, interval, len(errors)))
    return cells
