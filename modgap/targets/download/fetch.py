"""Bring a target's files: what is to be done, and doing it."""

import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from modgap.errors import InputError
from modgap.formatting import format_bytes
from modgap.progress import Progress
from modgap.storage.digests import file_digest
from modgap.storage.locks import one_process_at_a_time
from modgap.targets.download.checksums import Pin, fault, fresh_sums, pins
from modgap.targets.download.folder_records import record, unpacked
from modgap.targets.download.http import Wanted, host, transfer
from modgap.targets.download.locations import by_hand, located, source
from modgap.targets.download.partial_download import partial_bytes
from modgap.targets.download.relative_paths import OWN_FOLDER, checked_path
from modgap.targets.download.unpacking import listed, remove_leftovers, unpack
from modgap.targets.manifest import Download, Manifest

__all__ = ["Item", "Plan", "fetch", "offline", "plan"]

State = Literal["there", "unpacked", "brought by hand", "missing", "another size"]

log = logging.getLogger("modgap")


@dataclass(frozen=True)
class Item:
    """One download, and how things stand with it.

    Attributes:
        download: What the manifest says.
        name: Its path within the place, checked.
        path: Where it shall lie.
        state: `there` (by size alone), `unpacked`, `brought by hand` (its files are there without it),
            `missing`, or `another size`.
        came: Bytes of an interrupted transfer that may be gone on with.
        pin: What size and checksum it must have.
    """

    download: Download
    name: str
    path: Path
    state: State
    came: int
    pin: Pin

    @property
    def needed(self) -> bool:
        """Whether it has to be fetched."""
        return self.state in ("missing", "another size")

    @property
    def size(self) -> int | None:
        """Bytes, rounded where the manifest knows no better; None where it knows nothing."""
        return self.download.approximate_size if self.pin.size is None else self.pin.size

    @property
    def hosts(self) -> list[str]:
        """Where it can be had."""
        return [host(url) or url for url in self.download.urls]


@dataclass(frozen=True)
class Plan:
    """What fetching a target would do.

    Attributes:
        data_dir: Where to.
        items: Its downloads.
        free: Free bytes there.
    """

    data_dir: Path
    items: tuple[Item, ...]
    free: int

    @property
    def to_fetch(self) -> int:
        """Bytes to be fetched, as far as their number is known."""
        return sum(max((item.pin.size or 0) - item.came, 0) for item in self.items if item.needed)

    @property
    def about(self) -> int:
        """Bytes to be fetched of files whose size is known only rounded."""
        return sum(max((item.size or 0) - item.came, 0) for item in self.items if item.needed and item.pin.size is None)

    @property
    def to_unpack(self) -> int:
        """Bytes that unpacking takes at least; an archive holds no less than its own size."""
        packed = [i for i in self.items if i.download.unpack and i.state not in ("unpacked", "brought by hand")]
        return sum(item.download.unpacked_size or item.pin.size or 0 for item in packed)

    @property
    def unknown(self) -> int:
        """Files to be fetched whose size is not known, not even rounded."""
        return sum(item.needed and item.size is None for item in self.items)


def offline() -> bool:
    """Whether `MODGAP_OFFLINE` forbids the network."""
    return os.environ.get("MODGAP_OFFLINE", "").lower() in ("1", "true", "yes", "on")


def plan(manifest: Manifest, data_dir: Path) -> Plan:
    """See how things stand, by names and sizes alone.

    Raises:
        InputError: When a download would lie outside the place, or modgap's records there are broken.
    """
    known, complete = pins(manifest, data_dir), _all_there(manifest, data_dir)
    items = []
    for download in manifest.downloads:
        try:
            name = str(checked_path(download.path))
        except ValueError as error:
            raise InputError(f"manifest {manifest.name}: download {download.path!r} {error}") from None
        path, pin = data_dir / name, known[download.path]
        items.append(
            Item(download, name, path, _state(download, name, data_dir, pin, complete), partial_bytes(path), pin)
        )
    return Plan(data_dir, tuple(items), _free(data_dir))


def _state(download: Download, name: str, data_dir: Path, pin: Pin, complete: bool) -> State:
    path = data_dir / name
    state = unpacked(data_dir, name) if download.unpack else None
    fits = state and state.complete and (pin.sums or {}).get("sha256", state.sha256) == state.sha256
    if fits and all(out.is_file() for out, _ in listed(data_dir, name)):
        return "unpacked"
    if path.is_file():
        return "there" if pin.size in (None, path.stat().st_size) else "another size"
    if path.exists():
        raise InputError(f"expected a file at {path}, found a folder; move it away, or give another --data-dir DIR")
    return "brought by hand" if download.unpack and complete and state is None else "missing"


def _all_there(manifest: Manifest, data_dir: Path) -> bool:
    return bool(manifest.files) and all((data_dir / file.path).exists() for file in manifest.files)


def _free(data_dir: Path) -> int:
    there = next(folder for folder in (data_dir.absolute(), *data_dir.absolute().parents) if folder.is_dir())
    return shutil.disk_usage(there).free


def fetch(
    manifest: Manifest,
    data_dir: Path,
    *,
    timeout: float = 60.0,
    keep_archives: bool = True,
    progress: Progress | None = None,
) -> Plan:
    """Bring all downloads of a target into its place, check them, and unpack the archives.

    What is there already is checked, not fetched again. Stopped at any point, it can be called again
    and goes on; called by several processes at once, one works and the others wait.

    Args:
        manifest: The target.
        data_dir: Where to.
        timeout: Seconds without a byte after which a host counts as silent.
        keep_archives: Whether archives stay after they are unpacked.
        progress: Called with the stage and its share done since the last call.

    Raises:
        InputError: When a file cannot be had, is not what it must be, or the disk is too small.
    """
    if not manifest.downloads:
        # Files of a package, Python's or the system's, lie where that puts them, whatever the place.
        own = any(not file.package and not file.folder for file in manifest.files)
        located(manifest, given=data_dir if own else None)
        _record_own(manifest, data_dir)
        return plan(manifest, data_dir)
    with one_process_at_a_time(data_dir / OWN_FOLDER / "fetch.lock", f"fetching {manifest.name}"):
        todo = plan(manifest, data_dir)
        _refuse_offline(manifest, todo)
        _refuse_small_disk(todo)
        for item in todo.items:
            if not item.needed or item.download.urls:
                _bring(item, todo, timeout, keep_archives, progress)
    _refuse_missing(manifest, todo)
    _record_own(manifest, data_dir)
    return todo


def _bring(item: Item, todo: Plan, timeout: float, keep_archives: bool, progress: Progress | None) -> None:
    if item.state not in ("unpacked", "brought by hand"):
        sha256 = _present(item, todo.data_dir, timeout, progress)
        if item.download.unpack:
            _unpack(item, todo, sha256, progress)
    if item.download.unpack and not keep_archives:
        item.path.unlink(missing_ok=True)


def _refuse_offline(manifest: Manifest, todo: Plan) -> None:
    missing = [item for item in todo.items if item.needed and item.download.urls]
    if missing and offline():
        first = missing[0]
        raise InputError(
            f"MODGAP_OFFLINE is set, and {len(missing)} of the {len(todo.items)} downloads of {manifest.name} are "
            f"missing; bring {first.download.urls[0]} to {first.path} by hand"
            + (f", and {len(missing) - 1} more (modgap data fetch --dry-run names them)" if len(missing) > 1 else "")
        )


def _refuse_small_disk(todo: Plan) -> None:
    needed = todo.to_fetch + todo.to_unpack
    if needed > todo.free:
        raise InputError(
            f"the disk of {todo.data_dir} has {format_bytes(todo.free)} free, but {format_bytes(needed)} are needed "
            f"({format_bytes(todo.to_fetch)} to fetch, at least {format_bytes(todo.to_unpack)} to unpack). "
            "Choose a larger disk with --data-dir DIR or the environment variable MODGAP_DATA."
        )


def _present(item: Item, data_dir: Path, timeout: float, progress: Progress | None) -> str:
    """See to it that the file is there and right; its SHA-256."""
    if item.state != "missing":
        found = _sums_there(item)
        wrong = fault(item.path, item.pin, found)
        if not wrong:
            _record(item, data_dir, found["sha256"], None)
            return found["sha256"]
        _set_aside(item, wrong)
    wanted = Wanted(item.path, item.download.urls, item.pin.size, dict(item.pin.sums or {}), item.pin.note)
    stage = f"fetch {item.path.name}"
    arrived = transfer(wanted, timeout=timeout, advance=progress and (lambda share: progress(stage, share)))
    _record(item, data_dir, arrived.sha256, arrived.url)
    return arrived.sha256


def _sums_there(item: Item) -> dict[str, str]:
    if set(item.pin.sums or {}) == {"md5"}:
        return fresh_sums(item.path, {"sha256", "md5"})
    return {"sha256": file_digest(item.path)}


def _set_aside(item: Item, wrong: str) -> None:
    if not item.download.urls or offline():
        raise InputError(f"{wrong}; bring the right one by hand")
    aside = item.path.with_name(f"{item.path.name}.bad")
    os.replace(item.path, aside)
    log.warning("%s; moved to %s, fetching it again", wrong, aside.name)


def _record(item: Item, data_dir: Path, sha256: str, url: str | None) -> None:
    """Record the checksum of a file that the manifest gives no SHA-256 of."""
    if "sha256" in (item.pin.sums or {}):
        return
    size = item.path.stat().st_size
    record(data_dir, item.download.path, size, sha256, url=url, first_word=not item.pin.sums)


def _unpack(item: Item, todo: Plan, sha256: str, progress: Progress | None) -> None:
    remove_leftovers(item.path.parent)
    stage = f"unpack {item.path.name}"
    state = unpack(
        todo.data_dir,
        item.name,
        sha256,
        size=item.download.unpacked_size,
        taken={other.name for other in todo.items},
        advance=progress and (lambda share: progress(stage, share)),
    )
    log.info("unpacked %s: %d files, %s", item.name, state.files, format_bytes(state.bytes))


def _refuse_missing(manifest: Manifest, todo: Plan) -> None:
    """Say what is still to be done by hand, or what the downloads should have held and do not."""
    data_dir = todo.data_dir
    lost = [item.path for item in todo.items if item.needed and not item.download.urls]
    paths = [data_dir / file.path for file in manifest.files if not file.package and not file.folder]
    lost += [path for path in paths if not path.exists() and path not in lost]
    if not lost:
        return
    more = f" (and {len(lost) - 1} more)" if len(lost) > 1 else ""
    if by_hand(manifest, data_dir, lost[0]):
        raise InputError(
            f"{lost[0]}{more} must be brought by hand, as no host of it is known: {source(manifest)}; "
            "all other files are there"
        )
    raise InputError(
        f"all downloads of {manifest.name} are in {data_dir}, but {lost[0].name}{more} is not among what they hold; "
        "the manifest does not fit them"
    )


def _record_own(manifest: Manifest, data_dir: Path) -> None:
    """Record files that the user brought and no one knows a checksum of.

    A file with neither a download nor a size in the manifest is the user's own, and may change.
    """
    if any(download.unpack for download in manifest.downloads):
        return
    known, downloaded = pins(manifest, data_dir), {download.path for download in manifest.downloads}
    for file in manifest.files:
        path = data_dir / file.path
        brought = file.path not in downloaded and not file.package
        if brought and file.size is not None and not known[file.path].sums and path.is_file():
            record(data_dir, file.path, path.stat().st_size, file_digest(path))
