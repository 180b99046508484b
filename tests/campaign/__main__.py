"""Run the campaigns: `python -m tests.campaign`; an interrupted run goes on where it stopped."""

import argparse
import fnmatch
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.campaign.all_campaigns import CAMPAIGNS
from tests.campaign.runner import format_summary, run_campaigns
from tests.campaign.types import Campaign


def main(campaigns: Mapping[str, Campaign]) -> None:
    """Run the campaigns that the arguments choose, print the table, and exit with 1 if a try failed.

    Args:
        campaigns: All campaigns by name.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="*", help="Pattern of the campaigns' names.")
    parser.add_argument("--quick", action="store_true", help="Make only the quick share, as make test does.")
    parser.add_argument("--workers", type=int, default=2, help="Number of processes.")
    parser.add_argument("--results", type=Path, default=Path("campaign.jsonl"), help="File of the finished parts.")
    options = parser.parse_args()
    chosen = [campaign for name, campaign in campaigns.items() if fnmatch.fnmatch(name, options.only)]
    records = run_campaigns(chosen, options.results, options.workers, quick=options.quick)
    print(format_summary(records))
    sys.exit(any(record["failures"] for record in records))


if __name__ == "__main__":
    main(CAMPAIGNS)
