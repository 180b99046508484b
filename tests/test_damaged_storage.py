"""Every flipped bit of a cache entry, a note, a converted copy, an .npz file, a run and a result is detected."""

import json
import os
import random
import shutil

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from modgap.api.pages.result_folder import read_result_folder
from modgap.api.pages.write import write_page
from modgap.errors import InputError
from modgap.ranking.comparison.inputs import read_folder
from modgap.statistics.intervals import SampleErrors
from modgap.statistics.sample_file import SampleFile, write_sample_file
from modgap.storage import array_formats
from modgap.storage.cache import CacheEntry, CorruptEntryError, entry_path, find_cached, read_entry, store_rows
from modgap.storage.json_records import format_json, read_json, with_digest
from modgap.targets import CustomData, open_target
from modgap.training.checkpoint import BestEpoch, Position, RunFiles, latest_checkpoint, write_tensors
from modgap.training.run_folder import open_run, prepare_run, write_record
from modgap.training.trained_inputs import read_inputs
from modgap.training.trained_model import read_model_file, write_model_file
from tests.campaign.run_files import RECORD, run_file

KEY = "a" * 64


def flips(content: bytes, regions: dict[str, tuple[int, int]], tries: int, seed: int = 0):
    """Yield the name of a region and a copy of the content with one flipped bit in this region."""
    rng = random.Random(seed)
    for name, (start, end) in regions.items():
        for _ in range(tries):
            damaged = bytearray(content)
            damaged[rng.randrange(start, end)] ^= 1 << rng.randrange(8)
            yield name, bytes(damaged)


def regions_of(content: bytes) -> dict[str, tuple[int, int]]:
    """Return the byte regions of a file of arrays, from its header."""
    start = 8 + int.from_bytes(content[:8], "little")
    fields = json.loads(content[8:start])
    metadata = fields.pop("__metadata__")
    used = len(content[:start].rstrip())
    regions = {"length": (0, 8), "fields": (8, used), "rest of the header": (used, start)}
    digest = content.index(metadata["digest"].encode())
    regions["digest"] = (digest, digest + 64)
    for name, field in fields.items():
        first, last = field["data_offsets"]
        if last > first:
            regions[name] = (start + first, start + last)
    return regions


@pytest.fixture
def entry():
    """The path of a small entry."""
    record = {"source_classes": ["a", "b"], "provenance": {"offset": 3}}
    small = CacheEntry({"labels": np.arange(40), "rows": np.arange(40)}, record)
    rows = np.random.default_rng(0).standard_normal((40, 12)).astype(np.float32)
    store_rows("logits", KEY, small, "logits", (40, 12), [rows])
    return entry_path("logits", KEY)


def test_every_flipped_bit_of_an_entry_is_detected(entry):
    content = entry.read_bytes()
    regions = regions_of(content)
    assert {"length", "fields", "digest", "labels", "logits"} < set(regions)
    silent = []
    for region, damaged in flips(content, regions, tries=60):
        entry.write_bytes(damaged)
        try:
            read_entry(entry)
            silent.append(region)
        except CorruptEntryError:
            pass
    assert silent == []


def test_the_record_of_an_entry_is_covered_from_its_first_to_its_last_byte(entry):
    """A flipped digit of an offset changed a search value without a message."""
    content = entry.read_bytes()
    silent = []
    for position in range(0, regions_of(content)["fields"][1], 2):
        damaged = bytearray(content)
        damaged[position] ^= 1 << position // 2 % 3
        entry.write_bytes(bytes(damaged))
        try:
            read_entry(entry)
            silent.append(position)
        except CorruptEntryError:
            pass
    assert silent == []


@pytest.mark.parametrize("other", [("logits", "b" * 64), ("features", KEY)])
def test_an_entry_under_another_key_or_kind_is_refused(entry, other):
    path = entry_path(*other)
    path.parent.mkdir(parents=True)
    shutil.copy(entry, path)
    with pytest.raises(CorruptEntryError, match=r"it was written for the (key|kind) "):
        read_entry(path)


def test_bytes_after_the_end_are_refused(entry):
    entry.write_bytes(entry.read_bytes() + b"\0")
    with pytest.raises(CorruptEntryError, match="after its end"):
        read_entry(entry)


def test_the_command_names_each_damaged_entry(entry, modgap):
    copy = entry_path("logits", "b" * 64)
    copy.parent.mkdir(parents=True)
    shutil.copy(entry, copy)
    entry.write_bytes(entry.read_bytes().replace(b'\\"offset\\": 3', b'\\"offset\\": 4'))
    done = modgap("cache", "verify")
    assert done.returncode == 1
    assert "its header does not fit its checksum" in done.stdout
    assert "it was written for the key aaaa" in done.stdout
    assert "2 entries damaged" in done.stdout


def test_an_entry_of_another_structure_counts_as_absent(entry, caplog):
    assert find_cached("logits", KEY, lambda content: content.metadata["provenance"]) == {"offset": 3}
    assert find_cached("logits", KEY, lambda content: content.arrays["groups"]) is None
    assert "is not used (it has another structure, KeyError: 'groups'). It is computed again." in caplog.text


def age(path, seconds=100):
    status = path.stat()
    os.utime(path, (status.st_atime, status.st_mtime - seconds))


def test_a_process_compares_an_unchanged_entry_once(entry, monkeypatch):
    from modgap.storage.array_file import ArrayFile

    age(entry)
    compared = []
    compare = ArrayFile._compare_chunks
    monkeypatch.setattr(ArrayFile, "_compare_chunks", lambda self, chunks: (compared.append(1), compare(self, chunks)))
    for _ in range(3):
        read_entry(entry)
    assert len(compared) == 1
    content = bytearray(entry.read_bytes())
    content[regions_of(bytes(content))["logits"][0]] ^= 1
    entry.write_bytes(content)
    with pytest.raises(CorruptEntryError, match="do not fit their checksum"):
        read_entry(entry)


def test_many_chunks_are_compared_by_threads_and_each_is_detected():
    path = entry_path("logits", "c" * 64)
    rows = np.random.default_rng(0).standard_normal((9000, 500)).astype(np.float32)
    store_rows("logits", "c" * 64, CacheEntry({}, {}), "logits", (9000, 500), [rows])
    size = path.stat().st_size
    assert read_entry(path).arrays["logits"].shape == (9000, 500)
    for position in (size // 3, size - 3000):
        with path.open("r+b") as stream:
            stream.seek(position)
            byte = stream.read(1)
            stream.seek(position)
            stream.write(bytes([byte[0] ^ 4]))
        with pytest.raises(CorruptEntryError):
            read_entry(path)
        with path.open("r+b") as stream:
            stream.seek(position)
            stream.write(byte)


def images(tmp_path):
    np.savez(tmp_path / "images.npz", x=np.random.default_rng(0).random((30, 3, 8, 8)), y=np.arange(30) % 3)
    return tmp_path / "images.npz", CustomData()


def texts(tmp_path):
    lines = [f"{'word ' * (1 + n % 5)}{n},{'ab'[n % 2]}" for n in range(30)]
    (tmp_path / "texts.csv").write_text("text,label\n" + "\n".join(lines) + "\n")
    return tmp_path / "texts.csv", CustomData()


def series(tmp_path):
    lines = [f"{number},{step},{number * step % 7},{number % 2}" for number in range(20) for step in range(3 + number)]
    (tmp_path / "series.csv").write_text("id,t,a,label\n" + "\n".join(lines) + "\n")
    return tmp_path / "series.csv", CustomData(series_column="id", time_column="t")


def content_of(target):
    table = target.read()
    samples = [table.samples[n] for n in range(len(table))]
    samples = samples if isinstance(samples[0], str) else [sample.tobytes() for sample in samples]
    return samples, table.labels.tolist(), list(table.classes), table.splits.tolist()


@pytest.mark.parametrize("make", [images, texts, series])
def test_every_flipped_bit_of_a_converted_copy_is_detected_or_the_originals_are_read(make, tmp_path, monkeypatch):
    monkeypatch.setenv("MODGAP_DATA", str(tmp_path / "data"))
    path, custom_data = make(tmp_path)
    target = open_target(str(path), custom_data=custom_data)
    (copy,) = target.convert()
    expected = content_of(target)
    content = copy.read_bytes()
    changed = []
    for region, damaged in flips(content, regions_of(content), tries=10):
        copy.write_bytes(damaged)
        try:
            changed += [] if content_of(target) == expected else [region]
        except InputError:
            continue
    assert changed == []


def test_a_damaged_copy_is_converted_again(tmp_path, monkeypatch, modgap):
    monkeypatch.setenv("MODGAP_DATA", str(tmp_path / "data"))
    path = tmp_path / "images.npz"
    np.savez(path, x=np.random.default_rng(0).random((60, 3, 30, 30)), y=np.arange(60) % 3)
    assert modgap("data", "convert", path).returncode == 0
    (copy,) = (tmp_path / "data" / "converted").glob("*.safetensors")
    content = copy.read_bytes()
    damaged = bytearray(content)
    damaged[regions_of(content)["samples"][0] + 5] ^= 8
    copy.write_bytes(damaged)
    samples = open_target(str(path)).read().samples
    assert samples[59].shape == (3, 30, 30)
    with pytest.raises(InputError, match=rf"do not fit .* Convert the target again with: modgap data convert {path}"):
        samples[0]
    assert modgap("data", "convert", path).returncode == 0
    assert copy.read_bytes() == content


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("reader", ["map_npz", "read_npz"])
def test_every_flipped_bit_of_an_npz_file_is_detected_or_changes_nothing(tmp_path, save, reader):

    path = tmp_path / "a.npz"
    save(path, x=np.random.default_rng(0).random((50, 6)), y=np.arange(50), name=np.array(["ä", "b"]))
    read = getattr(array_formats, reader)
    expected = {name: (array.dtype, array.tolist()) for name, array in read(path).items()}
    content = path.read_bytes()
    changed = []
    for region, damaged in flips(content, {"file": (0, len(content))}, tries=1000):
        path.write_bytes(damaged)
        try:
            arrays = read(path)
        except InputError:
            continue
        if {name: (array.dtype, array.tolist()) for name, array in arrays.items()} != expected:
            changed.append(region)
    assert changed == []


def test_a_process_compares_the_crc_of_an_unchanged_file_once(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    np.savez(path, x=np.arange(1000))
    age(path)
    array_formats.map_npz(path)
    monkeypatch.setattr(array_formats, "release_pages", lambda array: pytest.fail("it was compared again"))
    np.testing.assert_array_equal(array_formats.map_npz(path)["x"], np.arange(1000))


def test_every_flipped_bit_of_a_note_makes_it_absent(tmp_path):
    from modgap.storage.json_records import read_note, write_note

    path = tmp_path / "key.json"
    write_note(path, {"sha256": "0" * 64, "size": 12})
    assert read_note(path) == {"sha256": "0" * 64, "size": 12}
    content = path.read_bytes()
    silent = []
    for _, damaged in flips(content, {"note": (0, len(content) - 1)}, tries=500):
        path.write_bytes(damaged)
        if read_note(path) not in (None, {"sha256": "0" * 64, "size": 12}):
            silent.append(damaged)
    assert silent == []
    path.write_bytes(content)
    shutil.copy(path, tmp_path / "other.json")
    assert read_note(tmp_path / "other.json") is None


# Runs, checkpoints and exported models


@pytest.fixture(name="run_folder")
def folder_of_a_run(tmp_path):
    """A folder of a finished run with all files that its record names."""
    folder = tmp_path / "run"
    run_file("run.json")(folder)
    (folder / "epochs").mkdir()
    for name in ("model.safetensors", "stage1.safetensors", "epochs/00002.safetensors"):
        save_file({"predictor.bias": np.arange(4, dtype=np.float32)}, folder / name)
    errors = SampleErrors(np.array([0.0, 1, 0, 0]), np.full(4, 0.25), np.arange(4), np.array([0.25]), None, 0)
    samples = SampleFile(np.arange(4), np.array([0, 1, 1, 1]), None, {"finetune": errors}, 2, None)
    write_sample_file(folder / "samples.npz", samples)
    write_record(folder, RECORD)
    return folder


def test_every_changed_digit_of_the_record_of_a_run_is_refused(run_folder):
    path = run_folder / "run.json"
    content = path.read_text()
    assert set(open_run(run_folder).record["files"]) == {
        "epochs/00002.safetensors", "inputs.safetensors", "metrics.jsonl", "model.safetensors", "samples.npz",
        "stage1.safetensors",
    }  # fmt: skip
    positions = [position for position, character in enumerate(content) if character.isdigit()]
    assert len(positions) > 300
    for position in positions:
        path.write_text(f"{content[:position]}{(int(content[position]) + 1) % 10}{content[position + 1 :]}")
        with pytest.raises(InputError, match=r"run\.json.*(does not fit its checksum|not valid JSON|Expecting|Extra)"):
            open_run(run_folder)
        if position % 20 == 0:
            for read in (read_folder, read_result_folder):
                with pytest.raises(InputError, match=r"run\.json.*(does not fit its checksum|not valid JSON)"):
                    read(run_folder)


def test_a_record_of_a_run_that_lost_its_checksum_is_refused(run_folder):
    path = run_folder / "run.json"
    path.write_text(path.read_text().replace('"digest"', '"digesu"'))
    for read in (open_run, read_folder, read_result_folder):
        with pytest.raises(InputError, match="does not fit its checksum, so it was damaged or changed"):
            read(run_folder)


@pytest.mark.parametrize("seed", range(3))
def test_every_flipped_bit_of_a_file_that_the_record_names_is_detected(run_folder, seed):
    run = open_run(run_folder)
    for name in run.record["files"]:
        path = run_folder / name
        content = path.read_bytes()
        assert run.checked(path) == path
        for _, damaged in flips(content, {"all": (0, len(content))}, 20, seed):
            path.write_bytes(damaged)
            with pytest.raises(InputError, match=r"does not fit its checksum, so it was damaged, or changed"):
                run.checked(path)
        path.write_bytes(content)
    damaged = bytearray((run_folder / "inputs.safetensors").read_bytes())
    damaged[-1] ^= 1
    (run_folder / "inputs.safetensors").write_bytes(damaged)
    with pytest.raises(InputError, match=r"inputs\.safetensors does not fit its checksum"):
        read_inputs(run)
    (run_folder / "inputs.safetensors").unlink()
    with pytest.raises(InputError, match=r"cannot read .*inputs\.safetensors"):
        read_inputs(run)
    shutil.copy(run_folder / "samples.npz", run_folder / "metrics.jsonl")
    assert "Learning curves" not in write_page(run_folder).read_text()
    (run_folder / "samples.npz").write_bytes((run_folder / "samples.npz").read_bytes() + b"\0")
    with pytest.raises(InputError, match=r"samples\.npz does not fit its checksum"):
        read_folder(run_folder)


def test_a_run_without_checksums_is_refused(run_folder):
    (run_folder / "run.json").write_text(json.dumps(RECORD))
    with pytest.raises(InputError, match=r"Cannot read .*run\.json"):
        open_run(run_folder)
    write_record(run_folder, RECORD | {"result": None})
    settings = {name: value for name, value in RECORD.items() if name not in ("schema", "kind", "result")}
    assert not prepare_run(run_folder, settings, resume=True).finished


def test_damaged_checkpoints_are_skipped(tmp_path):
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    best = tmp_path / "best-00001.safetensors"
    write_tensors(best, model.state_dict())
    for updates in (3, 6):
        RunFiles(tmp_path).save_checkpoint(Position(0, 1, 0, updates, best=BestEpoch(1, 0.25)), model, optimizer)
    newest = max((tmp_path / "checkpoints").iterdir())
    for path in newest.iterdir():
        content = path.read_bytes()
        for _, damaged in flips(content, {"all": (0, len(content))}, 60):
            path.write_bytes(damaged)
            assert latest_checkpoint(tmp_path)[0].total_updates == 3
        path.write_bytes(content)
    assert latest_checkpoint(tmp_path)[0].total_updates == 6
    content = bytearray(best.read_bytes())
    content[-1] ^= 1
    best.write_bytes(content)
    assert latest_checkpoint(tmp_path) is None


def test_every_flipped_bit_of_an_exported_model_is_detected(run_folder, tmp_path):
    run = open_run(run_folder)
    path = tmp_path / "model.safetensors"
    tensors = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(3), "c": torch.ones(3, dtype=torch.bfloat16)}
    write_model_file(run, tensors, read_inputs(run), path)
    content = path.read_bytes()
    copy, state, _ = read_model_file(path)
    assert copy.record == run.record
    assert {name: tensor.tolist() for name, tensor in state.items()} == {n: t.tolist() for n, t in tensors.items()}
    start = 8 + int.from_bytes(content[:8], "little")
    name = content.index(b'"modgap.digest"') + 1
    regions = {"header": (8, start), "name of the checksum": (name, name + 13), "tensors": (start, len(content))}
    for _, damaged in flips(content, regions, 200):
        path.write_bytes(damaged)
        with pytest.raises(InputError):
            read_model_file(path)


def test_a_model_file_that_lost_its_checksum_is_refused(run_folder, tmp_path):
    run = open_run(run_folder)
    path = tmp_path / "model.safetensors"
    write_model_file(run, {"a": torch.ones(2)}, read_inputs(run), path)
    path.write_bytes(path.read_bytes().replace(b'"modgap.digest"', b'"modgap.digesu"'))
    with pytest.raises(InputError, match="does not fit its checksum, so it was damaged or changed"):
        read_model_file(path)


def test_a_changed_digit_of_any_result_is_refused(tmp_path):
    path = tmp_path / "result.json"
    path.write_text(with_digest(format_json({"kind": "discrepancy", "schema": 2, "error": 0.30000000000000004})))
    assert read_json(path)["schema"] == 2
    content = path.read_text()
    for position in (position for position, character in enumerate(content) if character.isdigit()):
        path.write_text(f"{content[:position]}{9 - int(content[position])}{content[position + 1 :]}")
        for read in (read_folder, read_result_folder):
            with pytest.raises(InputError, match=r"result\.json.*(does not fit its checksum|not valid JSON)"):
                read(tmp_path)
