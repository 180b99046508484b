"""Labeled surrogate data of the source's own modality, used by objectives of training, by scores and by probes."""

import logging
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from modgap.errors import InputError, UsageError, count
from modgap.forward.surrogate_target import open_surrogate_target
from modgap.inputs.native_embedding import Embedding, native_embedding
from modgap.process.devices import map_tensors
from modgap.sources import Batch, Input, Parts, Source, TextInput
from modgap.sources.inputs import pool_tokens
from modgap.storage.cache import cache_key
from modgap.targets import SPLITS, Samples, Table
from modgap.targets.readers.bio import OUTSIDE
from modgap.targets.samples import WordInText
from modgap.targets.splits import stratified_keys, stratified_subset

BATCH_SIZE = 64
"""Number of samples in a forward pass of `surrogate_features`."""
HALVES_SEED = 0
"""Seed of the division in halves. It is the same for all runs, so that no run trains on another's second half."""

log = logging.getLogger("modgap")


# Batches balanced by class


def balanced_rows(labels: np.ndarray, step: int, size: int, seed: int) -> np.ndarray:
    """Draw the samples of a batch, as evenly spread over the classes as possible.

    A class in the batch has at least two samples if possible, so that positive pairs exist. If there are more classes
    than half of the batch size, only that many classes, drawn at random, are in the batch. Other classes fill the
    places that a small class leaves free. Classes with a single sample come last.

    Args:
        labels: Class of each sample, 0..K-1, shape (n,).
        step: Number of the batch. The random numbers depend on seed and step only.
        size: Number of samples to draw.
        seed: Seed of the run, 0 or more.

    Returns:
        Indices of min(size, n) different samples in random order, int64.

    Raises:
        InputError: When there are no samples, or the size is less than 1.

    Example:
        >>> labels = np.array([0, 0, 0, 0, 1, 1, 2, 2, 2])
        >>> labels[balanced_rows(labels, step=3, size=6, seed=0)]
        array([1, 2, 2, 0, 1, 0])
    """
    if size < 1 or len(labels) == 0:
        raise InputError(f"{size} of {len(labels)} samples cannot be drawn. Both numbers must be at least 1.")
    rng = np.random.Generator(np.random.Philox(key=np.array([seed, step], np.uint64)))
    counts = _class_counts(np.bincount(labels), size, rng)
    rows = [
        rng.choice(np.flatnonzero(labels == label), counts[label], replace=False) for label in np.flatnonzero(counts)
    ]
    return rng.permutation(np.concatenate(rows)).astype(np.int64)


def _class_counts(available: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Return the number of samples of each class in a batch, (K,).

    The classes that are drawn for the batch are filled first, then the others with two samples or more, then those with
    one. Within each of these, the batch is filled in rounds, in each of which every class, in random order, gets one
    sample.
    """
    with_pairs = rng.permutation(np.flatnonzero(available > 1))
    # 0: drawn for the batch; 1: other classes with pairs; 2: classes with one sample.
    priority = np.where(available > 1, 1, 2)
    priority[with_pairs[: max(1, size // 2)]] = 0
    order = rng.permutation(len(available))
    limits = np.minimum(available, size)
    label = np.repeat(np.arange(len(available)), limits)
    round_number = np.arange(len(label)) - np.repeat(np.cumsum(limits) - limits, limits)
    drawn = np.lexsort((order[label], round_number, priority[label]))[:size]
    return np.bincount(label[drawn], minlength=len(available))


# The data


class SurrogateBatch(NamedTuple):
    """Batch of samples of a surrogate on a device.

    Attributes:
        inputs: Input of the source's embedder.
        word_positions: Position of the first token of the labeled word in each text, shape (B,). None if whole samples
            are labeled.
        last_word: Largest of these positions; None to read it from them, for which a device is waited for.
    """

    inputs: Batch
    word_positions: Tensor | None = None
    last_word: int | None = None

    def divide(self, size: int) -> list["SurrogateBatch"]:
        """Return the samples in consecutive parts of at most `size`, which share the memory of the batch."""
        n = len(next(iter(self.inputs.values())) if isinstance(self.inputs, Mapping) else self.inputs)
        return [map_tensors(self, operator.itemgetter(slice(first, first + size))) for first in range(0, n, size)]

    def pool(self, tokens: Tensor) -> Tensor:
        """Return the features (B, D) of tokens (B, T, D): the labeled word's token, or the mean without padding."""
        if self.word_positions is not None:
            last_word = int(self.word_positions.max()) if self.last_word is None else self.last_word
            if last_word >= tokens.shape[1]:
                raise UsageError(
                    f"The source gives {count(tokens.shape[1], 'output')} for a text and not one for each token. "
                    "Choose a surrogate that labels texts and not words."
                )
            return tokens[torch.arange(len(tokens), device=tokens.device), self.word_positions]
        return pool_tokens(tokens, self.inputs)


@dataclass(frozen=True)
class Surrogate:
    """Labeled samples that the embedder of a source takes.

    In `modgap.distortion.encoders` it stands for a source's embedding, by `pieces`, and for its input, by `batch` and
    `kind`.

    Attributes:
        samples: Samples. If words are labeled, each is a word in its text.
        labels: Class of each sample, shape (n,), int64.
        classes: Names of the classes in label order.
        embedding: Conversion of a sample to pieces of the source's input.
        input: Preprocessing of the source.
        provenance: Plain values that identify the samples.
        groups: Number of the record, sentence or subject of each sample, shape (n,). None if samples are independent.
    """

    samples: Samples
    labels: np.ndarray
    classes: tuple[str, ...]
    embedding: Embedding
    input: Input
    provenance: Mapping[str, object]
    groups: np.ndarray | None = None

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.labels)

    @property
    def kind(self) -> str:
        """Kind of the source's input."""
        return self.input.kind

    def load(self, rows: np.ndarray, device: torch.device) -> SurrogateBatch:
        """Load a batch of samples onto a device.

        Of a sample of several pieces, such as windows of a recording, the middle one is loaded.

        Args:
            rows: Indices of the samples, shape (B,).
            device: Device of the batch.
        """
        pieces = [self.pieces(self.samples[int(row)]) for row in rows]
        return self.batch([sample_pieces[len(sample_pieces) // 2] for sample_pieces in pieces], device)

    def pieces(self, sample: Any) -> list[Any]:
        """Return the pieces of input of a sample. A word in its text is one piece."""
        return [sample] if isinstance(sample, WordInText) else self.embedding.pieces(sample)

    def batch(self, pieces: Sequence[Any], device: torch.device) -> SurrogateBatch:
        """Return pieces (B,) as a batch on the device."""
        words = [piece for piece in pieces if isinstance(piece, WordInText)]
        if not words:
            return SurrogateBatch(self.input.batch(pieces, device))
        assert isinstance(self.input, TextInput)
        inputs = self.input.batch([word.text for word in words], device)
        positions = _first_tokens(self.input, words)
        return SurrogateBatch(inputs, torch.from_numpy(positions).to(device), int(positions.max()))


def _first_tokens(text_input: TextInput, words: list[WordInText]) -> np.ndarray:
    """Return the position of the first token of each word in its text; -1 if it has none or is truncated."""
    if not getattr(text_input.tokenizer, "is_fast", False):
        raise UsageError(
            f"The tokenizer {type(text_input.tokenizer).__name__} does not report the positions of its tokens in the "
            "text. Choose a surrogate that labels texts and not words."
        )
    texts, limit = [word.text for word in words], text_input.max_tokens
    encoded = text_input.tokenizer(texts, truncation=True, max_length=limit, return_offsets_mapping=True)
    first = np.full(len(words), -1)
    for row, (word, spans) in enumerate(zip(words, encoded["offset_mapping"], strict=True)):
        # A token may begin with the blank before its word, so any overlap counts. Special tokens are empty.
        overlaps = [end > word.start and start < word.end and end > start for start, end in spans]
        if any(overlaps):
            first[row] = overlaps.index(True)
    return first


# Features


def embedder_features(parts: Parts, batch: SurrogateBatch) -> Tensor:
    """Compute the pooled output (B, D) of the source's embedder, which ORCA aligns to, without gradients.

    It is the mean over the tokens or over the positions of a feature map. For a labeled word it is the vector of its
    first token.

    Args:
        parts: Parts of the source.
        batch: B samples of the surrogate, on the same device as the parts.
    """
    with torch.no_grad():
        output = parts.embedder(batch.inputs)
        tokens = output["inputs_embeds"] if isinstance(output, Mapping) else output
        return batch.pool(tokens.flatten(2).transpose(1, 2) if tokens.ndim == 4 else tokens)


def encoder_features(parts: Parts, encoder: Callable[[Any], Any], batch: SurrogateBatch) -> Tensor:
    """Compute the pooled features (B, D) of the source's embedder followed by an encoder, not normalized.

    Gradients of any order flow through the encoder. The embedder of the source is not trained and has no gradients.

    Args:
        parts: Parts of the source, for its embedder and for the layout of the encoder's output.
        encoder: Adapted encoder, or any function of the embedder's output, such as the encoder called with other
            parameters.
        batch: B samples of the surrogate, on the same device as the parts.
    """
    with torch.no_grad():
        encoder_input = parts.embedder(batch.inputs)
    return batch.pool(parts.tokens(encoder(encoder_input)))


def surrogate_features(parts: Parts, encoder: Callable[[Any], Any], surrogate: Surrogate) -> np.ndarray:
    """Compute the features (n, D) of a surrogate with the source's embedder and an encoder, for benchmarks and tests.

    Args:
        parts: Parts of the source, on the device.
        encoder: Encoder before or after training, which takes the output of the source's embedder.
        surrogate: Labeled samples.
    """
    features = []
    with torch.no_grad():
        for first in range(0, len(surrogate), BATCH_SIZE):
            rows = np.arange(first, min(first + BATCH_SIZE, len(surrogate)))
            batch = surrogate.load(rows, torch.device("cpu"))
            features.append(encoder_features(parts, encoder, batch).float().cpu().numpy())
    return np.concatenate(features)


# Opening


def open_surrogate(
    name: str,
    source: Source,
    *,
    split: str | None = None,
    half: int | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> Surrogate:
    """Open labeled data as a surrogate for a source.

    If words are labeled, there are at most as many words outside entities as the largest type of entity has, and words
    without a token in the part of the text that the source takes are left out.

    Args:
        name: Target with one label for each sample: a name, a manifest or your own data, with `:train`, `:val` or
            `:test` after it to choose a split.
        source: Source model, whose preprocessing is applied to the samples.
        split: `train`, `val` or `test`. None for the split in the name, or else the training split.
        half: 0 or 1 for one of two disjoint halves of the split, which are stratified by class, do not divide groups,
            and are the same for every seed and limit. Stage 1 uses half 0, evaluation uses half 1. None for all.
        limit: Largest number of samples, drawn in proportion to the classes. None for all.
        seed: Seed of that draw.

    Raises:
        UsageError: When an argument is out of range, there is no such target, or the source does not take its samples.
        InputError: When the data is missing or does not have one label for each sample, or no class has two samples.
    """
    if half not in (None, 0, 1):
        raise UsageError(f"The half of a surrogate is {half!r}, but it must be 0, 1 or None for all samples.")
    target, chosen_split = open_surrogate_target(name, split)
    split = chosen_split or "train"
    table = target.read()
    if table.class_labels.ndim != 1:
        raise InputError(f"{name} is multi-label, but a surrogate needs one label for each sample.")
    embedding = native_embedding(target.manifest.input, table, source.input)
    rows = _usable_rows(table, SPLITS.index(split), half, source.input)
    if limit is not None and limit < len(rows):
        rows = rows[stratified_subset(table.class_labels[rows], limit, seed)]
    selected = table.select(rows)
    labels = selected.class_labels.astype(np.int64)
    if len(np.unique(labels)) < 2 or np.bincount(labels).max() < 2:
        raise InputError(
            f"The selected part of {name} has {len(rows)} samples of {len(np.unique(labels))} classes. "
            "A surrogate needs at least two classes, one of them with two samples."
        )
    data = {"manifest": cache_key(target.fingerprint["manifest"]), "files": target.fingerprint["files"]}
    provenance = {"name": target.name, "data": data, "split": split, "half": half, "limit": limit,
                  "seed": seed, "samples": len(rows), "embedding": embedding.to_dict()}  # fmt: skip
    names = tuple(str(class_name) for class_name in table.classes or ())
    groups = None if selected.groups is None else np.unique(selected.groups["groups"], return_inverse=True)[1]
    return Surrogate(selected.samples, labels, names, embedding, source.input, provenance, groups)


def _usable_rows(table: Table, split: int, half: int | None, source_input: Input) -> np.ndarray:
    """Return the indices of the usable samples of the split, or of its half."""
    rows = np.flatnonzero(table.splits == split)
    if half is not None and len(rows):
        groups = None if table.groups is None else table.groups["groups"][rows]
        rows = rows[(stratified_keys(table.class_labels[rows], groups, HALVES_SEED) >= 0.5) == bool(half)]
    if len(rows) == 0 or not isinstance(table.samples[int(rows[0])], WordInText):
        return rows
    assert isinstance(source_input, TextInput)
    has_token = _first_tokens(source_input, [table.samples[int(row)] for row in rows]) >= 0
    if n_without := int((~has_token).sum()):
        message = "%d words have no token in the part of their text that the source takes. They are left out."
        log.warning(message, n_without)
    rows = rows[has_token]
    names = list(table.classes or ())
    if OUTSIDE not in names:
        return rows
    # Words outside entities are dropped until there are as many as the largest type of entity has.
    is_outside = table.class_labels[rows] == names.index(OUTSIDE)
    most = int(np.bincount(table.class_labels[rows[~is_outside]], minlength=1).max())
    order = np.random.default_rng([HALVES_SEED, 0x5E]).permutation(np.flatnonzero(is_outside))
    return np.sort(np.delete(rows, order[most:]))
