"""Small files of fastText classifiers, written without fastText."""

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

MAGIC, VERSION = 793_712_314, 12
HIERARCHICAL, SUPERVISED = 1, 3
WORDS = ("</s>", "red", "apple", "ä")
LABELS = (("fruit", 30), ("color", 20), ("other", 5))


def packed_matrix(rng: np.random.Generator, rows: int, columns: int, *, has_norms: bool) -> bytes:
    """Return a matrix of codes, in parts of two columns of which the last one may be narrower."""
    n_parts = -(-columns // 2)
    out = struct.pack("<?qqi", has_norms, rows, columns, rows * n_parts)
    out += rng.integers(0, 256, rows * n_parts, dtype=np.uint8).tobytes()
    out += struct.pack("<iiii", columns, n_parts, 2, columns - 2 * (n_parts - 1))
    out += rng.standard_normal(columns * 256).astype("<f4").tobytes()
    if has_norms:
        out += rng.integers(0, 256, rows, dtype=np.uint8).tobytes() + struct.pack("<iiii", 1, 1, 1, 1)
        out += rng.random(256).astype("<f4").tobytes()
    return out


def plain_matrix(rng: np.random.Generator, rows: int, columns: int) -> bytes:
    """Return a matrix of numbers."""
    return struct.pack("<qq", rows, columns) + rng.standard_normal(rows * columns).astype("<f4").tobytes()


def write_fasttext(
    path: Path,
    *,
    words: Sequence[str] = WORDS,
    labels: Sequence[tuple[str, int]] = LABELS,
    dim: int = 3,
    loss: int = HIERARCHICAL,
    pieces: tuple[int, int] = (2, 3),
    buckets: int = 50,
    kept: Sequence[tuple[int, int]] | None = None,
    is_quantized: bool = False,
    seed: int = 0,
) -> None:
    """Write a classifier with random vectors, of which all buckets have rows or only the kept ones."""
    rng = np.random.default_rng(seed)
    out = struct.pack("<ii", MAGIC, VERSION)
    out += struct.pack("<12id", dim, 5, 5, 1, 5, 1, loss, SUPERVISED, buckets, *pieces, 100, 1e-4)
    out += struct.pack(
        "<iiiqq", len(words) + len(labels), len(words), len(labels), 1000, -1 if kept is None else len(kept)
    )
    for name, count, kind in [(word, 9, 0) for word in words] + [(f"__label__{name}", n, 1) for name, n in labels]:
        out += name.encode() + b"\0" + struct.pack("<qb", count, kind)
    out += b"".join(struct.pack("<ii", *pair) for pair in kept or ())
    rows = len(words) + (buckets if kept is None else len(kept))
    out += struct.pack("<?", is_quantized)
    out += packed_matrix(rng, rows, dim, has_norms=True) if is_quantized else plain_matrix(rng, rows, dim)
    out += struct.pack("<?", False) + plain_matrix(rng, len(labels), dim)
    path.write_bytes(out)
