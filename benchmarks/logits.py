"""Compare the time of the pass that computes logits with a bare timm loop of the same batch size.

    python benchmarks/logits.py [--quick]    about twelve minutes on two cores

The bare loop has its images in memory at the model's input size. The pass starts from the samples of the target, so it
also scales, converts and resizes them, in a thread ahead of the model. The pass keeps the memory that the model frees,
which the C library otherwise returns after each batch, so there are two bare loops, without and with kept memory. The
goal is at most 1.1 times the time of the latter. The second table has photographs as JPEG files of 256 pixels: the bare
loop opens, resizes and scales them with Pillow and PyTorch before each batch, and the pass has 0, 1 or 2 loader
workers. The third table has images per second by batch size and memory layout. It is the reason for the small default
batch size on a CPU, and for the channels-last layout of convolutional models.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image

from modgap.cli.output import print_table
from modgap.forward.batched_inference import output_batches
from modgap.inputs.native_embedding import native_embedding
from modgap.process.resources import reused_memory
from modgap.sources import open_source
from modgap.targets import open_target


def bare_loop(model, images: torch.Tensor, batch: int) -> float:
    """Return the seconds for all images in the channels-last layout."""
    began = time.perf_counter()
    with torch.inference_mode():
        for start in range(0, len(images), batch):
            model(images[start : start + batch].contiguous(memory_format=torch.channels_last))
    return time.perf_counter() - began


def with_kept_memory(loop: Callable[..., float], *arguments) -> float:
    """Return the seconds of a bare loop that keeps freed memory, as the pass does."""
    with reused_memory():
        return loop(*arguments)


def modgap_pass(source, table, embedding, rows, batch: int, workers: int = 0) -> float:
    """Return the seconds for the same number of samples, from the samples to the logits."""
    options = {"device": torch.device("cpu"), "batch_size": batch, "loader_workers": workers}
    began = time.perf_counter()
    for _ in output_batches(source, table.samples, rows, embedding, **options):
        pass
    return time.perf_counter() - began


def write_photographs(folder: Path, n: int) -> None:
    """Write random crops of the photographs of scikit-learn as JPEG files in two folders, one for each photograph."""
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(0)
    for number, photograph in enumerate(load_sample_images().images):
        (folder / str(number)).mkdir(parents=True)
        for copy in range(n // 2):
            top, left = (int(rng.integers(0, size - 256)) for size in photograph.shape[:2])
            crop = Image.fromarray(photograph[top : top + 256, left : left + 256])
            crop.save(folder / str(number) / f"{copy:04}.jpg", quality=90)


def bare_file_loop(model, paths: list[Path], size: int, batch: int, source_input) -> float:
    """Return the seconds for all files, read and prepared in the loop."""
    mean = torch.tensor(source_input.mean)[:, None, None]
    sd = torch.tensor(source_input.sd)[:, None, None]
    began = time.perf_counter()
    with torch.inference_mode():
        for start in range(0, len(paths), batch):
            images = []
            for path in paths[start : start + batch]:
                image = Image.open(path).convert("RGB").resize((size, size), Image.Resampling.BICUBIC)
                images.append((torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255 - mean) / sd)
            model(torch.stack(images).contiguous(memory_format=torch.channels_last))
    return time.perf_counter() - began


def compare_files(samples: int, rounds: int, batch: int = 16, size: int = 224) -> None:
    """Print the images per second of the bare loop and of the pass, from JPEG files."""
    with TemporaryDirectory() as folder:
        write_photographs(Path(folder), samples)
        target = open_target(folder)
        table = target.read()
        source = open_source("efficientnet-lite0").load(size)
        embedding = native_embedding(target.manifest.input, table, source.input)
        source.model.to(memory_format=torch.channels_last)
        paths = sorted(Path(folder).glob("*/*.jpg"))
        rows = np.arange(len(paths))
        times: dict[str, list[float]] = {}
        for _ in range(rounds):
            loop = (source.model, paths, size, batch, source.input)
            times.setdefault("bare loop", []).append(bare_file_loop(*loop))
            times.setdefault("bare, kept memory", []).append(with_kept_memory(bare_file_loop, *loop))
            for workers in (0, 1, 2):
                seconds = modgap_pass(source, table, embedding, rows, batch, workers)
                times.setdefault(f"{workers} workers", []).append(seconds)
        lines = [
            [
                name,
                f"{len(rows) / min(seconds):.1f}",
                *(f"{np.median(np.array(seconds) / times[other]):.3f}" for other in ("bare loop", "bare, kept memory")),
            ]
            for name, seconds in times.items()
        ]
        title = f"efficientnet-lite0 at {size} pixels, {len(rows)} JPEG files, batches of {batch}, {rounds} rounds"
        print_table(("pass", "images/s", "time to bare", "to kept"), lines, title)


def rate_by_batch(source, size: int, layout: torch.memory_format) -> list[str]:
    """Return the images per second at batch sizes 4 to 64."""
    model = source.model.to(memory_format=layout)
    rates = []
    for batch in (4, 8, 16, 32, 64):
        images = torch.randn(batch, 3, size, size).contiguous(memory_format=layout)
        with torch.inference_mode(), reused_memory():
            model(images)
            done = 0
            began = time.perf_counter()
            while time.perf_counter() - began < 1.5:
                model(images)
                done += batch
        rates.append(f"{done / (time.perf_counter() - began):.0f}")
    return rates


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="128 samples and two rounds")
    options = parser.parse_args()
    samples, rounds = (128, 2) if options.quick else (512, 5)
    target = open_target("mnist5k")
    table = target.read()
    rows = np.arange(0, 5000, 5000 // samples)[:samples]
    lines = []
    for size in (128, 224):
        source = open_source("efficientnet-lite0").load(size)
        embedding = native_embedding(target.manifest.input, table, source.input)
        source.model.to(memory_format=torch.channels_last)
        images = torch.randn(samples, 3, size, size)
        for batch in (16, 64):
            bare_loop(source.model, images[:batch], batch)
            seconds = np.array(
                [
                    [
                        bare_loop(source.model, images, batch),
                        with_kept_memory(bare_loop, source.model, images, batch),
                        modgap_pass(source, table, embedding, rows, batch),
                    ]
                    for _ in range(rounds)
                ]
            )
            rates = [f"{samples / best:.0f}" for best in seconds.min(0)]
            ratios = seconds[:, 2:] / seconds[:, :2]
            spread = f"{ratios[:, 1].min():.3f} - {ratios[:, 1].max():.3f}"
            lines.append([str(size), str(batch), *rates, *(f"{ratio:.3f}" for ratio in np.median(ratios, 0)), spread])
    columns = ("pixels", "batch", "bare, images/s", "kept", "modgap", "time to bare", "to kept", "range")
    print_table(columns, lines, f"efficientnet-lite0, {samples} samples, {rounds} rounds, float32 on the CPU")
    compare_files(samples, rounds)
    layouts = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}
    source = open_source("efficientnet-lite0").load(128)
    rates = [[name, *rate_by_batch(source, 128, layout)] for name, layout in layouts.items()]
    print_table(("layout", "4", "8", "16", "32", "64"), rates, "images per second by batch size, 128 pixels")


if __name__ == "__main__":
    main()
