"""The jobs of the study of methods: which method is trained from which source on which target, at which rate."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from result_log import ResultLog

SURROGATES = {
    "efficientnet-lite0@64px": ("fashion-mnist", "test"),
    "vit-fashion": ("fashion-mnist", "test"),
}
"""Labeled data of each source's modality, on which its knowledge is measured, with the split."""
SOURCES = tuple(SURROGATES)
DEVELOPMENT = ("digits", "basic-motions", "acsf1")
"""Targets that choose the rates."""
TARGETS = (
    "fonts",
    "osu-leaf",
    "pickup-gesture",
    "japanese-vowels",
    "notes",
    "spoken-languages",
    "tissue-genes",
    "leaf-flavia",
)
"""Targets that judge."""
METHODS = ("scratch", "finetune", "finetune++", "lora", "emb", "orca", "mona", "l2-sp", "replay")
TWO_STAGES = ("emb", "orca", "mona")
RATES = (5e-4, 1e-4, 2.5e-3)
"""Rates of both stages; of equal errors the first counts."""
STAGE1_EPOCHS = 3
READ = (1, 3, 10)
"""Epochs of stage 2 of a method of two stages whose errors are read; a method of one stage has as many updates."""
SEEDS = 5
LABELED = 128
ADDED_SOURCE = "efficientnet-lite0@64px"
ADDED_METHODS = ("finetune", "finetune++", "l2-sp", "replay")
ADDED_RATE = 2.5e-3
"""Rate of the methods of two stages with this source. Jobs at this rate were added after the protocol, which compares
them with methods at other rates."""
UNTOUCHED = "untouched"
"""Name in place of a method for the source before training."""


@dataclass(frozen=True)
class Job:
    """One training with the errors and the remaining knowledge along it.

    Attributes:
        part: `rate` chooses the rate of a method; `study` compares the methods; `added` came after the protocol.
        source: Name of the source.
        method: Name of the method.
        target: Name of the target; empty for the source before training.
        seed: Seed of everything random.
        rate: Learning rate.
    """

    part: str
    source: str
    method: str
    target: str
    seed: int = 0
    rate: float = 0.0

    @property
    def epochs(self) -> dict[int, int]:
        """Epochs of stage 2 after which the model is measured, by the epoch that they stand for."""
        before = 0 if self.method in TWO_STAGES else STAGE1_EPOCHS
        return {epoch: epoch + before for epoch in READ}

    @property
    def name(self) -> str:
        """Name of the job in messages."""
        return f"{self.part} {self.source} {self.method} {self.target} {self.seed} {self.rate:g}"


def rate_jobs(source: str, method: str) -> list[Job]:
    """Return the jobs that choose the rate of a method, which are as many for every method."""
    return [Job("rate", source, method, target, 0, rate) for rate in RATES for target in DEVELOPMENT]


def chosen_rate(log: ResultLog, source: str, method: str) -> float | None:
    """Return the rate with the lowest mean error on the development targets; None before they are done."""
    means = {}
    for rate in RATES:
        results = [log.get(Job("rate", source, method, target, 0, rate)) for target in DEVELOPMENT]
        if any(result is None for result in results):
            return None
        means[rate] = float(np.mean([result["errors"][str(READ[-1])] for result in results if result]))
    return min(means, key=lambda rate: (means[rate], RATES.index(rate)))


def added_jobs() -> list[Job]:
    """Return the jobs that were added after the protocol: methods of one stage at the rate of those of two."""
    return [
        Job("added", ADDED_SOURCE, method, target, seed, ADDED_RATE)
        for seed in range(SEEDS)
        for target in TARGETS
        for method in ADDED_METHODS
    ]


def jobs(log: ResultLog) -> Iterator[Job]:
    """Yield all jobs that are known: those that choose the rates come first, and the others depend on them."""
    for source in SOURCES:
        yield Job("study", source, UNTOUCHED, "")
        for method in METHODS:
            yield from rate_jobs(source, method)
    rates = {(source, method): chosen_rate(log, source, method) for source in SOURCES for method in METHODS}
    for seed in range(SEEDS):
        for target in TARGETS:
            for (source, method), rate in rates.items():
                if rate is not None:
                    yield Job("study", source, method, target, seed, rate)
    yield from added_jobs()
