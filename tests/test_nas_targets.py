"""The tasks of NAS-Bench-360 and the surrogate CIFAR-10, read from small sets in the originals' layout."""

import zipfile

import numpy as np
import pytest
from sklearn.model_selection import train_test_split

from modgap.errors import InputError
from modgap.targets import SPLITS, Target, named_manifest
from modgap.targets.plain_pickles import convert_pickles
from modgap.targets.readers import get_reader, protein_maps, star_fields
from tests.fixtures import GENERATORS, cifar, darcy, deepsea, ecg, ninapro, proteins, satellite, spherical
from tests.fixtures import star_fields as exposures
from tests.fixtures.small_target import open_small_target

NAMES = (
    "cifar10", "cifar100", "cosmic", "darcy-flow", "deepsea", "ecg", "ninapro", "psicov", "satellite", "spherical",
)  # fmt: skip
SIZES = {
    "cifar10": (90, 10, 20),
    "cifar100": (400, 100, 100),
    "cosmic": (19, 3, 4),
    "darcy-flow": (14, 2, 4),
    "deepsea": (72, 36, 36),
    "ninapro": (72, 18, 18),
    "psicov": (12, 100, 6),
    "satellite": (192, 48, 48),
    "spherical": (400, 100, 100),
}
"""Samples of train, val and test in the small sets."""


@pytest.fixture(scope="module")
def targets(tmp_path_factory):
    """Return a function that opens a target, written once; the pickles of proteins are converted, as in real use."""
    opened_targets = {}

    def get(name):
        if name not in opened_targets:
            target = open_small_target(name, tmp_path_factory.mktemp(name))
            if name == "psicov":
                folders = [target.files["train"][0], target.files["test"][0]]
                convert_pickles([p for f in folders for p in (*f.glob("*/*.pkl"), *f.glob("*/*.npy"))])
            opened_targets[name] = target, target.read()
        return opened_targets[name]

    return get


def rows(table, split):
    return np.flatnonzero(table.splits == SPLITS.index(split))


def all_of(samples, which):
    return np.stack([samples[int(i)] for i in which])


@pytest.mark.parametrize("name", NAMES)
def test_generators_write_the_downloads_with_the_same_bytes_each_time(tmp_path, name):
    contents = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        GENERATORS[name](folder)
        contents.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert contents[0] == contents[1]
    assert set(contents[0]) == {download.path for download in named_manifest(name).downloads}


@pytest.mark.parametrize("name", NAMES)
def test_samples_agree_with_the_manifest(targets, name):
    target, table = targets(name)
    manifest = target.manifest
    sample = table.samples[0]
    assert sample.shape == manifest.input.shape == table.samples[len(table) - 1].shape
    types = {"deepsea": np.uint8, "ninapro": np.float64, "satellite": np.float64}
    assert sample.dtype == (np.uint8 if name.startswith("cifar") else types.get(name, np.float32))
    assert np.isfinite(sample).all()
    assert len(table.labels) == len(table.splits) == len(table.samples)
    if name in SIZES:
        assert tuple(np.bincount(table.splits, minlength=3)) == SIZES[name]
    n_classes = manifest.n_classes or len(manifest.classes or ()) or manifest.pseudo_classes
    if manifest.task == "multi-label":
        assert table.labels.shape == (len(table), n_classes)
        assert set(np.unique(table.labels)) == {0, 1}
    else:
        assert table.labels.dtype == np.int64
        assert set(np.unique(table.labels)) <= set(range(n_classes))
        assert manifest.task == "regression" or len(np.unique(table.labels)) == n_classes
    if manifest.output:
        assert table.targets[0].shape == manifest.output.shape
        assert table.targets[0].dtype == np.float32
    else:
        assert table.targets is None
    assert (table.groups is None) == (manifest.group is None)
    assert len(target.fingerprint["files"]) == len(manifest.files)


def test_cifar100_has_fine_labels_and_its_last_fifth_for_validation(targets):
    _, table = targets("cifar100")
    train = cifar.fine_labels(500, 1)
    test = cifar.fine_labels(100, 2)
    np.testing.assert_array_equal(table.labels, [*train, *test])
    np.testing.assert_array_equal(table.splits, np.repeat([0, 1, 2], [400, 100, 100]))
    planes = cifar.images(train, 1)
    np.testing.assert_array_equal(table.samples[7][1], planes[7, 1024:2048].reshape(32, 32))
    np.testing.assert_array_equal(table.samples[530], cifar.images(test, 2)[30].reshape(3, 32, 32))
    assert table.classes[3] == "bear"


def test_cifar10_joins_its_five_batches_in_order(targets):
    _, table = targets("cifar10")
    labels = np.concatenate([cifar.cifar10_labels(batch) for batch in (1, 2, 3, 4, 5, 0)])
    np.testing.assert_array_equal(table.labels, labels)
    expected = cifar.images(cifar.cifar10_labels(3) * 10, 3)[4].reshape(3, 32, 32)
    np.testing.assert_array_equal(table.samples[44], expected)
    assert set(rows(table, "test")) == set(range(100, 120))


def test_spherical_is_divided_by_255(targets):
    _, table = targets("spherical")
    for offset, (size, seed) in ((0, (500, 1)), (500, (100, 2))):
        raw = spherical.split(size, seed)
        np.testing.assert_allclose(table.samples[offset + 9], raw["images"][9] / 255, rtol=1e-6)
        np.testing.assert_array_equal(table.labels[offset : offset + size], raw["labels"])


def test_ninapro_has_electrodes_as_rows(targets):
    _, table = targets("ninapro")
    for split in SPLITS:
        values, labels = ninapro.windows(split)
        np.testing.assert_array_equal(table.labels[rows(table, split)], labels)
        expected = values.swapaxes(1, 2)[:, None]
        np.testing.assert_array_equal(all_of(table.samples, rows(table, split)), expected)


def test_darcy_flow_is_standardized_at_every_point_and_has_the_grid(targets):
    _, table = targets("darcy-flow")
    coefficients, solutions = darcy.fields("smooth1")
    test_fields = [field[:, ::5, ::5] for field in darcy.fields("smooth2")]
    assert test_fields[0].shape == (4, 85, 85)
    for field, test, read_value in (
        (coefficients[:, ::5, ::5], test_fields[0], lambda i: table.samples[i][0]),
        (solutions[:, ::5, ::5], test_fields[1], lambda i: table.targets[i][0]),
    ):
        mean, sd = field[:14].mean(axis=0), field[:14].std(axis=0, ddof=1)
        for number, value in ((0, field[0]), (15, field[15]), (17, test[1])):
            np.testing.assert_allclose(read_value(number), (value - mean) / (sd + 1e-5), rtol=2e-4, atol=2e-5)
    coordinate = np.linspace(0, 1, 85, dtype=np.float32)
    np.testing.assert_array_equal(table.samples[3][1], np.tile(coordinate, (85, 1)))
    np.testing.assert_array_equal(table.samples[3][2], np.tile(coordinate, (85, 1)).T)
    mean, sd = table.target_scale
    np.testing.assert_allclose((table.targets[16] * sd + mean)[0], test_fields[1][0], rtol=1e-4, atol=1e-5)
    assert table.select(np.array([2])).target_scale is table.target_scale


def protein_by_loops(name, clipped):
    """Build x and y as the benchmark does, value by value."""
    features, distances = proteins.protein(name)
    length = len(features["seq"])
    x, y = np.zeros((57, 512, 512), np.float32), np.full((512, 512), 100.0)
    of_residues = [*features["ss"], *features["pssm"].T, features["sa"], features["entropy"]]
    for i in range(length):
        for j in range(length):
            for number, values in enumerate(of_residues):
                x[2 * number, 5 + i, 5 + j] = values[j]
                x[2 * number + 1, 5 + i, 5 + j] = values[i]
            for number, pair in enumerate(("ccmpred", "freecon", "potential")):
                x[54 + number, 5 + i, 5 + j] = features[pair][i, j]
    d = np.maximum(distances, 1.0)
    for q in range(length):
        beside = [d[q, r] for r in (q - 1, q + 1) if 0 <= r < length]
        y[5 + q, 5 : 5 + length] = d[q]
        y[5 + q, 5 + q] = sum(beside) / len(beside)
    return x, np.minimum(y, 16) if clipped else y


def test_psicov_maps_are_those_of_the_benchmark(targets):
    _, table = targets("psicov")
    names = [*proteins.names("deepcov"), *proteins.names("psicov")]
    np.testing.assert_array_equal(table.splits, np.repeat([1, 0, 2], [100, 12, 6]))
    for number in (0, 105, 115):
        x, y = protein_by_loops(names[number], clipped=number == 105)
        np.testing.assert_allclose(table.samples[number], x, rtol=1e-6)
        np.testing.assert_allclose(table.targets[number][0], y, rtol=1e-6)
    assert max(table.targets[105].max(), 16.0) == 16.0
    assert table.targets[115].max() == 100.0


def test_psicov_without_conversion_is_the_same(targets, tmp_path):
    target, table = targets("psicov")
    GENERATORS["psicov"](tmp_path)
    with zipfile.ZipFile(tmp_path / "protein.zip") as archive:
        archive.extractall(tmp_path)
    files = {file.role: [tmp_path / file.path] for file in target.manifest.files}
    raw = get_reader("protein_maps")(files, validation=100, validation_position="start")
    length = raw.samples[113].shape[1]
    inner = slice(5, 5 + length)
    np.testing.assert_array_equal(raw.samples[113], table.samples[113][:, inner, inner])
    np.testing.assert_array_equal(raw.targets[113], table.targets[113][:, inner, inner])
    assert Target(target.manifest, files).fingerprint["files"] == target.fingerprint["files"]


def test_cosmic_takes_fields_of_galaxies_in_one_filter(targets):
    target, table = targets("cosmic")
    assert len(np.unique(table.groups["groups"])) == 4
    # In the order of paths: 10760/2, 12058/12, 9490/a3, then the test field; numbers sort within exposures.
    expected = [
        where for split in (exposures.TRAIN, exposures.TEST) for where, size in split.items() for _ in range(size)
    ]
    listed = get_reader("star_fields")(target.files, fields=target.manifest.reader.options["fields"])
    assert list(listed.groups["field"]) == [f"{proposal}_{visit}" for _, proposal, visit in expected]
    window = (slice(64, 192), slice(64, 192))
    for number, path in enumerate(listed.samples.items):
        planes = exposures.exposure(expected[number], int(path.stem.split("_")[1]))
        np.testing.assert_array_equal(table.samples[number][0], planes[0][window])
        np.testing.assert_array_equal(table.targets[number][0], planes[1][window])
        counts = 1 - planes[2][window] if len(planes) == 3 else np.ones((128, 128))
        np.testing.assert_array_equal(table.masks[number][0], counts)
        # sky.npy has the levels of the exposures 1 and 2 of a visit; the number stands before _ in the file's name.
        assert table.levels[number] == {"1": 30.0, "2": 40.0}[path.stem.split("_")[0]]


def test_sky_levels_that_are_missing_or_damaged(tmp_path):
    def read(sky: np.ndarray | None, name: str = "2_0.npy"):
        folder = tmp_path / str(len(list(tmp_path.iterdir()))) / "f435w"
        (folder / "1" / "2").mkdir(parents=True)
        np.save(folder / "1" / "2" / name, np.zeros((2, 8, 8), np.float32))
        if sky is not None:
            np.save(folder / "1" / "2" / "sky.npy", sky)
        return get_reader("star_fields")({"train": [folder]}).levels

    assert list(read(np.array([5.0, 7.0]))) == [7.0]
    assert list(read(None)) == [0.0]
    for sky in (np.array([5.0]), np.array([]), np.array([[1.0], [2.0]]), np.array([1.0, np.nan]), np.array(["a", "b"])):
        with pytest.raises(InputError, match=r"sky\.npy|level"):
            read(sky)
    with pytest.raises(InputError, match="with a number from 1 to 2"):
        read(np.array([5.0, 7.0]), "x_0.npy")


def test_ecg_windows_are_those_of_the_benchmark(targets):
    _, table = targets("ecg")
    data, letters = ecg.records()
    windows = []
    labels = []
    records = []
    for number, (record, letter) in enumerate(zip(data, letters, strict=True)):
        scaled = (record - np.mean(record)) / np.std(record)
        stride = {"N": 500, "A": 500 // 6, "O": 500 // 2, "~": 500 // 20}[letter]
        for start in range(0, len(scaled) - 1000, stride):
            windows.append(scaled[start : start + 1000])
            labels.append("NAO~".index(letter))
            records.append(number)
    assert len(windows) == len(table)
    np.testing.assert_allclose(all_of(table.samples, range(len(table)))[:, 0], windows, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(table.labels, labels)
    np.testing.assert_array_equal(table.groups["groups"], records)
    _, test = train_test_split(np.arange(60), test_size=0.1, random_state=0)
    np.testing.assert_array_equal(np.isin(records, test), table.splits == SPLITS.index("test"))
    for number in set(records):
        assert len(set(table.splits[np.array(records) == number])) == 1
    assert 59 not in records


def test_satellite_labels_start_at_one_and_validation_has_the_size_of_test(targets):
    _, table = targets("satellite")
    for split, which in (("train", slice(0, 240)), ("test", slice(240, 288))):
        values, labels = satellite.series(split)
        np.testing.assert_array_equal(table.labels[which], labels - 1)
        np.testing.assert_array_equal(all_of(table.samples, range(288)[which])[:, 0], values)
    np.testing.assert_array_equal(table.splits, np.repeat([0, 1, 2], [192, 48, 48]))


def test_deepsea_has_bases_as_channels(targets):
    _, table = targets("deepsea")
    for split in SPLITS:
        values, labels = deepsea.sequences(split)
        np.testing.assert_array_equal(table.labels[rows(table, split)], labels)
        np.testing.assert_array_equal(all_of(table.samples, rows(table, split)), values.swapaxes(1, 2))


def test_files_of_samples_are_read_on_access(targets, monkeypatch):
    opened_files = []
    opened_targets = [targets(name)[0] for name in ("cosmic", "psicov")]

    def noted(read):
        return lambda path: (opened_files.append(path), read(path))[1]

    monkeypatch.setattr(star_fields, "map_npy", noted(star_fields.map_npy))
    monkeypatch.setattr(protein_maps, "read_pickle", noted(protein_maps.read_pickle))
    for target in opened_targets:
        table = get_reader(target.manifest.reader.name)(target.files, **target.manifest.reader.options)
        # The levels of the sky are read at once.
        assert {path.name for path in opened_files} <= {"sky.npy"}
        opened_files.clear()
        assert len(table.samples[1]) in (1, 57)
        assert len(table.targets[2]) == 1
        assert len(opened_files) == 2
        opened_files.clear()


@pytest.mark.parametrize("name", ["cifar100", "deepsea", "satellite", "spherical", "ecg"])
def test_large_arrays_stay_on_disk(targets, name):
    """Samples as stored are memory-mapped."""
    target, _ = targets(name)
    table = get_reader(target.manifest.reader.name)(target.files, **target.manifest.reader.options)
    part = table.samples
    while not hasattr(part, "array"):
        part = part.parts[0] if hasattr(part, "parts") else part.samples
    array = part.array[0] if part.array.dtype == object else part.array
    while not isinstance(array, np.memmap):
        array = array.base
    assert not array.flags.writeable


def test_matlab_files_of_both_versions_give_the_same(tmp_path):
    import h5py
    from scipy.io import savemat

    rng = np.random.default_rng(0)
    fields = {"a": rng.random((6, 11, 13)), "u": rng.random((6, 11, 13))}
    savemat(tmp_path / "old.mat", fields, do_compression=True)
    with h5py.File(tmp_path / "new.mat", "w", userblock_size=512) as file:
        for name, field in fields.items():
            file.create_dataset(name, data=field.T)
    with (tmp_path / "new.mat").open("r+b") as stream:
        stream.write(b"MATLAB 7.3 MAT-file".ljust(128))
    for path in (tmp_path / "old.mat", tmp_path / "new.mat"):
        table = get_reader("mat")({"train": [path]}, x="a", y="u", stride=3, max_samples={"train": 4})
        assert len(table) == 4
        np.testing.assert_allclose(table.samples[2][0], fields["a"][2, ::3, ::3], rtol=1e-6)
        np.testing.assert_allclose(table.targets[3][0], fields["u"][3, ::3, ::3], rtol=1e-6)
        with pytest.raises(InputError, match=r"expected an array of numbers b in .*, which has a, u"):
            get_reader("mat")({"train": [path]}, x="a", y="b")
