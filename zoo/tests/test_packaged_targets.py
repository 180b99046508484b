"""Targets whose files come inside packages of Python, Debian and npm: samples, classes, splits and single values."""

import io
import math
import tarfile
from pathlib import Path

import numpy as np
import pytest

from modgap.errors import InputError
from modgap.targets import open_target
from modgap.targets.readers import get_reader
from tests.fixtures.expected_targets import Expected, check_page, check_samples, check_second_sample
from tests.fixtures.packages import absent_packages

TARGETS_PAGE = Path(__file__).parents[2] / "docs" / "zoo" / "targets.md"
LEAVES = (
    65, 55, 50, 65, 64, 52, 55, 63, 72, 65, 53, 61, 77, 52, 62, 55, 59, 63, 55, 56, 60, 62, 66, 54, 59, 57, 56, 56, 53,
    73, 52, 60,
)  # fmt: skip
EXPECTED = {
    "alzheimer-proteins": Expected((1, 135), (91, 242), (239, 26, 68), -1.38629436, 1),
    "anticancer-peptides": Expected(None, (413, 413), (595, 66, 165), "AAVPIVNLKDELLFPSWEALFSGSE", 1),
    "antimicrobial-peptides": Expected(None, (2080, 2540), (3326, 370, 924), "YVPLPNVPQPGRRPFPTFPGQGPFNPKIKWPQGY", 1),
    "ape-skulls": Expected((2, 8), (30, 29, 26, 28, 24, 30), (121, 12, 34), 55, 0),
    "article-languages": Expected(
        None, (30,) * 521, (11462, 1042, 3126), "Tudu nguê ca pô flá ni dirêtu cu liberdade cu sa", 0, 30,
    ),
    "artwork-media": Expected(None, (613, 286, 264, 263, 182, 128, 115, 98), (1465, 68, 416), "Michael", 287, 256),
    "banknotes": Expected((1, 6), (100,) * 2, (144, 16, 40), 129.7, 1),
    "body-measures": Expected((1, 24), (260, 247), (364, 41, 102), 28.5, 1),
    "cat-colonies": Expected(
        (1, 108), (10, 22, 12, 23, 15, 11, 14, 10, 9, 11, 20, 14, 13, 17, 11, 12, 13), (154, 36, 47), math.nan, 0,
    ),
    "cattle-breeds": Expected(
        (1, 373), (50, 50, 51, 30, 50, 50, 47, 61, 31, 55, 50, 50, 49, 30, 50), (507, 56, 141), 0.0, 0,
    ),
    "cells": Expected((1, 56), (1300, 719), (908, 101, 1010), 819.0, 0),
    "chat-topics": Expected(
        None, (160, 32, 194, 45, 116, 245, 30, 33, 73, 46, 46, 119, 48, 48, 510), (1244, 145, 356),
        "Artificial Intelligence is the branch of engineering", 0, 702,
    ),
    "contraception": Expected((1, 9), (629, 333, 511), (1062, 117, 294), 1, 0),
    "cox2": Expected((1, 255), (90, 372), (333, 37, 92), 0, 1),
    "crabs": Expected((1, 5), (50,) * 4, (144, 16, 40), 7.7, 1),
    "deep-sky": Expected((1, 11), (10521, 663, 546, 244, 231, 208, 130, 94, 83), (9161, 1016, 2543), -0.223801146, 7),
    "desktop-icons": Expected((3, 32, 32), (69, 28, 12, 20, 14, 22, 17, 35), (155, 18, 44), 255.0, 0),
    "dhfr": Expected((1, 228), (203, 122), (234, 26, 65), -0.157313214, 1),
    "ecoli-locations": Expected((1, 7), (143, 77, 2, 2, 35, 20, 5, 52), (242, 27, 67), 0.4, 0),
    "egyptian-skulls": Expected((1, 4), (30,) * 5, (108, 12, 30), 131, 0),
    "first-names": Expected(None, (17585, 18387), (25899, 2878, 7195), "Aadam", 1),
    "fish": Expected((1, 6), (35, 6, 20, 11, 14, 17, 56), (115, 13, 31), 24, 0),
    "fortunes": Expected(
        None, (464, 1038, 1098, 1199, 283, 206, 201, 161, 197, 196, 149, 536, 203, 331, 103, 150, 578, 639, 1238, 272,
        493, 694, 620, 703, 146, 227, 417, 625, 546), (9872, 1097, 2744),
        "A \"critic\" is a man who creates nothing and thereby", 0,
    ),
    "fruit-spectra": Expected((1, 256), (490, 500, 106), (789, 88, 219), 0.4831, 0),
    "gamma-telescope": Expected((1, 10), (12332, 6688), (13694, 1522, 3804), 11.7235, 0),
    "gasoline": Expected((1, 401), (), (43, 5, 12), -0.039602, 85.25),
    "gene-functions": Expected(
        (1, 103), (762, 1038, 983, 862, 722, 597, 428, 480, 178, 253, 289, 1816, 1799, 34), (1737, 196, 484), 0.011879,
        0,
    ),
    "genres": Expected(
        None, (4623, 2997, 1751, 1716, 4193, 4881, 7209, 3032, 7734, 4249, 3886, 948, 4637, 4431, 1053),
        (41347, 4828, 11165), "The jury further said in term-end presentments that", 0, 500,
    ),
    "glaucoma": Expected((1, 62), (98,) * 2, (141, 16, 39), 0.475, 1),
    "gut-microbes": Expected((1, 553), (168, 35, 68), (195, 22, 54), 0.0, 1),
    "hiv-activity": Expected((1, 1617), (3710, 135), (2768, 308, 769), 0, 0),
    "human-populations": Expected((1, 8170), (111, 431, 194, 256, 158, 170, 30), (972, 120, 258), 0.0, 0, 79),
    "image-segments": Expected((1, 19), (330,) * 7, (1662, 186, 462), 130, 2),
    "influenza-years": Expected(
        None, (158, 415, 399, 469, 462), (1372, 152, 379), "aagcgcggcgagtggaggcattgtggattttggaggaatggtgaagtg", 0,
    ),
    "job-times": Expected((1, 26), (2211, 1347, 514, 259), (3118, 347, 866), 0, 0),
    "leaf-flavia": Expected((1, 50), LEAVES, (1371, 152, 384), 0.4747877, 8),
    "libras-movements": Expected((2, 45), (24,) * 15, (261, 28, 71), 0.68085, 0),
    "liver-injury": Expected((1, 376), (106, 145, 30), (200, 24, 57), 4.5, 0),
    "meats": Expected((1, 100), (), (155, 17, 43), 2.83871, 40.1),
    "multidrug-reversal": Expected((1, 342), (298, 230), (380, 42, 106), 7.26, 0),
    "mushrooms": Expected((1, 98), (3488, 2156), (4064, 452, 1128), 0, 0),
    "musk": Expected((1, 166), (269, 207), (343, 37, 96), -191, 1),
    "nouns": Expected(
        None, (51, 400, 400, 400, 400, 400, 400, 400, 400, 400, 400, 400, 400, 42, 400, 400, 400, 400, 400, 400, 400,
        400, 341, 400, 400, 400), (6937, 771, 1926), "physical entity: an entity that has physical existence", 0,
    ),
    "olitos": Expected((1, 25), (50, 25, 34, 11), (87, 9, 24), 61.809, 0),
    "olive-oils": Expected((1, 8), (56, 33, 50, 65, 25, 36, 206, 51, 50), (412, 46, 114), 0.73, 4),
    "oslo-transect": Expected((1, 25), (40, 40, 39, 33, 40, 38, 40, 40, 40), (254, 27, 69), 0.08, 1, 40),
    "page-blocks": Expected((1, 10), (4913, 329, 28, 87, 115), (3939, 439, 1094), 7, 0),
    "pd-speech": Expected((1, 751), (188, 64), (181, 21, 50), 0.4156367, 0),
    "pen-digits": Expected(
        (2, 8), (1143, 1143, 1144, 1055, 1144, 1055, 1056, 1142, 1055, 1055), (7914, 878, 2200), 27, 2,
    ),
    "penguins": Expected((1, 6), (152, 68, 124), (248, 28, 68), 17.4, 0),
    "phoneme": Expected((1, 5), (3818, 1586), (3890, 433, 1081), 1.352, 0),
    "pig-cvp": Expected((1, 2000), (6,) * 52, (95, 9, 208), 0.75912499, 0),
    "promoter-genes": Expected(
        None, (53, 53), (76, 8, 22), "atgcaattttttagttgcatgaactcgcatgtctccatagaatgcgcgctacttgat", 0,
    ),
    "red-wine": Expected((1, 11), (10, 53, 681, 638, 199, 18), (1151, 129, 319), 0.88, 2),
    "scat": Expected((1, 27), (57, 28, 25), (79, 10, 21), 0, 1),
    "sentiment-editorials": Expected(
        None, (2742, 2204), (3583, 395, 968),
        "Events include sprinting, broad jumping, yule log rolling, wreath tossing and a toy sack relay.", 1, 498,
    ),
    "sentiment-movies": Expected(
        None, (5326, 5242), (7608, 847, 2113),
        "The gorgeously elaborate continuation of ''The Lord of the Rings'' trilogy is so huge that a column of "
        "words cannot adequately describe co writer/director Peter Jackson's expanded vision of J.R.R. Tolkien's "
        "Middle earth.",
        1,
    ),
    "sentiment-products": Expected(
        None, (1482, 2128), (2580, 296, 734), "repost from january 13, 2004 with a better fit title.", 0, 299,
    ),
    "sentiment-source": Expected(
        None, (4200, 10605, 3708, 5190), (16985, 1896, 4822), "Yay. Another good phone interview.", 0, 15603,
    ),
    "sentiment-tweets": Expected(
        None, (1299, 2897), (3021, 336, 839), "Yay. Another good phone interview.", 1,
    ),
    "sentiment-tweets-rating": Expected(
        None, (), (3024, 336, 840), "Yay. Another good phone interview.", 1.4432990,
    ),
    "shoulder-exercises": Expected((6, 2458), (20,) * 7, (98, 14, 28), -0.944549, 2, 10),
    "skin-diseases": Expected((1, 34), (111, 60, 71, 48, 48, 20), (257, 30, 71), 3, 0),
    "solar-flares": Expected((1, 19), (147, 211, 239, 95, 43, 331), (767, 85, 214), 0, 2),
    "solubility": Expected(None, (519, 517, 246), (922, 103, 257), "C1CCCC1", 1),
    "spam": Expected((1, 57), (2788, 1813), (3314, 368, 919), 0.28, 1),
    "spam-mails": Expected(
        None, (4111, 1714), (4193, 466, 1166), "Martin A posted:\nTassos Papadopoulos, the Greek", 0,
    ),
    "spoken-stamps": Expected(
        None, (694, 917, 918, 323, 681, 890, 928, 633, 920, 920), (5625, 631, 1568), -0.00017126034, 1, 947,
    ),
    "stamps": Expected(None, (154, 48, 74, 74, 30, 40, 75, 249, 81, 62), (637, 74, 176), 255.0, 0, 852),
    "steroid-toxicity": Expected((1, 12), (83, 79), (118, 13, 31), 5.01082653, 0),
    "texture": Expected((1, 40), (500,) * 11, (3960, 440, 1100), -1.029, 0),
    "thyroid": Expected((1, 5), (30, 150, 35), (155, 17, 43), 9.9, 1),
    "tissue-genes": Expected((1, 500), (38, 34, 15, 31, 39, 26, 6), (138, 15, 36), 8.5428267, 0),
    "trace": Expected((1, 275), (50,) * 4, (90, 10, 100), 0.62463, 2),
    "word-languages": Expected(None, (8600,) * 10, (61920, 6880, 17200), "a", 0),
    "yeast-locations": Expected((1, 8), (463, 5, 35, 44, 51, 163, 244, 429, 20, 30), (1071, 117, 296), 0.67, 6, 1462),
}  # fmt: skip


NAMES = [pytest.param(name, marks=[pytest.mark.long] * (name == "word-languages")) for name in EXPECTED]
"""All of them; two million words are read in `make test-long`."""


@pytest.mark.parametrize("name", NAMES)
def test_samples_classes_and_splits_of_a_packaged_target(name):
    check_samples(name, EXPECTED[name])


@pytest.mark.parametrize("name", NAMES)
def test_the_second_sample_is_that_of_the_file(name):
    check_second_sample(name, EXPECTED[name])


@pytest.mark.parametrize("name", EXPECTED)
def test_the_page_of_targets_has_the_size_and_the_license(name):
    check_page(name, EXPECTED[name], TARGETS_PAGE)


def write(path, text):
    path.write_text(text)
    return path


MOLECULE = "name\n  program\n\n  0  0  0  0  0  0            999 V2000\nM  END\n"


def molecule(**items):
    lines = "".join(f">  <{name}>  (1) \n{value}\n\n" for name, value in items.items())
    return f"{MOLECULE}{lines}$$$$\n"


def test_molecules_are_read_as_text_from_their_data_items(tmp_path):
    train = write(
        tmp_path / "a.sdf", molecule(SMILES="CC", level="low", x="1.5") + molecule(SMILES="N", level="b", x=2)
    )
    test = write(tmp_path / "b.sdf", molecule(smiles="O", level="low", x="-3").replace("\n", "\r\n"))
    table = get_reader("sdf")({"train": [train], "test": [test]}, label_item="Level")
    assert list(table.samples.texts) == ["CC", "N", "O"]
    assert (list(table.classes), list(table.labels), list(table.splits)) == (["b", "low"], [1, 0, 1], [0, 0, 2])
    table = get_reader("sdf")({"data": [train]}, label_item="x", regression=True)
    assert table.splits is None
    np.testing.assert_array_equal(table.targets.array, [[1.5], [2]])


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (molecule(SMILES="CC"), {"label_item": "y"}, r"Molecule 1 of .* has no data item 'y'. Its items are: smiles"),
        (molecule(SMILES="", y=1), {"label_item": "y"}, "has no data item 'smiles'"),
        (MOLECULE, {"label_item": "y"}, "Its items are: none"),
        ("", {"label_item": "y"}, r"expected molecules that end with \$\$\$\$ in .*, got none"),
        (molecule(smiles="C", y="x"), {"label_item": "y", "regression": True}, "expected a number in every data item"),
        (molecule(smiles="C", y="nan"), {"label_item": "y", "regression": True}, "expected a finite number in every"),
    ],
)
def test_damaged_files_of_molecules_raise_a_one_line_error(tmp_path, content, options, message):
    path = write(tmp_path / "a.sdf", content)
    with pytest.raises(InputError, match=message) as caught:
        get_reader("sdf")({"data": [path]}, **options)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text_are_no_molecules(tmp_path):
    (tmp_path / "a.sdf").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="as an SDF file"):
        get_reader("sdf")({"data": [tmp_path / "a.sdf"]}, label_item="y")


INNER = "package-1/data.tar.gz"
TEXTS = {"tweet": "rated/tweets.txt", "article": "rated/articles.txt"}
OPTIONS = {"archive": INNER, "texts": TEXTS}
TWEETS = b"1\t1.5\tSo good\r\n2\t-0.25\tNot so good\r\n3\t0\tA chair\r\n"
ARTICLES = "1_1\t2\tAn opinion\n1_2\t-1\tAnother one of caf\u00e9s\n2_1\t-3\tWar".encode()


def packed(contents):
    """A tar.gz file of these contents by name."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in contents:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def distribution(folder, tweets=TWEETS, articles=ARTICLES, more=()):
    inner = packed([("rated/readme", b"-"), ("rated/tweets.txt", tweets), ("rated/articles.txt", articles), *more])
    path = folder / "package-1.tar.gz"
    path.write_bytes(packed([("package-1/setup.py", b"raise SystemExit"), (INNER, inner)]))
    return {"data": [path]}


def test_rated_texts_of_an_archive_in_a_source_distribution(tmp_path):
    files = distribution(tmp_path)
    table = get_reader("rated_texts")(files, **OPTIONS, label="sign")
    texts = ["So good", "Not so good", "An opinion", "Another one of caf\u00e9s", "War"]
    assert (list(table.samples.texts), list(table.labels)) == (texts, [1, 0, 1, 0, 0])
    assert list(table.groups["document"]) == ["tweet 1", "tweet 2", "article 1", "article 1", "article 2"]
    table = get_reader("rated_texts")(files, **OPTIONS, label="source")
    assert (list(table.classes), list(table.labels)) == (["tweet", "article"], [0, 0, 0, 1, 1, 1])
    table = get_reader("rated_texts")(files, **OPTIONS, label="rating")
    np.testing.assert_array_equal(table.targets.array[:, 0], [1.5, -0.25, 0, 2, -1, -3])
    with pytest.raises(InputError, match="expected label to be sign, rating or source, got 'stars'"):
        get_reader("rated_texts")(files, **OPTIONS, label="stars")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tweets": b"1\t2\n"}, r"in line 1 of rated/tweets.txt in .*, got '1\\t2'"),
        ({"tweets": b"1\tnan\tx\n"}, "expected a number, a mean rating and a text"),
        ({"tweets": b"1\tfine\tx\n"}, "expected a number, a mean rating and a text"),
        ({"articles": b"\n1\t1\t \n"}, "in line 2 of rated/articles.txt"),
        ({"articles": b"\xff"}, "cannot read rated/articles.txt in"),
        ({"tweets": b" " * ((8 << 20) + 1)}, "its file rated/tweets.txt has more than"),
        ({"more": [("rated/tweets.txt", TWEETS)]}, "it has two files rated/tweets.txt"),
        ({"more": [("rated/big", b" " * (65 << 20))]}, r"more than 10,000 files or more than .* of content"),
    ],
)
def test_damaged_rated_texts_raise_a_one_line_error(tmp_path, change, message):
    with pytest.raises(InputError, match=message) as caught:
        get_reader("rated_texts")(distribution(tmp_path, **change), **OPTIONS, label="sign")
    assert "\n" not in str(caught.value)


def test_archives_that_are_hostile_or_lack_a_file_are_refused(tmp_path):
    files = distribution(tmp_path)
    path = files["data"][0]
    with pytest.raises(InputError, match="it has no file package-1/other"):
        get_reader("rated_texts")(files, **OPTIONS | {"archive": "package-1/other"}, label="sign")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"archive .* (cannot be used|Compressed file ended)|cannot read the archive"):
        get_reader("rated_texts")(files, **OPTIONS, label="sign")
    with tarfile.open(path, "w:gz") as archive:
        link = tarfile.TarInfo(INNER)
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    with pytest.raises(InputError, match="is a symbolic link"):
        get_reader("rated_texts")(files, **OPTIONS, label="sign")
    path.unlink()
    with pytest.raises(InputError, match="cannot read the archive"):
        get_reader("rated_texts")(files, **OPTIONS, label="sign")


def test_the_message_without_a_source_distribution_has_the_command(tmp_path, monkeypatch):
    monkeypatch.setenv("MODGAP_DATA", str(tmp_path))
    with pytest.raises(InputError, match=r"which does not exist\. Install it with: pip download --no-deps"):
        open_target("sentiment-movies")
    assert absent_packages("sentiment-movies") == ["vaderSentiment-3.3.2.tar.gz"]
