import sys

import numpy as np
import pytest
import torch
from PIL import Image

from modgap import cache, inference
from modgap.errors import InputError, UsageError
from modgap.logits import LogitsRequest, logits_from_file, source_logits
from modgap.sources import open_source
from modgap.targets import open_target

SMALL = "random:timm:mobilenetv3_small_050"
AT_64 = LogitsRequest(input_size=64, device="cpu")


def naive_logits(source_name, target_name, size):
    """One image at a time, with nothing of modgap's but the model and the samples."""
    source, table = open_source(source_name).load(size), open_target(target_name).read()
    train = np.concatenate([table.samples[i].ravel() for i in np.flatnonzero(table.splits == 0)])
    low, high = train.min(), train.max()
    outputs = []
    for i in range(len(table.labels)):
        image = torch.from_numpy((table.samples[i] - low) / (high - low))[None].repeat(1, 3, 1, 1)
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
        request = LogitsRequest(**{"input_size": 64, "device": "cpu", **changes})
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
    (path,) = cache.entries()
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    again = source_logits(open_source(SMALL), open_target(str(small_images)), AT_64)
    assert not again.cached
    assert "is damaged" in caplog.text
    np.testing.assert_array_equal(again.logits, first.logits)
    assert source_logits(open_source(SMALL), open_target(str(small_images)), AT_64).cached


@pytest.mark.parametrize("moment", ["open", "append", "commit"])
def test_a_disk_that_takes_nothing_is_said_aloud_and_does_not_stop_the_run(small_images, caplog, monkeypatch, moment):
    wanted = source_logits(open_source(SMALL), open_target(str(small_images)), AT_64).logits
    cache.prune(cache.entries())

    def refuse(*args):
        raise OSError(28, "No space left on device")

    name = {"open": "__init__", "append": "append", "commit": "commit"}[moment]
    monkeypatch.setattr(cache.EntryWriter, name, refuse)
    held = source_logits(open_source(SMALL), open_target(str(small_images)), AT_64)
    assert "going on without it" in caplog.text
    np.testing.assert_array_equal(held.logits, wanted)


def test_batches_shrink_when_the_memory_does_not_suffice(small_images, caplog, monkeypatch):
    whole = source_logits(open_source(SMALL), open_target(str(small_images)), AT_64)
    cache.prune(cache.entries())
    forward, sizes = inference._Pass._forward, []

    def small_memory(self, images):
        sizes.append(len(images))
        if len(images) > 5:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
        return forward(self, images)

    monkeypatch.setattr(inference._Pass, "_forward", small_memory)
    held = source_logits(open_source(SMALL), open_target(str(small_images)), AT_64)
    assert "out of memory at 16 samples a batch; going on with 8" in caplog.text
    assert max(sizes[3:]) == 4
    np.testing.assert_allclose(held.logits, whole.logits, rtol=1e-4, atol=1e-5)


def test_an_image_that_does_not_fit_at_all_is_one_clear_line(small_images, monkeypatch):
    def no_memory(self, images):
        raise RuntimeError("can't allocate memory")

    monkeypatch.setattr(inference._Pass, "_forward", no_memory)
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
                          LogitsRequest(split=split, input_size=32)).labels)
        for split in ("train", "val", "test", "all")
    ]  # fmt: skip
    train, val, test, everything = sizes
    assert (train + val, test, everything) == (48, 12, 60)
    assert 3 <= val <= 6


def test_too_few_source_classes_is_known_before_the_model_runs(small_images, tmp_path, monkeypatch):
    from safetensors.torch import save_file

    model = __import__("timm").create_model("mobilenetv3_small_050", num_classes=2)
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    monkeypatch.setattr(inference, "logit_batches", lambda *a, **k: pytest.fail("the model ran"))
    handle = open_source("timm:mobilenetv3_small_050", weights=str(tmp_path / "w.safetensors"))
    with pytest.raises(InputError, match="3 > 2"):
        source_logits(handle, open_target(str(small_images)), AT_64)


def test_unknown_device_names_the_ones_there_are():
    with pytest.raises(UsageError, match=r"this machine has: .*cpu"):
        inference.choose_device("tpu")
    assert inference.choose_device("auto").type in ("cuda", "mps", "cpu")


def test_own_logits_file(own_logits, tmp_path):
    held = logits_from_file(str(own_logits))
    assert held.logits.shape == (90, 12)
    assert held.groups is None
    np.savez(tmp_path / "half.npz", logits=held.logits)
    for name, message in (("half.npz", "expected arrays logits and labels"), ("none.npz", "found none")):
        with pytest.raises(InputError, match=message):
            logits_from_file(str(tmp_path / name))
    with pytest.raises(UsageError, match=r"a .npz or .safetensors file"):
        logits_from_file(str(tmp_path / "a.csv"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_gives_the_same_logits(small_images):
    on_cpu = source_logits(open_source(SMALL), open_target(str(small_images)), AT_64).logits
    cache.prune(cache.entries())
    request = LogitsRequest(input_size=64, device="cuda")
    on_cuda = source_logits(open_source(SMALL), open_target(str(small_images)), request)
    assert on_cuda.provenance["device"] == "cuda"
    np.testing.assert_allclose(on_cuda.logits, on_cpu, rtol=1e-3, atol=1e-3)


def test_a_cached_run_needs_no_torch(small_images, monkeypatch):
    source_logits(open_source(SMALL), open_target(str(small_images)), AT_64)
    for name in [name for name in sys.modules if name.split(".")[0] in ("torch", "timm")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert source_logits(open_source(SMALL), open_target(str(small_images)), AT_64).cached
