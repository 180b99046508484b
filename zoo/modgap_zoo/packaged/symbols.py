"""Texts as symbols of a small alphabet: letters, atoms or residues, each of which is one token."""

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from modgap.sources.inputs import TextInput

PADDING = "<pad>"
"""Symbol after the end of a text. It has the number after the last symbol of an alphabet that does not contain it."""
TOKEN_ARRAYS = ["input_ids", "attention_mask"]


def symbol_input(
    alphabet: Sequence[str], length: int, *, unknown: str = PADDING, end: str = "", lowercase: bool = False
) -> TextInput:
    """Return the input of texts whose tokens are symbols, by a tokenizer that programs can take along.

    Args:
        alphabet: Symbols in the order of their numbers. At each position the symbols of several characters are tried
            first, but for those in angle brackets, which no text contains.
        length: Largest number of symbols of a text with its end. Longer texts are truncated.
        unknown: Symbol that stands for all characters outside the alphabet.
        end: Symbol after the last one of a text; empty for none.
        lowercase: True to remove accents and to replace capital letters.
    """
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    numbers = {symbol: number for number, symbol in enumerate(dict.fromkeys((*alphabet, PADDING)))}
    tokenizer = Tokenizer(models.WordLevel(numbers, unk_token=unknown))
    if lowercase:
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase()]
        )
    long = [re.escape(symbol) for symbol in alphabet if len(symbol) > 1 and not symbol.startswith("<")]
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("|".join([*long, r"[\s\S]"])), "isolated")
    if end:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"$A {end}", special_tokens=[(end, numbers[end])]
        )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=length, pad_token=PADDING, model_input_names=TOKEN_ARRAYS
    )
    return TextInput(fast, length)


def one_hot(numbers: Tensor, n_symbols: int, length: int) -> Tensor:
    """Return the numbers (B, T) of symbols as vectors (B, length, symbols), which are 0 for padding."""
    padded = functional.pad(numbers, (0, length - numbers.shape[1]), value=n_symbols)
    return (padded.unsqueeze(2) == torch.arange(n_symbols, device=numbers.device)).float()


def vectors_and_mask(value: Tensor | Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return the vectors (B, T, D) that enter an encoder, and their mask (B, T), which is 0 for padding."""
    if isinstance(value, Tensor):
        return value, torch.ones(value.shape[:2], dtype=torch.int64, device=value.device)
    return value["inputs_embeds"], value["attention_mask"]
