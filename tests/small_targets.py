"""Small sources of every trainable family, and samples, for the tests of target models."""

import pytest
import torch

from modgap.models import Output
from modgap.sources import open_source
from tests.small_hub import loaded
from tests.small_models import MODELS

TIMM = ("tf_efficientnet_lite0", "resnet18", "convnext_atto", "vit_tiny_patch16_224")
SOUND = tuple(name for name in MODELS if name.startswith(("ast", "hubert", "wav2vec2", "whisper")))
TEXT = tuple(name for name in MODELS if name.startswith(("bert", "roberta", "gpt2", "llama", "t5")))
IMAGES = (*(name for name in MODELS if name not in (*SOUND, *TEXT)), *TIMM)
CLASSES = Output("classification", (5,))


@pytest.fixture(scope="module", name="source")
def small_source(hub):
    """Return a function that loads a small source by name, once."""
    sources = {}

    def get(name):
        if name not in sources:
            if name in TIMM:
                sources[name] = open_source(f"random:timm:{name}").load(64)
            else:
                hub(name)
                sources[name] = loaded(name)
        return sources[name]

    return get


def batch(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def state(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(first, second):
    assert first.keys() == second.keys()
    return all(torch.equal(first[name], second[name]) for name in first)
