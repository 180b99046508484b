"""Measure the accuracy of the source vit-fashion on its own modality, and the error of its features on digits.

    python benchmarks/vit_fashion.py [--quick] [--out FILE]    about ten minutes on two cores

The script prints the accuracy on the test images of Fashion-MNIST. It also prints the error of a linear probe on
mnist5k (500 handwritten digits per class), on features of vit-fashion and of two controls: raw pixels, and the same
architecture with random weights. The features are `pooled` (the mean over tokens that enters the head, 96 numbers) or
all `tokens` of the encoder (49 x 96). Each repeat draws another half of the digits for the test, other digits for
training, and other random weights. The probe is logistic regression on standardized features. A fifth of the training
digits chooses its strength.

Expected: the accuracy is 90 % or more. Pretrained features have a lower error than random ones, both pooled and as
tokens. Pooled features have a higher error than raw pixels, since the mean over tokens loses the position of a stroke.
All tokens have a lower error than raw pixels.
"""

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import timm
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from modgap.cli.output import print_table
from modgap.sources import Source, open_source
from modgap.sources.timm.handle import build_source
from modgap.sources.timm.packaged import ARCHITECTURE, OPTIONS
from modgap.targets import SPLITS, open_target

INVERSE_L2 = (1e-4, 1e-3, 1e-2, 1e-1)
SIZES = (100, 500, 2500)
CPU = torch.device("cpu")


def read_images(target: str, split: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return images (N, 1, 28, 28) in [0, 1] and labels (N,) of a target, or of one split of it."""
    table = open_target(target).read()
    rows = np.flatnonzero(table.splits == SPLITS.index(split)) if split else np.arange(len(table))
    return np.stack([np.float32(table.samples[int(row)]) / 255 for row in rows]), table.class_labels[rows]


@torch.inference_mode()
def outputs(source: Source, function: Callable, images: np.ndarray) -> np.ndarray:
    """Return the results of a function of a batch for all images, (N, D)."""
    parts = np.array_split(images, max(1, len(images) // 250))
    return np.concatenate([function(source.input.batch(list(part), CPU)).numpy() for part in parts])


def features_of(source: Source, images: np.ndarray) -> dict[str, np.ndarray]:
    """Return pooled features (N, 96), and all tokens of the encoder (N, 4704)."""
    parts = source.split()

    def tokens(batch):
        return parts.tokens(parts.encoder(parts.embedder(batch))).flatten(1)

    return {"pooled": outputs(source, source.features, images), "tokens": outputs(source, tokens, images)}


def control(seed: int) -> Source:
    """Return the same architecture with random weights of this seed."""
    torch.manual_seed(seed)
    return build_source(ARCHITECTURE, None, **OPTIONS)


def probe_error(features: np.ndarray, labels: np.ndarray, size: int, seed: int) -> float:
    """Return the error on half the samples of a probe that was trained on `size` of the others."""
    rest, test = train_test_split(np.arange(len(labels)), test_size=0.5, stratify=labels, random_state=seed)
    if size < len(rest):
        rest, _ = train_test_split(rest, train_size=size, stratify=labels[rest], random_state=seed)
    fit, choose = train_test_split(rest, test_size=0.2, stratify=labels[rest], random_state=seed)

    def probe(strength: float, rows: np.ndarray):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000))
        return model.fit(features[rows], labels[rows])

    best = max(INVERSE_L2, key=lambda strength: probe(strength, fit).score(features[choose], labels[choose]))
    return 1 - float(probe(best, rest).score(features[test], labels[test]))


def _with_source_name(source: str, features: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {f"{source}, {kind}": values for kind, values in features.items()}


def probe_errors(source: Source, repeats: int) -> dict[str, dict[int, list[float]]]:
    """Return the errors on the digits by features and number of training digits, one per repeat."""
    digits, labels = read_images("mnist5k")
    fixed = _with_source_name("vit-fashion", features_of(source, digits)) | {"pixels": digits.reshape(len(digits), -1)}
    errors: dict[str, dict[int, list[float]]] = {}
    for seed in range(repeats):
        random_weights = _with_source_name("random:vit-fashion", features_of(control(seed), digits))
        for name, features in {**fixed, **random_weights}.items():
            for size in SIZES:
                error = probe_error(features, labels, size, seed)
                errors.setdefault(name, {}).setdefault(size, []).append(error)
    return errors


def main() -> None:
    """Print the accuracy and the table of errors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two repeats, 1,000 test images")
    parser.add_argument("--out", help="also write the numbers to this JSON file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    started = time.time()
    repeats = 2 if options.quick else 5
    source = open_source("vit-fashion").load(None)
    images, labels = read_images("fashion-mnist", "test")
    if options.quick:
        images = images[:1000]
        labels = labels[:1000]
    accuracy = float((outputs(source, source.model, images).argmax(axis=1) == labels).mean())
    print(f"accuracy on {len(labels):,} test images of Fashion-MNIST: {accuracy:.4f}")
    errors = probe_errors(source, repeats)
    rows = [
        [name, *(f"{100 * np.mean(values):.1f} ± {100 * np.std(values, ddof=1):.1f}" for values in by_size.values())]
        for name, by_size in errors.items()
    ]
    columns = ["features", *(f"{size} digits" for size in SIZES)]
    print_table(columns, rows, f"error of the probe in %, mean ± sd over {repeats} repeats")
    if options.out:
        record = {
            "command": " ".join(["python", *sys.argv]),
            "seconds": round(time.time() - started, 1),
            "versions": {"python": platform.python_version(), "torch": torch.__version__, "timm": timm.__version__},
            "weights": open_source("vit-fashion").fingerprint()["weights"],
            "test_images": len(labels),
            "test_accuracy": accuracy,
            "probe_errors": {
                name: {
                    str(size): {"mean": float(np.mean(values)), "sd": float(np.std(values, ddof=1)), "repeats": values}
                    for size, values in by_size.items()
                }
                for name, by_size in errors.items()
            },
        }
        Path(options.out).write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
