"""The choice by history and pilots: what moves it, what it leaves out, and when it does not decide."""

import numpy as np
import pytest

from modgap.ranking.history.choice import FEWEST_TARGETS, PilotError, choose_source, constant_answer
from modgap.ranking.history.lines import VARIABLES, HistoryLine, Setup, history_table
from modgap.ranking.history.model import fit_history, forecast, transform_error
from modgap.ranking.history.sketches import sketch_target
from modgap.ranking.history.store import History, shipped_history
from modgap.targets import open_target
from modgap.targets.samples import ArraySamples, SelectedSamples

SETUP = Setup(128, 10, (0.0005, 0.0001, 0.0025))
SOURCES = ("efficientnet-lite0", "vit-fashion", "crepe-tiny")


def history(n_targets, setup=SETUP, digests=()):
    rng = np.random.default_rng(0)
    lines = [
        HistoryLine(
            source,
            f"t{number}",
            "image",
            500,
            5,
            setup,
            {name: float(np.clip(level + difficulty + rng.normal() / 30, 0, 1)) for name in ("trained", "pilot-3")},
            {"pilot-3": 64},
            target_digest=digests[number] if number < len(digests) else "",
        )
        for number, difficulty in enumerate(rng.uniform(0, 0.4, n_targets))
        for source, level in (("a", 0.1), ("b", 0.2), ("c", 0.3))
    ]
    return History(tuple(lines), {})


def test_without_pilots_the_source_that_was_best_is_first_and_pilots_can_change_it():
    alone = choose_source(history(20), ["c", "b", "a"], SETUP)
    assert (alone.first, alone.status, alone.n_targets) == ("a", "decides", 20)
    assert [alone.sources[number] for number in alone.order] == ["a", "b", "c"]
    np.testing.assert_array_equal(alone.before.error, alone.after.error)
    pilots = {"a": PilotError({"pilot-3": 0.7}, 64), "b": PilotError({"pilot-3": 0.2}, 64)}
    found = choose_source(history(20), ["c", "b", "a"], SETUP, pilots)
    assert found.first == "b"
    np.testing.assert_array_equal(found.before.error, alone.before.error)


def test_it_is_the_forecast_of_the_model():
    known = history_table(shipped_history().lines, SETUP, without=["digits"])
    pilots = {name: PilotError({"pilot-1": 0.5, "pilot-3": 0.4}, 64) for name in SOURCES}
    digest = next(line.target_digest for line in shipped_history().lines if line.target == "digits")
    known = history_table(shipped_history().lines, SETUP, without=[digest])
    found = choose_source(shipped_history(), SOURCES, SETUP, pilots, sketch=shipped_history().sketches[digest])
    z = np.full((3, len(VARIABLES)), np.nan)
    z[:, [VARIABLES.index("pilot-1"), VARIABLES.index("pilot-3")]] = transform_error(np.array([0.5, 0.4]))
    rows = [known.sources.index(name) for name in SOURCES]
    expected = forecast(fit_history(known.z, known.held_out), rows, z, np.full(z.shape, 64.0))
    np.testing.assert_allclose(found.after.error, expected.error, atol=1e-12)
    np.testing.assert_array_equal(found.after.best, expected.best)
    n_targets = np.isfinite(known.errors[rows][:, :, VARIABLES.index("trained")]).any(axis=0).sum()
    assert (found.left_out, found.n_targets) == (("digits",), n_targets)


def test_a_target_and_parts_of_it_are_not_their_own_history():
    samples = open_target("digits").read().samples
    part = sketch_target(SelectedSamples(samples, np.arange(100, 300)))
    assert choose_source(shipped_history(), SOURCES, SETUP, sketch=part).left_out == ("digits",)
    others = sketch_target(ArraySamples(np.random.default_rng(0).random((300, 1, 8, 8), np.float32)))
    assert choose_source(shipped_history(), SOURCES, SETUP, sketch=others).left_out == ()
    # Without a sketch, a target is known by its name.
    alone = choose_source(history(12), ["a"], SETUP, target="t3")
    assert (alone.n_targets, alone.left_out) == (11, ())


def test_a_source_without_history_has_the_mean_and_a_wider_interval():
    found = choose_source(history(20), ["a", "new", "c"], SETUP)
    np.testing.assert_array_equal(found.known, [True, False, True])
    assert found.after.error[0] < found.after.error[1] < found.after.error[2]
    assert found.after.variance[1] > found.after.variance[0]


@pytest.mark.parametrize(
    ("n_targets", "setup", "status"),
    [
        (FEWEST_TARGETS - 1, SETUP, "too-short"),
        (FEWEST_TARGETS, SETUP, "decides"),
        (20, Setup(5000, 10, SETUP.rates), "other-setup"),
        (20, Setup(256, 10, SETUP.rates, 64), "decides"),
    ],
)
def test_a_short_history_and_one_of_another_setup_do_not_decide(n_targets, setup, status):
    assert choose_source(history(n_targets), ["a", "b"], setup).status == status


def test_histories_of_one_target_or_source_tell_nothing():
    assert choose_source(History(), ["a"], SETUP) is None
    assert choose_source(history(1), ["a", "b"], SETUP) is None
    one = History(tuple(line for line in history(5).lines if line.source == "a"))
    assert choose_source(one, ["a", "b"], SETUP) is None


def test_the_constant_answer_has_the_lowest_mean_error_on_the_targets_that_it_reads(import_benchmark):
    # The first source is the best where it can read, and the third on the texts, but not on average.
    errors = np.array([[0.1, 0.1, np.nan, np.nan], [0.2, 0.2, 0.9, 0.8], [0.9, 0.9, 0.8, 0.7]])
    known = History(
        tuple(
            HistoryLine(source, f"t{target}", "image", 100, 3, SETUP, {"trained": float(errors[row, target])})
            for row, source in enumerate("abc")
            for target in np.flatnonzero(np.isfinite(errors[row])).tolist()
        )
    )
    assert constant_answer(known, ["c", "b", "a@64px"], ["c", "b", "a@64px"]) == "a@64px"
    assert constant_answer(known, ["a", "b", "a@64px"], ["b", "a", "a@64px"]) == "a"
    assert constant_answer(known, ["a", "b", "a@64px"], ["b", "a@64px"]) == "a@64px"
    assert constant_answer(known, ["c", "b", "a"], ["c", "b"]) == "c"
    assert constant_answer(known, ["c", "b"], ["c", "b"]) == "b"
    assert constant_answer(known, ["x", "b"], ["x", "b"]) == "b"
    assert constant_answer(known, ["x"], ["x"]) == constant_answer(History(), ["a"], ["a"]) == ""
    choice = import_benchmark("evidence.third_choice")
    all_errors = np.c_[errors, [0.5, 0.1, 0.2], [np.nan, 0.1, 0.2]]
    scores = np.where(np.isfinite(all_errors), choice.constant_scores(all_errors, 4), -np.inf)
    assert ["abc"[row] for row in scores.argmax(axis=0)[4:]] == ["a", "c"], "the rule of the evidence is the same"


@pytest.mark.parametrize(("usable", "named"), [(None, "efficientnet-lite0"), (["minilm", "lid-176"], "minilm")])
def test_the_constant_answer_of_the_shipped_history(usable, named):
    sources = sorted({line.source for line in shipped_history().lines})
    assert constant_answer(shipped_history(), sources, usable or sources) == named
