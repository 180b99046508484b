"""The encoder of a source after training, and the features of a surrogate that it computes."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from modgap.errors import InputError
from modgap.sources import Parts
from modgap.transfer.batches import chunks
from modgap.transfer.checkpoint import load_tensors
from modgap.transfer.run_folder import Run, epoch_file
from modgap.transfer.surrogate import Surrogate, encoder_features

__all__ = ["load_adapted_encoder", "surrogate_features"]

BATCH = 64
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
