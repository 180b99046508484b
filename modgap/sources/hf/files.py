"""The files of a transformers model: configuration, weights, tokenizer, preprocessing. Needs no torch."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from modgap.errors import InputError
from modgap.sources.hub import Repository
from modgap.storage.digests import file_digest

__all__ = ["PREPROCESSING", "VOCABULARIES", "ModelFiles", "read_configuration"]

VOCABULARIES = (
    "tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model",
    "spm.model", "bpe.codes",
)  # fmt: skip
"""Each makes a tokenizer, some of them together with others of TOKENIZER."""
TOKENIZER = (*VOCABULARIES, "merges.txt", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
PREPROCESSING = ("preprocessor_config.json", "processor_config.json")
WEIGHTS = (
    ("model.safetensors", "model.safetensors.index.json"),
    ("pytorch_model.bin", "pytorch_model.bin.index.json"),
)
"""One file, or the index of many; safetensors first."""
SHARDS = ("model-*-of-*.safetensors", "pytorch_model-*-of-*.bin")


@dataclass(frozen=True)
class ModelFiles:
    """Where the files of a model are to be found: a folder, or a repository of the hub.

    Attributes:
        name: The source's name, for errors.
        folder: A folder that holds them all; None for the hub's.
        repository: A repository of the hub; None for a folder alone.
        weights: A weights file that stands in for the model's own.
    """

    name: str
    folder: Path | None = None
    repository: Repository | None = None
    weights: Path | None = None

    def configuration_folder(self) -> Path:
        """The folder with config.json.

        Raises:
            InputError: When there is none.
        """
        return self.require(("config.json",), "configuration")

    def require(self, names: Sequence[str], what: str) -> Path:
        """The folder, after making sure that one of these small files is in it."""
        if self.folder:
            if not any((self.folder / name).is_file() for name in names):
                raise InputError(f"expected the {what} ({' or '.join(names)}) of {self.name} in {self.folder}")
            return self.folder
        assert self.repository
        repository = self.repository

        def look() -> Path | None:
            return next((path.parent for path in repository.cached_files(names)), None)

        small = ("config.json", *TOKENIZER, *PREPROCESSING)
        return repository.find_or_fetch(
            look, [small], f"{what} files of {self.name}", "give a folder by --weights FOLDER"
        )

    def configuration(self) -> dict:
        """config.json as read."""
        return read_configuration(self.configuration_folder() / "config.json")

    def weight_files(self) -> list[Path]:
        """The weights, one file or several, safetensors where there are some.

        Raises:
            InputError: When they are not there, or an index names one that is not.
        """
        if self.weights:
            return [self.weights]
        if self.folder:
            found = _weights_in(self.folder)
            if not found:
                named = " or ".join(single for single, _ in WEIGHTS)
                raise InputError(f"expected weights of {self.name} in {self.folder} ({named}), found none")
            return found
        assert self.repository
        repository = self.repository
        names = [name for pair in WEIGHTS for name in pair]

        def look() -> list[Path] | None:
            folder = next((path.parent for path in repository.cached_files(names)), None)
            return _weights_in(folder) if folder else None

        groups = [(*WEIGHTS[0], SHARDS[0]), (*WEIGHTS[1], SHARDS[1])]
        return repository.find_or_fetch(look, groups, f"weights of {self.name}", "give a file or folder by --weights")

    def fingerprint(self, *, weights: bool = True) -> dict:
        """Digests of all files that decide the outputs, and the revision where the hub names one."""
        folder = self.configuration_folder()
        record: dict = {
            "files": {
                name: file_digest(folder / name)
                for name in ("config.json", *TOKENIZER, *PREPROCESSING)
                if (folder / name).is_file()
            },
            "revision": folder.name if self.repository and not self.folder else None,
        }
        return record | ({"weights": [file_digest(path) for path in self.weight_files()]} if weights else {})

    def is_installed(self) -> bool:
        """Whether configuration and weights are on this machine; nothing is fetched."""
        if self.folder:
            return (self.folder / "config.json").is_file() and bool(_weights_in(self.folder))
        assert self.repository
        names = [name for pair in WEIGHTS for name in pair]
        return bool(self.repository.cached_files(["config.json"])) and bool(self.repository.cached_files(names))


def _weights_in(folder: Path) -> list[Path]:
    for single, index in WEIGHTS:
        if (folder / single).is_file():
            return [folder / single]
        if (folder / index).is_file():
            return _shards(folder / index)
    return []


def _shards(index: Path) -> list[Path]:
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        files = [index.parent / Path(name).name for name in names]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"expected the index of a model's weights in {index}: {error!r}") from error
    absent = [path.name for path in files if not path.is_file()]
    if absent or not files:
        raise InputError(f"{index} names {len(files)} files of weights, of which are missing: {', '.join(absent)}")
    return files


def read_configuration(path: Path) -> dict:
    """A model's config.json.

    Raises:
        InputError: When it cannot be read or is not a JSON object.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}") from error
    if not isinstance(record, dict):
        raise InputError(f"expected a JSON object in {path}, got {type(record).__name__}")
    return record
