"""Models of target data, made of small random sources of every family."""

from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from modgap.errors import UsageError
from modgap.models import Output, TargetModel, target_model
from modgap.models.embedders import sound_tokens
from modgap.sources import ImageInput, open_source
from modgap.sources.timm.split import split_model
from tests.small_hub import small_hub  # noqa: F401 - fixture
from tests.small_targets import CLASSES, IMAGES, TEXT, batch, small_source  # noqa: F401 - fixture

# Shapes, gradients


@pytest.mark.parametrize("name", [*IMAGES, *TEXT])
@pytest.mark.parametrize(
    ("shape", "output"),
    [
        ((2, 40, 30), CLASSES),
        ((5, 20, 24), Output("regression", (2, 20, 24))),
        ((1, 97), Output("regression", (3, 97))),
        ((3, 60), Output("regression", (4,))),
    ],
    ids=["classes", "map", "series", "numbers"],
)
def test_outputs_have_their_shape_and_every_parameter_a_gradient(source, name, shape, output):
    model = target_model(source(name), np.zeros(shape), output)
    assert model.training
    assert all(module.training for module in model.modules())
    found = model(batch(3, *shape))
    assert found.shape == (3, *output.shape)
    (found * batch(*found.shape, seed=1)).sum().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
    assert all(p.grad.any() for p in (*model.embedder.parameters(), *model.predictor.parameters()))
    tokens = model.embed(batch(3, *shape))
    assert torch.equal(tokens, model.embedder(batch(3, *shape)))
    assert tokens.ndim == (4 if source(name).convolutional else 3)


@pytest.mark.parametrize(
    ("name", "output", "grid"),
    [
        ("swin", (2, 24, 40), (8, 8)),
        ("vit", (2, 24, 40), (4, 4)),
        ("resnet", (1, 9, 7), (4, 4)),
        ("tf_efficientnet_lite0", (1, 64, 64), (2, 2)),
        ("vit_tiny_patch16_224", (3, 100, 64), (4, 4)),
    ],
)
def test_a_dense_predictor_knows_the_grid_and_leaves_class_tokens_out(source, name, output, grid):
    model = target_model(source(name), np.zeros((3, 24, 40)), Output("regression", output))
    assert model.predictor.grid == grid
    model.eval()
    tokens = model.encode(model.embed(batch(1, 3, 24, 40))).detach()
    leading = tokens.shape[1] - grid[0] * grid[1]
    assert model.prefix_tokens == leading
    whole = model.predictor(tokens)
    for token in range(leading):
        other = tokens.clone()
        other[:, token] += 10
        assert torch.equal(model.predictor(other), whole)
    # The token of row 1, column 2 or the last decides the places around its own share of the map, and no others.
    row, column = 1, min(2, grid[1] - 1)
    tokens[:, leading + row * grid[1] + column] += 10
    changed = (model.predictor(tokens) - whole).abs().sum(dim=(0, 1)) > 0
    for axis, (at, count) in enumerate(zip((row, column), grid, strict=True)):
        places = changed.any(dim=1 - axis).nonzero().flatten()
        size = output[1 + axis]
        assert abs(places.min() - at / count * size) <= 1
        assert abs(places.max() + 1 - (at + 1) / count * size) <= 1


def test_a_grid_follows_an_image_that_is_not_square():
    source = open_source("random:timm:vit_tiny_patch16_224").load(64)
    model = timm.create_model("vit_tiny_patch16_224", img_size=(32, 64), depth=1).eval()
    assert isinstance(source.input, ImageInput)
    wide = replace(
        source, model=model, split=lambda: split_model(model, (32, 64)), input=replace(source.input, size=(32, 64))
    )
    made = target_model(wide, np.zeros((1, 10, 20)), Output("regression", (1, 10, 20)))
    assert made.predictor.grid == (2, 4)
    assert made(batch(2, 1, 10, 20)).shape == (2, 1, 10, 20)


def test_the_mean_leaves_class_tokens_out(source):
    model = target_model(source("deit"), np.zeros((3, 32, 32)), CLASSES).eval()
    x = batch(2, 3, 32, 32)
    tokens = model.encode(model.embed(x))
    wanted = tokens[:, 2:].mean(dim=1) @ model.predictor.linear.weight.T + model.predictor.linear.bias
    torch.testing.assert_close(model(x), wanted)
    assert tokens.shape[1] == 18


# Series and images for text, series for images


@pytest.mark.parametrize(
    ("shape", "options", "tokens"),
    [
        ((2, 30), {}, 30),
        ((2, 120), {}, 40),
        ((2, 97), {}, 33),
        ((1, 64), {"length": 16}, 16),
        ((3, 8, 20), {}, 40),
    ],
)
def test_tokens_of_series_are_within_the_target_length(source, shape, options, tokens):
    model = target_model(source("bert-mlm"), np.zeros(shape), CLASSES, **options)
    assert model.embed(batch(2, *shape)).shape == (2, tokens, 32)
    assert model.embedder.positions.shape == (tokens, 32)


@pytest.mark.parametrize("name", ["ast", "wav2vec2"])
@pytest.mark.parametrize("shape", [(2, 30), (1, 6, 8)])
def test_series_and_images_become_as_many_tokens_as_a_source_of_sound_makes_of_a_second(source, name, shape):
    sound = source(name)
    tokens = sound_tokens(sound.split().embedder, sound.input)
    model = target_model(sound, np.zeros(shape), Output("regression", (1, *shape[1:])))
    x = batch(2, *shape)
    assert model.embed(x).shape == (2, *tokens.shape[1:])
    assert model(x).shape == (2, 1, *shape[1:])


def test_a_token_sees_its_own_stretch_alone(source):
    model = target_model(source("roberta-mlm"), np.zeros((2, 96)), Output("regression", (2, 96))).eval()
    x = batch(1, 2, 96)
    other = x.clone()
    other[..., 10] += 1
    with torch.no_grad():
        changed = (model.embed(other) - model.embed(x)).abs().sum(dim=(0, 2)) > 0
        assert changed.nonzero().flatten().tolist() == [10 // model.embedder.layout.stride]
        tokens = model.encode(model.embed(x))
        moved = tokens.clone()
        moved[:, 5] += 1
        places = (model.predictor(moved) - model.predictor(tokens)).abs().sum(dim=(0, 1)).nonzero().flatten()
    stride = model.embedder.layout.stride
    assert places.tolist() == list(range(5 * stride, 6 * stride))


def test_a_map_from_a_source_of_text_lies_as_the_image_does(source):
    model = target_model(source("bert-mlm"), np.zeros((1, 10, 12)), Output("regression", (1, 10, 12))).eval()
    tokens = torch.zeros(1, 40, 32)
    with torch.no_grad():
        base = model.predictor(tokens)
        tokens[:, 9] = 1
        places = (model.predictor(tokens) - base).abs()[0, 0].nonzero().tolist()
    assert places == [[2, 3], [2, 4], [2, 5]]


# Derivatives


@pytest.mark.parametrize("name", ["swin", "vit", "clip", "convnext", "resnet", "bert-mlm"])
@pytest.mark.parametrize("output", [CLASSES, Output("regression", (2, 12, 10))], ids=["classes", "map"])
def test_mixed_second_derivatives_agree_with_finite_differences(source, name, output):
    """d/d omega of <grad_theta loss, v>, through a functional call in float64, as MoNA's outer step takes it."""
    model = target_model(source(name), np.zeros((2, 12, 10)), output).double().eval()
    x = batch(2, 2, 12, 10, dtype=torch.float64)
    omega = dict(model.embedder.named_parameters(prefix="embedder"))
    theta = dict(model.encoder.named_parameters(prefix="encoder"))
    direction = {n: batch(*p.shape, seed=i, dtype=torch.float64) for i, (n, p) in enumerate(theta.items())}

    def gradients(step):
        moved = {n: p + step * direction[n] for n, p in theta.items()}
        loss = functional_call(model, moved, (x,)).square().mean()
        return torch.autograd.grad(loss, list(omega.values()), retain_graph=True)

    with sdpa_kernel(SDPBackend.MATH):
        loss = functional_call(model, theta, (x,)).square().mean()
        first = torch.autograd.grad(loss, list(theta.values()), create_graph=True)
        product = sum((g * direction[n]).sum() for n, g in zip(theta, first, strict=True))
        exact = torch.cat([g.flatten() for g in torch.autograd.grad(product, list(omega.values()))])
        step = 1e-8
        ahead, behind = (torch.cat([g.flatten() for g in gradients(sign * step)]) for sign in (1, -1))
    assert exact.norm() > 0
    assert ((ahead - behind) / (2 * step) - exact).norm() < 1e-5 * exact.norm()


@pytest.mark.parametrize("name", [*IMAGES, *TEXT])
def test_nothing_of_a_model_stays_behind_on_another_device(source, name):
    for shape, output in [((2, 24, 20), CLASSES), ((1, 97), Output("regression", (3, 97)))]:
        model = target_model(source(name), np.zeros(shape), output).to("meta")
        assert model(torch.zeros(2, *shape, device="meta")).shape == (2, *output.shape)


def test_training_brings_the_loss_down(source):
    model = target_model(source("swin"), np.zeros((1, 8, 8)), Output("classification", (2,)))
    x, labels = batch(8, 1, 8, 8), torch.arange(8) % 2
    x[labels == 1] += 1
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(15):
        loss = torch.nn.functional.cross_entropy(model(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


# Refusals


@pytest.mark.parametrize(
    ("name", "sample", "options", "message"),
    [
        ("wav2vec2", np.zeros((1, 100)), {"length": 20}, "text sources only, but the source takes audio"),
        ("wav2vec2", np.zeros((1, 100)), {"embedder_start": "source"}, "takes sound of any length, so its own"),
        ("bert-mlm", "a text", {}, r"of type str\. .* samples of shape \(C, H, W\)"),
        ("swin", np.zeros((4, 3, 8, 8)), {}, r"have shape \(4, 3, 8, 8\)"),
        ("swin", np.zeros(8), {}, r"have shape \(8,\)"),
        ("swin", np.zeros((0, 8, 8)), {}, r"have shape \(0, 8, 8\)"),
        ("swin", np.zeros((3, 8, 8)), {"length": 20}, "target length 20 applies to text sources"),
        ("bert-mlm", np.zeros((3, 8)), {"length": 41}, "target length is 41, but the source takes 1 to 40 tokens"),
        ("bert-mlm", np.zeros((3, 8)), {"length": 0}, "target length is 0"),
        (
            "swin",
            np.zeros((3, 8, 8)),
            {"embedder_start": "sources"},
            "Unknown embedder_start 'sources'. Did you mean source",
        ),
        ("swin", np.zeros((3, 8, 8)), {"seed": -1}, "seed is -1"),
    ],
)
def test_what_no_model_is_made_of(source, name, sample, options, message):
    with pytest.raises(UsageError, match=message) as caught:
        target_model(source(name), sample, CLASSES, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("task", "shape", "message"),
    [
        ("classification", (2, 3), r"shape \(2, 3\) does not fit the task classification"),
        ("multi-label", (0,), r"Expected the shape \(K,\)"),
        ("regression", (), r"shape \(\) does not fit"),
        ("regression", (1, 2, 3, 4), r"Expected the shape \(channels,\), "),
        ("logits", (2,), "logits"),
    ],
)
def test_outputs_that_no_predictor_has(task, shape, message):
    with pytest.raises(UsageError, match=message):
        Output(task, shape)


def test_a_model_is_made_of_three_parts(source):
    model = target_model(source("vit"), np.zeros((3, 8, 8)), CLASSES)
    assert isinstance(model, TargetModel)
    assert {name for name, _ in model.named_children()} == {"embedder", "encoder", "predictor"}
