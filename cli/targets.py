"""`modgap targets`."""

import click

__all__ = ["targets"]


@click.command()
@click.argument("name", required=False)
def targets(name: str | None) -> None:
    """Target data by manifest, or one shown whole. Besides these: a folder, .npz, .safetensors, .toml."""
    from modgap.cli.output import print_table
    from modgap.targets import load_manifest, manifest_names, named_manifest

    if name:
        from pathlib import Path

        manifest = load_manifest(Path(name)) if name.endswith(".toml") else named_manifest(name)
        print_table(["field", "value"], _fields(manifest.model_dump(by_alias=True)))
        return
    manifests = [named_manifest(each) for each in manifest_names()]
    rows = [
        [m.name, m.modality, str(len(m.classes or ())), " x ".join(map(str, m.input.shape or ())),
         "yes" if _here(m.name) else "no", m.install or "", m.title]
        for m in manifests
    ]  # fmt: skip
    print_table(["target", "modality", "classes", "sample", "here", "brought by", "what"], rows)
    click.echo("also a folder of class sub-folders of images, .npz or .safetensors with x and y, a .toml manifest")


def _here(name: str) -> bool:
    from modgap.errors import InputError
    from modgap.targets import open_target

    try:
        open_target(name)
    except InputError:
        return False
    return True


def _fields(record: dict, prefix: str = "") -> list[tuple[str, str]]:
    rows = []
    for key, value in record.items():
        if isinstance(value, dict):
            rows += _fields(value, f"{prefix}{key}.")
        elif isinstance(value, tuple | list) and value and isinstance(value[0], dict):
            for number, item in enumerate(value):
                rows += _fields(item, f"{prefix}{key}[{number}].")
        elif value not in (None, (), []):
            rows.append(
                (f"{prefix}{key}", ", ".join(map(str, value)) if isinstance(value, tuple | list) else str(value))
            )
    return rows
