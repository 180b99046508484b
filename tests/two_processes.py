"""A run as one of several processes: `python -m torch.distributed.run ... tests/two_processes.py JSON`."""

import json
import sys
from pathlib import Path

from modgap.forward.sample_request import SampleRequest
from modgap.targets import TargetRequest
from modgap.training.train import TrainRequest, train


def train_all(requests: list[dict]) -> None:
    """Train each of the requests in its folder."""
    for request in requests:
        samples = SampleRequest(input_size=request["input_size"])
        settings = tuple(request["settings"])
        train(
            TrainRequest(
                request["method"], request["source"], TargetRequest(request["target"]), settings, samples=samples
            ),
            Path(request["out"]),
        )


if __name__ == "__main__":
    train_all(json.loads(Path(sys.argv[1]).read_text()))
