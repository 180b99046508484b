"""A child process that makes the tries of one campaign, and writes a line of JSON before and after each."""

import importlib
import json
import logging
import os
import resource
import sys
import tempfile
import warnings

import tests.conftest  # noqa: F401 - it sets the folder of compiled kernels
from tests.campaign.sandbox import import_libraries

MEMORY = 6 << 30
"""Address space in bytes; a file that asks for more is a MemoryError, as on a small machine."""


def main() -> None:
    """Make the tries FIRST to LAST of the campaign NAME of REGISTRY in the folder SCRATCH, which the runner removes."""
    registry, name, first, last = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    tempfile.tempdir = sys.argv[5]
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")
    logging.getLogger("modgap").setLevel(logging.ERROR)
    campaign = importlib.import_module(registry).CAMPAIGNS[name]
    if not name.startswith("parse "):
        import_libraries()
    with os.fdopen(os.dup(1), "w", buffering=1) as answers:
        # What libraries print does not belong among the answers.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        for number in range(first, last):
            answers.write(json.dumps({"begin": number}) + "\n")
            answers.write(json.dumps({"end": number, "failure": campaign.attempt(number)}) + "\n")


if __name__ == "__main__":
    main()
