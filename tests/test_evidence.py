"""The evidence: its regrets, its intervals over targets and sources, and the samples that its jobs use."""

import importlib
import re
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas
import pytest
from scipy import stats

from modgap.ranking.evidence import FINDINGS
from modgap.ranking.judgment import PILOT_SOURCES
from modgap.ranking.score import CLASSIFICATION
from modgap.ranking.scores import DEFAULT_RANKING_SCORES
from modgap.statistics.multiple_comparisons import holm
from modgap.transfer.pilot import labeled_halves

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module", name="evidence")
def evidence_modules():
    """The modules of the benchmarks, whose folder is not a package of modgap."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent.parent / "benchmarks"))
        names = (
            "agreement",
            "controls",
            "falsifiers",
            "first_pilots",
            "ranking_jobs",
            "ranking_tables",
            "ranking_work",
            "raw_neighbors",
            "study_jobs",
            "study_tables",
            "two_way",
        )
        modules = {name: importlib.import_module(f"evidence.{name}") for name in names}
        modules |= {name: importlib.import_module(name) for name in ("evidence_power", "result_log")}
        yield modules
    for name in [name for name in sys.modules if name.split(".")[0] in ("evidence", "evidence_power", "result_log")]:
        del sys.modules[name]


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
    work = evidence["ranking_work"]
    work.read_labeled.cache_clear()
    whole = work.read_labeled(target)
    halves = labeled_halves(whole)
    assert sorted([*halves.train, *halves.test]) == sorted(whole.train)
    assert len(whole.train) <= 128
    assert not set(whole.train) & set(whole.test)
    if whole.groups is not None:
        assert not set(whole.groups[halves.train]) & set(whole.groups[halves.test])
    labels = np.asarray(whole.table.class_labels)
    assert set(labels[halves.train]) == set(labels[halves.test]) == set(labels[whole.train])


def runs_of_methods(rng, effects, cell_sd=1.0):
    """Runs of methods with an effect each on eight targets, from two sources with three seeds."""
    rows = []
    for target in "abcdefgh":
        level = rng.normal(0, 2)
        for method, effect in effects.items():
            cell = level + effect + rng.normal(0, cell_sd)
            for source in ("a", "b"):
                for seed in range(3):
                    row = {"source": source, "method": method, "target": target, "seed": seed}
                    rows.append({**row, "log_error": cell + 2 * (source == "b") + rng.normal(0, 0.5)})
    return pandas.DataFrame(rows)


def test_the_ratio_of_errors_is_a_paired_t_interval_over_targets(evidence):
    frame = runs_of_methods(np.random.default_rng(0), {"mona": 0.0, "emb": 0.0, "orca": 0.3, "finetune": -0.2})
    means = frame.groupby(["target", "method"]).log_error.mean().unstack()
    others = ["finetune", "emb", "orca"]
    found = evidence["study_tables"].error_ratios(frame, "mona", others)
    mixed = evidence["study_tables"].mixed_model_ratios(frame, "mona")
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
    ratio = evidence["study_tables"].Ratio(1.1, 1.1 * np.exp(-half), 1.1 * np.exp(half), 1.0)
    detectable = evidence["study_tables"].detectable_ratio(ratio, n_targets)
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
    for name, ratio in evidence["study_tables"].mixed_model_ratios(frame, "mona").items():
        middle = float((cells["mona"] - cells[name]).mean())
        expected = np.exp([middle, middle - half, middle + half])
        assert (ratio.value, ratio.low, ratio.high) == pytest.approx(expected, rel=0.01)


def test_the_page_has_the_ratios_of_the_study(evidence):
    tables, jobs = evidence["study_tables"], evidence["study_jobs"]
    log = evidence["result_log"].ResultLog(ROOT / "benchmarks" / "truth" / "study.jsonl")
    frame = tables.read_runs(log)
    assert tables.concluding_sources(log) == jobs.SOURCES
    others = [name for name in jobs.METHODS if name != "mona"]
    rows = re.findall(
        r"^\| `(\S+)` \| (.+?) \| (.+?) \| (.+?) \| (.+?) \| (.+?) \| (.+?) \|$",
        (ROOT / "docs" / "evidence.md").read_text().partition("## Does MoNA help")[2],
        re.MULTILINE,
    )
    found = tables.error_ratios(frame, "mona", others)
    p_values = dict(zip(others, holm([found[name].p_value for name in others]), strict=True))
    mixed = tables.mixed_model_ratios(frame, "mona")
    by_source = [tables.error_ratios(frame[frame.source == source], "mona", others) for source in jobs.SOURCES]
    assert [row[0] for row in rows] == others
    for name, *cells in rows:
        detectable = f"{tables.detectable_ratio(found[name], len(jobs.TARGETS)):.2f}"
        single = [one[name].text for one in by_source]
        assert cells == [found[name].text, f"{p_values[name]:.3f}", mixed[name].text, detectable, *single]


def test_missing_runs_of_a_harder_source_do_not_change_a_ratio(evidence):
    frame = runs_of_methods(np.random.default_rng(0), {"mona": 0.0, "emb": 0.0}, cell_sd=0.0)
    missing = (frame.method == "mona") & (frame.source == "b") & (frame.seed > 0)
    ratio = evidence["study_tables"].error_ratios(frame[~missing], "mona", ["emb"])["emb"]
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
    return name, agreement.Agreement(none, none, here, here.p_value * 3, both, 1.0)


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


def test_unrelated_tables_have_a_relation_in_few_simulations(evidence):
    relation = importlib.import_module("evidence.relation")
    rng = np.random.default_rng(1)
    outside = 0
    for _ in range(20):
        scores, errors = rng.normal(size=(2, 10, 14))
        one = relation.relation(scores, errors, resamples=100)["interaction"]
        outside += not one.low <= 0 <= one.high
    # At most 5 % are expected; more than 4 of 20 happen in 0.3 % of such tests.
    assert outside <= 4


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


def test_intervals_of_the_share_of_pairs_cover_that_of_other_sources_and_targets(evidence):
    rng = np.random.default_rng(0)

    def draw(n_sources, n_targets):
        def effects(deviation):
            return rng.normal(0, deviation, (n_sources, 1)) + rng.normal(0, deviation, (1, n_targets))

        lower = 0.5 + effects(0.5) + rng.normal(0, 1, (n_sources, n_targets))
        return lower + effects(0.7) + rng.normal(0, 1, lower.shape), lower

    truth = evidence["controls"].gain_over_always(*draw(2000, 2000), 1).mean
    n = 150
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
    assert drawn_title(figures.ratios_figure(effects, "mona", "8 targets, 1 source and 3 seeds")) == (
        "mona has a significantly lower error than 1 of 4 methods, and a higher one than 1"
    )
    lower = figures.distortion_figure(effects, "finetune", 0.04)
    assert drawn_title(lower) == "Significantly lower error than finetune: emb"
    none = figures.distortion_figure(effects[1:], "finetune", 0.04)
    assert drawn_title(none) == "No method that uses the source has a significantly lower error than finetune"
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
                errors = made_up_errors(error + rng.normal())
                log.add(jobs.Job("all", source, target, seed, rate), {"errors": errors, "seconds": 1.0})
            control = jobs.Job("control", f"random:{source}", target, 0, jobs.MIDDLE_RATE)
            log.add(control, {"errors": made_up_errors(90.0), "seconds": 1.0})
            soft = None if number < 2 and target in ("glyphs", "notes") else -error
            scores = {"leep": -error + rng.normal(0, 20), "soft": soft, "size": float(number)}
            below = {"leep": -90.0, "soft": -90.0, "size": float(number)}
            both = {name: {source: value, f"random:{source}": below[name]} for name, value in scores.items()}
            record = {"scores": both, "probe": {source: error + 5}}
            log.add(jobs.Job("scores", source, target), {**record, "seconds": 1.0})
        log.add(jobs.Job("raw", "raw", target), {"errors": {"raw": 50.0}, "chosen": "", "seconds": 1.0})
    return log


def made_up_errors(error):
    return {"1": min(100.0, error + 20), "3": error + 10, "10": error}


def made_up_study(evidence, path):
    """A log in which every job is done: fine-tuning distorts the first source, and replay holds it and helps."""
    jobs, log = evidence["study_jobs"], evidence["result_log"].ResultLog(path)
    rng = np.random.default_rng(0)
    for source in jobs.SOURCES:
        log.add(jobs.Job("study", source, jobs.UNTOUCHED, ""), {"probe": {"0": 0.2}, "seconds": 1.0})
    while waiting := [job for job in dict.fromkeys(jobs.jobs(log)) if log.get(job) is None]:
        for job in waiting:
            error = (20 if job.method == "replay" else 40) * np.exp(rng.normal(0, 0.1))
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


def test_tables_and_figures_of_a_whole_ranking_are_made(evidence, tmp_path, capsys, drawn):
    tables, log = evidence["ranking_tables"], made_up_ranking(evidence, tmp_path / "ranking.jsonl")
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


def test_the_recommendation_quotes_the_benchmark(evidence):
    jobs, tables, agreement = (evidence[name] for name in ("ranking_jobs", "ranking_tables", "agreement"))
    log = evidence["result_log"].ResultLog(ROOT / "benchmarks" / "truth" / "ranking.jsonl")
    development = tables.read_truth(log, tuple(jobs.DEVELOPMENT))
    truth = tables.read_truth(log, tuple(jobs.TEST))
    everything = np.arange(len(jobs.SOURCES)), np.arange(len(truth.targets))
    default = agreement.default_score(development.scores, development.means)
    assert default == DEFAULT_RANKING_SCORES[CLASSIFICATION]
    named = tables.predictors(truth, development)
    regrets = {
        name: evidence["two_way"].regrets(named[name], truth.means, *everything).mean()
        for name in (agreement.CONSTANT, default, "pilot at three rates")
    }
    lower = truth.controls - truth.means
    gains = truth.scores[default] - truth.control_scores[default]
    right = [evidence["controls"].right(one, lower).mean() for one in (gains, np.ones_like(gains))]
    advised = evidence["first_pilots"].pilot_of_first(named[tables.BEST_PILOT], named[default], PILOT_SOURCES)
    first = evidence["two_way"].regrets(advised, truth.means, *everything).mean()
    assert asdict(FINDINGS) == {
        "sources": len(jobs.SOURCES),
        "targets": len(truth.targets),
        "constant": round(regrets[agreement.CONSTANT], 1),
        "default_score": round(regrets[default], 1),
        "short_fine_tuning": round(regrets["pilot at three rates"], 1),
        "advised": round(first, 1),
        "random_choice": round(agreement.random_regret(truth.means), 1),
        "help_told": round(100 * right[0]),
        "help_always": round(100 * right[1]),
    }
    judged = agreement.judge(default, agreement.agreements(named, truth.means, 200), truth.pilots)
    assert (judged.better, judged.pilots, judged.significant) == (False, (), ())


def test_tables_and_figures_of_a_whole_study_are_made(evidence, tmp_path, capsys, drawn):
    tables, log = evidence["study_tables"], made_up_study(evidence, tmp_path / "study.jsonl")
    assert tables.concluding_sources(log) == (evidence["study_jobs"].SOURCES[0],)
    tables.report(log, {})
    text = " ".join(capsys.readouterr().out.split())
    assert "720 of 720 jobs of the comparison are done" in text
    assert "replay cut the distortion and lowered the target error" in text
    assert "l2-sp: rise of the probe error +0.100 against +0.100 of finetune" in text
    assert "distortion not cut by 30 %" in text
    tables.draw(log, tmp_path)
    assert drawn_title(drawn["evidence-distortion"]) == "Significantly lower error than finetune: replay"
    assert sorted(drawn) == ["evidence-distortion", "evidence-ratios"]
