"""The tables of the third edition: those of its page, and of results that are made up so that the answer is known."""

import itertools
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tests.figure_checks import intervals

ROOT = Path(__file__).parents[2]
JUDGING = ["new-1", "new-2", "new-3", "new-4"]
EARLIER = [f"old-{number}" for number in range(6)]


@pytest.fixture(name="third")
def modules_of_the_third_edition(import_benchmark):
    names = ("choice", "drawing", "lines", "methods", "models", "sensitivity", "summaries", "third")
    return SimpleNamespace(**{name: import_benchmark(f"evidence.{name}") for name in names})


# The page


def test_the_page_has_the_recorded_numbers_and_other_numbers_are_found(third):
    tables, text = third.third.all_tables(), third.third.PAGE.read_text(encoding="utf-8")
    assert third.third.check(text, tables) == []
    assert len(third.third.INTERVAL.findall(text)) > 100
    (wrong,) = third.third.check(
        text.replace("| constant answer | 6.1 [3.6, 8.6] |", "| constant answer | 6.2 |"), tables
    )
    assert "first: | constant answer | 6.2 |" in wrong
    (wrong,) = third.third.check(f"{text}\nThe difference is -0.7 points [-2.5, 1.2].\n", tables)
    assert "-0.7 points [-2.5, 1.2]" in wrong
    with pytest.raises(ValueError, match="blocks"):
        third.third.page_with(text.replace("<!-- costs:", "<!-- cost:"), tables)


def test_the_tables_are_computed_without_modgap():
    script = ROOT / "benchmarks" / "evidence" / "third.py"
    code = f"import sys, runpy; runpy.run_path({str(script)!r})['all_tables'](); print('modgap' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["False"], done.stderr


def test_other_pages_say_what_the_page_of_the_evidence_says(third):
    tables = third.third.all_tables()
    regret = {row[0]: row[1].split()[0] for row in tables["A"][0].rows}
    paper, transfer = (" ".join((ROOT / path).read_text().split()) for path in ("paper/paper.md", "docs/transfer.md"))
    assert f"MiniLM on texts and strings, {regret['constant answer']} points" in paper
    of_strategy = {row[0]: row for row in tables["C, second part"][0].rows}
    error, baseline = (of_strategy[name][2] for name in ("transfer, 10 minutes", "best baseline"))
    difference = of_strategy["best baseline"][5].replace(" [", " points [")
    assert f"lowest mean error of seven strategies, {error} % each. The best baseline had {baseline} %" in transfer
    assert f"ten minutes of it minus the best baseline are {difference}" in transfer
    assert f"The difference, {difference}, does not show" in paper
    chosen = [row[-1].startswith("baseline ") for row in tables["C, second part"][1].rows]
    assert f"chose a baseline on {sum(chosen)} of the targets" in transfer


def test_every_list_of_known_sources_is_that_of_the_recorded_lines(import_benchmark):
    known_sources = import_benchmark("known_sources")
    assert known_sources.FILE.read_text(encoding="utf-8") == known_sources.file_text()
    _, regrets = known_sources.judged_regrets()
    assert all(len(values) == 41 for values in regrets.values())


# A


def test_regrets_are_those_of_a_loop(third):
    rng = np.random.default_rng(0)
    for _ in range(50):
        errors = rng.integers(0, 9, (6, 5)).astype(float)
        scores = rng.integers(0, 3, (6, 5)).astype(float)
        errors[rng.random((6, 5)) < 0.3] = np.nan
        scores[rng.random((6, 5)) < 0.2] = np.nan
        for target, regret in enumerate(third.choice.regrets_of(scores, errors)):
            readers = [source for source in range(6) if np.isfinite(errors[source, target])]
            known = [scores[source, target] for source in readers if np.isfinite(scores[source, target])]
            best = [source for source in readers if scores[source, target] == max(known)] if known else readers
            if len(readers) < 2:
                assert np.isnan(regret)
            else:
                lowest = min(errors[source, target] for source in readers)
                assert regret == pytest.approx(100 * (np.mean([errors[source, target] for source in best]) - lowest))


def test_sources_that_the_constant_one_cannot_replace_have_a_constant_answer_of_their_own(third):
    # The first source is best where it can read, and the third on the earlier texts, but not on average.
    errors = np.array([[0.1, 0.1, np.nan, np.nan, 0.1], [0.2, 0.2, 0.9, 0.8, 0.3], [0.9, 0.9, 0.8, 0.9, 0.2]])
    scores = third.choice.constant_scores(errors[:, :3], errors)
    assert scores[:, 0].argmax() == scores[:, 4].argmax() == 0
    assert np.where(np.isfinite(errors[:, 3]), scores[:, 3], -np.inf).argmax() == 2


def test_no_judging_target_tells_the_constant_answer(third):
    rng = np.random.default_rng(0)
    earlier, errors = rng.random((4, 9)), rng.random((4, 5))
    assert (third.choice.constant_scores(earlier, errors) == third.choice.constant_scores(earlier, 1 - errors)).all()


@pytest.fixture(name="trainings")
def made_up_trainings(third, monkeypatch):
    """Fine-tunings of which the first source is best on average, and the sixth on the judging targets.

    One source alone reads the last judging target, and the highest rate is the best everywhere.
    """
    kinds = dict(zip(JUDGING, ("image", "image", "table", "table"), strict=True))
    monkeypatch.setattr(third.lines, "judging_targets", lambda: kinds)
    rng, trainings = np.random.default_rng(0), {}
    for (number, source), target in itertools.product(enumerate(third.lines.SOURCES), [*EARLIER, *JUDGING]):
        error = 20 + 3 * number + rng.uniform(0, 2)
        if target in JUDGING and number == 5:
            error = 5.0
        if target == JUDGING[3] and number > 0:
            continue
        for rate, more in zip(third.lines.RATES, (2, 1, 0), strict=True):
            half = {"errors": {"1": error + 20, "3": error + 10, "10": error + more}, "seconds": 1.0}
            trainings["half", source, target, 0, rate] = half
        trainings["all", source, target, 0, third.lines.RATES[2]] = {"errors": {"10": error}}
    return trainings


def test_a_table_has_the_errors_the_pilots_and_their_seconds(third, trainings):
    probes = [
        {"job": {"part": "probe", "model": name, "target": target}, "validated": {"128": 0.1 * (name != "rxnfp")}}
        for name in ("vit-fashion", "rxnfp")
        for target in JUDGING
    ]
    choice = third.choice
    table = choice.error_table(trainings, probes)
    assert (table.errors.shape, table.earlier.shape) == ((16, 4), (16, 6))
    assert table.errors[5, :3] == pytest.approx(0.05)
    assert table.scores[choice.SHORT][5, 2] == pytest.approx(-0.15)
    assert table.scores[choice.THREE_RATES][5, 2] == pytest.approx(-0.05)
    # 16 sources on the three targets that all of them read, of one second each at every rate.
    assert table.seconds == {choice.SHORT: pytest.approx(0.3 * 16), choice.THREE_RATES: pytest.approx(3 * 16)}
    regrets = choice.judged_regrets(table)
    first, fourth = table.errors[0, :3], table.errors[3, :3]
    assert regrets[choice.CONSTANT][:3] == pytest.approx(100 * (first - 0.05))
    assert regrets[choice.PROBE][:3] == pytest.approx(100 * (fourth - 0.05))
    assert regrets[choice.RANDOM][:3] == pytest.approx(100 * (np.nanmean(table.errors[:, :3], axis=0) - 0.05))
    assert regrets[choice.SHORT][:3] == pytest.approx(0, abs=1e-9)
    assert all(np.isnan(values[3]) for values in regrets.values())
    printed = choice.choice_table(regrets, "all sources", {choice.SHORT: 3.7})
    assert "on 3 judging targets, among all sources" in printed.title
    rows = {row[0]: row for row in printed.rows}
    assert rows[choice.CONSTANT][1].startswith(f"{np.mean(100 * (first - 0.05)):.1f} [")
    assert (rows[choice.SHORT][-1], rows[choice.CONSTANT][-1]) == ("4", "")


def test_of_one_file_the_last_line_of_a_job_counts_and_of_several_files_the_first(third, tmp_path):
    for name, errors in (("a", (1.0, 2.0)), ("b", (3.0,))):
        job = '{"part": "all", "source": "x", "target": "t", "seed": 0, "rate": 0.1}'
        lines = [f'{{"job": {job}, "errors": {{"10": {error}}}}}\n' for error in errors]
        (tmp_path / name).write_text("".join(lines))
    (found,) = third.lines.read_trainings([tmp_path / "a", tmp_path / "b"]).values()
    assert third.lines.last_error(found) == 2.0


# B and C


def model_line(target, part, model, validated, error, size="128", kind="series"):
    job = {"part": part, "model": model, "target": target}
    return {"job": job, "kind": kind, "validated": {size: validated}, "errors": {size: error}}


def interval(values):
    low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
    return f"{np.mean(values):.1f} [{low:.1f}, {high:.1f}]"


def test_cross_validation_chooses_the_models_that_are_compared(third, trainings):
    rows = dict(zip(JUDGING[:3], [((0.1, 12), (0.2, 10)), ((0.1, 5), (0.3, 9)), ((0.5, 40), (0.4, 50))], strict=True))
    results = [
        model_line(target, part, f"{part}-1", *pair)
        for target, pairs in rows.items()
        for part, pair in zip(("probe", "baseline"), pairs, strict=True)
    ]
    results += [model_line("new-1", "probe", "probe-2", 0.2, 1.0), model_line("new-2", "baseline", "hog", None, None)]
    models = third.models.Models(results, trainings)
    frame = models.chosen()
    tuned = third.lines.last_error(trainings["all", third.lines.CONSTANT_SOURCE, "new-1", 0, third.lines.RATES[2]])
    assert frame.loc["new-1", ["probe", "baseline", "any", third.models.FINE_TUNING]].tolist() == [12, 10, 12, tuned]
    cells = {(row[0], row[1]): row for row in third.models.kind_table(models).rows}
    assert cells["128", "all"][2:6] == ["3", "19.0", "23.0", interval([2, -4, -10])]
    assert cells["128", "all"][6].startswith("67 %")
    assert (cells["128", "all"][7], cells["128", "table"][7]) == ("not shown", "")
    assert cells["128", "table"][5] == "-10.0"
    # The cross-validated errors foresee that the probe is better on the first two, and worse on the third.
    assert third.models.foresight(frame) == (1, 2, 3)


@pytest.mark.parametrize(
    ("values", "side"),
    [([-1.0, -2.0, -1.5], None), ([-1.0, -2.0, -1.5, -1.2], "probe"), ([-9.0, 9.0, 8.0, -7.0], "not shown")],
)
def test_few_targets_decide_nothing(third, values, side):
    frame = pd.DataFrame({"kind": "table", "probe": values, "baseline": 0.0})
    assert third.models.better_sides(frame).get("table") == side


def test_kinds_that_are_better_are_corrected_for_their_number(third):
    values = [-1.0, -3.0, -2.5, -0.9]
    one = pd.DataFrame({"kind": "table", "probe": values, "baseline": 0.0})
    draws = np.random.default_rng(0).normal(0, 9, 4)
    several = [one, *(pd.DataFrame({"kind": name, "probe": draws, "baseline": 0.0}) for name in "abcd")]
    assert 0.01 < stats.ttest_1samp(values, 0).pvalue < 0.05
    assert third.models.better_sides(one)["table"] == "probe"
    assert third.models.better_sides(pd.concat(several))["table"] == "not shown"


def test_the_first_model_of_the_plan_is_chosen_of_equal_errors_whatever_the_order_of_lines(third):
    lines = [model_line("t", "probe", name, 0.2, 10.0) for name in ("vit-fashion", "minilm", "fracast")]
    assert third.lines.in_order_of_plan(lines[::-1]) == third.lines.in_order_of_plan(lines) == lines
    assert set(third.lines.BASELINES) == {
        line["job"]["model"] for line in third.lines.part_lines("models") if line["job"]["part"] == "baseline"
    }


def test_a_transfer_is_compared_with_every_single_strategy(third):
    draws = np.random.default_rng(0)
    level = draws.uniform(10, 30, 20)
    errors = {third.models.TRANSFER: level, "steady": level - 2, "noisy": level - 3 + draws.normal(0, 9, 20)}
    ends = third.models.upper_ends(pd.DataFrame(errors))
    assert ends["noisy"] >= 2
    assert ends["steady"] == pytest.approx(2)


def test_a_strategy_that_failed_counts_as_naming_the_largest_class(third):
    lines = [
        {"job": {"target": "a", "strategy": "scratch"}, "reason": "It was refused."},
        {"job": {"target": "a", "strategy": "probe"}, "test": 10.0, "majority_error": 60.0},
    ]
    assert third.models.transfer_errors(lines).loc["a"].to_dict() == {"probe": 10.0, "scratch": 60.0}


def test_the_sensitivity_table_has_the_means_of_other_weights_and_choices(third, trainings, monkeypatch):
    packages = dict(zip(JUDGING, "pqqq", strict=True))
    monkeypatch.setattr(third.lines, "source_packages", lambda: packages)
    monkeypatch.setattr(third.sensitivity, "DOUBTFUL", ("new-1",))
    of_history = {third.choice.HISTORY_SHORT: np.array([1.0, 2.0, 4.0, np.nan])}
    among = ["all sources", *(f"without {source}" for source in third.lines.SOURCES)]
    monkeypatch.setattr(third.choice, "recorded_regrets", lambda: dict.fromkeys(among, of_history))
    monkeypatch.setattr(third.choice, "WAYS", (third.choice.CONSTANT, third.choice.HISTORY_SHORT))
    table = third.choice.error_table(trainings, [])
    probes, baselines = [10.0, 12.0, 11.0, 19.0], [14.0, 15.0, 19.0, 21.0]
    results = [
        model_line(target, part, f"{part}-1", 0.1, error)
        for part, errors in (("probe", probes), ("baseline", baselines))
        for target, error in zip(JUDGING, errors, strict=True)
    ]
    # A second probe is as good by cross-validation on the first target alone.
    results += [model_line("new-1", "probe", "probe-2", 0.1, 20.0), model_line("new-2", "probe", "probe-2", 0.2, 0)]
    models = third.models.Models(results, trainings)
    rows = {row[0]: row[1:] for row in third.sensitivity.sensitivity_table(table, models).rows}
    of_a = np.array([1.0, 2.0, 4.0]) - 100 * (table.errors[0, :3] - 0.05)

    def counted(values):
        return f"{interval(values)} ({len(values)})"

    assert rows["as planned"][:2] == [counted(of_a), counted([-4, -3, -8, -2])]
    assert rows["one mean for each kind"][:2] == [counted([np.mean(of_a[:2]), of_a[2]]), counted([-3.5, -5])]
    assert rows["one mean for each package"][:2] == [counted([of_a[0], np.mean(of_a[1:])]), counted([-4, -13 / 3])]
    assert rows["without doubtful targets"][:2] == [counted(of_a[1:]), counted([-3, -8, -2])]
    assert rows["mean over equal cross-validated errors"][1] == counted([1, -3, -8, -2])
    assert rows["one target left out"][1] == "-5.0 to -3.0"
    # The highest rate is the best everywhere.
    assert rows["rate of fine-tuning not at an edge"] == ["", "", ""]
    beside = third.sensitivity.fine_tuned_table(table, models)
    assert "rates of all sources: 0 of 0.0001, 0 of 0.0005, 49 of 0.0025" in beside.title
    best = 100 * np.nanmin(table.errors, axis=0)
    assert beside.rows[-1][1:] == [counted(best - baselines), f"{(best < baselines).sum()} of 4"]


# D


@pytest.fixture(name="results")
def made_up_results(third):
    """Runs of the methods on four targets, of which MoNA halves the error and training from scratch doubles it."""
    methods, rng, results = third.methods, np.random.default_rng(1), {}
    factors = dict.fromkeys(methods.METHODS, 1.0) | {"mona": 0.5, "scratch": 2.0}
    targets = [f"t{number}" for number in range(4)]
    for target, source, method in itertools.product(targets, methods.SOURCES, methods.METHODS):
        best = methods.RATES[0] if method == "scratch" else methods.RATES[2]
        for rate in methods.RATES:
            results["half", source, method, target, 0, rate] = {"error": 10.0 + 5 * (rate != best)}
        level = 20 + 2 * targets.index(target)
        for seed in range(methods.SEEDS):
            error = factors[method] * level * float(np.exp(rng.normal(0, 0.02)))
            results["all", source, method, target, seed, best] = {"error": error, "samples": {"test": 5000}}
    return results


def test_ratios_are_those_of_the_runs_at_the_chosen_rates(third, results):
    methods = third.methods
    frame = methods.runs_frame(results)
    assert len(frame) == 4 * 2 * len(methods.METHODS) * methods.SEEDS
    rows = {row[0]: row for row in methods.method_table(frame).rows}
    assert float(rows["`finetune`"][5].split()[0]) == pytest.approx(0.5, abs=0.02)
    assert float(rows["`scratch`"][3].split()[0]) == pytest.approx(2, abs=0.03)
    assert float(rows["`scratch`"][4]) < 0.01
    means = frame.groupby(["target", "method"]).log_error.mean().unstack()
    expected = stats.ttest_rel(means["mona"], means["emb"])
    ratio = methods.error_ratio(frame, "mona", "emb")
    assert (ratio.low, ratio.high) == pytest.approx(tuple(np.exp(expected.confidence_interval(0.95))))
    assert ratio.p_value == pytest.approx(expected.pvalue)
    of_sources = {row[0]: row for row in methods.source_table(frame).rows}
    assert float(of_sources["`emb`"][1].split()[0]) == pytest.approx(0.5, abs=0.02)
    assert float(of_sources["`emb`"][3].split()[0]) == pytest.approx(1, abs=0.04)
    edges = methods.edge_table(results)
    n_chosen = 8 * len(methods.METHODS)
    assert str(n_chosen) in edges.title
    assert [row[1:] for row in edges.rows] == [[f"{1 / len(methods.METHODS):.0%}", "8", "8", "0", "4", "4"]] * 3
    equal = {key: {**line, "error": 10.0} for key, line in results.items()}
    shares = [row[1:5] for row in methods.edge_table(equal).rows]
    number = str(n_chosen)
    assert shares == [["0%", "0", "0", "0"], ["100%", number, number, "0"], ["100%", number, "0", number]]


def test_stability_leaves_out_targets_of_few_samples_and_each_target_in_turn(third, results):
    frame = third.methods.runs_frame(results)
    frame.loc[frame.target == "t0", "tested"] = 99
    frame.loc[(frame.target == "t0") & (frame.method == "mona"), "log_error"] += np.log(16)
    stability = {row[0]: row[1] for row in third.methods.stability_table(frame).rows}
    assert float(stability["as planned (4 targets)"].split()[0]) == pytest.approx(1, abs=0.03)
    assert float(stability["at least 100 test samples (3 targets)"].split()[0]) == pytest.approx(0.5, abs=0.03)
    lowest, highest = map(float, stability["one target left out"].split(" to "))
    assert lowest == pytest.approx(0.5, abs=0.03)
    assert highest == pytest.approx(0.5 * 16 ** (1 / 3), abs=0.05)


def test_one_wrong_sample_of_few_does_not_decide(third, results):
    key = ("vit-fashion", "mona", "t0")
    for seed in range(third.methods.SEEDS):
        results["all", *key, seed, third.methods.RATES[2]] = {"error": 2.5 * seed, "samples": {"test": 40}}
    smoothed, floored = (third.methods.runs_frame(results, with_half=with_half) for with_half in (True, False))
    is_run = (smoothed[["source", "method", "target"]] == key).all(axis=1)
    assert np.exp(smoothed.log_error[is_run]).tolist() == pytest.approx([100 * n / 41 for n in (0.5, 1.5, 2.5)])
    assert np.exp(floored.log_error[is_run]).tolist() == pytest.approx([0.1, 2.5, 5.0])


def test_the_mixed_model_is_the_analysis_of_variance_of_equal_cells(third):
    rng, rows = np.random.default_rng(2), []
    effects = {"mona": 0.0, "emb": 0.1, "orca": 0.3, "finetune": 0.2}
    for target in "abcdefgh":
        level = rng.normal(0, 2)
        for method, effect in effects.items():
            cell = level + effect + rng.normal(0, 0.8)
            for source in third.methods.SOURCES:
                is_second = source == third.methods.SOURCES[1]
                mean = cell + rng.normal(0, 0.8) + is_second * (2 - 1.5 * (method == "finetune"))
                rows += [(source, method, target, seed, mean + rng.normal(0, 0.5)) for seed in range(3)]
    frame = pd.DataFrame(rows, columns=["source", "method", "target", "seed", "log_error"])
    mixed, of_source = third.methods.mixed_model(frame, "mona")
    cells = frame.groupby(["target", "source", "method"]).log_error.mean().unstack(["source", "method"])
    for other in ("emb", "orca"):
        assert mixed[other].value == pytest.approx(
            third.methods.interaction_ratio(frame, "mona", other).value, rel=1e-3
        )
        for source in third.methods.SOURCES:
            difference = (cells[source]["mona"] - cells[source][other]).mean()
            assert of_source[source][other].value == pytest.approx(np.exp(difference), rel=1e-3)
    # What is left of the cells' means without all effects of two of target, source and method.
    table = cells.to_numpy().reshape(len(cells), 2, -1)
    rest = table
    for axis in range(3):
        rest = rest - rest.mean(axis=axis, keepdims=True)
    spread = np.sqrt(4 * (rest**2).sum() / ((len(cells) - 1) * (table.shape[2] - 1)) / len(cells))
    half = np.log(mixed["emb"].high / mixed["emb"].low) / 2
    assert half == pytest.approx(stats.norm.ppf(0.975) * spread, rel=0.02)
    assert third.methods.interaction_p_value(frame) < 0.05


# Figures


def test_figures_draw_the_intervals_of_the_tables(third):
    drawing, draws = third.drawing, np.random.default_rng(0)
    errors = pd.DataFrame(
        {name: draws.uniform(0, 30, 12) for name in (third.models.TRANSFER, "probe", "best baseline")}
    )
    regrets = errors.sub(errors.min(axis=1), axis=0)
    expected = [stats.t.interval(0.95, 11, regrets[name].mean(), stats.sem(regrets[name])) for name in errors]
    np.testing.assert_allclose(sorted(intervals(drawing.transfer_figure(errors).axes[0])), sorted(expected))
    frame = pd.DataFrame(
        {"kind": ["table", "sound"] * 6, "probe": errors["probe"], "baseline": errors["best baseline"]}
    )
    assert "no single kind" in said(drawing.baseline_figure(frame))
    few = drawing.baseline_figure(frame.assign(kind=["sound", "sound", *["table"] * 10])).axes[0]
    assert len(intervals(few)) == 2, "all targets and tables, and no interval of two sounds"
    frame["probe"] = frame["baseline"] - draws.uniform(1, 2, 12)
    figure = drawing.baseline_figure(frame)
    assert len(intervals(figure.axes[0])) == 3
    assert "the best probe is better on" in said(figure)


def said(figure):
    return " ".join(text.get_text() for text in figure.texts)


def test_the_figure_of_methods_has_the_ratios_of_the_table(third, results):
    frame = third.methods.runs_frame(results)
    names = [name for name in third.methods.METHODS if name != "finetune"]
    expected = [third.methods.error_ratio(frame, name, "finetune") for name in names]
    drawn = intervals(third.drawing.method_figure(frame).axes[0])
    np.testing.assert_allclose(sorted(drawn), sorted((one.low, one.high) for one in expected))


def test_history_is_called_better_only_with_and_without_texts(third, monkeypatch):
    draws = np.random.default_rng(0)
    regrets = {name: draws.uniform(9, 11, 12) for name in (third.choice.CONSTANT, third.choice.HISTORY_SHORT)}
    # History gains on the texts, which are the last four of the targets, alone.
    regrets[third.choice.CONSTANT][8:] += 60
    monkeypatch.setattr(third.drawing, "of_constant", lambda regrets, table: regrets)
    assert re.search("is better than", said(third.drawing.choice_figure(regrets, None)))
    without = {name: np.where(np.arange(12) < 8, values, np.nan) for name, values in regrets.items()}
    monkeypatch.setattr(third.drawing, "of_constant", lambda regrets, table: without)
    assert "not shown to be better" in said(third.drawing.choice_figure(regrets, None))
