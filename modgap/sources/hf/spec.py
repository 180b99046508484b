"""Transformers models before they are loaded: their files and the records to load them from. This needs no torch."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modgap.errors import InputError, UsageError
from modgap.sources.hub import Repository
from modgap.sources.model_limits import check_numbers
from modgap.storage.digests import file_digest

VOCABULARIES = (
    "tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model",
    "spm.model", "bpe.codes",
)  # fmt: skip
"""Files of which one is enough for a tokenizer, some of them together with others of TOKENIZER."""
TOKENIZER = (*VOCABULARIES, "merges.txt", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
PREPROCESSING = ("preprocessor_config.json", "processor_config.json")
SMALL_FILES = ("config.json", *TOKENIZER, *PREPROCESSING)
"""All files that decide the outputs, besides the weights."""
WEIGHTS = (("model.safetensors", "model.safetensors.index.json"), ("pytorch_model.bin", "pytorch_model.bin.index.json"))
"""Names of a single file of weights, and of the index of several; safetensors come first."""
WEIGHT_NAMES = [name for pair in WEIGHTS for name in pair]
SHARDS = ("model-*-of-*.safetensors", "pytorch_model-*-of-*.bin")


@dataclass(frozen=True)
class ModelFiles:
    """Location of the files of a model: a folder, or a repository of the hub.

    Attributes:
        name: The source's name, for errors.
        folder: Folder that contains all files; None for the hub's cache.
        repository: Repository of the hub; None if there is only a folder.
        weights: File of weights that replaces the model's; None for the model's.
    """

    name: str
    folder: Path | None = None
    repository: Repository | None = None
    weights: Path | None = None

    def configuration_folder(self) -> Path:
        """Return the folder that contains config.json.

        Raises:
            InputError: When there is none.
        """
        return self.require(("config.json",), "configuration")

    def require(self, names: Sequence[str], description: str) -> Path:
        """Return the folder after making sure that it contains at least one of these small files.

        Args:
            names: Names of files of which one is enough.
            description: Description of the files, for the error.

        Raises:
            InputError: When none of the files is there.
        """
        if self.folder:
            if not any((self.folder / name).is_file() for name in names):
                raise InputError(
                    f"The {description} ({' or '.join(names)}) of {self.name} is missing in {self.folder}."
                )
            return self.folder
        assert self.repository
        repository = self.repository

        def find() -> Path | None:
            return next((path.parent for path in repository.cached_files(names)), None)

        files = f"{description} files of {self.name}"
        return repository.find_or_fetch(find, [SMALL_FILES], files, "pass a folder to `weights`")

    def configuration(self) -> dict[str, Any]:
        """Return the contents of config.json."""
        return read_configuration(self.configuration_folder() / "config.json")

    def weight_files(self) -> list[Path]:
        """Return the files of weights, one or several; safetensors are preferred.

        Raises:
            InputError: When they are missing, or an index names a file that is missing.
        """
        if self.weights:
            return [self.weights]
        if self.folder:
            paths = _weights_in(self.folder)
            if not paths:
                names = " or ".join(single for single, _ in WEIGHTS)
                raise InputError(f"The weights of {self.name} ({names}) are missing in {self.folder}.")
            return paths
        assert self.repository
        repository = self.repository

        def find() -> list[Path] | None:
            folder = next((path.parent for path in repository.cached_files(WEIGHT_NAMES)), None)
            return _weights_in(folder) if folder else None

        groups = [(*WEIGHTS[0], SHARDS[0]), (*WEIGHTS[1], SHARDS[1])]
        return repository.find_or_fetch(find, groups, f"weights of {self.name}", "pass a file or folder to `weights`")

    def fingerprint(self, *, weights: bool = True) -> dict[str, object]:
        """Return digests of all files that decide the outputs, and the revision if the files are from the hub."""
        folder = self.configuration_folder()
        record: dict[str, object] = {
            "files": {name: file_digest(folder / name) for name in SMALL_FILES if (folder / name).is_file()},
            "revision": folder.name if self.repository and not self.folder else None,
        }
        return record | ({"weights": [file_digest(path) for path in self.weight_files()]} if weights else {})


def model_files(
    name: str, weights: Path | None, folder: Path | None = None, repository: Repository | None = None
) -> ModelFiles:
    """Return the files of a model; a folder of weights replaces all of them, and a file only the weights.

    Args:
        name: The source's name, for errors.
        weights: File or folder of weights that replaces the model's; None for the model's.
        folder: Folder that contains all files; None for the hub's cache.
        repository: Repository of the hub; None if there is only a folder.
    """
    if weights and weights.is_dir():
        return ModelFiles(name, weights)
    return ModelFiles(name, folder, repository, weights)


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
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{index} is not the index of a model's weights ({error!r}).") from error
    absent = [path.name for path in files if not path.is_file()]
    if absent or not files:
        raise InputError(f"{index} names {len(files)} files of weights. Missing files: {', '.join(absent) or 'all'}.")
    return files


def read_configuration(path: Path) -> dict[str, Any]:
    """Read a model's config.json.

    Raises:
        InputError: When the file cannot be read, is not a JSON object, or describes a model that is too large.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON: {error}.") from error
    if not isinstance(record, dict):
        raise InputError(f"{path} contains a {type(record).__name__}. Expected a JSON object.")
    check_numbers(record, path)
    return record


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
        tokenizer: Name of the tokenizer in the record; `bundled` for the one in the model's files.
        control_seed: Seed of random weights; None for the files' weights.
        build_tokenizer: Function from the folder of the model's files to the tokenizer; None for the one in the files.
    """

    name: str
    files: ModelFiles
    architecture: str | None = None
    tokenizer: str = "bundled"
    control_seed: int | None = None
    build_tokenizer: Callable[[Path], Any] | None = None

    def class_name(self) -> str:
        """Return the name of the model's class in transformers."""
        return self.architecture or configured_architecture(
            self.files.configuration(), self.files.configuration_folder()
        )


def configured_architecture(configuration: Mapping[str, object], folder: Path) -> str:
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
            f"{folder / 'config.json'} has {names!r} under "
            '"architectures". '
            "Expected a list with the name of a model's class."
        )
    return names[0]


def input_size_error(name: str, kind: str) -> UsageError:
    """Return the error for an input size of a source that takes no images."""
    return UsageError(f"`input_size` applies to images, but source {name} takes {kind}. Leave it out.")
