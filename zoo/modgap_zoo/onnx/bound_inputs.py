"""Inputs of an ONNX model beside that of the sample: constants, or the sample once more."""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, ValueInfoProto, helper, numpy_helper

from modgap.errors import InputError
from modgap_zoo.onnx.description import SAMPLE

MOST_VALUES = 1 << 24
"""Largest number of values of a constant input."""


def sample_input(model: ModelProto, others: Mapping[str, float | str], path: Path) -> ValueInfoProto:
    """Return the input of a model that takes the sample: the only one that its description gives no value.

    Args:
        model: The model.
        others: Values of the other inputs by name.
        path: File of the model, for errors.

    Raises:
        InputError: When a value is of no input, or not exactly one input has no value.
    """
    inputs: dict[str, ValueInfoProto] = {value.name: value for value in model.graph.input}
    unknown = [name for name in others if name not in inputs]
    if unknown:
        raise InputError(
            f'{path} has no input {unknown[0]!r}, which its description names in "others". It has {_names(inputs)}.'
        )
    left = [name for name in inputs if name not in others]
    if len(left) != 1:
        values = ", ".join(f"{name[:80]} = 0" for name in list(inputs)[1:])
        raise InputError(
            f"{path} has {len(inputs)} inputs: {_names(inputs)}. Expected exactly one without a value in its "
            f"description, which takes the sample. Give the others a number, or {SAMPLE!r} for the sample once more, "
            f"such as: others = {{ {values} }}"
        )
    return inputs[left[0]]


def _names(inputs: Iterable[str]) -> str:
    return ", ".join(name[:80] for name in inputs)


def bind_inputs(model: ModelProto, shape: tuple[int, ...], others: Mapping[str, float | str], path: Path) -> None:
    """Leave a model the input of the sample alone, and compute the others within it.

    Args:
        model: The model, which is changed.
        shape: Shape of the sample without the batch.
        others: A number that fills an input, or `sample` for the sample itself, by the names of the other inputs.
        path: File of the model, for errors.

    Raises:
        InputError: When an input is no tensor, has an open size that the sample does not have, or does not fit its
            value.
    """
    graph = model.graph
    sample = sample_input(model, others, path)
    bound = [value for value in graph.input if value.name != sample.name]
    nodes = [node for value in bound for node in _bound_nodes(graph, value, sample, shape, others[value.name], path)]
    nodes += graph.node
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.input[:]
    graph.input.append(sample)


def _bound_nodes(
    graph: GraphProto,
    value: ValueInfoProto,
    sample: ValueInfoProto,
    shape: tuple[int, ...],
    content: float | str,
    path: Path,
) -> list[NodeProto]:
    """Return the nodes that compute an input, and add their constants to the graph."""
    name = value.name
    dtype, sizes, has_batch = _type_and_sizes(value, sample, shape, path)
    if content == SAMPLE:
        if math.prod(sizes) != math.prod(shape) or not has_batch:
            raise InputError(f"The input {name} of {path} has the shape {sizes}, and the sample {shape}.")
        graph.initializer.append(numpy_helper.from_array(np.array([0, *sizes], np.int64), f"{name}/sizes"))
        return [
            helper.make_node(
                "Cast", [sample.name], [f"{name}/cast"], f"{name}/cast", to=value.type.tensor_type.elem_type
            ),
            helper.make_node("Reshape", [f"{name}/cast", f"{name}/sizes"], [name], f"{name}/reshape"),
        ]
    number = np.array(content)
    with np.errstate(over="ignore", invalid="ignore"):
        stored = number.astype(dtype) if dtype.kind in "fiub" else None
    if stored is None or not (np.isfinite(stored) if dtype.kind == "f" else stored == number):
        raise InputError(f"The input {name} of {path} has the type {dtype}, which {content!r} does not fit.")
    # A single value is no parameter that a training would change.
    constants = {
        "value": np.full((1,) * (len(sizes) + has_batch), stored),
        "sizes": np.array(sizes, np.int64),
        "first": np.array([0]),
    }
    graph.initializer.extend(numpy_helper.from_array(one, f"{name}/{part}") for part, one in constants.items())
    if not has_batch:
        return [helper.make_node("Expand", [f"{name}/value", f"{name}/sizes"], [name], f"{name}/node")]
    return [
        helper.make_node("Shape", [sample.name], [f"{name}/sample"], f"{name}/sample/node"),
        helper.make_node(
            "Gather", [f"{name}/sample", f"{name}/first"], [f"{name}/batch"], f"{name}/batch/node", axis=0
        ),
        helper.make_node("Concat", [f"{name}/batch", f"{name}/sizes"], [f"{name}/shape"], f"{name}/shape/node", axis=0),
        helper.make_node("Expand", [f"{name}/value", f"{name}/shape"], [name], f"{name}/node"),
    ]


def _type_and_sizes(
    value: ValueInfoProto, sample: ValueInfoProto, shape: tuple[int, ...], path: Path
) -> tuple[np.dtype, tuple[int, ...], bool]:
    """Return the type of an input, its sizes without the batch, and True if it has one."""
    tensor = value.type.tensor_type
    try:
        dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    except KeyError as error:
        raise InputError(f"The input {value.name} of {path} is no tensor of numbers.") from error
    dims = list(tensor.shape.dim)
    sample_dims = list(sample.type.tensor_type.shape.dim)
    # Files that were written for one sample have a batch of 1.
    is_first_open = bool(dims) and dims[0].dim_value <= 0
    has_batch = is_first_open or (len(dims) > 1 and bool(sample_dims) and dims[0] == sample_dims[0])
    named_sizes = {dim.dim_param: size for dim, size in zip(sample_dims[1:], shape, strict=False) if dim.dim_param}
    sizes = tuple(dim.dim_value or named_sizes.get(dim.dim_param, 0) for dim in (dims[1:] if has_batch else dims))
    if min(sizes, default=1) < 1 or math.prod(sizes) > MOST_VALUES:
        raise InputError(
            f"The input {value.name} of {path} has the sizes {sizes} for a sample, 0 for an open size that the sample "
            f"does not have. Expected sizes of 1 and more, and at most {MOST_VALUES:,} values. Export the model with "
            "fixed sizes."
        )
    return dtype, sizes, has_batch
