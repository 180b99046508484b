"""The jobs of the third edition: which targets they touch, and in which order they are known."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from sklearn.metrics import average_precision_score, label_ranking_average_precision_score

from modgap.errors import InputError, UsageError
from modgap.targets.output import Output
from tests.figure_checks import intervals

TRUTH = Path(__file__).parent.parent / "benchmarks" / "truth"


@pytest.fixture(name="third")
def jobs_of_the_third_edition(import_benchmark):
    return import_benchmark("evidence.third_jobs"), import_benchmark("result_log")


def test_no_judging_target_is_in_the_history(third):
    jobs, _ = third
    judging = {name for names in json.loads((TRUTH / "judging_targets.json").read_text()).values() for name in names}
    assert not judging & {target for _, target in jobs.history_pairs()}
    assert {target for _, target in jobs.choice_pairs()} == judging - set(jobs.WITHOUT_CLASSES)
    assert len(jobs.SOURCES) == len(set(jobs.SOURCES)) >= 16


def test_the_whole_training_has_the_rate_with_the_lowest_error_on_the_other_half(third, tmp_path):
    jobs, logs = third
    log = logs.ResultLog(tmp_path / "log.jsonl")
    halves = list(jobs.training_jobs([("onet", "wine")], log))
    assert [(job.part, job.rate) for job in halves] == [("half", rate) for rate in jobs.RATES]
    for job, error in zip(halves, (20.0, 30.0, 10.0), strict=True):
        log.add(job, {"errors": {"1": 0.0, "3": 0.0, "10": error}, "seconds": 1.0})
    *_, whole = jobs.training_jobs([("onet", "wine")], log)
    assert (whole.part, whole.rate, whole.seed) == ("all", jobs.RATES[2], 0)


def test_a_source_that_does_not_read_a_target_has_a_reason_and_no_whole_training(third, tmp_path):
    jobs, logs = third
    log = logs.ResultLog(tmp_path / "log.jsonl")
    pair = [("vit-fashion", "ner-tweets")]
    for job in jobs.training_jobs(pair, log):
        assert "text" in jobs.work(job, log)["reason"]
    assert all(job.part == "half" for job in jobs.training_jobs(pair, log))


def test_each_method_trains_three_seeds_at_its_own_best_rate(import_benchmark, tmp_path, monkeypatch):
    methods, logs = import_benchmark("evidence.third_methods"), import_benchmark("result_log")
    monkeypatch.setattr(methods, "method_targets", lambda: ["wine"])
    monkeypatch.setattr(methods, "METHODS", ("finetune",))
    log = logs.ResultLog(tmp_path / "log.jsonl")
    halves = list(methods.method_jobs(log))
    assert [job.rate for job in halves] == 2 * list(methods.RATES)
    for job, error in zip(halves, (9, 5, 9, 9, 5, 9) * 2, strict=True):
        log.add(job, {"error": float(error)})
    whole = [job for job in methods.method_jobs(log) if job.part == "all"]
    assert [job.seed for job in whole] == [0, 1, 2] * 2
    # Of equal errors, the rate nearest to the middle of the grid counts, then the lower one.
    assert {job.rate for job in whole} == {methods.RATES[1]}


@pytest.mark.long
@pytest.mark.bundle
def test_a_training_of_a_method_has_one_error_in_percent(import_benchmark, tmp_path):
    methods, logs = import_benchmark("evidence.third_methods"), import_benchmark("result_log")
    study = import_benchmark("evidence.study_jobs")
    log = logs.ResultLog(tmp_path / "log.jsonl")
    results = [
        methods.work(study.Job("half", "vit-fashion", method, "wine", 0, 1e-3), log) for method in ("lp-ft", "pare")
    ]
    assert all(0 <= result["error"] <= 100 for result in results)
    assert all(result["samples"]["train"] + result["samples"]["test"] <= 128 for result in results)


@pytest.mark.parametrize("shape", [(2, 3, 5), (2, 5, 3, 1)])
def test_the_best_tokens_of_the_source_take_the_places_of_the_worst_of_the_target(import_benchmark, shape):
    pare = import_benchmark("evidence.pare")
    target, source = torch.zeros(2, 3, 5), torch.zeros(2, 3, 5)
    target[:, :, 0], source[:, :, 0] = torch.tensor([3.0, 1.0, 2.0]), torch.tensor([7.0, 9.0, 8.0])
    maps = [one.transpose(1, 2).reshape(shape) if len(shape) == 4 else one for one in (target, source)]
    gate = torch.nn.Linear(5, 1)
    torch.nn.init.ones_(gate.weight)
    mixed, share = pare.replace_tokens(*maps, gate, 0.7)
    assert share == pytest.approx(2 / 3)
    # The source's second and third tokens replace the target's second and third, in their order.
    assert pare.as_tokens(mixed)[:, :, 0].tolist() == [[3, 9, 8], [3, 9, 8]]
    mixed.sum().backward()
    assert gate.weight.grad.abs().sum() > 0
    assert pare.replace_tokens(*maps, gate, 0.1) == (maps[0], 0.0)


def test_power_and_false_positives_are_those_of_the_t_test_where_differences_are_normal(import_benchmark, monkeypatch):
    power = import_benchmark("evidence.third_power")
    differences = np.random.default_rng(0).normal(3, 2, 400)
    monkeypatch.setattr(power, "earlier_differences", lambda: iter([("A", "one - other", differences, 30)]))
    ((*_, effect, found, below, above),) = power.power_rows(2000)
    assert float(effect) == pytest.approx(differences.std(ddof=1) * 0.529, abs=0.1)
    assert [float(share.removesuffix(" %")) for share in (found, below, above)] == pytest.approx(
        [80, 2.5, 2.5], abs=2.5
    )


def test_what_is_detected_follows_from_the_spread_that_was_found(import_benchmark):
    power = import_benchmark("evidence.third_power")
    differences = np.random.default_rng(0).normal(3, 2, 41)
    ((name, n_targets, spread, effect),) = power.found_power({"one - other": differences}).rows
    assert (name, n_targets, float(spread)) == ("one - other", "41", pytest.approx(differences.std(ddof=1), abs=0.05))
    assert float(effect) == pytest.approx(differences.std(ddof=1) * 0.448, abs=0.06)


@pytest.mark.parametrize("command", [("evidence_third", "run", "choice"), ("whole_transfer", "run", "--judging")])
def test_nothing_runs_on_a_judging_target_before_the_protocol(import_benchmark, monkeypatch, capsys, command):
    name, *arguments = command
    module = import_benchmark(name)
    monkeypatch.setattr(module, "has_protocol", lambda: False)
    monkeypatch.setattr("sys.argv", [name, *arguments])
    with pytest.raises(SystemExit):
        module.main()
    assert "protocol of the third edition must be committed first" in capsys.readouterr().err


def test_no_job_runs_while_data_of_a_target_is_absent(import_benchmark, third, tmp_path):
    module, (jobs_module, _) = import_benchmark("evidence_third"), third
    jobs = [jobs_module.Training("half", "minilm", target, 0, 0.0001) for target in ("digits", "no-such-data")]
    log = module.ResultLog(tmp_path / "lines.jsonl")
    with pytest.raises(SystemExit, match="no data of no-such-data"):
        module.run(module.Part(lambda _: jobs, jobs_module.work, "source"), log, workers=1)
    with pytest.raises(SystemExit, match="no data of no-surrogate"):
        module.run(module.Part(lambda _: jobs[:1], jobs_module.work, "source", ["no-surrogate"]), log, workers=1)
    assert log.results() == []
    assert module.PARTS["methods"].read == {"fashion-mnist"}


def test_an_unexpected_error_ends_one_job_alone_and_leaves_it_for_the_next_run(import_benchmark, third, tmp_path):
    module, (jobs_module, _) = import_benchmark("evidence_third"), third
    jobs = [jobs_module.Training("half", "minilm", "digits", seed, 0.0001) for seed in range(3)]
    log = module.ResultLog(tmp_path / "lines.jsonl")

    def work(job, log):
        if job.seed == 1:
            raise ZeroDivisionError
        return log.add(job, {"seconds": 1.0})

    with pytest.raises(SystemExit, match="1 job ended with an error, and will run again"):
        module.run(module.Part(lambda _: jobs, work, "source"), log, workers=1)
    assert [log.get(job) is None for job in jobs] == [False, True, False]


def test_a_method_that_cannot_be_trained_has_the_largest_error_and_its_reason(import_benchmark, tmp_path, monkeypatch):
    methods, logs = import_benchmark("evidence.third_methods"), import_benchmark("result_log")

    errors = [UsageError("Optimal transport needs the package POT."), InputError("The features contain NaN.")]

    def fail(*_):
        raise errors.pop()

    monkeypatch.setattr(methods, "train_in_memory", fail)
    monkeypatch.setattr(methods, "open_source", lambda _: SimpleNamespace(load=lambda *_args, **_options: None))
    monkeypatch.setattr(methods, "train_request", lambda *_: None)
    job = import_benchmark("evidence.study_jobs").Job("half", "vit-fashion", "orca", "wine", 0, 1e-2)
    result = methods.work(job, logs.ResultLog(tmp_path / "log.jsonl"))
    assert (result["error"], result["reason"]) == (100.0, "The features contain NaN.")
    # A package that is absent says nothing of the method.
    with pytest.raises(UsageError, match="POT"):
        methods.work(job, logs.ResultLog(tmp_path / "log.jsonl"))


def test_all_baselines_of_the_third_edition_are_compared_on_five_folds(import_benchmark, tmp_path, monkeypatch):
    models, logs = import_benchmark("evidence.model_jobs"), import_benchmark("result_log")
    compared = []
    monkeypatch.setattr(
        models, "_errors", lambda model, *_: compared.append(model.predictor.n_compared) or {"errors": {}}
    )
    job = models.Job("baseline", "residual-network", "digits")
    for all_folds in (False, True):
        design = models.Design(["digits"], [], (16,), 10, (), all_folds=all_folds)
        models.work(job, logs.ResultLog(tmp_path / "log.jsonl"), design)
    assert compared == [1, 5]
    assert import_benchmark("evidence.third_jobs").models_design().all_folds


@pytest.mark.parametrize(
    ("done", "answered"),
    [
        ({"choice", "history"}, []),
        ({"models", "history"}, []),
        ({"choice", "models"}, ["B"]),
        ({"choice", "models", "history"}, ["A", "B", "C, first part"]),
        ({"models", "transfer"}, ["C, second part"]),
        ({"transfer", "methods"}, []),
        ({"models", "methods"}, ["D"]),
    ],
)
def test_a_question_is_answered_when_all_parts_that_it_needs_are_done(
    import_benchmark, tmp_path, monkeypatch, done, answered
):
    module, jobs = import_benchmark("evidence_third"), import_benchmark("evidence.study_jobs")
    open_job = jobs.Job("all", "vit-fashion", "finetune", "wine", 0, 1e-3)
    monkeypatch.setattr(module, "part_jobs", lambda name, log: [] if name in done else [open_job])
    assert list(module.answered(tmp_path)) == answered


def test_the_page_has_the_answers_and_costs_of_the_recorded_jobs(import_benchmark, tmp_path):
    module = import_benchmark("evidence_third")
    page = module.DOCS / "evidence.md"
    (tmp_path / page.name).write_text(page.read_text())
    module.write_answers(module.RESULTS, tmp_path)
    assert (tmp_path / page.name).read_text() == page.read_text()


def test_every_interval_in_the_text_of_the_page_is_that_of_a_table(import_benchmark):
    docs = import_benchmark("evidence_third").DOCS
    page, history = ((docs / f"{name}.md").read_text() for name in ("evidence", "history"))
    marked = re.compile(r"<!-- (answer .*?): written.*?<!-- end of \1 -->", re.DOTALL)
    text, tables = marked.sub("", page), "".join(one.group() for one in marked.finditer(page))
    found = re.compile(r"([-+]?\d+\.\d+) (?:points )?\[(-?\d+\.\d+), (-?\d+\.\d+)\]")
    said = [tuple(map(float, one)) for one in found.findall(" ".join(text.split()))]
    written = {tuple(map(float, one)) for one in found.findall(tables + history)}
    assert len(said) > 20
    # "By 7.2 points" is said of a difference of -7.2.
    assert [one for one in said if one not in written and (-one[0], -one[2], -one[1]) not in written] == []


def test_other_pages_say_what_the_page_of_the_evidence_says(import_benchmark):
    docs = import_benchmark("evidence_third").DOCS
    lines = (docs / "evidence.md").read_text().splitlines()
    start = next(
        number
        for number, line in enumerate(lines)
        if line.startswith("Mean regret in points on 41 judging targets, among all")
    )
    cells = [line.strip("| ").split(" | ") for line in lines[start + 4 : start + 12]]
    regret = {row[0]: row[1].split()[0] for row in cells}
    difference = next(row[2].partition(", p")[0] for row in cells if row[0] == "history and pilot of 3 epochs")
    constant, alone, both = (
        regret[name] for name in ("constant answer", "pilot of 3 epochs", "history and pilot of 3 epochs")
    )

    def text(path):
        return " ".join((docs.parent / path).read_text().split())

    assert (
        f"with a history are {both} points above the best source, pilots alone {alone}, the constant answer {constant} "
        f"and a random choice {regret['random choice']}: history with pilots is not shown to be better than the "
        f"constant answer, {difference}"
    ) in text("docs/ranking.md")
    assert f"was {constant} points of error above the best of 16 sources" in text("docs/faq.md")
    assert f"Its choice was {both} points above the best" in text("docs/faq.md")
    assert (
        f"an error {both} points above the best, and always naming EfficientNet-Lite0, or MiniLM on texts and strings, "
        f"{constant} points"
    ) in text("paper/paper.md")
    assert f"The difference, {difference}, is not significant" in text("paper/paper.md")
    # Question C, second part
    first, last = (
        next(n for n, line in enumerate(lines) if f"{mark} C, second part" in line)
        for mark in ("answer", "end of answer")
    )
    cells = [line[2:].split(" | ") for line in lines[first:last] if line.startswith("| ")]
    of_strategy = {row[0]: row for row in cells if len(row) == 6 and row[1].isdigit()}
    error, baseline = (of_strategy[name][2] for name in ("transfer, 10 minutes", "best baseline"))
    assert of_strategy["transfer, 2 minutes"][2] == error == min(row[2] for row in of_strategy.values())
    difference, of_minutes = (of_strategy[name][5].rstrip(" |") for name in ("best baseline", "transfer, 2 minutes"))
    assert f"lowest mean error of seven strategies, {error} % each. The best baseline had {baseline} %" in text(
        "docs/transfer.md"
    )
    difference = difference.replace(" [", " points [")
    assert f"ten minutes of it minus the best baseline are {difference}" in text("docs/transfer.md")
    assert f"The difference, {difference}, does not show" in text("paper/paper.md")
    chosen = [row for row in cells if len(row) == 10 and row[9].startswith(("baseline ", "linear-probe "))]
    n_baselines = sum(row[9].startswith("baseline ") for row in chosen)
    better, worse = (sum(sign * (float(row[3]) - float(row[4])) > 0 for row in chosen) for sign in (-1, 1))
    assert (n_baselines, better, worse, len(chosen)) == (16, 4, 2, 20)
    assert f"chose a baseline on {n_baselines} of the 20 targets" in text("docs/evidence.md")
    assert f"chose a baseline on {n_baselines} of the targets" in text("docs/transfer.md")
    assert f"The difference between ten minutes and two is {of_minutes}" in text("docs/transfer.md")
    assert f"lowest mean error of seven strategies, {error} %, with two minutes" in text("paper/paper.md")
    assert f"baseline alone had {baseline} %" in text("paper/paper.md")


def test_the_tables_of_an_answer_are_written_below_its_figure(import_benchmark, tmp_path, monkeypatch):
    module = import_benchmark("evidence_third")
    table = module.PrintedTable("Errors", ["target", "error"], [["wine", "3.2"]])
    figure = import_benchmark("matplotlib.figure").Figure
    question = module.Question(("methods",), lambda logs: [table, table], lambda logs: figure(), "errors", "Errors")
    monkeypatch.setattr(module, "QUESTIONS", {"D": question, "E": question})
    monkeypatch.setattr(module, "answered", lambda folder: {"D": {}})
    marks = [
        f"<!-- {name}: written by evidence_third.py page -->\nold\n<!-- end of {name} -->"
        for name in ("costs", "answer D", "answer E")
    ]
    (tmp_path / "evidence.md").write_text("\n".join(marks))
    module.write_answers(tmp_path, tmp_path)
    text = (tmp_path / "evidence.md").read_text()
    assert (
        "page -->\n\n![Errors](errors.png)\n\nErrors:\n\n| target | error |\n|---|---|\n| wine | 3.2 |\n\nErrors:"
        in text
    )
    assert "page -->\n\nNot all of its jobs are done, so there is no answer yet.\n\n<!-- end of answer E" in text
    assert "old" not in text
    assert (tmp_path / "errors.png").exists()


def test_history_is_called_better_only_with_and_without_texts(import_benchmark, monkeypatch):
    figures = import_benchmark("evidence.third_figures")
    draws = np.random.default_rng(0)
    regrets = {name: draws.uniform(9, 11, 12) for name in (figures.CONSTANT, figures.HISTORY.format(figures.SHORT))}
    # History gains on the texts, which are the last four of the targets, alone.
    regrets[figures.CONSTANT][8:] += 60

    def title():
        return figures.choice_figure(regrets, None).texts[0].get_text()

    monkeypatch.setattr(figures, "of_constant", lambda regrets, table: regrets)
    assert " is better than" in title().replace("\n", " ")
    without = {name: np.where(np.arange(12) < 8, values, np.nan) for name, values in regrets.items()}
    monkeypatch.setattr(figures, "of_constant", lambda regrets, table: without)
    assert "not shown to be better" in title().replace("\n", " ")


def test_the_error_of_several_labels_is_one_minus_mean_average_precision(import_benchmark):
    jobs = import_benchmark("evidence.model_jobs")
    y = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 1]])
    scores = np.random.default_rng(0).normal(size=y.shape)
    data = SimpleNamespace(
        output=Output("multi-label", (3,)), ground_truth=lambda rows: (y[rows], None), groups=None, test=np.arange(4)
    )
    error, by_sample = jobs._test_error(SimpleNamespace(scores=lambda samples: scores), None, data)
    assert error == pytest.approx(100 * (1 - average_precision_score(y, scores, average="macro")))
    assert by_sample == pytest.approx(
        [100 - 100 * label_ranking_average_precision_score(y[[k]], scores[[k]]) for k in range(4)], rel=1e-3
    )


def test_figures_draw_the_intervals_of_the_tables(import_benchmark):
    figures, models = import_benchmark("evidence.third_figures"), import_benchmark("evidence.third_models")
    draws = np.random.default_rng(0)
    errors = pd.DataFrame({name: draws.uniform(0, 30, 12) for name in (models.TRANSFER, "probe", "best baseline")})
    regrets = errors.sub(errors.min(axis=1), axis=0)
    expected = [stats.t.interval(0.95, 11, regrets[name].mean(), stats.sem(regrets[name])) for name in errors]
    drawn = intervals(figures.transfer_figure(errors).axes[0])
    np.testing.assert_allclose(sorted(drawn), sorted(expected))
    frame = pd.DataFrame(
        {"kind": ["table", "sound"] * 6, "probe": errors["probe"], "baseline": errors["best baseline"]}
    )
    assert "no single kind" in str([text.get_text() for text in figures.baseline_figure(frame).texts])
    few = figures.baseline_figure(frame.assign(kind=["sound", "sound", *["table"] * 10])).axes[0]
    assert len(intervals(few)) == 2, "all targets and tables, and no interval of two sounds"
    frame["probe"] = frame["baseline"] - draws.uniform(1, 2, 12)
    figure = figures.baseline_figure(frame)
    assert len(intervals(figure.axes[0])) == 3
    assert "the best probe is better on" in " ".join(text.get_text() for text in figure.texts)


def test_the_figure_of_methods_has_the_ratios_of_the_table(import_benchmark):
    figures, ratios = import_benchmark("evidence.third_figures"), import_benchmark("evidence.ratios")
    draws = np.random.default_rng(1)
    cells = [
        (source, method, f"target {target}", seed)
        for source in figures.SOURCES
        for method in ("finetune", "emb", "mona", "scratch")
        for target in range(8)
        for seed in range(3)
    ]
    frame = pd.DataFrame(cells, columns=["source", "method", "target", "seed"])
    frame["log_error"] = draws.normal(3, 0.2, len(frame))
    expected = [ratios.error_ratios(frame, name, ["finetune"])["finetune"] for name in ("emb", "mona", "scratch")]
    drawn = intervals(figures.method_figure(frame).axes[0])
    np.testing.assert_allclose(sorted(drawn), sorted((one.low, one.high) for one in expected))
