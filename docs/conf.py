"""Configuration of the documentation site; `make docs` builds it."""

import base64
import hashlib
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from sphinx.application import Sphinx

from modgap import __version__
from modgap.api.pages.leaderboard_page import render_leaderboard
from modgap.storage.json_records import read_json

ROOT = Path(__file__).parents[1]


def code_digest() -> str:
    """Return a digest of all files of the package and the commands, on which the outputs of the pages depend."""
    files = sorted(path for folder in ("modgap", "cli") for path in (ROOT / folder).rglob("*") if path.is_file())
    digest = hashlib.sha256()
    for path in files:
        if "__pycache__" not in path.parts and path.suffix not in (".nbi", ".nbc"):
            digest.update(f"{path.relative_to(ROOT)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


CACHES = Path(os.environ.get("MODGAP_DOCS_CACHE", Path(tempfile.gettempdir()) / f"modgap-docs-{os.getuid()}"))
BUILD_CACHE = CACHES / code_digest()
"""Outputs, runs and cached results of one state of the code. An earlier state's would be stale, or refused."""

project = "modgap"
author = "The modgap authors"
copyright = author
version = __version__
release = __version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_click",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_llms_txt",
    "sphinxcontrib.programoutput",
]
exclude_patterns = ["_build", "jupyter_execute"]
smartquotes = False  # two hyphens begin an option
html_theme = "furo"
html_title = "modgap"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {"navigation_with_keys": True}

autodoc_typehints = "description"
autodoc_member_order = "bysource"
default_role = "code"
napoleon_google_docstring = True
napoleon_numpy_docstring = False

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "cache"
nb_execution_cache_path = str(BUILD_CACHE / "notebooks")
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_merge_streams = True
copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = True
programoutput_prompt_template = "$ {command}\n{output}"

COMMAND_WIDTH = "100"
"""Width of the terminal, in characters, of the commands that the pages run."""
TOP_LEVEL = {"security": "SECURITY.md", "contributing": "CONTRIBUTING.md", "changelog": "CHANGELOG.md"}
"""Files beside the folder of the site, by the page that shows them."""


def copy_notebooks(app: Sphinx) -> None:
    """Copy the notebooks and their first pictures into the folder of the gallery, so that the site shows them."""
    gallery = Path(app.srcdir) / "gallery"
    gallery.mkdir(exist_ok=True)
    for notebook in (ROOT / "notebooks").glob("*.ipynb"):
        shutil.copyfile(notebook, gallery / notebook.name)
        (gallery / f"{notebook.stem}.png").write_bytes(first_picture(notebook))


def first_picture(notebook: Path) -> bytes:
    """Return the first picture that a notebook keeps, as a PNG file."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    outputs = [output.get("data", {}) for cell in cells for output in cell.get("outputs", ())]
    return base64.b64decode(next(data["image/png"] for data in outputs if "image/png" in data))


def write_leaderboard(app: Sphinx) -> None:
    """Write the leaderboard of the packaged sources, which the pages link to, from the record of its matrix."""
    record = read_json(ROOT / "benchmarks" / "truth" / "zoo-matrix.json")
    page = Path(app.outdir) / "_static" / "zoo.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(render_leaderboard(record), encoding="utf-8")


def show_top_level_files(_app: Sphinx, docname: str, source: list[str]) -> None:
    """Fill the pages of the files beside the site, and point the links to these files at their pages."""
    if docname in TOP_LEVEL:
        source[0] = (ROOT / TOP_LEVEL[docname]).read_text(encoding="utf-8").replace("](docs/", "](")
    for page, file in TOP_LEVEL.items():
        source[0] = source[0].replace(f"](../{file}", f"]({page}.md").replace(f"]({file}", f"]({page}.md")


def show_examples(_app: Sphinx, _context: object, lines: list[str]) -> None:
    """Show the examples at the end of a command's help as commands."""
    text = [line.removeprefix("| ") for line in lines]
    lines[:] = [piece for line in text for piece in (("Example::", "") if line == "Example:" else (line,))]


def setup(app: Sphinx) -> None:
    """Prepare the environment of the executed blocks, and connect the hooks."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("MODGAP_QUICK", "1")
    os.environ["COLUMNS"] = COMMAND_WIDTH
    # tqdm warns in a notebook without widgets.
    os.environ["PYTHONWARNINGS"] = "ignore:IProgress not found"
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    os.environ["MODGAP_CACHE"] = str(BUILD_CACHE / "modgap")
    os.environ["MODGAP_RUNS"] = str(BUILD_CACHE / "runs")
    app.connect("builder-inited", copy_notebooks)
    app.connect("builder-inited", write_leaderboard)
    app.connect("sphinx-click-process-epilog", show_examples)
    app.connect("source-read", show_top_level_files)
