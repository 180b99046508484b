"""`modgap train`, `methods` and `discrepancy --embedder` as a user meets them: processes, exit codes, output."""

import re
import sys

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from modgap.api.discrepancy import measure
from modgap.errors import InputError, UsageError
from modgap.storage.digests import file_digest
from modgap.storage.json_records import read_json
from modgap.targets import CustomData
from modgap.training.methods import get_method, method_names
from modgap.training.run_folder import open_run, write_record
from tests.small_hub import small_hub  # noqa: F401 - fixture
from tests.test_cli import refused, strict
from tests.training import NOUNS, run, surrogate_file, target_file

VIT = "random:timm:test_vit"
SOURCE = ("--source", VIT, "--input-size", "32")
SHORT = ("--set", "stage1.epochs=1", "--set", "stage2.epochs=2")
QUICK = {"trials": 200, "permutations": 0, "splits": 2}


@pytest.fixture(scope="module", name="data")
def small_data(tmp_path_factory):
    """Images in four classes, and a surrogate that sources of images take."""
    folder = tmp_path_factory.mktemp("data")
    return target_file(folder, "classification"), surrogate_file(folder)


@pytest.fixture(scope="module", name="trained")
def trained_runs(data, tmp_path_factory):
    """A short run of each method that is asked for, made once; not to be written to."""
    folder, saved = tmp_path_factory.mktemp("runs"), {}

    def get(name, *settings, **options):
        key = (name, settings, str(options))
        if key not in saved:
            run_options = {"input_size": 32, **options}
            saved[key] = run(folder / str(len(saved)), name, VIT, *data, *settings, **run_options)
        return saved[key]

    return get


def copied(folder, run_folder):
    """A copy of a run, to be damaged."""
    folder.mkdir()
    for path in run_folder.iterdir():
        if path.is_file():
            (folder / path.name).write_bytes(path.read_bytes())
    return folder


# modgap train


def test_result_record_and_resuming_a_finished_run(modgap, data, tmp_path):
    command = ("train", "--method", "mona", *SOURCE, "--target", data[0], "--out", tmp_path / "run", *SHORT,
               "--set", f"stage1.surrogate={data[1]}", "--set", "stage2.batch_size=16")  # fmt: skip
    done = modgap(*command)
    assert done.returncode == 0, done.stderr
    logged = done.stderr.splitlines()
    assert re.fullmatch(r"modgap: stage1 begins: 1 epoch, [\d,]+ trained parameters\.", logged[0])
    assert logged[1].startswith("modgap: stage1 epoch 1 of 1: loss ")
    # A slow machine logs how far it is too.
    assert re.search(r", validation error [\d.]+ %$", [line for line in logged if " epoch " in line][-1])
    lines = done.stdout.splitlines()
    assert lines[0] == f"How good is mona from {VIT} on {data[0]}?"
    assert re.fullmatch(r"The test 0-1 error is [\d.]+ % \(95 % CI [\d.]+ to [\d.]+\)\. Lower is better\.", lines[3])
    assert f"Results are in {tmp_path / 'run'}." in lines
    assert lines[-1].endswith(f"modgap distortion --source {VIT} --run {tmp_path / 'run'} --input-size 32")
    files = {path.name for path in (tmp_path / "run").iterdir()}
    assert files == {
        "run.json",
        "metrics.jsonl",
        "model.safetensors",
        "samples.npz",
        "stage1.safetensors",
        "checkpoints",
    }

    weights = (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns
    again = modgap(*command, "--resume", "--json")
    assert (again.returncode, again.stderr) == (0, "")
    record = strict(again.stdout)
    assert record == read_json(tmp_path / "run" / "run.json")
    assert (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns == weights
    assert list(record) == [
        "schema", "kind", "method", "source", "target", "protocol", "seed", "limit", "input_size", "recipe",
        "recipe_conversion", "samples",
        "inputs", "data", "output", "provenance", "environment", "result", "answer", "files",
    ]  # fmt: skip
    assert list(record["result"]) == [
        "metric", "unit", "test", "interval", "no_interval", "left_out", "no_sample_errors", "confusion",
        "constant_error", "chance_p",
        "validation", "epoch",
        "chosen_by", "updates", "seconds",
    ]  # fmt: skip
    assert record["result"]["updates"] == 1 + 2 * 2
    refused(modgap(*command), 2, "Pass --resume to continue it")
    refused(modgap(*command, "--resume", "--seed", 3), 2, "other settings: seed is 0, not 3. Repeat the settings")


def test_orca_protocol_is_reported_with_the_result(modgap, data, tmp_path):
    command = ("train", "--method", "finetune", *SOURCE, "--target", data[0], *SHORT[2:], "--quiet")
    done = modgap(*command, "--out", tmp_path / "orca", "--protocol", "orca")
    assert (done.returncode, done.stderr) == (0, "")
    assert "With --protocol orca the test samples chose the epoch" in done.stdout
    assert "(lowest test error, as in ORCA)" in done.stdout
    honest = modgap(*command, "--out", tmp_path / "validation")
    assert "(lowest validation error)" in honest.stdout
    assert "ORCA" not in honest.stdout
    refused(modgap("compare", tmp_path / "orca", tmp_path / "validation"), 1, "different protocol: orca and validation")
    named = modgap("compare", f"finetune={tmp_path / 'validation'}", tmp_path / "validation")
    assert "2 systems by test error rate, " in named.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--method", "monna"], 2, "Unknown method 'monna'. Did you mean mona?"),
        (["--set", "stage1.lamda=2"], 2, "Unknown setting 'stage1.lamda'. Did you mean stage1.lambda"),
        (["--set", "lambda=2"], 2, "Unknown setting 'lambda'. Did you mean stage1.lambda?"),
        (["--set", "stage1.epochs"], 2, "--set 'stage1.epochs' is not of the form KEY=VALUE. Pass for example --set"),
        (["--set", "stage2.epochs=many"], 2, "stage2.epochs: Input should be a valid integer"),
        (["--set", "stage1.inner_steps=2", "--set", "stage1.route=finite-difference"], 2, "needs stage1.route=exact"),
        (["--limit", "3"], 2, "expected a limit of at least 4, one sample for each class, got 3"),
        (["--seed", "-1"], 2, "--seed is -1, but it must be at least 0."),
        (["--seed", "9" * 30], 2, "Expected an integer below 2**62"),
        (["--target", "TEXTS"], 2, "trains an embedder first, and texts have"),
        (["--protocol", "mine"], 2, "'mine' is not one of"),
        (["--device", "tpu"], 2, "Available devices: "),
        (["--source", "random:timm:test_vitt"], 2, "test_vit"),
        (["--target", "digts"], 2, "Did you mean digits"),
        (["--target", "gone.npz"], 1, "There is no file gone.npz."),
        (["--set", "stage2.augmentation=crop-flip", "--target", "SERIES", "--kind", "series"], 2, "is for images"),
        (["--set", "stage1.surrogate=none"], 2, "Name a target or your own data, with --set stage1.surrogate"),
        (["--set", "stage1.surrogate=SERIES"], 2, "--kind"),
    ],
)
def test_invalid_requests_print_one_line_and_create_no_folder(modgap, data, tmp_path, arguments, code, message):
    series = np.random.default_rng(0).normal(size=(40, 2, 24))
    np.savez(tmp_path / "series.npz", x=series, y=np.arange(40) % 4)
    (tmp_path / "texts.csv").write_text("text,label\n" + "".join(f"word {i},{i % 2}\n" for i in range(40)))
    files = {"SERIES": "series.npz", "TEXTS": "texts.csv"}
    extra = [re.sub("SERIES|TEXTS", lambda match: str(tmp_path / files[match[0]]), argument) for argument in arguments]
    usual = {"--method": "mona", "--source": VIT, "--input-size": "32", "--target": data[0]}
    usual = [part for pair in usual.items() if pair[0] not in extra for part in pair]
    surrogate = [] if "surrogate" in "".join(extra) else ["--set", f"stage1.surrogate={data[1]}"]
    refused(modgap("train", *usual, *surrogate, *extra, "--out", tmp_path / "run"), code, message)
    assert not (tmp_path / "run").exists()


def test_folder_with_other_files_is_rejected_before_loading(modgap, tmp_path):
    """The target is not even there."""
    (tmp_path / "notes.txt").write_text("mine")
    command = ("train", "--method", "finetune", *SOURCE, "--target", "gone.npz", "--out")
    refused(modgap(*command, tmp_path), 2, "contains other files. Expected a new or empty folder. Pass another --out")
    refused(modgap(*command, tmp_path / "notes.txt"), 2, "is a file. Expected a folder for the run. Pass another --out")
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_missing_packages_are_named_with_their_command(modgap, data, tmp_path, monkeypatch):
    start = ["train", *SOURCE, "--target", str(data[0]), "--set", f"stage1.surrogate={data[1]}"]
    board = ["--method", "finetune", "--tensorboard"]
    for package, more, said in (
        ("ot", ["--method", "orca"], "modgap[ot]"),
        ("tensorboard", board, "modgap[tensorboard]"),
    ):
        monkeypatch.setitem(sys.modules, package, None)
        done = modgap(*start, *more, "--out", tmp_path / package)
        refused(done, 2, f"pip install '{said}'")
        assert not (tmp_path / package).exists()


def test_missing_surrogate_is_distinguished_from_the_target(modgap, data, tmp_path):
    done = modgap("train", "--method", "mona", *SOURCE, "--target", data[0], "--out", tmp_path / "run", "--set",
                  "stage1.surrogate=cifar10")  # fmt: skip
    refused(
        done, 1, "cifar10, the surrogate of stage 1. Register its data with: modgap data path cifar10 --data-dir DIR."
    )
    assert not (tmp_path / "run").exists()


def test_photos_of_different_sizes(modgap, tmp_path):
    rng = np.random.default_rng(0)
    for number in range(24):
        path = tmp_path / "photos" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        height, width = rng.integers(20, 60, 2)
        Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8)).save(path)
    done = modgap("train", "--method", "finetune", *SOURCE, "--target", tmp_path / "photos", "--out", tmp_path / "run",
                  *SHORT, "--json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert strict(done.stdout)["inputs"]["shape"] == [3, 32, 32]


# modgap methods


def test_methods_are_listed_and_shown(modgap):
    listed = modgap("methods")
    assert listed.returncode == 0
    rows = listed.stdout.splitlines()[3 : 3 + len(method_names())]
    assert [line.split()[0] for line in rows] == method_names()
    assert "linear-probe, and baseline" in listed.stdout
    shown = modgap("methods", "mona")
    assert "stage1.lambda" in shown.stdout
    assert "0.4" in shown.stdout
    assert "stage1." not in modgap("methods", "finetune").stdout
    orca_rows = [line.split() for line in modgap("methods", "orca").stdout.splitlines()]
    assert ["stage1.epochs", "60"] in [row[:2] for row in orca_rows]
    assert not any(row[:1] == ["stage1.lambda"] for row in orca_rows)
    refused(modgap("methods", "finetun"), 2, "Did you mean finetune")


# modgap discrepancy --embedder


def embedded(modgap, data, run_folder, *more):
    options = ("--embedder", run_folder, "--trials", 200, "--permutations", 0)
    return modgap("discrepancy", *SOURCE, "--target", data[0], *options, *more)


def after(data, folder, **options):
    """The same in this process."""
    source, target = options.pop("source", VIT), options.pop("target", str(data[0]))
    return measure(source, target, embedder=folder, **QUICK, **{"input_size": 32, **options})


def test_discrepancy_with_the_embedder_of_a_run(modgap, data, trained):
    done = embedded(modgap, data, trained("mona").folder, "--json")
    assert done.returncode == 0, done.stderr
    record = strict(done.stdout)
    samples = trained("mona").record["samples"]
    assert record["n_samples"] == samples["test"] == 8
    assert record["n_source_classes"] == 1000
    embedder_record = record["provenance"]["embedding"]["embedder"]
    assert (embedder_record["method"], embedder_record["recipe"]) == ("mona", trained("mona").record["recipe"])
    table = embedded(modgap, data, trained("mona").folder)
    assert "8 samples, 4 target classes, 1,000 source classes, " in table.stdout


@pytest.mark.parametrize("name", ["emb", "mona", "orca"])
def test_each_method_with_a_first_stage_has_an_embedder_to_measure_with(data, trained, name):
    report = after(data, trained(name).folder)
    assert report.result.n_samples == 8
    assert 0 <= report.result.estimates["search"].solution.value <= 0.75


def test_cache_is_keyed_by_the_weights(data, trained, tmp_path, own_cache):
    first = trained("mona")
    after(data, first.folder)
    after(data, first.folder)
    assert len(list(own_cache.glob("logits/*/*.safetensors"))) == 1
    after(data, trained("mona", "stage1.epochs=3").folder)
    assert len(list(own_cache.glob("logits/*/*.safetensors"))) == 2
    moved = copied(tmp_path / "moved", first.folder)
    after(data, moved)
    assert len(list(own_cache.glob("logits/*/*.safetensors"))) == 2
    changed = {name: tensor + 1 for name, tensor in load_file(moved / "stage1.safetensors").items()}
    save_file(changed, moved / "stage1.safetensors")
    write_record(moved, open_run(moved).record)
    after(data, moved)
    assert len(list(own_cache.glob("logits/*/*.safetensors"))) == 3


def test_samples_beyond_the_limit_count_as_unseen(data, trained):
    done = trained("emb", limit=6)
    seen = done.record["samples"]["train"] + done.record["samples"]["validation"]
    report = after(data, done.folder)
    assert report.result.n_samples == 40 - seen > 8


def test_samples_of_a_group_that_was_seen_are_not_unseen(data, tmp_path):
    """Twenty records of four windows each; a limit takes some windows of a record."""
    arrays = np.load(data[0])
    x, record = np.repeat(arrays["x"][:20], 4, axis=0), np.repeat(np.arange(20), 4)
    np.savez(tmp_path / "windows.npz", x=x, y=record % 4, groups=record)
    done = run(
        tmp_path / "run", "emb", VIT, tmp_path / "windows.npz", data[1], input_size=32, limit=16
    )  # fmt: skip
    report = after(data, done.folder, target=str(tmp_path / "windows.npz"))
    whole = run(tmp_path / "whole", "emb", VIT, tmp_path / "windows.npz", data[1], input_size=32)
    untouched = whole.record["samples"]["test"]
    assert done.record["samples"]["train"] == 16
    assert untouched <= report.result.n_samples < 80 - 16 - done.record["samples"]["validation"]
    assert report.result.n_samples % 4 == 0


def test_embedder_native_is_the_default(modgap, data, trained):
    options = ("--target", data[0], "--trials", 200, "--permutations", 0, "--json")
    plain = modgap("discrepancy", *SOURCE, *options)
    native = modgap("discrepancy", *SOURCE, *options, "--embedder", "native")
    assert strict(plain.stdout)["estimates"] == strict(native.stdout)["estimates"]
    assert strict(plain.stdout)["n_samples"] == 40


def test_embedder_refusals_of_the_command(modgap, data, trained, tmp_path):
    refused(embedded(modgap, data, tmp_path / "none"), 1, "Expected a folder that modgap train wrote")
    refused(embedded(modgap, data, data[0]), 1, "Expected a folder that modgap train wrote")
    refused(embedded(modgap, data, trained("mona").folder, "--representation", "fold"), 2, "does not apply to")
    refused(embedded(modgap, data, trained("mona").folder, "--split", "train"), 1, "embedder was not trained on")


@pytest.mark.parametrize("name", method_names())
def test_embedder_of_a_run_of_every_method(data, trained, caplog, name):
    caplog.set_level("INFO", logger="modgap")
    done = trained(name)
    report = after(data, done.folder)
    assert report.result.n_samples == 8
    together = "was trained together with the encoder" in caplog.text
    assert together == (not get_method(name).has_embedder_stage)
    # The weights are those of the run's own file.
    folder = done.folder / ("model.safetensors" if together else "stage1.safetensors")
    assert report.provenance["embedding"]["embedder"]["weights"] == file_digest(folder)


def test_embedder_of_another_source_target_or_size(data, trained, tmp_path):
    folder = trained("mona").folder
    with pytest.raises(UsageError, match=f"another source. Pass `source=.{VIT}"):
        after(data, folder, source="random:timm:test_efficientnet")
    other = target_file(tmp_path, "classification", samples=44)
    with pytest.raises(UsageError, match=f"another target. Pass `target=.{data[0]}"):
        after(data, folder, target=str(other))
    with pytest.raises(UsageError, match="Pass `input_size=32`"):
        after(data, folder, input_size=None)
    with pytest.raises(UsageError, match="have changed since"):
        after(data, folder, custom_data=CustomData(kind="series", x_name="x"))


def test_data_that_changed_since_the_run_is_refused(data, tmp_path):
    target = target_file(tmp_path, "classification")
    done = run(tmp_path / "run", "emb", VIT, target, data[1], input_size=32)
    report = after(data, done.folder, target=str(target.parent / "." / target.name))
    assert report.result.n_samples == 8
    arrays = dict(np.load(target))
    np.savez(target, x=arrays["x"][::-1], y=arrays["y"][::-1])
    with pytest.raises(UsageError, match="have changed since"):
        after(data, done.folder, target=str(target))


def test_weights_of_another_model_under_the_same_name_are_refused(data, tmp_path):
    import timm

    for number in range(2):
        model = timm.create_model("test_vit")
        save_file(
            {name: value + number for name, value in model.state_dict().items()}, tmp_path / f"{number}.safetensors"
        )
    options = {"weights": str(tmp_path / "0.safetensors"), "input_size": 32}
    done = run(tmp_path / "run", "emb", "timm:test_vit", *data, **options)
    assert after(data, done.folder, source="timm:test_vit", weights=options["weights"]).result.n_samples == 8
    with pytest.raises(UsageError, match="started from other weights of timm:test_vit"):
        after(data, done.folder, source="timm:test_vit", weights=str(tmp_path / "1.safetensors"))


def test_damaged_or_swapped_embedder_is_refused(data, trained, tmp_path):
    folder = copied(tmp_path / "damaged", trained("mona").folder)
    whole = (folder / "stage1.safetensors").read_bytes()
    (folder / "stage1.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"stage1\.safetensors does not fit its checksum"):
        after(data, folder)
    save_file({"weight": load_file(trained("mona").weights)["predictor.linear.weight"]}, folder / "stage1.safetensors")
    write_record(folder, open_run(folder).record)
    with pytest.raises(InputError, match="does not match the source and target"):
        after(data, folder)
    (folder / "stage1.safetensors").unlink()
    with pytest.raises(InputError, match="no stage-1 embedder"):
        after(data, folder)


def test_record_changed_by_hand_is_refused(data, trained, tmp_path):
    folder = copied(tmp_path / "changed", trained("mona").folder)
    record = open_run(folder).record
    for change, message in (({"recipe": None}, "lacks recipe"), ({"schema": 9}, "written by another version")):
        altered = {name: value for name, value in (record | change).items() if change.get(name, True) is not None}
        write_record(folder, altered)
        with pytest.raises(InputError, match=message):
            after(data, folder)
    (folder / "run.json").write_text("{")
    with pytest.raises(InputError, match="Cannot read"):
        open_run(folder)


def test_run_by_the_protocol_of_orca_has_seen_all(data, trained):
    with pytest.raises(InputError, match=r"With `protocol=.orca.` the test split chose the epoch"):
        after(data, trained("emb", protocol="orca").folder)


def test_bare_encoder_of_text_with_a_probes_head(hub, tmp_path):
    """Before and after: the same encoder and head, words or the run's embedder before it."""
    hub("bert-bare")
    rows = [f"the {NOUNS[i % 4]} sat on a {NOUNS[i // 4 % 4]},{NOUNS[i % 4]}" for i in range(80)]
    surrogate = tmp_path / "words.csv"
    surrogate.write_text("\n".join(["text,label", *rows]) + "\n")
    target = target_file(tmp_path, "classification", image=False, samples=80)
    done = run(tmp_path / "run", "mona", "hf:small/bert-bare", target, surrogate)
    options = {"custom_data": CustomData(kind="series"), "head": f"probe:{surrogate}", **QUICK}
    report = measure("hf:small/bert-bare", str(target), embedder=done.folder, **options)
    assert report.result.n_samples == done.record["samples"]["test"]
    assert report.result.n_source_classes == 4
    assert sorted(report.source_classes) == sorted(NOUNS)
    assert report.provenance["head"]["surrogate"] == "words"
