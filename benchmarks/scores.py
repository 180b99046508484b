"""Measure the time of every score on 20,000 x 1,280 features of 100 classes, and of transformer-ranker if installed.

    python benchmarks/scores.py [--samples 20000] [--width 1280] [--classes 100] [--outputs 1000] [--workers 2]

Each score is a job of one thread, and as many jobs run at a time as there are workers, as in `modgap rank`. The
features are Gaussian clouds around the class means, and the logits are a noisy function of the class. Afterwards the
H-score and LogME of transformer-ranker (`pip install transformer-ranker`) run on the same features in torch, and the
same scores of modgap, each with one thread.
"""

import argparse
import os
import platform
import time
from collections.abc import Callable
from dataclasses import replace

import joblib
import numpy as np

from modgap.jobs import fix_threads
from modgap.ranking.scores import get_score, score_names
from modgap.ranking.source_outputs import SourceOutputs


def simulate_outputs(samples: int, width: int, classes: int, outputs: int) -> SourceOutputs:
    """Return features that separate the classes in part, and logits that separate them less."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.arange(samples) % classes)
    means = rng.standard_normal((classes, width)).astype(np.float32)
    features = rng.standard_normal((samples, width), np.float32) + 0.2 * means[labels]
    profiles = rng.standard_normal((classes, outputs)).astype(np.float32)
    logits = rng.standard_normal((samples, outputs), np.float32) + profiles[labels]
    surrogate = rng.standard_normal((1000, width), np.float32), rng.permutation(np.arange(1000) % 10)
    properties = {"parameters": 1e6, "source_error": 0.1}
    return SourceOutputs(features, labels, logits, surrogate=surrogate, properties=properties)


def peer_scores(source_outputs: SourceOutputs) -> dict[str, Callable[[], float]]:
    """Return functions that compute the scores of transformer-ranker, by the name of modgap's score."""
    try:
        import torch
        from transformer_ranker.estimators import HScore, LogME
    except ImportError as error:
        print(f"transformer-ranker is not installed or cannot be imported ({error}). It is left out.")
        return {}
    features = torch.from_numpy(np.array(source_outputs.features))
    labels = torch.from_numpy(source_outputs.labels)
    return {
        "h-score-shrunk": lambda: float(HScore().fit(embeddings=features, labels=labels)),
        "logme": lambda: float(LogME().fit(embeddings=features, labels=labels)),
    }


def timed(function: Callable[[], float]) -> tuple[float, float]:
    """Call a function, and return its value and the seconds it took."""
    began = time.perf_counter()
    value = function()
    return value, time.perf_counter() - began


def time_score(name: str, source_outputs: SourceOutputs) -> tuple[float, float]:
    """Return the value of a score and the seconds it took, without results cached by other scores."""
    fix_threads()
    uncached = replace(source_outputs)
    return timed(lambda: get_score(name).evaluate(uncached))


def main() -> None:
    """Print the time of every score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("samples", 20_000), ("width", 1280), ("classes", 100), ("outputs", 1000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    options = parser.parse_args()
    source_outputs = simulate_outputs(options.samples, options.width, options.classes, options.outputs)
    # The warm-up starts the workers and compiles the kernels, as in any use after the first.
    small = simulate_outputs(200, 32, options.classes // 10, 50)
    with joblib.Parallel(options.workers) as parallel:
        parallel(joblib.delayed(time_score)(name, small) for name in score_names() for _ in range(options.workers))
        began = time.perf_counter()
        results = parallel(joblib.delayed(time_score)(name, source_outputs) for name in score_names())
        wall_seconds = time.perf_counter() - began
    print(
        f"{options.samples:,} x {options.width:,} features, {options.classes} classes, {options.outputs:,} outputs; "
        f"{platform.machine()}, {options.workers} workers of one thread"
    )
    print(f"{'score':26}{'value':>12}{'s':>8}")
    for name, (value, seconds) in zip(score_names(), results, strict=True):
        print(f"{name:26}{value:12.5g}{seconds:8.2f}")
    core_seconds = sum(seconds for _, seconds in results)
    print(f"all scores: {core_seconds:.1f} s of one core, {wall_seconds:.1f} s of wall time")
    compare_with_peer(source_outputs)


def compare_with_peer(source_outputs: SourceOutputs) -> None:
    """Print the scores of transformer-ranker and of modgap, computed one after the other with one thread."""
    fix_threads()
    for name, peer_score in peer_scores(source_outputs).items():
        value, seconds = time_score(name, source_outputs)
        peer_value, peer_seconds = timed(peer_score)
        print(
            f"{name}: modgap {value:.5g} in {seconds:.2f} s, transformer-ranker {peer_value:.5g} in "
            f"{peer_seconds:.2f} s, speed-up {peer_seconds / seconds:.1f}"
        )


if __name__ == "__main__":
    main()
