"""Silero VAD: a small network that tells speech from other sound.

Reference: Silero Team, Silero VAD: pre-trained enterprise-grade voice activity detector (2024), the model for 16 kHz.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from modgap.sources.inputs import WaveformInput
from modgap_zoo.packaged.network import LinearHead, PackagedNetwork

RATE = 16_000
CHUNK = 512
CONTEXT = 64
"""Values before a chunk that belong to its spectrum."""
PADDING = 64
BASIS = 256
STRIDE = 128
FREQUENCIES = BASIS // 2 + 1
WIDTH = 128
SILENCE = 1e-20
CHUNKS = 31
"""Number of chunks of a window, which is about a second."""


class _Spectrum(nn.Module):
    """Magnitudes of four frames of each chunk, then a convolution: waveforms (B, 31 512) to tokens (B, 31 4, 128)."""

    basis: Tensor

    def __init__(self) -> None:
        super().__init__()
        # The real and the imaginary parts of a Fourier transform with a Hann window, (258, 1, 256).
        angles = 2 * torch.pi / BASIS * torch.arange(FREQUENCIES)[:, None] * torch.arange(BASIS)
        window = torch.hann_window(BASIS)
        basis = torch.cat([window * torch.cos(angles), -window * torch.sin(angles)])
        self.register_buffer("basis", basis.unsqueeze(1))
        self.conv = nn.Conv1d(FREQUENCIES, WIDTH, 3, padding=1)

    def forward(self, waveforms: Tensor) -> Tensor:
        chunks = functional.pad(waveforms, (CONTEXT, 0)).unfold(1, CHUNK + CONTEXT, CHUNK)
        flat = functional.pad(chunks.flatten(0, 1).unsqueeze(1), (0, PADDING), mode="reflect")
        real, imaginary = functional.conv1d(flat, self.basis, stride=STRIDE).chunk(2, dim=1)
        # Silence has no power, where the square root has no gradient.
        magnitude = (real.square() + imaginary.square()).clamp(min=SILENCE).sqrt()
        frames = functional.relu(self.conv(magnitude))
        return frames.transpose(1, 2).reshape(waveforms.shape[0], -1, WIDTH)


class _Encoder(nn.Module):
    """Convolutions over the four frames of a chunk, then a recurrent layer: tokens (B, 31 4, 128) to (B, 31, 128)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv2 = nn.Conv1d(WIDTH, 64, 3, 2, padding=1)
        self.conv3 = nn.Conv1d(64, 64, 3, 2, padding=1)
        self.conv4 = nn.Conv1d(64, WIDTH, 3, padding=1)
        self.lstm = nn.LSTM(WIDTH, WIDTH, batch_first=True)

    def forward(self, tokens: Tensor) -> Tensor:
        frames = CHUNK // STRIDE
        x = tokens.reshape(-1, frames, WIDTH).transpose(1, 2)
        for layer in (self.conv2, self.conv3, self.conv4):
            x = functional.relu(layer(x))
        outputs: Tensor = self.lstm(x.reshape(tokens.shape[0], -1, WIDTH))[0]
        return outputs


class _Head(LinearHead):
    """Logits (B, 2) of no speech, which is 0, and of speech, averaged over the chunks."""

    def __init__(self) -> None:
        super().__init__(WIDTH, 1)

    def pool(self, tokens: Tensor) -> Tensor:
        """Return the mean over the chunks (B, 128)."""
        return functional.relu(tokens).mean(dim=1)

    def forward(self, tokens: Tensor) -> Tensor:
        speech = super().forward(functional.relu(tokens))
        return torch.cat([torch.zeros_like(speech), speech], dim=1)


def build_network() -> PackagedNetwork:
    """Return Silero VAD with random weights, on windows of about a second, whose first chunk has no past."""
    source_input = WaveformInput(RATE, CHUNKS * CHUNK)
    return PackagedNetwork(source_input, ("no speech", "speech"), _Spectrum(), _Encoder(), _Head())


def rename_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of the package under the names of this network."""
    names = {"conv1": "embedder.conv", "final_conv": "head.linear"}
    state = {}
    for name, tensor in weights.items():
        module, _, parameter = name.rpartition(".")
        if module == "stft_conv":
            state["embedder.basis"] = tensor
        elif module == "lstm_cell":
            state[f"encoder.lstm.{parameter}_l0"] = tensor
        else:
            value = tensor.squeeze(-1) if module == "final_conv" and tensor.ndim == 3 else tensor
            state[f"{names.get(module, f'encoder.{module}')}.{parameter}"] = value
    return state
