"""`modgap data`."""

import sys
from pathlib import Path

import click

from modgap.errors import InputError, UsageError

__all__ = ["data"]

ASKED_BEFORE = 10**9
"""More bytes than these are fetched on a terminal only after a yes."""

target_argument = click.argument("name", metavar="TARGET")
quiet_option = click.option("--quiet", is_flag=True, help="No progress and no messages but warnings.")


def place_option(help_text: str):
    """`--data-dir`, with what it does in this command."""
    return click.option("--data-dir", type=click.Path(path_type=Path), metavar="DIR", help=help_text)


@click.group()
def data() -> None:
    """A target's data: fetch it, verify it, convert it for fast reading, tell where it lies."""


@data.command()
@target_argument
@place_option("Bring it into this folder, and remember it.")
@click.option("--dry-run", is_flag=True, help="Only tell what would be fetched, from where, and how much it is.")
@click.option("--yes", is_flag=True, help="Do not ask before more than 1 GB, or who knows how much, is fetched.")
@click.option("--timeout", type=float, default=60.0, show_default=True, help="Seconds without a byte; then the next.")
@click.option("--discard-archives", is_flag=True, help="Delete each archive once it is unpacked.")
@quiet_option
def fetch(
    name: str, data_dir: Path | None, dry_run: bool, yes: bool, timeout: float, discard_archives: bool, quiet: bool
) -> None:
    """Bring a target's files, check and unpack them; what is there already stays.

    TARGET is a manifest's name or a .toml manifest. Stopped at any point, run it again and it goes on.

    Example: modgap data fetch ninapro --dry-run
    """
    from modgap.cli.output import log_to_stderr, progress_bars
    from modgap.targets.download.fetch import fetch, plan
    from modgap.targets.download.locations import data_dir_of, remember

    if not timeout > 0:
        raise UsageError(f"expected --timeout above 0, got {timeout}")
    log_to_stderr(quiet)
    manifest, beside = _manifest(name)
    folder = data_dir_of(manifest, data_dir and data_dir.expanduser(), beside)
    todo = plan(manifest, folder)
    if dry_run:
        _print_plan(manifest, todo)
        return
    if _large(todo) and not yes and sys.stdin.isatty() and sys.stderr.isatty():
        _print_plan(manifest, todo)
        click.confirm("fetch it?", abort=True, err=True)
    if data_dir is not None:
        # At once, so that a fetch that is stopped goes on in the same folder.
        folder.mkdir(parents=True, exist_ok=True)
        remember(manifest.name, folder)
    with progress_bars(quiet) as progress:
        fetch(manifest, folder, timeout=timeout, keep_archives=not discard_archives, progress=progress)
    click.echo(f"{manifest.name}: {_amount(manifest, folder)}")


def _manifest(name: str):
    """The manifest of this name or file, and the folder of a file, beside which its data may lie."""
    from modgap.targets import load_manifest, named_manifest

    path = Path(name).expanduser()
    if path.suffix == ".toml":
        return load_manifest(path), path.parent
    if path.suffix or "/" in name:
        raise UsageError(f"expected a manifest's name or a .toml manifest, got {name}, whose data lies where it is")
    return named_manifest(name), None


def _large(todo) -> bool:
    """Whether more is to be fetched than should be unasked, as far as one can tell."""
    unknown = any(item.needed and item.hosts and item.size is None for item in todo.items)
    return unknown or todo.to_fetch + todo.about > ASKED_BEFORE


def _amount(manifest, folder: Path) -> str:
    if not manifest.downloads:
        return "all its files are there"
    return f"{_counted(len(manifest.downloads), 'download')} complete in {folder}"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _print_plan(manifest, todo) -> None:
    from modgap.cli.output import print_table
    from modgap.formatting import format_bytes
    from modgap.targets.download.locations import located

    if not todo.items:
        try:
            located(manifest)
        except InputError as error:
            click.echo(str(error))
        else:
            click.echo(f"{manifest.name}: all its files are there, nothing to fetch")
        return
    rows = []
    for item in todo.items:
        state = f"{item.state}, {format_bytes(item.came)} came before" if item.came and item.needed else item.state
        rows.append([item.name, _size(item), state, ", ".join(item.hosts) or "by hand"])
    print_table(["file", "size", "here", "from"], rows, f"{manifest.name} in {todo.data_dir}")
    click.echo(f"to fetch {_to_fetch(manifest, todo)}{_to_unpack(todo)}, free {format_bytes(todo.free)}")


def _to_unpack(todo) -> str:
    """Known archives unpack to this much or more; of others nothing can be said."""
    from modgap.formatting import format_bytes

    return f", to unpack at least {format_bytes(todo.to_unpack)}" if todo.to_unpack else ""


def _size(item) -> str:
    from modgap.formatting import format_bytes

    if item.size is None:
        return "unknown"
    return format_bytes(item.size) if item.size == item.pin.size else f"~ {format_bytes(item.size)}"


def _to_fetch(manifest, todo) -> str:
    """All together, with what the manifest says of sizes that are not known."""
    from modgap.formatting import format_bytes

    known = f"{'~ ' if todo.about else ''}{format_bytes(todo.to_fetch + todo.about)}"
    if not todo.unknown:
        return known
    note = manifest.unknown.get("downloads.size", "").rstrip(".")
    unknown = f"{_counted(todo.unknown, 'file')} of unknown size" + (f" ({note})" if note else "")
    return f"{known} and {unknown}" if todo.to_fetch + todo.about else unknown


@data.command()
@target_argument
@place_option("Where its files lie, this time.")
@quiet_option
@click.pass_context
def verify(ctx: click.Context, name: str, data_dir: Path | None, quiet: bool) -> None:
    """Read every file of a target anew and compare checksums; exits with 1 when one is missing or wrong.

    They are compared with the manifest, with what was recorded when they were first fetched, and with what came out
    of the archives. A converted copy is checked too.
    """
    from modgap.cli.output import log_to_stderr, progress_bars
    from modgap.formatting import format_bytes
    from modgap.targets.download.locations import data_dir_of
    from modgap.targets.download.verification import verify

    log_to_stderr(quiet)
    manifest, beside = _manifest(name)
    folder = data_dir_of(manifest, data_dir and data_dir.expanduser(), beside)
    with progress_bars(quiet) as progress:
        found = verify(manifest, folder, progress)
    for line in found.faults:
        click.echo(line)
    fetched = {str(folder / download.path) for download in manifest.downloads}
    for path in found.unknown:
        way_out = f"modgap data fetch {name} records it" if path in fetched else "the manifest's [[files]] can give it"
        click.echo(f"no checksum is known of {path}; {way_out}")
    read = f"{_counted(found.checked, 'file')}, {format_bytes(found.bytes)} read and compared"
    click.echo(f"{_counted(len(found.faults), 'fault')}; {read}")
    ctx.exit(1 if found.faults else 0)


@data.command()
@target_argument
@place_option("Where its files lie, this time.")
@click.option("--kind", type=click.Choice(["image", "series", "table", "text"]), help="What own data holds.")
@click.option("--label", metavar="COLUMN", help="CSV: the label.")
@click.option("--series", metavar="COLUMN", help="CSV in long format: which series a row belongs to.")
@click.option("--time", metavar="COLUMN", help="CSV in long format: what orders a series' rows.")
@click.option("--group", metavar="NAME", help="CSV column, or array, that says which samples belong together.")
@click.option("--x", metavar="KEY", help="Array file: name of the samples.")
@click.option("--y", metavar="KEY", help="Array file: name of the labels.")
@click.option("--again", is_flag=True, help="Even where there is a copy that fits.")
@quiet_option
def convert(name: str, data_dir: Path | None, again: bool, quiet: bool, **own: str | None) -> None:
    """Write a target's samples and labels as arrays that later runs map instead of reading the originals.

    TARGET is whatever --target takes, with the same options for data of your own. The copy lies in the data folder
    and is used as long as it fits the originals.
    """
    from modgap.cli.output import log_to_stderr, progress_bars
    from modgap.formatting import format_bytes
    from modgap.targets import CustomData, open_target
    from modgap.targets.download.conversion import convert
    from modgap.targets.download.converted_copy import copy_path, fits

    log_to_stderr(quiet)
    target = open_target(name, custom_data=CustomData.from_options(own), data_dir=data_dir and data_dir.expanduser())
    path = copy_path(target.manifest, target.files)
    if not again and fits(path, target.fingerprint):
        click.echo(f"{target.name}: its converted copy {path} fits; --again makes it anew")
        return
    with progress_bars(quiet) as progress:
        written = convert(target, progress)
    size = format_bytes(sum(each.stat().st_size for each in written))
    where = written[0] if len(written) == 1 else f"{len(written)} files beside the originals"
    click.echo(f"{target.name}: converted to {where}, {size}")


@data.command()
@target_argument
@place_option("Take its files from this folder from now on.")
@click.option("--forget", is_flag=True, help="Take them from the data folder again.")
def path(name: str, data_dir: Path | None, forget: bool) -> None:
    """Print the folder that a target's files lie in, or are to be brought into."""
    from modgap.targets.download.locations import data_dir_of, file_path, remember

    if data_dir and forget:
        raise UsageError("expected --data-dir or --forget, got both")
    manifest, beside = _manifest(name)
    if forget:
        remember(manifest.name, None)
    elif data_dir:
        remember(manifest.name, data_dir_of(manifest, data_dir.expanduser()))
    folder = data_dir_of(manifest, beside=beside)
    own = {file_path(file, manifest, folder) for file in manifest.files}
    inside = [each for each in own if each.is_relative_to(folder)]
    for each in [folder] if inside or not own else sorted({each.parent for each in own}):
        click.echo(each.absolute())
