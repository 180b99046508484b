"""Handles of transformers models in a hub repository or a folder; torch is needed only to load them."""

from dataclasses import dataclass

from modgap.errors import InputError
from modgap.process.installed_packages import installed_library_version
from modgap.sources.hf.spec import CONTRASTIVE, PROMPT, HfSpec
from modgap.sources.source import Source

LIBRARIES = ("torch", "transformers", "tokenizers")


@dataclass(frozen=True)
class HfModel(HfSpec):
    """A source `hf:NAME[@REVISION]`, a folder in the layout of transformers, or an alias. Fields as in `HfSpec`."""

    def fingerprint(self) -> dict[str, object]:
        """Return the architecture, digests of configuration, weights and tokenizer, versions, and the revision."""
        architecture = self.class_name()
        contrastive = architecture == CONTRASTIVE
        # The class names in the prompts come from timm.
        libraries = (*LIBRARIES, "timm") if contrastive else LIBRARIES
        is_control = self.control_seed is not None
        random = {"weights": f"random, seed {self.control_seed}"} if is_control else {}
        return {
            "architecture": architecture,
            "tokenizer": self.tokenizer,
            **self.files.fingerprint(weights=not is_control),
            **random,
            **({"prompt": PROMPT} if contrastive else {}),
            **{name: _version(name) for name in libraries},
        }

    def load(self, input_size: int | None, *, head: bool = True) -> Source:
        """Load the model with its preprocessing.

        Raises:
            InputError: When files or libraries are missing, damaged, or do not fit.
            UsageError: When the class cannot be a source, has no head where one is needed, or takes no such size.
        """
        _version("transformers")
        from modgap.sources.hf.loading import load

        return load(self, input_size, head=head)


def _version(name: str) -> str:
    version = installed_library_version(name)
    if version is None:
        raise InputError(
            f"This source needs the package {name}, which is not installed. Install it with: pip install {name}"
        )
    return version
