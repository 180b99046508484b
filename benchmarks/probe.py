"""Compare the linear probe's path of 20 L2 strengths with fits by scikit-learn at the same strengths.

    python benchmarks/probe.py [--quick] [--only NAME ...] [--peer-every K] [--out FILE]

Nearly all of the time is spent in scikit-learn, hours for the complete synthetic set; --quick takes two minutes. With
--peer-every 5 scikit-learn fits every fifth strength only. The ratio divides its seconds by the seconds of the complete
path, so it is then a lower bound.

The features (n, D) of each data set are split: four fifths for training and one fifth for the test. Both probes are
fitted on the same standardized training features in double precision. scikit-learn's LogisticRegression (lbfgs) runs at
two tolerances. At the tight one (1e-8) it comes within 1e-6 of the optimum at most strengths. At its default (1e-4) it
stops far from the optimum at weak strengths. The table has the seconds, their ratios, the largest relative gap between
the objectives in both directions, and the largest gap in test accuracy over the strengths, in points. Expected are a
ratio to the tight fits of 5 or more, objectives within 1e-6, and accuracies within one or two samples.

- digits: raw pixels of scikit-learn's digits, 1,797 x 64
- mnist5k: features of efficientnet-lite0 at 64 pixels, 5,000 x 1,280
- synthetic: correlated features of ten classes, 20,000 x 1,024
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

TOLERANCES = {"tight": 1e-8, "default": 1e-4}
"""scikit-learn's tolerance by its name in the record."""
MAX_STEPS = 100_000
INPUT_SIZE = 64
COLUMNS = {
    "data": "data",
    "n": "n",
    "D": "D",
    "sklearn strengths": "peer_strengths",
    "path, s": "path_s",
    "sklearn tight, s": "tight_s",
    "time ratio to tight": "tight_ratio",
    "sklearn default, s": "default_s",
    "time ratio to default": "default_ratio",
    "objective above tight": "tight_path_above",
    "objective below tight": "tight_path_below",
    "objective below default": "default_path_below",
    "accuracy gap to tight, points": "tight_points",
    "best accuracy": "best_accuracy",
}
"""Key of the record by column of the table."""


class FeatureModel(torch.nn.Module):
    """A source's model up to its pooled features."""

    forward: Callable


def without_head(source: Source) -> Source:
    """Return the source with a model that ends with the pooled features."""
    model = FeatureModel()
    model.inner = source.model
    model.forward = source.features
    return replace(source, model=model.eval())


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Return raw pixels (1797, 64) and labels."""
    return load_digits(return_X_y=True)


def mnist5k() -> tuple[np.ndarray, np.ndarray]:
    """Return features of efficientnet-lite0 (5000, 1280) and labels."""
    source = open_source("efficientnet-lite0").load(INPUT_SIZE)
    target = open_target("mnist5k")
    table = target.read()
    embedding = native_embedding(target.manifest.input, table, source.input)
    cpu = torch.device("cpu")
    model = without_head(source)
    batches = output_batches(model, table.samples, np.arange(len(table)), embedding, device=cpu, batch_size=16)
    return np.concatenate(list(batches)), table.class_labels


def synthetic(samples: int = 20_000, width: int = 1024, classes: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Return features whose variances decay along random directions, as those of learned features do, and labels.

    The class means differ along all directions.
    """
    rng = np.random.default_rng(0)
    labels = np.arange(samples) % classes
    mixing = rng.standard_normal((width, width)) * np.arange(1, width + 1)[:, None] ** -0.7
    means = 0.15 * rng.standard_normal((classes, width)) @ mixing
    return (rng.standard_normal((samples, width)) @ mixing + means[labels]).astype(np.float32), labels


def fit_sklearn(path: LogisticPath, features: np.ndarray, labels: np.ndarray, tolerance: float, strengths: np.ndarray):
    """Return the seconds and the models of scikit-learn's fits, one for each strength, on standardized features."""
    standard = (features - path.mean) / path.scale
    began = time.perf_counter()
    models = [
        LogisticRegression(C=1 / strength, tol=tolerance, max_iter=MAX_STEPS).fit(standard, labels)
        for strength in strengths
    ]
    return time.perf_counter() - began, models


def objectives(path: LogisticPath, strengths, weights, intercepts, features, labels: np.ndarray) -> np.ndarray:
    """Return C * sum of cross-entropies + 0.5 * ||W||^2 at these weights, shape (S,), in the same way for both."""
    standard = (features - path.mean) / path.scale
    values = []
    for weight, intercept, strength in zip(weights, intercepts, strengths, strict=True):
        logits = standard @ weight.T + intercept
        losses = logsumexp(logits, axis=1) - logits[np.arange(len(labels)), labels]
        values.append(losses.sum() / strength + 0.5 * (weight**2).sum())
    return np.array(values)


def compare(name: str, features: np.ndarray, labels: np.ndarray, every: int) -> dict:
    """Fit both probes on one data set, and return the record.

    Args:
        name: Name of the data set.
        features: Features, shape (n, D).
        labels: Class of each sample, shape (n,).
        every: scikit-learn fits every so many strengths.
    """
    order = np.random.default_rng(0).permutation(len(labels))
    test_rows, train_rows = np.split(order, [len(labels) // 5])
    train = (features[train_rows], labels[train_rows])
    logistic_path(train[0][:200], train[1][:200], [1.0])
    began = time.perf_counter()
    path = logistic_path(*train)
    path_seconds = time.perf_counter() - began
    test = features[test_rows]
    predictions = np.array([path.predict(test, index) for index in range(len(path.strengths))])
    accuracies = (predictions == labels[test_rows]).mean(axis=1)
    record = {
        "data": name,
        "n": len(train_rows),
        "D": features.shape[1],
        "path_s": path_seconds,
        "peer_strengths": len(path.strengths[::every]),
        "best_accuracy": float(accuracies.max()),
    }
    for tolerance_name, tolerance in TOLERANCES.items():
        peer = compare_peer(path, train, (test, labels[test_rows]), accuracies, every, tolerance)
        peer["ratio"] = peer["s"] / path_seconds
        record |= {f"{tolerance_name}_{key}": value for key, value in peer.items()}
    return record


def compare_peer(
    path: LogisticPath,
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    accuracies: np.ndarray,
    every: int,
    tolerance: float,
) -> dict[str, float]:
    """Compare the path with scikit-learn's fits at one tolerance.

    Returns:
        scikit-learn's seconds and passes, the largest relative gap of the path's objective above and below
        scikit-learn's, and the largest gap in test accuracy in points.
    """
    strengths = path.strengths[::every]
    seconds, models = fit_sklearn(path, *train, tolerance, strengths)
    ours = objectives(path, strengths, path.weights[::every], path.intercepts[::every], *train)
    theirs = objectives(path, strengths, [m.coef_ for m in models], [m.intercept_ for m in models], *train)
    standard = (test[0] - path.mean) / path.scale
    gaps = np.abs(accuracies[::every] - [model.score(standard, test[1]) for model in models])
    return {
        "s": seconds,
        "passes": int(sum(model.n_iter_[0] for model in models)),
        "path_above": float(((ours - theirs) / theirs).max()),
        "path_below": float(((theirs - ours) / ours).max()),
        "points": float(100 * gaps.max()),
    }


def main() -> None:
    """Compare on all data sets and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="only digits and a synthetic set of 3,000 x 256")
    parser.add_argument("--only", nargs="+", choices=["digits", "mnist5k", "synthetic"], help="data sets to compare")
    parser.add_argument("--out", help="also write the numbers to this JSON file")
    parser.add_argument(
        "--peer-every", type=int, default=1, metavar="K", help="run scikit-learn at every Kth strength only"
    )
    options = parser.parse_args()
    makers = {"digits": digits, "mnist5k": mnist5k, "synthetic": synthetic}
    if options.quick:
        makers = {"digits": digits, "synthetic": lambda: synthetic(3000, 256)}
    rows = []
    for name in options.only or makers:
        rows.append(compare(name, *makers[name](), options.peer_every))
        print(json.dumps(rows[-1]), flush=True)
    keys = list(COLUMNS.values())
    cells = [[f"{row[key]:.3g}" if isinstance(row[key], float) else str(row[key]) for key in keys] for row in rows]
    print_table(list(COLUMNS), cells)
    if options.out:
        machine = {
            "cores": os.cpu_count(),
            "torch_threads": torch.get_num_threads(),
            "python": platform.python_version(),
        }
        Path(options.out).write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
