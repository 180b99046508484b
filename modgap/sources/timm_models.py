"""Any timm classifier: weights from the hub, from a file or folder, or random ones as a control."""

import contextlib
import copy
import json
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from modgap.cache import cache_folder, key_of
from modgap.digests import file_digest
from modgap.errors import InputError, UsageError, unknown_name
from modgap.sources.inputs import ImageInput
from modgap.sources.source import Parts, Source

__all__ = ["RandomTimm", "TimmModel", "build", "library_versions", "read_weights", "split_model"]

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
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's reader meets a file that is not its own with any error at all
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"cannot read weights from {path}: {reason}") from error
    state = state.get("state_dict", state) if isinstance(state, dict) else None
    if not isinstance(state, dict) or not all(isinstance(t, torch.Tensor) for t in state.values()):
        raise InputError(f"expected a dictionary of tensors in {path}, got something else")
    return state


def build(architecture: str, input_size: int | None, *, head: bool = True, **options) -> Source:
    """A timm model with random weights and its own preprocessing.

    Args:
        architecture: timm's name, with or without a tag.
        input_size: Height and width in pixels; None for the model's own.
        head: Whether a classification head is needed.
        options: Further arguments of `timm.create_model`.

    Raises:
        UsageError: When timm has no such model, it takes no such size, or has no classification head.
    """
    import timm
    from timm.data import resolve_model_data_config

    if not timm.is_model(architecture):
        raise unknown_name("timm model", architecture, timm.list_models())
    if input_size and getattr(timm.get_pretrained_cfg(architecture), "fixed_input_size", False):
        options["img_size"] = input_size
    try:
        model = timm.create_model(architecture, **options).eval()
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise UsageError(f"timm cannot make {architecture} at {input_size or 'its own'} pixels: {error}") from error
    if head and not getattr(model, "num_classes", 0):
        raise UsageError(
            f"expected a model with a classification head, {architecture} has none; "
            "fit one on labelled data of its modality with --head probe:SURROGATE"
        )
    config = resolve_model_data_config(model)
    size = (input_size, input_size) if input_size else tuple(config["input_size"][1:])
    own = ImageInput(size, tuple(config["mean"]), tuple(config["std"]), config["interpolation"])
    names = _class_names(model)

    def features(images):
        whole: Any = model
        return whole.forward_head(whole.forward_features(images), pre_logits=True)

    return Source(model, own, names, _convolutional(model), lambda: split_model(model), features)


def _convolutional(model) -> bool:
    first = (getattr(model, "pretrained_cfg", None) or {}).get("first_conv")
    return isinstance(first, str) and not first.startswith("patch_embed")


def _class_names(model) -> tuple[str, ...]:
    """ImageNet's names where timm knows which ImageNet the head is of; numbers elsewhere."""
    from timm.data import ImageNetInfo, infer_imagenet_subset

    numbered = tuple(str(c) for c in range(model.num_classes))
    subset = infer_imagenet_subset(model)
    if not subset:
        return numbered
    info = ImageNetInfo(subset)
    return tuple(info.index_to_description(c) for c in range(model.num_classes))


def split_model(model) -> Parts:
    """Split a timm model at its stem; embedder, encoder and head share the model's parameters.

    Raises:
        UsageError: When timm does not say where the stem is.
    """
    from torch import nn

    first = (model.pretrained_cfg or {}).get("first_conv")
    if not isinstance(first, str) or not hasattr(model, "forward_head"):
        raise UsageError(f"timm does not name the stem of {type(model).__name__}; it cannot be split")
    stem = _stem_names(model, first.split(".")[0])
    encoder = copy.copy(model)
    encoder._modules = dict(model._modules)
    for name in stem:
        encoder._modules[name] = nn.Identity()
    encoder.forward = encoder.forward_features
    return Parts(nn.Sequential(*(getattr(model, name) for name in stem)), encoder, _Head(model), _tokens_of(model))


def _tokens_of(model):
    """A function from features (B, T, D), (B, H, W, D) or (B, D, H, W) to (B, T, D)."""
    channels_last = getattr(model, "output_fmt", "NCHW") == "NHWC"

    def tokens(features):
        if features.ndim == 3:
            return features
        return features.flatten(1, 2) if channels_last else features.flatten(2).transpose(1, 2)

    return tokens


def _stem_names(model, first: str) -> list[str]:
    """The first convolution, and the normalisation, activation and pooling that are its siblings."""
    follow = {"conv_stem": ("bn1",), "conv1": ("bn1", "act1", "maxpool")}.get(first, ())
    return [first, *(name for name in follow if name in model._modules)]


def _Head(model):  # noqa: N802 - makes a module
    from torch import nn

    class Head(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, features):
            return self.model.forward_head(features)

    return Head().eval()


@dataclass(frozen=True)
class TimmModel:
    """`timm:NAME`, from the hub or a file; or a folder in the hub's layout."""

    name: str
    architecture: str
    weights: Path | None = None
    folder: Path | None = None

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
        folder = self.folder or (self.weights if self.weights and self.weights.is_dir() else None)
        return folder / "config.json" if folder and (folder / "config.json").is_file() else None

    def _file(self) -> Path:
        if self.weights is None:
            return _hub_file(self.architecture)
        if self.weights.is_dir():
            found = [self.weights / name for name in WEIGHT_FILES if (self.weights / name).is_file()]
            if not found:
                raise InputError(f"expected {' or '.join(WEIGHT_FILES)} in {self.weights}, found neither")
            return found[0]
        if not self.weights.is_file():
            raise InputError(f"expected weights at {self.weights}, found no file or folder")
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
        source = build(self.architecture, input_size, head=head, **options)
        _fill(source.model, given, self.architecture, self._file())
        return source


@dataclass(frozen=True)
class RandomTimm:
    """The same architecture with random weights: the control. Its seed is fixed."""

    name: str
    architecture: str

    def fingerprint(self) -> dict:
        """Architecture, seed of the weights, versions."""
        return {"architecture": self.architecture, "weights": f"random, seed {RANDOM_SEED}", **library_versions()}

    def load(self, input_size: int | None, *, head: bool = True) -> Source:
        """The timm model as its library initialises it."""
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(RANDOM_SEED)
            return build(self.architecture, input_size, head=head)


def _folder_options(configuration: Path) -> dict:
    try:
        record = json.loads(configuration.read_text(encoding="utf-8"))
        options = dict(record.get("model_args") or {})
        own = record.get("pretrained_cfg") or {}
        keys = ("input_size", "interpolation", "mean", "std", "crop_pct", "first_conv", "classifier")
        options["pretrained_cfg_overlay"] = {key: own[key] for key in keys if key in own}
        options["num_classes"] = int(record["num_classes"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"expected a timm model's configuration in {configuration}: {error!r}") from error
    return options


def folder_architecture(folder: Path) -> str:
    """The timm architecture that a folder in the hub's layout names.

    Raises:
        InputError: When it has no readable config.json that names one.
    """
    configuration = folder / "config.json"
    try:
        return str(json.loads(configuration.read_text(encoding="utf-8"))["architecture"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"expected {configuration} to name a timm architecture ({error!r}); "
            f"or give --source timm:NAME --weights {folder}"
        ) from error


def _head_size(state: dict, architecture: str) -> int | None:
    """Outputs of the head in these weights, so that heads of another size load too."""
    import timm

    config = timm.get_pretrained_cfg(architecture) if timm.is_model(architecture) else None
    name = config.classifier if config else None
    weight = state.get(f"{name}.weight") if isinstance(name, str) else None
    return None if weight is None else int(weight.shape[0])


def _fill(model, state: dict, architecture: str, path: Path) -> None:
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    given = {name: tuple(tensor.shape) for name, tensor in state.items()}
    missing, extra = sorted(expected.keys() - given.keys()), sorted(given.keys() - expected.keys())
    odd = sorted(n for n in expected.keys() & given.keys() if expected[n] != given[n])
    if missing or extra or odd:
        first = [*missing, *extra, *odd][0]
        raise InputError(
            f"weights in {path} do not fit {architecture}: {len(missing)} tensors missing, {len(extra)} unknown, "
            f"{len(odd)} of another shape (first: {first})"
        )
    model.load_state_dict(state)


def _hub_file(architecture: str) -> Path:
    """The model's weights in the hub's local cache, fetched if the hub may be asked.

    Where they lie is noted, so that the next run finds them without importing timm.
    """
    note = cache_folder() / "hub" / f"{key_of({'architecture': architecture, **library_versions()})}.txt"
    if note.is_file() and Path(note.read_text(encoding="utf-8")).is_file():
        return Path(note.read_text(encoding="utf-8"))
    path = _asked_from_hub(architecture)
    with contextlib.suppress(OSError):
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(str(path), encoding="utf-8")
    return path


def _asked_from_hub(architecture: str) -> Path:
    import timm
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

    config = timm.get_pretrained_cfg(architecture) if timm.is_model(architecture) else None
    if config is None:
        raise unknown_name("timm model", architecture, timm.list_models())
    if not config.hf_hub_id:
        raise InputError(f"timm knows no hub weights for {architecture}; give them by --weights FILE")
    reason: Exception | None = None
    for name in [config.hf_hub_filename] if config.hf_hub_filename else WEIGHT_FILES:
        try:
            return Path(hf_hub_download(config.hf_hub_id, name))
        except (EntryNotFoundError, LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
            reason = error
    offline = " (HF_HUB_OFFLINE is set)" if constants.HF_HUB_OFFLINE else ""
    raise InputError(
        f"weights of timm:{architecture} are not on this machine and the hub gave none{offline}; "
        f"bring them with: hf download {config.hf_hub_id}, or give --weights FILE"
    ) from reason
