"""Time of every score on 20,000 x 1,280 features of 100 classes, beside the peer's package where it is installed.

    python benchmarks/scores.py [--samples 20000] [--width 1280] [--classes 100] [--outputs 1000]

The features are Gaussian clouds about class means, the logits a noisy function of the class. The peer is
transformer-ranker (H-score and LogME on the same features, in torch): pip install transformer-ranker.
"""

import argparse
import platform
import time
from collections.abc import Callable

import numpy as np

from modgap.ranking.evidence import Evidence
from modgap.ranking.scores import score, score_names


def made(samples: int, width: int, classes: int, outputs: int) -> Evidence:
    """Features that tell the classes apart in part, logits that tell less."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.arange(samples) % classes)
    means = rng.standard_normal((classes, width)).astype(np.float32)
    features = rng.standard_normal((samples, width), np.float32) + 0.2 * means[labels]
    towards = rng.standard_normal((classes, outputs)).astype(np.float32)
    logits = rng.standard_normal((samples, outputs), np.float32) + towards[labels]
    own = rng.standard_normal((1000, width), np.float32), rng.permutation(np.arange(1000) % 10)
    return Evidence(features, labels, logits, surrogate=own, facts={"parameters": 1e6, "source_error": 0.1})


def peers(evidence: Evidence) -> dict[str, Callable[[], float]]:
    """What the peer computes, by the name of our score."""
    try:
        import torch
        from transformer_ranker.estimators import HScore, LogME
    except ImportError as error:
        print(f"peer transformer-ranker is not installed or does not load ({error})")
        return {}
    features, labels = torch.from_numpy(np.array(evidence.features)), torch.from_numpy(evidence.labels)
    return {
        "h-score-shrunk": lambda: float(HScore().fit(embeddings=features, labels=labels)),
        "logme": lambda: float(LogME().fit(embeddings=features, labels=labels)),
    }


def timed(function: Callable[[], float]) -> tuple[float, float]:
    """Its value, and seconds."""
    began = time.perf_counter()
    value = function()
    return value, time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("samples", 20_000), ("width", 1280), ("classes", 100), ("outputs", 1000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    evidence = made(given.samples, given.width, given.classes, given.outputs)
    # Compiled once, as in any use after the first.
    small = made(200, 32, given.classes // 10, 50)
    for name in score_names():
        score(name).of(small)
    other = peers(evidence)
    print(
        f"{given.samples:,} x {given.width:,}, {given.classes} classes, {given.outputs:,} outputs; {platform.machine()}"
    )
    print(f"{'score':26}{'value':>12}{'s':>8}   peer: value, s, ratio")
    total = shared = 0.0
    began = time.perf_counter()
    for name in score_names():
        value, seconds = timed(lambda name=name: score(name).of(evidence))
        total += seconds
        line = f"{name:26}{value:12.5g}{seconds:8.2f}"
        if name in other:
            theirs, their_seconds = timed(other[name])
            shared += their_seconds
            line += f"   {theirs:.5g}, {their_seconds:.2f} s, {their_seconds / seconds:.1f} x"
        print(line, flush=True)
    print(f"all scores {total:.1f} s (wall {time.perf_counter() - began - shared:.1f} s)")


if __name__ == "__main__":
    main()
