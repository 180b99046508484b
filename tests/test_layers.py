"""Scores of layers: curves, the choice on one half that is judged on the other, the table and the figure."""

import json

import numpy as np
import pytest

from modgap import rank
from modgap.errors import UsageError
from modgap.ranking.figures import layer_caption, layer_figure, planned_figures
from modgap.ranking.layers import choose_layer, is_better, layer_finding, layer_row
from modgap.ranking.source_patterns import parse_layers
from modgap.statistics.intervals import SampleErrors
from tests.commands import run_in_process
from tests.figure_checks import bands

ALL_LAYERS = {"limit": 200, "resamples": 0, "baselines": "none", "controls": False, "jobs": 1}


@pytest.fixture(scope="module")
def ranking():
    return rank("digits", ["vit-fashion"], layers="all", scores=["logme", "linear-probe"], **ALL_LAYERS)


def errors_of(values, units=None):
    size = values.shape[-1]
    weights = np.full(size, 1 / size)
    return [
        SampleErrors(one, weights, np.arange(size) if units is None else units, np.array([one.mean()]), None, 0)
        for one in values
    ]


def test_the_last_layer_is_what_the_ranking_scores(ranking):
    (curve,) = ranking.layers
    assert curve.numbers == tuple(range(1, curve.n_layers + 1))
    assert curve.n_layers == 6
    assert curve.names[-1] == "output"
    for name in ("linear-probe", "logme"):
        assert len(curve.values[name]) == curve.n_layers
        assert curve.values[name][-1] == pytest.approx(ranking.tables[name].standings.values[0], rel=1e-9)
    for value, (low, high) in zip(curve.values["linear-probe"], curve.intervals, strict=True):
        assert low <= value <= high
    errors = curve.values["linear-probe"]
    # Two layers may have the same error up to rounding.
    assert errors[curve.choice.best - 1] == pytest.approx(min(errors), abs=1e-12)
    assert sum(curve.choice.shares) == pytest.approx(1)


def test_some_layers_have_the_values_that_they_have_among_all(ranking):
    some = rank("digits", ["vit-fashion"], layers="2,6", scores=["logme", "linear-probe"], **ALL_LAYERS)
    (curve,), (whole,) = some.layers, ranking.layers
    assert curve.numbers == (2, 6)
    for name, values in curve.values.items():
        assert values == (whole.values[name][1], whole.values[name][5])
    assert some.jobs["layers"] == (1, 0, 0)
    again = rank("digits", ["vit-fashion"], layers="3", scores=["logme"], **ALL_LAYERS)
    assert again.jobs["layers"] == (0, 1, 0)
    # The last layer is always there, because the others are compared with it.
    assert again.layers[0].numbers == (3, 6)


def test_a_layer_that_is_not_there_is_a_reason():
    (curve,) = rank("digits", ["vit-fashion"], layers="7", scores=["size"], by="size", **ALL_LAYERS).layers
    assert curve.reason == "The source has 6 layers, and layer 7 was requested."


def test_a_layer_is_chosen_and_judged_as_by_hand():
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 4
    values = rng.random((3, 40))
    values[1] -= 0.3
    choice = choose_layer(errors_of(values), labels, 0)
    assert choice.best == 1
    assert choice.shares[1] > 0.8
    assert choice.last_error == pytest.approx(values[2].mean())
    assert choice.difference.value == pytest.approx(choice.error - choice.last_error)
    # Two layers of which one is always lower: the choice is never in doubt, and the judged error is its mean.
    sure = choose_layer(errors_of(np.array([np.full(40, 0.2), np.full(40, 0.5)])), labels, 0)
    assert (sure.best, sure.shares, sure.error) == (0, (1.0, 0.0), pytest.approx(0.2))


@pytest.mark.parametrize("grouped", [False, True])
def test_equal_layers_differ_by_chance_alone(grouped):
    """The lowest of eight errors looks better than the last, but not on samples that it was not chosen on."""
    rng = np.random.default_rng(1)
    labels = np.arange(96) % 4
    units = np.arange(96) // 4 if grouped else None
    p_values, lowest = [], []
    for _ in range(300):
        values = rng.random((8, 96)) < 0.4
        choice = choose_layer(errors_of(values.astype(float), units), labels, 0)
        p_values.append(choice.difference.p_value)
        lowest.append(values.mean(axis=1).min() - values[-1].mean())
    rate = np.mean(np.array(p_values) <= 0.05)
    assert rate <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 300)
    assert np.mean(lowest) < -0.05
    assert is_better_at_all(rng, labels, units)


def is_better_at_all(rng, labels, units):
    values = np.vstack([rng.random((1, 96)) < 0.1, rng.random((1, 96)) < 0.6]).astype(float)
    choice = choose_layer(errors_of(values, units), labels, 0)
    return choice.difference.value < 0 and choice.difference.p_value < 0.05


def test_nothing_to_choose_is_no_choice():
    labels = np.arange(12) % 2
    assert choose_layer(errors_of(np.zeros((1, 12))), labels, 0) is None
    assert choose_layer(errors_of(np.zeros((2, 12))), np.zeros(12, int), 0) is None


@pytest.mark.parametrize(("text", "wanted"), [("last", None), ("all", ()), ("2", (2,)), ("4, 2,2", (2, 4))])
def test_numbers_of_layers(text, wanted):
    assert parse_layers(text) == wanted


@pytest.mark.parametrize("text", ["", "0", "-1", "2,", "first", "1.5", "²", "99999"])
def test_numbers_that_are_none(text):
    with pytest.raises(UsageError, match="Expected last, all, or numbers of layers"):
        parse_layers(text)


def test_the_figure_has_the_finding_and_exact_values(ranking):
    assert [figure.name for figure in planned_figures(ranking)] == ["ranking", "layers"]
    figure = layer_figure(ranking)
    (axes,) = figure.axes
    (curve,) = ranking.layers
    line = axes.lines[0]
    np.testing.assert_allclose(line.get_ydata(), curve.values["linear-probe"])
    assert line.get_xdata()[-1] == 100
    (band,) = bands(axes)
    depths = [100 * number / curve.n_layers for number in curve.numbers]
    assert band == {depth: pytest.approx(ends) for depth, ends in zip(depths, curve.intervals, strict=True)}
    titles = " ".join(text.get_text() for text in figure.texts)
    assert layer_finding([curve]).split()[-1] in titles
    assert f"{curve.choice.error:.3f}" in layer_caption(ranking)
    assert ("does better" in layer_finding([curve])) == is_better(curve)
    assert layer_row(curve)[0] == "vit-fashion"


@pytest.mark.long
def test_the_command_writes_record_table_and_figure(tmp_path):
    done = run_in_process(
        "rank", "--sources", "vit-fashion", "--target", "digits", "--limit", "200", "--layers", "all", "--no-controls",
        "--baselines", "none", "--jobs", "1", "--resamples", "0", "--by", "linear-probe",
        "--score", "linear-probe",        "--out", str(tmp_path / "out"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Error of a linear probe by layer" in done.stdout
    record = json.loads((tmp_path / "out/ranking.json").read_text())
    assert [len(curve["numbers"]) for curve in record["layers"]] == [6]
    assert record["layers"][0]["choice"]["difference"]["n_units"] > 100
    assert (tmp_path / "out/layers.png").is_file()
    assert "linear probe" in (tmp_path / "out/layers.txt").read_text()


@pytest.mark.parametrize(
    "damage",
    [5, [5], {}, "x", {"tables": 5}, {"tables": [{}]}, {"verdicts": [3]}, {"checks": "x"}, {"more": 1}],
    ids=str,
)
def test_a_page_of_a_damaged_answer_is_refused(ranking, tmp_path, damage):
    record = ranking.to_dict()
    (tmp_path / "ranking.json").write_text(json.dumps(record))
    assert run_in_process("report", tmp_path).returncode == 0
    assert "The layer is chosen on one half of the samples" in (tmp_path / "report.html").read_text(encoding="utf-8")
    damaged = {**record["answer"], **damage} if isinstance(damage, dict) and damage else damage
    (tmp_path / "ranking.json").write_text(json.dumps({**record, "answer": damaged}))
    done = run_in_process("report", tmp_path)
    assert done.returncode == 1
    assert "is incomplete or damaged" in done.stderr
