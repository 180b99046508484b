"""Linear probes of source knowledge: how well a surrogate's classes can be read off an encoder's features."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from modgap.errors import InputError
from modgap.sources import Parts
from modgap.transfer.batches import chunks
from modgap.transfer.checkpoint import load_tensors
from modgap.transfer.run_folder import Run, epoch_file
from modgap.transfer.surrogate import Surrogate, encoder_features

__all__ = ["ProbeError", "linear_probe_error", "load_adapted_encoder", "surrogate_features"]

BATCH, FOLDS, INVERSE_L2 = 64, 5, 1.0


@dataclass(frozen=True)
class ProbeError:
    """What a linear probe gets wrong.

    Attributes:
        value: Share of samples, each judged by a probe that was fitted without it, in [0, 1]; lower is better.
        samples: How many.
        wrong: Whether each sample was got wrong, shape (samples,).
    """

    value: float
    samples: int
    wrong: np.ndarray


ENCODER = "encoder."
"""Before the names of the encoder's weights in a run's file."""


def load_adapted_encoder(run: Run, parts: Parts, epoch: int | None = None) -> torch.nn.Module:
    """The source's encoder as a run left it, in evaluation mode; embedder and predictor of the run are not needed.

    Args:
        run: The run.
        parts: Of the source that the run started from.
        epoch: Of stage 2, among those that the run kept; None for the run's chosen weights.

    Raises:
        InputError: When the weights are not there, or of another source.
    """
    path = run.weights if epoch is None else epoch_file(run.folder, epoch)
    if not path.exists():
        kept = "its result: it was not finished" if epoch is None else "that epoch: stage2.keep_epochs names those kept"
        raise InputError(f"expected {path}, but the run did not keep {kept}")
    weights = {
        name.removeprefix(ENCODER): value for name, value in load_tensors(path).items() if name.startswith(ENCODER)
    }
    encoder = copy.deepcopy(parts.encoder)
    try:
        encoder.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(f"the encoder in {path} is not that of the run's source {run.record['source']}") from error
    return encoder.eval()


def surrogate_features(parts: Parts, encoder: Callable[[Any], Any], surrogate: Surrogate, device: str) -> np.ndarray:
    """Features (n, D) of a surrogate through the source's own embedder and an encoder, as it was or as it was adapted.

    Args:
        parts: The source's parts, on the device.
        encoder: Takes what the source's embedder gives.
        surrogate: The labeled samples.
        device: Where to run.
    """
    found, place = [], torch.device(device)
    with torch.no_grad():
        for rows in chunks(np.arange(len(surrogate)), BATCH):
            found.append(encoder_features(parts, encoder, surrogate.load(rows, place)).float().cpu().numpy())
    return np.concatenate(found)


def linear_probe_error(
    features: np.ndarray, labels: np.ndarray, groups: np.ndarray | None = None, *, seed: int = 0
) -> ProbeError:
    """Error of multinomial logistic regression on standardized features, by stratified five-fold cross-validation.

    It is the distortion of source knowledge of MoNA (ICML 2024), section 2.2: the higher after fine-tuning, the more of
    the knowledge is gone.

    Args:
        features: Features (n, D).
        labels: Classes (n,); each of at least five samples, others are left out.
        groups: Record or sentence of each sample (n,), kept whole by the folds; None where each is its own.
        seed: Of the folds.

    Example:
        >>> labels = np.arange(60) % 3
        >>> linear_probe_error(np.eye(3)[labels], labels).value
        0.0
    """
    often = np.isin(labels, np.flatnonzero(np.bincount(labels) >= FOLDS))
    features, labels = features[often], labels[often]
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=INVERSE_L2, max_iter=1000))
    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    folds = kind(FOLDS, shuffle=True, random_state=seed)
    kept = None if groups is None else groups[often]
    wrong = cross_val_predict(probe, features, labels, groups=kept, cv=folds) != labels
    return ProbeError(float(wrong.mean()), len(labels), wrong)
