"""The sentences of a recommendation for every verdict and every combination of grounds."""

import itertools

import pytest

from modgap.ranking import verdict as kinds
from modgap.ranking.recommendation import verdict_sentences
from modgap.ranking.verdict import Competitor, ErrorComparison, Verdict

KINDS = {
    kinds.SINGLE: {"n_sources": 1},
    kinds.EQUAL: {"n_sources": 3, "equals": ("vit",), "runner_up": "vit"},
    kinds.UNCERTAIN: {"n_sources": 3, "uncertainty_reason": "size does not depend on the samples", "runner_up": "vit"},
    kinds.TIED: {"n_sources": 3, "competitors": (Competitor("vit", 0.39),), "runner_up": "vit"},
    kinds.DOUBTFUL: {"n_sources": 3, "runner_up": "vit"},
    kinds.RECOMMENDED: {"n_sources": 3, "runner_up": "vit"},
}
CONTROLS = (None, kinds.CONTROL_WORSE, kinds.CONTROL_SIMILAR, kinds.CONTROL_BETTER)
MAJORITIES = (None, ErrorComparison("knn", 0.31, (0.28, 0.34), 0.30))
RAW_VALUES = (None, ErrorComparison("linear-probe", 0.2, None, 0.21))


def text_of(**fields):
    return " ".join(verdict_sentences(Verdict(by="leep", best="swin", **fields)))


@pytest.mark.parametrize(
    ("control", "majority", "raw_values"), list(itertools.product(CONTROLS, MAJORITIES, RAW_VALUES))
)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != kinds.DOUBTFUL])
def test_sentences_never_contradict_each_other(kind, control, majority, raw_values):
    grounds = Verdict(
        kind, "leep", best="swin", control=control, majority=majority, raw_values=raw_values, **KINDS[kind]
    )
    has_doubts = control in (kinds.CONTROL_SIMILAR, kinds.CONTROL_BETTER) or majority or raw_values
    verdict = kinds.choose_kind(grounds)
    assert verdict.kind == (kinds.DOUBTFUL if kind == kinds.RECOMMENDED and has_doubts else kind)
    sentences = list(verdict_sentences(verdict))
    text = " ".join(sentences)
    assert ("Transfer from it" in text) == (verdict.kind == kinds.RECOMMENDED)
    assert ("train a model from scratch" in text) == bool(has_doubts)
    assert ("reflects what the source has learned" in text) == (control == kinds.CONTROL_WORSE and not has_doubts)
    assert all(sentence.endswith(".") for sentence in sentences)


def test_the_majority_sentence_names_both_errors():
    text = text_of(kind=kinds.TIED, majority=MAJORITIES[1], **KINDS[kinds.TIED])
    expected = "k-NN error is 0.310 (95 % CI 0.280-0.340), no better than always predicting the majority class (0.300)."
    assert expected in text


def test_competitors_are_named_with_their_probability():
    text = text_of(kind=kinds.TIED, **KINDS[kinds.TIED])
    assert "swin ranks first of 3 sources by leep, but it is not significantly better than vit (0.39)" in text
    assert "Collect more samples, or fine-tune swin and vit and compare them." in text


def test_other_scores_are_counted():
    grounds = {"agreeing": ("knn",), "disagreeing": ("gbc", "parc"), "unconvincing": ("knn",)}
    text = text_of(kind=kinds.RECOMMENDED, **grounds, **KINDS[kinds.RECOMMENDED])
    assert "1 of 3 other scores ranks swin first too. The others are gbc, parc." in text
    assert "By knn, the same architecture with random weights scores at least as well" in text
    nothing_agrees = text_of(kind=kinds.TIED, disagreeing=("gbc",), **KINDS[kinds.TIED])
    assert "No other score ranks swin first (gbc)." in nothing_agrees


def test_raw_values_that_do_as_well_prevent_a_recommendation():
    grounds = Verdict(kinds.DOUBTFUL, "leep", best="swin", raw_values=RAW_VALUES[1], **KINDS[kinds.DOUBTFUL])
    assert grounds.has_doubts
    assert kinds.choose_kind(grounds).kind == kinds.DOUBTFUL
    assert kinds.choose_kind(Verdict(kinds.DOUBTFUL, "leep", best="swin", n_sources=2)).kind == kinds.RECOMMENDED
