"""What is known of a source without the target: the baselines that any score must beat."""

import math

from modgap.ranking.score import ALL_TASKS, Score
from modgap.ranking.source_outputs import Evidence

__all__ = ["SCORES"]


def _fact(name: str):
    def compute(evidence: Evidence, seed: int) -> float:
        value = evidence.facts.get(name)
        return math.nan if value is None else float(value)

    return compute


SCORES = (
    Score(
        "size", "number of the model's parameters", "Agostinelli et al., ECCV 2022, and others", _fact("parameters"),
        higher_is_better=True, tasks=ALL_TASKS, resampled=False,
    ),
    Score(
        "source-error", "what the source gets wrong on labeled data of its own modality, by a linear probe",
        "Kornblith et al., CVPR 2019", _fact("source_error"), higher_is_better=False, tasks=ALL_TASKS, resampled=False,
    ),
)  # fmt: skip
