"""A folder of class sub-folders of images, optionally under train, val and test."""

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
        try:
            with Image.open(self.paths[index]) as image:
                if image.mode in ("I", "F"):
                    raise InputError(f"expected 8 or 16 bits a channel in {self.paths[index]}; save it as such")
                if image.mode.startswith("I;16"):
                    # Pillow would clip 16 bits to white.
                    return (np.asarray(image)[None].repeat(3, axis=0) / 257).astype(np.float32)
                pixels = np.asarray(image.convert("RGB"))
        except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
            raise InputError(f"cannot read image {self.paths[index]}: {error}") from error
        return pixels.transpose(2, 0, 1)


def image_files(folder: Path) -> list[Path]:
    """Image files below a folder, in order of their path."""
    return list_files(folder, SUFFIXES)


def read(files: Mapping[str, Sequence[Path]]) -> Table:
    """List the images; each is decoded, to 8-bit RGB, when it is asked for.

    Args:
        files: One folder under the role `data`.
    """
    folder = single_file(files, "data")
    paths = image_files(folder)
    labels, classes, codes = class_folder_labels(folder, paths, "images")
    return Table(_ImageFiles(tuple(paths)), labels, classes, codes)
