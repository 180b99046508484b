"""Predictors: from an encoder's tokens to classes, or to values over the sample's own dimensions."""

import math
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn import functional

from modgap.errors import UsageError, unknown_name
from modgap.models.layouts import Layout, resize_to

__all__ = ["DensePredictor", "Grid", "MeanPredictor", "Output", "build_predictor", "find_token_grid"]

MOST_LEADING = 16
"""The largest number of tokens before those of an image that are taken for class tokens and registers."""
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


@dataclass(frozen=True)
class Grid:
    """How an encoder's tokens lie.

    Attributes:
        shape: (T,) of a sequence, (rows, columns) of a picture.
        leading: Class tokens and registers before them.
    """

    shape: tuple[int, ...]
    leading: int = 0


class MeanPredictor(nn.Module):
    """The mean over tokens, then a linear layer."""

    def __init__(self, width: int, outputs: int, leading: int) -> None:
        """Width of tokens, number of outputs, and how many first tokens to leave out."""
        super().__init__()
        self.leading, self.linear = leading, nn.Linear(width, outputs)

    def forward(self, tokens: Tensor) -> Tensor:
        """Outputs (n, K) of tokens (n, T, D)."""
        return self.linear(tokens[:, self.leading :].mean(dim=1))


class DensePredictor(nn.Module):
    """A linear layer on each token, its outputs spread over the token's area, pooled to the target's sizes."""

    def __init__(self, width: int, output: Output, grid: Grid, factor: int, layout: Layout) -> None:
        """Width of tokens, what to give, how tokens lie, values to a token's side, and how samples are laid out."""
        super().__init__()
        self.channels, self.spatial = output.shape[0], output.shape[1:]
        self.grid, self.factor, self.layout = grid, factor, layout
        self.linear = nn.Linear(width, self.channels * factor ** len(grid.shape))

    def forward(self, tokens: Tensor) -> Tensor:
        """Values (n, channels, ...) of tokens (n, T, D)."""
        spread = self._spread(self.linear(tokens[:, self.grid.leading :]).transpose(1, 2))
        return resize_to(self.layout.restore(spread), self.spatial)

    def _spread(self, values: Tensor) -> Tensor:
        """(n, channels * factor ** d, T) to (n, channels, ...), each side `factor` times the grid's."""
        if len(self.grid.shape) == 2:
            return functional.pixel_shuffle(values.unflatten(2, self.grid.shape), self.factor)
        return values.unflatten(1, (self.channels, self.factor)).transpose(2, 3).flatten(2)


def build_predictor(output: Output, width: int, grid: Grid, layout: Layout, area: tuple[int, ...]) -> nn.Module:
    """The predictor for an output; draws from torch's random numbers.

    Each token covers as many values as it covers of the source's input, or more where the output asks for it.

    Args:
        output: What to give.
        width: D of the encoder's tokens.
        grid: How they lie.
        layout: How samples are laid out.
        area: Sizes of the stem's input, in pixels or values.
    """
    if len(output.shape) == 1:
        return MeanPredictor(width, output.shape[0], grid.leading)
    sizes = zip(grid.shape, area, layout.canvas(output.shape[1:]), strict=True)
    factor = max(math.ceil(max(covered, asked) / count) for count, covered, asked in sizes)
    return DensePredictor(width, output, grid, factor, layout)


def find_token_grid(features: Any, tokens: Tensor, entering: Tensor, size: tuple[int, int]) -> Grid:
    """How the tokens of an encoder of images lie.

    Args:
        features: What the encoder gives: a map, or tokens.
        tokens: The same as tokens (n, T, D).
        entering: What enters it: a map, or tokens.
        size: Height and width of the source's input.

    Raises:
        UsageError: When they lie in no grid that is known.
    """
    hidden = getattr(getattr(features, "output", features), "last_hidden_state", features)
    if hidden.ndim == 4:
        rows_first = hidden.flatten(1, 2)
        last = rows_first.shape == tokens.shape and bool((rows_first == tokens).all())
        return Grid(tuple(hidden.shape[1:3] if last else hidden.shape[2:]))
    count, entered = tokens.shape[1], math.prod(entering.shape[2:]) if entering.ndim == 4 else entering.shape[1]
    rows, columns = tuple(entering.shape[2:]) if entering.ndim == 4 else _sides(entered, size)
    if 0 <= count - entered <= MOST_LEADING:
        return Grid((rows, columns), count - entered)
    for times in (2**n for n in range(1, 8)):
        merged = math.ceil(rows / times), math.ceil(columns / times)
        if math.prod(merged) == count:
            return Grid(merged)
    raise UsageError(f"the source's encoder makes {count} tokens of {entered}, which lie in no grid that is known")


def _sides(count: int, size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of so many tokens, as near to the image's shape as can be."""
    pairs = [(rows, count // rows) for rows in range(1, count + 1) if count % rows == 0]
    return min(pairs, key=lambda pair: abs(math.log(pair[0] / pair[1] * size[1] / size[0])))
