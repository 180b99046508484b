"""Measure time and memory of the default estimate with an ImageNet-22k head.

    /usr/bin/time -v python benchmarks/large_head.py FILE [--size paper] [--in-memory]

`--size large` has 20,000 samples, 21,841 source classes and 100 target classes (1.75 GB; some minutes on two cores).
`--size paper` has the sizes of the paper's own command on FSD50K: 51,197 samples with one to three of 200 labels each
(4.5 GB; about eight minutes). The script writes logits with signal to FILE if the file does not exist. Then it
maps the file, so that no array of this size is copied. The goal is a peak of resident memory, mapped pages included, of
at most 1.2 times the size of the file, and the same values as with logits in memory.
"""

import argparse
import resource
import time
from pathlib import Path

import numpy as np

from modgap.discrepancy import estimate

C = 21_841
SIZES = {"large": (20_000, 100), "paper": (51_197, 200)}
"""Numbers of samples and of target classes."""
MORE_LABELS = 0.3
"""Probability of each of two further labels in the paper's size."""


def classes(size: str) -> np.ndarray:
    """Return the first target class of each sample, shape (N,)."""
    n_samples, n_classes = SIZES[size]
    return np.arange(n_samples) % n_classes


def labels(size: str) -> np.ndarray:
    """Return the target classes (N,), or 0/1 labels (N, K) in the paper's size."""
    first = classes(size)
    if size == "large":
        return first
    n_samples, n_classes = SIZES[size]
    rng = np.random.default_rng(0)
    table = np.zeros((n_samples, n_classes), np.int8)
    table[np.arange(n_samples), first] = 1
    for _ in range(2):
        more = rng.random(n_samples) < MORE_LABELS
        table[more, rng.integers(0, n_classes, int(more.sum()))] = 1
    return table


def write(path: Path, size: str) -> None:
    """Write standard normal logits, with the logit of the sample's class raised for a third of the samples."""
    first_classes = classes(size)
    table = np.memmap(path, np.float32, "w+", shape=(len(first_classes), C))
    for first in range(0, len(first_classes), 500):
        rng = np.random.default_rng(first)
        of_block = first_classes[first : first + 500]
        block = rng.standard_normal((len(of_block), C), dtype=np.float32)
        raised = np.where(rng.random(len(of_block)) < 0.33, 4, 0).astype(np.float32)
        block[np.arange(len(of_block)), 7 * of_block + 3] += raised
        table[first : first + 500] = block
    table.flush()


def main() -> None:
    """Write the file, or estimate the discrepancy from it and print values, time and memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--in-memory", action="store_true")
    parser.add_argument("--size", choices=SIZES, default="large")
    options = parser.parse_args()
    if not options.file.exists():
        write(options.file, options.size)
        print(f"wrote {options.file}. Run the same command again to measure.")
        return
    shape = (SIZES[options.size][0], C)
    logits = np.memmap(options.file, np.float32, "r", shape=shape)
    if options.in_memory:
        logits = np.array(logits)
    began = time.perf_counter()
    result = estimate(logits, labels(options.size), threads=2)
    for name, row in result.estimates.items():
        held_out = "-" if row.held_out is None else f"{row.held_out:.5f} {row.held_out_interval}"
        print(f"{name}: {row.solution.value:.5f}, held-out {held_out}")
    print(f"permuted labels: {result.null}")
    print("seconds by stage: " + ", ".join(f"{name} {seconds:.1f}" for name, seconds in result.seconds.items()))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    storage = "in memory" if options.in_memory else "mapped"
    print(f"{time.perf_counter() - began:.1f} s, peak {peak:.2f} GB resident, logits {storage}")


if __name__ == "__main__":
    main()
