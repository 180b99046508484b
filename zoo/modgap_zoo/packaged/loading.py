"""Loading of the models whose weights are in packages."""

import importlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from modgap.errors import InputError, first_line
from modgap.process.installed_packages import find_package_folder
from modgap.sources.source import Parts, Source
from modgap.sources.timm.handle import read_state
from modgap.storage.array_formats import read_npz
from modgap_zoo.packaged.keras_weights import read_keras_weights
from modgap_zoo.packaged.network import PackagedNetwork
from modgap_zoo.packaged.tensorflow_bundle import read_tensorflow_bundle

MOST_ENTRIES = 100_000
LONGEST_NAME = 200
"""Largest number of entries of a PyTorch file, and longest path of keys to one: lists could contain themselves."""


def load(
    name: str,
    architecture: str,
    capacity: str,
    file: Path | None,
    control_seed: int | None,
    *,
    has_vocabulary: bool = False,
) -> Source:
    """Load a packaged model with its weights, or with random ones.

    Args:
        name: Name of the source, for errors.
        architecture: Name of the architecture, as in `modgap_zoo.packaged.handle.PackagedModel`.
        capacity: Its size or tags; empty if it comes in one.
        file: File of the weights; None for a control that needs none.
        control_seed: Seed of random weights; None for those of the file.
        has_vocabulary: True if the file has the vocabulary and the classes too.

    Raises:
        InputError: When the weights do not fit.
    """
    module = importlib.import_module(f"modgap_zoo.packaged.{architecture.replace('-', '_')}")
    content = module.read(file) if has_vocabulary else None
    arguments = [argument for argument in (content, capacity) if argument]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(control_seed or 0)
        network: PackagedNetwork = module.build_network(*arguments)
    if file is not None and control_seed is None:
        weights = _read(file) if content is None else content.tensors
        try:
            network.load_state_dict(module.rename_weights(weights))
        except (RuntimeError, ValueError, AttributeError, LookupError, StopIteration) as error:
            raise InputError(f"The weights in {file} do not fit {name} ({first_line(error)}).") from error
    network.eval()
    parts = Parts(network.embedder, network.encoder, network.head, lambda tokens: tokens)
    return Source(network, network.input, network.class_names, False, lambda: parts, network.features)


def _read(path: Path) -> Mapping[str, Tensor]:
    if path.name.endswith(".index"):
        return read_tensorflow_bundle(path)
    if path.suffix == ".hdf5":
        return read_keras_weights(path)
    if path.suffix == ".npz":
        return {name: torch.from_numpy(array) for name, array in read_npz(path).items() if array.dtype.kind == "f"}
    return _read_onnx(path) if path.suffix == ".onnx" else named_tensors(path)


def _read_onnx(path: Path) -> dict[str, Tensor]:
    """Return the tensors of single precision in an ONNX file by name."""
    if find_package_folder("onnx") is None:
        raise InputError(
            "The weights are in an ONNX file, and onnx is not installed. Install it with: pip install onnx"
        )
    from onnx import numpy_helper

    from modgap_zoo.onnx.graph import read_graph

    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in read_graph(path).graph.initializer}
    return {name: torch.from_numpy(array.copy()) for name, array in arrays.items() if array.dtype == np.float32}


def named_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors or PyTorch file by their keys; of nested lists and tables joined by dots.

    Raises:
        InputError: When the file cannot be read, or has no tensors or too many entries.
    """
    tensors: dict[str, Tensor] = {}
    waiting: list[tuple[str, object]] = [("", read_state(path))]
    n_entries = 0
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, Tensor):
            tensors[name] = value
            continue
        if not isinstance(value, Mapping | list | tuple):
            continue
        n_entries += len(value)
        if n_entries > MOST_ENTRIES or len(name) > LONGEST_NAME:
            raise InputError(f"{path} has more than {MOST_ENTRIES:,} entries, or its lists contain themselves.")
        entries = value.items() if isinstance(value, Mapping) else enumerate(value)
        waiting += ((f"{name}.{key}" if name else str(key), entry) for key, entry in entries)
    if not tensors:
        raise InputError(f"{path} does not contain tensors.")
    return tensors
