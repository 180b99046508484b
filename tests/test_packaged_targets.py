"""Targets whose files come inside packages of Python or Debian: samples, classes, splits and single values."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from modgap.errors import InputError
from modgap.targets.readers import get_reader
from tests.fixtures.expected_targets import Expected, check_page, check_samples, check_second_sample
from tests.fixtures.packages import absent_packages

TARGETS_PAGE = Path(__file__).parents[1] / "docs" / "targets.md"
EXPECTED = {
    "breast-cancer": Expected((1, 30), (212, 357), (411, 45, 113), 17.77, 0),
    "cardano-sentiment": Expected((2, 24), (), (66, 8, 33), 0.46349, -0.1002),
    "covid-3month": Expected((1, 84), (), (126, 14, 61), 0.0, 0.0775862),
    "covid-3month-levels": Expected((1, 84), (41, 107, 53), (127, 13, 61), 0.0, 2),
    "diabetes": Expected((1, 10), (), (318, 35, 89), 1.0, 75.0),
    "freesolv": Expected(None, (), (462, 52, 128), "CS(=O)(=O)Cl", -4.87),
    "japanese-vowels": Expected((12, 25), (61, 65, 118, 74, 59, 54, 70, 80, 59), (243, 27, 370), 1.277824, 0),
    "osu-leaf": Expected((1, 427), (66, 84, 75, 97, 82, 38), (179, 21, 242), 0.5516186, 4),
    "pickup-gesture": Expected((1, 361), (10,) * 10, (45, 5, 50), 0.962, 0),
    "wine": Expected((1, 13), (59, 71, 48), (128, 15, 35), 1.78, 0),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_samples_classes_and_splits_of_a_packaged_target(name):
    check_samples(name, EXPECTED[name])


@pytest.mark.parametrize("name", EXPECTED)
def test_the_second_sample_is_that_of_the_file(name):
    check_second_sample(name, EXPECTED[name])


@pytest.mark.parametrize("name", EXPECTED)
def test_the_page_of_targets_has_the_size_and_the_license(name):
    check_page(name, EXPECTED[name], TARGETS_PAGE)


def test_absent_packages_of_a_target_are_named(monkeypatch):
    monkeypatch.setattr("tests.fixtures.packages.find_package_folder", lambda name: None)
    assert absent_packages("wine") == ["sklearn"]


def write(path, text):
    path.write_text(text)
    return path


def test_tables_with_a_header_or_with_labels_in_a_file_of_their_own(tmp_path):
    data = write(tmp_path / "x.csv", "two columns\n1 2\n3   4\n")
    labels = write(tmp_path / "y.csv", "0.5\n7\n")
    options = {"shape": [1, 2], "separator": " ", "header_lines": 1}
    table = get_reader("table")({"data": [data], "labels": [labels]}, **options, regression=True)
    np.testing.assert_array_equal(table.samples.array, [[[1, 2]], [[3, 4]]])
    np.testing.assert_array_equal(table.targets.array, [[0.5], [7]])
    with pytest.raises(InputError, match=r"The label 0.5 in .*y.csv is not a whole number"):
        get_reader("table")({"data": [data], "labels": [labels]}, **options)
    with pytest.raises(InputError, match=r"expected 2 rows of one label each in .*, got \(1, 1\)"):
        get_reader("table")({"data": [data], "labels": [write(tmp_path / "z.csv", "1\n")]}, **options)
    with pytest.raises(InputError, match="expected 2 values and a label in each row of"):
        get_reader("table")({"data": [data]}, **options)
    with pytest.raises(InputError, match="expected 3 values in each row of"):
        get_reader("table")({"data": [data], "labels": [labels]}, **options | {"shape": [3]})
    with pytest.raises(InputError, match="as numbers separated by spaces"):
        get_reader("table")({"data": [data]}, **options | {"header_lines": 0})


MUSHROOMS = "a, x, brown ,1, p\nb, y, white,2, e\na, x, white,3, e\n"
MUSHROOM_OPTIONS = {"shape": [1, 4], "label_values": ["e", "p"], "categories": [1, 2], "drop": [3], "group": 0}


def test_tables_of_categories_with_groups_and_labels_that_are_texts(tmp_path):
    files = {"data": [write(tmp_path / "x.dat", MUSHROOMS)]}
    table = get_reader("table")(files, **MUSHROOM_OPTIONS)
    # Categories in alphabetical order: x and y, brown and white.
    np.testing.assert_array_equal(table.samples.array[:, 0], [[1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 0, 1]])
    assert (list(table.labels), table.classes) == ([1, 0, 0], ["e", "p"])
    assert list(table.groups["group"]) == [0, 1, 0]
    assert table.splits is None
    from_the_end = get_reader("table")(files, **MUSHROOM_OPTIONS | {"categories": [-4, -3], "drop": [-2], "group": -5})
    np.testing.assert_array_equal(from_the_end.samples.array, table.samples.array)


def test_tables_with_splits_have_the_same_categories_in_each_file(tmp_path):
    train = write(tmp_path / "train.dat", "1.0000e+00 9 red\n3 8 blue\n")
    test = write(tmp_path / "test.dat", "3 7 green\n")
    table = get_reader("table")(
        {"train": [train], "test": [test]},
        shape=[2, 2], axes=[1, 0], separator=" ", label=0, label_values=[1, 3], categories=[2],
    )  # fmt: skip
    assert (list(table.labels), list(table.splits)) == ([0, 1, 1], [0, 0, 2])
    # Each sample is 9, then blue, green and red.
    np.testing.assert_array_equal(table.samples.array, [[[9, 0], [0, 1]], [[8, 0], [1, 0]], [[7, 1], [0, 0]]])


def test_tables_of_several_labels_and_labels_in_a_file_of_their_own(tmp_path):
    data = write(tmp_path / "x.csv", "0.5,1,0,1\n0.25,0,0,1\n")
    table = get_reader("table")({"data": [data]}, shape=[1, 1], label=[1, 2, 3])
    np.testing.assert_array_equal(table.labels, [[1, 0, 1], [0, 0, 1]])
    files = {"data": [write(tmp_path / "y.csv", "1 2\n3 4\n")], "labels": [write(tmp_path / "l.csv", "-1\n1\n")]}
    table = get_reader("table")(files, shape=[1, 2], separator=" ", label_values=[-1, 1])
    assert (list(table.labels), table.classes) == ([0, 1], ["-1", "1"])


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (MUSHROOMS, {"label_values": ["e"]}, "expected labels e in .*x.dat, got p"),
        (MUSHROOMS, {"label_values": ["e", "p"], "drop": []}, "expected 4 values and a label in each row of .*, got 5"),
        (MUSHROOMS, {"drop": [9]}, "as comma-separated numbers: converter specified for column 9"),
        (MUSHROOMS, {"categories": [1]}, "as comma-separated numbers: could not convert string ' brown '"),
        ("1,2,3\n", {"label": [1, 2], "shape": [1, 1], "label_values": [2, 3]}, "label_values applies to one column"),
        ("1,2,3\n", {"label": [1, 2], "shape": [1, 1]}, "expected 0 or 1 in the 2 columns of labels of .*, got 2"),
        ("1,nan\n", {"shape": [1, 1]}, "The label nan in .* is not a whole number"),
        ("1,2\n", {"shape": [1, 1], "label": 5}, "There is no column 5 in .*, which has 2 columns"),
        ("1,2\n", {"shape": [1, 1], "label": -3}, "There is no column -3 in .*, which has 2 columns"),
    ],
)
def test_tables_that_do_not_fit_their_options_raise_a_one_line_error(tmp_path, content, options, message):
    files = {"data": [write(tmp_path / "x.dat", content)]}
    base = MUSHROOM_OPTIONS if content == MUSHROOMS else {}
    with pytest.raises(InputError, match=message) as caught:
        get_reader("table")(files, **base | options)
    assert "\n" not in str(caught.value)


def test_files_of_a_table_have_rows_of_one_length(tmp_path):
    files = {"train": [write(tmp_path / "a.csv", "1,2\n")], "test": [write(tmp_path / "b.csv", "1,2,3\n")]}
    with pytest.raises(InputError, match=r"expected rows of one length in .*, got 2 and 3 columns"):
        get_reader("table")(files, shape=[1, 1])


def test_a_table_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "x.csv.gz"
    path.write_bytes(gzip.compress(b"1,2\n" * 100_000))
    monkeypatch.setenv("MODGAP_MAX_UNPACKED", "1000")
    with pytest.raises(InputError, match="MODGAP_MAX_UNPACKED"):
        get_reader("table")({"data": [path]}, shape=[1, 1])


SERIES = "@problemName {0}\n@timeStamps false\n@univariate true\n@equalLength true\n@seriesLength 3\n{1}\n@data\n{2}\n"


def test_series_with_real_values_are_regression_targets(tmp_path):
    pytest.importorskip("aeon")
    path = write(tmp_path / "a_TRAIN.ts", SERIES.format("a", "@targetlabel true", "1,2,3:0.5\n4,5,6:-2"))
    table = get_reader("ts")({"train": [path]})
    assert table.labels is None
    np.testing.assert_array_equal(table.targets.array, [[0.5], [-2]])
    np.testing.assert_array_equal(table.samples.array, [[[1, 2, 3]], [[4, 5, 6]]])
    classes = write(tmp_path / "a_TEST.ts", SERIES.format("a", "@classLabel true x y", "1,2,3:x\n4,5,6:y"))
    with pytest.raises(InputError, match="expected classes or real values in all files, got both in"):
        get_reader("ts")({"train": [path], "test": [classes]})
