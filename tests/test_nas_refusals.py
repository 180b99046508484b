"""Damaged originals of NAS-Bench-360, and options that do not fit them, raise clear errors."""

import numpy as np
import pytest

from modgap.errors import InputError
from modgap.targets import Target
from tests.fixtures.small_target import open_small_target


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("cifar100", ("cifar-100-python/train", b"<html>"), "cannot read .*train: it is not a pickle"),
        (
            "spherical",
            ("s2_cifar100.gz", b"\x80\x04}\x8c\x05train}s."),
            "expected an entry train/images in .*, which has",
        ),
        ("ninapro", ("label_val.npy", None), "expected one label for each sample .*label_val.npy"),
        ("ninapro", ("ninapro_val.npy", b"\x93NUMPY"), "cannot read arrays from .*ninapro_val.npy"),
        ("darcy-flow", ("piececonst_r421_N1024_smooth2.mat", b"MATLAB"), "cannot read .*smooth2.mat as a MATLAB file"),
        ("deepsea", ("deepsea_filtered.npz", b"PK"), "cannot read arrays from .*npz"),
        ("satellite", ("satellite_test.npy", b"\x93NUMPY\x01\x00"), "cannot read .*satellite_test.npy"),
        ("ecg", ("challenge2017.pkl", b"cos\nsystem\n."), "it names os.system"),
        ("psicov", ("psicov.lst", b"p000A\n../../etc\n"), "expected names of proteins"),
        ("psicov", ("psicov.lst", b"p999A\n"), "expected a file for every protein, found none at .*p999A.pkl"),
        ("psicov", ("deepcov/distance/d000A-cb.npy", b"cos\nsystem\n."), "it names os.system"),
    ],
)
def test_damaged_originals_raise_a_one_line_error(tmp_path, name, damage, message):
    target = open_small_target(name, tmp_path)
    path, content = damage
    if content is None:
        np.save(tmp_path / path, np.zeros(3, np.int64))
    else:
        (tmp_path / path).write_bytes(content)
    with pytest.raises(InputError, match=message) as refused:
        target.read()
    assert "\n" not in str(refused.value)


def changed(target, **options):
    return Target(
        target.manifest.model_copy(
            update={"reader": target.manifest.reader.model_copy(update={"options": options})},
        ),
        target.files,
    )


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "ecg",
            {"x": "data", "y": "label", "shape": [1, -1], "label_values": ["N", "A"]},
            "expected labels N, A in .*, got O, ~",
        ),
        ("ecg", {"x": "data", "y": "label", "shape": [1, -1]}, "expected integer labels"),
        (
            "ecg",
            {"x": "data", "y": "label", "label_values": list("NAO~"), "test_fraction": 1.5},
            "cannot draw a fraction of 1.5 of 60",
        ),
        ("satellite", {"x": "data", "y": "label", "first_label": 2}, "expected labels of at least 2 .*, got 1"),
        ("satellite", {"x": "data", "y": "labels"}, "expected an entry labels in .*, which has data, label"),
        ("satellite", {"x": "data", "y": "label", "shape": [7]}, "do not fit axes None and shape"),
        ("satellite", {"x": "data", "y": "label", "validation": 240}, "expected to move some of the 240"),
        (
            "satellite",
            {"x": "data", "y": "label", "validation": "all"},
            "expected validation to be a number or size-of-test",
        ),
        (
            "darcy-flow",
            {"x": "coeff", "y": "solution"},
            "expected an array of numbers solution in .*, which has coeff, sol",
        ),
        ("deepsea", {"kind": "series", "x": "x_{split}", "y": "z"}, "has no array z. It has: "),
        ("cosmic", {"fields": ["1_1"]}, "of the wanted fields in .*, got 24 of others"),
        ("ninapro", {"axes": [1]}, "do not fit axes"),
    ],
)
def test_options_that_do_not_fit_raise_an_error(tmp_path, name, options, message):
    target = open_small_target(name, tmp_path)
    with pytest.raises(InputError, match=message):
        changed(target, **options).read()
