"""The log of a run: one JSON object per line. A resumed run cuts it back to the size that its checkpoint knows."""

import logging
import math
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from modgap.errors import UsageError
from modgap.formatting import count
from modgap.storage.json_records import format_json, plain_values

__all__ = ["RunLog", "announce_stage", "summary_writer"]

log = logging.getLogger("modgap")


class RunLog:
    """A file to which lines are appended; the numbers can also go to TensorBoard.

    Attributes:
        size: Size of the file in bytes.
    """

    def __init__(self, path: Path | None, size: int = 0, tensorboard_folder: Path | None = None) -> None:
        """Open the log.

        Args:
            path: The file; None in a process that writes no files.
            size: Size in bytes to which the file is cut back; later lines are logged again.
            tensorboard_folder: Folder of the TensorBoard log; None for no such log.
        """
        self._path = path
        if path:
            with path.open("ab") as stream:
                stream.truncate(size)
        self.size = size
        self._tensorboard = summary_writer()(str(tensorboard_folder)) if path and tensorboard_folder else None

    def add(self, record: Mapping[str, Any], step: int) -> None:
        """Append a line; NaN and infinities become null.

        Args:
            record: Values by name; `stage` is the name of the stage.
            step: Number of updates so far, which TensorBoard shows as the x-axis.
        """
        if self._path is None:
            return
        line = format_json(plain_values(record), indent=None).encode() + b"\n"
        with self._path.open("ab") as stream:
            stream.write(line)
        self.size += len(line)
        if self._tensorboard:
            for name, value in record.items():
                if isinstance(value, float) and math.isfinite(value):
                    self._tensorboard.add_scalar(f"{record['stage']}/{name}", value, step)


def summary_writer() -> Callable[[str], Any]:
    """Return the class that writes a TensorBoard log to a folder.

    Raises:
        UsageError: When the package is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UsageError(
            "--tensorboard needs the package tensorboard, which is not installed. "
            "Run: pip install 'modgap[tensorboard]'"
        ) from error
    writer: Callable[[str], Any] = SummaryWriter
    return writer


def announce_stage(name: str, epochs: int, model: nn.Module, trained: Collection[str]) -> None:
    """Log that a stage begins, because its preparation and its first epoch may take long.

    Args:
        name: Name of the stage.
        epochs: Number of its epochs.
        model: The model.
        trained: Names of the parameters that the stage trains.
    """
    names = set(trained)
    n = sum(value.numel() for parameter, value in model.named_parameters() if parameter in names)
    log.info("%s begins: %s, %s.", name, count(epochs, "epoch"), count(n, "trained parameter"))
