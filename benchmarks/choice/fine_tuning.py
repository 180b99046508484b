"""Test errors after fine-tuning every source on every target, in small jobs that can be resumed."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from result_log import ResultLog

from modgap.ranking.source_patterns import split_input_size
from modgap.transfer.train import TrainRequest, train

__all__ = ["PRETRAINED", "SEEDS", "SOURCES", "TARGETS", "TEXT_MODEL", "Trial", "errors_of", "trials", "work"]

PRETRAINED = (
    "efficientnet-lite0@32px",
    "efficientnet-lite0@64px",
    "efficientnet-lite1@64px",
    "efficientnet-lite2@64px",
    "vit-fashion",
    "minilm",
)
SOURCES = (*PRETRAINED, *(f"random:{name}" for name in PRETRAINED))
TEXT_MODEL = "minilm"
"""The only source that is not an image model. It has more parameters than all others."""
TARGETS = ("digits", "mnist5k", "acsf1", "arrowhead", "basic-motions", "gunpoint", "italy-power")
SEEDS = 3
LIMIT = 200
COMMON = (
    "stage2.epochs=15",
    "stage2.decay_epochs=15",
    "stage2.warmup_epochs=1",
    "stage2.choose=last",
    "stage2.batch_size=16",
)
IMAGES = (*COMMON, "stage2.learning_rate=1e-3")
TEXTS = (*COMMON, "stage2.learning_rate=1e-4", "target_sequence_length=32")


@dataclass(frozen=True)
class Trial:
    """One source fine-tuned on one target."""

    source: str
    target: str
    seed: int
    limit: int
    settings: tuple[str, ...]

    @property
    def name(self) -> str:
        """Name of the trial and of its run folder."""
        return f"{self.target}-{self.source.replace(':', '-')}-{self.seed}"


def trials() -> Iterator[Trial]:
    """Yield all trials, seed by seed."""
    for seed in range(SEEDS):
        for target in TARGETS:
            for source in SOURCES:
                yield Trial(source, target, seed, LIMIT, TEXTS if TEXT_MODEL in source else IMAGES)


def work(trial: Trial, log: ResultLog, runs: Path) -> dict:
    """Fine-tune on one thread, append the result to the log, and return its record."""
    torch.set_num_threads(1)
    began = time.perf_counter()
    source, size = split_input_size(trial.source)
    request = TrainRequest(
        "finetune", source, trial.target, trial.settings, seed=trial.seed, limit=trial.limit, input_size=size
    )
    run = train(request, runs / trial.name, resume=True)
    result = {
        "test": run.record["result"]["test"],
        "metric": run.record["result"]["metric"],
        "samples": run.record["samples"],
        "seconds": round(time.perf_counter() - began, 1),
    }
    return log.add(trial, result)


def errors_of(target: str, log: ResultLog) -> dict[str, list[float]]:
    """Return the test errors in percent by source, one per seed."""
    errors: dict[str, list[float]] = {}
    for trial in trials():
        if trial.target == target and (result := log.get(trial)):
            errors.setdefault(trial.source, []).append(result["test"])
    return errors
