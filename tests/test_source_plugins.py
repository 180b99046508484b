"""Sources that other packages bring: a fake distribution on sys.path, good ones and broken ones."""

import os
import subprocess
import sys

import pytest

from modgap.errors import InputError, UsageError
from modgap.sources import absolute_name, describe_source, open_control, open_source, source_infos
from modgap.zoo import zoo_names

GOOD = """
from dataclasses import dataclass
from modgap.errors import UsageError
from modgap.sources import SourceInfo, open_source

@dataclass(frozen=True)
class Handle:
    name: str
    weights: object
    def fingerprint(self):
        return {"architecture": "own", "weights": str(self.weights)}
    def load(self, input_size, *, head=True):
        return open_source("random:timm:mobilenetv3_small_050").load(input_size, head=head)

class Plugin:
    def describe(self):
        return SourceInfo("brain", "A brain", 1000, 7, "image, 64 px", "MIT", "pip install brain", True)
    def open(self, weights):
        return Handle("brain", weights)

class Complete(Plugin):
    def control(self, seed):
        return Handle("random:brain", f"seed {seed}")

class Prefix:
    title = "Model in an atlas"
    suffixes = (".atlas",)
    def open(self, argument):
        return Handle("map", argument)
    def control(self, argument, seed):
        return Handle("random:map", f"{argument}, seed {seed}")

class PrefixWithoutControl:
    title = "Model of a bank"
    suffixes = ()
    def open(self, argument):
        raise UsageError(f"There is no model {argument}.")

plugin = Plugin()
complete = Complete()
atlas = Prefix()
bank = PrefixWithoutControl()
"""
RAISING = """
class Plugin:
    def describe(self):
        raise ValueError("no\\nluck")
    def open(self, weights):
        1 / 0
plugin = Plugin()
"""
EXOTIC = """
class Plugin:
    def describe(self):
        return {"name": "exotic"}
    def open(self, weights):
        return None
plugin = Plugin()
"""
BROKEN = {
    "missing": "import no_such_library\n",
    "syntax": "def f(:\n",
    "leaving": "raise SystemExit('bye')\n",
    "raising": RAISING,
    "shapeless": "plugin = 3\n",
    "exotic": EXOTIC,
    "nothing": "",
}


def distribution(folder, name, entries, modules, group="modgap.sources"):
    """A distribution as pip would install it, with these entry points and modules."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = "".join(f"{entry} = {target}\n" for entry, target in entries)
    (info / "entry_points.txt").write_text(f"[{group}]\n{lines}")
    for module, code in modules.items():
        (folder / f"{module}.py").write_text(code)
    return folder


@pytest.fixture
def site(tmp_path):
    """One package with a good plug-in, one with many broken ones, one that takes names that are taken."""
    folder = tmp_path / "site"
    distribution(folder, "brainpkg", [("brain", "brain_plugin:plugin")], {"brain_plugin": GOOD})
    entries = [(name, f"broken_{name}:plugin") for name in BROKEN]
    distribution(folder, "brokenpkg", entries, {f"broken_{name}": code for name, code in BROKEN.items()})
    distribution(folder, "whole", [("whole-brain", "brain_plugin:complete")], {})
    prefixes = [("atlas", "brain_plugin:atlas"), ("bank", "brain_plugin:bank"), ("timm", "brain_plugin:atlas")]
    distribution(folder, "atlases", [*prefixes, ("odd", "broken_exotic:plugin")], {}, "modgap.source_prefixes")
    distribution(folder, "thief", [("swin-b", "brain_plugin:plugin"), ("brain", "broken_nothing:plugin")], {})
    return folder


@pytest.fixture
def installed(site, monkeypatch):
    monkeypatch.syspath_prepend(str(site))
    yield site
    for name in [name for name in sys.modules if name.startswith(("broken_", "brain_plugin"))]:
        del sys.modules[name]


def test_broken_ones_are_named_once_each_and_the_list_goes_on(installed, caplog):
    names = [info.name for info in source_infos()]
    assert names.count("brain") == 1
    assert not set(BROKEN) & set(names)
    assert names.count("swin-b") == 1
    warned = [record.getMessage() for record in caplog.records]
    for name in BROKEN:
        (line,) = [line for line in warned if line.startswith(f"Source plug-in {name} ")]
        assert "\n" not in line
        assert "is broken and is skipped: " in line
    assert [line for line in warned if "swin-b (brain_plugin:plugin) is skipped: modgap has a source" in line]
    assert [line for line in warned if "brain (broken_nothing:plugin) is skipped: another plug-in has" in line]


def test_a_plugin_is_opened_by_name_with_weights_or_without(installed, tmp_path):
    handle = open_source("brain")
    assert handle.fingerprint() == {"architecture": "own", "weights": "None"}
    assert len(handle.load(64).class_names) == 1000
    (tmp_path / "w").write_text("")
    assert open_source("brain", weights=str(tmp_path / "w")).fingerprint()["weights"] == str(tmp_path / "w")
    with pytest.raises(InputError, match="There is no file or folder of weights"):
        open_source("brain", weights=str(tmp_path / "gone"))
    with pytest.raises(UsageError, match="Source plug-in brain has no random: form"):
        open_source("random:brain")


def test_a_plugin_brings_controls_of_any_seed(installed):
    assert open_control("whole-brain", 3).fingerprint()["weights"] == "seed 3"
    assert open_source("random:whole-brain").fingerprint()["weights"] == "seed 0"
    described = describe_source("random:whole-brain")
    assert (described.title, described.weights) == ("A brain, with random weights", "random, seed 0")


def test_a_prefix_of_a_plugin_opens_sources(installed, tmp_path, monkeypatch, caplog):
    assert open_source("atlas:a:b").fingerprint()["weights"] == "a:b"
    assert open_control("atlas:x", 2).fingerprint()["weights"] == "x, seed 2"
    described = describe_source("atlas:x")
    assert (described.title, described.weights, described.n_classes) == ("Model in an atlas", "x", 1000)
    monkeypatch.chdir(tmp_path)
    assert absolute_name("random:atlas:x") == f"random:atlas:{tmp_path}/x"
    assert absolute_name("bank:x") == "bank:x"
    (tmp_path / "scans.atlas").touch()
    with pytest.raises(UsageError, match=r"scans\.atlas is opened by the prefix atlas:\. Use `source='atlas:scans"):
        open_source("scans.atlas")
    with pytest.raises(UsageError, match="whose name says where its weights are"):
        open_source("atlas:x", weights=str(tmp_path / "scans.atlas"))
    assert "Source prefix plug-in timm (brain_plugin:atlas) is skipped: modgap has a source prefix" in caplog.text


def test_a_prefix_that_opens_nothing_says_why(installed):
    with pytest.raises(UsageError, match=r"^There is no model x\.$"):
        open_source("bank:x")
    with pytest.raises(UsageError, match="Source prefix bank: has no random: form"):
        open_source("random:bank:x")
    with pytest.raises(InputError, match=r"^Source prefix plug-in odd \(broken_exotic:plugin\) is broken"):
        open_source("odd:x")


def test_names_of_the_zoo_name_its_install_command(monkeypatch):
    monkeypatch.setattr("modgap.sources.source.plugin_entries", lambda *_arguments: {})
    for name, noun in ((zoo_names("source")[0], "source"), (f"{zoo_names('prefix')[0]}:file", "prefix")):
        with pytest.raises(UsageError, match=rf"Unknown source '{name}'. The {noun} .* Run: pip install modgap-zoo"):
            open_source(name)


def test_opening_another_source_imports_no_plugin(installed):
    assert open_source("efficientnet-lite0").name == "efficientnet-lite0"
    assert open_source("swin-b").architecture.startswith("swin_base")
    open_source("brain")
    assert not [name for name in sys.modules if name.startswith("broken_")]


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_a_broken_one_that_is_asked_for_says_why(installed, name):
    with pytest.raises(InputError, match=rf"^Source plug-in {name} \(broken_{name}:plugin\) is broken: [^\n]+$"):
        open_source(name)


def test_unknown_names_are_compared_with_plugins_too(installed):
    with pytest.raises(UsageError, match="Did you mean brain"):
        open_source("brian")


def test_the_command_lists_them_and_warns_on_stderr(modgap_process, site):
    done = modgap_process("sources", PYTHONPATH=os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]))
    assert done.returncode == 0
    assert [line for line in done.stdout.splitlines() if line.split()[:1] == ["brain"]]
    lines = done.stderr.splitlines()
    # Two names and a prefix are taken, and one more prefix is broken.
    assert len(lines) == len(BROKEN) + 4
    assert all(line.startswith(("modgap: Source plug-in ", "modgap: Source prefix ")) for line in lines)


def test_without_plugins_nothing_is_said():
    code = "from modgap.sources import source_infos; print(len(source_infos()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) >= 10
    assert done.stderr == ""
