"""Words with entity tags, one in each line, as in CoNLL-2003. Each labeled word is a sample."""

from collections.abc import Iterator, Mapping, Sequence
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
    # A word is described by the number of its sentence, its position in it, its entity, and the index of its split.
    sentences: list[tuple[tuple[str, ...], int]] = []
    tagged: list[tuple[int, int, str, int]] = []
    first_document = 0
    for code, path in parts:
        for tokens, entities, document in _read_sentences(path, word_column, tag_column, first_document):
            tagged += [(len(sentences), i, entity, code or 0) for i, entity in enumerate(entities)]
            sentences.append((tokens, document))
        first_document = 1 + (sentences[-1][1] if sentences else first_document)
    types = sorted({entity for _, _, entity, _ in tagged} - {OUTSIDE})
    if not types:
        raise InputError(f"expected words in entities in {', '.join(str(path) for _, path in parts)}, got none")
    classes = types if outside == "none" else [*types, OUTSIDE]
    numbers = {entity: k for k, entity in enumerate(classes)}
    samples = [tagged[row] for row in _choose_rows(tagged, outside, seed)]
    texts = TextSamples([WordInText.from_words(sentences[sentence][0], i) for sentence, i, _, _ in samples])
    labels = np.array([numbers[entity] for _, _, entity, _ in samples], np.int64)
    codes = None if "data" in files else np.array([code for _, _, _, code in samples])
    in_sentence = np.array([sentence for sentence, _, _, _ in samples], np.int64)
    in_document = np.array([sentences[sentence][1] for sentence in in_sentence])
    return Table(texts, labels, classes, codes, {"sentence": in_sentence, "document": in_document})


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
            tag = columns[tag_column]
            prefix, _, entity = tag.partition("-")
            if tag != "O" and (prefix not in ("B", "I") or not entity):
                raise ValueError(tag)
            entities.append(OUTSIDE if tag == "O" else entity)
        except (IndexError, ValueError) as error:
            raise InputError(
                f"expected a word in column {word_column} and O, B- or I- with a type in column {tag_column} of line "
                f"{number} of {path}, got {line[:60]!r}"
            ) from error


def _choose_rows(tagged: Sequence[tuple[int, int, str, int]], outside: str, seed: int) -> np.ndarray:
    """Return the numbers of the words that become samples, in order."""
    if outside not in ("capped", "all", "none"):
        raise InputError(f"expected outside to be capped, all or none, got {outside!r}")
    entities = np.array([entity for _, _, entity, _ in tagged])
    codes = np.array([code for _, _, _, code in tagged])
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
