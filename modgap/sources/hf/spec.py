"""The record that all families of transformers models are made from; needs no torch."""

from dataclasses import dataclass

from modgap.errors import InputError, UsageError
from modgap.sources.hf.files import ModelFiles

__all__ = ["CONTRASTIVE", "PROMPT", "HfSpec", "configured_architecture", "input_size_error"]

CONTRASTIVE = "CLIPModel"
PROMPT = "a photo of a {}."
"""The sentence that a contrastive model's text tower reads for a class."""


@dataclass(frozen=True)
class HfSpec:
    """A transformers model before it is loaded: its files, its class and its tokenizer.

    Attributes:
        name: Name of the source in results.
        files: Location of the model's files.
        architecture: Name of its class in transformers; None for the one that config.json names.
        tokenizer: `own` for the tokenizer in the model's files, `smiles` for reactions and molecules in SMILES with
            the vocabulary in vocab.txt.
        control: True for random weights with a fixed seed instead of the files' weights.
    """

    name: str
    files: ModelFiles
    architecture: str | None = None
    tokenizer: str = "own"
    control: bool = False

    def class_name(self) -> str:
        """Return the name of the model's class in transformers."""
        return self.architecture or configured_architecture(
            self.files.configuration(), self.files.configuration_folder()
        )


def configured_architecture(configuration: dict, where) -> str:
    """The class that a transformers configuration names.

    Raises:
        InputError: When it names none.
    """
    named = configuration.get("architectures")
    if not isinstance(named, list) or not named or not isinstance(named[0], str):
        raise InputError(f"expected {where}/config.json to name a model's class under `architectures`, got {named!r}")
    return named[0]


def input_size_error(name: str, kind: str) -> UsageError:
    """The error for an input size where the source takes no images."""
    return UsageError(f"--input-size applies to images, source {name} takes {kind}")
