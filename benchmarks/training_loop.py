"""Seconds of an epoch of fine-tuning, next to a bare PyTorch loop over the same batches.

    python benchmarks/training_loop.py [--source NAME] [--target NAME] [--samples N] [--batches 32 --workers 0]

All loops update the same model with AdamW. The bare loop has a DataLoader, which reads and standardizes the samples one
by one, and nothing else: no log, no check of the loss, no seeds of dropout, no smaller batches when the memory does not
suffice. The second bare loop has all standardized samples in memory as one tensor. Runs alternate, and the medians of
their epochs are compared; on a machine with other work, `--shortest` compares the shortest epochs.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset

from modgap.forward.sample_request import SampleRequest
from modgap.sources import open_source
from modgap.targets import TargetRequest, open_target
from modgap.training.methods import get_method
from modgap.training.recipe import resolve_recipe
from modgap.training.train import build_model, train
from modgap.training.train_request import TrainRequest
from modgap.training.training_data import TargetData, read_target_data

EPOCHS = 6
"""Number of epochs of a run; the first warms up and is not counted."""


class Samples(Dataset[tuple[np.ndarray, int]]):
    """Standardized samples of a target with their classes."""

    def __init__(self, data: TargetData) -> None:
        """Keep the target."""
        self.data = data

    def __len__(self) -> int:
        """Return the number of training samples."""
        return len(self.data.train)

    def __getitem__(self, number: int) -> tuple[np.ndarray, int]:
        """Return a standardized sample and its class."""
        row = int(self.data.train[number])
        return self.data.transform.pieces(self.data.table.samples[row])[0], int(self.data.table.class_labels[row])


def bare_epochs(source: str, data: TargetData, batches: Callable[[], Iterable[Sequence[torch.Tensor]]]) -> list[float]:
    """Return the seconds of each epoch of a bare loop but the first.

    Args:
        source: Name of the source.
        data: The target.
        batches: Function that returns the batches of inputs and classes of an epoch.
    """
    recipe = resolve_recipe(data.target.manifest)
    model = build_model(open_source(source).load(None, head=False), data, recipe, get_method("finetune"), seed=0)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4, weight_decay=0.05)
    seconds = []
    for _ in range(EPOCHS):
        start = time.perf_counter()
        model.train()
        for x, y in batches():
            loss = cross_entropy(model(x), y)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        seconds.append(time.perf_counter() - start)
    return seconds[1:]


def batches_in_memory(samples: Samples, batch: int) -> Callable[[], Iterator[tuple[torch.Tensor, torch.Tensor]]]:
    """Return a function that draws the batches of an epoch from one tensor of all samples."""
    pairs = [samples[number] for number in range(len(samples))]
    inputs = torch.from_numpy(np.stack([x for x, _ in pairs]))
    classes = torch.tensor([y for _, y in pairs])
    return lambda: ((inputs[rows], classes[rows]) for rows in torch.randperm(len(classes)).split(batch))


def own_epochs(source: str, target: str, samples: int, batch: int, workers: int) -> list[float]:
    """Return the seconds of each epoch of `modgap train` but the first."""
    settings = (f"stage2.epochs={EPOCHS}", f"stage2.batch_size={batch}", f"loader_workers={workers}")
    request = TrainRequest("finetune", source, TargetRequest(target), settings, samples=SampleRequest(limit=samples))
    with tempfile.TemporaryDirectory() as folder:
        done = train(request, Path(folder) / "run")
        lines = (done.folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["seconds"] for line in lines][1:]


def main() -> None:
    """Print the ratios to both bare loops, by default for batches of 4 and 32, with 0, 1 and 2 workers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", default="vit-fashion")
    parser.add_argument("--target", default="digits")
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--shortest", action="store_true", help="Compare the shortest epochs.")
    parser.add_argument("--batches", type=int, nargs="+", default=[4, 32])
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    data = read_target_data(open_target(arguments.target), limit=arguments.samples)
    for batch in arguments.batches:
        for workers in arguments.workers:
            own: list[float] = []
            bare: list[float] = []
            tensors: list[float] = []
            for _ in range(arguments.repeats):
                own += own_epochs(arguments.source, arguments.target, arguments.samples, batch, workers)
                loader = DataLoader(Samples(data), batch, shuffle=True, num_workers=workers)
                bare += bare_epochs(arguments.source, data, lambda loader=loader: loader)
                tensors += bare_epochs(arguments.source, data, batches_in_memory(Samples(data), batch))
            summary = min if arguments.shortest else statistics.median
            ours = summary(own)
            ratios = [ours / summary(seconds) for seconds in (bare, tensors)]
            print(
                f"batches of {batch}, {workers} workers: {ours:.2f} s an epoch, {ratios[0]:.2f} times the bare loop, "
                f"{ratios[1]:.2f} times that over tensors in memory",
                flush=True,
            )


if __name__ == "__main__":
    main()
