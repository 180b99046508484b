"""Files of weights in installed packages."""

from dataclasses import dataclass
from pathlib import Path

from modgap.process.installed_packages import find_package_folder
from modgap.sources.source import package_error


@dataclass(frozen=True)
class PackageFile:
    """A file of weights in a Python package.

    Attributes:
        package: Import name of the package.
        file: Path of the file within the package.
        install: Command that installs the package without its dependencies, which modgap does not use.
    """

    package: str
    file: str
    install: str

    def path(self, name: str) -> Path:
        """Return the path of the file.

        Args:
            name: Name of the source, for the error.

        Raises:
            InputError: When the package is not installed.
        """
        folder = find_package_folder(self.package)
        if folder is None or not (folder / self.file).is_file():
            raise package_error(name, self.install)
        return folder / self.file
