"""Seconds and peak memory of commands on large inputs, with all defaults.

    python benchmarks/load.py FOLDER [--only NAME] [--list]    hours on two cores, and 3 GB of disk

Each row makes its input in FOLDER once, runs the real command as a process, and appends its figures to
FOLDER/load.jsonl. Rows that are in this file are not run again, so an interrupted run goes on where it stopped. Peak
memory is that of the process and of its children, each at its own time. It includes the pages of mapped files, which
the system takes back when it needs them; private memory is what the process alone holds, asked for five times a second.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from modgap.cli.output import print_table

CHUNK = 20_000
"""Rows that are made at a time."""
IMAGES = 50_000
CLASSES = 10


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        make: Function that writes the input into a folder, and returns its path.
        arguments: Arguments of the command, in which INPUT stands for this path.
    """

    make: Callable[[Path], Path]
    arguments: str


def logits(n_samples: int, n_sources: int, n_targets: int) -> Callable[[Path], Path]:
    """Return a function that writes logits of which those of one class in three are right."""

    def make(folder: Path) -> Path:
        rng = np.random.default_rng(0)
        labels = rng.permutation(np.arange(n_samples) % n_targets)
        np.save(folder / "labels.npy", labels)
        path = folder / "logits.npy"
        rows = np.lib.format.open_memmap(path, "w+", np.float32, (n_samples, n_sources))
        for start in range(0, n_samples, CHUNK):
            part = rng.standard_normal((min(CHUNK, n_samples - start), n_sources), dtype=np.float32)
            part[np.arange(len(part)), labels[start : start + CHUNK] % n_sources] += 1.5
            rows[start : start + CHUNK] = part
        rows.flush()
        return path

    return make


def images(folder: Path) -> Path:
    """Write a folder of small images in ten classes that differ by brightness."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for number in range(IMAGES):
        label = number % CLASSES
        pixels = (rng.random((28, 28)) * 128 + 12 * label).astype(np.uint8)
        path = folder / "images" / f"class-{label}" / f"{number:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return folder / "images"


def table(folder: Path) -> Path:
    """Write a CSV of a million rows with sixteen columns of numbers and a label."""
    path = folder / "rows.csv"
    rng = np.random.default_rng(0)
    with path.open("w", encoding="utf-8") as stream:
        stream.write(",".join([*(f"x{column}" for column in range(16)), "label"]) + "\n")
        for _ in range(1_000_000 // CHUNK):
            labels = rng.integers(CLASSES, size=(CHUNK, 1))
            values = rng.standard_normal((CHUNK, 16)) + labels
            np.savetxt(stream, np.hstack([values, labels]), ["%.4f"] * 16 + ["%d"], ",")
    return path


ROWS = {
    "200,000 x 1,000 logits, K = 10": Row(logits(200_000, 1_000, 10), "discrepancy --logits INPUT"),
    "200,000 x 1,000 logits, K = 1,000": Row(logits(200_000, 1_000, 1_000), "discrepancy --logits INPUT"),
    "2,000,000 x 100 logits, K = 10": Row(logits(2_000_000, 100, 10), "discrepancy --logits INPUT"),
    "50,000 images": Row(images, "discrepancy --source vit-fashion --target INPUT"),
    "CSV of 1,000,000 rows": Row(table, "discrepancy --source vit-fashion --target INPUT --kind table"),
}


def input_of(name: str, folder: Path) -> Path:
    """Return the input of a row, which is made at most once: it appears complete or not at all."""
    own = folder / f"input-{list(ROWS).index(name)}"
    note = own / "path"
    if not note.exists():
        shutil.rmtree(own, ignore_errors=True)
        own.mkdir(parents=True)
        note.write_text(str(ROWS[name].make(own)))
    return Path(note.read_text())


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder."""
    return sum(file.stat().st_size for file in path.rglob("*")) if path.is_dir() else path.stat().st_size


def private_bytes(pid: int) -> int:
    """Return the memory of a process without the pages of mapped files; 0 if it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon")), 0)


def run(name: str, folder: Path) -> dict:
    """Run the command of a row, and return its figures."""
    path = input_of(name, folder)
    arguments = [str(path) if text == "INPUT" else text for text in ROWS[name].arguments.split()]
    command = [sys.executable, "-c", "from modgap.__main__ import main; main()", *arguments]
    environment = {**os.environ, "MODGAP_CACHE": str(folder / "cache"), "HF_HUB_OFFLINE": "1"}
    began = time.monotonic()
    with (folder / "output.txt").open("w") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
        private = 0
        ended = 0
        while not ended:
            private = max(private, private_bytes(process.pid))
            time.sleep(0.2)
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
    return {
        "row": name,
        "code": os.waitstatus_to_exitcode(status),
        "seconds": time.monotonic() - began,
        "processor_seconds": usage.ru_utime + usage.ru_stime,
        "peak_bytes": usage.ru_maxrss * 1024,
        "private_bytes": private,
        "input_bytes": size_of(path),
        "load": os.getloadavg()[0],
        "last_line": (folder / "output.txt").read_text().strip().rpartition("\n")[2],
    }


def format_row(record: dict) -> list[str]:
    """Return the cells of a row."""
    megabytes = [record[name] / 1e6 for name in ("input_bytes", "peak_bytes", "private_bytes")]
    cells = [f"{value:,.0f}" for value in (record["seconds"], record["processor_seconds"], *megabytes)]
    ratio = f"{record['peak_bytes'] / record['input_bytes']:.2f}"
    return [record["row"], *cells, ratio, "done" if record["code"] == 0 else record["last_line"][:60]]


def main() -> None:
    """Run the rows that are missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="Folder of the inputs, the cache and the results.")
    parser.add_argument("--only", choices=list(ROWS), help="Run this row alone.")
    parser.add_argument("--list", action="store_true", help="Print the finished rows, and run nothing.")
    options = parser.parse_args()
    folder = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    results = folder / "load.jsonl"
    lines = results.read_text().splitlines() if results.exists() else []
    records = {record["row"]: record for record in map(json.loads, lines)}
    done = {name for name, record in records.items() if record["code"] == 0}
    missing = [name for name in ROWS if name not in done and options.only in (None, name)]
    for name in [] if options.list else missing:
        records[name] = run(name, folder)
        with results.open("a") as stream:
            stream.write(json.dumps(records[name]) + "\n")
    columns = ["input", "seconds", "processor seconds", "input MB", "peak MB", "private MB", "peak / input", "end"]
    print_table(columns, [format_row(records[name]) for name in ROWS if name in records], "load")


if __name__ == "__main__":
    main()
