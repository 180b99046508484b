"""The documentation site agrees with the package, and the check of its links finds dead ones."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(name="dead_links")
def check_of_links():
    spec = importlib.util.spec_from_file_location("check_links", ROOT / "tools" / "check_links.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.dead_links


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
