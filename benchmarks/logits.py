"""The logits pass beside a bare timm loop at the same batch size.

    python benchmarks/logits.py [--quick]    about a minute on two cores

The bare loop has its images ready in memory at the model's input size; the pass starts from the
target's samples, so it scales, converts and resizes them too, in a thread ahead of the model.
Wanted: at most 1.1 times the bare loop. Also: images a second by batch size and memory layout, which
is why the CPU's default batch is small and convolutional models run channels-last.
"""

import argparse
import time

import numpy as np
import torch

from modgap.cli.output import print_table
from modgap.forward.batched_inference import output_batches
from modgap.inputs.native_embedding import native_embedding
from modgap.sources import open_source
from modgap.targets import open_target


def bare_loop(model, images: torch.Tensor, batch: int) -> float:
    """Seconds for all images, channels-last."""
    began = time.perf_counter()
    with torch.inference_mode():
        for start in range(0, len(images), batch):
            model(images[start : start + batch].contiguous(memory_format=torch.channels_last))
    return time.perf_counter() - began


def our_pass(source, table, embedding, rows, batch: int) -> float:
    """Seconds for the same number of samples, from the samples to logits."""
    began = time.perf_counter()
    for _ in output_batches(source, table.samples, rows, embedding, device=torch.device("cpu"), batch_size=batch):
        pass
    return time.perf_counter() - began


def rate_by_batch(source, size: int, layout: torch.memory_format) -> list[str]:
    """Images a second at batches of 4 to 64."""
    model, rates = source.model.to(memory_format=layout), []
    for batch in (4, 8, 16, 32, 64):
        images = torch.randn(batch, 3, size, size).contiguous(memory_format=layout)
        with torch.inference_mode():
            model(images)
            began, done = time.perf_counter(), 0
            while time.perf_counter() - began < 1.5:
                model(images)
                done += batch
        rates.append(f"{done / (time.perf_counter() - began):.0f}")
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="128 samples and two rounds")
    given = parser.parse_args()
    samples, rounds = (128, 2) if given.quick else (512, 5)
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
            pairs = [
                (bare_loop(source.model, images, batch), our_pass(source, table, embedding, rows, batch))
                for _ in range(rounds)
            ]
            ratios = sorted(ours / bare for bare, ours in pairs)
            bare, ours = (samples / min(column) for column in zip(*pairs, strict=True))
            spread = f"{ratios[0]:.3f} - {ratios[-1]:.3f}"
            lines.append([str(size), str(batch), f"{bare:.0f}", f"{ours:.0f}", f"{np.median(ratios):.3f}", spread])
    columns = ("pixels", "batch", "bare images/s", "modgap images/s", "time ratio, median", "range")
    print_table(columns, lines, f"efficientnet-lite0, {samples} samples, {rounds} pairs, float32 on the CPU")
    layouts = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}
    source = open_source("efficientnet-lite0").load(128)
    rates = [[name, *rate_by_batch(source, 128, layout)] for name, layout in layouts.items()]
    print_table(("layout", "4", "8", "16", "32", "64"), rates, "images a second by batch size, 128 pixels")


if __name__ == "__main__":
    main()
