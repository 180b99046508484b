"""Each script of the benchmarks can be imported, and those of the Makefile start; nothing is measured again here."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "benchmarks").rglob("*.py")
    if path.parent.name != "tests" and path.name != "test_speed.py"
)
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
STARTED = sorted(set(re.findall(r"python (benchmarks/\w+\.py)", MAKEFILE)))


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_can_be_imported(name, import_benchmark):
    # A script finds its neighbors as modules of their own, as when it is run.
    import_benchmark(name)


@pytest.mark.slow
@pytest.mark.parametrize("script", STARTED)
def test_a_script_of_the_makefile_starts(script):
    done = subprocess.run([sys.executable, ROOT / script, "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout


def test_the_makefile_names_scripts_that_exist():
    assert len(STARTED) >= 3
    named = re.findall(r"benchmarks/[\w/]+(?:\.py)?", MAKEFILE)
    assert [name for name in named if not (ROOT / name).exists()] == []
