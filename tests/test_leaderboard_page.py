"""Page of a matrix: its sentences, its table, what its filters hide, hostile names and its size."""

import json
import re
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from modgap.answers.formatting import csv_text
from modgap.api.pages.leaderboard_page import render_leaderboard
from modgap.api.pages.write import write_page
from modgap.ranking.matrix.answer import headline, judge_matrix
from modgap.ranking.matrix.formats import SCHEMA
from modgap.ranking.matrix.over_targets import compare_over_targets, ranks_of
from modgap.storage.json_records import format_json, read_json
from tests.matrices import make_matrix, make_measure
from tests.test_report_page import assert_self_contained, visible_text

NODE = shutil.which("node")
SITE_RECORD = Path(__file__).parents[1] / "benchmarks" / "truth" / "zoo-matrix.json"
"""Record of the leaderboard of the documentation site."""


def page_of(matrix):
    return render_leaderboard(json.loads(format_json(matrix.to_dict())))


def example(n_sources=6, n_controls=2, n_targets=7, names=None):
    rng = np.random.default_rng(0)
    names = names or [f"source{i}" for i in range(n_sources)]
    controls = [f"random:{name}" for name in names[:n_controls]]
    size = (n_sources + n_controls, n_targets)
    strengths = np.linspace(1, -1, size[0])[:, None]
    values = strengths + rng.normal(size=size) * 0.2
    values[1, 2] = np.nan
    measures = [
        make_measure("leep-held-out", values),
        make_measure("knn", 0.5 - 0.2 * strengths + rng.normal(size=size) * 0.2, higher_is_better=False),
    ]
    targets = [f"/data/target{i}.npz" for i in range(n_targets)]
    reasons = {(names[1], targets[2]): "The source takes images."}
    return make_matrix(measures, [*names, *controls], targets, n_sources, reasons, failed=1)


@pytest.mark.skipif(NODE is None, reason="needs node")
def test_cells_of_a_copied_table_are_those_of_a_file():
    script = files("modgap.api.pages").joinpath("common.js").read_text()
    function = script[script.index("function csvCell") : script.index("function latexCell")]
    cells = ["-1", "+2.5e3", "-inf", "=1+1", "-x", "a,b", "@x", "'-1"]
    code = f"{function} console.log({json.dumps(cells)}.map(csvCell).join())"
    done = subprocess.run([NODE, "-e", code], capture_output=True, text=True, check=True)
    assert done.stdout == csv_text([cells])


def test_the_page_has_the_verdict_the_table_and_the_reasons():
    matrix = example()
    page = page_of(matrix)
    assert_self_contained(page)
    text = visible_text(page)
    assert headline(judge_matrix(matrix)) in text
    for expected in (
        "6 sources · 2 random-weights controls · 7 targets · ranked by held-out LEEP",
        "Held-out LEEP (higher is better)", "target0.npz",
        "source1 on target2.npz", "The source takes images.", "k-NN error (lower is better)", "300 k", "image · 300 k",
        "Do other scores agree? – k-NN error most of all",
    ):  # fmt: skip
        assert expected in text, expected
    cells = re.findall(r"<td(?: class=\"(best|empty)\")?(?: style=\"--p:(\d+)%\")?>(−?[\d.]+|–)</td>", page)
    assert len(cells) == 8 * 7
    assert sum(text == "–" for *_, text in cells) == 1
    framed = sum(css == "best" for css, *_ in cells)
    assert framed == matrix.first_measure.similar.sum()
    assert {share for _, share, _ in cells} >= {"100", ""}


def test_the_same_record_gives_the_same_bytes(tmp_path):
    (tmp_path / "matrix.json").write_text(format_json(example().to_dict()))
    first = write_page(tmp_path).read_bytes()
    assert write_page(tmp_path).read_bytes() == first


def test_the_site_can_render_its_leaderboard():
    record = read_json(SITE_RECORD)
    assert record["schema"] == SCHEMA
    page = render_leaderboard(record)
    assert_self_contained(page)
    assert record["answer"]["headline"] in visible_text(page)


def test_hostile_names_are_only_text():
    names = ["</script><img src=x onerror=alert(1)>", "=HYPERLINK(1)", "{{7*7}}", "\u202efdp.exe", "a" * 300, '"><svg>']
    page = page_of(example(names=names))
    assert_self_contained(page)
    assert "<img" not in page
    assert "49" not in visible_text(page).split()
    assert "\u202e" not in page
    assert "a" * 100 not in visible_text(page)


def test_filters_are_only_those_with_a_choice():
    page = page_of(example())
    assert {*re.findall(r'fieldset data-filter="(\w+)"', page)} == {"input", "samples", "weights"}
    alone = page_of(make_matrix([make_measure("leep", np.ones((1, 2)))], ["a"], ["t", "u"]))
    # Two targets of different kinds are left to choose from.
    assert {*re.findall(r'fieldset data-filter="(\w+)"', alone)} == {"samples"}
    assert 'id="size"' not in alone


def test_a_large_matrix_is_cut_to_the_size_of_a_page():
    matrix = example(n_sources=400, n_controls=30, n_targets=20)
    page = page_of(matrix)
    assert len(page) < 320_000
    assert "The first 150 of 430 rows are shown. All are in matrix.csv." in visible_text(page)
    assert 'class="heat-table many"' in page


def test_a_matrix_without_any_value_has_a_page():
    empty = make_matrix([make_measure("leep", np.full((2, 3), np.nan))], ["a", "b"], ["t", "u", "v"])
    assert "No source has a value" in visible_text(page_of(empty))


def test_where_targets_have_different_scores_each_is_named():
    record = example().to_dict()
    record["measures"][0].update(id="deciding", label="score that decides each target")
    record["measures"][0]["higher_is_better"][3] = False
    record["targets"][3]["score"] = "discrepancy"
    text = visible_text(render_leaderboard(record))
    assert "Score that decides each target" in text


def test_the_script_has_no_statistics():
    script = files("modgap.api.pages").joinpath("leaderboard.js").read_text(encoding="utf-8")
    for name in ("holm", "pValue", "signTest", "midRanks", "median", "Math.exp", "Math.log"):
        assert name not in script


def test_each_measure_has_the_ranks_and_letters_of_python():
    record = example().to_dict()
    first = record["measures"][0]
    sources = [row for row in record["sources"] if row["kind"] == "source"]
    assert first["mean_ranks"] == [row["mean_rank"] for row in sources]
    assert first["letters"] == [row["letters"] for row in sources]
    ranks = ranks_of(np.array(record["measures"][1]["values"], float)[:6], np.zeros(7, bool))
    order, standings = compare_over_targets(list("abcdef"), ranks)
    assert [record["measures"][1]["mean_ranks"][row] for row in order] == [one.mean_rank for one in standings]


PROGRAM = """
const data = %s;
const byId = () => ({});
const state = { measure: 0, rows: %s, targets: %s };
%s
console.log(JSON.stringify([isFiltered(), subsetCommand()]));
"""


@pytest.mark.skipif(NODE is None, reason="node is not installed")
@pytest.mark.parametrize(
    ("rows", "targets", "options", "expected"),
    [
        ([0, 1, 2], [0, 1], "", [False, "modgap rank --target t --target 'u v' --sources a --sources b"]),
        ([0, 1], [0, 1], "", [False, "modgap rank --target t --target 'u v' --sources a --sources b"]),
        ([1], [0, 1], "", [True, "modgap rank --target t --target 'u v' --sources b"]),
        ([0, 1], [1], "--by knn", [True, "modgap rank --target 'u v' --sources a --sources b --by knn"]),
        ([2], [0], "", [True, ""]),
        ([1], [0, 1], None, [True, ""]),
    ],
)
def test_a_filter_hides_ranks_and_gives_the_command_of_the_rest(rows, targets, options, expected):
    """The controls do not count, because they have no ranks. Where rows were left out there is no command."""
    data = {
        "rows": [{"kind": "source", "argument": "a"}, {"kind": "source", "argument": "b"}, {"kind": "control"}],
        "targets": [{"argument": "t"}, {"argument": "'u v'"}],
        "options": options,
    }
    script = files("modgap.api.pages").joinpath("leaderboard.js").read_text(encoding="utf-8")
    functions = script[script.index("function isFiltered") : script.index("function update")]
    program = PROGRAM % (json.dumps(data), rows, targets, functions)
    done = subprocess.run([NODE, "-e", program], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == expected
