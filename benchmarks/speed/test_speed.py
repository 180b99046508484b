"""Times of both actions of each figure, measured with pytest-benchmark."""

import pytest
import torch

from benchmarks.speed.figures import FIGURES, Figure


@pytest.mark.parametrize("side", ["modgap", "baseline"])
@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.name)
def test_time(benchmark, figure: Figure, side: str):
    """Time one side of a figure."""
    torch.set_num_threads(1)
    action = figure.prepare()[side == "baseline"]
    benchmark.extra_info.update(figure=figure.name, side=side, scale=figure.scale)
    benchmark.pedantic(action, rounds=figure.rounds, warmup_rounds=1)
