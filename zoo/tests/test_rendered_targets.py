"""Targets that are rendered from fonts and sound fonts, or spoken by a program: classes, groups, bytes and refusals."""

import hashlib
import re
from dataclasses import dataclass

import numpy as np
import pytest

from modgap.errors import InputError
from modgap.targets import named_manifest, open_target
from modgap.targets.readers import get_reader, get_reader_versions
from modgap.targets.samples import SPLITS
from tests.fixtures.expected_targets import table_cells
from tests.fixtures.packages import skip_if_absent
from zoo.tests.campaign.rendered_files import write_font
from zoo.tests.test_packaged_targets import TARGETS_PAGE


@dataclass(frozen=True)
class Rendered:
    """Properties that a rendered target must have.

    Attributes:
        shape: Shape of a sample.
        class_sizes: Samples of each class.
        n_groups: Number of groups.
        rows: Numbers of samples whose bytes are compared.
        digest: Start of the SHA-256 of the bytes of these samples.
        versions: Versions of the programs with which the bytes were recorded.
    """

    shape: tuple[int, ...]
    class_sizes: tuple[int, ...]
    n_groups: int
    rows: range
    digest: str
    versions: dict[str, str]


FREETYPE = {"freetype": "2.14.3"}
FLUIDSYNTH = dict.fromkeys(["fluidsynth", "libfluidsynth3"], "2.4.4+dfsg-1+deb13u3")
ESPEAK = dict.fromkeys(["espeak-ng", "espeak-ng-data", "libespeak-ng1"], "1.52.0+dfsg-5")
EXPECTED = {
    "fonts": Rendered((1, 32, 32), (260, *(208,) * 8), 52, range(1924), "1b5e67773b593768", FREETYPE),
    "glyphs": Rendered((1, 32, 32), (37,) * 52, 9, range(1924), "1b5e67773b593768", FREETYPE),
    "notes": Rendered((1, 16_000), (96,) * 16, 128, range(36), "24f9d6756cb6a8c3", FLUIDSYNTH),
    "spoken-digits": Rendered((1, 16_000), (99,) * 10, 11, range(0, 990, 40), "3dc29efc0d0ea7ea", ESPEAK),
    "spoken-languages": Rendered((1, 25_600), (132,) * 10, 11, range(0, 1320, 40), "332832280a99b624", ESPEAK),
}


def bytes_digest(samples, rows):
    return hashlib.sha256(b"".join(samples[row].tobytes() for row in rows)).hexdigest()[:16]


@pytest.mark.parametrize("name", EXPECTED)
def test_classes_groups_and_splits_of_a_rendered_target(name):
    skip_if_absent(name)
    expected = EXPECTED[name]
    target = open_target(name)
    table = target.read()
    assert tuple(np.bincount(table.labels)) == expected.class_sizes
    assert len(table.classes) == len(expected.class_sizes)
    assert table.samples[0].shape == expected.shape == target.manifest.input.shape
    groups = table.groups["groups"]
    assert len(np.unique(groups)) == expected.n_groups
    assert all(len(np.unique(table.splits[groups == group])) == 1 for group in np.unique(groups))
    for code in range(len(SPLITS)):
        assert len(np.unique(table.labels[table.splits == code])) == len(expected.class_sizes)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_rendered_target_has_the_same_bytes_each_time_and_on_each_machine(name):
    skip_if_absent(name)
    expected = EXPECTED[name]
    reader = named_manifest(name).reader
    samples = get_reader(reader.name)(open_target(name).files, **reader.options).samples
    digest = bytes_digest(samples, expected.rows)
    again = get_reader(reader.name)(open_target(name).files, **reader.options).samples
    # In another order: a sample does not depend on the samples before it.
    assert [again[row].tobytes() for row in expected.rows[::-1]] == [
        samples[row].tobytes() for row in expected.rows[::-1]
    ]
    versions = get_reader_versions(reader.name)
    if versions != expected.versions:
        pytest.skip(f"the bytes were recorded with {expected.versions}, here are {versions}")
    assert digest == expected.digest


@pytest.mark.parametrize("name", EXPECTED)
def test_the_page_of_targets_has_the_rendered_target(name):
    rows = {cells[0]: cells for cells in map(table_cells, TARGETS_PAGE.read_text().splitlines()) if cells}
    cells = rows[f"`{name}`"]
    assert int(re.sub(r"\D", "", cells[2])) == sum(EXPECTED[name].class_sizes)
    assert cells[3] == str(len(EXPECTED[name].class_sizes))
    assert cells[5] == named_manifest(name).license


def test_the_fingerprint_and_the_copy_record_the_recipe(tmp_path, monkeypatch):
    skip_if_absent("glyphs")
    from modgap.storage.array_file import read_array_file

    monkeypatch.setenv("MODGAP_DATA", str(tmp_path))
    target = open_target("glyphs")
    assert target.fingerprint["libraries"].items() >= get_reader_versions("rendered_glyphs").items()
    record = read_array_file(target.convert()[0]).metadata
    assert record["reader"] == target.manifest.reader.model_dump()
    assert len(record["made_of"]["files"]) == len(target.manifest.files)
    assert record["made_of"]["libraries"]["freetype"]
    originals = target.read_originals()
    assert bytes_digest(target.read().samples, range(50)) == bytes_digest(originals.samples, range(50))


@pytest.fixture
def small_font(tmp_path):
    """A font that has the letters a, b and c only."""
    write_font(tmp_path / "Small-Regular.ttf", "abc")
    return tmp_path / "Small-Regular.ttf"


def draw(*paths, **options):
    return get_reader("rendered_glyphs")({"font": paths}, **{"letters": "abc", "size": 24, "font_size": 16} | options)


def test_letters_of_a_font_stand_on_the_baseline(small_font):
    table = draw(small_font, label="font")
    assert (list(table.labels), table.classes) == ([0, 0, 0], ["Small-Regular"])
    assert list(table.groups["letter"]) == ["a", "b", "c"]
    assert set(table.groups["family"]) == {"Small"}
    drawn = [np.flatnonzero(table.samples[number][0].max(axis=1) > 100) for number in range(3)]
    assert all(rows.max() == 17 for rows in drawn)
    assert drawn[1].min() < drawn[0].min()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"letters": "abb"}, "option letters is 'abb'. Expected a string of 1 to 10,000 different letters"),
        ({"letters": "a b"}, "Expected a string of 1 to"),
        ({"letters": "a\x1b"}, "Expected a string of 1 to"),
        ({"letters": ["a"]}, r"option letters is \['a'\]"),
        ({"letters": ""}, "Expected a string of 1 to"),
        ({"letters": "abz"}, "Small-Regular.ttf has no letter 'z'. Leave out the letter or the font"),
        ({"size": 10**9}, "option size is 1000000000. Expected a whole number from 8 to 1,024"),
        ({"size": True}, "option size is True"),
        ({"font_size": 25}, "option font_size is 25. Expected a whole number from 4 to 24"),
        ({"font_size": "16"}, "option font_size is '16'"),
        ({"label": "style"}, "option label is 'style'. Expected one of letter, family, font"),
        ({"label": []}, r"option label is \[\]"),
    ],
)
def test_options_of_glyphs_that_are_not_valid_are_refused(small_font, options, message):
    with pytest.raises(InputError, match=message) as caught:
        draw(small_font, **options)
    assert "\n" not in str(caught.value)


def test_letters_that_do_not_fit_and_too_many_pictures_are_refused(small_font, tmp_path, monkeypatch):
    write_font(tmp_path / "Tall.ttf", "\u01fa")
    with pytest.raises(InputError, match=r"letter .* of the font .*Tall.ttf does not fit into 24 x 24 pixels"):
        draw(tmp_path / "Tall.ttf", letters="\u01fa", font_size=24, size=24)
    monkeypatch.setenv("MODGAP_MAX_RENDERED", "2")
    with pytest.raises(InputError, match=r"describe 3 samples\. The limit is 2\. .*export MODGAP_MAX_RENDERED=3"):
        draw(small_font)
    monkeypatch.setenv("MODGAP_MAX_RENDERED", "3")
    monkeypatch.setenv("MODGAP_MAX_RENDERED_BYTES", "1000")
    with pytest.raises(InputError, match=r"describe samples of 1.* export MODGAP_MAX_RENDERED_BYTES=1728"):
        draw(small_font)


def test_a_damaged_font_is_not_replaced_by_an_installed_one_of_the_same_name(tmp_path):
    path = tmp_path / "DejaVuSans.ttf"
    path.write_bytes(b"no font")
    with pytest.raises(InputError, match=r"cannot read a font from .*DejaVuSans.ttf"):
        draw(path)
    with path.open("wb") as stream:
        stream.truncate(65 << 20)
    with pytest.raises(InputError, match=r"is larger than .*, the limit for fonts"):
        draw(path)
