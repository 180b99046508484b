"""Training from each source that packages bring: every one of them learns a small target."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from modgap.errors import InputError, UsageError
from modgap.jobs import Backend
from modgap.models import Output, target_model
from modgap.ranking import extraction
from modgap.ranking.rank import rank
from modgap.ranking.types import RankRequest
from modgap.sources import open_source
from modgap.targets import CustomData, TargetRequest, open_target
from modgap.training.surrogate import open_surrogate
from modgap.training.train import train_in_memory
from modgap.training.train_request import TrainRequest
from modgap.training.training_data import read_target_data
from tests.training import target_file

SOURCES = (
    "beatnet", "crepe-tiny", "eeg-seizure", "iclabel", "inaspeechsegmenter", "magika", "minilm", "musicnn", "onet",
    "ppocr", "resemblyzer", "rxnfp", "silero-vad",
)  # fmt: skip
IMAGES = ("inaspeechsegmenter", "minilm", "musicnn", "onet", "ppocr")
"""Sources that `make test` trains on images; it trains the others on series, and `make test-long` does the rest."""
SLOW = ("beatnet", "magika", "minilm", "ppocr", "resemblyzer", "rxnfp")
"""Sources whose training takes long, so that `make test-long` alone does it."""
SETTINGS = ("stage2.epochs=12", "stage2.batch_size=8", "stage2.learning_rate=3e-4", "target_sequence_length=16")


def load(name):
    """A source without its head; the test is skipped where its package is absent."""
    try:
        return open_source(name).load(None, head=False)
    except InputError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(
    ("name", "image"),
    [
        pytest.param(
            name,
            image,
            id=f"{name}-{'images' if image else 'series'}",
            marks=[pytest.mark.long] * (name in SLOW or image is not (name in IMAGES)),
        )
        for name in SOURCES
        for image in (True, False)
    ],
)
def test_a_source_learns_the_training_samples(tmp_path, name, image):
    source = load(name)
    path = target_file(tmp_path, "classification", image=image)
    settings = SETTINGS if source.input.kind == "text" else SETTINGS[:3]
    data = read_target_data(open_target(str(path), custom_data=CustomData(kind="image" if image else "series")))
    rows = data.train[:8]
    data = replace(data, train=rows, validation=rows[:4], test=rows)
    x = torch.from_numpy(np.stack([data.transform.pieces(data.table.samples[int(row)])[0] for row in rows]))
    batch = data.micro_batch(x, rows)
    losses = {}

    def watch(epoch, model, evaluator):
        # With the statistics of the batch, as in training.
        losses[epoch] = float(cross_entropy(model(batch.x), batch.y))
        assert np.isfinite(evaluator.metric(model, rows).compute())

    # This source takes long for an epoch, and learns in the first few.
    later = [2, 4] if name == "ppocr" else [6, 9, 12]
    request = TrainRequest("finetune", name, TargetRequest(str(path)), (*settings, f"stage2.epochs={later[-1]}"))
    train_in_memory(request, source, data, [1, *later], watch)
    assert min(losses[epoch] for epoch in later) < losses[1]


@pytest.mark.long
@pytest.mark.parametrize("name", SOURCES)
def test_a_source_can_be_ranked(tmp_path, name, monkeypatch):
    load(name)
    monkeypatch.setattr(extraction, "MOST_SURROGATE_SAMPLES", 40)
    rng = np.random.default_rng(0)
    path = tmp_path / "series.npz"
    np.savez(path, x=rng.standard_normal((24, 1, 200)).astype(np.float32), y=np.arange(24) % 2)
    request = RankRequest(scores=("linear-probe",), resamples=0, controls=False, baselines="none")
    ranking = rank(TargetRequest(str(path), CustomData(kind="series")), [name], request, Backend(1))
    assert [row.reason for row in ranking.rows] == [""]
    assert np.isfinite(ranking.tables["linear-probe"].standings.values).all()


@pytest.mark.long
@pytest.mark.parametrize("method", ["mona", "orca", "replay"])
def test_samples_of_several_windows_serve_as_the_surrogate(tmp_path, method):
    source = load("crepe-tiny")
    try:
        surrogate = open_surrogate("notes", source, split="train", half=0, limit=32)
    except InputError as error:
        pytest.skip(str(error))
    assert len(surrogate.pieces(surrogate.samples[0])) > 1
    path = target_file(tmp_path, "classification", image=False)
    settings = ("stage2.epochs=1", "stage2.batch_size=8", "stage1.surrogate_samples=32", "stage1.surrogate_batch=8")
    if method != "replay":
        settings = (*settings, "stage1.epochs=1", "stage1.batch_size=8")
    data = read_target_data(open_target(str(path), custom_data=CustomData(kind="series")))
    seen = []
    request = TrainRequest(method, "crepe-tiny", TargetRequest(str(path)), settings)
    train_in_memory(request, source, data, [1], lambda epoch, model, evaluator: seen.append(epoch))
    assert seen == [1]


def test_tokens_that_form_no_grid_cannot_predict_a_field():
    with pytest.raises(UsageError, match=r"48 x 320 pixels into 40 tokens, which form no known grid"):
        target_model(load("ppocr"), np.zeros((1, 16, 16), np.float32), Output("regression", (1, 16, 16)))
