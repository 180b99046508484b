"""Layouts of samples, and start values, of target models."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from modgap.inputs.representations import fold_series
from modgap.models.initialization import reinitialize, seeded_rng, stretch_channels, unused_to_buffers
from modgap.models.layouts import FoldedSeries, ResizedImage, StridedSeries, resize_to, sequence_stride
from modgap.models.normalization import is_normalization, last_normalization, output_scale


@pytest.mark.parametrize("shape", [(1, 24), (3, 24), (2, 97), (1, 1), (2, 3), (4, 1460)])
def test_a_series_is_folded_as_for_the_diagnostics_and_unfolded_again(shape):
    series = np.random.default_rng(0).standard_normal((5, *shape)).astype(np.float32)
    folded = np.stack([fold_series(each) for each in series])
    layout = FoldedSeries(shape, folded.shape[2:])
    found = layout.arrange(torch.from_numpy(series))
    assert np.array_equal(found.numpy(), folded)
    assert layout.resolution((9,)) == folded.shape[2:]
    # A prediction that repeats the image gives, at each moment, the mean over channels.
    np.testing.assert_allclose(layout.restore(found)[:, 0].numpy(), series.mean(axis=1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("shape", "stride"), [((2, 24), 4), ((2, 23), 4), ((1, 6, 5), 3), ((3, 7, 5), 4), ((1, 5), 8)])
def test_a_sequence_is_cut_and_joined_again(shape, stride):
    x = torch.randn(2, *shape)
    layout = StridedSeries(shape, stride)
    arranged = layout.arrange(x)
    assert arranged.shape[2] == layout.tokens * stride
    assert arranged.shape[2] - math.prod(shape[1:]) < stride
    assert torch.equal(layout.restore(arranged), x)
    # At twice the resolution too.
    torch.testing.assert_close(resize_to(layout.restore(arranged.repeat_interleave(2, dim=2)), shape[1:]), x)


def test_an_image_of_the_sources_size_is_left_as_it_is():
    x = torch.randn(2, 5, 8, 6)
    assert ResizedImage(5, (8, 6)).arrange(x) is x
    larger = ResizedImage(5, (16, 12)).arrange(x)
    torch.testing.assert_close(larger, nn.functional.interpolate(x, (16, 12), mode="bilinear"))
    # Smaller ones see all pixels.
    stripes = (torch.arange(64) % 2).float().expand(1, 1, 64, 64)
    assert (ResizedImage(1, (8, 8)).arrange(stripes) - 0.5).abs().max() < 0.1


@pytest.mark.parametrize("most", [1, 7, 64])
def test_strides_are_the_smallest_divisors_but_where_they_waste_tokens(most):
    for length in range(1, 300):
        stride = sequence_stride(length, most)
        tokens = math.ceil(length / stride)
        assert tokens <= most
        divisor = min(d for d in range(1, length + 1) if length % d == 0 and length // d <= most)
        padded = min(s for s in range(1, length + 1) if math.ceil(length / s) <= most)
        if length // divisor >= math.ceil(length / padded) / 2:
            assert stride == divisor
        else:
            assert stride == padded


def test_pooling_averages_neighbors():
    values = torch.arange(12.0).view(1, 1, 12)
    assert resize_to(values, (4,)).flatten().tolist() == [1, 4, 7, 10]
    assert resize_to(values, (2, 2)).flatten().tolist() == [1, 4, 7, 10]
    assert resize_to(values.view(1, 1, 3, 4), (3, 2)).flatten().tolist() == [0.5, 2.5, 4.5, 6.5, 8.5, 10.5]
    assert resize_to(values, (12,)) is values


@pytest.mark.parametrize("channels", [1, 2, 3, 7])
def test_stretched_weights_repeat_the_sources_channels(channels):
    weight = torch.randn(4, 3, 2, 2)
    found = stretch_channels(weight, channels)
    assert found.shape == (4, channels, 2, 2)
    for channel in range(channels):
        torch.testing.assert_close(found[:, channel], weight[:, channel % 3] * 3 / channels)


def test_streams_are_apart_and_leave_torchs_own_alone():
    torch.manual_seed(0)
    wanted = torch.rand(3)
    torch.manual_seed(0)
    draws = []
    for seed, part in [(0, "embedder"), (0, "predictor"), (1, "embedder"), (0, "embedder")]:
        with seeded_rng(seed, part):
            draws.append(torch.rand(3))
    assert torch.equal(torch.rand(3), wanted)
    assert torch.equal(draws[0], draws[3])
    assert len({tuple(draw.tolist()) for draw in draws}) == 3


class Bare(nn.Module):
    """Parameters that no layer of torch's starts, and one that nothing reads."""

    def __init__(self):
        super().__init__()
        self.table, self.gamma = nn.Parameter(torch.ones(8, 4)), nn.Parameter(torch.ones(4))
        self.bias, self.unread = nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(2))
        self.norm, self.head = nn.BatchNorm1d(4), nn.Linear(4, 3)

    def forward(self, x):
        self.head(x)
        return self.norm(x @ self.table.T @ self.table) * self.gamma + self.bias


def test_parameters_that_no_library_starts():
    module = Bare()
    module(torch.randn(9, 4) + 3)
    reinitialize(module)
    assert 0.005 < module.table.std() < 0.05
    assert module.gamma.unique().item() == pytest.approx(1e-6)
    assert module.bias.unique().item() == 0
    assert module.norm.running_mean.unique().item() == 0
    assert module.norm.num_batches_tracked == 0
    assert module.norm.weight.unique().item() == 1


def test_parameters_that_the_output_does_not_see_become_buffers():
    module = Bare()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    unused_to_buffers(module, module.eval()(torch.zeros(2, 4)))
    assert {"unread", "head.weight", "head.bias"} <= {name for name, _ in module.named_buffers()}
    assert {name for name, _ in module.named_parameters()} == {"table", "gamma", "bias", "norm.weight", "norm.bias"}
    after = module.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert module(torch.zeros(2, 4)).requires_grad


class OwnRMSNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.full((4,), 2.0))

    def forward(self, x):
        return self.weight * x / x.square().mean(dim=-1, keepdim=True).sqrt()


@pytest.mark.parametrize("norm", [nn.LayerNorm(4), nn.BatchNorm2d(4), nn.GroupNorm(2, 4), nn.RMSNorm(4), OwnRMSNorm()])
def test_layers_of_normalization(norm):
    assert is_normalization(norm)
    assert last_normalization(nn.Sequential(nn.Linear(4, 4), norm, nn.ReLU())) is norm
    assert last_normalization(nn.Sequential(norm, nn.Linear(4, 4))) is None


def test_the_scale_of_what_a_norm_gives_is_its_gains_and_shifts():
    norm = nn.LayerNorm(512)
    nn.init.normal_(norm.weight, std=2)
    nn.init.normal_(norm.bias, std=0.5)
    found = norm(torch.randn(400, 512)).square().mean().sqrt().item()
    assert output_scale(norm) == pytest.approx(found, rel=0.02)
    assert output_scale(OwnRMSNorm()) == pytest.approx(2)
