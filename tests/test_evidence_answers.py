"""The answers of the third edition, on results that are made up so that the answer is known."""

import itertools
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import stats


@pytest.fixture(name="choice")
def choice_module(import_benchmark):
    return import_benchmark("evidence.third_choice")


JUDGING = ["new-1", "new-2", "new-3", "new-4"]


@pytest.fixture(name="logged")
def logged_trainings(import_benchmark, choice, tmp_path):
    """Sources of which the first is best on average, and another one on the judging targets, which pilots foresee."""
    logs, jobs = import_benchmark("result_log"), import_benchmark("evidence.third_jobs")
    log, rng = logs.ResultLog(tmp_path / "log.jsonl"), np.random.default_rng(0)
    lines = []
    for (number, source), target in itertools.product(enumerate(jobs.SOURCES), [*choice.EARLIER, *JUDGING]):
        error = 20 + 3 * number + rng.uniform(0, 2)
        if target in JUDGING and number == 5:
            error = 5.0
        if target == JUDGING[3] and number > 0:
            continue
        for rate, more in zip(jobs.RATES, (2, 1, 0), strict=True):
            errors = {"1": error + 20, "3": error + 10, "10": error + more}
            lines.append((jobs.Training(jobs.HALF, source, target, 0, rate), errors))
        lines.append((jobs.Training(jobs.ALL, source, target, 0, jobs.RATES[2]), {"10": error}))
    for job, errors in lines:
        log.add(job, {"errors": errors, "samples": {"train": 64, "test": 64}, "seconds": 1.0})
    return log


def test_regrets_are_those_of_the_errors_after_the_whole_training(choice, logged):
    probes = [
        {"job": {"part": "probe", "model": name, "target": target}, "validated": {"128": 0.1 * (name != "rxnfp")}}
        for name in ("vit-fashion", "rxnfp")
        for target in JUDGING
    ]
    table = choice.error_table([logged], probes, JUDGING)
    assert table.errors.shape == (16, len(choice.EARLIER) + 4)
    assert table.errors[5, -4:-1] == pytest.approx(0.05)
    assert table.pilots[choice.SHORT][5, -2] == pytest.approx(0.15)
    assert table.pilots[choice.BEST_PILOT][5, -2] == pytest.approx(0.05)
    regrets = choice.judged_regrets(table)
    first, fourth = table.errors[0, -4:-1], table.errors[3, -4:-1]
    assert regrets[choice.CONSTANT][:3] == pytest.approx(100 * (first - 0.05))
    assert regrets[choice.PROBE][:3] == pytest.approx(100 * (fourth - 0.05))
    random = np.nanmean(table.errors[:, -4:-1], axis=0) - 0.05
    assert regrets[choice.RANDOM][:3] == pytest.approx(100 * random)
    for name in (choice.SHORT, choice.HISTORY.format(choice.SHORT), choice.BEST_PILOT):
        assert regrets[name][:3] == pytest.approx(0, abs=1e-9)
    # One source alone reads the last target.
    assert all(np.isnan(values[3]) for values in regrets.values())
    answer = choice.choice_answer(regrets, "all sources")
    assert "on 3 judging targets, among all sources" in answer.title
    rows = {row[0]: row for row in answer.rows}
    mean = np.mean(100 * (first - 0.05))
    assert rows[choice.CONSTANT][1].startswith(f"{mean:.1f} [")
    assert rows[choice.HISTORY.format(choice.SHORT)][2].startswith(f"-{mean:.1f} [")


def test_the_seconds_are_those_of_the_pilots_of_all_sources(choice, logged):
    table = choice.error_table([logged], (), JUDGING)
    # 16 sources on the three targets that all of them read, of one second each at every rate.
    assert table.seconds == {
        choice.SHORT: pytest.approx(0.3 * 16),
        choice.BEST_PILOT: pytest.approx(3 * 16),
    }
    answer = choice.choice_answer(choice.judged_regrets(table), "all sources", {choice.SHORT: 3.7})
    seconds = {row[0]: row[-1] for row in answer.rows}
    assert seconds[choice.HISTORY.format(choice.SHORT)] == seconds[choice.SHORT] == "4"
    assert seconds[choice.CONSTANT] == ""


def test_no_judging_target_tells_the_constant_answer_or_the_history(choice, logged):
    table = choice.error_table([logged], (), JUDGING)
    before = choice.judged_regrets(table)
    changed = table.errors.copy()
    changed[0, -1] = changed[0, -2] = 0.9
    after = choice.judged_regrets(replace(table, errors=changed))
    for name in (choice.CONSTANT, choice.ALONE, choice.HISTORY.format(choice.SHORT)):
        assert after[name][:2] == pytest.approx(before[name][:2])


def test_the_regret_of_one_target_is_that_of_leaving_it_out(choice, import_benchmark, monkeypatch):
    log = import_benchmark("result_log").ResultLog(Path(__file__).parent.parent / "benchmarks/truth/ranking.jsonl")
    jobs, selection = import_benchmark("evidence.third_jobs"), import_benchmark("evidence.selection")
    target, others = list(jobs.EARLIER_TARGETS)[-1], list(jobs.EARLIER_TARGETS)[:-1]
    monkeypatch.setattr(choice, "SOURCES", jobs.EARLIER_SOURCES)
    monkeypatch.setattr(choice, "EARLIER", others)
    table = choice.error_table([log], (), [target])
    left_out = selection.choices(table)
    for name, (regret,) in choice.judged_regrets(table).items():
        if name != choice.RANDOM:
            assert regret == pytest.approx(left_out[name].regrets[-1], abs=1e-9), name


def model_result(target, part, model, validated, error, size="128", kind="series"):
    return {
        "job": {"part": part, "model": model, "target": target},
        "kind": kind,
        "validated": {size: validated},
        "errors": {size: error},
    }


@pytest.fixture(name="models")
def models_module(import_benchmark, monkeypatch):
    module = import_benchmark("evidence.third_models")
    kinds = {"a": "image", "b": "image", "c": "table"}
    monkeypatch.setattr(module, "judging_targets", lambda: kinds)
    return module


@pytest.fixture(name="results")
def results_of_models():
    rows = {"a": ((0.1, 12.0), (0.2, 10.0)), "b": ((0.1, 5.0), (0.3, 9.0)), "c": ((0.5, 40.0), (0.4, 50.0))}
    return [
        model_result(target, part, f"{part}-1", *pair)
        for target, pairs in rows.items()
        for part, pair in zip(("probe", "baseline"), pairs, strict=True)
    ] + [model_result("a", "probe", "probe-2", 0.2, 1.0)]


def test_cross_validation_chooses_the_models_that_are_compared(models, results, import_benchmark, tmp_path):
    choices = import_benchmark("result_log").ResultLog(tmp_path / "choices.jsonl")
    measure = import_benchmark("evidence.third_jobs")
    for rate in models.RATES:
        half = measure.Training(measure.HALF, models.CONSTANT, "a", 0, rate)
        choices.add(half, {"errors": {"10": 3.0 if rate == models.RATES[1] else 4.0}})
    choices.add(measure.Training(measure.ALL, models.CONSTANT, "a", 0, models.RATES[1]), {"errors": {"10": 11.0}})
    frame = models.chosen_table(results, 128, choices)
    assert frame.loc["a", ["probe", "baseline", "any", models.FINE_TUNING]].tolist() == [12, 10, 12, 11]
    answer = models.baseline_answer(results, choices)
    rows = {(row[0], row[1]): row for row in answer.rows}
    expected = stats.t.interval(0.95, 2, -4, stats.sem([2.0, -4.0, -10.0]))
    assert rows["128", "all"][2:6] == ["3", "19.0", "23.0", f"-4.0 [{expected[0]:.1f}, {expected[1]:.1f}]"]
    assert rows["128", "all"][6].startswith("67 %")
    assert (rows["128", "all"][7], rows["128", "table"][7]) == ("not shown", "")
    assert rows["128", "table"][5] == "-10.0"
    # The cross-validated errors foresee that the probe is better on a and b, and worse on c.
    assert models.foresight(frame) == (1, 2, 3)
    assert models.foresight_answer(results, choices).rows[-1][:2] == ["128", "3"]
    (row,) = [row for row in models.model_answer(results, choices).rows if row[0] == "any probe"]
    assert row[1:5] == ["1", "12.0", "11.0", "1.0"]


def test_a_regret_is_the_error_minus_the_lowest_of_all_strategies(models):
    errors = pd.DataFrame(
        {models.TRANSFER: [10.0, 20.0, 7.0], "scratch": [12.0, 15.0, 8.0], "probe": [10.0, 30.0, None]}, ["a", "b", "c"]
    )
    answer = models.transfer_answer(errors, {models.TRANSFER: 600.4, "scratch": 3.0, "probe": 2.0})
    assert "on 2 judging targets" in answer.title
    rows = {row[0]: row for row in answer.rows}
    assert [rows["scratch"][2], rows["scratch"][4]] == ["13.5", "2.0"]
    assert rows["scratch"][5].startswith("1.5 [")
    assert rows[models.TRANSFER][1] == "600"
    assert rows[models.TRANSFER][3].startswith("2.5 [")


@pytest.mark.parametrize(
    ("values", "found"),
    [([-1.0, -2.0, -1.5], None), ([-1.0, -2.0, -1.5, -1.2], "probe"), ([-9.0, 9.0, 8.0, -7.0], "not shown")],
)
def test_few_targets_decide_nothing(models, values, found):
    frame = pd.DataFrame({"kind": "table", "probe": values, "baseline": 0.0})
    assert models.better_sides(frame).get("table") == found


def test_kinds_that_are_better_are_corrected_for_their_number(models):
    values = [-1.0, -3.0, -2.5, -0.9]
    one = pd.DataFrame({"kind": "table", "probe": values, "baseline": 0.0})
    draws = np.random.default_rng(0).normal(0, 9, 4)
    several = [one, *(pd.DataFrame({"kind": name, "probe": draws, "baseline": 0.0}) for name in "abcd")]
    assert 0.01 < stats.ttest_1samp(values, 0).pvalue < 0.05
    assert models.better_sides(one)["table"] == "probe"
    assert models.better_sides(pd.concat(several))["table"] == "not shown"


def test_a_transfer_is_compared_with_every_single_strategy(models):
    draws = np.random.default_rng(0)
    level = draws.uniform(10, 30, 20)
    errors = pd.DataFrame({models.TRANSFER: level, "steady": level - 2, "noisy": level - 3 + draws.normal(0, 9, 20)})
    assert models.upper_ends(errors)["noisy"] >= 2
    assert models.upper_ends(errors)["steady"] == pytest.approx(2)


def test_the_first_job_of_equal_errors_is_chosen_whatever_the_order_of_lines(models):
    names = [job for job in models.jobs(models.models_design()) if job.part == "probe"][:2]
    lines = [model_result(job.target, "probe", job.model, 0.2, 10.0) for job in names]
    assert models.in_order(lines[::-1]) == models.in_order(lines) == lines


def test_ratios_are_those_of_the_runs_at_the_chosen_rates(import_benchmark, tmp_path, monkeypatch):
    ratios, logs = import_benchmark("evidence.third_ratios"), import_benchmark("result_log")
    targets = [f"t{number}" for number in range(4)]
    monkeypatch.setattr(ratios, "method_targets", lambda: targets)
    log, rng = logs.ResultLog(tmp_path / "log.jsonl"), np.random.default_rng(1)
    factors = dict.fromkeys(ratios.METHODS, 1.0) | {"mona": 0.5, "scratch": 2.0}
    for target, source, method in itertools.product(targets, ratios.SOURCES, ratios.METHODS):
        best = ratios.RATES[0] if method == "scratch" else ratios.RATES[2]
        for rate in ratios.RATES:
            log.add(ratios.Job("half", source, method, target, 0, rate), {"error": 10.0 + 5 * (rate != best)})
        level = 20 + 2 * targets.index(target)
        for seed in range(ratios.SEEDS):
            error = factors[method] * level * float(np.exp(rng.normal(0, 0.02)))
            log.add(ratios.Job("all", source, method, target, seed, best), {"error": error, "samples": {"test": 5000}})
    frame = ratios.runs_frame(log)
    assert len(frame) == 4 * 2 * len(ratios.METHODS) * ratios.SEEDS
    probes = [model_result(target, "probe", source, 0.1, 7.0 + number) for target in targets
              for number, source in enumerate(("efficientnet-lite0", "vit-fashion"))]  # fmt: skip
    answer = ratios.method_answer(frame, ratios.probe_errors(probes))
    assert answer.rows[-1][:3] == ["`linear-probe`", "7.0", "8.0"]
    rows = {row[0]: row for row in answer.rows}
    assert rows["`finetune`"][5].startswith("0.50 [") or rows["`finetune`"][5].startswith("0.49 [")
    assert float(rows["`scratch`"][3].split()[0]) == pytest.approx(2, abs=0.03)
    assert float(rows["`scratch`"][4]) < 0.01
    frame.loc[frame.target == "t0", "tested"] = 99
    frame.loc[(frame.target == "t0") & (frame.method == "mona"), "log_error"] += np.log(16)
    stability = {row[0]: row[1] for row in ratios.stability_answer(frame).rows}
    assert float(stability["as planned (4 targets)"].split()[0]) == pytest.approx(1, abs=0.03)
    assert float(stability["at least 100 test samples (3 targets)"].split()[0]) == pytest.approx(0.5, abs=0.03)
    lowest, highest = map(float, stability["one target left out"].split(" to "))
    assert lowest == pytest.approx(0.5, abs=0.03)
    assert highest == pytest.approx(0.5 * 16 ** (1 / 3), abs=0.05)
    edges = ratios.edge_answer(log)
    n_chosen = 8 * len(ratios.METHODS)
    assert str(n_chosen) in edges.title
    assert [row[1:] for row in edges.rows] == [[f"{1 / len(ratios.METHODS):.0%}", "8", "8", "0", "4", "4"]] * 3
    equal = logs.ResultLog(tmp_path / "equal.jsonl")
    for target, source, method, rate in itertools.product(targets, ratios.SOURCES, ratios.METHODS, ratios.RATES):
        equal.add(ratios.Job("half", source, method, target, 0, rate), {"error": 10.0})
    shares = [row[1:5] for row in ratios.edge_answer(equal).rows]
    number = str(n_chosen)
    assert shares == [["0%", "0", "0", "0"], ["100%", number, number, "0"], ["100%", number, "0", number]]
    frame = ratios.runs_frame(log)
    of_sources = {row[0]: row for row in ratios.source_answer(frame).rows}
    assert float(of_sources["`emb`"][1].split()[0]) == pytest.approx(0.5, abs=0.02)
    assert float(of_sources["`emb`"][3].split()[0]) == pytest.approx(1, abs=0.04)


def test_one_wrong_sample_of_few_does_not_decide(import_benchmark, tmp_path, monkeypatch):
    ratios, logs = import_benchmark("evidence.third_ratios"), import_benchmark("result_log")
    monkeypatch.setattr(ratios, "method_targets", lambda: ["t"])
    monkeypatch.setattr(ratios, "METHODS", ("mona",))
    monkeypatch.setattr(ratios, "SOURCES", ("vit-fashion",))
    log = logs.ResultLog(tmp_path / "log.jsonl")
    for rate in ratios.RATES:
        log.add(ratios.Job("half", "vit-fashion", "mona", "t", 0, rate), {"error": 10.0 + (rate != ratios.RATES[2])})
    for seed in range(ratios.SEEDS):
        job = ratios.Job("all", "vit-fashion", "mona", "t", seed, ratios.RATES[2])
        log.add(job, {"error": 2.5 * seed, "samples": {"test": 40}})
    smoothed, floored = (ratios.runs_frame(log, with_half=with_half)["log_error"] for with_half in (True, False))
    assert np.exp(smoothed).tolist() == pytest.approx([100 * 0.5 / 41, 100 * 1.5 / 41, 100 * 2.5 / 41])
    assert np.exp(floored).tolist() == pytest.approx([0.1, 2.5, 5.0])


def test_the_sensitivity_table_has_the_means_of_other_weights_and_choices(
    choice, logged, import_benchmark, monkeypatch
):
    sensitivity, models = import_benchmark("evidence.third_sensitivity"), import_benchmark("evidence.third_models")
    kinds = dict(zip(JUDGING, ("image", "image", "table", "table"), strict=True))
    packages = dict(zip(JUDGING, "pqqq", strict=True))
    monkeypatch.setattr(models, "judging_targets", lambda: kinds)
    monkeypatch.setattr(sensitivity, "judging_targets", lambda: kinds)
    monkeypatch.setattr(sensitivity, "DOUBTFUL", ("new-1",))
    manifests = {name: SimpleNamespace(artifact=SimpleNamespace(name=package)) for name, package in packages.items()}
    monkeypatch.setattr(sensitivity, "named_manifest", manifests.get)
    table = choice.error_table([logged], (), JUDGING)
    gains = sensitivity.gain_of_history(table)
    assert list(gains.index) == JUDGING[:3]
    probes, baselines = [10.0, 12.0, 11.0, 19.0], [14.0, 15.0, 19.0, 21.0]
    results = [
        model_result(target, part, f"{part}-1", 0.1, error)
        for part, errors in (("probe", probes), ("baseline", baselines))
        for target, error in zip(JUDGING, errors, strict=True)
    ]
    # A second probe is as good by cross-validation on the first target alone.
    results += [model_result("new-1", "probe", "probe-2", 0.1, 20.0), model_result("new-2", "probe", "probe-2", 0.2, 0)]
    answer = sensitivity.sensitivity_answer(table, results, logged)
    rows = {row[0]: row[1:] for row in answer.rows}

    def text(values):
        low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
        return f"{np.mean(values):.1f} [{low:.1f}, {high:.1f}] ({len(values)})"

    of_a = gains.tolist()
    assert rows["as planned"][:2] == [text(of_a), text([-4, -3, -8, -2])]
    assert rows["one mean for each kind"][:2] == [text([np.mean(of_a[:2]), of_a[2]]), text([-3.5, -5])]
    assert rows["one mean for each package"][:2] == [text([of_a[0], np.mean(of_a[1:])]), text([-4, -13 / 3])]
    assert rows["without doubtful targets"][:2] == [text(of_a[1:]), text([-3, -8, -2])]
    assert rows["mean over equal cross-validated errors"][1] == text([1, -3, -8, -2])
    assert rows["one target left out"][1] == "-5.0 to -3.0"
    others = table.of(np.delete(np.arange(16), table.models.index(sensitivity.CONSTANT_SOURCE)))
    assert rows[f"without {sensitivity.CONSTANT_SOURCE}"] == [
        text(sensitivity.gain_of_history(others).tolist()),
        "",
        "",
    ]
    tuned = [models.constant_error(logged, target) for target in JUDGING[:3]]
    assert rows["as planned"][2] == text(np.array(probes[:3]) - tuned)
    # The highest rate is the best everywhere.
    assert rows["rate of fine-tuning not at an edge"] == ["", "", ""]
    beside = sensitivity.fine_tuned_answer(table, results, logged)
    assert "rates of all sources: 0 of 0.0001, 0 of 0.0005, 49 of 0.0025" in beside.title
    best = 100 * np.nanmin(table.errors[:, -4:], axis=0)
    assert beside.rows[-1][1:] == [text(best - baselines), f"{(best < baselines).sum()} of 4"]


@pytest.mark.filterwarnings("ignore:Mean of empty slice")
def test_further_differences_have_the_other_rule_for_equal_errors_and_fewer_targets(
    choice, logged, import_benchmark, monkeypatch
):
    sensitivity, jobs = import_benchmark("evidence.third_sensitivity"), import_benchmark("evidence.third_jobs")
    models, kinds = import_benchmark("evidence.third_models"), dict.fromkeys(JUDGING, "image")
    for module in (sensitivity, models):
        monkeypatch.setattr(module, "judging_targets", lambda: kinds)
    equal = {jobs.SOURCES[5]: 10.0, jobs.SOURCES[7]: 14.0}
    results = [
        model_result(target, part, model, validated, error + number, str(size), "table" if number < 2 else "image")
        for number, target in enumerate(JUDGING)
        for size in jobs.SIZES
        for part, model, validated, error in (
            ("baseline", "linear", 0.2, 9.0),
            *(("probe", name, 0.1, of_probe) for name, of_probe in equal.items()),
            ("control", "random", 0.0, 7.0 + 4.0 * (number > 1)),
        )
    ]
    table = choice.error_table([logged], [one for one in results if "128" in one["validated"]], JUDGING)
    rows = dict(sensitivity.further_answer(table, results, logged).rows)
    cells = list(rows.values())

    def text(values):
        low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
        return f"{np.mean(values):.1f} [{low:.1f}, {high:.1f}] ({len(values)})"

    # The first of the two is the best source, and the constant answer the first of all.
    gains = 100 * (0.05 - table.errors[0, -4:-1])
    assert cells[0] == text(np.delete(gains, np.abs(gains).argmax()))
    assert rows["A: linear probe by cross-validation - constant answer, first of equal errors"] == text(gains)
    assert cells[3:7] == [text([-2.0, -2, 2, 2]), "1.0 [1.0, 1.0] (4)", *["1.0 [1.0, 1.0] (2)"] * 2]
    assert cells[7:10] == ["3.0 [3.0, 3.0] (4)"] * 3
    # Fine-tuning has the highest rate everywhere, and all targets are of one kind.
    assert cells[10:12] == ["", ""]
    # The constant source does not read the last one.
    tuned = np.array([models.constant_error(logged, target) for target in JUDGING[:3]])
    differences = {"best baseline": 9 + np.arange(3) - tuned}
    differences["lowest cross-validated error of all"] = np.array([7.0, 8, 13]) - tuned
    for name, of_targets in differences.items():
        assert rows[f"C: {name} - fine-tuning, without doubtful targets"] == text(of_targets)
        rest = np.delete(of_targets, np.abs(of_targets).argmax())
        assert rows[f"C: {name} - fine-tuning, without the target with the largest difference"] == text(rest)
    by_mean = choice.judged_regrets(table)
    assert by_mean[choice.PROBE][:3] == pytest.approx(50 * (table.errors[7, -4:-1] - 0.05))


def test_earlier_targets_are_judged_as_if_they_were_new(choice, logged):
    table = choice.error_table([logged], targets=())
    regrets = choice.earlier_regrets(table.of(np.arange(4), np.arange(6)))
    # The first source is the best on all earlier targets, so the constant answer names it.
    assert regrets[choice.CONSTANT] == pytest.approx(np.zeros(6))
    random = table.errors[:4, :6].mean(axis=0) - table.errors[0, :6]
    assert regrets[choice.RANDOM] == pytest.approx(100 * random)
    alone = table.of(np.arange(1), np.arange(6))
    assert np.isnan(choice.earlier_regrets(alone)[choice.CONSTANT]).all()


def test_sources_that_the_constant_one_cannot_replace_have_a_constant_answer_of_their_own(choice):
    # The first source is best where it can read, and the third on the earlier texts, but not on average.
    errors = np.array([[0.1, 0.1, np.nan, np.nan, 0.1], [0.2, 0.2, 0.9, 0.8, 0.3], [0.9, 0.9, 0.8, 0.9, 0.2]])
    scores = choice.constant_scores(errors, 3)
    assert scores[:, 0].argmax() == scores[:, 4].argmax() == 0
    assert np.where(np.isfinite(errors[:, 3]), scores[:, 3], -np.inf).argmax() == 2
