"""Plug-ins of other packages: scores, methods, readers and manifests, good ones and broken ones."""

import hashlib
import json
import subprocess
import sys
import sysconfig
import tomllib
from dataclasses import replace

import numpy as np
import pytest

from modgap.errors import InputError, UsageError
from modgap.inputs import plugin_representations
from modgap.ranking.scores import SCORES
from modgap.targets import named_manifest, named_manifests, readers
from modgap.targets.download import clients
from modgap.targets.manifest import Manifest
from modgap.targets.named_manifests import _plugin_manifests
from modgap.targets.readers import get_reader
from modgap.testing import check_client, check_manifest
from modgap.training.methods import METHODS
from modgap.zoo import zoo_names
from tests.commands import run_in_process
from tests.fixtures.archives import write_tar

PYPROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "brainpkg"
version = "2.1"

[project.entry-points."modgap.scores"]
mass = "brainpkg.parts:mass"
leep = "brainpkg.parts:mass"
shapeless = "brainpkg.parts:shapeless"
renamed = "brainpkg.parts:mass"
unimportable = "brainpkg.missing:mass"

[project.entry-points."modgap.representations"]
plot = "brainpkg.parts:plot"
hum = "brainpkg.parts:hum"
fold = "brainpkg.parts:plot"
odd = "brainpkg.parts:gentle"
failing = "brainpkg.parts:failing"

[project.entry-points."modgap.methods"]
gentle = "brainpkg.parts:gentle"
mona = "brainpkg.parts:gentle"
wrong = "brainpkg.parts:mass"

[project.entry-points."modgap.readers"]
halves = "brainpkg.halves"
csv = "brainpkg.halves"
unreadable = "brainpkg.parts"

[project.entry-points."modgap.manifests"]
brainpkg = "brainpkg.manifests"
absent = "brainpkg.nowhere"

[project.entry-points."modgap.clients"]
brainbank = "brainpkg.bank:client"
strange = "brainpkg.halves"
"""
PARTS = """
from dataclasses import replace

import numpy as np

from modgap.inputs.plugin_representations import Representation
from modgap.ranking.score import Score
from modgap.training.method import Objective, full_stage
from modgap.training.methods.fine_tuning import FINETUNE as METHOD


class Indifference(Objective):
    def loss(self, outputs, y, mask):
        return 0 * super().loss(outputs, y, mask)


mass = Score(
    name="mass",
    title="number of values of a feature",
    reference="none",
    unit="",
    higher_is_better=True,
    default=False,
    compute=lambda outputs, seed: float(outputs.features.shape[1]),
)
shapeless = 3
gentle = replace(METHOD, name="gentle", title="fine-tuning under another name",
                 stages=(full_stage(objective=Indifference),))


def draw(sample, rates):
    heights = np.linspace(sample.max(), sample.min(), 28)[:, None]
    columns = np.linspace(0, sample.shape[1] - 1, 28).astype(int)
    return [(sample[:1, columns] >= heights).astype(np.float32)[None]]


plot = Representation("plot", "filled line plot", "none", "series", "image", draw)
hum = Representation(
    "hum", "tone whose loudness is the series", "none", "series", "audio",
    lambda sample, rates: [np.interp(np.arange(16_000), np.linspace(0, 15_999, sample.shape[1]), sample[0])
                           * np.sin(np.arange(16_000) * 440 * 6.2832 / rates.source)],
)
failing = replace(plot, name="failing", convert=lambda sample, rates: [sample])
"""
HALVES = """
import numpy as np

from modgap.targets.samples import ArraySamples, Table


def read(files, *, size):
    labels = np.arange(size) % 2
    series = np.sin(np.arange(30) * (0.3 + 0.4 * labels[:, None])).astype(np.float32)
    return Table(ArraySamples(series[:, None]), labels, ["slow", "fast"])
"""
BANK = """
import os
import shutil
from pathlib import Path

from modgap.errors import InputError
from modgap.targets.download.clients import Client, PackagedFile


def describe(artifact, files):
    if not isinstance(artifact.get("record"), int) or set(artifact) - {"client", "record", "file", "size", "sha256"}:
        raise ValueError("Expected a number as the record")
    return PackagedFile(
        "brainbank", f"record {artifact['record']}", artifact["file"], f"packages/brainbank/{artifact['record']}",
        artifact["size"], artifact["sha256"], tuple(file.path for file in files),
        ("brainbank", "get", str(artifact["record"])),
    )


def download(packaged, folder, final_folder):
    return Path(shutil.copy(os.environ["BRAINBANK"], folder / packaged.file))


client = Client("brainbank", describe, download)
"""
SCANS = """
schema = 1
name = "scans"
title = "Scans in a bank"
modality = "test"
task = "classification"
classes = ["0", "1"]
input.kind = "table"
reader = {{ name = "table", options = {{ shape = [1, 2] }} }}
license = "MIT"
citation = "none"
files = [{{ role = "data", path = "scans.csv" }}]

[artifact]
client = "{client}"
record = 4711
file = "scans.tar"
size = {size}
sha256 = "{sha256}"
"""
MANIFEST = """
schema = 1
name = "{name}"
title = "Two frequencies"
modality = "test"
task = "classification"
files = []

[input]
kind = "series"

[reader]
name = "{reader}"
options = {{ size = 24 }}
"""


INSTALL = ("install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The folder of the package's source."""
    pytest.importorskip("hatchling")
    project = tmp_path_factory.mktemp("project")
    package = project / "brainpkg"
    (package / "manifests").mkdir(parents=True)
    (project / "pyproject.toml").write_text(PYPROJECT)
    (package / "__init__.py").write_text("raise SystemExit('manifests are found without an import')\n")
    for name, text in {"parts.py": PARTS, "halves.py": HALVES, "bank.py": BANK}.items():
        (package / name).write_text(text)
    for name, reader in {"halves": "halves", "digits": "halves", "broken": "unreadable"}.items():
        (package / "manifests" / f"{name}.toml").write_text(MANIFEST.format(name=name, reader=reader))
    write_tar(project / "scans.tar", {"scans.csv": b"1,2,0\n4,5,1\n" * 10, "other": b"-"})
    (package / "manifests" / "scans.toml").write_text(scans(project / "scans.tar"))
    return project


def scans(archive, client="brainbank"):
    """Return a manifest with the file of a package."""
    content = archive.read_bytes()
    return SCANS.format(client=client, size=len(content), sha256=hashlib.sha256(content).hexdigest())


@pytest.fixture(scope="module")
def site(project, tmp_path_factory):
    """A folder into which the package is installed as pip does it."""
    folder = tmp_path_factory.mktemp("site")
    install = [sys.executable, "-m", "pip", *INSTALL, "--target", str(folder), str(project)]
    subprocess.run(install, check=True, capture_output=True)
    return folder


def forget_plugins():
    """Let the registries look for plug-ins again."""
    registries = (plugin_representations._entries, plugin_representations._load)
    for cached in (_plugin_manifests, clients._plugins, *registries):
        cached.cache_clear()
    for registry in (SCORES, METHODS):
        registry.forget()
    for name in [name for name in sys.modules if name.partition(".")[0] == "brainpkg"]:
        del sys.modules[name]


@pytest.fixture
def run(site, monkeypatch, own_cache, caplog):
    """Run the command in this process, which finds the package; it can be imported or not. Warnings join stderr."""
    monkeypatch.syspath_prepend(str(site))

    def run(*arguments, importable=True):
        init = site / "brainpkg" / "__init__.py"
        init.write_text("" if importable else "raise SystemExit('manifests are found without an import')\n")
        forget_plugins()
        caplog.clear()
        done = run_in_process(*arguments)
        return replace(done, stderr=done.stderr + caplog.text)

    yield run
    forget_plugins()


def test_scores_of_a_package_are_listed_with_their_origin_and_computed(run):
    listed = run("scores")
    assert listed.returncode == 0, listed.stderr
    assert "number of values of a feature [brainpkg 2.1]" in listed.stdout, listed.stderr
    assert "Score plug-in leep (brainpkg.parts:mass) is skipped: modgap has a score with this name." in listed.stderr
    assert "Score plug-in shapeless (brainpkg.parts:shapeless) is broken and is skipped" in listed.stderr
    assert "its name is 'mass', unlike that of its entry point" in listed.stderr
    assert "Score plug-in unimportable (brainpkg.missing:mass) is broken and is skipped" in listed.stderr
    assert "Traceback" not in listed.stderr
    assert "brainpkg 2.1" in run("scores", "mass").stdout
    asked = run("scores", "shapeless")
    assert asked.returncode == 1
    assert "Score plug-in shapeless (brainpkg.parts:shapeless) is broken: TypeError: it is a int" in asked.stderr
    ranked = run(
        "rank", "--sources", "vit-fashion", "--target", "halves", "--score", "mass", "--by", "mass", "--jobs", 1,
        "--json", "--no-controls", "--baselines", "none", "--resamples", 0,
    )  # fmt: skip
    assert ranked.returncode == 0, ranked.stderr
    assert '"mass"' in ranked.stdout


def test_methods_of_a_package_are_listed_with_their_origin_and_train(run, tmp_path):
    listed = run("methods")
    assert "fine-tuning under another name [brainpkg 2.1]" in listed.stdout
    assert "Method plug-in mona (brainpkg.parts:gentle) is skipped: modgap has a method with this name" in listed.stderr
    assert "Method plug-in wrong (brainpkg.parts:mass) is broken and is skipped: TypeError" in listed.stderr
    trained = run(
        "train", "--method", "gentle", "--source", "vit-fashion", "--target", "halves", "--out", tmp_path / "run",
        "--set", "stage2.epochs=1",
    )  # fmt: skip
    assert trained.returncode == 0, trained.stderr
    assert json.loads((tmp_path / "run" / "run.json").read_text())["method"] == "gentle"
    log = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert all(json.loads(line)["loss"] == 0 for line in log)


def test_manifests_of_a_package_are_found_without_an_import(run):
    listed = run("targets", importable=False)
    assert listed.returncode == 0, listed.stderr
    assert "Two frequencies [brainpkg 2.1]" in listed.stdout
    assert "digits.toml is skipped: modgap has a target with this name" in listed.stderr
    assert "The manifests of brainpkg 2.1 are skipped: there is no folder brainpkg.nowhere" in listed.stderr
    assert "The manifest comes from brainpkg 2.1." in run("targets", "halves", importable=False).stdout


def test_a_target_of_a_package_is_read_by_its_reader(run):
    done = run("discrepancy", "--source", "vit-fashion", "--target", "halves", "--permutations", 0, "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert (record["n_samples"], record["n_target_classes"]) == (24, 2)
    broken = run("discrepancy", "--source", "vit-fashion", "--target", "broken")
    assert broken.returncode == 1
    assert "Reader plug-in unreadable (brainpkg.parts) is broken: TypeError" in broken.stderr
    missing = run("discrepancy", "--source", "vit-fashion", "--target", "halves", "--limit", 20, importable=False)
    assert missing.returncode == 1
    assert "Reader plug-in halves (brainpkg.halves) is broken: SystemExit" in missing.stderr


def test_a_client_of_a_package_fetches_the_targets_that_come_with_it(run, project, tmp_path, monkeypatch):
    monkeypatch.setenv("MODGAP_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("BRAINBANK", str(project / "scans.tar"))
    shown = " ".join(run("targets", "scans").stdout.split())
    assert "brainbank scans.tar record 4711" in shown
    done = run("data", "fetch", "scans")
    folder = tmp_path / "data" / "packages" / "brainbank" / "4711"
    assert (done.returncode, done.stdout) == (0, f"scans: 1 file complete in {folder}\n"), done.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["scans.csv", "scans.tar"]
    assert run("data", "verify", "scans").returncode == 0
    check_manifest("scans")
    manifest = named_manifest("scans")
    check_client("brainbank", manifest.artifact, manifest.files, project / "scans.tar")
    monkeypatch.setattr(sys.modules["brainpkg.bank"], "set", lambda _: set(), raising=False)
    with pytest.raises(AssertionError, match="raised no ValueError for the fields client"):
        check_client("brainbank", {**manifest.artifact}, manifest.files)


@pytest.mark.parametrize(
    ("client", "message"),
    [
        ("brainbank", "runs brainbank only for targets that come with it. Put scans.tar into"),
        ("nosuch", "modgap has no client 'nosuch' for downloads. The clients are: "),
        ("strange", "Client plug-in strange (brainpkg.halves) is broken: TypeError: it is a module, not a Client"),
    ],
)
def test_a_client_does_not_run_for_a_manifest_of_the_user(run, project, tmp_path, client, message):
    (tmp_path / "mine.toml").write_text(scans(project / "scans.tar", client))
    done = run("data", "fetch", tmp_path / "mine.toml")
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_client_of_the_zoo_names_the_zoo_where_it_is_absent(run, project, tmp_path, monkeypatch):
    monkeypatch.setattr(clients, "plugin_entries", lambda *_: {})
    (tmp_path / "mine.toml").write_text(scans(project / "scans.tar", "npm"))
    done = run("data", "fetch", tmp_path / "mine.toml")
    assert "The client npm comes with the distribution modgap-zoo, which is not installed." in done.stderr
    fields = {"client": "npm", "name": "a"}
    monkeypatch.setattr(readers, "plugin_entries", lambda *_: {})
    with pytest.raises(UsageError, match="The reader r_data comes with the distribution modgap-zoo"):
        get_reader("r_data")
    monkeypatch.setattr(named_manifests, "_plugin_manifests", lambda _: {})
    with pytest.raises(UsageError, match="The target crabs comes with the distribution modgap-zoo"):
        named_manifest("crabs")
    with pytest.raises(InputError, match="has no client"):
        clients.packaged_file(
            Manifest.model_validate({**tomllib.loads(scans(project / "scans.tar")), "artifact": fields})
        )


def test_a_representation_of_a_package_is_used_and_recorded(run):
    common = ("discrepancy", "--source", "vit-fashion", "--target", "halves", "--permutations", 0, "--json")
    done = run(*common, "--representation", "plot")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    embedding = record["provenance"]["embedding"]
    assert (embedding["representation"], embedding["version"], embedding["pieces"]) == ("plot", 1, "image")
    assert (embedding["low"], embedding["high"]) == (0, 1)
    assert json.loads(run(*common).stdout)["estimates"] != record["estimates"]
    again = json.loads(run(*common, "--representation", "plot").stdout)
    assert again["estimates"] == record["estimates"]


def test_a_representation_of_a_package_is_refused_for_a_source_of_another_kind(run):
    common = ("--target", "halves", "--permutations", 0, "--json", "--representation", "hum")
    refused = run("discrepancy", "--source", "vit-fashion", *common)
    assert refused.returncode == 2
    assert "It turns series into input of sources that take audio" in refused.stderr


def test_wrong_representations_of_packages_get_one_line(run):
    common = ("discrepancy", "--source", "vit-fashion", "--target", "halves", "--representation")
    for name, code, expected in (
        ("nosuch", 2, "Unknown representation 'nosuch'"),
        ("odd", 1, "Representation plug-in odd (brainpkg.parts:gentle) is broken: TypeError: it is a Method"),
        ("failing", 1, "not numbers of shape (channels, height, width)"),
    ):
        done = run(*common, name)
        assert done.returncode == code, done.stderr
        assert expected in done.stderr
        assert "Traceback" not in done.stderr
    own = run(*common, "fold", "--permutations", 0)
    assert own.returncode == 0, own.stderr


def test_modules_of_the_current_folder_are_not_plug_ins(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "brainpkg").mkdir()
    (tmp_path / "brainpkg" / "__init__.py").write_text("open('owned', 'w')\n")
    listed = run("scores")
    assert listed.returncode == 0
    assert not (tmp_path / "owned").exists()


def test_names_and_registries_are_unchanged_without_plug_ins():
    from modgap.ranking.scores import score_names, score_origin
    from modgap.targets import manifest_names, manifest_origin
    from modgap.training.methods import method_names, method_origin

    origins = {score_origin(name) for name in score_names()} | {method_origin(name) for name in method_names()}
    origins |= {manifest_origin(name) for name in manifest_names() if name not in zoo_names("target")}
    assert origins == {"modgap"}
    assert np.unique(score_names()).size == len(score_names())


@pytest.mark.long
def test_a_package_in_a_fresh_environment_is_found(project, tmp_path):
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    python = environment / "bin" / "python"
    (own,) = environment.glob("lib/python*/site-packages")
    # The libraries of this environment, so that nothing has to be downloaded.
    (own / "libraries.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    subprocess.run([python, "-m", "pip", *INSTALL, str(project)], check=True, capture_output=True)
    assert (own / "brainpkg" / "parts.py").is_file()
    (own / "brainpkg" / "__init__.py").write_text("")

    def modgap(*arguments):
        return subprocess.run(
            [python, "-m", "modgap", *arguments], capture_output=True, text=True, timeout=300, cwd=tmp_path
        )

    for command, name in (("scores", "mass"), ("methods", "gentle"), ("targets", "halves")):
        shown = modgap(command, name)
        assert shown.returncode == 0, shown.stderr
        assert "brainpkg 2.1" in shown.stdout, command
    result = json.loads(modgap("discrepancy", "--source", "vit-fashion", "--target", "halves", "--json").stdout)
    assert result["n_samples"] == 24
    drawn = modgap("discrepancy", "--source", "vit-fashion", "--target", "halves", "--representation", "plot", "--json")
    assert json.loads(drawn.stdout)["provenance"]["embedding"]["representation"] == "plot"
    assert modgap("scores", "nosuch").returncode != 0
