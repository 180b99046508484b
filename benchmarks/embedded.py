"""Compare a pretrained source with its random-weights control on the six packaged targets, by every column.

    python benchmarks/embedded.py [--quick] [--out FILE]    about two minutes on two cores

The table has, for each target and estimator, the in-sample value, the mean with permuted labels, the ratio to the null
and the held-out error with its interval, for the pretrained source and for random weights. A column separates the two
on a target if the pretrained value is lower by more than the noise. For the held-out error this means that the
intervals do not overlap. For the in-sample value and the ratio to the null it means that the gap exceeds three standard
deviations of the null distributions.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from modgap.api.discrepancy import measure_discrepancy
from modgap.cli.output import print_table
from modgap.discrepancy import ESTIMATORS, Estimate
from modgap.discrepancy.summary import COLUMNS, table_rows
from modgap.forward.logits import LogitsRequest
from modgap.forward.sample_request import SampleRequest

TARGETS = ("digits", "mnist5k", "fashion-mnist", "basic-motions", "acsf1", "italy-power")
SOURCES = ("efficientnet-lite0", "random:efficientnet-lite0")


def separations(pretrained: Estimate, control: Estimate) -> dict[str, bool]:
    """Return, for each column, if the pretrained source is below its control by more than the noise."""
    noise = 3 * float(np.hypot(pretrained.null.sd, control.null.sd))
    scale = min(pretrained.null.mean, control.null.mean)
    return {
        "value": control.solution.value - pretrained.solution.value > noise,
        "ratio_to_null": control.ratio_to_null - pretrained.ratio_to_null > noise / scale,
        "held-out": pretrained.held_out_interval[1] < control.held_out_interval[0],
    }


def main() -> None:
    """Measure all pairs, and print the table and the number of targets that each column separates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="200 samples at 64 pixels, 5 permutations")
    parser.add_argument("--out", help="also write the numbers to this JSON file")
    options = parser.parse_args()
    limit, size, null = (200, 64, 5) if options.quick else (1000, 128, 19)
    request = LogitsRequest(SampleRequest(limit=limit, input_size=size))
    rows = []
    record = {}
    wins = {name: dict.fromkeys(("value", "ratio_to_null", "held-out"), 0) for name in ESTIMATORS}
    for target in TARGETS:
        pair = [measure_discrepancy(source, target, request=request, null=null) for source in SOURCES]
        cells = [table_rows(report) for report in pair]
        for index, name in enumerate(ESTIMATORS):
            separated = separations(*(report.result.estimates[name] for report in pair))
            for column, is_separated in separated.items():
                wins[name][column] += is_separated
            columns_separated = ", ".join(column for column, is_separated in separated.items() if is_separated)
            rows.append([target, SOURCES[0], *cells[0][index], ""])
            rows.append([target, SOURCES[1], *cells[1][index], columns_separated or "none"])
        for source, report in zip(SOURCES, pair, strict=True):
            values = [report.result.estimates[name].solution.value for name in ESTIMATORS]
            assert values == sorted(values, reverse=True), "search <= assignment <= montecarlo does not hold"
            result = report.result.to_dict()
            for estimate in result["estimates"].values():
                estimate.pop("histogram", None)
            record[f"{source} -> {target}"] = result
    columns = ("target", "source", *COLUMNS, "columns that separate the two")
    print_table(columns, rows, f"at most {limit} samples, {size} pixels, {null} permutations")
    for name, columns_won in wins.items():
        counts = ", ".join(f"{column} {won} of {len(TARGETS)}" for column, won in columns_won.items())
        print(f"{name}: targets on which the pretrained source is below random weights: {counts}")
    print("search <= assignment <= montecarlo in all results")
    if options.out:
        Path(options.out).write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
