"""A small residual network of images, trained from scratch, which a field uses without a pretrained model."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from modgap.baselines.baseline import Predictor, Truth
from modgap.baselines.parts import Part, standard_scale

RATES = (0.003, 0.01, 0.001)
"""Largest learning rates of the one-cycle schedule."""
WIDTHS = (8, 16, 32)
SMALL = 16
"""Largest height and width of images whose resolution the first block keeps."""
EPOCHS = 15
BATCH = 32
DECAY = 1e-4


class _Block(nn.Module):
    """Two convolutions with batch normalization, added to their input; (n, A, H, W) to (n, B, H / s, W / s)."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(after), nn.BatchNorm2d(after)])
        self.shortcut = nn.Identity() if before == after and stride == 1 else nn.Conv2d(before, after, 1, stride)

    def forward(self, values: Tensor) -> Tensor:
        inner = self.norms[1](self.second(torch.relu(self.norms[0](self.first(values)))))
        result: Tensor = torch.relu(inner + self.shortcut(values))
        return result


def _network(channels: int, n_outputs: int, stride: int) -> nn.Sequential:
    blocks: list[nn.Module] = []
    before = channels
    for number, width in enumerate(WIDTHS):
        blocks.append(_Block(before, width, 2 if number else stride))
        before = width
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, n_outputs))


def _tensors(network: nn.Module) -> list[Tensor]:
    return [value for value in network.state_dict().values() if value.is_floating_point()]


@dataclass(frozen=True)
class ResidualNetwork(Part):
    """A trained residual network of three blocks.

    Attributes:
        channels: Number of channels of an image.
        outputs: Number of scores.
        stride: Stride of the first block, 1 or 2.
        mean: Mean of each channel over the training images, (C,).
        scale: Standard deviation of each channel, above 0, (C,).
        weights: All weights and statistics of the network, one after the other, float32, (P,).
    """

    kind: ClassVar[str] = "residual-network"
    channels: int
    outputs: int
    stride: int
    mean: np.ndarray
    scale: np.ndarray
    weights: np.ndarray

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Return the scores (n, M) of images (n, C, H, W)."""
        network = _network(self.channels, self.outputs, self.stride)
        start = 0
        with torch.no_grad():
            for tensor in _tensors(network):
                part = self.weights[start : start + tensor.numel()]
                tensor.copy_(torch.from_numpy(part.copy()).reshape(tensor.shape))
                start += tensor.numel()
            network.eval()
            inputs = _standardized(values, self.mean, self.scale)
            scores = [network(inputs[first : first + BATCH]) for first in range(0, len(inputs), BATCH)]
        return np.asarray(torch.cat(scores).double().numpy())

    def check(self) -> None:
        """Raise a ValueError if the weights are not those of such a network, or a scale is not above 0."""
        sizes = (self.channels, self.outputs)
        if any(type(size) is not int or not 1 <= size <= len(self.weights) for size in sizes):
            raise ValueError("the network has another size")
        if type(self.stride) is not int or self.stride not in (1, 2):
            raise ValueError("the network has another stride")
        if self.mean.shape != (self.channels,) or self.scale.shape != self.mean.shape or not (self.scale > 0).all():
            raise ValueError("the scales of the channels do not fit")
        expected = sum(tensor.numel() for tensor in _tensors(_network(self.channels, self.outputs, self.stride)))
        if self.weights.dtype != np.float32 or self.weights.shape != (expected,):
            raise ValueError("the network has other weights")

    @property
    def n_outputs(self) -> int:
        """Number M of scores."""
        return self.outputs


def _standardized(values: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> Tensor:
    """Return standardized images with the channels first in memory too, since torch crashes on others (2.13, CPU)."""
    standardized = (values - mean[:, None, None]) / scale[:, None, None]
    return torch.from_numpy(np.ascontiguousarray(standardized, np.float32))


def _fit_network(values: np.ndarray, truth: Truth, seed: int) -> list[Part]:
    mean, scale = standard_scale(values, (0, 2, 3))
    inputs = _standardized(values, mean, scale)
    stride = 2 if max(values.shape[2:]) > SMALL else 1
    fitted: list[Part] = []
    for rate in RATES:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = _train(inputs, truth, rate, stride)
        weights = torch.cat([tensor.reshape(-1) for tensor in _tensors(network)]).numpy().astype(np.float32)
        fitted.append(ResidualNetwork(values.shape[1], int(np.prod(truth.output.shape)), stride, mean, scale, weights))
    return fitted


def _train(inputs: Tensor, truth: Truth, rate: float, stride: int) -> nn.Module:
    network = _network(inputs.shape[1], int(np.prod(truth.output.shape)), stride)
    optimizer = torch.optim.AdamW(network.parameters(), rate, weight_decay=DECAY)
    # A batch of one sample has no variance to normalize by.
    batches = max(1, len(inputs) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=EPOCHS * batches)
    y = torch.from_numpy(truth.y if truth.output.task == "classification" else truth.matrix.astype(np.float32))
    mask = None if truth.mask is None else torch.from_numpy(truth.mask.reshape(len(truth), -1).astype(np.float32))
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(inputs)).tensor_split(batches):
            optimizer.zero_grad()
            loss = _loss(network(inputs[rows]), y[rows], None if mask is None else mask[rows], truth.output.task)
            loss.backward()
            optimizer.step()
            schedule.step()
    return network


def _loss(outputs: Tensor, y: Tensor, mask: Tensor | None, task: str) -> Tensor:
    if task == "classification":
        return cross_entropy(outputs, y)
    if task == "multi-label":
        return binary_cross_entropy_with_logits(outputs, y)
    squares = (outputs - y) ** 2
    return squares.mean() if mask is None else (squares * mask).sum() / mask.sum().clamp(min=1)


NETWORK = Predictor(tuple(f"learning rate {rate:g}" for rate in RATES), _fit_network, n_compared=1)
