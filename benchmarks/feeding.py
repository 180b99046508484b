"""Samples a second that reach the trainer: clips of sound of 1 to 30 seconds, with 0, 1 and 2 loader workers.

    python benchmarks/feeding.py

The clips are noise in the layout of FSD50K (chunks of a second that overlap by half, in files of their own), and whole
clips at twice the rate. The naive way decodes a whole clip, makes the spectrogram of each chunk, and then draws one.
"""

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import soundfile
import torch

from modgap.inputs.representations import chunk_spans
from modgap.targets import named_manifest
from modgap.targets.samples import Table
from modgap.targets.sound import SoundFiles
from modgap.training.batches import BatchFeed, chunks, generator
from modgap.training.training_data import InputTransform, TargetData, stack_pieces

SPEC = named_manifest("fsd50k").input
RATE = 22_050
BATCH = 16


def write_clips(folder: Path, n_clips: int, layout: str) -> SoundFiles:
    """Write clips of random length to a folder, and return them as samples."""
    random = np.random.default_rng(0)
    stored = RATE if layout == "chunks" else 2 * RATE
    clips = []
    for number in range(n_clips):
        values = random.uniform(-0.5, 0.5, int(random.uniform(1, 30) * stored)).astype(np.float32)
        spans = chunk_spans(len(values), stored, SPEC.log_mel) if layout == "chunks" else [(0, len(values))]
        paths = []
        for part, (start, stop) in enumerate(spans):
            paths.append(str(folder / f"{layout}-{number:03d}_{part:02d}.wav"))
            soundfile.write(paths[-1], values[start:stop], stored)
        clips.append(tuple(paths))
    return SoundFiles(tuple(clips), RATE, 0.5 if layout == "chunks" else 0.0)


def target_data(samples: SoundFiles) -> TargetData:
    """Return the clips as a target; only what the feed reads is set."""
    n = len(samples)
    table = Table(samples, np.zeros(n, np.int64), ["noise"], np.zeros(n, np.int64))
    transform = InputTransform(SPEC, (1, 96, 102), np.zeros(1, np.float32), np.ones(1, np.float32))
    data = TargetData.__new__(TargetData)
    for name, value in {"table": table, "transform": transform, "output": _Output(), "train": np.arange(n)}.items():
        object.__setattr__(data, name, value)
    return data


class _Output:
    task = "classification"


def naive_batches(data: TargetData, updates: list[np.ndarray]) -> list[torch.Tensor]:
    """Read the batches as a plain loop does: all pieces of a clip, then one of them."""
    batches = []
    for rows in updates:
        pieces = []
        for row in rows:
            random = generator(0, 1, 0, int(row))
            whole = data.transform.pieces(data.table.samples[int(row)])
            pieces.append(whole[int(random.integers(len(whole)))])
        batches.append(stack_pieces(pieces, torch.device("cpu"), torch.float32))
    return batches


def main() -> None:
    """Print the samples a second of each way, and whether the values agree."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=200)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for layout in ("chunks", "whole clips at 44.1 kHz"):
        with TemporaryDirectory() as folder:
            data = target_data(write_clips(Path(folder), arguments.clips, layout))
            updates = chunks(data.train, BATCH)
            start = time.perf_counter()
            expected = naive_batches(data, updates)
            naive = arguments.clips / (time.perf_counter() - start)
            print(f"{layout}: {naive:.0f} samples a second naively")
            first = None
            for workers in (0, 1, 2):
                feed = BatchFeed(data, 0, torch.device("cpu"), torch.float32, "none", workers)
                start = time.perf_counter()
                with feed.updates(0) as loader:
                    loaded = [batch[0].x for batch, _ in loader.load([(0, 0, [rows]) for rows in updates])]
                rate = arguments.clips / (time.perf_counter() - start)
                first = first or loaded
                same = all(torch.equal(x, y) for x, y in zip(loaded, first, strict=True))
                error = max(float((x - y).abs().max()) for x, y in zip(loaded, expected, strict=True))
                print(
                    f"  {workers} workers: {rate:.0f} samples a second, {rate / naive:.1f} times as many; same bits as "
                    f"with 0 workers: {same}; largest difference to the naive way {error:.2g} dB"
                )


if __name__ == "__main__":
    main()
