"""Baselines that do not depend on the target and that any score must beat: size and error on the source's own data."""

import math
from collections.abc import Callable

from modgap.ranking.score import ALL_TASKS, Score
from modgap.ranking.source_outputs import SourceOutputs


def _property_reader(property_name: str) -> Callable[[SourceOutputs, int], float]:
    def compute(outputs: SourceOutputs, _seed: int) -> float:
        value = outputs.properties.get(property_name)
        return math.nan if value is None else float(value)

    return compute


SCORES = (
    Score(
        name="size",
        title="number of parameters of the source model",
        unit="parameters",
        reference="Agostinelli et al., ECCV 2022, and others",
        compute=_property_reader("parameters"),
        higher_is_better=True,
        tasks=ALL_TASKS,
        uses_samples=False,
    ),
    Score(
        name="source-error",
        title="error of a linear probe on labeled data of the source's own modality",
        unit="error rate",
        reference="Kornblith et al., CVPR 2019",
        compute=_property_reader("source_error"),
        higher_is_better=False,
        tasks=ALL_TASKS,
        uses_surrogate=True,
        default=False,
        uses_samples=False,
    ),
)
