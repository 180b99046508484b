"""fastText: a bag of words and of their pieces, whose mean vector a tree of sigmoids assigns to a class.

References: Joulin, Grave, Bojanowski and Mikolov, Bag of Tricks for Efficient Text Classification (2016), and Joulin et
al., FastText.zip: Compressing text classification models (2016), whose file format is read here.
"""

import functools
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from modgap.errors import InputError
from modgap.sources.inputs import TextInput, masked_mean
from modgap_zoo.packaged.network import FlatHead, PackagedNetwork
from modgap_zoo.packaged.symbols import vectors_and_mask

MAGIC, VERSION = 793_712_314, 12
SUPERVISED = 3
HIERARCHICAL, SOFTMAX = 1, 3
"""Numbers of the two losses whose outputs are probabilities that sum to 1."""
MOST_BYTES = 1 << 28
MOST_VALUES = 1 << 26
"""Largest file, and largest number of values of a matrix. A matrix of codes could have many more than its file."""
LONGEST_PIECE = 64
MOST_COUNT = 10**15
CENTROIDS = 256
WORD, LABEL = 0, 1
LABEL_PREFIX = "__label__"
END = "</s>"
LONGEST_TEXT = 4096
"""Largest number of words and pieces of a text."""
SPACES = str.maketrans(dict.fromkeys("\n\r\t\v\f\0", " "))
HASH_START, HASH_FACTOR, HASH_MASK = 2_166_136_261, 16_777_619, 0xFFFF_FFFF


@dataclass(frozen=True)
class FastTextFile:
    """The content of a file.

    Attributes:
        words: Number of the row of each word.
        labels: Names of the classes, the most frequent first.
        counts: Number of training samples of each class, from which the tree of sigmoids follows.
        loss: `HIERARCHICAL` or `SOFTMAX`.
        pieces: Shortest and longest number of characters of a piece; zeros if there are no pieces.
        buckets: Number of values of the hash of a piece.
        rows_of_buckets: Row after the words of each bucket that was not removed; None if none was.
        tensors: The `vectors` of words and buckets, (rows, D), and the `outputs`, vectors of the classes or of the
            nodes of the tree, (C, D).
    """

    words: Mapping[str, int]
    labels: tuple[str, ...]
    counts: tuple[int, ...]
    loss: int
    pieces: tuple[int, int]
    buckets: int
    rows_of_buckets: Mapping[int, int] | None
    tensors: Mapping[str, Tensor]


# The file


class _Reader:
    """Numbers, names and matrices of a file, one after the other."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.position = 0

    def numbers(self, form: str) -> tuple[Any, ...]:
        values = struct.unpack_from(f"<{form}", self.content, self.position)
        self.position += struct.calcsize(f"<{form}")
        return values

    def name(self) -> str:
        end = self.content.index(b"\0", self.position)
        name = self.content[self.position : end].decode()
        self.position = end + 1
        return name

    def array(self, dtype: str, length: int) -> np.ndarray:
        size = length * np.dtype(dtype).itemsize
        if not 0 <= size <= len(self.content) - self.position:
            raise ValueError(f"{length:,} values are announced, and the file ends before")
        array = np.frombuffer(self.content, dtype, length, self.position)
        self.position += size
        return array

    def matrix(self) -> np.ndarray:
        rows, columns = self.numbers("qq")
        return self.array("<f4", _product(rows, columns)).reshape(rows, columns)

    def quantized_matrix(self) -> np.ndarray:
        """Return a matrix whose rows are codes of parts of vectors, with their norms as codes if these are stored."""
        has_norms, rows, columns, n_codes = self.numbers("?qqi")
        _product(rows, columns)
        codes = self.array("u1", n_codes)
        directions = self._decode(codes, rows, columns)
        if not has_norms:
            return directions
        return np.asarray(directions * self._decode(self.array("u1", rows), rows, 1))

    def _decode(self, codes: np.ndarray, rows: int, columns: int) -> np.ndarray:
        dim, n_parts, part, last_part = self.numbers("iiii")
        if not (1 <= n_parts <= dim == columns and 1 <= last_part <= part and (n_parts - 1) * part + last_part == dim):
            raise ValueError(f"vectors of {dim:,} values do not have {n_parts:,} parts of {part:,}")
        if len(codes) != rows * n_parts:
            raise ValueError(f"{rows:,} vectors have {len(codes):,} codes, not {rows * n_parts:,}")
        centroids = self.array("<f4", dim * CENTROIDS)
        split = (n_parts - 1) * part * CENTROIDS
        first, last = centroids[:split].reshape(-1, CENTROIDS, part), centroids[split:].reshape(CENTROIDS, last_part)
        codes = codes.reshape(rows, n_parts)
        parts = [table[codes[:, number]] for number, table in enumerate((*first, last))]
        return np.concatenate(parts, axis=1)


def _product(rows: int, columns: int) -> int:
    if not (rows > 0 and columns > 0 and rows * columns <= MOST_VALUES):
        raise ValueError(f"a matrix has {rows:,} x {columns:,} values")
    return rows * columns


def read(path: Path) -> FastTextFile:
    """Return the content of a file of a classifier, `.bin` or quantized `.ftz`.

    Raises:
        InputError: When the file is missing, too large or damaged, or of another kind of model.
    """
    try:
        if (size := path.stat().st_size) > MOST_BYTES:
            raise InputError(f"{path} has {size:,} bytes. A fastText file of at most {MOST_BYTES:,} bytes can be read.")
        return _parse(_Reader(path.read_bytes()))
    except OSError as error:
        raise InputError(f"The fastText file {path} cannot be read: {error.strerror}.") from error
    except (ValueError, struct.error) as error:
        raise InputError(f"{path} is not a fastText classifier of version 12, or it is damaged: {error}.") from error


def _parse(reader: _Reader) -> FastTextFile:
    if reader.numbers("ii") != (MAGIC, VERSION):
        raise ValueError("its beginning is that of another format")
    dim, _, _, _, _, n_words_together, loss, kind, buckets, shortest, longest, _ = reader.numbers("12i")
    reader.numbers("d")
    if kind != SUPERVISED or loss not in (HIERARCHICAL, SOFTMAX) or n_words_together != 1:
        raise ValueError("the model is no classifier of single words whose probabilities sum to 1")
    if not (0 <= shortest <= longest <= LONGEST_PIECE and (buckets > 0 or longest == 0)):
        raise ValueError(f"pieces of {shortest:,} to {longest:,} characters have {buckets:,} buckets")
    n_entries, n_words, n_labels, _, n_kept = reader.numbers("iiiqq")
    entries = [(reader.name(), *reader.numbers("qb")) for _ in range(n_entries)]
    words = {name: number for number, (name, _, kind) in enumerate(entries) if kind == WORD}
    labels = [(name.removeprefix(LABEL_PREFIX), count) for name, count, kind in entries if kind == LABEL]
    # The words come first, and their number is that of their row.
    if not (len(words) == n_words == n_entries - n_labels and len(labels) == n_labels > 1):
        raise ValueError(f"{n_words:,} words and {n_labels:,} labels are announced, and there are others")
    if max(words.values(), default=-1) >= n_words or any(not 0 <= count < MOST_COUNT for _, count in labels):
        raise ValueError("its words do not come before its labels, or a label was not counted")
    kept = reader.array("<i4", 2 * n_kept).reshape(-1, 2) if n_kept >= 0 else None
    vectors = reader.quantized_matrix() if reader.numbers("?")[0] else reader.matrix()
    outputs = reader.quantized_matrix() if reader.numbers("?")[0] else reader.matrix()
    n_pieces = len(kept) if kept is not None else buckets
    if vectors.shape != (n_words + n_pieces, dim) or outputs.shape != (n_labels, dim):
        raise ValueError(f"its matrices have {vectors.shape} and {outputs.shape} values")
    if kept is not None and len(kept) and not (kept[:, 1].min() >= 0 and kept[:, 1].max() < n_pieces):
        raise ValueError("a piece has a row outside the matrix")
    return FastTextFile(
        words,
        tuple(name for name, _ in labels),
        tuple(count for _, count in labels),
        loss,
        (shortest, longest),
        buckets,
        None if kept is None else dict(kept.tolist()),
        {"vectors": torch.from_numpy(vectors.copy()), "outputs": torch.from_numpy(outputs.copy())},
    )


# Texts


class _Tokenizer:
    """Words and their pieces as numbers of rows, with the methods of a tokenizer that a `TextInput` needs."""

    pad_token_id = 0

    def __init__(self, content: FastTextFile) -> None:
        self.words = content.words
        self.shortest, self.longest = content.pieces
        self.buckets = content.buckets
        self.rows_of_buckets = content.rows_of_buckets
        self.rows_of_word = functools.lru_cache(1 << 16)(self._rows_of_word)

    def __call__(
        self, texts: str | Sequence[str], *, max_length: int = LONGEST_TEXT, return_tensors: str = "", **_options: bool
    ) -> dict[str, Any]:
        """Return the rows of a text or of texts with their mask; with tensors, padded to the longest text."""
        if isinstance(texts, str):
            rows = self.rows(texts, max_length)
            return {"input_ids": rows, "attention_mask": [1] * len(rows)}
        lists = [self.rows(text, max_length) for text in texts]
        if not return_tensors:
            return {"input_ids": lists, "attention_mask": [[1] * len(rows) for rows in lists]}
        numbers = torch.full((len(lists), max(map(len, lists), default=0)), self.pad_token_id)
        mask = torch.zeros_like(numbers)
        for text, rows in enumerate(lists):
            numbers[text, : len(rows)] = torch.tensor(rows, dtype=torch.int64)
            mask[text, : len(rows)] = 1
        return {"input_ids": numbers, "attention_mask": mask}

    def rows(self, text: str, most: int) -> list[int]:
        """Return at most so many rows of a text, whose end is a word."""
        rows: list[int] = []
        for word in text.translate(SPACES).split(" "):
            if len(rows) >= most:
                break
            rows += self.rows_of_word(word[:LONGEST_TEXT]) if word else ()
        end = self.words.get(END)
        return (rows if end is None else [*rows, end])[:most]

    def _rows_of_word(self, word: str) -> tuple[int, ...]:
        number = self.words.get(word)
        rows = [] if number is None else [number]
        if self.longest and word != END:
            rows += self._rows_of_pieces(f"<{word}>")
        return tuple(rows)

    def _rows_of_pieces(self, word: str) -> Iterator[int]:
        """Yield the row of each piece of a word in brackets. A bracket alone is no piece."""
        encoded = [
            [byte - 256 if byte > 127 else byte for byte in character.encode(errors="replace")] for character in word
        ]
        for start in range(len(encoded)):
            value = HASH_START
            for length, character in enumerate(encoded[start : start + self.longest], 1):
                for byte in character:
                    value = (value ^ (byte & HASH_MASK)) * HASH_FACTOR & HASH_MASK
                is_bracket = length == 1 and start in (0, len(encoded) - 1)
                if length >= max(1, self.shortest) and not is_bracket:
                    bucket = value % self.buckets
                    row = bucket if self.rows_of_buckets is None else self.rows_of_buckets.get(bucket)
                    if row is not None:
                        yield len(self.words) + row


# The network


def tree_paths(counts: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return the nodes (C, depth) above each class in Huffman's tree, and on which side (C, depth) the class is.

    The side is 1 or -1, and 0 after the root.
    """
    n_classes = len(counts)
    sizes = [*counts, *[0] * (n_classes - 1)]
    parent, side = [0] * len(sizes), [0] * len(sizes)
    # The classes are sorted by their counts, and the nodes are made in the order of theirs.
    leaf, node = n_classes - 1, n_classes
    for new in range(n_classes, len(sizes)):
        for place in (-1, 1):
            is_leaf = leaf >= 0 and (node == new or sizes[leaf] < sizes[node])
            child = leaf if is_leaf else node
            leaf, node = (leaf - 1, node) if is_leaf else (leaf, node + 1)
            parent[child], side[child] = new, place
            sizes[new] += sizes[child]
    paths = []
    for number in range(n_classes):
        path = [number]
        while path[-1] != 2 * n_classes - 2:
            path.append(parent[path[-1]])
        paths.append(path)
    depth = max(map(len, paths)) - 1
    nodes = [[node - n_classes for node in path[1:]] + [0] * (depth + 1 - len(path)) for path in paths]
    sides = [[side[node] for node in path[:-1]] + [0] * (depth + 1 - len(path)) for path in paths]
    return torch.tensor(nodes), torch.tensor(sides)


class _Embedder(nn.Module):
    """Vectors of words and pieces, (B, T, D), with the mask of their padding."""

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.rows = nn.Embedding(rows, width)

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"inputs_embeds": self.rows(batch["input_ids"]), "attention_mask": batch["attention_mask"]}


class _Encoder(nn.Module):
    """The mean of the vectors, one token (B, 1, D)."""

    def forward(self, value: Tensor | Mapping[str, Tensor]) -> Tensor:
        return masked_mean(*vectors_and_mask(value)).unsqueeze(1)


class _Head(FlatHead):
    """Logarithms of the probabilities of the classes, (B, 1, D) to (B, C)."""

    nodes: Tensor
    sides: Tensor

    def __init__(self, content: FastTextFile) -> None:
        n_classes, width = content.tensors["outputs"].shape
        super().__init__(nn.Linear(width, n_classes, bias=False))
        self.has_tree = content.loss == HIERARCHICAL
        nodes, sides = tree_paths(content.counts) if self.has_tree else (torch.empty(0), torch.empty(0))
        self.register_buffer("nodes", nodes, persistent=False)
        self.register_buffer("sides", sides, persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        scores = super().forward(tokens)
        if not self.has_tree:
            return scores.log_softmax(dim=1)
        steps = functional.logsigmoid(scores[:, self.nodes] * self.sides)
        return torch.where(self.sides == 0, 0, steps).sum(dim=2)


def build_network(content: FastTextFile) -> PackagedNetwork:
    """Return a fastText classifier with random vectors, for the words, pieces, tree and classes of a file.

    Args:
        content: Content of the file, which a control needs as well.
    """
    source_input = TextInput(_Tokenizer(content), LONGEST_TEXT)
    embedder = _Embedder(*content.tensors["vectors"].shape)
    return PackagedNetwork(source_input, content.labels, embedder, _Encoder(), _Head(content))


def rename_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the matrices of the file under the names of this network."""
    return {"embedder.rows.weight": weights["vectors"], "head.linear.weight": weights["outputs"]}
