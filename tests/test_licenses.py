"""The page of licenses says what the sources and targets say of themselves."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("zoo", "page", "row"),
    [
        (False, "licenses.md", "| `wine` | target | not stated |"),
        (True, "zoo/licenses.md", "| `pig-cvp` | target | BSD"),
    ],
)
def test_the_pages_of_licenses_are_up_to_date(zoo, page, row):
    if zoo:
        pytest.importorskip("modgap_zoo")
    spec = importlib.util.spec_from_file_location("license_table", ROOT / "tools" / "license_table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert text == module.license_page(zoo), "Run the commands at the beginning of tools/license_table.py."
    assert row in text
