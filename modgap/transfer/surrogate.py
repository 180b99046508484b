"""Labeled surrogate data of the source's own modality: what stage 1 aligns to, and what probes look at."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from modgap.errors import InputError, UsageError
from modgap.forward.surrogate_target import open_surrogate_target
from modgap.inputs.native_embedding import Embedding, native_embedding
from modgap.sources import Batch, Input, Parts, Source, TextInput
from modgap.storage.cache import cache_key
from modgap.targets import SPLITS, Samples, Table
from modgap.targets.readers.bio import OUTSIDE
from modgap.targets.splits import stratified_keys, stratified_subset
from modgap.targets.word_in_context import WordInText

if TYPE_CHECKING:
    from torch import Tensor, device

__all__ = [
    "Surrogate",
    "SurrogateBatch",
    "balanced_rows",
    "embedder_features",
    "encoder_features",
    "open_surrogate",
]

HALVES_SEED = 0
"""Of the division in halves: one for all runs, so that no run's second half holds what another has trained on."""

log = logging.getLogger("modgap")


# Batches balanced by class


def balanced_rows(labels: np.ndarray, step: int, size: int, seed: int) -> np.ndarray:
    """Samples of a step's batch, as evenly spread over the classes as can be.

    A class that is in the batch is there at least twice where it can be, so that positive pairs exist: with more
    classes than half the size, a random half of the size of them. What a small class lacks goes to the others;
    classes of a single sample come last.

    Args:
        labels: Class of each sample, 0..K-1, shape (n,).
        step: Number of the batch. Random numbers are a function of seed and step alone.
        size: Samples wanted.
        seed: Of the run, not negative.

    Returns:
        Numbers of min(size, n) different samples in random order, int64.

    Raises:
        InputError: When there are no samples, or none are wanted.

    Example:
        >>> labels = np.array([0, 0, 0, 0, 1, 1, 2, 2, 2])
        >>> labels[balanced_rows(labels, step=3, size=6, seed=0)]
        array([1, 2, 2, 0, 1, 0])
    """
    if size < 1 or len(labels) == 0:
        raise InputError(f"expected to draw at least one of at least one sample, got {size} of {len(labels)}")
    rng = np.random.Generator(np.random.Philox(key=np.array([seed, step], np.uint64)))
    seats = _seats(np.bincount(labels), size, rng)
    chosen = [
        rng.choice(np.flatnonzero(labels == label), seats[label], replace=False) for label in np.flatnonzero(seats)
    ]
    return rng.permutation(np.concatenate(chosen)).astype(np.int64)


def _seats(counts: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """How many samples of each class (K,) a batch has: in rounds, the classes in random order, one seat a round."""
    pairs = rng.permutation(np.flatnonzero(counts > 1))
    turn = np.where(counts > 1, 1, 2)
    turn[pairs[: max(1, size // 2)]] = 0
    place = rng.permutation(len(counts))
    most = np.minimum(counts, size)
    label = np.repeat(np.arange(len(counts)), most)
    number = np.arange(len(label)) - np.repeat(np.cumsum(most) - most, most)
    taken = np.lexsort((place[label], number, turn[label]))[:size]
    return np.bincount(label[taken], minlength=len(counts))


# The data


@dataclass(frozen=True)
class SurrogateBatch:
    """Some of the samples on a device.

    Attributes:
        inputs: What the source's embedder takes.
        labels: Class of each sample, shape (B,); None where nobody asks for them.
        word_positions: Position of the first token of the labeled word in each text, shape (B,). None if whole samples
            are labeled.
    """

    inputs: Batch
    labels: "Tensor | None" = None
    word_positions: "Tensor | None" = None

    def pool(self, tokens: "Tensor") -> "Tensor":
        """Features (B, D) of tokens (B, T, D): the labeled word's, or the mean over tokens that are no padding."""
        if self.word_positions is not None:
            import torch

            return tokens[torch.arange(len(tokens), device=tokens.device), self.word_positions]
        mask = self.inputs.get("attention_mask") if isinstance(self.inputs, Mapping) else None
        if mask is None or mask.shape != tokens.shape[:2]:
            # The mask of a sound counts values, not frames.
            return tokens.mean(dim=1)
        from modgap.sources.hf.parts import masked_mean

        return masked_mean(tokens, mask)


@dataclass(frozen=True)
class Surrogate:
    """Labeled samples that a source's own embedder takes.

    Attributes:
        samples: The samples; words in their text where words are labeled.
        labels: Class of each, shape (n,), int64.
        classes: Names of the classes in label order.
        embedding: How a sample becomes a piece of the source's input.
        input: The source's preprocessing.
        provenance: Plain values that say which samples these are.
        groups: Number of the record, sentence or subject of each sample, shape (n,); None where each is its own.
    """

    samples: Samples
    labels: np.ndarray
    classes: tuple[str, ...]
    embedding: Embedding
    input: Input
    provenance: dict[str, Any]
    groups: np.ndarray | None = None

    def __len__(self) -> int:
        """How many samples there are."""
        return len(self.labels)

    def draw_rows(self, step: int, size: int, seed: int) -> np.ndarray:
        """Numbers of a step's samples, balanced by class; see balanced_rows."""
        return balanced_rows(self.labels, step, size, seed)

    def load(self, rows: np.ndarray, device: "device") -> SurrogateBatch:
        """The samples with these numbers (B,), on the device.

        Raises:
            InputError: When a sample has several pieces, such as chunks of a clip.
        """
        import torch

        found = [self.to_pieces(self.samples[int(row)]) for row in rows]
        if any(len(each) != 1 for each in found):
            most = max(len(each) for each in found)
            raise InputError(f"expected a surrogate whose samples are one piece of input each, got {most} pieces")
        labels = torch.from_numpy(self.labels[rows]).to(device)
        return replace(self.collate([each[0] for each in found], device), labels=labels)

    def to_pieces(self, sample: Any) -> list[Any]:
        """A sample's pieces; a word in its text is one."""
        return [sample] if isinstance(sample, WordInText) else self.embedding.pieces(sample)

    def collate(self, pieces: Sequence[Any], device: "device") -> SurrogateBatch:
        """Pieces (B,) as a batch on the device, without labels."""
        import torch

        words = [piece for piece in pieces if isinstance(piece, WordInText)]
        if not words:
            return SurrogateBatch(self.input.batch(pieces, device))
        assert isinstance(self.input, TextInput)
        given = self.input.batch([word.text for word in words], device)
        return SurrogateBatch(given, word_positions=torch.from_numpy(_first_tokens(self.input, words)).to(device))


def _first_tokens(own: TextInput, words: list[WordInText]) -> np.ndarray:
    """Position of each word's first token in its text; -1 where it has none, or the text is cut before it."""
    if not getattr(own.tokenizer, "is_fast", False):
        raise UsageError(
            f"expected a tokenizer that tells where its tokens lie in the text, {type(own.tokenizer).__name__} does "
            "not; choose a surrogate that labels whole texts"
        )
    texts = [word.text for word in words]
    encoded = own.tokenizer(texts, truncation=True, max_length=own.max_tokens, return_offsets_mapping=True)
    return np.array([_token_of(word, spans) for word, spans in zip(words, encoded["offset_mapping"], strict=True)])


def _token_of(word: WordInText, spans: list[tuple[int, int]]) -> int:
    # A token may begin with the blank before its word, so overlap decides; special tokens are empty.
    return next(
        (t for t, (start, end) in enumerate(spans) if end > word.start and start < word.end and end > start), -1
    )


# Features


def embedder_features(parts: Parts, batch: SurrogateBatch) -> "Tensor":
    """Pooled output (B, D) of the source's embedder, without gradients: what ORCA aligns to.

    The mean over tokens or over a map's places; of a labeled word the vector of its first token.

    Args:
        parts: The source's parts.
        batch: B samples of the surrogate, on the parts' device.
    """
    import torch

    with torch.no_grad():
        output = parts.embedder(batch.inputs)
        tokens = output["inputs_embeds"] if isinstance(output, Mapping) else output
        return batch.pool(tokens.flatten(2).transpose(1, 2) if tokens.ndim == 4 else tokens)


def encoder_features(parts: Parts, encoder: Callable[[Any], Any], batch: SurrogateBatch) -> "Tensor":
    """Pooled features (B, D) of the source's embedder followed by an encoder, not normalized.

    Gradients flow to what the encoder is a function of, to any order; the embedder, which is the source's own and is
    not trained, has none.

    Args:
        parts: The source's parts, for its embedder and for the layout of the encoder's output.
        encoder: The adapted encoder, or any function of what the embedder gives, such as the encoder called with
            other parameters.
        batch: B samples of the surrogate, on the parts' device.
    """
    import torch

    with torch.no_grad():
        given = parts.embedder(batch.inputs)
    return batch.pool(parts.tokens(encoder(given)))


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
    """Labeled data as a surrogate for a source.

    Where words are labeled, those outside entities are at most as many as the largest type of entity has, and words
    without a token among those that the source takes of their text are left out.

    Args:
        name: A target with one label a sample: a name, a manifest, or data of one's own.
        source: The source model, whose preprocessing the samples go through.
        split: `train`, `val` or `test`; the training split if None.
        half: 0 or 1 for one of two disjoint halves of the split, stratified by class, groups kept whole, the same
            for every seed and limit; stage 1 takes the first, and what judges the outcome the second. None for all.
        limit: Most samples, chosen by class in proportion.
        seed: Of that choice.

    Raises:
        UsageError: When an argument is out of range, there is no such target, or the source does not take its samples.
        InputError: When its data is missing or has not one label a sample, or no class is left with two samples.
    """
    if half not in (None, 0, 1):
        raise UsageError(f"expected half 0 or 1 of a surrogate, or none for all of it, got {half!r}")
    opened = open_surrogate_target(name, split)
    target, split = opened.target, opened.split or "train"
    table = target.read()
    if table.class_labels.ndim != 1:
        raise InputError(f"expected a surrogate with one label a sample, {name} has several")
    embedding = native_embedding(target.manifest.input, table, source.input)
    rows = _kept(table, SPLITS.index(split), half, source.input)
    if limit is not None and limit < len(rows):
        rows = rows[stratified_subset(table.class_labels[rows], limit, seed)]
    chosen = table.select(rows)
    labels = chosen.class_labels.astype(np.int64)
    if len(np.unique(labels)) < 2 or np.bincount(labels).max() < 2:
        raise InputError(
            f"expected a surrogate of at least two classes, one of them with two samples; {name} has {len(rows)} "
            f"samples of {len(np.unique(labels))} classes in what was asked for"
        )
    data = {"manifest": cache_key(target.fingerprint["manifest"]), "files": target.fingerprint["files"]}
    provenance = {"name": target.name, "data": data, "split": split, "half": half, "limit": limit,
                  "seed": seed, "samples": len(rows), "embedding": embedding.to_dict()}  # fmt: skip
    names = tuple(str(each) for each in table.classes or ())
    groups = None if chosen.groups is None else np.unique(chosen.groups["groups"], return_inverse=True)[1]
    return Surrogate(chosen.samples, labels, names, embedding, source.input, provenance, groups)


def _kept(table: Table, split: int, half: int | None, own: Input) -> np.ndarray:
    """Rows of the split, or of its half, that can be used."""
    rows = np.flatnonzero(table.splits == split)
    if half is not None and len(rows):
        groups = None if table.groups is None else table.groups["groups"][rows]
        rows = rows[(stratified_keys(table.class_labels[rows], groups, HALVES_SEED) >= 0.5) == bool(half)]
    if len(rows) == 0 or not isinstance(table.samples[int(rows[0])], WordInText):
        return rows
    rows = rows[_with_tokens(table.select(rows).samples, own)]
    return _outside_capped(rows, table)


def _with_tokens(samples: Samples, own: Input) -> np.ndarray:
    """Whether each word has a token among those that the source takes of its text, shape (n,)."""
    assert isinstance(own, TextInput)
    found = _first_tokens(own, [samples[i] for i in range(len(samples))]) >= 0
    if not found.all():
        log.warning("%d words have no token among those the source takes and are left out", int((~found).sum()))
    return found


def _outside_capped(rows: np.ndarray, table: Table) -> np.ndarray:
    """Without the words outside entities that are more than the largest type of entity has."""
    names = list(table.classes or ())
    if OUTSIDE not in names:
        return rows
    labels, outside = table.class_labels[rows], names.index(OUTSIDE)
    beyond = np.flatnonzero(labels == outside)
    most = int(np.bincount(labels[labels != outside], minlength=1).max())
    order = np.random.default_rng([HALVES_SEED, 0x5E]).permutation(beyond)
    return np.sort(np.delete(rows, order[most:]))
