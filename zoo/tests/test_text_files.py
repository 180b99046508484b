"""The reader of texts in files: entries, mails, conversations, and what is refused."""

import numpy as np
import pytest

from modgap.errors import InputError
from modgap.targets.readers import get_reader

LINES = {"entries": "(?m)^(?P<text>.+)$"}


def read(*paths, **options):
    return get_reader("text_files")({"data": list(paths)}, **options)


def described(table):
    """Return text, class and group of each sample."""
    groups = [None] * len(table) if table.groups is None else table.groups["group"]
    return [(table.samples[i], table.classes[table.labels[i]], groups[i]) for i in range(len(table))]


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_lines_of_files_have_the_name_of_the_file_as_class(tmp_path):
    french, german = write(tmp_path / "french", "été\n\nhiver\n"), write(tmp_path / "german", "Sommer\n  \n")
    assert described(read(german, french, **LINES)) == [
        ("Sommer", "german", None), ("été", "french", None), ("hiver", "french", None),
    ]  # fmt: skip


def test_entries_between_lines_and_classes_in_paths_of_a_folder(tmp_path):
    write(tmp_path / "a" / "x1.txt", "one\nof two\n%\n%\ntwo\n%\n")
    write(tmp_path / "b" / "x2.txt", "three\n%\n")
    write(tmp_path / "b" / "notes.md", "other\n%\n")
    options = {"entries": r"(?ms)^(?!%$)(?P<text>.+?)\n%$", "path_pattern": r"(?P<label>.)/x(?P<group>\d)\.txt"}
    assert described(read(tmp_path, **options)) == [("one\nof two", "a", "1"), ("two", "a", "1"), ("three", "b", "2")]


def test_classes_and_groups_in_entries_and_replaced_parts(tmp_path):
    path = write(tmp_path / "data.noun", '12 05 n big_cat 0 @ | a feline; "a lion"\n34 20 n oak 0 | a tree\n')
    options = {
        "entries": r"(?m)^(?P<group>\d+) (?P<label>\d\d) n (?P<text>.+)$",
        "replace": {r"^(\S+) .*?\| ": r"\1: ", "_": " "},
    }
    assert described(read(path, **options)) == [
        ('big cat: a feline; "a lion"', "05", "12"), ("oak: a tree", "20", "34"),
    ]  # fmt: skip


def test_tags_and_references_of_html_are_removed_on_request(tmp_path):
    path = write(tmp_path / "eng.html", "<p>Right &amp;\n<b>wrong</b> &lt;p&gt;</p>")
    pattern = {"entries": "(?s)(?P<text>.+)"}
    assert read(path, is_html=True, **pattern).samples[0] == "Right & wrong <p>"
    assert read(path, **pattern).samples[0] == "<p>Right &amp;\n<b>wrong</b> &lt;p&gt;</p>"


MAIL = b"""From sender Thu Aug 22 12:36:23 2002
Subject: secret header
Content-Type: multipart/alternative; boundary="xyz"

preamble
--xyz
Content-Type: text/plain; charset=iso-8859-1
Content-Transfer-Encoding: quoted-printable

Caf=E9 today
--xyz
Content-Type: text/html; charset=no-such-charset

<p>Caf\xe9</p>
--xyz
Content-Type: image/png
Content-Transfer-Encoding: base64

AAAA
--xyz--
"""


def test_bodies_of_mails_have_no_header(tmp_path):
    write(tmp_path / "spam" / "1", MAIL)
    write(tmp_path / "spam" / "2", b"Subject: nothing but a header\n\n")
    write(tmp_path / "ham" / "1", b"Subject: x\nContent-Type: text/plain; charset=hex\n\nPlain \xff text\n")
    table = read(tmp_path, entries="mail", path_pattern="(?P<label>.+)/.+")
    assert described(table) == [("Plain \xff text", "ham", None), ("Café today\n<p>Café</p>", "spam", None)]


def test_statements_of_conversations_are_grouped_by_the_first_one(tmp_path):
    content = "categories:\n- food\nconversations:\n- - Hungry?\n  - 'No: full'\n  - >\n    Well,\n    yes\n- alone\n"
    write(tmp_path / "food.yml", content)
    table = read(tmp_path, entries="conversations", path_pattern=r"(?P<label>.+)\.yml")
    assert described(table) == [
        ("Hungry?", "food", "Hungry?"), ("No: full", "food", "Hungry?"), ("Well, yes", "food", "Hungry?"),
        ("alone", "food", "alone"),
    ]  # fmt: skip


REPEATED = f"a: &a [{', '.join('x' * 9)}]\nconversations: [{', '.join(['*a'] * 14)}]\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("conversations: [", "cannot read .*food.yml as YAML: while parsing"),
        ("conversations: !!python/object/apply:os.system [ls]", "as YAML: could not determine a constructor"),
        ("conversations: " + "[" * 5000, "food.yml"),
        ("- a", "expected a list of lists of texts in the field conversations"),
        ("conversations: [[a, 1]]", "not all are texts"),
        ("conversations: [{a: b}]", "expected a list of lists of texts"),
        (REPEATED, "has more statements than characters, so it repeats some by references"),
        (b"\xff\xfe\x00", "food.yml"),
    ],
)
def test_damaged_conversations_raise_a_one_line_error(tmp_path, content, message):
    path = write(tmp_path / "food.yml", content)
    with pytest.raises(InputError, match=message) as caught:
        read(path, entries="conversations")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"entries": "(?P<text>x"}, "is no regular expression"),
        ({"entries": "x"}, r"has no group \(\?P<text>\.\.\.\), which is the text of an entry"),
        ({"entries": "(?P<text>missing)"}, r"words has no texts that fit '\(\?P<text>missing\)'"),
        ({**LINES, "path_pattern": ".+"}, "A text has no class. Expected a group"),
        ({**LINES, "path_pattern": "(?P<label>x)"}, "has 1 file, such as words, but no files of texts that fit"),
        ({**LINES, "encoding": "ascii"}, "words"),
        ({**LINES, "encoding": "no-such-encoding"}, "words"),
        ({**LINES, "replace": {"[": ""}}, "is no regular expression"),
        ({**LINES, "replace": {"x": r"\9"}}, "invalid group reference"),
    ],
)
def test_options_that_do_not_fit_raise_a_one_line_error(tmp_path, options, message):
    path = write(tmp_path / "words", "text \xe9\n")
    with pytest.raises(InputError, match=message) as caught:
        read(path, **options)
    assert "\n" not in str(caught.value)


def test_texts_without_a_group_have_no_groups(tmp_path):
    table = read(write(tmp_path / "a", "x 1\ny\n"), entries=r"(?m)^(?P<text>\w+)(?: (?P<group>\d))?$")
    assert table.groups is None
    np.testing.assert_array_equal(table.labels, [0, 0])
