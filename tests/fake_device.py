"""A device without a machine: tensors of the CPU that refuse what a GPU refuses, and count what a GPU waits for."""

import contextlib
import sys
from collections import Counter
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

NAME = "fake"
READS = ("_local_scalar_dense", "is_nonzero", "equal", "allclose")
"""Operations that return numbers to Python, for which a GPU has to finish all that was queued."""
SHAPED_BY_VALUES = ("nonzero", "_unique2", "unique_dim", "unique_consecutive", "masked_select")
"""Operations whose output has a size that depends on values, which a GPU has to read first."""
INDEXED = ("index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index_put")
"""Operations that read Boolean indices, and copy those of the CPU to the device."""
UNKNOWN_TYPES = (torch.float64, torch.complex128)


class Traffic(Counter[str]):
    """Numbers of waits, of copies to and from the device, and of their bytes, with the lines that cause waits."""

    def copy(self, way: str, tensor: torch.Tensor, *, waits: bool) -> None:
        """Count a copy `in` or `out`."""
        self[f"copies {way}"] += 1
        self[f"bytes {way}"] += tensor.numel() * tensor.element_size()
        if waits:
            self.wait(f"copy {way}")

    def wait(self, name: str) -> None:
        """Count a wait."""
        self["waits"] += 1
        self[f"wait: {name} at {_line_of_modgap()}"] += 1


def _line_of_modgap() -> str:
    frame = sys._getframe(2)
    while frame is not None:
        path = frame.f_code.co_filename
        if "/modgap/" in path:
            return f"{path.rpartition('/modgap/')[2]}:{frame.f_lineno}"
        frame = frame.f_back
    return "the test"


TRAFFIC = Traffic()
PINNED: set[int] = set()
"""Addresses of the memory that counts as page-locked."""


class FakeTensor(torch.Tensor):
    """A tensor of the device, whose values are in memory of the CPU."""

    values: torch.Tensor

    @staticmethod
    def __new__(cls, values: torch.Tensor) -> "FakeTensor":
        """Put values on the device."""
        if values.dtype in UNKNOWN_TYPES:
            raise TypeError(f"The device has no {values.dtype}.")
        tensor: FakeTensor = torch.Tensor._make_wrapper_subclass(
            cls,
            values.shape,
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            device=torch.device(NAME, 0),
        )
        tensor.values = values
        return tensor

    __torch_function__ = torch._C._disabled_torch_function_impl

    def untyped_storage(self) -> torch.UntypedStorage:
        """Return the memory of the values, by which code tells whether tensors share it."""
        return self.values.untyped_storage()

    def record_stream(self, stream: Any) -> None:
        """Do nothing, because all is computed at once."""

    def __repr__(self) -> str:
        return f"FakeTensor({tuple(self.shape)}, {self.dtype})"

    @classmethod
    def __torch_dispatch__(cls, function, types, arguments=(), options=None):
        """Compute an operation on the CPU, as the device would."""
        return compute(function, arguments, options or {})


class Factories(TorchDispatchMode):
    """Creates tensors on the device."""

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        options = options or {}
        device = options.get("device")
        if (device is not None and torch.device(device).type == NAME) or any(map(is_fake, leaves(arguments, options))):
            return compute(function, arguments, options)
        return function(*arguments, **options)


def leaves(*trees: Any) -> list[Any]:
    return pytree.tree_leaves(trees)


def is_fake(value: Any) -> bool:
    return isinstance(value, FakeTensor)


def on_cpu(value: Any) -> Any:
    return value.values if is_fake(value) else value


def compute(function, arguments, options):
    """Return the result of an operation, on the device unless it copies to the CPU; count what it costs."""
    name = function._schema.name.split("::")[1]
    tensors = [value for value in leaves(arguments, options) if isinstance(value, torch.Tensor)]
    device = torch.device(options["device"]).type if options.get("device") is not None else None
    plain = {key: value for key, value in options.items() if key != "device"}
    if device is not None:
        plain["device"] = "cpu"
    plain.pop("pin_memory", None)
    if name in ("_to_copy", "copy_"):
        return copy(name, function, arguments, options, plain, device)
    refuse_mixed(name, tensors)
    count_reads(name, arguments)
    values = function(*pytree.tree_map(on_cpu, arguments), **pytree.tree_map(on_cpu, plain))
    if name in READS:
        return values
    return wrapped(function, arguments, options, values)


def wrapped(function, arguments, options, values):
    """Return results as tensors of the device; those that are arguments themselves stay the same objects."""
    known = {id(one.values): one for one in leaves(arguments, options) if is_fake(one)}

    def wrap(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        return known[id(value)] if id(value) in known else FakeTensor(value)

    return pytree.tree_map(wrap, values)


def copy(name, function, arguments, options, plain, device):
    """Copy within the device, to it or from it."""
    if name == "copy_":
        target, source = arguments[:2]
        non_blocking = bool(arguments[2] if len(arguments) > 2 else options.get("non_blocking", False))
    else:
        source, non_blocking = arguments[0], bool(options.get("non_blocking", False))
        target = None
    to_device = is_fake(target) if target is not None else (device or source.device.type) == NAME
    values = on_cpu(source)
    if to_device and not is_fake(source):
        TRAFFIC.copy("in", values, waits=not (non_blocking and is_pinned(values)))
    elif is_fake(source) and not to_device:
        lands_pinned = target is not None and is_pinned(target)
        TRAFFIC.copy("out", values, waits=not (non_blocking and lands_pinned))
    if target is not None:
        on_cpu(target).copy_(values)
        return target
    moved = function(values, **plain)
    return FakeTensor(moved) if to_device else moved


def refuse_mixed(name: str, tensors: list[torch.Tensor]) -> None:
    """Raise where tensors are on two devices, as all operations do that are not of single numbers or indices."""
    others = [one for one in tensors if not is_fake(one)]
    if name in INDEXED:
        for one in others:
            TRAFFIC.copy("in", one, waits=True)
        return
    if any(one.ndim for one in others):
        raise RuntimeError(f"Expected all tensors to be on the same device in {name}, but found {NAME}:0 and cpu.")


def count_reads(name: str, arguments: Any) -> None:
    """Count a wait where the device has to be read."""
    if name in READS or name in SHAPED_BY_VALUES:
        TRAFFIC.wait(name)
    if name == "_local_scalar_dense":
        TRAFFIC["copies out"] += 1
        TRAFFIC["bytes out"] += arguments[0].element_size()
    if name in INDEXED and any(getattr(one, "dtype", None) is torch.bool for one in leaves(arguments[1])):
        TRAFFIC.wait("Boolean index")


def is_pinned(tensor: torch.Tensor) -> bool:
    return tensor.untyped_storage().data_ptr() in PINNED


def pin(tensor: torch.Tensor) -> torch.Tensor:
    if is_pinned(tensor):
        return tensor
    copied = tensor.clone()
    PINNED.add(copied.untyped_storage().data_ptr())
    return copied


class Event:
    """An event, whose synchronization is a wait."""

    def record(self, stream: Any = None) -> None:
        """Do nothing."""

    def synchronize(self) -> None:
        """Count a wait."""
        TRAFFIC.wait("event")


class Stream:
    """A stream, in which copies happen at once."""

    def __init__(self, device: Any = None) -> None:
        """Do nothing."""

    def wait_stream(self, stream: "Stream") -> None:
        """Do nothing."""


class Module:
    """The module `torch.fake`."""

    Event = Event
    Stream = Stream

    def __init__(self) -> None:
        self.seeds: list[int] = []

    def is_initialized(self) -> bool:
        return True

    def is_available(self) -> bool:
        return True

    def current_device(self) -> int:
        return 0

    def device_count(self) -> int:
        return 1

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None:
        pass

    def stream(self, stream):
        return contextlib.nullcontext()

    def current_stream(self, device=None):
        return Stream()

    def manual_seed(self, seed: int) -> None:
        self.seeds.append(seed)

    def get_rng_state(self, device=0):
        return torch.zeros(1, dtype=torch.uint8)

    def set_rng_state(self, state, device=0):
        pass

    def get_amp_supported_dtype(self):
        return [torch.bfloat16, torch.float16]


MODULE = Module()
KERNELS = torch.library.Library("aten", "IMPL")
"""Operations that PyTorch calls without the mode, as in `torch.tensor`; they live as long as this object."""


def empty_strided(size, stride, *, dtype=None, layout=None, device=None, pin_memory=None):
    """Return a tensor of the device."""
    return FakeTensor(torch.empty_strided(size, stride, dtype=dtype, device="cpu"))


def empty(size, *, dtype=None, layout=None, device=None, pin_memory=None, memory_format=None):
    """Return a tensor of the device."""
    return FakeTensor(torch.empty(size, dtype=dtype, device="cpu"))


def copy_from(source, target, non_blocking=False):
    """Copy to the device, or from it."""
    return copy("copy_", None, (target, source, non_blocking), {}, {}, None)


def register() -> None:
    """Make the name of the device known to PyTorch, once in a process.

    Raises:
        ImportError: If this torch has no devices that are written in Python.
    """
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

    if torch._C._get_privateuse1_backend_name() != NAME:
        _setup_privateuseone_for_python_backend(NAME, MODULE)
        KERNELS.impl("empty_strided", empty_strided, "PrivateUse1")
        KERNELS.impl("empty.memory_format", empty, "PrivateUse1")
        KERNELS.impl("_copy_from", copy_from, "PrivateUse1")


@contextlib.contextmanager
def fake_device() -> Iterator[SimpleNamespace]:
    """Have the device within a block; yield it with the traffic so far."""
    register()
    TRAFFIC.clear()
    plain = torch.Tensor.pin_memory, torch.inference_mode
    torch.Tensor.pin_memory = pin
    # Tensors of inference have no version, which a tensor around another one needs.
    torch.inference_mode = lambda mode=True: torch.no_grad() if mode else contextlib.nullcontext()
    try:
        with Factories():
            yield SimpleNamespace(device=torch.device(NAME, 0), traffic=TRAFFIC)
    finally:
        torch.Tensor.pin_memory, torch.inference_mode = plain
        PINNED.clear()
