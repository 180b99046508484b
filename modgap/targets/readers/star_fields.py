"""Astronomical exposures in deepCR's layout: filter / proposal / visit / NUMBER.npy, each an image with its masks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from modgap.errors import InputError
from modgap.storage.mmap_arrays import map_npy
from modgap.targets.samples import SPLITS, Table
from modgap.targets.shaping import split_codes
from modgap.targets.splits import hold_out_validation

__all__ = ["read"]

SKY = "sky.npy"
IMAGE, TARGET, IGNORED = range(3)


def read(
    files: Mapping[str, Sequence[Path]],
    *,
    fields: Sequence[str] | None = None,
    validation: float | str | None = None,
    validation_at: str = "end",
) -> Table:
    """List the exposures; the part that is asked for is mapped from its file.

    A file holds (2 or 3, H, W): the image, the pixels hit by cosmic rays (0/1), and those to be ignored (0/1).

    Args:
        files: Under `train`, `val` or `test` the folder of one filter, with a folder for each proposal and in it one
            for each visit.
        fields: Which fields are taken, as PROPOSAL_VISIT; None for all.
        validation: Training samples, in the order of their paths, held for validation: a share, a number or
            `as-test`; None for none.
        validation_at: Whether these are at the `start` or the `end` of the training samples.

    Returns:
        Samples (1, H, W), targets (1, H, W) 0/1, masks 1 where a pixel counts, and the group `field`.

    Raises:
        InputError: When a folder holds none of the fields.
    """
    named = [split for split in SPLITS if split in files]
    if not named:
        raise KeyError(SPLITS[0])
    found = [(split, _exposures(files[split][0], fields)) for split in named]
    paths = tuple(path for _, part in found for path in part)
    splits = split_codes([(split, len(part)) for split, part in found])
    return Table(
        _Planes(paths, IMAGE),
        splits=hold_out_validation(splits, validation, validation_at),
        groups={"field": np.array([_field(path) for path in paths])},
        targets=_Planes(paths, TARGET),
        masks=_Planes(paths, IGNORED),
    )


def _field(path: Path) -> str:
    return f"{path.parent.parent.name}_{path.parent.name}"


def _exposures(folder: Path, fields: Sequence[str] | None) -> list[Path]:
    paths = [path for path in sorted(folder.glob("*/*/*.npy")) if path.name != SKY]
    taken = [path for path in paths if fields is None or _field(path) in fields]
    if not taken:
        raise InputError(
            f"expected exposures PROPOSAL/VISIT/NUMBER.npy of the wanted fields in {folder}, got {len(paths)} of others"
        )
    return taken


@dataclass(frozen=True)
class _Planes:
    """One plane of every exposure."""

    paths: tuple[Path, ...]
    plane: int

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> np.ndarray:
        path = self.paths[index]
        planes = map_npy(path)
        if planes.ndim != 3 or len(planes) not in (2, 3) or planes.dtype.kind not in "fiub":
            raise InputError(f"expected an image and one or two masks (2 or 3, H, W) in {path}, got {planes.shape}")
        if self.plane < IGNORED:
            return planes[self.plane][None].astype(np.float32)
        if len(planes) == 2:
            return np.ones_like(planes[:1], np.float32)
        return 1 - planes[IGNORED][None].astype(np.float32)
