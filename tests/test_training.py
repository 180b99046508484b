"""All methods on every kind of task and source; what each stage trains; the record, the log, and refusals."""

import itertools
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from modgap.errors import InputError, UsageError
from modgap.models import target_model
from modgap.sources import open_source
from modgap.targets import named_manifest, open_target
from modgap.training.batches import BatchFeed, chunks, shuffle_rows
from modgap.training.methods import find_unused_settings, get_method, method_names
from modgap.training.recipe import resolve_recipe
from modgap.training.run_folder import open_run
from modgap.training.training_data import read_target_data
from tests.small_hub import small_hub  # noqa: F401 - fixture
from tests.training import SHORT, TASKS, run, surrogate_file, target_file

IMAGES = ("swin", "vit", "clip", "resnet")


@pytest.fixture(scope="module", name="trained")
def trained_runs(hub, tmp_path_factory):
    """Runs by method, source, task and settings, each made once."""
    folder, saved = tmp_path_factory.mktemp("runs"), {}

    def get(name, source="vit", task="classification", *settings, **options):
        key = (name, source, task, settings, str(options))
        if key not in saved:
            hub(source)
            image = source in IMAGES
            target = target_file(folder, task, image=image)
            surrogate = surrogate_file(folder, image=image)
            saved[key] = run(
                folder / f"run-{len(saved)}", name, f"hf:small/{source}", target, surrogate, *settings, **options
            )
        return saved[key]

    return get


def all_combinations():
    """Each method, task and source.

    `make test` has each method with the small ViT and with one other source, and with one task of the three for each;
    `make test-long` has the others.
    """
    others = [source for source in (*IMAGES, "roberta-mlm") if source != "vit"]
    for (m, name), (t, task), (s, source) in itertools.product(
        enumerate(method_names()), enumerate(TASKS), enumerate(["vit", *others])
    ):
        is_quick = (m + s) % len(TASKS) == t and source in ("vit", others[m % len(others)])
        mark = pytest.mark.slow if is_quick else pytest.mark.long
        yield pytest.param(name, task, source, marks=mark)


@pytest.mark.parametrize(("name", "task", "source"), list(all_combinations()))
def test_all_methods_train_on_all_tasks(trained, name, source, task):
    done = trained(name, source, task)
    result, lines = done.record["result"], log_of(done)
    assert np.isfinite([result["test"], *result["interval"]]).all()
    assert result["interval"][0] <= result["test"] <= result["interval"][1]
    stages = ["stage1", "stage2"] if name in ("emb", "orca", "mona") else ["stage2"]
    assert [line["stage"] for line in lines] == stages
    assert all(np.isfinite(line["loss"]) for line in lines)
    assert (done.folder / "stage1.safetensors").exists() == (len(stages) == 2)


def log_of(done):
    return [json.loads(line) for line in (done.folder / "metrics.jsonl").read_text().splitlines()]


def start_of(source, trained_run):
    """The weights that a run started from."""
    target = open_target(trained_run.record["target"])
    data, method = read_target_data(target), get_method(trained_run.record["method"])
    opened = open_source(f"hf:small/{source}").load(None, head=False)
    return target_model(
        opened,
        np.zeros(data.transform.shape),
        data.output,
        embedder_start=method.embedder_start,
        pretrained_encoder=method.pretrained_encoder,
    )


@pytest.mark.parametrize(
    ("name", "still"),
    [("frozen", lambda n: n.startswith("encoder.")),
     ("fpt", lambda n: n.startswith("encoder.") and "norm" not in n.lower()),
     ("finetune", lambda n: False)],
)  # fmt: skip
def test_only_what_a_method_trains_changes(trained, name, still):
    done = trained(name)
    before = dict(start_of("vit", done).named_parameters())
    after = load_file(done.weights)
    changed = {n for n in before if not torch.equal(before[n], after[n])}
    assert changed == {n for n in before if not still(n)}


@pytest.mark.parametrize("name", ["emb", "mona", "orca"])
def test_first_stage_trains_the_embedder_alone(trained, name):
    done = trained(name, "vit", "classification", "stage2.epochs=0")
    start, end = start_of("vit", done).state_dict(), load_file(done.weights)
    changed = {n.split(".")[0] for n in start if not torch.equal(start[n], end[n])}
    assert changed == {"embedder"}
    saved = load_file(done.folder / "stage1.safetensors")
    assert all(torch.equal(saved[n], end[f"embedder.{n}"]) for n in saved)


def test_predictor_alone_is_trained_beforehand_on_request(trained):
    done = trained("emb", "vit", "classification", "stage1.predictor_epochs=1", "stage1.epochs=0", "stage2.epochs=0")
    start, end = start_of("vit", done).state_dict(), load_file(done.weights)
    assert {n.split(".")[0] for n in start if not torch.equal(start[n], end[n])} == {"predictor"}


@pytest.mark.parametrize("source", ["vit", "resnet", "roberta-mlm"])
def test_mona_without_its_outer_loss_is_emb_bit_for_bit(trained, source):
    first, second = (trained(name, source, "classification", "stage1.lambda=0") for name in ("mona", "emb"))
    one, other = load_file(first.weights), load_file(second.weights)
    assert all(torch.equal(one[n], other[n]) for n in one)
    assert one.keys() == other.keys()


def test_mona_differs_from_emb(trained):
    one, other = (load_file(trained(name).folder / "stage1.safetensors") for name in ("mona", "emb"))
    assert any(not torch.equal(one[n], other[n]) for n in one)


@pytest.mark.parametrize("settings", [
    ("stage1.task_loss=false",), ("stage1.objective=supervised-contrastive",), ("stage1.objective=davies-bouldin",),
    ("stage1.uniform_pairs=all",), ("stage1.inner_steps=2",), ("stage1.route=finite-difference",),
])  # fmt: skip
def test_ablations_of_mona(trained, settings):
    done, plain = trained("mona", "vit", "classification", *settings), trained("mona")
    assert all(np.isfinite([line["outer"], line["mixed_share"]]).all() for line in log_of(done)[:1])
    one, other = (load_file(item.folder / "stage1.safetensors") for item in (done, plain))
    assert any(not torch.equal(one[n], other[n]) for n in one)


@pytest.mark.parametrize("setting", ["precision=bfloat16", "gradient_checkpointing=true", "precision=float64"])
@pytest.mark.parametrize("name", ["mona", "finetune"])
def test_precision_and_checkpointing(trained, name, setting):
    done, plain = trained(name, "vit", "classification", setting), trained(name)
    one, other = load_file(done.weights), load_file(plain.weights)
    distance = max(float((one[n].double() - other[n].double()).abs().max()) for n in one)
    assert distance < (1e-2 if "bfloat16" in setting else 1e-5)


@pytest.mark.parametrize(("source", "name", "warns"), [("vit", "emb", True), ("vit", "finetune", False)])
def test_checkpointing_that_stage_1_cannot_have_is_a_warning(trained, caplog, source, name, warns):
    trained(name, source, "classification", "gradient_checkpointing=true", "stage2.warmup_epochs=0")
    assert ("Gradient checkpointing of this source works in stage 2 alone" in caplog.text) is warns


def test_checkpointing_of_timm_needs_no_warning(tmp_path, caplog):
    data = target_file(tmp_path, "classification"), surrogate_file(tmp_path)
    run(tmp_path / "run", "emb", "random:timm:test_vit", *data, "gradient_checkpointing=true", input_size=32)
    assert "Gradient checkpointing" not in caplog.text


def test_accumulated_batches_make_the_same_update(trained):
    whole = trained("finetune", "vit", "regression", "stage2.batch_size=16")
    parts = trained("finetune", "vit", "regression", "stage2.batch_size=8", "stage2.gradient_accumulation=2")
    one, other = load_file(whole.weights), load_file(parts.weights)
    assert max(float((one[n] - other[n]).abs().max()) for n in one) < 1e-5
    assert whole.record["result"]["updates"] == parts.record["result"]["updates"]


def test_same_seed_same_bits_other_seed_other_bits(trained, hub, tmp_path):
    first = trained("finetune")
    again = run(
        tmp_path / "again",
        "finetune",
        "hf:small/vit",
        first.record["target"],
        tmp_path / "none",
    )
    assert (again.weights).read_bytes() == first.weights.read_bytes()
    other = trained("finetune", "vit", "classification", seed=1)
    assert other.weights.read_bytes() != first.weights.read_bytes()


def test_every_sample_is_used_once_an_epoch():
    rows = np.arange(100, 123)
    plan = chunks(shuffle_rows(rows, seed=0, stage=1, epoch=2), 8)
    assert [len(item) for item in plan] == [8, 8, 7]
    assert sorted(np.concatenate(plan)) == list(rows)
    assert list(plan[0]) != list(chunks(shuffle_rows(rows, 0, 1, 3), 8)[0])


def test_protocol_of_orca_chooses_on_the_test(trained):
    done, honest = trained("finetune", "vit", "classification", protocol="orca"), trained("finetune")
    result = done.record["result"]
    assert result["validation"] == result["test"]
    assert "test error" in result["chosen_by"]
    assert done.record["samples"]["train"] == sum(honest.record["samples"][n] for n in ("train", "validation"))


def test_protocol_of_labeled_samples_trains_on_all_and_chooses_nothing(trained):
    done = trained("finetune", "vit", "classification", "stage2.choose=last", protocol="labeled")
    honest = trained("finetune").record["samples"]
    assert done.record["samples"] == {**honest, "train": honest["train"] + honest["validation"], "validation": 0}
    result = done.record["result"]
    assert (result["validation"], result["chosen_by"]) == (None, "last epoch")
    assert result["epoch"] == done.record["recipe"]["stage2"]["epochs"]
    assert all("validation_error" not in line for line in log_of(done))
    with pytest.raises(UsageError, match=r"so that none choose the epoch. Pass `settings=.*choose.*last"):
        trained("finetune", "vit", "classification", protocol="labeled")
    with pytest.raises(UsageError, match=r"stage2.patience.*none"):
        trained("finetune", "vit", "classification", "stage2.choose=last", "stage2.patience=2", protocol="labeled")


def test_best_epoch_is_the_one_of_least_validation_error(trained):
    done = trained("finetune", "vit", "classification", "stage2.epochs=6", "stage2.learning_rate=1e-2")
    errors = [line["validation_error"] for line in log_of(done)]
    result = done.record["result"]
    assert result["validation"] == min(errors)
    assert result["epoch"] == 1 + errors.index(min(errors))


def test_patience_ends_the_training(trained):
    settings = ("stage2.epochs=50", "stage2.patience=2", "stage2.learning_rate=1e-9")
    assert len(log_of(trained("finetune", "vit", "classification", *settings))) == 3


def test_weights_of_chosen_epochs_are_kept(trained):
    settings = ("stage2.epochs=3", "stage2.keep_epochs=[1, 3]", "stage2.choose=last")
    done = trained("finetune", "vit", "classification", *settings)
    saved = sorted(path.name for path in (done.folder / "epochs").iterdir())
    assert saved == ["00001.safetensors", "00003.safetensors"]
    last, whole = load_file(done.folder / "epochs" / saved[1]), load_file(done.weights)
    assert all(torch.equal(last[n], whole[n]) for n in whole)


def test_images_are_shifted_and_mirrored_by_seed_and_epoch(tmp_path):
    data = read_target_data(open_target(str(target_file(tmp_path, "classification"))))
    feed = BatchFeed(data, 0, torch.device("cpu"), torch.float32, "crop-flip")
    plain = BatchFeed(data, 0, torch.device("cpu"), torch.float32)
    rows = [data.train[:12]]
    first, again, later = (feed.load(rows, 0, epoch)[0].x for epoch in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, later)
    assert first.shape == plain.load(rows, 0, 0)[0].x.shape
    # An image is moved by at most an eighth of its size, so its middle is found in the original or its mirror.
    for moved, image in zip(first, plain.load(rows, 0, 0)[0].x, strict=True):
        places = [(flip, top, left) for flip in (image, image.flip(-1)) for top in range(3) for left in range(3)]
        assert any(
            torch.allclose(moved[:, 1:11, 1:9], item[:, top : top + 10, left : left + 8], atol=1e-5)
            for item, top, left in places
        )


def test_recipes_come_from_manifest_method_and_user():
    manifest = named_manifest("ninapro")
    recipe = resolve_recipe(manifest)
    assert recipe.stage2.learning_rate == manifest.training.learning_rate
    assert recipe.stage2.epochs == manifest.training.epochs
    assert recipe.stage1.weight == 0.4
    assert recipe.stage1.epochs == 10
    aligned = resolve_recipe(manifest, get_method("orca").stage1_defaults(manifest))
    assert aligned.stage1.epochs == manifest.training.stage1_epochs
    assert aligned.stage1.learning_rate == pytest.approx(manifest.training.learning_rate * 10)
    plain = named_manifest("digits")
    assert resolve_recipe(plain, get_method("orca").stage1_defaults(plain)).stage1.learning_rate == pytest.approx(1e-3)
    changed = resolve_recipe(manifest, {}, ["stage1.lambda=2", "stage2.optimizer=sgd", "stage2.gradient_clip=none"])
    assert (changed.stage1.weight, changed.stage2.optimizer, changed.stage2.gradient_clip) == (2, "sgd", None)


def test_the_mixed_product_is_exact_by_default(trained):
    record = trained("mona", "vit").record
    assert record["recipe"]["stage1"]["route"] == "exact"
    assert record["recipe_conversion"] == {}


@pytest.mark.parametrize(
    ("setting", "message"),
    [("stage1.epoch=3", "Did you mean stage1.epochs"), ("stage1.epochs", "KEY=VALUE"), ("stage3.x=1", "Unknown"),
     ("stage1.epochs=-1", "greater than or equal to 0"), ("stage2.optimizer=lion", "'adam', 'adamw' or 'sgd'"),
     ("stage1.route=magic", "'exact' or 'finite-difference'"), ("stage2.learning_rate=nan", "finite")],
)  # fmt: skip
def test_settings_that_do_not_fit_are_refused(setting, message):
    with pytest.raises(UsageError, match=message.replace(".", r"\.")):
        resolve_recipe(named_manifest("digits"), {}, [setting])


@pytest.mark.parametrize(
    ("name", "unused"),
    [("finetune", ["stage1.lambda", "stage1.epochs"]), ("emb", ["stage1.lambda"]), ("mona", []),
     ("orca", ["stage1.lambda"])],
)  # fmt: skip
def test_settings_that_a_method_ignores_are_found(name, unused):
    overrides = ["stage1.lambda=2", "stage1.epochs=1", "stage2.epochs=1", "precision=float32"]
    assert find_unused_settings(overrides, get_method(name)) == unused


def test_nan_loss_stops_the_run(hub, tmp_path):
    hub("vit")
    target = target_file(tmp_path, "classification")
    settings = ("stage2.learning_rate=1e30", "stage2.epochs=5", "stage2.gradient_clip=none", "checkpoint_seconds=0")
    with pytest.raises(InputError, match=r"NaN or infinite in stage2, epoch .*last checkpoint is .*learning_rate"):
        run(tmp_path / "run", "finetune", "hf:small/vit", target, tmp_path, *settings)
    assert not open_run(tmp_path / "run").finished


def test_folder_with_other_files_is_not_written_to(hub, tmp_path, trained):
    hub("vit")
    target = target_file(tmp_path, "classification")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("mine")
    with pytest.raises(UsageError, match="empty folder"):
        run(tmp_path / "notes", "finetune", "hf:small/vit", target, tmp_path)
    done = trained("finetune")
    with pytest.raises(UsageError, match="Pass `resume=True` to continue"):
        run(done.folder, "finetune", "hf:small/vit", done.record["target"], tmp_path)
    with pytest.raises(UsageError, match="seed is 0, not 5"):
        run(done.folder, "finetune", "hf:small/vit", done.record["target"], tmp_path / "none", seed=5, resume=True)


def test_finished_run_is_not_trained_again(trained, tmp_path):
    done = trained("finetune")
    state = done.weights.stat().st_mtime_ns
    surrogate = done.record["recipe"]["stage1"]["surrogate"]
    again = run(done.folder, "finetune", "hf:small/vit", done.record["target"], surrogate, resume=True)
    assert again.record["result"] == open_run(done.folder).record["result"]
    assert done.weights.stat().st_mtime_ns == state


def test_short_settings_are_what_the_runs_have(trained):
    recipe = trained("mona").record["recipe"]
    for setting in SHORT:
        key, _, value = setting.partition("=")
        stage, name = key.split(".")
        assert recipe[stage][name] == int(value)
