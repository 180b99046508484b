"""Checkpoints of a run: safetensors and plain values, written whole or not at all."""

import contextlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from modgap.errors import InputError

__all__ = [
    "BestEpoch",
    "Position",
    "best_epochs",
    "latest_checkpoint",
    "load_tensors",
    "restore_optimizer",
    "save_checkpoint",
    "write_tensors",
]

KEPT = 2
"""Newest checkpoints that stay, should the last be damaged by the disk."""


@dataclass(frozen=True)
class BestEpoch:
    """The epoch that the validation chose so far; its error is None where the metric has no value."""

    epoch: int
    error: float | None


@dataclass(frozen=True)
class Position:
    """Where a run stands.

    Attributes:
        stage: Number of the stage.
        epoch: Epochs of it that are done.
        update: Updates of the running epoch that are done.
        total: Updates of the whole run that are done.
        logged: Bytes of the log that belong to it.
        sums: Sums over the running epoch's updates, by what is logged.
        best: Of the last stage.
    """

    stage: int = 0
    epoch: int = 0
    update: int = 0
    total: int = 0
    logged: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    best: BestEpoch | None = None


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file, whole or not at all."""
    temporary = path.with_name(f".{path.name}-{os.getpid()}.part")
    try:
        # Views of one storage are refused; clones are of their own.
        save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, temporary)
        _to_disk(temporary)
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"cannot write {path}: {getattr(error, 'strerror', None) or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        InputError: When it is missing or damaged.
    """
    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise InputError(f"expected weights at {path}, found no file") from error
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is damaged: {error}") from error


def save_checkpoint(folder: Path, position: Position, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Write a checkpoint of a run's folder and remove older ones."""
    place = folder / "checkpoints"
    name = f"{position.total:09d}-{position.stage}-{position.epoch:05d}"
    temporary = place / f".{name}-{os.getpid()}.part"
    try:
        temporary.mkdir(parents=True)
        write_tensors(temporary / "model.safetensors", model.state_dict())
        write_tensors(temporary / "optimizer.safetensors", _optimizer_tensors(optimizer))
        (temporary / "position.json").write_text(json.dumps(asdict(position)))
        _to_disk(temporary / "position.json")
        if (place / name).exists():
            shutil.rmtree(place / name)
        os.rename(temporary, place / name)
    except OSError as error:
        raise InputError(f"cannot write a checkpoint to {place}: {error.strerror or error}") from error
    for old in [*sorted(_whole(place))[:-KEPT], *place.glob(".*.part")]:
        shutil.rmtree(old, ignore_errors=True)


def latest_checkpoint(folder: Path) -> tuple[Position, dict[str, Tensor], dict[str, Tensor]] | None:
    """The newest checkpoint that can be read: position, the model's state, the optimizer's tensors."""
    for place in sorted(_whole(folder / "checkpoints"), reverse=True):
        with contextlib.suppress(InputError, OSError, ValueError, KeyError, TypeError):
            record = json.loads((place / "position.json").read_text())
            best = BestEpoch(**record.pop("best")) if record.get("best") else record.pop("best")
            state, moments = load_tensors(place / "model.safetensors"), load_tensors(place / "optimizer.safetensors")
            return Position(**record, best=best), state, moments
    return None


def best_epochs(folder: Path) -> set[int]:
    """The best epochs that the checkpoints of a run's folder know of."""
    found = set()
    for place in _whole(folder / "checkpoints"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            found.add(int(json.loads((place / "position.json").read_text())["best"]["epoch"]))
    return found


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Give an optimizer over the same parameters its state back."""
    record = optimizer.state_dict()
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        number, _, own = name.partition(".")
        state.setdefault(int(number), {})[own] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": record["param_groups"]})


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"{number}.{name}": value
        for number, own in optimizer.state_dict()["state"].items()
        for name, value in own.items()
        if isinstance(value, Tensor)
    }


def _whole(place: Path) -> list[Path]:
    return [path for path in place.glob("[0-9]*") if path.is_dir()]


def _to_disk(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
