"""Page of a matrix: its sentences, its table, its script's statistics against Python's, hostile names and its size."""

import json
import re
import shutil
import subprocess
from importlib.resources import files

import numpy as np
import pytest

from modgap.formatting import csv_text
from modgap.matrix.comparison import compare_over_targets, ranks_of, targets_needed
from modgap.matrix.formats import to_dict, to_json
from modgap.matrix.sentences import headline
from modgap.matrix.verdict import judge_matrix
from modgap.report_page.leaderboard_page import render_leaderboard
from modgap.report_page.write import write_page
from modgap.statistics.multiple_comparisons import MOST_LETTERED, group_letters
from tests.matrices import make_matrix, make_measure
from tests.test_report_page import assert_self_contained, visible_text

NODE = shutil.which("node")


def page_of(matrix):
    return render_leaderboard(json.loads(to_json(matrix)))


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
    return make_matrix(measures, [*names, *controls], targets, n_sources, reasons, missing=3, failed=1)


@pytest.mark.skipif(NODE is None, reason="needs node")
def test_cells_of_a_copied_table_are_those_of_a_file():
    script = files("modgap.report_page").joinpath("common.js").read_text()
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
        "Held-out LEEP (higher is better)", "Not in the cache: 3 jobs", "target0.npz",
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
    (tmp_path / "matrix.json").write_text(to_json(example()))
    first = write_page(tmp_path).read_bytes()
    assert write_page(tmp_path).read_bytes() == first


def test_hostile_names_are_only_text():
    names = ["</script><img src=x onerror=alert(1)>", "=HYPERLINK(1)", "{{7*7}}", "\u202efdp.exe", "a" * 300, '"><svg>']
    page = page_of(example(names=names))
    assert_self_contained(page)
    assert "<img" not in page
    assert "49" not in visible_text(page).split()
    assert "\u202e" not in page
    assert "a" * 100 not in page


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
    record = to_dict(example())
    record["measures"][0].update(id="deciding", label="score that decides each target")
    record["measures"][0]["higher_is_better"][3] = False
    record["targets"][3]["score"] = "discrepancy"
    text = visible_text(render_leaderboard(record))
    assert "Score that decides each target" in text
    assert "ranked by score that decides each target" in text


def run_script(calls):
    """Evaluate compareOverTargets of the page's script for each pair of values and directions."""
    script = files("modgap.report_page").joinpath("rank_statistics.js").read_text(encoding="utf-8")
    program = (
        f"{script}\nconst calls = JSON.parse(require('fs').readFileSync(0, 'utf8'));"
        f"const compare = ([values, higher]) => compareOverTargets(values, higher, {MOST_LETTERED});"
        "console.log(JSON.stringify(calls.map(compare)));"
    )
    done = subprocess.run([NODE, "-e", program], input=json.dumps(calls), capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.skipif(NODE is None, reason="node is not installed")
def test_the_script_gives_the_letters_of_python_for_any_pairs():
    """Thirty pairs make 2**30 groups; the search for letters ends at the first group beyond the alphabet."""
    rng = np.random.default_rng(2)
    script = files("modgap.report_page").joinpath("rank_statistics.js").read_text(encoding="utf-8")
    tables = [np.triu(rng.random((size, size)) < rng.random(), 1) for size in (0, 1, 3, 8, 12, 12)]
    tables.append(np.triu(np.kron(np.eye(30, dtype=bool), np.ones((2, 2), bool)), 1))
    calls = [[len(table), np.argwhere(table).tolist()] for table in tables]
    program = f"{script}\nconsole.log(JSON.stringify({json.dumps(calls)}.map((call) => groupLetters(...call))));"
    done = subprocess.run([NODE, "-e", program], capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(done.stdout) == [group_letters(table | table.T) for table in tables]


@pytest.mark.skipif(NODE is None, reason="node is not installed")
def test_the_script_gives_the_ranks_and_letters_of_python():
    rng = np.random.default_rng(0)
    matrices = []
    for n_sources, n_targets in [(2, 6), (5, 9), (9, 13), (10, 10), (12, 20), (8, 29), (7, 40), (4, 3), (1, 8)] * 4:
        higher = rng.random(n_targets) < 0.5
        strengths = np.linspace(0, 3, n_sources)[:, None] * np.where(higher, 1, -1)
        values = rng.normal(size=(n_sources, n_targets)) + strengths
        values = values.round(1) if rng.random() < 0.5 else values
        values[rng.random(values.shape) < rng.choice([0, 0.02])] = np.nan
        matrices.append((values, higher))
    calls = [
        ([[None if np.isnan(one) else one for one in row] for row in values.tolist()], higher.tolist())
        for values, higher in matrices
    ]
    lettered = 0
    for (values, higher), found in zip(matrices, run_script(calls), strict=True):
        ranks = ranks_of(values, higher)
        order, standings = compare_over_targets([str(i) for i in range(len(values))], ranks)
        assert found["order"] == order
        assert [found["means"][i] for i in order] == pytest.approx([one.mean_rank for one in standings])
        assert [found["letters"][i] for i in order] == [one.letters for one in standings]
        n_complete = int(np.isfinite(ranks).all(axis=1).sum())
        assert found["needed"] == targets_needed(max(2, n_complete))
        lettered += len({one.letters for one in standings}) > 2
    assert lettered >= 8
