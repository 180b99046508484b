"""More epochs of stage 2 than a run was started with, when it is resumed."""

import logging
import shutil
from pathlib import Path

from modgap.errors import UsageError
from modgap.storage.atomic_files import atomic_path
from modgap.transfer.checkpoint import latest_checkpoint
from modgap.transfer.run_folder import Run, best_file, open_run, write_record

__all__ = ["reopen_extended_run"]

log = logging.getLogger("modgap")


def reopen_extended_run(run: Run) -> None:
    """Make a finished run in a folder an unfinished one with more epochs; other runs stay as they are.

    The weights of the best epoch so far become those to beat, and the record loses its result, which no longer holds.

    Args:
        run: The run as `prepare_run` returns it, with more epochs than its record on the disk.

    Raises:
        UsageError: When the folder has no checkpoint to continue from.
        InputError: When the record cannot be written.
    """
    if not run.extended:
        return
    stage = run.record["recipe"]["stage2"]
    before = run.record["extended_from"][-1]
    log.info("The run continues with %d epochs of stage 2 in place of %d.", stage["epochs"], before)
    if stage["decay_epochs"] == stage["epochs"]:
        log.info("The decay of the learning rate now ends with the last of these epochs.")
    if not open_run(run.folder).finished:
        return
    checkpoint = latest_checkpoint(run.folder)
    if checkpoint is None:
        raise UsageError(
            f"The run in {run.folder} is finished and has no checkpoint, so it cannot have more epochs. "
            "Train again with another --out."
        )
    best = checkpoint.position.best
    if best is not None and stage["choose"] == "best" and not best_file(run.folder, best.epoch).exists():
        _copy(run.checked(run.weights), best_file(run.folder, best.epoch))
    write_record(run.folder, run.record)


def _copy(source: Path, target: Path) -> None:
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)
