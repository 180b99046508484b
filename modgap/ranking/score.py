"""Definition of a transferability score: one number for a source on a target, and how to read it."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from modgap.errors import InputError
from modgap.ranking.source_outputs import CLASSIFICATION, MULTI_LABEL, REGRESSION, SourceOutputs

__all__ = [
    "ALL_TASKS",
    "CLASSIFICATION",
    "ERROR_RATE",
    "MULTI_LABEL",
    "NON_NEGATIVE",
    "NON_POSITIVE",
    "REGRESSION",
    "Score",
]

ALL_TASKS = (CLASSIFICATION, MULTI_LABEL, REGRESSION)
NON_NEGATIVE = (0.0, math.inf)
NON_POSITIVE = (-math.inf, 0.0)
ERROR_RATE = (0.0, 1.0)
"""Bounds of scores."""


@dataclass(frozen=True)
class Score:
    """A transferability score.

    Attributes:
        name: Name of the score in options and records.
        title: One line that says what the score measures.
        unit: Unit of the values, such as "nats" or "error rate". Empty for a number without a unit.
        reference: The publication that introduced the score.
        compute: Function of a source's outputs on the target's samples and a seed that returns the score.
        higher_is_better: True if a higher score is better.
        tasks: Tasks of targets that the score is defined for: `classification`, `multi-label` and `regression`. For
            regression, scores on classes use clusters of the values.
        needs_logits: True if the source must have a classification head.
        needs_surrogate: True if the score uses labeled data of the source's own modality.
        default: True if `modgap rank` computes the score when no scores are named.
        uses_samples: True if the score depends on the target's samples, so that it has an interval.
        bounds: Lowest and highest value that the score can have.
        version: Version of the algorithm. It must be raised when the numbers change.
    """

    name: str
    title: str
    unit: str
    reference: str
    compute: Callable[[SourceOutputs, int], float]
    higher_is_better: bool
    tasks: tuple[str, ...] = (CLASSIFICATION,)
    needs_logits: bool = False
    needs_surrogate: bool = False
    default: bool = True
    uses_samples: bool = True
    bounds: tuple[float, float] = (-math.inf, math.inf)
    version: int = 1

    @property
    def direction(self) -> str:
        """`higher is better` or `lower is better`."""
        return "higher is better" if self.higher_is_better else "lower is better"

    def explain_undefined(self, outputs: SourceOutputs) -> str:
        """Return a sentence that says why the score is not defined for these outputs. Empty if it is defined."""
        if outputs.task not in self.tasks:
            return f"The score {self.name} is not defined for {outputs.task} targets."
        if self.needs_logits and outputs.logits is None:
            return f"The score {self.name} needs a classification head, and the source has none."
        if self.needs_surrogate and outputs.surrogate is None:
            return f"The score {self.name} needs labeled data of the source's own modality, and none was found."
        return ""

    def evaluate(self, outputs: SourceOutputs, seed: int = 0) -> float:
        """Compute the score of a source.

        Args:
            outputs: Outputs of the source on the target's samples.
            seed: Seed of the random numbers that the score uses.

        Returns:
            The score. NaN if it is not defined on these samples.

        Raises:
            InputError: If the score is not defined for this source or target. The message says why.
        """
        if reason := self.explain_undefined(outputs):
            raise InputError(reason)
        _check_finite("features", outputs.features)
        if self.needs_logits:
            _check_finite("logits", outputs.logits)
        return float(self.compute(outputs, seed))


def _check_finite(array_name: str, array: np.ndarray | None) -> None:
    if array is not None and not np.isfinite(array).all():
        raise InputError(f"The source's {array_name} contain NaN or infinity.")
