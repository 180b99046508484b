"""Check the intervals of `modgap distortion` by simulations in which the true values are available.

    python benchmarks/distortion_validity.py [--quick]    resumable; results/distortion_validity.jsonl

Similarity: features X, and Y that is c X plus an independent copy of X, so that Procrustes is c and CKA is c^2 in the
population, or a mean of c or c^2 over directions. c is one number, or .95 in every second direction and 0 in the others
(-1.0 in the output), so that half of the singular values are 0. `classes` are ten clusters, `heavy` are tails of a t
distribution. Kernel CKA is compared with its mean over 60 samples of 1,000, and the neighbor overlap with its mean
over the data sets, because its expected value depends on the number of samples. `before` is the interval that modgap
used earlier: the value, plus and minus 1.96 standard errors of the plug-in.

Probes: the truth is the expected error, on 20,000 new samples in 4,000 new groups, of probes that are fitted on two
thirds of a sample. `before` is the percentile bootstrap over the test samples or groups of one split. Two equally good
encoders are compared: `paired` if they differ by noise of each sample, `own` if each has effects of its own on whole
groups, and `repeats` is the latter with the spread between repeats in place of the jackknife.

Each share has its standard error. The last line is the time in core seconds.
"""

import argparse
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from result_log import ResultLog
from scipy import stats

from modgap.distortion import probe_evaluation
from modgap.distortion.probe_cross_validation import cross_validate_probe
from modgap.distortion.probe_evaluation import evaluate_probe
from modgap.distortion.similarity import similarity
from modgap.probes.folds import stratified_folds
from modgap.probes.single_thread import single_blas_thread
from modgap.statistics.intervals import SampleErrors
from modgap.statistics.paired import paired_difference

RESULTS = Path(__file__).with_name("results") / "distortion_validity.jsonl"
SETS = {"linear_cka": 400, "kernel_cka": 200, "procrustes": 200, "knn_overlap": 100}
PROBE_SETS = {"nearest-mean": 200, "ridge": 100, "linear": 60}
HALF = -1.0
"""Stands for a strength of .95 in every second direction and 0 in the others."""
Interval = tuple[float, float]


@dataclass(frozen=True)
class SimilarityCell:
    """Design of two encoders' features.

    Attributes:
        measure: Name of the similarity.
        samples: Number of samples n.
        width: Number of features D.
        strength: Correlation c of the features, or `HALF`.
        kind: `normal`, `classes` or `heavy`: tails of a t distribution with 10 degrees of freedom.
        groups: Number of groups; 0 if samples are independent.
        sets: Number of data sets.
    """

    measure: str
    samples: int
    width: int
    strength: float
    kind: str
    groups: int
    sets: int


@dataclass(frozen=True)
class ProbeCell:
    """Design of a probe's samples.

    Attributes:
        probe: Name of the probe.
        samples: Number of samples n.
        groups: Number of groups; 0 if samples are independent.
        mixed: True if the samples of a group have classes of their own.
        sets: Number of data sets.
    """

    probe: str
    samples: int
    groups: int
    mixed: bool
    sets: int


def bootstrap_interval(wrong: np.ndarray, groups: np.ndarray | None, seed: int) -> Interval:
    """Return the percentile bootstrap of an error rate over samples, or over groups of one size."""
    units = np.arange(len(wrong)) if groups is None else np.unique(groups, return_inverse=True)[1]
    means = np.bincount(units, wrong) / np.bincount(units)
    resampled = stats.bootstrap((means,), np.mean, n_resamples=2000, method="percentile", random_state=seed)
    return tuple(map(float, resampled.confidence_interval))


def similarity_cells(share: float) -> list[SimilarityCell]:
    """Return the designs of similarity.

    Args:
        share: Share of the data sets to draw.
    """
    designs = [(n, d, c, "normal", 0) for n in (50, 100, 400) for d in (8, 32) for c in (0.98, 0.577, HALF, 0.0)]
    designs += [(n, 128, 0.577, "normal", 0) for n in (50, 100, 400)]
    designs += [(n, 32, c, kind, 0) for n in (50, 100, 400) for c in (0.98, HALF) for kind in ("classes", "heavy")]
    grouped = [(10 * g, 32, c, "normal", g) for g in (10, 20, 50) for c in (0.98, 0.577, 0.0)]
    measures = dict.fromkeys(("linear_cka", "procrustes"), designs)
    few = [design for design in designs if design[1] == 32 and (design[0] < 400 or design[2] == 0.577)]
    measures |= dict.fromkeys(("kernel_cka", "knn_overlap"), few)
    measures |= {name: measures[name] + grouped for name in ("procrustes", "knn_overlap")}
    return [
        SimilarityCell(name, *design, sets=max(20, int(share * SETS[name])))
        for name, cells in measures.items()
        for design in cells
    ]


def probe_cells(share: float) -> list[ProbeCell]:
    """Return the designs of probes.

    Args:
        share: Share of the data sets to draw.
    """
    designs = [
        ("nearest-mean", 60, 0, False), ("nearest-mean", 200, 0, False), ("nearest-mean", 80, 8, True),
        ("nearest-mean", 120, 12, False), ("nearest-mean", 200, 20, False), ("nearest-mean", 200, 20, True),
        ("nearest-mean", 400, 40, False), ("ridge", 60, 0, False), ("ridge", 200, 20, False), ("linear", 100, 0, False),
    ]  # fmt: skip
    return [ProbeCell(*design, sets=max(20, int(share * PROBE_SETS[design[0]]))) for design in designs]


# Similarity


def strengths(cell: SimilarityCell) -> np.ndarray:
    """Return the correlation of each feature of the two encoders, shape (D,)."""
    if cell.strength == HALF:
        return np.where(np.arange(cell.width) % 2 == 0, 0.95, 0.0)
    return np.full(cell.width, cell.strength)


def draw_features(cell: SimilarityCell, rng: np.random.Generator, samples: int) -> np.ndarray:
    """Return the features of one encoder, shape (samples, D); their variances are 1 / j."""
    scale = np.arange(1, cell.width + 1.0) ** -0.5
    noise = rng.standard_normal((samples, cell.width))
    if cell.groups:
        between = rng.standard_normal((cell.groups, cell.width))[np.arange(samples) % cell.groups]
        noise = np.sqrt(0.6) * between + np.sqrt(0.4) * noise
    elif cell.kind == "classes":
        means = class_means(cell.width)
        noise = np.sqrt(0.7) * means[rng.integers(10, size=samples)] + np.sqrt(0.3) * noise
    elif cell.kind == "heavy":
        noise *= np.sqrt(8 / rng.chisquare(10, (samples, 1)))
    return noise * scale


def class_means(width: int) -> np.ndarray:
    """Return the means of ten classes, with mean 0 and variance 1 in each feature, shape (10, width)."""
    means = np.random.default_rng(width).standard_normal((10, width))
    means -= means.mean(axis=0)
    return np.asarray(means / means.std(axis=0))


def draw_pair(cell: SimilarityCell, rng: np.random.Generator, samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the features of both encoders."""
    strength = strengths(cell)
    first = draw_features(cell, rng, samples)
    return first, strength * first + np.sqrt(1 - strength**2) * draw_features(cell, rng, samples)


def population_value(cell: SimilarityCell) -> float:
    """Return linear CKA or Procrustes of the population, from the covariances."""
    scale = np.arange(1, cell.width + 1.0) ** -0.5
    covariance = np.eye(cell.width)
    if cell.kind == "classes":
        means = class_means(cell.width)
        covariance = 0.7 * means.T @ means / 10 + 0.3 * covariance
    covariance = covariance * np.outer(scale, scale)
    strength = strengths(cell)
    rest = np.sqrt(1 - strength**2)
    cross = covariance * strength
    second = covariance * (np.outer(strength, strength) + np.outer(rest, rest))
    if cell.measure == "procrustes":
        return float(np.linalg.svd(cross, compute_uv=False).sum() / np.sqrt(np.trace(covariance) * np.trace(second)))
    return float((cross**2).sum() / np.linalg.norm(covariance) / np.linalg.norm(second))


def true_similarity(cell: SimilarityCell, values: np.ndarray) -> float:
    """Return the value that an interval should cover."""
    if cell.measure == "knn_overlap":
        return float(values.mean())
    if cell.measure != "kernel_cka":
        return population_value(cell)
    rng = np.random.default_rng(1)
    large = [draw_pair(cell, rng, 1000) for _ in range(60)]
    return float(np.mean([similarity("kernel_cka", *pair, interval=False).value for pair in large]))


def earlier_interval(first: np.ndarray, second: np.ndarray) -> Interval:
    """Return the interval of Procrustes that modgap used earlier, from the influence of each sample on the plug-in."""
    x = first - first.mean(axis=0)
    y = second - second.mean(axis=0)
    x /= np.linalg.norm(x)
    y /= np.linalg.norm(y)
    left, singular_values, right = np.linalg.svd(x.T @ y, full_matrices=False)
    value = float(singular_values.sum())
    norms = ((x**2).sum(axis=1) + (y**2).sum(axis=1)) / 2
    margin = 1.96 * float(np.linalg.norm(((x @ left) * (y @ right.T)).sum(axis=1) - value * norms))
    return value - margin, value + margin


def simulate_similarity(cell: SimilarityCell) -> dict:
    """Return coverage and mean length of the intervals of one design."""
    values = []
    intervals = []
    earlier = []
    for number in range(cell.sets):
        rng = np.random.default_rng([cell.samples, cell.width, number])
        pair = draw_pair(cell, rng, cell.samples)
        groups = np.arange(cell.samples) % cell.groups if cell.groups else None
        result = similarity(cell.measure, *pair, groups)
        values.append(result.value)
        intervals.append(result.interval)
        if cell.measure == "procrustes":
            earlier.append(earlier_interval(*pair))
    truth = true_similarity(cell, np.array(values))
    return {"truth": truth, "mean": float(np.mean(values)), **coverage(intervals, truth), **before(earlier, truth)}


# Probes


MEANS = 0.9 * np.random.default_rng(5).standard_normal((3, 6))
NEW_SAMPLES = 20_000
PAIRS = ("paired", "own", "repeats")
"""Comparisons of two encoders that are equally good."""


def draw_samples(cell: ProbeCell, rng: np.random.Generator, samples: int, groups: int) -> tuple:
    """Return features, labels and groups, which are None if samples are independent."""
    noise = rng.standard_normal((samples, 6))
    if not groups:
        labels = np.arange(samples) % 3
        return MEANS[labels] + noise, labels, None
    numbers = np.arange(samples) % groups
    labels = rng.integers(3, size=samples) if cell.mixed else numbers % 3
    return MEANS[labels] + 0.8 * rng.standard_normal((groups, 6))[numbers] + 0.6 * noise, labels, numbers


def simulate_probe(cell: ProbeCell) -> dict:
    """Return coverage and mean length of the intervals of one design, and the level of the paired comparison."""
    truths = []
    values = []
    intervals = []
    earlier = []
    pairs: dict[str, list[bool]] = {name: [] for name in PAIRS if name == "paired" or cell.groups}
    # Three strengths take much less time than the twenty of modgap.
    probe_evaluation.STRENGTHS = (1e3, 1e1, 1e-1)
    for number in range(cell.sets):
        rng = np.random.default_rng([cell.samples, cell.groups, number])
        features, labels, groups = draw_samples(cell, rng, cell.samples, cell.groups)
        probe = cross_validate_probe(cell.probe, features, labels, groups)
        values.append(probe.value)
        intervals.append(probe.interval)
        fit = stratified_folds(labels, groups, number, 3) < 2
        new = draw_samples(cell, rng, NEW_SAMPLES, NEW_SAMPLES // 5 if cell.groups else 0)
        train = None if groups is None else groups[fit]
        parts = (features[fit], labels[fit])
        truths.append(evaluate_probe(cell.probe, *parts, *new[:2], train_groups=train).value)
        single = evaluate_probe(cell.probe, *parts, features[~fit], labels[~fit])
        test = None if groups is None else groups[~fit]
        wrong = single.misclassified
        earlier.append(bootstrap_interval(wrong, test, number))
        # Two encoders that are equally good: the features with two kinds of independent noise.
        noisy = [features + rng.standard_normal(features.shape) for _ in range(2)]
        errors = [cross_validate_probe(cell.probe, array, labels, groups).errors for array in noisy]
        pairs["paired"].append(differ(errors))
        if groups is not None:
            effects = [rng.standard_normal((cell.groups, features.shape[1]))[groups] for _ in range(2)]
            errors = [cross_validate_probe(cell.probe, features + own, labels, groups).errors for own in effects]
            pairs["own"].append(differ(errors))
            pairs["repeats"].append(differ([replace(one, without=None) for one in errors]))
    truth = float(np.mean(truths))
    levels = {name: float(np.mean(rejected)) for name, rejected in pairs.items()}
    return {
        "truth": truth,
        "mean": float(np.mean(values)),
        **coverage(intervals, truth),
        **before(earlier, truth),
        **{f"{name}_level": level for name, level in levels.items()},
        **{f"{name}_level_se": standard_error(level, cell.sets) for name, level in levels.items()},
    }


def differ(errors: Sequence[SampleErrors]) -> bool:
    """Return whether two errors differ significantly at the 5 % level."""
    p_value = paired_difference(*errors).p_value
    return p_value is not None and p_value <= 0.05


# Report


def standard_error(share: float, sets: int) -> float:
    """Return the standard error of a share of data sets; that of one more data set if all agree."""
    share = min(max(share, 1 / (sets + 1)), sets / (sets + 1))
    return float(np.sqrt(share * (1 - share) / sets))


def coverage(intervals: Iterable[Interval | None], truth: float) -> dict:
    """Return the share of the intervals that contain the truth, its standard error, and their mean length."""
    pairs = np.array([(np.nan, np.nan) if interval is None else interval for interval in intervals])
    share = float(((pairs[:, 0] <= truth + 1e-12) & (truth - 1e-12 <= pairs[:, 1])).mean())
    lengths = pairs[:, 1] - pairs[:, 0]
    return {"coverage": share, "se": standard_error(share, len(pairs)), "length": float(np.nanmean(lengths))}


def before(intervals: list[Interval], truth: float) -> dict:
    """Return the same for the intervals that modgap used earlier, under other names."""
    return {f"before_{name}": value for name, value in coverage(intervals, truth).items()} if intervals else {}


def run(cells: list, simulate: Callable[..., dict], log: ResultLog) -> float:
    """Run and print the cells that the log does not have; return the time in core seconds."""
    total = 0.0
    for cell in cells:
        record = log.get(cell)
        if record is None:
            start = time.process_time()
            with single_blas_thread():
                result = simulate(cell)
            record = log.add(cell, {**result, "core_seconds": time.process_time() - start})
        total += record["core_seconds"]
        print(describe(record), flush=True)
    return total


def describe(record: dict) -> str:
    """Return one line with the figures of a cell."""
    job = " ".join(f"{value}" for value in record["job"].values())
    text = (
        f"{job}: truth {record['truth']:.3f}, mean {record['mean']:.3f}, coverage {record['coverage']:.3f} "
        f"(se {record['se']:.3f}), length {record['length']:.3f}"
    )
    if "before_coverage" in record:
        text += f"; before: {record['before_coverage']:.3f} (se {record['before_se']:.3f})"
        text += f", length {record['before_length']:.3f}"
    for name in PAIRS:
        if f"{name}_level" in record:
            text += f"; {name} p <= .05: {record[f'{name}_level']:.3f} (se {record[f'{name}_level_se']:.3f})"
    return text


def main() -> None:
    """Run all cells."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the data sets, and results in another file")
    options = parser.parse_args()
    share = 0.1 if options.quick else 1.0
    log = ResultLog(RESULTS.with_stem("distortion_validity_quick") if options.quick else RESULTS)
    seconds = run(similarity_cells(share), simulate_similarity, log)
    seconds += run(probe_cells(share), simulate_probe, log)
    print(f"{seconds:.0f} core seconds")


if __name__ == "__main__":
    main()
