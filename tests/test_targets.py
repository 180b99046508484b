import gzip

import numpy as np
import pytest
from PIL import Image

from modgap.errors import InputError, UsageError
from modgap.targets import SPLITS, CustomData, load_manifest, manifest_names, named_manifest, open_target
from modgap.targets.readers import get_reader
from modgap.targets.splits import complete_splits, splits_of_few, stratified_keys, stratified_subset
from modgap.zoo import zoo_names
from tests.fixtures import GENERATORS
from tests.test_packaged_targets import EXPECTED as PACKAGED

EXPECTED = {
    "acsf1": (200, (1, 1460)),
    "arrowhead": (211, (1, 251)),
    "basic-motions": (80, (6, 100)),
    "digits": (1797, (1, 8, 8)),
    "fashion-mnist": (70_000, (1, 28, 28)),
    "gunpoint": (200, (1, 150)),
    "italy-power": (1096, (1, 24)),
    "mnist5k": (5000, (1, 28, 28)),
}


# Their packages need not be installed; tested where their readers are.
OPTIONAL = {"burgers-16", "darcy-16", "ner-tweets"}


def test_every_manifest_is_bundled_or_has_a_generator():
    names = set(manifest_names()) - set(zoo_names("target"))
    bundled = {name for name in names if not named_manifest(name).downloads}
    assert bundled == set(EXPECTED) | set(PACKAGED) | OPTIONAL
    assert names - bundled == set(GENERATORS)


@pytest.mark.bundle
@pytest.mark.parametrize("name", EXPECTED)
def test_data_agree_with_their_manifest(name):
    target = open_target(name)
    table = target.read()
    manifest = named_manifest(name)
    size, shape = EXPECTED[name]
    assert len(table.labels) == len(table.samples) == len(table.splits) == size
    assert table.samples[0].shape == shape == manifest.input.shape
    np.testing.assert_array_equal(np.unique(table.labels), np.arange(len(manifest.classes)))
    assert all((table.splits == code).any() for code in range(len(SPLITS)))
    assert len(target.fingerprint["files"]) == len(manifest.files)
    assert manifest.citation
    assert manifest.license or "No license was found" in manifest.notes
    assert manifest.group or manifest.group_note


@pytest.mark.bundle
def test_classes_of_fashion_and_motion_are_in_the_order_of_the_labels():
    fashion = open_target("fashion-mnist").read()
    trousers = np.flatnonzero(fashion.labels == fashion.classes.index("Trouser"))[:200]
    # Trousers leave the image's upper corners empty and its middle column full.
    mean = fashion.samples.array[trousers, 0].mean(axis=0)
    assert mean[5, 0] < 5 < 60 < mean[5, 14]
    motion = open_target("basic-motions").read()
    still = motion.classes.index("standing")
    spread = [motion.samples.array[motion.labels == k].std() for k in range(4)]
    assert int(np.argmin(spread)) == still


def test_a_stratified_subset_keeps_proportions_and_every_class():
    labels = np.repeat([0, 1, 2, 3], [500, 300, 199, 1])
    chosen = stratified_subset(labels, 100, 7)
    assert list(np.bincount(labels[chosen]))[3] == 1
    np.testing.assert_allclose(np.bincount(labels[chosen])[:3], [50, 30, 19], atol=1)
    np.testing.assert_array_equal(chosen, stratified_subset(labels, 100, 7))
    assert (chosen != stratified_subset(labels, 100, 8)).any()
    assert len(stratified_subset(labels, 4, 0)) == 4
    with pytest.raises(UsageError, match="at least 4"):
        stratified_subset(labels, 3, 0)
    few = stratified_subset(labels, 3, 0, every_class=False)
    assert len(few) == 3
    np.testing.assert_array_equal(stratified_subset(labels, 100, 7, every_class=False), chosen)


def test_splits_are_stratified_and_seeded_and_do_not_divide_groups():
    groups = np.repeat(np.arange(100), 5)
    labels = np.repeat([0, 1], 50)[groups]
    done = complete_splits(None, labels, groups, validation=0.1, test=0.2, seed=0)
    assert all(len(set(done[groups == g])) == 1 for g in range(100))
    assert [int((done[labels == 0] == code).sum()) for code in range(3)] == [180, 20, 50]
    splits = np.repeat([0, 2], 250)
    np.testing.assert_array_equal(
        complete_splits(splits, labels, None, validation=0.1, test=0.2, seed=0) == 2, splits == 2
    )


def test_drawn_splits_leave_each_class_a_sample_or_group_for_training():
    labels = np.r_[np.zeros(200, int), np.arange(1, 41), np.repeat([41, 42], 2)]
    groups = np.r_[np.arange(240), 240, 240, 241, 241]
    for seed in range(5):
        for units in (None, groups):
            done = complete_splits(None, labels, units, validation=0.1, test=0.2, seed=seed)
            assert len(np.unique(labels[done == 0])) == 43
            assert [np.count_nonzero(done[:200] == code) for code in (1, 2)] == [16, 40]
            assert units is None or done[240] == done[241] == done[242] == done[243] == 0


def test_lowest_keys_are_a_random_choice_within_each_class():
    labels = np.repeat([0, 1], [30, 10])
    firsts = [int(np.argmin(stratified_keys(labels, None, seed)[:30])) for seed in range(300)]
    assert len(set(firsts)) == 30


def idx(path, array):
    header = bytes([0, 0, 8, array.ndim]) + b"".join(int(s).to_bytes(4, "big") for s in array.shape)
    path.write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes()))
    return [path]


def test_idx_files(tmp_path):
    images = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    files = {"train": idx(tmp_path / "a.gz", images), "train-labels": idx(tmp_path / "b.gz", np.array([1, 0]))}
    table = get_reader("idx")(files)
    np.testing.assert_array_equal(table.samples[1][0], images[1])
    assert list(table.labels) == [1, 0]
    files["train"][0].write_bytes(gzip.compress(gzip.decompress(files["train"][0].read_bytes())[:-3]))
    with pytest.raises(InputError, match="expected 24 bytes of data"):
        get_reader("idx")(files)
    files["train"][0].write_bytes(files["train"][0].read_bytes()[:-9])
    with pytest.raises(InputError, match="cannot read"):
        get_reader("idx")(files)


def test_all_files_of_a_split_are_read(tmp_path):
    images = [np.full((2, 3, 4), level) for level in (1, 2, 3)]
    files = {
        "train": [path for k in (0, 1) for path in idx(tmp_path / f"{k}.gz", images[k])],
        "train-labels": [path for k in (0, 1) for path in idx(tmp_path / f"l{k}.gz", np.array([k, k]))],
        "test": idx(tmp_path / "2.gz", images[2]),
        "test-labels": idx(tmp_path / "l2.gz", np.array([0, 1])),
    }
    table = get_reader("idx")(files)
    assert [int(table.samples[row].max()) for row in range(6)] == [1, 1, 2, 2, 3, 3]
    assert (list(table.labels), list(table.splits)) == ([0, 0, 1, 1, 0, 1], [0, 0, 0, 0, 2, 2])
    with pytest.raises(InputError, match="expected one label for each image"):
        get_reader("idx")(files | {"train-labels": files["train-labels"][:1]})
    with pytest.raises(InputError, match="images of one size"):
        get_reader("idx")(files | {"test": idx(tmp_path / "3.gz", np.zeros((2, 4, 4)))})
    with pytest.raises(InputError, match="expected one file of role 'data', got 2"):
        get_reader("table")({"data": [tmp_path, tmp_path]}, shape=[1])


@pytest.mark.bundle
def test_all_ts_files_of_a_split_are_read():
    target = open_target("gunpoint")
    both = [*target.files["train"], *target.files["test"]]
    table, once = get_reader("ts")({"train": both, "test": both[:1]}), target.read()
    assert list(np.bincount(table.splits)) == [200, 0, 50]
    np.testing.assert_array_equal(table.samples.array[:200], once.samples.array)
    np.testing.assert_array_equal(table.labels[200:], once.labels[:50])


def image(path, size=(8, 6), color=(255, 0, 0), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).convert(mode).save(path)


def test_a_folder_of_class_sub_folders(tmp_path):
    image(tmp_path / "dog" / "1.png", mode="L")
    image(tmp_path / "cat" / "2.jpg", size=(5, 9))
    image(tmp_path / "cat" / "deep" / "3.png", mode="P")
    (tmp_path / "cat" / "note.txt").write_text("not an image")
    table = open_target(str(tmp_path)).read()
    assert list(table.classes) == ["cat", "dog"]
    assert list(table.labels) == [0, 0, 1]
    assert table.samples[0].shape == (3, 9, 5)
    before = open_target(str(tmp_path)).fingerprint
    image(tmp_path / "dog" / "1.png", color=(0, 1, 0))
    assert open_target(str(tmp_path)).fingerprint != before


def test_a_folder_with_named_splits(tmp_path):
    for split in SPLITS:
        for kind in ("a", "b"):
            image(tmp_path / split / kind / "x.png")
    table = open_target(str(tmp_path)).read()
    assert list(table.splits) == [2, 2, 0, 0, 1, 1]
    assert list(table.classes) == ["a", "b"]


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_custom_arrays(tmp_path, suffix):
    path = tmp_path / f"My data{suffix}"
    arrays = {"x": np.zeros((4, 20), np.float32), "y": np.array([0, 1, 0, 1]), "groups": np.array([7, 7, 9, 9])}
    if suffix == ".npz":
        np.savez(path, **arrays)
    else:
        from safetensors.numpy import save_file

        save_file(arrays, path)
    table = open_target(str(path)).read()
    assert table.samples[0].shape == (1, 20)
    assert list(table.groups["groups"]) == [0, 0, 1, 1]


def test_text_labels_become_classes(tmp_path):
    np.savez(tmp_path / "t.npz", x=np.zeros((3, 1, 4, 4)), y=np.array(["b", "a", "b"]))
    table = open_target(str(tmp_path / "t.npz")).read()
    assert (list(table.classes), list(table.labels)) == (["a", "b"], [1, 0, 1])


def test_pickled_objects_are_never_loaded(tmp_path):
    np.savez(tmp_path / "p.npz", x=np.array([{}, {}], dtype=object), y=np.array([0, 1]))
    with pytest.raises(InputError, match=r"cannot read arrays|expected numbers|never unpickled"):
        open_target(str(tmp_path / "p.npz")).read()


def test_ambiguous_arrays_ask_for_their_kind(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x=np.zeros((4, 6, 6)), y=np.array([0, 1, 0, 1]))
    with pytest.raises(UsageError, match=r"`custom_data=.*image.*` or `custom_data=.*series"):
        open_target(str(path))
    assert open_target(str(path), custom_data=CustomData(kind="image")).read().samples[0].shape == (1, 6, 6)
    assert open_target(str(path), custom_data=CustomData(kind="series")).read().samples[0].shape == (6, 6)
    np.savez(path, x=np.zeros((4, 6, 6, 3)), y=np.array([0, 1, 0, 1]))
    with pytest.raises(InputError, match="channels first"):
        open_target(str(path)).read()


def test_rows_of_arrays_are_read_as_those_of_a_table(tmp_path):
    values, labels = np.random.default_rng(0).random((20, 3)) * [1, 10, 100], np.arange(20) % 2
    np.savez(tmp_path / "rows.npz", x=values, y=labels)
    np.save(tmp_path / "x.npy", values)
    np.save(tmp_path / "y.npy", labels)
    text = "".join(f"{a!r},{b!r},{c!r},{label}\n" for (a, b, c), label in zip(values.tolist(), labels, strict=True))
    (tmp_path / "rows.csv").write_text(f"a,b,c,y\n{text}")
    table = CustomData(kind="table")
    expected = open_target(str(tmp_path / "rows.csv"), custom_data=table)
    for name in ("rows.npz", "x.npy", "."):
        target = open_target(str(tmp_path / name), custom_data=table)
        assert (target.manifest.input, target.manifest.steps) == (expected.manifest.input, expected.manifest.steps)
        np.testing.assert_array_equal([*target.read().samples], [*expected.read().samples])
    with pytest.raises(UsageError, match="applies to series"):
        open_target(str(tmp_path / "x.npy"), custom_data=CustomData(kind="table", standardize="sample"))
    np.save(tmp_path / "x.npy", values[:, None])
    with pytest.raises(UsageError, match=r"x of shape \(20, 1, 3\) .* is no table. Expected \(N, D\)"):
        open_target(str(tmp_path / "x.npy"), custom_data=table)


def test_few_samples_have_one_in_each_split():
    for labels in (np.zeros(4, int), np.array([0, 0, 1, 1, 1]), np.array([0, 1, 2, 2, 2, 2])):
        splits = splits_of_few(labels, None, 0.1, 0.1, 0)
        assert np.bincount(splits, minlength=3).min() == 1
        assert set(labels[splits == 0]) == set(labels)
        pairs = np.repeat(np.arange(len(labels)), 2)
        grouped = splits_of_few(np.repeat(labels, 2), pairs, 0.1, 0.1, 0)
        assert all(len(set(grouped[pairs == pair])) == 1 for pair in pairs)
        assert np.bincount(grouped, minlength=3).min() == 2
    # No sample can be spared of classes that have one each.
    assert (splits_of_few(np.arange(3), None, 0.1, 0.1, 0) == 0).all()
    drawn = complete_splits(None, np.arange(40) % 2, None, validation=0.1, test=0.2, seed=0)
    np.testing.assert_array_equal(splits_of_few(np.arange(40) % 2, None, 0.1, 0.2, 0), drawn)


CUSTOM_MANIFEST = """
schema = 1
name = "mine"
title = "My series"
modality = "electric"
task = "classification"
group = "groups"
input = { kind = "series" }
reader = { name = "arrays", options = { kind = "series" } }

[[files]]
role = "data"
path = "mine.npz"
"""


def test_a_custom_manifest(tmp_path):
    (tmp_path / "mine.toml").write_text(CUSTOM_MANIFEST)
    with pytest.raises(InputError, match="which does not exist"):
        open_target(str(tmp_path / "mine.toml"))
    np.savez(tmp_path / "mine.npz", x=np.zeros((4, 30)), y=np.array([0, 1, 0, 1]), groups=np.array([1, 1, 2, 2]))
    assert list(open_target(str(tmp_path / "mine.toml")).read().groups["groups"]) == [0, 0, 1, 1]
    (tmp_path / "mine.toml").write_text(CUSTOM_MANIFEST.replace('"groups"', '"subject"'))
    with pytest.raises(InputError, match=r"has no groups named 'subject'\. Its groups are: groups"):
        open_target(str(tmp_path / "mine.toml")).read()


@pytest.mark.parametrize(
    ("classes", "texts", "expected"),
    [
        (["walk", "rest"], ["walk", "rest", "walk", "rest"], ["walk", "rest"]),
        (["walk", "run", "rest"], ["walk", "rest", "walk", "rest"], ["walk", "rest"]),
        (["Walking", "Resting"], ["b", "a", "b", "a"], ["Resting", "Walking"]),
    ],
)
def test_names_of_a_manifest_belong_to_the_labels_of_that_name(tmp_path, caplog, classes, texts, expected):
    (tmp_path / "mine.toml").write_text(CUSTOM_MANIFEST.replace("group =", f"classes = {classes}\ngroup ="))
    np.savez(tmp_path / "mine.npz", x=np.zeros((4, 30)), y=np.array(texts), groups=np.arange(4))
    table = open_target(str(tmp_path / "mine.toml")).read()
    assert [table.classes[number] for number in table.labels[:2]] == expected
    assert ("No sample has the class 'run'" in caplog.text) == ("run" in classes)


@pytest.mark.parametrize(
    ("names", "listed", "is_warned"),
    [
        (["cat", "Cat "], None, True),
        (["cat", "dog"], None, False),
        (["a", "A"], None, False),
        (["cat", "CAT"], ["cat", "CAT"], False),
    ],
)
def test_classes_that_differ_in_case_only_are_said(tmp_path, caplog, names, listed, is_warned):
    more = f"classes = {listed}\n" if listed else ""
    (tmp_path / "mine.toml").write_text(CUSTOM_MANIFEST.replace("group =", f"{more}group ="))
    np.savez(tmp_path / "mine.npz", x=np.zeros((4, 30)), y=np.array(names * 2), groups=np.arange(4))
    assert len(open_target(str(tmp_path / "mine.toml")).read().classes) == 2
    assert ("differ in upper case or spaces only" in caplog.text) == is_warned


def test_names_of_a_manifest_for_other_classes_than_those_of_the_data_are_refused(tmp_path):
    classes = ["cat", "dog", "owl"]
    (tmp_path / "mine.toml").write_text(CUSTOM_MANIFEST.replace("group =", f"classes = {classes}\ngroup ="))
    np.savez(tmp_path / "mine.npz", x=np.zeros((4, 30)), y=np.array(["c", "o"] * 2), groups=np.arange(4))
    with pytest.raises(InputError, match=r"names 3 classes, but its data has 2 classes of other names \(first: 'c'\)"):
        open_target(str(tmp_path / "mine.toml")).read()


def test_a_target_in_another_folder_is_named_with_its_option(tmp_path):
    (tmp_path / "mine.toml").write_text(CUSTOM_MANIFEST)
    (tmp_path / "data").mkdir()
    np.savez(tmp_path / "data" / "mine.npz", x=np.zeros((4, 30)), y=np.array([0, 1, 0, 1]), groups=np.arange(4))
    target = open_target(str(tmp_path / "mine.toml"), data_dir=tmp_path / "data")
    assert target.cli_arguments == f"{tmp_path / 'mine.toml'} --data-dir {tmp_path / 'data'}"


@pytest.mark.parametrize(
    ("change", "arrays", "message"),
    [
        (('kind = "series" } }', 'kind = "series", color = 3 } }'), {}, "options of reader arrays do not fit"),
        ((', options = { kind = "series" }', ""), {}, "missing a required argument: 'kind'"),
        (('role = "data"', 'role = "all"'), {}, "needs a file of role 'data', got: all"),
        (("title", "title"), {"groups": np.zeros(3)}, "There are 3 groups for 4 samples"),
        (("title", "title"), {"groups": np.zeros((4, 2))}, "The groups have shape"),
        (('{ kind = "series" }\n', '{ kind = "series", shape = [3, 30] }\n'), {}, "describes samples of shape"),
    ],
)
def test_a_mismatch_of_manifest_and_files_raises_a_one_line_error(tmp_path, change, arrays, message):
    (tmp_path / "mine.toml").write_text(CUSTOM_MANIFEST.replace(*change))
    contents = {"x": np.zeros((4, 30)), "y": np.array([0, 1, 0, 1]), "groups": np.array([1, 1, 2, 2])} | arrays
    np.savez(tmp_path / "mine.npz", **contents)
    with pytest.raises(InputError, match=message):
        open_target(str(tmp_path / "mine.toml")).read()


def test_a_missing_file_of_a_manifest_without_downloads_names_the_manifest(tmp_path):
    (tmp_path / "mine.toml").write_text(CUSTOM_MANIFEST)
    with pytest.raises(InputError, match=r"mine\.npz, which does not exist\. Check its path in the manifest"):
        open_target(str(tmp_path / "mine.toml"))


def test_data_in_place_of_a_manifest_is_named_as_such(tmp_path):
    with pytest.raises(UsageError, match=r"is data without a manifest\. .* modgap discrepancy .* --target "):
        named_manifest(str(tmp_path))


def test_sixteen_bit_images_are_scaled_not_clipped(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        ramp = np.linspace(0, 65_535, 64).astype(np.uint16).reshape(8, 8)
        Image.fromarray(ramp).save(tmp_path / name / "x.png")
    pixels = open_target(str(tmp_path)).read().samples[0]
    assert pixels.shape == (3, 8, 8)
    np.testing.assert_allclose(pixels[1], ramp / 257, rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("schema = 1", "schema = 2"), r"The field schema is 2\. Expected 1\."),
        (('kind = "series" }\nreader', 'kind = "smell" }\nreader'), r"input\.kind is 'smell'\. Expected 'image', "),
        (("title", "titel"), r"The field title is missing\. The field titel is unknown\. Did you mean title\?"),
        (('"mine"', '"Mine!"'), r"The name 'Mine!' may contain only lower-case letters, digits and hyphens\."),
        (("schema = 1", "schema = = 1"), "is not valid TOML"),
    ],
)
def test_the_error_for_an_invalid_manifest_names_the_field(tmp_path, change, message):
    (tmp_path / "mine.toml").write_text(CUSTOM_MANIFEST.replace(*change))
    with pytest.raises(InputError, match=message):
        load_manifest(tmp_path / "mine.toml")


def test_a_file_of_another_size_or_checksum_raises_an_error(tmp_path):
    np.savez(tmp_path / "mine.npz", x=np.zeros((4, 30)), y=np.array([0, 1, 0, 1]))
    size = (tmp_path / "mine.npz").stat().st_size
    for pinned, message in ((f"size = {size + 1}", "bytes"), (f'sha256 = "{"0" * 64}"', "SHA-256")):
        (tmp_path / "mine.toml").write_text(CUSTOM_MANIFEST + pinned)
        with pytest.raises(InputError, match=message):
            _ = open_target(str(tmp_path / "mine.toml")).fingerprint


def test_the_error_for_a_missing_package_has_the_install_command(tmp_path):
    text = CUSTOM_MANIFEST.replace('path = "mine.npz"', 'path = "x"\npackage = "no_such_package_here"')
    (tmp_path / "mine.toml").write_text('install = "pip install no-such"\n' + text)
    with pytest.raises(InputError, match=r"not installed\. Install it with: pip install no-such"):
        open_target(str(tmp_path / "mine.toml"))
