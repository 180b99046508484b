"""A hub's cache with the small models in it, and what tests of them share."""

import numpy as np
import pytest
import torch

from modgap.sources import AudioInput, ImageInput, TextInput, open_source
from tests.hub_layout import saved_in_hub
from tests.small_models import BARE, made

TEXTS = ("the cat sat", "a much longer text so that the first one is padded", "dog")
CPU = torch.device("cpu")


@pytest.fixture(scope="module", name="hub")
def small_hub(tmp_path_factory):
    """A hub's cache with all small models in it, `hf:small/NAME`; each is laid down when first asked for."""
    cache = tmp_path_factory.mktemp("home") / "hub"
    patch = pytest.MonkeyPatch()
    patch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    kept = {}

    def model(name):
        if name not in kept:
            kept[name] = made(name)
            saved_in_hub(cache, f"small/{name}", *kept[name])
        return kept[name][0]

    model.cache = cache
    yield model
    patch.undo()


@pytest.fixture(name="folder")
def small_folder(hub, tmp_path):
    """A copy of a small model's files in a folder of its own."""

    def copied(name):
        hub(name)
        (snapshot,) = (hub.cache / f"models--small--{name}" / "snapshots").iterdir()
        (tmp_path / name).mkdir()
        for file in snapshot.iterdir():
            (tmp_path / name / file.name).write_bytes(file.read_bytes())
        return tmp_path / name

    return copied


def loaded(name, **options):
    return open_source(f"hf:small/{name}").load(None, head=name not in BARE, **options)


def pieces(source):
    rng = np.random.default_rng(0)
    if isinstance(source.input, ImageInput):
        return [rng.random((3, 40, 30), dtype=np.float32) for _ in range(3)]
    if isinstance(source.input, TextInput):
        return TEXTS
    assert isinstance(source.input, AudioInput)
    return [(0.1 * rng.standard_normal(length)).astype(np.float32) for length in (8000, 5000)]


def batch_of(source):
    return source.input.batch(pieces(source), CPU)
