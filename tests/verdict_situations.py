"""Situations in which a discrepancy is measured, each with the verdict that its data support.

    python -m tests.verdict_situations        prints the sentences of all situations, to be read aloud

The logits are synthetic: noise, noise with a signal on the class of the sample, or a random linear map of features in
which the classes differ, as in a network that was not trained. Noise is called information in one of twenty draws, as
the level of the permutation test says. The draws below are others.
"""

import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

import modgap
from modgap.api.discrepancy import DiscrepancyResult
from modgap.discrepancy.answer import answer_of_record
from modgap.discrepancy.control import compare_with_controls
from modgap.discrepancy.estimate import held_out_samples
from modgap.discrepancy.verdict import Finding, evidence_of_record, verdict

QUICK = {"estimators": ["soft"], "permutations": 19}
"""Options of all situations. The soft error is fast, and 19 permutations can give p = 0.05."""
SEARCH = {"estimators": ["search", "soft"]}
"""Options of situations whose verdict depends on the error rate of a map, as that of the majority class does."""


@dataclass(frozen=True)
class Situation:
    """A situation, the status of its verdict, and a function that measures it."""

    name: str
    status: str
    measure: Callable[[], DiscrepancyResult]

    def verdict(self) -> tuple[Finding, list[str]]:
        """Return the verdict, and the sentences of the answer as they are printed."""
        record = self.measure().to_dict()
        return verdict(evidence_of_record(record)), answer_of_record(record).sentences


def noise(labels: np.ndarray, n_source: int, seed: int = 0) -> np.ndarray:
    """Return logits that do not depend on the labels, shape (N, C)."""
    return np.random.default_rng(seed).standard_normal((len(labels), n_source))


def signal(labels: np.ndarray, n_source: int, strength: float = 3.0, seed: int = 0) -> np.ndarray:
    """Return logits of which one rises with the class of the sample, shape (N, C)."""
    logits = noise(labels, n_source, seed)
    logits[np.arange(len(labels)), labels] += strength
    return logits


def untrained(labels: np.ndarray, n_source: int, seed: int, spread: float = 1.0) -> np.ndarray:
    """Return a random linear map of features in which the classes differ, shape (N, C)."""
    data = np.random.default_rng(7)
    features = spread * data.standard_normal((labels.max() + 1, 12))[labels] + data.standard_normal((len(labels), 12))
    return features @ np.random.default_rng(seed).standard_normal((12, n_source)) / 4


def one_hot(classes: np.ndarray, n_source: int) -> np.ndarray:
    """Return predicted classes as logits of 0 and 1, shape (N, C)."""
    return np.eye(n_source)[classes]


def even(n: int, n_classes: int) -> np.ndarray:
    """Return N labels of classes of equal size."""
    return np.arange(n) % n_classes


def sized(*sizes: int) -> np.ndarray:
    """Return labels of classes of different sizes."""
    return np.repeat(np.arange(len(sizes)), sizes)


def shuffled(labels: np.ndarray, seed: int = 1) -> np.ndarray:
    """Return the labels in a random order."""
    return np.random.default_rng(seed).permutation(labels)


def estimate(logits: np.ndarray, labels: np.ndarray, **options: object) -> DiscrepancyResult:
    """Estimate a discrepancy with the quick options, unless there are others."""
    return modgap.estimate(logits, labels, **({"source": "vit", "target": "birds"} | QUICK | options))


def compared(
    logits: np.ndarray,
    controls: list[np.ndarray],
    labels: np.ndarray,
    groups: np.ndarray | None = None,
    **options: object,
) -> DiscrepancyResult:
    """Estimate a discrepancy, and compare it with the logits of controls."""
    result = estimate(logits, labels, groups=groups, **options)
    estimator = result.result.best_estimator
    errors = [held_out_samples(one, labels, groups=groups, estimators=[estimator]) for one in controls]
    control = compare_with_controls(result.result.tested_samples, errors, "random:vit", estimator)
    return replace(result, result=replace(result.result, control=control))


def networks(labels: np.ndarray, n_source: int, n: int, spread: float = 1.0) -> list[np.ndarray]:
    """Return the logits of several untrained networks."""
    return [untrained(labels, n_source, 20 + number, spread) for number in range(n)]


def multi_label(seed: int = 0, strength: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """Return logits and 0/1 labels (N, K) of samples that have one or two classes."""
    rng = np.random.default_rng(seed)
    labels = np.eye(4, dtype=int)[even(160, 4)] | np.eye(4, dtype=int)[rng.integers(4, size=160)]
    logits = rng.standard_normal((160, 12))
    logits[:, :4] += strength * labels
    return logits, labels


def group_noise(labels: np.ndarray, groups: np.ndarray, n_source: int, seed: int = 0) -> np.ndarray:
    """Return logits that differ between groups, but do not depend on the labels, shape (N, C)."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((groups.max() + 1, n_source))[groups] + 0.4 * rng.standard_normal(
        (len(labels), n_source)
    )


def half_dead(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Return logits in which the network has the same output for six in ten samples."""
    dead = np.random.default_rng(5).random(len(labels)) < 0.6
    return np.where(dead[:, None], np.linspace(-1, 1, logits.shape[1]), logits)


def oversampled() -> DiscrepancyResult:
    """Repeat each sample of the rare class ten times, in logits that are noise."""
    labels = sized(100, 12)
    times = np.where(labels == 1, 10, 1)
    return estimate(np.repeat(noise(labels, 8), times, axis=0), np.repeat(labels, times))


def copies(labels: np.ndarray, logits: np.ndarray, times: int, **options: object) -> DiscrepancyResult:
    """Repeat every sample."""
    return estimate(np.repeat(logits, times, axis=0), np.repeat(labels, times), **options)


L4 = even(200, 4)
L10 = even(300, 10)
BIRDS = shuffled(sized(150, 50))
PURE = np.repeat(even(20, 4), 10)
G20 = np.repeat(np.arange(20), 10)
TAIL = np.r_[np.arange(40), np.repeat([0, 1], 20)]

SITUATIONS = (
    # The source knows, or knows nothing; there is no control.
    Situation("strong signal, 4 classes", "carries information", lambda: estimate(signal(L4, 20), L4, **SEARCH)),
    Situation(
        "strong signal, 2 classes", "carries information", lambda: estimate(signal(even(100, 2), 6), even(100, 2))
    ),
    Situation("strong signal, 10 classes", "carries information", lambda: estimate(signal(L10, 30), L10)),
    Situation(
        "weak signal, 400 samples",
        "carries information",
        lambda: estimate(signal(even(400, 4), 10, 0.7), even(400, 4), **SEARCH),
    ),
    Situation("soft error alone", "carries information", lambda: estimate(signal(L4, 8), L4)),
    Situation(
        "permutations for the search",
        "carries information",
        lambda: estimate(signal(L4, 8), L4, estimators=["search"], permutations_for="search"),
    ),
    Situation("several labels, signal", "carries information", lambda: estimate(*multi_label())),
    Situation("several labels, noise", "nothing shown", lambda: estimate(*multi_label(3, 0.0))),
    Situation("noise, 4 classes", "nothing shown", lambda: estimate(noise(L4, 20), L4)),
    Situation("noise, 2 classes", "nothing shown", lambda: estimate(noise(even(100, 2), 6), even(100, 2))),
    Situation("noise, 20 classes", "nothing shown", lambda: estimate(noise(even(400, 20), 40, 1), even(400, 20))),
    Situation("arrays without names", "carries information", lambda: estimate(signal(L4, 8), L4, source=None)),
    # Outputs with few different values.
    Situation(
        "a dead network: all rows are equal", "nothing shown", lambda: estimate(np.tile(noise(L4[:1], 8), (200, 1)), L4)
    ),
    Situation("dead for six in ten samples, noise", "nothing shown", lambda: estimate(half_dead(L4, noise(L4, 8)), L4)),
    Situation(
        "dead for six in ten samples, signal",
        "carries information",
        lambda: estimate(half_dead(L4, signal(L4, 8)), L4, **SEARCH),
    ),
    Situation("one-hot rows, all correct", "carries information", lambda: estimate(one_hot(L4, 6), L4)),
    Situation("one-hot rows, 2 classes", "carries information", lambda: estimate(one_hot(BIRDS, 2), BIRDS, **SEARCH)),
    Situation("one-hot rows, random", "nothing shown", lambda: estimate(one_hot(shuffled(L4), 6), L4)),
    # Few samples, or no test.
    Situation("4 samples", "nothing shown", lambda: estimate(signal(even(4, 2), 5), even(4, 2))),
    Situation("7 samples, signal", "carries information", lambda: estimate(signal(even(7, 2), 5), even(7, 2))),
    Situation("12 samples, signal", "carries information", lambda: estimate(signal(even(12, 2), 5, 4), even(12, 2))),
    Situation("12 samples, noise", "nothing shown", lambda: estimate(noise(even(12, 2), 5, 3), even(12, 2))),
    Situation("one class has one sample", "no held-out error", lambda: estimate(signal(sized(20, 1), 8), sized(20, 1))),
    Situation("no splits", "no held-out error", lambda: estimate(signal(L4, 8), L4, splits=0)),
    Situation("one split", "carries information", lambda: estimate(signal(L4, 8), L4, splits=1)),
    Situation("labels not permuted", "labels not permuted", lambda: estimate(signal(L4, 8), L4, permutations=0)),
    Situation("9 permutations", "nothing shown", lambda: estimate(signal(L4, 8), L4, permutations=9)),
    Situation(
        "Monte-Carlo alone",
        "no held-out error",
        lambda: estimate(signal(L4, 8), L4, estimators=["montecarlo"], permutations=0),
    ),
    # One dominant class.
    Situation(
        "one class has 3 of 4 samples, weak signal",
        "not better than the majority class",
        lambda: estimate(signal(BIRDS, 6, 0.9), BIRDS, **SEARCH),
    ),
    Situation(
        "the error is that of the majority class",
        "not better than the majority class",
        lambda: estimate(signal(BIRDS, 2, 0.5) + 4.0 * np.array([1.0, 0.0]), BIRDS, **SEARCH),
    ),
    Situation(
        "one class has 3 of 4 samples, strong signal",
        "carries information",
        lambda: estimate(signal(BIRDS, 6, 5), BIRDS),
    ),
    Situation("one class has 3 of 4 samples, noise", "nothing shown", lambda: estimate(noise(BIRDS, 6, 2), BIRDS)),
    Situation(
        "one class has 19 of 20 samples, signal",
        "not better than the majority class",
        lambda: estimate(signal(sized(190, 10), 6, 2.5), sized(190, 10), **SEARCH),
    ),
    Situation(
        "the same, classes count equally",
        "carries information",
        lambda: estimate(signal(sized(190, 10), 6, 2.5), sized(190, 10), weight="classes"),
    ),
    # Many classes.
    Situation(
        "2 of 40 classes are tested", "carries information", lambda: estimate(signal(TAIL, 60, 6), TAIL, **SEARCH)
    ),
    Situation("2 of 40 classes are tested, noise", "nothing shown", lambda: estimate(noise(TAIL, 60), TAIL)),
    Situation("40 classes of 5", "carries information", lambda: estimate(signal(even(200, 40), 60, 5), even(200, 40))),
    Situation("50 classes of 2, noise", "nothing shown", lambda: estimate(noise(even(100, 50), 80, 2), even(100, 50))),
    Situation(
        "more classes than the source has", "no map", lambda: estimate(noise(even(60, 12), 8), even(60, 12), classes=5)
    ),
    # Copies.
    Situation(
        "30 samples ten times, noise", "nothing shown", lambda: copies(even(30, 3), noise(even(30, 3), 10, 2), 10)
    ),
    Situation(
        "50 samples ten times, signal", "carries information", lambda: copies(even(50, 2), signal(even(50, 2), 8), 10)
    ),
    Situation("5 samples twenty times", "nothing shown", lambda: copies(even(5, 2), noise(even(5, 2), 6), 20)),
    Situation(
        "one sample twice",
        "carries information",
        lambda: estimate(np.r_[signal(L4, 8), signal(L4, 8)[:1]], np.r_[L4, L4[:1]]),
    ),
    Situation(
        "copies with different labels",
        "nothing shown",
        lambda: estimate(np.repeat(noise(L4, 8), 2, axis=0), shuffled(even(400, 4))),
    ),
    Situation("a rare class ten times", "nothing shown", oversampled),
    # Groups.
    Situation(
        "20 groups of one class, signal", "carries information", lambda: estimate(signal(PURE, 8), PURE, groups=G20)
    ),
    Situation(
        "20 groups, noise by group", "nothing shown", lambda: estimate(group_noise(PURE, G20, 8), PURE, groups=G20)
    ),
    Situation(
        "4 groups",
        "nothing shown",
        lambda: estimate(signal(sized(50, 50), 6), sized(50, 50), groups=even(100, 4) // 2 + 2 * sized(50, 50)),
    ),
    Situation(
        "groups whose size depends on the class",
        "nothing shown",
        lambda: estimate(
            group_noise(sized(300, 50), np.r_[np.arange(300) // 30, 10 + np.arange(50) // 5], 8, 1),
            sized(300, 50),
            groups=np.r_[np.arange(300) // 30, 10 + np.arange(50) // 5],
        ),
    ),
    Situation(
        "groups of several classes, signal",
        "carries information",
        lambda: estimate(signal(L4, 8), L4, groups=np.arange(200) // 10),
    ),
    # Untrained networks, and controls.
    Situation("an untrained network", "carries information", lambda: estimate(untrained(L4, 20, 1), L4, **SEARCH)),
    Situation(
        "a source with random weights",
        "carries information",
        lambda: estimate(untrained(L4, 20, 1), L4, source="random:vit", **SEARCH),
    ),
    Situation(
        "an untrained network against one",
        "not better than few controls",
        lambda: compared(untrained(L4, 20, 3), networks(L4, 20, 1), L4, **SEARCH),
    ),
    Situation(
        "a better source against one",
        "better than few controls",
        lambda: compared(signal(L4, 20, 5), networks(L4, 20, 1), L4),
    ),
    Situation(
        "a better source against two",
        "better than few controls",
        lambda: compared(signal(L4, 20, 5), networks(L4, 20, 2), L4),
    ),
    Situation(
        "a worse source against one",
        "not better than few controls",
        lambda: compared(signal(L4, 20, 0.7), networks(L4, 20, 1), L4, **SEARCH),
    ),
    Situation(
        "a better source against three",
        "knows something",
        lambda: compared(signal(L4, 20, 6), networks(L4, 20, 3), L4, **SEARCH),
    ),
    Situation(
        "a better source against five", "knows something", lambda: compared(signal(L4, 20, 6), networks(L4, 20, 5), L4)
    ),
    Situation(
        "an untrained network against three",
        "pretraining not shown",
        lambda: compared(untrained(L4, 20, 3), networks(L4, 20, 3), L4, **SEARCH),
    ),
    Situation(
        "a worse source against three",
        "controls are better",
        lambda: compared(signal(L4, 20, 0.7), networks(L4, 20, 3, 2.0), L4, **SEARCH),
    ),
    Situation(
        "noise against three",
        "nothing shown",
        lambda: compared(noise(L4, 20), [noise(L4, 20, s) for s in (5, 6, 7)], L4),
    ),
    Situation(
        "6 groups against three",
        "carries information",
        lambda: compared(
            signal(even(120, 2), 8, 5), networks(even(120, 2), 8, 3), even(120, 2), groups=np.arange(120) // 20
        ),
    ),
    Situation(
        "better than three, but not than the majority class",
        "not better than the majority class",
        lambda: compared(signal(BIRDS, 6, 1.5), [noise(BIRDS, 6, s) for s in (5, 6, 7)], BIRDS, **SEARCH),
    ),
    Situation(
        "labels not permuted, a better source against three",
        "labels not permuted",
        lambda: compared(signal(L4, 20, 6), networks(L4, 20, 3), L4, permutations=0),
    ),
    # Sources and targets of the package.
    Situation(
        "vit-fashion on digits",
        "carries information",
        lambda: modgap.measure("vit-fashion", "digits", limit=200, **(QUICK | SEARCH)),
    ),
    Situation(
        "its random weights on digits",
        "not better than the majority class",
        lambda: modgap.measure("random:vit-fashion", "digits", limit=150, **(QUICK | SEARCH)),
    ),
    Situation(
        "vit-fashion on digits against one",
        "better than few controls",
        lambda: modgap.measure("vit-fashion", "digits", limit=200, control=1, **(QUICK | SEARCH)),
    ),
    Situation(
        "vit-fashion on digits against three",
        "knows something",
        lambda: modgap.measure("vit-fashion", "digits", limit=200, control=3, **(QUICK | SEARCH)),
    ),
)


def main() -> None:
    """Print each situation with its status and all sentences."""
    logging.getLogger("modgap").setLevel(logging.ERROR)
    for number, situation in enumerate(SITUATIONS, 1):
        shown, sentences = situation.verdict()
        mark = "" if shown.status == situation.status else f"  EXPECTED {situation.status}"
        lines = "".join(f"   {sentence}\n" for sentence in sentences)
        sys.stdout.write(f"{number}. {situation.name} [{shown.status}]{mark}\n{lines}")


if __name__ == "__main__":
    main()
