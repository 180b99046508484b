"""Devices: copies for which Python does not wait, precision, and random numbers.

A GPU computes what was queued for it while Python continues. Python waits for it where a number is read, and where
memory that is not page-locked is copied. Nothing is queued meanwhile, so the GPU then falls idle.
"""

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
Number = float | Tensor
"""A number, or a tensor of one value on a device, which is read later."""


def copies_freely(device: torch.device) -> bool:
    """Return True if copies from and to page-locked memory run beside the computations of a device."""
    return device.type not in ("cpu", "meta") and hasattr(torch.get_device_module(device), "Stream")


def map_tensors(value: T, function: Callable[[Tensor], Tensor]) -> T:
    """Return a value with the results of a function in place of its tensors.

    Args:
        value: A tensor, a tuple, a list or a mapping of such, or anything else, which stays as it is.
        function: Function of a tensor.
    """
    changed: Any = value
    if isinstance(value, Tensor):
        changed = function(value)
    elif isinstance(value, tuple | list):
        items = [map_tensors(item, function) for item in value]
        # A named tuple takes its items one by one.
        changed = type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    elif isinstance(value, Mapping):
        changed = {name: map_tensors(item, function) for name, item in value.items()}
    return changed  # type: ignore[no-any-return]


def upload(value: T, device: torch.device) -> T:
    """Return a value with its CPU tensors copied to a device.

    Where copies can run beside computations, they run in a stream of their own, and this function returns before they
    are done. Computations that are queued for the device afterwards begin after the copies.

    Args:
        value: A value with tensors, as for `map_tensors`.
        device: The device.
    """
    if device.type == "cpu":
        return value
    if not copies_freely(device):
        return map_tensors(value, lambda tensor: tensor.to(device))
    module = torch.get_device_module(device)
    current = module.current_stream(device)
    stream = _copy_stream(device)

    def copy(tensor: Tensor) -> Tensor:
        if tensor.device.type != "cpu":
            return tensor
        moved = tensor.pin_memory().to(device, non_blocking=True)
        # The allocator knows only the stream of the copies. It must not reuse the memory before the stream of the
        # computations is done with it.
        moved.record_stream(current)
        return moved

    with module.stream(stream):
        moved = map_tensors(value, copy)
    current.wait_stream(stream)
    return moved


@functools.cache
def _copy_stream(device: torch.device) -> Any:
    return torch.get_device_module(device).Stream(device)


def download(tensor: Tensor) -> Callable[[], Tensor]:
    """Begin to copy a tensor to the CPU, and return the function that waits for the copy and returns it."""
    if not copies_freely(tensor.device):
        return tensor.cpu
    copied = torch.empty(tensor.shape, dtype=tensor.dtype).pin_memory()
    copied.copy_(tensor, non_blocking=True)
    module = torch.get_device_module(tensor.device)
    done = module.Event()
    # The current device may be another one.
    done.record(module.current_stream(tensor.device))

    def read() -> Tensor:
        done.synchronize()
        # Page-locked memory is scarce, and outputs may be kept.
        return copied.clone()

    return read


def read_late(launched: Iterable[Callable[[], T]]) -> Iterator[T]:
    """Yield the results of functions, each after the next function was made, so that a device computes meanwhile.

    Args:
        launched: Iterator over functions that wait for a result and return it. Each step of the iterator begins the
            computation of the result of its function.
    """
    waiting: Callable[[], T] | None = None
    for read in launched:
        if waiting is not None:
            yield waiting()
        waiting = read
    if waiting is not None:
        yield waiting()


def is_out_of_memory(error: RuntimeError) -> bool:
    """Return True if an error of PyTorch says that a device or the machine has too little memory."""
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError) or "allocate memory" in text or "out of memory" in text


# Numbers


def precise_type(device: torch.device) -> torch.dtype:
    """Return double precision if a device has it, and else single precision, as on GPUs of Apple."""
    return torch.float64 if device.type in ("cpu", "cuda") else torch.float32


def fastest_dtype(device: str) -> str:
    """Return `bfloat16` for a CUDA GPU that has it, and `float32` for other devices.

    Args:
        device: Name of a device, as users pass it: `auto`, `cpu`, `cuda`, `mps`, or several devices.
    """
    may_be_gpu = device.startswith(("auto", "cuda")) and torch.cuda.is_available()
    return "bfloat16" if may_be_gpu and torch.cuda.is_bf16_supported(including_emulation=False) else "float32"


def number_of(value: Tensor) -> Number:
    """Return a tensor of one value as a number if it is on the CPU; else return it detached, to be read later."""
    return float(value) if value.device.type == "cpu" else value.detach()


def read_numbers(records: Sequence[Mapping[str, Number]]) -> list[dict[str, float]]:
    """Return records of numbers with all tensors read from the device in one copy, so that Python waits once."""
    values = [value.reshape(1) for record in records for value in record.values() if isinstance(value, Tensor)]
    read = iter(torch.cat(values).cpu().tolist() if values else ())
    return [
        {name: next(read) if isinstance(value, Tensor) else value for name, value in record.items()}
        for record in records
    ]


@contextlib.contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Allow TF32 in matrix products and convolutions within the block, or forbid it."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


# Random numbers


@contextlib.contextmanager
def seeded(device: torch.device, seed: int) -> Iterator[None]:
    """Seed the random numbers of the CPU and of one device within the block, and restore them after it."""
    is_cpu = device.type == "cpu"
    # With an empty list, only the generator of the CPU is restored, and the type does not matter.
    with torch.random.fork_rng([] if is_cpu else [_index(device)], device_type="cuda" if is_cpu else device.type):
        # `torch.manual_seed` would take a millisecond, and would seed all other devices too.
        torch.default_generator.manual_seed(seed)
        if not is_cpu:
            module = torch.get_device_module(device)
            current: Callable[[Any], Any] = getattr(module, "device", contextlib.nullcontext)
            with current(device):
                module.manual_seed(seed)
        yield


def _index(device: torch.device) -> int:
    """Return the number of a device among those of its kind."""
    index: int | None = device.index
    current: Callable[[], int] = getattr(torch.get_device_module(device), "current_device", lambda: 0)
    return current() if index is None else index
