"""A folder of class sub-folders of images, optionally under train, val and test."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from modgap.errors import InputError
from modgap.targets.samples import SPLITS, Table

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
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())


def read(files: Mapping[str, Sequence[Path]]) -> Table:
    """List the images; each is decoded, to 8-bit RGB, when it is asked for.

    Args:
        files: One folder under the role `data`.
    """
    (folder,) = files["data"]
    paths = image_files(folder)
    parts = [path.relative_to(folder).parts for path in paths]
    split = bool(parts) and all(p[0] in SPLITS and len(p) > 2 for p in parts)
    names = [p[1] if split else p[0] for p in parts]
    if not paths or any(len(p) < 2 for p in parts):
        raise InputError(f"expected a sub-folder of images for each class in {folder}, got {len(paths)} images")
    classes, labels = np.unique(names, return_inverse=True)
    codes = np.array([SPLITS.index(p[0]) for p in parts]) if split else None
    return Table(_ImageFiles(tuple(paths)), labels.astype(np.int64), [str(name) for name in classes], codes)
