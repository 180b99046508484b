"""Pages of result folders: complete, escaped, the same bytes for the same record."""

import base64
import hashlib
import html
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from modgap.answers import INFO, Answer, Mark, Table, Verdict
from modgap.api.pages.answer_pages import TRANSFER_DEFINITIONS
from modgap.api.pages.ranking_page import render_ranking
from modgap.api.pages.rendering import drawn_table, render_answer
from modgap.api.pages.write import write_page
from modgap.discrepancy import estimate
from modgap.discrepancy.report import DiscrepancyReport
from modgap.distortion.answer import answer_of_record
from modgap.forward.sample_request import SampleRequest
from modgap.ranking.judgment import judge
from modgap.ranking.recommendation import headline, judgment_answer
from modgap.ranking.report import SCHEMA
from modgap.ranking.standings import compute_standings
from modgap.ranking.types import JobCounts, Pilot, RankRequest
from modgap.storage.json_records import format_json
from modgap.targets import CustomData, TargetRequest
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
    return json.loads(format_json(ranking.to_dict()))


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
    ranking = make_ranking(baseline=0.7)
    page = render_ranking(record_of(ranking))
    assert_self_contained(page)
    assert len(page) < 300_000
    text = visible_text(page)
    assert "Which source should be transferred to vowel.csv?" in text
    assert headline(judge(ranking)).startswith(
        "If you transfer, use vit-0, which is first by LEEP (2 of 2 other scores"
    )
    answer = judgment_answer(judge(ranking))
    for sentence in (answer.headline, *(one.sentence for one in (*answer.verdicts, *answer.checks))):
        assert sentence in text
    assert "modgap rank --target /data/vowel.csv --sources vit-0,vit-1,vit-2" in text
    assert "--pilot 3" in text


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


def test_a_name_with_hyphens_is_not_broken_between_two_lines():
    page = render_ranking(record_of(make_ranking(baseline=0.7, names=["vit-0-of-a-kind", "vit-1", "vit-2"])))
    line = re.search(r'<p class="headline">(.*?)</p>', page)[1]
    assert '<span class="word">vit-0-of-a-kind,</span>' in line
    assert re.search(r"\.word \{ display: inline-block; max-width: 100%; \}", page)


def test_the_same_record_gives_the_same_bytes(tmp_path):
    (tmp_path / "ranking.json").write_text(format_json(make_ranking().to_dict()))
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
    assert "x" * 81 not in visible_text(page)
    assert "{{7*7}}" in visible_text(page)
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])
    assert data["names"][0] == HOSTILE[0]


def test_a_name_that_had_to_be_changed_gets_no_command():
    assert judge(make_ranking(names=["vit\u202egnp", "b", "c"])).commands == ()
    # Another source's name is no part of the commands for the first one.
    for other in ("b\u202egnp", "b,c"):
        assert judge(make_ranking(names=["a", other, "c"])).commands[0][:4] == (
            "modgap",
            "train",
            "--method",
            "finetune",
        )
    assert judge(make_ranking(names=["x" * 300, "b", "c"])).commands[0][5].startswith("x" * 300)


def test_a_quoted_name_stays_one_argument_of_the_command():
    verdict = judge(make_ranking(names=["a b", "c'd", "e;f"]))
    assert verdict.commands[0][5] == "a b,c'd,e;f"
    assert """--sources 'a b,c'"'"'d,e;f'""" in visible_text(
        render_ranking(record_of(make_ranking(names=["a b", "c'd", "e;f"])))
    )


def without_intervals(ranking):
    tables = {}
    for name, table in ranking.tables.items():
        values = table.standings.values
        standings = compute_standings(values, np.empty((len(values), 0)), higher_is_better=table.higher_is_better)
        tables[name] = replace(table, standings=standings, among_sources=standings.among(table.source_ranks > 0))
    return replace(ranking, tables=tables)


def test_the_commands_read_the_same_data_as_the_ranking():
    options = ["--label", "vowel", "--group", "speaker", "--data-dir", "/my data"]
    requested = TargetRequest("vowel.csv", CustomData(label_column="vowel", group="speaker"), Path("/my data"))
    ranking = replace(
        make_ranking(),
        requested=requested,
        request=RankRequest(resamples=12, samples=SampleRequest(limit=300)),
    )
    pilot = Pilot(replace(ranking.tables[ranking.by], name="pilot", by_sample=True), 10, 3, 64, 64)
    (first,) = judge(ranking).commands
    assert first[1] == "rank"
    assert first[first.index("--pilot") + 1] == "3"
    after = judge(replace(ranking, pilot=pilot)).commands
    assert {command[1] for command in after} == {"train"}
    for command in (first, *after):
        assert " ".join(options) in " ".join(command)
        assert command[command.index("--limit") + 1] == "300"
    unclear = replace(
        without_intervals(ranking),
        request=RankRequest(resamples=0, samples=SampleRequest()),
        requested=replace(requested, pseudo_classes=5),
    )
    (command,) = judge(unclear).commands
    assert command[1] == "rank"
    assert " ".join(options) in " ".join(command)
    assert command[command.index("--limit") + 1] == "0"
    assert command[command.index("--pseudo-classes") + 1] == "5"
    assert not any("--limit" in command for command in judge(make_ranking()).commands)
    hostile = replace(requested, custom_data=CustomData(label_column="a\u202eb"))
    assert judge(replace(ranking, requested=hostile)).commands == ()


def test_failed_jobs_are_counted():
    page = render_ranking(record_of(replace(make_ranking(), jobs={"features": JobCounts(8, 3, 2)})))
    assert "8 jobs computed, 3 from the cache, 2 failed" in visible_text(page)
    record = make_ranking().to_dict()
    record["jobs"] = {"features": {"computed": 8, "cached": 3}}
    assert "failed" not in re.search(r"8 jobs computed.*?</span>", render_ranking(record))[0]


def test_the_ranking_is_a_plain_table_without_a_script():
    page = render_ranking(record_of(make_ranking()))
    head = re.search(r"<thead.*?</thead>", page, re.DOTALL)[0]
    assert "<button" not in head
    assert re.findall(r'aria-sort="(\w+)"', head) == ["ascending"]
    assert set(re.findall(r'data-sort="(\w+)"', head)) == {"rank", "name", "value", "control", "parameters"}
    keys = re.findall(r'<span class="class-key" data-class="(\d+)"', page)
    assert keys == ["0", "1", "2", "3"]
    assert set(re.findall(r'<path class="[^"]*" data-class="(\d+)"', page)) == set(keys)


def test_scores_without_values_and_a_ranking_without_a_target_have_a_page():
    nothing = make_ranking(leep=(np.nan,) * 3)
    assert "No source has a value" in visible_text(render_ranking(record_of(nothing)))
    record = {**nothing.to_dict(), "target": None, "sources": [], "score_descriptions": {}}
    record["answer"] = judgment_answer(judge(nothing)).to_dict()
    assert "Which source should be transferred to this target?" in render_ranking(record)


def test_the_page_of_a_discrepancy_has_all_levels_on_one_axis(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 30)
    logits = rng.standard_normal((90, 12))
    logits[np.arange(90), labels + 4] += 4
    result = estimate(logits, labels, permutations=19, splits=4, seed=0)
    names = [f"target <b>{number}</b>" for number in range(3)]
    report = DiscrepancyReport("vit-b", HOSTILE[0], result, HOSTILE * 2, names, {"modgap": "0.1.0"}, 0.1)
    (tmp_path / "result.json").write_text(json.dumps(report.to_dict(), allow_nan=False))
    page = write_page(tmp_path).read_text()
    assert write_page(tmp_path).read_text() == page
    assert_self_contained(page)
    assert "<b>" not in page
    text = visible_text(page)
    held_out = report.best_estimate.held_out
    assert "carry information about" in text
    assert f"The held-out error is {held_out:.3f}" in text
    for level in ("held-out error", "permuted labels", "majority class", "chance level"):
        assert level in text
    assert "target <b>0</b>" in text
    assert "Does pretraining help?Not tested" in text
    # Options that data of one's own may need are not known.
    assert "--source" not in text
    assert "repeat this with control=3" in text


def make_discrepancy(n_classes=3, names=None):
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(n_classes), 12)
    logits = rng.standard_normal((len(labels), n_classes + 4))
    logits[np.arange(len(labels)), labels] += 3
    result = estimate(logits, labels, permutations=19, splits=4, seed=0)
    names = names or [f"target {number}" for number in range(n_classes)]
    return DiscrepancyReport("vit-b", "photos", result, (), names, {"modgap": "0.1.0"}, 0.1)


def test_the_page_of_a_discrepancy_has_the_errors_by_class_and_the_confusion_matrix(tmp_path):
    report = make_discrepancy(names=["</script>", "=1+1", 'a "b", c'])
    report.write(tmp_path)
    page = write_page(tmp_path).read_text()
    assert_self_contained(page)
    text = visible_text(page)
    matrix = report.result.held_out_confusion
    for one in report.class_errors():
        assert f"{one.name} → {one.source_class}{one.error:.3f}{one.interval[0]:.3f}-{one.interval[1]:.3f}" in text
    table = re.search(r'<table class="confusion">.*?</table>', page, re.DOTALL)[0]
    cells = re.findall(r'<td class="num (right|wrong)"[^>]*>([^<]*)</td>', table)
    shown = [float(count.replace("·", "0")) for _, count in cells]
    np.testing.assert_allclose(shown, matrix.ravel(), atol=0.051)
    assert [kind == "right" for kind, _ in cells] == np.eye(3, dtype=bool).ravel().tolist()
    assert f"of {matrix.sum():g} held-out samples are classified correctly." in text


def test_a_confusion_matrix_of_many_classes_is_a_list_of_the_most_frequent_errors(tmp_path):
    report = make_discrepancy(30)
    report.write(tmp_path)
    page = write_page(tmp_path).read_text()
    assert '<table class="confusion">' not in page
    shares = re.search(r"Most frequent errors</bdi></h2>.*?</table>", page, re.DOTALL)[0]
    shown = [int(share) for share in re.findall(r"(\d+) %</bdi></td>", shares)]
    assert shown == sorted(shown, reverse=True)
    assert len(shown) == 20


@pytest.mark.parametrize(
    ("n_classes", "name", "css_class"),
    [
        (3, "cat", "confusion"),
        (10, "3", "confusion"),
        (12, "3", "confusion many"),
        (10, "a long name", "confusion tall"),
        (20, "a long name", "confusion many tall"),
    ],
)
def test_a_confusion_matrix_fits_its_page(tmp_path, n_classes, name, css_class):
    report = make_discrepancy(n_classes, [f"{name} {number}" for number in range(n_classes)])
    report.write(tmp_path)
    page = write_page(tmp_path).read_text()
    assert f'<table class="{css_class}">' in page
    assert ("A narrow screen shows the colors alone." in visible_text(page)) == ("many" in css_class)


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
    record = {**head, "request": {"maps": False}, "seconds": 3.0, "provenance": {"modgap": "0.1.0"}}
    return {**record, "answer": answer_of_record(record).to_dict()}


@pytest.mark.parametrize(
    ("value", "p_value", "expected"),
    [
        (0.3, 0.001, "Training loses source knowledge."),
        (0.3, 0.2, "No significant loss of source knowledge was measured."),
        (-0.3, 0.001, "No significant loss of source knowledge was measured."),
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


def test_a_distortion_without_a_trained_encoder_shows_no_loss(tmp_path):
    (tmp_path / "distortion.json").write_text(json.dumps(distortion_record(None)))
    assert "No run was measured, so this does not show a loss." in visible_text(write_page(tmp_path).read_text())


EXPECTED = (
    "A folder of results contains transfer.json (from modgap transfer), ranking.json (from modgap rank), "
    "result.json (from modgap discrepancy), "
    "distortion.json (from modgap distortion), run.json (from modgap train) or matrix.json (from modgap rank)."
)


def refusal(modgap, folder):
    """Return the one line with which `modgap report` refuses a folder."""
    done = modgap("report", folder)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_a_folder_without_results_is_told_what_it_needs(modgap, tmp_path):
    folder = tmp_path / "my results"
    example = f"Make one with `modgap discrepancy --source vit-fashion --target digits --out '{folder}'`."
    assert refusal(modgap, folder) == f"modgap: There is no folder {folder}. {EXPECTED} {example}\n"
    folder.mkdir()
    assert refusal(modgap, folder) == f"modgap: There are no results in {folder}. {EXPECTED} {example}\n"
    (folder / "result.json").write_text('{"kind": "ranking"}')
    assert f"{folder}/result.json is not the record of a discrepancy. {EXPECTED}" in refusal(modgap, folder)


def test_a_file_is_not_a_folder_of_results(modgap, tmp_path):
    (tmp_path / "photo.png").write_text("")
    assert f"photo.png is a file, not a folder of results. {EXPECTED}" in refusal(modgap, tmp_path / "photo.png")
    (tmp_path / "result.json").write_text("{}")
    message = refusal(modgap, tmp_path / "result.json")
    assert message.endswith(f"result.json is a file. Pass its folder: `modgap report {tmp_path}`.\n")


def test_a_folder_of_result_folders_names_them(modgap, tmp_path):
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "ranking.json").write_text("{}")
    commands = f"`modgap report {tmp_path}/a` or `modgap report {tmp_path}/b`"
    assert f"Pass one of them: {commands}." in refusal(modgap, tmp_path)


@pytest.mark.parametrize("name", ["result", "ranking", "distortion", "run", "matrix"])
def test_a_record_of_another_version_names_a_command_that_writes_one(modgap, tmp_path, name):
    kind = {"result": "discrepancy"}.get(name, name)
    path = tmp_path / f"{name}.json"
    path.write_text(json.dumps({"schema": 0, "kind": kind}))
    message = refusal(modgap, tmp_path)
    assert f"{path} was written by another version of modgap (schema 0; this one reads schema " in message
    assert message.endswith(f" --out {tmp_path}`.\n")


def test_a_record_without_its_answer_is_not_complete(modgap, tmp_path):
    (tmp_path / "ranking.json").write_text(json.dumps({"schema": SCHEMA, "kind": "ranking"}))
    assert "or is not complete. Run the command" in refusal(modgap, tmp_path)


@pytest.mark.parametrize(
    ("cells", "values", "ends"),
    [
        (("5 %", "61.3 %"), (5.0, 61.264), ("5 %", "61.3 %")),
        (("0.500", "0.612"), (0.5, 0.61264), ("0.500", "0.613")),
        (("21,300", "0.5"), (21_300.4, 0.5), ("0.500", "21,300")),
    ],
)
def test_the_ends_of_an_axis_have_the_unit_of_its_values(cells, values, ends):
    rows = [("a", cells[0]), ("b", cells[1]), ("c", "failed")]
    assert drawn_table(Table(("model", "error"), rows, marks=[*map(Mark, values), None]))["ends"] == ends


def test_a_cell_without_a_value_has_no_label_on_a_phone():
    narrow = render_ranking(make_ranking().to_dict()).partition("@media screen and")[2]
    assert ".rows .label:empty, .rows .label.none { display: none; }" in narrow


def test_the_page_of_a_transfer_says_what_p_compares():
    text = dict(TRANSFER_DEFINITIONS)["Test"]
    assert "The difference to the chosen model, its interval and p" in text
    assert "baseline" not in text


def test_commands_in_sentences_are_code():
    verdict = Verdict("More?", "Yes", INFO, "Go on with `modgap transfer --resume`.")
    answer = Answer(
        "?", (), "Use a.", (verdict,), notes=("A ` alone.",), commands=("echo '`a`'",), next_step="Use `b`."
    )
    page = render_answer(answer, {"provenance": {}}, "run.json", [], "1 s", [])
    text = re.sub("</?span[^>]*>", "", page)
    assert "Go on with <code>modgap transfer --resume</code>." in text
    assert "Use <code>b</code>." in text
    assert "A ` alone." in text
    assert "echo &#39;`a`&#39;" in text
