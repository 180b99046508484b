"""Print the coverage of each package from `coverage json`, and write the total in the format of a badge.

python tools/coverage_table.py coverage.json [--badge FILE]
"""

import argparse
import json
from pathlib import Path
from typing import Any

LOW = 85.0
"""Percentage below which a file is listed."""


def package_of(path: str) -> str:
    """Return the package of a file, such as `modgap/targets`, or the file itself if it is in none."""
    parts = Path(path).parts
    return "/".join(parts[:2]) if parts[0] == "modgap" else parts[0]


def percent(counts: dict[str, int]) -> float:
    """Return the share of statements that ran."""
    return 100 * counts["covered"] / max(counts["statements"], 1)


def by_package(report: dict[str, Any]) -> dict[str, dict[str, int]]:
    """Return the numbers of statements and of those that ran, by package."""
    packages: dict[str, dict[str, int]] = {}
    for path, file in report["files"].items():
        counts = packages.setdefault(package_of(path), {"statements": 0, "covered": 0})
        counts["statements"] += file["summary"]["num_statements"]
        counts["covered"] += file["summary"]["covered_lines"]
    return dict(sorted(packages.items()))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path)
    parser.add_argument("--badge", type=Path, help="also write the total for a badge to this JSON file")
    options = parser.parse_args()
    report = json.loads(options.report.read_text())
    for name, counts in by_package(report).items():
        print(f"{name:32}{counts['statements']:8,}{percent(counts):8.1f} %")
    total = report["totals"]["percent_covered"]
    print(f"{'total':32}{report['totals']['num_statements']:8,}{total:8.1f} %")
    print(f"\nFiles below {LOW:g} %:")
    for path, file in report["files"].items():
        if file["summary"]["percent_covered"] < LOW:
            print(f"{path:60}{file['summary']['percent_covered']:8.1f} %")
    if options.badge:
        color = "brightgreen" if total >= 90 else "yellow"
        badge = {"schemaVersion": 1, "label": "coverage", "message": f"{total:.0f} %", "color": color}
        options.badge.write_text(json.dumps(badge) + "\n")


if __name__ == "__main__":
    main()
