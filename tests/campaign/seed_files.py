"""Small valid files for each parser, and the functions that read them completely."""

import contextlib
import gzip
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from modgap.errors import InputError
from modgap.storage.json_records import with_digest

Maker = Callable[[Path], Path]
Reader = Callable[[Path], object]

SAMPLES = np.random.default_rng(0).random((6, 1, 4, 4), dtype=np.float32)
LABELS = np.array([0, 1, 2, 0, 1, 2])


def make_file(folder: Path, name: str) -> Path:
    """Return the path of a file in a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder / name


def npz(folder: Path) -> Path:
    path = make_file(folder, "data.npz")
    np.savez(path, x=SAMPLES, y=LABELS)
    return path


def npz_compressed(folder: Path) -> Path:
    path = make_file(folder, "data.npz")
    np.savez_compressed(path, x=SAMPLES, y=LABELS)
    return path


def npy(folder: Path) -> Path:
    path = make_file(folder, "x.npy")
    np.save(path, SAMPLES)
    np.save(folder / "y.npy", LABELS)
    return path


def npy_labels(folder: Path) -> Path:
    return npy(folder).with_name("y.npy")


def safetensors(folder: Path) -> Path:
    from safetensors.numpy import save_file

    path = make_file(folder, "data.safetensors")
    save_file({"x": SAMPLES, "y": LABELS}, path)
    return path


def hdf5(folder: Path) -> Path:
    import h5py

    path = make_file(folder, "data.h5")
    with h5py.File(path, "w") as file:
        file["x"] = SAMPLES
        file["y"] = LABELS
    return path


def csv(folder: Path) -> Path:
    path = make_file(folder, "data.csv")
    lines = [f"{number},{number / 7},{'abc'[number % 3]}" for number in range(9)]
    path.write_text("\n".join(["a,b,label", *lines]) + "\n")
    return path


def csv_gz(folder: Path) -> Path:
    plain = csv(folder)
    path = folder / "data.csv.gz"
    path.write_bytes(gzip.compress(plain.read_bytes(), mtime=0))
    plain.unlink()
    return path


def parquet(folder: Path) -> Path:
    import pandas as pd

    plain = csv(folder)
    path = folder / "data.parquet"
    pd.read_csv(plain).to_parquet(path)
    plain.unlink()
    return path


def image(suffix: str) -> Maker:
    def make(folder: Path) -> Path:
        from PIL import Image

        for name in ("a", "b"):
            for number in range(2):
                picture = Image.fromarray((SAMPLES[number, 0] * 255).astype(np.uint8))
                picture.save(make_file(folder / name, f"{number}.{suffix}"))
        return folder / "a" / f"0.{suffix}"

    return make


def listed_images(folder: Path) -> Path:
    """Write images, and a table that lists them with labels, groups and splits."""
    image("png")(folder)
    path = make_file(folder, "list.csv")
    rows = [(name, number) for name in "ab" for number in (0, 1)]
    lines = [f"{name}/{number}.png,{name},{number},{('train', 'test')[number]}" for name, number in rows]
    path.write_text("\n".join(["file,label,subject,split", *lines]) + "\n")
    return path


def group_table(folder: Path) -> Path:
    """Write images, and a table of their groups."""
    image("png")(folder / "images")
    path = make_file(folder, "groups.csv")
    lines = [f"{name}/{number}.png,{number}" for name in "ab" for number in (0, 1)]
    path.write_text("\n".join(["file,subject", *lines]) + "\n")
    return path


def split_list(suffix: str) -> Maker:
    """Return a function that writes an array file, and a list of its splits."""

    def make(folder: Path) -> Path:
        npz(folder)
        path = make_file(folder, f"splits{suffix}")
        splits = [("train", "val", "test")[row % 3] for row in range(len(SAMPLES))]
        lines = splits if suffix == ".txt" else ["sample,split", *(f"{row},{one}" for row, one in enumerate(splits))]
        path.write_text("\n".join(lines) + "\n")
        return path

    return make


def transparent_image(folder: Path) -> Path:
    """Write images with a channel of opacity."""
    from PIL import Image

    path = image("png")(folder)
    pixels = np.zeros((*SAMPLES.shape[2:], 4), np.uint8)
    pixels[::2] = 200
    Image.fromarray(pixels).save(path)
    return path


def series_file(folder: Path) -> Path:
    """Write a .ts file of series of different lengths."""
    path = make_file(folder, "data.ts")
    header = "@problemName t\n@timeStamps false\n@univariate true\n@equalLength false\n@classLabel true u v\n@data\n"
    path.write_text(header + "1,2,3:u\n5,6,7,8,9:v\n1,2.5:u\n5,6:v\n")
    return path


def sound(suffix: str) -> Maker:
    def make(folder: Path) -> Path:
        import soundfile

        wave = np.sin(np.arange(1600) / 10)
        for name in ("a", "b"):
            for number in range(2):
                soundfile.write(make_file(folder / name, f"{number}.{suffix}"), wave, 16000)
        return folder / "a" / f"0.{suffix}"

    return make


def idx(suffix: str) -> Maker:
    def make(folder: Path) -> Path:
        pixels = (SAMPLES * 255).astype(np.uint8)
        header = bytes([0, 0, 8, 3]) + np.array([6, 4, 4], ">u4").tobytes()
        contents = {"images": header + pixels.tobytes()}
        contents["labels"] = bytes([0, 0, 8, 1]) + np.array([6], ">u4").tobytes() + LABELS.astype(np.uint8).tobytes()
        for name, content in contents.items():
            make_file(folder, name + suffix).write_bytes(gzip.compress(content, mtime=0) if suffix else content)
        return folder / f"images{suffix}"

    return make


def read_table(table: object) -> object:
    """Read all samples of a table."""
    return [np.asarray(table.samples[number]) for number in range(min(len(table.samples), 50))]


def read_target(path: Path) -> object:
    from modgap.targets import CustomData, open_target

    is_table = path.name.startswith(("data.csv", "data.parquet"))
    target = open_target(str(path), custom_data=CustomData(kind="table") if is_table else None)
    return target.fingerprint, read_table(target.read())


def read_with_groups(path: Path) -> object:
    from modgap.targets import CustomData, open_target

    target = open_target(str(path.with_name("images")), custom_data=CustomData(group=str(path)))
    return target.fingerprint, read_table(target.read())


def read_with_splits(path: Path) -> object:
    from modgap.targets import CustomData, open_target

    data = next(path.parent.glob("*.npz"))
    target = open_target(str(data), custom_data=CustomData(kind="image", split_from=str(path)))
    return target.fingerprint, target.read().splits.tolist()


def read_listed(path: Path) -> object:
    from modgap.targets import CustomData, open_target

    target = open_target(str(path), custom_data=CustomData(kind="image", group="subject"))
    return target.fingerprint, read_table(target.read())


def read_npy_labels(path: Path) -> object:
    return read_target(path.with_name("x.npy"))


def read_folder(path: Path) -> object:
    return read_target(path.parents[1])


def read_reader(name: str, stem: str) -> Reader:
    def read(path: Path) -> object:
        from modgap.targets.readers import get_reader

        files = {"train": [path], "train-labels": [path.with_name(path.name.replace(stem, "labels"))]}
        return read_table(get_reader(name)(files))

    return read


def manifest(folder: Path) -> Path:
    npz(folder)
    path = make_file(folder, "mine.toml")
    path.write_text(
        'schema = 1\nname = "mine"\ntitle = "Mine"\nmodality = "image"\ntask = "classification"\n'
        'classes = ["a", "b", "c"]\n\n[input]\nkind = "image"\nshape = [1, 4, 4]\n\n[reader]\nname = "arrays"\n'
        'options = { kind = "image" }\n\n[[files]]\nrole = "data"\npath = "data.npz"\n'
    )
    return path


def read_manifest(path: Path) -> object:
    return read_target(path)


def run_record(folder: Path) -> Path:
    path = make_file(folder, "run.json")
    names = ("method", "source", "target", "protocol", "recipe", "inputs")
    record = {"schema": 1, "kind": "run", "seed": 0, "limit": None, "input_size": None}
    record |= {"result": {"epoch": 1, "no_sample_errors": "Nothing was kept."}}
    record |= dict.fromkeys(names, "x") | {"recipe": {}, "inputs": {}}
    record["provenance"] = {"source": {"architecture": "a", "weights": "b"}, "target": {"manifest": "c", "files": {}}}
    path.write_text(json.dumps(record))
    return path


def fit_checksum(path: Path) -> None:
    """Give a changed record a checksum that fits, as who changes it on purpose can, so that its values are read."""
    with contextlib.suppress(UnicodeDecodeError):
        path.write_text(with_digest(path.read_text()))


def read_run(path: Path) -> object:
    from modgap.ranking.comparison.inputs import read_inputs
    from modgap.training.run_folder import check_source, open_run

    fit_checksum(path)
    run = open_run(path.parent)
    check_source(run, "x", {"architecture": "a", "weights": "b"})
    try:
        errors = read_inputs([str(path.parent)])
    except InputError as error:
        # The valid record says that it has no errors of samples.
        if "cannot be compared sample by sample" not in str(error):
            raise
        errors = None
    return run.finished, run.saved_epochs, errors


def checkpoint(name: str) -> Maker:
    def make(folder: Path) -> Path:
        import torch

        from modgap.training.checkpoint import BestEpoch, Position, RunFiles
        from modgap.training.loop import average_weights

        model = torch.nn.Linear(2, 2)
        optimizer = torch.optim.AdamW(model.parameters())
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        folder.mkdir(parents=True)
        position = Position(0, 1, 0, 3, 10, {"loss": 0.5}, BestEpoch(1, 0.25))
        RunFiles(folder).save_checkpoint(position, model, optimizer, average=average_weights(model, 0.9))
        return next((folder / "checkpoints").glob(f"*/{name}"))

    return make


def read_checkpoint(path: Path) -> object:
    import torch

    from modgap.training import checkpoint as checkpoints
    from modgap.training.loop import average_weights

    folder = path.parents[2]
    model = torch.nn.Linear(2, 2)
    found = checkpoints.latest_checkpoint(folder)
    if found is not None:
        position, states = found
        checkpoints.restore_model(model, states[checkpoints.MODEL])
        checkpoints.restore_model(average_weights(model, 0.9), states[checkpoints.AVERAGE])
        optimizer = torch.optim.AdamW(model.parameters())
        checkpoints.restore_optimizer(optimizer, states[checkpoints.OPTIMIZER])
        assert position.epoch >= 0 <= position.update
    return checkpoints.best_epochs(folder)


def ranking(folder: Path) -> Path:
    from modgap.ranking.report import RECORD
    from tests.ranking_records import make_ranking

    folder.mkdir(parents=True)
    make_ranking().write(folder)
    return folder / RECORD


def discrepancy(name: str) -> Maker:
    def make(folder: Path) -> Path:
        from tests.test_report_page import make_discrepancy

        folder.mkdir(parents=True)
        make_discrepancy().write(folder)
        return folder / name

    return make


def write_report(path: Path) -> object:
    from modgap.api.pages.write import write_page

    return write_page(path.parent)


def compared(name: str) -> Maker:
    def make(folder: Path) -> Path:
        first = discrepancy(name)(folder / "first")
        shutil.copytree(folder / "first", folder / "second")
        return first

    return make


def compare_folders(path: Path) -> object:
    from modgap.api.comparison import compare

    folder = path.parents[1]
    return compare(f"a={folder / 'first'}", f"b={folder / 'second'}").to_text("json")


def error_table(folder: Path) -> Path:
    path = make_file(folder, "errors.csv")
    lines = [f"{number},{number % 2},{number % 3 / 2}" for number in range(30)]
    path.write_text("\n".join(["id,a,b", *lines]) + "\n")
    return path


def compare_table(path: Path) -> object:
    from modgap.api.comparison import compare

    return compare(str(path)).to_text("json")


def logits(suffix: str) -> Maker:
    def make(folder: Path) -> Path:
        path = make_file(folder, f"logits.{suffix}")
        values = np.random.default_rng(0).standard_normal((9, 4)).astype(np.float32)
        labels = np.arange(9) % 3
        if suffix == "npz":
            np.savez(path, logits=values, labels=labels, class_names=np.array(["a", "b", "c"]))
        elif suffix == "safetensors":
            from safetensors.numpy import save_file

            save_file({"logits": values, "labels": labels}, path)
        elif suffix == "pt":
            import torch

            torch.save({"logits": torch.from_numpy(values), "labels": torch.from_numpy(labels)}, path)
        else:
            stream = io.StringIO()
            np.savetxt(stream, np.column_stack([labels, values]), "%g", ",", header="label,a,b,c,d", comments="")
            path.write_text(stream.getvalue())
        return path

    return make


def read_logits(path: Path) -> object:
    from modgap.forward.logits import read_logits_file

    return read_logits_file(str(path))


def weights(suffix: str) -> Maker:
    def make(folder: Path) -> Path:
        import torch
        from safetensors.torch import save_file

        path = make_file(folder, f"weights.{suffix}")
        state = {"a.weight": torch.ones(3, 2), "a.bias": torch.zeros(3)}
        if suffix == "safetensors":
            save_file(state, path)
        else:
            torch.save(state, path)
        return path

    return make


def read_weights(path: Path) -> object:
    from modgap.sources.timm.handle import read_weights as read

    return read(path)


def cache_entry(folder: Path) -> Path:
    from modgap.storage.cache import CacheEntry, cache_key, entry_path, store

    key = cache_key({"name": "campaign"})
    path = entry_path("scores", key)
    store("scores", key, CacheEntry({"values": np.arange(6.0)}, {"reason": ""}))
    copy = make_file(folder / "scores" / path.name[:2], path.name)
    shutil.copy(path, copy)
    return copy


def read_cache_entry(path: Path) -> object:
    from modgap.storage.cache import CorruptEntryError, read_entry

    try:
        entry = read_entry(path)
    except CorruptEntryError:
        entry = None
    content = entry and (entry.arrays["values"].tolist(), entry.metadata["reason"])
    # Absent or as it was written; everything else would be a silent change.
    assert content in (None, ([0, 1, 2, 3, 4, 5], "")), f"a damaged entry is read as {content}"
    return content


def large_cache_entry(folder: Path) -> Path:
    from modgap.storage.cache import CacheEntry, cache_key, entry_path, store_rows

    key = cache_key({"name": "campaign"})
    path = entry_path("logits", key)
    arrays = {f"array {number}": np.arange(number + 1.0) for number in range(6)}
    small = CacheEntry(arrays, {"names": ["a", "b", "日本"], "score": 0.6})
    store_rows("logits", key, small, "rows", (6, 4), [np.arange(24, dtype=np.float32).reshape(6, 4)])
    copy = make_file(folder / "logits" / path.name[:2], path.name)
    shutil.copy(path, copy)
    return copy


def read_large_cache_entry(path: Path) -> object:
    from modgap.storage.cache import CorruptEntryError, read_entry

    expected = {f"array {number}": np.arange(number + 1.0).tolist() for number in range(6)}
    expected["rows"] = np.arange(24.0).reshape(6, 4).tolist()
    try:
        entry = read_entry(path)
    except CorruptEntryError:
        entry = None
    found = entry and ({name: array.tolist() for name, array in entry.arrays.items()}, entry.metadata)
    assert found in (None, (expected, {"names": ["a", "b", "日本"], "score": 0.6})), (
        f"a damaged entry is read as {found}"
    )
    return found
