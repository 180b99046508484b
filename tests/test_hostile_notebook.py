"""A notebook in an unpacked hostile folder: whatever is opened in it, nothing of the folder runs."""

import contextlib
import os
import pickle
import zipfile

import nbformat
import numpy as np
import pytest
from jupyter_client.manager import start_new_kernel
from nbclient import NotebookClient

from tests.test_installed_packages import MANIFEST, leave_trace

CELLS = [
    """
from pathlib import Path
import numpy as np
import modgap
from modgap.errors import InputError
from modgap.forward.logits import read_logits_file
from modgap.targets.plain_pickles import read_pickle
calls = []
def call(function, *arguments, **options):
    try:
        calls.append(function(*arguments, **options))
    except (InputError, FileNotFoundError) as error:
        calls.append(str(error))
""",
    """
for name in ("evil.toml", "outside.toml", "data.npz", "data.npy", "data.pkl", "good.npz", "."):
    call(modgap.open_target, name)
    call(lambda: modgap.open_target(name).read())
    call(modgap.measure, "random:timm:test_vit", name, estimators="search", permutations=0)
""",
    """
for name in ("evil", "hf:./model", "./model", "model", "timm:evil", "weights.pth"):
    call(modgap.open_source, name)
call(lambda: modgap.open_source("timm:test_vit", weights="weights.pth").load(None))
call(lambda: modgap.open_source("./model").load(None))
""",
    """
for name in ("weights.pth", "data.npz"):
    call(read_logits_file, name)
for name in ("data.pkl", "data.npy"):
    call(read_pickle, Path(name))
call(modgap.compare, "a=run", "b=run")
""",
    "modgap.estimate(np.random.rand(30, 3), np.arange(30) % 2, estimators='search', permutations=0)",
    "print(len(calls), 'calls')",
]


class Payload:
    """An object whose pickle writes a file when it is loaded."""

    def __init__(self, trace):
        """Keep the path."""
        self.trace = trace

    def __reduce__(self):
        """Write the file instead of an object."""
        return os.mkdir, (self.trace,)


def write_pickles(folder, payload):
    """Write pickles under the names of data, weights, arrays and results."""
    content = pickle.dumps({"x": payload, "y": payload}, 2)
    (folder / "data.pkl").write_bytes(content)
    np.save(folder / "data.npy", np.array(payload, object), allow_pickle=True)
    np.savez(folder / "data.npz", x=np.array([payload], object), y=np.array([payload], object))
    np.savez(folder / "good.npz", x=np.random.default_rng(0).random((20, 1, 8, 8)), y=np.arange(20) % 2)
    with zipfile.ZipFile(folder / "weights.pth", "w") as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/version", "3\n")


def write_hostile_folder(folder, trace):
    """Write a folder of files that would each leave a trace if it ran."""
    for name in ("victim", "victim/sub", "modgap_plugin", "timm_evil"):
        leave_trace(folder / name / "__init__.py")
    for name in ("setup.py", "conftest.py", "usercustomize.py", "modgap_sources.py", "evil.py"):
        leave_trace(folder / name)
    info = folder / "evil-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: evil\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[modgap.sources]\nevil = victim:plugin\n")
    (folder / "modgap.toml").write_text('[sources]\nplugins = ["victim"]\n[data]\ninstall = "touch TRACE"\n')
    (folder / "evil.toml").write_text(MANIFEST.replace("PACKAGE", "victim.sub"))
    (folder / "outside.toml").write_text(MANIFEST.replace("PACKAGE", "victim"))
    (folder / "matplotlibrc").write_text("backend: module://evil\n")
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text(
        '{"architectures": ["Evil"], "model_type": "evil", "auto_map": {"AutoModel": "modeling.Evil"}}'
    )
    leave_trace(folder / "model" / "modeling.py")
    write_pickles(folder, Payload(str(trace)))


@pytest.mark.long
def test_nothing_of_a_hostile_folder_runs_in_a_notebook(tmp_path):
    folder = tmp_path / "unpacked"
    folder.mkdir()
    write_hostile_folder(folder, tmp_path / "TRACE")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    environment = {**os.environ, "IPYTHONDIR": str(tmp_path / "ipython"), "OMP_NUM_THREADS": "1"}
    manager, client = start_new_kernel(env=environment, cwd=str(folder))
    client.stop_channels()
    try:
        NotebookClient(notebook, km=manager, timeout=300).execute()
    finally:
        manager.shutdown_kernel(now=True)
    assert list(tmp_path.rglob("TRACE")) == []
    (output,) = notebook.cells[-1].outputs
    assert int(output["text"].split()[0]) > 20


def test_the_files_of_the_hostile_folder_would_leave_a_trace(tmp_path):
    folder = tmp_path / "unpacked"
    folder.mkdir()
    write_hostile_folder(folder, tmp_path / "TRACE")
    with contextlib.suppress(FileExistsError):
        pickle.loads((folder / "data.pkl").read_bytes())  # noqa: S301 - the test wrote it
    assert (tmp_path / "TRACE").is_dir()
    exec((folder / "victim" / "__init__.py").read_text())
    assert (folder / "TRACE").is_file()
