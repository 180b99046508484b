"""Operations of ONNX that onnx2torch does not know, as modules in its registry."""

import contextlib
import functools
from collections.abc import Callable, Mapping

import torch
from onnx2torch.node_converters.registry import add_converter
from onnx2torch.onnx_graph import OnnxGraph
from onnx2torch.onnx_node import OnnxNode
from onnx2torch.utils.common import OnnxToTorchModule, OperationConverterResult, onnx_mapping_from_node
from torch import Tensor, nn
from torch.nn import functional


def global_max_pool(x: Tensor) -> Tensor:
    """Return the maximum over all positions: (B, C, ...) to (B, C, 1, ...)."""
    return x.amax(dim=tuple(range(2, x.ndim)), keepdim=True)


def lp_normalization(x: Tensor, *, axis: int = -1, p: int = 2) -> Tensor:
    """Divide by the norm along an axis."""
    return functional.normalize(x, p, axis)


def space_to_depth(x: Tensor, *, blocksize: int) -> Tensor:
    """Move blocks of pixels to channels: (B, C, H, W) to (B, C blocksize^2, H / blocksize, W / blocksize)."""
    blocks = torch.unflatten(torch.unflatten(x, 3, (-1, blocksize)), 2, (-1, blocksize))
    return blocks.permute(0, 3, 5, 1, 2, 4).flatten(1, 3)


def thresholded_relu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    """Return x where it is larger than alpha, and 0 elsewhere."""
    return torch.where(x > alpha, x, 0)


OPERATIONS: dict[str, tuple[int, Callable[..., Tensor]]] = {
    "GlobalMaxPool": (1, global_max_pool),
    "LpNormalization": (1, lp_normalization),
    "Mish": (18, functional.mish),
    "SpaceToDepth": (13, space_to_depth),
    "ThresholdedRelu": (10, thresholded_relu),
}
"""Version of ONNX's set of operations that defined an operation, and its function of a tensor and attributes."""


class Operation(nn.Module, OnnxToTorchModule):  # type: ignore[misc]  # onnx2torch has no types
    """A function of a tensor as a module."""

    def __init__(self, function: Callable[..., Tensor], attributes: Mapping[str, object]) -> None:
        """Bind the attributes of a node to a function."""
        super().__init__()
        self.function = function
        self.attributes = dict(attributes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the function's value."""
        return self.function(x, **self.attributes)


def register_operations() -> None:
    """Add the operations to the registry of onnx2torch, unless it has its own."""
    for name, (version, function) in OPERATIONS.items():
        with contextlib.suppress(ValueError):
            add_converter(name, version)(functools.partial(_convert, function))


def _convert(function: Callable[..., Tensor], node: OnnxNode, _graph: OnnxGraph) -> OperationConverterResult:
    return OperationConverterResult(Operation(function, node.attributes), onnx_mapping_from_node(node))
