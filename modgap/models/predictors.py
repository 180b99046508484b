"""Predictors: from an encoder's tokens to logits, or to real values over the sample's own dimensions."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from modgap.errors import UsageError
from modgap.models.layouts import Layout, resize_to
from modgap.targets.output import Output

MOST_PREFIX_TOKENS = 16
"""The largest number of tokens before those of an image that are taken for class tokens and registers."""


class TokenGrid(NamedTuple):
    """Arrangement of an encoder's tokens.

    Attributes:
        sides: (T,) for a sequence, or (rows, columns) for an image.
        prefix_tokens: Number of class tokens and registers before these.
    """

    sides: tuple[int, ...]
    prefix_tokens: int = 0


class MeanPredictor(nn.Module):
    """Linear layer on the mean over the tokens."""

    def __init__(self, width: int, outputs: int, prefix_tokens: int) -> None:
        """Create the predictor.

        Args:
            width: Width D of the tokens.
            outputs: Number of outputs K.
            prefix_tokens: Number of first tokens that are left out of the mean.
        """
        super().__init__()
        self.prefix_tokens = prefix_tokens
        self.linear = nn.Linear(width, outputs)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the outputs (n, K) for tokens (n, T, D)."""
        outputs: Tensor = self.linear(tokens[:, self.prefix_tokens :].mean(dim=1))
        return outputs


class DensePredictor(nn.Module):
    """Linear layer on each token, whose outputs are spread over the token's area and pooled to the target's sizes."""

    def __init__(self, width: int, output: Output, grid: TokenGrid, factor: int, layout: Layout) -> None:
        """Create the predictor.

        Args:
            width: Width D of the tokens.
            output: Output to predict.
            grid: Arrangement of the tokens.
            factor: Number of values along each side of a token.
            layout: Layout of the samples, which maps the values back to the sample's dimensions.
        """
        super().__init__()
        self.channels = output.shape[0]
        self.spatial = output.shape[1:]
        self.grid, self.prefix_tokens = grid
        self.factor = factor
        self.layout = layout
        self.linear = nn.Linear(width, self.channels * factor ** len(self.grid))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return values (n, channels, ...) for tokens (n, T, D)."""
        # (n, channels * factor ** d, T) becomes (n, channels, ...), each side `factor` times the grid's.
        values = self.linear(tokens[:, self.prefix_tokens :]).transpose(1, 2)
        if len(self.grid) == 2:
            spread = functional.pixel_shuffle(torch.unflatten(values, 2, self.grid), self.factor)
        else:
            spread = torch.unflatten(values, 1, (self.channels, self.factor)).transpose(2, 3).flatten(2)
        return resize_to(self.layout.restore(spread), self.spatial)


def build_predictor(output: Output, width: int, grid: TokenGrid, layout: Layout, area: tuple[int, ...]) -> nn.Module:
    """Build the predictor for an output. The start values are drawn from torch's generator.

    Each token predicts as many values as it covers of the source's input, or more if the output needs a higher
    resolution.

    Args:
        output: Output to predict.
        width: Width D of the encoder's tokens.
        grid: Arrangement of the encoder's tokens.
        layout: Layout of the samples.
        area: Sizes of the stem's input, in pixels or values.

    Raises:
        UsageError: When a field is to be predicted from tokens that form no known grid.
    """
    if len(output.shape) == 1:
        return MeanPredictor(width, output.shape[0], grid.prefix_tokens)
    if len(grid.sides) != len(area):
        raise UsageError(
            f"The source's encoder turns an image of {area[0]} x {area[1]} pixels into {grid.sides[0]} tokens, which "
            "form no known grid, so it cannot predict a field. Choose another source."
        )
    sizes = zip(grid.sides, area, layout.resolution(output.shape[1:]), strict=True)
    factor = max(math.ceil(max(covered, needed) / count) for count, covered, needed in sizes)
    return DensePredictor(width, output, grid, factor, layout)


def find_token_grid(features: Any, tokens: Tensor, encoder_input: Tensor, size: tuple[int, int]) -> TokenGrid:
    """Find the arrangement of the tokens of an image encoder; a sequence where they form no known grid.

    Args:
        features: Output of the encoder: a feature map or tokens.
        tokens: The same output as tokens (n, T, D).
        encoder_input: Input of the encoder: a feature map or tokens.
        size: Height and width of the source's input, in pixels.
    """
    hidden = getattr(getattr(features, "output", features), "last_hidden_state", features)
    if hidden.ndim == 4:
        rows_first = hidden.flatten(1, 2)
        channels_last = rows_first.shape == tokens.shape and bool((rows_first == tokens).all())
        return TokenGrid(tuple(hidden.shape[1:3] if channels_last else hidden.shape[2:]))
    count = tokens.shape[1]
    if encoder_input.ndim == 4:
        rows, columns = tuple(encoder_input.shape[2:])
    else:
        # The shape of the grid is as near to the image's as possible.
        n_inputs = encoder_input.shape[1]
        pairs = [(rows, n_inputs // rows) for rows in range(1, n_inputs + 1) if n_inputs % rows == 0]
        rows, columns = min(pairs, key=lambda pair: abs(math.log(pair[0] / pair[1] * size[1] / size[0])))
    if 0 <= count - rows * columns <= MOST_PREFIX_TOKENS:
        return TokenGrid((rows, columns), count - rows * columns)
    for stride in (2**n for n in range(1, 8)):
        merged = math.ceil(rows / stride), math.ceil(columns / stride)
        if math.prod(merged) == count:
            return TokenGrid(merged)
    return TokenGrid((count,))
