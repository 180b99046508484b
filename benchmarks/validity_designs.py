"""Designs of simulated samples: how samples, groups and classes are drawn, and what counts equally in an error."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

NOISE_WITHIN = 0.55
NOISE_BETWEEN = 0.84
"""Standard deviations of logits within and between groups."""


@dataclass(frozen=True)
class Cell:
    """A design of samples.

    Attributes:
        name: Name of the cell.
        n_classes: Number K of target classes.
        n_source_classes: Number C of source classes.
        sizes: Function of a random generator that returns the class of each group and its number of samples. Samples
            without groups are groups of one sample.
        weight: What counts equally; None for the default.
        grouped: True if the groups are passed.
        signal: Strength of the dependence of logits on labels in the coverage simulation.
        mixed: Share of the samples of a group that have a random class of their own.
        multi_label: True if a sample has a second label with probability 0.3.
        searches: True to simulate the search too, which takes long with many classes.
        order: Correlation of neighbors in a group, both of their labels, which are mixed, and of their logits.
        shared: Factor of the noise between groups that both sources have, and of that of their own; 0 for their own
            alone.
        permutations_by: How labels move inside a group of several classes in the permutation test.
    """

    name: str
    n_classes: int
    n_source_classes: int
    sizes: Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]]
    weight: str | None = None
    grouped: bool = False
    signal: float = 1.5
    mixed: float = 0.0
    multi_label: bool = False
    searches: bool = True
    order: float | None = None
    shared: float = 0.7
    permutations_by: str = "shuffle"


@dataclass(frozen=True)
class Data:
    """One data set.

    Attributes:
        labels: Class of each sample, shape (N,), or 0/1 labels (N, K).
        groups: Group of each sample, shape (N,), or None.
        logits: Logits of two sources, each of shape (N, C).
    """

    labels: np.ndarray
    groups: np.ndarray | None
    logits: tuple[np.ndarray, np.ndarray]


def balanced(n_groups: int, n_classes: int, size: int = 1) -> Callable:
    """Return groups of one size, with classes in turn."""
    return lambda _rng: (np.arange(n_groups) % n_classes, np.full(n_groups, size))


def long_tail(n_samples: int, n_classes: int) -> Callable:
    """Return single samples of classes whose frequencies fall as 1/rank; every class occurs at least twice."""

    def draw(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        shares = 1 / np.arange(1, n_classes + 1)
        tail = rng.choice(n_classes, n_samples - 2 * n_classes, p=shares / shares.sum())
        return np.concatenate([np.repeat(np.arange(n_classes), 2), tail]), np.ones(n_samples, np.int64)

    return draw


def sizes_by_class(n_groups: int, n_classes: int, sizes: tuple[int, ...]) -> Callable:
    """Return groups whose number of samples depends on their class."""
    classes = np.arange(n_groups) % n_classes
    return lambda _rng: (classes, np.array(sizes)[classes % len(sizes)])


def random_sizes(n_groups: int, n_classes: int, smallest: int, largest: int) -> Callable:
    """Return groups of random size."""
    return lambda rng: (np.arange(n_groups) % n_classes, rng.integers(smallest, largest + 1, n_groups))


def two_sizes(n_groups: int, n_classes: int, sizes: tuple[int, int]) -> Callable:
    """Return groups of two sizes in random order, half of them of each size."""
    return lambda rng: (np.arange(n_groups) % n_classes, rng.permutation(np.resize(sizes, n_groups)))


def _in_order(rng: np.random.Generator, n_groups: int, size: int, columns: int, correlation: float) -> np.ndarray:
    """Return normal values of variance 1, whose neighbors in a group are correlated, shape (groups * size, columns)."""
    values = rng.standard_normal((n_groups, size, columns))
    for i in range(1, size):
        values[:, i] = correlation * values[:, i - 1] + np.sqrt(1 - correlation**2) * values[:, i]
    return values.reshape(-1, columns)


FEW_UNITS = (
    Cell("N=60 K=3, C=1000", 3, 1000, balanced(60, 3), signal=0.7, searches=False),
    Cell("12 groups K=3 C=1000", 3, 1000, balanced(12, 3, 10), grouped=True, signal=0.7, searches=False),
    Cell("16 groups K=4, C=1000", 4, 1000, balanced(16, 4, 10), grouped=True, signal=0.4, searches=False),
    Cell(
        "12 mixed groups K=3, C=1000", 3, 1000, balanced(12, 3, 10), grouped=True, signal=0.4, mixed=1.0, searches=False
    ),
    Cell("12 groups K=3, sizes 60 and 3", 3, 200, two_sizes(12, 3, (60, 3)), grouped=True, signal=0.4, searches=False),
    Cell(
        "12 groups K=3, sizes 60 and 3, samples", 3, 200, two_sizes(12, 3, (60, 3)), "samples", grouped=True,
        signal=0.4, searches=False,
    ),
)  # fmt: skip
"""Few groups or samples, and errors that are skewed: most outputs are near 1/C, and few samples have much more."""
OWN_NOISE = tuple(
    Cell(
        f"{n_groups} groups K={n_classes}, own noise", n_classes, 20, balanced(n_groups, n_classes, 10), grouped=True,
        signal=0.8, searches=False, shared=0.0,
    )
    for n_groups, n_classes in ((12, 3), (20, 4), (40, 4))
)  # fmt: skip
"""Groups of one class whose samples are alike, each source in its own way: models depend on which groups they see."""
ORDERED = tuple(
    Cell(
        f"10 groups in order K=3, {correlation}, {by}", 3, 30, balanced(10, 3, 40), grouped=True, signal=0.2,
        searches=False, order=correlation, permutations_by=by,
    )
    for correlation in (0.0, 0.8, 0.95)
    for by in ("shuffle", "shifts")
)  # fmt: skip
"""Groups of several classes whose samples are in the order of time."""

CELLS = (
    Cell("N=40 K=2", 2, 20, balanced(40, 2)),
    Cell("N=100 K=5", 5, 50, balanced(100, 5)),
    Cell("N=200 K=10", 10, 40, balanced(200, 10)),
    Cell("N=500 K=4", 4, 30, balanced(500, 4)),
    Cell("N=400 K=20", 20, 60, balanced(400, 20), signal=2.0),
    Cell("N=2000 K=50", 50, 80, balanced(2000, 50), signal=2.0, searches=False),
    Cell("N=200 K=5, few errors", 5, 50, balanced(200, 5), signal=5.0),
    Cell("N=100 K=8, long tail", 8, 40, long_tail(100, 8)),
    Cell("N=100 K=8, long tail, classes", 8, 40, long_tail(100, 8), weight="classes"),
    Cell("N=400 K=8, long tail, classes", 8, 40, long_tail(400, 8), weight="classes"),
    Cell("4 groups K=2", 2, 20, balanced(4, 2, 20), grouped=True),
    Cell("8 groups K=2", 2, 20, balanced(8, 2, 20), grouped=True),
    Cell("10 groups K=2, random sizes", 2, 20, random_sizes(10, 2, 5, 40), grouped=True),
    Cell("20 groups K=4", 4, 40, balanced(20, 4, 10), grouped=True),
    Cell("50 groups K=5", 5, 40, balanced(50, 5, 10), grouped=True),
    Cell("20 groups K=2, sizes 30 and 5 by class", 2, 60, sizes_by_class(20, 2, (30, 5)), grouped=True),
    Cell("20 groups K=4, sizes 30 and 5 by class", 4, 60, sizes_by_class(20, 4, (30, 5)), grouped=True),
    Cell("20 groups K=2, sizes by class, samples", 2, 60, sizes_by_class(20, 2, (30, 5)), "samples", grouped=True),
    Cell("20 groups K=2, sizes by class, classes", 2, 60, sizes_by_class(20, 2, (30, 5)), "classes", grouped=True),
    Cell("50 groups K=5, random sizes, classes", 5, 40, random_sizes(50, 5, 2, 30), "classes", grouped=True),
    Cell("20 mixed groups K=3", 3, 30, balanced(20, 3, 12), grouped=True, mixed=1.0),
    Cell("50 groups K=4, half mixed", 4, 30, balanced(50, 4, 8), grouped=True, mixed=0.5),
    Cell("N=200 K=6, multi-label", 6, 40, balanced(200, 6), multi_label=True),
    Cell("30 groups K=5, multi-label", 5, 40, balanced(30, 5, 8), grouped=True, multi_label=True),
    *FEW_UNITS,
    *ORDERED,
    *OWN_NOISE,
)


def draw(cell: Cell, seed: int, *, signal: float, common: float = 0.0) -> Data:
    """Draw one data set of a cell.

    Args:
        cell: The design.
        seed: Seed of the data set.
        signal: Strength of the dependence of the logits on the labels.
        common: Part of the second source's signal that it lacks, so that the sources differ.
    """
    rng = np.random.default_rng([seed, zlib.crc32(cell.name.encode())])
    profiles = np.random.default_rng(zlib.crc32(cell.name.encode())).standard_normal((2, 64, cell.n_source_classes))
    group_classes, sizes = cell.sizes(rng)
    groups = np.repeat(np.arange(len(sizes)), sizes)
    labels = group_classes[groups]
    if cell.mixed:
        moved = rng.random(len(labels)) < cell.mixed
        labels = np.where(moved, rng.integers(0, cell.n_classes, len(labels)), labels)
    if cell.order is not None:
        labels = _in_order(rng, len(sizes), int(sizes[0]), cell.n_classes, cell.order).argmax(axis=1)
    second = np.where(rng.random(len(labels)) < 0.3, rng.integers(0, cell.n_classes, len(labels)), labels)
    shared = rng.standard_normal((len(sizes), cell.n_source_classes))
    logits = []
    for source in range(2):
        own = cell.shared * shared + (0.7 if cell.shared else 1.0) * rng.standard_normal(shared.shape)
        if cell.order is None:
            within = rng.standard_normal((len(labels), cell.n_source_classes))
        else:
            within = _in_order(rng, len(sizes), int(sizes[0]), cell.n_source_classes, cell.order)
        noise = NOISE_BETWEEN * own[groups] + NOISE_WITHIN * within
        strength = signal * (1 - common * source)
        # Labels have the same profiles for both sources, so that the sources are exchangeable without `common`.
        mean = profiles[0][labels] + (profiles[0][second] if cell.multi_label else 0)
        logits.append((profiles[1][:1] + strength * mean + noise).astype(np.float32))
    table = labels
    if cell.multi_label:
        table = np.zeros((len(labels), cell.n_classes), np.int64)
        table[np.arange(len(labels)), labels] = 1
        table[np.arange(len(labels)), second] = 1
    return Data(table, groups if cell.grouped else None, (logits[0], logits[1]))
