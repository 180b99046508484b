"""Tables, series and texts in CSV files."""

import re
import unicodedata

import numpy as np
import pandas
import pytest

from modgap.errors import InputError, UsageError
from modgap.targets import CustomData, open_target
from modgap.targets.readers.csv import read
from modgap.targets.samples import SPLITS


def written(folder, text, name="data.csv"):
    path = folder / name
    path.write_text(text)
    return {"data": [path]}


def test_rows_are_features_or_series(tmp_path):
    files = written(tmp_path, "a,b,Label\n1,2.5,cat\n3,4,dog\n5,6,cat\n")
    table = read(files, kind="table")
    assert list(table.classes) == ["cat", "dog"]
    np.testing.assert_array_equal(table.labels, [0, 1, 0])
    np.testing.assert_array_equal(table.samples[1], [[3, 4]])
    tabs = written(tmp_path, "y\tt0\tt1\n7\t1\t2\n9\t3\t4\n", "data.tsv")
    table = read(tabs, kind="series")
    assert list(table.classes) == ["7", "9"]
    np.testing.assert_array_equal(table.samples[0], [[1, 2]])


def test_long_format_orders_rows_by_time_and_keeps_channels(tmp_path):
    text = "who,t,x,z,label,site\nb,2,5,50,1,s\nb,1,4,40,1,s\na,1,1,10,0,r\na,3,3,30,0,r\na,2,2,20,0,r\n"
    table = read(written(tmp_path, text), kind="series", series_column="who", time_column="t", group_column="site")
    np.testing.assert_array_equal(table.samples[0], [[1, 2, 3], [10, 20, 30]])
    np.testing.assert_array_equal(table.samples[1], [[4, 5], [40, 50]])
    np.testing.assert_array_equal(table.labels, [0, 1])
    assert list(table.groups["site"]) == ["r", "s"]


def test_columns_of_a_parquet_file_may_have_numbers_as_names(tmp_path):
    frame = pandas.DataFrame({0: np.arange(12) / 8, 1: ["u", "v"] * 6})
    frame.to_parquet(tmp_path / "numbers.parquet")
    table = open_target(
        str(tmp_path / "numbers.parquet"), custom_data=CustomData(kind="table", label_column="1")
    ).read()
    assert (list(table.classes), len(table)) == (["u", "v"], 12)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_small_differences_of_large_values_survive_standardization(tmp_path, suffix):
    number = np.arange(240)
    # A Unix time that decides on the class, and a Julian date by the hour: float32 keeps one and two values of them.
    columns = {"time": 1_700_000_000 + 30 * (number % 2) + number % 10, "day": 2_460_000.5 + number % 24 / 24}
    frame = pandas.DataFrame(columns | {"label": np.array(["early", "late"])[number % 2]})
    path = tmp_path / f"times.{suffix}"
    frame.to_csv(path, index=False) if suffix == "csv" else frame.to_parquet(path)
    table = open_target(str(path), custom_data=CustomData(kind="table")).read()
    values = np.stack([table.samples[row] for row in range(240)])[:, 0]
    assert values.dtype == np.float32
    assert [len(np.unique(column)) for column in values.T] == [10, 24]
    train = values[table.splits == 0].astype(np.float64)
    np.testing.assert_allclose([train.mean(0), train.std(0, ddof=1)], [[0, 0], [1, 1]], atol=1e-4)


@pytest.mark.parametrize(
    ("header", "options", "warns"),
    [
        ("Time,x,label", {}, True),
        ("t,x,label", {}, True),
        ("t0,t1,label", {}, False),
        ("who,time,x,label", {"series_column": "who", "time_column": "time"}, False),
        ("date,x,label", {"group_column": "date"}, False),
        ("time,x,label", {"kind": "table"}, False),
    ],
)
def test_a_time_column_in_rows_that_are_read_as_series_gives_a_warning(tmp_path, caplog, header, options, warns):
    values = "1,2,0\n3,4,1\n" if header.count(",") == 2 else "1,2,5,0\n3,4,6,1\n"
    files = written(tmp_path, f"{header}\n{values}")
    assert len(read(files, **({"kind": "series"} | options))) == 2
    assert ('"series_column": "COLUMN", "time_column"' in caplog.text) == warns


def test_fractional_labels_are_regression_targets_and_text_is_text(tmp_path):
    table = read(written(tmp_path, "a,y\n1,0.5\n2,1.0\n"), kind="table")
    assert table.labels is None
    np.testing.assert_array_equal(table.targets[0], 0.5)
    integers = read(written(tmp_path, "a,y\n1,3.0\n2,1.0\n"), kind="table")
    assert list(integers.classes) == ["1.0", "3.0"]
    texts = read(written(tmp_path, 'text,label\n"a, b",x\nc,y\n'), kind="text")
    assert texts.samples[0] == "a, b"


def test_splits_come_from_roles(tmp_path):
    train = written(tmp_path, "a,y\n1,u\n2,v\n", "train.csv")["data"]
    test = written(tmp_path, "a,y\n3,v\n", "test.csv")["data"]
    table = read({"train": train, "test": test}, kind="table")
    np.testing.assert_array_equal(table.splits, [0, 0, 2])
    with pytest.raises(KeyError):
        read({"other": train}, kind="table")


@pytest.mark.parametrize(
    ("text", "options", "error", "message"),
    [
        ("a,b\n1,2\n", {}, UsageError, "expected a label column .* got a, b. Name it with .*label_column"),
        ("a,y\n1,2\n", {"label_column": "kind"}, UsageError, "There is no column 'kind'. The columns are a, y."),
        ("a,y\n1,\n2,3\n", {}, InputError, "of column 'y', 1 are missing"),
        ("a,b,y\n1,red,2\n2,blue,3\n", {}, InputError, "got text in b. Leave these columns out"),
        ("a,y\n,2\n2,3\n", {}, InputError, "1 are missing or infinite .in a"),
        ("y\n2\n3\n", {}, InputError, "got text in none, and no other column"),
        (
            "a,b,y\n1,4,2\n2,<0.5,3\n3,7,2\n",
            {},
            InputError,
            "The other cells of b are numbers: correct or empty '<0.5' in row 1 of all rows, counted from 0, and pass",
        ),
        ("a,y,s\n1,2,u\n1,3,u\n", {"series_column": "s"}, InputError, "expected one y for each series"),
        ("", {}, InputError, "cannot read"),
        ('a,y\n"1,2\n', {}, InputError, "cannot read"),
    ],
)
def test_an_unreadable_file_gives_an_error_of_one_line(tmp_path, text, options, error, message):
    with pytest.raises(error, match=message) as caught:
        read(written(tmp_path, text), kind="table", **options)
    assert "\n" not in str(caught.value)


def labeled_table(folder, labels, groups=(), name="labels.csv", **description):
    """Read a table of 60 rows in which the labels, and groups of four rows, take turns."""
    rows = [f"{row % 7},{labels[row % len(labels)]}" for row in range(60)]
    if groups:
        rows = [f"{line},{groups[row // 4 % len(groups)]}" for row, line in enumerate(rows)]
        description["group"] = "who"
    header = "a,label,who" if groups else "a,label"
    (folder / name).write_text("\n".join([header, *rows, ""]), encoding="utf-8")
    return open_target(str(folder / name), custom_data=CustomData(kind="table", **description)).read()


@pytest.mark.parametrize("labels", [("1e20", "2e20"), ("3", "1e20"), ("-1e19", "2"), ("01", "02", "10"), ("9", "10.0")])
def test_labels_are_texts_as_they_are_written_in_the_order_of_numbers(tmp_path, labels):
    """Beyond 2**63 they became -9223372036854775808 and were one class."""
    assert tuple(labeled_table(tmp_path, labels).classes) == labels


SPELLINGS = [("1", "01", "2"), ("1e3", "1000", "2"), ("1", "1.0", "x"), ("True", "true", "no")]


@pytest.mark.parametrize("spellings", SPELLINGS)
@pytest.mark.parametrize("noun", ["label", "group"])
def test_two_spellings_of_a_number_are_refused_unless_an_option_decides(tmp_path, spellings, noun):
    columns = {"labels": spellings} if noun == "label" else {"labels": ("p", "q"), "groups": spellings}
    first, second = sorted(spellings[:2])
    with pytest.raises(
        InputError, match=rf"The {noun}s '{first}' and '{second}' are two spellings of one .*label_type"
    ):
        labeled_table(tmp_path, **columns)
    counts = {}
    for label_type in ("text", "number"):
        table = labeled_table(tmp_path, **columns, label_type=label_type)
        counts[label_type] = len(table.classes) if noun == "label" else len(np.unique(table.groups["groups"]))
    assert counts == {"text": 3, "number": 2}


def test_numbers_become_names_by_the_label_type(tmp_path):
    assert labeled_table(tmp_path, ("007", "7", "1e1", "10"), label_type="number").classes == ["7", "10"]
    assert labeled_table(tmp_path, ("0.5", "1.5"), label_type="text").classes == ["0.5", "1.5"]
    with pytest.raises(InputError, match="has real values as labels"):
        labeled_table(tmp_path, ("0.5", "1.5"), label_type="number")


@pytest.mark.parametrize("pair", [(" x", "x"), ("caf\u00e9", "cafe\u0301")])
@pytest.mark.parametrize("noun", ["label", "group"])
def test_names_that_differ_in_spaces_or_unicode_are_never_merged(tmp_path, caplog, pair, noun):
    def read_table(names):
        return labeled_table(tmp_path, names) if noun == "label" else labeled_table(tmp_path, ("p", "q"), names)

    with pytest.raises(InputError, match=f"The {noun}s {re.escape(ascii(pair[0]))} and {re.escape(ascii(pair[1]))}"):
        read_table((*pair, "y"))
    unusual = next(name for name in pair if name != unicodedata.normalize("NFC", name.strip()))
    caplog.clear()
    read_table((unusual, "y"))
    assert [record.levelname for record in caplog.records if f"1 {noun} is read without spaces" in record.message] == [
        "WARNING"
    ]


@pytest.mark.parametrize("kind", ["table", "series", "text"])
def test_a_column_split_gives_the_splits(tmp_path, kind, caplog):
    caplog.set_level("INFO")
    rows = "".join(f"{row},{row * row},words {row},{'ab'[row % 2]},{SPLITS[row % 3]}\n" for row in range(9))
    rows = rows if kind == "text" else re.sub(",words [0-9]", "", rows)
    files = written(tmp_path, f"a,b,{'text,' if kind == 'text' else ''}label,split\n{rows}")
    table = read(files, kind=kind)
    assert table.splits.tolist() == [0, 1, 2] * 3
    assert table.columns == (None if kind == "text" else ("a", "b"))
    assert "The column split of" in caplog.text
    assert "gives the splits: 3 train, 3 val, 3 test" in caplog.text


def test_a_column_split_has_names_of_splits_in_one_file(tmp_path):
    files = written(tmp_path, "a,label,split\n1,x,train\n2,y,fold1\n")
    with pytest.raises(
        InputError, match=r"The column split of .* has the value 'fold1' in row 1. Expected train, val or test"
    ):
        read(files, kind="table")
    (path,) = written(tmp_path, "a,label,split\n1,x,train\n2,y,test\n")["data"]
    with pytest.raises(InputError, match="has a column split, but the files define the splits"):
        read({"train": [path], "test": [path]}, kind="table")
    numbers = written(tmp_path, "a,label,split\n1,x,4\n2,y,5\n")
    assert read(numbers, kind="table", columns=["a", "split"]).columns == ("a", "split")


def test_a_column_split_is_one_for_a_series_in_long_format(tmp_path):
    text = "who,x,label,split\na,1,u,test\na,2,u,test\nb,3,v,train\nb,4,v,train\n"
    table = read(written(tmp_path, text), kind="series", series_column="who")
    assert table.splits.tolist() == [2, 0]
    with pytest.raises(InputError, match="expected one split for each series"):
        read(written(tmp_path, text.replace("2,u,test", "2,u,val")), kind="series", series_column="who")


TABLE_MANIFEST = """schema = 1
name = "rows"
title = "Rows"
modality = "measurements"
task = "classification"

[input]
kind = "table"

[reader]
name = "csv"
options = { kind = "table" }

[[files]]
role = "data"
path = "rows.csv"
"""


def test_a_manifest_of_a_table_reads_it_as_the_option_does(tmp_path):
    rows = "".join(f"{row},{row * row},{'ab'[row % 2]}\n" for row in range(30))
    (tmp_path / "rows.csv").write_text(f"a,b,label\n{rows}")
    (tmp_path / "rows.toml").write_text(TABLE_MANIFEST)
    by_manifest = open_target(str(tmp_path / "rows.toml"))
    by_option = open_target(str(tmp_path / "rows.csv"), custom_data=CustomData(kind="table"))
    assert by_manifest.manifest.input == by_option.manifest.input
    tables = [target.read() for target in (by_manifest, by_option)]
    np.testing.assert_array_equal(*[[table.samples[row] for row in range(30)] for table in tables])
    (tmp_path / "rows.toml").write_text(TABLE_MANIFEST + '\n[[steps]]\nname = "flatten"\n')
    assert open_target(str(tmp_path / "rows.toml")).read().samples[3].tolist() == [[3, 9]]


def test_a_nul_byte_is_refused(tmp_path):
    with pytest.raises(InputError, match="has NUL bytes"):
        labeled_table(tmp_path, ("x", "x\0"))


def test_large_labels_of_integers_stay_different(tmp_path):
    rows = "".join(f"{number % 7},{2**53 + number % 2}\n" for number in range(20))
    (tmp_path / "a.csv").write_text(f"a,label\n{rows}")
    table = open_target(str(tmp_path / "a.csv"), custom_data=CustomData(kind="table")).read()
    assert list(table.classes) == [str(2**53), str(2**53 + 1)]


@pytest.mark.parametrize("first", ["{number}.5", "r{number}", "7"])
def test_a_header_that_is_one_name_short_is_refused(tmp_path, first):
    rows = "".join(f"{first.format(number=number)},{number % 5},{number % 2}\n" for number in range(20))
    (tmp_path / "a.csv").write_text(f"a,label\n{rows}")
    with pytest.raises(InputError, match="have more values than its header has column names"):
        open_target(str(tmp_path / "a.csv"), custom_data=CustomData(kind="table")).read()


def test_na_and_null_are_names_of_classes_and_an_empty_cell_is_missing(tmp_path, caplog):
    caplog.set_level("INFO")
    labels = ("NA", "null", "cat")
    rows = "".join(f"{number % 7},{labels[number % 3]}\n" for number in range(21))
    (tmp_path / "a.csv").write_text(f"a,label\n{rows}")
    table = open_target(str(tmp_path / "a.csv"), custom_data=CustomData(kind="table")).read()
    assert list(table.classes) == ["NA", "cat", "null"]
    assert "The labels 'NA' (7 rows) and 'null' (7 rows) of" in caplog.text
    (tmp_path / "a.csv").write_text(f"a,label\n{rows}3,\n")
    with pytest.raises(InputError, match="expected a value in every row of column 'label', 1 are missing"):
        open_target(str(tmp_path / "a.csv"), custom_data=CustomData(kind="table")).read()


def test_na_is_missing_among_numbers_and_where_an_option_says_so(tmp_path):
    from modgap.targets.readers.csv import read as read_csv

    path = tmp_path / "a.csv"
    path.write_text("a,label\n" + "".join(f"{number},{(0, 1, 'NA')[number % 3]}\n" for number in range(9)))
    with pytest.raises(InputError, match="3 are missing"):
        read_csv({"data": [path]}, kind="table")
    path.write_text("a,label\n" + "".join(f"{number},{('dog', 'cat', 'NA')[number % 3]}\n" for number in range(9)))
    assert read_csv({"data": [path]}, kind="table").classes == ["NA", "cat", "dog"]
    with pytest.raises(InputError, match="3 are missing"):
        read_csv({"data": [path]}, kind="table", missing_labels=["NA"])


@pytest.mark.parametrize("names", [["001", "002", "010"], ["10", "9", "1.5"], ["b", "a", "c"]])
def test_names_of_series_stay_as_they_are_written(tmp_path, names):
    rows = "\n".join(f"{name},{number},{'xy'[number % 2]}" for number, name in enumerate(names) for _ in range(2))
    table = read(written(tmp_path, f"who,value,label\n{rows}\n"), kind="series", series_column="who")
    ordered = sorted(names, key=lambda name: (float(name) if name[0].isdigit() else 0, name))
    assert list(table.names) == ordered
    assert [int(one[0, 0]) for one in table.samples] == [names.index(name) for name in ordered]


def test_two_spellings_of_the_name_of_a_series_are_refused(tmp_path):
    files = written(tmp_path, "who,value,label\n1.1,0,x\n1.1,1,x\n1.10,2,y\n1.10,3,y\n")
    with pytest.raises(InputError, match=r"series names '1\.1' and '1\.10' are two spellings of one number"):
        read(files, kind="series", series_column="who")
    assert len(read(files, kind="series", series_column="who", label_type="text")) == 2


def test_dates_order_the_rows_of_a_series_and_other_texts_do_not(tmp_path):
    options = {"kind": "series", "series_column": "who", "time_column": "when"}
    dates = ("2026-10-01", "2026-02-01", "2026-01-10")
    rows = "".join(f"{who},{when},{n},{who}\n" for who in "xy" for n, when in enumerate(dates))
    table = read(written(tmp_path, f"who,when,value,label\n{rows}"), **options)
    np.testing.assert_array_equal(table.samples[0], [[2, 1, 0]])
    files = written(tmp_path, f"who,when,value,label\n{rows}".replace("2026-10-01", "9:00").replace("2026-02", "10:00"))
    with pytest.raises(InputError, match=r"column 'when' orders the rows of each series, and has texts such as '9:00'"):
        read(files, **options)


@pytest.mark.parametrize("name", ["split", "Split", " SPLIT "])
def test_the_column_of_splits_has_a_name_in_any_case(tmp_path, name):
    rows = "".join(f"{n},{'ab'[n % 2]},{SPLITS[n // 2]}\n" for n in range(6))
    table = read(written(tmp_path, f"x,label,{name}\n{rows}"), kind="table")
    assert table.splits.tolist() == [0, 0, 1, 1, 2, 2]
    assert table.columns == ("x",)


def test_two_columns_of_the_label_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"has 2 columns 'label'\. Remove or rename all but one"):
        read(written(tmp_path, "x,label,label\n1,a,a\n2,b,b\n"), kind="table")
    assert read(written(tmp_path, "x,label,label.1\n1,a,3\n2,b,4\n"), kind="table").columns == ("x", "label.1")


def test_texts_stay_as_they_are_written(tmp_path):
    texts = ["007", "1.10", "NA", "null"]
    rows = "".join(f"{text},{'ab'[n % 2]}\n" for n, text in enumerate(texts))
    assert list(read(written(tmp_path, f"text,label\n{rows}"), kind="text").samples) == texts


def test_whole_numbers_may_stand_beside_decimal_commas(tmp_path):
    table = read(written(tmp_path, "a;label\n5;x\n5,5;y\n6;x\n"), kind="table")
    assert [float(one[0, 0]) for one in table.samples] == [5, 5.5, 6]
    rows = "5,5\tx\n6,5\ty\n" * 4
    with pytest.raises(InputError, match="got text in ph"):
        read(written(tmp_path, f"ph\tlabel\n{rows}", "data.tsv"), kind="table", categories=True)
