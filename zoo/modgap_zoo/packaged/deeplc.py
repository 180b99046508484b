"""DeepLC: a convolutional network that predicts when a peptide leaves a chromatography column.

Reference: Bouwmeester, Gabriels, Hulstaert, Martens and Degroeve, DeepLC can predict retention times for peptides that
carry as-yet unseen modifications (Nature Methods 2021), the multitask model of version 4. Modifications are not read.
"""

import itertools
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from modgap_zoo.packaged.network import FlatHead, PackagedNetwork
from modgap_zoo.packaged.symbols import one_hot, symbol_input

RESIDUES = "KRPTNAQVSGILCMHFYWED"
ATOMS = (
    (6, 12, 2, 1, 0, 0), (6, 12, 4, 1, 0, 0), (5, 7, 1, 1, 0, 0), (4, 7, 1, 2, 0, 0), (4, 6, 2, 2, 0, 0),
    (3, 5, 1, 1, 0, 0), (5, 8, 2, 2, 0, 0), (5, 9, 1, 1, 0, 0), (3, 5, 1, 2, 0, 0), (2, 3, 1, 1, 0, 0),
    (6, 11, 1, 1, 0, 0), (6, 11, 1, 1, 0, 0), (3, 5, 1, 1, 1, 0), (5, 9, 1, 1, 1, 0), (6, 7, 3, 1, 0, 0),
    (9, 9, 1, 1, 0, 0), (9, 9, 1, 2, 0, 0), (11, 10, 2, 1, 0, 0), (5, 7, 1, 3, 0, 0), (4, 5, 1, 3, 0, 0),
)  # fmt: skip
"""Numbers of carbon, hydrogen, nitrogen, oxygen, sulfur and phosphorus of each residue."""
N_ATOMS = 6
LENGTH = 60
POSITIONS = (-4, -3, -2, -1, 0, 1, 2, 3)
"""Residues, from the end and from the beginning, whose atoms enter the description of the peptide."""
LEARNED = 16
STEM = 128
CHANNELS = 512
WIDTH = 256
KERNEL = 5
RANK = 64
SETUPS = 6_543
"""Number of the chromatographic set-ups of the training data."""
SAMPLES = 256
"""Number of random peptides by whose description a control standardizes; the package's file has its own numbers."""
DESCRIPTION = N_ATOMS + 1 + len(POSITIONS) * N_ATOMS + 2 * N_ATOMS + len(RESIDUES)


class _Embedder(nn.Module):
    """Atoms, one-hot name and learned vector of each residue: texts to tokens (B, 60, 42), which are 0 for padding."""

    atoms: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.residues = nn.Linear(len(RESIDUES), LEARNED, bias=False)
        self.register_buffer("atoms", torch.tensor(ATOMS, dtype=torch.float32), persistent=False)

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        names = one_hot(batch["input_ids"], len(RESIDUES), LENGTH).to(self.atoms)
        return torch.cat([names @ self.atoms, names, self.residues(names)], dim=2)


class _Convolution(nn.Conv1d):
    """A convolution that keeps the length, and SiLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__(inputs, outputs, kernel, padding=kernel // 2)

    def forward(self, maps: Tensor) -> Tensor:
        return functional.silu(super().forward(maps))


class _Encoder(nn.Module):
    """Convolutions over the residues, pooled beside a description of the peptide: tokens (B, T, 42) to (B, 1, 256)."""

    mean: Tensor
    sd: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(_Convolution(N_ATOMS, STEM, 1), _Convolution(STEM, STEM, 1))
        self.blocks = nn.Sequential(
            _Convolution(STEM + LEARNED, CHANNELS, KERNEL), _Convolution(CHANNELS, CHANNELS, KERNEL)
        )
        self.norm = nn.LayerNorm(2 * CHANNELS)
        mean, sd = self._standardization()
        self.register_buffer("mean", mean)
        self.register_buffer("sd", sd)
        widths = (DESCRIPTION + 2 * CHANNELS, WIDTH, WIDTH, WIDTH)
        layers = [[nn.Linear(*pair), nn.SiLU()] for pair in itertools.pairwise(widths)]
        self.dense = nn.Sequential(*(module for layer in layers for module in layer))

    def forward(self, tokens: Tensor) -> Tensor:
        atoms, names, learned = torch.split(tokens, [N_ATOMS, len(RESIDUES), LEARNED], dim=2)
        is_residue = tokens.abs().sum(dim=2, keepdim=True) > 0
        stem = self.stem(atoms.transpose(1, 2))
        maps = self.blocks(torch.cat([stem, learned.transpose(1, 2)], dim=1))
        outside = ~is_residue.transpose(1, 2)
        largest = maps.masked_fill(outside, -torch.inf).amax(dim=2)
        # A text without residues has no largest value.
        largest = torch.where(outside.all(dim=2), 0, largest)
        pooled = self.norm(torch.cat([maps.masked_fill(outside, 0).sum(dim=2), largest], dim=1))
        description = (self._description(atoms, names, is_residue) - self.mean) / self.sd
        encoded: Tensor = self.dense(torch.cat([description, pooled], dim=1))
        return encoded.unsqueeze(1)

    def _standardization(self) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of the description of random peptides, by which a control standardizes."""
        is_residue = torch.arange(LENGTH).view(1, -1, 1) < torch.randint(7, 31, (SAMPLES, 1, 1))
        numbers = torch.where(is_residue.squeeze(2), torch.randint(len(RESIDUES), (SAMPLES, LENGTH)), len(RESIDUES))
        names = one_hot(numbers, len(RESIDUES), LENGTH)
        described = self._description(names @ torch.tensor(ATOMS, dtype=torch.float32), names, is_residue)
        sd = described.std(dim=0)
        return described.mean(dim=0), torch.where(sd > 0, sd, 1)

    def _description(self, atoms: Tensor, names: Tensor, is_residue: Tensor) -> Tensor:
        """Return atoms, length, atoms at both ends, atoms of modified ends (none) and residues of peptides (B, 87)."""
        length = is_residue.sum(dim=1)
        position = torch.tensor(POSITIONS, device=atoms.device)
        index = torch.where(position < 0, position + length, position)
        # The package counts from the end once more where a peptide of less than four residues has no such position.
        index = torch.where(index < 0, index + length, index)
        is_present = (index >= 0) & (index < length)
        index = torch.where(is_present, index, 0).clamp(max=atoms.shape[1] - 1)
        ends = atoms.gather(1, index.unsqueeze(2).expand(-1, -1, N_ATOMS)) * is_present.unsqueeze(2)
        modified = torch.zeros(atoms.shape[0], 2 * N_ATOMS, device=atoms.device)
        return torch.cat([atoms.sum(dim=1), length, ends.flatten(1), modified, names.sum(dim=1)], dim=1)


class _Head(FlatHead):
    """Retention times in minutes, one for each set-up: (B, 1, 256) to (B, 6543)."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(WIDTH, RANK)
        self.embedding = nn.Parameter(torch.randn(SETUPS, RANK) / RANK**0.5)
        self.scale = nn.Parameter(torch.ones(SETUPS))
        self.shift = nn.Parameter(torch.zeros(SETUPS))

    def forward(self, tokens: Tensor) -> Tensor:
        minutes: Tensor = self.proj(self.pool(tokens)) @ self.embedding.T * self.scale + self.shift
        return minutes


def build_network() -> PackagedNetwork:
    """Return DeepLC on peptides of up to 60 residues with random weights.

    It is a model without classes: its head gives retention times.
    """
    return PackagedNetwork(symbol_input(RESIDUES, LENGTH), (), _Embedder(), _Encoder(), _Head())


def rename_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of the package's file under the names of this network."""
    theirs = {
        "encoder.embed.": "embedder.residues.", "encoder.net.": "encoder.dense.", ".conv.": ".",
        "encoder.norm.std": "encoder.sd", "encoder.norm.mean": "encoder.mean", "pool_norm": "norm",
    }  # fmt: skip
    renamed = {}
    for name, tensor in weights.items():
        ours = name
        for old, new in theirs.items():
            ours = ours.replace(old, new)
        # The package's vector of padding, which is 0, is left out.
        renamed[ours] = tensor[: len(RESIDUES)].T if name == "encoder.embed.weight" else tensor
    return renamed
