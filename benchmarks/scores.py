"""Time of every score on 20,000 x 1,280 features of 100 classes, beside the peer's package where it is installed.

    python benchmarks/scores.py [--samples 20000] [--width 1280] [--classes 100] [--outputs 1000] [--workers 2]

Each score is a job of one thread, and as many jobs run at a time as there are workers, as in `modgap rank`. The
features are Gaussian clouds about class means, the logits a noisy function of the class. The peer is
transformer-ranker (H-score and LogME on the same features, in torch), after ours with one thread each:
pip install transformer-ranker.
"""

import argparse
import os
import platform
import time
from collections.abc import Callable
from dataclasses import replace

import joblib
import numpy as np

from modgap.ranking.jobs import fix_threads
from modgap.ranking.scores import get_score, score_names
from modgap.ranking.source_outputs import SourceOutputs


def made(samples: int, width: int, classes: int, outputs: int) -> SourceOutputs:
    """Features that tell the classes apart in part, logits that tell less."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.arange(samples) % classes)
    means = rng.standard_normal((classes, width)).astype(np.float32)
    features = rng.standard_normal((samples, width), np.float32) + 0.2 * means[labels]
    towards = rng.standard_normal((classes, outputs)).astype(np.float32)
    logits = rng.standard_normal((samples, outputs), np.float32) + towards[labels]
    own = rng.standard_normal((1000, width), np.float32), rng.permutation(np.arange(1000) % 10)
    return SourceOutputs(features, labels, logits, surrogate=own, properties={"parameters": 1e6, "source_error": 0.1})


def peers(source_outputs: SourceOutputs) -> dict[str, Callable[[], float]]:
    """What the peer computes, by the name of our score."""
    try:
        import torch
        from transformer_ranker.estimators import HScore, LogME
    except ImportError as error:
        print(f"peer transformer-ranker is not installed or does not load ({error})")
        return {}
    features, labels = torch.from_numpy(np.array(source_outputs.features)), torch.from_numpy(source_outputs.labels)
    return {
        "h-score-shrunk": lambda: float(HScore().fit(embeddings=features, labels=labels)),
        "logme": lambda: float(LogME().fit(embeddings=features, labels=labels)),
    }


def timed(function: Callable[[], float]) -> tuple[float, float]:
    """Its value, and seconds."""
    began = time.perf_counter()
    value = function()
    return value, time.perf_counter() - began


def scored(name: str, source_outputs: SourceOutputs) -> tuple[float, float]:
    """Value and seconds of a score in this process, nothing shared with other scores."""
    fix_threads()
    fresh = replace(source_outputs)
    return timed(lambda: get_score(name).evaluate(fresh))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("samples", 20_000), ("width", 1280), ("classes", 100), ("outputs", 1000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    options = parser.parse_args()
    source_outputs = made(options.samples, options.width, options.classes, options.outputs)
    # Compiled once, as in any use after the first; workers are started too.
    small = made(200, 32, options.classes // 10, 50)
    with joblib.Parallel(options.workers) as parallel:
        parallel(joblib.delayed(scored)(name, small) for name in score_names() for _ in range(options.workers))
        began = time.perf_counter()
        found = parallel(joblib.delayed(scored)(name, source_outputs) for name in score_names())
        wall = time.perf_counter() - began
    print(f"{options.samples:,} x {options.width:,}, {options.classes} classes, {options.outputs:,} outputs; "
          f"{platform.machine()}, {options.workers} workers of one thread")  # fmt: skip
    print(f"{'score':26}{'value':>12}{'s':>8}")
    for name, (value, seconds) in zip(score_names(), found, strict=True):
        print(f"{name:26}{value:12.5g}{seconds:8.2f}")
    print(f"all scores: {sum(seconds for _, seconds in found):.1f} s of a core, {wall:.1f} s of wall time")
    compare(source_outputs)


def compare(source_outputs: SourceOutputs) -> None:
    """The peer's scores and ours, one after the other, one thread each."""
    fix_threads()
    for name, theirs in peers(source_outputs).items():
        value, seconds = scored(name, source_outputs)
        other, took = timed(theirs)
        print(f"{name}: {value:.5g} in {seconds:.2f} s; peer {other:.5g} in {took:.2f} s, {took / seconds:.1f} x")


if __name__ == "__main__":
    main()
