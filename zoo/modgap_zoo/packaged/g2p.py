"""g2p: a recurrent network that writes the phonemes of an English word from its letters.

Reference: Park and Kim, g2pE: A Simple Python Module for English Grapheme To Phoneme Conversion (2019), the model for
words that are not in the pronouncing dictionary.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from modgap_zoo.packaged.network import Head, PackagedNetwork
from modgap_zoo.packaged.symbols import PADDING, symbol_input, vectors_and_mask

LENGTH = 64
"""Largest number of letters with the end of the word."""
WIDTH = 256
STEPS = 20
"""Largest number of phonemes."""
UNKNOWN, END = "<unk>", "</s>"
LETTERS = (PADDING, UNKNOWN, END, *"abcdefghijklmnopqrstuvwxyz")
PHONEMES = (
    PADDING, UNKNOWN, "<s>", END, "AA0", "AA1", "AA2", "AE0", "AE1", "AE2", "AH0", "AH1", "AH2", "AO0", "AO1", "AO2",
    "AW0", "AW1", "AW2", "AY0", "AY1", "AY2", "B", "CH", "D", "DH", "EH0", "EH1", "EH2", "ER0", "ER1", "ER2", "EY0",
    "EY1", "EY2", "F", "G", "HH", "IH0", "IH1", "IH2", "IY0", "IY1", "IY2", "JH", "K", "L", "M", "N", "NG", "OW0",
    "OW1", "OW2", "OY0", "OY1", "OY2", "P", "R", "S", "SH", "T", "TH", "UH0", "UH1", "UH2", "UW", "UW0", "UW1", "UW2",
    "V", "W", "Y", "Z", "ZH",
)  # fmt: skip
PARAMETERS = {"w_ih": "weight_ih_l0", "w_hh": "weight_hh_l0", "b_ih": "bias_ih_l0", "b_hh": "bias_hh_l0"}


class _Embedder(nn.Module):
    """Vectors of the letters, (B, T, 256), with the mask of their padding."""

    def __init__(self) -> None:
        super().__init__()
        self.letters = nn.Embedding(len(LETTERS), WIDTH)

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"inputs_embeds": self.letters(batch["input_ids"]), "attention_mask": batch["attention_mask"]}


class _Encoder(nn.Module):
    """A recurrent layer: vectors of letters to its state at the end of the word, one token (B, 1, 256)."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(WIDTH, WIDTH, batch_first=True)

    def forward(self, value: Tensor | Mapping[str, Tensor]) -> Tensor:
        vectors, mask = vectors_and_mask(value)
        if torch.compiler.is_compiling():
            # A program unrolls the steps, so that their number has to be known.
            vectors = functional.pad(vectors, (0, 0, 0, LENGTH - vectors.shape[1]))
        states: Tensor = self.gru(vectors)[0]
        last = (mask.sum(dim=1) - 1).clamp(min=0)
        return states.gather(1, last.view(-1, 1, 1).expand(-1, 1, WIDTH))


class _Head(Head):
    """A recurrent layer that writes a phoneme at each step, and a linear one; the logits are their mean over steps."""

    def __init__(self) -> None:
        super().__init__()
        self.phonemes = nn.Embedding(len(PHONEMES), WIDTH)
        self.gru = nn.GRU(WIDTH, WIDTH, batch_first=True)
        self.linear = nn.Linear(WIDTH, len(PHONEMES))

    def states(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return the states (B, 20, 256), and the mask (B, 20) of the steps to the one that writes the end."""
        state = tokens.transpose(0, 1).contiguous()
        number = torch.full((tokens.shape[0], 1), PHONEMES.index("<s>"), device=tokens.device)
        states, ended, is_written = [], torch.zeros_like(number, dtype=torch.bool), []
        for _ in range(STEPS):
            output, state = self.gru(self.phonemes(number), state)
            number = self.linear(output).argmax(dim=2)
            states.append(output)
            is_written.append(~ended)
            ended = ended | (number == PHONEMES.index(END))
        return torch.cat(states, dim=1), torch.cat(is_written, dim=1)

    def pool(self, tokens: Tensor) -> Tensor:
        """Return the mean state over the phonemes that are written, (B, 256)."""
        states, is_written = self.states(tokens)
        weight = is_written.unsqueeze(2).to(states.dtype)
        return (states * weight).sum(dim=1) / weight.sum(dim=1)


def build_network() -> PackagedNetwork:
    """Return g2p on a text as one word, with random weights.

    Its logits are the mean over the phonemes that it writes and their end.
    """
    source_input = symbol_input(LETTERS, LENGTH, unknown=UNKNOWN, end=END, lowercase=True)
    return PackagedNetwork(source_input, PHONEMES, _Embedder(), _Encoder(), _Head())


def rename_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the package's arrays under the names of this network."""
    renamed = {
        "embedder.letters.weight": weights["enc_emb"],
        "head.phonemes.weight": weights["dec_emb"],
        "head.linear.weight": weights["fc_w"],
        "head.linear.bias": weights["fc_b"],
    }
    for part, theirs in (("encoder", "enc"), ("head", "dec")):
        renamed |= {f"{part}.gru.{ours}": weights[f"{theirs}_{name}"] for name, ours in PARAMETERS.items()}
    return renamed
