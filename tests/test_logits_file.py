"""Logits and labels in the files that users have, as `--logits` reads them."""

import io

import numpy as np
import pandas
import pytest
import torch

from modgap.errors import InputError
from modgap.forward.logits import read_logits_file

LABELS = np.repeat([0, 1, 2], 30)
NAMES = np.array(["bird", "cat", "dog"])


@pytest.fixture
def logits():
    values = np.random.default_rng(0).standard_normal((90, 5)).astype(np.float32)
    values[np.arange(90), LABELS] += 3
    return values


@pytest.fixture
def save(tmp_path):
    """Write arrays to a .npz file and return its path as text."""

    def write(**arrays):
        np.savez(tmp_path / "data.npz", **arrays)
        return str(tmp_path / "data.npz")

    return write


def test_npy_files_beside_each_other(tmp_path, logits):
    np.save(tmp_path / "Logits.npy", logits)
    with pytest.raises(InputError, match=r"no labels for .*Expected them in .*labels.npy"):
        read_logits_file(str(tmp_path / "Logits.npy"))
    np.save(tmp_path / "labels.npy", NAMES[LABELS])
    file = read_logits_file(str(tmp_path / "Logits.npy"))
    np.testing.assert_array_equal(file.logits, logits)
    np.testing.assert_array_equal(file.labels, LABELS)
    assert file.target_classes == ("bird", "cat", "dog")
    before = file.provenance
    np.save(tmp_path / "labels.npy", NAMES[LABELS[::-1]])
    assert read_logits_file(str(tmp_path / "Logits.npy")).provenance != before


@pytest.mark.parametrize("suffix", [".csv", ".CSV", ".csv.gz", ".parquet"])
def test_a_table_names_the_source_classes(tmp_path, logits, suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow", reason="Parquet files need pyarrow, which the extra parquet installs")
    frame = pandas.DataFrame(logits, columns=["ant", "bee", "cow", "dog", "elk"])
    frame.insert(0, "id", np.arange(90))
    frame["Label"] = NAMES[LABELS]
    frame["group"] = np.arange(90) // 3
    path = tmp_path / f"data{suffix}"
    if suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False)
    file = read_logits_file(str(path))
    np.testing.assert_allclose(file.logits, logits, rtol=1e-6)
    np.testing.assert_array_equal(file.labels, LABELS)
    np.testing.assert_array_equal(file.groups, np.arange(90) // 3)
    assert file.source_classes == ("ant", "bee", "cow", "dog", "elk")
    assert file.target_classes == ("bird", "cat", "dog")


@pytest.mark.parametrize(
    ("content", "message"),
    [("a,b\n1,2\n", "no column of labels. .* It has: a, b"), ("a,b,label\n1,red,2\n", "has text in b")],
)
def test_a_table_without_labels_or_with_text_is_refused(tmp_path, content, message):
    (tmp_path / "data.csv").write_text(content)
    with pytest.raises(InputError, match=message):
        read_logits_file(str(tmp_path / "data.csv"))


def test_tensors_with_names(tmp_path, logits):
    content = {"logits": torch.from_numpy(logits).bfloat16().requires_grad_(), "labels": torch.from_numpy(LABELS + 1)}
    torch.save(content, tmp_path / "data.pt")
    file = read_logits_file(str(tmp_path / "data.pt"))
    np.testing.assert_allclose(file.logits, logits, rtol=1e-2)
    np.testing.assert_array_equal(file.labels, LABELS)
    assert file.target_classes == ("1", "2", "3")
    torch.save(content | {"labels": [str(name) for name in NAMES[LABELS]]}, tmp_path / "data.pt")
    assert read_logits_file(str(tmp_path / "data.pt")).target_classes == ("bird", "cat", "dog")
    torch.save(content | {"labels": io.StringIO}, tmp_path / "data.pt")
    with pytest.raises(InputError, match="never unpickled"):
        read_logits_file(str(tmp_path / "data.pt"))
    torch.save(content["logits"], tmp_path / "data.pt")
    with pytest.raises(InputError, match=r"expected a dictionary of tensors .* got: Tensor"):
        read_logits_file(str(tmp_path / "data.pt"))


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (LABELS, ()),
        (LABELS + 1, ("1", "2", "3")),
        (LABELS * 2.0, ("0", "2", "4")),
        (LABELS[:, None], ()),
        (np.eye(3)[LABELS], ()),
        (NAMES[LABELS], ("bird", "cat", "dog")),
        (NAMES[LABELS].astype("S"), ("bird", "cat", "dog")),
    ],
)
def test_labels_of_every_kind_are_numbered(save, logits, labels, classes):
    file = read_logits_file(save(logits=logits, labels=labels))
    np.testing.assert_array_equal(file.labels, LABELS)
    assert file.target_classes == classes


@pytest.mark.parametrize("labels", [LABELS - 1, LABELS + 0.5])
def test_labels_that_are_no_classes_are_refused_with_the_file(save, logits, labels):
    with pytest.raises(InputError, match=r"data.npz: The label .* (negative|not a whole number)"):
        read_logits_file(save(logits=logits, labels=labels))


def test_transposed_logits_are_recognized(save, logits):
    with pytest.raises(InputError, match=r"data.npz: .* shape \(5, 90\), but there are 90 labels.* look transposed"):
        read_logits_file(save(logits=logits.T, labels=LABELS))
    with pytest.raises(InputError, match=r"There are 3 groups, but 90 labels"):
        read_logits_file(save(logits=logits, labels=LABELS, groups=np.arange(3)))


@pytest.mark.parametrize(
    ("labels", "names", "classes"),
    [
        (LABELS, NAMES, ("bird", "cat", "dog")),
        (LABELS, NAMES.astype("S"), ("bird", "cat", "dog")),
        (LABELS * 2, np.array(list("abcde")), ("a", "c", "e")),
        (LABELS, np.array(list("abcde")), ("a", "b", "c")),
        (NAMES[LABELS], np.array(["dog", "cat", "bird"]), ("bird", "cat", "dog")),
        (np.eye(3)[LABELS], NAMES, ("bird", "cat", "dog")),
    ],
)
def test_class_names_are_those_of_the_labels(save, logits, labels, names, classes):
    sources = np.array(list("vwxyz"))
    file = read_logits_file(save(logits=logits, labels=labels, class_names=names, source_class_names=sources))
    np.testing.assert_array_equal(file.labels, LABELS)
    assert (file.target_classes, file.source_classes) == (classes, tuple("vwxyz"))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"labels": LABELS + 1, "class_names": NAMES}, "The label 3 has no name.* Number the classes from 0"),
        ({"labels": NAMES[LABELS], "class_names": NAMES[:2]}, "The label 'dog' is not in class_names"),
        ({"labels": LABELS, "source_class_names": NAMES}, "has 3 names, but the logits have 5 columns"),
        ({"labels": LABELS, "class_names": np.arange(3)}, "Expected one string for each class"),
        ({"labels": LABELS, "class_names": NAMES.astype(object)}, "array class_names .* holds Python objects, which"),
    ],
)
def test_class_names_that_do_not_fit_are_refused(save, logits, arrays, message):
    with pytest.raises(InputError, match=message):
        read_logits_file(save(logits=logits, **arrays))


def test_the_command_shows_the_names(modgap, save, logits):
    path = save(logits=logits, labels=LABELS, class_names=NAMES, source_class_names=np.array(list("vwxyz")))
    done = modgap("discrepancy", "--logits", path, "--permutations", "0", "--trials", "100", "--estimator", "search")
    assert done.returncode == 0, done.stderr
    assert all(f"{name} = {source}" in done.stdout for name, source in zip(NAMES, "vwx", strict=True)), done.stdout
