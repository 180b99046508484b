"""The page of the evidence and the recommendation: they say what the recorded results say."""

import importlib
import itertools
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from modgap.ranking.checks import FINDINGS
from modgap.ranking.judgment import PILOT_SOURCES
from modgap.ranking.score import CLASSIFICATION
from modgap.ranking.scores import DEFAULT_RANKING_SCORES
from modgap.statistics.multiple_comparisons import holm

ROOT = Path(__file__).parent.parent
SOURCES = ("efficientnet-lite0@64px", "vit-fashion")
"""The sources of the study of methods."""


@pytest.fixture(scope="module", name="recorded")
def recorded_results(evidence):
    """The recorded results of both benchmarks, and what the tables say of them with few resamples."""
    tables, jobs, agreement = (evidence[name] for name in ("ranking_tables", "ranking_jobs", "agreement"))
    ranking, study = (
        evidence["result_log"].ResultLog(ROOT / "benchmarks" / "truth" / f"{name}.jsonl")
        for name in ("ranking", "study")
    )
    halves = (tuple(jobs.DEVELOPMENT), tuple(jobs.TEST), (*jobs.DEVELOPMENT, *jobs.TEST))
    development, test, every = (tables.read_truth(ranking, targets) for targets in halves)
    named = tables.predictors(test, development)
    return SimpleNamespace(
        ranking=ranking,
        study=study,
        development=development,
        test=test,
        every=every,
        named=named,
        by_score=agreement.agreements(named, test.means, 200),
        frame=evidence["study_tables"].read_runs(study),
        tuned=evidence["study_tables"].tuned_errors(ranking),
    )


def page():
    """The page of the evidence with one space between words, and without the marks of bold and italic type."""
    text = (ROOT / "docs" / "evidence-second.md").read_text(encoding="utf-8")
    return re.sub(r"\*+", "", " ".join(text.split()))


def probes_before(evidence, recorded):
    """The probe error of each source before training."""
    jobs = evidence["study_jobs"]
    untouched = {source: recorded.study.get(jobs.Job("study", source, jobs.UNTOUCHED, "")) for source in SOURCES}
    return {source: record["probe"]["0"] for source, record in untouched.items()}


def table(header):
    """The cells of each row of the table of the page whose header begins with some text, without code marks."""
    lines = (ROOT / "docs" / "evidence-second.md").read_text(encoding="utf-8").splitlines()
    (start,) = (number for number, line in enumerate(lines) if line.startswith(f"| {header}"))
    rows = itertools.takewhile(lambda line: line.startswith("|"), lines[start + 2 :])
    return [[cell.strip().replace("`", "") for cell in row.strip("|").split("|")] for row in rows]


def interval_text(one, digits=1):
    return f"{one.mean:.{digits}f} [{one.low:.{digits}f}, {one.high:.{digits}f}]"


def short(value, digits=2):
    """A number below 1 without the 0 before the point."""
    return f"{value:.{digits}f}".removeprefix("0")


def test_the_page_has_the_ratios_of_the_study(evidence, recorded):
    tables, jobs, ratios = (evidence[name] for name in ("study_tables", "study_jobs", "ratios"))
    frame = recorded.frame
    assert tables.concluding_sources(recorded.study) == jobs.SOURCES
    others = [name for name in jobs.METHODS if name != "mona"]
    rows = table("error of MoNA over that of | ratio")
    found = ratios.error_ratios(frame, "mona", others)
    p_values = dict(zip(others, holm([found[name].p_value for name in others]), strict=True))
    mixed = ratios.mixed_model_ratios(frame, "mona")
    by_source = [ratios.error_ratios(frame[frame.source == source], "mona", others) for source in jobs.SOURCES]
    assert [row[0] for row in rows] == others
    for name, *cells in rows:
        detectable = f"{ratios.detectable_ratio(found[name], len(jobs.TARGETS)):.2f}"
        single = [one[name].text for one in by_source]
        assert cells == [found[name].text, f"{p_values[name]:.3f}", mixed[name].text, detectable, *single]


def test_the_recommendation_quotes_the_benchmark(evidence, recorded):
    jobs, tables, agreement = (evidence[name] for name in ("ranking_jobs", "ranking_tables", "agreement"))
    development, truth, named = recorded.development, recorded.test, recorded.named
    everything = np.arange(len(jobs.SOURCES)), np.arange(len(truth.targets))
    default = agreement.default_score(development.scores, development.means)
    assert default == DEFAULT_RANKING_SCORES[CLASSIFICATION]
    regrets = {
        name: evidence["two_way"].regrets(named[name], truth.means, *everything).mean()
        for name in (agreement.CONSTANT, default, "pilot at three rates")
    }
    lower = truth.controls - truth.means
    gains = truth.scores[default] - truth.control_scores[default]
    right = [evidence["controls"].right(one, lower).mean() for one in (gains, np.ones_like(gains))]
    advised = evidence["first_pilots"].pilot_of_first(named[tables.BEST_PILOT], named[default], PILOT_SOURCES)
    first = evidence["two_way"].regrets(advised, truth.means, *everything).mean()
    assert {
        "sources": len(jobs.SOURCES),
        "targets": len(truth.targets),
        "constant": round(regrets[agreement.CONSTANT], 1),
        "default_score": round(regrets[default], 1),
        "short_fine_tuning": round(regrets["pilot at three rates"], 1),
        "advised": round(first, 1),
        "random_choice": round(agreement.random_regret(truth.means), 1),
        "same_named": tables.named_first_and_second(truth.scores[default])[0][1],
        "help_told": round(100 * right[0]),
        "help_always": round(100 * right[1]),
    } == FINDINGS
    judged = agreement.judge(default, recorded.by_score, truth.pilots)
    assert (judged.better, judged.pilots, judged.significant) == (False, (), ())


def test_the_page_has_the_orders_of_the_sources(evidence, recorded):
    """Means and intervals over targets are exact; those over sources too come from fewer resamples here."""
    shown = {name: cells for name, *cells in table("order by")}
    found = recorded.by_score
    ordered = sorted(found, key=lambda name: found[name].regret.mean)
    assert list(shown) == [*ordered, "random choice"]
    for name, one in found.items():
        regret, over_random, tau, here, both = shown[name]
        assert regret.split()[0] == f"{one.regret.mean:.1f}"
        assert tau.split()[0] == f"{one.tau.mean:.2f}"
        assert over_random == interval_text(one.over_random)
        for cell, interval, close in ((regret, one.regret, 2.5), (tau, one.tau, 0.06)):
            low, high = (float(end) for end in re.findall(r"-?\d+\.\d+", cell)[1:])
            floor = 0.0 if cell is regret else -1.0
            assert (low, high) == pytest.approx((max(floor, interval.low), interval.high), abs=close)
        if name != "constant answer":
            assert here == interval_text(one.here)
            value, low, high = (int(end) for end in re.findall(r"-?\d+", both))
            assert value == round(one.difference.mean)
            assert (low, high) == pytest.approx((one.difference.low, one.difference.high), abs=5)
    assert shown["random choice"][0] == f"{evidence['agreement'].random_regret(recorded.test.means):.1f}"


def test_the_page_has_what_is_said_of_rankings(evidence, recorded):
    tables, agreement, two_way = (evidence[name] for name in ("ranking_tables", "agreement", "two_way"))
    test, every, found = recorded.test, recorded.every, recorded.by_score
    everywhere = tables.predictors(every, every)
    best = "pilot at three rates"
    controls = "transrate of the random-weights control"
    orders = {**recorded.named, controls: test.control_scores["transrate"]}
    numbers = {name: number for number, name in enumerate(evidence["ranking_jobs"].SOURCES)}
    whole = tables.regrets_without(orders, test.means)
    rest = tables.regrets_without(orders, test.means, numbers["efficientnet-lite0@64px"])
    every_orders = {
        "transrate": every.scores["transrate"],
        controls: every.control_scores["transrate"],
        "constant answer": everywhere["constant answer"],
    }
    every_rest = tables.regrets_without(every_orders, every.means, numbers["efficientnet-lite0@64px"])
    first, second = tables.named_first_and_second(test.scores["transrate"])
    all_first, all_second = tables.named_first_and_second(every.scores["transrate"])
    assert (first[0], second[0]) == (all_first[0], all_second[0]) == ("efficientnet-lite0@64px", "ppocr")
    heads = list(tables.regrets_of_headlines(every, everywhere).values())
    constant = two_way.regrets(everywhere["constant answer"], every.means, np.arange(10), np.arange(24))
    gains = {
        name: two_way.target_interval(
            two_way.regrets(agreement.with_record(scores, every.means), every.means, np.arange(10), np.arange(24))
            - constant
        )
        for name, scores in every.scores.items()
    }
    assert {name for name, one in gains.items() if one.mean or one.high} == {"knn"}
    preferred = every.scores["transrate"] - every.control_scores["transrate"]
    right = evidence["controls"].right(preferred, every.controls - every.means)[preferred < 0]
    spreads = [
        [np.sqrt(getattr(parts, name)) for name in ("target", "source", "interaction", "seed")]
        for parts in (two_way.variance_components(one.errors[10]) for one in (test, recorded.development))
    ]
    spread_text = "{:.1f} points of error between targets, {:.1f} between sources, {:.1f} for the interaction of source"
    text = page()
    for sentence in (
        spread_text.format(*spreads[0][:3]),
        f"and {spreads[0][3]:.1f} between seeds. On the development targets they are "
        "{:.1f}, {:.1f}, {:.1f} and {:.1f}.".format(*spreads[1]),
        "Of the {1} rates that were chosen for sources and targets, {0} lie at an edge".format(
            *tables.edge_rates(recorded.ranking, every.targets)
        ),
        "{} of {} on the test targets".format(*tables.edge_rates(recorded.ranking, test.targets)),
        f"It names EfficientNet-Lite0 on {all_first[1]} of all 24 targets and `ppocr` second on {all_second[1]}.",
        f"first on {first[1]} of the 14 test targets and `ppocr` second on {second[1]} ",
        f"with random weights, the regret is {whole[controls]:.1f} and not {whole['transrate']:.1f}.",
        f"its regret without EfficientNet-Lite0 is {every_rest['transrate']:.1f}, that of the constant answer "
        f"{every_rest['constant answer']:.1f}, of TransRate of the controls {every_rest[controls]:.1f} and of a random "
        f"choice {every_rest['random choice']:.1f}.",
        f"EfficientNet-Lite0 its choice is {rest['transrate']:.1f} points above the best of the other sources, and a "
        f"random choice is {rest['random choice']:.1f} above.",
        f"the constant answer has a regret of {rest['constant answer']:.1f}, TransRate of {rest['transrate']:.1f}, "
        f"TransRate of the controls of {rest[controls]:.1f}, a random choice of {rest['random choice']:.1f} and the "
        f"pilot at three rates of {rest[best]:.1f}.",
        f"TransRate [{found['transrate'].here.low:.1f}, {found['transrate'].here.high:.1f}] and `h-score-shrunk` "
        f"[{found['h-score-shrunk'].here.low:.1f}, {found['h-score-shrunk'].here.high:.1f}].",
        f"its regret minus that of a random choice is {interval_text(found['discrepancy'].over_random)}.",
        f"weighted tau ({short(found[best].tau.mean)}, the constant answer {short(found['constant answer'].tau.mean)})",
        f"The difference is {interval_text(found[best].tau_gain, 2)} over targets",
        f"in {(preferred < 0).sum()} of all {preferred.size} pairs, it is right in {100 * right.mean():.0f} %",
        f"has a regret of {heads[0]:.1f}, where a random choice has {heads[4]:.1f}.",
        f"random-weights control has {heads[1]:.1f}, and its ratio to the error with permuted labels {heads[2]:.1f},",
        f"which names the best source of the other 23 targets, has {heads[3]:.1f}.",
        f"for all scores but `knn`, whose difference in regret is {interval_text(gains['knn'])}.",
        f"correlation of {short(tables.pilot_relation(every))} with the error after transfer",
    ):
        assert sentence in text, sentence
    assert found["transrate"].here.low > -2
    assert found["h-score-shrunk"].here.low > -2


@pytest.mark.long
def test_the_page_has_the_relation_of_discrepancy_and_transfer(evidence, recorded):
    relation = importlib.import_module("evidence.relation").relation
    rows = [[row[0].removesuffix(" (negative)"), *row[1:]] for row in table("score | pairs")]
    assert [row[0] for row in rows] == list(importlib.import_module("evidence.relation").RELATED)
    for name, n_pairs, *cells in rows:
        scores = recorded.every.scores[name]
        assert int(n_pairs) == (~np.isnan(scores)).sum()
        for cell, one in zip(cells, relation(scores, recorded.every.means, resamples=200).values(), strict=True):
            value, low, high = (float(number) for number in re.findall(r"-?\d*\.\d+", cell))
            assert f"{value:.2f}" == f"{one.mean:.2f}"
            assert (low, high) == pytest.approx((one.low, one.high), abs=0.12)


def test_the_page_has_what_is_said_of_methods(evidence, recorded):
    tables, ratios, jobs = (evidence[name] for name in ("study_tables", "ratios", "study_jobs"))
    frame, study = recorded.frame, recorded.study
    efficientnet, vit = (frame[frame.source == source] for source in SOURCES)
    beside = {name: ratios.error_ratios(one, "mona", ["finetune"])["finetune"].text
              for name, one in zip(SOURCES, (efficientnet, vit), strict=True)}  # fmt: skip
    interaction = ratios.interaction_ratios(frame, "mona", ["finetune"])["finetune"]
    tuned = {name: tables.ratios_to_tuned(frame, name, recorded.tuned) for name in ("emb", "orca", "mona")}
    one, both = ([tuned[name][key].text for name in tuned] for key in (SOURCES[0], "both"))
    acsf = [
        study.get(jobs.Job("rate", SOURCES[0], "finetune", "acsf1", 0, rate))["errors"]["10"] for rate in (5e-4, 2.5e-3)
    ]
    in_ranking = [recorded.test.means[list(evidence["ranking_jobs"].SOURCES).index(SOURCES[0])][
        list(recorded.test.targets).index(target)] for target in jobs.TARGETS]  # fmt: skip
    errors = tables.mean_errors(frame, SOURCES[0])
    start = probes_before(evidence, recorded)
    lost = {source: tables.rises(frame[frame.source == source], start).mean() for source in SOURCES}
    restored = tables.rises(frame, start, tables.OWN_STATISTICS).mean()
    pooled = tables.rises(frame, start).mean()
    own = tables.mean_errors(frame, SOURCES[0], tables.OWN_STATISTICS)["finetune"]
    held = ratios.error_ratios(vit, "l2-sp", ["finetune"])["finetune"]
    text = page()
    for sentence in (
        "Of all {1} rates of methods and sources, {0} lie at an edge of the grid.".format(*tables.edge_rates(study)),
        f"on `acsf1` alone: {acsf[0]:.1f} % at 0.0005 and {acsf[1]:.1f} % at 0.0025",
        f"with an error of {np.mean(in_ranking):.1f} %, beside the {errors['finetune']:.1f} % of `finetune` here.",
        f"`emb` has {one[0]} times that error, `orca` {one[1]} and `mona` {one[2]}.",
        f"they have {both[0]}, {both[1]} and {both[2]} times.",
        f"is {beside[SOURCES[0]]} with EfficientNet-Lite0 and {beside[SOURCES[1]]} with `vit-fashion`; the first ratio "
        f"is {interaction.text} times the second (p = {short(interaction.p_value, 3)},",
        f"is significant (p = {short(ratios.interaction_p_value(frame), 3)}).",
        f"distortion from {lost[SOURCES[1]]['finetune']:+.3f} to {lost[SOURCES[1]]['l2-sp']:+.3f}, and the error ratio "
        f"is {held.text}. `replay` hardly cuts it there ({lost[SOURCES[1]]['replay']:+.3f}).",
        f"The {pooled['l2-sp']:+.3f} and {pooled['replay']:+.3f} of `l2-sp` and `replay` are means of unlike parts: "
        f"{lost[SOURCES[0]]['l2-sp']:+.3f} and {lost[SOURCES[0]]['replay']:+.3f} with EfficientNet-Lite0, and "
        f"{lost[SOURCES[1]]['l2-sp']:+.3f} and {lost[SOURCES[1]]['replay']:+.3f} with `vit-fashion`.",
        f"rise over both sources is {restored['finetune']:+.3f} with `finetune`",
        f"probe error after `finetune` is {short(own, 3)}, and {short(start[SOURCES[0]], 3)} before",
    ):
        assert sentence in text, sentence
    for name in ("README.md", "docs/training.md"):
        assert "about a third" not in (ROOT / name).read_text()
    assert (
        f"has an error of {errors['finetune']:.1f} % at 0.0005 and {np.mean(in_ranking):.1f} % at 0.0025"
        in " ".join((ROOT / "docs" / "training.md").read_text().split())
    )


def test_the_page_has_the_interaction_of_source_and_method(evidence, recorded):
    ratios, jobs = evidence["ratios"], evidence["study_jobs"]
    rows = table("error of MoNA over that of | EfficientNet-Lite0 over")
    others = [name for name in jobs.METHODS if name != "mona"]
    found = ratios.interaction_ratios(recorded.frame, "mona", others)
    corrected = dict(zip(others, holm([found[name].p_value for name in others]), strict=True))
    mixed, by_source = ratios.mixed_model_of_sources(recorded.frame, "mona")
    assert [row[0] for row in rows] == others
    for name, *cells in rows:
        expected = [found[name].text, f"{found[name].p_value:.3f}", f"{corrected[name]:.3f}", mixed[name].text]
        assert cells == [*expected, *(by_source[source][name].text for source in SOURCES)]


def test_the_page_has_the_added_jobs(evidence, recorded):
    tables = evidence["study_tables"]
    text = (ROOT / "docs" / "evidence-second.md").read_text()
    section = text.partition(tables.SECTION[0])[2].partition(tables.SECTION[1])[0]
    assert section.strip() == "\n".join(tables.added_section(recorded.study))


def test_the_page_has_the_errors_of_the_methods(evidence, recorded):
    tables, jobs = evidence["study_tables"], evidence["study_jobs"]
    rows = table("method | error, EfficientNet-Lite0")[1:-1]
    assert [row[0] for row in rows] == list(jobs.METHODS)
    columns = [
        (SOURCES[0], "error_10", 1), (SOURCES[1], "error_10", 1), (SOURCES[0], tables.PROBE, 3),
        (SOURCES[0], tables.OWN_STATISTICS, 3), (SOURCES[1], tables.PROBE, 3),
    ]  # fmt: skip
    means = [tables.mean_errors(recorded.frame, source, column) for source, column, _ in columns]
    for name, *cells in rows:
        digits = (digits for _, _, digits in columns)
        assert cells == [f"{mean[name]:.{n}f}" for mean, n in zip(means, digits, strict=True)]


def test_the_page_has_the_other_numbers_of_the_tables(evidence, recorded):
    """Regrets with other truths and sources, pairs of source and control, and errors along the trainings."""
    tables, two_way, jobs = (evidence[name] for name in ("ranking_tables", "two_way", "ranking_jobs"))
    test, named = recorded.test, recorded.named
    best, constant = "pilot at three rates", "constant answer"
    every = np.arange(10), np.arange(14)

    def regret(name, errors, sources=every[0], targets=every[1]):
        return two_way.regrets(named[name], errors, sources, targets).mean()

    pilots = [evidence["first_pilots"].pilot_of_first(named[best], named["transrate"], n) for n in (2, 3, 5)]
    first = [two_way.regrets(pilot, test.means, *every) for pilot in pilots]
    gains = [two_way.target_interval(one - two_way.regrets(named[constant], test.means, *every)) for one in first]
    early = [np.nanmean(test.errors[epoch], axis=2) for epoch in (1, 3)]
    unseen = np.array([number for number, name in enumerate(test.targets) if name not in tables.SURROGATES])
    sources = list(jobs.SOURCES)
    left_out = [
        regret(best, test.means, np.delete(every[0], number))
        - regret(constant, test.means, np.delete(every[0], number))
        for number, name in enumerate(sources)
        if name != "efficientnet-lite0@64px"
    ]
    lower = test.controls - test.means
    gain = test.scores["transrate"] - test.control_scores["transrate"]
    right = [evidence["controls"].right(one, lower).mean() for one in (gain, np.ones_like(gain))]
    frame = recorded.frame
    errors = frame.groupby(["source", "method", "target"])[["error_1", "error_3", "error_10"]].mean()
    over_time = errors.loc[SOURCES[0]].groupby("method").mean()
    held = [evidence["ratios"].error_ratios(frame, name, ["finetune"])["finetune"] for name in ("l2-sp", "replay")]
    rises = evidence["study_tables"].rises(frame, probes_before(evidence, recorded)).mean()
    lora = errors.loc[SOURCES[0], "lora"].error_10
    lowest = errors.error_10.groupby("target").min()
    raw = dict(zip(test.targets, test.raw, strict=True))
    text = page()
    for sentence in (
        "chooses with a regret of {:.1f}, {:.1f} and {:.1f} ".format(*(one.mean() for one in first))
        + "(minus that of the constant answer {}, {} and {}).".format(*map(interval_text, gains)),
        f"the linear probe orders the sources best (regret {regret('linear-probe', test.probes):.1f})",
        f"pilots of ten epochs do ({regret('pilot of 10 epochs', early[0]):.1f} and "
        f"{regret('pilot of 10 epochs', early[1]):.1f}), and TransRate ({regret('transrate', early[0]):.1f} and "
        f"{regret('transrate', early[1]):.1f}) and the constant answer ({regret(constant, early[0]):.1f} and "
        f"{regret(constant, early[1]):.1f}) do not.",
        f"(pilot at three rates {regret(best, test.means, targets=unseen):.1f}, constant answer "
        f"{regret(constant, test.means, targets=unseen):.1f}, TransRate "
        f"{regret('transrate', test.means, targets=unseen):.1f})",
        f"the pilot differs from the constant answer by {min(left_out):.1f} to {max(left_out):.1f} points.",
        f"error in {100 * (lower > 0).mean():.0f} % of the {lower.size} pairs, and the control in "
        f"{100 * (lower < 0).mean():.0f} %. TransRate orders {100 * right[0]:.0f} % of the pairs",
        f"right in {100 * right[1]:.0f} % (equal errors count half), and the difference is "
        f"{100 * (right[0] - right[1]):.0f} point",
        "errors of MoNA and `finetune` are {:.1f} and {:.1f} % after one epoch, {:.1f} and {:.1f} % after three, and "
        "{:.1f} and {:.1f} % after ten".format(*over_time.loc[["mona", "finetune"]].to_numpy().T.ravel()),
        f"(ratios {held[0].text} and {held[1].text})",
        f"distortion of `finetune` ({rises['finetune']:+.3f}) to {rises['l2-sp']:+.3f} and {rises['replay']:+.3f}",
        f"(errors of {lora['fonts']:.0f} and {lora['leaf-flavia']:.0f} %)",
        f"({raw['japanese-vowels']:.1f} and {raw['tissue-genes']:.1f} %) than every method with either source "
        f"({lowest['japanese-vowels']:.1f} and {lowest['tissue-genes']:.1f} % at best)",
    ):
        assert sentence in text, sentence
