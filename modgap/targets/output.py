"""The output of a model of a target for one sample: logits of classes or labels, or real values."""

from dataclasses import dataclass
from typing import Literal

from modgap.errors import UsageError, unknown_name

OUTPUT_SHAPES = {
    "classification": "(K,)",
    "multi-label": "(K,)",
    "regression": "(channels,), (channels, length) or (channels, H, W)",
}
"""Shapes that an output may have, by task."""


@dataclass(frozen=True)
class Output:
    """The output of a target model for one sample.

    Attributes:
        task: `classification` or `multi-label` for logits, `regression` for real values.
        shape: (K,) for logits of K classes or labels; (channels, ...) for real values, with up to two dimensions in
            space or time.

    Raises:
        UsageError: When the task is unknown, or the shape does not fit it.
    """

    task: Literal["classification", "multi-label", "regression"]
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        """Raise UsageError for an output that no predictor has."""
        if self.task not in OUTPUT_SHAPES:
            raise unknown_name("task", str(self.task), OUTPUT_SHAPES)
        most_dimensions = 3 if self.task == "regression" else 1
        if not 1 <= len(self.shape) <= most_dimensions or any(size < 1 for size in self.shape):
            raise UsageError(
                f"An output of shape {self.shape} does not fit the task {self.task}. "
                f"Expected the shape {OUTPUT_SHAPES[self.task]}."
            )
