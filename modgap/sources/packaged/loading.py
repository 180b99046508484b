"""Loading of the models whose weights are in packages."""

import importlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from modgap.errors import InputError, first_line
from modgap.sources.inputs import Batch
from modgap.sources.onnx.handle import read_onnx_weights
from modgap.sources.packaged.keras_weights import read_keras_weights
from modgap.sources.packaged.network import PackagedNetwork
from modgap.sources.packaged.tensorflow_bundle import read_tensorflow_bundle
from modgap.sources.source import Parts, Source
from modgap.sources.timm.handle import read_weights

__all__ = ["load"]


def load(name: str, architecture: str, capacity: str, weights: Path | None, control_seed: int) -> Source:
    """Load a packaged model with its weights, or with random ones.

    Args:
        name: Name of the source, for errors.
        architecture: Name of the architecture, as in `modgap.sources.packaged.handle.ModelPackage`.
        capacity: Its size or tags; empty if it comes in one.
        weights: File of weights; None for random ones.
        control_seed: Seed of random weights.

    Raises:
        InputError: When the weights do not fit.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(control_seed)
        network = _build(architecture, capacity)
    if weights is not None:
        _fill(network, weights, name)
    network.eval()
    parts = Parts(network.embedder, network.encoder, network.head, lambda tokens: tokens)

    def features(batch: Batch) -> Tensor:
        return network.pool(network.encoder(network.embedder(batch)))

    return Source(network, network.input, network.class_names, False, lambda: parts, features)


def _build(architecture: str, capacity: str) -> PackagedNetwork:
    """Return the network of the architecture's module with random weights."""
    module = importlib.import_module(f"modgap.sources.packaged.{architecture.replace('-', '_')}")
    network: PackagedNetwork = module.NETWORK(capacity) if capacity else module.NETWORK()
    return network


def _read(path: Path) -> Mapping[str, Tensor]:
    if path.name.endswith(".index"):
        return read_tensorflow_bundle(path)
    if path.suffix == ".hdf5":
        return read_keras_weights(path)
    return read_onnx_weights(path) if path.suffix == ".onnx" else read_weights(path)


def _fill(network: PackagedNetwork, path: Path, name: str) -> None:
    weights = _read(path)
    try:
        network.load_state_dict(network.rename(weights))
    except (RuntimeError, ValueError, AttributeError, KeyError, StopIteration) as error:
        raise InputError(f"The weights in {path} do not fit {name} ({first_line(error)}).") from error
