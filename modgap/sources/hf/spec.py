"""The record from which models of all transformers families are loaded; this module does not need torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from modgap.errors import InputError, UsageError
from modgap.sources.hf.files import ModelFiles

__all__ = ["CONTRASTIVE", "PROMPT", "HfSpec", "TokenizerKind", "configured_architecture", "input_size_error"]

CONTRASTIVE = "CLIPModel"
PROMPT = "a photo of a {}."
"""The sentence that a contrastive model's text tower reads for a class."""


TokenizerKind = Literal["bundled", "smiles"]


@dataclass(frozen=True)
class HfSpec:
    """A transformers model before it is loaded: its files, its class and its tokenizer.

    Attributes:
        name: Name of the source in results.
        files: Location of the model's files.
        architecture: Name of its class in transformers; None for the one that config.json names.
        tokenizer: `bundled` for the tokenizer in the model's files, `smiles` for reactions and molecules in SMILES with
            the vocabulary in vocab.txt.
        control: True for random weights instead of the files' weights.
        control_seed: Seed of the random weights.
    """

    name: str
    files: ModelFiles
    architecture: str | None = None
    tokenizer: TokenizerKind = "bundled"
    control: bool = False
    control_seed: int = 0

    def class_name(self) -> str:
        """Return the name of the model's class in transformers."""
        return self.architecture or configured_architecture(
            self.files.configuration(), self.files.configuration_folder()
        )


def configured_architecture(configuration: dict[str, Any], folder: Path) -> str:
    """Return the name of the class in a transformers configuration.

    Args:
        configuration: The contents of config.json.
        folder: The folder of config.json, for the error.

    Raises:
        InputError: When the configuration names no class.
    """
    names = configuration.get("architectures")
    if not isinstance(names, list) or not names or not isinstance(names[0], str):
        raise InputError(
            f"{folder / 'config.json'} has {names!r} under `architectures`. "
            "Expected a list with the name of a model's class."
        )
    return names[0]


def input_size_error(name: str, kind: str) -> UsageError:
    """Return the error for an input size of a source that takes no images."""
    return UsageError(f"--input-size applies to images, but source {name} takes {kind}. Leave it out.")
