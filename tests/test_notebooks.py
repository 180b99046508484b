"""Notebooks run from top to bottom in quick mode and leave pictures."""

import os
from pathlib import Path

import nbformat
import pytest
from jupyter_client.manager import start_new_kernel
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


def outputs(notebook):
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


@pytest.fixture(scope="module", name="kernel")
def kernel_in_quick_mode(tmp_path_factory):
    """Start a kernel for all notebooks of a worker, which imports torch once. They share what they train."""
    runs = tmp_path_factory.mktemp("runs")
    environment = {**os.environ, "MODGAP_QUICK": "1", "MODGAP_RUNS": str(runs), "IPYTHONDIR": str(runs / "ipython")}
    manager, client = start_new_kernel(env=environment, cwd=str(NOTEBOOKS[0].parent))
    client.stop_channels()
    yield manager
    manager.shutdown_kernel(now=True)


@pytest.mark.bundle
@pytest.mark.long
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_and_has_a_picture(path, kernel):
    notebook = nbformat.read(path, as_version=4)
    # The notebook begins without the names of the one before it.
    notebook.cells.insert(0, nbformat.v4.new_code_cell("%reset -f"))
    NotebookClient(notebook, km=kernel, timeout=600).execute()
    found = [output for output in outputs(notebook) if "image/png" in output.get("data", {})]
    assert found


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_kept_with_its_picture_and_how_to_read_it(path):
    notebook = nbformat.read(path, as_version=4)
    kept = outputs(notebook)
    assert any("image/png" in output.get("data", {}) for output in kept)
    assert all(output.output_type != "error" for output in kept)
    texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    assert "?" in texts[0]
    assert len(texts) >= 2


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_outputs_of_a_notebook_name_no_folder_of_a_machine(path):
    assert not [folder for folder in ("/home/", "/root/", "/tmp/", "/work/") if folder in path.read_text()]
