"""What a run logs: one JSON object a line, cut back to what a checkpoint knows of when it is taken up again."""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from modgap.errors import UsageError

__all__ = ["RunLog", "summary_writer"]


class RunLog:
    """Lines of a file that is only added to; `board` also gives the numbers to TensorBoard."""

    def __init__(self, path: Path | None, kept: int = 0, board: Path | None = None):
        """Open the log.

        Args:
            path: The file; None where another process writes it.
            kept: Bytes that stay; what was logged later is logged again.
            board: Folder of TensorBoard's, if its package is there and it is wanted.
        """
        self._path = path
        if path:
            with path.open("ab") as stream:
                stream.truncate(kept)
        self.size = kept
        self._board = summary_writer()(str(board)) if path and board else None

    def add(self, record: Mapping[str, Any], step: int) -> None:
        """Add a line; what is not finite becomes null."""
        if self._path is None:
            return
        line = json.dumps({name: _plain(value) for name, value in record.items()}).encode() + b"\n"
        with self._path.open("ab") as stream:
            stream.write(line)
        self.size += len(line)
        if self._board:
            for name, value in record.items():
                if isinstance(value, float) and math.isfinite(value):
                    self._board.add_scalar(f"{record['stage']}/{name}", value, step)


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def summary_writer() -> Callable[[str], Any]:
    """TensorBoard's writer of a folder.

    Raises:
        UsageError: When its package is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UsageError("--tensorboard needs its package: pip install 'modgap[tensorboard]'") from error
    return SummaryWriter
