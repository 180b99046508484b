"""A folder of class sub-folders of images, optionally below train, val and test."""

import re
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
        except Image.DecompressionBombError as error:
            raise InputError(_describe_large_image(path, str(error))) from error
        except (OSError, UnidentifiedImageError) as error:
            raise InputError(f"cannot read image {path}: {error}") from error
        return pixels.transpose(2, 0, 1)


def _describe_large_image(path: Path, message: str) -> str:
    """Return the message about an image with more pixels than Pillow decodes, with the number from its message."""
    pixels = re.search(r"\((\d+) pixels\)", message)
    number = f"{int(pixels[1]):,} pixels" if pixels else "too many pixels"
    limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
    return (
        f"{path} has {number}. The limit is {limit:,} pixels for one image. Cut it into tiles, or shrink it, for "
        f"instance with: magick mogrify -resize 25% '{path}'"
    )


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
