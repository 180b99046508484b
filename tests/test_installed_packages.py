"""A hostile current folder: manifests, packages and plug-ins in it are data, and none of their code runs."""

import os
import subprocess
import sys

import pytest

from modgap.errors import InputError
from modgap.sources import open_source, source_infos
from modgap.targets import open_target

MANIFEST = """
schema = 1
name = "evil"
title = "A manifest that names a package of the current folder"
modality = "motion"
task = "classification"

[input]
kind = "series"

[reader]
name = "arrays"
options = { kind = "series" }

[[files]]
role = "data"
path = "x.npz"
package = "PACKAGE"
"""


def leave_trace(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"open({str(path.parents[1] / 'TRACE')!r}, 'w').close()\nplugin = None\n")


@pytest.fixture
def hostile(tmp_path, monkeypatch):
    """A current folder, first on the path as in a notebook, with code that would leave a trace."""
    folder = tmp_path / "unpacked"
    for name in ("victim", "victim/sub", "brain_plugin"):
        leave_trace(folder / name / "__init__.py")
    info = folder / "evil-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: evil\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[modgap.sources]\nevil = victim:plugin\n")
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend("")
    yield folder
    assert not list(tmp_path.rglob("TRACE"))
    assert "victim" not in sys.modules


@pytest.mark.parametrize("package", ["victim.sub", "victim.", ".victim", "../victim", "a-b", "", "victim\n"])
def test_a_manifest_that_names_no_top_level_package_is_refused(hostile, package):
    (hostile / "evil.toml").write_text(MANIFEST.replace('"PACKAGE"', repr(package)))
    with pytest.raises(
        InputError, match=r"evil.toml is not valid( TOML|.*Expected the name of a package without dots)"
    ):
        open_target("evil.toml")


@pytest.mark.parametrize("package", ["victim.sub", "a-b", "victim\n"])
def test_only_a_top_level_name_is_looked_up(package):
    from modgap.process.installed_packages import find_package_folder

    with pytest.raises(ValueError, match="is not the import name of a top-level package"):
        find_package_folder(package)


@pytest.mark.parametrize("entry", ["", ".", os.curdir + "/", "absolute"])
def test_a_package_in_the_current_folder_counts_as_not_installed(hostile, monkeypatch, entry):
    monkeypatch.setattr(sys, "path", [str(hostile) if entry == "absolute" else entry, *sys.path])
    (hostile / "evil.toml").write_text(MANIFEST.replace("PACKAGE", "victim"))
    with pytest.raises(InputError, match="needs the package victim, which is not installed"):
        open_target("evil.toml")


def test_an_installed_package_is_found_without_importing_it(hostile, tmp_path, monkeypatch):
    from modgap.process.installed_packages import find_package_folder

    leave_trace(tmp_path / "site" / "harmless_data" / "__init__.py")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert find_package_folder("harmless_data") == tmp_path / "site" / "harmless_data"
    assert "harmless_data" not in sys.modules


def test_a_plug_in_of_the_current_folder_is_not_listed(hostile):
    assert "evil" not in [info.name for info in source_infos()]
    with pytest.raises(InputError, match="Unknown source 'evil'"):
        open_source("evil")


def test_a_module_of_the_current_folder_does_not_replace_an_installed_plug_in(hostile, tmp_path, monkeypatch, caplog):
    info = tmp_path / "site" / "brainpkg-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: brainpkg\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[modgap.sources]\nbrain = brain_plugin.source:plugin\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "site")])
    with pytest.raises(InputError, match="the current folder has a module of this name"):
        open_source("brain")
    assert "brain" not in [info.name for info in source_infos()]
    assert "Run modgap in another folder" in caplog.text


def test_nothing_of_the_current_folder_runs_in_a_real_process(hostile):
    (hostile / "evil.toml").write_text(MANIFEST.replace("PACKAGE", "victim.sub"))
    code = (
        "import sys; sys.path.insert(0, '')\n"
        "from modgap.sources import source_infos\n"
        "from modgap.targets import open_target\n"
        "names = [info.name for info in source_infos()]\n"
        "try: open_target('evil.toml')\n"
        "except ValueError as error: print('evil' in names, 'files.0.package' in str(error))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
