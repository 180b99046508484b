"""Data flows one way, and so do imports: from layer to layer, and from file to file."""

import ast
import functools
import graphlib
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import modgap
import modgap.cli

LAYERS = (
    "errors",
    "zoo",
    "process",
    "storage",
    "labels",
    "answers",
    "statistics",
    "targets",
    "sources",
    "inputs",
    "probes",
    "forward",
    "jobs",
    "discrepancy",
    "models",
    "baselines",
    "training",
    "distortion",
    "ranking",
    "race",
    "api",
    "testing",
    "cli",
    "__main__",
)
PACKAGE, CLI = Path(modgap.__file__).parent, Path(modgap.cli.__file__).parent


def module_files() -> dict[str, Path]:
    """Files of all modules, by dotted name; a package goes by its own name."""
    roots = (("modgap", PACKAGE), ("modgap.cli", CLI))
    found = {}
    for prefix, root in roots:
        for path in sorted(root.rglob("*.py")):
            parts = [part for part in path.relative_to(root).with_suffix("").parts if part != "__init__"]
            found[".".join((prefix, *parts))] = path
    return found


FILES = module_files()


@functools.cache
def imported_modules(module: str) -> set[str]:
    """Modules of modgap that a module imports, at its top or inside functions."""
    modules = set()
    for node in ast.walk(ast.parse(FILES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            modules |= {name if name in FILES else node.module for name in names}
    return {module for module in modules if module in FILES}


def layer_of(module: str) -> str:
    return module.split(".")[1]


def test_layers_import_downwards():
    modules = [module for module in FILES if module != "modgap"]
    assert [f"{module} belongs to no layer" for module in modules if layer_of(module) not in LAYERS] == []
    level = {module: LAYERS.index(layer_of(module)) for module in modules}
    upwards = [
        f"{module} imports {other}"
        for module in modules
        for other in imported_modules(module)
        if level[other] > level[module]
    ]
    assert upwards == []


def test_the_core_imports_nothing_of_the_zoo():
    texts = {module: path.read_text(encoding="utf-8") for module, path in FILES.items()}
    assert [module for module, text in texts.items() if re.search(r"^\s*(from|import) modgap_zoo", text, re.M)] == []


def test_files_import_in_no_circle():
    list(graphlib.TopologicalSorter({module: imported_modules(module) for module in FILES}).static_order())


def test_no_file_imports_a_package_that_contains_it():
    """A package's `__init__` offers what its files define, so it is above them."""
    inside = [
        f"{module} imports {package}"
        for module in sorted(FILES)
        for package in imported_modules(module)
        if module.startswith(f"{package}.")
    ]
    assert inside == []


def test_a_circle_is_found():
    with pytest.raises(graphlib.CycleError):
        list(graphlib.TopologicalSorter({"a": {"b"}, "b": {"a"}}).static_order())


def test_a_wheel_has_all_files_of_the_packages(tmp_path):
    root = PACKAGE.parent
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    done = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)
    assert "warning" not in f"{done.stdout}{done.stderr}".lower()
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        names = set(wheel.namelist())
    folders = (("modgap", PACKAGE), ("modgap/cli", CLI), ("modgap/data_manifests", root / "data_manifests"))
    expected = {
        f"{prefix}/{path.relative_to(folder).as_posix()}"
        for prefix, folder in folders
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert expected <= names
    roots = {re.sub(r"-.*\.dist-info", ".dist-info", name.split("/")[0]) for name in names}
    assert roots == {"modgap", "modgap.dist-info"}


def test_a_folder_of_the_same_name_does_not_hide_the_package(tmp_path):
    (tmp_path / "modgap").mkdir()
    script = "import modgap, modgap.cli.main; print(modgap.__version__)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(["", str(PACKAGE.parent)])}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == modgap.__version__


@pytest.mark.parametrize(
    "module", ["modgap.cli.main", "modgap.forward.logits", "modgap.api.discrepancy", "modgap.discrepancy"]
)
def test_importing_brings_no_torch(module):
    code = f"import sys, {module}; print('torch' in sys.modules, 'timm' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
