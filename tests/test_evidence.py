"""The evidence: its regrets, its intervals over targets and sources, and the samples that its jobs use."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from modgap.transfer.pilot import labeled_halves


@pytest.fixture(scope="module", name="evidence")
def evidence_modules():
    """The modules of the benchmarks, whose folder is not a package of modgap."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent.parent / "benchmarks"))
        names = (
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


@pytest.mark.parametrize("scale", ["as they are", "standardized"])
def test_neighbors_of_raw_values_are_chosen_on_the_labeled_samples_alone(evidence, scale):
    rng = np.random.default_rng(1)
    labels = np.arange(200) % 2
    features = rng.standard_normal((200, 6))
    # One value tells the classes apart; it is the smallest or the largest of all.
    features[:, 0] = (labels + 0.1 * features[:, 0]) * (0.1 if scale == "standardized" else 20)
    error, chosen = evidence["raw_neighbors"].neighbors_error(features[:80], labels[:80], features[80:], labels[80:])
    k = int(chosen[0])
    values = features if scale == "as they are" else (features - features[:80].mean(0)) / features[:80].std(0)
    distances = ((values[80:, None] - values[None, :80]) ** 2).sum(2)
    votes = labels[:80][np.argsort(distances, axis=1)[:, :k]].mean(1) > 0.5
    assert chosen.endswith(scale)
    assert error == pytest.approx(100 * (votes != labels[80:]).mean())
    # Other test labels change the error, and not the choice.
    other, same = evidence["raw_neighbors"].neighbors_error(features[:80], labels[:80], features[80:], 1 - labels[80:])
    assert same == chosen
    assert other == pytest.approx(100 - error)


def test_the_ratio_of_errors_is_a_paired_t_interval_over_targets(evidence):
    pandas = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    rows = []
    for target in "abcdefgh":
        level = rng.normal(0, 2)
        for method in ("mona", "emb"):
            cell = level + rng.normal(0, 1)
            for source in ("a", "b"):
                for seed in range(3):
                    row = {"source": source, "method": method, "target": target, "seed": seed}
                    rows.append({**row, "log_error": cell + rng.normal(0, 0.5)})
    frame = pandas.DataFrame(rows)
    means = frame.groupby(["target", "method"]).log_error.mean().unstack()
    test = stats.ttest_rel(means["mona"], means["emb"])
    expected = test.confidence_interval(0.95)
    ratio, low, high = evidence["study_tables"].error_ratio(frame, "mona", "emb")
    assert (low, high) == pytest.approx((np.exp(expected.low), np.exp(expected.high)))
    assert low < ratio < high
    mixed = evidence["study_tables"]._mixed_model(frame, "mona")
    assert mixed["emb"] == pytest.approx(ratio, rel=1e-3)


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


def drawn_title(figure):
    """The bold text at the top, which may have several lines."""
    return " ".join(text.get_text() for text in figure.texts if text.get_weight() == "bold")


def test_titles_of_the_figures_claim_only_what_is_significant(evidence):
    figures, two_way = (importlib.import_module(f"evidence.{name}") for name in ("figures", "two_way"))
    interval = two_way.MeanInterval
    found = {"constant answer": interval(3.0, 1.0, 6.0, 0.1), "leep": interval(2.0, 1.0, 4.0, 0.1)}
    none = figures.regrets_figure(found, [], "constant answer", 9.0, "leep")
    assert drawn_title(none) == "No way to choose is significantly better than the constant answer"
    one = figures.regrets_figure(found, ["leep"], "constant answer", 9.0, "leep")
    assert drawn_title(one) == "Significantly better than the constant answer: leep"
    tables = np.random.default_rng(0).normal(size=(2, 5, 6))
    for bounds, expected in (((-0.2, 0.3), "shows no significant relation to"), ((0.1, 0.3), "is related to")):
        figure = figures.relation_figure("soft discrepancy", *tables, interval(0.2, *bounds, 0.1))
        assert drawn_title(figure) == f"Soft discrepancy {expected} the error after transfer"
    effects = [
        figures.MethodEffect("emb", 0.8, (0.7, 0.9), 0.02),
        figures.MethodEffect("orca", 1.0, (0.9, 1.1), 0.05),
        figures.MethodEffect("scratch", 1.5, (1.2, 1.9)),
    ]
    assert drawn_title(figures.ratios_figure(effects, "mona", 8)) == (
        "mona has a significantly lower error than 1 of 3 methods, and a higher one than 1"
    )
    assert drawn_title(figures.distortion_figure(effects, "finetune")) == "Significantly lower error than finetune: emb"
    assert drawn_title(figures.distortion_figure(effects[1:], "finetune")).startswith("No method has a significantly")
    errors = np.array([[10.0, 30.0, 5.0], [20.0, 20.0, 6.0]])
    figure = figures.errors_figure(["a", "b"], ["t", "u", "v"], errors)
    assert drawn_title(figure).startswith("2 of 2 sources are the best")
