"""Reading of training samples: parts of sounds, workers, and the same bits for any number of them."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from modgap.errors import InputError
from modgap.forward.reading_ahead import Loader
from modgap.inputs.representations import chunk_spans, log_mel_spectrograms
from modgap.targets import TargetRequest, open_target
from modgap.targets.manifest import LogMel, load_manifest
from modgap.targets.samples import PartialSamples
from modgap.targets.sound import SoundFiles
from modgap.training.batches import BatchFeed
from modgap.training.train import train
from modgap.training.train_request import TrainRequest
from modgap.training.training_data import InputTransform, read_target_data
from tests.fixtures import audio
from tests.training import target_file

RATE = 8000


def sound(seconds: float, rate: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, round(seconds * rate)).astype(np.float32)


def write(path: Path, values: np.ndarray, rate: int) -> str:
    soundfile.write(path, values, rate, subtype="PCM_16" if path.suffix == ".flac" else "FLOAT")
    return str(path)


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
@pytest.mark.parametrize("stored", [RATE, 16_000, 22_050, 11_025, 4000])
def test_part_of_a_file_equals_that_of_the_whole_clip(tmp_path, suffix, stored):
    random = np.random.default_rng(stored)
    for number in range(4):
        path = write(tmp_path / f"{number}{suffix}", sound(random.uniform(0.3, 6), stored, number), stored)
        files = SoundFiles(((path,),), RATE)
        clip = files[0]
        assert isinstance(files, PartialSamples)
        assert files.length(0) == clip.shape[1]
        for _ in range(10):
            start, stop = sorted(random.integers(0, clip.shape[1] + 1, 2))
            if start < stop:
                part = files.part(0, start, stop)
                if stored == RATE:
                    assert np.array_equal(part, clip[:, start:stop])
                else:
                    np.testing.assert_allclose(part, clip[:, start:stop], atol=2e-5)


def test_part_of_overlapping_files_equals_that_of_the_joined_clip(tmp_path):
    paths = tuple(write(tmp_path / f"{n}.wav", sound(1, RATE, n), RATE) for n in range(7))
    files = SoundFiles((paths,), RATE, overlap=0.5)
    clip = files[0]
    assert files.length(0) == clip.shape[1] == 4 * RATE
    for start, stop in [(0, RATE), (4000, 12_000), (3999, 12_345), (24_000, 32_000), (31_999, 32_000), (0, 32_000)]:
        assert np.array_equal(files.part(0, start, stop), clip[:, start:stop])


def test_format_without_exact_parts_is_decoded_as_a_whole(tmp_path):
    assert SoundFiles(((str(tmp_path / "x.mp3"),),), RATE).length(0) is None


@pytest.mark.parametrize("seconds", [0.4, 1.0, 1.49, 1.5, 7.6])
def test_random_piece_is_one_of_the_pieces_of_the_whole_sample(tmp_path, seconds):
    options = LogMel(bands=8, window=128, hop=64, chunk=1.0, chunk_hop=0.5, frames=126)
    files = SoundFiles(((write(tmp_path / "x.wav", sound(seconds, RATE, 1), RATE),),), RATE)
    spectrograms = log_mel_spectrograms(files[0], RATE, options)
    assert len(spectrograms) == len(chunk_spans(files.length(0), RATE, options))
    spec = load_manifest(manifest(tmp_path)).input
    transform = InputTransform(spec, spectrograms[0].shape, np.zeros(1, np.float32), np.ones(1, np.float32))
    pieces = transform.pieces(files[0])
    drawn = [transform.random_piece(files, 0, np.random.default_rng(seed)) for seed in range(200)]
    numbers = {next(n for n, piece in enumerate(pieces) if np.array_equal(piece, one)) for one in drawn}
    assert numbers == set(range(len(pieces)))


def manifest(folder: Path) -> Path:
    """Write the manifest of a small target of sound with chunks, without files."""
    path = folder / "sound.toml"
    path.write_text(
        'schema = 1\nname = "small-sound"\ntitle = "x"\nmodality = "sound"\ntask = "classification"\nn_classes = 2\n'
        'install = "x"\nlicense = "x"\ncitation = "x"\npreprocessing = "x"\n'
        '[input]\nkind = "audio"\nshape = [1, -1]\nrate = 8000\nrepresentation = "log-mel"\n'
        "[input.log_mel]\nbands = 8\nwindow = 128\nhop = 64\nchunk = 1.0\nchunk_hop = 0.5\nframes = 126\n"
        '[reader]\nname = "audio"\n[reader.options]\nrate = 8000\n[[files]]\nrole = "data"\npath = "sounds"\n'
    )
    return path


def square(number: int) -> torch.Tensor:
    if number == 5:
        raise InputError("Sample 5 is damaged.")
    return torch.tensor([number**2])


@pytest.mark.parametrize("workers", [0, 1, pytest.param(3, marks=pytest.mark.long)])
def test_items_come_in_order_and_errors_keep_their_message(workers):
    found: list[int] = []
    with Loader(square, workers) as loader:
        with pytest.raises(InputError, match=r"^Sample 5 is damaged\.$"):
            found.extend(int(item) for item in loader.load(range(9)))
        assert found == [0, 1, 4, 9, 16]
        assert list(loader.load(range(0))) == []


def process_of(number: int) -> torch.Tensor:
    if number < 0:
        raise InputError("There is no such item.")
    return torch.tensor([os.getpid()])


@pytest.mark.long
def test_workers_stay_for_all_epochs_also_after_an_error():
    with Loader(process_of, 2) as loader:
        first = {int(item) for item in loader.load([0, 1, 2, 3])}
        with pytest.raises(InputError, match="no such item"):
            list(loader.load([4, -1, 5, 6]))
        second = {int(item) for item in loader.load([7, 8, 9, 10])}
    assert first == second
    assert len(first) == 2
    assert os.getpid() not in first


def run(folder: Path, target: str, workers: int, **options) -> dict[str, bytes]:
    settings = ("stage2.epochs=2", "stage2.batch_size=8", f"loader_workers={workers}", "stage2.learning_rate=1e-3")
    done = train(
        TrainRequest("finetune", "vit-fashion", TargetRequest(target), (*settings, *options.get("more", ()))), folder
    )
    return {name: (done.folder / name).read_bytes() for name in ("model.safetensors", "samples.npz")}


@pytest.mark.long
def test_runs_have_the_same_bits_for_any_number_of_workers(tmp_path):
    target = str(target_file(tmp_path, "classification", samples=60))
    augmented = {"more": ("stage2.augmentation=crop-flip",)}
    results = [run(tmp_path / str(workers), target, workers, **augmented) for workers in (0, 2)]
    assert results[0] == results[1]


def test_batches_of_sound_have_the_same_bits_for_any_number_of_workers(tmp_path):
    path = manifest(tmp_path)
    for split in ("train", "val", "test"):
        for name, hertz in (("dog", 440), ("cat", 990)):
            (tmp_path / "sounds" / split / name).mkdir(parents=True)
            for n, seconds in enumerate((0.6, 1.4, 3.2)):
                write(tmp_path / "sounds" / split / name / f"{n}.wav", audio.tone(hertz, seconds, 16_000), 16_000)
    data = read_target_data(open_target(str(path), data_dir=tmp_path))
    updates = [[data.train[:2], data.train[2:4]], [data.train[4:]]]
    found = []
    for workers in (0, 1, 2):
        feed = BatchFeed(data, 3, torch.device("cpu"), torch.float32, "spec-augment", workers)
        with feed.updates(0) as loader:
            read = list(loader.load([(1, 0, parts) for parts in updates]))
        found.append([batch.x for batches, _ in read for batch in batches])
    assert [x.shape[0] for x in found[0]] == [2, 2, 2]
    for others in found[1:]:
        assert all(torch.equal(x, y) for x, y in zip(found[0], others, strict=True))


def test_run_may_be_resumed_with_another_number_of_workers(tmp_path):
    target = str(target_file(tmp_path, "classification", samples=60))
    first = TrainRequest("finetune", "vit-fashion", TargetRequest(target), ("stage2.epochs=1", "loader_workers=1"))
    train(first, tmp_path / "run")
    again = TrainRequest("finetune", "vit-fashion", TargetRequest(target), ("stage2.epochs=1", "loader_workers=2"))
    assert train(again, tmp_path / "run", resume=True).finished
    assert json.loads((tmp_path / "run" / "run.json").read_text())["recipe"]["loader_workers"] == 1
