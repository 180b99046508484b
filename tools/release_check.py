"""Check a release: build it, and try it in fresh environments of each Python that is present.

The wheel and the sdist are built and checked by twine. The wheel is installed outside the checkout with the newest
versions of its dependencies under each Python, and with the lowest declared versions under Python 3.11. The first
command of the README must answer in each of these environments. All tests of the unpacked sdist run with the newest
versions, and its quick tests with the lowest ones.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FIRST_COMMAND = ("discrepancy", "--source", "vit-fashion", "--target", "digits")
MINOR_VERSIONS = range(11, 20)
LOWEST_PYTHON = "3.11"
SHOWN = ("torch", "numpy", "timm", "transformers", "scikit-learn")
"""Libraries whose versions the table shows."""
ALL_TESTS = ("test", "test-long")
QUICK_TESTS = "not slow and not long and not bundle"


class StepError(Exception):
    """A step of the check failed; the text is the end of its output."""


@dataclass(frozen=True)
class Row:
    """Result with one Python and one choice of dependencies."""

    python: str
    dependencies: str
    versions: str
    install_seconds: float
    command_seconds: float
    result: str


def run(*command: str | Path, folder: Path, **variables: str) -> str:
    """Run a command in a folder and return its output.

    Raises:
        StepError: When it fails.
    """
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [str(part) for part in command], cwd=folder, env={**environment, **variables}, capture_output=True, text=True
    )
    if done.returncode:
        lines = (done.stdout + done.stderr).strip().splitlines()
        raise StepError("\n".join(lines[-15:]))
    return done.stdout


def find_pythons() -> dict[str, str]:
    """Return the Pythons on this machine that modgap supports, by version such as `3.12`."""
    pythons = {f"{sys.version_info.major}.{sys.version_info.minor}": sys.executable}
    folders = [*os.get_exec_path(), "/usr/bin", "/usr/local/bin"]
    for minor in MINOR_VERSIONS:
        for folder in folders:
            path = shutil.which(f"python3.{minor}", path=folder)
            if path and f"3.{minor}" not in pythons and _has_venv(path):
                pythons[f"3.{minor}"] = path
    return pythons


def _has_venv(python: str) -> bool:
    modules = "import venv, ensurepip, sys; sys.exit(sys.version_info < (3, 11))"
    return subprocess.run([python, "-c", modules], capture_output=True).returncode == 0


def build(folder: Path) -> tuple[Path, Path]:
    """Build the distributions of the checkout into a folder, check them, and return the wheel and the sdist."""
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT, folder=folder)
    files = sorted(folder.glob("modgap-*"))
    run(sys.executable, "-m", "twine", "check", "--strict", *files, folder=folder)
    wheel, sdist = next(folder.glob("*.whl")), next(folder.glob("*.tar.gz"))
    return wheel, sdist


def try_wheel(wheel: Path, version: str, python: str, dependencies: str, folder: Path) -> Row:
    """Install the wheel into a fresh environment in a folder, and run the first command there."""
    environment = folder / "venv"
    install_seconds = command_seconds = float("nan")
    versions = ""
    try:
        start = time.perf_counter()
        run(python, "-m", "venv", environment, folder=folder)
        installed = environment / "bin" / "python"
        if dependencies == "lowest":
            _install_lowest(installed, wheel, folder)
        else:
            run(installed, "-m", "pip", "install", "--quiet", wheel, folder=folder)
        install_seconds = time.perf_counter() - start
        versions = _shown_versions(installed, folder)
        start = time.perf_counter()
        cache = str(folder / "cache")
        answer = run(environment / "bin" / "modgap", *FIRST_COMMAND, folder=folder, MODGAP_CACHE=cache)
        command_seconds = time.perf_counter() - start
        result = "passed" if "The held-out error is" in " ".join(answer.split()) else "no answer"
    except StepError as error:
        result = f"failed: {error}"
    return Row(version, dependencies, versions, install_seconds, command_seconds, result)


def _install_lowest(python: Path, wheel: Path, folder: Path) -> None:
    """Install the lowest versions that pyproject.toml declares, and the wheel."""
    install = (sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", python)
    run(*install, *_lowest_options(), "--requirements", ROOT / "pyproject.toml", folder=folder)
    run(*install, "--no-deps", wheel, folder=folder)


def _lowest_options() -> tuple[str, ...]:
    """Return the options of uv for the lowest versions; torchvision alone would choose a newer torch."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    lowest = re.search(r'"torch>=([\d.]+)"', text)
    assert lowest
    return ("--resolution", "lowest-direct", f"torch=={lowest[1]}.*")


def _shown_versions(python: Path, folder: Path) -> str:
    code = f"from importlib.metadata import version as v; print(', '.join(f'{{n}} {{v(n)}}' for n in {SHOWN!r}))"
    return run(python, "-c", code, folder=folder).strip()


def unpack(sdist: Path, folder: Path) -> Path:
    """Unpack the sdist into a folder, and return the folder of its project."""
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    return next(path for path in folder.glob("modgap-*") if path.is_dir())


def run_all_tests(project: Path) -> str:
    """Run all tests of an unpacked sdist, which makes its own environment; return both of pytest's summaries."""
    summaries = (_summary(run("make", target, f"PYTHON={sys.executable}", folder=project)) for target in ALL_TESTS)
    return ", then ".join(summary.strip("= ") for summary in summaries)


def run_quick_tests(project: Path, folder: Path) -> str:
    """Run the quick tests of an unpacked sdist with the lowest versions; return pytest's summary.

    Packages of which modgap reads only the files are those of the Makefile.
    """
    python = folder / "venv" / "bin" / "python"
    run(sys.executable, "-m", "venv", folder / "venv", folder=folder)
    install = (sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", python)
    options = (*_lowest_options(), "--requirements", "pyproject.toml", "--extra", "demo", "--group", "test")
    run(*install, *options, folder=project)
    files = run("make", "--silent", "--eval", "files: ; @echo $(FILES_ONLY)", "files", folder=project).split()
    run(*install, "--no-deps", *files, "--editable", project, folder=folder)
    return _summary(run(python, "-m", "pytest", "-q", "-n", "2", "-m", QUICK_TESTS, folder=project))


def _summary(output: str) -> str:
    """Return the last line that counts tests; make prints lines after it."""
    return [line for line in output.splitlines() if " passed" in line][-1]


@contextmanager
def open_folder(parent: Path | None = None) -> Iterator[Path]:
    """Yield a temporary folder that other users can enter, because tests of unreadable files run as such."""
    with tempfile.TemporaryDirectory(prefix="modgap-release-", dir=parent) as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def main() -> int:
    """Run the check, print a table, and return 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--python", action="append", help="version such as 3.12; by default each that is present")
    parser.add_argument("--dependencies", choices=["all", "newest", "lowest"], default="all")
    parser.add_argument("--no-tests", action="store_true", help="do not run the tests of the sdist")
    options = parser.parse_args()
    pythons = {name: path for name, path in find_pythons().items() if not options.python or name in options.python}
    rows = []
    with open_folder() as folder:
        wheel, sdist = build(folder)
        print(f"{wheel.name} ({wheel.stat().st_size / 1e6:.1f} MB), {sdist.name} ({sdist.stat().st_size / 1e6:.1f} MB)")
        for version, python in pythons.items():
            for dependencies in ("newest", "lowest"):
                skipped = dependencies == "lowest" and version != LOWEST_PYTHON
                if skipped or options.dependencies not in ("all", dependencies):
                    continue
                with open_folder(folder) as place:
                    rows.append(try_wheel(wheel, version, python, dependencies, place))
                print(_line(rows[-1]), flush=True)
        failed = any(row.result != "passed" for row in rows)
        if not options.no_tests:
            project = unpack(sdist, folder)
            failed |= not _try_tests("all, newest versions", lambda: run_all_tests(project))
            with open_folder(folder) as place:
                failed |= not _try_tests("quick, lowest versions", lambda: run_quick_tests(project, place))
    return int(failed)


def _try_tests(name: str, run_tests: Callable[[], str]) -> bool:
    """Run tests of the sdist, print how they ended, and return True if they passed."""
    try:
        print(f"tests of the sdist ({name}): {run_tests()}", flush=True)
    except StepError as error:
        print(f"tests of the sdist ({name}) failed:\n{error}", flush=True)
        return False
    return True


def _line(row: Row) -> str:
    versions = re.sub(r"\+\w+", "", row.versions)
    return (
        f"Python {row.python} | {row.dependencies:6} | {versions} | install {row.install_seconds:.0f} s | "
        f"first command {row.command_seconds:.1f} s | {row.result}"
    )


if __name__ == "__main__":
    sys.exit(main())
