"""Check p-values, intervals and paired differences by simulations in which the truth is available.

    python benchmarks/validity.py run [--cells NAME;...] [--simulations NAME;...] [--quick]    one to two core-hours
    python benchmarks/validity.py report                                                       tables in Markdown

The run can be stopped and resumed; its results are in results/validity.jsonl. Each cell is a design: how samples,
groups and classes are drawn, and what counts equally. A cell has these simulations:

- level: logits that do not depend on the labels. P(p <= a) must not exceed a by more than 2 standard errors.
- power: the same with logits that do.
- coverage: logits that do. The 95 % intervals of the held-out error of `search`, and of the paired difference of two
  sources, must cover their expectations, which are the means over all data sets.
- paired null: two sources that are equally good. P(p <= a) as above.
- score coverage, score null: the same for the scores `soft`, `leep-held-out`, `linear-probe` and `knn`.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from result_log import ResultLog
from validity_designs import CELLS, Cell, Data, draw

from modgap.discrepancy.estimator_chain import EstimatorInputs, fit_search_maps
from modgap.discrepancy.held_out import HeldOutProblem, fold_errors, fold_predictions, held_out_problem
from modgap.discrepancy.labeled_samples import LabeledSamples
from modgap.discrepancy.permutation_test import soft_permutation_test
from modgap.discrepancy.probabilities import Probabilities
from modgap.discrepancy.soft import soft_maps
from modgap.labels.label_space import label_space
from modgap.ranking.score import ErrorOptions
from modgap.ranking.scores import get_score
from modgap.ranking.source_outputs import CLASSIFICATION, MULTI_LABEL, SourceOutputs
from modgap.statistics.intervals import SampleErrors
from modgap.statistics.paired import paired_difference
from modgap.statistics.weights import choose_weighting

FEATURES = 4
SCORES = ("soft", "leep-held-out", "linear-probe", "knn")
VALUES = ("search", *SCORES)
RESULTS = Path(__file__).with_name("results") / "validity.jsonl"
LEVELS = (0.05, 0.1, 0.25)
PERMUTATIONS = 99
SPLITS = 20
LEVEL_SETS = 1000
POWER_SETS = 200
SCORE_SETS = 200
SEARCH_SETS = 100
"""Data sets that the search is simulated on; it takes ten to fifty times as long as the soft error."""


def problem_of(cell: Cell, data: Data, source: int, seed: int, splits: int = SPLITS) -> HeldOutProblem:
    """Return the held-out problem of one source."""
    space = label_space(data.labels)
    array = data.logits[source]
    array.flags.writeable = False
    inputs = EstimatorInputs(array, ("search",), space.n_classes, seed=seed)
    weighting = choose_weighting(cell.weight, data.groups)
    labeled = LabeledSamples(space, data.groups, None, weighting, cell.permutations_by)
    problem = held_out_problem(inputs, labeled, splits)
    assert problem is not None
    return problem


def search_errors(problem: HeldOutProblem) -> SampleErrors:
    """Return the errors of `search`."""
    probabilities = Probabilities(problem.inputs.logits, problem.labeling.space.rows)
    search_maps = fit_search_maps(problem.inputs, problem.labeling, soft_maps(probabilities, problem.labeling))
    predicted = fold_predictions(problem.inputs.logits, problem.labeling, search_maps)
    return problem.average_parts([(problem.splits, fold_errors(problem.labeling, predicted))])


def score_errors(cell: Cell, data: Data, seed: int, name: str) -> list[SampleErrors]:
    """Return the errors of both sources by a score; the features are some of the logits, so that probes err too."""
    options, labels, groups = ErrorOptions(cell.weight, SPLITS), data.labels, data.groups
    sources = [SourceOutputs(logits[:, :FEATURES], labels, logits, groups=groups) for logits in data.logits]
    return [get_score(name).sample_errors(one, options, seed) for one in sources]


def scores_of(cell: Cell) -> list[str]:
    """Return the names of the simulated scores that are errors by sample."""
    task = MULTI_LABEL if cell.multi_label else CLASSIFICATION
    return [name for name in SCORES if task in get_score(name).error_tasks]


def simulate_level(cell: Cell, seed: int) -> dict:
    """Return the p-value of one data set without signal."""
    data = draw(cell, seed, signal=0.0)
    problem = problem_of(cell, data, 0, seed)
    null, _ = soft_permutation_test(problem, Probabilities(data.logits[0], problem.labeling.space.rows), PERMUTATIONS)
    return {"p": null.p_value}


def simulate_power(cell: Cell, seed: int) -> dict:
    """Return the p-value of one data set with signal."""
    data = draw(cell, seed, signal=cell.signal)
    problem = problem_of(cell, data, 0, seed)
    null, _ = soft_permutation_test(problem, Probabilities(data.logits[0], problem.labeling.space.rows), PERMUTATIONS)
    return {"p": null.p_value}


def simulate_coverage(cell: Cell, seed: int) -> dict:
    """Return values and intervals of the search on one data set with signal, and of the difference of two sources."""
    data = draw(cell, seed, signal=cell.signal, common=0.3)
    return coverage_record("search", [search_errors(problem_of(cell, data, source, seed)) for source in range(2)])


def simulate_score_coverage(cell: Cell, seed: int) -> dict:
    """Return values and intervals of scores on one data set with signal, and of the difference of two sources."""
    data = draw(cell, seed, signal=cell.signal, common=0.3)
    records = [coverage_record(name, score_errors(cell, data, seed, name)) for name in scores_of(cell)]
    return {key: value for record in records for key, value in record.items()}


def coverage_record(name: str, errors: list[SampleErrors]) -> dict:
    """Return the value of the first source, and the difference of both, with intervals and standard errors."""
    score = get_score("discrepancy" if name == "search" else name)
    mean = score.mean_of(errors[0])
    difference = paired_difference(*errors, largest=largest_difference(name))
    return {
        name: [mean.value, mean.interval, mean.standard_error],
        f"{name} difference": [difference.value, difference.interval, difference.standard_error],
    }


def largest_difference(name: str) -> float:
    """Return the largest difference of two sources that is possible."""
    return np.inf if name == "leep-held-out" else 1.0


def simulate_paired_null(cell: Cell, seed: int) -> dict:
    """Return the p-value of the search of the difference of two sources that are equally good."""
    data = draw(cell, seed, signal=cell.signal)
    errors = [search_errors(problem_of(cell, data, source, seed)) for source in range(2)]
    return {"search": paired_difference(*errors).p_value}


def simulate_score_null(cell: Cell, seed: int) -> dict:
    """Return the p-values of scores of the difference of two sources that are equally good."""
    data = draw(cell, seed, signal=cell.signal)
    return {
        name: paired_difference(*score_errors(cell, data, seed, name), largest=largest_difference(name)).p_value
        for name in scores_of(cell)
    }


SIMULATIONS = {
    "level": (simulate_level, LEVEL_SETS),
    "power": (simulate_power, POWER_SETS),
    "coverage": (simulate_coverage, SEARCH_SETS),
    "paired null": (simulate_paired_null, SEARCH_SETS),
    "score null": (simulate_score_null, SCORE_SETS),
    "score coverage": (simulate_score_coverage, SCORE_SETS),
}


@dataclass(frozen=True)
class SimulationJob:
    """Some data sets of one simulation of a cell.

    Attributes:
        cell: Name of the cell.
        simulation: Name of the simulation.
        first: Number of the first data set.
        last: Number of the data set after the last one.
    """

    cell: str
    simulation: str
    first: int
    last: int


JOB_SETS = 50
"""Data sets of one job."""
QUICK_SETS = 20


def jobs(cells: set[str], quick: bool, chosen: tuple[str, ...] = ()) -> Iterator[SimulationJob]:
    """Yield the jobs of some cells and simulations, or of all where none is named."""
    for simulation, (_, n_sets) in SIMULATIONS.items():
        for cell in CELLS:
            if (cells and cell.name not in cells) or (chosen and simulation not in chosen):
                continue
            if simulation in ("coverage", "paired null") and not cell.searches:
                continue
            for first in range(0, QUICK_SETS if quick else n_sets, JOB_SETS):
                last = min(first + JOB_SETS, QUICK_SETS if quick else n_sets)
                yield SimulationJob(cell.name, simulation, first, last)


def run_job(job: SimulationJob) -> dict:
    """Run a job and return its records and the processor time in seconds."""
    cell = next(cell for cell in CELLS if cell.name == job.cell)
    simulate, _ = SIMULATIONS[job.simulation]
    began = time.process_time()
    records = [simulate(cell, seed) for seed in range(job.first, job.last)]
    return {"records": records, "seconds": round(time.process_time() - began, 2)}


def run(cells: set[str], quick: bool, chosen: tuple[str, ...]) -> None:
    """Run all jobs that have no result yet."""
    log = ResultLog(RESULTS.with_stem("validity_quick") if quick else RESULTS)
    for job in jobs(cells, quick, chosen):
        if log.get(job) is None:
            record = log.add(job, run_job(job))
            print(f"{job.cell}: {job.simulation} {job.first}-{job.last}, {record['seconds']:.1f} s", flush=True)


def collect(log: ResultLog, cell: Cell, simulation: str, quick: bool) -> tuple[list[dict], float]:
    """Return the records of a simulation of a cell, and its processor time in seconds."""
    records: list[dict] = []
    seconds = 0.0
    for job in jobs({cell.name}, quick, (simulation,)):
        if result := log.get(job):
            records += result["records"]
            seconds += result["seconds"]
    return records, seconds


def rate_text(hits: np.ndarray) -> str:
    """Return a rate with its standard error."""
    rate = hits.mean()
    return f"{rate:.3f} ({np.sqrt(rate * (1 - rate) / len(hits)):.3f})"


def level_row(records: list[dict], marked: bool = True) -> list[str]:
    """Return the rates of p-values at or below each level, with standard errors; a star marks a rate that is too high.

    Args:
        records: Records of one simulation; data sets without a p-value count as not rejected.
        marked: False for no stars.
    """
    p_values = np.array([1.0 if record["p"] is None else record["p"] for record in records])
    cells = []
    for level in LEVELS:
        hits = p_values <= level + 1e-9
        too_high = hits.mean() > level + 2 * np.sqrt(level * (1 - level) / len(hits))
        cells.append(rate_text(hits) + (" *" if marked and too_high else ""))
    return cells


def coverage_text(records: list[dict], name: str) -> str:
    """Return the share of intervals of a value that cover its expectation; a star marks a share below 93 %.

    Args:
        records: Records of one simulation.
        name: Name of the value.
    """
    intervals = [record[name][1] for record in records]
    if any(interval is None for interval in intervals):
        return "-"
    low, high = np.array(intervals).T
    truth = np.mean([record[name][0] for record in records])
    share = ((low <= truth) & (truth <= high)).mean()
    return f"{share:.3f}{' *' if share < WANTED_COVERAGE else ''}"


WANTED_COVERAGE = 0.93


def table(title: str, heads: list[str], rows: list[list[str]]) -> None:
    """Print a table in Markdown."""
    print(f"\n{title}\n\n| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")


def report(quick: bool) -> None:
    """Print the tables of all simulations, and the core-hours."""
    log = ResultLog(RESULTS.with_stem("validity_quick") if quick else RESULTS)
    total = 0.0
    levels: list[list[str]] = []
    powers: list[list[str]] = []
    covers: list[list[str]] = []
    difference_covers: list[list[str]] = []
    nulls: list[list[str]] = []
    for cell in CELLS:
        records_of = {}
        for simulation in SIMULATIONS:
            records_of[simulation], seconds = collect(log, cell, simulation, quick)
            total += seconds
        if records := records_of["level"]:
            levels.append([cell.name, str(len(records)), *level_row(records)])
        if records := records_of["power"]:
            powers.append([cell.name, str(len(records)), *level_row(records, marked=False)])
        cover, cover_difference, null = [cell.name], [cell.name], [cell.name]
        for name in VALUES:
            prefix = "" if name == "search" else "score "
            intervals = records_of[f"{prefix}coverage"]
            p_values = records_of["paired null" if name == "search" else "score null"]
            has_value = bool(intervals) and name in intervals[0]
            cover.append(coverage_text(intervals, name) if has_value else "")
            cover_difference.append(coverage_text(intervals, f"{name} difference") if has_value else "")
            has_value = bool(p_values) and name in p_values[0]
            null.append(level_row([{"p": record[name]} for record in p_values])[0] if has_value else "")
        if any(cover[1:]):
            covers.append(cover)
            difference_covers.append(cover_difference)
        if any(null[1:]):
            nulls.append(null)
    rates = [f"p <= {level}" for level in LEVELS]
    table("P(p <= a) of the permutation test without signal", ["cell", "data sets", *rates], levels)
    table("The same with signal (power)", ["cell", "data sets", *rates], powers)
    table("Coverage of 95 % intervals", ["cell", *VALUES], covers)
    table("Coverage of 95 % intervals of the difference of two sources", ["cell", *VALUES], difference_covers)
    table("P(p <= .05) of the paired difference of equal sources", ["cell", *VALUES], nulls)
    print(f"\n{total / 3600:.2f} core-hours")


def main() -> None:
    """Run the simulations, or print their tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["run", "report"])
    parser.add_argument("--cells", default="", help="names of cells, separated by semicolons; all by default")
    parser.add_argument("--simulations", default="", help=f"some of {'; '.join(SIMULATIONS)}; all by default")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_SETS} data sets each")
    options = parser.parse_args()
    if options.command == "run":
        chosen = tuple(name for name in options.simulations.split(";") if name)
        run({name for name in options.cells.split(";") if name}, options.quick, chosen)
    report(options.quick)


if __name__ == "__main__":
    main()
