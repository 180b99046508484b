"""Devices of a ranking's passes: each pass holds one, and no two hold the same.

An engine decides which devices a process sees: Ray, SLURM and Dask's workers for GPUs hide the others. Among those that
it sees, a pass takes one that no other process on this machine holds, by a lock that ends with the process.
"""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from modgap.errors import UsageError
from modgap.forward.batched_inference import choose_device
from modgap.storage.locks import lock_first_free, unlock
from modgap.storage.paths import cache_folder

__all__ = ["hold_device", "list_devices", "passes_on_each"]

SEPARATOR = ","
TIMES = "*"
MOST_PASSES = 16
"""Most passes on one device at a time."""


def passes_on_each(name: str) -> int:
    """Return how many passes may run on each device at a time: the number after a star, else 1.

    Args:
        name: Names of devices, such as `cuda` or `cuda:0,cuda:1*4`.

    Raises:
        UsageError: If it is not a number from 1 to 16.
    """
    _, star, number = name.partition(TIMES)
    if not star:
        return 1
    if not number.strip().isdecimal() or not 1 <= int(number) <= MOST_PASSES:
        raise UsageError(
            f"--device is {name!r}, but after {TIMES} it must have the number of passes on each device, from 1 to "
            f"{MOST_PASSES}."
        )
    return int(number)


def list_devices(name: str) -> tuple[str, ...]:
    """Return the devices that passes in this process may hold.

    Args:
        name: `auto`, `cpu`, `cuda`, `mps`, the name of one device such as `cuda:1`, or several with commas between;
            with `*4` after them for four passes on each at a time.

    Returns:
        The names; empty if the passes run on the CPU, which any number of processes can share.

    Raises:
        UsageError: If this machine does not have the device.
    """
    import torch

    passes_on_each(name)
    names = tuple(part.strip() for part in name.partition(TIMES)[0].split(SEPARATOR))
    devices = [choose_device(part) for part in names]
    if len(names) > 1:
        return names
    device = devices[0]
    if device.type == "cpu":
        return ()
    if str(device) == "cuda":
        return tuple(f"cuda:{index}" for index in range(torch.cuda.device_count()))
    return (str(device),)


@contextlib.contextmanager
def hold_device(name: str) -> Iterator[str]:
    """Hold one of the devices that this process sees within a block, and wait until one is free.

    Where file locks do not work, a block starts at once on the first device.

    Args:
        name: Name of the devices, as for `list_devices`.

    Yields:
        Name of the device.
    """
    devices = list_devices(name)
    if not devices:
        yield name.partition(TIMES)[0]
        return
    passes = range(passes_on_each(name))
    # One pass on each device comes before a second one on any.
    places = {_lock_file(device, number): device for number in passes for device in devices}
    path, descriptor = lock_first_free(list(places))
    try:
        yield places[path]
    finally:
        unlock(descriptor)


def _lock_file(device: str, number: int) -> Path:
    """Return the file whose lock stands for one pass on a device of this machine."""
    return cache_folder() / "devices" / socket.gethostname() / f"{_identity(device)}-{number}.lock"


def _identity(device: str) -> str:
    """Return a name of the device that is the same in every process, whichever devices it sees."""
    import torch

    if not device.startswith("cuda"):
        return device.replace(":", "-")
    properties = torch.cuda.get_device_properties(torch.device(device))
    return str(getattr(properties, "uuid", f"{os.environ.get('CUDA_VISIBLE_DEVICES', '')}-{device}")).replace(":", "-")
