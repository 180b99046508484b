"""Small files for the readers of packaged targets and for archives, and the functions that read them completely."""

import contextlib
import json
import os
import pickle
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import numpy as np

from modgap.errors import InputError
from modgap.targets.download.archives import ReadEntries, iterate_entries
from tests.campaign.seed_files import LABELS, SAMPLES, Maker, Reader, make_file, npy
from tests.fixtures.archives import write_tar, write_zip
from tests.fixtures.audio import tone, wav
from tests.fixtures.video import write_video

RATE = 8000
N_RESIDUES = 4
FRAMES = np.broadcast_to(np.arange(0, 240, 30, np.uint8)[:, None, None, None], (8, 16, 16, 3))
MEMBERS = {"a/one.txt": b"one" * 20, "a/b/two.bin": bytes(range(200)), "three": b"", "../four": b"x", "/five": b"y"}
REAL_CHILD_SHARE = 100
"""One of so many pickles is read by a new process, as users do. The others are read by a forked one."""


def read_with(name: str, find_files: Callable[[Path], dict[str, list[Path]]], **options: object) -> Reader:
    """Return a function that reads all samples, targets and masks with a reader."""

    def read(path: Path) -> object:
        from modgap.targets.readers import get_reader

        table = get_reader(name)(find_files(path), **options)
        streams = (table.samples, table.targets, table.masks)
        return [[np.asarray(stream[n]) for n in range(min(len(stream), 50))] for stream in streams if stream]

    return read


def beside(**roles: str) -> Callable[[Path], dict[str, list[Path]]]:
    """Return a function that gives the files of a reader, by role, in the folder `files` of a changed file."""

    def find(path: Path) -> dict[str, list[Path]]:
        folder = next(parent for parent in path.parents if parent.name == "files")
        return {role.replace("_", "-"): [folder / name] for role, name in roles.items()}

    return find


def mat(folder: Path) -> Path:
    from scipy.io import savemat

    path = make_file(folder, "data.mat")
    savemat(path, {"coeff": SAMPLES[:, 0], "sol": SAMPLES[:, 0] + 1}, do_compression=True)
    return path


def mat_7(folder: Path) -> Path:
    import h5py

    path = make_file(folder, "data.mat")
    with h5py.File(path, "w", userblock_size=512) as file:
        file["coeff"] = SAMPLES[:, 0].T
        file["sol"] = SAMPLES[:, 0].T
    return path


def ts(folder: Path) -> Path:
    path = make_file(folder, "train.ts")
    rows = "".join(f"{','.join(f'{v:.3f}' for v in sample.ravel()[:6])}:{label}\n" for sample, label in
                   zip(SAMPLES, LABELS, strict=True))  # fmt: skip
    path.write_text(
        "@problemName mine\n@timeStamps false\n@missing false\n@univariate true\n@equalLength true\n@seriesLength 6\n"
        f"@classLabel true 0 1 2\n@data\n{rows}"
    )
    return path


def bio(folder: Path) -> Path:
    path = make_file(folder, "train.txt")
    path.write_text("-DOCSTART- O\n\nAnn B-PER\nLee I-PER\nsaw O\nParis B-LOC\n\nÉva B-PER\nslept O\n" * 3)
    return path


def videos(name: str) -> Maker:
    def make(folder: Path) -> Path:
        for label in ("a", "b"):
            write_video(make_file(folder / "videos" / label, f"v_{label}_g01_c01.avi"), FRAMES)
        lines = "".join(f"{label}/v_{label}_g01_c01.avi {number}\n" for number, label in enumerate("ab", 1))
        (folder / "train.txt").write_text(lines)
        (folder / "classes.txt").write_text("1 a\n2 b\n")
        return folder / name

    return make


def sounds(name: str) -> Maker:
    def make(folder: Path) -> Path:
        rows = ["files,labels,clip"]
        segments = []
        for number in range(4):
            make_file(folder / "audio", f"{number // 2}_{number % 2}.wav").write_bytes(wav(tone(300, 0.02, RATE), RATE))
            rows.append(f"old/{number // 2}_{number % 2}.wav,{'ab'[number // 2]},{number // 2}")
            segments.append(f'{number // 2}_{number % 2}, 0.000, 10.000, "/m/{number // 2}"')
        (folder / "train.csv").write_text("\n".join(rows) + "\n")
        (folder / "classes.json").write_text(json.dumps({"a": 0, "b": 1}))
        (folder / "segments.csv").write_text("# comment\n" + "\n".join(segments) + "\n")
        (folder / "names.csv").write_text('index,mid,display_name\n0,/m/0,"A, b"\n1,/m/1,C\n')
        return folder / name

    return make


def proteins(name: str) -> Maker:
    def make(folder: Path) -> Path:
        from tests.fixtures.proteins import protein_of

        make_file(folder, "train.lst").write_text("p1 0\np2 0\n")
        for number, protein in enumerate(("p1", "p2")):
            features, distances = protein_of(np.random.default_rng(number), N_RESIDUES)
            record = np.empty(3, object)
            record[:] = [N_RESIDUES, features["seq"], distances]
            np.save(make_file(folder / "maps" / "distance", f"{protein}-cb.npy"), record)
            make_file(folder / "maps" / "features", f"{protein}.pkl").write_bytes(pickle.dumps(features, 3))
        return folder / name

    return make


def exposures(folder: Path) -> Path:
    for visit in ("1", "2"):
        planes = np.stack([SAMPLES[0, 0], SAMPLES[1, 0] > 0.5, SAMPLES[2, 0] > 0.5]).astype(np.float32)
        np.save(make_file(folder / "f435w" / "10760" / visit, "1.npy"), planes)
    return folder / "f435w" / "10760" / "1" / "1.npy"


def pickled(folder: Path) -> Path:
    path = make_file(folder, "data.pkl")
    path.write_bytes(pickle.dumps({"x": SAMPLES, "y": LABELS.tolist(), "names": [b"a", None, 1.5]}, 2))
    return path


def pickled_npy(folder: Path) -> Path:
    path = make_file(folder, "data.npy")
    np.save(path, np.array({"x": list(SAMPLES), "y": LABELS}, object), allow_pickle=True)
    return path


def tensors(folder: Path) -> Path:
    import torch

    path = make_file(folder, "data.pt")
    torch.save({"x": torch.from_numpy(SAMPLES[:, 0]), "y": torch.from_numpy(LABELS)}, path)
    return path


def table(folder: Path) -> Path:
    path = make_file(folder, "data.csv")
    path.write_text("a header\n" + "".join(f"{number},{number / 7},{number % 2}\n" for number in range(6)))
    return path


def categories(folder: Path) -> Path:
    path = make_file(folder, "data.dat")
    path.write_text(
        "".join(f"m{number % 3}, {'ab'[number % 2]}, {number / 7}, x, {'pe'[number % 2]}\n" for number in range(6))
    )
    return path


def archive_members(name: str) -> dict[str, bytes]:
    """Return the contents of an archive by name: those of a safe one, or of one that leads out of its folder."""
    return dict(list(MEMBERS.items())[: 3 if "safe" in name else 5])


def archive(name: str) -> Maker:
    def make(folder: Path) -> Path:
        path = make_file(folder, name)
        write = write_zip if path.suffix == ".zip" else write_tar
        write(path, archive_members(name))
        return path

    return make


def unpack(path: Path, entries: ReadEntries = iterate_entries) -> object:
    """Unpack an archive, and check that nothing is written outside its folder."""
    from modgap.targets.download.extraction import extract

    folder = path.parent / "inner" / "out"
    folder.mkdir(parents=True)
    roots = (path.parent.parent, Path("/five"))
    before = _snapshot(roots, folder)
    try:
        return [(path, size) for path, size, _ in extract(path, folder, entries=entries)]
    finally:
        assert _snapshot(roots, folder) == before, "a file was written outside the folder"
        assert not [file for file in folder.rglob("*") if file.is_symlink()], "a link was unpacked"


def _snapshot(roots: tuple[Path, ...], without: Path) -> list[Path]:
    return [file for root in roots for file in [root, *sorted(root.rglob("*"))] if without not in (file, *file.parents)
            and file.exists()]  # fmt: skip


@contextlib.contextmanager
def forked_unpickling() -> Iterator[None]:
    """Read pickles in a forked process, which starts faster than a new interpreter."""
    with mock.patch("modgap.targets.plain_pickles._run_child", _run_forked_child):
        yield


def _run_forked_child(request: str, seconds: float) -> tuple[list[dict[str, str]], dict[str, str]]:
    from modgap.storage.unpickling import __main__ as child

    with tempfile.TemporaryFile() as replies, tempfile.TemporaryFile() as asked:
        asked.write(request.encode())
        asked.seek(0)
        pid = os.fork()
        if not pid:
            try:
                os.dup2(asked.fileno(), 0)
                os.dup2(replies.fileno(), 1)
                import sys

                sys.stdin = open(0, encoding="utf-8")  # noqa: SIM115
                sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
                with mock.patch.object(child, "limit_process", _limit_forked_process):
                    child.main()
                os._exit(0)
            finally:
                os._exit(1)
        _, status = os.waitpid(pid, 0)
        replies.seek(0)
        lines = replies.read().decode().splitlines()
    return [json.loads(line) for line in lines], {"rejected": f"the forked process ended with {status}"}


def _limit_forked_process(size: int, limits: dict[str, int]) -> None:
    """Limit the processor time only: a forked process has the address space of the tests."""
    import resource

    resource.setrlimit(resource.RLIMIT_CPU, (20, 20))


def read_forked(read: Reader) -> Reader:
    """Return a reader of pickles of which most are read by forked processes."""
    count = iter(range(10**9))

    def read_pickle(path: Path) -> object:
        if next(count) % REAL_CHILD_SHARE == 0:
            return read(path)
        with forked_unpickling():
            return read(path)

    return read_pickle


def converted_pickle(folder: Path) -> Path:
    from modgap.targets.plain_pickles import convert_pickles

    return convert_pickles([pickled(folder)])[0]


def read_converted_pickle(path: Path) -> object:
    """Read a pickle with its converted copy, and check that it is unchanged."""
    from modgap.targets.plain_pickles import read_pickle

    def convert(paths: list[Path], _outputs: list[Path]) -> None:
        # Where the copy is refused, the pickle itself is read, which is not the subject here.
        if paths:
            raise InputError("the copy is not used")

    with mock.patch("modgap.targets.plain_pickles._convert", convert):
        return _check_pickle(read_pickle(path.with_name("data.pkl")))


def _check_pickle(content: dict) -> object:
    assert np.array_equal(content["x"], SAMPLES), "other samples from a damaged copy"
    assert content["y"] == LABELS.tolist(), "other labels from a damaged copy"
    assert content["names"] == [b"a", None, 1.5], "other values from a damaged copy"
    return content


TEXTS = ["a first text", "x", "日本 and more", "the last"]


def converted_copy(kind: str) -> Maker:
    def make(folder: Path) -> Path:
        from modgap.targets import open_target

        if kind == "text":
            source = make_file(folder, "data.csv")
            source.write_text("text,label\n" + "".join(f"{text},{n % 2}\n" for n, text in enumerate(TEXTS * 3)))
        else:
            source = make_file(folder, "data.npz")
            np.savez(source, x=SAMPLES, y=LABELS)
        target = open_target(str(source))
        table = target.read_originals()
        samples = [sample if isinstance(sample, str) else sample.tolist() for sample in table.samples]
        expected = {"samples": samples, "labels": table.labels.tolist(), "classes": list(table.classes or [])}
        (folder / "expected.json").write_text(json.dumps(expected))
        (folder / "fingerprint.json").write_text(json.dumps(target.fingerprint))
        (copy,) = target.convert()
        return copy.rename(folder / "copy.safetensors")

    return make


def read_converted_copy(path: Path) -> object:
    """Read a converted copy, and check that it is refused or has the samples and labels that it was made of."""
    from modgap.targets import open_target
    from modgap.targets.download import converted_copy as copies

    source = next(path.parent.glob("data.*"))
    target = open_target(str(source))
    fingerprint = json.loads(path.with_name("fingerprint.json").read_text())
    with mock.patch.object(copies, "copy_path", return_value=path):
        table = copies.read_converted_copy(target.manifest, target.files, lambda: fingerprint, "data")
    if table is None:
        return None
    samples = [table.samples[number] for number in range(len(table.samples))]
    expected = json.loads(path.with_name("expected.json").read_text())
    assert [sample if isinstance(sample, str) else sample.tolist() for sample in samples] == expected["samples"]
    assert (np.asarray(table.labels).tolist(), list(table.classes or [])) == (expected["labels"], expected["classes"])
    return samples


_LISTED_VIDEOS = read_with("video", beside(videos="videos", train="train.txt", classes="classes.txt"), frames=2)
_SOUND_TABLE = read_with(
    "audio_csv",
    beside(audio="audio", train="train.csv", classes="classes.json"),
    rate=RATE, file_column="files", labels_column="labels", clip_column="clip", overlap=0.005,
)  # fmt: skip
_SEGMENTS = read_with("audioset", beside(audio="audio", train="segments.csv", classes="names.csv"), rate=RATE)
_PROTEINS = read_forked(read_with("protein_maps", beside(train="maps", train_list="train.lst")))
_EXPOSURES = read_with("star_fields", beside(train="f435w"))
_TABLE = read_with("table", beside(data="data.csv"), shape=[1, 2], header_lines=1)
_CATEGORIES = read_with(
    "table", beside(data="data.dat"), shape=[1, 3], label_values=["e", "p"], categories=[1], group=0, drop=[3]
)
READERS: list[tuple[str, Maker, Reader]] = [
    ("table", table, _TABLE),
    ("table of categories", categories, _CATEGORIES),
    ("mat", mat, read_with("mat", beside(train="data.mat"), x="coeff", y="sol", stride=2)),
    ("mat 7.3", mat_7, read_with("mat", beside(train="data.mat"), x="coeff", y="sol", stride=2)),
    ("ts", ts, read_with("ts", beside(train="train.ts"))),
    ("bio", bio, read_with("bio", beside(train="train.txt"))),
    ("video", videos("videos/a/v_a_g01_c01.avi"), _LISTED_VIDEOS),
    ("video list", videos("train.txt"), _LISTED_VIDEOS),
    ("video classes", videos("classes.txt"), _LISTED_VIDEOS),
    ("audio_csv table", sounds("train.csv"), _SOUND_TABLE),
    ("audio_csv classes", sounds("classes.json"), _SOUND_TABLE),
    ("audio_csv sound", sounds("audio/0_0.wav"), _SOUND_TABLE),
    ("audioset segments", sounds("segments.csv"), _SEGMENTS),
    ("audioset classes", sounds("names.csv"), _SEGMENTS),
    ("protein_maps list", proteins("train.lst"), _PROTEINS),
    ("protein_maps features", proteins("maps/features/p1.pkl"), _PROTEINS),
    ("protein_maps distances", proteins("maps/distance/p1-cb.npy"), _PROTEINS),
    ("star_fields", exposures, _EXPOSURES),
    ("pickle", pickled, read_forked(read_with("pickle", beside(data="data.pkl"), x="x", y="y"))),
    ("pickle npy", pickled_npy, read_forked(read_with("pickle", beside(data="data.npy"), x="x", y="y"))),
    ("pt", tensors, read_with("pt", beside(data="data.pt"), kind="image")),
    ("npy", npy, read_with("npy", beside(train="x.npy", train_labels="y.npy"))),
]
"""Name of the campaign, maker and reader of each reader of packaged targets."""
