"""Inputs of the distance measures other than 0-1, and their values under one map."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from modgap.discrepancy.distances import map_discrepancy
from modgap.label_space import LabelSpace

__all__ = ["MeasureInputs"]


@dataclass(frozen=True)
class MeasureInputs:
    """Inputs of the distance measures other than 0-1.

    Attributes:
        logits: The user's logits, shape (N', C). The 0-1 estimators need only their order, but the measures need their
            values.
        space: Labels of the N samples.
        sample_weights: Weight of each sample, shape (N,).
        names: Names of the measures.
        temperature: Temperature of the softmax.
    """

    logits: np.ndarray
    space: LabelSpace
    sample_weights: np.ndarray
    names: Sequence[str]
    temperature: float

    def values(self, source_classes: Sequence[int]) -> dict[str, float]:
        """Return the value of each measure under one map (K,), by name."""
        return {
            name: map_discrepancy(
                self.logits,
                self.space,
                source_classes,
                name,
                temperature=self.temperature,
                sample_weights=self.sample_weights,
            )
            for name in self.names
        }
