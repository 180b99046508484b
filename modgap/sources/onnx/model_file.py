"""Untrusted files of ONNX models: the model itself, and the files beside it that hold its tensors."""

import math
import mmap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import onnx
from onnx import helper

from modgap.errors import InputError, first_line
from modgap.storage.paths import is_regular_file

__all__ = ["external_files", "read_model"]

LARGEST_MODEL = 2_000_000_000
"""Largest size of a model with all its tensors in bytes, which is also that of the format."""
LOCATION = "location"
"""Key of the file's name in a tensor that is stored in another file."""


def read_model(path: Path) -> Any:
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
        tensor.data_location = onnx.TensorProto.DEFAULT
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


def _parse(path: Path) -> Any:
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


def _external_tensors(model: Any) -> Iterator[Any]:
    """Yield the tensors of a graph without branches that are stored in other files."""
    graph = model.graph
    attributes = [attribute for node in graph.node for attribute in node.attribute]
    sparse = [*graph.sparse_initializer, *(a.sparse_tensor for a in attributes if a.HasField("sparse_tensor"))]
    tensors: Iterable[Any] = (
        *graph.initializer,
        *(attribute.t for attribute in attributes if attribute.HasField("t")),
        *(tensor for attribute in attributes for tensor in attribute.tensors),
        *(part for tensor in sparse for part in (tensor.values, tensor.indices)),
    )
    return (tensor for tensor in tensors if tensor.data_location == onnx.TensorProto.EXTERNAL)


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


def _span(tensor: Any, entries: dict[str, str], file: Path, path: Path) -> tuple[int, int]:
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
