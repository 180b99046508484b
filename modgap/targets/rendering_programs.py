"""Programs that render samples: where they may be, how they are started, and their versions."""

import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from modgap.errors import InputError
from modgap.limits import RENDERING_SECONDS
from modgap.targets.file_layout import single_file

__all__ = ["PROGRAM_FOLDERS", "debian_versions", "run_program", "single_program"]

PROGRAM_FOLDERS = ("/usr/bin", "/usr/local/bin", "/opt/homebrew/bin")
"""The only folders from which a program is started; those of the operating system and of package managers."""
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
"""The whole environment of a program, so that settings of the user do not change the samples."""
DPKG_STATUS = Path("/var/lib/dpkg/status")
LONGEST_REPORT = 200
"""Largest number of characters of a program's error output that a message shows."""


def single_program(files: Mapping[str, Sequence[Path]], name: str) -> Path:
    """Return the program that a manifest names under the role `program`.

    Args:
        files: Paths by role.
        name: Name of the only program that the reader starts.

    Raises:
        InputError: When it is another program, or is in another folder than those of installed programs.
        KeyError: When there is no such role.
    """
    path = single_file(files, "program")
    if path.name != name or str(path.parent) not in PROGRAM_FOLDERS:
        raise InputError(
            f"The file of the role program is {path}. Expected the program {name} in {' or '.join(PROGRAM_FOLDERS)}, "
            "because no other program is started."
        )
    return path


def run_program(command: Sequence[str], *, folder: Path = Path("/"), text: str = "") -> bytes:
    """Run a program in a folder with a fixed environment and a limit of time, and return its output.

    Args:
        command: Path of the program and its arguments.
        folder: Working folder.
        text: Text for its standard input.

    Raises:
        InputError: When it cannot be started, fails, or takes too long.
    """
    seconds = RENDERING_SECONDS.value
    try:
        done = subprocess.run(
            command, input=text.encode(), capture_output=True, cwd=folder, env=ENVIRONMENT, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise InputError(
            f"The program {command[0]} did not end within {seconds:,} seconds. {RENDERING_SECONDS.way_out()}"
        ) from error
    except OSError as error:
        raise InputError(f"The program {command[0]} cannot be started: {error.strerror}.") from error
    if done.returncode:
        report = " ".join(done.stderr.decode(errors="replace").split())[:LONGEST_REPORT] or "no error message"
        raise InputError(f"The program {command[0]} failed with exit code {done.returncode}: {report}")
    return done.stdout


def debian_versions(names: Sequence[str]) -> dict[str, str]:
    """Return the versions of installed Debian packages by name; packages that are absent are left out."""
    try:
        status = DPKG_STATUS.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    pattern = rf"^Package: ({'|'.join(map(re.escape, names))})\nStatus: install ok installed\n(?:.+\n)*?Version: (.+)$"
    return dict(re.findall(pattern, status, re.MULTILINE))
