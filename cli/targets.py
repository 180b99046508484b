"""`modgap targets`."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from modgap.targets import Manifest

__all__ = ["targets"]

Rows = list[tuple[str, ...]]
CHECKSUM = 12
"""Characters of a checksum that are shown."""


@click.command()
@click.argument("name", required=False)
def targets(name: str | None) -> None:
    """Target data by manifest, or one shown whole. Besides these there is data of your own, as the list says."""
    from modgap.cli.output import print_sections, print_table, print_text
    from modgap.errors import CUSTOM_DATA_FORMATS
    from modgap.targets import load_manifest, manifest_names, named_manifest

    if name:
        from pathlib import Path

        manifest = load_manifest(Path(name)) if name.endswith(".toml") else named_manifest(name)
        print_sections(f"{manifest.name}: {manifest.title}", _sections(manifest))
        return
    manifests = [named_manifest(each) for each in manifest_names()]
    rows = [[m.name, _predicted(m), _to_fetch(m), "yes" if _here(m.name) else "no", m.title] for m in manifests]
    print_table(["target", "predicts", "to fetch", "here", "what"], rows)
    print_text("modgap targets NAME shows one whole, with its samples and the command that brings it")
    print_text(f"also {CUSTOM_DATA_FORMATS}")


def _here(name: str) -> bool:
    from modgap.errors import InputError
    from modgap.targets import open_target

    try:
        open_target(name)
    except InputError:
        return False
    return True


def _shape(shape: tuple[int, ...] | None) -> str:
    return " x ".join("any" if size < 0 else str(size) for size in shape or ())


def _predicted(manifest: "Manifest") -> str:
    """Return the number of classes, labels (multi-label) or clusters (regression) of a target, or its task."""
    if manifest.task == "regression":
        return f"{manifest.pseudo_classes} clusters" if manifest.pseudo_classes else "regression"
    size = manifest.n_classes or len(manifest.classes or ())
    what = "labels" if manifest.task == "multi-label" else "classes"
    return f"{size} {what}" if size else what


def _bytes(size: int) -> str:
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size >= unit:
            return f"{size / unit:.3g} {name}"
    return f"{size} B"


def _to_fetch(manifest: "Manifest") -> str:
    """All downloads together: `>` where some sizes are not known, `~` where some are rounded."""
    sizes = [download.size or download.approximate_size for download in manifest.downloads]
    if not any(sizes):
        return "unknown" if sizes else ""
    sign = "> " if None in sizes else "" if all(download.size for download in manifest.downloads) else "~ "
    return sign + _bytes(sum(size or 0 for size in sizes))


def _sections(manifest: "Manifest") -> Iterator[tuple[str, Rows]]:
    """Everything that a manifest says, by what one wants to know."""
    yield "what", _given(manifest, "modality", "task", "license", "citation", "notes")
    yield "input", [*_given(manifest.input, "kind"), *_more(manifest.input)]
    yield "output", _output(manifest)
    yield "benchmark", _benchmark(manifest)
    yield "files", _files(manifest)
    yield "fetched from", [row for download in manifest.downloads for row in _download(download)]
    yield "training", [] if manifest.training is None else _more(manifest.training)
    yield (
        f"published results ({manifest.metric.name if manifest.metric else 'the metric'}, lower is better)",
        [(p.method, f"{p.value:g}", p.model or "", p.source) for p in manifest.published],
    )
    yield "not known", list(manifest.unknown.items())


def _given(record, *names: str) -> Rows:
    return [(name.replace("_", " "), _text(value)) for name in names if (value := getattr(record, name)) is not None]


def _more(record) -> Rows:
    """All fields that the manifest gives, but the kind."""
    names = [name for name in type(record).model_fields if name in record.model_fields_set and name != "kind"]
    return _given(record, *names)


def _text(value) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple) and all(isinstance(part, int) for part in value):
        return _shape(value)
    if isinstance(value, tuple | list):
        return ", ".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{key} = {_text(item)}" for key, item in value.items())
    if hasattr(value, "model_fields_set"):
        return ", ".join(f"{name.replace('_', ' ')} {text}" for name, text in _more(value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _output(manifest: "Manifest") -> Rows:
    rows: Rows = [] if manifest.output is None else _more(manifest.output)
    if manifest.classes:
        rows += [("classes", f"{len(manifest.classes)}: {', '.join(manifest.classes)}")]
    rows += [("classes", f"{manifest.n_classes}, not named here")] if manifest.n_classes else []
    if manifest.pseudo_classes:
        rows += [("classes", f"{manifest.pseudo_classes} clusters of the values, as ORCA takes")]
    group = manifest.group or "none"
    return [*rows, ("group", f"{group}. {manifest.group_note}" if manifest.group_note else group)]


def _benchmark(manifest: "Manifest") -> Rows:
    rows = _given(manifest, "preprocessing")
    rows += [(what, _named(one)) for what in ("loss", "metric") if (one := getattr(manifest, what))]
    return rows + _split_sizes(manifest)


def _named(record) -> str:
    """A name and the options that it is given."""
    return f"{record.name} ({_text(record.options)})" if record.options else record.name


def _split_sizes(manifest: "Manifest") -> Rows:
    sizes = manifest.split_sizes
    if sizes is None:
        return []
    parts = [
        f"{value:,} {name}"
        for name, value in (("train", sizes.train), ("val", sizes.val), ("test", sizes.test))
        if value
    ]
    return [("samples", ", ".join(parts))]


def _files(manifest: "Manifest") -> Rows:
    rows: Rows = [("reader", _named(manifest.reader)), *(("step", _named(step)) for step in manifest.steps)]
    for file in manifest.files:
        place = f"package {file.package}" if file.package else file.folder or ""
        rows.append((file.role, file.path, place, _bytes(file.size) if file.size else ""))
    return rows + _given(manifest, "install")


def _download(download) -> Rows:
    """One row for each place, the first with what is known of the file."""
    kind, value = ("sha256", download.sha256) if download.sha256 else ("md5", download.md5)
    checksum = f"{kind} {value[:CHECKSUM]}..." if value else "no checksum"
    size = download.size or download.approximate_size
    known = f"{'' if download.size else '~ '}{_bytes(size)}" if size else "size unknown"
    rows: Rows = [(download.path, known, checksum, url) for url in download.urls or ("by hand",)]
    return [rows[0], *(("", "", "", row[-1]) for row in rows[1:])]
