"""How often two sources differ significantly, by the paired difference and by unpaired criteria, on packaged targets.

    python benchmarks/paired_power.py [--subsets 20] [--sizes 50,100,200] [--estimators soft]    about five core-minutes

Random subsets of the samples of six targets stand for small data sets. A pretrained source and one random
initialization are compared on each by three criteria, all two-sided at the 5 % level: the paired difference on the same
samples and splits; an unpaired t-test from the two standard errors; and 95 % intervals that do not overlap.
"""

import argparse

import numpy as np
from embedded import SOURCES, TARGETS
from scipy import stats

from modgap.cli.output import print_table
from modgap.discrepancy.estimate import held_out_samples
from modgap.forward.logits import LogitsRequest, SourceLogits, source_logits
from modgap.forward.sample_request import SampleRequest
from modgap.sources import open_source
from modgap.statistics.intervals import SampleErrors, estimate_mean
from modgap.statistics.paired import paired_difference
from modgap.targets import open_target
from modgap.targets.splits import stratified_subset

LEVEL = 0.05
CRITERIA = ("paired", "unpaired t", "no overlap")


def significant(first: SampleErrors, second: SampleErrors) -> tuple[bool, bool, bool]:
    """Return if two errors differ significantly by each of the criteria."""
    means = [estimate_mean(errors) for errors in (first, second)]
    difference = paired_difference(first, second)
    if difference.p_value is None or None in (means[0].interval, means[1].interval):
        return False, False, False
    error = float(np.hypot(means[0].standard_error, means[1].standard_error))
    p_unpaired = 2 * stats.t.sf(abs(difference.value) / error, 2 * (difference.n_units - 1))
    (low, high), (other_low, other_high) = means[0].interval, means[1].interval
    return difference.p_value <= LEVEL, bool(p_unpaired <= LEVEL), high < other_low or other_high < low


def errors_of(logits: SourceLogits, rows: np.ndarray, estimators: list[str], seed: int) -> dict[str, SampleErrors]:
    """Return the held-out errors on a subset of the samples, by estimator."""
    groups = None if logits.groups is None else logits.groups[rows]
    tested = held_out_samples(logits.logits[rows], logits.labels[rows], groups=groups, estimators=estimators, seed=seed)
    assert tested is not None
    return tested.errors


def records_of(
    target: str, sizes: list[int], estimators: list[str], n_subsets: int
) -> list[tuple[str, int, str, np.ndarray]]:
    """Return target, size, estimator and number of subsets that each criterion finds significant."""
    request = LogitsRequest(SampleRequest(limit=1000, input_size=128))
    pair = [source_logits(open_source(name), open_target(target), request) for name in SOURCES]
    records = []
    for size in sizes:
        if size > len(pair[0].labels):
            continue
        counts: dict[str, np.ndarray] = {}
        for seed in range(n_subsets):
            rows = stratified_subset(pair[0].labels, size, seed)
            errors = [errors_of(one, rows, estimators, seed) for one in pair]
            for name in errors[0]:
                counts.setdefault(name, np.zeros(3, int))
                counts[name] += significant(errors[0][name], errors[1][name])
        records += [(target, size, name, hits) for name, hits in counts.items()]
    return records


def main() -> None:
    """Print how often each criterion finds a difference, by target, size and estimator."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subsets", type=int, default=20)
    parser.add_argument("--sizes", default="50,100,200")
    parser.add_argument("--estimators", default="soft", help="soft (with soft-matched), search, or both")
    options = parser.parse_args()
    sizes = [int(text) for text in options.sizes.split(",")]
    estimators = options.estimators.split(",")
    records = [record for target in TARGETS for record in records_of(target, sizes, estimators, options.subsets)]
    rows = [[target, str(size), name, *map(str, hits)] for target, size, name, hits in records]
    title = f"significant in how many of {options.subsets} subsets"
    print_table(("target", "samples", "estimator", *CRITERIA), rows, title)
    shares = []
    for size, name in sorted({(size, name) for _, size, name, _ in records}):
        hits = np.array([hits for _, *key, hits in records if key == [size, name]])
        shares.append([str(size), name, *(f"{share:.2f}" for share in hits.mean(axis=0) / options.subsets)])
    print_table(("samples", "estimator", *CRITERIA), shares, "share over all targets")


if __name__ == "__main__":
    main()
