"""The command `modgap data`."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import cloup

from modgap.cli.completion import complete_targets
from modgap.cli.groups import HelpGroup, example
from modgap.cli.options import (
    custom_data_from_options,
    custom_data_options,
    data_dir_option,
    option,
    option_group,
    quiet_option,
)
from modgap.cli.output import log_to_stderr, print_line, print_table, print_text, progress_bars
from modgap.errors import InputError, UsageError, count, format_bytes
from modgap.storage.paths import expand_user

if TYPE_CHECKING:
    from modgap.targets.download.fetch import FetchPlan
    from modgap.targets.manifest import Manifest

MAX_BYTES_WITHOUT_QUESTION = 10**9
"""On a terminal, larger downloads are confirmed first."""

target_argument = cloup.argument(
    "name",
    metavar="TARGET",
    shell_complete=complete_targets,
    help="Name of a target (modgap targets lists them), or a .toml manifest.",
)


@cloup.group(cls=HelpGroup, epilog=example("modgap data fetch ninapro --dry-run"))
def data() -> None:
    """Fetch, verify, convert or locate the data of a target."""


@data.command(epilog=example("modgap data fetch ninapro --dry-run"))
@target_argument
@option_group(
    "Files",
    data_dir_option("Data directory to fetch into. Later commands use it too."),
    option("--discard-archives", is_flag=True, help="Delete each archive after it is unpacked."),
)
@option_group(
    "Download",
    option("--dry-run", is_flag=True, help="Only show the files to fetch, their sizes and their hosts."),
    option("--yes", is_flag=True, help="Do not ask before a download of more than 1 GB or of unknown size."),
    option("--timeout", default=60.0, help="Seconds without data after which a request has failed."),
)
@option_group("Output", quiet_option)
def fetch(
    name: str, data_dir: str | None, dry_run: bool, yes: bool, timeout: float, discard_archives: bool, quiet: bool
) -> None:
    """Fetch the files of a target, verify them, and unpack the archives.

    Files that exist are verified, not fetched again. If the command is interrupted, the partial download is kept. Run
    the same command to resume it. A client of a plug-in downloads the file of a package, without installing it.
    """
    from modgap.targets import manifest_origin
    from modgap.targets.download.clients import client_origin
    from modgap.targets.download.data_directory import find_data_dir, save_data_dir
    from modgap.targets.download.fetch import fetch, plan_fetch

    if not timeout > 0:
        raise UsageError(f"--timeout must be above 0, got {timeout}")
    log_to_stderr(quiet)
    manifest, manifest_folder = _load_manifest(name)
    folder = find_data_dir(manifest, expand_user(data_dir) if data_dir else None, manifest_folder)
    plan = plan_fetch(manifest, folder)
    if dry_run:
        _print_plan(manifest, plan)
        return
    is_unknown = any(item.needed and item.hosts and item.size is None for item in plan.items)
    is_large = is_unknown or plan.bytes_to_fetch + plan.approximate_bytes_to_fetch > MAX_BYTES_WITHOUT_QUESTION
    if is_large and not yes and sys.stdin.isatty() and sys.stderr.isatty():
        _print_plan(manifest, plan)
        click.confirm("Fetch these files?", abort=True, err=True)
    if data_dir is not None:
        # Saved before the fetch, so that an interrupted fetch resumes in the same folder.
        folder.mkdir(parents=True, exist_ok=True)
        save_data_dir(manifest.name, folder)
    # A manifest can name any package of a registry, so a client runs for those of its own distribution alone.
    client = str(manifest.artifact["client"]) if manifest.artifact else ""
    run_clients = manifest_folder is None and manifest_origin(name) == client_origin(client)
    with progress_bars(quiet) as progress:
        fetch(
            manifest,
            folder,
            timeout=timeout,
            keep_archives=not discard_archives,
            run_clients=run_clients,
            progress=progress,
        )
    print_line(f"{manifest.name}: {_summary(manifest, folder)}")


def _load_manifest(name: str) -> tuple["Manifest", Path | None]:
    """Return the manifest with this name or in this file, and the folder of the file, which may contain the data."""
    from modgap.targets import load_manifest, named_manifest

    path = expand_user(name)
    if path.suffix == ".toml":
        return load_manifest(path), path.parent
    if path.suffix or "/" in name:
        raise UsageError(
            f"{name} is custom data, which has no files to fetch. Expected the name of a manifest or a .toml manifest."
        )
    return named_manifest(name), None


def _summary(manifest: "Manifest", folder: Path) -> str:

    if manifest.artifact:
        from modgap.targets.download.data_directory import locate_file

        folders = [locate_file(file, manifest, folder).parent for file in manifest.files]
        return f"{count(len(folders), 'file')} complete in {os.path.commonpath(folders)}"
    if not manifest.downloads:
        return "all files are present"
    return f"{count(len(manifest.downloads), 'download')} complete in {folder}"


def _print_plan(manifest: "Manifest", plan: "FetchPlan") -> None:
    from modgap.targets.download.fetch import find_present_files

    if not plan.items:
        try:
            find_present_files(manifest, plan.data_dir)
        except InputError as error:
            print_text(str(error))
        else:
            print_line(f"{manifest.name}: all files are present, nothing to fetch")
        return
    rows = []
    for item in plan.items:
        size = "unknown"
        if item.size is not None:
            size = f"{'' if item.size == item.expected.size else '~ '}{format_bytes(item.size)}"
        partial = f", {format_bytes(item.partial_bytes)} of a partial download" if item.partial_bytes else ""
        state = item.state + (partial if item.needed else "")
        rows.append([item.name, size, state, ", ".join(item.hosts) or "by hand"])
    print_table(["file", "size", "state", "source"], rows, f"{manifest.name} in {plan.data_dir}")
    unpack = f", to unpack: at least {format_bytes(plan.bytes_to_unpack)}" if plan.bytes_to_unpack else ""
    total = plan.bytes_to_fetch + plan.approximate_bytes_to_fetch
    to_fetch = f"{'~ ' if plan.approximate_bytes_to_fetch else ''}{format_bytes(total)}"
    if plan.files_of_unknown_size:
        # The manifest can have a note about sizes that are not known.
        note = manifest.unknown.get("downloads.size", "").rstrip(".")
        unknown = f"{count(plan.files_of_unknown_size, 'file')} of unknown size" + (f" ({note})" if note else "")
        to_fetch = f"{to_fetch} and {unknown}" if total else unknown
    print_line(f"to fetch: {to_fetch}{unpack}, free: {format_bytes(plan.free)}")


@data.command(epilog=example("modgap data verify ninapro"))
@target_argument
@option_group("Files", data_dir_option("Data directory, for this command only."))
@option_group("Output", quiet_option)
@click.pass_context
def verify(ctx: click.Context, name: str, data_dir: str | None, quiet: bool) -> None:
    """Read every file of a target and compare its checksum.

    The exit code is 1 when a file is missing or damaged. The checksums are those of the manifest, those recorded when
    files were first fetched, and those of the files in the archives. A converted copy is verified too.
    """
    from modgap.targets.download.data_directory import compute_checksums, find_data_dir
    from modgap.targets.download.verification import verify

    log_to_stderr(quiet)
    manifest, manifest_folder = _load_manifest(name)
    folder = find_data_dir(manifest, expand_user(data_dir) if data_dir else None, manifest_folder)
    with progress_bars(quiet) as progress:
        result = verify(manifest, folder, progress)
    for line in result.faults:
        print_line(line)
    downloads = {str(folder / download.path) for download in manifest.downloads}
    for path in result.without_checksum:
        where = f" --data-dir {data_dir}" if data_dir else ""
        way_out = f"Record it with: modgap data fetch {name}{where}"
        if path not in downloads:
            digest, size = compute_checksums(Path(path), ["sha256"])["sha256"], Path(path).stat().st_size
            way_out = f'To let later runs verify it, add to its [[files]]:\nsize = {size}\nsha256 = "{digest}"'
        print_line(f"{path} has no checksum. {way_out}")
    read = f"{count(result.files_read, 'file')}, {format_bytes(result.bytes_read)} compared"
    print_line(f"{count(len(result.faults), 'fault')}; {read}")
    ctx.exit(1 if result.faults else 0)


@data.command(epilog=example("modgap data convert recordings.csv --label activity"))
@cloup.argument(
    "name",
    metavar="TARGET",
    shell_complete=complete_targets,
    help="Name of a target, or your own data, as for modgap discrepancy --target.",
)
@option_group(
    "Files",
    data_dir_option("Data directory, for this command only."),
    option("--again", is_flag=True, help="Convert even if a current copy exists."),
)
@custom_data_options
@option_group("Output", quiet_option)
def convert(name: str, data_dir: str | None, again: bool, quiet: bool, **custom_options: str | None) -> None:
    """Convert the samples of a target to arrays, for faster reading.

    The copy is written to the folder `converted` of modgap's data folder or, for some readers, beside the original
    files. It is used until these change.
    """
    from modgap.targets import open_target
    from modgap.targets.download.converted_copy import copy_path, is_current

    log_to_stderr(quiet)
    target = open_target(
        name, custom_data=custom_data_from_options(custom_options), data_dir=expand_user(data_dir) if data_dir else None
    )
    path = copy_path(target.manifest, target.files)
    if not again and is_current(path, target.fingerprint):
        print_line(f"{target.name}: the converted copy {path} is current. Pass --again to convert again.")
        return
    with progress_bars(quiet) as progress:
        written = target.convert(progress)
    size = format_bytes(sum(file.stat().st_size for file in written))
    location = written[0] if len(written) == 1 else f"{len(written)} files beside the originals"
    print_line(f"{target.name}: converted to {location}, {size}")


@data.command(epilog=example("modgap data path ninapro --data-dir /data/ninapro"))
@target_argument
@option_group(
    "Data directory",
    data_dir_option("Use this data directory from now on."),
    option("--forget", is_flag=True, help="Use the default data directory again."),
)
def path(name: str, data_dir: str | None, forget: bool) -> None:
    """Show the data directory of a target, or set it.

    The files of the target are there, or are fetched into it.
    """
    from modgap.targets.download.data_directory import find_data_dir, locate_file, save_data_dir

    if data_dir and forget:
        raise UsageError("--data-dir and --forget exclude each other. Give one of them.")
    manifest, manifest_folder = _load_manifest(name)
    if forget:
        save_data_dir(manifest.name, None)
    elif data_dir:
        save_data_dir(manifest.name, find_data_dir(manifest, expand_user(data_dir)))
    folder = find_data_dir(manifest, manifest_folder=manifest_folder)
    files = {locate_file(file, manifest, folder) for file in manifest.files}
    uses_folder = not files or (not manifest.artifact and any(file.is_relative_to(folder) for file in files))
    for shown_folder in [folder] if uses_folder else sorted({file.parent for file in files}):
        print_line(str(shown_folder.absolute()))
