"""The evidence: its regrets, its intervals over targets and sources, and the samples that its jobs use."""

import importlib
import re
from dataclasses import replace

import numpy as np
import pandas
import pytest
from scipy import stats

from modgap.training.pilot import labeled_halves

SOURCES = ("efficientnet-lite0@64px", "vit-fashion")
"""The sources of the study of methods."""


def test_regrets_are_those_of_a_loop(evidence):
    rng = np.random.default_rng(0)
    regrets = evidence["two_way"].regrets
    for _ in range(50):
        errors = rng.integers(0, 9, (6, 5)).astype(float)
        scores = rng.integers(0, 3, (6, 5)).astype(float)
        scores[rng.random((6, 5)) < 0.2] = np.nan
        sources, targets = np.array([0, 2, 3, 5]), np.array([4, 1, 1])
        found = regrets(scores, errors, sources, targets)
        for value, target in zip(found, targets, strict=True):
            known = [scores[source, target] for source in sources if not np.isnan(scores[source, target])]
            best = [source for source in sources if scores[source, target] == max(known)] if known else list(sources)
            expected = np.mean([errors[source, target] for source in best]) - min(errors[sources, target])
            assert value == pytest.approx(expected)


def test_a_perfect_score_has_no_regret(evidence):
    errors = np.random.default_rng(0).random((10, 12))
    interval = evidence["two_way"].two_way_interval(
        lambda sources, targets: evidence["two_way"].regrets(-errors, errors, sources, targets), 10, 12, resamples=200
    )
    assert (interval.mean, interval.low, interval.high) == (0, 0, 0)
    assert interval.p_value == 1


def test_resamples_of_subsets_are_those_of_single_draws(evidence):
    two_way = evidence["two_way"]
    errors, scores = np.random.default_rng(0).random((2, 10, 14))

    def regret(sources, targets):
        return two_way.regrets(scores, errors, sources, targets)

    one, other = (two_way.resampled_means(regret, 10, 14, resamples=300, pooled=pooled) for pooled in (True, False))
    np.testing.assert_allclose(one, other, atol=1e-12)
    numbers = two_way.resampled_means(lambda sources, targets: targets + len(sources), 10, 14, resamples=5000)
    # A draw of 10 of 10 sources has 10 (1 - .9 ** 10) different ones on average.
    assert numbers.mean() == pytest.approx(6.5 + 6.51, abs=0.1)


def test_the_weighted_tau_is_that_of_scipy(evidence):
    rng = np.random.default_rng(0)
    for n in (2, 3, 7, 10):
        for n_values in (2, 5, 1000):
            one, other = rng.integers(0, n_values, (2, n)).astype(float)
            expected = stats.weightedtau(one, other).statistic
            found = evidence["agreement"].weighted_tau(one, other)
            assert found == pytest.approx(0.0 if np.isnan(expected) else expected, abs=1e-12)


def test_a_score_adds_to_the_record_of_the_sources_where_it_knows_the_rest(evidence):
    agreement, regrets = evidence["agreement"], evidence["two_way"].regrets
    rng = np.random.default_rng(0)
    errors = rng.normal(0, 5, (10, 1)) + rng.normal(0, 5, (1, 24)) + rng.normal(0, 5, (10, 24))
    every = np.arange(10), np.arange(24)
    noise = rng.normal(size=errors.shape)
    perfect, useless = (agreement.with_record(scores, errors) for scores in (-errors, noise))
    record = np.array([-np.delete(errors, target, 1).mean(axis=1) for target in range(24)]).T
    assert regrets(perfect, errors, *every).mean() < 0.5 < regrets(record, errors, *every).mean()
    assert regrets(useless, errors, *every).mean() > 0.7 * regrets(record, errors, *every).mean()
    hidden = np.where(rng.random(errors.shape) < 0.3, np.nan, noise)
    assert np.isfinite(agreement.with_record(hidden, errors)).all()


def test_intervals_over_targets_and_sources_cover_the_true_difference(evidence):
    power = evidence["evidence_power"]
    useless = power.run(power.Design(), 3.0, 60, 200)
    perfect = power.run(power.Design(interaction_sd=9.0), 0.0, 60, 200)
    for one in (useless, perfect):
        # Resamples of sources have two thirds of them, so the intervals over both are too long.
        assert one.coverage >= 0.9
        # Regrets are skewed, so that Student's t over 12 targets is somewhat short.
        assert one.coverage_here >= 0.85
    assert perfect.difference < 0 < useless.difference
    assert perfect.power > 0.5


@pytest.mark.parametrize("one_seed", [0, 4])
def test_variance_components_are_those_that_made_the_errors(evidence, one_seed):
    rng = np.random.default_rng(0)
    found = []
    for _ in range(200):
        target, source = rng.normal(0, 9, (1, 24, 1)), rng.normal(0, 5, (10, 1, 1))
        errors = target + source + rng.normal(0, 4, (10, 24, 1)) + rng.normal(0, 2, (10, 24, 2))
        errors[:one_seed, :, 1] = np.nan
        one = evidence["two_way"].variance_components(errors)
        found.append([one.target, one.source, one.interaction, one.seed])
    assert np.mean(found, axis=0) == pytest.approx([81, 25, 16, 4], rel=0.1)


def test_no_test_target_is_one_of_development(evidence):
    ranking, study = evidence["ranking_jobs"], evidence["study_jobs"]
    assert not set(ranking.DEVELOPMENT) & set(ranking.TEST)
    assert not set(study.DEVELOPMENT) & set(study.TARGETS)
    assert set(study.DEVELOPMENT) <= set(ranking.DEVELOPMENT)
    assert set(study.TARGETS) <= set(ranking.TEST)
    assert len(ranking.SOURCES) >= 10
    assert len({*ranking.DEVELOPMENT.values(), *ranking.TEST.values()}) >= 6


def test_the_rate_comes_from_the_other_half_and_later_jobs_need_it(evidence, tmp_path):
    jobs = evidence["ranking_jobs"]
    log = evidence["result_log"].ResultLog(tmp_path / "ranking.jsonl")
    assert list(jobs.source_part("all", log, "digits", "minilm")) == []
    for rate, error in zip(jobs.RATES, (20.0, 10.0, 10.0), strict=True):
        log.add(jobs.Job("half", "minilm", "digits", 0, rate), {"errors": {"10": error}, "seconds": 1.0})
    assert jobs.chosen_rate(log, "minilm", "digits") == jobs.RATES[1]
    assert [(job.seed, job.rate) for job in jobs.source_part("all", log, "digits", "minilm")] == [(0, 1e-4), (1, 1e-4)]
    for rate in jobs.RATES:
        log.add(jobs.Job("half", "ppocr", "digits", 0, rate), {"errors": {"10": 10.0}, "seconds": 1.0})
    assert [job.seed for job in jobs.source_part("all", log, "digits", "ppocr")] == [0]


@pytest.mark.bundle
@pytest.mark.parametrize("target", ["pd-speech", "italy-power"])
def test_halves_share_no_sample_and_no_group(evidence, target):
    whole = evidence["raw_neighbors"].read_labeled(target)
    halves = labeled_halves(whole)
    assert sorted([*halves.train, *halves.test]) == sorted(whole.train)
    assert len(whole.train) <= 128
    assert not set(whole.train) & set(whole.test)
    if whole.groups is not None:
        assert not set(whole.groups[halves.train]) & set(whole.groups[halves.test])
    labels = np.asarray(whole.table.class_labels)
    assert set(labels[halves.train]) == set(labels[halves.test]) == set(labels[whole.train])


def runs_of_methods(rng, effects, cell_sd=1.0, source_sd=0.0, second=()):
    """Runs of methods with an effect each on eight targets, from two sources with three seeds.

    The spread of the sources is that of each method and target between them; some methods have a further effect of the
    second source.
    """
    second = dict(second)
    rows = []
    for target in "abcdefgh":
        level = rng.normal(0, 2)
        for method, effect in effects.items():
            cell = level + effect + rng.normal(0, cell_sd)
            for source in SOURCES:
                mean = cell + (rng.normal(0, source_sd) if source_sd else 0.0)
                mean += (source == SOURCES[1]) * (2 + second.get(method, 0.0))
                for seed in range(3):
                    row = {"source": source, "method": method, "target": target, "seed": seed}
                    rows.append({**row, "log_error": mean + rng.normal(0, 0.5)})
    return pandas.DataFrame(rows)


def test_the_ratio_of_errors_is_a_paired_t_interval_over_targets(evidence):
    frame = runs_of_methods(np.random.default_rng(0), {"mona": 0.0, "emb": 0.0, "orca": 0.3, "finetune": -0.2})
    means = frame.groupby(["target", "method"]).log_error.mean().unstack()
    others = ["finetune", "emb", "orca"]
    found = evidence["ratios"].error_ratios(frame, "mona", others)
    mixed = evidence["ratios"].mixed_model_ratios(frame, "mona")
    for other in others:
        test = stats.ttest_rel(means["mona"], means[other])
        expected = test.confidence_interval(0.95)
        ratio = found[other]
        assert (ratio.low, ratio.high) == pytest.approx((np.exp(expected.low), np.exp(expected.high)))
        assert ratio.p_value == pytest.approx(test.pvalue)
        assert ratio.low < ratio.value < ratio.high
        assert mixed[other].value == pytest.approx(ratio.value, rel=1e-3)
        assert mixed[other].low < ratio.value < mixed[other].high


def test_the_detectable_ratio_is_found_in_four_of_five_cases(evidence):
    rng, n_targets, spread = np.random.default_rng(0), 8, 0.2
    half = stats.t.ppf(0.975, n_targets - 1) * spread / np.sqrt(n_targets)
    ratio = evidence["ratios"].Ratio(1.1, 1.1 * np.exp(-half), 1.1 * np.exp(half), 1.0)
    detectable = evidence["ratios"].detectable_ratio(ratio, n_targets)
    logarithms = rng.normal(np.log(detectable), spread, (20_000, n_targets))
    found = (stats.ttest_1samp(logarithms, 0, axis=1).pvalue <= 0.05).mean()
    assert found == pytest.approx(0.8, abs=0.015)


@pytest.mark.parametrize("cell_sd", [1.0, 0.3])
def test_the_mixed_model_is_the_analysis_of_variance_of_equal_cells(evidence, cell_sd):
    frame = runs_of_methods(np.random.default_rng(1), {"mona": 0.0, "emb": 0.1, "orca": 0.3}, cell_sd)
    cells = frame.groupby(["target", "method"]).log_error.mean().unstack()
    centered = cells.sub(cells.mean(axis=1), axis=0)
    rest = centered - centered.mean(axis=0)
    spread = np.sqrt(2 * (rest.to_numpy() ** 2).sum() / ((len(cells) - 1) * (cells.shape[1] - 1)) / len(cells))
    half = stats.norm.ppf(0.975) * spread
    for name, ratio in evidence["ratios"].mixed_model_ratios(frame, "mona").items():
        middle = float((cells["mona"] - cells[name]).mean())
        expected = np.exp([middle, middle - half, middle + half])
        assert (ratio.value, ratio.low, ratio.high) == pytest.approx(expected, rel=0.01)


def test_the_model_with_an_interaction_is_the_analysis_of_variance_of_equal_cells(evidence):
    effects, second = {"mona": 0.0, "emb": 0.1, "orca": 0.3, "finetune": 0.2}, {"finetune": -1.5}
    frame = runs_of_methods(np.random.default_rng(2), effects, 0.8, 0.8, second)
    ratios, others = evidence["ratios"], ["finetune", "emb", "orca"]
    cells = frame.groupby(["target", "source", "method"]).log_error.mean().unstack(["source", "method"])
    paired = ratios.interaction_ratios(frame, "mona", others)
    mixed, by_source = ratios.mixed_model_of_sources(frame, "mona")
    for other in others:
        first, last = (cells[source]["mona"] - cells[source][other] for source in SOURCES)
        test = stats.ttest_rel(first, last)
        expected = test.confidence_interval(0.95)
        one = paired[other]
        assert (one.low, one.high) == pytest.approx((np.exp(expected.low), np.exp(expected.high)))
        assert one.p_value == pytest.approx(test.pvalue)
        assert mixed[other].value == pytest.approx(one.value, rel=1e-3)
        for source, differences in zip(SOURCES, (first, last), strict=True):
            assert by_source[source][other].value == pytest.approx(np.exp(differences.mean()), rel=1e-3)
    # What is left of the cells' means without all effects of two of target, source and method.
    table = cells.to_numpy().reshape(len(cells), 2, -1)
    rest = table
    for axis in range(3):
        rest = rest - rest.mean(axis=axis, keepdims=True)
    spread = np.sqrt(4 * (rest**2).sum() / ((len(cells) - 1) * (table.shape[2] - 1)) / len(cells))
    half = np.log(mixed["emb"].high / mixed["emb"].low) / 2
    assert half == pytest.approx(stats.norm.ppf(0.975) * spread, rel=0.02)
    assert ratios.interaction_p_value(frame) < 0.05
    assert paired["finetune"].p_value < 0.05 < paired["emb"].p_value


def test_sources_that_do_not_matter_have_an_interaction_in_few_simulations(evidence):
    rng = np.random.default_rng(0)
    p_values = []
    for _ in range(40):
        frame = runs_of_methods(rng, dict.fromkeys(("mona", "emb", "orca"), 0.0), 0.3, 0.3)
        p_values.append(evidence["ratios"].interaction_p_value(frame))
    # Two are expected; more than six happen in 0.3 % of such tests.
    assert sum(p <= 0.05 for p in p_values) <= 6


def test_missing_runs_of_a_harder_source_do_not_change_a_ratio(evidence):
    frame = runs_of_methods(np.random.default_rng(0), {"mona": 0.0, "emb": 0.0}, cell_sd=0.0)
    missing = (frame.method == "mona") & (frame.source == SOURCES[1]) & (frame.seed > 0)
    ratio = evidence["ratios"].error_ratios(frame[~missing], "mona", ["emb"])["emb"]
    assert ratio.low < 1 < ratio.high
    assert ratio.value == pytest.approx(1, abs=0.3)


def test_the_falsifiers_need_a_cut_of_the_distortion(evidence):
    held, verdict = evidence["falsifiers"].Held, evidence["falsifiers"].verdict
    cuts, helps = held("replay", 0.05, 0.1, 1.1), held("replay", 0.07, 0.1, 0.9)
    spared, none = held("l2-sp", 0.08, 0.1, 0.9), held("l2-sp", 0.02, -0.01, 0.9)
    assert [one.cuts for one in (cuts, helps, spared, none)] == [True, True, False, False]
    assert "not tested" in verdict([spared, none], 0.96)
    assert "knowledge helps the target is not supported" in verdict([spared, cuts], 0.96)
    assert verdict([helps, spared], 0.96).endswith("the mechanism is not supported here.")
    assert verdict([helps, spared], 0.94).endswith("is not refuted here.")
    assert "mixed support" in verdict([helps, held("l2-sp", 0.05, 0.1, 1.1)], 0.94)


def judged(evidence, name, differences, over_both=1.0):
    """An order whose regrets differ from those of the constant answer by these numbers."""
    agreement, two_way = evidence["agreement"], evidence["two_way"]
    here = two_way.target_interval(np.array(differences))
    none = two_way.MeanInterval(0.0, 0.0, 0.0, 1.0)
    both = two_way.MeanInterval(here.mean, here.mean - 1, over_both, 0.5)
    return name, agreement.Agreement(none, none, here, here.p_value * 3, none, none, both, 1.0)


def test_the_verdict_on_the_ranking_follows_the_protocol(evidence):
    judge = evidence["agreement"].judge
    lower, equal = [-4.0, -5.0, -6.0, -3.0], [-4.0, 5.0, 1.0, -3.0]
    pilots = {"pilot": np.zeros((2, 2))}
    here = judge("leep", dict([judged(evidence, "leep", lower), judged(evidence, "pilot", equal)]), pilots)
    assert here.text == "leep, chosen on the development targets, is better than the constant answer for these sources."
    general = judge("leep", dict([judged(evidence, "leep", lower, -0.1), judged(evidence, "pilot", equal)]), pilots)
    assert general.text.endswith("is better than the constant answer in general.")
    pilot = judge("leep", dict([judged(evidence, "leep", equal), judged(evidence, "pilot", lower)]), pilots)
    assert pilot.text.endswith("is not shown to be better than the constant answer, but for these sources pilot is.")
    none = judge("leep", dict([judged(evidence, "leep", equal), judged(evidence, "pilot", equal)]), pilots)
    assert none.text.startswith("Neither leep, chosen on the development targets, nor a pilot is shown")
    assert (here.significant, none.significant) == (("leep",), ())


def test_the_default_is_defined_everywhere_and_has_the_lowest_regret(evidence):
    errors = np.array([[10.0, 20.0], [5.0, 30.0]])
    perfect, undefined, worse = -errors, -errors.copy(), errors
    undefined[0, 0] = np.nan
    assert evidence["agreement"].default_score({"undefined": undefined, "worse": worse}, errors) == "worse"
    scores = {"undefined": undefined, "worse": worse, "perfect": perfect}
    assert evidence["agreement"].default_score(scores, errors) == "perfect"
    # Of scores with the same first choices, the one that orders the others better.
    errors = np.array([[10.0, 10.0], [20.0, 20.0], [30.0, 30.0]])
    same = {"swapped": -np.array([[1.0, 1.0], [3.0, 3.0], [2.0, 2.0]]), "perfect": -errors}
    assert evidence["agreement"].default_score(same, errors) == "perfect"


def test_orders_are_compared_with_the_constant_answer(evidence):
    rng = np.random.default_rng(0)
    errors = rng.normal(40, 10, (10, 14))
    constant = np.repeat(rng.normal(size=(10, 1)), 14, axis=1)
    named = {"perfect": -errors, "noise": rng.normal(size=(10, 14)), "constant answer": constant}
    found = evidence["agreement"].agreements(named, errors, 200)
    regret = errors[constant[:, 0].argmax()] - errors.min(axis=0)
    test = stats.ttest_1samp(-regret, 0.0)
    here = found["perfect"].here
    assert (here.mean, here.p_value) == pytest.approx((-regret.mean(), test.pvalue))
    assert (here.low, here.high) == pytest.approx(tuple(test.confidence_interval(0.95)))
    assert found["perfect"].corrected == pytest.approx(min(1, 2 * test.pvalue))
    assert found["perfect"].tau.mean == pytest.approx(1)
    assert np.isnan(found["constant answer"].corrected)


def test_intervals_of_regrets_cover_those_of_poor_orders_too(evidence):
    power, two_way = evidence["evidence_power"], evidence["two_way"]
    for noise in (0.5, 1e6):
        rng = np.random.default_rng(1)
        found = []
        for seed in range(60):
            measured, scores, _ = power.simulate(power.Design(), noise, rng)

            def regret(sources, targets, scores=scores, measured=measured):
                return two_way.regrets(scores, measured, sources, targets)

            found.append(two_way.two_way_interval(regret, 10, 14, resamples=100, seed=seed, centered=True))
        true = np.mean([one.mean for one in found])
        # Of 60 simulations 57 are expected; fewer than 52 happen in 2 % of such tests.
        assert sum(one.low <= true <= one.high for one in found) >= 52


def test_the_relation_without_effects_sees_the_interaction_alone(evidence):
    relation = importlib.import_module("evidence.relation")
    rng = np.random.default_rng(0)
    source, target = rng.normal(size=(10, 1)) * 5, rng.normal(size=(1, 14)) * 5
    shared, own = rng.normal(size=(2, 10, 14))
    errors = source + target + shared
    # A score of the sources' effects alone follows the errors everywhere, and says nothing of the interaction.
    found = relation.relation(-(source + 0.1 * own), errors, resamples=200)
    assert found["within targets"].mean > 0.8
    assert found["interaction"].low < 0 < found["interaction"].high
    # A score of the interaction alone is hidden by the effects.
    found = relation.relation(-(shared + 0.5 * own), errors, resamples=200)
    assert found["all"].mean < 0.5
    assert found["interaction"].low > 0.55
    rest = relation.without_effects(errors)
    assert np.abs(rest.mean(axis=0)).max() < 1e-12
    assert np.abs(rest.mean(axis=1)).max() < 1e-12
    # Where cells are unknown, the effects of the others are removed exactly, and the order of the cells has no part.
    hidden = np.where(rng.random(errors.shape) < 0.3, np.nan, source + target)
    assert np.nanmax(np.abs(relation.without_effects(hidden))) < 1e-12
    assert np.array_equal(np.isnan(relation.without_effects(hidden)), np.isnan(hidden))
    found = relation.relation(np.where(np.isnan(hidden), np.nan, -(shared + 0.5 * own)), errors, resamples=200)
    assert found["interaction"].low > 0.5


@pytest.mark.parametrize(("n", "most"), [(7, 2), pytest.param(20, 4, marks=pytest.mark.long)])
def test_unrelated_tables_have_a_relation_in_few_simulations(evidence, n, most):
    relation = importlib.import_module("evidence.relation")
    rng = np.random.default_rng(1)
    outside = 0
    for _ in range(n):
        scores, errors = rng.normal(size=(2, 10, 14))
        one = relation.relation(scores, errors, resamples=100)["interaction"]
        outside += not one.low <= 0 <= one.high
    # At most 5 % are expected; more than 2 of 7, or 4 of 20, happen in 0.4 % of such tests.
    assert outside <= most


def test_pairs_of_source_and_control_are_counted_like_in_a_loop(evidence):
    rng = np.random.default_rng(0)
    gains, lower = rng.integers(-2, 3, (2, 6, 8)).astype(float)
    gains[rng.random((6, 8)) < 0.2] = np.nan
    counts, always = [], []
    for gain, below in zip(gains.ravel(), lower.ravel(), strict=True):
        if not np.isnan(gain):
            counts.append(0.5 if gain == 0 or below == 0 else float((gain > 0) == (below > 0)))
            always.append(0.5 if below == 0 else float(below > 0))
    assert np.nanmean(evidence["controls"].right(gains, lower)) == pytest.approx(np.mean(counts))
    found = evidence["controls"].gain_over_always(gains, lower, 20)
    assert found.mean == pytest.approx(np.mean(counts) - np.mean(always))


@pytest.mark.parametrize("n", [50, pytest.param(150, marks=pytest.mark.long)])
def test_intervals_of_the_share_of_pairs_cover_that_of_other_sources_and_targets(evidence, n):
    rng = np.random.default_rng(0)

    def draw(n_sources, n_targets):
        def effects(deviation):
            return rng.normal(0, deviation, (n_sources, 1)) + rng.normal(0, deviation, (1, n_targets))

        lower = 0.5 + effects(0.5) + rng.normal(0, 1, (n_sources, n_targets))
        return lower + effects(0.7) + rng.normal(0, 1, lower.shape), lower

    truth = evidence["controls"].gain_over_always(*draw(2000, 2000), 1).mean
    covered = 0
    for _ in range(n):
        found = evidence["controls"].gain_over_always(*draw(10, 12), 100)
        covered += found.low <= truth <= found.high
    assert covered / n > 0.9, covered / n


def drawn_title(figure):
    """The bold text at the top, which may have several lines."""
    return " ".join(text.get_text() for text in figure.texts if text.get_weight() == "bold")


def test_titles_of_the_figures_claim_only_what_is_significant(evidence):
    figures, two_way = (importlib.import_module(f"evidence.{name}") for name in ("figures", "two_way"))
    interval = two_way.MeanInterval
    found = {"constant answer": interval(3.0, 1.0, 6.0, 0.1), "leep": interval(2.0, 1.0, 4.0, 0.1)}
    judgment = evidence["agreement"].Judgment
    none = figures.regrets_figure(found, judgment("leep", False, False, (), ()), 9.0, 10)
    assert drawn_title(none) == "No way to choose is shown to be better than the constant answer"
    one = figures.regrets_figure(found, judgment("leep", True, False, (), ()), 9.0, 10)
    assert drawn_title(one) == "For these 10 sources, better than the constant answer: leep"
    tables = np.random.default_rng(0).normal(size=(2, 5, 6))
    tables[0, 0, 0] = np.nan
    for bounds, expected in (
        ((-0.2, 0.3), "Soft discrepancy shows no significant relation to the error after transfer"),
        ((0.1, 0.3), "A larger soft discrepancy goes with a larger error after transfer"),
        ((-0.3, -0.1), "A larger soft discrepancy goes with a smaller error after transfer"),
    ):
        figure = figures.relation_figure("soft discrepancy", *tables, interval(0.2, *bounds, 0.1))
        assert drawn_title(figure) == expected
    effects = [
        figures.MethodEffect("emb", 0.8, (0.7, 0.9), 0.01, 0.02),
        figures.MethodEffect("orca", 1.0, (0.9, 1.1), 0.5, 0.05),
        figures.MethodEffect("lora", 0.9, (0.8, 0.99), 0.09, 0.05),
        figures.MethodEffect("scratch", 1.5, (1.2, 1.9), 0.01),
    ]
    panels = [figures.Panel("a", tuple(effects), 0.04), figures.Panel("b", (effects[1],), 0.04)]
    assert drawn_title(figures.ratios_figure(panels, "mona", "8 targets and 3 seeds")) == (
        "At the same learning rate, mona has a significantly lower error than emb (a), and a significantly higher "
        "error than scratch (a)"
    )
    none = figures.ratios_figure(panels[1:], "mona", "8 targets and 3 seeds")
    assert drawn_title(none) == "At the same learning rate, mona does not differ significantly from any method"
    lower = figures.distortion_figure(panels, "finetune")
    assert drawn_title(lower) == "Significantly lower error than finetune at the same rate: emb (a)"
    # A method at another rate may differ because of the rate.
    other = figures.Panel("a", (replace(effects[0], same_rate=False),), 0.04)
    assert "mona does not differ" in drawn_title(figures.ratios_figure([other], "mona", "8 targets and 3 seeds"))
    none = figures.distortion_figure([other], "finetune")
    assert drawn_title(none) == "At the same learning rate, no method has a significantly lower error than finetune"
    errors = np.array([[10.0, 30.0, 5.0], [20.0, 20.0, 6.0], [10.0, 50.0, 7.0]])
    figure = figures.errors_figure(["a", "b", "c"], ["t", "u", "v"], errors)
    assert drawn_title(figure).startswith("3 of 3 sources are the best")


def made_up_ranking(evidence, path):
    """A log in which every job is done: the soft discrepancy follows the error, and two sources lack it somewhere."""
    jobs, log = evidence["ranking_jobs"], evidence["result_log"].ResultLog(path)
    rng = np.random.default_rng(0)
    targets = (*jobs.DEVELOPMENT, *jobs.TEST)
    for target in targets:
        for number, source in enumerate(jobs.SOURCES):
            error = 30 + 2 * number + rng.normal(0, 10)
            for rate in jobs.RATES:
                log.add(jobs.Job("half", source, target, 0, rate), {"errors": made_up_errors(error), "seconds": 1.0})
            rate = jobs.chosen_rate(log, source, target)
            for seed in range(jobs.n_seeds(source)):
                errors = {"errors": made_up_errors(error + rng.normal()), "samples": {"train": 128, "test": 50}}
                log.add(jobs.Job("all", source, target, seed, rate), {**errors, "seconds": 1.0})
            control = jobs.Job("control", f"random:{source}", target, 0, jobs.MIDDLE_RATE)
            log.add(control, {"errors": made_up_errors(90.0), "seconds": 1.0})
            soft = None if number < 2 and target in ("glyphs", "notes") else -error
            ratio = {"discrepancy": soft, "discrepancy-ratio": soft}
            scores = {"leep": -error + rng.normal(0, 20), "soft": soft, "size": float(number), **ratio}
            below = {"leep": -90.0, "soft": -90.0, "size": float(number), **dict.fromkeys(ratio, -90.0)}
            both = {name: {source: value, f"random:{source}": below[name]} for name, value in scores.items()}
            record = {"scores": both, "probe": {source: error + 5}}
            log.add(jobs.Job("scores", source, target), {**record, "seconds": 1.0})
        log.add(jobs.Job("raw", "raw", target), {"errors": {"raw": 50.0}, "chosen": "", "seconds": 1.0})
    return log


def made_up_errors(error):
    return {"1": min(100.0, error + 20), "3": error + 10, "10": error}


def made_up_study(evidence, path, most_added=None, lower=("replay",)):
    """A log in which every job is done: fine-tuning distorts the first source, and replay holds it and helps.

    Of the added jobs some may be missing, and other methods may have a lower error.
    """
    jobs, log = evidence["study_jobs"], evidence["result_log"].ResultLog(path)
    rng = np.random.default_rng(0)
    for source in jobs.SOURCES:
        log.add(jobs.Job("study", source, jobs.UNTOUCHED, ""), {"probe": {"0": 0.2}, "seconds": 1.0})
    left_out = set(jobs.added_jobs()[most_added:] if most_added is not None else ())
    while waiting := [job for job in dict.fromkeys(jobs.jobs(log)) if log.get(job) is None and job not in left_out]:
        for job in waiting:
            error = (20 if job.method in lower else 40) * np.exp(rng.normal(0, 0.1))
            rise = 0.1 if job.method != "replay" and job.source == jobs.SOURCES[0] else 0.01
            probes = dict.fromkeys(("1", "3", "10"), 0.2 + rise)
            result = {"errors": made_up_errors(error), "probe": probes, "probe_own_statistics": probes}
            log.add(job, {**result, "samples": {"train": 128, "test": 200}, "seconds": 1.0})
    return log


@pytest.fixture(name="drawn")
def drawn_figures(evidence, monkeypatch):
    """Titles of the figures by the end of their names, in place of files."""
    titles = {}
    for name in ("ranking_tables", "study_tables"):
        monkeypatch.setattr(evidence[name], "save_figure", lambda figure, path: titles.update({path.name: figure}))
    return titles


@pytest.fixture(scope="module")
def ranking_log(evidence, tmp_path_factory):
    """The log of a whole ranking; tests must not write to it."""
    return made_up_ranking(evidence, tmp_path_factory.mktemp("ranking") / "ranking.jsonl")


@pytest.mark.long
def test_tables_and_figures_of_a_whole_ranking_are_made(evidence, ranking_log, tmp_path, capsys, drawn):
    tables, log = evidence["ranking_tables"], ranking_log
    tables.report(log, tuple(evidence["ranking_jobs"].TEST), 20)
    text = " ".join(capsys.readouterr().out.split())
    assert "14 of 14 targets are complete" in text
    # The soft discrepancy is not defined everywhere.
    assert "leep has the lowest regret on the development targets of all scores that are defined everywhere." in text
    assert "test error after ten epochs without notes, spoken-languages" in text
    assert text.count("chosen on the development targets") == 1
    assert "soft 99% 100% " in text, "no error is above 90 %, and the soft discrepancy is the error"
    assert "size 100% " not in text.split("pairs of source and control")[1], "a source is as large as its control"
    tables.print_whole_relation(log, 20)
    assert f"{10 * 24 - 4} of 240" in capsys.readouterr().out
    tables.draw(log, tmp_path, 20)
    assert sorted(drawn) == ["evidence-errors", "evidence-regrets", "evidence-relation"]
    assert drawn_title(drawn["evidence-relation"]) == (
        "A larger soft discrepancy goes with a larger error after transfer"
    )


def test_a_pilot_of_the_first_leaves_out_the_others(evidence):
    scores = np.array([[3.0, np.nan], [1.0, 2.0], [2.0, 1.0]])
    pilot = np.array([[0.1, 0.9], [0.9, 0.5], [0.2, 0.4]])
    found = evidence["first_pilots"].pilot_of_first(pilot, scores, 2)
    np.testing.assert_array_equal(found, [[0.1, np.nan], [np.nan, 0.5], [0.2, 0.4]])


@pytest.mark.long
def test_tables_and_figures_of_a_whole_study_are_made(evidence, ranking_log, tmp_path, capsys, drawn):
    tables, log = evidence["study_tables"], made_up_study(evidence, tmp_path / "study.jsonl")
    assert tables.concluding_sources(log) == (evidence["study_jobs"].SOURCES[0],)
    tables.report(log, {}, tables.tuned_errors(ranking_log))
    text = " ".join(capsys.readouterr().out.split())
    assert "720 of 720 jobs of the comparison are done" in text
    assert "replay cut the distortion and lowered the target error" in text
    assert "l2-sp: rise of the probe error +0.100 against +0.100 of finetune" in text
    assert "distortion not cut by 30 %" in text
    assert "no interaction of source and method, all methods: p = " in text
    assert "whose rate is chosen on each target: efficientnet-lite0@64px" in text
    assert "| `replay` |" in text
    tables.draw(log, tmp_path)
    title = drawn_title(drawn["evidence-distortion"])
    assert title.startswith("Significantly lower error than finetune at the same rate: ")
    assert "replay (" in title
    assert sorted(drawn) == ["evidence-distortion", "evidence-ratios"]


def test_the_added_jobs_are_shown_when_all_of_them_are_done(evidence, tmp_path):
    tables, jobs = evidence["study_tables"], evidence["study_jobs"]
    log = made_up_study(evidence, tmp_path / "some.jsonl", most_added=3)
    assert tables.added_section(log) == [
        "3 of these 160 jobs are done, and their errors are shown when all of them are."
    ]
    before = tables.read_runs(log)
    assert len(tables.read_runs(log, jobs.ADDED_METHODS)) == len(before) - 160 + 3
    log = made_up_study(evidence, tmp_path / "all.jsonl", lower=("replay", "emb"))
    text = "\n".join(tables.added_section(log))
    assert [row.split("`")[1] for row in text.splitlines()[2:11]] == list(jobs.METHODS)
    whole = " ".join(text.split())
    assert "Of `emb`, `orca` and `mona`, which train the embedder first, `emb` has a significantly lower error" in whole
    assert re.search(
        r"At the rates that they chose, they have \d\.\d\d \[.+\] and 0\.\d\d \[.+\] times the error", whole
    )
    added = log.get(jobs.Job("added", jobs.ADDED_SOURCE, "finetune", "fonts", 0, jobs.ADDED_RATE))
    runs = tables.read_runs(log, jobs.ADDED_METHODS).set_index(["source", "method", "target", "seed"])
    assert runs.loc[(jobs.ADDED_SOURCE, "finetune", "fonts", 0), "error_10"] == added["errors"]["10"]
    unchanged = log.get(jobs.Job("study", SOURCES[1], "emb", "fonts", 0, tables.chosen_rate(log, SOURCES[1], "emb")))
    assert runs.loc[(SOURCES[1], "emb", "fonts", 0), "error_10"] == unchanged["errors"]["10"]
    none = made_up_study(evidence, tmp_path / "none.jsonl", lower=())
    whole = " ".join(" ".join(tables.added_section(none)).split())
    assert "`orca` and `mona`, which train the embedder first, are not shown to have a lower error" in whole


def test_the_section_of_the_added_jobs_is_written_between_its_marks(evidence, tmp_path):
    tables = evidence["study_tables"]
    page = tmp_path / "evidence.md"
    page.write_text("\n".join(["before", tables.SECTION[0], "old", tables.SECTION[1], "after", ""]))
    log = made_up_study(evidence, tmp_path / "some.jsonl", most_added=0)
    for _ in range(2):
        tables.write_section(log, page)
        assert page.read_text().startswith(f"before\n{tables.SECTION[0]}\n\n0 of these 160 jobs")
        assert page.read_text().endswith(f"\n\n{tables.SECTION[1]}\nafter\n")


def test_the_tuned_fine_tuning_is_the_mean_over_its_seeds(evidence, ranking_log):
    tables, jobs = evidence["study_tables"], evidence["ranking_jobs"]
    log = ranking_log
    tuned = tables.tuned_errors(log)
    rate = jobs.chosen_rate(log, SOURCES[0], "fonts")
    errors = [log.get(jobs.Job("all", SOURCES[0], "fonts", seed, rate))["errors"]["10"] for seed in range(2)]
    assert tuned[SOURCES[0], "fonts"] == pytest.approx(np.mean(np.log((np.array(errors) / 100 * 50 + 0.5) / 51)))
    gains = dict(zip(SOURCES, (0.1, 0.3), strict=True))
    frame = tuned.rename("log_error").reset_index().assign(method="emb")
    frame["log_error"] += frame.source.map(gains)
    found = tables.ratios_to_tuned(frame, "emb", tuned)
    assert [one.value for one in found.values()] == pytest.approx(np.exp([0.1, 0.3, 0.2]))
