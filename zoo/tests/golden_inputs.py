"""Inputs of which `zoo/tools/golden_sources.py` recorded the outputs of the original models."""

import json
from pathlib import Path
from typing import Any

import numpy as np

PYTHON = '''"""Counts of words."""

import sys
from collections import Counter


def count_words(path: str) -> Counter[str]:
    """Return how often each word of a file occurs."""
    with open(path, encoding="utf-8") as file:
        return Counter(word.lower() for line in file for word in line.split())


if __name__ == "__main__":
    for word, count in count_words(sys.argv[1]).most_common(10):
        print(f"{count:6d} {word}")
'''
HTML = """<!DOCTYPE html>
<html lang="en">
  <head><meta charset="utf-8"><title>Tides</title><link rel="stylesheet" href="style.css"></head>
  <body>
    <h1>Tides of the week</h1>
    <table><tr><th>day</th><th>high</th><th>low</th></tr><tr><td>Monday</td><td>04:12</td><td>10:31</td></tr></table>
    <p>All times are local. <a href="about.html">About these tables</a></p>
  </body>
</html>
"""
SQL = """CREATE TABLE harbors (id INTEGER PRIMARY KEY, name TEXT NOT NULL, depth REAL);
INSERT INTO harbors (name, depth) VALUES ('Cuxhaven', 15.8), ('Brest', 11.5), ('Galway', 8.2);
SELECT name, depth FROM harbors WHERE depth > 10 ORDER BY depth DESC LIMIT 5;
UPDATE harbors SET depth = depth - 0.4 WHERE name = 'Brest';
"""


def texts() -> dict[str, str | bytes]:
    """Return short files by their types, of which one is longer than what a model of bytes reads."""
    rows = "\n".join(f'{{"id": {number}, "tide": {np.sin(number):.4f}}}' for number in range(200))
    noise = np.random.default_rng(0).integers(256, size=3000, dtype=np.uint8).tobytes()
    return {"python": PYTHON, "html": HTML, "sql": SQL, "jsonl": rows, "randombytes": noise}


def waveforms(rate: int, length: int) -> np.ndarray:
    """Return a tone with vibrato, clicks at 120 a minute, a rising tone and noise, (4, length)."""
    seconds = np.arange(length) / rate
    vibrato = 0.1 * np.sin(2 * np.pi * 0.02 * rate * seconds + 3 * np.sin(2 * np.pi * 5 * seconds))
    clicks = 0.5 * np.exp(-60 * (seconds % 0.5)) * np.sin(2 * np.pi * 0.05 * rate * seconds)
    rising = 0.2 * np.sin(2 * np.pi * (0.01 + 0.01 * seconds / seconds[-1]) * rate * seconds)
    noise = 0.05 * np.random.default_rng(0).standard_normal(length)
    # All have some noise, because models take the logarithm of silence.
    quiet = 1e-3 * np.random.default_rng(1).standard_normal((3, length))
    return np.stack([vibrato + quiet[0], clicks + quiet[1], rising + quiet[2], noise]).astype(np.float32)


def images(side: int) -> np.ndarray:
    """Return noise and a disk on a gradient, (2, 3, side, side), with values from 0 to 1."""
    noise = np.random.default_rng(0).random((3, side, side), dtype=np.float32)
    height, width = np.mgrid[:side, :side] / side
    disk = np.hypot(height - 0.5, width - 0.5) < 0.3
    return np.stack([noise, np.stack([height, width, disk]).astype(np.float32)])


def golden(name: str) -> dict[str, Any]:
    """Return the recorded outputs of a source."""
    record: dict[str, Any] = json.loads((Path(__file__).parent / "golden" / f"{name}.json").read_text(encoding="utf-8"))
    return record
