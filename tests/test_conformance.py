"""The checks for authors of plug-ins: modgap's own parts pass, and deliberately broken ones fail with the reason."""

import itertools
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from modgap.baselines import baseline_names, get_baseline
from modgap.baselines.parts import Affine
from modgap.errors import InputError
from modgap.inputs.plugin_representations import Representation
from modgap.ranking.score import Score
from modgap.ranking.scores import score_names
from modgap.sources import open_control, open_source, source_infos
from modgap.statistics.intervals import SampleErrors
from modgap.targets.samples import ArraySamples, Table
from modgap.testing import (
    check_baseline,
    check_manifest,
    check_method,
    check_reader,
    check_representation,
    check_score,
    check_source,
)
from modgap.training.method import Objective, full_stage
from modgap.training.methods import get_method, method_names

SLOW_BASELINES = ("boosting", "extra-trees", "hog", "k-mer-trees", "mfcc-trees", "minirocket", "residual-network")


def test_the_source_of_modgap_passes():
    check_source("vit-fashion")


@pytest.mark.bundle
def test_the_packaged_source_passes():
    check_source("minilm")


@pytest.mark.parametrize("name", score_names())
def test_scores_of_modgap_pass(name):
    if name == "otdd":
        pytest.importorskip("ot")
    check_score(name)


@pytest.mark.parametrize("name", method_names())
def test_methods_of_modgap_pass(name):
    check_method(name)


@pytest.mark.parametrize("name", [name for name in baseline_names() if name not in SLOW_BASELINES])
def test_baselines_of_modgap_pass(name):
    check_baseline(get_baseline(name))


@pytest.mark.long
@pytest.mark.parametrize("name", SLOW_BASELINES)
def test_slow_baselines_pass_on_all_tasks(name):
    check_baseline(name)


def shifted(part):
    """A part whose stored form forgets what it was."""
    state = part.state

    def other_state(self):
        record, arrays = state(self)
        return record, {**arrays, "intercepts": arrays["intercepts"] + np.arange(len(arrays["intercepts"]))}

    return other_state


LINEAR = get_baseline("linear")
STEPS = itertools.count()
BROKEN_BASELINES = {
    "title of the baseline 'linear' is empty": replace(LINEAR, title=" "),
    "unknown task ranking": replace(LINEAR, tasks=("ranking",)),
    "reads no kind": replace(LINEAR, kinds=("smell",)),
    "suits none": replace(LINEAR, applies=lambda form, is_table, output: False),
    "differ between two fits": replace(
        LINEAR,
        predictor=replace(
            LINEAR.predictor,
            fit=lambda values, truth, seed: LINEAR.predictor.fit(values * (1 + next(STEPS)), truth, seed),
        ),
    ),
    "other scores after it was stored": replace(LINEAR, features=LINEAR.features[:1]),
}


@pytest.mark.parametrize("reason", BROKEN_BASELINES)
def test_broken_baselines_fail_with_the_reason(reason, monkeypatch):
    if reason == "other scores after it was stored":
        monkeypatch.setattr(Affine, "state", shifted(Affine))
    with pytest.raises(AssertionError, match=reason):
        check_baseline(BROKEN_BASELINES[reason])


def test_targets_and_readers_of_modgap_pass(tmp_path):
    check_manifest("digits")
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(0).random((6, 1, 4, 4)), y=np.arange(6) % 2)
    check_reader("arrays", {"data": [tmp_path / "data.npz"]}, kind="image")


@dataclass(frozen=True)
class Handle:
    """A handle of a source that is given, or of its control."""

    source: object
    record: object
    name: str = "vit-fashion"

    def fingerprint(self):
        return self.record()

    def load(self, _input_size, *, head=True):
        return self.source


class Noisy(torch.nn.Module):
    """A model in training mode, which has other outputs each time."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, batch):
        return self.model(batch) + torch.rand(())


class Mixing(Noisy):
    """A model whose outputs depend on the other samples of the batch."""

    def forward(self, batch):
        outputs = self.model(batch)
        return outputs - outputs.mean(dim=0)


@dataclass(frozen=True)
class Control:
    """A control of the source of modgap that breaks one rule."""

    seed: int
    name: str = "random:vit-fashion"
    drawn: int | None = None
    n_classes: int = 10

    def fingerprint(self):
        return {"weights": f"random, seed {self.seed}"}

    def load(self, _input_size, *, head=True):
        source = open_control("vit-fashion", self.seed if self.drawn is None else self.drawn).load(None, head=head)
        return replace(source, class_names=source.class_names[: self.n_classes])


SOUND = open_source("vit-fashion").load(None)
INFO = next(info for info in source_infos() if info.name == "vit-fashion")
COUNTER = iter(range(1000))
BROKEN_SOURCES = {
    "differ between two calls. Expected load": {"source": replace(SOUND, model=Noisy(SOUND.model))},
    "depend on the other samples": {"source": replace(SOUND, model=Mixing(SOUND.model))},
    "has 9 class names. Expected 10": {"source": replace(SOUND, class_names=SOUND.class_names[1:])},
    "do not give the model's outputs": {
        "source": replace(SOUND, split=lambda: replace(SOUND.split(), head=lambda x: SOUND.split().head(x) * 2))
    },
    "Expected rows": {"source": replace(SOUND, features=lambda batch: SOUND.model(batch)[:, :, None])},
    "fingerprint of vit-fashion differs": {"record": lambda: {"call": next(COUNTER)}},
    "not made of plain values": {"record": lambda: {"shape": (1, 2)}},
    "The license of vit-fashion is empty": {"info": replace(INFO, license=" ")},
    "raised no HeadlessError": {"info": replace(INFO, n_classes=None)},
    "has the name 'vit'. Expected that of the source": {"name": "vit"},
    "a near copy of vit-fashion, is not listed": {"info": replace(INFO, near_copies=("vit",))},
    "vit-fashion and its near copy vit-fashion": {"info": replace(INFO, near_copies=("vit-fashion",))},
    "has the split 'half'": {"info": replace(INFO, surrogate=("fashion-mnist", "half"))},
    "control of vit-fashion has the name 'vit'": {"control": lambda seed: Control(seed, name="vit")},
    "fingerprint of the control of vit-fashion differs": {"control": lambda seed: Control(next(COUNTER))},
    "of its controls of two seeds are not all different": {"control": lambda seed: Control(0)},
    "has 3 class names": {"control": lambda seed: Control(seed, n_classes=3)},
    "or those of another seed": {"control": lambda seed: Control(seed, drawn=0)},
}


@pytest.mark.parametrize("reason", BROKEN_SOURCES)
def test_broken_sources_fail_with_the_reason(monkeypatch, reason):
    parts = {"source": SOUND, "record": lambda: {"weights": "1"}, "info": INFO} | BROKEN_SOURCES[reason]
    monkeypatch.setattr("modgap.testing.sources.source_infos", lambda: [parts["info"]])
    handle = Handle(parts["source"], parts["record"], parts.get("name", "vit-fashion"))
    monkeypatch.setattr("modgap.testing.sources.open_source", lambda name: handle)
    if "control" in parts:
        monkeypatch.setattr("modgap.testing.sources.open_control", lambda name, seed: parts["control"](seed))
    with pytest.raises(AssertionError, match=reason):
        check_source("vit-fashion")


def constant_errors(value):
    """Return the arguments of a score whose error is the same for each sample."""
    n = 60
    errors = SampleErrors(
        np.full(n, value), np.full(n, 1 / n), np.arange(n), np.array([value]), None, 0, is_bounded=False
    )
    return {"compute": None, "errors": lambda outputs, options, seed: errors, "error_tasks": ("classification",)}


BASE = Score(
    name="s", title="t", unit="", reference="r", higher_is_better=True, compute=lambda outputs, seed: 1.0,
)  # fmt: skip
BROKEN_SCORES = {
    "is nan on classification samples": replace(BASE, compute=lambda outputs, seed: float("nan")),
    "differs between two calls": replace(BASE, compute=lambda outputs, seed: float(np.random.default_rng().random())),
    "not within its bounds": replace(BASE, bounds=(2.0, 3.0)),
    "not within its bounds 0.0 and 1.0": replace(
        BASE, **constant_errors(5.0), higher_is_better=False, bounds=(0.0, 1.0)
    ),
    "not within its bounds -inf and 0.0": replace(BASE, **constant_errors(-2.0), bounds=(-np.inf, 0.0)),
    "computes nothing": replace(BASE, compute=None),
    "computes nothing for classification targets": replace(BASE, error_tasks=("classification",)),
    "unknown task ranking": replace(BASE, tasks=("ranking",)),
    "title of the score 's' is empty": replace(BASE, title=""),
    "not a number": replace(BASE, compute=lambda outputs, seed: "high"),
}


@pytest.mark.parametrize("reason", BROKEN_SCORES)
def test_broken_scores_fail_with_the_reason(reason):
    with pytest.raises(AssertionError, match=reason):
        check_score(BROKEN_SCORES[reason])


FINETUNE = get_method("finetune")


@pytest.mark.parametrize("name", ["task", "mona", "otdd", "anchored", "replay"])
def test_stages_may_name_an_objective_of_modgap(name):
    objective = full_stage(objective=name).objective_class
    assert issubclass(objective, Objective)
    check_method(replace(FINETUNE, stages=(full_stage(objective=name),)))


BROKEN_METHODS = {
    "has no stages": replace(FINETUNE, stages=()),
    "trains no parameter": replace(FINETUNE, stages=(replace(full_stage(), select_parameters=lambda model: []),)),
    "trains nothing.weight, which": replace(
        FINETUNE, stages=(replace(full_stage(), select_parameters=lambda model: ["nothing.weight"]),)
    ),
    "unknown setting years": replace(FINETUNE, stages=(replace(full_stage(), epochs_setting="years"),)),
    "has a default for speed": replace(FINETUNE, stage1_defaults=lambda manifest: {"speed": 1}),
}


@pytest.mark.parametrize("reason", BROKEN_METHODS)
def test_broken_methods_fail_with_the_reason(reason):
    with pytest.raises(AssertionError, match=reason):
        check_method(BROKEN_METHODS[reason])


def read_absent(files):
    """Return the path of a role if it exists, as a reader does."""
    if not files["data"][0].exists():
        raise InputError("there is no file")


GOOD = Table(ArraySamples(np.zeros((4, 1, 5), np.float32)), np.array([0, 1, 0, 1]))
BROKEN_READERS = {
    "Expected a Table": lambda files: "text",
    "4 labels for 3 samples": lambda files: replace(GOOD, samples=ArraySamples(np.zeros((3, 1, 5)))),
    "each at least once": lambda files: replace(GOOD, labels=np.array([0, 2, 0, 2])),
    "Expected integers": lambda files: replace(GOOD, labels=np.array([0.0, 1, 0, 1])),
    "NaN or infinite": lambda files: replace(GOOD, samples=ArraySamples(np.full((4, 1, 5), np.nan))),
    "another sample 0": lambda files: replace(
        GOOD, samples=ArraySamples(np.random.default_rng().random((4, 1, 5)).astype(np.float32))
    ),
    "neither labels nor targets": lambda files: replace(GOOD, labels=None),
    "raised no error for files": lambda files: GOOD,
    "raised a FileNotFoundError": lambda files: (files["data"][0].read_bytes(), GOOD)[1],
}


@pytest.mark.parametrize("reason", BROKEN_READERS)
def test_broken_readers_fail_with_the_reason(monkeypatch, tmp_path, reason):
    (tmp_path / "data").write_text("")
    monkeypatch.setattr("modgap.testing.targets.get_reader", lambda name: BROKEN_READERS[reason])
    with pytest.raises(AssertionError, match=reason):
        check_reader("own", {"data": [tmp_path / "data"]})


def plot(sample, _rates):
    """A picture of the first 24 values of a series."""
    heights = np.linspace(sample.max(), sample.min(), 20)[:, None]
    return [(sample[:1, :24] >= heights).astype(np.float32)[None]]


def spoiling(sample, rates):
    """The same, which also changes the sample."""
    pieces = plot(sample, rates)
    sample += 1
    return pieces


PLOT = Representation("plot", "filled line plot", "these tests", "series", "image", plot)
DRAWS = np.random.default_rng(0)
BROKEN_REPRESENTATIONS = {
    "The title of the representation 'plot' is empty": replace(PLOT, title=" "),
    "The version of plot is 0": replace(PLOT, version=0),
    "samples of the unknown kind 'table'": replace(PLOT, samples="table"),
    "it returned no list of pieces": replace(PLOT, convert=lambda sample, rates: sample),
    "not numbers of shape (channels, height, width)": replace(PLOT, convert=lambda sample, rates: [sample]),
    "it returned a float, not a string": replace(PLOT, source="text", convert=lambda sample, rates: [1.0]),
    "it returned NaN or infinite values": replace(PLOT, convert=lambda sample, rates: [sample[None] * np.nan]),
    "ZeroDivisionError": replace(PLOT, convert=lambda sample, rates: 1 / 0),
    "makes other pieces of the same sample": replace(PLOT, convert=lambda sample, rates: [DRAWS.random((1, 4, 4))]),
    "makes the same pieces of different samples": replace(PLOT, convert=lambda sample, rates: [np.ones((1, 4, 4))]),
    "changes the sample": replace(PLOT, convert=spoiling),
}


def test_good_representations_pass():
    check_representation(PLOT)
    check_representation(replace(PLOT, source="text", convert=lambda sample, rates: [str(sample.mean())]))
    check_representation(
        replace(PLOT, samples="audio", source="audio", convert=lambda sample, rates: list(sample.astype(float)))
    )


@pytest.mark.parametrize("reason", BROKEN_REPRESENTATIONS)
def test_broken_representations_fail_with_the_reason(reason):
    with pytest.raises(AssertionError) as caught:
        check_representation(BROKEN_REPRESENTATIONS[reason])
    assert reason in str(caught.value)


def test_broken_manifests_fail_with_the_reason(monkeypatch):
    from modgap.targets import named_manifest, open_target

    digits = named_manifest("digits")
    for reason, changes in {
        "named digits": {},
        "has no license": {"name": "own", "license": None, "unknown": {}},
        "its manifest names others": {"name": "own", "classes": ["a", "b"]},
    }.items():
        manifest = digits.model_copy(update=changes)
        monkeypatch.setattr("modgap.testing.targets.named_manifest", lambda name, manifest=manifest: manifest)
        table = open_target("digits").read()
        monkeypatch.setattr(
            "modgap.testing.targets.open_target", lambda name, table=table: SimpleNamespace(read=lambda: table)
        )
        with pytest.raises(AssertionError, match=reason):
            check_manifest("own")
