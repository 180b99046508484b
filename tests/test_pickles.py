"""Pickles of plain data are read, of every protocol and origin, within limits."""

import collections
import gzip
import pickle
import subprocess
import sys

import numpy as np
import pytest

from modgap.errors import InputError
from modgap.targets import plain_pickles
from modgap.targets.plain_pickles import convert_pickles, converted_path, read_pickle, read_pickles
from modgap.targets.readers import get_reader

PLAIN = {
    "numbers": [1, -2, 2**62, 0.5, float("inf"), True, None],
    b"bytes": b"\x00\xff",
    "empty": [b"", "", [], (), {}, set()],
    "containers": [(1, 2), {3, 4}, frozenset([5]), collections.OrderedDict(a=1)],
    "floats": np.arange(6, dtype=np.float32).reshape(2, 3),
    "big-endian": np.arange(5, dtype=">i4"),
    "fortran": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    "booleans": np.array([True, False]),
    "text": np.array([["a", "bcd"]]),
    "byte strings": np.array([b"xy", b"z"]),
    "no values": np.zeros((0, 3)),
    "one value": np.array(7, np.uint8),
    "scalar": np.float64(2.5),
    "truth": np.bool_(True),
    "type": np.dtype("<f4"),
}


def same(value, expected):
    if isinstance(expected, np.ndarray | np.generic):
        assert type(value) is type(expected) or isinstance(expected, np.ndarray)
        np.testing.assert_array_equal(value, expected)
        assert value.dtype == expected.dtype.newbyteorder("<")
        assert value.shape == expected.shape
    elif isinstance(expected, dict):
        assert list(value) == list(expected)
        for key in expected:
            same(value[key], expected[key])
    else:
        assert value == expected
        assert type(value) is (dict if isinstance(expected, dict) else type(expected))


def saved(tmp_path, content, name="data.pkl"):
    path = tmp_path / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_of_every_protocol_is_read(tmp_path, protocol):
    path = saved(tmp_path, pickle.dumps(PLAIN, protocol))
    same(read_pickle(path), PLAIN)


def test_arrays_of_old_and_new_numpy_and_of_python_2_are_read(tmp_path):
    """NumPy 1 and 2 use different names, and Python 2 wrote bytes where Python 3 writes text."""
    array = np.arange(4, dtype="<u2")
    for core in (b"core", b"_core"):
        content = pickle.dumps(array, 2).replace(b"numpy._core", b"numpy.core").replace(b"numpy.core", b"numpy." + core)
        same(read_pickle(saved(tmp_path, content)), array)
    # {'data': array, 'labels': [3, 1]} as cPickle of Python 2 wrote it under protocol 2.
    python_2 = (
        b"\x80\x02}q\x01(U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85U\x01b\x87R"
        b"q\x05(K\x01K\x04\x85cnumpy\ndtype\nq\x06U\x02u2K\x00K\x01\x87Rq\x07(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff"
        b"\xffK\x00tb\x89U\x08" + array.tobytes() + b"tbU\x06labelsq\x08]q\x09(K\x03K\x01eu."
    )
    value = read_pickle(saved(tmp_path, python_2))
    same(value[b"data"], array)
    assert value[b"labels"] == [3, 1]


def test_arrays_of_objects_are_read_from_pickles_and_npy_files(tmp_path):
    records = np.empty(2, object)
    records[:] = [np.arange(3, dtype=np.int16), np.arange(5, dtype=np.int16)]
    labels = np.array(["N", "A"], dtype=object)
    value = read_pickle(saved(tmp_path, pickle.dumps({"data": records, "label": labels})))
    assert value["data"].shape == (2,)
    same(value["data"][1], records[1])
    assert list(value["label"]) == ["N", "A"]
    np.save(tmp_path / "pair.npy", np.array({"data": np.ones((2, 3)), "label": np.arange(2)}, dtype=object))
    value = read_pickle(tmp_path / "pair.npy")
    assert value.shape == ()
    same(value.item()["data"], np.ones((2, 3)))


def test_zipped_pickles_are_recognized_by_their_content(tmp_path):
    path = saved(tmp_path, gzip.compress(pickle.dumps([1, np.arange(3)])), "no-suffix")
    assert read_pickle(path)[0] == 1


def test_several_files_are_read_by_one_process_in_order(tmp_path, monkeypatch):
    paths = [saved(tmp_path, pickle.dumps([n]), f"{n}.pkl") for n in range(5)]
    started = []
    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: (started.append(1), popen(*a, **k))[1])
    assert list(read_pickles(paths)) == [[n] for n in range(5)]
    assert len(started) == 1


def test_a_converted_pickle_is_read_without_a_process_until_it_changes(tmp_path, monkeypatch):
    path = saved(tmp_path, pickle.dumps(PLAIN))
    assert convert_pickles([path]) == [converted_path(path)]
    written = converted_path(path).stat().st_mtime_ns
    convert_pickles([path])
    assert converted_path(path).stat().st_mtime_ns == written
    monkeypatch.setattr(plain_pickles, "_run_child", None)
    same(read_pickle(path), PLAIN)
    monkeypatch.undo()
    path.write_bytes(pickle.dumps("new"))
    assert read_pickle(path) == "new"
    assert sorted(p.name for p in tmp_path.iterdir()) == [".data.pkl.safetensors", "data.pkl"]


def test_the_mapped_arrays_cannot_be_written(tmp_path):
    array = read_pickle(saved(tmp_path, pickle.dumps(np.zeros(3))))
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1


@pytest.mark.parametrize(
    ("variable", "value", "content", "message"),
    [
        ("MODGAP_MAX_PICKLE_OPCODES", 50, pickle.dumps(list(range(100))), "it has more than 50 opcodes"),
        ("MODGAP_MAX_PICKLE_DEPTH", 3, pickle.dumps([[[[1]]]]), "deeper than 3 levels, or contains itself"),
        ("MODGAP_MAX_PICKLE", 100, pickle.dumps(bytes(200)), "it has [0-9]+ bytes, more than 100"),
        (
            "MODGAP_MAX_PICKLE",
            100,
            gzip.compress(pickle.dumps(bytes(200)), mtime=0),
            "it unzips into more than 100 bytes",
        ),
    ],
)
def test_limits_name_the_variable_that_raises_them(tmp_path, monkeypatch, variable, value, content, message):
    monkeypatch.setenv(variable, str(value))
    with pytest.raises(InputError, match=rf"{message}\. If you trust it, raise the limit with: export {variable}="):
        read_pickle(saved(tmp_path, content))
    monkeypatch.delenv(variable)
    read_pickle(saved(tmp_path, content))


def test_the_number_of_objects_is_limited(tmp_path, monkeypatch):
    monkeypatch.setattr(plain_pickles, "FIXED_LIMITS", plain_pickles.FIXED_LIMITS | {"nodes": 8, "nodes_per_opcode": 0})
    with pytest.raises(InputError, match="more than 8 objects"):
        read_pickle(saved(tmp_path, b"(lp0\n0(lp1\n" + b"g0\na" * 9 + b"."))


def test_time_is_limited(tmp_path, monkeypatch):
    run_child = plain_pickles._run_child
    monkeypatch.setattr(plain_pickles, "_run_child", lambda request, _: run_child(request, 1e-4))
    with pytest.raises(InputError, match=r"longer than .* export MODGAP_MAX_PICKLE_SECONDS=600"):
        read_pickle(saved(tmp_path, pickle.dumps(1)))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not limit a process's memory")
def test_memory_is_limited(tmp_path, monkeypatch):
    monkeypatch.setenv("MODGAP_MAX_PICKLE_MEMORY", str(150 << 20))
    monkeypatch.setattr(plain_pickles, "FIXED_LIMITS", plain_pickles.FIXED_LIMITS | {"memory_per_byte": 0})
    with pytest.raises(InputError, match=r"more memory .* export MODGAP_MAX_PICKLE_MEMORY="):
        read_pickle(saved(tmp_path, pickle.dumps(bytes(200 << 20))))


def test_the_error_for_a_missing_file_names_it(tmp_path):
    with pytest.raises(InputError, match=r"expected a file at .*gone.pkl, found none"):
        read_pickle(tmp_path / "gone.pkl")


def test_the_error_names_the_faulty_file_and_earlier_files_are_converted(tmp_path):
    good = saved(tmp_path, pickle.dumps(1), "good.pkl")
    bad = saved(tmp_path, b"cos\nsystem\n.", "bad.pkl")
    with pytest.raises(InputError, match=r"bad.pkl: it names os.system"):
        convert_pickles([good, bad])
    assert sorted(p.name for p in tmp_path.iterdir()) == [".good.pkl.safetensors", "bad.pkl", "good.pkl"]


def test_a_converted_file_with_a_damaged_header_is_not_used(tmp_path, caplog):
    path = saved(tmp_path, pickle.dumps(np.arange(5)))
    convert_pickles([path])
    whole = converted_path(path).read_bytes()
    for damaged in (whole[:-3], whole.replace(b"array", b"arraz"), b""):
        converted_path(path).write_bytes(damaged)
        same(read_pickle(path), np.arange(5))
        assert f"{converted_path(path)} is not used" in caplog.text
        caplog.clear()


def test_a_converted_file_with_other_values_raises_an_error_and_is_converted_again(tmp_path):
    path = saved(tmp_path, pickle.dumps(np.arange(5.0)))
    convert_pickles([path])
    whole = converted_path(path).read_bytes()
    converted_path(path).write_bytes(whole.replace(np.arange(5.0).tobytes(), np.arange(1, 6.0).tobytes()))
    with pytest.raises(InputError, match=r"\.data\.pkl\.safetensors is damaged .*their checksum\)\. Delete it"):
        read_pickle(path)
    convert_pickles([path])
    same(read_pickle(path), np.arange(5.0))


def dictionary(folder, **changes):
    """Return the files of the reader `pickle`: series of different lengths in a .npy file of one dictionary."""
    record = {
        "X": [np.arange(2.0 * length).reshape(length, 2) for length in (3, 5, 4)],
        "y": np.array([1, 0, 1]),
        "subject": np.array([7, 9, 7]),
    }
    np.save(folder / "data.npy", np.array(record | changes, object), allow_pickle=True)
    return {"data": [folder / "data.npy"]}


def test_series_of_a_dictionary_have_the_group_that_is_named(tmp_path):
    table = get_reader("pickle")(dictionary(tmp_path), x="X", y="y", group="subject", axes=[1, 0])
    assert [sample.shape for sample in table.samples] == [(2, 3), (2, 5), (2, 4)]
    assert (list(table.labels), list(table.groups["subject"])) == ([1, 0, 1], [7, 9, 7])
    assert list(table.groups["record"]) == [0, 1, 2]


@pytest.mark.parametrize("subject", [np.array([7, 9]), [{"a": 1}, 2, 3], "abc"])
def test_a_group_of_another_length_or_kind_raises_an_error(tmp_path, subject):
    with pytest.raises(InputError, match="expected a group for each of 3 samples in"):
        get_reader("pickle")(dictionary(tmp_path, subject=subject), x="X", y="y", group="subject")
