"""Scores of several layers of a source."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from modgap.statistics.paired import PairedDifference

__all__ = ["LayerChoice", "LayerCurve"]


@dataclass(frozen=True)
class LayerChoice:
    """Choice of a layer on one half of the samples, judged on the other half, over repeated splits.

    Attributes:
        best: Number of the layer with the lowest error on all samples.
        shares: Share of the halves on which each layer was chosen.
        error: Error of the chosen layers on the other halves.
        interval: Its 95 % interval. None if there are too few independent samples or groups.
        last_error: Error of the last layer on the same samples.
        difference: Error of the chosen layers minus that of the last layer.
        corrected_p_value: P-value of the difference, corrected for the number of sources by Holm.
    """

    best: int
    shares: tuple[float, ...]
    error: float
    interval: tuple[float, float] | None
    last_error: float
    difference: PairedDifference
    corrected_p_value: float | None = None


@dataclass(frozen=True)
class LayerCurve:
    """Scores of several layers of a source.

    Attributes:
        source: Name of the source.
        numbers: Number of each layer, from 1.
        names: Name of each layer within the encoder; `output` for the output of the encoder.
        n_layers: Number of layers of the source, which is the number of the last.
        values: Value of each layer by the name of the score.
        intervals: 95 % interval of the error of a linear probe on each layer. Empty if it is not an error by sample.
        choice: Choice of a layer, judged on other samples. None if it could not be made.
        reason: Sentence that says why the source has no curve. Empty if it has one.
    """

    source: str
    numbers: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    n_layers: int = 0
    values: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    intervals: tuple[tuple[float, float] | None, ...] = ()
    choice: LayerChoice | None = None
    reason: str = ""
