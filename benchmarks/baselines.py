"""Seconds and memory of each baseline for 2,000 samples on one core, with the choice of its settings.

    python benchmarks/baselines.py [--samples N] [NAME ...]

Samples are random with ten classes that differ: tables of 30 columns, series of 150 values, images of 32 x 32 pixels in
three colors, sounds of one second at 16 kHz, texts of 40 words, and fields of 32 x 32 points. The time does not depend
on what they mean. Each baseline runs in a process of its own, whose peak memory is that of the samples and the fit.
"""

import argparse
import json
import multiprocessing
import resource
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from modgap.baselines import baseline_names, get_baseline
from modgap.baselines.baseline import SampleForm, Truth, fit_baseline
from modgap.models import Output
from modgap.targets.manifest import InputSpec

CLASSES = 10
SHAPES = {"table": (1, 30), "series": (1, 150), "image": (3, 32, 32), "audio": (1, 16_000), "field": (1, 32, 32)}
WORDS, LENGTH = 5000, 40
TABLES = ("linear", "neighbors", "extra-trees", "boosting")
FIELDS = ("mean-field", "patches")


def samples_of(name: str, n_samples: int) -> tuple[Sequence[Any], SampleForm, Truth]:
    """Return random samples that suit a baseline, their form and their truth."""
    rng = np.random.default_rng(0)
    labels = rng.integers(CLASSES, size=n_samples)
    baseline = get_baseline(name)
    kind = baseline.kinds[0]
    if kind == "text":
        texts = [" ".join(f"w{word}" for word in (rng.zipf(1.3, LENGTH) + 7 * label) % WORDS) for label in labels]
        return texts, SampleForm(InputSpec(kind="text"), ()), Truth(Output("classification", (CLASSES,)), labels)
    shape = SHAPES["field" if name in FIELDS else "table" if name in TABLES else kind]
    values = rng.normal(size=(n_samples, *shape)).astype(np.float32)
    form = SampleForm(InputSpec(kind=kind, rate=16_000 if kind == "audio" else None), shape)
    if name in FIELDS:
        return values, form, Truth(Output("regression", (1, *shape[1:])), values**2)
    patterns = rng.normal(size=(CLASSES, *shape)).astype(np.float32)
    return values + patterns[labels], form, Truth(Output("classification", (CLASSES,)), labels)


def measure(name: str, n_samples: int) -> dict[str, Any]:
    """Return the seconds of one fit and of one prediction for all samples, and the peak memory of the process."""
    samples, form, truth = samples_of(name, n_samples)
    # Compiled functions are loaded before.
    fit_baseline(get_baseline(name), samples[:200], form, truth.rows(np.arange(200))).scores(samples[:2])
    began = time.perf_counter()
    fitted = fit_baseline(get_baseline(name), samples, form, truth)
    fit_seconds = time.perf_counter() - began
    fitted.scores(samples)
    return {
        "baseline": name,
        "fit_seconds": round(fit_seconds, 1),
        "prediction_seconds": round(time.perf_counter() - began - fit_seconds, 1),
        "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
        "error": round(fitted.error, 3),
    }


def main() -> None:
    """Measure the baselines that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--samples", type=int, default=2000)
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    for name in options.names or baseline_names():
        with context.Pool(1) as pool:
            print(json.dumps(pool.apply(measure, (name, options.samples))), flush=True)


if __name__ == "__main__":
    main()
