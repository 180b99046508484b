"""The page of a discrepancy draws the right conclusion from each kind of record."""

import copy
import re

import numpy as np
import pytest

from modgap.api.pages.answer_pages import render_discrepancy
from modgap.discrepancy import estimate
from modgap.discrepancy.answer import answer_of_record
from modgap.discrepancy.report import DiscrepancyReport
from tests.test_report_page import assert_self_contained, visible_text


@pytest.fixture(scope="module")
def full_record():
    """Return the record of a discrepancy that is below chance, with permuted labels and without a control."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 12)
    logits = rng.standard_normal((len(labels), 7))
    logits[np.arange(len(labels)), labels] += 3
    result = estimate(logits, labels, permutations=19, splits=4, seed=0)
    provenance = {"modgap": "0.1.0", "samples": {"split": "train", "limit": [36, 100]}, "embedding": {"size": [64, 64]}}
    record = DiscrepancyReport("vit-b", "photos", result, (), ("a", "b", "c"), provenance, 0.1).to_dict()
    # The answer is built again from the numbers that a test changes.
    return {name: value for name, value in record.items() if name != "answer"}


@pytest.fixture
def record(full_record):
    return copy.deepcopy(full_record)


def page_text(record):
    page = render_discrepancy({**record, "answer": answer_of_record(record).to_dict()})
    assert_self_contained(page)
    return visible_text(page)


def with_control(record, value, p_value, n=3):
    """Return a record with a comparison to random weights."""
    held_out = record["estimates"]["search"]["held_out"] - value
    interval = None if p_value is None else [value - 0.1, value + 0.1]
    difference = {"value": value, "interval": interval, "p_value": p_value}
    control = {"n": n, "held_out": held_out, "difference": difference, "smallest_difference": 0.1}
    return {**record, "control": control}


@pytest.mark.parametrize(
    ("value", "p_value", "answer", "headline"),
    [
        (-0.3, 0.01, "Does pretraining help?Yes", "vit-b knows something about photos"),
        (-0.3, 0.2, "Does pretraining help?Not shown", "It is not shown that pretraining helps vit-b on photos"),
        (0.3, 0.01, "Does pretraining help?No", "random weights are better than the pretrained vit-b"),
        (
            -0.3,
            None,
            "Does pretraining help?Unknown",
            "carry information about photos, as those of untrained networks do",
        ),
    ],
)
def test_the_control_decides_what_pretraining_has_shown(record, value, p_value, answer, headline):
    text = page_text(with_control(record, value, p_value))
    assert answer in text
    assert headline in text
    assert "The random-weights control (3 random initializations) has" in text
    assert ("there are too few samples to compare them" in text) == (p_value is None)
    assert ("The smallest difference that could have been shown is 0.100." in text) == (p_value == 0.2)
    assert "--control" not in text


def test_one_control_says_nothing_about_pretraining(record):
    text = page_text(with_control(record, -0.3, 0.01, n=1))
    assert "Does pretraining help?Too few controls" in text
    assert "vit-b is better than this one random initialization." in text
    assert "so pretraining helps" not in text


def test_without_a_control_the_next_step_is_the_same_samples_with_one(record):
    text = page_text(record)
    assert "This run has no random-weights control" in text
    chosen = f"--splits {record['splits']} --control"
    assert f"--source vit-b --target photos --split train --limit 36 --input-size 64 {chosen}" in text
    again = {**record, "weighting": "classes", "seed": 3, "per_class": 5, "splits": 20}
    again["provenance"] = {**record["provenance"], "head": {"surrogate": "digits"}}
    assert "--target photos --head probe:digits --split train" in page_text(again)
    alone = {name: one for name, one in record["estimates"].items() if name.startswith("soft")}
    assert "--estimator soft --control" in page_text({**record, "estimates": alone, "permutations_for": "soft"})
    assert "--weight classes --per-class 5 --seed 3 --control" in page_text(again)
    again["provenance"]["options"] = {"pseudo_classes": "4", "representation": "fold"}
    assert "--pseudo-classes 4 --representation fold --split train" in page_text(again)
    trained = {**record["provenance"]["embedding"], "embedder": "trained"}
    for unknown in ({"target": "a.csv"}, {"provenance": {**record["provenance"], "embedding": trained}}):
        text = page_text({**record, **unknown})
        assert "repeat this with control=3" in text
        assert "modgap discrepancy --source" not in text


def test_a_control_alone_asks_for_no_control(record):
    text = page_text({**record, "source": "random:vit-b"})
    assert "This source is itself a random-weights control." in text
    assert "--control" not in text


def test_chance_is_not_excluded_where_labels_were_not_permuted(record):
    text = page_text({**record, "permutations_for": None})
    assert "Labels were not permuted, so it is not known whether this could be luck." in text
    assert "knows something" not in text
    assert "carry information" not in text


def test_chance_is_not_excluded_by_a_large_p_value(record):
    record["estimates"][record["permutations_for"]]["held_out_null"]["p_value"] = 0.3
    text = page_text(record)
    assert "Is it better than with permuted labels?Not shown" in text
    assert "It is not shown that vit-b knows anything about photos." in text


def test_without_a_held_out_error_nothing_is_shown(record):
    for one in record["estimates"].values():
        one.update(held_out=None, held_out_interval=None)
    text = page_text({**record, "permutations_for": None})
    assert "No held-out error: it is not shown what vit-b knows." in text
    assert "best map, held-out samples" not in text


def test_without_a_map_the_reason_is_the_headline(record):
    text = page_text({**record, "estimates": {}, "permutations_for": None, "permuted_error": None})
    assert "photos has more classes than vit-b." in text
    assert "Errors on one axis" not in text


@pytest.mark.parametrize(("weighting", "fact"), [("groups", "groups count equally"), ("classes", "over classes")])
def test_the_facts_name_what_counts_equally(record, weighting, fact):
    text = page_text({**record, "weighting": weighting, "n_groups": 9})
    assert fact in text
    assert "9 groups" in text


@pytest.mark.parametrize(("error", "status"), [(0.1, "pass"), (0.65, "warn"), (0.9, "fail")])
def test_the_baseline_of_the_largest_class_is_checked(record, error, status):
    record["estimates"]["search"].update(held_out=error, held_out_interval=[error - 0.05, error + 0.05])
    page = render_discrepancy({**record, "answer": answer_of_record(record).to_dict()})
    assert f"The held-out error is {error:.3f}" in visible_text(page)
    row = re.search(r"<li>((?!<li>).)*Majority-class baseline", page, re.DOTALL)[0]
    assert f'class="icon {status}"' in row


def test_samples_that_were_left_out_are_counted(record):
    text = page_text({**record, "unlabeled": 5, "untested": 2, "n_tested_classes": 2})
    assert "5 samples without a label are left out." in text
    assert "baseline are over 2 of 3 classes." in text
    assert "because these have only one sample or group (2 samples, 5.6 %)." in text
