"""Custom data in the formats, encodings and names that users have, up to the samples and labels."""

import gzip
import io
import logging
import zipfile

import numpy as np
import pandas
import pytest
import soundfile
import torch
from PIL import Image

from modgap.errors import InputError, UsageError
from modgap.targets import CustomData, open_target
from modgap.targets.data_frames import read_frame
from modgap.targets.readers.pt import load_dictionary
from modgap.targets.sound import waveform

TABLE = "a,b,label\n1.5,2,cat\n3.5,4,dog\n5.5,6,cat\n"


def read(path, **fields):
    return open_target(str(path), custom_data=CustomData(**fields)).read()


def assert_is_the_table(table):
    np.testing.assert_array_equal(np.concatenate([table.samples[i] for i in range(3)]), [[1.5, 2], [3.5, 4], [5.5, 6]])
    assert list(table.classes) == ["cat", "dog"]
    np.testing.assert_array_equal(table.labels, [0, 1, 0])


@pytest.fixture
def image(tmp_path):
    """Save a small image at a path below the test's folder."""

    def save(path):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / path)

    return save


@pytest.mark.parametrize(
    ("file_name", "target_name"),
    [
        ("日本.csv", "日本"),
        ("Données d'été.csv", "données-d-été"),
        ("हिन्दी.csv", "हिन्दी"),
        ("___.csv", "data"),
        ("𝐀².csv", "data"),
        ("My Data.CSV", "my-data"),
    ],
)
def test_a_file_name_in_any_script_becomes_the_name_of_the_target(tmp_path, file_name, target_name):
    (tmp_path / file_name).write_text(TABLE)
    target = open_target(str(tmp_path / file_name), custom_data=CustomData(kind="series"))
    assert target.name == target_name
    assert_is_the_table(target.read())


def test_a_file_name_that_is_not_unicode_can_be_read(tmp_path):
    path = tmp_path / b"caf\xe9.csv".decode("utf-8", "surrogateescape")
    path.write_text(TABLE)
    assert_is_the_table(read(path, kind="series"))


@pytest.mark.parametrize("name", ["data.CSV", "data.csv.gz", "data.TSV", "data.tsv.gz", "DATA.CSV.GZ"])
def test_suffixes_in_upper_case_and_compressed_tables(tmp_path, name):
    content = (TABLE.replace(",", "\t") if "tsv" in name.lower() else TABLE).encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.lower().endswith(".gz") else content)
    assert_is_the_table(read(tmp_path / name, kind="series"))


@pytest.mark.parametrize("name", ["data.NPZ", "data.Safetensors", "data.H5"])
def test_array_files_with_a_suffix_in_upper_case(tmp_path, name):
    import h5py
    from safetensors.numpy import save_file

    arrays = {"x": np.random.default_rng(0).random((6, 5), np.float32), "y": np.arange(6) % 2}
    path = tmp_path / name
    if name.endswith("NPZ"):
        with path.open("wb") as stream:
            np.savez(stream, **arrays)
    elif name.endswith("H5"):
        with h5py.File(path, "w") as file:
            file.update(arrays)
    else:
        save_file(arrays, path)
    np.testing.assert_array_equal(read(path).samples[3], arrays["x"][3:4])


def test_images_with_a_suffix_in_upper_case_and_without_the_attributes_of_macos(tmp_path, image):
    for path in ("photos/cats/1.PNG", "photos/cats/2.JPG", "photos/dogs/3.Jpeg"):
        image(path)
    (tmp_path / "photos/dogs/._3.Jpeg").write_bytes(b"\0\5\x16\7")
    table = read(tmp_path / "photos")
    assert (len(table), list(table.classes)) == (3, ["cats", "dogs"])
    assert table.samples[2].shape == (3, 8, 8)


def test_semicolons_decimal_commas_and_latin_1_are_read_with_a_note(tmp_path, caplog):
    caplog.set_level("INFO")
    rows = TABLE.replace(",", ";").replace(".", ",").replace("cat", "café")
    (tmp_path / "data.csv").write_bytes(rows.encode("latin-1"))
    table = read(tmp_path / "data.csv", kind="series")
    assert list(table.classes) == ["café", "dog"]
    assert table.samples[2][0, 0] > table.samples[1][0, 0] > table.samples[0][0, 0]
    for note in ("separated by semicolons", "not encoded as UTF-8, so it is read as Latin-1", "with decimal commas"):
        assert note in caplog.text


def test_utf_16_of_a_spreadsheet_is_read(tmp_path):
    (tmp_path / "data.csv").write_text(TABLE.replace(",", "\t"), encoding="utf-16")
    assert_is_the_table(read(tmp_path / "data.csv", kind="series"))


def test_a_quoted_semicolon_is_no_separator(tmp_path):
    (tmp_path / "data.csv").write_text('"a;b;c;d",b,label\n' + TABLE.partition("\n")[2])
    assert_is_the_table(read(tmp_path / "data.csv", kind="series"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a,b,label\n", "has a header with 3 columns, but no rows below it"),
        (b"label\n", "has a header with 1 column, but no rows"),
        (b"a,b,label\n1,2,cat,9\n3,4,dog,8\n", "have more values than its header has column names"),
    ],
)
def test_a_table_that_would_be_misread_is_refused(tmp_path, content, message):
    (tmp_path / "data.csv").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read(tmp_path / "data.csv", kind="series")


def test_a_damaged_compressed_table_is_refused(tmp_path):
    (tmp_path / "data.csv.gz").write_bytes(gzip.compress(TABLE.encode() * 100)[:-20])
    with pytest.raises(InputError, match=r"cannot read .*data.csv.gz"):
        read(tmp_path / "data.csv.gz", kind="series")


@pytest.mark.parametrize("header", ["", "id", "Index", "ID"])
@pytest.mark.parametrize("first", [0, 1])
def test_a_column_that_numbers_the_rows_is_left_out_with_a_note(tmp_path, caplog, header, first):
    caplog.set_level("INFO")
    rows = [f"{first + i},{v}" for i, v in enumerate(TABLE.split("\n")[1:4])]
    (tmp_path / "data.csv").write_text("\n".join([f"{header},a,b,label", *rows]))
    assert_is_the_table(read(tmp_path / "data.csv", kind="series"))
    assert "numbers the rows, so it is left out" in caplog.text


@pytest.mark.parametrize(
    ("name", "values", "is_copy"), [("target", (3, 1), True), ("kind", "xy", True), ("b", (1, 1), False)]
)
def test_a_column_that_says_the_same_as_the_label_is_named(tmp_path, caplog, name, values, is_copy):
    rows = [f"{number % 7}.5,{values[number % 2]},{'uv'[number % 2]}" for number in range(20)]
    for count, is_said in ((20, is_copy), (12, False)):
        caplog.clear()
        (tmp_path / "data.csv").write_text("\n".join([f"a,{name},label", *rows[:count]]))
        read(tmp_path / "data.csv", kind="table")
        assert (f"The column '{name}'" in caplog.text and "tells the label" in caplog.text) == is_said


def test_copies_of_the_label_may_have_missing_or_nested_values(tmp_path, caplog):
    pandas = pytest.importorskip("pandas")
    labels = np.array(["u", "v"] * 20)
    frame = pandas.DataFrame({"a": np.arange(40) % 7 * 0.5, "label": labels})
    frame["some"] = pandas.array([number if number % 5 else None for number in range(40)], dtype="Int64")
    frame["sick"] = np.where(labels == "u", np.nan, 1.5)
    frame.to_parquet(tmp_path / "data.parquet")
    read(tmp_path / "data.parquet", kind="table", fill="median")
    assert [record.args[0] for record in caplog.records if "tells the label" in record.msg] == ["sick"]
    frame["nested"] = [[1, 2]] * 40
    frame.to_parquet(tmp_path / "data.parquet")
    with pytest.raises(InputError, match="numbers in every column"):
        read(tmp_path / "data.parquet", kind="table", fill="median")


def test_a_rare_class_or_a_few_series_give_no_warning_by_chance(tmp_path, caplog):
    rng = np.random.default_rng(0)
    header = ",".join(["label", *(f"c{number}" for number in range(300))])
    rows = [",".join(["ab"[number == 7], *map(str, (rng.random(300) < 0.02).astype(int))]) for number in range(60)]
    (tmp_path / "data.csv").write_text("\n".join([header, *rows]))
    read(tmp_path / "data.csv", kind="table")
    moments = [
        f"s{series},{moment},{[50, 61, 61, 50][series]},{'abba'[series]}" for series in range(4) for moment in range(50)
    ]
    (tmp_path / "long.csv").write_text("\n".join(["name,t,age,label", *moments]))
    read(tmp_path / "long.csv", kind="series", series_column="name", time_column="t")
    assert "tells the label" not in caplog.text


def test_other_columns_and_those_that_an_option_names_stay(tmp_path, caplog):
    (tmp_path / "data.csv").write_text("id,index,a,label\n0,17,5,u\n1,4,6,v\n2,9,7,u\n")
    table = read(tmp_path / "data.csv", kind="series", group="id")
    assert table.samples[0].tolist() == [[17, 5]]
    assert "column 'index'" in caplog.text
    assert "can reveal the labels" in caplog.text


def test_separators_at_the_ends_of_rows_are_no_values(tmp_path):
    (tmp_path / "data.csv").write_text("a,b,label\n1,2,cat,\n3,4,dog,\n")
    table = read(tmp_path / "data.csv", kind="series")
    assert table.samples[1].tolist() == [[3, 4]]
    assert table.classes == ["cat", "dog"]


def test_row_names_of_r_are_no_feature_and_a_warning_says_so(tmp_path, caplog):
    rows = [f"{1 + i},{v}" for i, v in enumerate(TABLE.split("\n")[1:4])]
    (tmp_path / "data.csv").write_text("\n".join(["a,b,label", *rows]))
    assert_is_the_table(read(tmp_path / "data.csv", kind="series"))
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "has one name less than its rows have values. The first column numbers the rows" in line


def test_the_row_number_of_a_sorted_table_does_not_reveal_the_label(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 50)
    lines = [f"{i},{v:.3f},{k}" for i, (v, k) in enumerate(zip(rng.standard_normal(100), labels, strict=True))]
    (tmp_path / "noise.csv").write_text("\n".join([",noise,label", *lines]))
    table = read(tmp_path / "noise.csv", kind="series")
    values = np.array([table.samples[i].ravel() for i in range(100)])
    assert max(abs(np.corrcoef(column, labels)[0, 1]) for column in values.T) < 0.3


def test_parquet_without_pyarrow_says_how_to_install_it(tmp_path, monkeypatch):
    import sys

    (tmp_path / "data.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "fastparquet", None)
    with pytest.raises(InputError, match=r"needs pyarrow.* pip install pyarrow"):
        read(tmp_path / "data.parquet", kind="series")


@pytest.fixture
def parquet(tmp_path):
    """Write a data frame as a Parquet file of this name and return its path."""
    pytest.importorskip("pyarrow", reason="Parquet files need pyarrow, which the extra parquet installs")

    def write(frame, name="data.parquet"):
        frame.to_parquet(tmp_path / name)
        return tmp_path / name

    return write


def test_parquet_is_read_like_a_csv_file(parquet):
    frame = pandas.read_csv(io.StringIO(TABLE))
    assert_is_the_table(read(parquet(frame, "DATA.Parquet"), kind="series"))


def test_the_index_of_a_parquet_file_is_a_column_only_if_it_has_a_name(parquet):
    frame = pandas.read_csv(io.StringIO(TABLE))
    assert_is_the_table(read(parquet(frame.set_index(pandas.Index([7, 3, 5]))), kind="series"))
    assert_is_the_table(read(parquet(frame.set_index("label")), kind="series"))


@pytest.mark.parametrize("labels", [["cat", "dog", "cat"], pandas.Categorical(["cat", "dog", "cat"])])
def test_texts_and_categories_of_a_parquet_file_are_classes(parquet, labels):
    frame = pandas.read_csv(io.StringIO(TABLE)).assign(label=labels)
    assert_is_the_table(read(parquet(frame), kind="series"))
    texts = pandas.DataFrame({"text": ["a b", "c", "d"], "label": labels})
    assert read(parquet(texts)).samples[0] == "a b"


def test_bytes_of_a_parquet_file_are_text_or_refused(parquet):
    frame = pandas.DataFrame({"x": [1.0, 2, 3], "label": [b"caf\xc3\xa9", b"b", b"b"]})
    assert read(parquet(frame), kind="table").classes == ["b", "café"]
    for label in ([b"\xff", b"\xfe", b"\xff"], [b"a", "b", b"\xff"]):
        with pytest.raises(InputError, match=r"The column 'label' of .* has bytes that are not text in UTF-8"):
            read(parquet(frame.assign(label=label)), kind="table")


@pytest.mark.parametrize("values", [[[1], [2], [1]], [{"a": 1}, {"a": 2}, {"a": 1}]])
def test_labels_and_groups_of_a_parquet_file_are_single_values(parquet, values):
    frame = pandas.DataFrame({"x": [1.0, 2, 3], "label": ["a", "b", "a"]})
    for changed in (frame.assign(label=values), frame.assign(g=values)):
        with pytest.raises(InputError, match=r"has lists or records, such as .* Expected one text or number"):
            read(parquet(changed), kind="table", group="g" if "g" in changed else None)


def test_a_damaged_parquet_file_is_refused_in_one_line(parquet, tmp_path):
    path = parquet(pandas.read_csv(io.StringIO(TABLE)))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"cannot read .*data.parquet as a Parquet file") as error:
        read(path, kind="series")
    assert "\n" not in str(error.value)


def test_a_pair_of_npy_files(tmp_path):
    x = np.random.default_rng(0).random((6, 5), np.float32)
    np.save(tmp_path / "x.npy", x)
    with pytest.raises(InputError, match=r"no labels for .*x.npy. Expected them in .*y.npy"):
        read(tmp_path / "x.npy")
    np.save(tmp_path / "y.npy", np.arange(6) % 3)
    np.save(tmp_path / "unrelated.npy", np.zeros(2))
    table = read(tmp_path / "x.npy")
    np.testing.assert_array_equal(table.labels, [0, 1, 2, 0, 1, 2])
    np.testing.assert_array_equal(table.samples[3], x[3:4])
    np.save(tmp_path / "genus.npy", np.array(["oak", "elm"] * 3))
    np.save(tmp_path / "forest.npy", np.array([0, 0, 1, 1, 2, 2]))
    named = read(tmp_path / "x.npy", y_name="genus", group="forest")
    assert list(named.classes) == ["elm", "oak"]
    assert len(np.unique(named.groups["groups"])) == 3
    with pytest.raises(InputError, match="no labels for"):
        read(tmp_path / "y.npy")
    with pytest.raises(UsageError, match=r'`custom_data\["x_name"\]` does not apply'):
        read(tmp_path / "x.npy", x_name="x")
    before = open_target(str(tmp_path / "x.npy")).fingerprint
    np.save(tmp_path / "y.npy", np.arange(6) % 2)
    assert open_target(str(tmp_path / "x.npy")).fingerprint != before


@pytest.mark.parametrize("labels", [[0, 1, 2, 0, 1, 2], ["a", "b", "c"] * 2, [True, False] * 3])
def test_labels_in_a_column_are_those_in_a_row(tmp_path, labels):
    x = np.random.default_rng(0).random((6, 5), np.float32)
    np.savez(tmp_path / "row.npz", x=x, y=np.array(labels))
    np.savez(tmp_path / "column.npz", x=x, y=np.array(labels)[:, None])
    row, column = (open_target(str(tmp_path / name)) for name in ("row.npz", "column.npz"))
    assert column.manifest.task == "classification"
    np.testing.assert_array_equal(row.read().labels, column.read().labels)
    assert list(row.read().classes) == list(column.read().classes)


@pytest.mark.parametrize("suffix", [".npz", ".npy"])
def test_class_numbers_that_do_not_start_at_0_are_renumbered_with_a_note(tmp_path, caplog, suffix):
    caplog.set_level("INFO")
    x = np.random.default_rng(0).random((6, 5), np.float32)
    y = np.array([1, 2, 5, 1, 2, 5])
    if suffix == ".npz":
        np.savez(tmp_path / "x.npz", x=x, y=y)
    else:
        np.save(tmp_path / "x.npy", x)
        np.save(tmp_path / "y.npy", y)
    table = read(tmp_path / f"x{suffix}")
    np.testing.assert_array_equal(table.labels, [0, 1, 2, 0, 1, 2])
    assert list(table.classes) == ["1", "2", "5"]
    assert "The labels 1, 2, 5 are renumbered 0 to 2." in caplog.messages


def test_negative_labels_of_a_file_are_refused(tmp_path):
    np.savez(tmp_path / "data.npz", x=np.zeros((4, 5), np.float32), y=np.array([0, 1, -1, 1]))
    with pytest.raises(InputError, match="target data: The label -1 is negative"):
        read(tmp_path / "data.npz")


def test_the_classes_of_a_manifest_keep_their_numbers(tmp_path):
    np.savez(tmp_path / "data.npz", x=np.zeros((4, 5), np.float32), y=np.array([1, 2, 1, 2]))
    (tmp_path / "walk.toml").write_text(
        'schema = 1\nname = "walk"\ntitle = "Walk"\nmodality = "motion"\ntask = "classification"\n'
        'classes = ["rest", "walk", "run"]\n[input]\nkind = "series"\n'
        '[reader]\nname = "arrays"\noptions = { kind = "series" }\n[[files]]\nrole = "data"\npath = "data.npz"\n'
    )
    table = open_target(str(tmp_path / "walk.toml")).read()
    np.testing.assert_array_equal(table.labels, [1, 2, 1, 2])
    assert list(table.classes) == ["rest", "walk", "run"]


def test_bytes_that_are_not_ascii_are_class_names(tmp_path):
    names = np.array(["é".encode(), b"e"] * 3)
    np.savez(tmp_path / "data.npz", x=np.zeros((6, 5), np.float32), y=names)
    assert list(read(tmp_path / "data.npz").classes) == ["e", "é"]


def test_arrays_with_other_names_are_listed_with_the_options_that_name_them(tmp_path):
    arrays = {"images": np.zeros((4, 8, 8, 3), np.uint8), "targets": np.arange(4) % 2}
    np.savez(tmp_path / "data.npz", **arrays)
    with pytest.raises(InputError, match=r"It has: images, targets\..*x_name.*y_name"):
        open_target(str(tmp_path / "data.npz"))
    with pytest.raises(InputError, match=r"has no array y\. It has: images, targets"):
        open_target(str(tmp_path / "data.npz"), custom_data=CustomData(x_name="images"))


def test_an_empty_class_folder_is_refused(tmp_path, image):
    for path in ("photos/cats/1.png", "photos/dogs/2.png"):
        image(path)
    (tmp_path / "photos/.git").mkdir()
    assert len(read(tmp_path / "photos")) == 2
    (tmp_path / "photos/birds").mkdir()
    (tmp_path / "photos/birds/1.heic").touch()
    with pytest.raises(InputError, match=r"class folder .*birds has no images"):
        read(tmp_path / "photos")


def test_hidden_folders_are_no_classes(tmp_path, image):
    for path in ("cats/1.png", "dogs/2.png", ".thumbnails/1.png", "cats/.ipynb_checkpoints/1.png"):
        image(f"photos/{path}")
    table = read(tmp_path / "photos")
    assert (list(table.classes), len(table)) == (["cats", "dogs"], 2)


def test_a_folder_of_a_folder_of_classes_names_the_inner_one(tmp_path, image):
    for path in ("photos/all/cats/1.png", "photos/all/dogs/2.png"):
        image(path)
    with pytest.raises(
        InputError, match=r"are in the folder all, which .* cats and dogs\..* name .*photos/all instead"
    ):
        read(tmp_path / "photos")


def test_images_beside_the_class_folders_are_named(tmp_path, image):
    for path in ("photos/cats/1.png", "photos/dogs/2.png", "photos/3.png", "photos/4.png"):
        image(path)
    with pytest.raises(InputError, match=r"contains images that are in no class folder: 3\.png and 1 more\."):
        read(tmp_path / "photos")


def test_a_column_of_groups_among_the_values_is_a_warning(tmp_path, caplog):
    caplog.set_level(logging.WARNING, "modgap")
    (tmp_path / "beats.csv").write_text("Subject_ID,session,a,label\n1,1,2,x\n1,2,3,y\n2,2,4,x\n2,1,5,y\n")
    read(tmp_path / "beats.csv", kind="series")
    assert [message.rpartition(", ")[2] for message in caplog.messages] == [
        "pass `custom_data={\"group\": 'Subject_ID'}`.",
        "pass `custom_data={\"group\": 'session'}`.",
    ]
    caplog.clear()
    read(tmp_path / "beats.csv", kind="series", group="Subject_ID")
    assert [message.rpartition(", ")[2] for message in caplog.messages] == ["remove the column."]


def test_a_column_of_groups_in_text_is_named_with_the_option(tmp_path):
    (tmp_path / "beats.csv").write_text("patient,a,label\nP1,2,x\nP1,3,y\nP2,4,x\n")
    with pytest.raises(InputError, match=r'got text in patient\..* pass `custom_data={"group": .patient.}`\.$'):
        read(tmp_path / "beats.csv", kind="series")


@pytest.mark.parametrize(("column", "end"), [("Label", "Did you mean label?"), ("xyz", "a, b, label.")])
def test_a_column_that_is_absent_is_refused_with_the_most_similar_one(tmp_path, column, end):
    (tmp_path / "data.csv").write_text(TABLE)
    with pytest.raises(UsageError, match="There is no column") as caught:
        read(tmp_path / "data.csv", kind="table", label_column=column)
    assert str(caught.value).endswith(end)


def test_a_class_may_be_absent_from_one_split_but_not_from_all(tmp_path, image):
    for path in ("photos/train/cats/1.png", "photos/train/dogs/2.png", "photos/test/cats/3.png"):
        image(path)
    (tmp_path / "photos/test/dogs").mkdir()
    assert list(read(tmp_path / "photos").classes) == ["cats", "dogs"]
    (tmp_path / "photos/test/birds").mkdir()
    with pytest.raises(InputError, match=r"birds has no images"):
        read(tmp_path / "photos")


def test_images_of_a_split_behind_a_link_are_not_left_out(tmp_path, image):
    for path in ("photos/train/cats/1.png", "photos/train/dogs/2.png", "else/cats/3.png", "else/dogs/4.png"):
        image(path)
    (tmp_path / "photos/test").symlink_to(tmp_path / "else")
    with pytest.raises(InputError, match=r"test/cats has no images in a format that can be read; links to folders"):
        read(tmp_path / "photos")


def test_an_index_of_a_parquet_file_may_be_a_column_too(tmp_path):
    frame = pandas.DataFrame({"id": [3, 1], "a": [1.0, 2.0], "label": ["x", "y"]})
    frame.set_index("id", drop=False).to_parquet(tmp_path / "data.parquet")
    assert read(tmp_path / "data.parquet", kind="table").columns == ("id", "a")


def test_lists_in_a_parquet_file_are_no_categories(tmp_path):
    frame = pandas.DataFrame({"tags": [[1, 2], [3]] * 4, "a": range(8), "label": ["x", "y"] * 4})
    frame.to_parquet(tmp_path / "data.parquet")
    with pytest.raises(InputError, match="got text in tags"):
        read(tmp_path / "data.parquet", kind="table")


def test_files_that_unpack_to_too_much_are_refused_before_they_are_read(tmp_path):
    texts = pandas.DataFrame({"text": ["x" * 300_000] * 1000, "label": ["a", "b"] * 500})
    texts.to_parquet(tmp_path / "texts.parquet")
    torch.save({"x": torch.zeros(70_000_000)}, tmp_path / "stored.pt")
    with (
        zipfile.ZipFile(tmp_path / "stored.pt") as stored,
        zipfile.ZipFile(tmp_path / "a.pt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for member in stored.infolist():
            packed.writestr(member.filename, stored.read(member))
    soundfile.write(tmp_path / "a.flac", np.zeros((9_000_000, 8), np.int16), 8000)
    readers = {"texts.parquet": read_frame, "a.pt": load_dictionary, "a.flac": lambda path: waveform(path, 8000)}
    for name, read_file in readers.items():
        with pytest.raises(InputError, match=rf"{name} has [0-9,]+ bytes and unpacks to [0-9,]+ bytes or more"):
            read_file(tmp_path / name)
    assert load_dictionary(tmp_path / "stored.pt")["x"].shape == (70_000_000,)


@pytest.mark.parametrize("names", [("train", "valid"), ("Train", "Test"), ("train", "test", "extra")])
def test_splits_are_not_read_as_classes(tmp_path, image, names):
    for name in names:
        image(f"photos/{name}/cats/1.png")
    with pytest.raises(InputError, match="look like splits and would be read as classes"):
        read(tmp_path / "photos")


def test_an_image_above_the_limit_of_pixels_names_the_limit(tmp_path, image, monkeypatch):
    image("photos/cats/1.png")
    image("photos/dogs/2.png")
    monkeypatch.setenv("MODGAP_MAX_PIXELS", "60")
    table = read(tmp_path / "photos")
    with pytest.raises(InputError, match=r"1.png has 64 pixels. The limit is 60 pixels for one image. .*shrink it"):
        table.samples[0]


def test_a_file_of_another_format_is_not_called_absent(tmp_path):
    (tmp_path / "data.xlsx").touch()
    with pytest.raises(UsageError, match=r"cannot read the format of .*data.xlsx. Expected .*\.parquet"):
        open_target(str(tmp_path / "data.xlsx"))


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool"])
def test_masks_of_whole_numbers_are_dense_values(tmp_path, dtype):
    rng = np.random.default_rng(0)
    x = rng.random((30, 1, 8, 8), dtype=np.float32)
    masks = (x[:, 0] > 0.5).astype(dtype)
    np.savez(tmp_path / "a.npz", x=x, y=masks)
    target = open_target(str(tmp_path / "a.npz"))
    assert target.manifest.task == "regression"
    table = target.read(classes=False)
    assert table.labels is None
    np.testing.assert_array_equal(table.targets[3], masks[3])
    with pytest.raises(InputError, match=r"has real values as labels. Pass `pseudo_classes=10`"):
        target.read()
    assert len(np.unique(open_target(str(tmp_path / "a.npz"), pseudo_classes=4).read().labels)) == 4


@pytest.mark.parametrize("dtype", ["int64", "float32"])
@pytest.mark.parametrize("suffix", ["npz", "npy"])
def test_several_labels_a_sample_are_said_with_the_way_out(tmp_path, caplog, dtype, suffix):
    caplog.set_level("INFO")
    labels = (np.arange(60).reshape(20, 3) % 2).astype(dtype)
    arrays = {"x": np.random.default_rng(0).standard_normal((20, 16)), "y": labels}
    path = tmp_path / f"x.{suffix}"
    if suffix == "npz":
        np.savez(path, **arrays)
    else:
        for name, array in arrays.items():
            np.save(tmp_path / f"{name}.npy", array)
    target = open_target(str(path))
    assert target.manifest.task == "multi-label"
    np.testing.assert_array_equal(target.read().labels, labels)
    assert "y of shape (20, 3) has only the values 0 and 1, so a sample can have several of 3 labels" in caplog.text
    assert 'If each sample has one class, pass `custom_data={"task": "classification"}`' in caplog.text


ARRAYS_MANIFEST = """schema = 1
name = "steps"
title = "Steps"
modality = "motion"
task = "{task}"
{group}
[input]
kind = "series"

[reader]
name = "arrays"
options = {{ kind = "series" }}
"""


def arrays_manifest(folder, roles, task="classification", group=""):
    """Write a manifest of array files by role, and return its target."""
    files = "".join(f'\n[[files]]\nrole = "{role}"\npath = "{path}"\n' for role, path in roles.items())
    (folder / "steps.toml").write_text(ARRAYS_MANIFEST.format(task=task, group=group) + files)
    return open_target(str(folder / "steps.toml"))


def test_arrays_of_a_manifest_come_by_split(tmp_path):
    rng = np.random.default_rng(0)
    for split, size in (("train", 20), ("val", 6), ("test", 8)):
        groups = np.array([f"{split}{row // 2}" for row in range(size)])
        content = {"x": rng.standard_normal((size, 2, 16)), "y": np.array(["b", "a"] * (size // 2)), "groups": groups}
        np.savez(tmp_path / f"{split}.npz", **content)
    roles = {split: f"{split}.npz" for split in ("train", "val", "test")}
    table = arrays_manifest(tmp_path, roles, group='group = "groups"').read()
    assert table.splits.tolist() == [0] * 20 + [1] * 6 + [2] * 8
    assert table.labels.tolist() == [1, 0] * 17
    assert table.classes == ["a", "b"]
    assert len(np.unique(table.groups["groups"])) == 17
    np.testing.assert_array_equal(table.samples[21], np.load(tmp_path / "val.npz")["x"][1])
    two = arrays_manifest(tmp_path, {"train": "train.npz", "test": "test.npz"}).read()
    assert set(two.splits.tolist()) == {0, 1, 2}
    np.savez(tmp_path / "val.npz", x=np.zeros((6, 2, 16)), y=np.array(["a"] * 6))
    with pytest.raises(InputError, match=r"has an array groups, but .*val.npz has none"):
        arrays_manifest(tmp_path, roles, group='group = "groups"').read()
    np.savez(tmp_path / "val.npz", x=np.zeros((6, 2, 16)), y=np.array(["a"] * 6), splits=np.zeros(6, int))
    with pytest.raises(InputError, match="has an array splits, but the file is the split val"):
        arrays_manifest(tmp_path, roles).read()
    np.save(tmp_path / "val.npy", np.zeros((6, 2, 16)))
    with pytest.raises(InputError, match=r"val.npy of role val holds one array"):
        arrays_manifest(tmp_path, roles | {"val": "val.npy"}).read()


def test_the_task_of_a_manifest_decides_what_rows_of_0_and_1_are(tmp_path):
    x = np.random.default_rng(0).standard_normal((20, 16))
    one_hot = np.eye(2)[np.arange(20) % 2]
    np.savez(tmp_path / "a.npz", x=x, y=one_hot)
    assert arrays_manifest(tmp_path, {"data": "a.npz"}).read().labels.tolist() == [0, 1] * 10
    assert arrays_manifest(tmp_path, {"data": "a.npz"}, "multi-label").read().labels.shape == (20, 2)
    values = arrays_manifest(tmp_path, {"data": "a.npz"}, "regression").read(classes=False)
    assert (values.labels, values.targets[1].tolist()) == (None, [0, 1])
    np.savez(tmp_path / "a.npz", x=x, y=np.ones((20, 2), int))
    with pytest.raises(InputError, match=r"a sample has several labels or none. Such labels are multi-label"):
        arrays_manifest(tmp_path, {"data": "a.npz"}).read()
    np.savez(tmp_path / "a.npz", x=x, y=x[:, 0])
    with pytest.raises(InputError, match=r'its labels are real values. Set task = "regression"'):
        arrays_manifest(tmp_path, {"data": "a.npz"}).read()
