"""Make `modgap/ranking/known_sources.toml`: for each kind of target, its sources by their mean recorded error.

    python benchmarks/known_sources.py             write the file
    python benchmarks/known_sources.py --check     tell what choosing by it costs; fail if the file is not up to date

The errors are those of `benchmarks/truth`: fine-tunings for ten epochs on at most 128 labeled samples at the best of
three learning rates (ranking.jsonl and third/history.jsonl on 27 earlier targets, third/choice.jsonl on 41 targets that
judged), and linear probes on 128 labeled samples (models.jsonl, third/models.jsonl).
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from evidence.summaries import mean_interval

ROOT = Path(__file__).parent.parent
TRUTH = ROOT / "benchmarks" / "truth"
FILE = ROOT / "modgap" / "ranking" / "known_sources.toml"
JUDGED = TRUTH / "third" / "choice.jsonl"
TRAININGS = (TRUTH / "ranking.jsonl", TRUTH / "third" / "history.jsonl", JUDGED)
PROBES = (TRUTH / "models.jsonl", TRUTH / "third" / "models.jsonl")
KINDS = {
    "table": (
        *("alzheimer-proteins", "ape-skulls", "banknotes", "body-measures", "breast-cancer", "cat-colonies", "cells"),
        *("contraception", "cox2", "fish", "gamma-telescope", "human-populations", "leaf-flavia", "liver-injury"),
        *("multidrug-reversal", "mushrooms", "musk", "olitos", "olive-oils", "oslo-transect", "page-blocks"),
        *("pd-speech", "penguins", "phoneme", "scat", "skin-diseases", "solar-flares", "spam", "steroid-toxicity"),
        *("texture", "thyroid", "tissue-genes", "yeast-locations"),
    ),
    "series": (
        *("acsf1", "arrowhead", "basic-motions", "covid-3month-levels", "fruit-spectra", "gunpoint", "italy-power"),
        *("japanese-vowels", "libras-movements", "osu-leaf", "pen-digits", "pickup-gesture", "pig-cvp"),
    ),
    "image": ("desktop-icons", "digits", "fonts", "glyphs", "mnist5k", "stamps"),
    "sound": ("notes", "spoken-digits", "spoken-languages", "spoken-stamps"),
    "text": ("article-languages", "artwork-media", "chat-topics", "fortunes", "genres", "nouns", "spam-mails"),
    "string": ("anticancer-peptides", "antimicrobial-peptides", "first-names", "influenza-years", "word-languages"),
}
"""Recorded targets with one class a sample, by kind."""
KIND_OF = {target: kind for kind, targets in KINDS.items() for target in targets}
LAST_EPOCH = "10"
LABELED = "128"
FEW = 5
"""Targets of a kind up to which the list over all kinds may be needed where one target is left out."""
LEFT_OUT = ("ppocr",)
"""Sources that were fine-tuned on a part of the targets alone."""
HALF, ALL = "half", "all"

Errors = dict[str, dict[str, float]]
"""Errors in percent by target and source."""


def lines(paths: Iterable[Path]) -> Iterator[dict[str, Any]]:
    """Yield the recorded results of several files of JSON lines."""
    for path in paths:
        yield from map(json.loads, path.read_text(encoding="utf-8").splitlines())


def source_name(text: str) -> str:
    """Return the name of a source without the size of its input."""
    return text.partition("@")[0]


def fine_tuning_errors(paths: Sequence[Path] = TRAININGS, part: str = ALL) -> Errors:
    """Return the errors of fine-tuning by target and source.

    Args:
        paths: Files of trainings.
        part: `all` for the mean test error of the seeds, which were trained at the best rate on all labeled samples;
            `half` for the error at the best of three rates on the half of them that was not trained on.
    """
    found: dict[str, dict[str, list[float]]] = {}
    for line in lines(paths):
        job = line["job"]
        if job["part"] == part and "errors" in line and source_name(job["source"]) not in LEFT_OUT:
            of_target = found.setdefault(job["target"], {})
            of_target.setdefault(source_name(job["source"]), []).append(line["errors"][LAST_EPOCH])
    summary: Callable[[Iterable[float]], float] = fmean if part == ALL else min
    return {
        target: {source: summary(errors) for source, errors in by_source.items()}
        for target, by_source in found.items()
        if target in KIND_OF
    }


def probe_errors(paths: Sequence[Path] = PROBES) -> Errors:
    """Return the test errors of linear probes on 128 labeled samples, by target and source."""
    found: Errors = {}
    for line in lines(paths):
        job = line["job"]
        if job["part"] == "probe" and LABELED in line.get("errors", {}) and job["target"] in KIND_OF:
            found.setdefault(job["target"], {})[job["model"]] = line["errors"][LABELED]
    return found


def mean_differences(errors: Errors, targets: Iterable[str]) -> dict[str, float]:
    """Return the mean error of each source minus that of all sources on the same target, the lowest first.

    A source has to have an error on at least half of the targets.
    """
    known = [errors[target] for target in targets if target in errors]
    differences: dict[str, list[float]] = {}
    for by_source in known:
        middle = fmean(by_source.values())
        for source, error in by_source.items():
            differences.setdefault(source, []).append(error - middle)
    means = {name: fmean(values) for name, values in differences.items() if 2 * len(values) >= len(known)}
    return dict(sorted(means.items(), key=lambda item: (item[1], item[0])))


def order(errors: Errors, kind: str | None, without: Iterable[str] = ()) -> list[str]:
    """Return the sources of a kind of target, or of all kinds, by their mean error, the lowest first."""
    return list(mean_differences(errors, set(errors) & set(KINDS.get(kind or "", KIND_OF)) - set(without)))


# The file

HEAD = """\
# For each kind of target, sources by their mean error on recorded targets, the lowest first, with that error minus the
# mean error of all sources on the same target, in points. Made by benchmarks/known_sources.py from the results in
# benchmarks/truth; do not edit. `all` is the list over all kinds. `without` has the order for each recorded target
# from the results on the others alone; the list over all kinds has it for kinds of few targets.
"""


def file_text() -> str:
    """Return the text of the file."""
    parts = [HEAD]
    for method, errors in (("fine_tuned", fine_tuning_errors()), ("probes", probe_errors())):
        for kind, targets in (*KINDS.items(), ("all", tuple(KIND_OF))):
            known = [target for target in targets if target in errors]
            values = mean_differences(errors, known)
            sources = ", ".join(f'"{name}" = {value:.1f}' for name, value in values.items())
            parts.append(f"\n[{method}.{kind}]\ntargets = {len(known)}\nsources = {{ {sources} }}\n")
            parts.append(f"\n[{method}.{kind}.without]\n")
            of_all = kind == "all"
            for target in sorted(known):
                if of_all and len(KINDS[KIND_OF[target]]) > FEW:
                    continue
                names = ", ".join(f'"{name}"' for name in order(errors, None if of_all else kind, [target]))
                parts.append(f"{target} = [{names}]\n")
    return "".join(parts)


# What choosing by it costs


def regrets(errors: Errors, targets: Iterable[str], choose: Callable[[str], Sequence[str]]) -> np.ndarray:
    """Return the error of the chosen source on each target minus the lowest error of a source, in points, (n,).

    Args:
        errors: Errors by target and source.
        targets: Targets, each with errors of at least two sources.
        choose: Returns the chosen source of a target; several equal ones have the mean of their errors.
    """
    return np.array(
        [fmean(errors[target][name] for name in choose(target)) - min(errors[target].values()) for target in targets]
    )


def constant_answer(errors: Errors, target: str, without: Iterable[str]) -> list[str]:
    """Return the source of the lowest mean error on all other targets; if it cannot read this one, on those like it."""
    left_out = {*without, target}
    first = order(errors, None, left_out)[0]
    if first in errors[target]:
        return [first]
    unread = [name for name in errors if first not in errors[name] and name not in left_out]
    return [next(name for name in mean_differences(errors, unread) if name in errors[target])]


def judged_regrets() -> tuple[list[str], dict[str, np.ndarray]]:
    """Return the targets that judged, and what each way to choose costs on them, in points by way, (n,)."""
    errors = fine_tuning_errors()
    halves = fine_tuning_errors(part=HALF)
    of_judging = {line["job"]["target"] for line in lines([JUDGED])}
    judging = sorted(target for target in of_judging & set(errors) if len(errors[target]) > 1)

    def by_kind(without: Callable[[str], Iterable[str]]) -> Callable[[str], list[str]]:
        def choose(target: str) -> list[str]:
            return [next(name for name in order(errors, KIND_OF[target], without(target)) if name in errors[target])]

        return choose

    def by_pilots(target: str) -> list[str]:
        pilots = {name: error for name, error in halves[target].items() if name in errors[target]}
        return [name for name, error in pilots.items() if error == min(pilots.values())]

    ways = {
        "first of its kind, by the 27 earlier targets": by_kind(lambda _: of_judging),
        "first of its kind, each target left out": by_kind(lambda target: [target]),
        "constant answer, by the 27 earlier targets": lambda target: constant_answer(errors, target, of_judging),
        "constant answer, each target left out": lambda target: constant_answer(errors, target, [target]),
        "pilots of all sources at three rates": by_pilots,
        "random": lambda target: list(errors[target]),
    }
    return judging, {name: regrets(errors, judging, choose) for name, choose in ways.items()}


def report() -> None:
    """Print what choosing by the lists costs on the targets that judged, beside one name for all and pilots."""
    errors = fine_tuning_errors()
    judging, found = judged_regrets()
    print("targets:", ", ".join(f"{kind} {len(set(names) & set(errors))}" for kind, names in KINDS.items()))
    print(f"\nMean regret in points on {len(judging)} judging targets")
    for name, values in found.items():
        print(f"  {name:52} {mean_interval(values)}")
    _, of_kind, *others = found
    print(f"\n{of_kind}, minus")
    for name in others:
        print(f"  {name:52} {mean_interval(found[of_kind] - found[name])}")
    print(f"\n{'kind':8} {'targets':>8} {'first of its kind':>18} {'pilots':>8}")
    for kind in KINDS:
        has_kind = np.array([KIND_OF[target] == kind for target in judging])
        means = (found[name][has_kind].mean() for name in (of_kind, "pilots of all sources at three rates"))
        print(f"{kind:8} {has_kind.sum():8} {next(means):18.1f} {next(means):8.1f}")


def main() -> None:
    """Write the file, or check it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    if not parser.parse_args().check:
        FILE.write_text(file_text(), encoding="utf-8")
        return
    report()
    if FILE.read_text(encoding="utf-8") != file_text():
        sys.exit(f"{FILE} is not what the results say. Run: python benchmarks/known_sources.py")


if __name__ == "__main__":
    main()
