"""Sources in ONNX files: against onnxruntime, and from files that are damaged or do not fit their description."""

import os
import re
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from modgap import measure
from modgap.errors import InputError, UsageError
from modgap.process.installed_packages import find_package_folder
from modgap.sources import HeadlessError, SourceInfo, absolute_name, describe_source, open_control, open_source
from modgap.testing import check_prefix
from modgap_zoo.onnx import handle
from tests.training import skip_without_exporter
from zoo.tests.campaign.model_files import model as small_onnx_model

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx2torch")
helper = onnx.helper
numpy_helper = onnx.numpy_helper

CPU = torch.device("cpu")


class ImageNet(nn.Module):
    """A small convolutional classifier whose output are probabilities."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3, stride=2), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5), nn.Softmax(dim=1),
        )  # fmt: skip

    def forward(self, x):
        return self.layers(x)


class SoundNet(nn.Module):
    """A small classifier of waveforms (B, 1, 256) that gives logits for each position: (B, T, 4)."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(1, 8, 16, stride=8)
        self.hidden = nn.Linear(8, 7)
        self.last = nn.Linear(7, 4)

    def forward(self, x):
        return self.last(torch.relu(self.hidden(torch.relu(self.conv(x)).transpose(1, 2))))


class Transformer(nn.Module):
    """One layer of attention over patches of a gray image (B, 8, 8, 1), channels last."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(1, 12, 4, stride=4)
        self.query, self.key, self.value = (nn.Linear(12, 12) for _ in range(3))
        self.norm = nn.LayerNorm(12)
        self.head = nn.Linear(12, 3)

    def forward(self, x):
        tokens = self.patches(x.permute(0, 3, 1, 2)).flatten(2).transpose(1, 2)
        weights = (self.query(tokens) @ self.key(tokens).transpose(1, 2) / 12**0.5).softmax(dim=-1)
        return self.head(self.norm(tokens + weights @ self.value(tokens)).mean(dim=1))


DESCRIPTIONS = {
    "image": """
input = { kind = "image", size = [16, 16], mean = [0.5, 0.4, 0.3], sd = [0.2, 0.3, 0.4], channels = "bgr" }
classes = ["a", "b", "c", "d", "e"]""",
    "sound": 'input = { kind = "sound", rate = 100, window = 256 }',
    "transformer": 'input = { kind = "image", size = [8, 8], mean = [0], sd = [1], channels_last = true }',
}
MODELS = {
    "image": (ImageNet, (2, 3, 16, 16)),
    "sound": (SoundNet, (2, 1, 256)),
    "transformer": (Transformer, (2, 8, 8, 1)),
}


def export(folder, kind, description=None):
    """Write a small model with its description, and return the name of the source."""
    build, shape = MODELS[kind]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build().eval()
    path = folder / f"{kind}.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            model, torch.zeros(shape), path, input_names=["x"], output_names=["y"], dynamo=False,
            dynamic_axes={"x": {0: "batch"}, "y": {0: "batch"}},
        )  # fmt: skip
    path.with_suffix(".toml").write_text(description or DESCRIPTIONS[kind])
    return f"onnx:{path}"


def run(path, batch):
    session = onnxruntime.InferenceSession(str(path))
    return session.run(None, {session.get_inputs()[0].name: batch})[0]


@pytest.mark.parametrize("kind", MODELS)
def test_outputs_are_onnxruntimes(tmp_path, kind):
    source = open_source(export(tmp_path, kind)).load(None)
    rng = np.random.default_rng(0)
    pieces = [rng.random(256 if kind == "sound" else MODELS[kind][1][1:], np.float32) for _ in range(3)]
    if kind == "transformer":
        pieces = [piece.transpose(2, 0, 1) for piece in pieces]
    batch = source.input.batch(pieces, CPU)
    with torch.inference_mode():
        logits = source.model(batch)
        features = source.features(batch)
    own = {
        "image": lambda x: x[:, ::-1].copy(),
        "sound": lambda x: x[:, None],
        "transformer": lambda x: x[:, 0, ..., None],
    }
    wanted = run(tmp_path / f"{kind}.onnx", own[kind](batch.numpy()))
    if kind == "image":
        np.testing.assert_allclose(logits.softmax(dim=1).numpy(), wanted, atol=1e-6)
        assert source.class_names == ("a", "b", "c", "d", "e")
    else:
        np.testing.assert_allclose(logits.numpy(), wanted.mean(axis=1) if kind == "sound" else wanted, atol=1e-6)
    assert features.shape == (3, {"image": 6, "sound": 7, "transformer": 12}[kind])
    parts = source.split()
    with torch.inference_mode():
        assert torch.equal(parts.head(parts.encoder(parts.embedder(batch))), logits)
    embedder_parameters = sum(p.numel() for p in parts.embedder.parameters())
    assert 0 < embedder_parameters < sum(p.numel() for p in source.model.parameters())


def test_controls_differ_by_seed_and_keep_the_scale(tmp_path):
    name = export(tmp_path, "image")
    batch = torch.randn(64, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        first, again, other = (open_control(name, seed).load(None).model(batch) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)
    assert 0.1 < first.std() < 10
    assert open_control(name).fingerprint() != open_source(name).fingerprint()


def test_a_discrepancy_of_an_onnx_file(tmp_path):
    result = measure(export(tmp_path, "image"), "digits", limit=100, splits=2, permutations=9, classes=4)
    assert result.to_dict()["n_source_classes"] == 5


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ("input = 3", "The field input is '3'."),
        ('input = { kind = "image" }', "The field input.image.size is missing."),
        ('input = { kind = "image", size = [16, 16], pixel = 3 }', "The field input.image.pixel is unknown."),
        ('input = { kind = "image", size = [16, 16], mean = [0] }', '1 values of "mean" and 3 of "sd"'),
        ('input = { kind = "image", size = [16, 0] }', "greater than or equal to 1"),
        ("input = {", "is not valid TOML"),
        (DESCRIPTIONS["image"].replace('"e"]', '"e", "f"]'), "names 6 classes, but the model has 5"),
        (DESCRIPTIONS["image"] + '\nfeatures = "nosuch"', "has no tensor 'nosuch', which its description names"),
        (
            DESCRIPTIONS["image"].replace("[0.5, 0.4, 0.3]", "[0.5]").replace("[0.2, 0.3, 0.4]", "[1]"),
            "stands for (1, 16",
        ),
        (DESCRIPTIONS["sound"], "The input of"),
    ],
)
def test_descriptions_that_do_not_fit(tmp_path, description, message):
    name = export(tmp_path, "image", description)
    with pytest.raises(InputError, match=re.escape(message)):
        open_source(name).load(None)


def test_missing_files_and_packages(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="There is no file"):
        open_source(f"onnx:{tmp_path / 'none.onnx'}")
    name = export(tmp_path, "image")
    with pytest.raises(UsageError, match="Leave `input_size` out"):
        open_source(name).load(32)
    (tmp_path / "image.toml").unlink()
    with pytest.raises(InputError, match="There is no description"):
        open_source(name).load(None)
    (tmp_path / "image.toml").write_text(DESCRIPTIONS["image"])
    monkeypatch.setattr(handle, "find_package_folder", lambda name: None)
    with pytest.raises(InputError, match=re.escape("Install them with: pip install 'modgap-zoo[onnx]'")):
        open_source(name).load(None)


def change(path, edit):
    model = onnx.load(path, load_external_data=False)
    edit(model)
    path.write_bytes(model.SerializeToString())


def export_as_today(folder, kind):
    """Write a small model with the current exporter, which puts weights into another file."""
    pytest.importorskip("onnxscript")
    skip_without_exporter("onnx")
    build, shape = MODELS[kind]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build().eval()
    path = folder / f"{kind}.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, (torch.zeros(shape),), path, dynamo=True, verbose=False,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
        )  # fmt: skip
    path.with_suffix(".toml").write_text(DESCRIPTIONS[kind])
    return f"onnx:{path}"


@pytest.mark.parametrize("kind", MODELS)
def test_files_of_the_current_exporter_are_read_with_their_other_files(tmp_path, kind):
    name = export_as_today(tmp_path, kind)
    path, data = tmp_path / f"{kind}.onnx", tmp_path / f"{kind}.onnx.data"
    assert data.exists()
    if kind != "sound":
        nodes = onnx.load(path, load_external_data=False).graph.node
        assert any(attribute.name == "allowzero" and attribute.i for node in nodes for attribute in node.attribute)
    source = open_source(name).load(None)
    source.split()
    parts = handle_batch(source, kind)
    with torch.inference_mode():
        logits = source.model(parts).numpy()
    expected = run(path, model_form(parts, kind))
    expected = np.log(expected) if kind == "image" else expected.mean(axis=1) if kind == "sound" else expected
    difference = expected - logits
    # A softmax leaves out the same number from all logits.
    np.testing.assert_allclose(difference - difference[:, :1] * (kind == "image"), 0, atol=1e-5)
    before = open_source(name).fingerprint()
    assert list(before["tensors"]) == [data.name]
    content = bytearray(data.read_bytes())
    content[2] ^= 1
    data.write_bytes(content)
    assert open_source(name).fingerprint()["tensors"] != before["tensors"]
    open_control(name).load(None)
    data.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"does not fit .*\.onnx\.data: a tensor of shape"):
        open_source(name).load(None)
    data.unlink()
    for read in (open_source(name).fingerprint, lambda: open_source(name).load(None)):
        with pytest.raises(InputError, match=r"which is missing\. Copy it beside the model"):
            read()


def handle_batch(source, kind):
    rng = np.random.default_rng(0)
    shape = {"image": (3, 16, 16), "sound": (256,), "transformer": (1, 8, 8)}[kind]
    return source.input.batch([rng.random(shape, np.float32) for _ in range(3)], CPU)


def model_form(batch, kind):
    """Return a batch as the model itself takes it."""
    values = batch.numpy()
    if kind == "image":
        return values[:, ::-1].copy()
    return values[:, None] if kind == "sound" else values.transpose(0, 2, 3, 1).copy()


def move_out(folder, location="weights.bin", **changed):
    """Move the first weights of the small model of images to another file, and return the name of the source."""
    name = export(folder, "image")

    def move(model):
        tensor = model.graph.initializer[0]
        entries = {"location": location, "offset": "4", "length": str(len(tensor.raw_data))} | changed
        (folder / "weights.bin").write_bytes(b"\0" * 4 + tensor.raw_data)
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in entries.items():
            tensor.external_data.add(key=key, value=value)

    change(folder / "image.onnx", move)
    return name


def test_weights_in_another_file_give_the_same_outputs(tmp_path):
    batch = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = open_source(export(tmp_path, "image")).load(None).model(batch)
        assert torch.equal(open_source(move_out(tmp_path)).load(None).model(batch), expected)
    # As in the cache of a hub, where both files are links to another folder.
    (tmp_path / "links").mkdir()
    for file in ("image.onnx", "image.toml", "weights.bin"):
        (tmp_path / "links" / file).symlink_to(tmp_path / file)
    assert open_source(f"onnx:{tmp_path}/links/image.onnx").load(None).class_names == ("a", "b", "c", "d", "e")


@pytest.mark.parametrize(
    "location",
    [
        "/etc/passwd",
        "../weights.bin",
        "sub/weights.bin",
        "",
        ".",
        "..",
        "sub\\weights.bin",
        "c:weights.bin",
        "link.bin",
    ],
)
def test_weights_are_read_from_the_folder_of_the_model_alone(tmp_path, location):
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    name = move_out(folder, location)
    for elsewhere in (tmp_path / "weights.bin", folder / "sub" / "weights.bin"):
        elsewhere.write_bytes((folder / "weights.bin").read_bytes())
    (folder / "link.bin").symlink_to(tmp_path / "weights.bin")
    for read in (open_source(name).fingerprint, lambda: open_source(name).load(None)):
        with pytest.raises(InputError, match="Expected the plain name of a file in the folder of the model"):
            read()


@pytest.mark.parametrize("location", ["folder.bin", "pipe.bin", "n" * 300, "dangling.bin"])
def test_weights_are_read_from_regular_files_alone(tmp_path, location):
    (tmp_path / "folder.bin").mkdir()
    os.mkfifo(tmp_path / "pipe.bin")
    (tmp_path / "dangling.bin").symlink_to(tmp_path / "nothing")
    name = move_out(tmp_path, location)
    with pytest.raises(InputError, match="which is missing"):
        open_source(name).load(None)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"offset": "-4"}, "would be 1,728 bytes from byte -4 on, and the file has 1,732 bytes"),
        ({"offset": "5"}, "would be 1,728 bytes from byte 5 on"),
        ({"offset": "99999999999999999999"}, "from byte 99,999,999,999,999,999,999 on"),
        ({"length": "8"}, "would be 8 bytes from byte 4 on"),
        ({"length": "much"}, "has no valid type or position"),
    ],
)
def test_positions_of_weights_are_checked(tmp_path, changed, message):
    name = move_out(tmp_path, **changed)
    with pytest.raises(InputError, match=message):
        open_source(name).load(None)


def test_shapes_and_sizes_of_weights_in_other_files_are_limited(tmp_path, monkeypatch):
    name = move_out(tmp_path)
    monkeypatch.setattr("modgap_zoo.onnx.graph.LARGEST_MODEL", (tmp_path / "image.onnx").stat().st_size + 100)
    with pytest.raises(InputError, match="is larger than"):
        open_source(name).load(None)
    monkeypatch.undo()

    def enlarge(model):
        model.graph.initializer[0].dims[0] = 1 << 62

    change(tmp_path / "image.onnx", enlarge)
    with pytest.raises(InputError, match="does not fit"):
        open_source(name).load(None)


def small_graph(folder, nodes, tensors, n_features):
    """Write a model of gray images (B, 1, 4, 4) that ends with a product with `last`, and return its path."""
    float32 = onnx.TensorProto.FLOAT
    rng = np.random.default_rng(0)
    weights = {"kernel": rng.standard_normal((2, 1, 2, 2)), "last": rng.standard_normal((n_features, 3))}
    initializers = [numpy_helper.from_array(values.astype(np.float32), name) for name, values in weights.items()]
    initializers += [numpy_helper.from_array(values, name) for name, values in tensors.items()]
    conv = helper.make_node("Conv", ["x", "kernel"], ["a"], strides=[2, 2])
    graph = helper.make_graph(
        [conv, *nodes, helper.make_node("MatMul", ["b", "last"], ["y"])], "small",
        [helper.make_tensor_value_info("x", float32, ["batch", 1, 4, 4])],
        [helper.make_tensor_value_info("y", float32, ["batch", 3])], initializers,
    )  # fmt: skip
    path = folder / "small.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    path.with_suffix(".toml").write_text('input = { kind = "image", size = [4, 4], mean = [0], sd = [1] }')
    return path


@pytest.mark.parametrize("mode", ["none", "tanh"])
def test_gelu_and_reshapes_that_allow_zero_are_those_of_onnxruntime(tmp_path, mode):
    nodes = [
        helper.make_node("Gelu", ["a"], ["g"], approximate=mode),
        helper.make_node("Shape", ["g"], ["size"], end=1),
        helper.make_node("Concat", ["size", "rest"], ["shape"], axis=0),
        helper.make_node("Reshape", ["g", "shape"], ["b"], allowzero=1),
    ]
    path = small_graph(tmp_path, nodes, {"rest": np.array([8], np.int64)}, 8)
    batch = np.random.default_rng(1).standard_normal((3, 1, 4, 4)).astype(np.float32)
    with torch.inference_mode():
        logits = open_source(f"onnx:{path}").load(None).model(torch.from_numpy(batch))
    np.testing.assert_allclose(logits.numpy(), run(path, batch), atol=1e-6)


def test_a_reshape_to_a_size_of_zero_is_refused(tmp_path):
    nodes = [helper.make_node("Reshape", ["a", "shape"], ["b"], allowzero=1)]
    path = small_graph(tmp_path, nodes, {"shape": np.array([0, 8], np.int64)}, 8)
    with pytest.raises(InputError, match="has a Reshape to a size of 0"):
        open_source(f"onnx:{path}").load(None)


@pytest.mark.parametrize(
    ("operation", "attributes", "n_features"),
    [
        ("GlobalMaxPool", {}, 2),
        ("LpNormalization", {"axis": 1, "p": 1}, 8),
        ("Mish", {}, 8),
        ("SpaceToDepth", {"blocksize": 2}, 8),
        ("ThresholdedRelu", {"alpha": 0.4}, 8),
    ],
)
def test_operations_that_onnx2torch_lacks_are_those_of_onnxruntime(tmp_path, operation, attributes, n_features):
    nodes = [
        helper.make_node(operation, ["a"], ["g"], **attributes),
        helper.make_node("Flatten", ["g"], ["b"]),
    ]
    path = small_graph(tmp_path, nodes, {}, n_features)
    batch = np.random.default_rng(1).standard_normal((3, 1, 4, 4)).astype(np.float32)
    with torch.inference_mode():
        logits = open_source(f"onnx:{path}").load(None).model(torch.from_numpy(batch))
    np.testing.assert_allclose(logits.numpy(), run(path, batch), atol=1e-6)


@pytest.mark.parametrize(
    "nodes",
    [
        [
            helper.make_node("Shape", ["x"], ["size"]),
            helper.make_node("Slice", ["size", "zero", "one"], ["batch"]),
            helper.make_node("Concat", ["batch", "rest"], ["shape"], axis=0),
        ],
        [helper.make_node("Shape", ["x"], ["batch"], end=1),
         helper.make_node("Concat", ["batch", "rest"], ["shape"], axis=0)],
        [helper.make_node("Shape", ["x"], ["height"], start=2, end=3),
         helper.make_node("Add", ["height", "height"], ["double"]),
         helper.make_node("Shape", ["x"], ["batch"], end=1),
         helper.make_node("Concat", ["batch", "double"], ["shape"], axis=0)],
    ],
    ids=["slice", "start and end", "height"],
)  # fmt: skip
def test_a_model_that_reads_the_shape_of_its_input_is_split(tmp_path, nodes):
    nodes = [*nodes, helper.make_node("Reshape", ["a", "shape"], ["b"])]
    numbers = {name: np.array([value], np.int64) for name, value in {"zero": 0, "one": 1, "rest": 8}.items()}
    path = small_graph(tmp_path, nodes, numbers, 8)
    batch = np.random.default_rng(1).standard_normal((3, 1, 4, 4)).astype(np.float32)
    source = open_source(f"onnx:{path}").load(None)
    with torch.inference_mode():
        np.testing.assert_allclose(source.model(torch.from_numpy(batch)).numpy(), run(path, batch), atol=1e-6)
        parts = source.split()
        assert parts.embedder(torch.from_numpy(batch)).shape == (3, 2, 2, 2)


INPUTS = {
    "mask": (onnx.TensorProto.FLOAT, ["n", 2, 2, 2]),
    "rate": (onnx.TensorProto.INT64, []),
    "again": (onnx.TensorProto.DOUBLE, ["n", 16]),
    "scale": (onnx.TensorProto.FLOAT, ["n", 1, "height", 4]),
}


def several_inputs(folder, others, inputs=INPUTS):
    """Write a model of gray images with four more inputs: a (mask + rate) + the mean of the image + scale."""
    nodes = [
        helper.make_node("Cast", ["rate"], ["hertz"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Cast", ["again"], ["copy"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Add", ["mask", "hertz"], ["factor"]),
        helper.make_node("Mul", ["a", "factor"], ["scaled"]),
        helper.make_node("Flatten", ["scaled"], ["flat"]),
        helper.make_node("ReduceMean", ["copy", "one"], ["mean"], keepdims=1),
        helper.make_node("Add", ["flat", "mean"], ["sum"]),
        helper.make_node("ReduceMax", ["scale", "axes"], ["largest"], keepdims=0),
        helper.make_node("Add", ["sum", "largest"], ["b"]),
    ]
    path = small_graph(folder, nodes, {"one": np.array([1], np.int64), "axes": np.array([2, 3], np.int64)}, 8)

    def add(model):
        model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
        model.graph.input.extend(helper.make_tensor_value_info(name, *form) for name, form in inputs.items())

    change(path, add)
    description = path.with_suffix(".toml")
    description.write_text(f"{description.read_text()}\nothers = {others}\n")
    return path


FITTING = '{ mask = 0.1, rate = 3, again = "sample", scale = -2 }'


def test_other_inputs_are_constants_or_the_sample(tmp_path):
    path = several_inputs(tmp_path, FITTING)
    batch = np.random.default_rng(1).standard_normal((3, 1, 4, 4)).astype(np.float32)
    source = open_source(f"onnx:{path}").load(None, head=True)
    with torch.inference_mode():
        logits = source.model(torch.from_numpy(batch)).numpy()
    feeds = {
        "x": batch,
        "mask": np.full((3, 2, 2, 2), 0.1, np.float32),
        "rate": np.array(3),
        "again": batch.reshape(3, 16).astype(np.float64),
        "scale": np.full((3, 1, 4, 4), -2, np.float32),
    }
    np.testing.assert_allclose(logits, onnxruntime.InferenceSession(str(path)).run(None, feeds)[0], atol=1e-5)
    source.split()
    assert sum(parameter.numel() for parameter in source.model.parameters()) == 2 * 4 + 8 * 3


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ("{ mask = 0 }", "has 5 inputs: x, mask, rate, again, scale. Expected exactly one without a value"),
        (FITTING.replace("mask", "x = 1, mask"), "others = { mask = 0, rate = 0, again = 0, scale = 0 }"),
        (FITTING.replace("mask", "nosuch"), "has no input 'nosuch', which its description names in \"others\""),
        (FITTING.replace("rate = 3", "rate = 0.5"), "has the type int64, which 0.5 does not fit"),
        (FITTING.replace("mask = 0.1", 'mask = "sample"'), "has the shape (2, 2, 2), and the sample (1, 4, 4)"),
        (
            FITTING.replace("mask = 0.1", 'mask = "x"'),
            "The field others.mask is 'x'. Expected a finite number or 'sample'",
        ),
        (FITTING.replace("mask = 0.1", "mask = 1e39"), "has the type float32, which 1e+39 does not fit"),
        (FITTING.replace("rate = 3", "rate = 1e20"), "has the type int64, which 1e+20 does not fit"),
        (FITTING.replace("mask = 0.1", "mask = inf"), "The field others.mask is 'inf'. Expected a finite number"),
    ],
)
def test_other_inputs_that_do_not_fit(tmp_path, others, message):
    path = several_inputs(tmp_path, others)
    with pytest.raises(InputError, match=re.escape(message)):
        open_source(f"onnx:{path}").load(None)


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ((onnx.TensorProto.FLOAT, ["n", 2, "width", 2]), "has the sizes (2, 0, 2) for a sample, 0 for an open size"),
        ((onnx.TensorProto.FLOAT, ["n", 1 << 20, 1 << 20]), "at most 16,777,216 values"),
        ((onnx.TensorProto.STRING, ["n", 2]), "has the type object, which 0.1 does not fit"),
    ],
)
def test_sizes_and_types_of_other_inputs_are_checked(tmp_path, form, message):
    path = several_inputs(tmp_path, FITTING, INPUTS | {"mask": form})
    with pytest.raises(InputError, match=re.escape(message)):
        open_source(f"onnx:{path}").load(None)


def test_operations_that_cannot_be_converted_are_named(tmp_path):
    name = export(tmp_path, "image")

    def replace(model):
        next(node for node in model.graph.node if node.op_type == "Relu").op_type = "Shrink"

    change(tmp_path / "image.onnx", replace)
    with pytest.raises(InputError, match=r"cannot convert an operation of .*Shrink"):
        open_source(name).load(None)


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"\x00" * 100, lambda data: b""])
def test_damaged_files_are_named(tmp_path, damage):
    name = export(tmp_path, "image")
    path = tmp_path / "image.onnx"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=r"image\.onnx"):
        open_source(name).load(None)


def test_a_bare_encoder_needs_a_head_from_elsewhere(tmp_path):
    name = export(tmp_path, "sound", DESCRIPTIONS["sound"] + "\nhas_head = false")
    with pytest.raises(HeadlessError):
        open_source(name).load(None)
    source = open_source(name).load(None, head=False)
    batch = source.input.batch([np.zeros(256, np.float32)], CPU)
    assert source.features(batch).shape == (1, 4)


@pytest.mark.parametrize("automatic", ["SAME_UPPER", "SAME_LOWER"])
def test_automatic_padding_is_made_explicit(tmp_path, automatic):
    weights = np.random.default_rng(0).standard_normal((4, 3, 4, 4)).astype(np.float32)
    last = np.random.default_rng(1).standard_normal((4, 2)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], auto_pad=automatic, strides=[3, 2]),
        helper.make_node("MaxPool", ["a"], ["b"], kernel_shape=[2, 2], auto_pad=automatic),
        helper.make_node("ReduceMax", ["b"], ["c"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["c", "v"], ["y"]),
    ]
    tensors = [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(last, "v")]
    float32 = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes, "padded", [helper.make_tensor_value_info("x", float32, ["batch", 3, 9, 9])],
        [helper.make_tensor_value_info("y", float32, ["batch", 2])], tensors,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path = tmp_path / "padded.onnx"
    path.write_bytes(model.SerializeToString())
    path.with_suffix(".toml").write_text('input = { kind = "image", size = [9, 9], mean = [0, 0, 0], sd = [1, 1, 1] }')
    batch = np.random.default_rng(2).standard_normal((2, 3, 9, 9)).astype(np.float32)
    with torch.inference_mode():
        logits = open_source(f"onnx:{path}").load(None).model(torch.from_numpy(batch))
    np.testing.assert_allclose(logits.numpy(), run(path, batch), atol=1e-5)


# Models in packages

ppocr = pytest.mark.skipif(find_package_folder("rapidocr") is None, reason="rapidocr is not installed")
eeg = pytest.mark.skipif(
    find_package_folder("brainmaze_eeg_models") is None, reason="brainmaze-eeg-models is not installed"
)


@ppocr
@pytest.mark.bundle
def test_ppocr_reads_a_line_of_text():
    from PIL import Image, ImageDraw, ImageFont

    source = open_source("ppocr").load(None)
    page = Image.new("RGB", (320, 48), "white")
    font = ImageFont.load_default(30)
    ImageDraw.Draw(page).text((8, 6), "modgap reads 2026", font=font, fill="black")
    batch = source.input.batch([np.asarray(page).transpose(2, 0, 1).astype(np.float32) / 255], CPU)
    parts = source.split()
    with torch.inference_mode():
        by_position = parts.head.part(parts.encoder(parts.embedder(batch)))
        logits = source.model(batch)
    wanted = run(handle.find_package_folder("rapidocr") / "models/PP-OCRv6_rec_small.onnx", batch.flip(1).numpy())
    np.testing.assert_allclose(by_position.softmax(dim=2).numpy(), wanted, atol=1e-5)
    assert logits.shape == (1, 18709) == (1, len(source.class_names))
    torch.testing.assert_close(logits, by_position.mean(dim=1)[:, 1:])
    positions = by_position[0].argmax(dim=1).tolist()
    read = [one for one, before in zip(positions, [0, *positions], strict=False) if one and one != before]
    text = "".join(source.class_names[number - 1] for number in read).replace("(space)", " ")
    assert text == "modgap reads 2026"


@eeg
@pytest.mark.bundle
def test_the_seizure_detector_is_that_of_the_package():
    from scipy.signal import spectrogram

    source = open_source("eeg-seizure").load(None)
    waves = np.random.default_rng(0).standard_normal((3, 2000)).cumsum(axis=1).astype(np.float32)
    waves[2, 500:1200] = 0
    batch = source.input.batch(list(waves), CPU)
    standardized = (waves - waves.mean(axis=1, keepdims=True)) / waves.std(axis=1, keepdims=True)
    power = spectrogram(standardized.astype(np.float64), 200, nperseg=200, noverlap=100, axis=1)[2][:, :100]
    for one in power:
        has_power = one.sum(axis=0) > 1e-12
        mean, sd = (getattr(one[:, has_power], name)(axis=1, keepdims=True) for name in ("mean", "std"))
        one[:, has_power] = (one[:, has_power] - mean) / sd
        one[:, ~has_power] = 0
    path = find_package_folder("brainmaze_eeg_models") / "seizure/_models/modelA_paper.onnx"
    wanted = run(path, power.astype(np.float32)).mean(axis=0)
    with torch.inference_mode():
        parts = source.split()
        np.testing.assert_allclose(parts.embedder.spectrogram(batch).numpy(), power, atol=1e-4)
        np.testing.assert_allclose(source.model(batch).numpy(), wanted, atol=1e-4)
        assert torch.equal(parts.head(parts.encoder(parts.embedder(batch))), source.model(batch))


def test_a_file_is_described(tmp_path):
    path = small_onnx_model(tmp_path)
    assert describe_source(f"onnx:{path}") == SourceInfo(
        f"onnx:{path}", "Model in an ONNX file", 2, 116, "image, 6 px", "not known to modgap", str(path), True
    )
    control = describe_source(f"random:onnx:{path}")
    assert (control.n_classes, control.weights) == (2, "random, seed 0")
    assert control.title == "Model in an ONNX file, with random weights"


def test_a_file_without_its_prefix_or_description_is_refused(modgap, tmp_path):
    path = small_onnx_model(tmp_path)
    refused = modgap("sources", path)
    assert refused.returncode == 2
    assert f"{path} is opened by the prefix onnx:. Use --source onnx:{path}." in " ".join(refused.stderr.split())
    path.with_suffix(".toml").unlink()
    refused = modgap("sources", f"onnx:{path}")
    assert (refused.returncode, "There is no description" in refused.stderr) == (1, True)


def test_a_file_takes_no_other_weights(tmp_path):
    path = small_onnx_model(tmp_path)
    with pytest.raises(UsageError, match="whose name says where its weights are"):
        open_source(f"onnx:{path}", weights=str(path))


def test_the_path_of_a_file_is_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert absolute_name("onnx:m.onnx") == f"onnx:{tmp_path}/m.onnx"
    assert absolute_name("random:onnx:m.onnx") == f"random:onnx:{tmp_path}/m.onnx"


def test_controls_of_other_seeds_have_other_weights(tmp_path):
    path = small_onnx_model(tmp_path)
    prints = [open_control(f"onnx:{path}", seed).fingerprint()["weights"] for seed in (0, 0, 1)]
    assert prints == ["random, seed 0", "random, seed 0", "random, seed 1"]
    assert open_control(f"onnx:{path}").name == "random:model"


def test_the_checks_of_plug_ins_pass_for_the_prefix(tmp_path):
    check_prefix("onnx", str(small_onnx_model(tmp_path)))
