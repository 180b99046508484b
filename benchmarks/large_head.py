"""An ImageNet-22k head: 20,000 samples, 21,841 source classes, 100 target classes, from a mapped file.

    /usr/bin/time -v python benchmarks/large_head.py FILE [--in-memory]    about a minute on two cores

Writes 1.75 GB of logits with signal to FILE unless it is there. Mapped, nothing of that size is copied;
wanted is a peak of less than 2.5 GB resident, mapped pages included, and the same values as in memory.
"""

import argparse
import resource
import time
from pathlib import Path

import numpy as np

from modgap.discrepancy import estimate

N, C, K = 20_000, 21_841, 100


def labels() -> np.ndarray:
    return np.arange(N) % K


def write(path: Path) -> None:
    """Standard normal logits; a third of the samples have their class's logit raised."""
    table = np.memmap(path, np.float32, "w+", shape=(N, C))
    for first in range(0, N, 500):
        rng = np.random.default_rng(first)
        block = rng.standard_normal((500, C), dtype=np.float32)
        own = labels()[first : first + 500]
        block[np.arange(500), 7 * own + 3] += np.where(rng.random(500) < 0.33, 4, 0).astype(np.float32)
        table[first : first + 500] = block
    table.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--in-memory", action="store_true")
    given = parser.parse_args()
    if not given.file.exists():
        write(given.file)
        print(f"wrote {given.file}; run again to measure")
        return
    logits = np.memmap(given.file, np.float32, "r", shape=(N, C))
    held = np.array(logits) if given.in_memory else logits
    began = time.perf_counter()
    result = estimate(held, labels(), null=0, spread=0, threads=2)
    for name, one in result.estimates.items():
        print(f"{name}: {one.solution.value:.5f}, held-out {one.held_out:.5f}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    how = "in memory" if given.in_memory else "mapped"
    print(f"{time.perf_counter() - began:.1f} s, peak {peak:.2f} GB resident, logits {how}")


if __name__ == "__main__":
    main()
