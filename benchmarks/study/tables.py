"""The study's tables, from the files of the jobs that are done."""

from collections.abc import Callable, Iterable

import numpy as np
from result_log import ResultLog
from scipy.stats import spearmanr, ttest_1samp, wilcoxon

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

Found = list[tuple[Job, dict]]
Pick = Callable[[dict], float | None]
SECONDS_UNKNOWN = {"1d": 300.0, "cnn": 120.0}
"""A job's, before one of its part is done: what a first trial of each took on one core of two; others 60."""


def plan(parts: Iterable[str], log: ResultLog, workers: int) -> None:
    """What there is to do, what is and the time that is left."""
    rows, total = [], 0.0
    for part in parts:
        try:
            listed = list(jobs(part, log))
        except FileNotFoundError:
            rows.append([part, "after the sweep", "", "", ""])
            continue
        spent = [found["cost"]["whole"] for job in listed if (found := log.get(job))]
        left, each = len(listed) - len(spent), np.mean(spent) if spent else SECONDS_UNKNOWN.get(part, 60.0)
        total += left * each
        source = "measured" if spent else "guess"
        rows.append([part, str(len(listed)), str(len(spent)), f"{each:.0f} ({source})", f"{left * each / 60:.0f}"])
    print_table(["part", "jobs", "done", "s a job", "min left"], rows)
    print(f"{total / 60:.0f} min of one core, about {total / 60 / workers:.0f} min with {workers} workers", flush=True)


def report(part: str, log: ResultLog, only: list[Job] | None = None) -> None:
    """Tables of a part, mean and sd over seeds with their number in brackets."""
    try:
        listed = list(jobs(part, log)) if only is None else only
    except FileNotFoundError as error:
        print(f"{part}: {error}\n")
        return
    found = [(job, result) for job in listed if (result := log.get(job))]
    if not found:
        print(f"{part}: nothing is done\n")
    elif part == "sweep":
        _sweep(log)
    else:
        _compare(part, _with_mona(part, found, log))


def _with_mona(part: str, found: Found, log: ResultLog) -> Found:
    """With the runs of MoNA as it is, which ablations are compared with and the 2d part has."""
    if part != "ablation":
        return found
    targets = {job.target for job, _ in found}
    own = [(job, result) for job in jobs("2d", log) if (result := log.get(job))]
    return [*((j, r) for j, r in own if j.method in ("mona", "emb") and j.target in targets), *found]


def _compare(part: str, found: Found) -> None:
    titles: list[tuple[str, Pick]] = [("test error, in each target's metric", _test)]
    surrogates = dict.fromkeys(name for _, result in found for name in result["probe_error"])
    titles += [
        (f"linear-probe error on {name}, after epoch {epoch} (0: the source as it is)", _probe(name, epoch))
        for name in surrogates for epoch in _epochs(found, name)
    ]  # fmt: skip
    titles += [(f"discrepancy before the encoder is trained: {kind}", _discrepancy(key)) for kind, key in
               (("held out", "held_out"), ("ratio_to_null", "ratio_to_null"))]  # fmt: skip
    for title, pick in titles:
        _by_method(part, title, found, pick)
    for stage in ("stage1", "stage2"):
        # Other jobs and other work ran beside them, so the fastest seed says most.
        _by_method(part, f"seconds of {stage} on one core, the fastest seed's", found, _cost(stage), _least)
    _weights(part, found)
    own = {"steps": "mona steps-1"}.get(part, "mona")
    paired(found, own, "test error", smoothed_error)
    paired(found, own, "probe error after the last epoch", _last_probe)
    _tell_relation(part, found)


def _test(result: dict) -> float | None:
    return result["result"]["test"] if "result" in result else None


def _probe(name: str, epoch: str) -> Pick:
    return lambda result: result["probe_error"].get(name, {}).get(epoch)


def _last_probe(result: dict) -> float:
    return list(next(iter(result["probe_error"].values())).values())[-1]


def _epochs(found: Found, surrogate: str) -> list[str]:
    known = {epoch for _, result in found for epoch in result["probe_error"].get(surrogate, {})} - {"0"}
    return sorted(known, key=int)


def _discrepancy(key: str) -> Pick:
    return lambda result: (result["discrepancy"] or {}).get(key)


def _cost(stage: str) -> Pick:
    return lambda result: result["cost"].get(stage)


def _name(job: Job) -> str:
    return f"{job.method} {job.label}".strip()


def _by_method(part: str, title: str, found: Found, pick: Pick, told: Callable[[list], str] | None = None) -> None:
    targets = list(dict.fromkeys(job.target for job, _ in found))
    rows = []
    for name in dict.fromkeys(_name(job) for job, _ in found):
        untouched = name == UNTOUCHED and "probe" in title
        cells = [(told or _cell)([(_before(r, title) if untouched else pick(r)) for j, r in found
                        if (_name(j), j.target) == (name, target)]) for target in targets]  # fmt: skip
        if any(cell != "-" for cell in cells):
            rows.append([name, *cells])
    if rows:
        print_table(["method", *targets], rows, f"{part}: {title}")


def _before(result: dict, title: str) -> float | None:
    """The untouched source's probe error belongs into the table of every epoch."""
    return next((errors.get("0") for name, errors in result["probe_error"].items() if f" {name}," in title), None)


def _cell(values: list) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    return f"{np.mean(known):.3g}" + (f" ± {np.std(known, ddof=1):.2g}" if len(known) > 1 else "") + f" ({len(known)})"


def _least(values: list) -> str:
    known = [value for value in values if value is not None]
    return f"{min(known):.1f}" if known else "-"


def _weights(part: str, found: Found) -> None:
    """How much the mixed product weighed against the task's gradient, over the epochs of stage 1."""
    rows = [[_name(job), job.target, str(job.seed), *(f"{share:.2g}" for share in (np.mean(shares), max(shares)))]
            for job, result in found if (shares := result.get("mixed_share")) and job.seed == 0]  # fmt: skip
    if rows:
        print_table(["method", "target", "seed", "mean", "largest"], rows, f"{part}: weight of the mixed product")


def paired(found: Found, own: str, title: str, pick: Pick) -> None:
    """One method against each other: ratio of what is picked by target and seed, pooled over targets.

    With one value a target and seed; targets, not seeds, are what a reader would generalize over, and they are few.
    """
    errors = {(job.target, job.seed, _name(job)): error for job, result in found
              if (error := pick(result)) is not None}  # fmt: skip
    rows = []
    for other in dict.fromkeys(name for _, _, name in errors if name not in (own, UNTOUCHED)):
        pairs = {
            (target, seed): log_ratio(errors[target, seed, own], value)
            for (target, seed, name), value in errors.items() if name == other and (target, seed, own) in errors
        }  # fmt: skip
        if len(pairs) > 1:
            rows.append([other, *_told(np.array(list(pairs.values()))), _by_target(pairs)])
    if rows:
        heads = ["against", "pairs", "lower", "higher", "ratio", "95 %", "p (Wilcoxon)", "by target"]
        print_table(heads, rows, f"{title} of {own} against the others', paired by target and seed")


def _told(gaps: np.ndarray) -> list[str]:
    low, high = ttest_1samp(gaps, 0).confidence_interval() if gaps.std() else (gaps.mean(), gaps.mean())
    p = wilcoxon(gaps).pvalue if gaps.any() else 1.0
    return [str(len(gaps)), str(int((gaps < 0).sum())), str(int((gaps > 0).sum())), f"{np.exp(gaps.mean()):.3f}",
            f"{np.exp(low):.3f} - {np.exp(high):.3f}", f"{p:.3f}"]  # fmt: skip


def _by_target(pairs: dict[tuple[str, int], float]) -> str:
    targets = dict.fromkeys(target for target, _ in pairs)
    return ", ".join(
        f"{t} {np.exp(np.mean([gap for (name, _), gap in pairs.items() if name == t])):.2f}" for t in targets
    )


def _tell_relation(part: str, found: Found) -> None:
    """Whether the methods that keep more of the source, or bring the target nearer, have lower errors on a target."""
    for title, pick in (
        ("probe error after the last epoch", _last_probe),
        ("held-out discrepancy", _discrepancy("held_out")),
    ):
        told = []
        for target in dict.fromkeys(job.target for job, _ in found):
            both = [(pick(r), _test(r)) for j, r in found if j.target == target]
            both = [pair for pair in both if None not in pair]
            if len(both) > 3 and all(len(set(values)) > 1 for values in zip(*both, strict=True)):
                told.append(f"{target} {spearmanr(*zip(*both, strict=True)).statistic:+.2f} ({len(both)})")
        if told:
            print(f"{part}: rank correlation over runs of {title} with test error: {', '.join(told)}")
    print()


def _sweep(log: ResultLog) -> None:
    try:
        logs = sweep_ratios(log)
    except FileNotFoundError as error:
        print(f"sweep: {error}\n")
        return
    found = [(job, log.get(job)) for job in jobs("sweep", log)]
    shares = {}
    for job, result in found:
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
        own = [(job, result) for job, result in found if job.target == target]
        _by_method("sweep", f"test error on {target}", own, _test)
    print(f"chosen: {', '.join(chosen_settings(log))}\n")
