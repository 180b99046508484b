"""Result figures: every text can be read, names are never markup, and titles compare only what differs."""

import ast
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure

import modgap
from modgap.answers.figures.files import save_figure
from modgap.answers.figures.labels import spread_labels
from modgap.answers.figures.style import title_lines, wrap_text
from modgap.discrepancy import result as results
from modgap.discrepancy.class_errors import classes_csv
from modgap.discrepancy.displayed import DiscrepancyResult
from modgap.discrepancy.figures import (
    classes_caption,
    discrepancy_caption,
    plot_classes,
    plot_discrepancy,
)
from modgap.discrepancy.result import Control, Discrepancy, Estimate
from modgap.discrepancy.search import Search
from modgap.discrepancy.target_figures import (
    _differences_title as differences_title,
)
from modgap.discrepancy.target_figures import (
    plot_sources_on_targets,
    plot_targets,
    targets_frame,
)
from modgap.distortion.encoders import Encoder
from modgap.distortion.grid import grid_cells
from modgap.distortion.probe_cross_validation import FewShotCurve
from modgap.distortion.probe_figures import few_shot_caption, few_shot_figure, probe_caption, probe_figure
from modgap.errors import InputError, UsageError
from modgap.ranking.figures import figure_title, ranking_caption, ranking_figure
from modgap.ranking.judgment import judge
from modgap.ranking.recommendation import headline
from modgap.ranking.scores import get_score
from modgap.ranking.standings import compute_standings
from modgap.ranking.types import BASELINE, CONTROL, SOURCE, Ranking, RankRequest, ScoreTable, SourceRow, TargetSummary
from modgap.statistics.intervals import SampleErrors, wilson_interval
from modgap.statistics.paired import PairedDifference
from modgap.statistics.permutations import NullDistribution
from tests.figure_checks import all_text, assert_readable, bands, intervals, marks

pytestmark = pytest.mark.filterwarnings("error:Glyph")

ROOT = Path(__file__).parents[1]
WITHOUT_INTERVALS = {"map_grid", "race_figure", "similarity_heat_map", "time_figure"}
"""Figures of values that have no intervals."""
HOSTILE_NAMES = [
    r"$\frac{a}{b}$",
    "🦆 duck",
    "汉字",
    "_leading underscore",
    "W" * 300,
    "a\nline break",
    "",
    "x" * 299 + "y",
]


def confusion(k, n_each=20, accuracy=None):
    """Return a confusion matrix whose classes are predicted correctly with falling frequency."""
    rng = np.random.default_rng(k)
    accuracy = np.linspace(0.95, 0.05, k) if accuracy is None else accuracy
    matrix = np.zeros((k, k))
    for row in range(k):
        n_correct = round(accuracy[row] * n_each)
        matrix[row, row] = n_correct
        others = rng.integers(1, k, n_each - n_correct)
        np.add.at(matrix[row], (row + others) % k, 1)
    return matrix


def discrepancy_report(matrix, source="efficientnet-lite0", target="fashion-mnist", names=None, groups=None):
    k = len(matrix)
    n = int(matrix.sum())
    n_errors = round(n - matrix.trace())
    held_out = n_errors / n
    null = NullDistribution(1 - 1 / k, 0.02, 0.05, 19, 19)
    solution = Search(held_out, tuple(range(k)))
    interval = wilson_interval(n_errors, n)
    estimate = Estimate(solution, held_out, interval, 0.02, null, null, 0.5)
    result = Discrepancy(
        n_samples=n,
        n_groups=groups,
        n_source_classes=1000,
        n_target_classes=k,
        n_tested_classes=k,
        n_unlabeled=0,
        n_untested=0,
        weighting="samples",
        splits=20,
        per_class=None,
        chance=1 - 1 / k,
        prior=1 - 1 / k,
        floor=0.0,
        relative_entropy=None,
        matched_temperature=None,
        leep=None,
        leep_interval=None,
        permuted_error=null.mean,
        permutations_for="search",
        permutations_by="shuffle",
        is_ordered=False,
        estimates={"search": estimate},
        k_way=None,
        seed=0,
        seconds={},
        held_out_confusion=matrix,
    )
    target_names = names or [f"target class {number:03}" for number in range(k)]
    source_names = names or [f"source class {number}" for number in range(1000)]
    return DiscrepancyResult(source, target, result, source_names, target_names, {}, 0.0)


@pytest.mark.parametrize("k", [2, 10, 24, 25, 50, 200])
def test_figures_of_a_discrepancy_are_readable_with_few_and_many_classes(k):
    report = discrepancy_report(confusion(k))
    assert_readable(plot_classes(report))
    assert_readable(plot_discrepancy(report))


def formats_of(name):
    """Return one format for a name; the figures with all names are written in all formats."""
    return (("png", "svg", "pdf")[HOSTILE_NAMES.index(name) % 3],)


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_hostile_names_are_drawn_as_text_in_the_figure_of_a_discrepancy(name, tmp_path):
    report = discrepancy_report(confusion(8), source=name, target=name, names=HOSTILE_NAMES)
    figure = plot_discrepancy(report)
    assert_readable(figure)
    save_figure(figure, tmp_path / "figure", classes_caption(report), formats_of(name))


def test_hostile_names_of_classes_are_drawn_as_text(tmp_path):
    report = discrepancy_report(confusion(8), source=HOSTILE_NAMES[0], target=HOSTILE_NAMES[2], names=HOSTILE_NAMES)
    figure = plot_classes(report)
    assert_readable(figure)
    save_figure(figure, tmp_path / "figure", classes_caption(report), ("png", "svg", "pdf"))
    text = all_text(figure)
    assert "class 1" in text  # The duck cannot be drawn.
    assert r"\frac" in text


def test_more_than_24_classes_show_both_ends_and_a_histogram():
    report = discrepancy_report(confusion(30))
    text = all_text(plot_classes(report))
    assert "6 classes between" in text
    assert classes_csv(report.result, report.best_map()).count("\n") == 31
    assert "classes.csv" in classes_caption(report)


def test_the_error_of_a_class_is_its_share_off_the_diagonal():
    matrix = np.array([[8.0, 2, 0], [0, 5, 5], [0, 0, 0]])
    best, second = discrepancy_report(matrix).class_errors()
    assert (best.error, best.n_samples, best.confused_with, best.confused_share) == (0.2, 10, 1, 0.2)
    assert best.interval == wilson_interval(2, 10)
    assert best.baseline == pytest.approx(1 - 8 / 20)
    assert (second.error, second.confused_with) == (0.5, 2)
    assert "1 class has only one sample" in classes_caption(discrepancy_report(matrix))


@pytest.mark.parametrize(
    ("accuracy", "floor", "title"),
    [
        ([1.0, 1.0, 0.05], 0.0, "The map beats the baseline on 2 of 3 classes of fashion-mnist"),
        ([0.3, 0.3, 0.3], 0.0, "It is not shown that the map beats the baseline on any of 3 classes"),
        ([0.95, 0.95, 0.95], 0.1, "Held-out errors of 3 classes of fashion-mnist"),
    ],
)
def test_the_title_of_the_classes_counts_those_below_their_baseline(accuracy, floor, title):
    matrix = confusion(3, accuracy=accuracy)
    report = discrepancy_report(matrix)
    # A floor above 0 stands for samples with several labels, whose classes are not compared with a baseline.
    report = replace(report, result=replace(report.result, floor=floor))
    assert title in all_text(plot_classes(report))


def test_small_classes_are_marked_as_unreliable():
    matrix = confusion(3)
    matrix[2] = [1, 0, 2]
    text = all_text(plot_classes(discrepancy_report(matrix)))
    assert "n = 3" in text
    assert "results are unreliable" in text.replace("\n", " ")


def test_a_source_that_is_not_significantly_better_is_not_said_to_know_something():
    report = discrepancy_report(confusion(4))
    object.__setattr__(report.best_estimate, "held_out_null", NullDistribution(0.75, 0.1, 0.3, 19, 19))
    text = all_text(plot_discrepancy(report)).replace("\n", " ")
    assert "It is not shown that efficientnet-lite0 knows anything about fashion-mnist" in text
    assert "p = 0.3" in discrepancy_caption(report)


def with_control(report, value, p_value, n=3):
    """Return a report with random-weights controls that have a held-out error and a p-value of the difference."""
    difference = PairedDifference(report.best_estimate.held_out - value, (-0.1, 0.1), p_value, 0.05, 400)
    control = Control(
        "random:efficientnet-lite0",
        "search",
        n,
        value,
        (value - 0.03, value + 0.03),
        (value,) * n,
        0.0,
        difference,
        0.1,
    )
    return replace(report, result=replace(report.result, control=control))


@pytest.mark.parametrize("k", [2, 10, 200])
@pytest.mark.parametrize(
    ("value", "p_value", "title"),
    [
        (0.74, 0.001, "knows something about fashion-mnist: its error is 0.500, with random weights 0.740"),
        (0.2, 0.001, "On fashion-mnist, random weights are better than the pretrained efficientnet-lite0"),
        (0.51, 0.6, "It is not shown that pretraining helps efficientnet-lite0 on fashion-mnist"),
    ],
)
def test_the_control_of_a_discrepancy_is_a_step_in_its_figure(k, value, p_value, title):
    report = with_control(discrepancy_report(confusion(k)), value, p_value)
    if k == 2:  # The error is that of the majority class.
        report = replace(report, result=replace(report.result, prior=0.7))
    figure = plot_discrepancy(report)
    assert_readable(figure)
    text = all_text(figure).replace("\n", " ")
    assert title in text
    difference = round(0.5 - value, 2)
    assert f"pretraining {difference:+.2f}".replace("-", "−") in text


def target_report(error, n_each=100, target="digits", k=4, **options):
    """Return a report with the errors of the samples, so that two reports can be compared sample by sample."""
    report = discrepancy_report(confusion(k, n_each, np.full(k, 1 - error)), target=target, **options)
    wrong = np.tile(np.arange(n_each) < round(error * n_each), (k, 1)).astype(float)
    wrong = np.random.default_rng(round(1000 * error)).permuted(wrong, axis=1).ravel()
    n = len(wrong)
    errors = SampleErrors(wrong, np.ones(n), np.arange(n), np.full(5, wrong.mean()), None, 0)
    tested = results.TestedSamples(np.arange(n), np.repeat(np.arange(k), n_each), None, {"search": errors})
    return replace(report, result=replace(report.result, tested_samples=tested))


def target_series(count, shift=0.0, k=4):
    return [target_report(0.3 + 0.3 * t / count + shift * (t % 2), 50, f"target {t}", k) for t in range(count)]


@pytest.mark.parametrize(
    ("count", "k"), [(1, 2), (3, 10), (12, 4), pytest.param(60, 2, marks=pytest.mark.long), (2, 200)]
)
def test_figures_of_targets_are_readable(count, k):
    reports = target_series(count, k=k)
    assert_readable(plot_targets(reports, target_series(count, 0.3, k)))
    assert_readable(plot_targets(reports))
    assert_readable(plot_targets(reports, [None] + [target_report(0.5, target=r.target) for r in reports[1:]]))


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_hostile_names_are_drawn_as_text_in_the_figure_of_targets(name):
    reports = [target_report(0.3, target=name, source=name), target_report(0.4)]
    controls = [target_report(0.6, target=name), None]
    assert_readable(plot_targets(reports, controls, (name, name)))


@pytest.mark.parametrize(
    ("errors", "title"),
    [
        ([(0.3, 0.6), (0.5, 0.52)], "Lower error than one random initialization on 1 of 2 targets"),
        ([(0.3, 0.6), (0.6, 0.3)], "Lower error than one random initialization on 1 of 2 targets and higher on 1"),
        ([(0.6, 0.3), (0.5, 0.5)], "Higher error than one random initialization on 1 of 2 targets"),
        (
            [(0.5, 0.52), (0.5, 0.48)],
            "It is not shown that the error differs from that of one random initialization on 2 targets",
        ),
        ([(0.3, 0.6)], "Lower error than one random initialization on t0"),
        ([(0.5, None), (0.6, None)], "Held-out error on 2 targets"),
    ],
)
def test_the_title_of_targets_counts_only_significant_differences(errors, title):
    reports = [target_report(error, target=f"t{number}") for number, (error, _) in enumerate(errors)]
    controls = [
        None if other is None else target_report(other, target=f"t{number}") for number, (_, other) in enumerate(errors)
    ]
    assert title in all_text(plot_targets(reports, controls)).replace("\n", " ")


@pytest.mark.parametrize(
    ("error", "cause", "title"),
    [
        (0.3, None, "Lower error than 2 random initializations on t0"),
        (0.55, None, "It is not shown that the error differs from that of 2 random initializations on t0"),
        (0.55, "MoNA", "It is not shown that MoNA changes the error on t0"),
    ],
)
def test_titles_name_the_number_of_initializations_and_the_cause_as_it_is_written(error, cause, title):
    frame = targets_frame([target_report(error, target="t0")], [target_report(0.56, target="t0")])
    frame.loc[frame["series"] == "random weights", "initializations"] = 2
    assert differences_title(frame, cause, "on t0", "") == title


def test_the_name_of_the_majority_class_stands_above_its_mark():
    report = target_report(0.57, 40)
    figure = plot_targets([report], [target_report(0.58, 40)], ("a long name of a series", "another long name"))
    label = next(text for text in figure.axes[0].texts if text.get_text() == "majority class")
    assert label.get_position()[0] == report.result.prior


def test_the_printed_difference_is_that_of_the_printed_errors():
    text = all_text(plot_targets([target_report(0.505, 1000)], [target_report(0.743, 1000)]))
    assert "\N{MINUS SIGN}0.24" in text or "\N{MINUS SIGN}0.23" in text


def test_targets_that_do_not_match_raise_an_error():
    with pytest.raises(UsageError, match="At least one is needed"):
        plot_targets([])
    with pytest.raises(UsageError, match="Expected the same as the reports"):
        plot_targets([target_report(0.5)], [target_report(0.5, target="other")])
    report = target_report(0.5)
    object.__setattr__(report.best_estimate, "held_out", None)
    with pytest.raises(InputError, match="no held-out error"):
        plot_targets([report])


def sources_on_targets(count, n_targets, shift=0.3, names=None):
    names = names or [f"source-{number}" for number in range(count)]
    return {name: (target_series(n_targets), target_series(n_targets, shift)) for name in names}


@pytest.mark.parametrize(("count", "n_targets"), [(1, 2), (3, 7), (4, 4), (12, 7)])
def test_figures_of_several_sources_are_readable(count, n_targets):
    sources = sources_on_targets(count, n_targets)
    figure = plot_sources_on_targets(sources)
    assert_readable(figure)
    n_different = count * (n_targets // 2)
    pairs = f"{n_different} of {count * n_targets} pairs of source and target"
    text = all_text(figure)
    assert f"Lower error than one random initialization for {pairs}" in text.replace("\n", " ")
    assert len(figure.axes) == (count if count <= 3 else 1)
    assert "source-0" in text


def test_hostile_names_are_drawn_as_text_in_the_figure_of_several_sources():
    for names in (HOSTILE_NAMES[:3], HOSTILE_NAMES):
        assert_readable(plot_sources_on_targets(sources_on_targets(0, 3, names=names)))


def test_several_sources_share_one_order_of_the_targets():
    reports, controls = target_series(4), target_series(4, 0.3)
    figure = plot_sources_on_targets({"a": (reports, controls), "b": (reports[::-1], controls[::-1])})
    first, second = (marks(axes, "o") for axes in figure.axes)
    assert first == second
    assert len(first) == 4
    with pytest.raises(UsageError, match="not of the same targets"):
        plot_sources_on_targets({"a": (reports, controls), "b": (reports[:2], controls[:2])})
    with pytest.raises(UsageError, match="At least one is needed"):
        plot_sources_on_targets({})


def test_results_are_drawn_with_their_controls_in_one_figure():
    one = [target_report(0.3, target=name, source="a") for name in ("t0", "t1")]
    control = target_report(0.6, target="t0", source="random:a")
    figure = modgap.plot_discrepancies([*one, control])
    assert_readable(figure)
    assert "Lower error than one random initialization on t0" in all_text(figure)
    other = [target_report(0.5, target=name, source="b") for name in ("t1", "t0")]
    several = modgap.plot_discrepancies([*one, *other, control])
    assert len(several.axes) == 2
    assert "Lower error than one random initialization for 1 of 1 pairs" in all_text(several).replace("\n", " ")
    # From four sources on it is a table of differences, in which a cell without a control has a dash.
    more = [target_report(0.4, target=name, source=source) for source in ("c", "d") for name in ("t0", "t1")]
    table = modgap.plot_discrepancies([*one, *other, *more, control])
    assert "\N{EN DASH}" in all_text(table).split()
    alone = modgap.plot_discrepancies([control])
    assert "Held-out error of the best map of random:a" in all_text(alone)


def test_a_control_that_was_measured_with_its_source_is_drawn():
    report = with_control(target_report(0.5), 0.7, 0.001)
    text = all_text(modgap.plot_discrepancies([report]))
    assert "Pretraining lowers the error on digits" in text
    assert "\N{MINUS SIGN}0.20" in text
    few = all_text(modgap.plot_discrepancies([with_control(target_report(0.5), 0.7, 0.001, n=1)]))
    assert "Lower error than one random initialization on digits" in few


def test_results_that_do_not_belong_in_one_figure_raise_an_error():
    with pytest.raises(UsageError, match="Pass at least one"):
        modgap.plot_discrepancies([])
    with pytest.raises(UsageError, match="Two results are of a on digits"):
        modgap.plot_discrepancies([target_report(0.3, source="a"), target_report(0.4, source="a")])
    with pytest.raises(UsageError, match="not of the same targets"):
        modgap.plot_discrepancies([target_report(0.3, source="a"), target_report(0.4, source="b", target="other")])


def test_spread_labels_do_not_overlap_and_stay_inside():
    centers = spread_labels([0.9, 0.92, 0.95], [0.2, 0.2, 0.2], 0.0, 1.0, 0.05)
    assert centers[2] <= 0.9
    assert np.diff(centers).min() >= 0.25 - 1e-6


SCORES = ("leep", "logme", "transrate", "parc", "h-score-shrunk", "linear-probe", "knn")


def ranking_of(
    values, by="discrepancy", scores=(), controls=None, names=None, spread=0.02, resamples=50, baseline=None
):
    """Return a ranking of sources with these values, whose subsamples vary independently by the spread."""
    rng = np.random.default_rng(len(values))
    values = np.asarray(values, float)
    names = names or [f"timm:resnet{number}.a{number % 7}_in1k" for number in range(len(values))]
    rows = [SourceRow(name, SOURCE) for name in names]
    if controls is not None:
        rows += [SourceRow(f"random:{name}", CONTROL, requested=False) for name in names]
        values = np.concatenate([values, controls])
    if baseline is not None:
        rows.append(SourceRow("baseline:linear", BASELINE, requested=False))
        values = np.append(values, baseline)
    tables = {}
    for name in (by, *scores):
        score = get_score(name)
        used = values if name == by else rng.permutation(values)
        resampled = used[:, None] + spread * rng.standard_normal((len(used), resamples))
        standings = compute_standings(used, resampled, higher_is_better=score.higher_is_better)
        is_source = np.array([row.kind == SOURCE for row in rows])
        among = standings.among(is_source)
        tables[name] = ScoreTable(name, score.higher_is_better, standings, among, ("",) * len(rows))
    target = TargetSummary("mnist5k", "classification", 300, 10, None, 0.1, 30, 2.303)
    request = RankRequest(resamples=resamples)
    return Ranking(target, tuple(rows), tables, by, request, {}, {})


@pytest.mark.parametrize(
    ("count", "scores"), [(1, ()), (3, SCORES), (12, (*SCORES, "nce", "n-leep", "gbc")), (13, ()), (60, SCORES)]
)
def test_figures_of_rankings_are_readable_with_few_and_many_sources(count, scores):
    values = np.linspace(0.35, 0.8, count)
    assert_readable(ranking_figure(ranking_of(values, scores=scores, controls=np.minimum(values + 0.1, 0.9))))
    assert_readable(ranking_figure(ranking_of(values, scores=scores, spread=0.2)))


@pytest.mark.parametrize(("by", "values"), [("leep", [-0.2, -1.7, -2.3]), ("size", [3.1e7, 1e6, 9.9e8])])
def test_rankings_by_scores_that_are_not_errors_are_readable(by, values):
    figure = ranking_figure(ranking_of(values, by=by, scores=("knn",), spread=0.01 * abs(values[0])))
    assert_readable(figure)
    assert "higher is better" in all_text(figure)
    assert "majority class" not in all_text(figure)


@pytest.mark.parametrize(
    ("by", "label"),
    [("leep", "no information"), ("discrepancy", "chance level"), ("knn", "majority class"), ("size", None)],
)
def test_the_ranking_shows_the_value_of_a_source_without_information(by, label):
    ranking = ranking_of([0.3, 0.5, 0.6], by=by)
    text = all_text(ranking_figure(ranking))
    assert [name for name in ("no information", "chance level", "majority class") if name in text] == (
        [label] if label else []
    )
    assert ("The dashed line is the" in ranking_caption(ranking)) == bool(label)


def test_hostile_names_are_drawn_as_text_in_the_ranking(tmp_path):
    values = np.linspace(0.3, 0.6, len(HOSTILE_NAMES))
    ranking = ranking_of(values, names=HOSTILE_NAMES, controls=list(values + 0.1), scores=("knn",))
    figure = ranking_figure(ranking)
    assert_readable(figure)
    save_figure(figure, tmp_path / "ranking", ranking_caption(ranking), ("png", "svg", "pdf"))


@pytest.mark.parametrize(
    ("values", "options"),
    [
        ([0.3, 0.5, 0.6], {}),
        ([0.3, 0.301, 0.6], {}),
        ([0.3, 0.3, 0.301, 0.6], {}),
        ([0.3, 0.5], {"resamples": 0}),
        ([0.3], {}),
    ],
)
def test_the_title_of_a_ranking_is_its_headline(values, options):
    ranking = ranking_of(values, names=["a", "b", "c", "d"][: len(values)], **options)
    title = headline(judge(ranking)).removesuffix(".")
    assert title in all_text(ranking_figure(ranking)).replace("\n", " ")


@pytest.mark.parametrize("n_words", range(20))
def test_a_no_break_space_does_not_end_a_line(n_words):
    number = "95\N{NO-BREAK SPACE}%"
    lines = wrap_text(f"{'of ' * n_words}{number} and more", 1.5, 9)
    assert sum(number in line for line in lines) == 1


def test_a_title_with_long_names_has_two_lines():
    names = [letter * 40 for letter in "NABC"]
    title = figure_title(ranking_of([0.3, 0.5, 0.6, 0.7], names=names))
    assert len(title_lines(title)) <= 2
    assert "First check" not in title


def test_sources_below_the_first_20_share_a_row():
    text = all_text(ranking_figure(ranking_of(np.linspace(0.2, 0.8, 60), spread=0.001)))
    assert "40 more sources" in text
    assert "Sources 21 to 60 share one row" in text
    text = all_text(ranking_figure(ranking_of(np.linspace(0.2, 0.8, 60), spread=0.5)))
    assert "30 more sources" in text, "Sources that tie with the first get a row, up to 30."


def test_a_source_that_does_not_beat_its_control_is_marked():
    ranking = ranking_of([0.3, 0.8], controls=[0.6, 0.8], baseline=0.85)
    assert "not significantly better" in all_text(ranking_figure(ranking))
    caption = ranking_caption(ranking)
    assert "Squares are baselines of the field, without pretraining: baseline:linear 0.85" in caption
    assert "random weights 0.6" in caption


LOSSES = {"finetune++": 0.1, "finetune": 0.01, "mona": 0.008, "emb": 0.002, "frozen": 0.0}


def surrogate_result(targets=("digits",), losses=None, seeds=5, epochs=(1, 5, 15), name="fashion-mnist"):
    """Return measured encoders whose probe error rises with the epochs by the loss of their method."""
    rng = np.random.default_rng(0)

    def encoder(run, epoch, error):
        by_sample = np.full(200, error) + 0.01 * rng.standard_normal(200)
        errors = SampleErrors(by_sample, np.full(200, 1 / 200), np.arange(200), np.full(3, error), None, 0)
        probe = SimpleNamespace(value=error, interval=(error - 0.01, error + 0.01), errors=errors)
        difference = run and SimpleNamespace(value=error - 0.091, p_value=0.001 if error > 0.1 else 0.5)
        return SimpleNamespace(
            encoder=Encoder(run, epoch), probes={"linear": probe}, first_probe=probe, difference=difference
        )

    encoders = [encoder(None, 0, 0.091)]
    for t, target in enumerate(targets):
        for method, loss in (losses or LOSSES).items():
            for seed in range(seeds):
                run = SimpleNamespace(record={"method": method, "target": target, "seed": seed, "result": None})
                for epoch in epochs:
                    error = 0.091 + loss * (epoch / epochs[-1]) / (t + 1) + 0.001 * rng.standard_normal()
                    encoders.append(encoder(run, epoch, error))
    return SimpleNamespace(name=name, encoders=tuple(encoders), training_samples=800, test_samples=200)


@pytest.mark.parametrize("count", [1, 3, 4, 12])
def test_figures_of_distortion_are_readable_with_few_and_many_targets(count):
    figure = probe_figure(surrogate_result([f"target {number}" for number in range(count)]))
    assert_readable(figure)
    text = all_text(figure).replace("\n", " ")
    where = "target 0" if count == 1 else f"all {count} targets"
    assert f"finetune++ loses the most source knowledge on {where}" in text
    assert "2 others" in text


def test_the_title_of_distortion_highlights_only_a_method_that_differs_from_each_other():
    losses = {"finetune": 0.05, "mona": 0.05, "scratch": 0.4}
    result = surrogate_result(losses=losses)
    assert "Fine-tuning raises the probe error of" in all_text(probe_figure(result))
    assert "scratch on digits 0.4" in probe_caption(result)
    assert "loses the most" not in all_text(probe_figure(surrogate_result(seeds=1)))
    assert "is significantly higher than before and than that of each other method" in probe_caption(surrogate_result())
    lower = surrogate_result(losses={"finetune": -0.02, "mona": -0.05})
    assert "Fine-tuning does not significantly raise the probe error" in all_text(probe_figure(lower))


@pytest.mark.parametrize("without", ["digits", "mnist5k"])
def test_a_method_without_a_run_on_one_target_has_its_name_in_the_figure(without):
    result = surrogate_result(["digits", "mnist5k"], {"finetune": 0.0, "mona": 0.01})
    kept = [
        one
        for one in result.encoders
        if not one.encoder.run
        or (one.encoder.run.record["method"], one.encoder.run.record["target"]) != ("mona", without)
    ]
    figure = probe_figure(SimpleNamespace(**{**vars(result), "encoders": tuple(kept)}))
    assert_readable(figure)
    assert {"finetune", "mona"} <= set(all_text(figure).split("\n"))


@pytest.mark.parametrize(("count", "seeds"), [(1, 1), (1, 5), (6, 5)])
def test_runs_of_one_epoch_have_a_row_each(count, seeds):
    result = surrogate_result([f"target {number}" for number in range(count)], seeds=seeds, epochs=(5,))
    figure = probe_figure(result)
    assert_readable(figure)
    text = all_text(figure)
    assert text.count("finetune++") >= count
    assert "before fine-tuning 0.09" in text
    assert "and after 5 epochs" in text.replace("\n", " ")
    assert "A filled circle is significantly worse" in probe_caption(result)
    if seeds > 1:
        # 0.091 + 0.1 for the worst method on the first target: the difference of the printed errors.
        assert "+0.10" in text


def few_shot_curves(count, names=None):
    rng = np.random.default_rng(1)
    shots = np.array([1, 2, 5, 10, 20, 50])
    curves = {}
    for number in range(count):
        name = names[number] if names else f"encoder {number}"
        errors = 0.5 / np.sqrt(shots)[:, None] + 0.05 * number + 0.004 * rng.standard_normal((len(shots), 5))
        curves[name] = FewShotCurve("linear", shots, errors, errors.mean(axis=1), errors.std(axis=1, ddof=1))
    return curves


@pytest.mark.parametrize("count", [1, 2, 4, 7])
def test_few_shot_figures_are_readable(count):
    assert_readable(few_shot_figure(few_shot_curves(count), 0.9, "fashion-mnist"))


def test_few_shot_figures_show_long_names_in_full():
    names = ["vit-fashion", "random:timm:efficientnet_lite0@64px", "two-stage-mona on digits, epoch 20"]
    figure = few_shot_figure(few_shot_curves(3, names=names), 0.9, "fashion-mnist")
    assert_readable(figure)
    assert set(names) <= set(all_text(figure).split("\n"))


def test_few_shot_curves_are_no_verdict():
    text = all_text(few_shot_figure(few_shot_curves(3), 0.9, "fashion-mnist"))
    assert "Probe error on fashion-mnist by samples per class" in text
    caption = few_shot_caption(few_shot_curves(6), 0.9, "fashion-mnist")
    assert "too little to tell whether encoders differ" in caption
    assert "Thin gray lines are encoder 2, encoder 3, encoder 4." in caption
    text = all_text(few_shot_figure(few_shot_curves(6), 0.9, "fashion-mnist"))
    assert {"encoder 0", "encoder 1", "encoder 5", "3 others", "majority class"} <= set(text.split("\n"))


def test_a_majority_class_baseline_far_above_all_curves_is_only_in_the_caption():
    curves = few_shot_curves(2)
    highest = max(curve.errors.max() for curve in curves.values())
    assert "majority class" not in all_text(few_shot_figure(curves, 3 * highest, "fashion-mnist"))
    assert few_shot_figure(curves, 3 * highest, "fashion-mnist").axes[0].get_ylim()[1] < 1.2 * highest
    assert f"{3 * highest:.3f}" in few_shot_caption(curves, 3 * highest, "fashion-mnist")


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_hostile_names_are_drawn_as_text_in_the_figures_of_distortion(name):
    result = surrogate_result([name, "digits"], {f"{name}a": 0.1, "mona": 0.0}, name=name)
    assert_readable(probe_figure(result))
    assert probe_caption(result)
    assert_readable(few_shot_figure(few_shot_curves(2, names=[name, "mona"]), 0.9, name))


def known_ends(interval, *others):
    return sorted(tuple(map(float, ends)) for ends in (interval, *others) if ends is not None)


def test_every_drawn_interval_of_a_discrepancy_is_that_of_the_record():
    report = with_control(discrepancy_report(confusion(10)), 0.74, 0.001)
    (axes,) = plot_discrepancy(report).axes
    expected = known_ends(report.result.control.interval, report.best_estimate.held_out_interval)
    np.testing.assert_allclose(sorted(intervals(axes)), expected)
    (axes,) = plot_classes(report).axes
    expected = known_ends(*(one.interval for one in report.class_errors()))
    np.testing.assert_allclose(sorted(intervals(axes)), expected)


def test_every_drawn_interval_of_targets_and_sources_is_that_of_the_record():
    reports, controls = target_series(3), target_series(3, 0.3)
    expected = known_ends(*(one.best_estimate.held_out_interval for one in (*reports, *controls)))
    np.testing.assert_allclose(sorted(intervals(plot_targets(reports, controls).axes[0])), expected)
    for axes in plot_sources_on_targets({"a": (reports, controls), "b": (reports, controls)}).axes:
        np.testing.assert_allclose(sorted(intervals(axes)), expected)


def test_every_drawn_interval_of_a_ranking_is_that_of_the_record():
    ranking = ranking_of([0.3, 0.5, 0.6], controls=[0.6, 0.7, 0.9], scores=("knn",), baseline=0.4)
    expected = known_ends(*ranking.deciding_table.standings.intervals)
    np.testing.assert_allclose(sorted(intervals(ranking_figure(ranking).axes[0])), expected)


def test_every_drawn_interval_of_distortion_is_that_of_the_record():
    for epochs, along in (((5,), "x"), ((1, 5), "y")):
        result = surrogate_result(losses={"finetune": 0.1, "mona": 0.01}, epochs=epochs)
        expected = known_ends(*(cell.interval for cell in grid_cells(result.encoders)))
        np.testing.assert_allclose(sorted(intervals(probe_figure(result).axes[0], along)), expected)
    curves = few_shot_curves(2)
    for band, curve in zip(bands(few_shot_figure(curves, 0.9, "digits").axes[0]), curves.values(), strict=True):
        ends = zip(curve.errors.min(axis=1).tolist(), curve.errors.max(axis=1).tolist(), strict=True)
        assert band == {shots: pytest.approx(pair) for shots, pair in zip(curve.shots, ends, strict=True)}


def functions_of(folder, pattern, word):
    """Return the function definitions of the files of a folder of the repository that have one of some words."""
    texts = [path.read_text(encoding="utf-8") for path in sorted((ROOT / folder).rglob(pattern))]
    trees = [ast.parse(text) for text in texts if re.search(word, text)]
    return [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


def test_every_figure_with_intervals_has_a_test_of_their_ends():
    decorated = functions_of("modgap", "*.py", "@styled")
    figures = {one.name for one in decorated if "styled" in map(ast.unparse, one.decorator_list)}
    names = [
        {node.id for node in ast.walk(one) if isinstance(node, ast.Name)}
        for one in functions_of("tests", "test_*.py", "intervals|bands")
    ]
    tested = {figure for used in names if used & {"intervals", "bands"} for figure in figures & used}
    assert figures - tested == WITHOUT_INTERVALS


@pytest.mark.parametrize(
    "draw",
    [
        lambda ax: plot_discrepancy(with_control(discrepancy_report(confusion(4)), 0.74, 0.001), ax),
        lambda ax: plot_classes(discrepancy_report(confusion(4)), ax),
        lambda ax: plot_targets(target_series(2), target_series(2, 0.3), ax=ax),
        lambda ax: plot_sources_on_targets(sources_on_targets(4, 3), ax=ax),
        lambda ax: ranking_figure(ranking_of([0.3, 0.5], controls=[0.6, 0.7], scores=("knn",)), ax),
        lambda ax: probe_figure(surrogate_result(), ax),
        lambda ax: probe_figure(surrogate_result(["a", "b"], epochs=(5,)), ax),
        lambda ax: few_shot_figure(few_shot_curves(2), 0.9, "digits", ax=ax),
    ],
)
def test_figures_of_one_panel_are_drawn_on_axes_of_the_user(draw):
    figure = Figure(figsize=(7, 8), layout="constrained")
    other, axes = figure.subplots(2)
    assert draw(axes) is figure
    assert axes.get_title(loc="left")
    assert axes.collections
    assert not other.collections
    assert_readable(figure)


def test_figures_of_several_panels_are_not_drawn_on_one_pair_of_axes():
    axes = Figure().subplots()
    with pytest.raises(UsageError, match="2 targets have a panel each"):
        probe_figure(surrogate_result(["a", "b"]), axes)
    with pytest.raises(UsageError, match="3 sources have a panel each"):
        plot_sources_on_targets(sources_on_targets(3, 2), ax=axes)


def test_permuted_labels_without_an_interval_are_drawn():
    report = discrepancy_report(confusion(4))
    report = replace(report, result=replace(report.result, permutations_for=None, permuted_error=0.7))
    assert_readable(figure := plot_discrepancy(report))
    assert "0.70" in all_text(figure)


def test_results_give_the_frame_of_each_figure():
    result = modgap.estimate(np.eye(40, 4)[np.arange(40) % 4], np.arange(40) % 4)
    assert list(result.to_frame("classes")["value"]) == [0.0] * 4
    with pytest.raises(UsageError, match="classes"):
        result.to_frame("clases")
    with pytest.raises(UsageError, match="discrepancy"):
        result.plot("discrepency")
