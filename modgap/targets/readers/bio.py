"""Words with entity tags, one in each line, as in CoNLL-2003. Each labeled word is a sample."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from modgap.errors import InputError
from modgap.targets.file_layout import data_files, read_text
from modgap.targets.samples import Table, TextSamples, WordInText

OUTSIDE = "outside"
DOCUMENT = "-DOCSTART-"
CHOICE_STREAM = 0xB10
"""Second seed that keeps these random numbers apart from others of the same seed."""


@dataclass(frozen=True)
class _Word:
    """A word by the numbers of its sentence and within it, its entity, and the index of its split (or 0)."""

    sentence: int
    position: int
    entity: str
    code: int


def read(
    files: Mapping[str, Sequence[Path]],
    *,
    word_column: int = 0,
    tag_column: int = -1,
    outside: Literal["capped", "all", "none"] = "capped",
    seed: int = 0,
) -> Table:
    """Read words and the type of the entity that each belongs to, at any position in it (B- or I-).

    Args:
        files: Files under the roles `train`, `val` and `test`, or under `data` if the data defines no splits.
            Each line has a word, with columns separated by spaces or tabs. A line without a word ends a sentence,
            and a line that starts with -DOCSTART- starts a document.
        word_column: Index of the word's column.
        tag_column: Index of the column of its tag: O, or B- or I- and the type of the entity.
        outside: Treatment of words outside entities. `capped` draws as many as the most frequent type has in the
            same split, `all` takes them all, `none` skips them.
        seed: Seed of that draw.

    Returns:
        Samples WordInText; classes are the types in alphabetical order, then `outside`; groups `sentence`
        and `document`.

    Raises:
        InputError: When a line lacks a column, or there is no entity.
    """
    parts = data_files(files)
    tagged, sentences = _read_words(parts, word_column, tag_column)
    types = sorted({word.entity for word in tagged} - {OUTSIDE})
    if not types:
        raise InputError(f"expected words in entities in {', '.join(str(path) for _, path in parts)}, got none")
    classes = types if outside == "none" else [*types, OUTSIDE]
    numbers = {entity: k for k, entity in enumerate(classes)}
    samples = [tagged[row] for row in _choose_rows(tagged, outside, seed)]
    return Table(
        TextSamples([WordInText.from_words(sentences[word.sentence][0], word.position) for word in samples]),
        np.array([numbers[word.entity] for word in samples], np.int64),
        classes,
        None if "data" in files else np.array([word.code for word in samples]),
        {
            "sentence": np.array([word.sentence for word in samples], np.int64),
            "document": np.array([sentences[word.sentence][1] for word in samples]),
        },
    )


def _read_words(
    parts: Sequence[tuple[int | None, Path]], word_column: int, tag_column: int
) -> tuple[list[_Word], list[tuple[tuple[str, ...], int]]]:
    """Return all words, and the tokens and the document of all sentences, of files with an index into SPLITS each."""
    sentences: list[tuple[tuple[str, ...], int]] = []
    samples: list[_Word] = []
    first_document = 0
    for code, path in parts:
        for tokens, entities, document in _read_sentences(path, word_column, tag_column, first_document):
            samples += [_Word(len(sentences), i, entity, code or 0) for i, entity in enumerate(entities)]
            sentences.append((tokens, document))
        first_document = 1 + (sentences[-1][1] if sentences else first_document)
    return samples, sentences


def _read_sentences(
    path: Path, word_column: int, tag_column: int, document: int
) -> Iterator[tuple[tuple[str, ...], tuple[str, ...], int]]:
    """Yield the tokens, the entities and the document of each sentence. Documents are numbered from `document` on."""
    tokens: list[str] = []
    entities: list[str] = []
    for number, line in enumerate([*read_text(path, str(path)).split("\n"), ""], start=1):
        columns = [column.strip() for column in line.split("\t")] if "\t" in line else line.split()
        is_boundary = not columns or columns[0] in ("", DOCUMENT)
        if is_boundary and tokens:
            yield tuple(tokens), tuple(entities), document
            tokens = []
            entities = []
        if is_boundary:
            document += DOCUMENT in columns[:1]
            continue
        try:
            tokens.append(columns[word_column])
            entities.append(_entity(columns[tag_column]))
        except (IndexError, ValueError) as error:
            raise InputError(
                f"expected a word in column {word_column} and O, B- or I- with a type in column {tag_column} of line "
                f"{number} of {path}, got {line[:60]!r}"
            ) from error


def _entity(tag: str) -> str:
    if tag == "O":
        return OUTSIDE
    prefix, dash, entity = tag.partition("-")
    if prefix not in ("B", "I") or not dash or not entity:
        raise ValueError(tag)
    return entity


def _choose_rows(tagged: Sequence[_Word], outside: str, seed: int) -> np.ndarray:
    """Return the numbers of the words that become samples, in order."""
    if outside not in ("capped", "all", "none"):
        raise InputError(f"expected outside to be capped, all or none, got {outside!r}")
    entities = np.array([word.entity for word in tagged])
    codes = np.array([word.code for word in tagged])
    is_outside = entities == OUTSIDE
    rows = np.flatnonzero(~is_outside)
    if outside == "none":
        return rows
    rng = np.random.default_rng([seed, CHOICE_STREAM])
    for code in np.unique(codes):
        others = np.flatnonzero(is_outside & (codes == code))
        if outside == "capped":
            inside = entities[~is_outside & (codes == code)]
            limit = max(np.unique(inside, return_counts=True)[1], default=0)
            others = rng.permutation(others)[:limit]
        rows = np.concatenate([rows, others])
    return np.sort(rows)
