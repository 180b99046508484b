"""Download of a pinned file of a package by its ordinary client: pip, apt-get or npm, which install and run nothing."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from modgap.errors import InputError
from modgap.process.installed_packages import find_package_folder
from modgap.targets.download.clients import Client, PackagedFile
from modgap.targets.manifest import DataFile, fault_sentences
from modgap_zoo.deb_files import deb_entries
from modgap_zoo.limits import CLIENT_SECONDS

ArtifactName = Annotated[
    str, StringConstraints(max_length=100, pattern=r"^(@[a-z0-9][a-z0-9._-]*/)?[A-Za-z0-9][A-Za-z0-9._+-]*$")
]
"""Name of a package of pip, apt or npm; the last may have a scope."""
ArtifactVersion = Annotated[str, StringConstraints(max_length=100, pattern=r"^([0-9]+:)?[0-9][A-Za-z0-9._+~-]*$")]
ArtifactFile = Annotated[str, StringConstraints(max_length=200, pattern=r"^[A-Za-z0-9][A-Za-z0-9._+~%-]*$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
PATTERNS = {
    "name": "the name of a package, with letters, digits and . _ + - only",
    "version": "a version that starts with a digit, with letters, digits and . _ + ~ - only",
    "file": "the name of a file without a folder, with letters, digits and . _ + ~ % - only",
    "sha256": "64 hexadecimal digits in lower case",
}
SUFFIXES = {"pip": ".whl", "apt": ".deb", "npm": ".tgz"}
"""End of the name of the file that a client downloads."""
WHEEL_HYPHENS = (4, 5)
"""Hyphens between name, version, number of the build (which can be absent), and tags of Python, ABI and platform."""


class Artifact(BaseModel):
    """The table `[artifact]` of a manifest.

    The files of the manifest are those that are unpacked: `<package>/<path>` of a wheel, `<folder>/<path>` of a .deb,
    and `package/<path>` of an npm tarball, whose files have neither package nor folder.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    client: Literal["pip", "apt", "npm"] = Field(description="Program that downloads the file: pip, apt or npm.")
    name: ArtifactName = Field(description="Name of the package in its registry.")
    version: ArtifactVersion = Field(description="Version of the package; for apt that of Debian.")
    file: ArtifactFile = Field(description="Name of the file: a wheel (.whl), a .deb or an npm tarball (.tgz).")
    size: int = Field(gt=0, description="Size in bytes.")
    sha256: Sha256 = Field(description="SHA-256 checksum.")

    @model_validator(mode="after")
    def _check_client(self) -> "Artifact":
        suffix = SUFFIXES[self.client]
        if not self.file.endswith(suffix):
            raise ValueError(f"Expected a file of {self.client}, whose name ends in {suffix}, got {self.file}")
        if self.client == "pip" and self.file.count("-") not in WHEEL_HYPHENS:
            raise ValueError(f"Expected the name of a wheel, such as grain-1.2-py3-none-any.whl, got {self.file}")
        if "/" in self.name and self.client != "npm":
            raise ValueError(f"Expected a name without a slash for {self.client}, got {self.name}")
        return self

    def member(self, file: DataFile) -> str:
        """Return the path of a file of the manifest within the downloaded file."""
        folder = {"pip": file.package, "apt": (file.folder or "").lstrip("/"), "npm": "package"}[self.client]
        return f"{folder}/{file.path}"


def describe(record: Mapping[str, Any], files: Sequence[DataFile]) -> PackagedFile:
    """Return the file that the table `[artifact]` of a manifest describes.

    Args:
        record: The table.
        files: Files of the manifest.

    Raises:
        ValueError: When a field is missing, unknown or invalid, or a file is not one of a package of this client.
    """
    try:
        artifact = Artifact.model_validate(record)
    except ValidationError as error:
        raise ValueError(fault_sentences(error, "artifact", PATTERNS)) from error
    client = artifact.client
    wanted = (client == "pip", client == "apt")
    if any((bool(file.package), bool(file.folder)) != wanted for file in files):
        noun = {"pip": "a package", "apt": "a folder", "npm": "neither package nor folder"}[client]
        raise ValueError(f"An artifact of {client} needs files, each with {noun}")
    return PackagedFile(
        client=client,
        package=f"{artifact.name} {artifact.version}",
        file=artifact.file,
        folder=f"packages/{client}/{artifact.name}-{artifact.version}",
        size=artifact.size,
        sha256=artifact.sha256,
        members=tuple(map(artifact.member, files)),
        command=tuple(_command(artifact)),
    )


LONGEST_REPORT = 300
"""Largest number of characters of a client's error that a message shows."""
KEPT_VARIABLES = frozenset(
    (
        *("home", "userprofile", "appdata", "localappdata", "systemroot", "comspec", "tmpdir", "temp", "tmp"),
        *("xdg_config_home", "xdg_cache_home", "xdg_config_dirs"),
        *("http_proxy", "https_proxy", "all_proxy", "ftp_proxy", "no_proxy"),
        *("ssl_cert_file", "ssl_cert_dir", "requests_ca_bundle", "curl_ca_bundle", "node_extra_ca_certs"),
        *("pip_index_url", "pip_extra_index_url", "pip_find_links", "pip_cert", "pip_trusted_host", "pip_config_file"),
        *("npm_config_registry", "npm_config_cafile", "npm_config_userconfig", "apt_config"),
    )
)
"""Environment variables, in lower case, that a client gets: where it is at home, its proxies, certificates and mirrors.

None of them can make it build, install or run something.
"""
ENVIRONMENT = {
    "LC_ALL": "C",
    "PIP_NO_INPUT": "1",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "NPM_CONFIG_UPDATE_NOTIFIER": "0",
}


def _command(artifact: Artifact) -> list[str]:
    """Return the command that downloads the file of a package into the current folder, as a user types it.

    Its options are fixed. Of the manifest it has the name and the version of the package, and the tags of a wheel.
    """
    if artifact.client == "apt":
        return ["apt-get", "download", f"{artifact.name}={artifact.version}"]
    if artifact.client == "npm":
        return ["npm", "pack", "--ignore-scripts", f"{artifact.name}@{artifact.version}"]
    options = ["--no-deps", "--only-binary=:all:"]
    *_, python, abi, platforms = artifact.file.removesuffix(".whl").split("-")
    if platforms != "any":
        # These select a wheel of one platform, so that any Python downloads the same one.
        options += [f"--implementation={python[:2]}", f"--python-version={python[2:]}", f"--abi={abi}"]
        options += [f"--platform={platform}" for platform in platforms.split(".")]
    return ["pip", "download", *options, f"{artifact.name}=={artifact.version}"]


def download(packaged: PackagedFile, folder: Path, final_folder: Path) -> Path:
    """Download the file of a package into an empty folder by its client, and return its path.

    Args:
        packaged: The file.
        folder: The empty folder, which is the current folder of the client.
        final_folder: Folder in which the file is expected at the end, for messages.

    Raises:
        InputError: When the client is missing, fails or takes too long, or brings another file.
    """
    search_path = os.pathsep.join(entry for entry in os.get_exec_path() if os.path.isabs(entry))
    environment = {name: value for name, value in os.environ.items() if name.lower() in KEPT_VARIABLES}
    environment |= ENVIRONMENT | {"PATH": search_path}
    command = [*_program(packaged, search_path, final_folder), *packaged.command[1:]]
    seconds = CLIENT_SECONDS.value
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds
        )
    except subprocess.TimeoutExpired as error:
        raise InputError(
            f"{packaged.client} did not download {packaged.file} within {seconds:,} seconds. {CLIENT_SECONDS.way_out()}"
        ) from error
    except OSError as error:
        raise _failure(packaged, f"{command[0]} cannot be started ({error.strerror})", final_folder) from error
    if done.returncode:
        raise _failure(packaged, _report(done.stderr.decode(errors="replace").splitlines()), final_folder)
    path = folder / packaged.file
    if path.is_symlink() or not path.is_file():
        others = ", ".join(sorted(file.name for file in folder.iterdir())) or "no file"
        raise _failure(packaged, f"it brought {others}", final_folder)
    return path


def _failure(packaged: PackagedFile, reason: str, final_folder: Path) -> InputError:
    way_out = packaged.by_hand(final_folder)
    return InputError(f"{packaged.client} could not download {packaged.file}: {reason.rstrip('.')}. {way_out}")


def _program(packaged: PackagedFile, search_path: str, final_folder: Path) -> list[str]:
    """Return the start of the command: the program, and for pip the Python that runs modgap."""
    if packaged.client == "pip":
        if find_package_folder("pip") is None:
            raise _failure(packaged, "this Python has no pip", final_folder)
        return [sys.executable, "-P", "-m", "pip"]
    name = packaged.command[0]
    program = shutil.which(name, path=search_path)
    if program is None:
        raise _failure(packaged, f"{name} is not installed", final_folder)
    return [program]


def _report(lines: Sequence[str]) -> str:
    """Return the line of a client's errors that says most.

    Example:
        >>> _report(["npm error code ETARGET", "npm error notarget No matching version found for a@1.", "More."])
        'npm error notarget No matching version found for a@1.'
    """
    written = [" ".join(line.split()) for line in lines if line.strip()]
    starts = ("ERROR:", "E:", "npm error", "npm ERR!")
    noise = (" code ", " Ignored the following ")
    errors = [line for line in written if line.startswith(starts) and not any(text in line for text in noise)]
    return (errors[:1] or written[-1:] or ["no error message"])[0][:LONGEST_REPORT]


PIP, APT, NPM = (
    Client("pip", describe, download),
    Client("apt", describe, download, deb_entries),
    Client("npm", describe, download),
)
