"""Graphs of ONNX models: reading them from untrusted files, cutting them, and drawing random weights for them."""

import math
import mmap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from modgap.errors import InputError, first_line
from modgap.storage.paths import is_regular_file

LARGEST_MODEL = 2_000_000_000
"""Largest size of a model with all its tensors in bytes, which is also that of the format."""
LOCATION = "location"
"""Key of the file's name in a tensor that is stored in another file."""


def read_model(path: Path) -> ModelProto:
    """Read a model, with the tensors that are stored in other files.

    Raises:
        InputError: When the file is not an ONNX model or is too large, or when a file of tensors is missing, does not
            fit, or is not in the folder of the model.
    """
    model = _parse(path)
    files: dict[str, Path] = {}
    total = path.stat().st_size
    for tensor in _external_tensors(model):
        entries = {entry.key: entry.value for entry in tensor.external_data}
        name = entries.get(LOCATION, "")
        file = files[name] = files.get(name) or _file_beside(path, name)
        offset, length = _span(tensor, entries, file, path)
        total += length
        _check_size(total, path)
        with file.open("rb") as stream:
            stream.seek(offset)
            tensor.raw_data = stream.read(length)
        tensor.data_location = TensorProto.DEFAULT
        del tensor.external_data[:]
    return model


def external_files(path: Path) -> list[Path]:
    """Return the files that hold tensors of a model, sorted by name. Most models have none, and are not parsed.

    Raises:
        InputError: As `read_model` does.
    """
    try:
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if content.find(LOCATION.encode()) < 0:
                return []
    except (OSError, ValueError):
        # An empty file cannot be mapped. Loading names what is wrong with it.
        return []
    try:
        entries = [entry for tensor in _external_tensors(_parse(path)) for entry in tensor.external_data]
        names = {entry.value for entry in entries if entry.key == LOCATION}
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is damaged: a name in it is not text ({first_line(error)}).") from error
    return [_file_beside(path, name) for name in sorted(names)]


def _parse(path: Path) -> ModelProto:
    try:
        _check_size(path.stat().st_size, path)
        return onnx.load_model_from_string(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    except InputError:
        raise
    except Exception as error:  # the parser raises errors of its own types
        raise InputError(f"{path} is not an ONNX model ({first_line(error)}).") from error


def _check_size(size: int, path: Path) -> None:
    if size > LARGEST_MODEL:
        raise InputError(f"{path} is larger than {LARGEST_MODEL / 1e9:.0f} GB. Expected a smaller model.")


def _external_tensors(model: ModelProto) -> Iterator[TensorProto]:
    """Yield the tensors of a graph without branches that are stored in other files."""
    graph = model.graph
    attributes = [attribute for node in graph.node for attribute in node.attribute]
    sparse = [*graph.sparse_initializer, *(a.sparse_tensor for a in attributes if a.HasField("sparse_tensor"))]
    tensors: Iterable[TensorProto] = (
        *graph.initializer,
        *(attribute.t for attribute in attributes if attribute.HasField("t")),
        *(tensor for attribute in attributes for tensor in attribute.tensors),
        *(part for tensor in sparse for part in (tensor.values, tensor.indices)),
    )
    return (tensor for tensor in tensors if tensor.data_location == TensorProto.EXTERNAL)


def _file_beside(path: Path, name: str) -> Path:
    """Return the file of this name in the folder of a model, or in that of the file that a link stands for."""
    file = path.parent / name
    is_plain = name not in ("", ".", "..") and not set(name) & set("/\\:\0")
    if is_plain and not is_regular_file(file):
        raise InputError(f"{path} has weights in {file}, which is missing. Copy it beside the model.")
    if not is_plain or file.resolve().parent not in {path.parent.resolve(), path.resolve().parent}:
        raise InputError(
            f"{path} has weights in {name[:200]!r}. Expected the plain name of a file in the folder of the model. Save "
            "the model again with torch.onnx.export or onnx.save."
        )
    return file


def _span(tensor: TensorProto, entries: dict[str, str], file: Path, path: Path) -> tuple[int, int]:
    """Return the first byte and the number of bytes of a tensor in its file."""
    try:
        offset, stated = (int(entries[key]) if key in entries else None for key in ("offset", "length"))
        dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is damaged: a tensor in {file.name} has no valid type or position.") from error
    offset = offset or 0
    length = dtype.itemsize * math.prod(tensor.dims)
    size = file.stat().st_size
    if dtype.hasobject or min(offset, *tensor.dims, 0) < 0 or stated not in (None, length) or offset + length > size:
        raise InputError(
            f"{path} does not fit {file}: a tensor of shape {tuple(tensor.dims)} and type {dtype} would be "
            f"{stated if stated is not None else length:,} bytes from byte {offset:,} on, and the file has {size:,} "
            "bytes. Copy both files again."
        )
    return offset, length


ACTIVATIONS = frozenset({"Softmax", "LogSoftmax", "Sigmoid", "Identity"})
"""Operations after the logits that keep their order."""
WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
CONVERTED = 17
COMPATIBLE = 22
"""Versions of ONNX's set of operations: the last that onnx2torch knows, and the last that can be declared as such."""
CHANGED = frozenset(
    {"AffineGrid", "DFT", "GridSample", "GroupNormalization", "ImageDecoder", "Mish", "Resize", "Split"}
)
"""Operations that versions 18 to 22 added or changed."""
REDUCTIONS = frozenset(f"Reduce{name}" for name in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod"))
NORMAL_SALT = 0xB7
BATCH = "batch"
"""Name of the open number of samples in shapes."""


def read_graph(path: Path) -> ModelProto:
    """Read a model, with all constant tensors as initializers.

    Raises:
        InputError: As `read_model` does, and when the model has branches or loops, or no input or output.
    """
    model = read_model(path)
    graph = model.graph
    if any(a.HasField("g") or a.graphs for node in graph.node for a in node.attribute):
        raise InputError(f"{path} has branches or loops (If, Loop or Scan). Expected a plain graph of operations.")
    constants = [node for node in graph.node if node.op_type == "Constant" and node.attribute]
    for node in constants:
        tensor = node.attribute[0].t
        if node.attribute[0].name != "value" or not tensor.ByteSize():
            continue
        tensor.name = node.output[0]
        graph.initializer.append(tensor)
        graph.node.remove(node)
    _expand_gelu(graph)
    _lower_version(model)
    _drop_allowzero(graph, path)
    initialized = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in initialized]
    if not inputs or not graph.output:
        raise InputError(
            f"{path} has {len(inputs)} inputs and {len(graph.output)} outputs. Expected at least one each."
        )
    del graph.input[:]
    graph.input.extend(inputs)
    return model


def _lower_version(model: ModelProto) -> None:
    """Declare the last version of the operations that onnx2torch knows, where the meaning is the same.

    Later versions only added types, and gave the axes of reductions as an input.
    """
    nodes = model.graph.node
    if any(node.op_type in CHANGED or (node.op_type == "Pad" and len(node.input) > 3) for node in nodes):
        return
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for opset in model.opset_import:
        if opset.domain not in ("", "ai.onnx") or not CONVERTED < opset.version <= COMPATIBLE:
            continue
        opset.version = CONVERTED
        # The constant axes of reductions turn from an input into an attribute.
        for node in nodes:
            if node.op_type in REDUCTIONS and len(node.input) == 2 and node.input[1] in constants:
                axes = numpy_helper.to_array(constants[node.input[1]]).ravel().tolist()
                node.attribute.append(helper.make_attribute("axes", axes))
                del node.input[1]


def _expand_gelu(graph: GraphProto) -> None:
    """Write Gelu, which version 20 added, with the operations of its definition."""
    nodes = []
    for node in graph.node:
        mode = next((attribute.s for attribute in node.attribute if attribute.name == "approximate"), b"none")
        if node.op_type != "Gelu" or node.domain not in ("", "ai.onnx") or mode not in (b"none", b"tanh"):
            nodes.append(node)
        else:
            nodes += _gelu_nodes(graph, node.input[0], node.output[0], is_tanh=mode == b"tanh")
    del graph.node[:]
    graph.node.extend(nodes)


def _gelu_nodes(graph: GraphProto, x: str, name: str, *, is_tanh: bool) -> list[NodeProto]:
    """Return the operations of x / 2 * (1 + erf(x / sqrt(2))), and add their constants to the graph.

    The approximation by tanh is x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3))).
    """
    values = {"scale": math.sqrt(2 / math.pi if is_tanh else 0.5), "one": 1.0, "half": 0.5}
    values |= {"three": 3.0, "factor": 0.044715} if is_tanh else {}
    graph.initializer.extend(
        numpy_helper.from_array(np.array(value, np.float32), f"{name}/{part}") for part, value in values.items()
    )
    steps = [("Mul", ["x", "scale"], "scaled"), ("Erf", ["scaled"], "curve")]
    if is_tanh:
        steps = [
            ("Pow", ["x", "three"], "cubed"),
            ("Mul", ["cubed", "factor"], "small"),
            ("Add", ["x", "small"], "bent"),
            ("Mul", ["bent", "scale"], "scaled"),
            ("Tanh", ["scaled"], "curve"),
        ]
    steps += [("Add", ["curve", "one"], "sum"), ("Mul", ["x", "sum"], "product"), ("Mul", ["product", "half"], "")]
    tensors = {"x": x, "": name}
    return [
        helper.make_node(
            operation,
            [tensors.get(part, f"{name}/{part}") for part in inputs],
            [tensors.get(output, f"{name}/{output}")],
            tensors.get(output, f"{name}/{output}"),
        )
        for operation, inputs, output in steps
    ]


def _drop_allowzero(graph: GraphProto, path: Path) -> None:
    """Remove `allowzero` from reshapes, which onnx2torch does not know and which matters for sizes of 0 alone."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    producers = _producers(graph)
    for node in graph.node:
        allowed = [attribute for attribute in node.attribute if attribute.name == "allowzero"]
        if node.op_type != "Reshape" or not allowed or len(node.input) < 2:
            continue
        shape = node.input[1]
        is_joined = shape in producers and producers[shape].op_type == "Concat"
        parts = [constants[name] for name in (producers[shape].input if is_joined else [shape]) if name in constants]
        if allowed[0].i and any((numpy_helper.to_array(part) == 0).any() for part in parts):
            raise InputError(f"{path} has a Reshape to a size of 0. Expected tensors that are not empty.")
        node.attribute.remove(allowed[0])


def with_shapes(model: ModelProto, shape: tuple[int, ...], path: Path) -> ModelProto:
    """Return the model with the shapes of all tensors for inputs of this shape, and without automatic padding.

    Args:
        model: The model.
        shape: Shape of the input without the batch.
        path: File of the model, for errors.

    Raises:
        InputError: When the model does not take inputs of this shape.
    """
    tensor = model.graph.input[0].type.tensor_type
    rank = len(tensor.shape.dim)
    sizes = [dim.dim_value for dim in tensor.shape.dim[1:]]
    if rank != len(shape) + 1 or any(stated > 0 and stated != size for stated, size in zip(sizes, shape, strict=True)):
        raise InputError(
            f"The input of {path} has the shape {tuple(sizes)} without the batch, 0 for any size, but its description "
            f"stands for {shape}."
        )
    del tensor.shape.dim[:]
    tensor.shape.dim.add().dim_param = BATCH
    for size in shape:
        tensor.shape.dim.add().dim_value = size
    del model.graph.value_info[:]
    try:
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except Exception as error:  # the library raises errors of its own types
        raise InputError(f"The shapes in {path} do not fit each other ({first_line(error)}).") from error
    _replace_automatic_padding(inferred.graph, path)
    return inferred


def _replace_automatic_padding(graph: GraphProto, path: Path) -> None:
    """Insert a node that pads before each node whose padding depends on the size of its input."""
    values = [*graph.input, *graph.value_info]
    shapes = {value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in values}
    kernels = {tensor.name: list(tensor.dims[2:]) for tensor in graph.initializer}
    nodes = []
    for node in graph.node:
        attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        automatic = attributes.get("auto_pad", b"NOTSET")
        if automatic in (b"SAME_UPPER", b"SAME_LOWER"):
            kernel = attributes.get("kernel_shape") or kernels.get(node.input[1], [])
            spatial = shapes.get(node.input[0], [])[2:]
            if node.op_type not in ("Conv", "MaxPool") or len(kernel) != len(spatial) or 0 in spatial:
                raise InputError(
                    f"{path} has a {node.op_type} with automatic padding. Export it with explicit padding."
                )
            nodes += _padded(graph, node, spatial, kernel, attributes)
            continue
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)


def _padded(
    graph: GraphProto, node: NodeProto, sizes: list[int], kernel: list[int], attributes: Mapping[str, Any]
) -> list[NodeProto]:
    """Return a node that pads the input of a convolution or maximum, and that node without its own padding.

    The padding before and after each spatial axis is that of the standard of ONNX.
    """
    before, after = [], []
    strides = attributes.get("strides") or [1] * len(kernel)
    dilations = attributes.get("dilations") or [1] * len(kernel)
    for size, width, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        total = max(0, (-(-size // stride) - 1) * stride + dilation * (width - 1) + 1 - size)
        smaller, larger = total // 2, total - total // 2
        before.append(smaller if attributes["auto_pad"] == b"SAME_UPPER" else larger)
        after.append(larger if attributes["auto_pad"] == b"SAME_UPPER" else smaller)
    name = f"{node.output[0]}/padded"
    pads = numpy_helper.from_array(np.array([0, 0, *before, 0, 0, *after], np.int64), f"{name}/pads")
    fill = numpy_helper.from_array(np.array(0 if node.op_type == "Conv" else -np.inf, np.float32), f"{name}/fill")
    graph.initializer.extend([pads, fill])
    padding = helper.make_node("Pad", [node.input[0], pads.name, fill.name], [name], f"{name}/node", mode="constant")
    others = [attribute for attribute in node.attribute if attribute.name != "auto_pad"]
    del node.attribute[:]
    node.attribute.extend(others)
    node.input[0] = name
    return [padding, node]


def logits_before_softmax(graph: GraphProto, output: str) -> str:
    """Return the tensor before the softmax or sigmoid that an output comes from, or the output itself."""
    producers = _producers(graph)
    while output in producers and producers[output].op_type in ACTIVATIONS:
        output = producers[output].input[0]
    return output


def _producers(graph: GraphProto) -> dict[str, NodeProto]:
    return {name: node for node in graph.node for name in node.output}


def weighted_nodes(graph: GraphProto, output: str) -> list[NodeProto]:
    """Return the nodes with a matrix or kernel of weights that an output depends on, in the order of the graph."""
    weights = {tensor.name for tensor in graph.initializer if len(tensor.dims) >= 2}
    needed = _needed_nodes(graph, output, None)
    return [node for node in needed if node.op_type in WEIGHTED and weights.intersection(node.input)]


def _needed_nodes(graph: GraphProto, output: str, start: str | None) -> list[NodeProto]:
    """Return the nodes that compute a tensor from the start, or from the input of the graph if there is no start."""
    producers = _producers(graph)
    needed: set[str] = set()
    waiting = [output]
    while waiting:
        name = waiting.pop()
        if name != start and name in producers and producers[name].output[0] not in needed:
            needed.add(producers[name].output[0])
            waiting += producers[name].input
    return [node for node in graph.node if node.output and node.output[0] in needed]


def is_cut(graph: GraphProto, tensor: str, output: str) -> bool:
    """Return True if everything that reaches the output from the input passes through the tensor.

    The shape of the input may reach the output in another way, if the tensor has as many samples.
    """
    producers = _producers(graph)
    if tensor not in producers:
        return False
    readers = [node for node in _needed_nodes(graph, output, tensor) if graph.input[0].name in node.input]
    info = next((value for value in graph.value_info if value.name == tensor), None)
    dims = info.type.tensor_type.shape.dim if info else []
    has_batch = bool(dims) and dims[0].dim_param == BATCH
    return not readers or (all(node.op_type == "Shape" for node in readers) and has_batch)


def cut_graph(model: ModelProto, start: str | None, stop: str) -> ModelProto:
    """Return the part of a model from one tensor to another.

    Args:
        model: The model.
        start: Name of the tensor that becomes the input; None for the model's input.
        stop: Name of the tensor that becomes the output.
    """
    graph = model.graph
    nodes = _needed_nodes(graph, stop, start)
    constants = list(graph.initializer)
    if start is not None:
        nodes, shapes = _with_batch_of(nodes, graph.input[0], start)
        constants += shapes
    used = {name for node in nodes for name in node.input}
    initializers = [tensor for tensor in constants if tensor.name in used]
    infos = {value.name: value for value in (*graph.value_info, *graph.input, *graph.output)}

    def info(name: str) -> ValueInfoProto:
        return infos.get(name) or helper.make_empty_tensor_value_info(name)

    source = graph.input[0] if start is None else info(start)
    part = helper.make_graph(nodes, graph.name or "part", [source], [info(stop)], initializers)
    part.value_info.extend(value for value in graph.value_info if value.name not in (start, stop))
    return helper.make_model(part, opset_imports=model.opset_import)


def _with_batch_of(
    nodes: list[NodeProto], model_input: ValueInfoProto, start: str
) -> tuple[list[NodeProto], list[TensorProto]]:
    """Replace the shape of the model's input, of which only the number of samples is open, by that number of a tensor.

    Args:
        nodes: Nodes of a part of the model.
        model_input: Input of the model, with the sizes of a sample.
        start: Name of the tensor that is the input of the part.

    Returns:
        The nodes, and their new constants.
    """
    sizes = [dim.dim_value for dim in model_input.type.tensor_type.shape.dim]
    first: list[NodeProto] = []
    others: list[NodeProto] = []
    constants: list[TensorProto] = []
    for node in nodes:
        if node.op_type != "Shape" or node.input[0] != model_input.name:
            others.append(node)
            continue
        attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        bounds = [bound if isinstance(bound, int) else None for bound in map(attributes.get, ("start", "end"))]
        axes = range(len(sizes))[slice(*bounds)]
        name = node.output[0]
        rest = np.array([sizes[axis] for axis in axes if axis], np.int64)
        if 0 not in axes:
            constants.append(numpy_helper.from_array(rest, name))
            continue
        constants += [
            numpy_helper.from_array(rest, f"{name}/rest"),
            numpy_helper.from_array(np.array([0], np.int64), f"{name}/first"),
        ]
        first += [
            helper.make_node("Shape", [start], [f"{name}/shape"], f"{name}/shape"),
            helper.make_node("Gather", [f"{name}/shape", f"{name}/first"], [f"{name}/batch"], f"{name}/batch", axis=0),
            helper.make_node("Concat", [f"{name}/batch", f"{name}/rest"], [name], name, axis=0),
        ]
    return first + others, constants


def draw_weights(model: ModelProto, seed: int) -> None:
    """Replace the weights as a new network of the same architecture would have them.

    Matrices and kernels are normal with mean 0 and variance 1 / fan-in. Biases are 0, and batch normalizations change
    nothing. Other constants stay, because the file does not say which of them were trained.

    Args:
        model: The model, which is changed.
        seed: Seed of the random values.
    """
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    drawn: set[str] = set()
    for node in model.graph.node:
        names = [name if name in tensors else None for name in node.input]
        if node.op_type == "BatchNormalization":
            for name, value in zip(names[1:], (1, 0, 0, 1), strict=False):
                _fill(tensors, name, value)
        elif node.op_type in WEIGHTED:
            for name in names[2:]:
                _fill(tensors, name, 0)
            for name in names[:2]:
                if name and name not in drawn and len(tensors[name].dims) >= 2:
                    drawn.add(name)
                    _draw(tensors[name], node, np.random.default_rng([NORMAL_SALT, seed, len(drawn)]))


def _fill(tensors: Mapping[str, TensorProto], name: str | None, value: float) -> None:
    """Set all values of an initializer, if there is one of this name."""
    if name:
        values = numpy_helper.to_array(tensors[name])
        tensors[name].CopyFrom(numpy_helper.from_array(np.full_like(values, value), name))


def _draw(tensor: TensorProto, node: NodeProto, rng: np.random.Generator) -> None:
    """Draw the matrix or the kernel of a node."""
    values = numpy_helper.to_array(tensor)
    if node.op_type.startswith("Conv"):
        fan_in = math.prod(values.shape[1:])
    else:
        is_transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        fan_in = values.shape[-1 if is_transposed else -2]
    drawn = rng.normal(0, 1 / math.sqrt(max(fan_in, 1)), values.shape).astype(values.dtype)
    tensor.CopyFrom(numpy_helper.from_array(drawn, tensor.name))
