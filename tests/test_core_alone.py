"""The core in an environment of its own, without the distribution modgap-zoo."""

import json
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Run commands of the core in a fresh environment with the libraries of this one, but without the zoo."""
    folder = tmp_path_factory.mktemp("alone")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "environment")], check=True)
    python = folder / "environment" / "bin" / "python"
    (own,) = folder.glob("environment/lib/python*/site-packages")
    for library in Path(sysconfig.get_path("purelib")).iterdir():
        if "modgap" not in library.name:
            (own / library.name).symlink_to(library)
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps"]
    subprocess.run([*install, "--no-build-isolation", str(ROOT)], check=True, cwd=folder)

    def run(*arguments):
        command = [python, "-m", "modgap", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=folder)

    return run


@pytest.mark.long
def test_the_first_command_of_the_readme_answers_without_the_zoo(alone):
    lines = (ROOT / "README.md").read_text("utf-8").splitlines()
    (first,) = (line for line in lines if line.startswith("$ modgap discrepancy"))
    done = alone(*first.split()[2:], "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["target"] == "digits"


@pytest.mark.long
@pytest.mark.parametrize(("command", "kind"), [("sources", "source"), ("targets", "target")])
def test_names_of_the_zoo_are_refused_with_its_install_command(alone, command, kind):
    from modgap.zoo import zoo_names

    listed = alone(command)
    assert listed.returncode == 0, listed.stderr
    assert not set(zoo_names(kind)) & set(listed.stdout.split())
    for name in zoo_names(kind)[:1]:
        refused = alone(command, name)
        assert refused.returncode != 0
        assert "pip install modgap-zoo" in " ".join(refused.stderr.split())


@pytest.mark.long
def test_prefixes_of_the_zoo_are_refused_with_its_install_command(alone):
    from modgap.zoo import zoo_names

    for prefix in zoo_names("prefix"):
        refused = alone("sources", f"{prefix}:model")
        assert (refused.returncode, "Traceback" in refused.stderr) == (2, False)
        assert f"The prefix {prefix} comes with the distribution modgap-zoo" in " ".join(refused.stderr.split())
