"""Write constraints.txt: the versions of all libraries that modgap needs, as they are installed here and were tested.

    .venv/bin/python tools/constraints.py    after `make test` has passed

Whoever wants the tested versions installs with `pip install -c constraints.txt`.
"""

import re
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

FILE = Path(__file__).resolve().parent.parent / "constraints.txt"
EXTRAS = ("audio", "demo", "ot", "parquet", "tensorboard", "video")
"""Extras whose libraries the tests install."""


def needed_versions(extras: tuple[str, ...] = EXTRAS) -> dict[str, str]:
    """Return the installed version of each library that modgap needs, directly or not, with these extras."""
    versions: dict[str, str] = {}
    waiting = [("modgap", frozenset(extras))]
    while waiting:
        name, wanted = waiting.pop()
        for text in metadata.requires(name) or ():
            requirement = Requirement(text)
            library = canonicalize_name(requirement.name)
            if not _applies(requirement, wanted) or library in versions:
                continue
            # A local version such as +cpu names a build, not a release.
            versions[library] = re.sub(r"\+.*", "", metadata.version(library))
            waiting.append((library, frozenset(requirement.extras)))
    return dict(sorted(versions.items()))


def _applies(requirement: Requirement, extras: frozenset[str]) -> bool:
    return not requirement.marker or any(requirement.marker.evaluate({"extra": extra}) for extra in (*extras, ""))


def main() -> None:
    """Write the file."""
    lines = [f"{name}=={version}" for name, version in needed_versions().items()]
    FILE.write_text("\n".join(["# Versions that were tested together; see tools/constraints.py.", *lines]) + "\n")


if __name__ == "__main__":
    main()
