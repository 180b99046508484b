"""Data flows one way, and so do imports: a module may import only from layers below its own."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import modgap
import modgap.cli

LAYERS = (
    "unpickling",
    "errors",
    "mapping",
    "paths",
    "digests",
    "checks",
    "drawing",
    "label_space",
    "array_file",
    "cache",
    "row_store",
    "targets",
    "sources",
    "representations",
    "embedding",
    "inference",
    "probe_head",
    "preparation",
    "logits",
    "discrepancy",
    "models",
    "transfer",
    "distortion",
    "ranking",
    "report",
    "plots",
    "results",
    "measure",
    "cli",
)
PACKAGE, CLI = Path(modgap.__file__).parent, Path(modgap.cli.__file__).parent


def imported(tree: ast.AST):
    """Names of modgap's modules that a file imports."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"modgap.{alias.name}" for alias in node.names] if node.module == "modgap" else [node.module]
            yield from (name for name in names if name.startswith("modgap."))
        yield from imported(node)


def files():
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.parent != PACKAGE or path.stem != "__init__":
            yield path.relative_to(PACKAGE).parts[0].removesuffix(".py"), path
    yield from (("cli", path) for path in sorted(CLI.glob("*.py")))


@pytest.mark.parametrize(("layer", "path"), list(files()), ids=lambda value: getattr(value, "stem", value))
def test_imports_point_downwards(layer, path):
    assert layer in LAYERS, f"{path} belongs to no layer"
    for name in imported(ast.parse(path.read_text())):
        below = name.split(".")[1]
        if below != "__version__":
            assert LAYERS.index(below) <= LAYERS.index(layer), f"{path.name} imports {name}"


def test_every_package_is_installed_by_a_wheel():
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())
    found = {".".join(("modgap", *path.parent.relative_to(PACKAGE).parts)) for path in PACKAGE.rglob("__init__.py")}
    assert set(project["tool"]["setuptools"]["packages"]) == found | {"modgap.cli", "modgap.data_manifests"}


@pytest.mark.parametrize("module", ["modgap.cli.main", "modgap.logits", "modgap.measure", "modgap.discrepancy"])
def test_importing_brings_no_torch(module):
    code = f"import sys, {module}; print('torch' in sys.modules, 'timm' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
