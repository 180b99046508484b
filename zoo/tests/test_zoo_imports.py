"""The files of the zoo import in no circle, and importing its plug-ins brings no model library."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import modgap_zoo

ROOT = Path(modgap_zoo.__file__).parent


def imported(path):
    """Modules that a file imports, at its top or inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_files_import_in_no_circle():
    paths = {".".join(path.relative_to(ROOT.parent).with_suffix("").parts): path for path in ROOT.rglob("*.py")}
    graph = {name: set(imported(path)) & set(paths) for name, path in paths.items()}
    assert graph["modgap_zoo.packaged.loading"]
    list(graphlib.TopologicalSorter(graph).static_order())


def test_describing_and_opening_sources_imports_no_model_library():
    code = """
import sys
from modgap.sources import open_source, source_infos
from modgap.sources.source import find_prefix
print(len(source_infos()), open_source("random:crepe").fingerprint()["weights"], find_prefix("onnx:m.onnx").title)
print([name for name in ("torch", "timm", "transformers", "onnx") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert first.endswith("random, seed 0 Model in an ONNX file")
    assert second == "[]"
