"""Check the p-values and intervals by simulations in which the true values are available.

    python benchmarks/validity.py [--quick]    about three minutes on two cores

1. Labels independent of the logits: the rate of p <= a must not exceed a + 3 standard errors, and the mean held-out
   error must be within 3 standard errors of the mean with permuted labels.
2. The same with ten windows per record as samples: the p-values must be valid with groups, and invalid without groups.
3. Labels that depend on the logits: the rate at which the 95 % interval covers the true error of the two fitted maps.
4. One process with 10 and with 50 of its classes: the values for ten classes at a time must agree within their
   intervals, and the values for all classes must not.
"""

import argparse

import numpy as np

from modgap.discrepancy import estimate
from modgap.discrepancy.estimator_chain import EstimatorInputs, run_chain
from modgap.discrepancy.held_out import wilson_interval
from modgap.label_space import label_space

LEVELS = (0.05, 0.1, 0.25, 0.5)
K = 5
C = 20


def null_data(seed: int, windows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return logits, labels and record of each sample; the samples of a record share its logits, plus some noise."""
    rng = np.random.default_rng(seed)
    records = 40 if windows > 1 else 100
    groups = np.repeat(np.arange(records), windows)
    logits = rng.standard_normal((records, C))[groups] + 0.5 * rng.standard_normal((len(groups), C))
    labels = rng.permutation(np.arange(records) % K)[groups]
    return logits.astype(np.float32), labels, groups


def null_study(sets: int, windows: int, grouped: bool, name: str) -> None:
    """Print how often the p-values are below each level, for labels that are independent of the logits.

    Args:
        sets: Number of simulated data sets.
        windows: Samples per record.
        grouped: Pass the records as groups.
        name: Title of the study.
    """
    p_values = {"in-sample": [], "held-out": []}
    differences = []
    for seed in range(sets):
        logits, labels, groups = null_data(seed, windows)
        options = {"estimators": ["montecarlo"], "trials": 500, "spread": 0, "seed": seed}
        result = estimate(logits, labels, groups=groups if grouped else None, **options)
        row = result.estimates["montecarlo"]
        p_values["in-sample"].append(row.null.p_value)
        p_values["held-out"].append(row.held_out_null.p_value)
        differences.append(row.held_out - row.held_out_null.mean)
    print(name)
    for kind, values in p_values.items():
        rates = [np.mean(np.array(values) <= level + 1e-9) for level in LEVELS]
        limits = [level + 3 * np.sqrt(level * (1 - level) / sets) for level in LEVELS]
        checks = list(zip(LEVELS, rates, limits, strict=True))
        text = ", ".join(f"p <= {level}: {rate:.3f} (limit {limit:.3f})" for level, rate, limit in checks)
        is_valid = all(rate <= limit for _, rate, limit in checks)
        print(f"  {kind}: {text}: {'valid' if is_valid else 'NOT VALID'}")
    gap = np.mean(differences)
    error = np.std(differences) / np.sqrt(sets)
    print(f"  held-out error minus mean of its null distribution: {gap:+.4f} ({abs(gap) / error:.1f} standard errors)")


def coverage(simulations: int) -> None:
    """Print in how many simulations the 95 % interval covers the true error of the two fitted maps."""
    covered = 0
    for seed in range(simulations):
        rng = np.random.default_rng([seed, 7])
        profiles = rng.standard_normal((K, C))

        def draw(n: int, rng=rng, profiles=profiles) -> tuple[np.ndarray, np.ndarray]:
            labels = rng.permutation(np.arange(n) % K)
            return (rng.standard_normal((n, C)) + profiles[labels]).astype(np.float32), labels

        logits, labels = draw(200)
        data = EstimatorInputs(logits, None, ("montecarlo",), K, trials=500, seed=seed)
        held_out = run_chain(data, label_space(labels))[0]["montecarlo"].held_out
        new_logits, new_labels = draw(20_000)
        errors = []
        for class_map in held_out.maps:
            order = np.argsort(class_map)
            errors.append(np.mean(order[new_logits[:, class_map[order]].argmax(axis=1)] != new_labels))
        low, high = wilson_interval(round(held_out.terms.sum()), len(held_out.tested))
        covered += low <= np.mean(errors) <= high
    rate = covered / simulations
    print(
        f"3. the 95 % interval covers the true error of the maps in {covered} of {simulations} simulations: {rate:.1%}"
    )


def k_way(seeds: int) -> None:
    """Print the held-out errors for 10 and for 50 classes, and how often their intervals overlap."""
    held_out = {"ten classes at a time": [], "all classes": []}
    overlaps = dict.fromkeys(held_out, 0)
    for seed in range(seeds):
        estimates: dict = {name: [] for name in held_out}
        for k in (10, 50):
            labels = np.repeat(np.arange(k), 40)
            rng = np.random.default_rng([seed, k])
            logits = rng.standard_normal((40 * k, 200)).astype(np.float32)
            logits[np.arange(40 * k), labels + 3] += 2
            options = {"trials": 2000, "null": 0, "spread": 0, "estimators": ["search"], "seed": seed}
            result = estimate(logits, labels, classes=10, **options)
            estimates["ten classes at a time"].append(result.k_way.estimates["search"])
            estimates["all classes"].append(result.estimates["search"])
        for name, (few, many) in estimates.items():
            few_low, few_high = few.held_out_interval
            many_low, many_high = many.held_out_interval
            overlaps[name] += few_low <= many_high and many_low <= few_high
            held_out[name].append((few.held_out, many.held_out))
    for name, values in held_out.items():
        few, many = np.mean(values, axis=0)
        print(
            f"4. {name}: held-out error {few:.3f} with 10 classes, {many:.3f} with 50; "
            f"the intervals overlap in {overlaps[name]} of {seeds} simulations"
        )


def main() -> None:
    """Run the four studies."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a fifth of the simulations or fewer")
    options = parser.parse_args()
    sets, simulations = (60, 100) if options.quick else (300, 500)
    null_study(sets, 1, False, f"1. independent samples, {sets} data sets, K = {K}")
    null_study(sets, 10, True, f"2a. ten windows per record, with groups, {sets} data sets")
    null_study(
        sets, 10, False, f"2b. ten windows per record, treated as independent (must not be valid), {sets} data sets"
    )
    coverage(simulations)
    k_way(3 if options.quick else 10)


if __name__ == "__main__":
    main()
