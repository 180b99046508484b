"""A trained model as one safetensors file: weights, preparation of samples, and the record of the run."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from modgap.errors import InputError, first_line
from modgap.storage.damaged_files import DAMAGED_FILE_ERRORS
from modgap.storage.json_records import format_json, parse_json, plain_values
from modgap.transfer.run_folder import Run, check_record
from modgap.transfer.trained_inputs import TrainedInputs, arrays_of

__all__ = ["read_model_file", "write_model_file"]

RECORD_KEY = "modgap.run"
"""Name of the record of the run in the file's metadata."""
DIGEST_KEY = "modgap.digest"
"""Name of the SHA-256 of the record and the tensors, which finds damage."""
MODEL = "model."
INPUTS = "inputs."


def write_model_file(run: Run, state: Mapping[str, Tensor], inputs: TrainedInputs, path: Path) -> None:
    """Write a model and everything that predicting needs, except the architecture of the source.

    Args:
        run: The run that trained the model.
        state: State of the model, by name.
        inputs: Preparation of its samples.
        path: File to write.

    Raises:
        InputError: When it cannot be written.
    """
    tensors = {f"{MODEL}{name}": value for name, value in state.items()}
    tensors |= {f"{INPUTS}{name}": torch.from_numpy(array) for name, array in arrays_of(inputs).items()}
    copies = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    record = format_json(plain_values(dict(run.record)))
    try:
        save_file(copies, path, {RECORD_KEY: record, DIGEST_KEY: _digest(record, copies)})
    except SafetensorError as error:
        raise InputError(f"Cannot write {path}: {first_line(error)}.") from error


def read_model_file(path: Path) -> tuple[Run, dict[str, Tensor], dict[str, Tensor]]:
    """Read such a file.

    Returns:
        The run without a folder of its own, the state of the model, and the arrays of the preparation, by name.

    Raises:
        InputError: When the file is missing, damaged, or was not written by `modgap export`.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except FileNotFoundError as error:
        raise InputError(f"There is no file {path}.") from error
    except (SafetensorError, *DAMAGED_FILE_ERRORS) as error:
        raise InputError(f"{path} is damaged: {first_line(error)}.") from error
    if RECORD_KEY not in metadata:
        raise InputError(f"{path} has no record of a run. Expected a file that modgap export wrote.")
    try:
        record = parse_json(metadata[RECORD_KEY])
    except ValueError as error:
        raise InputError(f"The record of the run in {path} is damaged: {first_line(error)}.") from error
    digest = metadata.get(DIGEST_KEY)
    # A damaged name of the checksum must not make the file one of a version without checksums.
    if digest not in (None, _digest(metadata[RECORD_KEY], tensors)) or set(metadata) - {RECORD_KEY, DIGEST_KEY}:
        raise InputError(
            f"{path} does not fit its checksum, so it was damaged or changed after modgap export wrote it. Restore it, "
            "or export the run again."
        )
    run = Run(path, check_record(record, path, has_digest=digest is not None))
    return run, _below(MODEL, tensors), _below(INPUTS, tensors)


def _digest(record: str, tensors: Mapping[str, Tensor]) -> str:
    total = hashlib.sha256(record.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        total.update(f"\0{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def _below(prefix: str, tensors: Mapping[str, Any]) -> dict[str, Any]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
