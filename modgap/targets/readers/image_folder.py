"""A folder of class sub-folders of images, optionally below train, val and test."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from modgap.errors import InputError
from modgap.targets.file_layout import class_folder_labels, list_files, single_file
from modgap.targets.samples import Table

__all__ = ["SUFFIXES", "image_files", "read"]

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


@dataclass(frozen=True)
class _ImageFiles:
    paths: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> np.ndarray:
        path = self.paths[index]
        try:
            with Image.open(path) as image:
                if image.mode in ("I", "F"):
                    raise InputError(f"{path} has 32 bits per channel, expected 8 or 16. Convert it to 8 or 16 bits.")
                if image.mode.startswith("I;16"):
                    # Pillow would clip 16-bit values to white.
                    return (np.asarray(image)[None].repeat(3, axis=0) / 257).astype(np.float32)
                pixels = np.asarray(image.convert("RGB"))
        except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
            raise InputError(f"cannot read image {path}: {error}") from error
        return pixels.transpose(2, 0, 1)


def image_files(folder: Path) -> list[Path]:
    """Return the image files below a folder, sorted by path."""
    return list_files(folder, SUFFIXES)


def read(files: Mapping[str, Sequence[Path]]) -> Table:
    """List the images. Each is decoded to 8-bit RGB when it is read.

    Args:
        files: One folder under the role `data`.
    """
    folder = single_file(files, "data")
    paths = image_files(folder)
    labels, classes, codes = class_folder_labels(folder, paths, "images")
    return Table(_ImageFiles(tuple(paths)), labels, classes, codes)
