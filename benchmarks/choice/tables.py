"""The tables of the benchmark of choice."""

from collections.abc import Mapping, Sequence

import numpy as np

from choice.judge import Verdict, by_other_seeds, chosen_elsewhere, judged, over_targets
from choice.truth import PRETRAINED
from modgap.cli.output import print_table
from modgap.ranking.score import CLASSIFICATION
from modgap.ranking.scores import DEFAULT_RANKING_SCORES, get_score, score_names

__all__ = ["print_agreement", "print_truth"]

Errors = Mapping[str, Mapping[str, Sequence[float]]]
"""By target and source, one a seed."""
Scores = Mapping[str, Mapping[str, Mapping[str, float | None]]]
"""By target, score and source, the higher the better."""
FIRST = DEFAULT_RANKING_SCORES[CLASSIFICATION]
TAU, REGRET = (-1.0, 1.0), (0.0, np.inf)


def print_truth(errors: Errors, sources: Sequence[str]) -> None:
    """Mean error of each source on each target."""
    rows = [[source, *(_told(of[source]) for of in errors.values())] for source in sources]
    print_table(["source", *errors], rows, "test error in %, mean ± sd over seeds, after fine-tuning everything")


def _told(values: Sequence[float]) -> str:
    return f"{np.mean(values):.3g}" + (f" ± {np.std(values, ddof=1):.2g}" if len(values) > 1 else "")


def print_agreement(title: str, errors: Errors, scored: Scores, sources: Sequence[str]) -> dict[str, dict]:
    """Each score, and what it is to be compared with; gives the same as plain values."""
    seeds = [{source: of[source] for source in sources} for of in errors.values()]
    truth = [{source: float(np.mean(each)) for source, each in of.items()} for of in seeds]
    found = {name: judged([scored[target][name] for target in errors], truth) for name in score_names()}
    elsewhere = {by_tau: chosen_elsewhere(found, by_tau=by_tau) for by_tau in (True, False)}
    rows = [_row(name, verdict, found["size"]) for name, verdict in found.items()]
    if min(len(each) for of in seeds for each in of.values()) > 1:
        found["one fine-tuning"] = by_other_seeds(seeds)
        found[f"{FIRST}, judged as that"] = by_other_seeds(seeds, [scored[target][FIRST] for target in errors])
        rows += [_row(name, found[name], found["size"]) for name in ("one fine-tuning", f"{FIRST}, judged as that")]
    found["any at random"] = Verdict(
        np.full(len(truth), np.nan), np.array([np.mean([*of.values()]) - min(of.values()) for of in truth]), 0
    )
    rows.append(_row("any at random", found["any at random"], found["size"]))
    if set(sources) == set(PRETRAINED):
        scratch = [_scratch(of) for of in errors.values()]
        found["best from scratch"] = Verdict(
            np.full(len(truth), np.nan), np.array(scratch) - [min(of.values()) for of in truth], 0
        )
        rows.append(_row("best from scratch", found["best from scratch"], found["size"]))
    print_table(
        ["score", "better", "judged", "weighted tau [95 %]", "minus size's", "regret [95 %]", "minus size's"], rows,
        f"{title}: means over {len(errors)} targets; regret in points of test error",
    )  # fmt: skip
    for by_tau, (names, worth) in elsewhere.items():
        told = ", ".join(f"{name} {names.count(name)} x" for name in dict.fromkeys(names))
        print(f"chosen on the other targets by {'tau' if by_tau else 'regret'}: {told}; mean regret {worth:.2f}")
    return {
        name: {"taus": _plain(verdict.taus), "regrets": _plain(verdict.regrets), "judged": verdict.sources}
        for name, verdict in found.items()
    }


def _scratch(errors: Mapping[str, Sequence[float]]) -> float:
    return min(float(np.mean(each)) for source, each in errors.items() if source.startswith("random:"))


def _plain(values: np.ndarray) -> list[float | None]:
    return [round(float(value), 6) if np.isfinite(value) else None for value in values]


def _row(name: str, verdict: Verdict, size: Verdict) -> list[str]:
    better = ("higher" if get_score(name).higher_is_better else "lower") if name in score_names() else ""
    return [
        name, better, f"{verdict.sources}" if verdict.sources else "", _interval(over_targets(verdict.taus, TAU)),
        _interval(over_targets(verdict.taus - size.taus)), _interval(over_targets(verdict.regrets, REGRET)),
        _interval(over_targets(verdict.regrets - size.regrets)),
    ]  # fmt: skip


def _interval(found: tuple[float, float, float]) -> str:
    mean, low, high = found
    return "-" if not np.isfinite(mean) else f"{mean:.2f} [{low:.2f}, {high:.2f}]"
