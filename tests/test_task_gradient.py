"""The gradient of L_t is the same however its batch is divided, and every parameter's lies in memory of its own."""

import pytest
import torch
from torch import nn

from modgap.training.task_loss import MicroBatch, TaskLoss


class Sums(nn.Module):
    """Parameters whose gradients autograd returns as one tensor twice, as expanded tensors, or as views."""

    def __init__(self):
        super().__init__()
        self.first = nn.Parameter(torch.randn(5))
        self.second = nn.Parameter(torch.randn(5))
        self.scale = nn.Parameter(torch.randn(2, 5))
        self.left = nn.Parameter(torch.randn(5))
        self.right = nn.Parameter(torch.randn(5))
        self.unused = nn.Parameter(torch.randn(3))

    def forward(self, x):
        both = torch.stack([self.left, self.right]).sum(0)
        return x * (self.first + self.second) + self.scale.sum() + both


def squares(outputs, y, mask):
    return (outputs.sum(1) - y).square()


def in_parts(model, parts):
    torch.manual_seed(1)
    x, y = torch.randn(6, 5, dtype=torch.float64), torch.randn(6, dtype=torch.float64)
    pieces = tuple(MicroBatch(*arrays) for arrays in zip(x.chunk(parts), y.chunk(parts), strict=True))
    task = TaskLoss(model, squares, pieces, 6)
    found, loss = task.gradient(dict(model.named_parameters()), [name for name, _ in model.named_parameters()])
    squares(model(x), y, None).mean().backward()
    expected = {name: value.grad for name, value in model.named_parameters()}
    model.zero_grad()
    return found, expected, loss, squares(model(x), y, None).mean().item()


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_gradients_are_those_of_backward_and_can_be_changed_in_place(parts):
    torch.manual_seed(0)
    model = Sums().double()
    found, expected, loss, mean = in_parts(model, parts)
    assert loss == pytest.approx(mean)
    # As the clipping of a gradient's norm does.
    for gradient in found.values():
        gradient.mul_(0.5)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], torch.zeros(3).double() if gradient is None else gradient / 2)


def test_a_process_without_samples_of_an_update_adds_nothing():
    model = Sums().double()
    names = [name for name, _ in model.named_parameters()]
    found, loss = TaskLoss(model, squares, (), 6).gradient(dict(model.named_parameters()), names)
    assert loss == 0
    assert all(not gradient.any() for gradient in found.values())
