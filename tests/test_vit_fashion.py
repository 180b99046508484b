"""The source whose weights come with modgap: a small vision transformer of one channel."""

import re

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from modgap.errors import InputError
from modgap.sources import ImageInput, open_source, source_infos
from modgap.sources.timm.packaged import ARCHITECTURE, CLASSES, OPTIONS, SHIPPED
from modgap.targets import named_manifest, open_target

MOST_BYTES = 3_000_000


@pytest.fixture(scope="module")
def source():
    return open_source("vit-fashion").load(None)


@pytest.fixture(scope="module")
def original():
    """The model by timm alone, in evaluation mode."""
    model = timm.create_model(ARCHITECTURE, **OPTIONS).eval()
    model.load_state_dict({name: tensor.float() for name, tensor in load_file(SHIPPED).items()}, strict=True)
    return model


def test_the_weights_are_small_and_in_half_precision():
    assert SHIPPED.stat().st_size < MOST_BYTES
    assert {tensor.dtype for tensor in load_file(SHIPPED).values()} == {torch.float16}


def test_the_alias_says_what_there_is(source):
    (info,) = [info for info in source_infos() if info.name == "vit-fashion"]
    assert info.is_installed
    assert info.parameters == sum(p.numel() for p in source.model.parameters())
    assert info.n_classes == len(source.class_names) == 10
    assert source.class_names == CLASSES == named_manifest("fashion-mnist").classes
    assert info.surrogate == ("fashion-mnist", "test")
    assert source.input == ImageInput((28, 28), (0.2860,), (0.3530,), "bicubic")
    assert not source.convolutional


def test_its_card_states_what_it_is():
    card = SHIPPED.with_suffix(".md").read_text(encoding="utf-8")
    assert f"{SHIPPED.stat().st_size:,} bytes" in card
    assert "60,000 training images" in card
    for phrase in ("python tools/pretrain_vit_fashion.py", "MIT", "seed", "torch", "timm", "1708.07747"):
        assert phrase in card
    (accuracy,) = re.findall(r"on the 10,000 test images \| ([\d.]+) \|", card)
    assert 0.9 <= float(accuracy) < 1


def test_the_parts_make_up_timms_own_model(source, original):
    images = torch.randn(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    parts = source.split()
    with torch.inference_mode():
        tokens = parts.embedder(images)
        wanted = original(images)
        assert tokens.shape == (3, 49, 96)
        assert torch.equal(parts.head(parts.encoder(tokens)), wanted)
        assert torch.equal(source.model(images), wanted)
        assert parts.tokens(parts.encoder(tokens)).shape == (3, 49, 96)


def test_channels_become_one(source):
    rng = np.random.default_rng(0)
    colors = rng.random((2, 3, 28, 28), dtype=np.float32)
    batch = source.input.batch(list(colors), torch.device("cpu"))
    wanted = (colors.mean(axis=1, keepdims=True) - 0.2860) / 0.3530
    np.testing.assert_allclose(batch, wanted, rtol=1e-5, atol=1e-6)
    gray = source.input.batch([colors[0, :1], colors[1, :1]], torch.device("cpu"))
    np.testing.assert_allclose(gray, (colors[:, :1] - 0.2860) / 0.3530, rtol=1e-5, atol=1e-6)
    assert source.input.batch([rng.random((2, 8, 8), dtype=np.float32)], torch.device("cpu")).shape == (1, 1, 28, 28)


def test_the_control_has_other_weights(source):
    control, again = (open_source("random:vit-fashion").load(None) for _ in range(2))
    own, random, same = (dict(each.model.named_parameters()) for each in (source, control, again))
    assert own.keys() == random.keys()
    assert all(torch.equal(random[name], same[name]) for name in random)
    differing = [name for name in own if not torch.equal(own[name], random[name])]
    assert len(differing) == len(own)
    fingerprints = [open_source(name).fingerprint() for name in ("vit-fashion", "random:vit-fashion")]
    assert fingerprints[0]["weights"] != fingerprints[1]["weights"] == "random, seed 0"
    assert fingerprints[0]["architecture"] == fingerprints[1]["architecture"]


def test_weights_of_the_users_own(tmp_path, source):
    other = {name: tensor + 1 for name, tensor in load_file(SHIPPED).items()}
    save_file(other, tmp_path / "other.safetensors")
    handle = open_source("vit-fashion", weights=str(tmp_path / "other.safetensors"))
    assert handle.fingerprint()["weights"] != open_source("vit-fashion").fingerprint()["weights"]
    loaded = handle.load(None)
    torch.testing.assert_close(loaded.model.head.bias, other["head.bias"].float())
    save_file({"head.bias": other["head.bias"]}, tmp_path / "part.safetensors")
    with pytest.raises(InputError, match="do not fit vit-fashion"):
        open_source("vit-fashion", weights=str(tmp_path / "part.safetensors")).load(None)


def test_it_takes_larger_images_too():
    source = open_source("vit-fashion").load(56)
    assert source.input.size == (56, 56)
    with torch.inference_mode():
        assert source.model(torch.randn(1, 1, 56, 56)).shape == (1, 10)


@pytest.mark.bundle
def test_it_knows_fashion_mnists_test_images(source):
    table = open_target("fashion-mnist").read()
    rows = np.flatnonzero(table.splits == 2)[:1000]
    images = [np.float32(table.samples[int(row)]) / 255 for row in rows]
    with torch.inference_mode():
        guesses = source.model(source.input.batch(images, torch.device("cpu"))).argmax(dim=1).numpy()
    assert (guesses == table.class_labels[rows]).mean() >= 0.88


@pytest.mark.bundle
def test_the_discrepancy_to_digits_is_measured(modgap):
    done = modgap(
        "discrepancy",
        "--source",
        "vit-fashion",
        "--target",
        "digits",
        "--limit",
        60,
        "--trials",
        200,
        "--permutations",
        0,
    )
    assert done.returncode == 0, done.stderr
    assert "vit-fashion" in done.stdout
