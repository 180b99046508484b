"""The command `modgap report`."""

import cloup

from modgap.cli.completion import complete_folders
from modgap.cli.groups import example
from modgap.cli.output import print_line
from modgap.storage.paths import expand_user


@cloup.command(
    epilog=example("modgap rank --target digits --sources vit-fashion --out ranking", "modgap report ranking")
)
@cloup.argument(
    "folder",
    metavar="DIR",
    shell_complete=complete_folders,
    help="Folder that modgap transfer, rank, discrepancy, distortion or train wrote with --out.",
)
def report(folder: str) -> None:
    """Write results as one self-contained HTML page.

    The page loads nothing from outside. It can be sent, printed, and read on a phone.
    """
    from modgap.api.pages.write import write_page

    print_line(str(write_page(expand_user(folder))))
