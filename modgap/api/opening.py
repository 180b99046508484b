"""Sources and targets by name, before anything is loaded: the lists of them, `open_source` and `open_target`."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from modgap.api.arguments import public_function
from modgap.sources import SourceHandle, SourceInfo, source_infos
from modgap.sources import open_source as open_source_handle
from modgap.targets import CustomData, Target, TargetRequest
from modgap.targets.catalog import TargetInfo, select, target_infos
from modgap.targets.stored_arrays import store_arrays
from modgap.targets.table_needs import has_named_features


@public_function
def list_sources(*, kind: str | None = None, license: str | None = None, diverse: bool = False) -> list[SourceInfo]:
    """List the sources that have a short name, as `modgap sources` does.

    Args:
        kind: Kind of the input, such as `image` or `sound`, or words of its description; None for any.
        license: `open` for licenses that let anyone use, change and share the weights, or words of a license such as
            `mit`, `gpl` or `not stated`; None for any.
        diverse: True for the pool `@diverse`: sources on this machine that have an open license and are not near copies
            of others in the pool.

    Raises:
        UsageError: If there is no such source.

    Example:
        >>> [source.name for source in list_sources(kind="sound", license="isc")]
        ['musicnn', 'musicnn-msd']
    """
    return select(source_infos(), "source", kind=kind, license=license, diverse=diverse)


@public_function
def list_targets(*, kind: str | None = None, license: str | None = None, diverse: bool = False) -> list[TargetInfo]:
    """List the targets that have a name, as `modgap targets` does.

    Args:
        kind: Kind of the samples (`image`, `series`, `sound`, `video`, `text` or `table`), or words of their modality
            such as `molecules`; None for any.
        license: `open` for licenses that let anyone use, change and share the data, or words of a license such as
            `mit`, `gpl` or `not stated`; None for any.
        diverse: True for the pool `@diverse`: targets on this machine that have an open license and are not near copies
            of others in the pool.

    Raises:
        UsageError: If there is no such target.

    Example:
        >>> [target.name for target in list_targets(kind="image", license="mit")]
        ['darcy-flow', 'fashion-mnist']
    """
    return select(target_infos(), "target", kind=kind, license=license, diverse=diverse)


@public_function
def open_source(name: str, *, weights: str | Path | None = None) -> SourceHandle:
    """Open a source model by its name, without loading it.

    Args:
        name: An alias, `timm:NAME`, `hf:NAME[@REVISION]`, a folder in transformers' or timm's layout, the name of a
            plug-in or `PREFIX:NAME` of one, or `random:` before any of them for the same architecture with random
            weights.
        weights: File or folder of weights that replaces the source's default; None for the default.

    Returns:
        The source's handle, whose `.load(None)` returns the model, its classes and its input.

    Raises:
        UsageError: If there is no source with this name.
        InputError: If files are missing.

    Example:
        >>> source = open_source("vit-fashion").load(None)
        >>> len(source.class_names), tuple(source.class_names[:3])
        (10, ('T-shirt/top', 'Trouser', 'Pullover'))
    """
    return open_source_handle(name, weights=None if weights is None else str(weights))


@public_function
def open_target(
    name: str | Path | tuple[Any, Any],
    *,
    custom_data: CustomData | Mapping[str, str] | None = None,
    data_dir: str | Path | None = None,
    pseudo_classes: int | None = None,
) -> Target:
    """Open a target whose files are on this machine, without reading its samples.

    Args:
        name: Name of a manifest, path of a `.toml` manifest, or path of custom data: a folder of class sub-folders of
            images or sounds, an array file with x and y, or a CSV or Parquet file with a label column. Or a pair (x, y)
            of arrays, as an array file has them: samples (N, ...), and classes (N,), 0/1 labels (N, K) or real values.
            They are written to a file of the cache, whose path is the target's name. For groups, save an array file.
        custom_data: Description of custom data, or its fields as a mapping such as `{"label_column": "rhythm"}` or
            `{"task": "regression", "split_from": "splits.csv"}`.
        data_dir: Data directory that holds the files of the target's manifest; None for the default one.
        pseudo_classes: Number of clusters that serve as the classes of a regression target.

    Returns:
        The target, whose `.read()` returns samples, labels, class names, splits and groups.

    Raises:
        UsageError: If there is no such target, or an argument is missing or does not apply.
        InputError: If a file is missing. The message has the command that fetches it.

    Example:
        >>> table = open_target("digits").read()
        >>> len(table), table.samples[0].shape, list(table.classes)[:3]
        (1797, (1, 8, 8), ['0', '1', '2'])
    """
    return target_request(name, custom_data, data_dir, pseudo_classes).open()


def target_request(
    target: str | Path | tuple[object, object],
    custom_data: CustomData | Mapping[str, str] | None,
    data_dir: str | Path | None,
    pseudo_classes: int | None,
) -> TargetRequest:
    """Return the request for a target, from the arguments of `open_target`; a pair of arrays is stored in a file first.

    A data frame whose columns have names of their own, not numbered ones, is a table.

    Raises:
        InputError: If the arrays cannot be a target.
    """
    described = CustomData.of(custom_data)
    if isinstance(target, tuple):
        x = target[0]
        if hasattr(x, "columns") and (described is None or described.kind is None) and has_named_features({}, x):
            described = replace(described or CustomData(), kind="table")
        target = store_arrays(*target)
    return TargetRequest(str(target), described, None if data_dir is None else Path(data_dir), pseudo_classes)
