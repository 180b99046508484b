"""Models of the transformers library, by repository of the hub or by folder; needs no torch until one is loaded."""

from dataclasses import dataclass
from importlib import metadata

from modgap.errors import InputError, UsageError
from modgap.sources.hf_files import ModelFiles
from modgap.sources.source import Source
from modgap.sources.timm_models import RANDOM_SEED

__all__ = ["CONTRASTIVE", "PROMPT", "HfModel", "named_architecture", "refused_size"]

LIBRARIES = ("torch", "transformers", "tokenizers")
CONTRASTIVE = "CLIPModel"
PROMPT = "a photo of a {}."
"""What a contrastive model's text tower reads for a class."""


@dataclass(frozen=True)
class HfModel:
    """`hf:NAME[@REVISION]`, a folder in transformers' layout, or an alias of one.

    Attributes:
        name: What it is called in results.
        files: Where its files are.
        architecture: Its class in transformers; None for the one that config.json names.
        tokenizer: `own` for the files' own, `smiles` for reactions and molecules in SMILES by vocab.txt.
        control: Whether the weights are random, with a fixed seed, instead of the files'.
    """

    name: str
    files: ModelFiles
    architecture: str | None = None
    tokenizer: str = "own"
    control: bool = False

    def class_name(self) -> str:
        """The model's class in transformers."""
        return self.architecture or named_architecture(self.files.configuration(), self.files.described())

    def fingerprint(self) -> dict:
        """Architecture, digests of configuration, weights and tokenizer, versions, revision."""
        architecture = self.class_name()
        contrastive = architecture == CONTRASTIVE
        # The prompts' class names are timm's.
        libraries = (*LIBRARIES, "timm") if contrastive else LIBRARIES
        random = {"weights": f"random, seed {RANDOM_SEED}"} if self.control else {}
        return {
            "architecture": architecture,
            "tokenizer": self.tokenizer,
            **self.files.fingerprint(weights=not self.control),
            **random,
            **({"prompt": PROMPT} if contrastive else {}),
            **{name: _version(name) for name in libraries},
        }

    def load(self, input_size: int | None, *, head: bool = True) -> Source:
        """The model with its preprocessing; raises InputError or UsageError when it cannot be had."""
        _version("transformers")
        from modgap.sources.hf_load import load

        return load(self, input_size, head=head)


def named_architecture(configuration: dict, where) -> str:
    """The class that a transformers configuration names.

    Raises:
        InputError: When it names none.
    """
    named = configuration.get("architectures")
    if not isinstance(named, list) or not named or not isinstance(named[0], str):
        raise InputError(f"expected {where}/config.json to name a model's class under `architectures`, got {named!r}")
    return named[0]


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError as error:
        raise InputError(f"this source needs {name}, which is not installed: pip install {name}") from error


def refused_size(name: str, kind: str) -> UsageError:
    """The error for an input size where the source takes no images."""
    return UsageError(f"--input-size applies to images, source {name} takes {kind}")
