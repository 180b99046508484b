"""Pretrained source models by name."""

from pathlib import Path

from modgap.errors import InputError, UsageError, unknown_name
from modgap.sources.aliases import ALIASES
from modgap.sources.hf.files import ModelFiles, read_configuration
from modgap.sources.hf.handle import HfModel
from modgap.sources.hf.spec import configured_architecture
from modgap.sources.hub import parse_repository
from modgap.sources.inputs import AudioInput, Batch, ImageInput, Input, TextInput
from modgap.sources.plugins import plugin, plugin_infos, plugin_names
from modgap.sources.source import HeadlessError, Parts, Source, SourceHandle, SourceInfo
from modgap.sources.timm.handle import RandomTimm, TimmModel

__all__ = [
    "AudioInput",
    "Batch",
    "HeadlessError",
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

RESERVED = frozenset(ALIASES)


def source_infos() -> list[SourceInfo]:
    """All sources that have a short name, those of plug-ins after modgap's own."""
    return [alias.describe(name) for name, alias in ALIASES.items()] + plugin_infos(RESERVED)


def open_source(name: str, *, weights: str | None = None) -> SourceHandle:
    """Find a source model; loads nothing.

    Args:
        name: An alias, `timm:NAME`, `hf:NAME[@REVISION]`, a folder in transformers' or timm's layout, or
            `random:` before any of them for the same architecture with random weights.
        weights: File or folder that overrides where the weights come from.

    Raises:
        UsageError: When nothing has this name.
        InputError: When files are not there.
    """
    file = Path(weights).expanduser() if weights else None
    plain = name.removeprefix("random:")
    control = plain != name
    if control and file:
        raise UsageError("--weights does not apply to a random: source, which has none")
    if file and not file.exists():
        raise InputError(f"expected weights at {file}, found no file or folder")
    if plain in ALIASES:
        return ALIASES[plain].control(name) if control else ALIASES[plain].open(plain, file)
    if plain.startswith("timm:"):
        architecture = plain.removeprefix("timm:")
        return RandomTimm(name, architecture) if control else TimmModel(name, architecture, file)
    if plain.startswith("hf:"):
        repository = parse_repository(plain.removeprefix("hf:"))
        if file and file.is_dir():
            return _open_model_folder(ModelFiles(name, file), control)
        return _open_model_folder(ModelFiles(name, None, repository, file), control)
    return _plugin(name, plain, file) or _local(name, plain, file)


def _plugin(name: str, plain: str, weights: Path | None) -> SourceHandle | None:
    if name == plain:
        return plugin(plain, weights, RESERVED)
    if plain in plugin_names(RESERVED):
        raise UsageError(f"source plug-in {plain} has no random: form; give its architecture as random:timm:NAME")
    return None


def _local(name: str, plain: str, weights: Path | None) -> SourceHandle:
    """A source in a folder of the user's."""
    folder = Path(plain).expanduser()
    if folder.is_dir():
        control = name != plain
        shown = f"random:{folder.name}" if control else folder.name
        if weights and weights.is_dir():
            return _open_model_folder(ModelFiles(shown, weights), control)
        return _open_model_folder(ModelFiles(shown, folder, None, weights), control)
    if folder.is_file():
        raise UsageError(f"a weights file does not say its architecture; use --source timm:NAME --weights {plain}")
    known = [*ALIASES, *plugin_names(RESERVED)]
    raise unknown_name("source", plain, known, "(or timm:NAME, hf:NAME, a folder, or random: before one)")


def _open_model_folder(files: ModelFiles, control: bool) -> SourceHandle:
    """A source by its config.json, which is timm's or transformers'."""
    unnamed = "to name a timm `architecture` or transformers `architectures`; or give --source timm:NAME --weights"
    if files.folder and not (files.folder / "config.json").is_file():
        raise InputError(f"expected {files.folder / 'config.json'} {unnamed} {files.folder}")
    folder = files.configuration_folder()
    configuration = read_configuration(folder / "config.json")
    if isinstance(configuration.get("architecture"), str):
        architecture = configuration["architecture"]
        if control:
            return RandomTimm(files.name, architecture, folder)
        weights = files.weights or (files.folder if files.repository is None else None)
        return TimmModel(files.name, architecture, weights, folder, files.repository)
    if not configuration.get("architectures"):
        raise InputError(f"expected {folder / 'config.json'} {unnamed} {folder}")
    configured_architecture(configuration, folder)
    return HfModel(files.name, files, control=control)
