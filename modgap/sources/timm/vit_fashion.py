"""A small vision transformer pretrained on Fashion-MNIST, whose weights come with modgap itself."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modgap.errors import InputError
from modgap.sources.source import Source
from modgap.sources.timm.handle import RANDOM_SEED, build_source, library_versions, load_weights, read_weights
from modgap.storage.digests import file_digest

__all__ = ["ARCHITECTURE", "OPTIONS", "SHIPPED", "VitFashion"]

SHIPPED = Path(__file__).parent / "weights" / "vit-fashion.safetensors"
"""Written by tools/pretrain_vit_fashion.py, with a model card beside it."""
MEAN, SD = 0.2860, 0.3530
CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
ARCHITECTURE = "vit_tiny_patch16_224"
"""The timm model whose code is used; all its sizes are overridden."""
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
    """The model, or its control.

    Attributes:
        name: What it is called in results.
        weights: A file of weights that stands in for the shipped one.
        control: Whether the weights are random instead, of a fixed seed.
    """

    name: str
    weights: Path | None = None
    control: bool = False

    @property
    def _file(self) -> Path:
        file = self.weights or SHIPPED
        if not file.is_file():
            raise InputError(f"expected weights of {self.name} at {file}, found no file; install modgap again")
        return file

    def fingerprint(self) -> dict:
        """Architecture, checksum of the weights, versions."""
        weights = f"random, seed {RANDOM_SEED}" if self.control else file_digest(self._file)
        return {"architecture": f"{ARCHITECTURE} {OPTIONS}", "weights": weights, **library_versions()}

    def load(self, input_size: int | None, *, head: bool = True) -> Source:
        """The timm model with these weights, which are stored in half precision and computed with in single."""
        import torch

        if self.control:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(RANDOM_SEED)
                return build_source(ARCHITECTURE, input_size, head=head, **OPTIONS)
        given = read_weights(self._file)
        return build_source(
            ARCHITECTURE,
            input_size,
            head=head,
            fill=lambda model: load_weights(model, given, self.name, self._file),
            **OPTIONS,
        )
