"""Figures of the device at hand: loader, pass, waits and copies of training, memory, and a step of MoNA.

    python -m benchmarks.device [--device auto] [--images 512] [--image-source NAME] [--sound-source NAME] [--skip-mona]

The first lines name the device. On a machine without a GPU, waits, copies and bytes are those of a fake device, which
computes on the CPU and counts what a GPU would wait for; they are exact and do not depend on the load. All else is
measured on the device. Rates are medians of `--repeats` runs. The bare loop stacks the samples, which are in memory,
calls the input and the model of the source, and copies the outputs to the CPU, batch by batch.
"""

import argparse
import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.mona_step import compare_steps, describe_device, print_rows
from modgap.forward.batched_inference import output_batches
from modgap.forward.sample_request import SampleRequest
from modgap.inputs.native_embedding import native_embedding
from modgap.process.resources import choose_device
from modgap.sources import ImageInput, Source, open_source
from modgap.targets import TargetRequest
from modgap.targets.manifest import InputSpec
from modgap.targets.samples import ArraySamples, Samples, Table
from modgap.training import train as trainer
from modgap.training.checkpoint import RunFiles
from modgap.training.loop import run_training_loop
from modgap.training.train_request import TrainRequest, set_up_run
from tests.fake_device import Traffic, fake_device
from tests.training import surrogate_file, target_file

SIZE = 224
BATCH = 32
RATE = 16_000
READ_TOGETHER = 10
COUNTED = (
    ("finetune", ()), ("l2-sp", ()), ("replay", ()), ("mona", ("stage1.route=exact",)),
    ("mona", ("stage1.route=finite-difference",)),
)  # fmt: skip
"""Methods and settings whose updates are counted."""


class NoModel(nn.Module):
    """A model that does nothing: one output for each image."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the first value of each image (n, 1)."""
        return x[:, 0, 0, :1]


def labeled(samples: Samples) -> Table:
    """Return samples with two classes."""
    n = len(samples)
    return Table(samples, np.arange(n) % 2, splits=np.zeros(n, np.int64))


def images(n: int, size: int) -> Table:
    """Return random images (3, size, size) with values from 0 to 1."""
    return labeled(ArraySamples(np.random.default_rng(0).random((n, 3, size, size), dtype=np.float32)))


def clips(n: int) -> Table:
    """Return clips of noise of one second."""
    rng = np.random.default_rng(0)
    return labeled([(0.1 * rng.standard_normal((1, RATE))).astype(np.float32) for _ in range(n)])


def run_pass(source: Source, data: Table, device: torch.device, workers: int | None) -> Iterator[np.ndarray]:
    """Return the outputs of a source on all samples, batch by batch."""
    kind = source.input.kind
    embedding = native_embedding(InputSpec(kind=kind, rate=RATE if kind == "audio" else None), data, source.input)
    rows = np.arange(len(data.samples))
    return output_batches(
        source, data.samples, rows, embedding, device=device, batch_size=BATCH, loader_workers=workers
    )


def run_bare(source: Source, data: Table, device: torch.device) -> Iterator[torch.Tensor]:
    """Return the outputs of a bare loop over samples in memory, batch by batch."""
    model = source.model.to(device)
    for first in range(0, len(data.samples), BATCH):
        span = range(first, min(first + BATCH, len(data.samples)))
        pieces = [np.asarray(data.samples[row]) for row in span]
        if not isinstance(source.input, ImageInput):
            pieces = [piece[0] for piece in pieces]
        with torch.inference_mode():
            yield model(source.input.batch(pieces, device)).cpu()


def rate(run: Callable[[], Iterator[object]], n: int, repeats: int) -> tuple[float, float]:
    """Return samples a second, and samples a second of this process's processors, each the median of several runs."""
    seconds, used = [], []
    for _ in range(repeats + 1):
        start, start_used = time.perf_counter(), time.process_time()
        for _ in run():
            pass
        seconds.append(time.perf_counter() - start)
        used.append(time.process_time() - start_used)
    return n / statistics.median(seconds[1:]), n / statistics.median(used[1:])


def measure_loader(device: torch.device, n: int, repeats: int) -> None:
    """Print how fast images reach a model that does nothing."""
    source = replace(open_source("random:timm:resnet18").load(SIZE), model=NoModel())
    data = images(n, SIZE)
    for workers in (0, 1, 2):
        wall, processor = rate(lambda workers=workers: run_pass(source, data, device, workers), n, repeats)
        print(
            f"loader, {workers} workers: {wall:,.0f} images a second, {processor:,.0f} a processor second of this "
            "process"
        )


def measure_pass(name: str, data: Table, device: torch.device, repeats: int) -> None:
    """Print how fast a source is, beside a bare loop, and the memory that the pass takes on a GPU."""
    n = len(data.samples)
    source = open_source(name).load(SIZE if isinstance(data.samples, ArraySamples) else None)
    bare, _ = rate(lambda: run_bare(source, data, device), n, repeats)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    ours, _ = rate(lambda: run_pass(source, data, device, None), n, repeats)
    memory = f", {torch.cuda.max_memory_allocated(device) / 1e6:,.0f} MB at most" if device.type == "cuda" else ""
    print(f"pass, {name}: {ours:,.1f} samples a second, {ours / bare:.2f} times a bare loop{memory}")


@contextlib.contextmanager
def counting_device() -> Iterator[Traffic]:
    """Yield the traffic of the fake device, which all trainings within the block choose."""
    plain = trainer.choose_device
    with fake_device() as fake:
        trainer.choose_device = lambda _: fake.device
        try:
            yield fake.traffic
        finally:
            trainer.choose_device = plain


def count_updates(method: str, settings: tuple[str, ...]) -> None:
    """Print the waits, copies and bytes of an update on the fake device, in the first stage of a method."""
    counts: dict[str, list[Traffic]] = {}
    with tempfile.TemporaryDirectory() as name, counting_device() as traffic:
        folder = Path(name)
        target = TargetRequest(str(target_file(folder, "classification", samples=80)))
        short = ("stage1.epochs=1", "stage2.epochs=1", "stage1.batch_size=4", "stage2.batch_size=4")
        chosen = (f"stage1.surrogate={surrogate_file(folder)}", *short, "stage1.surrogate_batch=8", *settings)
        request = TrainRequest(
            method, "random:timm:test_vit", target, chosen, samples=SampleRequest(input_size=32)
        )  # fmt: skip

        def note(stage: str, _share: float) -> None:
            counts.setdefault(stage, []).append(Traffic(traffic))

        source, setup, _ = set_up_run(request)
        run_training_loop(trainer.build_training(request, source, setup, RunFiles(), progress=note))
    # The first count is from before the first update.
    before, after = (next(iter(counts.values()))[number] for number in (1, 1 + READ_TOGETHER))
    print_traffic(" ".join((f"update of {method}", *settings)), before, after, READ_TOGETHER)


def count_pass() -> None:
    """Print the waits, copies and bytes of a batch of the pass on the fake device."""
    with fake_device() as fake:
        source = open_source("random:timm:test_vit").load(SIZE)
        counts = [Traffic(fake.traffic) for _ in run_pass(source, images(4 * BATCH, SIZE), fake.device, 0)]
    print_traffic(f"batch of the pass, {BATCH} images", counts[0], counts[2], 2)


def print_traffic(name: str, before: Traffic, after: Traffic, n: int) -> None:
    """Print what happened between two counts, for each of n updates or batches."""
    values = {
        key: (after[key] - before[key]) / n for key in ("waits", "copies in", "copies out", "bytes in", "bytes out")
    }
    print(f"{name}: " + ", ".join(f"{value:,.4g} {key}" for key, value in values.items()))


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--image-source", default="random:timm:vit_tiny_patch16_224")
    parser.add_argument("--sound-source", help="source of sound; without it no clips are measured")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--skip-mona", action="store_true", help="leave out the step of MoNA, which takes minutes")
    parser.add_argument("--only-counts", action="store_true", help="count waits, copies and bytes alone")
    options = parser.parse_args()
    device = choose_device(options.device)
    print(describe_device(str(device)))
    count_pass()
    for method, settings in COUNTED:
        count_updates(method, settings)
    if options.only_counts:
        return
    measure_loader(device, options.images, options.repeats)
    measure_pass(options.image_source, images(options.images, SIZE), device, options.repeats)
    if options.sound_source:
        measure_pass(options.sound_source, clips(options.images), device, options.repeats)
    if not options.skip_mona:
        steps = argparse.Namespace(repeats=5, rounds=1, device=str(device))
        print_rows(compare_steps(16, steps))


if __name__ == "__main__":
    main()
