"""Compare the ratios of a run of pytest-benchmark with the history, and append them to it.

    python -m benchmarks.speed.check RESULTS.json [--history FILE] [--no-history]

A ratio is the smallest time of the baseline divided by modgap's smallest time, for the same work. It is compared with
the median of the last five runs on the same kind of machine. The exit code is 1 if a ratio is lower by more than 20 %.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from modgap.cli.output import print_table

HISTORY = Path(__file__).resolve().parent.parent / "results" / "speed.jsonl"
TOLERANCE = 0.2
"""Share by which a ratio may be lower than before."""
REMEMBERED = 5
"""Number of earlier runs that count."""


def ratios(results: Mapping[str, Any]) -> dict[str, float]:
    """Return the ratio of each figure from the results of pytest-benchmark."""
    seconds: dict[str, dict[str, float]] = {}
    scales = {}
    for benchmark in results["benchmarks"]:
        facts = benchmark["extra_info"]
        seconds.setdefault(facts["figure"], {})[facts["side"]] = benchmark["stats"]["min"]
        scales[facts["figure"]] = facts["scale"]
    return {name: scales[name] * times["baseline"] / times["modgap"] for name, times in seconds.items()}


def machine_of(results: Mapping[str, Any]) -> str:
    """Return the kind of machine: processor and number of cores."""
    processor = results["machine_info"]["cpu"]
    return f"{processor['brand_raw']}, {processor['count']} cores"


def references(history: Sequence[Mapping[str, Any]], machine: str) -> dict[str, float]:
    """Return the median of the last ratios of each figure on this kind of machine."""
    seconds_by_case: dict[str, list[float]] = {}
    for record in history:
        if record["machine"] == machine:
            for name, ratio in record["ratios"].items():
                seconds_by_case.setdefault(name, []).append(ratio)
    return {name: median(values[-REMEMBERED:]) for name, values in seconds_by_case.items()}


def slower(measured: Mapping[str, float], expected: Mapping[str, float]) -> list[str]:
    """Return the names of the figures whose ratio is lower than before by more than the tolerance."""
    return [name for name, ratio in measured.items() if ratio < (1 - TOLERANCE) * expected.get(name, 0.0)]


def read_history(path: Path) -> list[dict[str, Any]]:
    """Return the records of earlier runs, the oldest first."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def main() -> int:
    """Print the ratios beside earlier ones, and return 1 if one is lower by more than the tolerance."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="results of pytest-benchmark as JSON")
    parser.add_argument("--history", type=Path, default=HISTORY)
    parser.add_argument("--no-history", action="store_true", help="do not append this run")
    options = parser.parse_args()
    results = json.loads(options.results.read_text())
    measured, machine = ratios(results), machine_of(results)
    expected = references(read_history(options.history), machine)
    failed = slower(measured, expected)
    rows = [
        [name, f"{ratio:.4g}", f"{expected[name]:.4g}" if name in expected else "none", "slower" * (name in failed)]
        for name, ratio in measured.items()
    ]
    print_table(("figure", "ratio", "earlier", ""), rows, f"times of baselines over modgap's, {machine}")
    if not options.no_history and not failed:
        record = {
            "date": results["datetime"][:10],
            "commit": results["commit_info"]["id"],
            "machine": machine,
            "ratios": {name: float(f"{ratio:.5g}") for name, ratio in measured.items()},
        }
        with options.history.open("a") as stream:
            stream.write(json.dumps(record) + "\n")
    if failed:
        print(f"slower than before by more than {TOLERANCE:.0%}: {'; '.join(failed)}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
