"""Models of ONNX, fastText, Keras, PyTorch and TensorFlow, for the campaigns against parsers."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from modgap.errors import InputError, UsageError
from tests.campaign.seed_files import make_file
from zoo.tests.fasttext_files import write_fasttext
from zoo.tests.tensorflow_bundles import write_bundle

DESCRIPTION = """\
input = { kind = "image", size = [6, 6], mean = [0.5, 0.4, 0.3], sd = [0.2, 0.3, 0.4], channels = "bgr" }
classes = ["a", "b"]
"""


def model(folder: Path) -> Path:
    """Write a small model with a description beside it."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    shapes = {"kernel": (4, 3, 3, 3), "matrix": (4, 2)}
    weights = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    nodes = [
        helper.make_node("Conv", ["x", "kernel"], ["a"], strides=[2, 2]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("ReduceMean", ["b"], ["c"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["c", "matrix"], ["d"]),
        helper.make_node("Softmax", ["d"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "small", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 6, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )  # fmt: skip
    path = make_file(folder, "model.onnx")
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]).SerializeToString())
    path.with_suffix(".toml").write_text(DESCRIPTION, encoding="utf-8")
    return path


def model_with_tensors_beside(folder: Path) -> Path:
    """Write the same model with its tensors in another file."""
    import onnx

    path = model(folder)
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="tensors.bin", size_threshold=0)
    return path


def description(folder: Path) -> Path:
    """Write the same model, and return the path of its description."""
    return model(folder).with_suffix(".toml")


def load(path: Path) -> object:
    """Load the source of a model or of a description."""
    from modgap.sources import open_source

    try:
        return open_source(f"onnx:{path.with_suffix('.onnx')}").load(None)
    except UsageError as error:
        raise InputError(str(error)) from error


def checkpoint(folder: Path) -> Path:
    """Write a small checkpoint, and return the path of its index."""
    path = make_file(folder, "model.index")
    write_bundle(path, {"a/kernel": np.arange(12.0).reshape(3, 4), "a/bias": np.ones(4), "step": np.float32(1)})
    return path


def read_checkpoint(path: Path) -> object:
    """Read the tensors of a checkpoint."""
    from modgap_zoo.packaged.tensorflow_bundle import read_tensorflow_bundle

    return read_tensorflow_bundle(path)


def classifier(*, is_quantized: bool) -> Callable[[Path], Path]:
    """Return a function that writes a small classifier of fastText."""

    def make(folder: Path) -> Path:
        path = make_file(folder, "model.ftz")
        write_fasttext(path, is_quantized=is_quantized, kept=[(1, 0), (2, 1)] if is_quantized else None)
        return path

    return make


def load_classifier(path: Path) -> object:
    """Load the source of a classifier, and run it."""
    from torch import device

    from modgap.sources import open_source

    source = open_source("lid-176", weights=str(path)).load(None)
    return source.model(source.input.batch(["red pear", ""], device("cpu"))).shape


def layers(folder: Path) -> Path:
    """Write a PyTorch file with tensors in nested lists and tables."""
    import torch

    path = make_file(folder, "layers.pt")
    torch.save([("layer", {"weight": torch.ones(2, 3), "stride": 2}), ("layer", [{"bias": torch.ones(3)}])], path)
    return path


def read_layers(path: Path) -> object:
    """Read the tensors of a PyTorch file."""
    from modgap_zoo.packaged.loading import named_tensors

    return named_tensors(path)


def keras_weights(folder: Path) -> Path:
    """Write a small file of weights as Keras does."""
    import h5py

    path = make_file(folder, "model.hdf5")
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = "{}"
        file["model_weights/dense_1/dense_1/kernel:0"] = np.arange(12, dtype=np.float32).reshape(3, 4)
        file["model_weights/dense_1/dense_1/bias:0"] = np.ones(4, np.float32)
    return path


def read_keras(path: Path) -> object:
    """Read the weights of a file of Keras."""
    from modgap_zoo.packaged.keras_weights import read_keras_weights

    return read_keras_weights(path)


PARSED = (
    ("onnx model", model, load),
    ("onnx tensors beside", model_with_tensors_beside, load),
    ("onnx description", description, load),
    ("tensorflow index", checkpoint, read_checkpoint),
    ("fasttext", classifier(is_quantized=False), load_classifier),
    ("fasttext quantized", classifier(is_quantized=True), load_classifier),
    ("nested weights", layers, read_layers),
    ("keras weights", keras_weights, read_keras),
)
"""Name, maker and reader of each file that is changed."""
