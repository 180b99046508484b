"""Compare a pretrained source with its random-weights control on the six packaged targets, by every estimator.

    python benchmarks/embedded.py [--quick] [--out FILE]    about three minutes on two cores

The table has, for each target and estimator, the held-out error with its interval, the test with permuted labels and
the in-sample error, for the pretrained source and for one random initialization. An estimator separates the two if the
paired difference of their errors on the same samples and splits is significant at the 5 % level. Beside it stands the
unpaired criterion that the two intervals do not overlap.
"""

import argparse
import json
from pathlib import Path

from modgap.api.discrepancy import measure
from modgap.cli.output import print_table
from modgap.discrepancy.answer import COLUMNS, table
from modgap.discrepancy.estimator_chain import HARD_ESTIMATORS
from modgap.discrepancy.report import DiscrepancyReport
from modgap.statistics.paired import paired_difference

TARGETS = ("digits", "mnist5k", "fashion-mnist", "basic-motions", "acsf1", "italy-power")
TESTED = ("search", "soft", "soft-matched")
LEVEL = 0.05
SOURCES = ("efficientnet-lite0", "random:efficientnet-lite0")


def separations(pretrained: DiscrepancyReport, control: DiscrepancyReport, name: str) -> tuple[bool, bool]:
    """Return if the pretrained error is lower by the paired difference, and by intervals that do not overlap."""
    errors = [report.result.tested_samples.errors[name] for report in (pretrained, control)]
    difference = paired_difference(*errors)
    paired = difference.value < 0 and difference.p_value <= LEVEL
    intervals = [report.result.estimates[name].held_out_interval for report in (pretrained, control)]
    return bool(paired), intervals[0][1] < intervals[1][0]


def main() -> None:
    """Measure all pairs, and print the tables and the number of targets that each estimator separates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="200 samples at 64 pixels, 19 permutations")
    parser.add_argument("--out", help="also write the numbers to this JSON file")
    options = parser.parse_args()
    limit, size, permutations = (200, 64, 19) if options.quick else (1000, 128, 99)
    samples = {"limit": limit, "input_size": size}
    rows = []
    record = {}
    wins = {name: [0, 0] for name in TESTED}
    for target in TARGETS:
        pair = [measure(one, target, **samples, permutations=permutations) for one in SOURCES]
        for source, report in zip(SOURCES, pair, strict=True):
            values = [report.result.estimates[name].solution.value for name in HARD_ESTIMATORS]
            assert values == sorted(values, reverse=True), "search <= montecarlo does not hold"
            rows += [[target, source, *cells] for cells in table(report.result).rows]
            record[f"{source} -> {target}"] = _without_histograms(report.result.to_dict())
        for name in TESTED:
            for column, is_separated in enumerate(separations(*pair, name)):
                wins[name][column] += is_separated
    print_table(("target", "source", *COLUMNS), rows, f"at most {limit} samples, {size} pixels")
    for name, (paired, unpaired) in wins.items():
        print(
            f"{name}: pretrained below random weights on {paired} of {len(TARGETS)} targets by the paired difference, "
            f"on {unpaired} by intervals that do not overlap"
        )
    print("search <= montecarlo in all results")
    if options.out:
        Path(options.out).write_text(json.dumps(record, indent=1) + "\n")


def _without_histograms(record: dict) -> dict:
    for estimate in record["estimates"].values():
        estimate.pop("histogram", None)
    return record


if __name__ == "__main__":
    main()
