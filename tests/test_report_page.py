"""Pages of result folders: complete, escaped, the same bytes for the same record."""

import base64
import hashlib
import html
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from modgap.discrepancy import estimate
from modgap.discrepancy.report import DiscrepancyReport
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


def test_the_page_of_a_discrepancy_has_all_levels_on_one_axis(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 30)
    logits = rng.standard_normal((90, 12))
    logits[np.arange(90), labels + 4] += 4
    result = estimate(logits, labels, null=19, seed=0)
    names = [f"target <b>{number}</b>" for number in range(3)]
    report = DiscrepancyReport("vit-b", HOSTILE[0], result, HOSTILE * 2, names, {"modgap": "0.1.0"}, 0.1)
    (tmp_path / "result.json").write_text(json.dumps(report.to_dict(), allow_nan=False))
    page = write_page(tmp_path).read_text()
    assert write_page(tmp_path).read_text() == page
    assert_self_contained(page)
    assert "<b>" not in page
    text = visible_text(page)
    held_out = report.best_estimate.held_out
    assert f"knows something about these classes: its held-out error is {held_out:.3f}." in text
    for level in ("held-out samples", "permuted labels", "majority-class baseline", "chance level", "upper bound"):
        assert level in text
    assert "target <b>0</b>" in text
    assert "Is it below its control?Not tested" in text
    assert "--source random:vit-b --target '</script>" in text


def distortion_record(difference):
    def encoder(name, run, value, compared):
        probe = {"value": value, "interval": [value - 0.1, value + 0.1]}
        similarity = {"linear_cka": {"output": {"value": 0.9}}} if compared else {}
        return {
            "encoder": name, "run": run, "probes": {"linear": probe}, "difference": compared, "similarity": similarity
        }  # fmt: skip

    encoders = [encoder("vit untouched", None, 0.2, None), encoder(HOSTILE[0], "runs/emb", 0.5, difference)]
    surrogate = {
        "name": "/data/photos.npz", "training_samples": 160, "test_samples": 60, "baseline_error": 0.9,
        "encoders": encoders,
    }  # fmt: skip
    head = {"schema": 1, "kind": "distortion", "source": "vit", "surrogates": [surrogate]}
    return {**head, "request": {"maps": False}, "seconds": 3.0, "provenance": {"modgap": "0.1.0"}}


@pytest.mark.parametrize(
    ("value", "p_value", "expected"),
    [
        (0.3, 0.001, "Training on the target loses source knowledge."),
        (0.3, 0.2, "This run shows no significant loss of source knowledge."),
        (-0.3, 0.001, "This run shows no significant loss of source knowledge."),
    ],
)
def test_the_page_of_a_distortion_counts_significant_losses(tmp_path, value, p_value, expected):
    record = distortion_record({"value": value, "interval": [value - 0.1, None], "p_value": p_value})
    (tmp_path / "distortion.json").write_text(json.dumps(record))
    page = write_page(tmp_path).read_text()
    assert_self_contained(page)
    text = visible_text(page)
    assert expected in text
    assert HOSTILE[0] in text
    assert "fitted on 160 samples and tested on 60" in text


def test_a_distortion_without_a_trained_encoder_shows_no_loss(tmp_path):
    (tmp_path / "distortion.json").write_text(json.dumps(distortion_record(None)))
    assert "This run has no trained encoder" in visible_text(write_page(tmp_path).read_text())


def test_the_folder_of_a_trained_model_is_refused(tmp_path):
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(InputError, match="is the folder of a trained model, and there is no page for one"):
        write_page(tmp_path)


def test_a_newer_record_and_a_folder_without_results_are_refused(tmp_path):
    with pytest.raises(InputError, match="There are no results in"):
        write_page(tmp_path)
    (tmp_path / "ranking.json").write_text(json.dumps({"kind": "ranking", "schema": 99}))
    with pytest.raises(InputError, match="newer version of modgap"):
        write_page(tmp_path)
