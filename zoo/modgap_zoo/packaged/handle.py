"""Handles of the models whose weights are in Python packages; torch is needed only to load them."""

from dataclasses import dataclass
from pathlib import Path

from modgap.errors import UsageError
from modgap.process.installed_packages import installed_library_version
from modgap.sources.source import Source, headless_error
from modgap.storage.digests import file_digest
from modgap_zoo.package_file import PackageFile
from modgap_zoo.packaged.tensorflow_bundle import data_file


@dataclass(frozen=True)
class PackagedModel:
    """A model with the weights of a package, with other weights, or with random ones as a control.

    Attributes:
        name: Name of the source in results.
        package: File of the weights in their package.
        architecture: Name of the architecture, which the module of this name in this package builds (with `_` for `-`).
        capacity: Size or tags of the architecture, for those that come in several; empty for the others.
        has_vocabulary: True if the file has the vocabulary and the classes too, so that a control needs it.
        weights: File of weights that replaces the package's; None for the package's.
        control_seed: Seed of random weights; None for pretrained weights.
    """

    name: str
    package: PackageFile
    architecture: str
    capacity: str = ""
    has_vocabulary: bool = False
    weights: Path | None = None
    control_seed: int | None = None

    def weights_file(self) -> Path:
        """Return the file of the weights.

        Raises:
            InputError: When the package is not installed.
        """
        return self.weights or self.package.path(self.name)

    def fingerprint(self) -> dict[str, object]:
        """Return the architecture, the checksum of the weights or their seed, and the version of torch."""
        random = self.control_seed is not None
        return {
            "architecture": f"{self.architecture} {self.capacity}".strip(),
            "weights": f"random, seed {self.control_seed}" if random else self._weights_digest(),
            **({"vocabulary": self._weights_digest()} if random and self.has_vocabulary else {}),
            "torch": installed_library_version("torch"),
        }

    def _weights_digest(self) -> str:
        """Return the checksum of the weights, and of the file of values that belongs to an index."""
        path = self.weights_file()
        is_index = path.name.endswith(".index") and data_file(path).is_file()
        return " ".join(file_digest(file) for file in (path, data_file(path))) if is_index else file_digest(path)

    def load(self, input_size: int | None, *, head: bool = True) -> Source:
        """Load the model.

        Raises:
            InputError: When the weights are missing or do not fit.
            UsageError: When the model has no head but one is needed, or an input size is given.
        """
        if input_size:
            raise UsageError(
                f"Source {self.name} takes no images, which alone have a size in pixels. Leave `input_size` out."
            )
        from modgap_zoo.packaged.loading import load

        file = self.weights_file() if self.control_seed is None or self.has_vocabulary else None
        source = load(
            self.name, self.architecture, self.capacity, file, self.control_seed, has_vocabulary=self.has_vocabulary
        )
        if head and not source.class_names:
            raise headless_error(self.name)
        return source
