"""Handles of timm models: with weights from the hub, from a file or folder, or random ones as a control."""

import functools
import pickle
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modgap.errors import InputError, UsageError, first_line, unknown_name
from modgap.process.installed_packages import installed_library_version
from modgap.sources.hf.spec import read_configuration
from modgap.sources.hub import Repository
from modgap.sources.inputs import ImageInput
from modgap.sources.model_limits import limited_model
from modgap.sources.source import Parts, Source, headless_error
from modgap.storage.array_formats import check_torch_file
from modgap.storage.cache import cache_key
from modgap.storage.digests import file_digest
from modgap.storage.json_records import read_note, write_note
from modgap.storage.paths import cache_folder

if TYPE_CHECKING:
    from torch import Tensor, nn


@functools.cache
def imagenet_class_names(subset: str = "imagenet-1k") -> tuple[str, ...]:
    """Return all lemmas of the synset of each class, in the order of a classifier's outputs.

    Example:
        >>> imagenet_class_names()[:2]
        ('tench, Tinca tinca', 'goldfish, Carassius auratus')
    """
    from timm.data.imagenet_info import ImageNetInfo

    return tuple(ImageNetInfo(subset).label_descriptions())


def short_class_names() -> tuple[str, ...]:
    """Return a unique name of each class of ImageNet-1k: the first lemma, with the definition if two classes share it.

    Example:
        >>> short_class_names()[0], short_class_names()[639]
        ('tench', "maillot, a woman's one-piece bathing suit")
    """
    from timm.data.imagenet_info import ImageNetInfo

    info = ImageNetInfo("imagenet-1k")
    lemmas = info.label_descriptions()
    descriptions = info.label_descriptions(detailed=True)
    first_lemmas = [lemma.split(",")[0] for lemma in lemmas]
    counts = Counter(first_lemmas)
    return tuple(
        name if counts[name] == 1 else f"{name}, {description.removeprefix(f'{lemma}: ')}"
        for name, lemma, description in zip(first_lemmas, lemmas, descriptions, strict=True)
    )


def load_weights(model: "nn.Module", state: "dict[str, Tensor]", architecture: str, path: Path) -> None:
    """Load weights into a model, also those in an older layout that timm can convert.

    Raises:
        InputError: When the weights do not fit the model.
    """
    misfit = _misfit(model, state)
    if misfit:
        state = _converted(model, state)
        if _misfit(model, state):
            raise InputError(f"The weights in {path} do not fit {architecture}: {misfit}.")
    model.load_state_dict(state)


def _misfit(model: "nn.Module", state: "dict[str, Tensor]") -> str | None:
    """Return why these weights do not fit the model, or None if they fit."""
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    missing = sorted(expected.keys() - shapes.keys())
    unknown = sorted(shapes.keys() - expected.keys())
    mismatched = sorted(name for name in expected.keys() & shapes.keys() if expected[name] != shapes[name])
    if not (missing or unknown or mismatched):
        return None
    first = [*missing, *unknown, *mismatched][0]
    return (
        f"{len(missing)} tensors are missing, {len(unknown)} are unknown and {len(mismatched)} have another shape "
        f"(first: {first})"
    )


def _converted(model: "nn.Module", state: "dict[str, Tensor]") -> "dict[str, Tensor]":
    """Return the weights in the current layout, if timm can convert them."""
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    try:
        return convert(dict(state), model) if convert else state
    except Exception:  # a converter can raise any error for weights that do not fit; the caller reports the misfit
        return state


WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")


def library_versions() -> dict[str, str | None]:
    """Return the versions of the libraries that decide a model's outputs, without importing the libraries."""
    return {name: installed_library_version(name) for name in ("timm", "torch")}


def read_weights(path: Path) -> "dict[str, Tensor]":
    """Read the tensors of a `.safetensors` or PyTorch file, without unpickling anything else.

    Raises:
        InputError: When the file is missing or damaged, or contains other objects than tensors.
    """
    import torch

    state = read_state(path)
    if not isinstance(state, dict) or not all(isinstance(t, torch.Tensor) for t in state.values()):
        raise InputError(f"{path} does not contain a dictionary of tensors.")
    return state


def read_state(path: Path) -> object:
    """Read a `.safetensors` or PyTorch file: tensors and plain values, of which those under `state_dict` or the like.

    Raises:
        InputError: When the file is missing or damaged, or contains other objects than tensors and plain values.
    """
    import torch
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        check_torch_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            state = torch.load(path, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except pickle.UnpicklingError as error:
        # The message of torch would advise reading the file unsafely.
        raise InputError(
            f"The weights in {path} cannot be read. The file is not a PyTorch file, or it contains other objects than "
            "tensors, which could run code when they are read. Store the tensors as safetensors."
        ) from error
    except Exception as error:  # the readers can raise any error for a file in another format
        raise InputError(f"The weights in {path} cannot be read ({first_line(error)}).") from error
    for key in ("state_dict", "model_state", "model_state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    return state


def build_source(
    architecture: str,
    input_size: int | None,
    *,
    head: bool = True,
    fill: Callable[["nn.Module"], None] | None = None,
    **options: Any,
) -> Source:
    """Build a timm model as a source with its preprocessing.

    Args:
        architecture: Name of the model in timm, with or without a tag.
        input_size: Height and width of the input in pixels; None for the model's default.
        head: True if a classification head is needed.
        fill: Function that loads weights into the model; None leaves them random.
        options: Further arguments of `timm.create_model`.

    Raises:
        UsageError: When timm has no such model, it takes no such size, or has no classification head.
    """
    import timm
    from timm.data.config import resolve_model_data_config

    if not timm.is_model(architecture):
        raise unknown_name("timm model", architecture, timm.list_models())
    try:
        model: Any = timm.create_model(architecture, **options).eval()
    except InputError:
        raise
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise UsageError(f"timm cannot build {architecture}: {error}") from error
    if head and not getattr(model, "num_classes", 0):
        raise headless_error(architecture)
    if fill:
        fill(model)
    config = resolve_model_data_config(model)
    size = tuple(config["input_size"][1:])
    if input_size and (input_size, input_size) != size:
        size = (input_size, input_size)
        # Position tables are interpolated.
        if getattr(model, "set_input_size", None):
            try:
                model.set_input_size(img_size=size)
            except (AssertionError, RuntimeError, TypeError, ValueError) as error:
                raise UsageError(f"{architecture} takes no images of {size[0]} x {size[1]} pixels: {error}") from error
        elif (model.pretrained_cfg or {}).get("fixed_input_size"):
            raise UsageError(f"{architecture} takes only images of its default size. Leave `input_size` out.")
    image_input = ImageInput(size, tuple(config["mean"]), tuple(config["std"]), config["interpolation"])

    def features(images: "Tensor") -> "Tensor":
        pooled: Tensor = model.forward_head(model.forward_features(images), pre_logits=True)
        return pooled

    def split() -> Parts:
        from modgap.sources.timm.split import split_model

        return split_model(model, size)

    first = (getattr(model, "pretrained_cfg", None) or {}).get("first_conv")
    is_convolutional = isinstance(first, str) and not first.startswith("patch_embed")
    return Source(model, image_input, _class_names(model), is_convolutional, split, features)


def build_control(architecture: str, input_size: int | None, seed: int, *, head: bool = True, **options: Any) -> Source:
    """Build a timm model as a source with the library's random initialization of a seed; see `build_source`."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_source(architecture, input_size, head=head, **options)


def _class_names(model: Any) -> tuple[str, ...]:
    """Return the class names in the configuration, or else those of the ImageNet that timm infers, or else numbers."""
    from timm.data.imagenet_info import infer_imagenet_subset

    names = (model.pretrained_cfg or {}).get("label_names") or ()
    if len(names) == model.num_classes:
        return tuple(str(name) for name in names)
    subset = infer_imagenet_subset(model)
    if not subset:
        return tuple(str(c) for c in range(model.num_classes))
    return imagenet_class_names(subset)


@dataclass(frozen=True)
class TimmModel:
    """A source `timm:NAME`, or a folder or repository in the layout of timm, or the control of one.

    Attributes:
        name: Name of the source in results.
        architecture: Name of the model in timm.
        weights: File of weights, or folder in the layout of timm; None for the weights on the hub.
        folder: Folder with a config.json that describes the model; None for timm's description.
        repository: Repository of the hub that has the weights; None for the one that timm names.
        control_seed: Seed of random weights; None for pretrained ones.
    """

    name: str
    architecture: str
    weights: Path | None = None
    folder: Path | None = None
    repository: Repository | None = None
    control_seed: int | None = None

    def fingerprint(self) -> dict[str, object]:
        """Return the architecture, the checksum of the weights or their seed, and the versions of libraries."""
        configuration = self._configuration()
        is_control = self.control_seed is not None
        return {
            "architecture": self.architecture,
            "weights": f"random, seed {self.control_seed}" if is_control else file_digest(self._file()),
            "configuration": file_digest(configuration) if configuration else None,
            **library_versions(),
        }

    def _configuration(self) -> Path | None:
        weights_folder = self.weights if self.weights and self.weights.is_dir() else None
        for folder in (weights_folder, self.folder):
            if folder and (folder / "config.json").is_file():
                return folder / "config.json"
        return None

    def _file(self) -> Path:
        if self.weights is None:
            if self.repository:
                return _in_repository(self.repository, WEIGHT_FILES, self.name)
            return _hub_file(self.architecture)
        if self.weights.is_dir():
            paths = [self.weights / name for name in WEIGHT_FILES if (self.weights / name).is_file()]
            if not paths:
                raise InputError(f"There is neither {' nor '.join(WEIGHT_FILES)} in {self.weights}.")
            return paths[0]
        return self.weights

    def load(self, input_size: int | None, *, head: bool = True) -> Source:
        """Load the timm model with its weights, or with the library's random initialization.

        Raises:
            InputError: When the weights are missing or do not fit.
            UsageError: When timm has no such model, or the model has no head or takes no images of this size.
        """
        configuration = self._configuration()
        options = _folder_options(configuration) if configuration else {}
        if self.control_seed is not None:
            with limited_model(self.name):
                return build_control(self.architecture, input_size, self.control_seed, head=head, **options)
        weights = read_weights(self._file())
        # The size of the head in these weights, so that heads of another size can be loaded.
        config = _timm_configuration(self.architecture)
        classifier = (
            weights.get(f"{config.classifier}.weight") if config and isinstance(config.classifier, str) else None
        )
        n_classes = None if classifier is None else int(classifier.shape[0])
        if n_classes and "num_classes" not in options:
            options["num_classes"] = n_classes
        elif not n_classes and not head:
            options["num_classes"] = 0

        def fill(model: "nn.Module") -> None:
            load_weights(model, weights, self.architecture, self._file())

        with limited_model(self.name, weights):
            return build_source(self.architecture, input_size, head=head, fill=fill, **options)


def _folder_options(configuration: Path) -> dict[str, Any]:
    """Return the arguments of `timm.create_model` that a config.json stands for."""
    record = read_configuration(configuration)
    try:
        options = dict(record.get("model_args") or {})
        pretrained = {"label_names": record.get("label_names")} | (record.get("pretrained_cfg") or {})
        keys = ("input_size", "interpolation", "mean", "std", "crop_pct", "first_conv", "classifier", "label_names")
        options["pretrained_cfg_overlay"] = {key: pretrained[key] for key in keys if key in pretrained}
        options["num_classes"] = int(record["num_classes"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{configuration} is not the configuration of a timm model ({error!r}).") from error
    return options


def _timm_configuration(architecture: str) -> Any:
    """Return timm's record of an architecture and its weights; None if there is none."""
    import timm

    return timm.get_pretrained_cfg(architecture) if timm.is_model(architecture) else None


def _hub_file(architecture: str) -> Path:
    """Return the file of weights that timm names for the architecture, after downloading it if it is not cached.

    The name of the repository is stored in the cache folder, so that the next run finds it without importing timm.
    """
    note = cache_folder() / "hub" / f"{cache_key({'architecture': architecture, **library_versions()})}.json"
    try:
        record = read_note(note) or {}
        repository = Repository(str(record["repository"]))
        names = tuple(str(name) for name in record["files"])
    except (ValueError, KeyError, TypeError):
        repository, names = named_by_timm(architecture)
        write_note(note, {"repository": repository.name, "files": list(names)})
    return _in_repository(repository, names, f"timm:{architecture}")


def named_by_timm(architecture: str) -> tuple[Repository, tuple[str, ...]]:
    """Return the repository of the hub that timm names for the weights of an architecture, and their possible files.

    Raises:
        InputError: When timm names none.
        UsageError: When timm has no such architecture.
    """
    import timm

    config = _timm_configuration(architecture)
    if config is None:
        raise unknown_name("timm model", architecture, timm.list_models())
    if not config.hf_hub_id:
        raise InputError(f'timm names no weights on the hub for {architecture}. Pass them with `weights="FILE"`.')
    return Repository(config.hf_hub_id), (config.hf_hub_filename,) if config.hf_hub_filename else WEIGHT_FILES


def _in_repository(repository: Repository, names: tuple[str, ...], source: str) -> Path:
    def find() -> Path | None:
        return next(iter(repository.cached_files(names)), None)

    return repository.find_or_fetch(find, [(name,) for name in names], f"weights of {source}", 'pass `weights="FILE"`')
