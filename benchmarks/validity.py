"""Are the p-values and intervals what they say? Simulations whose truth is known.

    python benchmarks/validity.py [--quick]    about three minutes on two cores

1. Labels independent of the logits: the share of p <= a must not exceed a + 3 standard errors, and the
   mean held-out value must lie within 3 standard errors of its null's mean.
2. The same with ten windows of one record as samples, by group and without: by group it holds, without
   it must fail.
3. With signal: how often the 95 % interval covers the true error of the two maps that were found.
4. One process seen through 10 and through 50 of its classes: with ten classes at a time the values must agree
   within their intervals, without they must not.
"""

import argparse

import numpy as np

from modgap.discrepancy import estimate
from modgap.discrepancy.estimator_chain import EstimatorInputs, run_chain
from modgap.discrepancy.held_out import wilson_interval
from modgap.label_space import label_space

LEVELS = (0.05, 0.1, 0.25, 0.5)
K, C = 5, 20


def null_data(seed: int, windows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits, labels and records: `windows` samples a record share its logits but for some noise."""
    rng = np.random.default_rng(seed)
    records = 40 if windows > 1 else 100
    groups = np.repeat(np.arange(records), windows)
    logits = rng.standard_normal((records, C))[groups] + 0.5 * rng.standard_normal((len(groups), C))
    labels = rng.permutation(np.arange(records) % K)[groups]
    return logits.astype(np.float32), labels, groups


def null_study(sets: int, windows: int, grouped: bool, name: str) -> None:
    found = {"in-sample": [], "held-out": []}
    held, nulls = [], []
    for seed in range(sets):
        logits, labels, groups = null_data(seed, windows)
        options = {"estimators": ["montecarlo"], "trials": 500, "spread": 0, "seed": seed}
        result = estimate(logits, labels, groups=groups if grouped else None, **options)
        one = result.estimates["montecarlo"]
        found["in-sample"].append(one.null.p_value)
        found["held-out"].append(one.held_out_null.p_value)
        held.append(one.held_out)
        nulls.append(one.held_out_null.mean)
    print(name)
    for kind, values in found.items():
        shares = [(level, np.mean(np.array(values) <= level + 1e-9)) for level in LEVELS]
        limits = [level + 3 * np.sqrt(level * (1 - level) / sets) for level in LEVELS]
        told = ", ".join(f"p <= {level}: {share:.3f} (limit {limit:.3f})"
                         for (level, share), limit in zip(shares, limits, strict=True))  # fmt: skip
        holds = all(share <= limit for (_, share), limit in zip(shares, limits, strict=True))
        print(f"  {kind}: {told}: {'holds' if holds else 'FAILS'}")
    gap, error = np.mean(np.subtract(held, nulls)), np.std(np.subtract(held, nulls)) / np.sqrt(sets)
    print(f"  held-out minus its null: {gap:+.4f}, standard error {error:.4f} ({abs(gap) / error:.1f} of them)")


def coverage(simulations: int) -> None:
    covered = 0
    for seed in range(simulations):
        rng = np.random.default_rng([seed, 7])
        profiles = rng.standard_normal((K, C))

        def draw(n: int, rng=rng, profiles=profiles) -> tuple[np.ndarray, np.ndarray]:
            labels = rng.permutation(np.arange(n) % K)
            return (rng.standard_normal((n, C)) + profiles[labels]).astype(np.float32), labels

        logits, labels = draw(200)
        data = EstimatorInputs(logits, None, ("montecarlo",), K, trials=500, seed=seed)
        held = run_chain(data, label_space(labels))[0]["montecarlo"].held_out
        fresh, truth = draw(20_000)
        errors = []
        for chosen in held.maps:
            order = np.argsort(chosen)
            errors.append(np.mean(order[fresh[:, chosen[order]].argmax(axis=1)] != truth))
        low, high = wilson_interval(round(held.terms.sum()), len(held.tested))
        covered += low <= np.mean(errors) <= high
    print(f"95 % interval covers the maps' true error in {covered} of {simulations}: {covered / simulations:.1%}")


def k_way(seeds: int) -> None:
    told, agreed = {"--classes 10": [], "outright": []}, {"--classes 10": 0, "outright": 0}
    for seed in range(seeds):
        found: dict = {name: [] for name in told}
        for k in (10, 50):
            labels, rng = np.repeat(np.arange(k), 40), np.random.default_rng([seed, k])
            logits = rng.standard_normal((40 * k, 200)).astype(np.float32)
            logits[np.arange(40 * k), labels + 3] += 2
            options = {"trials": 2000, "null": 0, "spread": 0, "estimators": ["search"], "seed": seed}
            result = estimate(logits, labels, classes=10, **options)
            found["--classes 10"].append(result.k_way.estimates["search"])
            found["outright"].append(result.estimates["search"])
        for name, (few, many) in found.items():
            (low, high), (lower, higher) = few.held_out_interval, many.held_out_interval
            agreed[name] += low <= higher and lower <= high
            told[name].append((few.held_out, many.held_out))
    for name, values in told.items():
        few, many = np.mean(values, axis=0)
        print(f"4. {name}: held-out {few:.3f} with 10 classes, {many:.3f} with 50; "
              f"intervals meet in {agreed[name]} of {seeds}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    sets, simulations = (60, 100) if options.quick else (300, 500)
    null_study(sets, 1, False, f"1. independent samples, {sets} data sets, K = {K}")
    null_study(sets, 10, True, f"2a. ten windows a record, by group, {sets} data sets")
    null_study(sets, 10, False, f"2b. ten windows a record, taken as independent, {sets} data sets")
    coverage(simulations)
    k_way(3 if options.quick else 10)


if __name__ == "__main__":
    main()
