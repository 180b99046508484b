"""Batches side by side, and texts of similar length together, change no outputs."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from modgap.errors import InputError
from modgap.forward import batched_inference
from modgap.forward.batched_inference import ModelRunner, output_batches
from modgap.inputs.native_embedding import native_embedding
from modgap.sources import ImageInput, Source, open_source
from modgap.targets.manifest import InputSpec
from modgap.targets.samples import ArraySamples, Table, TextSamples
from tests.small_hub import loaded, small_hub  # noqa: F401 - fixture

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_thread():
    """The bits of sums depend on the number of threads of PyTorch, which a ranking fixes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def table(samples):
    return Table(samples, np.arange(len(samples)) % 2, splits=np.zeros(len(samples), np.int64))


def images(count=90):
    return table(ArraySamples(np.random.default_rng(0).random((count, 3, 20, 20), dtype=np.float32)))


def texts(count=600):
    rng = np.random.default_rng(0)
    words = ["the", "cat", "sat", "dog", "on", "mat"]
    return table(TextSamples(tuple(" ".join(rng.choice(words, rng.integers(1, 40))) for _ in range(count))))


def sounds(count=60):
    rng = np.random.default_rng(0)
    lengths = rng.integers(4000, 9000, count)
    waves = [(0.1 * rng.standard_normal((1, length))).astype(np.float32) for length in lengths]
    return table(waves)


def outputs(source, data, side_by_side, **options):
    kind = source.input.kind
    spec = InputSpec(kind=kind, rate=16_000 if kind == "audio" else None)
    embedding = native_embedding(spec, data, source.input)
    batches = output_batches(
        source, data.samples, np.arange(len(data.samples)), embedding, device=CPU, side_by_side=side_by_side, **options
    )
    return np.concatenate(list(batches))


@pytest.fixture(name="copies")
def count_copies(monkeypatch):
    """Number of copies of models that ran."""
    made = []
    plain = ModelRunner.copy

    def copy(self):
        made.append(plain(self))
        return made[-1]

    monkeypatch.setattr(ModelRunner, "copy", copy)
    return made


@pytest.mark.parametrize("name", ["vit", "bert-texts", "wav2vec2"])
def test_loader_workers_have_the_same_bits(hub, name):
    hub(name)
    source = loaded(name)
    data = {"image": images, "text": texts, "audio": sounds}[source.input.kind]()
    expected = outputs(source, data, 1)
    for workers in (0, 1, 2):
        assert np.array_equal(expected, outputs(source, data, 1, loader_workers=workers))
    assert np.array_equal(expected, outputs(source, data, 2, loader_workers=2))


class Damaged(ArraySamples):
    """Samples of which one cannot be read."""

    def __getitem__(self, row):
        if row == 30:
            raise InputError("Sample 30 is damaged.")
        return super().__getitem__(row)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_sample_that_cannot_be_read_keeps_its_message(hub, workers):
    hub("vit")
    data = table(Damaged(images().samples.array))
    with pytest.raises(InputError, match=r"^Sample 30 is damaged\.$"):
        outputs(loaded("vit"), data, 1, loader_workers=workers)


@pytest.mark.parametrize("name", ["vit", "swin", "bert-texts", "gpt2-clm", "wav2vec2"])
def test_batches_side_by_side_have_the_same_bits(hub, copies, name):
    hub(name)
    source = loaded(name)
    data = {"image": images, "text": texts, "audio": sounds}[source.input.kind]()
    alone = outputs(source, data, 1)
    for threads in (2, 3):
        copies.clear()
        np.testing.assert_array_equal(outputs(source, data, threads), alone)
        # The weight normalization of wav2vec 2.0 may be a hook, and models with hooks are not copied.
        assert len(copies) == threads - 1 or name == "wav2vec2"
    if name == "wav2vec2":
        return
    # The copies have the weights of the original, not weights of their own.
    weights = [value.data_ptr() for value in source.model.parameters()]
    assert [value.data_ptr() for value in copies[0].source.model.parameters()] == weights


@pytest.mark.parametrize("name", ["timm:test_vit", "timm:test_resnet"])
def test_timm_models_side_by_side(copies, name):
    source = open_source(f"random:{name}").load(32)
    np.testing.assert_array_equal(outputs(source, images(), 2), outputs(source, images(), 1))
    assert len(copies) == 1


class Closure(nn.Module):
    """A model whose forward pass runs a layer that is not its own, as closures do."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        self.run = partial(self._call, layer)

    @staticmethod
    def _call(layer, x):
        return layer(x.flatten(1))

    def forward(self, x):
        return self.run(x)


class Bound(Closure):
    """The same as a function of Python, whose closure is not copied with the model."""

    def __init__(self, layer):
        super().__init__(layer)
        self.run = lambda x: layer(x.flatten(1))


def small_source(model):
    source_input = ImageInput((4, 4), (0.0,) * 3, (1.0,) * 3, "bilinear")
    return Source(model, source_input, tuple("abcde"), False, lambda: None, model)


def test_a_model_that_calls_another_is_not_copied(copies, caplog):
    caplog.set_level("DEBUG", "modgap")
    torch.manual_seed(0)
    source = small_source(Bound(nn.Linear(48, 5)))
    np.testing.assert_array_equal(outputs(source, images(), 2), outputs(source, images(), 1))
    assert "The model runs in one thread: " in caplog.text
    assert "the copy calls the original's Linear" in caplog.text


def test_a_model_with_hooks_is_not_copied(copies, caplog):
    caplog.set_level("DEBUG", "modgap")
    model = Closure(nn.Linear(48, 5))
    model.layer.register_forward_hook(lambda module, inputs, result: 2 * result)
    source = small_source(model)
    np.testing.assert_array_equal(outputs(source, images(), 2), outputs(source, images(), 1))
    assert copies == []
    assert "it has hooks, which its copy would share" in caplog.text


def test_an_error_in_a_thread_is_that_of_the_model(monkeypatch):
    class Failing(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(48, 5)

        def forward(self, x):
            if len(x) < 16:
                raise RuntimeError("the last batch fails")
            return self.layer(x.flatten(1))

    with pytest.raises(Exception, match="the last batch fails"):
        outputs(small_source(Failing()), images(90), 2)


@pytest.mark.long
def test_texts_of_similar_length_share_a_batch(hub):
    hub("bert-texts")
    source = loaded("bert-texts")
    data = texts()
    seen = []
    plain = source.input.batch

    class Counting(type(source.input)):
        def batch(self, pieces, device):
            batch = plain(pieces, device)
            seen.append(tuple(batch["input_ids"].shape))
            return batch

    counting = replace(source, input=Counting(source.input.tokenizer, source.input.max_tokens))
    together = outputs(counting, data, 1)
    sorted_tokens = sum(rows * length for rows, length in seen)
    assert max(rows for rows, _ in seen) <= batched_inference.CPU_BATCH
    seen.clear()
    one_by_one = np.concatenate([outputs(counting, table(TextSamples((text,))), 1) for text in data.samples.texts])
    needed = sum(rows * length for rows, length in seen)
    np.testing.assert_allclose(together, one_by_one, rtol=1e-4, atol=1e-5)
    assert sorted_tokens < 1.15 * needed


def test_no_samples_have_no_outputs():
    source = small_source(Closure(nn.Linear(48, 5)))
    data = images(4)
    embedding = native_embedding(InputSpec(kind="image"), data, source.input)
    rows = np.arange(0)
    assert list(output_batches(source, data.samples, rows, embedding, device=CPU, side_by_side=2)) == []
