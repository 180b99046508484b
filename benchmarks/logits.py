"""Compare the time of the pass that computes logits with a bare timm loop of the same batch size.

    python benchmarks/logits.py [--quick]    about a minute on two cores

The bare loop has its images in memory at the model's input size. The pass starts from the samples of the target, so it
also scales, converts and resizes them, in a thread ahead of the model. The goal is at most 1.1 times the time of the
bare loop. The second table has images per second by batch size and memory layout. It is the reason for the small
default batch size on a CPU, and for the channels-last layout of convolutional models.
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
    """Return the seconds for all images in the channels-last layout."""
    began = time.perf_counter()
    with torch.inference_mode():
        for start in range(0, len(images), batch):
            model(images[start : start + batch].contiguous(memory_format=torch.channels_last))
    return time.perf_counter() - began


def modgap_pass(source, table, embedding, rows, batch: int) -> float:
    """Return the seconds for the same number of samples, from the samples to the logits."""
    began = time.perf_counter()
    for _ in output_batches(source, table.samples, rows, embedding, device=torch.device("cpu"), batch_size=batch):
        pass
    return time.perf_counter() - began


def rate_by_batch(source, size: int, layout: torch.memory_format) -> list[str]:
    """Return the images per second at batch sizes 4 to 64."""
    model = source.model.to(memory_format=layout)
    rates = []
    for batch in (4, 8, 16, 32, 64):
        images = torch.randn(batch, 3, size, size).contiguous(memory_format=layout)
        with torch.inference_mode():
            model(images)
            done = 0
            began = time.perf_counter()
            while time.perf_counter() - began < 1.5:
                model(images)
                done += batch
        rates.append(f"{done / (time.perf_counter() - began):.0f}")
    return rates


def main() -> None:
    """Print both tables."""
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
            pairs = [
                (bare_loop(source.model, images, batch), modgap_pass(source, table, embedding, rows, batch))
                for _ in range(rounds)
            ]
            ratios = sorted(modgap_seconds / bare_seconds for bare_seconds, modgap_seconds in pairs)
            rates = [f"{samples / min(column):.0f}" for column in zip(*pairs, strict=True)]
            spread = f"{ratios[0]:.3f} - {ratios[-1]:.3f}"
            lines.append([str(size), str(batch), *rates, f"{np.median(ratios):.3f}", spread])
    columns = ("pixels", "batch size", "bare loop, images/s", "modgap, images/s", "median time ratio", "range")
    print_table(columns, lines, f"efficientnet-lite0, {samples} samples, {rounds} pairs, float32 on the CPU")
    layouts = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}
    source = open_source("efficientnet-lite0").load(128)
    rates = [[name, *rate_by_batch(source, 128, layout)] for name, layout in layouts.items()]
    print_table(("layout", "4", "8", "16", "32", "64"), rates, "images per second by batch size, 128 pixels")


if __name__ == "__main__":
    main()
