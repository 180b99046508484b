"""Loading of the sound models whose weights are in packages."""

import torch
from torch import Tensor

from modgap.errors import InputError, first_line
from modgap.sources.sound.crepe import Crepe
from modgap.sources.sound.network import SoundNetwork
from modgap.sources.sound.packaged import PackagedSound, SoundPackage
from modgap.sources.sound.resemblyzer import SpeakerEncoder
from modgap.sources.sound.silero import VoiceActivity
from modgap.sources.source import Parts, Source
from modgap.sources.timm.handle import read_weights

__all__ = ["load"]


def load(handle: PackagedSound) -> Source:
    """Load a sound model with its weights, or with random ones.

    Raises:
        InputError: When the weights are missing or do not fit.
    """
    if handle.control_seed is not None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(handle.control_seed)
            network = _build(handle.package)
    else:
        network = _build(handle.package)
        _fill(network, handle)
    network.eval()
    parts = Parts(network.embedder, network.encoder, network.head, lambda tokens: tokens)

    def features(waveforms: Tensor) -> Tensor:
        return network.pool(network.encoder(network.embedder(waveforms)))

    return Source(network, network.input, network.class_names, False, lambda: parts, features)


def _build(package: SoundPackage) -> SoundNetwork:
    match package.architecture:
        case "crepe":
            return Crepe(package.capacity)
        case "resemblyzer":
            return SpeakerEncoder()
        case "silero-vad":
            return VoiceActivity()


def _fill(network: SoundNetwork, handle: PackagedSound) -> None:
    path = handle.weights_file()
    weights = read_weights(path)
    try:
        network.load_state_dict(network.rename(weights))
    except (RuntimeError, ValueError, AttributeError) as error:
        raise InputError(f"The weights in {path} do not fit {handle.name} ({first_line(error)}).") from error
