"""Options of a training: class weights and label smoothing.

Off by default, they leave every result and every record as it was.
"""

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import BCEWithLogitsLoss, CrossEntropyLoss

import modgap
from modgap.errors import UsageError
from modgap.sources import open_source
from modgap.targets import named_manifest, open_target
from modgap.transfer.losses import loss
from modgap.transfer.recipe import OPTIONS, STAGES, Recipe
from modgap.transfer.train_request import TrainRequest, request_recipe
from modgap.transfer.training_data import balanced_class_weights, read_target_data
from tests.commands import run_in_process
from tests.training import run, target_file, training_of

SOURCE = "random:timm:test_efficientnet"
SIZE = {"input_size": 32}
COUNTS = (20, 9, 0, 3)
"""Training samples of each of four classes."""


@pytest.fixture(scope="module", name="source")
def convolutional_source():
    return open_source(SOURCE).load(32, head=False)


@pytest.fixture(scope="module", name="uneven")
def uneven_targets(tmp_path_factory):
    """Targets of images whose training samples are spread unevenly over four classes, or over three labels."""
    folder, rng = tmp_path_factory.mktemp("uneven"), np.random.default_rng(0)
    labels = np.concatenate([np.repeat(np.arange(4), COUNTS), np.arange(16) % 4])
    several = np.stack([labels == 1, labels < 3, np.ones_like(labels)], 1).astype(np.int64)
    splits = np.repeat([0, 1, 2], [sum(COUNTS), 8, 8])
    x = (rng.standard_normal((len(labels), 1, 12, 10)) + labels.reshape(-1, 1, 1, 1)).astype(np.float32)
    paths = {}
    for task, y in (("classification", labels), ("multi-label", several)):
        paths[task] = folder / f"{task}.npz"
        np.savez(paths[task], x=x, y=y, splits=splits)
    return paths


# The loss


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_weighted_and_smoothed_cross_entropy_is_that_of_pytorch(smoothing):
    random = torch.Generator().manual_seed(0)
    outputs, y = torch.randn(9, 4, generator=random).double(), torch.randint(4, (9,), generator=random)
    factors = torch.tensor([0.5, 2.0, 1.0, 3.0]).double()
    function = loss("cross-entropy", class_weights=factors, label_smoothing=smoothing)
    values = function(outputs, y)
    reference = CrossEntropyLoss(factors, label_smoothing=smoothing)(outputs, y)
    torch.testing.assert_close(values.sum() / factors[y].sum(), reference)
    for value, scores, k in zip(values, outputs.log_softmax(1), y, strict=True):
        by_hand = (1 - smoothing) * factors[k] * -scores[k] + smoothing * (factors * -scores).mean()
        assert float(value) == pytest.approx(float(by_hand))
    # The update of MoNA differentiates twice.
    assert torch.autograd.gradgradcheck(lambda scores: function(scores, y), outputs.requires_grad_())


def test_weighted_binary_cross_entropy_is_that_of_pytorch_up_to_the_factor_of_a_label():
    random = torch.Generator().manual_seed(0)
    outputs, y = torch.randn(9, 3, generator=random), torch.randint(2, (9, 3), generator=random).float()
    absent, present = torch.tensor([0.5, 2.0, 1.0]), torch.tensor([4.0, 1.0, 0.0])
    values = loss("binary cross-entropy", class_weights=torch.stack([absent, present]))(outputs, y)
    terms = BCEWithLogitsLoss(pos_weight=present / absent, reduction="none")(outputs, y)
    torch.testing.assert_close(values, (absent * terms).mean(1))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cross-entropy", {"label_smoothing": 1}, "label_smoothing is 1. Expected a number from 0 to less than 1"),
        ("cross-entropy", {"label_smoothing": "a"}, "label_smoothing is 'a'. Expected a number"),
        ("cross-entropy", {"class_weights": [1, 2]}, "class_weights must be a tensor. Use the training setting"),
        ("binary cross-entropy", {"label_smoothing": 0.1}, "has no option 'label_smoothing'"),
        ("RMSE", {"class_weights": torch.ones(2)}, "has no option 'class_weights'"),
        (
            "binary cross-entropy",
            {"class_weights": torch.ones(2, 3), "positive_weight": 4},
            "takes either positive_weight or class_weights",
        ),
    ],
)
def test_options_that_a_loss_does_not_take(name, options, message):
    with pytest.raises(UsageError, match=message):
        loss(name, **options)


def test_balanced_weights_are_those_of_scikit_learn(uneven):
    data = read_target_data(open_target(str(uneven["classification"])))
    labels = np.repeat(np.arange(4), COUNTS)
    found = balanced_class_weights(data)
    present = [0, 1, 3]
    assert found[present] == pytest.approx(compute_class_weight("balanced", classes=np.array(present), y=labels))
    assert found[2] == 0
    assert found[labels].mean() == pytest.approx(1)


def test_each_of_several_labels_is_balanced_as_two_classes(uneven):
    data = read_target_data(open_target(str(uneven["multi-label"])))
    found, y = balanced_class_weights(data), data.table.labels[data.train]
    for k in range(2):
        assert found[:, k] == pytest.approx(compute_class_weight("balanced", classes=np.array([0, 1]), y=y[:, k]))
    # All training samples have the last label.
    assert found[:, 2].tolist() == [0, 1]


@pytest.mark.parametrize("method", ["finetune", "mona"])
def test_the_objective_of_every_stage_has_the_weights_and_the_smoothing(source, uneven, method):
    data = read_target_data(open_target(str(uneven["classification"])))
    settings = ("class_weights=balanced", "label_smoothing=0.2", "stage1.lambda=0")
    training = training_of(method, source, data, *settings)
    training.model.eval()
    rows = data.train[::3]
    x = torch.from_numpy(np.stack([data.transform.pieces(data.table.samples[row])[0] for row in rows]))
    scores = training.model(x).detach().log_softmax(1)
    factors, y = torch.tensor([32 / 60, 32 / 27, 0, 32 / 9]), torch.from_numpy(data.table.labels[rows])
    smoothed = 0.8 * torch.eye(4)[y] + 0.05
    expected = -float((smoothed * factors * scores).sum()) / len(y)
    for number, stage in enumerate(training.method.stages):
        objective = stage.objective_class(training, stage, number)
        part = data.micro_batch(x, rows)
        assert objective.gradient([part], rows, 0).loss == pytest.approx(expected, rel=1e-5)


def test_weights_of_the_classes_lower_the_error_on_the_rare_one(uneven, tmp_path):
    """The classes overlap, so that the frequent one wins where nothing weighs against it."""
    rng = np.random.default_rng(1)
    labels = np.concatenate([np.repeat([0, 1], [54, 6]), np.arange(80) % 2])
    splits = np.repeat([0, 1, 2], [60, 20, 60])
    x = (rng.standard_normal((140, 1, 4, 4)) + 0.25 * labels.reshape(-1, 1, 1, 1)).astype(np.float32)
    np.savez(tmp_path / "rare.npz", x=x, y=labels, splits=splits)
    settings = {"stage2.epochs": 4, "stage2.choose": "last", "stage2.learning_rate": 3e-3, "stage2.batch_size": 20}
    errors = {}
    for option in (None, "balanced"):
        done = modgap.train(
            "finetune", SOURCE, tmp_path / "rare.npz", tmp_path / str(option), input_size=32,
            settings={**settings, "class_weights": option},
        )  # fmt: skip
        confusion = np.array(done.record["result"]["confusion"])
        errors[option] = 1 - confusion[1, 1] / confusion[1].sum()
    assert errors["balanced"] < errors[None]


@pytest.mark.parametrize(
    ("task", "settings", "message"),
    [
        ("regression", ("class_weights=balanced",), 'settings."class_weights".` is for classes, and .* has values'),
        (
            "regression",
            ("label_smoothing=0.1",),
            'settings."label_smoothing".` is for targets with one class .* values',
        ),
        ("multi-label", ("label_smoothing=0.1",), "has several labels for each sample. Leave it out"),
        ("classification", ("class_weights=even",), "class_weights: Input should be 'balanced'"),
        ("classification", ("label_smoothing=1",), "label_smoothing: Input should be less than 1"),
    ],
)
def test_refused_before_anything_is_written(tmp_path, task, settings, message):
    path = target_file(tmp_path, task)
    with pytest.raises(UsageError, match=message):
        run(tmp_path / "run", "finetune", SOURCE, path, tmp_path, *settings, **SIZE)
    assert not (tmp_path / "run" / "run.json").exists()


def test_class_weights_beside_a_weight_of_the_benchmark_are_refused(tmp_path):
    target = open_target("digits")
    request = TrainRequest("finetune", SOURCE, None, ("class_weights=balanced",))
    assert request_recipe(request, target).class_weights == "balanced"
    object.__setattr__(target, "manifest", named_manifest("deepsea"))
    with pytest.raises(UsageError, match="loss of the target deepsea has a weight for positive labels, 4"):
        request_recipe(request, target)


def test_the_command_names_its_own_option(tmp_path):
    path = target_file(tmp_path, "regression")
    done = run_in_process(
        "train", "--method=finetune", f"--source={SOURCE}", f"--target={path}", f"--out={tmp_path / 'run'}",
        "--set=class_weights=balanced",
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.strip().endswith(
        "--set class_weights is for classes, and the target regression-image has values to predict. Leave it out."
    )


# The record


def test_options_that_are_off_leave_no_trace_in_a_record(tmp_path):
    defaults = {
        name: field.default
        for model in (Recipe, *STAGES.values())
        for name, field in model.model_fields.items()
        if name in OPTIONS
    }
    assert defaults == OPTIONS
    record = Recipe().to_record()
    assert not OPTIONS.keys() & {*record, *record["stage1"], *record["stage2"]}
    on = Recipe(label_smoothing=0.1, class_weights="balanced")
    record = on.to_record()
    assert (record["label_smoothing"], record["class_weights"]) == (0.1, "balanced")
    assert Recipe.model_validate(record) == on
    path = target_file(tmp_path, "classification", samples=24)
    arguments = (tmp_path / "run", "finetune", SOURCE, path, tmp_path, "stage2.epochs=1")
    run(*arguments, **SIZE)
    with pytest.raises(UsageError, match=r"recipe\.label_smoothing is None, not 0\.1"):
        run(*arguments, "label_smoothing=0.1", resume=True, **SIZE)


def test_a_sweep_may_try_an_option_that_is_off(tmp_path):
    path = target_file(tmp_path, "classification", samples=24)
    done = modgap.train(
        "finetune", SOURCE, path, tmp_path / "run", settings={"stage2.epochs": 1}, input_size=32,
        sweep={"label_smoothing": [0, 0.1]},
    )  # fmt: skip
    assert [trial["state"] for trial in done.record["sweep"]["trials"]] == ["finished"] * 2
