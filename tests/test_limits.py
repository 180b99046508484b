"""Files and hosts that would fill the memory or the disk, or read other files, are refused; messages name the limit."""

import gzip
import struct
import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from modgap.errors import InputError, UsageError
from modgap.targets import CustomData, open_target
from modgap.targets.readers.hdf5 import read as read_simulations
from modgap.targets.readers.idx import read as read_idx
from modgap.targets.readers.mat import read as read_mat
from modgap.targets.samples import ArraySamples, Table
from modgap.targets.steps import windows as cut_windows
from tests.loopback import Fault, write_manifest_of_download

DOCS = Path(__file__).parents[1] / "docs" / "limits.md"


@pytest.fixture
def small_limit(monkeypatch):
    """No file may unpack to more than 100 kB."""
    monkeypatch.setenv("MODGAP_MAX_UNPACKED", "100000")


def idx(shape, content):
    return struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape) + content


def idx_files(folder, images, labels):
    (folder / "images.gz").write_bytes(gzip.compress(images))
    (folder / "labels.gz").write_bytes(gzip.compress(labels))
    return {"train": [folder / "images.gz"], "train-labels": [folder / "labels.gz"]}


def test_a_gzip_bomb_in_idx_is_refused_by_its_header(tmp_path, small_limit):
    files = idx_files(tmp_path, idx((20, 100, 100), bytes(200_000)), idx((20,), bytes(20)))
    message = r"images.gz has .* unpacks to 200,0.. bytes .*export MODGAP_MAX_UNPACKED=2000.."
    with pytest.raises(InputError, match=message):
        read_idx(files)


def test_bytes_after_the_data_of_an_idx_file_are_not_unpacked(tmp_path):
    files = idx_files(tmp_path, idx((2, 2, 2), bytes(8) + bytes(40_000_000)), idx((2,), bytes(2)))
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=r"expected 8 bytes of data in .*images.gz, got"):
            read_idx(files)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_a_gzip_bomb_of_columns_is_refused_while_it_is_read(tmp_path, small_limit):
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"a,label\n" + b"1.00000000000000000,0\n1.00000000000000000,1\n" * 5000))
    with pytest.raises(
        InputError, match=r"a.csv.gz has .* or more. The limit is 100,000. .*export MODGAP_MAX_UNPACKED="
    ):
        open_target(str(path), custom_data=CustomData(kind="table")).read()


def test_the_ratio_names_its_own_limit(tmp_path, monkeypatch):
    from modgap.storage import limits

    monkeypatch.setattr(limits, "FREE_UNPACKED_BYTES", 1000)
    monkeypatch.setenv("MODGAP_MAX_UNPACK_RATIO", "10")
    with pytest.raises(InputError, match=r"The limit is 1,000. .*export MODGAP_MAX_UNPACK_RATIO=50$"):
        limits.check_unpacked_size("a.gz", 100, 5000)
    limits.check_unpacked_size("a.gz", 100, 1000)
    limits.check_unpacked_size("a.gz", 500, 5000)


def test_a_parquet_file_of_equal_values_is_refused(tmp_path, small_limit):
    pytest.importorskip("pyarrow")
    path = tmp_path / "a.parquet"
    pd.DataFrame({"a": np.zeros(50_000), "label": np.zeros(50_000, int)}).to_parquet(path)
    with pytest.raises(InputError, match=r"a.parquet has .* unpacks to 800,000 bytes"):
        open_target(str(path), custom_data=CustomData(kind="table")).read()


def test_a_compressed_npz_bomb_is_refused_before_it_is_read(tmp_path, small_limit):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=np.zeros((20, 1, 1000)), y=np.arange(20) % 2)
    with pytest.raises(InputError, match=r"a.npz has .* unpacks to 160,.* bytes"):
        open_target(str(path), custom_data=CustomData(kind="series")).read()


def test_a_label_of_a_billion_does_not_make_a_list_of_as_many_strides():
    table = Table(ArraySamples(np.zeros((3, 1, 20))), np.array([0, 1, 10**9]))
    tracemalloc.start()
    try:
        assert len(cut_windows(table, length=10, strides=[5])) == 6
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_a_label_of_a_billion_is_one_class(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros((30, 1, 20)), y=np.r_[np.zeros(15), np.full(15, 10**9)].astype(np.int64))
    tracemalloc.start()
    try:
        table = open_target(str(tmp_path / "a.npz"), custom_data=CustomData(kind="series")).read()
        assert list(table.classes) == ["0", "1000000000"]
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    for name in ("cats", "dogs"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        Image.new("1", (11_000, 10_000)).save(tmp_path / "photos" / name / "1.png")
    monkeypatch.setattr(Image.Image, "load", lambda *_: pytest.fail("it was decoded"))
    samples = open_target(str(tmp_path / "photos")).read().samples
    message = r"1.png has 110,000,000 pixels. The limit is 100,000,000 .*export MODGAP_MAX_PIXELS=110000000"
    with pytest.raises(InputError, match=message):
        samples[0]


def test_the_limit_of_pixels_can_be_raised_beyond_that_of_pillow(tmp_path, monkeypatch):
    for name in ("cats", "dogs"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        Image.new("L", (12, 10)).save(tmp_path / "photos" / name / "1.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    monkeypatch.setenv("MODGAP_MAX_PIXELS", "119")
    samples = open_target(str(tmp_path / "photos")).read().samples
    with pytest.raises(InputError, match="has 120 pixels"):
        samples[0]
    monkeypatch.setenv("MODGAP_MAX_PIXELS", "120")
    assert samples[0].shape == (3, 10, 12)


def hdf5(path, **datasets):
    with h5py.File(path, "w") as file:
        for name, values in datasets.items():
            file[name] = values
    return path


def read_hdf5(path):
    return open_target(str(path), custom_data=CustomData(kind="series")).read()


TEXTS = np.array([["cat", "dog"][number % 2] for number in range(20)], h5py.string_dtype())
SERIES = np.random.default_rng(0).random((20, 2, 30), dtype=np.float32)


@pytest.fixture(name="zeros")
def compressed_zeros(tmp_path):
    """Write an HDF5 file of two fields x and y, 160 kB each when they are unpacked."""
    path = tmp_path / "zeros.mat"
    with h5py.File(path, "w") as file:
        for name in ("x", "y"):
            file.create_dataset(name, data=np.zeros((2, 100, 200), np.float32), compression="gzip")
    return path


def test_a_compressed_field_of_matlab_is_refused_before_it_is_unpacked(zeros, small_limit):
    with pytest.raises(InputError, match=r"The dataset /x of .*zeros.mat has .* unpacks to 160,000 bytes"):
        read_mat({"train": [zeros]}, x="x", y="y")


def test_a_compressed_simulation_is_refused_before_it_is_unpacked(zeros, monkeypatch):
    options = {"names": ["x"], "axes": "xy"}
    monkeypatch.setenv("MODGAP_MAX_UNPACKED", "80000")
    table = read_simulations({"data": [zeros]}, x=options, y=options)
    assert table.samples[0].shape == (1, 100, 200)
    monkeypatch.setenv("MODGAP_MAX_UNPACKED", "79999")
    with pytest.raises(InputError, match=r"The dataset /x of .*zeros.mat has .* unpacks to 80,000 bytes"):
        table.samples[1]


def test_text_of_an_hdf5_file_is_read(tmp_path):
    table = read_hdf5(hdf5(tmp_path / "a.h5", x=SERIES, y=TEXTS))
    assert table.classes == ["cat", "dog"]
    assert table.labels.tolist() == [0, 1] * 10


def test_a_damaged_string_heap_ends_with_a_message(tmp_path, monkeypatch):
    path = hdf5(tmp_path / "a.h5", x=SERIES, y=TEXTS)
    content = bytearray(path.read_bytes())
    # The size of the free space after the strings: with a size of zero the library never ends.
    content[content.index(b"GCOL") + 505] = 0
    path.write_bytes(content)
    monkeypatch.setenv("MODGAP_MAX_HDF5_SECONDS", "2")
    with pytest.raises(InputError, match=r"takes longer than 2 s.*export MODGAP_MAX_HDF5_SECONDS=20"):
        read_hdf5(path)


def test_another_damaged_string_is_one_message(tmp_path):
    path = hdf5(tmp_path / "a.h5", x=SERIES, y=TEXTS)
    content = bytearray(path.read_bytes())
    content[content.index(b"GCOL")] = 0
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"cannot read .*a.h5 as HDF5: the text /y cannot be read"):
        read_hdf5(path)


def external_storage(folder):
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_dataset("x", (20, 2, 30), "u1", external=[(str(folder / "secret"), 0, 1200)])
        file["y"] = np.arange(20) % 2


def virtual_dataset(folder):
    hdf5(folder / "secret.h5", x=SERIES)
    layout = h5py.VirtualLayout((20, 2, 30), "f4")
    layout[:] = h5py.VirtualSource(str(folder / "secret.h5"), "x", (20, 2, 30))
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_virtual_dataset("x", layout)
        file["y"] = np.arange(20) % 2


def external_link(folder):
    hdf5(folder / "secret.h5", x=SERIES)
    with h5py.File(folder / "a.h5", "w") as file:
        file["x"] = h5py.ExternalLink(str(folder / "secret.h5"), "x")
        file["y"] = np.arange(20) % 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (external_storage, "has external storage, so its values are in other files"),
        (virtual_dataset, "is virtual, so its values are in other files"),
        (external_link, "has a link to another file at x"),
    ],
)
def test_an_hdf5_file_reads_no_other_file(tmp_path, make, message):
    (tmp_path / "secret").write_bytes(bytes(range(100)) * 12)
    make(tmp_path)
    with pytest.raises(InputError, match=message):
        read_hdf5(tmp_path / "a.h5")


def test_simulations_and_matlab_files_read_no_other_file(tmp_path):
    from modgap.targets.readers.hdf5 import read as read_simulations
    from modgap.targets.readers.mat import read as read_matlab

    external_link(tmp_path)
    fields = {"names": ["x"], "axes": "tx"}
    with pytest.raises(InputError, match="has a link to another file"):
        read_simulations({"data": [tmp_path / "a.h5"]}, x=fields, y=fields)
    with pytest.raises(InputError, match="has a link to another file"):
        read_matlab({"train": [tmp_path / "a.h5"]}, x="x", y="y")


def test_an_hdf5_dataset_that_was_never_written_is_refused(tmp_path, small_limit):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", (20, 2, 10**7), "f4", chunks=(1, 1, 1000))
        file["y"] = np.arange(20) % 2
    with pytest.raises(InputError, match=r"The dataset /x of .* unpacks to 1,600,000,000 bytes"):
        read_hdf5(tmp_path / "a.h5")


@pytest.mark.parametrize("length", [True, False])
def test_a_download_of_unknown_size_has_a_limit(modgap, serve, tmp_path, monkeypatch, length):
    monkeypatch.setenv("MODGAP_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("MODGAP_MAX_DOWNLOAD", "100000")
    (tmp_path / "origin").mkdir()
    (tmp_path / "origin" / "x.npz").write_bytes(bytes(3_000_000))
    host = serve(tmp_path / "origin")
    chunked = {"Transfer-Encoding": "chunked"}
    host.faults["x.npz"] = Fault(length=length, headers={} if length else chunked, content=None)
    if not length:
        host.faults["x.npz"] = Fault(headers=chunked | {"Content-Length": None}, content=b"10000000\r\n" + bytes(10**6))
    write_manifest_of_download(tmp_path / "mine.toml", f"{host.url}/x.npz")
    done = modgap("data", "fetch", tmp_path / "mine.toml")
    assert done.returncode == 1
    assert "it sends more than 100,000 bytes, the limit for a file whose size the manifest does" in done.stderr
    assert "export MODGAP_MAX_DOWNLOAD=1000000" in done.stderr
    assert sum(path.stat().st_size for path in (tmp_path / "data").rglob("*") if path.is_file()) < 200_000


@pytest.mark.parametrize("text", ["many", "0", "-1", "nan", "inf", "1e400"])
def test_an_invalid_limit_is_named(monkeypatch, text):
    from modgap.storage.limits import IMAGE_PIXELS

    monkeypatch.setenv("MODGAP_MAX_PIXELS", text)
    with pytest.raises(UsageError, match=rf"MODGAP_MAX_PIXELS is '{text}'. Expected a number of pixels, at least 1."):
        _ = IMAGE_PIXELS.value


def test_a_limit_may_be_written_with_an_exponent(monkeypatch):
    from modgap.storage.limits import IMAGE_PIXELS

    monkeypatch.setenv("MODGAP_MAX_PIXELS", "2.5e8")
    assert IMAGE_PIXELS.value == 250_000_000


def test_the_documentation_has_all_limits_with_their_defaults():
    from modgap.storage.limits import LIMITS

    rows = [line.strip("| \n").split(" | ") for line in DOCS.read_text().splitlines() if line.startswith("| `MODGAP_")]
    assert rows == [[f"`{one.variable}`", f"{one.default:,} {one.unit}", one.meaning] for one in LIMITS]
