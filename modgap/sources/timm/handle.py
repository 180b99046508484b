"""Any timm classifier: weights from the hub, from a file or folder, or random ones as a control."""

import contextlib
import json
import pickle
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from modgap.errors import InputError, UsageError, unknown_name
from modgap.sources.hub import Repository
from modgap.sources.inputs import ImageInput
from modgap.sources.source import Parts, Source, headless_error
from modgap.sources.timm.imagenet import imagenet_class_names
from modgap.storage.cache import cache_key
from modgap.storage.digests import file_digest
from modgap.storage.json_records import read_json, write_json
from modgap.storage.paths import cache_folder

if TYPE_CHECKING:
    from torch import nn

__all__ = ["RANDOM_SEED", "RandomTimm", "TimmModel", "build_source", "library_versions", "load_weights", "read_weights"]

RANDOM_SEED = 0
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")


def library_versions() -> dict[str, str]:
    """Versions that can change a model's outputs, read without importing the libraries."""
    return {name: metadata.version(name) for name in ("timm", "torch")}


def read_weights(path: Path) -> dict:
    """Tensors of a `.safetensors` or PyTorch file, without unpickling anything else.

    Raises:
        InputError: When the file is missing, broken, or holds more than tensors.
    """
    import torch
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's own message goes on to advise reading the file unsafely.
        raise InputError(
            f"cannot read weights from {path}: it is no file of PyTorch's, or holds more than tensors, which is "
            "refused since reading it can run code; store the tensors as safetensors"
        ) from error
    except Exception as error:  # torch's reader meets a file that is not its own with any error at all
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"cannot read weights from {path}: {reason}") from error
    for wrapped in ("state_dict", "model"):
        state = state[wrapped] if isinstance(state, dict) and isinstance(state.get(wrapped), dict) else state
    if not isinstance(state, dict) or not all(isinstance(t, torch.Tensor) for t in state.values()):
        raise InputError(f"expected a dictionary of tensors in {path}, got something else")
    return state


def build_source(
    architecture: str,
    input_size: int | None,
    *,
    head: bool = True,
    fill: Callable[["nn.Module"], None] | None = None,
    **options,
) -> Source:
    """A timm model with its own preprocessing.

    Args:
        architecture: timm's name, with or without a tag.
        input_size: Height and width in pixels; None for the model's own.
        head: Whether a classification head is needed.
        fill: Puts weights into the model; None leaves them random.
        options: Further arguments of `timm.create_model`.

    Raises:
        UsageError: When timm has no such model, it takes no such size, or has no classification head.
    """
    import timm
    from timm.data import resolve_model_data_config

    if not timm.is_model(architecture):
        raise unknown_name("timm model", architecture, timm.list_models())
    try:
        model = timm.create_model(architecture, **options).eval()
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise UsageError(f"timm cannot make {architecture}: {error}") from error
    if head and not getattr(model, "num_classes", 0):
        raise headless_error(architecture)
    if fill:
        fill(model)
    config = resolve_model_data_config(model)
    size = tuple(config["input_size"][1:])
    if input_size and (input_size, input_size) != size:
        size = (input_size, input_size)
        _resize(model, architecture, size)
    own = ImageInput(size, tuple(config["mean"]), tuple(config["std"]), config["interpolation"])
    return _source(model, own)


def _resize(model, architecture: str, size: tuple[int, int]) -> None:
    """Make a model with positions take images of another size; its position tables are interpolated."""
    if not getattr(model, "set_input_size", None):
        if (model.pretrained_cfg or {}).get("fixed_input_size"):
            raise UsageError(f"{architecture} takes images of its own size only; leave out --input-size")
        return
    try:
        model.set_input_size(img_size=size)
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise UsageError(f"{architecture} takes no images of {size[0]} pixels: {error}") from error


def _source(model, own: ImageInput) -> Source:
    def features(images):
        return model.forward_head(model.forward_features(images), pre_logits=True)

    def split() -> Parts:
        from modgap.sources.timm.split import split_model

        return split_model(model, own.size)

    return Source(model, own, _class_names(model), _convolutional(model), split, features)


def _convolutional(model) -> bool:
    first = (getattr(model, "pretrained_cfg", None) or {}).get("first_conv")
    return isinstance(first, str) and not first.startswith("patch_embed")


def _class_names(model) -> tuple[str, ...]:
    """The configuration's own, else ImageNet's where timm knows which ImageNet the head is of, else numbers."""
    from timm.data import infer_imagenet_subset

    own = (model.pretrained_cfg or {}).get("label_names") or ()
    if len(own) == model.num_classes:
        return tuple(str(name) for name in own)
    subset = infer_imagenet_subset(model)
    if not subset:
        return tuple(str(c) for c in range(model.num_classes))
    return imagenet_class_names(subset)


@dataclass(frozen=True)
class TimmModel:
    """`timm:NAME`, from the hub or a file; or a folder or repository in timm's layout.

    Attributes:
        name: What it is called in results.
        architecture: timm's name of it.
        weights: File, or folder in timm's layout; None for the hub's.
        folder: Folder whose config.json describes the model.
        repository: Where the hub keeps the weights; None to ask timm.
    """

    name: str
    architecture: str
    weights: Path | None = None
    folder: Path | None = None
    repository: Repository | None = None

    def fingerprint(self) -> dict:
        """Architecture, checksum of the weights, versions."""
        configuration = self._configuration()
        return {
            "architecture": self.architecture,
            "weights": file_digest(self._file()),
            "configuration": file_digest(configuration) if configuration else None,
            **library_versions(),
        }

    def _configuration(self) -> Path | None:
        given = self.weights if self.weights and self.weights.is_dir() else None
        for folder in (given, self.folder):
            if folder and (folder / "config.json").is_file():
                return folder / "config.json"
        return None

    def _file(self) -> Path:
        if self.weights is None:
            if self.repository:
                return _in_repository(self.repository, WEIGHT_FILES, self.name)
            return _hub_file(self.architecture)
        if self.weights.is_dir():
            found = [self.weights / name for name in WEIGHT_FILES if (self.weights / name).is_file()]
            if not found:
                raise InputError(f"expected {' or '.join(WEIGHT_FILES)} in {self.weights}, found neither")
            return found[0]
        return self.weights

    def load(self, input_size: int | None, *, head: bool = True) -> Source:
        """The timm model with these weights."""
        configuration = self._configuration()
        options = _folder_options(configuration) if configuration else {}
        given = read_weights(self._file())
        classes = _head_size(given, self.architecture)
        if classes and "num_classes" not in options:
            options["num_classes"] = classes
        elif not classes and not head:
            options["num_classes"] = 0

        def fill(model) -> None:
            load_weights(model, given, self.architecture, self._file())

        return build_source(self.architecture, input_size, head=head, fill=fill, **options)


@dataclass(frozen=True)
class RandomTimm:
    """The same architecture with random weights: the control. Its seed is fixed."""

    name: str
    architecture: str
    folder: Path | None = None

    def fingerprint(self) -> dict:
        """Architecture, seed of the weights, versions."""
        return {
            "architecture": self.architecture,
            "weights": f"random, seed {RANDOM_SEED}",
            "configuration": file_digest(self.folder / "config.json") if self.folder else None,
            **library_versions(),
        }

    def load(self, input_size: int | None, *, head: bool = True) -> Source:
        """The timm model as its library initializes it."""
        import torch

        options = _folder_options(self.folder / "config.json") if self.folder else {}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(RANDOM_SEED)
            return build_source(self.architecture, input_size, head=head, **options)


def _folder_options(configuration: Path) -> dict:
    try:
        record = json.loads(configuration.read_text(encoding="utf-8"))
        options = dict(record.get("model_args") or {})
        own = record.get("pretrained_cfg") or {}
        keys = ("input_size", "interpolation", "mean", "std", "crop_pct", "first_conv", "classifier", "label_names")
        own = {"label_names": record.get("label_names")} | own
        options["pretrained_cfg_overlay"] = {key: own[key] for key in keys if key in own}
        options["num_classes"] = int(record["num_classes"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"expected a timm model's configuration in {configuration}: {error!r}") from error
    return options


def _head_size(state: dict, architecture: str) -> int | None:
    """Outputs of the head in these weights, so that heads of another size load too."""
    import timm

    config = timm.get_pretrained_cfg(architecture) if timm.is_model(architecture) else None
    name = config.classifier if config else None
    weight = state.get(f"{name}.weight") if isinstance(name, str) else None
    return None if weight is None else int(weight.shape[0])


def load_weights(model, state: dict, architecture: str, path: Path) -> None:
    """Put weights into a model, also those with an older layout's names, which timm knows how to convert."""
    fault = _misfit(model, state)
    if fault:
        state = _converted(model, state)
        if _misfit(model, state):
            raise InputError(f"weights in {path} do not fit {architecture}: {fault}")
    model.load_state_dict(state)


def _misfit(model, state: dict) -> str | None:
    """What is wrong with these weights for the model; None when nothing is."""
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    given = {name: tuple(tensor.shape) for name, tensor in state.items()}
    missing, extra = sorted(expected.keys() - given.keys()), sorted(given.keys() - expected.keys())
    odd = sorted(n for n in expected.keys() & given.keys() if expected[n] != given[n])
    if not (missing or extra or odd):
        return None
    first = [*missing, *extra, *odd][0]
    return f"{len(missing)} tensors missing, {len(extra)} unknown, {len(odd)} of another shape (first: {first})"


def _converted(model, state: dict) -> dict:
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    try:
        return convert(dict(state), model) if convert else state
    except Exception:  # a converter meets what is not its own with any error at all; the misfit is then told
        return state


def _hub_file(architecture: str) -> Path:
    """The weights that timm names for the architecture, in the hub's local cache, fetched if need be.

    Which repository holds them is noted, so that the next run finds it without importing timm.
    """
    note = cache_folder() / "hub" / f"{cache_key({'architecture': architecture, **library_versions()})}.json"
    try:
        record = read_json(note)
        repository, names = Repository(str(record["repository"])), tuple(map(str, record["files"]))
    except (OSError, ValueError, KeyError, TypeError):
        repository, names = _named_by_timm(architecture)
        with contextlib.suppress(OSError):
            write_json(note, {"repository": repository.name, "files": names})
    return _in_repository(repository, names, f"timm:{architecture}")


def _named_by_timm(architecture: str) -> tuple[Repository, tuple[str, ...]]:
    import timm

    config = timm.get_pretrained_cfg(architecture) if timm.is_model(architecture) else None
    if config is None:
        raise unknown_name("timm model", architecture, timm.list_models())
    if not config.hf_hub_id:
        raise InputError(f"timm knows no hub weights for {architecture}; give them by --weights FILE")
    return Repository(config.hf_hub_id), (config.hf_hub_filename,) if config.hf_hub_filename else WEIGHT_FILES


def _in_repository(repository: Repository, names: tuple[str, ...], what: str) -> Path:
    def look() -> Path | None:
        return next(iter(repository.cached_files(names)), None)

    return repository.find_or_fetch(look, [(name,) for name in names], f"weights of {what}", "give --weights FILE")
