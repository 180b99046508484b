"""A small vision transformer pretrained on Fashion-MNIST, whose weights are included in modgap."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modgap.errors import InputError
from modgap.sources.source import Source
from modgap.sources.timm.handle import RANDOM_SEED, build_source, library_versions, read_weights
from modgap.sources.timm.state_dicts import load_weights
from modgap.storage.digests import file_digest

__all__ = ["ARCHITECTURE", "OPTIONS", "SHIPPED", "VitFashion"]

SHIPPED = Path(__file__).parent / "weights" / "vit-fashion.safetensors"
"""Weights written by tools/pretrain_vit_fashion.py; a model card is in the same folder."""
MEAN = 0.2860
SD = 0.3530
CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
ARCHITECTURE = "vit_tiny_patch16_224"
"""Name of the timm model whose code is used. All its sizes are overridden."""
OPTIONS: dict[str, Any] = {
    "img_size": 28,
    "patch_size": 4,
    "in_chans": 1,
    "embed_dim": 96,
    "depth": 6,
    "num_heads": 3,
    "class_token": False,
    "global_pool": "avg",
    "num_classes": len(CLASSES),
    "pretrained_cfg_overlay": {
        "input_size": (1, 28, 28),
        "mean": (MEAN,),
        "std": (SD,),
        "interpolation": "bicubic",
        "crop_pct": 1.0,
        "label_names": CLASSES,
    },
}


@dataclass(frozen=True)
class VitFashion:
    """The pretrained model, or its control with random weights.

    Attributes:
        name: Name of the source in results.
        weights: File of weights that replaces the included one; None for the included one.
        control: Whether the weights are random.
        control_seed: Seed of the random weights.
    """

    name: str
    weights: Path | None = None
    control: bool = False
    control_seed: int = RANDOM_SEED

    @property
    def _file(self) -> Path:
        file = self.weights or SHIPPED
        if not file.is_file():
            raise InputError(f"The weights of {self.name} are missing at {file}. Install modgap again.")
        return file

    def fingerprint(self) -> dict[str, Any]:
        """Return the architecture, the checksum of the weights, and the versions of libraries."""
        weights = f"random, seed {self.control_seed}" if self.control else file_digest(self._file)
        return {"architecture": f"{ARCHITECTURE} {OPTIONS}", "weights": weights, **library_versions()}

    def load(self, input_size: int | None, *, head: bool = True) -> Source:
        """Load the timm model with these weights, which are stored in half precision and used in single precision.

        Raises:
            InputError: When the weights are missing or do not fit.
            UsageError: When the model takes no images of this size.
        """
        import torch

        if self.control:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.control_seed)
                return build_source(ARCHITECTURE, input_size, head=head, **OPTIONS)
        weights = read_weights(self._file)
        return build_source(
            ARCHITECTURE,
            input_size,
            head=head,
            fill=lambda model: load_weights(model, weights, self.name, self._file),
            **OPTIONS,
        )
