"""Pretrained source models, opened by name."""

from pathlib import Path

from modgap.errors import CONTROL_PREFIX, InputError, UsageError, count, unknown_name
from modgap.sources.aliases import ALIASES
from modgap.sources.hf.handle import HfModel
from modgap.sources.hf.spec import ModelFiles, configured_architecture, model_files, read_configuration
from modgap.sources.hub import AbsentFilesError, parse_repository, without_downloads
from modgap.sources.inputs import AudioInput, Batch, ImageInput, Input, TextInput, WaveformInput
from modgap.sources.source import (
    HeadlessError,
    Parts,
    Source,
    SourceHandle,
    SourceInfo,
    control_name,
    find_prefix,
    is_control,
    open_plugin,
    open_prefix,
    plugin_infos,
    plugin_names,
    prefix_plugins,
    pretrained_name,
)
from modgap.sources.timm.handle import TimmModel, named_by_timm
from modgap.storage.paths import expand_user
from modgap.zoo import zoo_hint

__all__ = [
    "CONTROL_PREFIX",
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
    "WaveformInput",
    "absolute_name",
    "control_name",
    "describe_source",
    "find_surrogate_name",
    "is_control",
    "open_control",
    "open_source",
    "prefix_plugins",
    "pretrained_name",
    "source_infos",
]

RESERVED = frozenset(ALIASES)


def open_control(name: str, seed: int = 0) -> SourceHandle:
    """Find the random-weights control of a source: the same architecture with random weights, without loading it.

    Args:
        name: Name of the source, as for `open_source`; with or without `random:` before it.
        seed: Seed of the random weights. The control `random:NAME` has seed 0.

    Raises:
        UsageError: When there is no source with this name, or it has no random form.
        InputError: When files are missing.
    """
    return _open(control_name(name), None, seed)


def source_infos() -> list[SourceInfo]:
    """Return the descriptions of all sources that have a short name; those of plug-ins come last."""
    return [alias.describe(name) for name, alias in ALIASES.items()] + plugin_infos(RESERVED)


def describe_source(name: str, *, weights: str | None = None) -> SourceInfo:
    """Return the description of any source, without downloading anything.

    A source without a short name is loaded for it, so that a broken file is noticed. If its weights are not on this
    machine, its architecture is built without them.

    Args:
        name: Name of the source, as for `open_source`.
        weights: File or folder of weights that replaces the source's default; None for the default.

    Raises:
        UsageError: When there is no source with this name.
        InputError: When its files are broken, or not even its architecture is on this machine.
    """
    infos = {info.name: info for info in source_infos()}
    if name in infos and not weights:
        return infos[name]
    with without_downloads():
        is_installed = True
        try:
            source = _load_with_head(open_source(name, weights=weights))
        except AbsentFilesError as error:
            is_installed = False
            try:
                source = _load_with_head(open_control(name))
            except AbsentFilesError:
                raise error from None
    base = pretrained_name(name)
    is_random = is_control(name)
    title = infos[base].title if base in infos else _title(base)
    return SourceInfo(
        name=name,
        title=f"{title}, with random weights" if is_random else title,
        n_classes=len(source.class_names) or None,
        parameters=sum(parameter.numel() for parameter in source.model.parameters()),
        input=_input_text(source.input),
        license="none, because the weights are random" if is_random else "not known to modgap",
        weights="random, seed 0" if is_random else weights or _weights_origin(base),
        is_installed=is_installed,
        surrogate=find_surrogate_name(base),
    )


def _title(base_name: str) -> str:
    """Return the description of a source without a short name."""
    if base_name.startswith("timm:"):
        return "Model of timm"
    if base_name.startswith("hf:"):
        return "Model in a repository of the hub"
    prefix = find_prefix(base_name)
    return prefix.title if prefix else "Model in a folder"


def _weights_origin(base_name: str) -> str:
    """Return the file or folder of the weights, or the command that downloads them."""
    if base_name.startswith("timm:"):
        return named_by_timm(base_name.removeprefix("timm:"))[0].download_command
    if base_name.startswith("hf:"):
        return parse_repository(base_name.removeprefix("hf:")).download_command
    return base_name.partition(":")[2] if find_prefix(base_name) else base_name


def _input_text(source_input: Input) -> str:
    """Return the kind and size of an input, such as `image, 224 px`."""
    if isinstance(source_input, ImageInput):
        height, width = source_input.size
        size = f"{height} px" if height == width else f"{height} x {width} px"
        n_channels = len(source_input.mean)
        return f"image, {size}" + ("" if n_channels == 3 else f", {count(n_channels, 'channel')}")
    if isinstance(source_input, TextInput):
        return f"text, {source_input.max_tokens} tokens"
    if isinstance(source_input, AudioInput | WaveformInput):
        window = getattr(source_input, "window", None)
        if source_input.rate is None:
            return f"series, {window:,} values"
        duration = "" if window is None else f", {window / source_input.rate:g} s"
        return f"sound, {source_input.rate / 1000:g} kHz{duration}"
    return source_input.kind


def _load_with_head(handle: SourceHandle) -> Source:
    """Load a source with its head if it has one."""
    try:
        return handle.load(None)
    except HeadlessError:
        return handle.load(None, head=False)


def absolute_name(name: str) -> str:
    """Return the name of a source with an absolute path in place of a relative one, for other working directories.

    Args:
        name: Name of the source, as for `open_source`, without the size of its input.
    """
    base = pretrained_name(name)
    start = name.removesuffix(base)
    if base in ALIASES or base.startswith(("timm:", "hf:")) or base in plugin_names(RESERVED):
        return name
    if prefix := find_prefix(base):
        beginning, _, argument = base.partition(":")
        return f"{start}{beginning}:{expand_user(argument).resolve()}" if prefix.suffixes else name
    folder = expand_user(base)
    return f"{start}{folder.resolve()}" if folder.is_dir() else name


def find_surrogate_name(name: str) -> tuple[str, str] | None:
    """Return the target and the split of the surrogate of a source; None if none is registered.

    Args:
        name: Short name of the source. Plug-ins are asked only for other names than those of modgap's own sources.
    """
    if name in ALIASES:
        return ALIASES[name].surrogate
    return {info.name: info.surrogate for info in plugin_infos(RESERVED)}.get(name)


def open_source(name: str, *, weights: str | None = None) -> SourceHandle:
    """Find a source model by its name, without loading it.

    Args:
        name: An alias, `timm:NAME`, `hf:NAME[@REVISION]`, a folder in transformers' or timm's layout, the name of a
            plug-in or `PREFIX:NAME` of one, or `random:` before any of them for the same architecture with random
            weights.
        weights: File or folder of weights that replaces the source's default; None for the default.

    Raises:
        UsageError: When there is no source with this name.
        InputError: When files are missing.
    """
    file = expand_user(weights) if weights else None
    if is_control(name) and file:
        raise UsageError("`weights` does not apply to a random: source, whose weights are random. Leave it out.")
    if file and not file.exists():
        raise InputError(f"There is no file or folder of weights at {file}. Pass an existing path to `weights`.")
    if file and find_prefix(name):
        raise UsageError(f"`weights` does not apply to {name}, whose name says where its weights are. Leave it out.")
    return _open(name, file, 0 if is_control(name) else None)


def _open(name: str, file: Path | None, seed: int | None) -> SourceHandle:
    """Return the handle of a source.

    Args:
        name: Name as for `open_source`.
        file: File or folder of weights that replaces the source's default; None for the default.
        seed: Seed of random weights, if the name is that of a control; else None.
    """
    base_name = pretrained_name(name)
    if base_name in ALIASES:
        return ALIASES[base_name].origin.open(name, file, seed)
    if base_name.startswith("timm:"):
        return TimmModel(name, base_name.removeprefix("timm:"), file, control_seed=seed)
    if base_name.startswith("hf:"):
        repository = parse_repository(base_name.removeprefix("hf:"))
        return _open_model_folder(model_files(name, file, repository=repository), seed)
    if handle := open_plugin(base_name, file, seed, RESERVED) or open_prefix(base_name, seed):
        return handle
    return _open_local(name, base_name, file, seed)


def _open_local(name: str, base_name: str, weights: Path | None, seed: int | None) -> SourceHandle:
    """Open a source in a local folder."""
    folder = expand_user(base_name)
    if folder.is_dir():
        display_name = control_name(folder.name) if is_control(name) else folder.name
        return _open_model_folder(model_files(display_name, weights, folder), seed)
    if folder.is_file():
        for prefix, plugin in prefix_plugins().items():
            if folder.suffix.lower() in plugin.suffixes:
                source = f"{name.removesuffix(base_name)}{prefix}:{base_name}"
                raise UsageError(f"{base_name} is opened by the prefix {prefix}:. Use `source={source!r}`.")
        raise UsageError(
            f"{base_name} is a file of weights, which does not contain the architecture. "
            f'Use `source="timm:NAME", weights={base_name!r}`.'
        )
    if hint := zoo_hint("source", base_name) or zoo_hint("prefix", base_name.partition(":")[0]):
        raise UsageError(f"Unknown source {name!r}. {hint}")
    # Importing timm takes seconds, which only an error may cost.
    import timm

    prefix = name.removesuffix(base_name)
    if timm.is_model(base_name):
        raise UsageError(f"Unknown source {name!r}. Did you mean {prefix}timm:{base_name}?")
    names = [*ALIASES, *plugin_names(RESERVED)]
    prefixes = "".join(f", {one}:NAME" for one in prefix_plugins())
    raise unknown_name(
        "source", base_name, names, f"(or timm:NAME, hf:NAME{prefixes}, a folder, or random: before one)"
    )


def _open_model_folder(files: ModelFiles, control_seed: int | None) -> SourceHandle:
    """Open a source by its config.json, which is in the format of timm or of transformers."""
    if files.folder and not (files.folder / "config.json").is_file():
        raise InputError(f"There is no config.json in {files.folder}. {_configuration_hint(files.folder)}")
    folder = files.configuration_folder()
    configuration = read_configuration(folder / "config.json")
    if isinstance(configuration.get("architecture"), str):
        weights = files.weights or (files.folder if files.repository is None else None)
        if control_seed is not None:
            weights = None
        return TimmModel(files.name, configuration["architecture"], weights, folder, files.repository, control_seed)
    if not configuration.get("architectures"):
        raise InputError(f"{folder / 'config.json'} names no architecture. {_configuration_hint(folder)}")
    configured_architecture(configuration, folder)
    return HfModel(files.name, files, control_seed=control_seed)


def _configuration_hint(folder: Path) -> str:
    return (
        'It has to name a timm "architecture" or transformers "architectures". '
        f'Otherwise, use `source="timm:NAME", weights={str(folder)!r}`.'
    )
