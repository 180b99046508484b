"""Words with entity tags, one a line in columns, as in CoNLL-2003: each labeled word is a sample."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from modgap.errors import InputError
from modgap.targets.file_layout import files_by_split
from modgap.targets.samples import Table, TextSamples
from modgap.targets.word_in_context import WordInText

__all__ = ["OUTSIDE", "read"]

OUTSIDE = "outside"
DOCUMENT = "-DOCSTART-"


@dataclass(frozen=True)
class _Sentence:
    words: tuple[str, ...]
    entities: tuple[str, ...]
    document: int


def read(
    files: Mapping[str, Sequence[Path]],
    *,
    word: int = 0,
    tag: int = -1,
    outside: Literal["capped", "all", "none"] = "capped",
    seed: int = 0,
) -> Table:
    """Read words and the type of the entity that each belongs to, whatever its place in it (B- or I-).

    Args:
        files: Files under the roles `train`, `val` and `test`, or under `data` where the data names no splits.
            A word a line with its columns separated by blanks or tabs; a line without a word ends a sentence,
            one that starts with -DOCSTART- a document.
        word: Column of the word.
        tag: Column of its tag, O or an entity's type behind B- or I-.
        outside: What becomes of words outside entities: `capped`, a random choice of as many as the largest
            type has in that file's split; `all`; or `none`.
        seed: Seed of that choice.

    Returns:
        Samples WordInText; classes are the types in alphabetical order, then `outside`; groups `sentence`
        and `document`.

    Raises:
        InputError: When a line lacks a column, or there is no entity.
    """
    parts = [(None, path) for path in files["data"]] if "data" in files else list(files_by_split(files))
    kept, codes, sentences = _words(parts, word, tag)
    types = sorted({entity for _, _, entity in kept} - {OUTSIDE})
    if not types:
        raise InputError(f"expected words in entities in {', '.join(str(path) for _, path in parts)}, got none")
    classes = types if outside == "none" else [*types, OUTSIDE]
    rows = _chosen([entity for _, _, entity in kept], codes, outside, seed)
    numbers = {entity: k for k, entity in enumerate(classes)}
    labels = np.array([numbers[kept[row][2]] for row in rows], np.int64)
    sentence = np.array([kept[row][0] for row in rows], np.int64)
    texts = [WordInText.at(sentences[kept[row][0]].words, kept[row][1]) for row in rows]
    groups = {"sentence": sentence, "document": np.array([sentences[number].document for number in sentence])}
    return Table(TextSamples(texts), labels, classes, None if "data" in files else codes[rows], groups)


def _words(parts, word: int, tag: int) -> tuple[list[tuple[int, int, str]], np.ndarray, list[_Sentence]]:
    """Sentence, place and entity of every word, the word's split (or 0), and the sentences."""
    sentences: list[_Sentence] = []
    kept, codes, documents = [], [], 0
    for code, path in parts:
        for sentence in _sentences(path, word, tag, documents):
            kept += [(len(sentences), place, entity) for place, entity in enumerate(sentence.entities)]
            codes += [code or 0] * len(sentence.words)
            sentences.append(sentence)
        documents = 1 + (sentences[-1].document if sentences else documents)
    return kept, np.array(codes), sentences


def _sentences(path: Path, word: int, tag: int, document: int) -> Iterator[_Sentence]:
    """The sentences of a file; documents are numbered from `document`."""
    words: list[str] = []
    entities: list[str] = []
    for number, line in enumerate([*_lines(path), ""], start=1):
        columns = [column.strip() for column in line.split("\t")] if "\t" in line else line.split()
        boundary = not columns or columns[0] in ("", DOCUMENT)
        if boundary and words:
            yield _Sentence(tuple(words), tuple(entities), document)
            words, entities = [], []
        if boundary:
            document += DOCUMENT in columns[:1]
            continue
        try:
            words.append(columns[word])
            entities.append(_entity(columns[tag]))
        except (IndexError, ValueError) as error:
            raise InputError(
                f"expected a word in column {word} and O, B- or I- with a type in column {tag} of line {number} "
                f"of {path}, got {line[:60]!r}"
            ) from error


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {error}") from error


def _entity(tag: str) -> str:
    if tag == "O":
        return OUTSIDE
    prefix, dash, entity = tag.partition("-")
    if prefix not in ("B", "I") or not dash or not entity:
        raise ValueError(tag)
    return entity


def _chosen(entities: Sequence[str], codes: np.ndarray, outside: str, seed: int) -> np.ndarray:
    """Numbers of the words that become samples, in order."""
    if outside not in ("capped", "all", "none"):
        raise InputError(f"expected outside to be capped, all or none, got {outside!r}")
    beyond = np.array([entity == OUTSIDE for entity in entities])
    rows = np.flatnonzero(~beyond)
    if outside == "none":
        return rows
    rng = np.random.default_rng([seed, 0xB10])
    for code in np.unique(codes):
        others = np.flatnonzero(beyond & (codes == code))
        if outside == "capped":
            inside = [entities[row] for row in np.flatnonzero(~beyond & (codes == code))]
            most = max(np.unique(inside, return_counts=True)[1], default=0)
            others = rng.permutation(others)[:most]
        rows = np.concatenate([rows, others])
    return np.sort(rows)
