"""The jobs of the ranking benchmark: what is fine-tuned on which target, at which rates and seeds."""

from collections.abc import Iterator
from dataclasses import dataclass

from result_log import ResultLog

__all__ = [
    "DEVELOPMENT",
    "EPOCHS",
    "LABELED",
    "MIDDLE_RATE",
    "ONE_SEED",
    "PARTS",
    "RATES",
    "SOURCES",
    "TEST",
    "Job",
    "chosen_rate",
    "jobs",
    "n_seeds",
    "source_part",
]

SOURCES = {
    "vit-fashion": "images of clothing, transformer",
    "efficientnet-lite0@64px": "photographs, convolutional",
    "ppocr": "lines of text as images, convolutional with attention",
    "minilm": "English sentences, transformer",
    "rxnfp": "chemical reactions as text, transformer",
    "crepe-tiny": "pitch of sounds, convolutional",
    "musicnn": "tags of music, convolutional",
    "resemblyzer": "speakers, recurrent",
    "silero-vad": "speech or other sound, recurrent",
    "eeg-seizure": "EEG, convolutional and recurrent",
}
"""Sources by name, with the modality that they know and the kind of the network. No two are of one family."""
DEVELOPMENT = {
    "digits": "image",
    "mnist5k": "image",
    "glyphs": "image",
    "acsf1": "series",
    "arrowhead": "series",
    "gunpoint": "series",
    "italy-power": "series",
    "basic-motions": "motion",
    "spoken-digits": "sound",
    "cells": "table",
}
"""Targets by name, with their modality. All of an earlier benchmark are here."""
TEST = {
    "fonts": "image",
    "osu-leaf": "series",
    "covid-3month-levels": "series",
    "pickup-gesture": "motion",
    "japanese-vowels": "motion",
    "spoken-languages": "sound",
    "notes": "sound",
    "tissue-genes": "genes",
    "musk": "molecules",
    "leaf-flavia": "table",
    "pd-speech": "table",
    "spam": "table",
    "olive-oils": "table",
    "breast-cancer": "table",
}
"""Targets that judge. None of them was in the first edition of a benchmark."""
RATES = (5e-4, 1e-4, 2.5e-3)
"""Learning rates; of equal errors the first counts."""
MIDDLE_RATE = RATES[0]
EPOCHS = (1, 3, 10)
"""Epochs of one run whose errors are read."""
LABELED = 128
"""Largest number of labeled samples, drawn from the training split."""
ONE_SEED = ("ppocr",)
"""Sources that take half of the whole time, and train on all labeled samples with one seed in place of two."""
PARTS = ("half", "all", "control", "scores")


@dataclass(frozen=True)
class Job:
    """One fine-tuning, or the scores and the linear probe of one source.

    Attributes:
        part: `half` trains on one half of the labeled samples and judges on the other; `all` trains on all of them and
            tests; `control` does so with random weights; `scores` computes scores and a linear probe.
        source: Name of the source.
        target: Name of the target.
        seed: Seed of everything random.
        rate: Learning rate; 0 for scores.
    """

    part: str
    source: str
    target: str
    seed: int = 0
    rate: float = 0.0

    @property
    def name(self) -> str:
        """Name of the job in messages."""
        return " ".join(
            filter(None, (self.part, self.source, self.target, str(self.seed), f"{self.rate:g}" if self.rate else ""))
        )


def n_seeds(source: str) -> int:
    """Return with how many seeds a source trains on all labeled samples."""
    return 1 if source in ONE_SEED else 2


def source_part(part: str, log: ResultLog, target: str, source: str) -> Iterator[Job]:
    """Yield the jobs of one part for a source on a target; those of `all` need the errors of `half`."""
    if part == "scores":
        yield Job(part, source, target)
    elif part == "half":
        yield from (Job(part, source, target, 0, rate) for rate in RATES)
    elif part == "control":
        yield Job(part, f"random:{source}", target, 0, MIDDLE_RATE)
    elif (rate := chosen_rate(log, source, target)) is not None:
        yield from (Job(part, source, target, seed, rate) for seed in range(n_seeds(source)))


def jobs(log: ResultLog, targets: tuple[str, ...] = (*DEVELOPMENT, *TEST)) -> Iterator[Job]:
    """Yield all jobs, target by target, so that an interrupted run has complete targets."""
    for target in targets:
        for part in PARTS:
            for source in SOURCES:
                yield from source_part(part, log, target, source)


def chosen_rate(log: ResultLog, source: str, target: str, epoch: int = EPOCHS[-1]) -> float | None:
    """Return the rate with the lowest error on the other half of the labeled samples; None before they are done."""
    results = {rate: log.get(Job("half", source, target, 0, rate)) for rate in RATES}
    errors = {rate: result["errors"][str(epoch)] for rate, result in results.items() if result}
    return min(errors, key=lambda rate: (errors[rate], RATES.index(rate))) if len(errors) == len(RATES) else None
