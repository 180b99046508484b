"""Models of target data, made of small random sources of every family."""

from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from modgap.errors import UsageError
from modgap.models import Output, TargetModel, frozen_statistics, normalisation_parameters, target_model
from modgap.sources import ImageInput, open_source
from modgap.sources.timm_split import split_model
from tests.small_hub import loaded, small_hub  # noqa: F401 - fixture
from tests.small_models import MODELS

TIMM = ("tf_efficientnet_lite0", "resnet18", "convnext_atto", "vit_tiny_patch16_224")
SOUND = ("ast", *(name for name in MODELS if name.startswith("wav2vec2")))
TEXT = tuple(name for name in MODELS if name.startswith(("bert", "roberta")))
IMAGES = (*(name for name in MODELS if name not in (*SOUND, *TEXT)), *TIMM)
CLASSES = Output("classes", (5,))


@pytest.fixture(scope="module", name="source")
def small_source(hub):
    """A small source by name, loaded once."""
    kept = {}

    def get(name):
        if name not in kept:
            if name in TIMM:
                kept[name] = open_source(f"random:timm:{name}").load(64)
            else:
                hub(name)
                kept[name] = loaded(name)
        return kept[name]

    return get


def batch(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def state(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(first, second):
    assert first.keys() == second.keys()
    return all(torch.equal(first[name], second[name]) for name in first)


# Shapes, gradients


@pytest.mark.parametrize("name", [*IMAGES, *TEXT])
@pytest.mark.parametrize(
    ("shape", "output"),
    [
        ((2, 40, 30), CLASSES),
        ((5, 20, 24), Output("values", (2, 20, 24))),
        ((1, 97), Output("values", (3, 97))),
        ((3, 60), Output("values", (4,))),
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
    # Only what the source's own numbers hide may be without effect: places of the tables that no token has.
    assert model.embedder is not None
    assert all(p.grad.any() for p in (*model.embedder.parameters(), *model.predictor.parameters()))
    tokens = model.tokens(batch(3, *shape))
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
    model = target_model(source(name), np.zeros((3, 24, 40)), Output("values", output))
    assert model.predictor.grid.shape == grid
    model.eval()
    tokens = model.encode(model.tokens(batch(1, 3, 24, 40))).detach()
    leading = tokens.shape[1] - grid[0] * grid[1]
    assert model.leading == leading
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
    made = target_model(wide, np.zeros((1, 10, 20)), Output("values", (1, 10, 20)))
    assert made.predictor.grid.shape == (2, 4)
    assert made(batch(2, 1, 10, 20)).shape == (2, 1, 10, 20)


def test_the_mean_leaves_class_tokens_out(source):
    model = target_model(source("deit"), np.zeros((3, 32, 32)), CLASSES).eval()
    x = batch(2, 3, 32, 32)
    tokens = model.encode(model.tokens(x))
    wanted = tokens[:, 2:].mean(dim=1) @ model.predictor.linear.weight.T + model.predictor.linear.bias
    torch.testing.assert_close(model(x), wanted)
    assert tokens.shape[1] == 18


# Start values


@pytest.mark.parametrize("name", IMAGES)
def test_a_sample_shaped_as_the_sources_own_gives_its_own_tokens(source, name):
    own = source(name)
    model = target_model(own, np.zeros((3, *own.input.size)), CLASSES, initial="source").eval()
    images = batch(2, 3, *own.input.size)
    with torch.no_grad():
        wanted, found = own.split().embedder(images), model.tokens(images)
        gain = getattr(model.embedder.norm, "weight", None)
        if gain is None:
            assert torch.equal(found, wanted)
        else:
            centred = wanted - wanted.mean(dim=-1, keepdim=True)
            scaled = centred / (wanted.var(dim=-1, correction=0, keepdim=True) + 1e-5).sqrt()
            torch.testing.assert_close(found, scaled * gain[0])
    if name.startswith(("swin", "convnext", "resnet", "tf_")):
        # These stems normalise by themselves, all but the one whose encoder does it.
        assert (gain is None) == (name != "swin-positions")
    # Twice as many channels that say the same: the same response.
    twice = target_model(own, np.zeros((6, *own.input.size)), CLASSES, initial="source").eval()
    with torch.no_grad():
        torch.testing.assert_close(twice.tokens(images.repeat(1, 2, 1, 1)), found, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["swin", "vit", "clip", "resnet", "tf_efficientnet_lite0", "bert-mlm", "roberta-mlm"])
def test_parts_start_by_seed_each_from_its_own_numbers(source, name):
    shape = (2, 24, 20)
    torch.manual_seed(5)
    before = torch.get_rng_state()

    def made(**options):
        return target_model(source(name), np.zeros(shape), CLASSES, **options)

    first, again, other = made(), made(), made(seed=1)
    plus, scratch = made(initial="source"), made(pretrained=False)
    assert torch.equal(torch.get_rng_state(), before)
    assert same(state(first), state(again))
    for part in ("embedder", "predictor"):
        assert not same(state(getattr(first, part)), state(getattr(other, part)))
        assert same(state(getattr(first, part)), state(getattr(scratch, part)))
    assert same(state(first.encoder), state(other.encoder))
    assert same(state(first.predictor), state(plus.predictor))
    assert not same(state(first.embedder), state(plus.embedder))
    assert not same(state(scratch.encoder), state(made(pretrained=False, seed=1).encoder))


@pytest.mark.parametrize("name", [*IMAGES, *TEXT])
def test_the_encoder_is_a_copy_and_its_state_is_that_of_the_sources(source, name):
    own = source(name)
    wanted = state(own.split().encoder)
    model = target_model(own, np.zeros((3, 24, 20)), CLASSES)
    assert same(dict(sorted(state(model.encoder).items())), dict(sorted(wanted.items())))
    x = batch(2, 3, 24, 20)
    with torch.no_grad():
        model(x)
        for parameter in model.parameters():
            parameter.add_(0.1)
    assert same(state(own.split().encoder), wanted)
    # What is trained goes back to where the diagnostics look for it.
    parts = own.split()
    try:
        parts.encoder.load_state_dict(model.encoder.state_dict())
        model.eval()
        with torch.no_grad():
            tokens = model.tokens(x)
            assert torch.equal(parts.tokens(parts.encoder(tokens)), model.encode(tokens))
    finally:
        parts.encoder.load_state_dict(wanted)


@pytest.mark.parametrize(
    "name", ["swin", "vit", "beit", "clip", "convnext", "resnet", "bert-mlm", "roberta-mlm", *TIMM]
)
def test_scratch_starts_as_the_library_starts_a_new_model(source, name):
    own = source(name)
    scratch = target_model(own, np.zeros((3, 24, 20)), CLASSES, pretrained=False).encoder
    if name in TIMM:
        torch.manual_seed(9)
        new = timm.create_model(name).state_dict()
    else:
        torch.manual_seed(9)
        model = MODELS[name]()[0]
        inner = model.vision_model if name == "clip" else model.base_model
        new = inner.state_dict()
    compared = 0
    for path, value in scratch.state_dict().items():
        fresh = new.get(path.removeprefix("model."))
        if fresh is None or fresh.shape != value.shape or not value.is_floating_point():
            continue
        compared += 1
        assert value.isfinite().all()
        if value.numel() >= 256:
            assert 0.8 * fresh.std() <= value.std() <= 1.25 * fresh.std(), path
        if fresh.unique().numel() == 1:
            assert torch.equal(value, fresh), path
    assert compared > 5
    trained = own.split().encoder.state_dict()
    large = [n for n, v in scratch.named_parameters() if v.numel() >= 256 and v.unique().numel() > 1]
    assert large
    assert not any(torch.equal(scratch.state_dict()[n], trained[n]) for n in large)


@pytest.mark.parametrize("name", ["swin", "convnext", "resnet18", "vit", "bert-mlm"])
def test_new_tokens_have_the_scale_of_the_sources_own(source, name):
    own = source(name)
    shape = (1, 16) if name == "bert-mlm" else (3, *own.input.size)
    model = target_model(own, np.zeros(shape), CLASSES)
    with torch.no_grad():
        if name == "bert-mlm":
            wanted = own.split().embedder.words.weight.detach()
        else:
            # Images that vary slowly, as natural ones do.
            images = torch.nn.functional.interpolate(batch(16, 3, 4, 4), own.input.size, mode="bicubic")
            embedder = own.split().embedder.train()
            with frozen_statistics(embedder):
                wanted = embedder(images / images.std())
            embedder.eval()
        found = model.tokens(batch(16, *shape))
    ratio = float(found.square().mean().sqrt() / wanted.square().mean().sqrt())
    assert 0.5 < ratio < 2


def test_series_start_from_the_vectors_of_words(source):
    own = source("bert-texts")
    table = own.split().embedder.words.weight.detach()
    model = target_model(own, np.zeros((4, 20)), CLASSES, initial="source")
    given = torch.cat([model.embedder.projection.weight[..., 0].T, model.embedder.projection.bias[None]])
    cosine = torch.nn.functional.cosine_similarity(given[:, None], table[None], dim=2)
    nearest = cosine.max(dim=1)
    torch.testing.assert_close(nearest.values, torch.ones(5))
    assert len(set(nearest.indices.tolist())) == 5
    # More values than the vocabulary has words.
    target_model(own, np.zeros((100, 20)), CLASSES, initial="source")


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
    assert model.tokens(batch(2, *shape)).shape == (2, tokens, 32)
    assert model.embedder.positions.shape == (tokens, 32)


def test_a_token_sees_its_own_stretch_alone(source):
    model = target_model(source("roberta-mlm"), np.zeros((2, 96)), Output("values", (2, 96))).eval()
    x = batch(1, 2, 96)
    other = x.clone()
    other[..., 10] += 1
    with torch.no_grad():
        changed = (model.tokens(other) - model.tokens(x)).abs().sum(dim=(0, 2)) > 0
        assert changed.nonzero().flatten().tolist() == [10 // model.embedder.layout.stride]
        tokens = model.encode(model.tokens(x))
        moved = tokens.clone()
        moved[:, 5] += 1
        places = (model.predictor(moved) - model.predictor(tokens)).abs().sum(dim=(0, 1)).nonzero().flatten()
    stride = model.embedder.layout.stride
    assert places.tolist() == list(range(5 * stride, 6 * stride))


def test_a_map_from_a_source_of_text_lies_as_the_image_does(source):
    model = target_model(source("bert-mlm"), np.zeros((1, 10, 12)), Output("values", (1, 10, 12))).eval()
    tokens = torch.zeros(1, 40, 32)
    with torch.no_grad():
        base = model.predictor(tokens)
        tokens[:, 9] = 1
        places = (model.predictor(tokens) - base).abs()[0, 0].nonzero().tolist()
    assert places == [[2, 3], [2, 4], [2, 5]]


# Derivatives


@pytest.mark.parametrize("name", ["swin", "vit", "clip", "convnext", "resnet", "bert-mlm"])
@pytest.mark.parametrize("output", [CLASSES, Output("values", (2, 12, 10))], ids=["classes", "map"])
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
    for shape, output in [((2, 24, 20), CLASSES), ((1, 97), Output("values", (3, 97)))]:
        model = target_model(source(name), np.zeros(shape), output).to("meta")
        assert model(torch.zeros(2, *shape, device="meta")).shape == (2, *output.shape)


def test_training_brings_the_loss_down(source):
    model = target_model(source("swin"), np.zeros((1, 8, 8)), Output("classes", (2,)))
    x, labels = batch(8, 1, 8, 8), torch.arange(8) % 2
    x[labels == 1] += 1
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(15):
        loss = torch.nn.functional.cross_entropy(model(x), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


# Normalisation


@pytest.mark.parametrize("name", ["swin", "resnet", "clip", "bert-mlm", "convnext_atto", "tf_efficientnet_lite0"])
def test_names_of_normalisation_are_all_with_norm_in_their_path(source, name):
    encoder = target_model(source(name), np.zeros((3, 24, 20)), CLASSES).encoder
    named = dict(encoder.named_parameters())
    found = normalisation_parameters(encoder)
    assert set(found) <= set(named)
    assert all(named[n].ndim == 1 for n in found)
    words = ("norm", "bn", "downsample.0", "downsampling_layer.0", "layrnorm")
    assert sorted(found) == sorted(n for n, p in named.items() if p.ndim == 1 and any(w in n.lower() for w in words))


@pytest.mark.parametrize("name", ["resnet", "tf_efficientnet_lite0"])
def test_statistics_stay_within_the_context_and_move_without_it(source, name):
    model = target_model(source(name), np.zeros((3, 24, 20)), CLASSES)
    x, before = batch(4, 3, 24, 20), state(model)
    with torch.no_grad():
        free = model(x)
        assert not same(state(model), before)
        model.load_state_dict(before)
        with frozen_statistics(model):
            assert torch.equal(model(x), free)
        with frozen_statistics(model, by="running"):
            running = model(x)
        assert same(state(model), before)
        assert all(module.training for module in model.modules())
        assert torch.equal(running, model.eval()(x))
    assert not torch.equal(running, free)


def test_statistics_go_on_after_an_error(source):
    model = target_model(source("resnet"), np.zeros((3, 24, 20)), CLASSES)
    with pytest.raises(UsageError, match="expected samples of shape"), frozen_statistics(model, by="running"):
        model(batch(2, 3, 24, 21))
    assert all(module.training for module in model.modules())
    with pytest.raises(UsageError, match="unknown statistics 'none'"), frozen_statistics(model, by="none"):
        pass


# Refusals


@pytest.mark.parametrize(
    ("name", "sample", "options", "message"),
    [
        ("ast", np.zeros((1, 100)), {}, "this one takes audio; sources of images or text learn from arrays"),
        ("wav2vec2", np.zeros((1, 100)), {}, "this one takes audio"),
        ("bert-mlm", "a text", {}, r"got str; sources of images or text learn from arrays \(C, H, W\)"),
        ("swin", np.zeros((4, 3, 8, 8)), {}, r"got shape \(4, 3, 8, 8\)"),
        ("swin", np.zeros(8), {}, r"got shape \(8,\)"),
        ("swin", np.zeros((0, 8, 8)), {}, r"got shape \(0, 8, 8\)"),
        ("swin", np.zeros((3, 8, 8)), {"length": 20}, "a target length applies to sources of text"),
        ("bert-mlm", np.zeros((3, 8)), {"length": 41}, "from 1 to the 40 tokens that the source takes, got 41"),
        ("bert-mlm", np.zeros((3, 8)), {"length": 0}, "from 1 to the 40 tokens"),
        ("swin", np.zeros((3, 8, 8)), {"initial": "sources"}, "unknown initial 'sources'; did you mean source"),
        ("swin", np.zeros((3, 8, 8)), {"seed": -1}, "expected a seed from 0, got -1"),
    ],
)
def test_what_no_model_is_made_of(source, name, sample, options, message):
    with pytest.raises(UsageError, match=message) as caught:
        target_model(source(name), sample, CLASSES, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "shape"),
    [("classes", (2, 3)), ("classes", (0,)), ("values", ()), ("values", (1, 2, 3, 4)), ("logits", (2,))],
)
def test_outputs_that_no_predictor_gives(kind, shape):
    with pytest.raises(UsageError, match="expected"):
        Output(kind, shape)


def test_a_model_is_made_of_three_parts(source):
    model = target_model(source("vit"), np.zeros((3, 8, 8)), CLASSES)
    assert isinstance(model, TargetModel)
    assert {name for name, _ in model.named_children()} == {"embedder", "encoder", "predictor"}
