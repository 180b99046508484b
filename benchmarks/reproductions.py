"""Reproduce faults that earlier statistics had, with the present ones, and check that values are comparable.

    python benchmarks/reproductions.py [--quick] [NAME ...]    about ten minutes on one core

Each reproduction prints a line or a few. docs/benchmarks.md names one of them.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from distortion_validity import SimilarityCell, simulate_similarity
from evidence.summaries import mean_interval

from modgap.discrepancy import estimate
from modgap.discrepancy.estimate import held_out_samples
from modgap.discrepancy.estimator_chain import EstimatorInputs
from modgap.discrepancy.held_out import held_out_problem
from modgap.discrepancy.labeled_samples import LabeledSamples, equal_group_rows
from modgap.discrepancy.probabilities import Probabilities
from modgap.discrepancy.soft import fit_soft_maps, mass_matrices
from modgap.labels.label_space import label_space
from modgap.statistics.intervals import estimate_mean

SOFT = {"estimators": ["soft"], "threads": 1}


def grouped_data(
    seed: int, n_classes: int, sizes: tuple[int, ...], signal: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return logits, labels and groups of 20 groups whose class is their number modulo K, with sizes by class."""
    rng = np.random.default_rng(seed)
    classes = np.arange(20) % n_classes
    groups = np.repeat(np.arange(20), np.array(sizes)[classes % len(sizes)])
    labels = classes[groups]
    common = rng.standard_normal(60)
    profiles = rng.standard_normal((n_classes, 60))
    logits = common + 0.84 * rng.standard_normal((20, 60))[groups] + 0.55 * rng.standard_normal((len(groups), 60))
    return (logits + signal * profiles[labels]).astype(np.float32), labels, groups


def rejections(
    n_sets: int,
    n_classes: int,
    sizes: tuple[int, ...],
    weight: str,
    signal: float = 0.0,
    per_group: int | None = None,
) -> float:
    """Return the share of data sets with p <= .05."""
    p_values = []
    for seed in range(n_sets):
        logits, labels, groups = grouped_data(seed, n_classes, sizes, signal)
        if per_group:
            rows = equal_group_rows(groups, per_group, seed)
            logits = logits[rows]
            labels = labels[rows]
            groups = groups[rows]
        result = estimate(logits, labels, groups=groups, weight=weight, seed=seed, **SOFT)
        p_values.append(result.null.p_value)
    return float(np.mean(np.array(p_values) <= 0.05 + 1e-9))


def group_sizes_that_depend_on_the_class(n_sets: int) -> None:
    """E1: nothing depends on the class but the number of samples in a group."""
    for n_classes in (2, 4):
        for weight in ("samples", "groups", "classes"):
            rate = rejections(n_sets, n_classes, (30, 5), weight)
            print(f"  K = {n_classes}, weight {weight}: p <= .05 in {100 * rate:.1f} % of {n_sets} data sets")
    for n_classes in (2, 4):
        rate = rejections(n_sets, n_classes, (30, 5), "groups", per_group=5)
        print(f"  K = {n_classes}, 5 samples of each group: p <= .05 in {100 * rate:.1f} % of {n_sets} data sets")
    print(f"  K = 2, equal sizes: {100 * rejections(n_sets, 2, (15,), 'groups'):.1f} %")
    for signal in (0.5, 1.0):
        power = rejections(n_sets // 2, 2, (30, 5), "groups", signal)
        print(f"  power with signal {signal}: {power:.2f} of {n_sets // 2} data sets")


def class_weights_of_permuted_labels(n_sets: int) -> None:
    """E2: with weight `classes`, permuted labels are judged with their own weights."""
    values = []
    for seed in range(n_sets):
        logits, labels, groups = grouped_data(seed, 2, (30, 5))
        result = estimate(logits, labels, groups=groups, weight="classes", seed=seed, **SOFT)
        values.append((result.estimates["soft"].held_out, result.null.mean, result.null.p_value))
    held_out, null, p_values = np.array(values).T
    print(
        f"  value {held_out.mean():.3f}, mean with permuted labels {null.mean():.3f}, p <= .05 in "
        f"{100 * np.mean(p_values <= 0.05 + 1e-9):.1f} %, p = 1 in {100 * np.mean(p_values == 1):.1f} % of {n_sets}"
    )


def seeds_of_one_target(n_sets: int) -> None:
    """E3: seeds of one target are correlated, so an interval over all pairs is no statement about further targets."""
    for n_targets in (6, 12):
        n_covered = {"pairs of target and seed": 0, "targets": 0}
        for number in range(5 * n_sets):
            rng = np.random.default_rng([number, n_targets])
            # The correlation of two seeds of a target is .58; the mean of all targets is 0.
            effects = np.sqrt(0.58) * rng.standard_normal((n_targets, 1))
            drawn = effects + np.sqrt(0.42) * rng.standard_normal((n_targets, 5))
            for name, values in zip(n_covered, (drawn.ravel(), drawn.mean(axis=1)), strict=True):
                interval = mean_interval(values)
                n_covered[name] += interval.low <= 0 <= interval.high
        shares = ", ".join(f"over {name} {count / (5 * n_sets):.3f}" for name, count in n_covered.items())
        print(f"  {n_targets} targets of 5 seeds, {5 * n_sets} data sets, coverage of further targets {shares}")


def coverage_with_few_groups(n_sets: int) -> None:
    """E4: intervals over groups of one class each."""
    for n_groups in (4, 6, 10, 20):
        intervals = []
        values = []
        for seed in range(n_sets):
            rng = np.random.default_rng([seed, n_groups])
            profiles = np.random.default_rng(1).standard_normal((2, 20))
            groups = np.repeat(np.arange(n_groups), 10)
            labels = (np.arange(n_groups) % 2)[groups]
            logits = 0.5 * profiles[labels] + rng.standard_normal((n_groups, 20))[groups]
            logits = logits + 0.5 * rng.standard_normal(logits.shape)
            tested = held_out_samples(logits, labels, groups=groups, seed=seed, threads=1)
            mean = estimate_mean(tested.errors["search"])
            values.append(mean.value)
            intervals.append(mean.interval)
        if intervals[0] is None:
            print(f"  {n_groups} groups: no interval")
            continue
        low, high = np.array(intervals).T
        covered = np.mean((low <= np.mean(values)) & (np.mean(values) <= high))
        print(
            f"  {n_groups} groups: coverage {covered:.3f}, mean length {np.mean(high - low):.3f} ({n_sets} data sets)"
        )


def ratio_of_few_samples(_n_sets: int) -> None:
    """E5: 36 samples of 4 classes, and logits that carry little: the in-sample ratio to the null is 0."""
    rng = np.random.default_rng(0)
    labels = np.arange(36) % 4
    profiles = rng.standard_normal((4, 1000))
    logits = rng.standard_normal((36, 1000)) + 0.15 * profiles[labels]
    result = estimate(logits, labels, permutations_for="search")
    search = result.estimates["search"]
    print(
        f"  in-sample ratio to the null {search.in_sample_ratio_to_null:.3f} (in the record alone), held-out error "
        f"{search.held_out:.3f} {search.held_out_interval}"
    )


def process(seed: int, n_classes: int, n_each: int, signal: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Return logits and labels of one process with a number of samples a class."""
    profiles = np.random.default_rng(99).standard_normal((n_classes, 30))
    rng = np.random.default_rng([seed, n_each])
    labels = np.repeat(np.arange(n_classes), n_each)
    return signal * 0.6 * profiles[labels] + rng.standard_normal((len(labels), 30)), labels


def values_of_targets_of_different_size(n_sets: int) -> None:
    """E6: one process with 20 and with 100 samples a class, 5 classes at a time and all 10 classes."""
    n_sets = max(3, n_sets // 20)
    for name, options in (
        ("halves", {}),
        ("10 samples a class", {"per_class": 10}),
        ("5 classes, 10 samples a class", {"per_class": 10, "classes": 5}),
    ):
        for n_each in (20, 100):
            values = []
            for seed in range(n_sets):
                result = estimate(*process(seed, 10, n_each), permutations=0, trials=100, **options)
                k_way = result.k_way
                values.append((k_way or result).estimates["search"].held_out)
            print(f"  {name}, {n_each} a class: {np.mean(values):.3f} ({min(values):.3f}-{max(values):.3f})")


def bias_with_rare_classes(n_sets: int) -> None:
    """E7: mean over classes with a long tail, against the error of the same maps on 2,000 new samples a class."""
    gaps = []
    shares = 1 / np.arange(1, 9) / np.sum(1 / np.arange(1, 9))
    profiles = np.random.default_rng(3).standard_normal((8, 40))
    for seed in range(n_sets):
        rng = np.random.default_rng(seed)
        labels = rng.choice(8, 100, p=shares)
        classes, labels = np.unique(labels, return_inverse=True)
        logits = 0.8 * profiles[classes][labels] + rng.standard_normal((100, 40))
        space = label_space(labels)
        inputs = EstimatorInputs(logits, (), space.n_classes, seed=seed)
        problem = held_out_problem(inputs, LabeledSamples(space, weighting="classes"), 20)
        probabilities = Probabilities(logits, problem.labeling.space.rows)
        maps = fit_soft_maps(mass_matrices(probabilities, [problem.labeling])[0])
        tested = held_out_samples(logits, labels, weight="classes", estimators=["soft"], seed=seed, threads=1)
        new_labels = np.repeat(np.arange(len(problem.classes)), 2000)
        new = 0.8 * profiles[classes[problem.classes]][new_labels] + rng.standard_normal((len(new_labels), 40))
        theta = Probabilities(new, np.arange(len(new)))
        truth = np.mean([1 - theta.at(np.arange(len(new)), one[new_labels]).mean() for one in maps])
        gaps.append(estimate_mean(tested.errors["soft"]).value - truth)
    print(f"  bias {np.mean(gaps):+.4f} (se {np.std(gaps) / np.sqrt(n_sets):.4f}) over {n_sets} data sets")


def procrustes_intervals(n_sets: int) -> None:
    """E8: the interval of Procrustes with 100 samples of 32 features, whose population value is .577."""
    cell = SimilarityCell("procrustes", 100, 32, 0.577, "normal", 0, n_sets)
    similarity = simulate_similarity(cell)
    print(
        f"  mean estimate {similarity['mean']:.3f}; earlier interval: coverage {similarity['before_coverage']:.3f}, "
        f"length {similarity['before_length']:.3f}; present one: coverage {similarity['coverage']:.3f} "
        f"(se {similarity['se']:.3f}), length {similarity['length']:.3f} ({n_sets} data sets)"
    )


def variation_over_split_seeds(_n_sets: int) -> None:
    """E9: standard deviation of the held-out error over 12 seeds of the splits, for 1 and for 20 splits."""
    for n_samples in (200, 32):
        rng = np.random.default_rng(0)
        labels = np.arange(n_samples) % 4
        logits = rng.standard_normal((n_samples, 50))
        logits[np.arange(n_samples), labels] += 1.5
        for splits in (1, 20):
            values = [
                estimate_mean(
                    held_out_samples(logits, labels, splits=splits, seed=seed, threads=1).errors["search"]
                ).value
                for seed in range(12)
            ]
            print(f"  N = {n_samples}, {splits} splits: sd {np.std(values, ddof=1):.4f}")


def chance_on_few_samples(_n_sets: int) -> None:
    """E10: constant rows, of which half have one row of logits and half another; permuted labels give more than 1/2."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((2, 1000))
    logits = rows[np.arange(40) % 2]
    labels = rng.permutation(np.arange(40) % 2)
    result = estimate(logits, labels)
    print(
        f"  held-out error {result.estimates['search'].held_out:.3f}, with permuted labels "
        f"{result.permuted_error:.3f}, chance level {result.chance:.3f}, p = {result.null.p_value:.2f}"
    )


def comparable_values(n_sets: int) -> None:
    """Two classes and 20 samples a class: values at N = 100, 400 and 1,600 against the truth of 100,000 samples."""
    n_sets = max(20, n_sets // 2)
    truth = _truth(20)
    for n_samples in (100, 400, 1600):
        for name, per_class in (("20 samples a class", 20), ("halves", None)):
            intervals = []
            values = []
            for seed in range(n_sets):
                logits, labels = process(seed, 2, n_samples // 2, signal=0.5)
                tested = held_out_samples(logits, labels, per_class=per_class, seed=seed, threads=1)
                mean = estimate_mean(tested.errors["search"])
                values.append(mean.value)
                intervals.append(mean.interval)
            low, high = np.array(intervals).T
            covered = np.mean((low <= truth) & (truth <= high))
            bias = np.mean(values) - truth
            print(
                f"  N = {n_samples}, {name}: truth {truth:.4f}, bias {bias:+.4f} "
                f"({abs(bias) / np.mean(high - low) * 2:.2f} half-widths), coverage {100 * covered:.0f} % of {n_sets}"
            )


def _truth(per_class: int) -> float:
    """Return the expected error of maps that are fitted on new samples, on 100,000 samples."""
    logits, labels = process(10**6, 2, 50_000, signal=0.5)
    tested = held_out_samples(logits, labels, per_class=per_class, splits=200, estimators=["search"])
    return estimate_mean(replace(tested.errors["search"])).value


REPRODUCTIONS: dict[str, Callable[[int], None]] = {
    "E1": group_sizes_that_depend_on_the_class,
    "E2": class_weights_of_permuted_labels,
    "E3": seeds_of_one_target,
    "E4": coverage_with_few_groups,
    "E5": ratio_of_few_samples,
    "E6": values_of_targets_of_different_size,
    "E7": bias_with_rare_classes,
    "E8": procrustes_intervals,
    "E9": variation_over_split_seeds,
    "E10": chance_on_few_samples,
    "comparable": comparable_values,
}


def main() -> None:
    """Run the reproductions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*REPRODUCTIONS, []], help="all by default")
    parser.add_argument("--quick", action="store_true", help="40 data sets instead of 200")
    options = parser.parse_args()
    for name in options.names or REPRODUCTIONS:
        function = REPRODUCTIONS[name]
        print(f"{name}. {(function.__doc__ or '').split(': ', 1)[-1]}", flush=True)
        began = time.process_time()
        function(40 if options.quick else 200)
        print(f"  {time.process_time() - began:.0f} s of a core", flush=True)


if __name__ == "__main__":
    main()
