"""The jobs of the ranking benchmark: what is fine-tuned on which target, at which rates and seeds."""

from collections.abc import Iterator

from result_log import ResultLog

from modgap.ranking.history.measure import (
    EPOCHS,
    LABELED,
    MIDDLE_RATE,
    ONE_SEED,
    RATES,
    Training,
    best_rate,
    n_seeds,
    trainings,
)

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
PARTS = ("half", "all", "control", "scores")


Job = Training
"""A training of a line of the history, or with the part `scores` the scores and the linear probe of one source."""


def source_part(part: str, log: ResultLog, target: str, source: str) -> Iterator[Job]:
    """Yield the jobs of one part for a source on a target; those of `all` need the errors of `half`."""
    if part == "scores":
        yield Job(part, source, target)
    else:
        yield from (one for one in trainings(source, target, chosen_rate(log, source, target)) if one.part == part)


def jobs(log: ResultLog, targets: tuple[str, ...] = (*DEVELOPMENT, *TEST)) -> Iterator[Job]:
    """Yield all jobs, target by target, so that an interrupted run has complete targets."""
    for target in targets:
        for part in PARTS:
            for source in SOURCES:
                yield from source_part(part, log, target, source)


def chosen_rate(log: ResultLog, source: str, target: str, epoch: int = EPOCHS[-1]) -> float | None:
    """Return the rate with the lowest error on the other half of the labeled samples; None before they are done."""
    results = {rate: log.get(Job("half", source, target, 0, rate)) for rate in RATES}
    return best_rate({rate: result["errors"][str(epoch)] for rate, result in results.items() if result})
