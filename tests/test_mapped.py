"""Memory-mapped arrays equal those that the libraries load; broken files raise clear errors."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from modgap.errors import InputError
from modgap.storage.array_formats import map_npy, map_npz, map_safetensors, read_safetensors_metadata
from modgap.targets import CustomData, open_target
from modgap.targets.readers import get_reader

ARRAYS = {
    "bytes": np.arange(7, dtype=np.uint8),
    "doubles": np.arange(12.0).reshape(3, 4),
    "fortran": np.asfortranarray(np.arange(12, dtype=np.int16).reshape(3, 4)),
    "half": np.arange(4, dtype=np.float16),
    "empty": np.zeros((0, 3)),
    "truth": np.array([True, False]),
    "one": np.array(5),
}


def is_mapped(array):
    while array is not None and not isinstance(array, np.memmap):
        array = array.base
    return array is not None


@pytest.mark.parametrize("compressed", [False, True])
def test_npz(tmp_path, compressed):
    (np.savez_compressed if compressed else np.savez)(tmp_path / "a.npz", **ARRAYS, text=np.array(["a", "bc"]))
    arrays = map_npz(tmp_path / "a.npz")
    assert list(arrays.pop("text")) == ["a", "bc"]
    assert set(arrays) == set(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array)
        assert (arrays[name].dtype, arrays[name].shape) == (array.dtype, array.shape)
        assert is_mapped(arrays[name]) == (not compressed and name != "empty")


def test_safetensors(tmp_path):
    save_file({name: np.ascontiguousarray(a) for name, a in ARRAYS.items()}, tmp_path / "a.safetensors", {"k": "v"})
    arrays, metadata = map_safetensors(tmp_path / "a.safetensors")
    assert metadata == read_safetensors_metadata(tmp_path / "a.safetensors") == {"k": "v"}
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array.reshape(arrays[name].shape))
        assert arrays[name].dtype == array.dtype
        assert not arrays[name].flags.writeable


def test_safetensors_of_types_that_numpy_lacks(tmp_path):
    import torch
    from safetensors.torch import save_file as save_tensors

    save_tensors({"b": torch.zeros(2, dtype=torch.bfloat16)}, tmp_path / "b.safetensors")
    with pytest.raises(InputError, match=r"NumPy has no type for BF16"):
        map_safetensors(tmp_path / "b.safetensors")


@pytest.mark.parametrize("suffix", ["npz", "npy", "safetensors"])
def test_truncated_and_foreign_files(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    if suffix == "npz":
        np.savez(path, x=np.arange(500))
    elif suffix == "npy":
        np.save(path, np.arange(500))
    else:
        save_file({"x": np.arange(500)}, path)
    whole = path.read_bytes()
    for content in (b"", b"not arrays", whole[:40], whole[: len(whole) - 60]):
        path.write_bytes(content)
        with pytest.raises(InputError, match="cannot read arrays from"):
            {"npz": map_npz, "npy": map_npy, "safetensors": map_safetensors}[suffix](path)
    assert read_safetensors_metadata(path) == {}


def test_a_member_whose_length_does_not_match_its_header(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.arange(5, dtype=np.int64))
    content = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(content.replace(b"'shape': (5,)", b"'shape': (9,)"))
    with pytest.raises(InputError, match="does not match its header"):
        map_npz(tmp_path / "a.npz")


def test_pickled_objects_raise_an_error(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.array([{}], object))
    np.save(tmp_path / "a.npy", np.array([{}], object))
    for read, name in ((map_npz, "a.npz"), (map_npy, "a.npy")):
        with pytest.raises(InputError, match=r"cannot read arrays from|never unpickled"):
            read(tmp_path / name)


def test_splits_and_masks_of_custom_arrays(tmp_path):
    x = np.arange(30, dtype=np.float64).reshape(5, 1, 6)
    y = np.arange(10.0).reshape(5, 2)
    masks = (y > 3).astype(np.uint8)
    splits = np.array([0, 0, 1, 2, 2], np.uint8)
    np.savez(tmp_path / "a.npz", x=x, y=y, splits=splits, masks=masks)
    table = get_reader("arrays")({"data": [tmp_path / "a.npz"]}, kind="series")
    np.testing.assert_array_equal(table.splits, splits)
    np.testing.assert_array_equal(table.masks[2], masks[2])
    np.testing.assert_array_equal(table.targets[4], y[4])
    assert table.samples[0].dtype == np.float64
    np.savez(tmp_path / "b.npz", x=x, y=np.array([0, 1, 0, 1, 1]), splits=splits + 1)
    with pytest.raises(InputError, match="expected splits 0 \\(train\\)"):
        open_target(str(tmp_path / "b.npz"), custom_data=CustomData(kind="series")).read()
    np.savez(tmp_path / "c.npz", x=x, y=y, masks=masks[:3])
    with pytest.raises(InputError, match="expected 5 masks"):
        get_reader("arrays")({"data": [tmp_path / "c.npz"]}, kind="series")


def test_one_array_for_each_split(tmp_path):
    arrays = {
        f"{n}_{s}": np.full((k, 1, 2, 2) if n == "x" else k, k) for s, k in (("train", 4), ("test", 2)) for n in "xy"
    }
    np.savez(tmp_path / "a.npz", **arrays)
    table = get_reader("arrays")(
        {"data": [tmp_path / "a.npz"]}, kind="image", x="x_{split}", y="y_{split}", validation=0.25
    )
    assert list(table.splits) == [0, 0, 0, 1, 2, 2]
    assert list(table.labels) == [4, 4, 4, 4, 2, 2]
    assert float(table.samples[5].max()) == 2
