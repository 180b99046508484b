"""Weights in ONNX files, for models whose architecture is built here."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from modgap.errors import InputError
from modgap.installed_packages import find_package_folder

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["read_onnx_weights"]


def read_onnx_weights(path: Path) -> "dict[str, Tensor]":
    """Return the tensors of floating-point numbers in an ONNX file by name.

    Raises:
        InputError: When onnx is not installed, or the file cannot be read.
    """
    if find_package_folder("onnx") is None:
        raise InputError(
            "The weights are in an ONNX file, and onnx is not installed. Install it with: pip install onnx"
        )
    import torch
    from onnx import numpy_helper

    from modgap.sources.onnx.graph import read_graph

    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in read_graph(path).graph.initializer}
    return {name: torch.from_numpy(array.copy()) for name, array in arrays.items() if array.dtype == np.float32}
