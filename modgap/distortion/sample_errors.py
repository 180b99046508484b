"""Errors of the first probe by sample, as a result folder has them for `modgap compare`."""

import numpy as np

from modgap.distortion.measurement import SurrogateResult
from modgap.statistics.intervals import SampleErrors
from modgap.statistics.sample_file import SampleFile

__all__ = ["probe_sample_file"]


def probe_sample_file(result: SurrogateResult) -> SampleFile:
    """Return the errors of the first probe on the samples of a surrogate, with one column for each encoder.

    Args:
        result: Measurements of the encoders on the surrogate. Encoders of the same label get a number.
    """
    columns: dict[str, SampleErrors] = {}
    for encoder in result.encoders:
        name = encoder.label if encoder.label not in columns else f"{encoder.label} ({len(columns)})"
        columns[name] = encoder.first_probe.errors
    numbers = np.arange(len(result.labels))
    units = next(iter(columns.values())).units
    groups = None if np.array_equal(units, numbers) else units
    return SampleFile(numbers, result.labels, groups, columns, len(result.classes), None)
