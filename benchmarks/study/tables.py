"""Tables of the study, from the results of finished jobs."""

from collections.abc import Callable, Iterable

import numpy as np
from result_log import ResultLog
from scipy.stats import spearmanr, t

from modgap.cli.output import print_table
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

__all__ = ["plan", "report"]

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
    errors = {(job.target, job.seed, _name(job)): error for job, result in results
              if (error := pick(result)) is not None}  # fmt: skip
    rows = []
    for other in dict.fromkeys(name for _, _, name in errors if name not in (method, UNTOUCHED)):
        pairs = {
            (target, seed): log_ratio(errors[target, seed, method], value)
            for (target, seed, name), value in errors.items() if name == other and (target, seed, method) in errors
        }  # fmt: skip
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


FEWEST_TARGETS = 6
"""Fewest targets from which an interval over targets is computed."""


def _ratio_cells(pairs: dict[tuple[str, int], float]) -> list[str]:
    gaps = np.array(list(pairs.values()))
    by_target: dict[str, list[float]] = {}
    for (target, _), gap in pairs.items():
        by_target.setdefault(target, []).append(gap)
    means = np.array([np.mean(values) for values in by_target.values()])
    further = _interval(means.mean(), means.std(ddof=1) / np.sqrt(len(means)), len(means) - 1) \
        if len(means) >= FEWEST_TARGETS else "fewer than 6"  # fmt: skip
    return [str(len(gaps)), str(int((gaps < 0).sum())), str(int((gaps > 0).sum())), f"{np.exp(means.mean()):.3f}",
            _interval_over_seeds(list(by_target.values())), further]  # fmt: skip


def _interval_over_seeds(by_target: list[list[float]]) -> str:
    """Return the interval of the mean over these targets; the variances of their means over seeds are added."""
    repeated = [values for values in by_target if len(values) > 1]
    if len(repeated) < len(by_target):
        return "one seed"
    variances = [float(np.var(values, ddof=1)) / len(values) for values in repeated]
    total = sum(variances)
    if total == 0:
        return "no variation"
    # Satterthwaite's degrees of freedom of a sum of independent variances.
    freedom = total**2 / sum(
        variance**2 / (len(values) - 1) for variance, values in zip(variances, repeated, strict=True)
    )
    mean = float(np.mean([np.mean(values) for values in repeated]))
    return _interval(mean, np.sqrt(total) / len(repeated), freedom)


def _interval(mean: float, standard_error: float, freedom: float) -> str:
    margin = float(t.ppf(0.975, freedom)) * standard_error
    return f"{np.exp(mean - margin):.3f} - {np.exp(mean + margin):.3f}"


def _by_target(pairs: dict[tuple[str, int], float]) -> str:
    targets = dict.fromkeys(target for target, _ in pairs)
    return ", ".join(
        f"{one} {np.exp(np.mean([gap for (name, _), gap in pairs.items() if name == one])):.2f}" for one in targets
    )


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
