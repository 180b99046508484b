"""The language model of chemical reactions of the package rxnfp, and its tokens of SMILES."""

from pathlib import Path
from typing import Any

from modgap.process.installed_packages import find_package_folder
from modgap.sources.hf.handle import HfModel
from modgap.sources.hf.spec import model_files
from modgap.sources.source import package_error, pretrained_name

PACKAGE = "rxnfp"
INSTALL = "pip install --no-deps rxnfp"
FOLDER = Path("models") / "transformers" / "bert_pretrained"
"""Folder of the model in the package."""
TOKEN = r"\[[^\]]*\]|Br|Cl|>>|%\(\d{3}\)|%\d{2}|."
"""Matches an atom in brackets, a halogen of two letters, a reaction arrow, a ring number of several digits, or one
character."""
LENGTH = 512


def smiles_tokenizer(folder: Path) -> Any:
    """Return a transformers tokenizer with one token per line of vocab.txt, and [CLS] and [SEP] around each text."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    numbers = {token: i for i, token in enumerate((folder / "vocab.txt").read_text(encoding="utf-8").splitlines())}
    tokenizer = Tokenizer(models.WordLevel(numbers, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(TOKEN), "isolated")
    ends = [(token, numbers[token]) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=LENGTH,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def open_model(name: str, weights: Path | None, seed: int | None) -> HfModel:
    """Return the handle of the model with the package's weights, with others, or with random ones of a seed.

    Raises:
        InputError: When the package is not installed, and no folder of weights replaces it.
    """
    folder = find_package_folder(PACKAGE)
    if folder is None and not (weights and weights.is_dir()):
        raise package_error(pretrained_name(name), INSTALL)
    files = model_files(name, weights, folder / FOLDER if folder else None)
    return HfModel(name, files, "BertForMaskedLM", "smiles", seed, smiles_tokenizer)
