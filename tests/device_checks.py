"""Training, prediction and the pass on a device that is not the CPU: a fake one, and a GPU where there is one.

The fake device refuses double precision and mixed devices, and counts what a GPU waits for. Its values are those of the
CPU, so that results agree as well. `test_accelerators.py` runs this file in a process of its own, because PyTorch asks
for the devices once, before the first gradient, and a process with devices cannot train in its forks.
"""

import contextlib
import itertools
import sys
import warnings
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from modgap.errors import UsageError
from modgap.forward.batched_inference import output_batches
from modgap.forward.sample_request import SampleRequest
from modgap.inputs.native_embedding import native_embedding
from modgap.process.resources import choose_device
from modgap.sources import open_source
from modgap.targets import TargetRequest
from modgap.targets.manifest import InputSpec
from modgap.targets.samples import ArraySamples, Table
from modgap.training.checkpoint import RunFiles
from modgap.training.loop import NotFiniteError, run_training_loop
from modgap.training.placement import check_precision
from modgap.training.train import build_training, train
from modgap.training.train_request import TrainRequest, set_up_run
from modgap.training.trained_model import Network, load_trained_model
from tests.fake_device import MODULE, Traffic, fake_device, register
from tests.training import SHORT, run, surrogate_file, target_file

pytestmark = pytest.mark.device
SOURCE = "random:timm:test_vit"
READS = 5
"""Number of updates whose losses are read together in these checks, in place of `UPDATES_READ_TOGETHER`."""
NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture(autouse=True, scope="session")
def registered_device():
    try:
        register()
    except ImportError:
        pytest.skip("this torch has no devices that are written in Python")


@pytest.fixture(autouse=True)
def fewer_updates_between_reads(monkeypatch):
    monkeypatch.setattr("modgap.training.loop.UPDATES_READ_TOGETHER", READS)


@contextlib.contextmanager
def gpu():
    """Count the waits of a GPU, of which PyTorch warns."""
    traffic = Traffic()
    torch.zeros(1, device="cuda")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        plain = warnings.showwarning
        warnings.showwarning = lambda message, *rest: traffic.wait("GPU") if "synchroniz" in str(message) else None
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield SimpleNamespace(device=torch.device("cuda", 0), traffic=traffic)
        finally:
            torch.cuda.set_sync_debug_mode("default")
            warnings.showwarning = plain


@pytest.fixture(name="accelerator", params=["fake", pytest.param("cuda", marks=NEEDS_GPU)])
def each_accelerator(request, monkeypatch):
    """A device that all code chooses, with its traffic."""
    with (fake_device if request.param == "fake" else gpu)() as accelerator:
        for module in list(sys.modules.values()):
            if getattr(module, "choose_device", None) is choose_device:
                monkeypatch.setattr(module, "choose_device", lambda _: accelerator.device)
        yield accelerator


def training_on(folder, method, *settings, task="classification", samples=28, progress=None):
    """A training that has not begun."""
    target, surrogate = target_file(folder, task, samples=samples), surrogate_file(folder)
    overrides = (f"stage1.surrogate={surrogate}", *SHORT, "stage1.batch_size=4", "stage2.batch_size=4", *settings)
    request = TrainRequest(method, SOURCE, TargetRequest(str(target)), overrides, samples=SampleRequest(input_size=32))
    source, setup, _ = set_up_run(request)
    return build_training(request, source, setup, RunFiles(), progress=progress)


def waits_of_an_update(accelerator, folder, method, *settings):
    """Waits of an update of each stage, over a multiple of the updates that are read together."""
    counts = {}

    def progress(name, _share):
        counts.setdefault(name, []).append(accelerator.traffic["waits"])

    run_training_loop(training_on(folder, method, *settings, samples=44, progress=progress))
    waits = {}
    for name, numbers in counts.items():
        # The first count is before the first update; the last update of an epoch is read on its own.
        n_updates = (len(numbers) - 3) // READS * READS
        waits[name] = (numbers[1 + n_updates] - numbers[1]) / n_updates
    return waits


@pytest.mark.parametrize(
    ("method", "settings", "own"),
    [
        ("finetune", (), 0),
        ("l2-sp", (), 0),
        ("replay", (), 0),
        ("mona", ("stage1.route=exact",), 0),
        ("mona", ("stage1.route=exact", "stage1.uniform_pairs=all"), 0),
        # The size of a finite step is a number in Python.
        ("mona", ("stage1.route=finite-difference",), 1),
        ("mona", ("stage1.objective=davies-bouldin",), 1),
        ("mona", ("stage1.objective=supervised-contrastive",), 1),
        # PyTorch copies the counter of the average to the device.
        ("finetune", ("stage2.ema_decay=0.9",), 1),
    ],
)
def test_updates_hardly_wait_for_the_device(accelerator, tmp_path, method, settings, own):
    """Only to read the losses of several updates, and as often as the method needs to by itself."""
    waits = waits_of_an_update(accelerator, tmp_path, method, *settings)
    assert max(waits.values()) <= own + 1 / READS, (waits, accelerator.traffic)


@pytest.mark.parametrize("method", ["orca", "lora", "lp-ft"])
def test_other_methods_keep_to_single_precision_and_to_one_device(accelerator, tmp_path, method):
    if method == "orca":
        pytest.importorskip("ot")
    if method == "lora":
        pytest.importorskip("peft")
    training = training_on(tmp_path, method)
    run_training_loop(training)
    assert {value.device.type for value in training.model.parameters()} == {accelerator.device.type}


@pytest.mark.parametrize(
    "setting", ["class_weights=balanced", "stage2.optimizer=sgd", "stage2.gradient_accumulation=3"]
)
def test_settings_keep_to_single_precision_and_to_one_device(accelerator, tmp_path, setting):
    run_training_loop(training_on(tmp_path, "finetune", setting))


@pytest.mark.parametrize("task", ["regression", "multi-label"])
def test_tasks_keep_to_single_precision_and_to_one_device(accelerator, tmp_path, task):
    run_training_loop(training_on(tmp_path, "finetune", task=task))


def test_trained_weights_are_those_of_the_cpu(tmp_path):
    """On the fake device, whose values are those of the CPU; only where losses are added up differs."""
    on_cpu = training_on(tmp_path, "replay")
    run_training_loop(on_cpu)
    with fake_device() as accelerator, pytest.MonkeyPatch.context() as patch:
        patch.setattr("modgap.training.train.choose_device", lambda _: accelerator.device)
        on_device = training_on(tmp_path, "replay")
        run_training_loop(on_device)
        values = {name: value.cpu() for name, value in on_device.model.state_dict().items()}
    for name, value in on_cpu.model.state_dict().items():
        torch.testing.assert_close(values[name], value, rtol=1e-4, atol=1e-6)


def test_validation_has_a_batch_of_its_own(accelerator, tmp_path):
    training = training_on(tmp_path, "finetune", "stage2.batch_size=1")
    passes = []
    training.model.predictor.register_forward_hook(lambda _module, _inputs, outputs: passes.append(len(outputs)))
    training.evaluator.error(training.model, np.arange(28))
    assert passes == [28]


def test_validation_goes_on_with_half_of_the_batch_where_memory_does_not_suffice(accelerator, tmp_path, caplog):
    training = training_on(tmp_path, "finetune", "stage2.batch_size=1")
    passes = []

    def refuse(_module, inputs):
        if len(inputs[0]) > 20:
            raise torch.OutOfMemoryError("out of memory")
        passes.append(len(inputs[0]))

    training.model.predictor.register_forward_pre_hook(refuse)
    training.evaluator.error(training.model, np.arange(28))
    assert passes == [14] * 2
    assert "Continuing with 14." in caplog.text


def test_losses_that_are_read_late_stop_a_training_before_anything_is_saved(accelerator, tmp_path):
    training = training_on(tmp_path, "finetune", "stage2.batch_size=2", "checkpoint_seconds=1000")
    n_passes = 0

    def spoil(_module, _inputs, outputs):
        nonlocal n_passes
        n_passes += 1
        return outputs * torch.nan if n_passes >= 3 else outputs

    training.model.predictor.register_forward_hook(spoil)
    with pytest.raises(NotFiniteError, match="The loss is NaN or infinite in stage2, epoch 1, update 3"):
        run_training_loop(training)
    assert 3 <= n_passes <= READS


@pytest.fixture(scope="module")
def run_on_the_cpu(tmp_path_factory):
    """Return the folder of a run on the CPU, 60 samples, and their outputs."""
    folder = tmp_path_factory.mktemp("cpu")
    target = target_file(folder, "classification", samples=60)
    done = run(folder / "run", "finetune", SOURCE, target, surrogate_file(folder), input_size=32)
    samples = np.load(target)["x"]
    return done.folder, samples, load_trained_model(done.folder, device="cpu").outputs(samples)


@pytest.fixture(name="trained")
def trained_model_on_the_device(run_on_the_cpu, accelerator):
    """Return a trained model on the device, 60 samples, and their outputs on the CPU."""
    folder, samples, expected = run_on_the_cpu
    return load_trained_model(folder), samples, expected


def test_predictions_are_those_of_the_cpu(accelerator, trained):
    model, samples, expected = trained
    before = accelerator.traffic["waits"]
    np.testing.assert_allclose(model.outputs(samples), expected, rtol=1e-3, atol=1e-5)
    assert accelerator.traffic["waits"] - before <= 1


def test_a_batch_of_predictions_is_read_when_the_next_one_is_launched(trained, monkeypatch):
    model, samples, expected = trained
    model = replace(model, batch_size=25)
    events = []
    launch = Network.outputs

    def recorded(network, batch, first):
        events.append(f"launch {first}")
        read = launch(network, batch, first)

        def reading():
            events.append(f"read {first}")
            return read()

        return reading

    monkeypatch.setattr(Network, "outputs", recorded)
    np.testing.assert_allclose(model.outputs(samples), expected, rtol=1e-3, atol=1e-5)
    assert events == ["launch 0", "launch 25", "read 0", "launch 50", "read 25", "read 50"]


def pass_of(device, name, count=90, **options):
    """Outputs of a source on images of another size."""
    source = open_source(name).load(32)
    images = ArraySamples(np.random.default_rng(0).random((count, 3, 20, 20), dtype=np.float32))
    table = Table(images, np.arange(count) % 2, splits=np.zeros(count, np.int64))
    embedding = native_embedding(InputSpec(kind="image"), table, source.input)
    options = {"device": device, "batch_size": 10, "loader_workers": 0} | options
    return source, list(output_batches(source, images, np.arange(count), embedding, **options))


@pytest.mark.parametrize("name", ["random:timm:test_vit", "random:timm:test_resnet"])
def test_outputs_are_those_of_the_cpu(accelerator, name):
    _, expected = pass_of(torch.device("cpu"), name)
    before = Traffic(accelerator.traffic)
    _, outputs = pass_of(accelerator.device, name)
    np.testing.assert_allclose(np.concatenate(outputs), np.concatenate(expected), rtol=1e-3, atol=1e-5)
    waits = accelerator.traffic["waits"] - before["waits"]
    # One for each batch, whose outputs are read when the next one has begun, and those of the model and the constants.
    model = [*open_source(name).load(32).model.state_dict()]
    assert waits <= 9 + len(model) + 2


def test_a_batch_is_copied_once_and_read_late(tmp_path):
    with fake_device() as accelerator:
        source, _ = pass_of(accelerator.device, "random:timm:test_vit", count=10)
        counts = []
        images = ArraySamples(np.random.default_rng(0).random((90, 3, 20, 20), dtype=np.float32))
        table = Table(images, np.arange(90) % 2, splits=np.zeros(90, np.int64))
        embedding = native_embedding(InputSpec(kind="image"), table, source.input)
        for _ in output_batches(
            source, images, np.arange(90), embedding, device=accelerator.device, batch_size=10, loader_workers=0
        ):
            counts.append(Traffic(accelerator.traffic))
    names = ("waits", "copies in", "copies out", "bytes in")
    batches = [tuple(after[name] - before[name] for name in names) for before, after in itertools.pairwise(counts)]
    # Until the last batch, the next one is copied before a result is read.
    assert batches[:-1] == [(1, 1, 1, 10 * 3 * 32 * 32 * 4)] * 7
    assert batches[-1] == (1, 0, 0, 0)


def test_tf32_is_off_in_the_pass(accelerator):
    seen = []

    def look(_module, _inputs):
        seen.append((torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32))

    source = open_source("random:timm:test_vit").load(32)
    source.model.register_forward_pre_hook(look)
    images = ArraySamples(np.zeros((4, 3, 32, 32), np.float32) + np.arange(4, dtype=np.float32)[:, None, None, None])
    table = Table(images, np.arange(4) % 2, splits=np.zeros(4, np.int64))
    embedding = native_embedding(InputSpec(kind="image"), table, source.input)
    list(output_batches(source, images, np.arange(4), embedding, device=accelerator.device, batch_size=4))
    assert set(seen) == {("highest", False)}


def test_dropout_is_seeded_on_the_device_in_use_alone(tmp_path):
    with fake_device() as accelerator, pytest.MonkeyPatch.context() as patch:
        patch.setattr("modgap.training.train.choose_device", lambda _: accelerator.device)
        training = training_on(tmp_path, "finetune")
        seeds = []
        for _ in range(2):
            MODULE.seeds.clear()
            state = torch.get_rng_state()
            run_training_loop(training)
            seeds.append(list(MODULE.seeds))
            assert torch.equal(torch.get_rng_state(), state)
    assert len(set(seeds[0])) == len(seeds[0]) >= 4
    assert seeds[0] == seeds[1]


def test_a_run_on_the_cpu_leaves_gpus_alone(tmp_path, monkeypatch):
    def refuse():
        raise AssertionError("CUDA was initialized")

    monkeypatch.setattr(torch.cuda, "_lazy_init", refuse)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    target = target_file(tmp_path, "classification", samples=60)
    request = TrainRequest(
        "replay", SOURCE, TargetRequest(str(target)), (f"stage1.surrogate={surrogate_file(tmp_path)}", *SHORT),
        samples=SampleRequest(input_size=32, device="cpu"),
    )  # fmt: skip
    done = train(request, tmp_path / "run")
    assert done.record["environment"]["gpu"] is None
    assert len(load_trained_model(done.folder, device="cpu").predict(np.load(target)["x"])) == 60
    pass_of("cpu", "random:timm:test_vit", count=20)


def test_double_precision_is_refused_where_a_device_has_none(tmp_path):
    with fake_device() as accelerator, pytest.MonkeyPatch.context() as patch:
        patch.setattr("modgap.training.train.choose_device", lambda _: accelerator.device)
        with pytest.raises(UsageError, match=r"The device fake:0 has no double precision\. Pass .*float32"):
            training_on(tmp_path, "finetune", "precision=float64")


def test_a_gpu_without_bfloat16_is_named(monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Tesla T4")
    check_precision("float32", torch.device("cuda"))
    assert not caplog.text
    check_precision("bfloat16", torch.device("cuda"))
    assert "The GPU Tesla T4 has no bfloat16" in caplog.text


@pytest.mark.parametrize(
    ("device", "has_bfloat16", "expected"),
    [
        ("auto", True, "bfloat16"),
        ("cuda:0,cuda:1", True, "bfloat16"),
        ("cuda", False, "float32"),
        ("cpu", True, "float32"),
    ],
)
def test_automatic_precision_is_part_of_the_request(monkeypatch, device, has_bfloat16, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_bfloat16)
    assert SampleRequest(dtype="auto", device=device).dtype == expected
    assert SampleRequest(device=device).dtype == "float32"
