"""Trained models predict on new data as they did on the test samples, also after an export; refusals."""

import csv
import json
import shutil
from pathlib import Path

import huggingface_hub
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import ExifTags, Image
from safetensors.numpy import load_file, save_file

import modgap
from modgap.errors import InputError, UsageError
from modgap.inputs.representations import stretch
from modgap.models import Output, target_model
from modgap.sources import open_source
from modgap.targets import CustomData, open_target
from modgap.targets.manifest import InputSpec
from modgap.targets.readers.csv import read as read_table
from modgap.targets.sample_transforms import (
    Coordinates,
    Division,
    OwnStandardization,
    read_transforms,
    transform_records,
)
from modgap.training.export import FORMATS, export_model
from modgap.training.methods import method_names
from modgap.training.predictions import predict_data, write_predictions
from modgap.training.run_folder import open_run, write_record
from modgap.training.trained_inputs import TrainedInputs
from modgap.training.trained_model import load_trained_model
from modgap.training.training_data import InputTransform
from tests.campaign.run_files import RECORD, run_file
from tests.commands import run_in_process
from tests.small_hub import small_hub  # noqa: F401 - fixture
from tests.training import SHORT, run, skip_without_exporter, surrogate_file, target_file

KINDS = {"image": ("classification", True), "series": ("classification", False), "dense": ("regression", True)}
OTHER_KINDS = ("finetune", "mona", "orca")
"""Methods that `make test` trains on all kinds of targets; it trains the others on images."""
PROGRAM_KINDS = [pytest.param(kind, marks=[pytest.mark.long] * (kind == "series")) for kind in KINDS]
"""Kinds of targets, of whose models programs are written; those of series and images differ in an embedder alone."""


@pytest.fixture(scope="module", name="trained")
def trained_runs(hub, tmp_path_factory):
    """Runs by method and kind of target, each made once, with the file of the target."""
    folder, saved = tmp_path_factory.mktemp("runs"), {}
    hub("vit")

    def get(name, kind):
        if (name, kind) not in saved:
            task, image = KINDS[kind]
            target = target_file(folder, task, image=image, samples=60)
            out = folder / f"run-{len(saved)}"
            saved[name, kind] = run(out, name, "hf:small/vit", target, surrogate_file(folder)), target
        return saved[name, kind]

    return get


def samples_of(target):
    """The samples and labels of a target's file."""
    with np.load(target) as file:
        return file["x"].astype(np.float32), file["y"]


def run_errors(done):
    """The rows of the test samples, and their errors in the run's folder."""
    with np.load(done.folder / "samples.npz") as file:
        return file["id"], file["error"][0]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        pytest.param(name, kind, marks=[pytest.mark.long] * (kind != "image" and name not in OTHER_KINDS))
        for name in method_names()
        for kind in KINDS
    ],
)
def test_predictions_for_the_test_samples_have_the_errors_of_the_run(trained, name, kind):
    done, target = trained(name, kind)
    x, y = samples_of(target)
    rows, errors = run_errors(done)
    model = load_trained_model(done.folder)
    if kind == "dense":
        outputs = model.predict(x[rows])
        assert outputs.shape == y[rows].shape
        squares = ((outputs - y[rows]) ** 2).mean(axis=(1, 2, 3)) / (y[rows].astype(float) ** 2).mean(axis=(1, 2, 3))
        np.testing.assert_allclose(np.sqrt(squares), errors, rtol=1e-6)
        with pytest.raises(UsageError, match="real values, which have no probability"):
            model.predict_proba(x[rows])
    else:
        predicted = model.predict(x[rows])
        np.testing.assert_array_equal(predicted != y[rows].astype(str), errors == 1)
        probabilities = model.predict_proba(x[rows])
        np.testing.assert_allclose(probabilities.sum(axis=1), 1)
        assert (np.array(model.classes)[probabilities.argmax(axis=1)] == predicted).all()
    assert model.features(x[:5]).shape[0] == 5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", OTHER_KINDS)
def test_exported_model_predicts_the_same(trained, tmp_path, name, kind):
    done, target = trained(name, kind)
    x = samples_of(target)[0][:7]
    expected = load_trained_model(done.folder).outputs(x)
    path = tmp_path / "model.safetensors"
    export_model(load_trained_model(done.folder), path, "safetensors")
    np.testing.assert_array_equal(load_trained_model(path).outputs(x), expected)
    with pytest.raises(UsageError, match="has the weights of one epoch"):
        load_trained_model(path, epoch=1)


def outputs_of_torch_program(path, x):
    return torch.export.load(path).module()(torch.from_numpy(x)).detach().numpy()


def outputs_of_onnx(path, x):
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})[0]


@pytest.fixture(scope="module", name="exported")
def exported_programs(trained, tmp_path_factory):
    """Programs of fine-tuned models by kind of target and format, each made once."""
    folder, saved = tmp_path_factory.mktemp("programs"), {}

    def get(kind, file_format):
        skip_without_exporter(file_format)
        if (kind, file_format) not in saved:
            path = folder / f"{kind}-{file_format}" / "model.pt2"
            path.parent.mkdir()
            export_model(load_trained_model(trained("finetune", kind)[0].folder), path, file_format)
            saved[kind, file_format] = path
        return saved[kind, file_format]

    return get


@pytest.mark.parametrize("kind", [pytest.param("image", marks=pytest.mark.long), *PROGRAM_KINDS[1:]])
@pytest.mark.parametrize(
    ("file_format", "read", "tolerance"),
    [("torch-export", outputs_of_torch_program, 1e-5), ("onnx", outputs_of_onnx, 1e-4)],
)
def test_exported_programs_run_without_modgap(trained, exported, kind, file_format, read, tolerance):
    path = exported(kind, file_format)
    done, target = trained("finetune", kind)
    x = samples_of(target)[0][:7]
    expected = load_trained_model(done.folder).outputs(x)
    for size in (1, 7):
        np.testing.assert_allclose(read(path, x[:size]), expected[:size], rtol=tolerance, atol=tolerance)


def described(path, file_format):
    """The description in a program."""
    if file_format == "onnx":
        onnxruntime = pytest.importorskip("onnxruntime")
        return json.loads(onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map["modgap"])
    extra = {"modgap.json": ""}
    torch.export.load(path, extra_files=extra)
    return json.loads(extra["modgap.json"])


@pytest.mark.parametrize("kind", PROGRAM_KINDS)
@pytest.mark.parametrize("file_format", ["torch-export", "onnx"])
def test_programs_describe_themselves_in_them_and_beside_them(trained, exported, kind, file_format):
    path = exported(kind, file_format)
    model = load_trained_model(trained("finetune", kind)[0].folder)
    record = json.loads(path.with_suffix(".json").read_text())
    assert described(path, file_format) == record
    assert (record["task"], tuple(record["classes"])) == (model.task, model.classes)
    inputs = record["input"]
    assert tuple(inputs["shape"]) == model.inputs.inputs.shape
    np.testing.assert_allclose(inputs["mean"], model.inputs.inputs.mean)
    np.testing.assert_allclose(inputs["sd"], model.inputs.inputs.sd)
    assert inputs["channels"] == (None if kind == "series" else ["gray"])
    assert (inputs["low"], inputs["high"], inputs["steps"]) == (None, None, [])
    assert record["output"] == ("values in the target's unit" if kind == "dense" else "logits")


def test_programs_need_a_torch_that_can_write_them(trained, tmp_path, monkeypatch):
    done, _ = trained("finetune", "image")
    monkeypatch.setattr(torch, "__version__", "2.6.0+cpu")
    for file_format, lowest in (("torch-export", "2.7"), ("onnx", "2.10")):
        with pytest.raises(UsageError, match=rf"needs torch {lowest} or later; torch 2.6.0\+cpu is installed"):
            export_model(load_trained_model(done.folder), tmp_path / "model", file_format)
    assert list(tmp_path.iterdir()) == []


def test_formats_are_those_of_the_command():
    from modgap.cli.export import SUFFIXES

    assert tuple(FORMATS) == tuple(SUFFIXES)


def test_features_are_the_mean_over_the_tokens_without_prefix(trained):
    done, target = trained("finetune", "image")
    x = samples_of(target)[0][:3]
    model = load_trained_model(done.folder)
    inputs = torch.from_numpy(np.stack([model.inputs.inputs.pieces(model.inputs.prepared(sample))[0] for sample in x]))
    with torch.no_grad():
        tokens = model.network.model.encode(model.network.model.embed(inputs))
    expected = tokens[:, model.network.model.prefix_tokens :].mean(1)
    np.testing.assert_allclose(model.features(x), expected, rtol=1e-6)


def test_samples_come_in_the_forms_that_users_have(trained):
    done, target = trained("finetune", "image")
    x = samples_of(target)[0][:4]
    model = load_trained_model(done.folder)
    expected = model.outputs(x)
    for form in (x[:, 0], list(x), torch.from_numpy(x), tuple(x[:, 0])):
        np.testing.assert_array_equal(model.outputs(form), expected)
    # Lists are float64, which is standardized as such.
    np.testing.assert_allclose(model.outputs([sample.tolist() for sample in x]), expected, atol=1e-5)
    table = open_target(str(target)).read()
    np.testing.assert_array_equal(model.outputs(table)[:4], model.outputs(samples_of(target)[0])[:4])
    assert repr(model) == f"TrainedModel(finetune: hf:small/vit -> {target}, samples of shape (1, 12, 10), 4 classes)"


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ("photo.png", r"got one path. Pass a list: \['photo.png'\]"),
        ([], "no samples to predict"),
        (3, "got int"),
        (np.zeros((12, 10)), r"Got the shape \(12, 10\)"),
        ([np.zeros((1, 12, 10)), np.full((1, 12, 10), np.nan)], "NaN or infinite"),
        ([np.zeros((2, 12, 10))], r"Sample 0 does not fit the model: A sample has shape \(2, 12, 10\)"),
    ],
)
def test_samples_that_do_not_fit_are_refused(trained, samples, message):
    model = load_trained_model(trained("finetune", "image")[0].folder)
    with pytest.raises((UsageError, InputError), match=message):
        model.predict(samples)


# Custom data: the preparation of the training data is applied to new files


def short_run(folder, target, **options):
    settings = tuple(setting for setting in SHORT if setting.startswith("stage2"))
    return modgap.train(
        "finetune", "hf:small/vit", str(target), folder, settings=dict(item.split("=") for item in settings), **options
    )


@pytest.fixture(name="photos")
def photo_folder(tmp_path):
    """Class folders of colored images, and a flat folder of new ones of another size."""
    rng = np.random.default_rng(0)
    for number in range(40):
        kind = ("red", "blue")[number % 2]
        path = tmp_path / "photos" / kind / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 90, (14, 14, 3), np.uint8)
        pixels[..., 0 if kind == "red" else 2] += 150
        Image.fromarray(pixels).save(path)
    for name, channel in (("a.png", 0), ("deep/b.png", 2)):
        path = tmp_path / "new" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.full((20, 20, 3), 40, np.uint8)
        pixels[..., channel] = 210
        Image.fromarray(pixels).save(path)
    return tmp_path


def test_new_images_are_predicted_from_folders_files_and_tables(hub, photos):
    hub("vit")
    done = short_run(photos / "run", photos / "photos")
    model = modgap.load_run(done.folder)
    assert model.classes == ("blue", "red")
    found = predict_data(model, str(photos / "new"))
    assert found.names == ("a.png", "deep/b.png")
    images = [Image.open(photos / "new" / name) for name in found.names]
    np.testing.assert_array_equal(model.predict_proba(images), found.outputs)
    np.testing.assert_array_equal(model.predict_proba([photos / "new" / name for name in found.names]), found.outputs)
    one = predict_data(model, str(photos / "new" / "a.png"))
    np.testing.assert_array_equal(one.outputs, model.predict_proba(images[:1]))
    (photos / "new" / "list.csv").write_text("file,label\ndeep/b.png,?\na.png,?\n")
    listed = predict_data(model, str(photos / "new" / "list.csv"))
    np.testing.assert_allclose(listed.outputs, found.outputs[::-1], atol=1e-6)
    (photos / "elsewhere.csv").write_text(f"file\n{photos}/new/a.png\n{photos}/photos/red/0.png\n")
    (photos / "deeper").mkdir()
    (photos / "elsewhere.csv").rename(photos / "deeper" / "list.csv")
    elsewhere = predict_data(model, str(photos / "deeper" / "list.csv"))
    assert elsewhere.names == (f"{photos}/new/a.png", f"{photos}/photos/red/0.png")
    with pytest.raises(UsageError, match="cannot read images from"):
        predict_data(model, str(done.folder / "run.json"))
    with pytest.raises(InputError, match="no file or folder"):
        predict_data(model, str(photos / "absent"))
    (photos / "empty").mkdir()
    with pytest.raises(InputError, match="has no images"):
        predict_data(model, str(photos / "empty"))


def test_the_documented_use_of_an_exported_program_predicts_as_the_command_does(hub, photos, monkeypatch, capsys):
    pytest.importorskip("onnxruntime")
    skip_without_exporter("onnx")
    hub("vit")
    done = short_run(photos / "run", photos / "photos")
    program = photos / "model.onnx"
    finished = run_in_process("export", "--run", str(done.folder), "--format", "onnx", "--out", str(program))
    assert finished.stdout.endswith(f"{photos}/model.json names its classes and the values that it takes.\n")
    inputs = json.loads((photos / "model.json").read_text())["input"]
    assert (inputs["low"], inputs["high"], inputs["channels"]) == (0, 255, ["red", "green", "blue"])
    program.rename(photos / "moved.onnx")
    finished = run_in_process("export", "--run", str(done.folder), "--format", "onnx", "--out", str(program))
    assert (finished.returncode, "model.json, which would describe the model, exists" in finished.stderr) == (2, True)
    (photos / "moved.onnx").rename(program)
    for number in range(6):
        # Photos of the size in training, of which one is stored turned.
        save_turned(photos / "new" / f"{number}.png", photos / "photos" / ("red", "blue")[number % 2] / f"{number}.png")
    run_in_process("predict", "--run", str(done.folder), "--data", str(photos / "new"), "--out", str(photos / "p.csv"))
    rows = list(csv.DictReader((photos / "p.csv").read_text().splitlines()))
    example = (Path(__file__).parents[1] / "docs" / "prediction.md").read_text().split("```python\n")[2].split("```")[0]
    monkeypatch.chdir(photos)
    monkeypatch.setattr("sys.argv", ["example", *(f"new/{row['sample']}" for row in rows)])
    exec(compile(example, "prediction.md", "exec"), {})
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert len(printed) == len(rows) == 8
    for (path, name, probability), row in zip(printed, rows, strict=True):
        assert (path, name) == (f"new/{row['sample']}", row["predicted"])
        same_size = row["sample"].split(".")[0].isdecimal()
        assert float(probability) == pytest.approx(float(row[f"p({name})"]), abs=1e-5 if same_size else 1e-3)


def save_turned(path, original):
    """Save an image as a camera that lies on its side would store it."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    with Image.open(original) as image:
        image.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)


def test_pillow_images_are_predicted_as_their_files(hub, photos):
    """Transparent pixels, 16 bits per channel, and palettes."""
    hub("vit")
    model = modgap.load_run(short_run(photos / "run", photos / "photos").folder)
    rng = np.random.default_rng(1)
    colors = rng.integers(0, 255, (14, 14, 4), np.uint8)
    colors[:7, :, 3] = 0
    (photos / "odd").mkdir()
    Image.fromarray(colors).save(photos / "odd" / "transparent.png")
    Image.fromarray(rng.integers(0, 65535, (14, 14), np.uint16)).save(photos / "odd" / "deep.png")
    Image.fromarray(colors[..., :3]).convert("P", palette=Image.Palette.ADAPTIVE).save(
        photos / "odd" / "palette.png", transparency=3
    )
    paths = sorted((photos / "odd").iterdir())
    images = [Image.open(path) for path in paths]
    np.testing.assert_array_equal(model.predict_proba(images), model.predict_proba(paths))
    with pytest.raises(InputError, match="Sample 0 does not fit the model: The image has 32 bits per channel"):
        model.predict([Image.fromarray(rng.random((14, 14), np.float32))])


def save_pictures(folder, gray):
    """Save one gray picture in the forms that pictures have, and return its colored version as an array (3, H, W)."""
    folder.mkdir()
    colored = np.stack([gray, gray // 2, gray // 3], 2)
    image = Image.fromarray(gray)
    image.save(folder / "gray.png")
    image.convert("RGB").save(folder / "rgb.png")
    image.convert("LA").save(folder / "alpha.png")
    image.convert("P").save(folder / "palette.png")
    Image.fromarray(gray.astype(np.uint16) * 257).save(folder / "deep.png")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.fromarray(np.rot90(gray).copy()).save(folder / "turned.png", exif=exif)
    Image.fromarray(colored).save(folder / "zcolored.png")
    return colored.transpose(2, 0, 1)


def test_pictures_are_predicted_by_a_model_of_gray_arrays(trained, tmp_path, caplog):
    model = load_trained_model(trained("finetune", "image")[0].folder)
    gray = np.random.default_rng(0).integers(0, 255, (12, 10), np.uint8)
    colored = save_pictures(tmp_path / "new", gray)
    expected = model.outputs(gray[None].astype(np.float32))
    mean = model.outputs(colored.mean(axis=0, dtype=np.float64)[None].astype(np.float32))
    found = predict_data(model, str(tmp_path / "new"))
    assert found.names[-1] == "zcolored.png"
    assert len(found.names) == 7
    paths = [tmp_path / "new" / name for name in found.names]
    outputs = model.outputs([Image.open(path) for path in paths])
    np.testing.assert_array_equal(outputs, model.outputs(paths))
    for output in outputs[:-1]:
        np.testing.assert_allclose(output, expected[0], rtol=1e-6)
    np.testing.assert_allclose(outputs[-1], mean[0], rtol=1e-6)
    np.testing.assert_allclose(found.outputs, model.predict_proba(paths), rtol=1e-6)
    assert caplog.text.count("The pixels of pictures are taken as values from 0 to 255, because") == 1
    # Another size is resized as in training.
    Image.fromarray(gray.repeat(2, 0).repeat(2, 1)).save(tmp_path / "large.png")
    np.testing.assert_array_equal(
        model.outputs([tmp_path / "large.png"]), model.outputs([gray[None].repeat(2, 1).repeat(2, 2)])
    )


def test_pictures_enter_with_the_values_of_the_training_data(tmp_path):
    settings = {"stage2.epochs": 1}
    done = modgap.train("finetune", "vit-fashion", "digits", tmp_path / "run", settings=settings, limit=60)
    model = modgap.load_run(done.folder)
    digits = open_target("digits").read().samples[0]
    pixels = (digits[0] * 255 / 16).round().astype(np.uint8)
    (tmp_path / "new").mkdir()
    Image.fromarray(pixels).save(tmp_path / "new" / "gray.png")
    found = predict_data(model, str(tmp_path / "new"))
    np.testing.assert_allclose(found.outputs, model.predict_proba((pixels * (16 / 255))[None]), rtol=1e-5)


@pytest.mark.parametrize(
    ("shape", "transforms", "expected"),
    [
        ((1, 4, 4), (), [-1, 1]),
        ((3, 4, 4), (), [-1, 1]),
        ((3, 4, 4), (Coordinates(),), [-1, 1]),
        ((1, 4, 4), (Division(4),), [-4, 4]),
        ((1, 4, 4), (OwnStandardization(),), [0, 255]),
    ],
)
def test_channels_and_values_of_pictures_are_those_before_the_steps(shape, transforms, expected):
    spec = InputSpec(kind="image", low=-1, high=1)
    transform = InputTransform(spec, shape, np.zeros(shape[0], np.float32), np.ones(shape[0], np.float32))
    inputs = TrainedInputs(transforms, transform, Output("classification", (2,)), None, ("a", "b"), None, "white")
    picture = inputs.picture(np.array([0, 255], np.uint8).repeat(8).reshape(1, 4, 4).repeat(3, axis=0))
    n_channels = 1 if transforms == (Coordinates(),) else shape[0]
    np.testing.assert_allclose(picture, np.repeat(expected, 8).reshape(1, 4, 4).repeat(n_channels, axis=0))


def test_transform_by_channel_is_read_from_records_and_older_ones_have_none():
    (record,), arrays = transform_records((OwnStandardization(by_channel=True),))
    assert record == {"name": "standardize-each", "by_channel": True}
    assert read_transforms([record], arrays) == (OwnStandardization(by_channel=True),)
    assert read_transforms([{"name": "standardize-each"}], {}) == (OwnStandardization(),)
    for hostile in (1, "True", None, [True]):
        with pytest.raises(ValueError, match=r"standardize-each\.by_channel is missing or has another type"):
            read_transforms([record | {"by_channel": hostile}], {})
    with pytest.raises(ValueError, match=r"divide\.divisor is missing"):
        read_transforms([{"name": "divide"}], {})


def test_sample_that_is_not_finite_is_refused_with_its_number(trained):
    done = trained("finetune", "image")[0]
    model = load_trained_model(done.folder, batch_size=4)
    samples = np.zeros((10, 1, 12, 10), np.float32)
    samples[6, 0, 3, 3] = np.nan
    with pytest.raises(InputError, match="Sample 6 has NaN or infinite values"):
        model.predict(samples)


@pytest.fixture(name="table")
def table_file(tmp_path):
    """A table with a missing cell, its labels, and a file of new rows with other columns between them."""
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    values = rng.standard_normal((60, 4)) + labels[:, None]
    lines = ["a,b,c,d,label"]
    lines += [
        ",".join(f"{value:.3f}" for value in row) + f",k{label}" for row, label in zip(values, labels, strict=True)
    ]
    lines[5] = "," + lines[5].split(",", 1)[1]
    (tmp_path / "train.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "new.csv").write_text("note,d,c,b,a\nx,1,2,3,4\ny,0.5,,0.25,0.125\n")
    return tmp_path


def test_new_rows_of_a_table_pass_through_the_fitted_steps(hub, table):
    hub("vit")
    done = short_run(table / "run", table / "train.csv", custom_data={"kind": "table", "fill": "mean"})
    model = modgap.load_run(done.folder)
    found = predict_data(model, str(table / "new.csv"))
    rows = np.array([[4, 3, 2, 1], [0.125, 0.25, np.nan, 0.5]], np.float32)
    np.testing.assert_array_equal(found.outputs, model.predict_proba(rows[:, None]))
    training = open_target(str(table / "train.csv"), custom_data=CustomData(kind="table", fill="mean")).read()
    raw = read_table({"data": [table / "train.csv"]}, kind="table", missing_values="keep").samples
    np.testing.assert_array_equal(model.outputs([raw[i] for i in range(60)]), model.outputs(training))
    (table / "fewer.csv").write_text("a,b,c\n1,2,3\n")
    with pytest.raises(UsageError, match="lacks d of the columns"):
        predict_data(model, str(table / "fewer.csv"))
    columns = load_trained_model(changed(done, table / "copy", lambda record: record["data"].update(transforms=None)))
    with pytest.raises(UsageError, match="cannot be applied to single samples"):
        columns.predict(pd.read_csv(table / "new.csv"))
    # A data frame is a table too, whatever its index and the order of its columns.
    frame = pd.read_csv(table / "new.csv").set_index(np.array([7, 3]))
    np.testing.assert_array_equal(model.predict_proba(frame), found.outputs)
    assert model.predict(frame).tolist() == list(found.predicted)
    np.testing.assert_array_equal(model.predict_proba(frame.astype(object)), found.outputs)
    with pytest.raises(UsageError, match="The data frame lacks d of the columns"):
        model.predict(frame[["a", "b", "c"]])
    with pytest.raises(UsageError, match="The data frame has several columns of the name d"):
        model.predict(pd.concat([frame, frame[["d"]]], axis=1))
    with pytest.raises(InputError, match="of the data frame, got text in d"):
        model.predict(frame.assign(d=["1", "high"]))
    with pytest.raises(InputError, match="Pass a data frame with the table's columns"):
        model.predict([table / "new.csv"])
    (table / "text.csv").write_text("a,b,c,d\n1,2,3,high\n")
    with pytest.raises(InputError, match="got text in d"):
        predict_data(model, str(table / "text.csv"))


def test_predictions_of_a_table_have_its_groups(hub, table):
    hub("vit")
    lines = (table / "train.csv").read_text().splitlines()
    grouped = [f"{line},{'who' if number == 0 else f'p{number // 3:02d}'}" for number, line in enumerate(lines)]
    (table / "grouped.csv").write_text("\n".join(grouped) + "\n")
    description = {"kind": "table", "fill": "mean", "group": "who"}
    model = modgap.load_run(short_run(table / "run", table / "grouped.csv", custom_data=description).folder)
    (table / "new.csv").write_text("who,a,b,c,d\n007,1,2,3,4\n,1,2,3,5\n")
    write_predictions(predict_data(model, str(table / "new.csv")), table / "p.csv")
    rows = list(csv.reader((table / "p.csv").open()))
    assert rows[0][:3] == ["sample", "who", "predicted"]
    assert [row[1] for row in rows[1:]] == ["007", ""]
    (table / "without.csv").write_text("a,b,c,d\n1,2,3,4\n")
    assert predict_data(model, str(table / "without.csv")).groups is None
    assert open_run(table / "run").record["data"]["group_column"] == "who"


def test_files_of_another_kind_are_named(hub, photos, caplog):
    hub("vit")
    model = modgap.load_run(short_run(photos / "run", photos / "photos").folder)
    for name in ("a.wav", ".DS_Store"):
        (photos / "new" / name).touch()
    caplog.set_level("INFO", logger="modgap")
    assert len(predict_data(model, str(photos / "new")).names) == 2
    assert "1 file is no image, and is ignored: a.wav." in caplog.text
    for name in ("c.png", "d.png"):
        (photos / "new" / name).write_bytes(b"broken")
    with pytest.raises(InputError, match=r"c.png is not a readable image .* 1 more is not readable either: .*d.png"):
        predict_data(model, str(photos / "new"))


def test_seconds_of_unix_times_decide_in_training_and_prediction(hub, tmp_path):
    hub("vit")
    seconds = 1_700_000_000 + 30 * (np.arange(80) % 2) + np.arange(80) % 7
    rows = [f"{second},{'ab'[number % 2]}" for number, second in enumerate(seconds)]
    (tmp_path / "train.csv").write_text("\n".join(["t,label", *rows]) + "\n")
    (tmp_path / "new.csv").write_text("t\n1700000004\n1700000008\n1700000034\n")
    options = {"custom_data": {"kind": "table"}}
    settings = {"stage2.epochs": "8", "stage2.batch_size": "8"}
    done = modgap.train(
        "finetune", "hf:small/vit", str(tmp_path / "train.csv"), tmp_path / "run", settings=settings, **options
    )
    model = modgap.load_run(done.folder)
    assert {str(array.dtype) for array in load_file(done.folder / "inputs.safetensors").values()} == {"float64"}
    outputs = predict_data(model, str(tmp_path / "new.csv")).outputs
    assert (outputs.argmax(axis=1) == [0, 0, 1]).all()
    # Four seconds between two samples of a class: float32 would make 128 of them.
    assert 0 < np.abs(outputs[0] - outputs[1]).max() < 0.2
    np.testing.assert_array_equal(outputs, model.predict_proba(np.array([[[4.0]], [[8.0]], [[34.0]]]) + 1.7e9))


def test_a_value_with_a_large_offset_is_predicted_in_its_unit(hub, tmp_path):
    hub("vit")
    signal = np.random.default_rng(0).random((60, 1, 16))
    np.savez(tmp_path / "train.npz", x=signal + 1.7e9, y=1.7e9 + signal.mean(axis=2))
    done = short_run(tmp_path / "run", tmp_path / "train.npz", custom_data={"kind": "series"})
    model = modgap.load_run(done.folder)
    predicted = model.predict(signal + 1.7e9)
    assert np.abs(predicted - 1.7e9).max() < 2
    assert len(np.unique(predicted)) > 50


def write_waves(path, number, seed, lengths, labels=True):
    """Write a .ts file of slow and fast waves with two channels, and return them."""
    rng = np.random.default_rng(seed)
    classes = "true slow fast" if labels else "false"
    header = f"@timeStamps false\n@univariate false\n@dimensions 2\n@equalLength false\n@classLabel {classes}\n@data\n"
    waves, lines = [], []
    for i in range(number):
        times = np.arange(rng.integers(*lengths))
        wave = np.sin((0.1, 0.5)[i % 2] * times + rng.random((2, 1))).round(4)
        waves.append(wave)
        lines.append(":".join(",".join(map(str, channel)) for channel in wave) + (":slow", ":fast")[i % 2] * labels)
    path.write_text(header + "\n".join(lines) + "\n")
    return waves


def test_series_of_different_lengths_are_stretched_as_for_a_source_of_sound(hub, tmp_path):
    pytest.importorskip("aeon")
    hub("vit")
    train = write_waves(tmp_path / "waves_TRAIN.ts", 40, 0, (40, 90))
    test = write_waves(tmp_path / "waves_TEST.ts", 12, 1, (30, 120))
    write_waves(tmp_path / "new.ts", 12, 1, (30, 120), labels=False)
    done = short_run(tmp_path / "run", tmp_path / "waves_TRAIN.ts")
    model = modgap.load_run(done.folder)
    table = open_target(str(tmp_path / "waves_TRAIN.ts")).read()
    longest = max(wave.shape[1] for wave, code in zip(train, table.splits, strict=False) if code == 0)
    assert model.inputs.inputs.shape == (2, longest)
    assert json.loads((done.folder / "run.json").read_text())["inputs"]["stretched"] is True
    outputs = model.outputs(test)
    stretched = [np.stack([stretch(channel, longest) for channel in wave]) for wave in test]
    np.testing.assert_array_equal(outputs, model.outputs(stretched))
    rows, errors = run_errors(done)
    predicted = model.predict([table.samples[int(row)] for row in rows])
    names = np.array(table.classes)[table.labels[rows]]
    np.testing.assert_array_equal(predicted != names, errors == 1)
    for name in ("waves_TEST.ts", "new.ts"):
        found = predict_data(model, str(tmp_path / name))
        assert found.names == tuple(map(str, range(12)))
        np.testing.assert_array_equal(found.outputs, model.predict_proba(test))
    with pytest.raises(InputError, match=r"Sample 0 does not fit the model: A sample has shape \(3, 50\)"):
        model.predict([np.zeros((3, 50))])
    with pytest.raises(InputError, match=r"A sample has shape \(2, 1\)"):
        model.predict([np.zeros((2, 1))])


def test_series_of_another_length_than_all_in_training_are_refused(trained, tmp_path):
    pytest.importorskip("aeon")
    done, target = trained("finetune", "series")
    model = load_trained_model(done.folder)
    x = samples_of(target)[0]
    with pytest.raises(InputError, match="does not fit the model"):
        model.predict(x[..., :-1])
    lines = [":".join(",".join(map(str, channel)) for channel in wave) for wave in x[:3].astype(float)]
    header = f"@timeStamps false\n@univariate false\n@dimensions {x.shape[1]}\n@equalLength true\n"
    (tmp_path / "x.ts").write_text(f"{header}@seriesLength {x.shape[2]}\n@classLabel false\n@data\n" + "\n".join(lines))
    outputs = predict_data(model, str(tmp_path / "x.ts")).outputs
    # The texts are read in double precision, and x is in single precision.
    np.testing.assert_allclose(outputs, model.predict_proba(x[:3]), rtol=1e-5)
    (tmp_path / "broken.ts").write_text("@classLabel false\n@data\n1,x,3\n")
    with pytest.raises(InputError, match="cannot read"):
        predict_data(model, str(tmp_path / "broken.ts"))


def test_arrays_are_predicted_by_name(trained, tmp_path):
    done, target = trained("finetune", "series")
    model = load_trained_model(done.folder)
    x = samples_of(target)[0][:4]
    expected = model.predict_proba(x)
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "one.npz", signals=x)
    np.savez(tmp_path / "two.npz", first=x, second=x[:2])
    np.testing.assert_array_equal(predict_data(model, str(tmp_path / "x.npy")).outputs, expected)
    np.testing.assert_array_equal(predict_data(model, str(tmp_path / "one.npz")).outputs, expected)
    np.testing.assert_array_equal(
        predict_data(model, str(tmp_path / "two.npz"), x_name="second").outputs, model.predict_proba(x[:2])
    )
    with pytest.raises(UsageError, match=r"has no array x\. It has: first, second"):
        predict_data(model, str(tmp_path / "two.npz"))


# The record and the files of a run are not trusted


def changed(done, folder, change):
    """A copy of a run's folder with a changed record."""
    shutil.copytree(done.folder, folder)
    record = dict(open_run(folder).record)
    change(record)
    write_record(folder, record)
    return folder


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda record: record.pop("data"), "does not describe its samples"),
        *(
            (lambda record, size=size: record["recipe"]["stage2"].update(batch_size=size), r"stage2\.batch_size")
            for size in (0, -5, None, "8", 2.5, True, 10**30)
        ),
        (lambda record: record["recipe"].update(stage2=None), r"has recipe\.stage2\.batch_size None"),
        (lambda record: record["recipe"].update(precision=None), r"has recipe\.precision None\. Expected float32"),
        (lambda record: record.update(input_size=-5), "has input_size -5"),
        (lambda record: record["inputs"].update(shape=[1, 10**30, 1]), "is not one of samples or outputs"),
        (lambda record: record["inputs"].update(shape=[1, 0, 1]), "is not one of samples or outputs"),
        (lambda record: record["inputs"].update(mean=[10**400]), "does not describe its samples"),
        (lambda record: record["output"].update(shape=[10**12]), "is not one of samples or outputs"),
        (lambda record: record["data"].update(transforms=[{"name": "eval"}]), "the transform 'eval' is unknown"),
        (
            lambda record: record["data"].update(transforms=[{"name": "pad", "start": 0, "size": [1 << 40]}]),
            "pad.size is missing or has another type",
        ),
        (lambda record: record["data"].update(transforms=[{"name": "standardize"}]), "standardize.mean is missing"),
        (lambda record: record["data"].pop("classes"), "does not describe its samples"),
        (lambda record: record["data"].update(classes=["a"]), "1 names of classes for outputs of shape"),
        (lambda record: record["inputs"].update(mean=[0, 0]), "means of the channels have another shape"),
        (lambda record: record["data"].update(input={"kind": "thought"}), "does not describe its samples"),
        (lambda record: record["inputs"].update(shape=[3, 5, 5], mean=[0] * 3, sd=[1] * 3), "do not match"),
    ],
)  # fmt: skip
def test_changed_records_are_refused_in_one_message(trained, tmp_path, change, message):
    folder = changed(trained("finetune", "image")[0], tmp_path / "run", change)
    with pytest.raises(InputError, match=message):
        load_trained_model(folder)


def test_a_missing_scale_is_noticed(trained, tmp_path):
    folder = changed(trained("finetune", "dense")[0], tmp_path / "run", lambda record: None)
    (folder / "inputs.safetensors").unlink()
    with pytest.raises(InputError, match=r"cannot read .*inputs\.safetensors"):
        load_trained_model(folder)
    write_record(folder, open_run(folder).record)
    with pytest.raises(InputError, match="the scale of the outputs is missing"):
        load_trained_model(folder)


def test_damaged_model_files_are_refused(trained, tmp_path):
    done = trained("finetune", "image")[0]
    path = tmp_path / "model.safetensors"
    export_model(load_trained_model(done.folder), path, "safetensors")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="is damaged"):
        load_trained_model(path)
    shutil.copy(done.weights, path)
    with pytest.raises(InputError, match="no record of a run"):
        load_trained_model(path)
    with pytest.raises(InputError, match="no weights at"):
        load_trained_model(done.folder, epoch=3)


def test_windows_and_converted_copies_are_predicted_as_tables_alone(trained, tmp_path):
    folder = changed(
        trained("finetune", "image")[0], tmp_path / "run", lambda record: record["data"].update(transforms=None)
    )
    model, target = load_trained_model(folder), trained("finetune", "image")[1]
    with pytest.raises(UsageError, match="cannot be applied to single samples"):
        model.predict(samples_of(target)[0])
    assert len(model.predict(open_target(str(target)).read())) == 60


# The commands


def test_the_commands_write_predictions_and_models(trained, tmp_path):
    done, target = trained("finetune", "image")
    out = tmp_path / "folder" / "predictions.csv"
    finished = run_in_process("predict", "--run", str(done.folder), "--data", str(target), "--out", str(out))
    assert (finished.returncode, finished.stderr) == (0, "")
    assert finished.stdout == f"60 predictions written to {out}.\n"
    lines = out.read_text().splitlines()
    assert lines[0] == "sample,predicted,p(0),p(1),p(2),p(3)"
    model = load_trained_model(done.folder)
    x = samples_of(target)[0]
    assert [line.split(",")[1] for line in lines[1:]] == model.predict(x).tolist()
    np.testing.assert_allclose([float(v) for v in lines[3].split(",")[2:]], model.predict_proba(x)[2], rtol=1e-8)
    exported = tmp_path / "model.safetensors"
    finished = run_in_process("export", "--run", str(done.folder), "--out", str(exported))
    assert finished.returncode == 0
    assert finished.stdout.startswith(f"The model is in {exported} (")
    again = tmp_path / "again.csv"
    run_in_process("predict", "--run", str(exported), "--data", str(target), "--out", str(again))
    assert again.read_text() == out.read_text()
    finished = run_in_process("export", "--run", str(done.folder), "--out", str(exported))
    assert (finished.returncode, "exists already" in finished.stderr) == (2, True)
    finished = run_in_process("export", "--run", str(done.folder), "--format", "onnx", "--out", str(tmp_path / "m.bin"))
    assert (finished.returncode, "does not end with .onnx" in finished.stderr) == (2, True)
    finished = run_in_process("predict", "--run", str(done.folder), "--data", str(target), "--out", "p.txt")
    assert (finished.returncode, "no suffix .csv or .npz" in finished.stderr) == (2, True)
    finished = run_in_process("predict", "--run", f"{done.folder}@last", "--data", str(target), "--out", "p.csv")
    assert (finished.returncode, "number of an epoch" in finished.stderr) == (2, True)


def test_dense_predictions_are_arrays(trained, tmp_path):
    done, target = trained("finetune", "dense")
    predictions = predict_data(load_trained_model(done.folder), str(target))
    write_predictions(predictions, tmp_path / "fields.npz")
    with np.load(tmp_path / "fields.npz", allow_pickle=False) as file:
        np.testing.assert_array_equal(file["outputs"], predictions.outputs)
        assert file["names"].tolist() == [str(row) for row in range(60)]
    wide = type(predictions)("regression", ("0",), (), np.zeros((1, 1, 40, 40)))
    with pytest.raises(UsageError, match="1,600 values, and a row of a CSV file at most 1,000"):
        write_predictions(wide, tmp_path / "fields.csv")
    write_predictions(type(predictions)("regression", ("0",), (), np.array([[1.5]])), tmp_path / "value.csv")
    assert (tmp_path / "value.csv").read_text() == "sample,value\n0,1.5\n"
    several = type(predictions)("multi-label", ("f",), ("a", "b", "c"), np.array([[0.9, 0.2, 0.6]]))
    write_predictions(several, tmp_path / "labels.csv")
    assert (tmp_path / "labels.csv").read_text() == "sample,predicted,p(a),p(b),p(c)\nf,a;c,0.9,0.2,0.6\n"


def test_a_packaged_target_is_predicted_by_name_and_split(tmp_path):
    run_in_process(
        "train", "--method", "finetune", "--source", "vit-fashion", "--target", "digits", "--set", "stage2.epochs=1",
        "--limit", "60", "--out", str(tmp_path / "run"), "--quiet",
    )  # fmt: skip
    model = modgap.load_run(tmp_path / "run")
    found = predict_data(model, "digits", split="val")
    table = open_target("digits").read()
    rows = np.flatnonzero(table.splits == 1)
    assert found.names == tuple(str(row) for row in rows)
    np.testing.assert_array_equal(found.outputs, model.predict_proba([table.samples[int(row)] for row in rows]))
    # The architecture comes from the source, and all weights from the run.
    source = open_source("vit-fashion").load(None, head=False)
    fresh = target_model(source, np.zeros((1, 8, 8), np.float32), model.inputs.output)
    assert fresh.state_dict().keys() == model.network.model.state_dict().keys()


@pytest.mark.parametrize("source", ["hf:absent/model", "random:hf:absent/model", "timm:test_vit.r160_in1k"])
def test_a_run_contacts_no_hub_unless_that_is_allowed(tmp_path, monkeypatch, source):
    asked = []

    def snapshot_download(name, **options):
        asked.append(name)
        raise OSError("no connection")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    run_file("run.json")(tmp_path / "run")
    save_file({"predictor.bias": np.zeros(2, np.float32)}, tmp_path / "run" / "model.safetensors")
    write_record(tmp_path / "run", {**RECORD, "source": source})
    message = (
        "could not be downloaded (a run does not contact a hub unless that is allowed). If you trust the run, pass"
    )
    with pytest.raises(InputError) as refused:
        modgap.load_run(tmp_path / "run")
    assert f"{message} `allow_download=True`." in str(refused.value)
    for command in (["predict", "--data", "x.npy", "--out", "y.csv"], ["export", "--out", tmp_path / "m.safetensors"]):
        done = run_in_process(command[0], "--run", tmp_path / "run", *command[1:])
        assert done.returncode == 1
        assert f"{message} --allow-download." in done.stderr
    assert asked == []
    assert not huggingface_hub.constants.HF_HUB_OFFLINE
    with pytest.raises(InputError, match=r"could not be downloaded \(OSError: no connection\)"):
        modgap.load_run(tmp_path / "run", allow_download=True)
    assert asked
    with pytest.raises(InputError, match="no connection"):
        open_source(source).load(None)
