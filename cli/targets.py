"""The command `modgap targets`."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cloup

from modgap.cli.completion import complete_targets
from modgap.cli.groups import example
from modgap.cli.options import list_options, refuse_filters
from modgap.cli.output import print_list, print_sections, print_text, titled
from modgap.errors import CUSTOM_DATA_FORMATS

if TYPE_CHECKING:
    from pydantic import BaseModel

    from modgap.targets import Manifest
    from modgap.targets.catalog import TargetInfo
    from modgap.targets.manifest import Download, Loss, Metric, Reader, Step

Rows = list[tuple[str, ...]]
CHECKSUM_LENGTH = 12
"""Characters of a checksum that are shown."""


@cloup.command(epilog=example("modgap targets", "modgap targets --kind text --license open", "modgap targets ninapro"))
@cloup.argument(
    "name",
    required=False,
    shell_complete=complete_targets,
    help="Name of the target to show, or a .toml manifest. Without it, the targets are listed.",
)
@list_options("targets", "image, series, sound, video, text or table, or words of the modality such as molecules")
def targets(name: str | None, kind: str | None, license: str | None, diverse: bool) -> None:
    """List the targets, or show one.

    A target is shown with its source URLs, checksums, license and published results. Commands also take your own data
    as a target. The end of the list explains how.
    """
    from modgap.process.installed_packages import BUILT_IN
    from modgap.targets import load_manifest, manifest_origin, named_manifest
    from modgap.targets.catalog import select, target_infos

    if not name:
        infos = select(target_infos(), "target", kind=kind, license=license, diverse=diverse)
        columns = ["target", "kind", "predicts", "size", "license", "here", "title"]
        print_list(columns, [_list_row(info) for info in infos], infos)
        print_text("Show a target in full, with its samples and the command that installs it: modgap targets NAME")
        print_text(f"A target can also be {CUSTOM_DATA_FORMATS}.")
        return
    refuse_filters(name, kind, license, diverse)
    is_file = name.endswith(".toml")
    manifest = load_manifest(Path(name)) if is_file else named_manifest(name)
    print_sections(f"{manifest.name}: {manifest.title}", _sections(manifest))
    if not is_file and manifest_origin(name) != BUILT_IN:
        print_text(f"The manifest comes from {manifest_origin(name)}.")


def _list_row(info: "TargetInfo") -> list[str]:
    here = "yes" if info.is_installed else "no"
    return [info.name, info.kind, info.predicts, _size(info), info.license, here, titled(info.title, info.origin)]


def _size(info: "TargetInfo") -> str:
    """Return the size of downloads or files: `>` if some sizes are unknown, `~` if some are rounded."""
    if info.size is None:
        return "unknown"
    return {"exact": "", "rounded": "~ ", "at least": "> "}[info.size_is] + _bytes(info.size)


def _shape(shape: tuple[int, ...] | None) -> str:
    return " x ".join("any" if size < 0 else str(size) for size in shape or ())


def _bytes(size: int) -> str:
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size >= unit:
            return f"{size / unit:.3g} {name}"
    return f"{size} B"


def _sections(manifest: "Manifest") -> Iterator[tuple[str, Rows]]:
    """Yield title and rows of each section of a manifest."""
    yield "description", _present_fields(manifest, "modality", "task", "license", "citation", "notes", "near_copies")
    yield "input", [*_present_fields(manifest.input, "kind"), *_other_fields(manifest.input)]
    yield "output", _output(manifest)
    yield "benchmark", _benchmark(manifest)
    yield "files", _files(manifest)
    yield "downloads", [row for download in manifest.downloads for row in _download_rows(download)]
    yield "training", [] if manifest.training is None else _other_fields(manifest.training)
    yield (
        f"published results ({manifest.metric.name if manifest.metric else 'the metric'}, lower is better)",
        [(p.method, f"{p.value:g}", p.model or "", p.source) for p in manifest.published],
    )
    yield "unknown", list(manifest.unknown.items())


def _present_fields(record: "BaseModel", *names: str) -> Rows:
    """Return name and text of each of these fields that is not None."""
    return [
        (name.replace("_", " "), _text(value)) for name in names if (value := getattr(record, name)) not in (None, ())
    ]


def _other_fields(record: "BaseModel") -> Rows:
    """Return name and text of all fields that the manifest sets, except the kind."""
    names = [name for name in type(record).model_fields if name in record.model_fields_set and name != "kind"]
    return _present_fields(record, *names)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple) and all(isinstance(part, int) for part in value):
        return _shape(value)
    if isinstance(value, tuple | list):
        return ", ".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{key} = {_text(item)}" for key, item in value.items())
    if hasattr(value, "model_fields_set"):
        return ", ".join(f"{name.replace('_', ' ')} {text}" for name, text in _other_fields(value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _output(manifest: "Manifest") -> Rows:
    rows: Rows = [] if manifest.output is None else _other_fields(manifest.output)
    if manifest.classes:
        rows.append(("classes", f"{len(manifest.classes)}: {', '.join(manifest.classes)}"))
    if manifest.n_classes:
        rows.append(("classes", f"{manifest.n_classes}, without names in the manifest"))
    if manifest.pseudo_classes:
        rows.append(("classes", f"{manifest.pseudo_classes} clusters of the values, as in ORCA"))
    group = manifest.group or "none"
    return [*rows, ("group", f"{group}. {manifest.group_note}" if manifest.group_note else group)]


def _benchmark(manifest: "Manifest") -> Rows:
    rows = _present_fields(manifest, "preprocessing")
    if manifest.loss:
        rows.append(("loss", _name_and_options(manifest.loss)))
    if manifest.metric:
        rows.append(("metric", _name_and_options(manifest.metric)))
    if manifest.split_sizes is not None:
        sizes = manifest.split_sizes.model_dump()
        rows.append(("samples", ", ".join(f"{size:,} {split}" for split, size in sizes.items() if size)))
    return rows


def _name_and_options(record: "Loss | Metric | Reader | Step") -> str:
    return f"{record.name} ({_text(record.options)})" if record.options else record.name


def _files(manifest: "Manifest") -> Rows:
    from modgap.targets.download.clients import packaged_file

    rows: Rows = [("reader", _name_and_options(manifest.reader))]
    if manifest.selection:
        rows.append(("selection", _text(manifest.selection)))
    rows += [("step", _name_and_options(step)) for step in manifest.steps]
    for file in manifest.files:
        location = f"package {file.package}" if file.package else file.folder or ""
        rows.append((file.role, file.path, location, _bytes(file.size) if file.size else ""))
    if packaged := packaged_file(manifest):
        rows.append((packaged.client, packaged.file, packaged.package, _bytes(packaged.size)))
        rows.append(("fetch", f"modgap data fetch {manifest.name}"))
    return rows + _present_fields(manifest, "install")


def _download_rows(download: "Download") -> Rows:
    """Return one row for each source URL; the first row has path, size and checksum."""
    algorithm = "sha256" if download.sha256 else "md5"
    digest = download.sha256 or download.md5
    checksum = f"{algorithm} {digest[:CHECKSUM_LENGTH]}..." if digest else "no checksum"
    size = "size unknown"
    if download.size:
        size = _bytes(download.size)
    elif download.approximate_size:
        size = f"~ {_bytes(download.approximate_size)}"
    first_url, *other_urls = download.urls or ("by hand",)
    return [(download.path, size, checksum, first_url), *(("", "", "", url) for url in other_urls)]
