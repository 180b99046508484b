"""Notebooks run from top to bottom in quick mode and leave pictures."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


def outputs(notebook):
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


@pytest.fixture(scope="module", name="runs")
def folder_of_runs(tmp_path_factory):
    """Notebooks on one worker share what they train."""
    return tmp_path_factory.mktemp("runs")


@pytest.mark.slow
@pytest.mark.bundle
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_and_has_a_picture(path, runs, monkeypatch):
    monkeypatch.setenv("MODGAP_QUICK", "1")
    monkeypatch.setenv("MODGAP_RUNS", str(runs))
    monkeypatch.setenv("IPYTHONDIR", str(runs / "ipython"))
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(path.parent)}}).execute()
    found = [output for output in outputs(notebook) if "image/png" in output.get("data", {})]
    assert found


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_committed_without_outputs(path):
    assert not outputs(nbformat.read(path, as_version=4))
