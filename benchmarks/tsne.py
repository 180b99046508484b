"""Measure time, repeatability and quality of t-SNE maps, and compare them with a map by scikit-learn.

    python benchmarks/tsne.py [--samples 10000] [--width 1280] [--threads 2] [--peer-samples N | --skip-peer]

The features are ten Gaussian clusters in noise, whose centers span 8 dimensions. The script takes about three minutes
on two cores, half of them for scikit-learn's map. The times include the reduction to 50 principal components, from
which both start. The time to measure the quality is printed separately. The script exits with 1 if two runs of one seed
with different numbers of threads are not equal bit for bit.
"""

import argparse
import os
import sys
import time

import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from modgap.probes.feature_arrays import center_features
from modgap.probes.tsne_maps import map_quality, tsne_maps


def clusters(samples, width, seed=0):
    """Return ten clusters in noise whose centers have low rank, (samples, width) float32, and their labels."""
    rng = np.random.default_rng(seed)
    labels = np.arange(samples) % 10
    centers = rng.standard_normal((10, 8)) @ rng.standard_normal((8, width))
    noise = 4 * rng.standard_normal((samples, width), dtype=np.float32)
    return centers.astype(np.float32)[labels] + noise, labels


def timed(function):
    """Call a function, and return the wall time, the CPU time and the result."""
    wall_start = time.perf_counter()
    cpu_start = time.process_time()
    result = function()
    return time.perf_counter() - wall_start, time.process_time() - cpu_start, result


def sklearn_map(features, seed, threads):
    """Return scikit-learn's map of the same 50 principal components, started from them, and its divergence.

    All other settings are scikit-learn's defaults.
    """
    scores = PCA(min(50, *features.shape), random_state=seed).fit_transform(center_features(features, "all", 16))
    map_ = TSNE(perplexity=30, init="pca", random_state=seed, n_jobs=threads)
    return map_.fit_transform(scores), map_.kl_divergence_


def print_map(name, samples, seconds, cpu_seconds, divergence, quality):
    """Print the times, the divergence and the quality of a map."""
    print(
        f"{name}, {samples} samples: {seconds:.1f} s ({cpu_seconds:.1f} s of CPU), divergence {divergence:.3f} | "
        f"trustworthiness {quality.trustworthiness:.4f}, k-NN agreement {quality.agreement_map:.4f} "
        f"(features {quality.agreement_features:.4f}), silhouette {quality.silhouette_map:.3f} "
        f"(features {quality.silhouette_features:.3f})",
        flush=True,
    )


def main():
    """Print both maps; return 0 if all maps of modgap are equal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--peer-samples", type=int, help="number of samples for scikit-learn's map (default: all)")
    parser.add_argument("--skip-peer", action="store_true", help="leave out scikit-learn's map")
    options = parser.parse_args()
    features, labels = clusters(options.samples, options.width, options.seed)
    tsne_maps({"warm-up": features[:50]}, labels[:50], iterations=(2, 2))

    runs = []
    for threads in dict.fromkeys((options.threads, 1)):
        total_s, total_cpu_s, maps = timed(
            lambda threads=threads: tsne_maps({"all": features}, labels, seed=options.seed, threads=threads)
        )
        runs.append(maps["all"])
        # The map includes its quality, so the time of the quality is measured once more to subtract it.
        quality_s, quality_cpu_s, quality = timed(lambda: map_quality(runs[-1].coordinates, features, labels))
        name = f"modgap, {threads} thread{'s' * (threads > 1)}"
        divergence = runs[-1].kl_divergence
        print_map(name, options.samples, total_s - quality_s, total_cpu_s - quality_cpu_s, divergence, quality)
        print(f"  quality {quality_s:.1f} s, map and quality {total_s:.1f} s (goal: at most 90 s)", flush=True)
    if len(runs) == 1:
        runs += tsne_maps({"all": features}, labels, seed=options.seed).values()
    same = all(run.coordinates.tobytes() == runs[0].coordinates.tobytes() for run in runs)
    print(f"equal bit for bit: {'yes' if same else 'NO'}", flush=True)

    if not options.skip_peer:
        subset = features[: options.peer_samples or options.samples]
        seconds, cpu_seconds, result = timed(lambda: sklearn_map(subset, options.seed, options.threads))
        coordinates, divergence = result
        quality = map_quality(coordinates, subset, labels[: len(subset)])
        print_map("scikit-learn", len(subset), seconds, cpu_seconds, divergence, quality)
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
