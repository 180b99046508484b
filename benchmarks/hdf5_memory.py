"""How much memory reading PDEBench's layout takes: a file of 2 GB, every x and y read in a process of its own.

    python benchmarks/hdf5_memory.py [--quick] [--folder DIR]    about a minute on two cores, 2 GB of disk

Wanted: under 1 GB resident at the peak, whatever the file's size. The first figure is the file's size, the
second the peak of the process that reads it, both in MB.
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
    """`tensor` (simulations, 51, 1024), float32, not compressed."""
    import h5py

    block = np.random.default_rng(0).standard_normal((BLOCK, TIMES, POINTS), dtype=np.float32)
    with h5py.File(path, "w") as file:
        data = file.create_dataset("tensor", (simulations, TIMES, POINTS), "f4")
        for start in range(0, simulations, BLOCK):
            data[start : start + BLOCK] = block[: min(BLOCK, simulations - start)] + start


def read_all(path: Path) -> float:
    """Read every pair; the process's peak in MB."""
    from modgap.targets.readers import get_reader

    table = get_reader("hdf5")({"data": [path]}, **PARTS)
    total = sum(float(table.samples[row].sum() + table.targets[row].sum()) for row in range(len(table)))
    assert np.isfinite(total)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Write the file, read it in another process, print both sizes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a file of 0.4 GB")
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="where the file is made")
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.read:
        print(f"{read_all(given.read):.0f}")
        return
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        path = Path(folder) / "large.hdf5"
        write(path, 2_000 if given.quick else 10_000)
        command = [sys.executable, __file__, "--read", str(path)]
        peak = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        print(f"file {path.stat().st_size / 1e6:.0f} MB, peak {float(peak):.0f} MB")


if __name__ == "__main__":
    main()
