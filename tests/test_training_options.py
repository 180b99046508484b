"""Options of a training: class weights, label smoothing, weight decay and rates by parameter, averaged weights, epochs.

Off by default, they leave every result and every record as it was.
"""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import BCEWithLogitsLoss, CrossEntropyLoss
from torch.optim.optimizer import register_optimizer_step_post_hook

import modgap
from modgap.errors import UsageError
from modgap.sources import open_source
from modgap.targets import named_manifest, open_target
from modgap.training import loop as loops
from modgap.training.loop import average_weights, build_optimizer, run_training_loop
from modgap.training.losses import loss
from modgap.training.methods.l2_sp import AnchoredObjective
from modgap.training.recipe import OPTIONS, STAGES, EmbedderStage, FullStage, Recipe
from modgap.training.train_request import TrainRequest, request_recipe
from modgap.training.trained_model import load_trained_model
from modgap.training.training_data import balanced_class_weights, read_target_data
from tests.commands import run_in_process
from tests.training import run, surrogate_file, target_file, training_of, weights

SOURCE = "random:timm:test_efficientnet"
SIZE = {"input_size": 32}
SHORT = ("stage2.batch_size=8", "stage2.learning_rate=1e-3", "checkpoint_seconds=0", "stage2.decay_epochs=9")
EMA = (*SHORT, "stage2.epochs=3", "stage2.ema_decay=0.8")
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
        ("classification", ("stage2.ema_decay=1",), "ema_decay: Input should be less than 1"),
        ("classification", ("stage2.ema_decay=0",), "ema_decay: Input should be greater than 0"),
        ("classification", ("stage2.encoder_rate_factor=0",), "encoder_rate_factor: Input should be greater than 0"),
        ("classification", ("stage1.encoder_rate_factor=0.1",), "Unknown setting 'stage1.encoder_rate_factor'"),
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


# The optimizer


def groups_of(optimizer, named):
    """Names, weight decay and rate of each group."""
    names = {id(value): name for name, value in named.items()}
    return [
        ([names[id(one)] for one in group["params"]], group["weight_decay"], group["lr"])
        for group in optimizer.param_groups
        if group["params"]
    ]


def test_without_options_all_parameters_are_one_group():
    named = {name: torch.zeros(2, 2, requires_grad=True) for name in ("embedder.a", "encoder.b", "predictor.c")}
    for kind in ("sgd", "adam", "adamw"):
        optimizer = build_optimizer(named, FullStage(optimizer=kind, learning_rate=0.5, weight_decay=0.1))
        assert groups_of(optimizer, named) == [(list(named), 0.1, 0.5)]


def test_norms_and_biases_without_decay_and_rates_of_the_parts():
    shapes = {
        "embedder.proj.weight": (3, 2), "embedder.proj.bias": (3,), "encoder.norm.weight": (3,), "encoder.w": (3, 3),
        "encoder.attention.bias": (1, 3), "predictor.weight": (2, 3), "predictor.scale": (),
    }  # fmt: skip
    named = {name: torch.zeros(shape, requires_grad=True) for name, shape in shapes.items()}
    rates = {"embedder_rate_factor": 10, "encoder_rate_factor": 0.1}
    settings = FullStage(learning_rate=0.5, weight_decay=0.2, decay_norms=False, **rates)
    assert groups_of(build_optimizer(named, settings), named) == [
        (["encoder.w"], 0.2, 0.05),
        (["predictor.weight"], 0.2, 0.5),
        (["embedder.proj.weight"], 0.2, 5.0),
        (["encoder.norm.weight", "encoder.attention.bias"], 0, 0.05),
        (["predictor.scale"], 0, 0.5),
        (["embedder.proj.bias"], 0, 5.0),
    ]
    # A method may take the decay from further parameters.
    groups = groups_of(build_optimizer(named, settings, {"encoder.w"}), named)
    assert groups[2] == (["encoder.norm.weight", "encoder.w", "encoder.attention.bias"], 0, 0.05)
    # In stage 1 a part has no rate of its own.
    stage1 = build_optimizer(named, EmbedderStage(learning_rate=0.5, weight_decay=0.2, decay_norms=False))
    assert [row[1:] for row in groups_of(stage1, named)] == [(0.2, 0.5), (0, 0.5)]


def trained_in_memory(source, path, *settings):
    """A training that has run, with its model and the weights after each update."""
    data = read_target_data(open_target(str(path)))
    training, steps = training_of("finetune", source, data, *settings), []
    hook = register_optimizer_step_post_hook(lambda *_: steps.append(weights(training.model)))
    start = weights(training.model)
    try:
        run_training_loop(training)
    finally:
        hook.remove()
    return training, [start, *steps]


def test_an_update_moves_each_part_by_its_rate(source, tmp_path):
    path = target_file(tmp_path, "classification", samples=24)
    settings = (
        "stage2.optimizer=sgd", "stage2.momentum=0", "stage2.weight_decay=0", "stage2.epochs=1", "stage2.batch_size=99",
        "stage2.warmup_epochs=0", "stage2.decay_epochs=none", "precision=float64", "stage2.gradient_clip=none",
        "stage2.learning_rate=0.5",
    )  # fmt: skip
    factors = {"embedder": 4, "encoder": 0.25, "predictor": 1}
    training, (start, plain) = trained_in_memory(source, path, *settings)
    more = [f"stage2.{part}_rate_factor={factor}" for part, factor in factors.items()]
    _, (_, changed) = trained_in_memory(source, path, *settings, *more)
    moved = dict.fromkeys(factors, 0)
    for name, _ in training.model.named_parameters():
        part = name.partition(".")[0]
        torch.testing.assert_close(changed[name] - start[name], factors[part] * (plain[name] - start[name]))
        moved[part] += not torch.equal(plain[name], start[name])
    assert min(moved.values()) > 0


def test_the_penalty_of_l2_sp_has_the_rate_of_the_encoder(source, tmp_path):
    data = read_target_data(open_target(str(target_file(tmp_path, "classification"))))
    moves = []
    for factor in (1, 0.25):
        training = training_of("l2-sp", source, data, "stage2.anchor=2", f"stage2.encoder_rate_factor={factor}")
        objective = AnchoredObjective(training, training.method.stages[0], 0)
        name = next(iter(objective.anchors))
        value = dict(training.model.named_parameters())[name]
        with torch.no_grad():
            value += 1
            before = value.clone()
            objective.before_step(0.1)
        moves.append(before - value.detach())
    torch.testing.assert_close(moves[0], torch.full_like(moves[0], 0.2), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(moves[1], moves[0] / 4, rtol=1e-4, atol=1e-6)


def test_a_rate_of_a_part_that_is_not_trained_is_a_warning(tmp_path, caplog):
    path = target_file(tmp_path, "classification", samples=24)
    settings = ("stage2.epochs=1", "stage2.encoder_rate_factor=0.1", "stage2.predictor_rate_factor=0.1")
    run(tmp_path / "run", "frozen", SOURCE, path, tmp_path, *settings, **SIZE)
    warned = [record.message for record in caplog.records if "rate factor" in record.message]
    assert warned == ["stage2 trains no parameter of the encoder, so its rate factor changes nothing."]


# Averaged weights


def naive_average(steps, decay):
    """The average of the weights over the updates, by plain loops in double precision; no state before the first."""
    average = {name: value.double() for name, value in steps[0].items()}
    for n, step in enumerate(steps[1:], start=2):
        share = min(decay, n / (n + 9))
        for name, value in step.items():
            if value.is_floating_point():
                average[name] = share * average[name] + (1 - share) * value.double()
            else:
                average[name] = value.double()
    return average


def assert_average(state, steps, decay=0.8):
    expected = naive_average(steps, decay)
    assert state.keys() == expected.keys()
    for name, value in state.items():
        torch.testing.assert_close(value.double(), expected[name], rtol=1e-5, atol=1e-6)


def test_the_average_is_that_of_plain_loops_with_its_batch_statistics(source, tmp_path):
    path = target_file(tmp_path, "classification")
    settings = (*SHORT, "stage2.epochs=4", "stage2.choose=last", "stage2.learning_rate=1e-2")
    plain, steps = trained_in_memory(source, path, *settings)
    training, averaged_steps = trained_in_memory(source, path, *settings, "stage2.ema_decay=0.6")
    # The average changes nothing of the training itself.
    assert all(torch.equal(value, other[name]) for one, other in zip(steps, averaged_steps, strict=True)
               for name, value in one.items())  # fmt: skip
    state = training.model.state_dict()
    # 0.6 is reached at the fourteenth update.
    assert len(steps) - 1 > 14
    assert_average(state, steps[1:], 0.6)
    statistics = [name for name in state if name.endswith("running_var")]
    assert any(not torch.allclose(state[name], plain.model.state_dict()[name]) for name in statistics)


def test_indices_are_copied_and_not_averaged():
    """The average of a whole number with itself could be rounded down."""
    model = torch.nn.Linear(2, 1)
    model.register_buffer("positions", torch.arange(50))
    average = average_weights(model, 0.9)
    for _ in range(5):
        average.update_parameters(model)
    assert torch.equal(average.module.positions, model.positions)


def test_averaged_weights_are_validated_chosen_tested_and_kept(source, tmp_path):
    path = target_file(tmp_path, "classification", samples=80)
    settings = (*EMA, "stage2.keep_epochs=[1, 2, 3]")
    done = run(tmp_path / "run", "finetune", SOURCE, path, tmp_path, *settings, **SIZE)
    training, steps = trained_in_memory(source, path, *settings)
    data, log = training.data, log_of(done.folder)
    for epoch in (1, 2, 3):
        state = load_file(done.folder / "epochs" / f"{epoch:05d}.safetensors")
        assert_average(state, steps[1 : 1 + epoch * log[0]["updates"]])
        training.model.load_state_dict(state)
        assert training.evaluator.error(training.model, data.validation) == log[epoch - 1]["validation_error"]
    result = done.record["result"]
    chosen = load_file(done.folder / "epochs" / f"{result['epoch']:05d}.safetensors")
    whole = load_file(done.weights)
    assert all(torch.equal(whole[name], value) for name, value in chosen.items())
    training.model.load_state_dict(whole)
    assert training.evaluator.error(training.model, data.test) == result["test"]
    predicted = load_trained_model(done.folder).outputs([data.table.samples[row] for row in data.test]).argmax(1)
    errors = predicted != data.table.labels[data.test]
    assert 100 * errors.mean() == pytest.approx(result["test"])


def log_of(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


class StoppedError(Exception):
    """An interruption by a test."""


@pytest.mark.parametrize(
    ("method", "source", "choose"),
    [
        ("finetune", SOURCE, "best"),
        pytest.param("finetune", SOURCE, "last", marks=pytest.mark.long),
        pytest.param("lora", "random:timm:test_vit", "best", marks=pytest.mark.long),
    ],
)
def test_a_resumed_average_ends_in_the_same_bits(tmp_path, monkeypatch, method, source, choose):
    """It is stopped within an epoch, before a checkpoint of that update is written, and again at an end of an epoch."""
    path = target_file(tmp_path, "classification")
    settings = (*EMA, "stage2.epochs=2", f"stage2.choose={choose}")
    plain, updates = loops._StageLoop._step, []

    def apply(self, *arguments):
        updates.append(None)
        if len(updates) in (3, 7):
            raise StoppedError
        plain(self, *arguments)

    whole = run(tmp_path / "whole", method, source, path, tmp_path, *settings, **SIZE)
    with monkeypatch.context() as patch:
        patch.setattr(loops._StageLoop, "_step", apply)
        for _ in range(2):
            with pytest.raises(StoppedError):
                run(tmp_path / "run", method, source, path, tmp_path, *settings, resume=True, **SIZE)
            (newest,) = sorted((tmp_path / "run" / "checkpoints").glob("[0-9]*"))[-1:]
            assert (newest / "average.safetensors").exists()
    done = run(tmp_path / "run", method, source, path, tmp_path, *settings, resume=True, **SIZE)
    assert done.weights.read_bytes() == whole.weights.read_bytes()
    assert log_of(done.folder) == log_of(whole.folder)
    assert done.record["result"]["validation"] == whole.record["result"]["validation"]


def test_more_epochs_continue_the_average(tmp_path):
    path = target_file(tmp_path, "classification")
    arguments = (tmp_path / "run", "finetune", SOURCE, path, tmp_path, *EMA)
    run(*arguments, **SIZE)
    longer = run(*arguments, "stage2.epochs=4", resume=True, **SIZE)
    whole = run(tmp_path / "whole", *arguments[1:], "stage2.epochs=4", **SIZE)
    assert longer.weights.read_bytes() == whole.weights.read_bytes()
    assert log_of(longer.folder) == log_of(whole.folder)


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
    on = Recipe(label_smoothing=0.1, class_weights="balanced", stage2=FullStage(ema_decay=0.9, decay_norms=False))
    record = on.to_record()
    assert (record["label_smoothing"], record["class_weights"]) == (0.1, "balanced")
    assert OPTIONS.keys() & record["stage2"].keys() == {"ema_decay", "decay_norms"}
    assert Recipe.model_validate(record) == on
    path = target_file(tmp_path, "classification", samples=24)
    arguments = (tmp_path / "run", "finetune", SOURCE, path, tmp_path, "stage2.epochs=1")
    run(*arguments, **SIZE)
    with pytest.raises(UsageError, match=r"recipe\.stage2\.ema_decay is None, not 0\.9"):
        run(*arguments, "stage2.ema_decay=0.9", resume=True, **SIZE)


def test_a_sweep_may_try_an_option_that_is_off(tmp_path):
    path = target_file(tmp_path, "classification", samples=24)
    done = modgap.train(
        "finetune", SOURCE, path, tmp_path / "run", settings={"stage2.epochs": 1}, input_size=32,
        sweep={"label_smoothing": [0, 0.1], "stage2.ema_decay": ["none"]},
    )  # fmt: skip
    assert [trial["state"] for trial in done.record["sweep"]["trials"]] == ["finished"] * 2


# A callback after each epoch


def test_a_function_is_called_with_the_line_of_each_epoch(tmp_path):
    path, lines = target_file(tmp_path, "classification"), []
    settings = {
        "stage1.epochs": 1, "stage2.epochs": 2, "stage1.surrogate": surrogate_file(tmp_path), "stage1.batch_size": 8,
        "stage2.batch_size": 8, "stage1.surrogate_batch": 8,
    }  # fmt: skip
    done = modgap.train(
        "mona", "random:timm:test_vit", path, tmp_path / "run", settings=settings, input_size=32,
        on_epoch_end=lines.append,
    )  # fmt: skip
    logged = [json.loads(line) for line in (done.folder / "metrics.jsonl").read_text().splitlines()]
    assert [(line["stage"], line["epoch"]) for line in lines] == [("stage1", 1), ("stage2", 1), ("stage2", 2)]
    totals = [line.pop("total_updates") for line in lines]
    assert lines == logged
    assert totals == list(np.cumsum([line["updates"] for line in logged]))
    assert {"loss", "validation_error", "learning_rate", "seconds"} <= lines[-1].keys()
    assert all(isinstance(value, int | float) for name, value in lines[-1].items() if name != "stage")


def test_an_error_of_the_function_ends_the_training_which_continues_after_that_epoch(tmp_path):
    path, lines = target_file(tmp_path, "classification"), []
    # No checkpoint is due for a long time.
    settings = {"stage2.epochs": 4, "stage2.batch_size": 8, "checkpoint_seconds": 1000}
    arguments = ("finetune", SOURCE, path, tmp_path / "run")

    def stop(line):
        lines.append(line["epoch"])
        if line["epoch"] == 2:
            raise StoppedError

    with pytest.raises(StoppedError):
        modgap.train(*arguments, settings=settings, input_size=32, on_epoch_end=stop)
    done = modgap.train(
        *arguments, settings=settings, input_size=32, resume=True, on_epoch_end=lambda line: lines.append(line["epoch"])
    )
    assert lines == [1, 2, 3, 4]
    whole = modgap.train(*arguments[:3], tmp_path / "whole", settings=settings, input_size=32)
    assert done.weights.read_bytes() == whole.weights.read_bytes()
    assert log_of(done.folder) == log_of(whole.folder)


def test_the_function_sees_the_trials_of_a_sweep(tmp_path):
    path, lines = target_file(tmp_path, "classification", samples=24), []
    modgap.train(
        "finetune", SOURCE, path, tmp_path / "run", settings={"stage2.epochs": 2}, input_size=32,
        sweep={"stage2.learning_rate": [1e-4, 1e-3]}, on_epoch_end=lines.append,
    )  # fmt: skip
    assert [(line["trial"], line["epoch"]) for line in lines] == [(1, 1), (1, 2), (2, 1), (2, 2)]


def test_methods_without_epochs_refuse_the_function(tmp_path):
    with pytest.raises(UsageError, match="`on_epoch_end` logs epochs, and this method has none"):
        modgap.train("baseline", None, "digits", tmp_path / "run", on_epoch_end=print)
