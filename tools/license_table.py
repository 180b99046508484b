"""Print the license of every source and target, from their descriptions: docs/licenses.md, or docs/zoo/licenses.md.

python tools/license_table.py > docs/licenses.md
python tools/license_table.py zoo > docs/zoo/licenses.md
"""

import sys

from modgap.sources import source_infos
from modgap.targets import manifest_names, named_manifest
from modgap.zoo import zoo_names

OPENING = """# Licenses

modgap itself is under the MIT license. It bundles one model, `vit-fashion`, whose weights were trained for modgap on
Fashion-MNIST and are under the same license. All other models and data come from other packages or hosts, and are not
copied into modgap. The table has the license that each states for itself. Where a package contains data and neither
states a license of the data, it says so: ask the authors before you redistribute it, and cite them in any case
(`modgap targets NAME` shows the citation). Models and data of modgap-zoo have [a page of their own](zoo/licenses.md).

*This page is written by `tools/license_table.py`.*
"""
ZOO_OPENING = """# Licenses of modgap-zoo

modgap-zoo itself is under the MIT license, and contains neither models nor data. The table has the license that each
package states for them. [Licenses](../licenses.md) says what "not stated" stands for.

*This page is written by `tools/license_table.py zoo`.*
"""
NOT_STATED = "not stated"


def license_page(zoo: bool = False) -> str:
    """Return the page of modgap, or that of modgap-zoo."""
    rows = [(f"`{info.name}`", "source", info.license or NOT_STATED, f"`{info.weights}`") for info in source_infos()
            if (info.name in zoo_names("source")) == zoo]  # fmt: skip
    for name in manifest_names():
        if (name in zoo_names("target")) != zoo:
            continue
        manifest = named_manifest(name)
        origin = f"`{manifest.install}`" if manifest.install else ""
        rows.append((f"`{name}`", "target", manifest.license or NOT_STATED, origin))
    lines = ["| name | kind | license | how it is installed |", "|---|---|---|---|"]
    lines += [f"| {' | '.join(cells)} |" for cells in rows]
    return (ZOO_OPENING if zoo else OPENING) + "\n" + "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(license_page("zoo" in sys.argv[1:]), end="")
