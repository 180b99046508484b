"""Limits of what modgap takes from data and from hosts, the variable that raises each, and the memory that is left.

A limit stops a file that would fill the memory or the disk, or would never be read to its end. It is compared before
the work where the size is known, and during the work otherwise. Trusted data beyond a limit is read after raising it.
"""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from modgap.errors import InputError, UsageError, format_bytes

FREE_UNPACKED_BYTES = 256 << 20
"""Bytes that any file may unpack to, whatever its ratio: empty images and silence compress a thousandfold."""


@dataclass(frozen=True)
class Limit:
    """A limit with its environment variable.

    Attributes:
        variable: Name of the environment variable that replaces the default.
        default: Value without this variable.
        unit: Unit of the value.
        meaning: Description for the documentation.
    """

    variable: str
    default: int
    unit: str
    meaning: str

    @property
    def value(self) -> int:
        """The limit that applies now.

        Raises:
            UsageError: When the environment variable is not a number, or less than 1.
        """
        text = os.environ.get(self.variable, "")
        if not text:
            return self.default
        try:
            value = int(float(text))
        except (ValueError, OverflowError):
            value = 0
        if value < 1:
            raise UsageError(f"{self.variable} is {text!r}. Expected a number of {self.unit}, at least 1.")
        return value

    def way_out(self, needed: int | None = None) -> str:
        """Return the sentence that says how to raise the limit.

        Args:
            needed: Smallest value that suffices; None if it is unknown.
        """
        value = 10 * self.value if needed is None else needed
        return f"If you trust it, raise the limit with: export {self.variable}={value}"


UNPACKED_BYTES = Limit(
    "MODGAP_MAX_UNPACKED",
    64_000_000_000,
    "bytes",
    "Size of a compressed file, or of an array in it, after decompression.",
)
UNPACK_RATIO = Limit(
    "MODGAP_MAX_UNPACK_RATIO",
    100,
    "bytes per byte",
    "Ratio of a compressed file's size after decompression to its size before, beyond the first 256 MiB.",
)
DOWNLOAD_BYTES = Limit(
    "MODGAP_MAX_DOWNLOAD", 100_000_000_000, "bytes", "Size of a download whose size the manifest does not state."
)
ARCHIVE_ENTRIES = Limit("MODGAP_MAX_ARCHIVE_ENTRIES", 2_000_000, "entries", "Files and folders in an archive.")
ARCHIVE_DEPTH = Limit("MODGAP_MAX_ARCHIVE_DEPTH", 32, "folders", "Folders within each other in an archive.")
IMAGE_PIXELS = Limit("MODGAP_MAX_PIXELS", 100_000_000, "pixels", "Pixels of one image, compared before it is decoded.")
HDF5_SECONDS = Limit(
    "MODGAP_MAX_HDF5_SECONDS", 60, "seconds", "Time to read a text dataset of an HDF5 file, in a child process."
)
PICKLE_BYTES = Limit("MODGAP_MAX_PICKLE", 8_000_000_000, "bytes", "Size of a pickle after decompression.")
PICKLE_RATIO = Limit(
    "MODGAP_MAX_PICKLE_RATIO",
    20,
    "bytes per byte",
    "Ratio of a pickle's size after decompression to its size before, beyond the first 64 MiB.",
)
PICKLE_OPCODES = Limit(
    "MODGAP_MAX_PICKLE_OPCODES", 8_000_000, "instructions", "Instructions of a pickle, a few for each object in it."
)
PICKLE_DEPTH = Limit("MODGAP_MAX_PICKLE_DEPTH", 32, "levels", "Containers within each other in a pickle.")
PICKLE_MEMORY = Limit(
    "MODGAP_MAX_PICKLE_MEMORY",
    1_000_000_000,
    "bytes",
    "Memory of the process that reads a pickle, beyond four times the pickle's size.",
)
PICKLE_SECONDS = Limit(
    "MODGAP_MAX_PICKLE_SECONDS",
    60,
    "seconds",
    "Time of the process that reads pickles, beyond 1 second for each 5 MB that they may unpack to.",
)
MODEL_LAYERS = Limit(
    "MODGAP_MAX_MODEL_LAYERS", 1_000, "layers", "Layers, blocks or stages in the configuration of a model."
)
MODEL_NUMBER = Limit(
    "MODGAP_MAX_MODEL_NUMBER",
    20_000_000,
    "units",
    "Any other whole number in the configuration of a model, such as the size of its vocabulary.",
)
PARTIAL_DAYS = Limit(
    "MODGAP_PARTIAL_DAYS",
    30,
    "days",
    "Age after which a download that was not finished is removed when the next file of its folder is fetched.",
)
LIMITS = tuple(value for value in [*globals().values()] if isinstance(value, Limit))
"""All limits, in the order of the documentation."""


def check_unpacked_size(name: object, packed: int, unpacked: int) -> None:
    """Raise if a file unpacks to more bytes than the limits allow.

    Args:
        name: The file, for the message.
        packed: Its size in bytes.
        unpacked: Its size in bytes after decompression, or the part of it that has been decompressed.

    Raises:
        InputError: When it is larger.
    """
    limit = min(UNPACKED_BYTES.value, max(FREE_UNPACKED_BYTES, UNPACK_RATIO.value * packed))
    if unpacked <= limit:
        return
    if unpacked > UNPACKED_BYTES.value:
        way_out = UNPACKED_BYTES.way_out(unpacked)
    else:
        way_out = UNPACK_RATIO.way_out(-(-unpacked // max(packed, 1)))
    raise InputError(
        f"{name} has {packed:,} bytes and unpacks to {unpacked:,} bytes or more. The limit is {limit:,}. {way_out}"
    )


MACHINE = Path("/proc/meminfo")
PROCESS = Path("/proc/self/statm")
CGROUP = Path("/sys/fs/cgroup")
"""Folder with the memory that a container may use and uses, both in bytes."""
UNCHECKED_BYTES = 64 << 20
"""Size up to which a file is not compared with the memory that is left."""


def available_memory() -> int | None:
    """Return the bytes that the machine, the container and the limit of address space leave; None if unknown."""
    left: list[int] = []
    with contextlib.suppress(OSError, ValueError):
        lines = MACHINE.read_text(encoding="ascii").splitlines()
        left += [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")][:1]
    with contextlib.suppress(OSError, ValueError):
        most, used = (int((CGROUP / name).read_text(encoding="ascii")) for name in ("memory.max", "memory.current"))
        left.append(most - used)
    with contextlib.suppress(ImportError, OSError, ValueError, AttributeError):
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        used = int(PROCESS.read_text(encoding="ascii").split()[0]) * os.sysconf("SC_PAGE_SIZE")
        left += [] if limit == resource.RLIM_INFINITY else [limit - used]
    return max(0, min(left)) if left else None


def check_memory(name: object, needed: int) -> None:
    """Raise if a file that is read at once does not fit in memory.

    Args:
        name: The file, for the message.
        needed: Its size in memory in bytes, or a lower bound of it.

    Raises:
        InputError: When less memory is left.
    """
    left = available_memory() if needed > UNCHECKED_BYTES else None
    if left is None or needed <= left:
        return
    raise InputError(
        f"{name} takes at least {format_bytes(needed)} of memory, and {format_bytes(left)} are left. Use fewer "
        "samples, or save arrays as .npy, .safetensors or uncompressed .npz, which are not read into memory at once."
    )
