"""No sentence about a discrepancy says more than its data."""

import logging
from dataclasses import replace

import numpy as np
import pytest

import modgap
from benchmarks.control_level import rates
from modgap.discrepancy.repeated_rows import groups_with_copies, repeated_rows
from modgap.discrepancy.verdict import (
    STATUSES,
    ControlEvidence,
    Evidence,
    answer,
    classes_title,
    control_finding,
    majority_finding,
    verdict,
)
from modgap.labels.label_space import label_space
from tests.verdict_situations import SITUATIONS, copies, even, noise, one_hot, signal

CONTROL = ControlEvidence(3, 0.858, -0.184, (-0.260, -0.108), 0.008, 0.076)
NUMBERS = Evidence(
    source="vit",
    target="digits",
    estimator="search",
    in_sample=0.66,
    held_out=0.674,
    interval=(0.651, 0.696),
    n_units=1797,
    in_groups=False,
    splits=20,
    n_tested_classes=10,
    n_classes=10,
    chance=0.9,
    majority=0.898,
    p_value=0.01,
    permutations=99,
    permuted=0.901,
    soft=(0.745, 0.9),
    control=CONTROL,
)


LONG = ("vit-fashion on digits against one", "vit-fashion on digits against three")
"""Situations that are measured with controls of a real source; synthetic logits have the same verdicts."""


@pytest.mark.parametrize(
    "situation",
    [pytest.param(one, id=one.name, marks=[pytest.mark.long] * (one.name in LONG)) for one in SITUATIONS],
)
def test_the_verdict_of_each_situation_is_what_its_data_support(situation):
    shown, sentences = situation.verdict()
    assert shown.status == situation.status
    assert sentences[0] == f"{shown.title}."
    assert ("knows something" in " ".join(sentences)) == (shown.status == "knows something")
    assert "{" not in " ".join(sentences)
    if "few controls" in shown.status:
        assert not any(
            sentence.startswith(("Does pretraining help? Yes", "Does pretraining help? No.")) for sentence in sentences
        )


def test_there_are_sixty_situations_and_every_status_is_among_them():
    assert len(SITUATIONS) >= 60
    assert {situation.status for situation in SITUATIONS} == set(STATUSES)


# The words


def changed(**values):
    return replace(NUMBERS, **values)


def test_a_source_knows_something_only_if_it_beats_labels_majority_and_three_controls():
    assert verdict(NUMBERS).status == "knows something"
    assert "so pretraining helps" in answer(NUMBERS)
    for weaker in (
        changed(p_value=0.06),
        changed(p_value=None, permuted=None, soft=None),
        changed(held_out=0.898),
        changed(interval=(0.6, 0.9)),
        changed(control=None),
        changed(control=replace(CONTROL, n=1)),
        changed(control=replace(CONTROL, n=2)),
        changed(control=replace(CONTROL, p_value=0.06)),
        changed(control=replace(CONTROL, difference=0.184, interval=(0.1, 0.3))),
        changed(control=replace(CONTROL, p_value=None, interval=None)),
    ):
        assert "knows something" not in answer(weaker) + verdict(weaker).title


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("p_value", [0.001, 0.4])
@pytest.mark.parametrize("difference", [-0.2, 0.2])
def test_fewer_than_three_controls_say_nothing_about_pretraining(n, p_value, difference):
    control = replace(CONTROL, n=n, p_value=p_value, difference=difference)
    text = control_finding(changed(control=control)).sentence
    assert "pretraining helps" not in text.replace("needed to show whether pretraining helps (--control 3; in", "")
    assert ("this one random initialization" if n == 1 else "these 2 random initializations") in text


def test_the_error_with_permuted_labels_is_named_if_another_estimator_is_reported():
    result = modgap.estimate(
        signal(even(60, 3), 8),
        even(60, 3),
        estimators=["montecarlo", "search"],
        permutations=19,
        permutations_for="montecarlo",
        trials=50,
    )
    assert "With permuted labels the Monte-Carlo error is 0." in result.summary().replace("\n", " ")
    assert "With permuted labels it is 0.901" in answer(changed(soft=None))


def test_a_title_starts_with_the_name_of_the_target_as_it_is_written():
    without_source = changed(source="", target="mnist5k", control=None)
    assert verdict(replace(without_source, estimator=None)).title == "mnist5k has more classes than the source"
    assert verdict(replace(without_source, p_value=None)).title.startswith("The source has an error of 0.674")


def test_a_p_value_of_shuffled_labels_in_the_order_of_time_is_no_evidence():
    shown = verdict(changed(is_ordered=True))
    assert shown.status == "nothing shown"
    assert "but this p-value is too low" in answer(changed(is_ordered=True))
    assert "is too low" not in answer(changed(is_ordered=True, p_value=0.3))


def test_a_difference_that_is_not_shown_comes_with_the_smallest_that_could_have_been():
    text = control_finding(changed(control=replace(CONTROL, p_value=0.2))).sentence
    assert (
        "It is not shown that pretraining helps. The smallest difference that could have been shown is 0.076." in text
    )
    assert "does not help" not in text
    text = control_finding(changed(control=replace(CONTROL, p_value=0.2, smallest=1.2))).sentence
    assert "No difference could have been shown" in text


@pytest.mark.parametrize(
    ("held_out", "interval", "status"),
    [
        (0.25, (0.2, 0.3), "no"),
        (0.825, (0.8, 0.85), "no"),
        (0.24, (0.2, 0.29), "not shown"),
        (0.24, (0.22, 0.249), "yes"),
        (0.24, None, "unknown"),
    ],
)
def test_the_majority_class_has_to_be_beaten_beyond_the_interval(held_out, interval, status):
    majority = 0.824 if held_out > 0.5 else 0.25
    assert majority_finding(changed(held_out=held_out, interval=interval, majority=majority)).status == status


@pytest.mark.parametrize(
    ("estimators", "name"), [(["soft"], "soft held-out error"), (["search", "soft"], "held-out error")]
)
def test_the_check_of_the_majority_class_and_the_figure_name_the_error(estimators, name):
    labels = even(60, 2)
    result = modgap.estimate(noise(labels, 6), labels, estimators=estimators, permutations=19)
    checks = {check.question: check.sentence for check in result.answer.checks}
    # A soft error is 1 - a probability, so the shares of wrong samples are no levels of it.
    is_soft = estimators == ["soft"]
    assert ("Majority-class baseline" in checks) != is_soft
    assert ("chance level" in str(result)) != is_soft
    assert f"The {name} is {result.best_estimate.held_out:.3f}" in str(result).replace("\n", " ")
    figure = result.plot()
    assert figure.axes[0].get_xlabel().startswith(name)
    assert name in " ".join(text.get_text() for text in figure.texts).lower()


def test_a_map_that_is_always_right_is_not_called_worse_than_the_majority_class():
    """Of 1,000 source classes with nearly equal probabilities, the soft error of a perfect map is near 1."""
    labels = even(60, 3)
    logits = np.random.default_rng(0).normal(scale=0.01, size=(60, 1000)).astype(np.float32)
    logits[np.arange(60), labels] += 3
    result = modgap.estimate(logits, labels, estimators="soft", permutations=19)
    assert result.best_estimate.held_out > 2 / 3
    assert "majority" not in str(result)
    assert "carry information about your logits" in result.answer.headline


def test_the_answer_names_how_many_classes_were_tested():
    two = changed(n_tested_classes=2, n_classes=40, control=None)
    assert "over 2 of 40 classes" in answer(two)
    assert "about the 2 of 40 classes that could be tested, as those of untrained networks do" in answer(two)
    assert "2 of 40 classes of digits" in verdict(two).title


def test_without_a_control_the_answer_names_the_option_where_it_applies():
    assert "--control" in answer(changed(control=None))
    assert "--control" not in answer(changed(control=None, is_control=True))
    assert "--control" not in answer(changed(control=None, is_measured=False))


def test_classes_that_beat_their_baseline_by_chance_are_not_counted():
    assert (
        classes_title(1, 40, 40, "digits")
        == "It is not shown that the map beats the baseline on any of 40 classes of digits"
    )
    assert classes_title(7, 10, 10, "digits") == "The map beats the baseline on 7 of 10 classes of digits"
    assert classes_title(2, 2, 40, "digits") == "The map beats the baseline on 2 of 2 tested classes (of 40) of digits"


# Too few samples, and no splits


def estimate(labels, **options):
    return modgap.estimate(signal(labels, 8), labels, estimators=["search", "soft"], **options)


def test_without_splits_no_class_is_said_to_be_tested():
    result = estimate(even(100, 4), splits=0)
    assert "classes have only one sample" not in result.summary()
    assert "no samples were held out" in result.summary().replace("\n", " ")
    assert result.to_dict()["n_tested_classes"] == 0
    one = estimate(np.repeat([0, 1], [20, 1]))
    assert " 2 of 2 classes" not in one.summary()
    assert "fewer than two classes have two samples" in one.summary().replace("\n", " ")


def test_one_split_is_singular_and_a_missing_interval_has_its_reason():
    assert "come from 1 split;" in estimate(even(100, 4), splits=1).summary()
    text = estimate(even(4, 2)).summary().replace("\n", " ")
    assert "There is no interval, because 4 samples are too few (at least 8 are needed)." in text


# Copies


def p_values_of_copies(times, n_draws=30, weights=None):
    """Return p-values where the logits do not depend on the labels, and samples are repeated."""
    values = []
    for seed in range(n_draws):
        rng = np.random.default_rng(seed)
        labels = rng.permutation(even(30, 3))
        repeats = np.full(30, times) if weights is None else np.where(labels == 0, times, 1)
        rows = rng.permutation(np.repeat(np.arange(30), repeats))
        logits = rng.standard_normal((30, 10))[rows]
        result = modgap.estimate(logits, labels[rows], estimators=["soft"], permutations=19)
        values.append(result.result.null.p_value)
    return np.array(values)


@pytest.mark.parametrize("weights", [None, "one class"])
def test_repeated_samples_are_no_evidence(weights):
    # At the level of .05, six of 30 happen in .3 % of the tests; without groups it was nearly all of them.
    assert (p_values_of_copies(10, weights=weights) <= 0.05).sum() <= 5


def test_samples_with_equal_logits_are_counted_in_a_warning(caplog):
    labels = even(30, 3)
    with caplog.at_level(logging.WARNING, "modgap"):
        result = copies(labels, noise(labels, 10), 10)
    assert "300 of 300 samples have the same logits as another. They are taken for copies" in caplog.text
    assert "300 of 300 samples have the same logits as another." in result.summary().replace("\n", " ")
    record = result.to_dict()
    assert (record["n_repeated"], record["n_copies"], record["n_groups"], record["n_units"]) == (300, 300, None, 30)


def test_copies_do_not_change_what_counts_equally():
    labels = even(60, 3)
    rows = np.r_[np.arange(60), 0]
    result = modgap.estimate(noise(labels, 8)[rows], labels[rows], estimators=["search"], permutations=0)
    assert (result.result.weighting, result.result.n_groups, result.result.n_units) == ("samples", None, 60)
    assert "groups" not in result.summary()
    assert result.result.prior == pytest.approx(1 - 21 / 61)
    assert result["search"].solution.value * 61 == pytest.approx(round(result["search"].solution.value * 61))


def test_one_copy_leaves_samples_in_the_order_of_time_one_sequence():
    rejections = 0
    for seed in range(30):
        series = np.random.default_rng(seed).standard_normal((300, 9))
        for i in range(1, 300):
            series[i] = 0.97 * series[i - 1] + np.sqrt(1 - 0.97**2) * series[i]
        logits, labels = series[150:, :8], (series[150:, 8] > np.median(series[150:, 8])).astype(int)
        logits[75] = logits[74]
        options = {"permutations": 19, "permutations_by": "shifts", "splits": 4, "threads": 1}
        rejections += modgap.estimate(logits, labels, estimators=["soft"], **options).result.null.p_value <= 0.05
    # At the level of .05, six of 30 happen in .3 % of the tests; with shuffled labels it is more than half of them.
    assert rejections <= 5


def units(logits, labels, groups=None):
    space = label_space(labels)
    return repeated_rows(np.asarray(logits), space, groups)


def test_copies_share_a_group_whatever_their_labels():
    logits = noise(even(40, 2), 6)
    rows = np.r_[np.arange(40), 3, 3, 4]
    labels = np.r_[even(40, 2), 1, 0, 0]
    found = units(logits[rows], labels)
    assert (found.n_samples, found.n_merged) == (5, 5)
    assert found.merged_groups[3] == found.merged_groups[40] == found.merged_groups[41]
    assert found.merged_groups[4] == found.merged_groups[42] != found.merged_groups[3]
    assert len(np.unique(found.merged_groups)) == 40
    assert units(-0.0 * logits[:4] + [[0.0, -1, 2, 3, 4, 5]], [0, 1, 0, 1]).n_samples == 4


def test_samples_without_copies_stay_independent():
    assert units(noise(even(40, 2), 6), even(40, 2)).merged_groups is None
    assert groups_with_copies(noise(even(40, 2), 6), even(40, 2), None).merged_groups is None


def test_outputs_that_many_samples_have_are_no_copies():
    labels = even(200, 4)
    for discrete in (one_hot(labels, 6), one_hot(labels, 4), np.zeros((200, 5)), np.tile(np.arange(5.0), (200, 1))):
        found = units(discrete, labels)
        assert (found.n_samples, found.n_merged, found.merged_groups) == (200, 0, None)
    votes = np.random.default_rng(0).multinomial(5, [0.4, 0.3, 0.3], 200)
    assert units(votes.astype(float), labels).n_merged == 0


def test_copies_join_the_groups_that_they_are_in_unless_most_groups_have_them():
    logits, labels, groups = noise(even(60, 2), 6), even(60, 2), np.arange(60) // 3
    logits[5] = logits[0]
    found = units(logits, labels, groups)
    assert len(np.unique(found.merged_groups)) == 19
    assert found.merged_groups[0] == found.merged_groups[5] == found.merged_groups[3]
    logits[::3] = logits[0]
    assert units(logits, labels, groups).n_merged == 0


def test_copies_do_not_link_many_groups_to_each_other():
    labels, groups = np.repeat(even(20, 2), 20), np.repeat(np.arange(20), 20)
    logits = signal(labels, 8)
    logits[20::20] = logits[19:-1:20]
    found = units(logits, labels, groups)
    assert (found.n_samples, found.n_merged, found.merged_groups) == (38, 0, None)
    logits[5] = logits[6]
    assert units(logits, labels, groups).n_merged == 2
    text = modgap.estimate(logits, labels, groups=groups, estimators=["search"], permutations=0).summary()
    text = text.replace("\n", " ")
    assert "The held-out error is" in text
    assert "The other 38 are not taken for copies: the source may have one output for different samples" in text


def test_groups_of_copies_leave_room_for_samples_without_a_label():
    logits = noise(even(20, 2), 6)
    logits[7] = logits[2]
    labels = np.zeros((20, 2), int)
    labels[np.arange(20), even(20, 2)] = 1
    labels[0] = 0
    groups = groups_with_copies(logits, labels, None).merged_groups
    assert len(groups) == 20
    assert groups[7] == groups[2]
    assert len(np.unique(groups)) == 19


# Controls


@pytest.mark.parametrize("n_controls", [3, 5])
def test_one_more_random_initialization_is_rarely_called_better(n_controls):
    of_the_mean, further = rates(0.05, 400, n_controls, 400)
    # The rate should be .025; of 400, more than 20 happen in .2 % of the tests. With s^2/n it is about .1.
    assert further <= 20 / 400 < of_the_mean


def test_three_controls_find_a_large_difference():
    assert rates(0.02, 400, 3, 60, effect=0.2)[1] > 0.6
