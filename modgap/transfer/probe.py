"""Linear probes of source knowledge: how well a surrogate's classes can be read off an encoder's features."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from modgap.sources import Parts
from modgap.transfer.batches import chunks
from modgap.transfer.surrogate import Surrogate, encoder_features

__all__ = ["ProbeError", "linear_probe_error", "surrogate_features"]

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


def surrogate_features(parts: Parts, encoder: Callable[[Any], Any], surrogate: Surrogate, device: str) -> np.ndarray:
    """Features (n, D) of a surrogate through the source's own embedder and an encoder, as it was or as it was adapted.

    Args:
        parts: The source's parts, on the device.
        encoder: Takes what the source's embedder gives.
        surrogate: The labelled samples.
        device: Where to run.
    """
    found, place = [], torch.device(device)
    with torch.no_grad():
        for rows in chunks(np.arange(len(surrogate)), BATCH):
            found.append(encoder_features(parts, encoder, surrogate.at(rows, place)).float().cpu().numpy())
    return np.concatenate(found)


def linear_probe_error(features: np.ndarray, labels: np.ndarray, *, seed: int = 0) -> ProbeError:
    """Error of multinomial logistic regression on standardised features, by stratified five-fold cross-validation.

    It is the distortion of source knowledge of MoNA (ICML 2024), section 2.2: the higher after fine-tuning, the more of
    the knowledge is gone.

    Args:
        features: Features (n, D).
        labels: Classes (n,); each of at least five samples, others are left out.
        seed: Of the folds.

    Example:
        >>> labels = np.arange(60) % 3
        >>> linear_probe_error(np.eye(3)[labels], labels).value
        0.0
    """
    often = np.isin(labels, np.flatnonzero(np.bincount(labels) >= FOLDS))
    features, labels = features[often], labels[often]
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=INVERSE_L2, max_iter=1000))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    wrong = cross_val_predict(probe, features, labels, cv=folds) != labels
    return ProbeError(float(wrong.mean()), len(labels), wrong)
