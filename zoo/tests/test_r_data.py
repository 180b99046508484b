"""Data of R: what is read, what is refused, and damage of any byte."""

import contextlib
import struct

import numpy as np
import pytest

from modgap.errors import InputError
from modgap.targets.readers import get_reader
from modgap_zoo.readers import r_data
from modgap_zoo.readers.r_data import RefusedRDataError, parse_r_object
from zoo.tests.r_data_files import (
    HEADERS,
    NULL,
    call,
    factor,
    frame,
    integers,
    pairlist,
    s4,
    string,
    symbol,
    vector,
    write_rda,
    write_store,
)

SPECTRA = np.array([[1.5, 2.5], [3.5, 4.5], [5.5, 6.5]])
SAMPLES = frame(
    species=factor([2, 1, 2], ["fir", "oak"]),
    height=vector(np.array([1, 2, 3], np.int32)),
    spectrum=vector(SPECTRA.ravel(order="F"), dim=vector(np.array([3, 2], np.int32))),
    color=factor([1, 1, 2], ["red", "blue"]),
    part=factor([2, 1, 1], ["Train", "Test"]),
    age=vector(np.array([0.5, 1.25, 7.0])),
)
OPTIONS = {"object_name": "trees", "label": "species", "drop": ["color", "age"], "split": "part"}


def parse(value, version=3):
    return parse_r_object(b"X\n" + HEADERS[version] + value)


def check(table):
    np.testing.assert_array_equal(table.samples.array, [[[1, 1.5, 2.5]], [[2, 3.5, 4.5]], [[3, 5.5, 6.5]]])
    assert (list(table.classes), list(table.labels), list(table.splits)) == (["fir", "oak"], [1, 0, 1], [2, 0, 0])


@pytest.mark.parametrize("compression", ["gzip", "bzip2", "xz", "none"])
@pytest.mark.parametrize("version", [2, 3])
def test_a_data_frame_of_an_rda_file(tmp_path, compression, version):
    path = write_rda(tmp_path / "trees.rda", {"other": NULL, "trees": SAMPLES}, compression, version)
    check(get_reader("r_data")({"data": [path]}, **OPTIONS))


@pytest.mark.parametrize("compression", ["zlib", "bzip2", "lzma"])
def test_a_data_frame_of_the_store_of_a_package(tmp_path, compression):
    files = write_store(tmp_path, {"other": vector(["a"]), "trees": SAMPLES}, compression)
    check(get_reader("r_data")(files, **OPTIONS))


def test_regression_numbered_classes_and_texts(tmp_path):
    files = {"data": [write_rda(tmp_path / "trees.rda", {"trees": SAMPLES})]}
    table = get_reader("r_data")(
        files, object_name="trees", label="age", drop=["species", "color", "part"], regression=True
    )
    assert table.targets.array.tolist() == [[0.5], [1.25], [7.0]]
    table = get_reader("r_data")(files, object_name="trees", label="height", drop=["species", "color", "part"])
    assert (list(table.classes), list(table.labels)) == (["1", "2", "3"], [0, 1, 2])
    drop = ["height", "spectrum", "age", "part"]
    table = get_reader("r_data")(files, object_name="trees", label="species", drop=drop, text=True)
    assert list(table.samples.texts) == ["red", "red", "blue"]


MISSING = -(2**31)
FOREST = frame(
    species=factor([2, 1, 2, 1], ["fir", "oak"]),
    sex=factor([1, 1, 2, 2], ["f", "m"]),
    site=vector(["north", "south", "north", "east"]),
    color=factor([1, MISSING, 2, 1], ["red", "blue"]),
    height=vector(np.array([1, 2, MISSING, 4], np.int32)),
    age=vector(np.array([0.5, 1.25, 7.0, 8.0])),
)


@pytest.fixture
def forest(tmp_path):
    """Return the files of an .rda file with a data frame, labels of its own, and an array of landmarks."""
    landmarks = frame(
        x=vector(np.arange(12.0), dim=vector(np.array([3, 2, 2], np.int32))), kind=factor([2, 1], ["a", "b"])
    )
    objects = {"forest": FOREST, "kinds": factor([2, 2, 1, 1], ["wet", "dry"]), "landmarks": landmarks}
    return {"data": [write_rda(tmp_path / "forest.rda", objects)]}


def test_categories_missing_values_and_groups(forest):
    options = {"object_name": "forest", "label": "species", "categories": ["color"], "drop": ["sex"], "group": "site"}
    table = get_reader("r_data")(forest, **options, missing_values="keep")
    nan = np.nan
    expected = [[1, 0, 1, 0.5], [nan, nan, 2, 1.25], [0, 1, nan, 7], [1, 0, 4, 8]]
    np.testing.assert_array_equal(table.samples.array[:, 0], expected)
    assert list(table.groups["group"]) == ["north", "south", "north", "east"]
    table = get_reader("r_data")(forest, **options, missing_values="drop")
    np.testing.assert_array_equal([table.samples[row] for row in range(len(table))], [[expected[0]], [expected[3]]])
    assert (list(table.labels), list(table.groups["group"])) == ([1, 0], ["north", "east"])
    with pytest.raises(InputError, match="expected a level in each row of a factor in column 'color'"):
        get_reader("r_data")(forest, **options)
    with pytest.raises(InputError, match="expected a factor with 4 values in column 'height'"):
        get_reader("r_data")(forest, **options | {"categories": ["color", "height"]}, missing_values="keep")


def test_labels_of_several_factors_or_of_another_object(forest):
    drop = ["site", "color", "height"]
    table = get_reader("r_data")(forest, object_name="forest", label=["species", "sex"], drop=drop)
    assert (table.classes, list(table.labels)) == (["fir f", "fir m", "oak f", "oak m"], [2, 0, 3, 1])
    table = get_reader("r_data")(
        forest, object_name="forest", label="kinds", label_object=True, drop=[*drop, "species", "sex"]
    )
    assert (table.classes, list(table.labels)) == (["wet", "dry"], [1, 1, 0, 0])
    np.testing.assert_array_equal(table.samples.array[:, 0, 0], [0.5, 1.25, 7, 8])


def test_an_array_whose_last_axis_numbers_the_samples(forest):
    table = get_reader("r_data")(forest, object_name="landmarks", label="kind", array="x")
    # R stores the first axis first: three landmarks of x, then of y, of one sample after the other.
    np.testing.assert_array_equal(table.samples.array, np.arange(12).reshape(2, 2, 3))
    with pytest.raises(InputError, match=r"expected an array whose last axis has 4 samples in column 'age' .* \[0\]"):
        get_reader("r_data")(forest, object_name="forest", label="species", array="age")


def test_a_group_is_needed_for_each_row(tmp_path):
    value = frame(y=factor([1, 2], ["a", "b"]), x=vector(np.ones(2)), g=vector(["n", None]))
    files = {"data": [write_rda(tmp_path / "t.rda", {"t": value})]}
    with pytest.raises(InputError, match="expected a group for each of 2 rows in column 'g' of t"):
        get_reader("r_data")(files, object_name="t", label="y", group="g")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"object_name": "shrubs"}, "it has no object 'shrubs'. Its objects are: trees"),
        ({"label": "genus"}, "There is no column 'genus' in trees in .* The first columns are: species, height"),
        ({"drop": ["age"]}, "expected numbers in column 'color' of trees"),
        ({"drop": ["height", "spectrum", "color", "age"]}, "expected columns of numbers beside the labels"),
        ({"split": "color"}, r"expected the names of splits \(train, val, test\) in .*, got red, blue"),
        ({"text": True}, "expected a factor with 3 values in column 'height'"),
        ({"regression": True}, "expected numbers in column 'species'"),
    ],
)
def test_options_that_do_not_fit_raise_a_one_line_error(tmp_path, changes, message):
    files = {"data": [write_rda(tmp_path / "trees.rda", {"trees": SAMPLES})]}
    with pytest.raises(InputError, match=message) as caught:
        get_reader("r_data")(files, **OPTIONS | changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (vector(np.array([1, 2, -(2**31)], np.int32)), "expected a finite number in each row"),
        (vector(np.array([1, np.nan, 3])), "expected a finite number in each row"),
        (vector(np.array([1.0, 2.0])), "expected numbers in column 'x' of t in .*, with 3 rows"),
        (vector(np.ones(6), dim=vector(np.array([2, 3], np.int32))), "with 3 rows"),
        (vector(["a", None, "c"]), "expected numbers in column 'x'"),
    ],
)
def test_values_that_are_missing_or_no_numbers_raise_an_error(tmp_path, column, message):
    path = write_rda(tmp_path / "t.rda", {"t": frame(y=factor([1, 2, 1], ["a", "b"]), x=column)})
    with pytest.raises(InputError, match=message):
        get_reader("r_data")({"data": [path]}, object_name="t", label="y")


def test_missing_labels_raise_an_error(tmp_path):
    path = write_rda(tmp_path / "t.rda", {"t": frame(y=factor([1, -(2**31)], ["a", "b"]), x=vector(np.ones(2)))})
    with pytest.raises(InputError, match="expected a level in each row of a factor"):
        get_reader("r_data")({"data": [path]}, object_name="t", label="y")


def test_compact_sequences_and_wrapped_vectors():
    def alternative(name, state):
        return (
            integers(238)
            + pairlist({"0": symbol(name)}).replace(integers(2 | 1 << 10) + symbol("0"), integers(2))
            + (state + NULL)
        )

    sequence = alternative("compact_intseq", vector(np.array([3.0, 5.0, -1.0])))
    np.testing.assert_array_equal(parse(sequence).values, [5, 4, 3])
    wrapped = alternative("wrap_real", vector([vector(np.array([0.5])), vector(np.array([0, 0], np.int32))]))
    np.testing.assert_array_equal(parse(wrapped).values, [0.5])
    with pytest.raises(RefusedRDataError, match=r"a sequence of 1,000,000,000 numbers"):
        parse(alternative("compact_realseq", vector(np.array([1e9, 0.0, 1.0]))))
    with pytest.raises(RefusedRDataError, match="in the form 'mmap_real', which is not supported"):
        parse(alternative("mmap_real", vector(["/etc/passwd"])))


def test_strings_are_read_in_their_encoding_and_symbols_may_be_repeated():
    latin = integers(9 | 4 << 12, 1) + b"\xe9"
    assert parse(integers(16, 3) + latin + string("é") + string(None)).values == ["é", "é", None]
    twice = (
        integers(19 | 1 << 9, 1) + integers(14 | 1 << 9, 0) + pairlist({"dim": vector(["x"])}) + integers(2 | 1 << 10)
    )
    reference = integers(255 | 1 << 8)
    value = parse(twice + reference + vector(["y"]) + NULL)
    assert value.strings("dim") == ["y"]
    assert value.strings("names") == []


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (integers(4, 0), "an object of type 4, which is not data"),
        (integers(3), "an object of type 3, which is not data"),
        (integers(6), "an object of type 6, which is not data"),
        (integers(20, 0), "an object of type 20"),
        (integers(247), "an object of type 247"),
        (integers(14, 1 << 30), "it claims a vector of length 1,073,741,824"),
        (integers(14, -1), "it claims a vector of length -1"),
        (integers(16, 1, 9, 5) + b"ab", "it claims a vector of length 5"),
        (integers(255 | 7 << 8), "it refers to object 7"),
        (integers(2) + NULL + integers(4), "a list of pairs ends with an object of type 4"),
        (integers(*[19, 1] * 200), "nested more than 100 levels deep"),
        (integers(13), "it ends within an object"),
    ],
)
def test_what_is_no_data_is_refused(value, message):
    with pytest.raises(RefusedRDataError, match=message):
        parse(value)


def test_sizes_are_limited(tmp_path, monkeypatch):
    path = write_rda(tmp_path / "t.rda", {"t": vector(np.zeros(10_000))})
    files = write_store(tmp_path, {"t": vector(np.zeros(10_000))}, "lzma")
    monkeypatch.setattr(r_data, "MAX_OBJECT_BYTES", 50_000)
    for given in ({"data": [path]}, files):
        with pytest.raises(InputError, match="after decompression"):
            get_reader("r_data")(given, object_name="t", label="y")
    monkeypatch.setattr(r_data, "MAX_FILE_BYTES", 10)
    with pytest.raises(InputError, match="it has more than 10 bytes"):
        get_reader("r_data")({"data": [path]}, object_name="t", label="y")
    monkeypatch.setattr("modgap_zoo.readers.r_data.MAX_ITEMS", 100)
    with pytest.raises(RefusedRDataError, match="more than 100 objects"):
        parse(vector(["a"] * 200))


def test_a_record_that_claims_another_size_is_refused(tmp_path):
    files = write_store(tmp_path, {"t": vector(np.zeros(100))}, "zlib")
    content = files["data"][0].read_bytes()
    files["data"][0].write_bytes(struct.pack(">I", 40) + content[4:])
    with pytest.raises(InputError, match="an object has 41 bytes or more where 40 are expected"):
        get_reader("r_data")(files, object_name="t", label="y")


FOREST_OPTIONS = {
    "object_name": "trees", "label": ["species", "sex"], "categories": ["color"], "group": "site",
    "missing_values": "drop",
}  # fmt: skip


@pytest.mark.parametrize(("value", "options"), [(SAMPLES, OPTIONS), (FOREST, FOREST_OPTIONS)])
@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_damage_of_any_byte_is_an_input_error_or_nothing(tmp_path, compression, value, options):
    path = write_rda(tmp_path / "trees.rda", {"trees": value}, compression)
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged if position % 2 else damaged[:position])
        with contextlib.suppress(InputError):
            get_reader("r_data")({"data": [path]}, **options)


def genotypes(tab=(1, 0, 0, 0, 1, 0, 1, 0, MISSING, 0, 1, MISSING), **slots):
    """Genotypes of three samples with two alleles at each of two loci."""
    default = {
        "tab": vector(np.array(tab, np.int32), dim=vector(np.array([3, 4], np.int32))),
        "loc__fac": factor([1, 1, 2, 2], ["first", "second"]),
        "all__names": vector([vector(["a", "g"]), vector(["c", "t"])]),
        "other": vector(
            [frame(year=vector(np.array([2002.0, 2003.0, 2002.0])), home=vector(["x", "y", "x"]))],
            names=vector(["x"]),
        ),
        "pop": factor([1, 2, MISSING], ["north", "south"]),
        "call": call("new", object=integers(6 | 1 << 9) + NULL + symbol("f") + NULL, tab=vector(np.arange(3.0))),
    }  # fmt: skip
    return s4(**default | slots)


def read_genotypes(folder, value=None, **options):
    path = write_rda(folder / "data.rda", {"g": genotypes() if value is None else value})
    return get_reader("r_data")({"data": [path]}, object_name="g", **options)


def test_slots_of_an_s4_object_are_columns_and_its_call_is_skipped(tmp_path):
    options = {"columns": ["tab"], "missing_values": "keep"}
    table = read_genotypes(tmp_path, label="other$x$year", group="other$x$home", **options)
    np.testing.assert_array_equal(table.samples.array[:, 0], [[1, 0, 1, 0], [0, 1, 0, 1], [0, 0, np.nan, np.nan]])
    assert (table.labels.tolist(), table.classes) == ([0, 1, 0], ["2002", "2003"])
    assert table.groups["group"].tolist() == ["x", "y", "x"]
    with pytest.raises(InputError, match=r"expected a level in each row of a factor in .*, some are missing"):
        read_genotypes(tmp_path, label="pop", **options)


def test_rows_without_a_class_are_left_out_with_those_that_have_missing_values(tmp_path):
    table = read_genotypes(tmp_path, label="pop", columns=["other$x$year"], missing_values="drop")
    assert (table.labels.tolist(), table.classes) == ([0, 1], ["north", "south"])
    assert read_genotypes(tmp_path, label="other$x$year", columns=["tab"], missing_values="drop").labels.tolist() == [
        0,
        1,
    ]


def test_loci_of_haploid_genotypes_are_letters(tmp_path):
    table = read_genotypes(tmp_path, label="other$x$year", text=True)
    assert list(table.samples.texts) == ["ac", "gt", "nn"]
    diploid = genotypes(tab=(2, *[0] * 11))
    with pytest.raises(InputError, match="expected at most one allele at each locus"):
        read_genotypes(tmp_path, diploid, label="other$x$year", text=True)
    for slots in ({"loc__fac": factor([1, 1, 1, 2], ["1", "2"])}, {"all__names": vector(np.arange(2.0))}):
        with pytest.raises(InputError, match="expected the locus and the name of each allele"):
            read_genotypes(tmp_path, genotypes(**slots), label="other$x$year", text=True)


def test_strings_are_texts_and_matrices_can_have_a_sample_in_each_column(tmp_path):
    values = frame(
        kind=factor([1, MISSING, 2], ["x", "y"]),
        title=vector(["One", "Two", "Three"]),
        counts=vector(np.arange(6.0), dim=vector(np.array([2, 3], np.int32))),
    )
    table = read_genotypes(tmp_path, values, label="kind", columns=["title"], text=True, missing_values="drop")
    assert ([table.samples[0], table.samples[1]], table.labels.tolist()) == (["One", "Three"], [0, 1])
    table = read_genotypes(tmp_path, values, label="kind", array="counts", missing_values="drop")
    np.testing.assert_array_equal([table.samples[0], table.samples[1]], [[[0, 1]], [[4, 5]]])
    missing = frame(kind=factor([1, 2], ["x", "y"]), title=vector(["One", None]))
    with pytest.raises(InputError, match=r"expected 2 strings in column 'title' of .*, some are missing"):
        read_genotypes(tmp_path, missing, label="kind", columns=["title"], text=True)
    with pytest.raises(InputError, match="There is no column 'name' in g"):
        read_genotypes(tmp_path, values, label="kind", columns=["name"])


def test_a_call_is_refused_where_it_is_no_slot(tmp_path):
    for value in (vector([call("new")]), call("new")):
        with pytest.raises(InputError, match="it has an object of type 6, which is not data"):
            read_genotypes(tmp_path, value, label="pop")
