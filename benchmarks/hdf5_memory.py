"""Measure the peak memory of a process that reads every input and output of a 2 GB file in the layout of PDEBench.

    python benchmarks/hdf5_memory.py [--quick] [--folder DIR]    about a minute on two cores, 2 GB of disk

The goal is a peak under 1 GB of resident memory for any size of the file. The script prints the size of the file and
the peak of the process that reads it, in MB.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

TIMES, POINTS, BLOCK = 51, 1024, 64
PARTS = {name: {"names": ["tensor"], "axes": "tx", "frame": frame} for name, frame in (("x", 0), ("y", -1))}


def write(path: Path, simulations: int) -> None:
    """Write the data set `tensor` (simulations, 51, 1024) as float32, without compression."""
    import h5py

    block = np.random.default_rng(0).standard_normal((BLOCK, TIMES, POINTS), dtype=np.float32)
    with h5py.File(path, "w") as file:
        data = file.create_dataset("tensor", (simulations, TIMES, POINTS), "f4")
        for start in range(0, simulations, BLOCK):
            data[start : start + BLOCK] = block[: min(BLOCK, simulations - start)] + start


def read_all(path: Path) -> float:
    """Read every pair of input and output, and return the peak memory of this process in MB."""
    from modgap.targets.readers import get_reader

    table = get_reader("hdf5")({"data": [path]}, **PARTS)
    total = sum(float(table.samples[row].sum() + table.targets[row].sum()) for row in range(len(table)))
    assert np.isfinite(total)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Write the file, read it in another process, and print both sizes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a file of 0.4 GB")
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="folder for the temporary file")
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read:
        print(f"{read_all(options.read):.0f}")
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = Path(folder) / "large.hdf5"
        write(path, 2_000 if options.quick else 10_000)
        command = [sys.executable, __file__, "--read", str(path)]
        peak = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        print(f"file {path.stat().st_size / 1e6:.0f} MB, peak {float(peak):.0f} MB")


if __name__ == "__main__":
    main()
