"""The campaigns of the zoo by name, one for each parser of files that come from outside."""

import functools
from pathlib import Path

from modgap_zoo.deb_files import deb_entries
from tests.campaign.parsers import Parser
from tests.campaign.reader_files import archive_members, unpack
from tests.campaign.seed_files import Maker, make_file
from zoo.tests.campaign import model_files, packaged_files, rendered_files
from zoo.tests.deb_writers import write_deb

REGRESSIONS = Path(__file__).parent / "regressions"
"""Folder of files that failed once."""


def _deb(name: str) -> Maker:
    def make(folder: Path) -> Path:
        path = make_file(folder, name)
        write_deb(path, archive_members(name))
        return path

    return make


DEBS = [(name, _deb(name), functools.partial(unpack, entries=deb_entries)) for name in ("safe.deb", "hostile.deb")]
READERS = [*packaged_files.READERS, *rendered_files.READERS]
PARSERS = [
    Parser(f"{kind} {name}".strip(), make, read, quick=3, registry=__name__, regressions=REGRESSIONS)
    for kind, parsed in (("", model_files.PARSED), ("reader", READERS), ("archive", DEBS))
    for name, make, read in parsed
]
CAMPAIGNS = {campaign.name: campaign for campaign in (parser.campaign() for parser in PARSERS)}
