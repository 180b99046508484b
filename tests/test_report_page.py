"""Pages of result folders: complete, escaped, the same bytes for the same record."""

import base64
import hashlib
import html
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from modgap.errors import InputError
from modgap.ranking.judgment import judge
from modgap.ranking.recommendation import headline, verdict_sentences
from modgap.ranking.report import to_dict, to_json
from modgap.report_page.ranking_page import render_ranking
from modgap.report_page.write import write_page
from tests.ranking_records import make_ranking

HOSTILE = (
    "</script><img src=x onerror=alert(1)>",
    "{{7*7}}",
    "=HYPERLINK(1)",
    "vit\u202egnp.exe",
    "x" * 300,
    "'\"`<!--",
)


class ElementCollector(HTMLParser):
    """Collects the names of all elements and of their attributes."""

    def __init__(self):
        super().__init__()
        self.elements, self.attributes = set(), set()

    def handle_starttag(self, tag, attrs):
        self.elements.add(tag)
        self.attributes |= {name for name, _ in attrs}


def record_of(ranking):
    return json.loads(to_json(ranking))


def assert_self_contained(page):
    """Check that a page loads nothing, and that its policy allows exactly its own script."""
    assert page.startswith("<!doctype html>")
    assert not re.search(r"https?:|@import|url\(|javascript:", page)
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    assert "default-src 'none'" in policy
    if scripts:
        expected = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
        assert f"script-src 'sha256-{expected}'" in policy
        assert len(scripts) == 1
    else:
        assert "script-src 'none'" in policy
    parser = ElementCollector()
    parser.feed(page)
    assert not parser.elements & {"img", "link", "iframe", "object", "base"}
    assert not [name for name in parser.attributes if name.startswith("on") or name in ("src", "href")]


def visible_text(page):
    body = re.sub(r"<(script|style).*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", "", body)).split())


def test_the_ranking_page_shows_the_verdict_of_the_terminal():
    ranking = make_ranking()
    page = render_ranking(record_of(ranking))
    assert_self_contained(page)
    assert len(page) < 300_000
    text = visible_text(page)
    assert "Which source should be transferred to vowel.csv?" in text
    assert headline(judge(ranking)) == "If you transfer, use vit-0. First check that it beats training from scratch."
    for sentence in verdict_sentences(judge(ranking)):
        assert sentence.rpartition(": ")[2] in text
    assert "modgap train --method finetune --source vit-0 --target /data/vowel.csv --out runs/finetune" in text


def test_a_control_is_in_the_row_of_its_source():
    page = render_ranking(record_of(make_ranking()))
    assert len(re.findall(r'<tr role="row" class="row', page)) == 4
    row = re.search(r'<tr role="row" class="row source" data-row="0">.*?</tr>', page, re.DOTALL)[0]
    assert "−2.000" in row
    assert "−2.390" in row
    assert ">A</span>" in row


def test_a_source_that_failed_has_its_reason_in_place_of_the_plot():
    page = render_ranking(record_of(make_ranking(leep=(-2.0, -2.2, np.nan))))
    row = re.search(r'<tr role="row" class="row failed".*?</tr>', page, re.DOTALL)[0]
    assert "Not defined: the source has no head." in row
    assert "1 source could not be scored" in visible_text(page)


def test_the_same_record_gives_the_same_bytes(tmp_path):
    (tmp_path / "ranking.json").write_text(to_json(make_ranking()))
    first = write_page(tmp_path).read_bytes()
    assert write_page(tmp_path).read_bytes() == first


def test_hostile_names_are_only_text():
    ranking = make_ranking(
        leep=np.linspace(-2.0, -2.3, 6),
        knn=np.full(6, 0.7),
        names=list(HOSTILE),
        name="/data/<svg onload=alert(1)>.csv",
    )
    page = render_ranking(record_of(ranking))
    assert_self_contained(page)
    assert "<svg onload" not in page
    assert "\u202e" not in page
    assert "‹U+202E›" in page
    assert "x" * 81 not in page
    assert "{{7*7}}" in visible_text(page)
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])
    assert data["names"][0] == HOSTILE[0]


def test_a_name_that_had_to_be_changed_gets_no_command():
    assert judge(make_ranking(names=["vit\u202egnp", "b", "c"])).commands == ()
    assert judge(make_ranking(names=["x" * 300, "b", "c"])).commands == ()


def test_a_quoted_name_stays_one_argument_of_the_command():
    verdict = judge(make_ranking(names=["a b", "c'd", "e;f"]))
    assert verdict.commands[0][5] == "a b"
    assert "--source 'a b'" in visible_text(render_ranking(record_of(make_ranking(names=["a b", "c'd", "e;f"]))))


def test_scores_without_values_and_a_ranking_without_a_target_have_a_page():
    nothing = make_ranking(leep=(np.nan,) * 3)
    assert "No source has a value" in visible_text(render_ranking(record_of(nothing)))
    record = {**to_dict(nothing), "target": None, "sources": [], "score_descriptions": {}}
    assert "Which source should be transferred to this target?" in render_ranking(record)


def test_a_newer_record_and_a_folder_without_results_are_refused(tmp_path):
    with pytest.raises(InputError, match="There are no results in"):
        write_page(tmp_path)
    (tmp_path / "ranking.json").write_text(json.dumps({"kind": "ranking", "schema": 99}))
    with pytest.raises(InputError, match="newer version of modgap"):
        write_page(tmp_path)
