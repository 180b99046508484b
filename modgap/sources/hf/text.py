"""Sources of transformers that take text: masked language models, classifiers of texts or tokens, encoders."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoTokenizer

from modgap.errors import InputError, UsageError
from modgap.sources.hf.files import VOCABULARIES
from modgap.sources.hf.library import one_line_errors
from modgap.sources.hf.parts import BaseHead, Encoded, Logits, Pooled, encoded_tokens, encoder_path, masked_mean
from modgap.sources.hf.smiles import smiles_tokenizer
from modgap.sources.hf.spec import HfSpec, input_size_error
from modgap.sources.inputs import TextInput
from modgap.sources.source import Parts, Source
from modgap.sources.splitting import module_path, replace_modules, verify_parts

__all__ = ["text_source", "tokenizer_of"]

UNBOUNDED = 1 << 20
"""Lengths beyond are the library's word for none."""
SAMPLES = ("a b", "a much longer text, so that the first one is padded")
CLOSE = 1e-4


def text_source(spec: HfSpec, model: Any, family: str, input_size: int | None) -> Source:
    """A source of texts; its logits are averaged over a text's positions where its head gives some for each.

    Raises:
        InputError: When the tokenizer is missing or does not fit.
        UsageError: When an input size is asked for.
    """
    if input_size:
        raise input_size_error(spec.name, "text")
    tokenizer = tokenizer_of(spec)
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        raise InputError(
            f"the tokenizer of {spec.name} has {len(tokenizer)} tokens, its model "
            f"{model.get_input_embeddings().num_embeddings}; they do not belong together"
        )
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id
    base = "" if family == "encoder" else encoder_path(model)
    own = TextInput(tokenizer, _longest(model.get_submodule(base), tokenizer))
    encoder = model.get_submodule(base)

    def features(batch: Mapping[str, Tensor]) -> Tensor:
        return masked_mean(encoder(**batch).last_hidden_state, batch.get("attention_mask"))

    whole, head = _whole_and_head(model, family, base, tokenizer, features)

    def split() -> Parts:
        def make() -> Parts:
            return Parts(_Embedder(model, tokenizer), _Encoder(encoder, own.max_tokens), head(), encoded_tokens)

        return verify_parts(make, whole, own.batch(SAMPLES, model.device), spec.name)

    return Source(whole, own, _class_names(model, family, tokenizer), False, split, features, _notes(family))


def _notes(family: str) -> tuple[tuple[str, str], ...]:
    if family in ("masked language model", "token classification"):
        return (("logits", "mean over the text's positions, special tokens and padding left out"),)
    return ()


def tokenizer_of(spec: HfSpec) -> Any:
    """The model's tokenizer.

    Raises:
        InputError: When its files are not there or make none that can pad.
    """
    folder = spec.files.require(VOCABULARIES, "tokenizer")
    with one_line_errors(f"transformers cannot read the tokenizer of {spec.name}"):
        if spec.tokenizer == "smiles":
            return smiles_tokenizer(folder / "vocab.txt")
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    if tokenizer.pad_token is None:
        raise InputError(f"the tokenizer of {spec.name} has no token for padding; it cannot take several texts")
    return tokenizer


def _longest(encoder: Any, tokenizer: Any) -> int:
    """Tokens that the model has positions for, and its tokenizer allows."""
    places = getattr(encoder.config, "max_position_embeddings", None)
    table = getattr(getattr(encoder, "embeddings", None), "position_embeddings", None)
    if places and isinstance(table, nn.Embedding) and table.padding_idx is not None:
        # RoBERTa's kind numbers positions from the one after the padding's.
        places -= table.padding_idx + 1
    allowed = [length for length in (places, tokenizer.model_max_length) if length and 0 < length < UNBOUNDED]
    return int(min(allowed)) if allowed else 512


def _class_names(model: Any, family: str, tokenizer: Any) -> tuple[str, ...]:
    if family == "encoder":
        return ()
    if family != "masked language model":
        return tuple(str(model.config.id2label[c]) for c in range(model.config.num_labels))
    size = model.config.vocab_size
    known = tokenizer.convert_ids_to_tokens(list(range(min(size, len(tokenizer)))))
    return (*map(str, known), *(f"[no token {number}]" for number in range(len(known), size)))


# Logits


def _whole_and_head(model: Any, family: str, base: str, tokenizer: Any, features: Any):
    """The whole model, a batch to logits, and a function that makes the head."""
    if family == "encoder":
        return Pooled(features, model), lambda: Pooled(_pooled)
    if family == "sequence classification":
        return Logits(model, "input_ids"), lambda: BaseHead(model, base)
    cut, last = _last_layer(model) if family == "masked language model" else (model, None)
    special = _special_ids(tokenizer)
    return _PositionMean(cut, last, special), lambda: _PositionMeanHead(BaseHead(cut, base), last)


def _pooled(features: Encoded) -> Tensor:
    return masked_mean(features.output.last_hidden_state, features.given.get("attention_mask"))


def _special_ids(tokenizer: Any) -> tuple[int, ...]:
    """Beginning, end, separator and padding; unknown words and masks stand for content."""
    names = ("cls_token_id", "sep_token_id", "pad_token_id", "bos_token_id", "eos_token_id")
    return tuple(sorted({number for name in names if (number := getattr(tokenizer, name, None)) is not None}))


def _counted(batch: Mapping[str, Tensor], special: tuple[int, ...]) -> Tensor:
    """Positions (B, T) of content: neither special nor padding; all but padding in a text without content."""
    ids = batch["input_ids"]
    present = batch["attention_mask"].bool() if "attention_mask" in batch else torch.ones_like(ids, dtype=torch.bool)
    content = present & ~torch.isin(ids, torch.tensor(special, device=ids.device, dtype=ids.dtype))
    return torch.where(content.any(dim=1, keepdim=True), content, present)


def _last_layer(model: Any) -> tuple[nn.Module, nn.Module | None]:
    """A masked language model without its last layer, and that layer.

    The last layer is linear, so the mean over positions may be taken before it, which spares its product
    with each position. Where a model does more than that layer after the cut, it is left whole.
    """
    last = model.get_output_embeddings()
    path = module_path(model, last) if isinstance(last, nn.Linear) else None
    if path is None:
        return model, None
    cut = replace_modules(model, {path: nn.Identity()})
    ids = torch.arange(3, device=model.device)[None]
    with torch.no_grad():
        try:
            whole, parted = model(input_ids=ids).logits, last(cut(input_ids=ids).logits)
        except (RuntimeError, TypeError, ValueError):
            return model, None
    same = whole.shape == parted.shape and (whole - parted).abs().max() <= CLOSE * whole.abs().max().clamp(min=1)
    return (cut, last) if same else (model, None)


class _PositionMean(nn.Module):
    """Logits averaged over the positions of content."""

    def __init__(self, model: nn.Module, last: nn.Module | None, special: tuple[int, ...]):
        super().__init__()
        self.model, self.last, self.special = model, last, special
        self.eval()

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        whole: Any = self.model
        mean = masked_mean(whole(**batch).logits, _counted(batch, self.special))
        return mean if self.last is None else self.last(mean)


class _PositionMeanHead(nn.Module):
    def __init__(self, head: BaseHead, last: nn.Module | None):
        super().__init__()
        self.head, self.last = head, last
        self.eval()

    def forward(self, features: Encoded) -> Tensor:
        mean = masked_mean(self.head(features), features.counted)
        return mean if self.last is None else self.last(mean)


# Parts


class _Embedder(nn.Module):
    """Tokens to their word vectors, beside the masks that go with them."""

    def __init__(self, model: Any, tokenizer: Any):
        super().__init__()
        self.words, self.special = model.get_input_embeddings(), _special_ids(tokenizer)
        self.eval()

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        counted = _counted(batch, self.special)
        return {**batch, "inputs_embeds": self.words(batch["input_ids"]), "counted": counted}


class _Encoder(nn.Module):
    """All after the word vectors: positions, normalization, blocks."""

    def __init__(self, encoder: Any, max_tokens: int):
        super().__init__()
        path = module_path(encoder, encoder.get_input_embeddings())
        # The words' own table is no part of an encoder that takes vectors.
        self.model = replace_modules(encoder, {path: nn.Identity()}) if path else encoder
        self.max_tokens = max_tokens
        self.eval()

    def forward(self, value: Tensor | Mapping[str, Tensor]) -> Encoded:
        given = {"inputs_embeds": value} if isinstance(value, torch.Tensor) else dict(value)
        if given["inputs_embeds"].shape[1] > self.max_tokens:
            raise UsageError(
                f"expected at most {self.max_tokens} tokens to enter the encoder, got {given['inputs_embeds'].shape[1]}"
            )
        counted, ids = given.pop("counted", None), given.pop("input_ids", None)
        output = self.model(**given)
        words = given.pop("inputs_embeds")
        return Encoded(output, {**given, **({"inputs_embeds": words} if ids is None else {"input_ids": ids})}, counted)
