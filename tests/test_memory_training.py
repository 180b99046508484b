"""Training in memory: the same bits as a run in a folder, on the samples that the caller chose."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from modgap.forward.sample_request import SampleRequest
from modgap.sources import open_source
from modgap.targets import TargetRequest, open_target
from modgap.training.checkpoint import RunFiles
from modgap.training.train import train, train_in_memory
from modgap.training.train_request import TrainRequest
from modgap.training.trained_model import load_trained_model
from modgap.training.training_data import read_target_data
from tests.training import surrogate_file, target_file

SETTINGS = ("stage2.epochs=3", "stage2.batch_size=8", "stage2.choose=last", "stage2.learning_rate=1e-3")
MONA = ("stage1.epochs=1", "stage1.batch_size=8", "stage1.surrogate_batch=8")


def outputs_in_memory(request: TrainRequest, data, epochs) -> dict[int, tuple[float, np.ndarray]]:
    """The error on the test samples and the outputs for them, by epoch."""
    seen = {}

    def watch(epoch, model, evaluator):
        metric = evaluator.metric(model, data.test)
        seen[epoch] = (metric.compute(), metric.per_sample)

    train_in_memory(request, open_source(request.source).load(None, head=False), data, epochs, watch)
    return seen


@pytest.mark.parametrize(
    "method", ["lora", *(pytest.param(name, marks=pytest.mark.long) for name in ("mona", "finetune"))]
)
def test_the_bits_are_those_of_a_run_in_a_folder(tmp_path, method):
    path = target_file(tmp_path, "classification")
    settings = SETTINGS
    if method == "mona":
        settings = (*settings, *MONA, f"stage1.surrogate={surrogate_file(tmp_path)}")
    request = TrainRequest(method, "vit-fashion", TargetRequest(str(path)), settings, samples=SampleRequest(seed=3))
    done = train(replace(request, overrides=(*settings, "stage2.keep_epochs=[1, 3]")), tmp_path / "run")
    data = read_target_data(open_target(str(path)), seed=3)
    seen = outputs_in_memory(request, data, (1, 3))
    assert sorted(seen) == [1, 3]
    assert seen[3][0] == done.record["result"]["test"]
    with np.load(done.folder / "samples.npz") as file:
        assert np.array_equal(100 * file["error"][0], seen[3][1])
    samples = [data.table.samples[int(row)] for row in data.test]
    predicted = load_trained_model(done.folder, epoch=1).outputs(samples).argmax(1)
    assert np.array_equal(100.0 * (predicted != np.asarray(data.table.labels)[data.test]), seen[1][1])
    assert {one.name for one in tmp_path.iterdir() if one.is_dir()} == {"run"}


def test_only_the_given_samples_are_trained_on(tmp_path):
    path = target_file(tmp_path, "classification")
    request = TrainRequest("finetune", "vit-fashion", TargetRequest(str(path)), SETTINGS)
    data = read_target_data(open_target(str(path)))
    first, second = data.train[::2], data.train[1::2]
    halves = replace(data, train=first, validation=second, test=second)
    changed = np.array([np.asarray(sample) for sample in data.table.samples])
    changed[np.setdiff1d(np.arange(len(changed)), data.train)] = 1e6
    others = replace(halves, table=replace(data.table, samples=changed))
    assert np.array_equal(outputs_in_memory(request, halves, [3])[3][1], outputs_in_memory(request, others, [3])[3][1])


def test_the_best_weights_stay_in_memory(tmp_path):
    path = target_file(tmp_path, "classification")
    settings = (*SETTINGS[:2], "stage2.learning_rate=1e-3")
    request = TrainRequest("finetune", "vit-fashion", TargetRequest(str(path)), settings)
    kept = []
    plain = RunFiles.best_weights
    data = read_target_data(open_target(str(path)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunFiles, "best_weights", lambda self, epoch: kept.append(epoch) or plain(self, epoch))
        outputs_in_memory(request, data, [1])
    done = train(request, tmp_path / "run")
    assert kept == [done.record["result"]["epoch"]]
    assert not list(Path.cwd().glob("best-*"))
