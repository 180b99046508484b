"""Splits from a column, an array or a file, for data of each form, checked before anything is computed."""

import json

import numpy as np
import pytest
from PIL import Image

import modgap
from modgap.errors import InputError, UsageError
from modgap.targets import CustomData, TargetRequest, open_target
from tests.commands import run_in_process

SPELLINGS = ("Train", "training", "VAL", "valid", "validation", "dev", "test", "Testing ")
CODES = [0, 0, 1, 1, 1, 1, 2, 2]
N = 24
NAMES = [SPELLINGS[(5 * row) % 8] for row in range(N)]
EXPECTED = [CODES[(5 * row) % 8] for row in range(N)]


def read(path, **description):
    return open_target(str(path), custom_data=CustomData(**description)).read()


def write_table(folder, *further):
    """A table of N rows in two classes, with further columns of a name and values each."""
    header = ",".join(["a", "b", "label", *(name for name, _ in further)])
    lines = [
        ",".join([f"{row / 7:.3f}", f"{row % 5}", "uv"[row % 2], *(values[row] for _, values in further)])
        for row in range(N)
    ]
    path = folder / "data.csv"
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def write_images(folder):
    for row in range(N):
        path = folder / "photos" / "uv"[row % 2] / f"{row:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4, 3), row, np.uint8)).save(path)
    return folder / "photos"


def write_list(path, samples=None, splits=NAMES, head="sample,split"):
    """A list of splits: a table of samples and splits, or the splits alone."""
    lines = splits if samples is None else [f"{name},{split}" for name, split in zip(samples, splits, strict=True)]
    path.write_text("\n".join([*([] if path.suffix == ".txt" else [head]), *lines]) + "\n")
    return str(path)


def test_a_column_of_any_name_gives_the_splits_in_any_spelling(tmp_path, caplog):
    caplog.set_level("INFO")
    path = write_table(tmp_path, ("part", NAMES))
    table = read(path, kind="table", split_from="part")
    assert table.splits.tolist() == EXPECTED
    assert table.columns == ("a", "b")
    assert "The column part of" in caplog.text
    assert "gives the splits: 6 train, 12 val, 6 test." in caplog.text
    assert read(write_table(tmp_path, ("split", NAMES)), kind="table").splits.tolist() == EXPECTED


def test_a_column_is_checked(tmp_path):
    def refused(values, message, **description):
        path = write_table(tmp_path, ("part", values))
        with pytest.raises((InputError, UsageError), match=message):
            read(path, kind="table", **{"split_from": "part", **description})

    refused(
        ["fold 1", *NAMES[1:]], r"The column part of .* has the value 'fold 1' in row 0\. Expected train, val or test"
    )
    refused(["", *NAMES[1:]], "expected a value in every row of column 'part', 1 are missing")
    refused(NAMES, r"There is no column 'prt'\. .* Did you mean part\?", split_from="prt")
    refused(NAMES, "The column 'part' is not a feature", columns="a,part")


def test_a_table_of_files_has_its_splits_in_a_column_or_a_list(tmp_path):
    folder = write_images(tmp_path)
    files = [f"photos/{'uv'[row % 2]}/{row:02}.png" for row in range(N)]
    rows = [f"{file},{file[7]},{split}" for file, split in zip(files, NAMES, strict=True)]
    (tmp_path / "list.csv").write_text("\n".join(["file,label,part", *rows]) + "\n")
    assert read(tmp_path / "list.csv", split_from="part").splits.tolist() == EXPECTED
    with pytest.raises(UsageError, match="There is no column 'prt'"):
        read(tmp_path / "list.csv", split_from="prt")
    # The list has another order, and paths in the column that tables of files have.
    mixed = np.random.default_rng(0).permutation(N)
    listed = write_list(
        tmp_path / "splits.csv", [files[row] for row in mixed], [NAMES[row] for row in mixed], "file,split"
    )
    assert read(tmp_path / "list.csv", split_from=listed).splits.tolist() == EXPECTED
    below = [file.removeprefix("photos/") for file in files]
    listed = write_list(tmp_path / "below.csv", [below[row] for row in mixed], [NAMES[row] for row in mixed])
    table = read(folder, split_from=listed)
    assert table.splits.tolist() == [EXPECTED[int(table.samples[row][0, 0, 0])] for row in range(N)]


@pytest.mark.parametrize("form", ["txt", "one column", "numbers"])
@pytest.mark.parametrize("data", ["csv", "npz", "npy", "ts", "arrays"])
def test_a_list_gives_the_splits_of_rows(tmp_path, data, form):
    x = np.random.default_rng(0).random((N, 1, 12))
    labels = np.arange(N) % 2
    description = {"kind": "series"}
    if data == "csv":
        path = write_table(tmp_path)
        description = {"kind": "table"}
    elif data == "npz":
        path = tmp_path / "x.npz"
        np.savez(path, x=x, y=labels)
    elif data == "npy":
        path = tmp_path / "x.npy"
        np.save(path, x)
        np.save(tmp_path / "y.npy", labels)
    elif data == "arrays":
        path = (x, labels)
    else:
        pytest.importorskip("aeon")
        path, description = tmp_path / "data.ts", {}
        header = "@problemName t\n@timeStamps false\n@univariate true\n@equalLength true\n@seriesLength 12\n"
        rows = [f"{','.join(map(str, row[0]))}:{label}" for row, label in zip(x, labels, strict=True)]
        path.write_text("\n".join([f"{header}@classLabel true 0 1\n@data", *rows]) + "\n")
    if form == "numbers":
        order = np.random.default_rng(1).permutation(N)
        listed = write_list(tmp_path / "s.csv", order, [NAMES[row] for row in order])
    else:
        listed = write_list(tmp_path / ("s.txt" if form == "txt" else "s.csv"), head="split")
    target = modgap.open_target(path, custom_data=description | {"split_from": listed})
    assert target.read().splits.tolist() == EXPECTED
    assert len(target.read().samples) == N


def test_series_in_long_format_are_listed_by_their_names(tmp_path):
    rows = [
        f"w{series},{moment},{series % 3 + moment},{'uv'[series % 2]}" for series in range(N) for moment in range(4)
    ]
    (tmp_path / "long.csv").write_text("\n".join(["who,t,x,label", *rows]) + "\n")
    listed = write_list(tmp_path / "s.csv", [f"w{row}" for row in range(N)])
    table = read(tmp_path / "long.csv", series_column="who", time_column="t", split_from=listed)
    by_name = dict(zip((f"w{row}" for row in range(N)), EXPECTED, strict=True))
    assert table.splits.tolist() == [by_name[name] for name in sorted(by_name)]


def test_numbers_of_rows_stay_those_of_the_file_where_rows_are_left_out(tmp_path, caplog):
    path = write_table(tmp_path)
    lines = path.read_text().splitlines()
    lines[3] = "," + lines[3].split(",", 1)[1]
    path.write_text("\n".join(lines) + "\n")
    listed = write_list(tmp_path / "s.txt")
    table = read(path, kind="table", fill="drop", split_from=listed)
    assert table.splits.tolist() == EXPECTED[:2] + EXPECTED[3:]
    assert "has splits of 1 sample that the data does not have, such as 2" in caplog.text
    # Of the remaining rows alone, a list without names would be shifted.
    short = write_list(tmp_path / "short.txt", splits=NAMES[:2] + NAMES[3:])
    with pytest.raises(InputError, match="has no split for 1 of 23 samples, such as 23"):
        read(path, kind="table", fill="drop", split_from=short)


@pytest.mark.parametrize("suffix", [".npz", ".npy"])
@pytest.mark.parametrize("values", [EXPECTED, NAMES])
def test_an_array_of_numbers_or_names_gives_the_splits(tmp_path, suffix, values):
    arrays = {"x": np.random.default_rng(0).random((N, 12)), "y": np.arange(N) % 2, "part": np.array(values)}
    path = tmp_path / f"x{suffix}"

    def write(part):
        if suffix == ".npz":
            np.savez(path, **arrays | part)
        else:
            for name, array in (arrays | part).items():
                np.save(tmp_path / f"{name}.npy", array)

    write({})
    assert read(path, split_from="part").splits.tolist() == EXPECTED
    with pytest.raises(InputError, match="has no array prt"):
        read(path, split_from="prt")
    write({"splits": np.array(values)})
    assert read(path).splits.tolist() == EXPECTED
    write({"part": np.array(values[:-1])})
    with pytest.raises(InputError, match=r"expected part 0 \(train\), 1 \(val\) or 2 \(test\) in .*one for each of 24"):
        read(path, split_from="part")


def test_lists_of_splits_are_checked(tmp_path, caplog):
    folder = write_images(tmp_path)
    names = [f"{'uv'[row % 2]}/{row:02}.png" for row in range(N)]
    path = tmp_path / "s.csv"

    def refused(message, data=folder, listed=path, **description):
        with pytest.raises((InputError, UsageError), match=message) as error:
            read(data, split_from=str(listed), **description)
        assert "\n" not in str(error.value)

    write_list(path, names[1:], NAMES[1:])
    refused(
        r"has no split for 1 of 24 samples, such as u/00\.png\. Expected a table with the columns sample and split\."
    )
    write_list(path, names, ["trian", *NAMES[1:]])
    refused(r"s\.csv has the value 'trian' in row 0\. Expected train, val or test")
    write_list(path, [*names, names[0]], [*NAMES, "test"])
    refused(r"has two splits for u/00\.png: 'Train' and 'test'")
    write_list(path, names, head="name,split")
    refused(r"has the columns name, split\. Expected a column of files \(one of sample, file, .*one column of splits")
    write_list(path, names, head="sample,part")
    assert read(folder, split_from=str(path)).splits is not None
    write_list(path, [*names, "u/99.png"], [*NAMES, "test"])
    assert read(folder, split_from=str(path)).splits is not None
    assert "has splits of 1 sample that the data does not have, such as u/99.png" in caplog.text
    write_list(tmp_path / "s.txt")
    refused("has no split for 24 of 24 samples", listed=tmp_path / "s.txt")
    refused("There is no file .*absent.csv", listed=tmp_path / "absent.csv")
    refused("is not the name of a file, and .*photos has no columns. Pass a .csv file", listed="part")
    table = write_table(tmp_path)
    for size in (N - 1, N + 1):
        write_list(tmp_path / "s.txt", splits=(NAMES * 2)[:size])
        message = "has no split for 1 of 24" if size < N else "has splits of 25 samples, but there are 24"
        refused(message, data=table, listed=tmp_path / "s.txt", kind="table")
    (tmp_path / "s.txt").write_bytes(b"\xff\xfe\x00train")
    refused(r"cannot read .*s\.txt", data=table, listed=tmp_path / "s.txt", kind="table")
    with pytest.raises(UsageError, match="applies to custom data, not to target digits"):
        read("digits", split_from=str(path))


def test_a_list_replaces_the_splits_of_the_data_and_belongs_to_the_fingerprint(tmp_path):
    path = write_table(tmp_path, ("split", ["train"] * 20 + ["test"] * 4))
    listed = write_list(tmp_path / "s.txt")

    def target():
        return open_target(str(path), custom_data=CustomData(kind="table", split_from=listed))

    assert target().read().splits.tolist() == EXPECTED
    assert target().read().columns == ("a", "b")
    before = target().fingerprint
    assert target().fingerprint == before
    write_list(tmp_path / "s.txt", splits=NAMES[::-1])
    assert target().fingerprint != before
    assert target().read().splits.tolist() == EXPECTED[::-1]


def test_groups_in_several_splits_are_a_warning(tmp_path, caplog):
    people = [f"p{row // 8}" for row in range(N)]
    path = write_table(tmp_path, ("part", NAMES), ("person", people))
    read(path, kind="table", split_from="part", group="person")
    assert "3 of 3 groups of data have samples in several splits." in caplog.text
    caplog.clear()
    parts = [("train", "train", "test")[row // 8] for row in range(N)]
    path = write_table(tmp_path, ("part", parts), ("person", people))
    table = read(path, kind="table", split_from="part", group="person")
    assert "in several splits" not in caplog.text
    # A validation split is drawn by group where the data has none.
    assert {(row // 8, int(split)) for row, split in enumerate(table.splits)} <= {
        (0, 0),
        (0, 1),
        (1, 0),
        (1, 1),
        (2, 2),
    }


def test_training_without_test_samples_says_what_works(tmp_path):
    path = write_table(tmp_path, ("part", ["train"] * 20 + ["val"] * 4))
    done = run_in_process(
        *("train", "--method", "baseline:linear", "--target", path, "--kind", "table"),
        *("--split-from", "part", "--out", tmp_path / "run"),
    )
    assert (done.returncode, done.stderr.count("Traceback")) == (1, 0)
    assert "data has no test samples. If its data has splits, mark samples of each kind in them" in done.stderr


def test_commands_take_the_splits_of_a_list(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 2
    rows = [
        f"{a:.3f},{b:.3f},{'uv'[k]}"
        for (a, b), k in zip(rng.normal(labels[:, None], 0.4, (120, 2)), labels, strict=True)
    ]
    (tmp_path / "data.csv").write_text("\n".join(["a,b,label", *rows]) + "\n")
    splits = [("train", "train", "train", "val", "test")[row % 5] for row in range(120)]
    write_list(tmp_path / "s.txt", splits=splits)
    monkeypatch.chdir(tmp_path)
    data = ("--target", "data.csv", "--kind", "table", "--split-from", "s.txt")
    trained = run_in_process("train", "--method", "baseline:linear", *data, "--out", "run", "--json")
    assert trained.returncode == 0, trained.stderr
    record = json.loads(trained.stdout)
    assert [record["samples"][name] for name in ("train", "validation", "test")] == [72, 24, 24]
    written = run_in_process("features", "--source", "vit-fashion", *data, "--split", "test", "--out", "f.npz")
    assert written.returncode == 0, written.stderr
    assert np.load("f.npz")["samples"].tolist() == list(range(4, 120, 5))
    quick = ("--by", "knn", "--score", "knn", "--no-controls", "--baselines", "none", "--jobs", "1", "--json")
    ranked = run_in_process("rank", "--sources", "vit-fashion", *data, *quick, "--splits", "2")
    assert ranked.returncode == 0, ranked.stderr
    ranking = json.loads(ranked.stdout)
    assert ranking["target"]["samples"] == 72
    assert "--split-from s.txt" in json.dumps(ranking)
    measured = run_in_process(
        *("discrepancy", "--source", "vit-fashion", *data, "--split", "val", "--estimator", "soft"),
        *("--permutations", "0", "--json"),
    )
    assert json.loads(measured.stdout)["n_samples"] == 24


def test_requests_for_other_folders_have_absolute_paths_of_lists(tmp_path, monkeypatch):
    folder = write_images(tmp_path)
    names = [f"{'uv'[row % 2]}/{row:02}.png" for row in range(N)]
    write_list(tmp_path / "s.csv", names)
    write_list(tmp_path / "g.csv", names, [f"p{row % 6}" for row in range(N)], "file,group")
    monkeypatch.chdir(tmp_path)
    request = TargetRequest("photos", CustomData(group="g.csv", split_from="s.csv")).absolute()
    # A file that happens to have the name of a column is no list.
    (tmp_path / "person").touch()
    assert TargetRequest(
        "data.csv", CustomData(group="person", split_from="person")
    ).absolute().custom_data == CustomData(group="person", split_from="person")
    patterned = TargetRequest("photos", CustomData(group="/{group}.", split_from="s.csv")).absolute()
    monkeypatch.chdir("/")
    assert request.name == str(folder)
    assert len(np.unique(request.open().read().groups["groups"])) == 6
    assert len(np.unique(patterned.open().read().groups["groups"])) == N


def test_another_table_of_groups_is_another_target(tmp_path):
    folder = write_images(tmp_path)
    names = [f"{'uv'[row % 2]}/{row:02}.png" for row in range(N)]
    listed = write_list(tmp_path / "g.csv", names, [f"p{row % 6}" for row in range(N)], "file,group")
    before = open_target(str(folder), custom_data=CustomData(group=listed)).fingerprint
    write_list(tmp_path / "g.csv", names, [f"p{row % 3}" for row in range(N)], "file,group")
    target = open_target(str(folder), custom_data=CustomData(group=listed))
    assert target.fingerprint != before
    assert len(np.unique(target.read().groups["groups"])) == 3
    with pytest.raises(InputError, match=r"There is no file absent\.csv"):
        open_target(str(folder), custom_data=CustomData(group="absent.csv"))


def test_a_manifest_names_a_list_by_its_role(tmp_path):
    write_table(tmp_path)
    write_list(tmp_path / "s.txt")
    (tmp_path / "rows.toml").write_text(
        'schema = 1\nname = "rows"\ntitle = "Rows"\nmodality = "measurements"\ntask = "classification"\n'
        '[input]\nkind = "table"\n[reader]\nname = "csv"\noptions = { kind = "table" }\n'
        '[[files]]\nrole = "data"\npath = "data.csv"\n[[files]]\nrole = "split-list"\npath = "s.txt"\n'
    )
    assert open_target(str(tmp_path / "rows.toml")).read().splits.tolist() == EXPECTED
