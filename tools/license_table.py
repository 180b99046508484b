"""Print docs/licenses.md: the license of every source and target, from their descriptions.

python tools/license_table.py > docs/licenses.md
"""

from modgap.sources import source_infos
from modgap.targets import manifest_names, named_manifest

OPENING = """# Licenses

modgap itself is under the MIT license. It bundles one model, `vit-fashion`, whose weights were trained for modgap on
Fashion-MNIST and are under the same license. All other models and data come from other packages or hosts, and are not
copied into modgap. The table has the license that each states for itself. Where a package contains data and neither
states a license of the data, it says so: ask the authors before you redistribute it, and cite them in any case
(`modgap targets NAME` shows the citation).

*This page is written by `tools/license_table.py`.*
"""
NOT_STATED = "not stated"


def license_page() -> str:
    """Return the page."""
    rows = [(f"`{info.name}`", "source", info.license or NOT_STATED, f"`{info.weights}`") for info in source_infos()]
    for name in manifest_names():
        manifest = named_manifest(name)
        origin = f"`{manifest.install}`" if manifest.install else ""
        rows.append((f"`{name}`", "target", manifest.license or NOT_STATED, origin))
    lines = ["| name | kind | license | how it is installed |", "|---|---|---|---|"]
    lines += [f"| {' | '.join(cells)} |" for cells in rows]
    return OPENING + "\n" + "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(license_page(), end="")
