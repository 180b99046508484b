"""Custom data as people have it: transparency, groups of files, lists of files, mixed rates, columns, missing cells."""

import logging

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

from modgap.errors import InputError, UsageError
from modgap.forward.inference_setup import warn_about_small_classes
from modgap.targets import CustomData, open_target
from modgap.targets.file_layout import groups_of_paths
from modgap.targets.manifest import InputSpec
from modgap.targets.readers.image_folder import ImageFiles, image_array
from modgap.targets.unlabeled import read_unlabeled


def read(path, **description):
    return open_target(str(path), custom_data=CustomData(**description)).read()


@pytest.fixture
def images(tmp_path):
    """Six images of two classes by three subjects, whose hidden colors are random."""
    rng = np.random.default_rng(0)
    for number in range(6):
        pixels = rng.integers(0, 256, (8, 8, 4), dtype=np.uint8)
        pixels[..., 3] = 0
        pixels[2:4, 2:4] = [10, 20, 30, 255]
        path = tmp_path / "images" / "ab"[number % 2] / f"s{number // 2}_{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return tmp_path / "images"


def test_the_first_page_of_a_file_is_read_and_a_warning_says_so(tmp_path, caplog):
    pages = [Image.fromarray(np.full((8, 8), 40 * number, np.uint8)) for number in range(3)]
    for label in "ab":
        (tmp_path / label).mkdir()
        for number in range(2):
            pages[number].save(tmp_path / label / f"{number}.tif", save_all=True, append_images=pages[number + 1 :])
    samples = open_target(str(tmp_path)).read().samples
    assert [int(samples[number].max()) for number in range(4)] == [0, 40, 0, 40]
    assert caplog.text.count("0.tif has several pages or frames. The first one of each image is read") == 1


@pytest.mark.parametrize(("background", "value"), [(None, 255), ("black", 0), ("#808080", 128)])
def test_transparent_pixels_have_the_background_and_are_recorded(images, caplog, background, value):
    target = open_target(str(images), custom_data=CustomData(background=background))
    with caplog.at_level(logging.INFO, "modgap"):
        samples = target.read().samples
        first = [samples[number] for number in range(3)]
    assert caplog.text.count("Transparent images are composited on") == 1
    for pixels in first:
        assert pixels[:, 2:4, 2:4].reshape(3, 4).T.tolist() == [[10, 20, 30]] * 4
        outside = np.ones((8, 8), bool)
        outside[2:4, 2:4] = False
        assert (pixels[:, outside] == value).all()
    assert target.manifest.reader.options["background"] == (background or "white")


def test_half_transparent_pixels_are_mixed_and_palettes_may_be_transparent(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    Image.new("RGBA", (2, 2), (100, 0, 0, 128)).save(tmp_path / "a" / "1.png")
    palette = Image.new("P", (2, 2), 1)
    palette.putpalette([0, 0, 0, 9, 9, 9])
    palette.save(tmp_path / "b" / "1.png", transparency=1)
    first, second = read(tmp_path).samples
    assert first[:, 0, 0].tolist() == [177, 127, 127]
    assert (second == 255).all()


def test_a_background_is_an_opaque_color(images):
    with pytest.raises(UsageError, match=r"`custom_data=.*whitish.*` is not a color"):
        read(images, background="whitish")
    with pytest.raises(UsageError, match="is transparent itself"):
        read(images, background="#ffffff00")


def save_turned(path, pixels, orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    image = Image.fromarray(pixels)
    image.save(path, exif=exif, **({"lossless": True} if path.suffix == ".webp" else {}))


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_images_are_read_as_their_exif_orientation_says(tmp_path, suffix):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 8, 3), np.uint8)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    save_turned(tmp_path / "b" / f"0.{suffix}", pixels, 0)
    for orientation in range(1, 9):
        save_turned(tmp_path / "a" / f"{orientation}.{suffix}", pixels, orientation)
    samples = read(tmp_path).samples
    for orientation, path in enumerate(sorted((tmp_path / "a").iterdir()), 1):
        with Image.open(path) as image:
            upright = np.asarray(ImageOps.exif_transpose(image).convert("RGB")).transpose(2, 0, 1)
            np.testing.assert_array_equal(image_array(image), upright)
        np.testing.assert_array_equal(samples[orientation - 1], upright)
        assert samples[orientation - 1].shape == ((3, 5, 8) if orientation < 5 else (3, 8, 5))
    # An orientation that does not exist changes nothing.
    np.testing.assert_array_equal(samples[8], pixels.transpose(2, 0, 1))
    (tmp_path / "list.csv").write_text(f"file,label\na/6.{suffix},x\na/6.{suffix},y\n")
    np.testing.assert_array_equal(read(tmp_path / "list.csv").samples[0], np.rot90(pixels, -1).transpose(2, 0, 1))


def test_images_of_16_bits_and_transparent_ones_are_turned_too(tmp_path):
    deep = np.random.default_rng(0).integers(0, 65536, (4, 6), np.uint16)
    clear = np.zeros((4, 6, 4), np.uint8)
    clear[0, :, 3] = 255
    save_turned(tmp_path / "deep.png", deep, 6)
    save_turned(tmp_path / "clear.png", clear, 8)
    files = ImageFiles((tmp_path / "deep.png", tmp_path / "clear.png"))
    np.testing.assert_array_equal(files[0][0], (np.rot90(deep, -1) / 257).astype(np.float32))
    assert (files[1][:, :, 0] == 0).all()
    assert (files[1][:, :, 1:] == 255).all()


@pytest.mark.parametrize("damage", [slice(12), slice(20), slice(26, None)], ids=["header", "entry", "start"])
def test_a_damaged_exif_record_leaves_an_image_as_it_is_stored(tmp_path, damage, recwarn):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.fromarray(pixels).save(tmp_path / "damaged.png", exif=exif.tobytes()[damage])
    np.testing.assert_array_equal(ImageFiles((tmp_path / "damaged.png",))[0], pixels.transpose(2, 0, 1))
    assert not recwarn.list


def test_groups_of_files_come_from_their_paths_or_a_table(images, tmp_path):
    table = read(images, group="/s{group}_")
    assert table.groups["groups"].tolist() == [0, 1, 2, 0, 1, 2]
    for subject in range(3):
        # Files of a subject are in one split.
        assert len(set(table.splits[table.groups["groups"] == subject])) == 1
    names = [path.relative_to(images).as_posix() for path in sorted(images.rglob("*.png"))]
    lines = [f"{name},{'old' if number % 3 else 'new'}" for number, name in enumerate(names)]
    (tmp_path / "groups.csv").write_text("\n".join(["file,age", *lines]))
    assert read(images, group=str(tmp_path / "groups.csv")).groups["groups"].tolist() == [0, 1, 1, 0, 1, 1]
    with pytest.raises(InputError, match=r"/x\{group\}_.* does not match 6 of 6 paths, such as /a/s0_0\.png"):
        read(images, group="/x{group}_")
    with pytest.raises(UsageError, match=r"has 0 times \{group\}\. Expected it once"):
        read(images, group="subject")
    (tmp_path / "groups.csv").write_text("\n".join(["file,age", *lines[:-1]]))
    with pytest.raises(InputError, match=r"has no group for 1 of 6 files, such as b/s2_5\.png"):
        read(images, group=str(tmp_path / "groups.csv"))
    (tmp_path / "groups.csv").write_text("name,age\na,b\n")
    with pytest.raises(InputError, match="Expected a column of files"):
        read(images, group=str(tmp_path / "groups.csv"))


def test_a_group_is_between_two_texts_of_one_part_of_the_path(tmp_path):
    paths = [tmp_path / "sub-01" / "a.png", tmp_path / "sub-x" / "run_7.png"]
    assert groups_of_paths(tmp_path, paths, "/sub-{group}/").tolist() == ["01", "x"]
    assert groups_of_paths(tmp_path, paths, "/{group}").tolist() == ["sub-01", "sub-x"]
    with pytest.raises(InputError, match="does not match 1 of 2 paths"):
        groups_of_paths(tmp_path, paths, "run_{group}.")


def test_a_table_lists_images_with_labels_groups_and_splits(images, tmp_path):
    paths = sorted(images.rglob("*.png"))
    splits = ("train", "train", "val", "train", "train", "test")
    lines = [
        f"images/{path.parent.name}/{path.name},{path.parent.name},{path.name[:2]},{split}"
        for path, split in zip(paths, splits, strict=True)
    ]
    listing = tmp_path / "list.csv"
    listing.write_text("\n".join(["file,label,subject,split", *lines]))
    target = open_target(str(listing), custom_data=CustomData(group="subject"))
    table = target.read()
    assert (list(table.classes), table.labels.tolist()) == (["a", "b"], [0, 0, 0, 1, 1, 1])
    assert table.splits.tolist() == [0, 0, 1, 0, 0, 2]
    assert table.groups["groups"].tolist() == [0, 1, 2, 0, 1, 2]
    assert table.samples[0].shape == (3, 8, 8)
    before = target.fingerprint
    Image.new("RGB", (8, 8)).save(paths[0])
    assert open_target(str(listing), custom_data=CustomData(group="subject")).fingerprint != before
    paths[1].unlink()
    with pytest.raises(InputError, match="lists 6 files, of which 1 do not exist, such as"):
        read(listing)
    listing.write_text("text,label\na,b\nc,d\n")
    with pytest.raises(InputError, match="Expected a column of image files"):
        read(listing, kind="image")
    listing.write_text("file,label,split\nimages/a/s0_0.png,a,fold1\nimages/b/s0_1.png,b,test\n")
    with pytest.raises(InputError, match=r"has the value 'fold1' in row 0\. Expected train, val or test"):
        read(listing)
    listing.write_text("file,label,split\nimages/a/s0_0.png,a,\nimages/b/s0_1.png,b,test\n")
    with pytest.raises(InputError, match=r"has the value '' in row 0\. Expected train, val or test"):
        read(listing)
    with pytest.raises(UsageError, match="There is no column 'person'"):
        read(listing, group="person")


def test_a_column_of_texts_that_are_no_files_is_no_list(tmp_path):
    (tmp_path / "t.csv").write_text("file,text,label\nreport,some words,a\nletter,other words,b\n")
    assert read(tmp_path / "t.csv").samples[0] == "some words"


@pytest.fixture
def sounds(tmp_path):
    soundfile = pytest.importorskip("soundfile")
    pytest.importorskip("soxr")
    for number, rate in enumerate((8000, 11_025, 11_025, 8000, 11_025)):
        path = tmp_path / "sounds" / "ab"[number % 2] / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * np.sin(np.arange(rate) / 9), rate)
    return tmp_path / "sounds"


def test_most_sounds_decide_on_the_rate_and_differences_are_said(sounds, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "modgap"):
        target = open_target(str(sounds), custom_data=CustomData(group="/{group}."))
    assert "3 of 11,025 Hz, 2 of 8,000 Hz. All are resampled to 11,025 Hz" in caplog.text
    assert target.manifest.input.rate == 11_025
    assert [target.read().samples[number].shape for number in range(5)] == [(1, 11_025)] * 5
    listing = tmp_path / "list.csv"
    listing.write_text(
        "sound,class\n" + "\n".join(f"{path},{path.parent.name}" for path in sorted(sounds.rglob("*.wav")))
    )
    listed = open_target(str(listing))
    assert (listed.manifest.input.kind, listed.manifest.input.rate) == ("audio", 11_025)
    assert listed.read().samples[0].shape == (1, 11_025)


TABLE = """a,b,note,age,label
1,2,x,30,u
2,,y,31,v
3,6,x,32,u
4,8,y,33,v
5,10,x,34,u
6,12,z,35,v
"""


def test_columns_are_chosen_and_listed(tmp_path, caplog):
    path = tmp_path / "t.csv"
    path.write_text(TABLE)
    with pytest.raises(InputError, match=r"missing or infinite .in b"):
        read(path, kind="table")
    with caplog.at_level(logging.INFO, "modgap"):
        table = open_target(str(path), custom_data=CustomData(kind="series", columns="a, age")).read()
    assert "2 columns of values: a, age" in caplog.text
    assert table.samples[0].tolist() == [[1, 30]]
    with pytest.raises(UsageError, match=r"There is no column 'ages'\. .* Did you mean age"):
        read(path, kind="table", columns="ages")
    with pytest.raises(UsageError, match="'label' is not a feature"):
        read(path, kind="table", columns="a,label")


@pytest.mark.parametrize("fill", ["mean", "median"])
def test_missing_cells_are_filled_from_the_training_samples(tmp_path, fill):
    path = tmp_path / "t.csv"
    path.write_text(TABLE)
    table = read(path, kind="series", columns="a,b", fill=fill)
    training = [table.samples[row][0, 1] for row in np.flatnonzero(table.splits == 0) if row != 1]
    assert table.samples[1][0, 1] == pytest.approx(getattr(np, fill)(training))
    assert table.samples[2].tolist() == [[3, 6]]
    standardized = read(path, kind="table", columns="a,b", fill=fill)
    assert all(np.isfinite(standardized.samples[row]).all() for row in range(6))


def test_rows_with_missing_cells_are_left_out_or_refused(tmp_path, caplog):
    path = tmp_path / "t.csv"
    path.write_text(TABLE)
    with pytest.raises(InputError, match=r"1 are missing or infinite .* Set .*fill"):
        read(path, kind="series", columns="a,b")
    with caplog.at_level(logging.INFO, "modgap"):
        table = read(path, kind="series", columns="a,b", fill="drop")
    assert "1 of 6 rows with missing cells are left out" in caplog.text
    assert [table.samples[row][0, 0] for row in range(5)] == [1, 3, 4, 5, 6]
    assert table.labels.tolist() == [0, 0, 1, 0, 1]
    path.write_text("a,label\n,u\n,v\n")
    with pytest.raises(InputError, match="Every row has a missing cell"):
        read(path, kind="series", fill="drop")
    with pytest.raises(InputError, match=r"no value in any training sample.*: 0, counted from 0"):
        read(path, kind="series", fill="mean")
    path.write_text("text,label\na,u\nb,v\n")
    with pytest.raises(UsageError, match=r"do not apply to .* whose samples are texts"):
        read(path, fill="mean")


def test_series_files_are_targets_and_series_may_differ_in_length(tmp_path, caplog):
    pytest.importorskip("aeon")
    header = "@problemName t\n@timeStamps false\n@univariate true\n@equalLength {}\n@classLabel true u v\n@data\n"
    equal = header.format("true\n@seriesLength 4")
    (tmp_path / "t_TRAIN.ts").write_text(equal + "1,2,3,4:u\n5,6,7,8:v\n")
    (tmp_path / "t_TEST.ts").write_text(equal + "1,2,3,5:u\n")
    with caplog.at_level(logging.INFO, "modgap"):
        table = read(tmp_path / "t_TRAIN.ts")
    assert "t_TEST.ts the test samples" in caplog.text
    assert (table.splits == 2).tolist() == [False, False, True]
    (tmp_path / "u.ts").write_text(header.format("false") + "1,2,3:u\n5,6,7,8,9:v\n1,2:u\n5,6:v\n")
    unequal = read(tmp_path / "u.ts")
    for content in ("", "no header\n", header.format("false")):
        (tmp_path / "e.ts").write_text(content)
        with pytest.raises(InputError, match=r"e\.ts has no series\. Expected|cannot read .*e\.ts as a \.ts file"):
            read(tmp_path / "e.ts")
    assert [unequal.samples[row].shape for row in range(4)] == [(1, 3), (1, 5), (1, 2), (1, 2)]
    assert unequal.labels.tolist() == [0, 1, 0, 1]


def test_small_classes_are_named_with_their_sizes(caplog):
    labels = np.repeat([0, 1, 2], [10, 1, 4])
    warn_about_small_classes(labels, ("cat", "dog", "cow"))
    assert "2 classes have fewer than 5 samples: dog (1), cow (4). Results" in caplog.text
    caplog.clear()
    warn_about_small_classes(np.eye(6, dtype=np.int64)[np.repeat(np.arange(6), 5)], tuple("abcdef"))
    assert not caplog.text


@pytest.mark.parametrize(
    ("names", "warned"), [("1.5,-2.25,0.5", True), ("0.1,0.2,0.3", False), ("4130,12,78", False), ("a,b,0.5", False)]
)
def test_a_first_sample_in_place_of_names_is_a_warning(tmp_path, caplog, names, warned):
    (tmp_path / "t.csv").write_text(f"{names},label\n" + "1,2,3,u\n4,5,6,v\n" * 3)
    read(tmp_path / "t.csv", kind="table")
    assert ("The first row of" in caplog.text) == warned
    (tmp_path / "t.csv").write_text(f"{names},9\n1,2,3,0\n")
    with pytest.raises(UsageError, match="expected a label column") as raised:
        read(tmp_path / "t.csv", kind="table")
    assert ("add a row of names above it" in str(raised.value)) == warned


def test_new_files_and_texts_of_a_table_have_its_groups(tmp_path):
    Image.new("RGB", (4, 3)).save(tmp_path / "a.png")
    (tmp_path / "files.csv").write_text("file,who\na.png,007\na.png,\n")
    (tmp_path / "texts.csv").write_text("text,who\nA cat,007\nA dog,\n")
    for name, kind in (("files.csv", "image"), ("texts.csv", "text")):
        path = tmp_path / name
        found = read_unlabeled(path, InputSpec(kind=kind), group_column="who")
        assert (len(found), found.groups) == (2, ("007", ""))
        assert read_unlabeled(path, InputSpec(kind=kind)).groups is None
        assert read_unlabeled(path, InputSpec(kind=kind), group_column="other").groups is None
