"""Result figures: every text can be read, names are never markup, and titles compare only what differs."""

import numpy as np
import pytest

from modgap.discrepancy.answer_figure import discrepancy_caption, plot_discrepancy
from modgap.discrepancy.class_errors import class_errors, classes_csv
from modgap.discrepancy.class_figure import classes_caption, plot_classes
from modgap.discrepancy.held_out import NullDistribution, wilson_interval
from modgap.discrepancy.report import DiscrepancyReport
from modgap.discrepancy.result import Bounds, Discrepancy, Estimate
from modgap.discrepancy.search import Search
from modgap.discrepancy.target_figure import plot_targets, targets_caption
from modgap.errors import InputError, UsageError
from modgap.figure_layout import save_figure, spread_labels
from tests.figure_checks import all_text, assert_readable

pytestmark = pytest.mark.filterwarnings("error:Glyph")

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
    null = NullDistribution(1 - 1 / k, 0.02, 0.05, 19)
    solution = Search(held_out, tuple(range(k)), held_out, False, 0)
    interval = wilson_interval(n_errors, n)
    estimate = Estimate(solution, null, 0.5, held_out, interval, null, None, {})
    result = Discrepancy(
        n_samples=n,
        n_groups=groups,
        n_source_classes=1000,
        n_target_classes=k,
        n_unlabeled=0,
        n_untested=0,
        chance=1 - 1 / k,
        prior=1 - 1 / k,
        floor=0.0,
        balanced=False,
        estimates={"search": estimate},
        bounds=Bounds(None, None, None, None),
        k_way=None,
        seed=0,
        seconds={},
        held_out_confusion=matrix,
    )
    target_names = names or [f"target class {number:03}" for number in range(k)]
    source_names = names or [f"source class {number}" for number in range(1000)]
    return DiscrepancyReport(source, target, result, source_names, target_names, {}, 0.0)


@pytest.mark.parametrize("k", [2, 10, 24, 25, 50, 200])
def test_figures_of_a_discrepancy_are_readable_with_few_and_many_classes(k):
    report = discrepancy_report(confusion(k))
    assert_readable(plot_classes(report))
    assert_readable(plot_discrepancy(report))


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_hostile_names_are_drawn_as_text_in_the_figures_of_a_discrepancy(name, tmp_path):
    report = discrepancy_report(confusion(8), source=name, target=name, names=HOSTILE_NAMES)
    for number, figure in enumerate((plot_classes(report), plot_discrepancy(report))):
        assert_readable(figure)
        save_figure(figure, tmp_path / str(number), classes_caption(report), ("png", "svg", "pdf"))
    text = all_text(plot_classes(report))
    assert "class 1" in text  # The duck cannot be drawn.
    assert r"\frac" in text


def test_more_than_24_classes_show_both_ends_and_a_histogram():
    report = discrepancy_report(confusion(30))
    text = all_text(plot_classes(report))
    assert "6 classes between" in text
    assert classes_csv(report).count("\n") == 31
    assert "classes.csv" in classes_caption(report)


def test_the_error_of_a_class_is_its_share_off_the_diagonal():
    matrix = np.array([[8.0, 2, 0], [0, 5, 5], [0, 0, 0]])
    best, second = class_errors(discrepancy_report(matrix))
    assert (best.error, best.n_samples, best.confused_with, best.confused_share) == (0.2, 10, 1, 0.2)
    assert best.interval == wilson_interval(2, 10)
    assert best.baseline == pytest.approx(1 - 8 / 20)
    assert (second.error, second.confused_with) == (0.5, 2)
    assert "1 classes have only one sample" in classes_caption(discrepancy_report(matrix))


@pytest.mark.parametrize(
    ("accuracy", "groups", "title"),
    [
        ([1.0, 1.0, 0.05], None, "The map beats the baseline on 2 of 3 classes of fashion-mnist"),
        ([0.3, 0.3, 0.3], None, "On no class of fashion-mnist does the map beat the baseline"),
        ([0.95, 0.95, 0.95], 7, "Held-out errors of 3 classes of fashion-mnist"),
    ],
)
def test_the_title_of_the_classes_counts_those_below_their_baseline(accuracy, groups, title):
    matrix = confusion(3, accuracy=accuracy)
    text = all_text(plot_classes(discrepancy_report(matrix, groups=groups)))
    assert title in text


def test_small_classes_are_marked_as_unreliable():
    matrix = confusion(3)
    matrix[2] = [1, 0, 2]
    text = all_text(plot_classes(discrepancy_report(matrix)))
    assert "n = 3" in text
    assert "results are unreliable" in text.replace("\n", " ")


def test_a_source_that_is_not_significantly_better_is_not_said_to_know_something():
    report = discrepancy_report(confusion(4))
    object.__setattr__(report.best_estimate, "held_out_null", NullDistribution(0.75, 0.1, 0.3, 19))
    assert "not significantly better than with permuted labels" in all_text(plot_discrepancy(report)).replace("\n", " ")
    assert "p = 0.3" in discrepancy_caption(report)


def target_report(error, n_each=100, target="digits", k=4, **options):
    return discrepancy_report(confusion(k, n_each, np.full(k, 1 - error)), target=target, **options)


def target_series(count, shift=0.0, k=4):
    return [target_report(0.3 + 0.3 * t / count + shift * (t % 2), 50, f"target {t}", k) for t in range(count)]


@pytest.mark.parametrize(("count", "k"), [(1, 2), (3, 10), (12, 4), (60, 2), (2, 200)])
def test_figures_of_targets_are_readable(count, k):
    reports = target_series(count, k=k)
    assert_readable(plot_targets(reports, target_series(count, 0.3, k)))
    assert_readable(plot_targets(reports))
    assert_readable(plot_targets(reports, [None] + [target_report(0.5, target=r.target) for r in reports[1:]]))


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_hostile_names_are_drawn_as_text_in_the_figure_of_targets(name, tmp_path):
    reports = [target_report(0.3, target=name, source=name), target_report(0.4)]
    controls = [target_report(0.6, target=name), None]
    figure = plot_targets(reports, controls, (name, name))
    assert_readable(figure)
    save_figure(figure, tmp_path / "targets", targets_caption(reports, controls), ("png", "svg", "pdf"))


@pytest.mark.parametrize(
    ("errors", "title"),
    [
        ([(0.3, 0.6), (0.5, 0.52)], "Pretraining lowers the error on 1 of 2 targets"),
        ([(0.3, 0.6), (0.6, 0.3)], "Pretraining lowers the error on 1 of 2 targets and raises it on 1"),
        ([(0.6, 0.3), (0.5, 0.5)], "Pretraining raises the error on 1 of 2 targets"),
        ([(0.5, 0.52), (0.5, 0.48)], "Pretraining makes no significant difference on 2 targets"),
        ([(0.3, 0.6)], "Pretraining lowers the error on t0"),
        ([(0.5, None), (0.6, None)], "Held-out error on 2 targets"),
    ],
)
def test_the_title_of_targets_counts_only_significant_differences(errors, title):
    reports = [target_report(error, target=f"t{number}") for number, (error, _) in enumerate(errors)]
    controls = [
        None if other is None else target_report(other, target=f"t{number}") for number, (_, other) in enumerate(errors)
    ]
    assert title in all_text(plot_targets(reports, controls))


def test_the_printed_difference_is_that_of_the_printed_errors():
    text = all_text(plot_targets([target_report(0.505, 1000)], [target_report(0.743, 1000)]))
    assert "\N{MINUS SIGN}0.24" in text or "\N{MINUS SIGN}0.23" in text
    caption = targets_caption([target_report(0.505, 1000)], [target_report(0.743, 1000)])
    assert "digits: 0.505 (" in caption
    assert "against 0.743 (" in caption


def test_targets_that_do_not_match_raise_an_error():
    with pytest.raises(UsageError, match="At least one is needed"):
        plot_targets([])
    with pytest.raises(UsageError, match="Expected the same as the reports"):
        plot_targets([target_report(0.5)], [target_report(0.5, target="other")])
    report = target_report(0.5)
    object.__setattr__(report.best_estimate, "held_out", None)
    with pytest.raises(InputError, match="no held-out error"):
        plot_targets([report])


def test_spread_labels_do_not_overlap_and_stay_inside():
    centers = spread_labels([0.9, 0.92, 0.95], [0.2, 0.2, 0.2], 0.0, 1.0, 0.05)
    assert centers[2] <= 0.9
    assert np.diff(centers).min() >= 0.25 - 1e-6
