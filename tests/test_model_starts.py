"""What target models start from, by seed and source, and their layers of normalization."""

import copy

import numpy as np
import pytest
import timm
import torch

from modgap.models import normalization_parameters, target_model
from tests.small_hub import small_hub  # noqa: F401 - fixture
from tests.small_models import MODELS
from tests.small_targets import CLASSES, IMAGES, TEXT, TIMM, batch, same, small_source, state  # noqa: F401 - fixture


@pytest.mark.parametrize("name", IMAGES)
def test_a_sample_shaped_as_the_sources_own_gives_its_own_tokens(source, name):
    own = source(name)
    model = target_model(own, np.zeros((3, *own.input.size)), CLASSES, embedder_start="source").eval()
    images = batch(2, 3, *own.input.size)
    with torch.no_grad():
        wanted, found = own.split().embedder(images), model.embed(images)
        gain = getattr(model.embedder.norm, "weight", None)
        if gain is None:
            assert torch.equal(found, wanted)
        else:
            centered = wanted - wanted.mean(dim=-1, keepdim=True)
            scaled = centered / (wanted.var(dim=-1, correction=0, keepdim=True) + 1e-5).sqrt()
            torch.testing.assert_close(found, scaled * gain[0])
    if name.startswith(("swin", "convnext", "resnet", "tf_")):
        # These stems normalize by themselves, all but the one whose encoder does it.
        assert (gain is None) == (name != "swin-positions")
    # Twice as many channels that say the same: the same response.
    twice = target_model(own, np.zeros((6, *own.input.size)), CLASSES, embedder_start="source").eval()
    with torch.no_grad():
        torch.testing.assert_close(twice.embed(images.repeat(1, 2, 1, 1)), found, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["swin", "vit", "clip", "resnet", "tf_efficientnet_lite0", "bert-mlm", "roberta-mlm"])
def test_parts_start_by_seed_each_from_its_own_numbers(source, name):
    own, shape = source(name), (2, 24, 20)
    torch.manual_seed(5)
    before = torch.get_rng_state()

    def made(**options):
        return target_model(own, np.zeros(shape), CLASSES, **options)

    first, again, other = made(), made(), made(seed=1)
    plus, scratch = made(embedder_start="source"), made(pretrained_encoder=False)
    assert torch.equal(torch.get_rng_state(), before)
    assert same(state(first), state(again))
    for part in ("embedder", "predictor"):
        assert not same(state(getattr(first, part)), state(getattr(other, part)))
        assert same(state(getattr(first, part)), state(getattr(scratch, part)))
    assert same(state(first.encoder), state(other.encoder))
    assert same(state(first.predictor), state(plus.predictor))
    assert not same(state(first.embedder), state(plus.embedder))
    assert not same(state(scratch.encoder), state(made(pretrained_encoder=False, seed=1).encoder))


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
            tokens = model.embed(x)
            assert torch.equal(parts.tokens(parts.encoder(tokens)), model.encode(tokens))
    finally:
        parts.encoder.load_state_dict(wanted)


@pytest.mark.parametrize(
    "name",
    [
        *("swin", "vit", "beit", "clip", "convnext", "resnet", "bert-mlm", "roberta-mlm"),
        *(pytest.param(name, marks=[pytest.mark.long] * (name == "resnet18")) for name in TIMM),
    ],
)
def test_scratch_starts_as_the_library_starts_a_new_model(source, name):
    own = source(name)
    scratch = target_model(own, np.zeros((3, 24, 20)), CLASSES, pretrained_encoder=False).encoder
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
            wanted = own.split().embedder.word_table.weight.detach()
        else:
            # Images that vary slowly, as natural ones do.
            images = torch.nn.functional.interpolate(batch(16, 3, 4, 4), own.input.size, mode="bicubic")
            wanted = copy.deepcopy(own.split().embedder).train()(images / images.std())
        found = model.embed(batch(16, *shape))
    ratio = float(found.square().mean().sqrt() / wanted.square().mean().sqrt())
    assert 0.5 < ratio < 2


def test_series_start_from_the_vectors_of_words(source):
    own = source("bert-texts")
    table = own.split().embedder.word_table.weight.detach()
    model = target_model(own, np.zeros((4, 20)), CLASSES, embedder_start="source")
    given = torch.cat([model.embedder.projection.weight[..., 0].T, model.embedder.projection.bias[None]])
    cosine = torch.nn.functional.cosine_similarity(given[:, None], table[None], dim=2)
    nearest = cosine.max(dim=1)
    torch.testing.assert_close(nearest.values, torch.ones(5))
    assert len(set(nearest.indices.tolist())) == 5
    # More values than the vocabulary has words.
    target_model(own, np.zeros((100, 20)), CLASSES, embedder_start="source")


# Normalization


@pytest.mark.parametrize("name", ["swin", "resnet", "clip", "bert-mlm", "convnext_atto", "tf_efficientnet_lite0"])
def test_names_of_normalization_are_all_with_norm_in_their_path(source, name):
    encoder = target_model(source(name), np.zeros((3, 24, 20)), CLASSES).encoder
    named = dict(encoder.named_parameters())
    found = normalization_parameters(encoder)
    assert set(found) <= set(named)
    assert all(named[n].ndim == 1 for n in found)
    words = ("norm", "bn", "downsample.0", "downsampling_layer.0", "layrnorm")
    assert sorted(found) == sorted(n for n, p in named.items() if p.ndim == 1 and any(w in n.lower() for w in words))
