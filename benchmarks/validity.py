"""Check p-values, intervals and paired differences by simulations in which the truth is available.

    python benchmarks/validity.py run [--cells NAME,...] [--quick]    resumable; results/validity.jsonl
    python benchmarks/validity.py report                              tables in Markdown

Each cell is a design: how samples, groups and classes are drawn, and what counts equally. A cell has three simulations:

- level: logits that do not depend on the labels. P(p <= a) must not exceed a by more than 2 standard errors.
- coverage: logits that do. The 95 % intervals of the held-out errors of `search` and `soft`, and of the paired
  differences of two sources, must cover their expectations, which are the means over all data sets.
- paired null: two sources that are equally good. P(p <= a) as above.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from modgap.discrepancy.estimator_chain import EstimatorInputs, fit_search_maps
from modgap.discrepancy.held_out import fold_errors, fold_predictions
from modgap.discrepancy.held_out_problem import HeldOutProblem, held_out_problem
from modgap.discrepancy.permutation_test import soft_permutation_test
from modgap.discrepancy.probabilities import Probabilities
from modgap.discrepancy.soft import soft_errors
from modgap.label_space import label_space
from modgap.statistics.intervals import SampleErrors, estimate_mean
from modgap.statistics.paired import paired_difference
from modgap.statistics.weights import choose_weighting

RESULTS = Path(__file__).with_name("results") / "validity.jsonl"
LEVELS = (0.05, 0.1, 0.25)
PERMUTATIONS = 99
SPLITS = 20
LEVEL_SETS = 1000
COVERAGE_SETS = 400
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


CELLS = (
    Cell("N=40 K=2", 2, 20, balanced(40, 2)),
    Cell("N=100 K=5", 5, 50, balanced(100, 5)),
    Cell("N=200 K=10", 10, 100, balanced(200, 10)),
    Cell("N=500 K=4", 4, 30, balanced(500, 4)),
    Cell("N=400 K=20", 20, 60, balanced(400, 20), signal=2.0),
    Cell("N=2000 K=50", 50, 80, balanced(2000, 50), signal=2.0),
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
    second = np.where(rng.random(len(labels)) < 0.3, rng.integers(0, cell.n_classes, len(labels)), labels)
    shared = rng.standard_normal((len(sizes), cell.n_source_classes))
    logits = []
    for source in range(2):
        own = 0.7 * shared + 0.7 * rng.standard_normal(shared.shape)
        noise = NOISE_BETWEEN * own[groups] + NOISE_WITHIN * rng.standard_normal((len(labels), cell.n_source_classes))
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


def problem_of(cell: Cell, data: Data, source: int, seed: int, splits: int = SPLITS) -> HeldOutProblem:
    """Return the held-out problem of one source."""
    space = label_space(data.labels)
    array = data.logits[source]
    array.flags.writeable = False
    inputs = EstimatorInputs(array, ("search",), space.n_classes, seed=seed)
    weighting = choose_weighting(cell.weight, data.groups)
    problem = held_out_problem(inputs, space, data.groups, weighting, splits, None)
    assert problem is not None
    return problem


def errors_of(problem: HeldOutProblem) -> dict[str, SampleErrors]:
    """Return the errors of `soft` and `search`."""
    probabilities = Probabilities(problem.inputs.logits, problem.labeling.space.rows)
    soft, maps = soft_errors(probabilities, problem.labeling)
    search_maps = fit_search_maps(problem.inputs, problem.labeling, maps)
    predicted = fold_predictions(problem.inputs.logits, problem.labeling, search_maps)
    return {"soft": problem.average(soft), "search": problem.average(fold_errors(problem.labeling, predicted))}


def simulate_level(cell: Cell, seed: int) -> dict:
    """Return the p-value of one data set without signal."""
    data = draw(cell, seed, signal=0.0)
    problem = problem_of(cell, data, 0, seed)
    test = soft_permutation_test(problem, Probabilities(data.logits[0], problem.labeling.space.rows), PERMUTATIONS)
    return {"p": test.null.p_value}


def simulate_power(cell: Cell, seed: int) -> dict:
    """Return the p-value of one data set with signal."""
    data = draw(cell, seed, signal=cell.signal)
    problem = problem_of(cell, data, 0, seed)
    test = soft_permutation_test(problem, Probabilities(data.logits[0], problem.labeling.space.rows), PERMUTATIONS)
    return {"p": test.null.p_value}


def simulate_coverage(cell: Cell, seed: int) -> dict:
    """Return the values and intervals of one data set with signal, and of the difference of two sources."""
    data = draw(cell, seed, signal=cell.signal, common=0.3)
    errors = [errors_of(problem_of(cell, data, source, seed)) for source in range(2)]
    record: dict = {}
    for name in ("soft", "search"):
        mean = estimate_mean(errors[0][name])
        record[name] = [mean.value, mean.interval, mean.standard_error]
        difference = paired_difference(errors[0][name], errors[1][name])
        record[f"{name} difference"] = [difference.value, difference.interval, difference.standard_error]
    return record


def simulate_paired_null(cell: Cell, seed: int) -> dict:
    """Return the p-values of the difference of two sources that are equally good."""
    data = draw(cell, seed, signal=cell.signal)
    errors = [errors_of(problem_of(cell, data, source, seed)) for source in range(2)]
    return {name: paired_difference(errors[0][name], errors[1][name]).p_value for name in ("soft", "search")}


SIMULATIONS = {
    "level": (simulate_level, LEVEL_SETS),
    "power": (simulate_power, COVERAGE_SETS // 2),
    "coverage": (simulate_coverage, COVERAGE_SETS),
    "paired null": (simulate_paired_null, COVERAGE_SETS),
}
