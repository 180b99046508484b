"""What a score of transferability is: one number of a source on a target, and how it is to be read."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from modgap.errors import InputError
from modgap.ranking.source_outputs import CLASSIFICATION, MULTI_LABEL, REGRESSION, Evidence

__all__ = [
    "ALL_TASKS", "AT_LEAST_ZERO", "AT_MOST_ZERO", "CLASSIFICATION", "MULTI_LABEL", "REGRESSION", "SHARE", "Score",
]  # fmt: skip

ALL_TASKS = (CLASSIFICATION, MULTI_LABEL, REGRESSION)
AT_LEAST_ZERO, AT_MOST_ZERO, SHARE = (0.0, math.inf), (-math.inf, 0.0), (0.0, 1.0)
"""Bounds."""


@dataclass(frozen=True)
class Score:
    """A score.

    Attributes:
        name: As in options and records.
        title: What it is, in a line.
        reference: Where it comes from.
        compute: Of a source on the target's samples, with a seed for what it draws.
        higher_is_better: Its direction.
        tasks: Tasks that it is defined for: `classification`, `multi-label`, `regression` (whose targets also have
            clusters).
        needs_logits: Whether the source must have a head.
        needs_surrogate: Whether labeled data of the source's own modality must be there.
        usual: Whether it is taken when no scores are named.
        resampled: Whether it depends on the target's samples, so that it has an interval.
        bounds: Lowest and highest value it can have.
        version: Raised when its numbers change.
    """

    name: str
    title: str
    reference: str
    compute: Callable[[Evidence, int], float]
    higher_is_better: bool
    tasks: tuple[str, ...] = (CLASSIFICATION,)
    needs_logits: bool = False
    needs_surrogate: bool = False
    usual: bool = True
    resampled: bool = True
    bounds: tuple[float, float] = (-math.inf, math.inf)
    version: int = 1

    def missing(self, evidence: Evidence) -> str:
        """Why it is not defined here; nothing where it is."""
        if evidence.task not in self.tasks:
            return f"not defined for {evidence.task} targets"
        if self.needs_logits and evidence.logits is None:
            return "the source has no head"
        if self.needs_surrogate and evidence.surrogate is None:
            return "labeled data of the source's own modality is not here"
        return ""

    def of(self, evidence: Evidence, seed: int = 0) -> float:
        """The score of a source.

        Raises:
            InputError: When it is not defined for this source or target; says why.
        """
        if reason := self.missing(evidence):
            raise InputError(f"score {self.name}: {reason}")
        for what, given in (
            ("features", evidence.features),
            ("logits", evidence.logits if self.needs_logits else None),
        ):
            if given is not None and not np.isfinite(given).all():
                raise InputError(f"score {self.name}: the source gives {what} that are not finite")
        return float(self.compute(evidence, seed))
