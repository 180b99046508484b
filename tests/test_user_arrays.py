"""Labels and arrays of every kind that users have, and the messages for those that are refused."""

import logging

import numpy as np
import pandas as pd
import pytest
import torch

from modgap.discrepancy import estimate
from modgap.errors import InputError
from modgap.labels.user_arrays import align_rows, names_of_classes, number_groups, number_labels, to_numpy

ACCEPTED = {
    "integers from 0": ([0, 1, 1, 2], [0, 1, 1, 2], (), ""),
    "integers from 1": ([1, 2, 2, 3], [0, 1, 1, 2], ("1", "2", "3"), "renumbered 0 to 2"),
    "integers with a gap": (np.array([0, 5, 9]), [0, 1, 2], ("0", "5", "9"), "renumbered"),
    "unsigned bytes": (np.array([0, 1], np.uint8), [0, 1], (), ""),
    "whole floats": ([0.0, 1.0, 1.0], [0, 1, 1], (), ""),
    "booleans": ([True, False, True], [1, 0, 1], ("False", "True"), ""),
    "strings": (["b", "a", "b"], [1, 0, 1], ("a", "b"), ""),
    "bytes": (np.array([b"b", b"a"]), [1, 0], ("a", "b"), ""),
    "objects": (np.array(["b", 3, "a"], object), [2, 0, 1], ("3", "a", "b"), ""),
    "a pandas series": (pd.Series(["x", "y", "x"], index=[7, 8, 9]), [0, 1, 0], ("x", "y"), ""),
    "categories in their order": (
        pd.Series(pd.Categorical(["low", "high", "low"], ["low", "high"])), [0, 1, 0], ("low", "high"), "",
    ),
    "categories without a sample": (pd.Categorical(["a", "c"], ["a", "b", "c"]), [0, 1], ("a", "c"), "left out: b"),
    "a column": (np.array([[0], [1], [1]]), [0, 1, 1], (), ""),
    "one-hot": ([[0, 1], [1, 0]], [1, 0], (), "one-hot"),
    "one-hot floats": (np.eye(3)[[2, 0, 1]], [2, 0, 1], (), "one-hot"),
    "multi-label": ([[1, 1], [0, 1]], [[1, 1], [0, 1]], (), "several of 2 labels (multi-label)"),
    "a tensor": (torch.tensor([0, 1, 2]), [0, 1, 2], (), ""),
    "a tensor of floats with gradient": (torch.tensor([0.0, 1.0], requires_grad=True), [0, 1], (), ""),
}  # fmt: skip
REFUSED = {
    "negative": ([0, 1, -1], "The label -1 is negative"),
    "fractional": ([0.5, 1.0], "The label 0.5 is not a whole number"),
    "infinite": ([0.0, np.inf], "not a whole number"),
    "missing in a list of texts": ([np.nan, "x", "y"], "1 of 3 labels are missing (first in row 0)"),
    "missing in an array of texts": (np.array([np.nan, "x"]), "1 of 2 labels are missing (first in row 0)"),
    "missing in a list with NA": (["x", pd.NA, pd.NaT, None], "3 of 4 labels are missing (first in row 1)"),
    "bytes of another encoding": (
        np.array([b"a", b"\xff"]),
        r"The label b'\xff' (first in row 1) is not text in UTF-8",
    ),
    "texts with and without NUL": (["x", "x\0"], r"The labels 'x' and 'x\x00' differ only in spaces"),
    "texts with and without spaces": ([" x", "x"], "The labels ' x' and 'x' differ only in spaces"),
    "two forms of Unicode": (["caf\u00e9", "cafe\u0301"], r"The labels 'caf\xe9' and 'cafe\u0301' differ only"),
    "a number and its text": (np.array([1, "1"], object), "The labels 1 and '1' differ only"),
    "categories with spaces": (pd.Categorical([" x", "x"]), "The labels ' x' and 'x' differ only"),
    "missing float": ([0.0, np.nan, 1.0], "1 of 3 labels are missing (first in row 1)"),
    "missing object": (np.array(["a", None], object), "1 of 2 labels are missing (first in row 1)"),
    "missing in pandas": (pd.Series(["a", pd.NA]), "1 of 2 labels are missing (first in row 1)"),
    "missing category": (pd.Categorical(["a", None]), "1 of 2 labels are missing"),
    "dates": (np.array(["2020-01-01"], "datetime64[D]"), "dtype datetime64"),
    "rows of counts": ([[2, 1], [0, 1]], "values other than 0 and 1"),
    "three axes": (np.zeros((2, 2, 2)), "Expected (N,)"),
    "ragged": ([[1], [1, 0]], "Expected rows of one length"),
}


@pytest.mark.parametrize("kind", ACCEPTED)
def test_labels_are_numbered_from_0(kind, caplog):
    labels, expected, names, note = ACCEPTED[kind]
    with caplog.at_level(logging.INFO, "modgap"):
        numbered = number_labels(labels)
    assert numbered.numbers.tolist() == expected
    assert numbered.numbers.dtype.kind in "iu"
    assert numbered.names == names
    assert len(caplog.messages) == bool(note)
    assert note in "".join(caplog.messages)


@pytest.mark.parametrize("kind", REFUSED)
def test_other_labels_are_refused_with_the_reason(kind):
    labels, message = REFUSED[kind]
    with pytest.raises(InputError) as error:
        number_labels(labels)
    assert message in str(error.value)


GROUPS_REFUSED = {
    "missing float": ([0.0, np.nan, 1.0], "1 of 3 groups are missing (first in row 1)"),
    "missing in a list of texts": (["a", np.nan, "b"], "1 of 3 groups are missing (first in row 1)"),
    "missing in an array of texts": (np.array([np.nan, "a", "b"]), "1 of 3 groups are missing (first in row 0)"),
    "two forms of Unicode": (["caf\u00e9", "cafe\u0301", "b"], r"The groups 'caf\xe9' and 'cafe\u0301' differ only"),
    "bytes of another encoding": (np.array([b"\xff", b"\xfe", b"a"]), "is not text in UTF-8"),
    "missing in a series": (pd.Series([0, None, None]), "2 of 3 groups are missing (first in row 1)"),
    "missing object": (np.array(["a", "b", None], object), "1 of 3 groups are missing (first in row 2)"),
    "missing in pandas": (pd.Series(["a", pd.NA, "b"], dtype="string"), "1 of 3 groups are missing (first in row 1)"),
    "missing date": (np.array(["2020", "NaT", "2021"], "datetime64[D]"), "1 of 3 groups are missing (first in row 1)"),
    "several types": (np.array(["a", 1, 2], object), "The groups cannot be sorted"),
    "too few": ([0, 1], "There are 2 groups for 3 samples"),
    "a row": (np.zeros((1, 3)), "The groups have shape (1, 3). Expected one group for each sample, (3,)"),
    "a number": (4, "The groups have shape ()"),
}


@pytest.mark.parametrize("kind", GROUPS_REFUSED)
def test_missing_groups_are_refused_with_the_reason(kind):
    groups, message = GROUPS_REFUSED[kind]
    with pytest.raises(InputError) as error:
        number_groups(groups, 3)
    assert message in str(error.value)
    with pytest.raises(InputError):
        estimate(np.eye(3), [0, 1, 1], groups=groups)


@pytest.mark.parametrize(
    "groups", [[5, 2, 5], ["b", "a", "b"], [[1], [0], [1]], pd.Series([True, False, True]), [2.5, -np.inf, 2.5]]
)
def test_groups_are_numbered_in_their_order(groups):
    assert number_groups(groups, 3).tolist() == [1, 0, 1]


def test_arrays_of_every_kind_become_numpy():
    expected = np.arange(6, dtype=np.float32).reshape(2, 3)
    tensor = torch.from_numpy(expected.copy())
    for given in (
        expected, expected.tolist(), pd.DataFrame(expected), tensor, tensor.requires_grad_(), tensor.to(torch.bfloat16),
    ):  # fmt: skip
        np.testing.assert_array_equal(to_numpy(given), expected)
    assert to_numpy(expected) is expected


NAMED = {
    "a gap": ([0, 2, 2], "ABC", "AC"),
    "all": ([1, 0, 2], "ABC", "ABC"),
    "from 1": ([1, 2, 1], "ABC", "BC"),
    "booleans": ([True, True], "AB", "B"),
    "whole floats": ([2.0, 0.0], "ABC", "AC"),
    "objects": (np.array([2, 0], object), "ABC", "AC"),
    "categories in their order": (pd.Categorical([0, 2], [2, 0]), "ABC", "CA"),
    "texts": (["C", "A"], "CBA", "AC"),
    "texts of digits": (["1", "2"], ("1", "2", "3"), "12"),
    "one-hot": (np.eye(3, dtype=int), "ABC", "ABC"),
    "several labels": ([[1, 1], [0, 1]], "AB", "AB"),
    "no names": ([0, 2], "", "02"),
}
UNNAMED = {
    "a number": ([0, 3], "ABC", "The label 3 has no name. names has 3 names, which are those of the labels 0 to 2"),
    "from 1": ([1, 2, 3], "ABC", "The label 3 has no name"),
    "a text": (["A", "x"], "ABC", "The label 'x' is not in names. The labels are names themselves"),
    "a name twice": ([0, 1], "AA", "names has the name 'A' twice"),
    "a column": (np.eye(3, dtype=int), "ABCD", "names has 4 names, but the labels have 3 columns"),
    "several labels": ([[1, 1], [0, 1]], "ABC", "names has 3 names, but the labels have 2 columns"),
}


@pytest.mark.parametrize("kind", NAMED)
def test_names_belong_to_the_values_of_labels(kind):
    labels, names, expected = NAMED[kind]
    assert names_of_classes(tuple(names), number_labels(labels), labels, "names") == tuple(expected)


@pytest.mark.parametrize("kind", UNNAMED)
def test_names_that_do_not_fit_are_refused(kind):
    labels, names, message = UNNAMED[kind]
    with pytest.raises(InputError) as error:
        names_of_classes(tuple(names), number_labels(labels), labels, "names")
    assert message in str(error.value)


ORDERED = pd.Series([1, 2, 3], index=["x", "y", "z"])
ALIGNED = {
    "another order": (pd.Series([30, 10, 20], index=["z", "x", "y"]), [10, 20, 30]),
    "a frame": (pd.DataFrame({"a": [30, 10, 20]}, index=["z", "x", "y"]), [[10], [20], [30]]),
    "an equal index": (pd.Series([10, 20, 30], index=["x", "y", "z"]), [10, 20, 30]),
    "an array": (np.array([30, 10, 20]), [30, 10, 20]),
    "nothing": (None, None),
}
NOT_ALIGNED = {
    "other labels": (pd.Series([10, 20, 30]), None, "The indexes of a and b do not have the same labels, each once"),
    "a label twice": (pd.Series([10, 20, 30], index=["x", "x", "z"]), None, "do not have the same labels, each once"),
    "an array beside another order": (
        pd.Series([30, 10, 20], index=["z", "x", "y"]), np.zeros(3), "have different orders, and c has no index",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", ALIGNED)
def test_pandas_objects_are_aligned_by_their_index(kind):
    other, expected = ALIGNED[kind]
    aligned = align_rows({"a": ORDERED, "b": other})
    assert aligned["a"] is ORDERED
    assert (None if other is None else to_numpy(aligned["b"]).tolist()) == expected


@pytest.mark.parametrize("kind", NOT_ALIGNED)
def test_indexes_that_cannot_be_aligned_are_refused(kind):
    other, array, message = NOT_ALIGNED[kind]
    with pytest.raises(InputError) as error:
        align_rows({"a": ORDERED, "b": other, "c": array})
    assert message in str(error.value)


def test_an_index_with_a_label_twice_is_of_use_where_it_is_the_same():
    labels = pd.Series([1, 2, 3], index=["x", "x", "z"])
    assert align_rows({"a": labels, "b": labels + 1})["b"].tolist() == [2, 3, 4]
