"""Measure time and memory for an ImageNet-22k head: 20,000 samples, 21,841 source classes, 100 target classes.

    /usr/bin/time -v python benchmarks/large_head.py FILE [--in-memory]    about a minute on two cores

The script writes 1.75 GB of logits with signal to FILE if the file does not exist. Then it maps the file, so that no
array of this size is copied. The goals are a peak under 2.5 GB of resident memory, mapped pages included, and the same
values as with logits in memory.
"""

import argparse
import resource
import time
from pathlib import Path

import numpy as np

from modgap.discrepancy import estimate

N, C, K = 20_000, 21_841, 100


def labels() -> np.ndarray:
    """Return the target class of each sample, shape (N,)."""
    return np.arange(N) % K


def write(path: Path) -> None:
    """Write standard normal logits, with the logit of the sample's class raised for a third of the samples."""
    table = np.memmap(path, np.float32, "w+", shape=(N, C))
    for first in range(0, N, 500):
        rng = np.random.default_rng(first)
        block = rng.standard_normal((500, C), dtype=np.float32)
        source_classes = 7 * labels()[first : first + 500] + 3
        block[np.arange(500), source_classes] += np.where(rng.random(500) < 0.33, 4, 0).astype(np.float32)
        table[first : first + 500] = block
    table.flush()


def main() -> None:
    """Write the file, or estimate the discrepancy from it and print values, time and memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--in-memory", action="store_true")
    options = parser.parse_args()
    if not options.file.exists():
        write(options.file)
        print(f"wrote {options.file}. Run the same command again to measure.")
        return
    logits = np.memmap(options.file, np.float32, "r", shape=(N, C))
    if options.in_memory:
        logits = np.array(logits)
    began = time.perf_counter()
    result = estimate(logits, labels(), null=0, spread=0, threads=2)
    for name, row in result.estimates.items():
        print(f"{name}: {row.solution.value:.5f}, held-out {row.held_out:.5f}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    storage = "in memory" if options.in_memory else "mapped"
    print(f"{time.perf_counter() - began:.1f} s, peak {peak:.2f} GB resident, logits {storage}")


if __name__ == "__main__":
    main()
