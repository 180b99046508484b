"""Archives unpacked into a place: aside first, then moved, with a record of what came out."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from modgap.errors import InputError
from modgap.storage.locks import locked
from modgap.targets.download.archives import Caps, extract
from modgap.targets.download.folder_records import Unpacked, listing_path, mark, unmark

__all__ = ["listed", "remove_leftovers", "unpack"]

SUFFIX = ".unpacking"


def unpack(
    data_dir: Path,
    name: str,
    sha256: str,
    *,
    size: int | None = None,
    taken: Collection[str] = (),
    advance: Callable[[float], None] | None = None,
) -> Unpacked:
    """Unpack an archive into the folder that it lies in.

    The files come out into a folder of their own and are moved when all are there. From the start
    until all are in place the record says that it is not complete, so that whoever is stopped
    half-way leaves nothing that is taken for whole.

    Args:
        data_dir: The target's folder.
        name: The archive, within it.
        sha256: Its SHA-256.
        size: Bytes that it unpacks to, where known.
        taken: Paths within the place that no file of the archive may have.
        advance: Called with the share of the archive read since the last call.

    Raises:
        InputError: When the archive is broken or hostile, would overwrite other files, or the disk is full.
    """
    try:
        return _unpacked(data_dir, name, sha256, size, taken, advance)
    except OSError as error:
        raise InputError(
            f"cannot unpack {data_dir / name}: {error.strerror or error}; nothing of it is used"
        ) from error


def _unpacked(data_dir: Path, name: str, sha256: str, size: int | None, taken: Collection[str], advance) -> Unpacked:
    archive = data_dir / name
    state = Unpacked(sha256=sha256, size=archive.stat().st_size)
    with _aside(archive) as folder:
        mark(data_dir, name, state)
        moving = False
        try:
            state = _extracted(archive, folder, Caps(total=size), state, advance)
            _refuse_overwriting(archive, folder, data_dir, taken)
            moving = True
            for path, _ in _pairs(_listing(folder)):
                (archive.parent / path).parent.mkdir(parents=True, exist_ok=True)
                os.replace(folder / "files" / path, archive.parent / path)
        except BaseException:
            if not moving:
                unmark(data_dir, name)
            raise
        os.replace(_listing(folder), listing_path(data_dir, name))
        state = state.model_copy(update={"complete": True})
        mark(data_dir, name, state)
    return state


@contextmanager
def _aside(archive: Path) -> Iterator[Path]:
    """A folder beside the archive that only this process uses, gone in the end."""
    folder = Path(tempfile.mkdtemp(prefix=f".{archive.name[:64]}-", suffix=SUFFIX, dir=archive.parent))
    with locked(folder):
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """Remove what processes that were killed while unpacking have left in a folder."""
    for left in folder.glob(f".*{SUFFIX}"):
        with locked(left) as abandoned:
            if abandoned:
                shutil.rmtree(left, ignore_errors=True)


def _listing(folder: Path) -> Path:
    return folder / "listing"


def _extracted(archive: Path, folder: Path, caps: Caps, state: Unpacked, advance) -> Unpacked:
    files = size = 0
    (folder / "files").mkdir()
    with _listing(folder).open("w", encoding="utf-8", newline="\n") as listing:
        for done in extract(archive, folder / "files", caps, advance):
            listing.write(f"{done.sha256}  {done.path}\n")
            files, size = files + 1, size + done.size
    return state.model_copy(update={"files": files, "bytes": size})


def _pairs(listing: Path) -> Iterator[tuple[str, str]]:
    with listing.open(encoding="utf-8", newline="\n") as lines:
        for line in lines:
            digest, _, path = line.rstrip("\n").partition("  ")
            yield path, digest


def listed(data_dir: Path, name: str) -> Iterator[tuple[Path, str]]:
    """Path and SHA-256 of each file that came out of an unpacked archive.

    Raises:
        InputError: When the record cannot be read.
    """
    listing = listing_path(data_dir, name)
    try:
        for path, digest in _pairs(listing):
            yield (data_dir / name).parent / path, digest
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {listing}, which modgap wrote ({error}); delete it and fetch again") from error


def _refuse_overwriting(archive: Path, folder: Path, data_dir: Path, taken: Collection[str]) -> None:
    """Another file under the same name is the user's, or another archive's; an equal one may stay."""
    for path, digest in _pairs(_listing(folder)):
        there, own = archive.parent / path, folder / "files" / path
        if there.relative_to(data_dir).as_posix() in taken:
            raise InputError(f"refused to unpack {archive}: it holds {path}, the name of another download")
        if there.is_symlink() or (there.exists() and not _equal(there, own, digest)):
            raise InputError(
                f"refused to unpack {archive}: it would overwrite {there}, which is another file; move that away"
            )


def _equal(there: Path, own: Path, digest: str) -> bool:
    if not there.is_file() or there.stat().st_size != own.stat().st_size:
        return False
    with there.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() == digest
