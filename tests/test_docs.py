"""The documentation site agrees with the package, and the check of its links finds dead ones."""

import importlib.util
import inspect
import re
import tomllib
from pathlib import Path

import pytest

from modgap.targets.manifest import Manifest
from modgap.targets.readers import get_reader

ROOT = Path(__file__).parents[1]
MANIFEST_GUIDE = (ROOT / "docs" / "guides" / "manifest.md").read_text(encoding="utf-8")


def load_tool(name):
    """The module of a program in the folder `tools`."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(name="dead_links")
def check_of_links():
    return load_tool("check_links").dead_links


def test_dead_links_are_found(tmp_path, dead_links):
    (tmp_path / "index.html").write_text(
        '<a href="other.html#there">1</a><a href="other.html#absent">2</a><img src="absent.png"><a href="http://x">3</a>'
    )
    (tmp_path / "other.html").write_text('<h1 id="there">other</h1><a href="#there">4</a><a href="index.html">5</a>')
    assert dead_links(tmp_path) == (2, 5, ["index.html: other.html#absent", "index.html: absent.png"])


def test_each_message_of_the_questions_is_a_message_of_the_package():
    quoted = re.findall(r'^### "(?:\.\.\. )?(.*?)(?: \.\.\.)?"$', (ROOT / "docs" / "faq.md").read_text(), re.MULTILINE)
    assert len(quoted) >= 5
    code = "".join(path.read_text() for folder in ("modgap", "cli") for path in (ROOT / folder).rglob("*.py"))
    assert [message for message in quoted if message not in code] == []


def test_the_site_has_every_page_of_the_folder_in_its_contents():
    pages = {path.relative_to(ROOT / "docs").with_suffix("").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    pages = {page for page in pages if not page.startswith("_build")}
    listed = set()
    for name in ("index", "guides/index", "gallery"):
        lines = (ROOT / "docs" / f"{name}.md").read_text().splitlines()
        folder = name.rpartition("/")[0]
        listed |= {f"{folder}/{line}".lstrip("/") for line in lines}
    assert pages - listed == {"index"}


def test_the_guide_to_manifests_has_all_readers_with_options_that_they_take():
    rows = re.findall(r"^\| (`.*?) \| .*? \| .*? \| (.*) \|$", MANIFEST_GUIDE.partition("## Readers")[2], re.MULTILINE)
    options = {name: re.findall("`(.*?)`", row[1]) for row in rows for name in re.findall("`(.*?)`", row[0])}
    options.pop("reader.name")
    readers = {path.stem for path in (ROOT / "modgap" / "targets" / "readers").glob("[!_]*.py")}
    assert set(options) == readers
    for name, names in options.items():
        assert set(names) <= set(inspect.signature(get_reader(name)).parameters)


@pytest.mark.parametrize("text", re.findall(r"```toml\n(.*?)```", MANIFEST_GUIDE, re.DOTALL))
def test_the_manifests_of_the_guide_are_valid(text):
    manifest = Manifest.model_validate(tomllib.loads(text))
    inspect.signature(get_reader(manifest.reader.name)).bind({}, **manifest.reader.options)


def test_the_fields_in_the_guide_to_manifests_exist():
    fields = re.findall(
        r"^\| (`.*?) \|", MANIFEST_GUIDE.partition("## Fields")[2].partition("## Readers")[0], re.MULTILINE
    )
    names = {name.strip("[]").partition(".")[0] for row in fields for name in re.findall("`(.*?)`", row)}
    assert names
    assert names <= set(Manifest.model_fields)


def test_a_recording_is_made_to_rest_on_its_last_frame():
    frames = "@keyframes k{from{transform:translateX(-880px)}to{transform:translateX(-1760px)}}"
    style = "animation-duration:9s;animation-iteration-count:infinite;animation-name:k"
    rest = "animation-delay:3s;animation-iteration-count:1;transform:translateX(-1760px);"
    changed = load_tool("last_frame").rest_on_last_frame(f"<svg><style>{frames}.a{{{style}}}</style></svg>")
    assert changed == f"<svg><style>{frames}.a{{animation-duration:9s;{rest}animation-name:k}}</style></svg>"


def test_the_recording_of_the_terminal_rests_on_its_last_frame():
    recording = (ROOT / "docs" / "terminal.svg").read_text(encoding="utf-8")
    frames = re.findall(r'<svg x="(\d+)">', recording)
    assert f"animation-iteration-count:1;transform:translateX(-{frames[-1]}px);" in recording
    last = recording.rpartition(f'<svg x="{frames[-1]}">')[2]
    assert last.count("<use") > 20, "the last frame has the whole answer"


def test_the_answer_and_the_table_of_the_readme_have_one_error_and_interval():
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    answer = re.search(r"The held-out error is ([\d.]+) \(95 % CI ([\d.]+-[\d.]+)\)", text)
    row = re.search(r" search ([\d.]+) ([\d.]+-[\d.]+) ", text)
    assert answer.groups() == row.groups()
