import dataclasses
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from modgap.errors import InputError, UsageError
from modgap.forward import batched_inference
from modgap.forward.batched_inference import ModelRunner
from modgap.forward.logits import LogitsRequest, read_logits_file, source_logits
from modgap.forward.sample_request import SampleRequest
from modgap.process.resources import choose_device
from modgap.sources import open_source
from modgap.storage import cache
from modgap.targets import open_target

SMALL = "random:timm:mobilenetv3_small_050"
AT_64 = LogitsRequest(SampleRequest(input_size=64, device="cpu"))


def naive_logits(source_name, target_name, size):
    """One image at a time, with nothing of modgap's but the model and the samples."""
    source, table = open_source(source_name).load(size), open_target(target_name).read()
    train = np.concatenate([table.samples[i].ravel() for i in np.flatnonzero(table.splits == 0)])
    low, high = train.min(), train.max()
    outputs = []
    for i in range(len(table.labels)):
        scaled = ((table.samples[i] - low) / (high - low)).astype(np.float32)
        image = torch.from_numpy(scaled)[None].repeat(1, 3, 1, 1)
        image = torch.nn.functional.interpolate(image, (size, size), mode=source.input.interpolation, antialias=True)
        mean, sd = (torch.tensor(v)[:, None, None] for v in (source.input.mean, source.input.sd))
        with torch.inference_mode():
            outputs.append(source.model((image - mean) / sd).numpy())
    return np.concatenate(outputs)


def test_logits_are_those_of_the_plain_loop(small_images):
    held = source_logits(open_source(SMALL), open_target(str(small_images)), AT_64)
    wanted = naive_logits(SMALL, str(small_images), 64)
    np.testing.assert_allclose(held.logits, wanted, rtol=1e-4, atol=1e-5)
    assert held.labels.tolist() == np.repeat([0, 1, 2], 20).tolist()
    assert not held.cached


def test_second_time_comes_from_the_cache_with_the_same_bits(small_images):
    first = source_logits(open_source(SMALL), open_target(str(small_images)), AT_64)
    second = source_logits(open_source(SMALL), open_target(str(small_images)), AT_64)
    assert second.cached
    assert second.logits.tobytes() == first.logits.tobytes()
    assert (second.source_classes, second.target_classes) == (first.source_classes, first.target_classes)
    assert second.provenance == first.provenance


def test_anything_that_decides_the_logits_makes_another_entry(small_images, tmp_path):
    def run(**changes):
        request = LogitsRequest(SampleRequest(**{"input_size": 64, "device": "cpu", **changes}))
        return source_logits(open_source(SMALL), open_target(str(small_images)), request)

    run()
    for change in ({"input_size": 32}, {"limit": 30}, {"limit": 30, "seed": 1}, {"split": "train"},
                   {"dtype": "bfloat16"}):  # fmt: skip
        assert not run(**change).cached
    assert run().cached
    arrays = dict(np.load(small_images))
    arrays["x"][0] += 0.5
    np.savez(small_images, **arrays)
    assert not run().cached


def test_a_damaged_entry_is_said_aloud_and_mended(small_images, caplog):
    first = source_logits(open_source(SMALL), open_target(str(small_images)), AT_64)
    (path,) = cache.entry_paths()
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    again = source_logits(open_source(SMALL), open_target(str(small_images)), AT_64)
    assert not again.cached
    assert "is not used (its digests do not fit" in caplog.text
    np.testing.assert_array_equal(again.logits, first.logits)
    assert source_logits(open_source(SMALL), open_target(str(small_images)), AT_64).cached


@pytest.mark.parametrize("moment", ["open", "append", "commit"])
def test_a_disk_that_takes_nothing_is_said_aloud_and_does_not_stop_the_run(small_images, caplog, monkeypatch, moment):
    wanted = source_logits(open_source(SMALL), open_target(str(small_images)), AT_64).logits
    cache.delete_files(cache.entry_paths())

    def refuse(*args):
        raise OSError(28, "No space left on device")

    name = {"open": "__init__", "append": "append", "commit": "commit"}[moment]
    monkeypatch.setattr(cache.ArrayWriter, name, refuse)
    held = source_logits(open_source(SMALL), open_target(str(small_images)), AT_64)
    assert "Continuing without it" in caplog.text
    np.testing.assert_array_equal(held.logits, wanted)


def test_batches_shrink_when_the_memory_does_not_suffice(small_images, caplog, monkeypatch):
    whole = source_logits(open_source(SMALL), open_target(str(small_images)), AT_64)
    cache.delete_files(cache.entry_paths())
    forward, sizes = ModelRunner._forward, []

    def small_memory(self, images):
        sizes.append(len(images))
        if len(images) > 5:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
        return forward(self, images)

    monkeypatch.setattr(ModelRunner, "_forward", small_memory)
    held = source_logits(open_source(SMALL), open_target(str(small_images)), AT_64)
    assert "Out of memory with batches of 16 samples. Continuing with 8." in caplog.text
    assert max(sizes[3:]) == 4
    np.testing.assert_allclose(held.logits, whole.logits, rtol=1e-4, atol=1e-5)


def test_an_image_that_does_not_fit_at_all_is_one_clear_line(small_images, monkeypatch):
    def no_memory(self, images):
        raise RuntimeError("can't allocate memory")

    monkeypatch.setattr(ModelRunner, "_forward", no_memory)
    with pytest.raises(InputError, match="fails on one image of 64 x 64 pixels"):
        source_logits(open_source(SMALL), open_target(str(small_images)), AT_64)


def test_images_of_many_sizes_in_one_batch(tmp_path):
    for number, size in enumerate([(30, 20), (64, 64), (100, 7), (64, 64)]):
        folder = tmp_path / "own" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (number * 50, 10, 90)).save(folder / f"{number}.png")
    held = source_logits(open_source(SMALL), open_target(str(tmp_path / "own")), AT_64)
    assert held.logits.shape == (4, 1000)
    assert held.target_classes == ("a", "b")


def test_only_the_named_split_is_used(small_images):
    sizes = [
        len(source_logits(open_source(SMALL), open_target(str(small_images)),
                          LogitsRequest(SampleRequest(split=split, input_size=32))).labels)
        for split in ("train", "val", "test", "all")
    ]  # fmt: skip
    train, val, test, everything = sizes
    assert (train + val, test, everything) == (48, 12, 60)
    assert 3 <= val <= 6


def test_too_few_source_classes_is_known_before_the_model_runs(small_images, tmp_path, monkeypatch):
    from safetensors.torch import save_file

    model = __import__("timm").create_model("mobilenetv3_small_050", num_classes=2)
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    monkeypatch.setattr(batched_inference, "output_batches", lambda *a, **k: pytest.fail("the model ran"))
    handle = open_source("timm:mobilenetv3_small_050", weights=str(tmp_path / "w.safetensors"))
    with pytest.raises(InputError, match="has 3 classes, but the source has only 2"):
        source_logits(handle, open_target(str(small_images)), AT_64)


def test_unknown_device_names_the_ones_there_are():
    with pytest.raises(UsageError, match=r"Available devices: .*cpu"):
        choose_device("tpu")
    assert choose_device("auto").type in ("cuda", "mps", "cpu")


def test_own_logits_file(own_logits, tmp_path):
    held = read_logits_file(str(own_logits))
    assert held.logits.shape == (90, 12)
    assert held.groups is None
    np.savez(tmp_path / "half.npz", logits=held.logits)
    for name, message in (("half.npz", "has no array"), ("none.npz", "does not exist")):
        with pytest.raises(InputError, match=message):
            read_logits_file(str(tmp_path / name))
    with pytest.raises(UsageError, match=r"Expected an .npz, .safetensors"):
        read_logits_file(str(tmp_path / "a.xlsx"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_gives_the_same_logits(small_images):
    on_cpu = source_logits(open_source(SMALL), open_target(str(small_images)), AT_64).logits
    cache.delete_files(cache.entry_paths())
    request = LogitsRequest(SampleRequest(input_size=64, device="cuda"))
    on_cuda = source_logits(open_source(SMALL), open_target(str(small_images)), request)
    assert on_cuda.provenance["device"] == "cuda"
    np.testing.assert_allclose(on_cuda.logits, on_cpu, rtol=1e-3, atol=1e-3)


def test_a_cached_run_needs_no_torch(small_images, monkeypatch):
    source_logits(open_source(SMALL), open_target(str(small_images)), AT_64)
    for name in [name for name in sys.modules if name.split(".")[0] in ("torch", "timm")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert source_logits(open_source(SMALL), open_target(str(small_images)), AT_64).cached


@pytest.fixture
def surrogate(tmp_path):
    """Images whose two classes differ by a gradient's direction."""
    rng = np.random.default_rng(3)
    labels, ramp = np.repeat([0, 1], 40), np.linspace(0, 1, 16)
    images = np.where(labels[:, None, None] == 0, ramp[None, None, :], ramp[None, :, None])
    path = tmp_path / "surrogate.npz"
    np.savez(path, x=images[:, None] + 0.1 * rng.random((80, 1, 16, 16)), y=labels)
    return path


def test_a_bare_encoder_takes_a_head_from_a_surrogate(small_images, surrogate, tmp_path):
    from safetensors.torch import save_file

    model = __import__("timm").create_model("mobilenetv3_small_050", num_classes=0)
    save_file(model.state_dict(), tmp_path / "bare.safetensors")
    handle = open_source("timm:mobilenetv3_small_050", weights=str(tmp_path / "bare.safetensors"))
    pair = open_target(str(surrogate))
    request = LogitsRequest(SampleRequest(input_size=64, device="cpu"), head=f"probe:{surrogate}", compared=2)
    held = source_logits(handle, pair, request)
    # It does not judge the samples that it was fitted on.
    seen = int((pair.read().splits == 0).sum())
    assert held.logits.shape == (80 - seen, 2)
    assert 0 < seen == held.provenance["head"]["trained_on"] < 80
    assert held.source_classes == ("0", "1")
    head = held.provenance["head"]
    assert (head["surrogate"], head["test_error"]) == ("surrogate", 0.0)
    with pytest.raises(UsageError, match=r"cannot be evaluated on them\. Use `split=.test.`"):
        source_logits(handle, pair, dataclasses.replace(request, samples=SampleRequest(split="train", device="cpu")))
    # The head is the probe itself: on its own surrogate it predicts the classes it was fitted to.
    assert (held.logits.argmax(axis=1) == held.labels).mean() > 0.95
    assert source_logits(handle, pair, request).cached
    with pytest.raises(InputError, match=r"classification head|do not fit"):
        source_logits(handle, pair, AT_64)
    with pytest.raises(UsageError, match="own, none or probe:SURROGATE"):
        source_logits(handle, pair, LogitsRequest(head="ridge:x"))


def test_a_head_is_fitted_once_for_all_targets(small_images, surrogate, tmp_path, monkeypatch):
    from modgap.forward import probe_head

    fitted = []
    plain = probe_head.logistic_path
    monkeypatch.setattr(probe_head, "logistic_path", lambda *a: fitted.append(1) or plain(*a))
    request = LogitsRequest(SampleRequest(input_size=64, device="cpu", split="test"), head=f"probe:{surrogate}")
    handle = open_source(SMALL)
    other = tmp_path / "other.npz"
    np.savez(other, x=np.random.default_rng(0).random((40, 1, 16, 16)), y=np.arange(40) % 2)
    source_logits(handle, open_target(str(surrogate)), request)
    reused = source_logits(handle, open_target(str(other)), request)
    assert fitted == [1]
    cache.delete_files(cache.entry_paths())
    fresh = source_logits(handle, open_target(str(other)), request)
    assert fitted == [1, 1]
    assert np.array_equal(reused.logits, fresh.logits)
    assert reused.provenance["head"] == fresh.provenance["head"]
    # Another size of the input, and other weights, need another head.
    at_32 = dataclasses.replace(request.samples, input_size=32)
    source_logits(handle, open_target(str(other)), dataclasses.replace(request, samples=at_32))
    source_logits(open_source("random:timm:test_resnet"), open_target(str(other)), request)
    assert fitted == [1] * 4


def test_a_damaged_head_is_fitted_again(surrogate, small_images, monkeypatch, caplog):
    from modgap.forward import probe_head

    request = LogitsRequest(SampleRequest(input_size=64, device="cpu", split="test"), head=f"probe:{surrogate}")
    target = open_target(str(surrogate))
    first = source_logits(open_source(SMALL), target, request)
    head = next(path for path in cache.entry_paths() if path.parent.parent.name == probe_head.KIND)
    content = bytearray(head.read_bytes())
    content[-1] ^= 1
    head.write_bytes(content)
    cache.delete_files([path for path in cache.entry_paths() if path != head])
    assert np.array_equal(source_logits(open_source(SMALL), target, request).logits, first.logits)
    assert "It is computed again." in caplog.text


def test_a_probe_is_scikit_learns_on_the_pooled_features(surrogate):
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    from modgap.forward.probe_head import fit_probe_head, with_head
    from modgap.inputs.native_embedding import native_embedding

    source, pair = open_source(SMALL).load(64), open_target(str(surrogate))
    head = fit_probe_head(source, pair, SampleRequest(batch_size=8), device=torch.device("cpu"))
    probed = with_head(source, head)
    table = pair.read()
    embedding = native_embedding(pair.manifest.input, table, source.input)
    images = torch.from_numpy(np.stack([embedding.pieces(table.samples[i])[0] for i in range(80)]))
    with torch.inference_mode():
        ready = source.input.prepare(images)
        features = source.features(ready).numpy()
        logits = probed.model(ready).numpy()
    train = table.splits == 0
    features = features.astype(np.float64)
    scaler = StandardScaler().fit(features[train])
    probe = LogisticRegression(C=1.0, tol=1e-8, max_iter=10_000).fit(
        scaler.transform(features[train]), table.labels[train]
    )
    wanted = probe.decision_function(scaler.transform(features))
    np.testing.assert_allclose(logits[:, 1] - logits[:, 0], wanted, rtol=1e-3, atol=1e-3)


def test_real_valued_targets_become_pseudo_classes_of_the_training_split(tmp_path):
    rng = np.random.default_rng(4)
    path = tmp_path / "field.npz"
    np.savez(path, x=rng.random((60, 1, 8, 8)), y=rng.random((60, 4, 4)))
    for k in (10, 5):
        held = source_logits(open_source(SMALL), open_target(str(path), pseudo_classes=k), AT_64)
        assert len(np.unique(held.labels)) == k
    with pytest.raises(InputError, match="`pseudo_classes=10`"):
        open_target(str(path)).read()
    np.savez(path, x=rng.random((6, 1, 8, 8)), y=np.arange(6) % 2)
    with pytest.raises(UsageError, match="applies to real-valued targets"):
        open_target(str(path), pseudo_classes=5)


@pytest.mark.parametrize("dtype", [np.int64, np.float32, bool])
def test_several_labels_a_sample(tmp_path, dtype):
    rng = np.random.default_rng(5)
    table = rng.integers(0, 2, (60, 4))
    table[:4] = np.eye(4, dtype=int)
    np.savez(tmp_path / "tags.npz", x=rng.random((60, 1, 8, 8)), y=table.astype(dtype))
    held = source_logits(open_source(SMALL), open_target(str(tmp_path / "tags.npz")), AT_64)
    np.testing.assert_array_equal(held.labels, table)
    assert source_logits(open_source(SMALL), open_target(str(tmp_path / "tags.npz")), AT_64).cached


def test_a_pass_that_breaks_off_leaves_no_unfinished_file(tmp_path):
    for number in range(40):
        folder = tmp_path / "own" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 9), (number, 0, 0)).save(folder / f"{number:02d}.png")
    (folder / "39.png").write_bytes(b"broken")
    with pytest.raises(InputError, match="is not a readable image"):
        source_logits(open_source(SMALL), open_target(str(tmp_path / "own")), AT_64)
    assert list(cache.unfinished_paths()) == []


def test_a_choice_of_samples_must_keep_all_classes(tmp_path):
    for split, kinds in (("train", "abc"), ("val", "abc"), ("test", "ab")):
        for kind in kinds:
            (tmp_path / "own" / split / kind).mkdir(parents=True)
            Image.new("RGB", (9, 9), (ord(kind), 0, 0)).save(tmp_path / "own" / split / kind / "x.png")
    with pytest.raises(InputError, match=r"Split test has no samples of 1 class \(c\)\. .* Use `split=.all.`\."):
        source_logits(
            open_source(SMALL),
            open_target(str(tmp_path / "own")),
            LogitsRequest(SampleRequest(split="test", limit=2, input_size=32)),
        )
