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

BATCH_SIZE = 64
"""Number of samples in a forward pass."""
ENCODER_PREFIX = "encoder."
"""Prefix of the names of the encoder's weights in a run's file."""


def load_adapted_encoder(run: Run, parts: Parts, epoch: int | None = None) -> torch.nn.Module:
    """Load the source's encoder with the weights after a run, in evaluation mode.

    Args:
        run: The run.
        parts: Parts of the source that the run started from.
        epoch: Epoch of stage 2, one of those whose weights the run kept. None for the run's selected weights.

    Raises:
        InputError: When the weights are missing, or belong to another source or another input size.
    """
    path = run.weights if epoch is None else epoch_file(run.folder, epoch)
    if epoch is None and not run.has_chosen_weights:
        raise InputError(f"The run has no weights at {path} because it was not finished. Resume it first.")
    if not path.exists():
        raise InputError(
            f"The run has no weights at {path} because it did not keep epoch {epoch}. "
            "Its setting stage2.keep_epochs names the epochs that it kept."
        )
    weights = {
        name.removeprefix(ENCODER_PREFIX): value
        for name, value in load_tensors(run.checked(path)).items()
        if name.startswith(ENCODER_PREFIX)
    }
    encoder = copy.deepcopy(parts.encoder)
    try:
        encoder.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(
            f"The encoder in {path} is not that of the run's source {run.record['source']} at this input size. "
            f"{_input_size_advice(run)}"
        ) from error
    return encoder.eval()


def _input_size_advice(run: Run) -> str:
    """Return the input size of a run in a sentence. The weights of many encoders depend on it."""
    size = run.record["input_size"]
    if size is None:
        return "The run has the source's default input size. Leave out `input_size`."
    return f"The run was trained with `input_size={size}`. Pass the same."


def surrogate_features(parts: Parts, encoder: Callable[[Any], Any], surrogate: Surrogate, device: str) -> np.ndarray:
    """Compute the features (n, D) of a surrogate with the source's embedder and an encoder.

    Args:
        parts: Parts of the source, on the device.
        encoder: Encoder before or after training, which takes the output of the source's embedder.
        surrogate: Labeled samples.
        device: Device to compute on.
    """
    features = []
    with torch.no_grad():
        for rows in chunks(np.arange(len(surrogate)), BATCH_SIZE):
            batch = surrogate.load(rows, torch.device(device))
            features.append(encoder_features(parts, encoder, batch).float().cpu().numpy())
    return np.concatenate(features)
