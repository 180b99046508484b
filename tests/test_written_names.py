"""Names of classes and groups in arrays, folders and files of logits: missing ones are refused, none is merged."""

import numpy as np
import pytest
from PIL import Image

from modgap.errors import InputError
from modgap.forward.logits import read_logits_file
from modgap.labels.written_names import number_names
from modgap.targets import open_target

MISSING_GROUPS = {
    "NaN": np.where(np.arange(20) % 5 == 2, np.nan, np.arange(20) // 2),
    "NaT": np.where(np.arange(20) % 5 == 2, np.datetime64("NaT"), np.datetime64("2020-01-01")),
    "text": np.array([np.nan if row % 5 == 2 else str(row) for row in range(20)]),
}


@pytest.mark.parametrize("kind", MISSING_GROUPS)
def test_missing_groups_and_labels_of_arrays_are_refused(tmp_path, kind):
    x = np.random.default_rng(0).standard_normal((20, 16))
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(20) % 2, groups=MISSING_GROUPS[kind])
    with pytest.raises(InputError, match=r"target a: 4 of 20 groups are missing \(first in row 2\)"):
        open_target(str(tmp_path / "a.npz")).read()
    if kind == "text":
        np.savez(tmp_path / "a.npz", x=x, y=MISSING_GROUPS[kind])
        with pytest.raises(InputError, match=r"4 of 20 labels are missing \(first in row 2\)"):
            open_target(str(tmp_path / "a.npz")).read()


@pytest.mark.parametrize("labels", [np.array([b"\xff", b"\xfe"] * 10), np.array([" x", "x"] * 10)])
def test_names_in_arrays_are_never_merged(tmp_path, labels):
    np.savez(tmp_path / "a.npz", x=np.zeros((20, 16)), y=labels)
    with pytest.raises(InputError, match=r"is not text in UTF-8|The labels ' x' and 'x' differ only"):
        open_target(str(tmp_path / "a.npz")).read()


def test_folders_of_one_name_in_two_forms_are_refused(tmp_path):
    for number, name in enumerate(["caf\u00e9", "cafe\u0301", "b"]):
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / name / "1.png")
    with pytest.raises(InputError, match=r"The class folders 'cafe\\u0301' and 'caf\\xe9' differ only"):
        open_target(str(tmp_path)).read()


def logits_table(folder, labels):
    rows = [f"{label},{row % 5},{row % 3},{row % 4}" for row, label in enumerate(labels)]
    (folder / "logits.csv").write_text("\n".join(["label,a,b,c", *rows, ""]))
    return read_logits_file(str(folder / "logits.csv"))


def test_labels_beside_logits_are_names_as_they_are_written(tmp_path):
    assert logits_table(tmp_path, ["01", "02", "10"] * 4).target_classes == ("01", "02", "10")
    assert logits_table(tmp_path, ["0", "1", "2"] * 4).labels.tolist() == [0, 1, 2] * 4
    message = r"labels '01' and '1' are two .* Write it in one way\. They are in the column 'label' of .*\.$"
    with pytest.raises(InputError, match=message):
        logits_table(tmp_path, ["01", "1", "2"] * 4)


def test_names_are_normalized_with_a_warning(caplog):
    numbered = number_names([" x", "y ", "cafe\u0301", " x"], "group")
    assert numbered.names == ("caf\u00e9", "x", "y")
    assert numbered.numbers.tolist() == [1, 2, 0, 1]
    assert caplog.messages == [
        "3 groups are read without spaces at the ends and in the composed form of Unicode (NFC), such as ' x' as 'x'."
    ]
    caplog.clear()
    assert number_names(["a b", "caf\u00e9"]).names == ("a b", "caf\u00e9")
    assert not caplog.messages


def test_a_label_that_is_no_name_is_refused():
    with pytest.raises(InputError, match="The label in row 1 is a list"):
        number_names(["a", ["b"]])
