"""Pickles that are not plain data: no code runs, nothing is written, memory stays bounded."""

import builtins
import copyreg
import functools
import gzip
import io
import operator
import os
import pickle
import re
import struct
import subprocess
import sys
import tempfile

import numpy as np
import pytest

from modgap.errors import InputError
from modgap.targets import plain_pickles
from modgap.targets.plain_pickles import read_pickle
from tests.memory import PEAK
from tests.test_pickles import PLAIN, saved


class Calls:
    """An object that is pickled as a call."""

    def __init__(self, function, *args):
        self.function = function
        self.args = args

    def __reduce__(self):
        return self.function, self.args


def names(module, name, *args):
    """Return a protocol 4 pickle that looks up a name by STACK_GLOBAL and calls it."""
    look_up = b"".join(pickle.dumps(word, 4)[11:-2] for word in (module, name))
    assert look_up.startswith(b"\x8c")
    body = pickle.dumps(tuple(args), 0)[:-1] if args else b")"
    return b"\x80\x04" + look_up + b"\x93" + body + b"R."


def setstate(state, dtype=b"cnumpy\ndtype\n(V\x66\x38\nI0\nI1\ntR(I3\nV<\nNNNI-1\nI-1\nI0\ntb"):
    """Return a protocol 0 pickle of an array with this state, where {} stands for its type."""
    head = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntV\x62\ntR"
    return head + state.replace(b"{}", dtype) + b"b."


def laughs():
    rounds = b"".join(b"](" + b"h%c" % n * 10 + b"e\x94" for n in range(30))
    return b"\x80\x04]\x94" + rounds + b"."


def deep_key():
    return b"\x80\x04}" + b"K\x01" + b"\x85" * 300_000 + b"K\x01s."


TOUCH = "touch {canary}"
HOSTILE = {
    **{f"os.system, protocol {p}": lambda p=p: pickle.dumps(Calls(os.system, TOUCH), p) for p in range(6)},
    "eval": lambda: pickle.dumps(Calls(eval, "open({canary!r}, 'w')")),
    "exec": lambda: pickle.dumps(Calls(exec, "open({canary!r}, 'w')")),
    "open for writing": lambda: pickle.dumps(Calls(open, "{canary}", "w")),
    "__import__": lambda: pickle.dumps(Calls(builtins.__import__, "antigravity")),
    "subprocess": lambda: pickle.dumps(Calls(subprocess.Popen, ["touch", "{canary}"])),
    "getattr on numpy.ndarray": lambda: b"cbuiltins\ngetattr\n(cnumpy\nndarray\nV__reduce__\ntR.",
    "attrgetter": lambda: pickle.dumps(Calls(operator.attrgetter, "system")),
    "partial": lambda: pickle.dumps(functools.partial(os.system, TOUCH)),
    "reconstructor": lambda: pickle.dumps(Calls(copyreg._reconstructor, object, object, None)),
    "stacked global of os": lambda: names("os", "system", TOUCH),
    "dotted name": lambda: names("numpy", "ndarray.__class__", 1),
    "dotted name into os": lambda: names("numpy", "os.system", TOUCH),
    "dotted module": lambda: names("numpy.core.multiarray._reconstruct", "__globals__"),
    "name of bytes": lambda: b"\x80\x04C\x02osC\x06system\x93C\x01x\x85R.",
    "numpy.load": lambda: names("numpy", "load", "{canary}"),
    "numpy.save": lambda: names("numpy", "save", "{canary}", 1),
    "numpy's runstring": lambda: names("numpy.testing._private.utils", "runstring", "open({canary!r}, 'w')", {}),
    "torch in torch": lambda: names("torch.storage", "_load_from_bytes", b"x"),
    "pickle in pickle": lambda: names("_pickle", "loads", b"cos\nsystem\n(S'touch {canary}'\ntR."),
    "a class of __main__": lambda: b"c__main__\nmain\n)R.",
    "extension registry 1": lambda: b"\x80\x02\x82\x01.",
    "extension registry 2": lambda: b"\x80\x02\x83\x01\x00.",
    "extension registry 4": lambda: b"\x80\x02\x84\x01\x00\x00\x00.",
    "persistent id": lambda: b"Pabc\n.",
    "persistent id from the stack": lambda: b"\x80\x02K\x01Q.",
    "INST": lambda: b"(S'touch {canary}'\nios\nsystem\n.",
    "OBJ": lambda: b"(cnumpy\nndarray\nI2\no.",
    "NEWOBJ": lambda: b"\x80\x02cnumpy\ndtype\n)\x81.",
    "NEWOBJ_EX": lambda: b"\x80\x04cnumpy\ndtype\n)}\x92.",
    "a call of numpy.ndarray": lambda: b"cnumpy\nndarray\n(I1000000000\ntR.",
    "a change of a constructor": lambda: b"cnumpy\ndtype\n}(V__defaults__\n(I1\ntub.",
    "a slot of a constructor": lambda: b"cnumpy\ndtype\n(N}(V_call\nI1\nutb.",
    "a call of data": lambda: b"V\x61\n(I1\ntR.",
    "an attribute of data": lambda: b"(lp0\n}(V__class__\nI1\nub.",
    "long text": lambda: b"\x80\x04\x8d" + struct.pack("<Q", 1 << 60) + b"x.",
    "long bytes": lambda: b"\x80\x04\x8e" + struct.pack("<Q", (1 << 63) - 1) + b"x.",
    "long bytes of 32 bits": lambda: b"\x80\x03B" + struct.pack("<I", 0xFFFFFFFF) + b"x.",
    "long bytearray": lambda: b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"x.",
    "long integer": lambda: b"\x80\x02\x8b" + struct.pack("<i", (1 << 31) - 1) + b"x.",
    "negative length": lambda: b"\x80\x02T" + struct.pack("<i", -5) + b"xxxxxxxxx.",
    "many digits": lambda: b"L" + b"9" * 1_000_000 + b"L\n.",
    "many bits": lambda: pickle.dumps(1 << 4000),
    "long frame": lambda: b"\x80\x04\x95" + struct.pack("<Q", 1 << 50) + b"N.",
    "a list in itself": lambda: b"(lp0\ng0\na.",
    "a dictionary in itself": lambda: b"\x80\x04}\x94K\x01h\x00s.",
    "a tuple in itself": lambda: b"](lp0\n0g0\n(g0\ntp1\nag1\n.",
    "deep lists": lambda: b"\x80\x04" + b"](" * 200_000 + b"e" * 200_000 + b".",
    "deep tuples as a key": deep_key,
    "lists of lists of one list": laughs,
    "a high note": lambda: b"\x80\x02Nr" + struct.pack("<I", 0x7FFFFFFF) + b".",
    "a high note in digits": lambda: b"Np99999999999\n.",
    "one text encoded over and over": lambda: (
        b"X"
        + struct.pack("<I", 1 << 20)
        + b"a" * (1 << 20)
        + b"q\x000("
        + b"c_codecs\nencode\n(h\x00Vlatin1\ntR" * 4000
        + b"l."
    ),
    "one list copied over and over": lambda: (
        b"(" + b"K\x01" * 100_000 + b"lq\x000(" + b"cbuiltins\nset\n(h\x00tR" * 50_000 + b"l."
    ),
    "an array larger than its content": lambda: setstate(b"(I1\n(I1000000000000\nt{}I00\nC\x08abcdefght"),
    "an array of an overflowing shape": lambda: setstate(b"(I1\n(I4294967296\nI4294967296\nt{}I00\nC\x00t"),
    "an array of a negative shape": lambda: setstate(b"(I1\n(I-1\nt{}I00\nC\x08abcdefght"),
    "an array of a text shape": lambda: setstate(b"(I1\nVab\n{}I00\nC\x08abcdefght"),
    "an array of many dimensions": lambda: setstate(b"(I1\n(" + b"I1\n" * 70 + b"t{}I00\nC\x08abcdefght"),
    "an array whose content is no bytes": lambda: setstate(b"(I1\n(I1\nt{}I00\nI5\nt"),
    "an array without content": lambda: setstate(b"")[:-2] + b".",
    "an array built twice": lambda: setstate(b"(I1\n(I0\nt{}I00\nC\x00t")[:-1] + b"(I1\n(I0\ntNI00\nC\x00tb.",
    "a memory map": lambda: setstate(b"").replace(b"cnumpy\nndarray", b"cnumpy\nmemmap"),
    "an array of fields": lambda: pickle.dumps(np.zeros(2, [("a", "f4"), ("b", object)])),
    "an array of sub-arrays": lambda: pickle.dumps(np.dtype("3f4")),
    "an array of raw memory": lambda: pickle.dumps(np.zeros(2, "V8")),
    "an array of times": lambda: pickle.dumps(np.zeros(2, "M8[s]")),
    "an array of complex numbers": lambda: pickle.dumps(np.zeros(2, complex)),
    "a type of no size": lambda: setstate(
        b"(I1\n(I281474976710655\nt{}I00\nC\x00t", b"cnumpy\ndtype\n(VS0\nI0\nI1\ntR"
    ),
    "text of no characters": lambda: pickle.dumps(np.array(["a"])).replace(b"a\0\0\0", b"\xff\xff\xff\xff"),
    "an array of objects that call": lambda: pickle.dumps(np.array([Calls(os.system, TOUCH)], dtype=object)),
    "an array of objects in itself": lambda: (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntV\x62\ntRp0\n(I1\n(I1\nt"
        b"cnumpy\ndtype\n(VO8\nI0\nI1\ntR(I3\nV|\nNNNI-1\nI-1\nI63\ntbI00\n(lg0\natb."
    ),
    "an array of objects whose list grows": lambda: (
        setstate(
            b"(I3\n(I1\nt{}I00\n(lp1\nI7\nat", b"cnumpy\ndtype\n(VO8\nI0\nI1\ntR(I3\nV|\nNNNI-1\nI-1\nI63\ntb"
        ).removesuffix(b".")
        + b"p0\n0g1\nI8\na0g0\n."
    ),
    "an array of more objects than there are": lambda: pickle.dumps(np.array([1, 2], dtype=object)).replace(
        b"K\x02\x85", b"K\x09\x85"
    ),
    "a truncated pickle": lambda: pickle.dumps(PLAIN)[:-40],
    "a truncated zip": lambda: gzip.compress(os.urandom(5000))[:-20],
    "a damaged zip": lambda: gzip.compress(pickle.dumps(list(range(1000))))[:40] + b"\xff" * 40,
    "a buffer from outside": lambda: pickle.dumps(pickle.PickleBuffer(b"x"), 5, buffer_callback=lambda b: False),
    "a read-only buffer": lambda: b"\x80\x05\x97\x98.",
    "a zip bomb": lambda: gzip.compress(bytes(300 << 20), 1),
    "no pickle": lambda: b"<html><title>403 Forbidden</title></html>",
    "an empty file": lambda: b"",
    "a zip archive": lambda: b"PK\x03\x04" + bytes(60),
    "an npy file that lies": lambda: npy(object, (5,), pickle.dumps(np.array([1], dtype=object))),
    "an npy file of something else": lambda: npy(object, (1,), pickle.dumps([1])),
    "an npy file of numbers": lambda: npy("<f8", (1,), bytes(8)),
    "an npy file whose header calls": lambda: (
        b"\x93NUMPY\x01\x00" + struct.pack("<H", 60) + b"__import__('os').system('touch {canary}')".ljust(60)
    ),
    "an npy file of version 9": lambda: b"\x93NUMPY\x09\x00" + bytes(64),
}


def npy(dtype, shape, content):
    stream = io.BytesIO()
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue() + content


REASONS = {
    "an array larger than its content": "has 8 bytes",
    "an array of an overflowing shape": "has 0 bytes",
    "deep tuples as a key": "stopped by signal|nested",
    "one text encoded over and over": "copies its own content",
    "lists of lists of one list": "unfolds into more",
    "a change of a constructor": "tries to change a constructor",
    "a zip bomb": "unzips into more than",
    "an array of objects whose list grows": "shape \\(1,\\) with 2 objects",
    "an empty file": "the file is empty",
    "os.system, protocol 4": r"names posix\.system|names nt\.system",
}


def test_there_are_enough_hostile_pickles():
    assert len(HOSTILE) > 80


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_pickle_raises_a_one_line_error_and_does_nothing(tmp_path, monkeypatch, name):
    canary = tmp_path / "canary"
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    content = HOSTILE[name]()
    # Lengths in the pickle stay correct, because the name of the canary is as long as its placeholder.
    content = content.replace(b"{canary}", b"canary  ").replace(b"{canary!r}", b"'canary'  ")
    path = saved(tmp_path, content)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        read_pickle(path)
    message = str(caught.value)
    assert re.search(REASONS.get(name, ""), message)
    assert message.startswith(f"cannot read {path}: ")
    assert message.endswith(plain_pickles.ALLOWED_CONTENT) or "If you trust it, raise the limit with: " in message
    assert message.isascii()
    assert "\n" not in message
    assert len(message) < len(str(path)) + 400
    assert not canary.exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data.pkl", "scratch"]
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("name", ["os.system, protocol 2", "eval", "open for writing", "subprocess", "INST"])
def test_these_pickles_would_do_harm(tmp_path, name):
    """The canary works: Python's own unpickler lets these pickles write the file."""
    content = HOSTILE[name]().replace(b"{canary}", b"canary  ").replace(b"{canary!r}", b"'canary'  ")
    code = "import pickle, sys; pickle.load(sys.stdin.buffer)"
    subprocess.run([sys.executable, "-c", code], input=content, cwd=tmp_path, check=True)
    for _ in range(100):
        if any(tmp_path.iterdir()):
            break
        subprocess.run(["sleep", "0.05"], check=True)
    assert [p.name.strip() for p in tmp_path.iterdir()] == ["canary"]


def test_damaged_pickles_are_read_or_raise_an_error(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(24):
        content = np.frombuffer(pickle.dumps(PLAIN, number % 6), np.uint8).copy()
        places = rng.integers(0, len(content), 1 + number // 8)
        content[places] = rng.integers(0, 256, len(places))
        path = saved(tmp_path, content.tobytes(), f"{number}.pkl")
        try:
            assert isinstance(read_pickle(path), object)
        except InputError as error:
            assert str(error).startswith(f"cannot read {path}: ")  # noqa: PT017 - both outcomes are right


BOMBS = [
    "long text", "long bytes", "long bytes of 32 bits", "long bytearray", "long integer", "long frame", "a high note",
    "lists of lists of one list", "one text encoded over and over", "one list copied over and over", "a zip bomb",
    "an array larger than its content", "a type of no size", "deep lists",
]  # fmt: skip
MEMORY = f"""{PEAK}
import resource, sys
from pathlib import Path
from modgap.errors import InputError
from modgap.targets.plain_pickles import read_pickle
for path in map(Path, sys.argv[1:]):
    try:
        read_pickle(path)
    except InputError:
        continue
    sys.exit(f"{{path}} was read")
print(peak() // 1024, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured as on Linux")
@pytest.mark.long
def test_bombs_take_little_memory(tmp_path):
    paths = [saved(tmp_path, HOSTILE[name](), f"{number}.pkl") for number, name in enumerate(BOMBS)]
    done = subprocess.run([sys.executable, "-c", MEMORY, *map(str, paths)], capture_output=True, text=True, check=True)
    assert max(map(int, done.stdout.split())) < 400
