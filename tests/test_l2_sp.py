"""L2-SP: the gradient of its penalty, its weight decay, and that it holds the encoder near the source."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from modgap.forward.sample_request import SampleRequest
from modgap.sources import open_source
from modgap.targets import open_target
from modgap.transfer.loop_setup import build_model
from modgap.transfer.losses import task_loss
from modgap.transfer.methods import get_method
from modgap.transfer.optimization import build_optimizer
from modgap.transfer.recipe import FullStage, resolve_recipe
from modgap.transfer.task_loss import MicroBatch
from modgap.transfer.train import train
from modgap.transfer.train_request import TrainRequest
from modgap.transfer.training_data import read_target_data
from modgap.transfer.training_steps import AnchoredStep, TaskStep


@pytest.fixture(scope="module")
def model_and_data():
    source = open_source("vit-fashion").load(None, head=False)
    data = read_target_data(open_target("digits"), limit=100)
    recipe = resolve_recipe(data.target.manifest)
    model = build_model(source, data, recipe, get_method("l2-sp"), seed=0).double().eval()
    return model, data


def test_an_update_is_that_of_the_loss_with_the_penalty(model_and_data):
    model, data = model_and_data
    trained = tuple(get_method("l2-sp").stages[0].select_parameters(model))
    generator = torch.Generator().manual_seed(0)
    anchors = {
        name: value.detach() + 0.1 * torch.randn(value.shape, generator=generator).double()
        for name, value in model.named_parameters()
        if name.startswith("encoder.")
    }
    step = AnchoredStep(
        model, trained, task_loss(data.target.manifest), data.train, 8, 0, 0, anchors=anchors, weight=0.3
    )
    x = torch.randn(8, *data.transform.shape, generator=generator).double()
    part = MicroBatch(x, torch.arange(8) % 10)
    found = step.gradient([part], np.arange(8), 0)
    plain = TaskStep(model, trained, step.loss, step.rows, 8, 0, 0).gradient([part], np.arange(8), 0)
    assert found.loss == plain.loss
    model.zero_grad()
    loss = step.loss(model(x), part.y, None).mean()
    parameters = dict(model.named_parameters())
    penalty = sum((parameters[name] - anchor).square().sum() for name, anchor in anchors.items()) / 2
    (loss + 0.3 * penalty).backward()
    before = {name: parameters[name].detach().clone() for name in trained}
    # With plain gradient descent, both parts of an update add up to a step down the whole loss.
    step.regularize(0.01)
    for name in trained:
        moved = before[name] - parameters[name].detach() + 0.01 * found.gradient[name]
        torch.testing.assert_close(moved, 0.01 * parameters[name].grad, rtol=1e-6, atol=1e-9)
    assert found.scalars["distance"] == pytest.approx(float((2 * penalty.detach()).sqrt()))
    model.zero_grad()


def test_held_parameters_have_no_weight_decay():
    first = nn.Parameter(torch.ones(2))
    second = nn.Parameter(torch.ones(2))
    optimizer = build_optimizer([first], FullStage(learning_rate=0.1, weight_decay=0.5), [second])
    first.grad = torch.zeros(2)
    second.grad = torch.zeros(2)
    optimizer.step()
    assert float(first[0]) == pytest.approx(0.95)
    assert float(second[0]) == 1


@pytest.mark.slow
def test_a_larger_weight_keeps_the_encoder_nearer_to_the_source(tmp_path):
    source = dict(open_source("vit-fashion").load(None, head=False).split().encoder.named_parameters())
    distances = []
    for weight in (0, 1, 100):
        request = TrainRequest(
            "l2-sp", "vit-fashion", "digits", overrides=(f"stage2.anchor={weight}", "stage2.epochs=2"),
            samples=SampleRequest(limit=100),
        )  # fmt: skip
        run = train(request, tmp_path / str(weight))
        weights = load_file(run.weights)
        distances.append(
            sum(float((weights[f"encoder.{name}"] - value).square().sum()) for name, value in source.items())
        )
    assert distances[0] > distances[1] > distances[2] > 0
