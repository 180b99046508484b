"""Samples that are rendered: checks of the options, the programs that render them, and sounds as they are used."""

import re
import subprocess
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np

from modgap.errors import InputError, format_bytes
from modgap.targets.file_layout import single_file
from modgap_zoo.limits import RENDERED_BYTES, RENDERED_SAMPLES, RENDERING_SECONDS

LONGEST_VALUE = 60
"""Largest number of characters of a wrong value that a message shows."""


def option_error(option: str, value: object, expected: str) -> InputError:
    """Return the error for a wrong value of an option.

    Args:
        option: Name of the option in the manifest.
        value: The wrong value.
        expected: Description of the values that are allowed.
    """
    shown = shorten(repr(value), LONGEST_VALUE, placeholder="...")
    return InputError(f"The reader's option {option} is {shown}. Expected {expected}.")


def check_whole_number(option: str, value: object, low: int, high: int) -> None:
    """Raise an InputError unless an option is a whole number from `low` to `high`."""
    if not _is_whole_number(value, low, high):
        raise option_error(option, value, f"a whole number from {low:,} to {high:,}")


def check_number(option: str, value: object, low: float, high: float) -> None:
    """Raise an InputError unless an option is a number from `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise option_error(option, value, f"a number from {low} to {high}")


def check_choice(option: str, value: object, choices: Collection[str]) -> None:
    """Raise an InputError unless an option is one of some names."""
    if not isinstance(value, str) or value not in choices:
        raise option_error(option, value, f"one of {', '.join(choices)}")


def whole_numbers(option: str, values: object, low: int, high: int) -> tuple[int, ...]:
    """Return an option that is a list of different whole numbers from `low` to `high`.

    Raises:
        InputError: When it is anything else, or empty.
    """
    expected = f"a list of different whole numbers from {low:,} to {high:,}"
    return _different_items(option, values, lambda item: _is_whole_number(item, low, high), expected)


def different_names(option: str, values: object) -> tuple[str, ...]:
    """Return an option that is a list of different names.

    Raises:
        InputError: When it is anything else, or empty.
    """
    return _different_items(option, values, lambda item: isinstance(item, str), "a list of different names")


def check_rendered_size(n_samples: int, sample_bytes: int) -> None:
    """Raise an InputError if the samples that options describe exceed the limits, before any is rendered.

    Args:
        n_samples: Number of samples.
        sample_bytes: Size of one sample as an array.
    """
    if n_samples > RENDERED_SAMPLES.value:
        raise InputError(
            f"The reader's options describe {n_samples:,} samples. The limit is {RENDERED_SAMPLES.value:,}. "
            f"{RENDERED_SAMPLES.way_out(n_samples)}"
        )
    total = n_samples * sample_bytes
    if total > RENDERED_BYTES.value:
        raise InputError(
            f"The reader's options describe samples of {format_bytes(total)}. The limit is "
            f"{format_bytes(RENDERED_BYTES.value)}. {RENDERED_BYTES.way_out(total)}"
        )


def _is_whole_number(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _different_items(option: str, values: object, is_valid: Callable[[object], bool], expected: str) -> tuple[Any, ...]:
    """Return the items of a list that is not empty, all of them valid and different; raise an InputError otherwise."""
    items = tuple(values) if isinstance(values, list | tuple) else ()
    if not items or not all(map(is_valid, items)) or len(set(items)) < len(items):
        raise option_error(option, values, expected)
    return items


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


@dataclass(frozen=True)
class RenderedSounds:
    """Mono clips (1, length), float32, which are rendered in blocks and kept in memory.

    Attributes:
        render: Returns a block of clips (block_size, 1, length) by its number; it does not depend on other blocks.
        n_blocks: Number of blocks.
        block_size: Number of clips in a block.
    """

    render: Callable[[int], np.ndarray]
    n_blocks: int
    block_size: int
    _rendered: dict[int, np.ndarray] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        """Return the number of clips."""
        return self.n_blocks * self.block_size

    def __getitem__(self, index: int) -> np.ndarray:
        """Return one clip; the block that contains it is rendered if no other clip of it was used before."""
        block, row = divmod(range(len(self))[index], self.block_size)
        if block not in self._rendered:
            self._rendered[block] = self.render(block)
        clip: np.ndarray = self._rendered[block][row]
        return clip


def resample(values: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """Return a waveform (..., length) at another sampling rate, without the frequencies that it cannot have."""
    from scipy.signal import resample_poly

    resampled: np.ndarray = resample_poly(values, new_rate, rate, axis=-1)
    return resampled


def fit_length(values: np.ndarray, length: int) -> np.ndarray:
    """Return the start of a waveform (..., n) as float32, with zeros at its end if it is shorter than `length`."""
    fitted = np.zeros((*values.shape[:-1], length), np.float32)
    fitted[..., : values.shape[-1]] = values[..., :length]
    return fitted
