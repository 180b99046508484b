"""Handles of transformers models, by hub repository or by folder; no torch is needed until one is loaded."""

from dataclasses import dataclass
from importlib import metadata

from modgap.errors import InputError
from modgap.sources.hf.spec import CONTRASTIVE, PROMPT, HfSpec
from modgap.sources.source import Source
from modgap.sources.timm.handle import RANDOM_SEED

__all__ = ["HfModel"]

LIBRARIES = ("torch", "transformers", "tokenizers")


@dataclass(frozen=True)
class HfModel(HfSpec):
    """A source `hf:NAME[@REVISION]`, a folder in transformers' layout, or an alias of one; fields as in `HfSpec`."""

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
        from modgap.sources.hf.loading import load

        return load(self, input_size, head=head)


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError as error:
        raise InputError(f"this source needs {name}, which is not installed: pip install {name}") from error
