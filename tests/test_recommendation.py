"""The sentences of a ranking for every choice, every answer on help and every combination of checks."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from modgap.errors import visible_name
from modgap.ranking import recommendation as v
from modgap.ranking.answer import difference_texts, format_interval
from modgap.ranking.checks import (
    CONTROL_AS_GOOD,
    CONTROL_BETTER,
    CONTROL_SIMILAR,
    CONTROL_STATUSES,
    CONTROL_UNKNOWN,
    CONTROL_WORSE,
    Check,
)
from modgap.ranking.judgment import WITH_SCORE, Judgment, choice_of, help_of, judge
from modgap.ranking.recommendation import choice_statement, headline, help_statement, judgment_answer, next_step
from modgap.statistics.multiple_comparisons import ALPHABET, MOST_LETTERED, group_letters
from tests.ranking_records import make_ranking, score_table

MEASURED = {"value": -2.008, "interval": [-2.097, -1.919]}
TIED = {"source": "vit", "win_probability": 0.39, "corrected_p_value": 0.78}
OTHERS = {
    v.CLEAR: {"sources": 3, "equal": [], "tied": [], "reason": None},
    v.TIE: {"sources": 3, "equal": [], "tied": [TIED], "reason": None},
    v.UNKNOWN: {"sources": 3, "equal": [], "tied": [], "reason": "no intervals were computed"},
    v.SINGLE: {"sources": 1, "equal": [], "tied": [], "reason": None},
}
CONTROLS = (None, CONTROL_WORSE, CONTROL_SIMILAR, CONTROL_BETTER, CONTROL_AS_GOOD, CONTROL_UNKNOWN)
STATUSES = (None, v.PASS, v.FAIL)
BASELINES = (None, CONTROL_WORSE, CONTROL_SIMILAR, CONTROL_BETTER, CONTROL_AS_GOOD, CONTROL_UNKNOWN)
USE_IF_YOU_TRANSFER = (
    "If you transfer, use swin, which is first by LEEP. First check that it beats a model trained from scratch."
)


def other_sources(choice, **changes):
    status = {v.CLEAR: v.PASS, v.TIE: v.WARN}.get(choice, v.INFO)
    values = {"first": "swin", "score": "leep", "runner_up": "vit", **MEASURED, **OTHERS[choice], **changes}
    return Check("other-sources", status, values)


def control(result):
    values = {"first": "swin", "score": "leep", "result": result, **MEASURED}
    return Check("control", CONTROL_STATUSES[result], {**values, "control_value": -2.3, "control_interval": None})


def baseline(result, score="linear-probe"):
    values = {"score": score, "value": 0.522, "interval": [0.437, 0.607], "best_source": "vit", "best_value": 0.676}
    return Check("baseline", CONTROL_STATUSES[result], {**values, "baseline": "hog", "first": "swin", "result": result})


def majority_class(status):
    values = {"first": "swin", "score": "knn", "value": 0.31, "interval": [0.28, 0.34], "baseline": 0.30}
    return Check("majority-class", status, values)


def verdict_of(choice, checks, **fields):
    by_name = {check.id: check for check in (other_sources(choice), *checks)}
    tied = ("vit",) if choice == v.TIE else ()
    fields = {"help": help_of(by_name), "first": "swin", "tied": tied, **fields}
    return Judgment(choice=choice_of(by_name["other-sources"]), by="leep", checks=tuple(by_name.values()), **fields)


@pytest.mark.parametrize(("choice", "result"), list(itertools.product(OTHERS, CONTROLS)))
def test_sentences_never_contradict_each_other(choice, result):
    for beside, majority in itertools.product(BASELINES, STATUSES):
        checks = [control(result)] if result else []
        checks += [baseline(beside)] if beside else []
        checks += [majority_class(majority)] if majority else []
        verdict = verdict_of(choice, checks)
        assert verdict.choice == choice
        text = " ".join(judgment_answer(verdict).sentences)
        as_good = (CONTROL_SIMILAR, CONTROL_BETTER, CONTROL_AS_GOOD)
        opposed = result in as_good or beside in as_good or majority == v.FAIL
        assert verdict.help == (
            v.NO
            if CONTROL_BETTER in (result, beside)
            else v.DOUBTFUL
            if opposed
            else v.NOT_TESTED
            if result is None
            else v.UNKNOWN
            if CONTROL_UNKNOWN in (result, beside)
            else v.LIKELY
        )
        assert ("By LEEP, start with swin" in text) == (choice == v.CLEAR and verdict.help == v.LIKELY)
        # Only a short fine-tuning says so.
        assert "Transfer from" not in text
        assert "ransfer from these" not in text
        if opposed:
            assert "start with" not in text
            assert "fine-tune both" not in text
            assert not ("significantly better than the same architecture" in text and result != CONTROL_WORSE)
        assert all(sentence.endswith((".", "?")) for sentence in judgment_answer(verdict).sentences)
        if majority == v.FAIL:
            assert "use swin" not in text
            if verdict.help != v.NO and choice != v.SINGLE:
                assert judgment_answer(verdict).headline == (
                    "swin is first by LEEP, but its k-NN error is no lower than that of always predicting the largest "
                    "class. Fine-tune several sources briefly, and compare."
                )


ROWS = [
    ((v.NONE, v.NOT_TESTED, v.NOTHING), "No source has a value; the reasons are below."),
    (
        (v.TIE, v.NO, v.BOTH, CONTROL_BETTER),
        "After a short fine-tuning, the baseline hog has a lower error than every source that was fine-tuned. Train it "
        "first.",
    ),
    ((v.SINGLE, v.NO, v.BOTH), "Do not transfer from this source; train from scratch."),
    ((v.TIE, v.NO, v.BOTH), "Do not transfer from these sources; train from scratch."),
    (
        (v.CLEAR, v.NO, WITH_SCORE),
        "By LEEP, random weights are better than swin: compare it with a model trained from scratch.",
    ),
    ((v.SINGLE, v.LIKELY, v.BOTH), "Transfer from swin, the only source that was fine-tuned."),
    ((v.SINGLE, v.LIKELY, v.NOTHING), "swin is the only source; compare it with a model trained from scratch."),
    (
        (v.TIE, v.DOUBTFUL, v.NOTHING, None, v.FAIL),
        "swin is first by LEEP, but its k-NN error is no lower than that of always predicting the largest class. "
        "Fine-tune several sources briefly, and compare.",
    ),
    ((v.CLEAR, v.LIKELY, v.BOTH, CONTROL_WORSE), "Transfer from swin."),
    ((v.CLEAR, v.LIKELY, WITH_SCORE), "After a short fine-tuning, start with swin, and compare the next ones."),
    (
        (v.CLEAR, v.DOUBTFUL, v.WITHOUT_CONTROL, CONTROL_SIMILAR),
        "If you transfer, use swin. First check that it beats the baseline hog and a model trained from scratch.",
    ),
    ((v.CLEAR, v.DOUBTFUL, v.NOTHING), USE_IF_YOU_TRANSFER),
    ((v.TIE, v.LIKELY, v.NOTHING), "By LEEP, swin and vit are tied: fine-tune both and compare."),
    (
        (v.TIE, v.UNKNOWN, v.BOTH, CONTROL_UNKNOWN),
        "After a short fine-tuning, no source stands out. Compare swin with the baseline hog.",
    ),
    (
        (v.UNKNOWN, v.NOT_TESTED, v.NOTHING),
        "By LEEP, swin is first, but this run does not show how certain that is.",
    ),
]
"""A situation for each row of the decision table: choice, help, what was fine-tuned, baseline and largest class."""


def judgment_in(choice, help_, tuned, beside=None, majority=None):
    score = "leep" if tuned == v.NOTHING else "pilot"
    checks = [] if choice == v.NONE else [other_sources(choice, score=score)]
    if tuned in (v.BOTH, WITH_SCORE):
        measured = control(CONTROL_WORSE)
        score = "pilot" if tuned == v.BOTH else "leep"
        checks.append(replace(measured, values={**measured.values, "score": score}))
    checks += [baseline(beside, "linear-probe" if tuned == v.NOTHING else "pilot")] if beside else []
    checks += [majority_class(majority)] if majority else []
    first, tied = (None, ()) if choice == v.NONE else ("swin", ("vit",) if choice == v.TIE else ())
    return Judgment(choice, help_, "leep", first, tied, tuple(checks))


@pytest.mark.parametrize("number", range(len(ROWS)))
def test_each_row_of_the_decision_table_has_its_headline(number):
    situation, expected = ROWS[number]
    judgment = judgment_in(*situation)
    assert [rule.applies(judgment) for rule in v.HEADLINES].index(True) == number
    assert headline(judgment) == expected


def test_every_situation_has_a_headline():
    assert len(ROWS) == len(v.HEADLINES)
    tuned = (v.NOTHING, *v.SOURCES)
    for situation in itertools.product(v.CHOICE_LABELS, v.HELP_LABELS, tuned, CONTROLS):
        if situation[0] != v.NONE:
            assert headline(judgment_in(*situation)).endswith(".")


@pytest.mark.parametrize(
    ("choice", "help_", "expected"),
    [
        (v.CLEAR, v.LIKELY, "By LEEP, start with swin, and compare the next ones."),
        (
            v.CLEAR,
            v.DOUBTFUL,
            USE_IF_YOU_TRANSFER,
        ),
        (
            v.CLEAR,
            v.UNKNOWN,
            USE_IF_YOU_TRANSFER,
        ),
        (
            v.CLEAR,
            v.NOT_TESTED,
            USE_IF_YOU_TRANSFER,
        ),
        (v.TIE, v.LIKELY, "By LEEP, swin and vit are tied: fine-tune both and compare."),
        (v.TIE, v.DOUBTFUL, "By LEEP, no source stands out. Compare swin with a model trained from scratch."),
        (v.CLEAR, v.NO, "By LEEP, random weights are better than swin: compare it with a model trained from scratch."),
        (v.SINGLE, v.NO, "By LEEP, random weights are better than swin: compare it with a model trained from scratch."),
        (v.UNKNOWN, v.LIKELY, "By LEEP, swin is first, but this run does not show how certain that is."),
        (v.SINGLE, v.LIKELY, "swin is the only source; compare it with a model trained from scratch."),
    ],
)
def test_the_headline_follows_from_choice_and_help(choice, help_, expected):
    assert headline(verdict_of(choice, [], help=help_)) == expected


def test_a_short_fine_tuning_says_to_transfer_or_not():
    def after_fine_tuning(choice, help_, by="pilot"):
        measured = control(CONTROL_WORSE)
        measured = replace(measured, values={**measured.values, "score": by})
        return headline(
            Judgment(choice, help_, "leep", "swin", checks=(other_sources(choice, score="pilot"), measured))
        )

    assert after_fine_tuning(v.CLEAR, v.LIKELY) == "Transfer from swin."
    assert after_fine_tuning(v.CLEAR, v.NO) == "Do not transfer from these sources; train from scratch."
    assert after_fine_tuning(v.SINGLE, v.NO) == "Do not transfer from this source; train from scratch."
    # The control could not be fine-tuned.
    unsure = after_fine_tuning(v.CLEAR, v.LIKELY, "leep")
    assert unsure == "After a short fine-tuning, start with swin, and compare the next ones."
    assert after_fine_tuning(v.CLEAR, v.DOUBTFUL).startswith("If you transfer, use swin.")


@pytest.mark.parametrize(
    ("result", "help_", "label"),
    [(CONTROL_WORSE, v.LIKELY, "Shown"), (CONTROL_SIMILAR, v.DOUBTFUL, "Not shown"), (CONTROL_BETTER, v.NO, "No")],
)
def test_a_control_that_was_fine_tuned_decides_alone_whether_transfer_helps(result, help_, label):
    measured = control(result)
    measured = replace(measured, values={**measured.values, "score": "pilot"})
    first = other_sources(v.CLEAR, score="pilot")
    checks = {check.id: check for check in (first, measured, baseline(CONTROL_WORSE), majority_class(v.FAIL))}
    assert help_of(checks) == help_
    statement = help_statement(Judgment(v.CLEAR, help_, "leep", "swin", checks=tuple(checks.values())))
    assert statement.label == label
    assert "error after a short fine-tuning" in statement.sentence
    by_score = help_statement(verdict_of(v.CLEAR, [control(CONTROL_WORSE)]))
    assert by_score.label == "By scores, yes"


@pytest.mark.parametrize(("choice", "result"), list(itertools.product(OTHERS, CONTROLS)))
@pytest.mark.parametrize("beside", CONTROLS)
def test_sentences_after_a_short_fine_tuning_never_contradict_each_other(choice, result, beside):
    first = other_sources(choice, score="pilot")
    tuned = [replace(one, values={**one.values, "score": "pilot"}) for one in ([control(result)] if result else [])]
    compared = [baseline(beside, "pilot")] if beside else []
    # By scores, pretraining does not help; after a short fine-tuning they decide nothing.
    checks = [first, *tuned, *compared, majority_class(v.FAIL)]
    by_name = {check.id: check for check in checks}
    tied = ("vit",) if choice == v.TIE else ()
    verdict = Judgment(choice_of(first), help_of(by_name), "leep", "swin", tied, tuple(checks))
    as_good = (CONTROL_SIMILAR, CONTROL_AS_GOOD, CONTROL_BETTER)
    assert verdict.help == (
        v.NO
        if CONTROL_BETTER in (result, beside)
        else v.DOUBTFUL
        if result in as_good or beside in as_good
        else v.NOT_TESTED
        if result is None
        else v.UNKNOWN
        if CONTROL_UNKNOWN in (result, beside)
        else v.LIKELY
    )
    title, answer = headline(verdict), help_statement(verdict)
    assert answer.sentence, "every answer has its reason"
    assert "largest class" not in answer.sentence
    assert ("Train it first." in title) == (beside == CONTROL_BETTER)
    assert ("significantly worse than the baseline hog" in answer.sentence) == (beside == CONTROL_BETTER)
    if "Transfer from" in title:
        assert verdict.help == v.LIKELY
        assert choice in (v.CLEAR, v.SINGLE)
    if beside in as_good:
        assert "the baseline hog" in title + answer.sentence
        assert "First check that it beats a model trained from scratch" not in title
    assert "only source with a value" not in title + choice_statement(verdict).sentence


def test_the_only_source_that_was_fine_tuned_is_not_called_the_only_one():
    tuned = replace(control(CONTROL_WORSE), values={**control(CONTROL_WORSE).values, "score": "pilot"})
    checks = (other_sources(v.SINGLE, score="pilot"), tuned)
    assert headline(Judgment(v.SINGLE, v.LIKELY, "leep", "swin", checks=checks)) == (
        "Transfer from swin, the only source that was fine-tuned."
    )
    text = choice_statement(Judgment(v.SINGLE, v.LIKELY, "leep", "swin", checks=checks)).sentence
    assert text.startswith("swin is the only source that was fine-tuned, error after a short fine-tuning ")


def test_a_source_is_not_called_the_only_one_where_others_have_no_value():
    failed = Check("failed-sources", v.WARN, {"sources": ["vit"]})
    verdict = verdict_of(v.SINGLE, [failed], help=v.LIKELY)
    expected = "swin is the only source with a value; compare it with a model trained from scratch."
    assert headline(verdict) == expected


def test_a_ranking_without_any_value_gives_no_advice():
    verdict = Judgment(v.NONE, v.NOT_TESTED, "leep")
    assert choice_of(None) == v.NONE
    assert headline(verdict) == "No source has a value; the reasons are below."
    assert judgment_answer(verdict).sentences[1].startswith("Which source is best? No value.")


def test_equal_values_are_a_tie_even_without_intervals():
    check = other_sources(v.UNKNOWN, equal=["vit"], tied=[TIED])
    assert choice_of(check) == v.TIE
    verdict = Judgment(v.TIE, v.LIKELY, "leep", "swin", ("vit",), (check,))
    assert "and vit has the same value." in choice_statement(verdict).sentence


def test_the_confidences_have_numbers():
    verdict = verdict_of(v.CLEAR, [control(CONTROL_WORSE), baseline(CONTROL_SIMILAR)])
    assert choice_statement(verdict).sentence == (
        "swin is first of 3 (LEEP −2.008, 95 % CI −2.097 to −1.919) and significantly better than every other source "
        "by this score."
    )
    assert help_statement(verdict).label == "Doubtful"
    assert "the linear probe of vit, the best one, is not shown to be better" in help_statement(verdict).sentence


def test_checks_have_a_sentence_with_numbers():
    verdict = verdict_of(v.TIE, [control(CONTROL_SIMILAR), baseline(CONTROL_SIMILAR), majority_class(v.FAIL)])
    texts = {statement.question: statement.sentence for statement in judgment_answer(verdict).checks}
    assert texts["Baseline of the field"] == (
        "The baseline hog, without any pretrained model, has an error of 0.522 (0.437 to 0.607) in cross-validation; "
        "the linear probe of vit has 0.676."
    )
    assert texts["Majority-class baseline"] == (
        "The k-NN error of swin is 0.310 (0.280 to 0.340); always predicting the largest class gives 0.300."
    )
    same = "The same architecture with random weights is not significantly different: LEEP "
    assert texts["Random-weights control"].startswith(same)
    assert "Other sources" not in texts


def test_other_scores_by_which_the_control_is_as_good_make_the_help_doubtful_only_if_they_are_most():
    similar = [{"score": "knn", "value": 0.73, "control": 0.61}]
    for compared, status, expected in ((1, v.FAIL, v.DOUBTFUL), (3, v.WARN, v.LIKELY)):
        check = Check("control-by-other-scores", status, {"first": "swin", "compared": compared, "similar": similar})
        verdict = verdict_of(v.CLEAR, [control(CONTROL_WORSE), check])
        assert verdict.help == expected
        assert "k-NN error 0.730 and 0.610" in " ".join(judgment_answer(verdict).sentences)


def test_any_score_that_rates_a_control_above_the_source_is_named_and_weakens_the_recommendation():
    above = [{"score": "logme", "control": "random:vit", "value": -0.7, "control_value": -0.6, "p_value": 0.2}]
    for entries, status, expected in (([], v.PASS, v.LIKELY), (above, v.WARN, v.DOUBTFUL)):
        check = Check("controls-above", status, {"first": "swin", "compared": 6, "above": entries})
        verdict = verdict_of(v.CLEAR, [control(CONTROL_WORSE), check])
        assert verdict.help == expected
        assert ("By LEEP, start with swin, and compare the next ones." in judgment_answer(verdict).sentences) == (
            expected == v.LIKELY
        )
    text = " ".join(judgment_answer(verdict).sentences)
    assert "By LogME, a random-weights control ranks above swin." in text
    assert (
        "1 of 6 scores rates a random-weights control above swin: LogME (−0.600 for random:vit and −0.700 for swin)."
        in text
    )


@pytest.mark.parametrize(("agreeing", "status"), [(0, v.WARN), (1, v.WARN), (7, v.PASS)])
def test_the_headline_names_the_score_and_how_many_others_agree(agreeing, status):
    """Significantly better than every other source, by one score alone."""
    values = {"first": "swin", "agreeing": agreeing, "compared": 9, "disagreeing": []}
    verdict = verdict_of(v.CLEAR, [control(CONTROL_WORSE), Check("other-scores", status, values)])
    verb = "puts" if agreeing == 1 else "put"
    agreement = f"({agreeing} of 9 other scores {verb} it first)"
    assert headline(verdict) == f"By LEEP, start with swin {agreement}, and compare the next ones."
    answer = choice_statement(verdict)
    assert (answer.label, answer.status) == ("Clear by LEEP", status)
    assert answer.sentence.endswith("and significantly better than every other source by this score.")
    doubtful = replace(verdict, help=v.DOUBTFUL)
    assert headline(doubtful).startswith(f"If you transfer, use swin, which is first by LEEP {agreement}. ")


def test_a_comparison_that_shows_nothing_says_what_it_could_have_shown():
    tuned = replace(control(CONTROL_SIMILAR), values={**control(CONTROL_SIMILAR).values, "score": "pilot"})
    tuned = replace(tuned, values={**tuned.values, "smallest": 0.1137})
    first = other_sources(v.TIE, score="pilot", smallest=0.0921)
    verdict = Judgment(v.TIE, v.DOUBTFUL, "leep", "swin", ("vit",), (first, tuned))
    assert "Only a difference of 0.092 or more could have been shown." in choice_statement(verdict).sentence
    answer = help_statement(verdict)
    assert answer.label == "Not shown"
    assert "not shown to be better than its random-weights control." in answer.sentence
    assert answer.sentence.endswith("Only a difference of 0.114 or more could have been shown.")


def test_a_control_of_another_source_counts_as_above():
    ranking = make_ranking(knn=(0.79, 0.72, 0.75))
    rows = {row.name: index for index, row in enumerate(ranking.rows)}
    assert judge(ranking).check("controls-above").status == v.PASS
    values = ranking.tables["knn"].standings.values.copy()
    values[rows["random:vit-2"]] = 0.7
    tables = {**ranking.tables, "knn": score_table("knn", values, 3)}
    verdict = judge(replace(ranking, tables=tables))
    (entry,) = verdict.check("controls-above").values["above"]
    assert (entry["score"], entry["control"]) == ("knn", "random:vit-2")
    assert verdict.help == v.DOUBTFUL


def test_the_next_step_says_what_its_commands_do():
    commands = (("modgap", "train", "--target", "my data.csv"),)
    verdict = verdict_of(v.TIE, [control(CONTROL_SIMILAR), majority_class(v.PASS)], commands=commands)
    assert judgment_answer(verdict).commands == ("modgap train --target 'my data.csv'",)
    assert next_step(verdict) == "Run this command."
    piloted = verdict_of(v.TIE, [], commands=(("modgap", "rank", "--pilot", "3"),))
    assert next_step(piloted) == "Fine-tune the first known sources briefly, and let their errors decide."
    for count, comparative in ((2, "lower"), (3, "lowest")):
        text = next_step(verdict_of(v.TIE, [], commands=commands * count))
        assert text == f"Run these commands and keep the model with the {comparative} validation error."


def test_hidden_characters_and_long_names_are_made_visible():
    hostile = "a\u202eb\x1b[31m" + "x" * 300
    verdict = Judgment(v.CLEAR, v.LIKELY, "leep", hostile)
    text = headline(verdict)
    assert "‹U+202E›" in text
    assert "‹U+001B›" in text
    assert "…" in text
    assert len(text) < 130
    assert visible_name("wav2vec2-base") == "wav2vec2-base"


def test_sources_share_a_letter_exactly_if_they_are_not_different():
    rng = np.random.default_rng(0)
    for _ in range(40):
        different = np.triu(rng.random((7, 7)) < rng.random(), 1)
        different |= different.T
        letters = group_letters(different)
        for one, other in itertools.combinations(range(7), 2):
            assert bool(set(letters[one]) & set(letters[other])) == (not different[one, other])


def piepho_groups(different):
    """Return the groups by splitting those that hold two different members, pair by pair."""
    groups = [frozenset(range(len(different)))]
    for one, other in np.argwhere(np.triu(different, 1)).tolist():
        split = {
            part
            for group in groups
            for part in ((group - {one}, group - {other}) if {one, other} <= group else (group,))
        }
        groups = [group for group in split if not any(group < another for another in split)]
    return sorted(sorted(group) for group in groups)


def test_letters_are_those_of_piepho():
    rng = np.random.default_rng(1)
    for size in (1, 2, 5, 9, 9, 9, 12, 12):
        different = np.triu(rng.random((size, size)) < rng.random(), 1)
        different |= different.T
        groups = piepho_groups(different)
        expected = [
            "".join(letter for letter, group in zip(ALPHABET, groups, strict=False) if i in group) for i in range(size)
        ]
        assert group_letters(different) == expected


def test_exponentially_many_groups_end_the_search_for_letters():
    """Thirty pairs that differ make 2**30 groups, and the first fifty-three are too many."""
    half = MOST_LETTERED // 2
    different = np.kron(np.eye(half, dtype=bool), np.array([[False, True], [True, False]]))
    assert group_letters(different) == [""] * MOST_LETTERED
    # Here 26 pairs come first, and later pairs leave 27 groups.
    different = np.zeros((52, 52), bool)
    different[np.arange(26), np.arange(26) + 26] = different[np.arange(26) + 26, np.arange(26)] = True
    different[26:, 26:] = ~np.eye(26, dtype=bool)
    letters = group_letters(different)
    assert len(set("".join(letters))) == 27
    assert all(len(text) == 26 for text in letters[:26])
    assert all(len(text) == 1 for text in letters[26:])


@pytest.mark.parametrize(
    ("bounds", "text"),
    [
        ((-2.259, -2.04), "-2.259 to -2.040"),
        ((-0.2274, 0.016361), "-0.2274 to 0.0164"),
        ((510.12, 1600), "510 to 1,600"),
        ((0.0, 0.0), "0.000 to 0.000"),
        ((1e-9, 2.5e-9), "1e-09 to 2.5e-09"),
        ((np.nan, 1.0), ""),
    ],
)
def test_both_bounds_of_an_interval_have_the_same_decimals(bounds, text):
    assert format_interval(bounds) == text


def test_a_difference_has_the_decimals_of_its_interval():
    difference = {"value": -0.164, "interval": (-0.3122, -0.01519), "corrected_p_value": 0.062}
    assert difference_texts(difference) == ("-0.1640 (-0.3122 to -0.0152)", "0.062")


def test_more_than_sixty_sources_have_no_letters():
    different = np.triu(np.ones((MOST_LETTERED + 1, MOST_LETTERED + 1), bool), 40)
    different |= different.T
    assert group_letters(different) == [""] * (MOST_LETTERED + 1)
    assert group_letters(different[:-1, :-1])[0] == "A"
