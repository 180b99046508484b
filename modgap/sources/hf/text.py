"""Transformers models of text as sources: language models, classifiers of texts or tokens, encoders."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoTokenizer

from modgap.errors import InputError, UsageError
from modgap.sources.hf.parts import BaseHead, Encoded, Logits, encoded_tokens, encoder_path
from modgap.sources.hf.spec import VOCABULARIES, HfSpec, input_size_error
from modgap.sources.inputs import Batch, TextInput, masked_mean
from modgap.sources.source import Parts, Source
from modgap.sources.splitting import Pooled, module_path, outputs_agree, replace_modules, verify_parts
from modgap.storage.damaged_files import one_line_errors

LANGUAGE_MODELS = ("masked language model", "causal language model")
UNBOUNDED = 1 << 20
"""The library sets larger lengths if there is no limit."""
SAMPLES = ("a b", "a much longer text, so that the first one is padded")


def text_source(spec: HfSpec, model: Any, family: str, input_size: int | None) -> Source:
    """Build a source of text. If the head has logits for each position, they are averaged over a text's positions.

    Args:
        spec: The model's record.
        model: The loaded model.
        family: Family of the model, see `modgap.sources.hf.loading.FAMILIES`.
        input_size: Must be None, because text has no size in pixels.

    Raises:
        InputError: When the tokenizer is missing or does not fit.
        UsageError: When an input size is given.
    """
    if input_size:
        raise input_size_error(spec.name, "text")
    tokenizer = tokenizer_of(spec)
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        raise InputError(
            f"The tokenizer of {spec.name} has {len(tokenizer)} tokens, but its model has only "
            f"{model.get_input_embeddings().num_embeddings}. They do not belong together."
        )
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id
    base = "" if family == "encoder" else encoder_path(model)
    source_input = TextInput(tokenizer, _longest(model.get_submodule(base), tokenizer))
    encoder = model.get_submodule(base)

    def features(batch: Mapping[str, Tensor]) -> Tensor:
        return masked_mean(encoder(**batch).last_hidden_state, batch.get("attention_mask"))

    full_model, build_head = _model_and_head(model, family, base, tokenizer, features)

    def split_model() -> Parts:
        text_encoder = _Encoder(encoder, source_input.max_tokens)
        return Parts(_Embedder(model, tokenizer), text_encoder, build_head(), encoded_tokens)

    def split() -> Parts:
        return verify_parts(split_model, full_model, source_input.batch(SAMPLES, model.device), spec.name)

    names = _class_names(model, family, tokenizer)
    note = ("logits", "mean over the text's positions without special tokens and padding")
    notes = (note,) if family in (*LANGUAGE_MODELS, "token classification") else ()
    return Source(full_model, source_input, names, False, split, features, notes)


def tokenizer_of(spec: HfSpec) -> Any:
    """Load the model's tokenizer.

    Raises:
        InputError: When its files are missing or damaged, or it cannot pad.
    """
    folder = spec.files.require(VOCABULARIES, "tokenizer")
    with one_line_errors(f"transformers cannot read the tokenizer of {spec.name}"):
        if spec.build_tokenizer:
            return spec.build_tokenizer(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    if tokenizer.pad_token is None and tokenizer.eos_token is not None:
        # Causal models have none. They read from left to right, so what follows a text does not change it.
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"
    if tokenizer.pad_token is None:
        raise InputError(f"The tokenizer of {spec.name} has no padding token, so it cannot batch texts.")
    return tokenizer


def _longest(encoder: Any, tokenizer: Any) -> int:
    """Return the largest number of tokens that the model has positions for and its tokenizer allows."""
    positions = getattr(encoder.config, "max_position_embeddings", None)
    table = getattr(getattr(encoder, "embeddings", None), "position_embeddings", None)
    if positions and isinstance(table, nn.Embedding) and table.padding_idx is not None:
        # Models like RoBERTa number positions from the one after the padding's.
        positions -= table.padding_idx + 1
    allowed = [length for length in (positions, tokenizer.model_max_length) if length and 0 < length < UNBOUNDED]
    return int(min(allowed)) if allowed else 512


def _class_names(model: Any, family: str, tokenizer: Any) -> tuple[str, ...]:
    if family == "encoder":
        return ()
    if family not in LANGUAGE_MODELS:
        return tuple(str(model.config.id2label[c]) for c in range(model.config.num_labels))
    size = model.config.vocab_size
    tokens = tokenizer.convert_ids_to_tokens(list(range(min(size, len(tokenizer)))))
    return (*map(str, tokens), *(f"[no token {number}]" for number in range(len(tokens), size)))


# Logits


def _model_and_head(
    model: Any, family: str, base: str, tokenizer: Any, features: Callable[[Batch], Tensor]
) -> tuple[nn.Module, Callable[[], nn.Module]]:
    """Return the model from a batch to logits, and a function that builds the head."""
    if family == "encoder":
        return Pooled(features, model), lambda: Pooled(_pooled)
    if family == "sequence classification":
        return Logits(model, "input_ids"), lambda: BaseHead(model, base)
    body, last = _separate_last_layer(model) if family in LANGUAGE_MODELS else (model, nn.Identity())
    special = _special_ids(tokenizer)
    return _PositionMean(body, last, special), lambda: _PositionMeanHead(BaseHead(body, base), last)


def _pooled(features: Encoded) -> Tensor:
    return masked_mean(features.output.last_hidden_state, features.arguments.get("attention_mask"))


def _special_ids(tokenizer: object) -> tuple[int, ...]:
    """Return the tokens for beginning, end, separator and padding. Unknown words and masks count as content."""
    names = ("cls_token_id", "sep_token_id", "pad_token_id", "bos_token_id", "eos_token_id")
    return tuple(sorted({number for name in names if (number := getattr(tokenizer, name, None)) is not None}))


def _content_mask(batch: Mapping[str, Tensor], special: tuple[int, ...]) -> Tensor:
    """Return the mask (B, T) of content, without special tokens and padding; without padding if there is no content."""
    ids = batch["input_ids"]
    present = batch["attention_mask"].bool() if "attention_mask" in batch else torch.ones_like(ids, dtype=torch.bool)
    content = present & ~torch.isin(ids, torch.tensor(special, device=ids.device, dtype=ids.dtype))
    return torch.where(content.any(dim=1, keepdim=True), content, present)


def _separate_last_layer(model: Any) -> tuple[nn.Module, nn.Module]:
    """Return a masked language model without its last layer, and that layer.

    The last layer is linear, so the mean over positions can be computed before it, which saves its product with each
    position. A model that does more after that layer is returned unchanged, with None.
    """
    last = model.get_output_embeddings()
    path = module_path(model, last) if isinstance(last, nn.Linear) else None
    if path is None:
        return model, nn.Identity()
    body = replace_modules(model, {path: nn.Identity()})
    ids = torch.arange(3, device=model.device)[None]
    with torch.no_grad():
        try:
            expected = model(input_ids=ids).logits
            composed = last(body(input_ids=ids).logits)
        except (RuntimeError, TypeError, ValueError):
            return model, nn.Identity()
    return (body, last) if outputs_agree(composed, expected) else (model, nn.Identity())


class _PositionMean(nn.Module):
    """A module from a batch to logits averaged over the positions of content."""

    def __init__(self, model: nn.Module, last: nn.Module, special: tuple[int, ...]) -> None:
        super().__init__()
        self.model = model
        self.last = last
        self.special = special
        self.eval()

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        mean = masked_mean(self.model(**batch).logits, _content_mask(batch, self.special))
        logits: Tensor = self.last(mean)
        return logits


class _PositionMeanHead(nn.Module):
    def __init__(self, head: BaseHead, last: nn.Module) -> None:
        super().__init__()
        self.head = head
        self.last = last

    def forward(self, features: Encoded) -> Tensor:
        logits: Tensor = self.last(masked_mean(self.head(features), features.averaged))
        return logits


# Parts


class _Embedder(nn.Module):
    """A module from tokens to word vectors, together with their masks."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        super().__init__()
        self.word_table = model.get_input_embeddings()
        self.special = _special_ids(tokenizer)

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        averaged = _content_mask(batch, self.special)
        return {**batch, "inputs_embeds": self.word_table(batch["input_ids"]), "averaged": averaged}


class _Encoder(nn.Module):
    """All modules after the word vectors: positions, normalization, blocks."""

    def __init__(self, encoder: Any, max_tokens: int) -> None:
        super().__init__()
        path = module_path(encoder, encoder.get_input_embeddings())
        # The table of word vectors is not part of an encoder that takes vectors.
        self.model = replace_modules(encoder, {path: nn.Identity()}) if path else encoder
        self.max_tokens = max_tokens

    def forward(self, value: Tensor | Mapping[str, Tensor]) -> Encoded:
        arguments = {"inputs_embeds": value} if isinstance(value, torch.Tensor) else dict(value)
        n_tokens = arguments["inputs_embeds"].shape[1]
        if n_tokens > self.max_tokens:
            raise UsageError(
                f"The encoder takes at most {self.max_tokens} tokens, but the embedder returns {n_tokens}."
            )
        averaged = arguments.pop("averaged", None)
        ids = arguments.pop("input_ids", None)
        output = self.model(**arguments)
        vectors = arguments.pop("inputs_embeds")
        tokens = {"inputs_embeds": vectors} if ids is None else {"input_ids": ids}
        return Encoded(output, {**arguments, **tokens}, averaged)
