"""L2-SP: the gradient of its penalty, its weight decay, and that it holds the encoder near the source."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from modgap.forward.sample_request import SampleRequest
from modgap.sources import open_source
from modgap.targets import TargetRequest, open_target
from modgap.training.loop import build_optimizer
from modgap.training.losses import task_loss
from modgap.training.method import Objective
from modgap.training.methods.l2_sp import AnchoredObjective
from modgap.training.recipe import FullStage
from modgap.training.task_loss import MicroBatch
from modgap.training.train import train
from modgap.training.train_request import TrainRequest
from modgap.training.training_data import read_target_data
from tests.training import training_of


def test_an_update_is_that_of_the_loss_with_the_penalty():
    source = open_source("vit-fashion").load(None, head=False)
    data = read_target_data(open_target("digits"), limit=100)
    training = training_of("l2-sp", source, data, "precision=float64", "stage2.anchor=0.3")
    model, stage = training.model.eval(), training.method.stages[0]
    step = AnchoredObjective(training, stage, 0)
    start = {name: value.detach() for name, value in model.named_parameters() if name.startswith("encoder.")}
    assert step.without_decay == start.keys() == step.anchors.keys()
    assert all(torch.equal(step.anchors[name], value) for name, value in start.items())
    generator = torch.Generator().manual_seed(0)
    anchors = {
        name: value.detach() + 0.1 * torch.randn(value.shape, generator=generator).double()
        for name, value in model.named_parameters()
        if name.startswith("encoder.")
    }
    step.anchors = anchors
    x = torch.randn(8, *data.transform.shape, generator=generator).double()
    part = MicroBatch(x, torch.arange(8) % 10)
    found = step.gradient([part], np.arange(8), 0)
    plain = Objective(training, stage, 0).gradient([part], np.arange(8), 0)
    assert found.loss == plain.loss
    model.zero_grad()
    loss = task_loss(data.target.manifest)(model(x), part.y, None).mean()
    parameters = dict(model.named_parameters())
    penalty = sum((parameters[name] - anchor).square().sum() for name, anchor in anchors.items()) / 2
    (loss + 0.3 * penalty).backward()
    before = {name: parameters[name].detach().clone() for name in step.trained}
    # With plain gradient descent, both parts of an update add up to a step down the whole loss.
    with torch.no_grad():
        step.before_step(0.01)
    for name in step.trained:
        moved = before[name] - parameters[name].detach() + 0.01 * found.gradient[name]
        torch.testing.assert_close(moved, 0.01 * parameters[name].grad, rtol=1e-6, atol=1e-9)
    assert found.scalars["distance"] == pytest.approx(float((2 * penalty.detach()).sqrt()))
    model.zero_grad()


def test_held_parameters_have_no_weight_decay():
    first = nn.Parameter(torch.ones(2))
    second = nn.Parameter(torch.ones(2))
    optimizer = build_optimizer({"a": first, "b": second}, FullStage(learning_rate=0.1, weight_decay=0.5), ["b"])
    first.grad = torch.zeros(2)
    second.grad = torch.zeros(2)
    optimizer.step()
    assert float(first[0]) == pytest.approx(0.95)
    assert float(second[0]) == 1


@pytest.mark.slow
@pytest.mark.long
def test_a_larger_weight_keeps_the_encoder_nearer_to_the_source(tmp_path):
    source = dict(open_source("vit-fashion").load(None, head=False).split().encoder.named_parameters())
    distances = []
    for weight in (0, 1, 100):
        request = TrainRequest(
            "l2-sp", "vit-fashion", TargetRequest("digits"), overrides=(f"stage2.anchor={weight}", "stage2.epochs=2"),
            samples=SampleRequest(limit=100),
        )  # fmt: skip
        run = train(request, tmp_path / str(weight))
        weights = load_file(run.weights)
        distances.append(
            sum(float((weights[f"encoder.{name}"] - value).square().sum()) for name, value in source.items())
        )
    assert distances[0] > distances[1] > distances[2] > 0
