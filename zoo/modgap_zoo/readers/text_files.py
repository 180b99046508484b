"""Texts in files: entries that a regular expression finds, bodies of mails, or conversations in YAML."""

import email
import html
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import yaml

from modgap.errors import InputError, first_line
from modgap.labels.written_names import number_names
from modgap.storage.damaged_files import convert_read_errors
from modgap.storage.limits import check_memory
from modgap.targets.file_layout import compile_pattern, list_files, match_paths, names_below
from modgap.targets.samples import Table, TextSamples

MAIL, CONVERSATIONS = "mail", "conversations"
TAG = re.compile("<[^<>]*>")


Entry = tuple[str, str | None, str | None]
"""A text, with its class and its group; None where the content of the file does not say them."""


def sample_versions() -> dict[str, str]:
    """Return no versions, because the samples of a file are the same in all versions of this reader."""
    return {}


def read(
    files: Mapping[str, Sequence[Path]],
    *,
    entries: str,
    path_pattern: str = "(?P<label>.+)",
    replace: Mapping[str, str] | None = None,
    is_html: bool = False,
    encoding: str = "utf-8",
) -> Table:
    """Read the texts of files. Class and group of a text are in its entry, or in the path of its file.

    Args:
        files: Files and folders under the role `data`.
        entries: Regular expression of an entry, whose group `text` is the text, and whose groups `label` and `group`
            are its class and its group. Or `mail` for the body of a mail in each file, or `conversations` for all
            statements in a YAML file, with the first statement of each conversation as their group.
        path_pattern: Regular expression of the whole name of a file, or of its path relative to its folder. Its groups
            `label` and `group` are class and group of the texts. Other files are left out.
        replace: Texts that take the place of what regular expressions find in a text, one after the other.
        is_html: True to remove the tags of HTML from texts, and to decode its references.
        encoding: Encoding of the files. Bodies of mails have their own.

    Returns:
        Samples that are strings, without outer spaces and without empty texts. They have the group `group` if each text
        has one.

    Raises:
        InputError: When a file cannot be read, there are no texts, a text has no class, or an expression is invalid.
    """
    replacements = [(compile_pattern(pattern, text), text) for pattern, text in (replace or {}).items()]
    texts, labels, groups = [], [], []
    for path, of_path in _matching_files(files["data"], path_pattern):
        for text, label, group in _read_entries(path, entries, encoding):
            if is_html:
                text = " ".join(html.unescape(TAG.sub(" ", text)).split())
            for pattern, replacement in replacements:
                text = pattern.sub(replacement, text)
            if text := text.strip():
                texts.append(text)
                labels.append(label or of_path.get("label"))
                groups.append(group or of_path.get("group"))
    if not texts:
        raise InputError(f"{', '.join(map(str, files['data']))} has no texts that fit {entries!r}.")
    if None in labels:
        raise InputError("A text has no class. Expected a group (?P<label>...) in path_pattern or in entries.")
    numbered = number_names(labels)
    named_groups = None if None in groups else {"group": np.array(groups)}
    return Table(TextSamples(texts), numbered.numbers, list(numbered.names), groups=named_groups)


def _matching_files(paths: Sequence[Path], pattern: str) -> Iterator[tuple[Path, dict[str, str | None]]]:
    """Yield each file that a regular expression fits, with the groups of the expression."""
    for path in paths:
        folder, names = (path, names_below(path, list_files(path))) if path.is_dir() else (path.parent, [path.name])
        for match in match_paths(names, pattern, "files of texts", str(path)):
            yield folder / match.string, match.groupdict()


def _read_entries(path: Path, entries: str, encoding: str) -> list[Entry]:
    """Return the entries of a file."""
    with convert_read_errors(path, "text"):
        check_memory(path, path.stat().st_size)
        content = path.read_bytes()
        if entries == MAIL:
            return [(_mail_body(content), None, None)]
        text = content.decode(encoding)
    if entries == CONVERSATIONS:
        return _conversations(text, path)
    pattern = compile_pattern(entries)
    if "text" not in pattern.groupindex:
        raise InputError(f"The pattern {entries!r} has no group (?P<text>...), which is the text of an entry.")
    matches = (match.groupdict() for match in pattern.finditer(text))
    return [(match["text"] or "", match.get("label"), match.get("group")) for match in matches]


def _mail_body(content: bytes) -> str:
    """Return the text parts of a mail without any of its headers; the bytes of an unknown encoding as Latin-1."""
    message = email.message_from_bytes(content)
    texts = []
    for part in message.walk():
        payload = part.get_payload(decode=True)
        if part.get_content_maintype() == "text" and isinstance(payload, bytes):
            try:
                texts.append(payload.decode(part.get_content_charset() or "latin-1", errors="replace"))
            except LookupError:
                texts.append(payload.decode("latin-1"))
    return "\n".join(texts)


def _conversations(text: str, path: Path) -> list[Entry]:
    """Return all statements of the lists in the field `conversations` of a YAML file; a text is a list of one."""
    with convert_read_errors(path, "YAML"):
        try:
            # The loader in Python stops at deep nesting, where that in C would overflow the stack.
            record = yaml.load(text, Loader=yaml.SafeLoader)
        except yaml.YAMLError as error:
            raise InputError(f"cannot read {path} as YAML: {first_line(error)}") from error
    listed = record.get("conversations") if isinstance(record, dict) else None
    conversations = [[one] if isinstance(one, str) else one for one in listed] if isinstance(listed, list) else []
    if not conversations or not all(isinstance(one, list) and one for one in conversations):
        raise InputError(f"expected a list of lists of texts in the field conversations of {path}")
    # A short file can repeat a list many times by references to it.
    if sum(map(len, conversations)) > len(text):
        raise InputError(f"{path} has more statements than characters, so it repeats some by references.")
    if not all(isinstance(statement, str) for conversation in conversations for statement in conversation):
        raise InputError(f"expected a list of lists of texts in the field conversations of {path}, not all are texts")
    return [(statement, None, conversation[0].strip()) for conversation in conversations for statement in conversation]
