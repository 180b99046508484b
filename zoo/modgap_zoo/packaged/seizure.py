"""A network that finds seizures in intracranial EEG: a spectrogram, two convolutions and a bidirectional LSTM.

Reference: Sladky et al., Distributed brain co-processor for tracking spikes, seizures and behaviour during electrical
brain stimulation (Brain Communications 2022).
"""

from collections.abc import Mapping

import torch
from scipy.signal.windows import tukey
from torch import Tensor, nn
from torch.nn import functional

from modgap.sources.inputs import WaveformInput
from modgap_zoo.packaged.network import LinearHead, PackagedNetwork, Recurrent

RATE = 200
"""The smallest rate that the model takes: it has one frequency for each hertz up to 99."""
WINDOW = 10 * RATE
SECOND = RATE
HOP = RATE // 2
FREQUENCIES = 100
TAPER = 0.25
"""Share of the second in which the taper of the spectrogram rises and falls."""
FLAT = 1e-12
"""Power up to which a second of a standardized waveform counts as flat. Flat seconds are not standardized over."""
WIDTH = 200
HIDDEN = 100
CLASSES = ("0", "1", "2", "seizure")
"""The package names only the last class."""


class _Embedder(nn.Module):
    """Spectrogram and convolutions: waveforms (B, 2000) to tokens (B, 19, 200), one for each half second."""

    taper: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 20, 5, padding=(0, 2))
        self.conv2 = nn.Conv2d(20, WIDTH, (96, 3), padding=(0, 1))
        window = tukey(SECOND, TAPER, sym=False)
        self.register_buffer("taper", torch.from_numpy(window).float(), persistent=False)

    def spectrogram(self, waveforms: Tensor) -> Tensor:
        """Return the power at each frequency and half second, standardized over time: (B, 100, 19)."""
        seconds = waveforms.unfold(1, SECOND, HOP)
        seconds = (seconds - seconds.mean(dim=2, keepdim=True)) * self.taper
        power = torch.fft.rfft(seconds).abs().square()[..., :FREQUENCIES].transpose(1, 2)
        # Only frequency 0 occurs once in the spectrum of real values.
        power = power * 2 / (RATE * self.taper.square().sum())
        power = torch.cat([power[:, :1] / 2, power[:, 1:]], dim=1)
        has_power = power.sum(dim=1, keepdim=True) > FLAT
        count = has_power.sum(dim=2, keepdim=True).clamp(min=1)
        mean = torch.where(has_power, power, 0).sum(dim=2, keepdim=True) / count
        centered = torch.where(has_power, power - mean, 0)
        deviation = (centered.square().sum(dim=2, keepdim=True) / count).sqrt()
        return centered / torch.where(deviation > 0, deviation, 1)

    def forward(self, waveforms: Tensor) -> Tensor:
        maps = functional.relu(self.conv1(self.spectrogram(waveforms).unsqueeze(1)))
        features: Tensor = functional.relu(self.conv2(maps)).squeeze(2)
        return features.transpose(1, 2)


def build_network() -> PackagedNetwork:
    """Return the detector on windows of ten seconds, with random weights and the mean of its logits over time."""
    return PackagedNetwork(
        WaveformInput(RATE, WINDOW, standardize=True),
        CLASSES,
        _Embedder(),
        Recurrent(WIDTH, HIDDEN, 2, bidirectional=True),
        LinearHead(2 * HIDDEN, len(CLASSES)),
    )


def rename_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of the ONNX file under the names of this network, with the gates in torch's order."""
    renamed = {f"embedder.{name}": weights[name] for name in ("conv1.weight", "conv1.bias")}
    renamed |= {f"embedder.{name}": weights[name] for name in ("conv2.weight", "conv2.bias")}
    renamed["head.linear.bias"] = weights["fc1.bias"]
    renamed["head.linear.weight"] = next(weights[name] for name in weights if "MatMul" in name).T.contiguous()
    # In the file, each layer has its biases, its weights of inputs and its weights of states, in this order.
    names = sorted((name for name in weights if "LSTM" in name), key=lambda name: int(name.rpartition("_")[2]))
    tensors = [weights[name] for name in names]
    for layer in range(2):
        biases, inputs, states = tensors[3 * layer : 3 * layer + 3]
        for direction, suffix in enumerate(("", "_reverse")):
            input_bias, state_bias = biases[direction].chunk(2)
            values = {"weight_ih": inputs[direction], "weight_hh": states[direction]}
            values |= {"bias_ih": input_bias, "bias_hh": state_bias}
            for name, value in values.items():
                input_gate, output_gate, forget_gate, cell = value.chunk(4)
                gates = torch.cat([input_gate, forget_gate, cell, output_gate])
                renamed[f"encoder.lstm.{name}_l{layer}{suffix}"] = gates
    return renamed
