"""Selection of samples in a manifest, classes in paths, symbolic links, and checksums of folders."""

import hashlib
import os

import numpy as np
import pytest
import tomli_w
from PIL import Image

from modgap.errors import InputError
from modgap.storage.digests import folder_digest
from modgap.targets import open_target
from modgap.targets.download.data_directory import data_size, files_without_links
from modgap.targets.download.verification import verify
from modgap.targets.manifest import Selection
from modgap.targets.samples import ArraySamples, Table, TextSamples
from modgap.targets.selection import select_samples

TEXTS = Table(
    TextSamples(list("abcabdeffg")),
    labels=np.array([0, 0, 1, 0, 1, 1, 2, 2, 2, 2]),
    classes=["x", "y", "z"],
    groups={"group": np.arange(10)},
)


def selected(**fields):
    table = select_samples(TEXTS, Selection(**fields))
    samples = "".join(table.samples[i] for i in range(len(table)))
    return samples, "".join(table.classes[label] for label in table.labels), table.groups["group"].tolist()


def test_classes_are_chosen_renamed_and_merged():
    samples, classes, groups = selected(classes={"z": "2", "x": "1"})
    assert (samples, classes, groups) == ("abaeffg", "1112222", [0, 1, 3, 6, 7, 8, 9])
    table = select_samples(TEXTS, Selection(classes={"y": "one", "x": "one", "z": "two"}))
    assert (list(table.classes), table.labels.tolist()) == (["one", "two"], [0] * 6 + [1] * 4)


def test_ambiguous_and_repeated_texts_are_left_out():
    # b is in two classes; a and f are repeated.
    assert selected(distinct=True)[0] == "acdefg"
    # Classes are merged first, so that b is in one.
    assert selected(classes={"x": "1", "y": "1", "z": "2"}, distinct=True)[0] == "abcdefg"


def test_small_classes_are_left_out_and_large_ones_are_drawn_evenly():
    assert selected(min_per_class=4)[1] == "zzzz"
    assert selected(max_per_class=2) == ("abcbef"[:2] + "cb" + "ef", "xxyyzz", [0, 1, 2, 4, 6, 8])
    assert selected(max_per_class=3)[2] == [0, 1, 2, 3, 4, 5, 6, 7, 8]


@pytest.mark.parametrize(
    ("table", "fields", "message"),
    [
        (TEXTS, {"classes": {"w": "1"}}, "has the class 'w', which is not in the data. Its classes are: x, y, z"),
        (TEXTS, {"min_per_class": 5}, "leaves out all samples"),
        (Table(TextSamples(["a"]), targets=ArraySamples(np.ones((1, 1)))), {}, "needs one class for each sample"),
        (Table(ArraySamples(np.ones((1, 1))), np.zeros(1, np.int64)), {"distinct": True}, "applies to texts only"),
    ],
)
def test_a_selection_that_does_not_fit_raises_an_error(table, fields, message):
    with pytest.raises(InputError, match=message):
        select_samples(table, Selection(**fields))


def write_icons(folder, digest=None, size=None, **reader):
    """Write a manifest of six icons in two folders, of which one is a link, and one of a folder that is left out."""
    colors = {"apps/cat": 10, "apps/cat_mirror": 20, "apps/dog": 30, "tools/saw": 40, "tools/axe": 50, "other/x": 60}
    for name, color in colors.items():
        path = folder / "data" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (color, 0, 0)).save(path)
    link = folder / "data" / "tools" / "cat.png"
    if not link.is_symlink():
        os.symlink("../apps/cat.png", link)
    record = {
        "schema": 1, "name": "icons", "title": "Icons", "modality": "icons", "task": "classification",
        "input": {"kind": "image"}, "reader": {"name": "image_folder", "options": reader},
        "selection": {"min_per_class": 2},
        "files": [{"role": "data", "path": "data"} | ({"sha256": digest, "size": size} if digest else {})],
    }  # fmt: skip
    path = folder / "icons.toml"
    path.write_text(tomli_w.dumps(record | ({"group": "group"} if "path_pattern" in reader else {})))
    return str(path)


def red_values(table):
    """Return the red channel of all icons of each class."""
    reds = np.array([table.samples[i][0, 0, 0] for i in range(len(table))])
    return {name: reds[table.labels == number].tolist() for number, name in enumerate(table.classes)}


def test_links_are_further_samples_unless_they_are_left_out(tmp_path):
    assert red_values(open_target(write_icons(tmp_path)).read()) == {"apps": [10, 20, 30], "tools": [50, 10, 40]}
    table = open_target(write_icons(tmp_path, links=False)).read()
    assert red_values(table) == {"apps": [10, 20, 30], "tools": [50, 40]}


def test_class_and_group_are_parts_of_the_path(tmp_path):
    pattern = r"(?P<label>[^/]+)/(?P<group>[^/]+?)(?:_mirror)?\.png"
    table = open_target(write_icons(tmp_path, path_pattern=pattern)).read()
    assert red_values(table) == {"apps": [10, 20, 30], "tools": [50, 10, 40]}
    numbers = table.groups["groups"]
    assert numbers[0] == numbers[1] == numbers[4]
    assert len(np.unique(numbers)) == 4
    with pytest.raises(InputError, match=r"has no group \(\?P<label>"):
        open_target(write_icons(tmp_path, path_pattern=r".+/(?P<group>.+)\.png")).read()
    with pytest.raises(InputError, match=r"has 7 files, such as apps/cat\.png, but no images that fit 'x'"):
        open_target(write_icons(tmp_path, path_pattern="x")).read()


def test_a_folder_is_compared_with_its_checksum_and_size(tmp_path):
    write_icons(tmp_path)
    folder = tmp_path / "data"
    files = files_without_links(folder)
    assert len(files) == 6
    # The checksum is that of lines with the relative path and the checksum of each file, in the order of the paths.
    lines = [f"{path.relative_to(folder)}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n" for path in files]
    digest = hashlib.sha256("".join(lines).encode()).hexdigest()
    assert digest == folder_digest(folder, files)
    target = open_target(write_icons(tmp_path, digest, data_size(folder)))
    assert target.fingerprint["files"] == {"data/0/data": digest}
    assert verify(target.manifest, tmp_path).faults == []
    content = bytearray(files[0].read_bytes())
    content[-1] ^= 1
    files[0].write_bytes(content)
    with pytest.raises(InputError, match=f"expected {folder} to have SHA-256 {digest}, got"):
        _ = open_target(str(tmp_path / "icons.toml")).fingerprint
    (fault,) = verify(target.manifest, tmp_path).faults
    assert fault.startswith(f"expected {folder} to have SHA-256 {digest}, got")
    (folder / "apps" / "more.png").write_bytes(b"more")
    with pytest.raises(InputError, match=f"expected {folder} to have {target.manifest.files[0].size} bytes, got"):
        _ = open_target(str(tmp_path / "icons.toml")).fingerprint


def test_targets_without_a_selection_keep_their_fingerprint():
    assert "selection" not in open_target("digits").fingerprint["manifest"]
