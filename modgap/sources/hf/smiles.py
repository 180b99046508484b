"""A tokenizer for molecules and reactions in SMILES notation, built from a list of tokens."""

from pathlib import Path
from typing import Any

__all__ = ["smiles_tokenizer"]

TOKEN = r"\[[^\]]*\]|Br|Cl|>>|%\(\d{3}\)|%\d{2}|."
"""Matches an atom in brackets, a halogen of two letters, a reaction arrow, a ring number of several digits, or one
character."""
LENGTH = 512


def smiles_tokenizer(vocabulary: Path) -> Any:
    """Build a transformers tokenizer with one token per vocabulary line, and [CLS] and [SEP] around each text."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    numbers = {token: i for i, token in enumerate(vocabulary.read_text(encoding="utf-8").splitlines())}
    tokenizer = Tokenizer(models.WordLevel(numbers, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(TOKEN), "isolated")
    ends = [(token, numbers[token]) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        model_max_length=LENGTH,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )
