"""The page of licenses says what the sources and targets say of themselves."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_page_of_licenses_is_up_to_date():
    spec = importlib.util.spec_from_file_location("license_table", ROOT / "tools" / "license_table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = (ROOT / "docs" / "licenses.md").read_text(encoding="utf-8")
    assert page == module.license_page(), "Run: python tools/license_table.py > docs/licenses.md"
    assert "| `crepe` | source | MIT |" in page
