"""Tables of the study, from the results of finished jobs."""

from collections.abc import Callable, Iterable

import numpy as np
from result_log import ResultLog
from scipy.stats import spearmanr

from modgap.cli.output import print_table
from study.intervals import FEWEST_TARGETS, Interval, interval_over_seeds, interval_over_targets
from study.jobs import (
    ALPHAS,
    APART,
    UNTOUCHED,
    WEIGHTS,
    Job,
    chosen_settings,
    jobs,
    log_ratio,
    smoothed_error,
    sweep_ratios,
)

Results = list[tuple[Job, dict]]
Pick = Callable[[dict], float | None]
SECONDS_EXPECTED = {"1d": 300.0, "cnn": 120.0}
"""Seconds per job before one of the part is finished, from a first trial on one of two cores; 60 for other parts."""


def plan(parts: Iterable[str], log: ResultLog, workers: int) -> None:
    """Print the numbers of jobs and finished jobs, and the remaining time."""
    rows = []
    total = 0.0
    for part in parts:
        try:
            listed = list(jobs(part, log))
        except FileNotFoundError:
            rows.append([part, "after the sweep", "", "", ""])
            continue
        spent = [result["cost"]["whole"] for job in listed if (result := log.get(job))]
        n_left = len(listed) - len(spent)
        seconds = np.mean(spent) if spent else SECONDS_EXPECTED.get(part, 60.0)
        total += n_left * seconds
        source = "measured" if spent else "guess"
        rows.append(
            [part, str(len(listed)), str(len(spent)), f"{seconds:.0f} ({source})", f"{n_left * seconds / 60:.0f}"]
        )
    print_table(["part", "jobs", "finished", "s per job", "min left"], rows)
    print(f"{total / 60:.0f} min of one core, about {total / 60 / workers:.0f} min with {workers} workers", flush=True)


def report(part: str, log: ResultLog, only: list[Job] | None = None) -> None:
    """Print the tables of a part: mean ± standard deviation over seeds, with the number of seeds in parentheses."""
    try:
        listed = list(jobs(part, log)) if only is None else only
    except FileNotFoundError as error:
        print(f"{part}: {error}\n")
        return
    results = [(job, result) for job in listed if (result := log.get(job))]
    if not results:
        print(f"{part}: no job is finished\n")
    elif part == "sweep":
        _sweep(log)
    else:
        _compare(part, _with_mona(part, results, log))


def _with_mona(part: str, results: Results, log: ResultLog) -> Results:
    """Add the unchanged MoNA and emb runs of the 2d part, which the ablations are compared with."""
    if part != "ablation":
        return results
    targets = {job.target for job, _ in results}
    finished = [(job, result) for job in jobs("2d", log) if (result := log.get(job))]
    return [*((j, r) for j, r in finished if j.method in ("mona", "emb") and j.target in targets), *results]


def _compare(part: str, results: Results) -> None:
    titles: list[tuple[str, Pick]] = [("test error, in each target's metric", _test)]
    surrogates = dict.fromkeys(name for _, result in results for name in result["probe_error"])
    titles += [
        (f"linear-probe error on {name}, after epoch {epoch} (0: the source as it is)", _probe(name, epoch))
        for name in surrogates for epoch in _epochs(results, name)
    ]  # fmt: skip
    titles += [(f"discrepancy before the encoder is trained: {kind}", _discrepancy(key)) for kind, key in
               (("held-out error", "held_out"), ("ratio to null", "ratio_to_null"))]  # fmt: skip
    for title, pick in titles:
        _by_method(part, title, results, pick)
    for stage in ("stage1", "stage2"):
        # Other work ran beside the jobs, so the fastest seed is the most informative.
        _by_method(part, f"seconds of {stage} on one core, the fastest seed's", results, _cost(stage), _least)
    _weights(part, results)
    method = {"steps": "mona steps-1"}.get(part, "mona")
    print_paired(results, method, "test error", smoothed_error)
    print_paired(results, method, "probe error after the last epoch", _last_probe)
    _print_relation(part, results)


def _test(result: dict) -> float | None:
    return result["result"]["test"] if "result" in result else None


def _probe(name: str, epoch: str) -> Pick:
    return lambda result: result["probe_error"].get(name, {}).get(epoch)


def _last_probe(result: dict) -> float:
    return list(next(iter(result["probe_error"].values())).values())[-1]


def _epochs(results: Results, surrogate: str) -> list[str]:
    epochs = {epoch for _, result in results for epoch in result["probe_error"].get(surrogate, {})} - {"0"}
    return sorted(epochs, key=int)


def _discrepancy(key: str) -> Pick:
    return lambda result: (result["discrepancy"] or {}).get(key)


def _cost(stage: str) -> Pick:
    return lambda result: result["cost"].get(stage)


def _name(job: Job) -> str:
    return f"{job.method} {job.label}".strip()


def _by_method(
    part: str, title: str, results: Results, pick: Pick, format_cell: Callable[[list], str] | None = None
) -> None:
    targets = list(dict.fromkeys(job.target for job, _ in results))
    rows = []
    for name in dict.fromkeys(_name(job) for job, _ in results):
        untouched = name == UNTOUCHED and "probe" in title
        cells = [(format_cell or _cell)([(_before(r, title) if untouched else pick(r)) for j, r in results
                        if (_name(j), j.target) == (name, target)]) for target in targets]  # fmt: skip
        if any(cell != "-" for cell in cells):
            rows.append([name, *cells])
    if rows:
        print_table(["method", *targets], rows, f"{part}: {title}")


def _before(result: dict, title: str) -> float | None:
    """Return the probe error of the untouched source, which is shown in the table of every epoch."""
    return next((errors.get("0") for name, errors in result["probe_error"].items() if f" {name}," in title), None)


def _cell(values: list) -> str:
    numbers = [value for value in values if value is not None]
    if not numbers:
        return "-"
    spread = f" ± {np.std(numbers, ddof=1):.2g}" if len(numbers) > 1 else ""
    return f"{np.mean(numbers):.3g}{spread} ({len(numbers)})"


def _least(values: list) -> str:
    numbers = [value for value in values if value is not None]
    return f"{min(numbers):.1f}" if numbers else "-"


def _weights(part: str, results: Results) -> None:
    """Print the norm of the mixed product relative to the task's gradient, over the epochs of stage 1."""
    rows = [[_name(job), job.target, str(job.seed), *(f"{share:.2g}" for share in (np.mean(shares), max(shares)))]
            for job, result in results if (shares := result.get("mixed_share")) and job.seed == 0]  # fmt: skip
    if rows:
        print_table(["method", "target", "seed", "mean", "largest"], rows, f"{part}: weight of the mixed product")


def print_paired(results: Results, method: str, title: str, pick: Pick) -> None:
    """Print the ratio of one method's value to that of each other method, paired by target and seed.

    Seeds of one target are correlated, so the pairs are not independent. As a statement about these targets, the
    interval is Student's t over seeds for the mean over targets. As a statement about further targets, it is Student's
    t over targets; with fewer than six targets there is none.
    """
    rows = []
    for other in dict.fromkeys(_name(job) for job, _ in results if _name(job) not in (method, UNTOUCHED)):
        pairs = log_ratios(results, method, other, pick)
        if len(pairs) > 1:
            rows.append([other, *_ratio_cells(pairs), _by_target(pairs)])
    if rows:
        heads = ["other method", "pairs", "lower", "higher", "ratio", "these targets", "further targets", "by target"]
        print_table(
            heads,
            rows,
            f"ratio of the {title} of {method} to that of other methods, paired by target and seed; 95 % CI over seeds "
            "for these targets, and over targets for further ones",
        )


def log_ratios(results: Results, method: str, other: str, pick: Pick) -> dict[tuple[str, int], float]:
    """Return the logarithm of the ratio of two methods' values by target and seed."""
    values: dict[str, dict[tuple[str, int], float]] = {method: {}, other: {}}
    for job, result in results:
        if _name(job) in values and (value := pick(result)) is not None:
            values[_name(job)][job.target, job.seed] = value
    return {key: log_ratio(values[method][key], value) for key, value in values[other].items() if key in values[method]}


def grouped_by_target(pairs: dict[tuple[str, int], float]) -> dict[str, list[float]]:
    """Return the values of each target, one a seed."""
    by_target: dict[str, list[float]] = {}
    for (target, _), gap in pairs.items():
        by_target.setdefault(target, []).append(gap)
    return by_target


def _ratio_cells(pairs: dict[tuple[str, int], float]) -> list[str]:
    gaps = np.array(list(pairs.values()))
    by_target = list(grouped_by_target(pairs).values())
    mean = np.mean([np.mean(values) for values in by_target])
    further = interval_over_targets(by_target)
    return [
        str(len(gaps)),
        str(int((gaps < 0).sum())),
        str(int((gaps > 0).sum())),
        f"{np.exp(mean):.3f}",
        _these_targets(interval_over_seeds(by_target)),
        _ratios(further) if further else f"fewer than {FEWEST_TARGETS}",
    ]


def _these_targets(interval: Interval | None) -> str:
    if interval is None:
        return "one seed"
    return "no variation" if interval[0] == interval[1] else _ratios(interval)


def _ratios(interval: Interval) -> str:
    low, high = np.exp(interval)
    return f"{low:.3f} - {high:.3f}"


def _by_target(pairs: dict[tuple[str, int], float]) -> str:
    return ", ".join(f"{target} {np.exp(np.mean(gaps)):.2f}" for target, gaps in grouped_by_target(pairs).items())


def _print_relation(part: str, results: Results) -> None:
    """Print the rank correlation of probe error and discrepancy with the test error, over the runs on a target."""
    for title, pick in (
        ("probe error after the last epoch", _last_probe),
        ("held-out discrepancy", _discrepancy("held_out")),
    ):
        correlations = []
        for target in dict.fromkeys(job.target for job, _ in results):
            both = [(pick(r), _test(r)) for j, r in results if j.target == target]
            both = [pair for pair in both if None not in pair]
            if len(both) > 3 and all(len(set(values)) > 1 for values in zip(*both, strict=True)):
                correlations.append(f"{target} {spearmanr(*zip(*both, strict=True)).statistic:+.2f} ({len(both)})")
        if correlations:
            print(f"{part}: rank correlation over runs of {title} with test error: {', '.join(correlations)}")
    print()


def _sweep(log: ResultLog) -> None:
    try:
        logs = sweep_ratios(log)
    except FileNotFoundError as error:
        print(f"sweep: {error}\n")
        return
    results = [(job, log.get(job)) for job in jobs("sweep", log)]
    shares = {}
    for job, result in results:
        if result and result["mixed_share"]:
            shares.setdefault(job.label, []).append(np.mean(result["mixed_share"]))
    for title, values in (
        (
            "test error over emb's, geometric mean over target and seed",
            {k: np.exp(np.mean(v)) for k, v in logs.items()},
        ),
        ("weight of the mixed product", {k: np.mean(v) for k, v in shares.items()}),
    ):
        rows = [[f"{alpha:g}", *(f"{values[f'{alpha}-{weight}']:.3g}" for weight in WEIGHTS)] for alpha in ALPHAS]
        print_table(["alpha", *(f"lambda {weight:g}" for weight in WEIGHTS)], rows, f"sweep: {title}")
    for target in APART:
        of_target = [(job, result) for job, result in results if job.target == target]
        _by_method("sweep", f"test error on {target}", of_target, _test)
    print(f"chosen: {', '.join(chosen_settings(log))}\n")
