"""Converted copies have the same data as the originals, and are not used when the originals have changed."""

import logging
import os
import pickle
import signal
import subprocess
import sys
from dataclasses import fields

import numpy as np
import pytest
import tomli_w
from PIL import Image
from safetensors.numpy import load_file

from modgap.errors import InputError
from modgap.storage.algorithms import ALGORITHM_VERSIONS
from modgap.storage.array_file import ArrayWriter, read_array_file
from modgap.targets import CustomData, Table, Target, open_target
from modgap.targets.download.converted_copy import copy_path
from modgap.targets.samples import ArraySamples, TextSamples, WordInText
from tests.memory import PEAK, peak


@pytest.fixture
def data(tmp_path, monkeypatch):
    folder = tmp_path / "data"
    monkeypatch.setenv("MODGAP_DATA", str(folder))
    return folder


@pytest.fixture
def series(tmp_path, data):
    """Write arrays and a manifest with groups, and return its path."""
    rng = np.random.default_rng(0)
    x = rng.random((40, 2, 30), dtype=np.float32)
    np.savez(tmp_path / "x.npz", x=x, y=np.arange(40) % 4, groups=np.arange(40) // 2)
    return write_manifest(tmp_path, group="groups", input={"kind": "series"})


def write_manifest(folder, **fields):
    record = {
        "schema": 1, "name": "mine", "title": "Mine", "modality": "motion", "task": "classification",
        "input": {"kind": "series"}, "reader": {"name": "arrays", "options": {"kind": "series"}},
        "files": [{"role": "data", "path": "x.npz"}],
    } | fields  # fmt: skip
    path = folder / "mine.toml"
    path.write_text(tomli_w.dumps(record))
    return path


def assert_same(one, other):
    """Assert that two tables are equal, sample by sample."""
    for name in ("samples", "targets", "masks", "noise"):
        left, right = getattr(one, name), getattr(other, name)
        assert (left is None) == (right is None)
        if left is None:
            continue
        assert len(left) == len(right)
        for index in (*range(len(left)), -1):
            a, b = left[index], right[index]
            assert type(a) is str or np.asarray(a).dtype.newbyteorder("=") == np.asarray(b).dtype
            np.testing.assert_array_equal(a, b)
    for name in ("labels", "splits", "levels"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert (one.classes is None) == (other.classes is None)
    assert list(one.classes or ()) == list(other.classes or ())
    assert set(one.groups or {}) == set(other.groups or {})
    assert (one.target_scale is None) == (other.target_scale is None)
    for left, right in zip(one.target_scale or (), other.target_scale or (), strict=True):
        np.testing.assert_array_equal(left, right)
    for name, numbers in (one.groups or {}).items():
        np.testing.assert_array_equal(numbers, other.groups[name])


def of_table(target, table, monkeypatch):
    """Return the target with a reader that returns this table."""
    monkeypatch.setattr(Target, "read_originals", lambda self: table)
    return target


def test_a_copy_is_the_same_and_is_used(series, data, caplog):
    caplog.set_level(logging.INFO, "modgap")
    target = open_target(str(series))
    original, fingerprint = target.read(), target.fingerprint
    (path,) = target.convert()
    assert path.is_relative_to(data)
    again = open_target(str(series))
    (series.parent / "x.npz").rename(series.parent / "y.npz")
    os.symlink("y.npz", series.parent / "x.npz")
    monkey = {"read": False}

    def read_originals(self):
        monkey["read"] = True
        return original

    saved, Target.read_originals = Target.read_originals, read_originals
    try:
        table = again.read()
    finally:
        Target.read_originals = saved
    assert not monkey["read"]
    assert again.fingerprint == fingerprint
    assert_same(original, table)
    assert f"reading mine from its converted copy {path}" in caplog.text


def test_images_of_several_sizes(tmp_path, data):
    for number, size in enumerate([(5, 7), (8, 3), (5, 7), (1, 1)]):
        path = tmp_path / "images" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(number).integers(0, 255, (*size, 3), np.uint8)).save(path)
    target = open_target(str(tmp_path / "images"))
    original = target.read()
    (path,) = target.convert()
    table = open_target(str(tmp_path / "images")).read()
    assert_same(original, table)
    assert type(table.samples).__name__ == "_VariedSamples"
    assert set(load_file(path)) >= {"samples", "samples.starts", "samples.shapes", "labels", "splits"}


def test_text(series, monkeypatch):
    texts = ["", "a", "zwölf Wörter", "\N{SNOWMAN}" * 50, "", "last"]
    table = Table(TextSamples(texts), np.arange(6) % 2, ["x", "ü"], np.zeros(6, np.int64))
    target = of_table(open_target(str(series)), table, monkeypatch)
    target.convert()
    copy = open_target(str(series)).read()
    assert_same(table, copy)
    with pytest.raises(IndexError):
        copy.samples[6]
    assert pickle.loads(pickle.dumps(copy.samples))[2] == texts[2]  # noqa: S301 - our own, as worker processes get it


def test_words_keep_the_texts_that_they_are_part_of(series, monkeypatch):
    texts = [["Swin", "transformers", "see"], ["zwölf"], ["zwölf"], ["a", "b"]]
    words = [WordInText.from_words(text, number) for text in texts for number in range(len(text))]
    table = Table(TextSamples(words), np.arange(7) % 2, ["x", "y"], np.zeros(7, np.int64), group_like=("day",))
    of_table(open_target(str(series)), table, monkeypatch).convert()
    copy = open_target(str(series)).read()
    assert_same(table, copy)
    assert copy.group_like == ("day",)
    for word, read in zip(words, copy.samples, strict=True):
        assert (read, read.text, read.start, read.end) == (word, word.text, word.start, word.end)


@pytest.mark.parametrize(
    "dtype", ["?", "u1", "i1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f2", "<f4", "<f8", ">f4", ">i2"]
)
@pytest.mark.parametrize("shape", [(6, 3, 2), (6,)])
def test_every_type_is_restored(series, monkeypatch, dtype, shape):
    values = (np.arange(np.prod(shape)).reshape(shape) % 2).astype(dtype)
    table = Table(ArraySamples(values), np.arange(6) % 2, ["a", "b"], np.zeros(6, np.int64))
    (path,) = of_table(open_target(str(series)), table, monkeypatch).convert()
    assert_same(table, open_target(str(series)).read())
    np.testing.assert_array_equal(load_file(path)["samples"], values)


def test_dense_targets_with_masks_and_several_labels(series, monkeypatch):
    rng = np.random.default_rng(0)
    table = Table(
        ArraySamples(rng.random((6, 1, 4), dtype=np.float32)),
        rng.integers(0, 2, (6, 3)),
        None,
        np.array([0, 0, 1, 1, 2, 2]),
        {"groups": np.arange(6) // 2, "record": np.arange(6)},
        ArraySamples(rng.random((6, 2, 2))),
        ArraySamples(rng.integers(0, 2, (6, 2, 2)).astype(bool)),
        (rng.random((2, 2)), rng.random((2, 2), dtype=np.float32)),
        ("a", "b", "c", "d"),
        rng.random(6, dtype=np.float32),
        tuple(rng.random((1, size), dtype=np.float32) for size in (3, 5)),
    )
    absent = {field.name for field in fields(Table) if getattr(table, field.name) is None}
    # Names of samples are only for lists of splits, which are complete in a copy.
    assert absent == {"classes", "names"}
    target = of_table(open_target(str(series)), table, monkeypatch)
    target.convert()
    copy = open_target(str(series)).read()
    assert_same(Table(**{**vars(table), "classes": copy.classes}), copy)
    copy.targets[0][:] = 7  # A sample may be written to; the copy stays as it is.
    assert_same(Table(**{**vars(table), "classes": copy.classes}), open_target(str(series)).read())


def test_pseudo_classes_are_computed_from_the_copy(tmp_path, data):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "r.npz", x=rng.random((40, 1, 30), dtype=np.float32), y=rng.random((40, 2)))
    name = str(tmp_path / "r.npz")
    plain = {k: open_target(name, custom_data=CustomData(kind="series"), pseudo_classes=k).read() for k in (3, 5)}
    open_target(name, custom_data=CustomData(kind="series")).convert()
    for k, original in plain.items():
        target = open_target(name, custom_data=CustomData(kind="series"), pseudo_classes=k)
        assert type(target.read().samples).__name__ == "_FixedSamples"
        assert_same(original, target.read())


class Mixed:
    def __init__(self, *samples):
        self.values = samples

    def __len__(self):
        return len(self.values)

    def __getitem__(self, index):
        return self.values[index]


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (
            Mixed(np.zeros(3, np.uint8), np.zeros(3, np.float32)),
            "number 1 is float32 with 1 dimensions.*uint8 with 1 dimensions",
        ),
        (Mixed(np.zeros(3), np.zeros((3, 1))), "number 1 is float64 with 2 dimensions"),
        (Mixed(np.array([{}], object), np.array([{}], object)), "number 0 is object.*expected numbers"),
        (Mixed(np.zeros(2, complex), np.zeros(2, complex)), "number 0 is complex.*expected numbers"),
    ],
)
def test_a_failed_conversion_leaves_no_file(series, data, monkeypatch, samples, message):
    table = Table(samples, np.arange(2), ["a", "b"], np.zeros(2, np.int64))
    with pytest.raises((InputError, ValueError), match=message) as caught:
        of_table(open_target(str(series)), table, monkeypatch).convert()
    assert isinstance(caught.value, InputError)
    assert list((data / "converted").glob("*.safetensors")) == []
    assert list((data / "converted").glob(".*")) == []


def change_original(series):
    np.savez(series.parent / "x.npz", x=np.ones((40, 2, 30)), y=np.arange(40) % 4, groups=np.arange(40) // 2)


def change_manifest(series):
    write_manifest(series.parent, group="groups", splits={"seed": 1})


def truncate(series):
    path = copy_path(*where(series))
    path.write_bytes(path.read_bytes()[:-10])


def corrupt_header(series):
    path = copy_path(*where(series))
    path.write_bytes(b"\xff" * 8 + path.read_bytes()[8:])


def where(series):
    target = open_target(str(series))
    return target.manifest, target.files


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (change_original, "was made with other files and is not used"),
        (truncate, "cannot be read (it is truncated"),
        (corrupt_header, "cannot be read (its header claims"),
    ],
)
def test_an_outdated_copy_is_not_used_and_gives_one_warning(series, caplog, change, reason):
    open_target(str(series)).convert()
    change(series)
    target = open_target(str(series))
    assert type(target.read().samples).__name__ != "_FixedSamples"
    (line,) = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert f"the converted copy of mine {reason}" in line
    assert line.endswith(f"Convert the target again with: modgap data convert {series}")
    caplog.clear()
    target.convert()
    assert type(open_target(str(series)).read().samples).__name__ == "_FixedSamples"
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_class_without_samples_is_named(series, caplog):
    names = ["up", "down", "still", "turn", "fall"]
    assert open_target(str(write_manifest(series.parent, classes=names[:4]))).read().labels.max() == 3
    assert caplog.text == ""
    open_target(str(write_manifest(series.parent, classes=names))).read()
    assert "manifest mine names 5 classes, but its samples have 4. No sample has the class 'fall'" in caplog.text


def test_another_version_of_the_reader_or_a_library_makes_a_copy_outdated(series, monkeypatch, caplog):
    caplog.set_level(logging.INFO, logger="modgap")
    open_target(str(series)).convert()
    monkeypatch.setattr("modgap.targets.target._library_versions", lambda: {"numpy": "9.9"})
    raised = {**ALGORITHM_VERSIONS, "reading": 9}
    monkeypatch.setattr("modgap.storage.algorithms.ALGORITHM_VERSIONS", raised)
    open_target(str(series)).read()
    assert "was made with another way of reading files and other versions of libraries" in caplog.text


def test_a_copy_with_another_manifest_gives_no_warning(series, caplog):
    caplog.set_level(logging.INFO, logger="modgap")
    open_target(str(series)).convert()
    change_manifest(series)
    open_target(str(series)).read()
    (record,) = [record for record in caplog.records if "the converted copy of mine" in record.message]
    assert record.levelno == logging.INFO
    assert "was made with another manifest and is not used" in record.message


def test_custom_data_is_converted_with_its_options(tmp_path, data, caplog):
    caplog.set_level(logging.INFO, logger="modgap")
    rows = "\n".join(f"{number},{number % 2},{number // 4}" for number in range(40))
    (tmp_path / "my own.csv").write_text(f"a,label,who\n{rows}\n")
    open_target(str(tmp_path / "my own.csv"), custom_data=CustomData(kind="table")).convert()
    open_target(str(tmp_path / "my own.csv"), custom_data=CustomData(kind="table", group="who")).read()
    (line,) = [record.message for record in caplog.records if "the converted copy" in record.message]
    assert line == (
        "the converted copy of my-own was made with other options and is not used. Convert the target again with: "
        f"modgap data convert '{tmp_path / 'my own.csv'}' --kind table --group who"
    )


def test_the_command_converts_and_verifies(modgap, series, data):
    done = modgap("data", "convert", series)
    assert (done.returncode, done.stderr) == (0, "")
    (path,) = (data / "converted").glob("*.safetensors")
    assert f"mine: converted to {path}" in done.stdout
    assert "is current. Pass --again" in modgap("data", "convert", series).stdout
    assert modgap("data", "convert", series, "--again").returncode == 0
    assert modgap("data", "verify", series).returncode == 0
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    done = modgap("data", "verify", series)
    assert done.returncode == 1
    assert f"damaged: {path}: its bytes from" in done.stdout


def test_a_full_disk_leaves_no_partial_copy(modgap, series, tmp_path, small_disk):
    folder = small_disk("300k")
    for number in range(40):
        path = tmp_path / "images" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (70 + number, 70)).save(path)
    done = modgap("data", "convert", tmp_path / "images", MODGAP_DATA=str(folder))
    assert done.returncode == 1
    assert done.stderr.startswith("modgap: cannot write the converted copy ")
    assert "No space left on device" in done.stderr
    np.savez(tmp_path / "big.npz", x=np.zeros((200, 1, 4, 1000), np.float32), y=np.arange(200) % 2)
    done = modgap("data", "convert", tmp_path / "big.npz", MODGAP_DATA=str(folder))
    assert done.returncode == 1
    assert "the converted copy needs 3.2 MB" in done.stderr
    left = [path.name for path in folder.rglob("*") if path.is_file()]
    assert all(name.endswith(".lock") for name in left), left
    assert done.stderr.count("\n") == 1


LAZY = f"""{PEAK}
import os, sys, time
import numpy as np
from modgap.targets import CustomData, Table, Target, open_target

class Lazy:
    def __len__(self): return 200
    def __getitem__(self, index):
        if index == 100 and os.environ.get("HANG"):
            print("half", flush=True); time.sleep(60)
        return np.full((1, 1000, 250), index, np.float32)

def table(self): return Table(Lazy(), np.arange(200) % 2, ["a", "b"], np.zeros(200, np.int64))

Target.read_originals = table
target = open_target(sys.argv[1])
before = peak()
(path,) = target.convert()
print(peak() - before, path)
"""


def test_memory_does_not_grow_with_the_data_and_a_kill_leaves_no_copy(series, data):
    """Converting 200 MB of samples needs a few megabytes of memory."""
    command = [sys.executable, "-c", LAZY, str(series)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "HANG": "1"})
    assert process.stdout.readline() == "half\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert [path.suffix for path in (data / "converted").glob(".*")] == [".part"]
    assert list((data / "converted").glob("*.safetensors")) == []
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    kilobytes, path = done.stdout.split()
    assert int(kilobytes) < 40_000
    assert os.path.getsize(path) > 200_000_000
    assert list((data / "converted").glob(".*")) == []
    file = read_array_file(copy_path(*where(series)))
    file.verify()
    assert file.map_array("samples")[199, 0, 0, 0] == 199


def test_reading_a_sample_does_not_read_the_whole_copy(series, data):
    """One sample of a copy of 200 MB is read without the rest, and the checksum is not computed."""
    subprocess.run([sys.executable, "-c", LAZY, str(series)], capture_output=True, text=True, check=True)
    target = open_target(str(series))
    _ = target.fingerprint
    before = peak()
    assert target.read().samples[123][0, 0, 0] == 123
    assert peak() - before < 40_000


def test_arrays_of_unknown_size_are_written_to_one_file(tmp_path):
    writer = ArrayWriter(tmp_path / "a.safetensors", {"who": "ü"})
    writer.add_array("empty", np.empty((0, 3), np.float32))
    writer.begin_array("bytes", np.uint8)
    for size in (1, 0, 5):
        writer.append(np.arange(size, dtype=np.uint8))
    writer.end_array((6,))
    writer.add_array("number", np.array(7.5))
    writer.add_array("strided", np.arange(10, dtype=">i4")[::3])
    writer.commit()
    file = read_array_file(tmp_path / "a.safetensors")
    assert file.metadata == {"who": "ü"}
    assert list(file.arrays) == ["empty", "bytes", "number", "strided"]
    loaded = load_file(tmp_path / "a.safetensors")
    for name in file.arrays:
        np.testing.assert_array_equal(file.map_array(name), loaded[name])
        assert (file.data_start + file.arrays[name].start) % 64 == 0
    assert loaded["empty"].shape == (0, 3)
    assert loaded["number"] == 7.5
    np.testing.assert_array_equal(loaded["strided"], [0, 3, 6, 9])


@pytest.mark.parametrize(
    ("misuse", "message"),
    [
        (lambda writer: writer.add_array("a", np.array(["text"])), "array a has the type"),
        (
            lambda writer: (writer.begin_array("a", "f4"), writer.append(np.zeros(2))),
            "expected float32 values for array a, got float64",
        ),
        (lambda writer: (writer.begin_array("a", "f4"), writer.end_array((3,))), "expected 12 bytes of array a, got 0"),
        (lambda writer: (writer.begin_array("a", "f4"), writer.commit()), "array a has not been ended"),
        (
            lambda writer: [writer.add_array(str(n), np.zeros(1)) for n in range(99)] + [writer.commit()],
            "a header of at most",
        ),
    ],
)
def test_a_misused_writer_leaves_no_file(tmp_path, misuse, message):
    writer = ArrayWriter(tmp_path / "a.safetensors", {})
    with pytest.raises(ValueError, match=message):
        misuse(writer)
    assert list(tmp_path.iterdir()) == []
