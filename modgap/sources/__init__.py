"""Pretrained source models by name."""

from pathlib import Path

from modgap.errors import InputError, UsageError, unknown_name
from modgap.sources import efficientnet_lite
from modgap.sources.inputs import AudioInput, Batch, ImageInput, Input, TextInput
from modgap.sources.source import Parts, Source, SourceHandle, SourceInfo
from modgap.sources.timm_models import RandomTimm, TimmModel, folder_architecture

__all__ = [
    "AudioInput",
    "Batch",
    "ImageInput",
    "Input",
    "Parts",
    "Source",
    "SourceHandle",
    "SourceInfo",
    "TextInput",
    "open_source",
    "source_infos",
]


def source_infos() -> list[SourceInfo]:
    """All aliases."""
    return [efficientnet_lite.describe(name) for name in efficientnet_lite.ALIASES]


def open_source(name: str, *, weights: str | None = None) -> SourceHandle:
    """Find a source model; loads nothing.

    Args:
        name: An alias, `timm:NAME`, a folder in the hub's layout, or `random:` before an alias or
            `timm:NAME` for the same architecture with random weights.
        weights: File or folder that overrides where the weights come from.

    Raises:
        UsageError: When nothing has this name.
        InputError: When the weights are not there.
    """
    file = Path(weights).expanduser() if weights else None
    if name.startswith("random:"):
        if file:
            raise UsageError("--weights does not apply to a random: source, which has none")
        return RandomTimm(name, _architecture(name.removeprefix("random:")))
    if name in efficientnet_lite.ALIASES:
        return efficientnet_lite.EfficientNetLite(name, _existing(file))
    if name.startswith("timm:"):
        return TimmModel(name, name.removeprefix("timm:"), _existing(file))
    folder = Path(name).expanduser()
    if folder.is_dir():
        return TimmModel(folder.name, folder_architecture(folder), _existing(file) or folder, folder)
    if folder.is_file():
        raise UsageError(f"a weights file does not say its architecture; use --source timm:NAME --weights {name}")
    raise unknown_name("source", name, efficientnet_lite.ALIASES, "(or timm:NAME, random:NAME, or a folder)")


def _architecture(name: str) -> str:
    if name in efficientnet_lite.ALIASES:
        return f"tf_efficientnet_lite{efficientnet_lite.ALIASES[name]}"
    if name.startswith("timm:"):
        return name.removeprefix("timm:")
    raise unknown_name("source", name, efficientnet_lite.ALIASES, "(or timm:NAME)")


def _existing(path: Path | None) -> Path | None:
    if path and not path.exists():
        raise InputError(f"expected weights at {path}, found no file or folder")
    return path
