"""A run as one of several processes: `python -m torch.distributed.run ... tests/two_processes.py JSON`."""

import json
import sys
from pathlib import Path

from modgap.transfer.train import TrainRequest, train


def main() -> None:
    """Train each of the requests that the file lists, in its folder."""
    for request in json.loads(Path(sys.argv[1]).read_text()):
        train(
            TrainRequest(request["method"], request["source"], request["target"], tuple(request["settings"])),
            Path(request["out"]),
        )


if __name__ == "__main__":
    main()
