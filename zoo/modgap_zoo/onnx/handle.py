"""ONNX models before they are loaded: handles of files with a description beside them, and of Python packages."""

from dataclasses import dataclass
from pathlib import Path

from modgap.errors import InputError, UsageError, first_line
from modgap.process.installed_packages import find_package_folder, installed_library_version
from modgap.sources.source import Source, control_name, headless_error, pretrained_name
from modgap.storage.digests import file_digest
from modgap.storage.paths import expand_user
from modgap_zoo.onnx.description import ImageDescription, OnnxDescription, read_description
from modgap_zoo.package_file import PackageFile

INSTALL = "pip install 'modgap-zoo[onnx]'"


@dataclass(frozen=True)
class OnnxFile:
    """A source `onnx:FILE`, or the model of a package, or the control of the same architecture.

    Attributes:
        name: Name of the source in results.
        file: File of the model, which may be in a package.
        description: What the model takes and returns. None to read the file of the same name that ends with .toml.
        control_seed: Seed of random weights; None for those of the file.
    """

    name: str
    file: Path | PackageFile
    description: OnnxDescription | None = None
    control_seed: int | None = None

    def _read(self) -> tuple[Path, OnnxDescription]:
        """Return the file of the model and its description.

        Raises:
            InputError: When the package is not installed, or the description is missing or invalid.
        """
        path = self.file.path(pretrained_name(self.name)) if isinstance(self.file, PackageFile) else self.file
        return path, self.description or read_description(_sidecar(path), path)

    def fingerprint(self) -> dict[str, object]:
        """Return the checksums of the model's files and of its description, the seed, and the versions of libraries."""
        path, description = self._read()
        _require_converter()
        from modgap_zoo.onnx.graph import external_files

        tensors = {file.name: file_digest(file) for file in external_files(path)}
        return {
            "model": file_digest(path),
            **({"tensors": tensors} if tensors else {}),
            "weights": "of the file" if self.control_seed is None else f"random, seed {self.control_seed}",
            **{name: installed_library_version(name) for name in ("onnx", "onnx2torch", "torch")},
            "description": description.model_dump(mode="json") if self.description else file_digest(_sidecar(path)),
        }

    def load(self, input_size: int | None, *, head: bool = True) -> Source:
        """Load the model.

        Raises:
            InputError: When the model or its description is missing, invalid, or does not fit the other.
            UsageError: When the model has no head but one is needed, or an input size is given.
        """
        path, description = self._read()
        if input_size:
            kind = "images of its own size" if isinstance(description.input, ImageDescription) else "sound"
            raise UsageError(f"Source {self.name} takes {kind}. Leave `input_size` out.")
        if head and not description.has_head:
            raise headless_error(self.name)
        _require_converter()
        from modgap_zoo.onnx.loading import load_onnx

        try:
            return load_onnx(self.name, path, description, self.control_seed)
        except UnicodeDecodeError as error:
            raise InputError(f"{path} is damaged: a name in it is not text ({first_line(error)}).") from error


def _sidecar(path: Path) -> Path:
    """Return the file of the description beside a model."""
    return path.with_suffix(".toml")


class OnnxPrefix:
    """The sources `onnx:FILE`, as a plug-in of modgap.

    Attributes:
        title: Description of the sources.
        suffixes: Endings of the files.
    """

    title = "Model in an ONNX file"
    suffixes = (".onnx",)

    def open(self, argument: str) -> OnnxFile:
        """Return a handle of the model in a file.

        Raises:
            InputError: When there is no such file.
        """
        path = _existing_file(argument)
        return OnnxFile(path.stem, path)

    def control(self, argument: str, seed: int) -> OnnxFile:
        """Return a handle of the same architecture with random weights of a seed.

        Raises:
            InputError: When there is no such file.
        """
        path = _existing_file(argument)
        return OnnxFile(control_name(path.stem), path, control_seed=seed)


prefix = OnnxPrefix()


def _existing_file(argument: str) -> Path:
    path = expand_user(argument)
    if not path.is_file():
        raise InputError(f"There is no file {path} for the source onnx:{argument}.")
    return path


def _require_converter() -> None:
    """Raise an InputError if the libraries that convert ONNX models are not installed."""
    if find_package_folder("onnx2torch") is None or find_package_folder("onnx") is None:
        raise InputError(f"ONNX models need packages that are not installed. Install them with: {INSTALL}")
