"""The path of 20 L2 strengths of the linear probe against scikit-learn's fits at the same strengths, side by side.

    python benchmarks/probe.py [--quick] [--only NAME ...] [--peer-every K] [--out FILE]

Nearly all of the time is scikit-learn's, hours for the whole synthetic set; --quick takes two minutes. With
--peer-every 5 it fits every fifth strength only, and the ratio, its seconds for these over ours for the whole path, is
a lower bound.

For each data set: features (n, D), split in two, one fifth for test. Both are fitted on the same standardized training
features, in double precision, scikit-learn's LogisticRegression (lbfgs) once at a tolerance that brings it within 1e-6
of the optimum at most strengths (tight, 1e-8) and once at its own (1e-4), which at weak strengths stops far from it.
Printed: seconds, ratios, the largest relative gap between the objectives in either direction, the largest gap in test
accuracy (points) over the strengths. Expected: ratio to tight fits of 5 or more, objectives within 1e-6, accuracies
within a sample or two.

- digits: raw pixels of scikit-learn's digits, 1,797 x 64
- mnist5k: features of efficientnet-lite0 at 64 pixels, 5,000 x 1,280
- synthetic: 20,000 x 1,024, ten classes, correlated features
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy.special import logsumexp
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from modgap.cli.output import print_table
from modgap.forward.batched_inference import output_batches
from modgap.inputs.native_embedding import native_embedding
from modgap.probes.logistic import LogisticPath, logistic_path
from modgap.sources import Source, open_source
from modgap.targets import open_target

TIGHT, OWN, MOST_STEPS = 1e-8, 1e-4, 100_000
INPUT_SIZE = 64


class Bare(torch.nn.Module):
    """A source's model up to its pooled features."""

    forward: Callable


def bare(source: Source) -> Source:
    model = Bare()
    model.inner, model.forward = source.model, source.features
    return replace(source, model=model.eval())


def digits() -> tuple[np.ndarray, np.ndarray]:
    return load_digits(return_X_y=True)


def mnist5k() -> tuple[np.ndarray, np.ndarray]:
    source, target = open_source("efficientnet-lite0").load(INPUT_SIZE), open_target("mnist5k")
    table = target.read()
    embedding = native_embedding(target.manifest.input, table, source.input)
    cpu = torch.device("cpu")
    batches = output_batches(bare(source), table.samples, np.arange(len(table)), embedding, device=cpu, batch_size=16)
    return np.concatenate(list(batches)), table.class_labels


def synthetic(samples: int = 20_000, width: int = 1024, classes: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Features whose variances fall off along random directions, as learned ones' do; classes differ along all."""
    rng = np.random.default_rng(0)
    labels = np.arange(samples) % classes
    falling = rng.standard_normal((width, width)) * np.arange(1, width + 1)[:, None] ** -0.7
    means = 0.15 * rng.standard_normal((classes, width)) @ falling
    return (rng.standard_normal((samples, width)) @ falling + means[labels]).astype(np.float32), labels


def fits(path: LogisticPath, features: np.ndarray, labels: np.ndarray, tolerance: float, chosen: np.ndarray):
    """(seconds, models): scikit-learn's, one for each chosen strength, on features standardized before."""
    standard = (features - path.mean) / path.scale
    began = time.perf_counter()
    models = [
        LogisticRegression(C=1 / strength, tol=tolerance, max_iter=MOST_STEPS).fit(standard, labels)
        for strength in path.strengths[chosen]
    ]
    return time.perf_counter() - began, models


def objectives(path: LogisticPath, strengths, weights, intercepts, features, labels: np.ndarray) -> np.ndarray:
    """C * sum of cross-entropies + 0.5 * ||W||^2 at these weights, computed in one way for both, (S,)."""
    standard, found = (features - path.mean) / path.scale, []
    for weight, intercept, strength in zip(weights, intercepts, strengths, strict=True):
        logits = standard @ weight.T + intercept
        losses = logsumexp(logits, axis=1) - logits[np.arange(len(labels)), labels]
        found.append(losses.sum() / strength + 0.5 * (weight**2).sum())
    return np.array(found)


def compare(name: str, features: np.ndarray, labels: np.ndarray, every: int) -> dict:
    order = np.random.default_rng(0).permutation(len(labels))
    test, train = np.split(order, [len(labels) // 5])
    seen, known, unseen, truth = features[train], labels[train], features[test], labels[test]
    logistic_path(seen[:200], known[:200], [1.0])
    began = time.perf_counter()
    path = logistic_path(seen, known)
    ours = time.perf_counter() - began
    chosen = np.arange(0, len(path.strengths), every)
    strengths = path.strengths[chosen]
    value = objectives(path, strengths, path.weights[chosen], path.intercepts[chosen], seen, known)
    accuracy = np.array([(path.predict(unseen, i) == truth).mean() for i in range(len(path.strengths))])
    row = {"data": name, "n": len(seen), "D": seen.shape[1], "path_s": ours, "passes": int(path.evaluations.sum())}
    row["peer_strengths"] = len(chosen)
    row["converged"], row["best_accuracy"] = bool(path.converged.all()), float(accuracy.max())
    standard = (unseen - path.mean) / path.scale
    for label, tolerance in (("tight", TIGHT), ("own", OWN)):
        seconds, models = fits(path, seen, known, tolerance, chosen)
        theirs = objectives(path, strengths, [m.coef_ for m in models], [m.intercept_ for m in models], seen, known)
        row[f"{label}_s"], row[f"{label}_ratio"] = seconds, seconds / ours
        row[f"{label}_passes"] = int(sum(m.n_iter_[0] for m in models))
        row[f"{label}_we_above"] = float(((value - theirs) / theirs).max())
        row[f"{label}_we_below"] = float(((theirs - value) / value).max())
        gaps = np.abs(accuracy[chosen] - [m.score(standard, truth) for m in models])
        row[f"{label}_points"] = float(100 * gaps.max())
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="digits, and a synthetic set of 3,000 x 256")
    parser.add_argument("--only", nargs="+", choices=["digits", "mnist5k", "synthetic"], help="these alone")
    parser.add_argument("--out", help="also write the numbers to this JSON file")
    parser.add_argument(
        "--peer-every", type=int, default=1, metavar="K", help="scikit-learn at every Kth strength only"
    )
    options = parser.parse_args()
    makers = {"digits": digits, "mnist5k": mnist5k, "synthetic": synthetic}
    if options.quick:
        makers = {"digits": digits, "synthetic": lambda: synthetic(3000, 256)}
    rows = []
    for name in options.only or makers:
        rows.append(compare(name, *makers[name](), options.peer_every))
        print(json.dumps(rows[-1]), flush=True)
    columns = ["data", "n", "D", "peer_strengths", "path_s", "tight_s", "tight_ratio", "own_s", "own_ratio"]
    columns += ["tight_we_above", "tight_we_below", "own_we_below", "tight_points", "best_accuracy"]
    cells = [[f"{row[key]:.3g}" if isinstance(row[key], float) else str(row[key]) for key in columns] for row in rows]
    print_table(columns, cells)
    if options.out:
        machine = {
            "cores": os.cpu_count(),
            "torch_threads": torch.get_num_threads(),
            "python": platform.python_version(),
        }
        Path(options.out).write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
