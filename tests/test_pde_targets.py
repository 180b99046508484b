"""PDEBench's tasks and the small simulations that come in packages: readers, steps and manifests."""

import importlib.util
import operator
import pickle
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from modgap.errors import InputError
from modgap.targets import SPLITS, Table, named_manifest, open_target
from modgap.targets.readers import get_reader
from modgap.targets.samples import ArraySamples
from modgap.targets.steps import get_step
from tests.fixtures.pdebench import SIMULATIONS
from tests.fixtures.small_target import open_small_target

ROOT = Path(__file__).parents[1]
TASKS = {
    "advection": "first", "burgers": "first", "diffusion-reaction-1d": "first", "diffusion-sorption": "last",
    "navier-stokes": "first", "darcy-2d": "first", "shallow-water": "last", "diffusion-reaction-2d": "last",
}  # fmt: skip


def naive_pairs(name, path):
    """Return x and y of all simulations from complete arrays, as the table of tasks describes them."""
    with h5py.File(path) as file:
        if name == "darcy-2d":
            return file["nu"][:][:, None, ::2, ::2], file["tensor"][:][:, :, ::2, ::2]
        if name == "navier-stokes":
            fields = np.stack([file[field][:] for field in ("density", "pressure", "Vx")], axis=1)
            return fields[:, :, 0], fields[:, :, 100]
        if TASKS[name] == "last":
            data = np.stack([file[seed]["data"][:] for seed in sorted(file)])
            first, last = np.moveaxis(data[:, 0], -1, 1), np.moveaxis(data[:, 100], -1, 1)
            return (first[:, :1], last[:, 1:]) if name == "diffusion-reaction-2d" else (first, last)
        data = file["tensor"][:]
    space = 4 if name == "advection" else 1
    last = 29 if name == "diffusion-reaction-1d" else 200
    return data[:, :1, ::space], data[:, last : last + 1, ::space]


@pytest.mark.parametrize("name", TASKS)
def test_a_task_agrees_with_the_naive_construction(at, name):
    target = at(name)
    table = target.read()
    manifest = named_manifest(name)
    x, y = naive_pairs(name, target.files["data"][0])
    if name == "navier-stokes":
        train = x[table.splits == SPLITS.index("train")]
        mean, sd = train.mean(axis=0, dtype=np.float64), train.std(axis=0, dtype=np.float64, ddof=1) + 1e-5
        x, y = (((part - mean) / sd).reshape(SIMULATIONS, 1, -1) for part in (x, y))
    assert len(table) == len(x) == SIMULATIONS
    for row in (0, 5, SIMULATIONS - 1, -1):
        np.testing.assert_allclose(table.samples[row], x[row], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(table.targets[row], y[row], rtol=1e-5, atol=1e-6)
    assert table.samples[0].shape == manifest.input.shape
    assert table.targets[0].shape == manifest.output.shape
    assert table.samples[0].dtype == table.targets[0].dtype == np.float32
    assert sorted(set(table.labels)) == list(range(10))
    with pytest.raises(IndexError):
        table.targets[SIMULATIONS]


@pytest.mark.parametrize(("name", "end"), TASKS.items())
def test_the_test_split_is_the_first_tenth_or_the_last_of_the_sorted_seeds(at, name, end):
    splits = at(name).read().splits
    test = np.flatnonzero(splits == SPLITS.index("test"))
    # int(24 * .1) and 24 - int(24 * .9), as ORCA rounds them.
    assert list(test) == ([0, 1] if end == "first" else [21, 22, 23])
    assert (splits == SPLITS.index("val")).sum() == 2


def test_only_one_step_of_one_simulation_is_read_on_access(at, monkeypatch):
    target = at("navier-stokes")
    asked = []
    whole = h5py.Dataset.__getitem__

    def counted(self, key, *args):
        array = whole(self, key, *args)
        asked.append(np.size(array))
        return array

    monkeypatch.setattr(h5py.Dataset, "__getitem__", counted)
    table = get_reader("hdf5")(target.files, **target.manifest.reader.options)
    assert asked == []
    assert table.samples[3].shape == (3, 1024)
    assert asked == [1024] * 3


def test_samples_can_be_read_by_threads_and_by_another_process(at):
    samples = at("diffusion-sorption").read().samples
    wanted = [samples[row] for row in range(SIMULATIONS)]
    with ThreadPoolExecutor(4) as pool:
        for row, got in enumerate(pool.map(samples.__getitem__, list(range(SIMULATIONS)) * 4)):
            np.testing.assert_array_equal(got, wanted[row % SIMULATIONS])
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        np.testing.assert_array_equal(pool.submit(operator.getitem, samples, 7).result(), wanted[7])


def test_a_file_that_was_replaced_is_opened_again(tmp_path):
    path = tmp_path / "a.h5"
    for level in (1.0, 2.0):
        path.unlink(missing_ok=True)
        with h5py.File(path, "w") as file:
            file["u"] = np.full((10, 2, int(4 * level)), level)
        table = get_reader("hdf5")({"data": [path]}, x={"names": ["u"], "axes": "tx"}, y={"names": ["u"], "axes": "tx"})
        assert table.samples[9].max() == level


def hdf5(folder, options=(), **datasets):
    path = folder / "a.hdf5"
    with h5py.File(path, "w") as file:
        for name, values in datasets.items():
            file[name.replace("__", "/")] = values
    part = {"names": ["u"], "axes": "tx"}
    return lambda: get_reader("hdf5")({"data": [path]}, **{"x": part, "y": part, **dict(options)})


FIELD = np.zeros((10, 3, 8), np.float32)


@pytest.mark.parametrize(
    ("options", "datasets", "message"),
    [
        ({}, {"v": FIELD}, "expected a dataset u in .* got: v"),
        ({}, {"u": FIELD[0]}, "with the axes t, x .* got the shape"),
        ({"y": {"names": ["u"], "axes": "tx", "frame": 3}}, {"u": FIELD}, "frame 3 .* got 3 frames"),
        ({"y": {"names": ["u"], "axes": "tx", "frame": 1}, "time_stride": 5}, {"u": FIELD}, "got 1 frames"),
        ({"y": {"names": ["u"], "axes": "tc", "channels": [8]}}, {"u": FIELD}, "got 3 frames of 8 channels"),
        ({"y": {"names": ["v"], "axes": "tx"}}, {"u": FIELD, "v": FIELD[:9]}, "as many simulations"),
        ({"y": {"names": ["u"], "axes": "tt"}}, {"u": FIELD}, "expected names and axes"),
        ({"y": {"name": ["u"], "axes": "tx"}}, {"u": FIELD}, "expected names and axes"),
        ({"space_stride": 0}, {"u": FIELD}, "at least 1"),
        ({"group_per_simulation": True}, {"u": FIELD}, "expected a dataset u"),
        ({"group_per_simulation": True}, {"0__v": FIELD[0]}, "expected a dataset u in .* at /0, got: v"),
        ({"group_per_simulation": True}, {}, "a group for each simulation"),
    ],
)
def test_datasets_that_do_not_fit_raise_a_one_line_error(tmp_path, options, datasets, message):
    with pytest.raises(InputError, match=message) as caught:
        hdf5(tmp_path, options, **datasets)()
    assert "\n" not in str(caught.value)


def test_a_broken_file_raises_a_one_line_error(tmp_path, at):
    whole = at("advection").files["data"][0]
    options = at("advection").manifest.reader.options
    for content in (whole.read_bytes()[:300_000], b"not HDF5 at all", b""):
        path = tmp_path / "cut.hdf5"
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"as HDF5: .*truncated") as caught:
            get_reader("hdf5")({"data": [path]}, **options)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"cannot read .*No such file"):
        get_reader("hdf5")({"data": [tmp_path / "none.hdf5"]}, **options)
    with pytest.raises(InputError, match="expected one file of role 'data', got 2"):
        get_reader("hdf5")({"data": [whole, whole]}, **options)


def test_the_error_for_an_unreadable_simulation_names_its_file(tmp_path):
    table = hdf5(
        tmp_path, {"group_per_simulation": True}, **{f"{seed}__u": FIELD[0] for seed in range(9)}, **{"9__v": FIELD[0]}
    )()
    assert table.samples[8].shape == (1, 8)
    with pytest.raises(InputError, match=r"cannot read .*a\.hdf5"):
        table.samples[9]


def test_the_fingerprint_depends_on_the_content(tmp_path):
    target = open_small_target("darcy-2d", tmp_path)
    before = dict(target.fingerprint)
    with h5py.File(target.files["data"][0], "a") as file:
        file["nu"][3, 4, 5] += 1
    assert replace(target).fingerprint != before


@pytest.mark.slow
def test_reading_takes_memory_for_one_sample_at_a_time():
    command = [sys.executable, str(ROOT / "benchmarks" / "hdf5_memory.py"), "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    size, peak = (float(word) for word in done.stdout.split() if word.replace(".", "").isdigit())
    assert peak < size / 2


def small(x, y, train):
    splits = np.array([SPLITS.index("train")] * train + [SPLITS.index("test")] * (len(x) - train))
    return Table(ArraySamples(x), splits=splits, targets=None if y is None else ArraySamples(y))


def test_standardizing_by_the_input_uses_the_training_samples_of_x_alone():
    rng = np.random.default_rng(0)
    x, y = 1e3 + rng.standard_normal((2, 30, 2, 5)).astype(np.float32)
    done = get_step("standardize-by-input")(small(x, y, 20))
    mean, sd = x[:20].mean(axis=0, dtype=np.float64), x[:20].astype(np.float64).std(axis=0, ddof=1) + 1e-5
    for row in (0, 25):
        np.testing.assert_allclose(done.samples[row], (x[row] - mean) / sd, rtol=1e-5)
        np.testing.assert_allclose(done.targets[row], (y[row] - mean) / sd, rtol=1e-5)
    constant = get_step("standardize-by-input")(small(np.ones((4, 1, 3)), None, 4))
    np.testing.assert_array_equal(constant.samples[0], 0)
    with pytest.raises(InputError, match="two training samples"):
        get_step("standardize-by-input")(small(x, y, 1))
    with pytest.raises(InputError, match="of the samples' shape"):
        get_step("standardize-by-input")(small(x, y[:, :1], 20))


def test_flattening_concatenates_channels():
    x = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    done = get_step("flatten")(small(x, x + 1, 2))
    np.testing.assert_array_equal(done.samples[1], x[1].reshape(1, 12))
    np.testing.assert_array_equal(done.targets[1], x[1].reshape(1, 12) + 1)
    assert pickle.loads(pickle.dumps(done.samples))[0].shape == (1, 12)  # noqa: S301 - our own bytes


NEURALOP = pytest.mark.skipif(importlib.util.find_spec("neuralop") is None, reason="neuraloperator is not installed")


@NEURALOP
def test_darcy_and_burgers_of_the_package():
    target = open_target("darcy-16")
    table = target.read()
    raw = torch.load(target.files["test"][0], weights_only=True)
    assert len(target.fingerprint["files"]) == 2
    assert list(np.bincount(table.splits)) == [900, 100, 50]
    assert table.samples[0].shape == table.targets[0].shape == (1, 16, 16)
    np.testing.assert_array_equal(table.samples[1000][0], raw["x"][0].numpy())
    np.testing.assert_array_equal(table.targets[1049][0], raw["y"][49].numpy())
    table = open_target("burgers-16").read()
    assert (len(table), table.samples[0].shape, table.targets[0].shape) == (1200, (1, 16), (17, 16))
    np.testing.assert_array_equal(table.samples[7][0], table.targets[7][0])


def test_tensors_of_several_files_are_joined_in_order(tmp_path):
    for number in range(3):
        torch.save({"a": torch.full((4, 6, 6), number), "b": torch.arange(4) % 2}, tmp_path / f"{number}.pt")
    paths = [tmp_path / f"{number}.pt" for number in range(3)]
    table = get_reader("pt")({"train": paths[:2], "test": paths[2:]}, kind="image", x="a", y="b")
    assert [table.samples[row].max() for row in (0, 4, 11)] == [0, 1, 2]
    assert list(table.labels) == [0, 1] * 6
    assert list(table.splits) == [0] * 8 + [2] * 4
    torch.save({"a": torch.zeros(4, 5, 5), "b": torch.arange(4)}, paths[2])
    with pytest.raises(InputError, match="of one shape"):
        get_reader("pt")({"train": paths}, kind="image", x="a", y="b")


class Planted:
    def __reduce__(self):
        return (Path.touch, (Path("planted"),))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"x": torch.zeros(3, 4)}, "expected tensors x and y in .*, got: x"),
        ({"x": torch.zeros(3, 4), "y": torch.zeros(2)}, "as many y"),
        ({"x": torch.zeros(3, 4, 5, 6), "y": torch.zeros(3)}, "2 or 3 axes"),
        ({"x": torch.zeros(3, 4, dtype=torch.bfloat16), "y": torch.zeros(3)}, "cannot read tensors"),
        (torch.zeros(3), "got: Tensor"),
        ({"x": Planted(), "y": torch.zeros(3)}, "never unpickled"),
    ],
)
def test_a_file_of_other_objects_raises_an_error(tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(InputError, match=message) as caught:
        get_reader("pt")({"data": [tmp_path / "a.pt"]}, kind="series")
    assert "\n" not in str(caught.value)
    assert not Path("planted").exists()


def test_a_broken_file_of_tensors_raises_an_error(tmp_path):
    torch.save({"x": torch.zeros(30, 40), "y": torch.zeros(30)}, tmp_path / "a.pt")
    whole = (tmp_path / "a.pt").read_bytes()
    for content in (whole[:500], b"", b"\x80\x02junk"):
        (tmp_path / "a.pt").write_bytes(content)
        with pytest.raises(InputError, match=r"cannot read tensors|never unpickled") as caught:
            get_reader("pt")({"data": [tmp_path / "a.pt"]}, kind="series")
        assert "\n" not in str(caught.value)


# MoNA's Table 4, read a second time: PINN, FNO, U-Net, ORCA, MoNA.
TABLE = {
    "advection": (0.67, 0.011, 1.1, 0.0098, 0.0088),
    "burgers": (0.36, 0.0031, 0.99, 0.012, 0.0114),
    "diffusion-reaction-1d": (0.006, 0.0014, 0.08, 0.003, 0.0028),
    "diffusion-sorption": (0.15, 0.0017, 0.22, 0.0016, 0.0016),
    "navier-stokes": (0.72, 0.068, None, 0.062, 0.054),
    "darcy-2d": (0.18, 0.22, None, 0.081, 0.079),
    "shallow-water": (0.083, 0.0044, 0.017, 0.006, 0.0057),
    "diffusion-reaction-2d": (0.84, 0.12, 1.6, 0.82, 0.818),
}


@pytest.mark.parametrize("name", TASKS)
def test_a_manifest_is_complete(name):
    manifest = named_manifest(name)
    (download,) = manifest.downloads
    assert download.urls[0].startswith("https://darus.uni-stuttgart.de/api/access/datafile/")
    assert download.md5
    assert [file.path for file in manifest.files] == [download.path]
    assert (manifest.task, manifest.metric.name, manifest.pseudo_classes) == ("regression", "nRMSE", 10)
    assert manifest.training.batch_size == 4
    assert manifest.training.epochs == (100 if name == "darcy-2d" else 200)
    assert {"license", "split_sizes.val"} <= set(manifest.unknown)
    assert manifest.license is None
    published = {result.method: result.value for result in manifest.published}
    methods = zip(("PINN", "FNO", "U-Net", "ORCA", "MoNA"), TABLE[name], strict=True)
    assert published == {method: value for method, value in methods if value is not None}
