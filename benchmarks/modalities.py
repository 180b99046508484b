"""Compare sources of many families with their random-weights controls on targets of many modalities.

    python benchmarks/modalities.py run [--targets NAME;...]    about one core-hour; it can be stopped and resumed
    python benchmarks/modalities.py report                      tables in Markdown

Each pair of source and target is one discrepancy with three random initializations of the same architecture as its
control, on at most 300 samples. The tables have the paired difference between the held-out errors of the source and
its control: where it is significantly below 0, pretraining helps. The p-values and intervals of the results are those
of a source that is compared as one further draw. Errors of sources with different numbers of classes are not
comparable, but differences to the own control are of one architecture. A source with fewer classes than the target is
left out.
"""

import argparse
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from result_log import ResultLog

from modgap import measure
from modgap.errors import InputError, UsageError

RESULTS = Path(__file__).with_name("results") / "modalities.jsonl"
SOURCES: dict[str, dict[str, Any]] = {
    "efficientnet-lite0": {"input_size": 64},
    "efficientnet-lite2": {"input_size": 64},
    "vit-fashion": {},
    "ppocr": {},
    "crepe": {},
    "crepe-tiny": {},
    "silero-vad": {},
    "musicnn": {},
    "resemblyzer": {"head": "probe:spoken-languages"},
    "eeg-seizure": {},
    "minilm": {"head": "probe:ner-tweets"},
    "rxnfp": {},
}
"""Options by source. A bare encoder has a probe of packaged data of its modality as its head."""
MODALITIES = {
    "efficientnet-lite0": "image", "efficientnet-lite2": "image", "vit-fashion": "image", "ppocr": "image",
    "crepe": "sound", "crepe-tiny": "sound", "silero-vad": "sound", "musicnn": "sound", "resemblyzer": "sound",
    "eeg-seizure": "EEG", "minilm": "text", "rxnfp": "text",
}  # fmt: skip
TARGETS = {
    "digits": "image", "glyphs": "image", "italy-power": "series", "basic-motions": "series", "arrowhead": "series",
    "notes": "sound", "spoken-languages": "sound", "spoken-digits": "sound", "promoter-genes": "text",
    "solubility": "molecules", "cells": "table", "leaf-flavia": "table", "darcy-16": "field",
}  # fmt: skip
LIMIT = 300
CONTROLS = 3
LEVEL = 0.05


@dataclass(frozen=True)
class Job:
    """One discrepancy.

    Attributes:
        source: Name of the source.
        target: Name of the target.
    """

    source: str
    target: str


def run_job(job: Job) -> dict:
    """Return the held-out errors, the paired difference to the control and the seconds; or the reason of a refusal."""
    options = {"limit": LIMIT, "permutations": 0, "curve": False, "control": CONTROLS, **SOURCES[job.source]}
    if job.target == str(options.get("head")).removeprefix("probe:"):
        return {"refused": "The head was fitted on this target."}
    began = time.perf_counter()
    try:
        result = measure(job.source, job.target, **options)
    except (InputError, UsageError) as error:
        return {"refused": str(error)}
    record = result.to_dict()
    held_out = record["estimates"]["search"]["held_out"]
    seconds = round(time.perf_counter() - began, 1)
    return {"held_out": held_out, "control": record["control"], "chance": record["chance"], "seconds": seconds}


def run(targets: set[str]) -> None:
    """Run all jobs that have no result yet."""
    log = ResultLog(RESULTS)
    for target in TARGETS:
        for source in SOURCES:
            job = Job(source, target)
            if (not targets or target in targets) and log.get(job) is None:
                record = log.add(job, run_job(job))
                print(f"{source} on {target}: {record.get('seconds', record.get('refused'))}", flush=True)


def cell(record: dict | None) -> str:
    """Return the held-out error and the difference to the control; a star marks a significant one.

    A dash stands for a pair that was refused, and nothing for one that was not run yet.
    """
    if record is None:
        return ""
    if "refused" in record:
        return "-"
    difference = record["control"]["difference"]
    star = "*" if difference["p_value"] is not None and difference["p_value"] <= LEVEL else ""
    return f"{record['held_out']:.3f} ({difference['value']:+.3f}{star})"


def report() -> None:
    """Print the tables."""
    log = ResultLog(RESULTS)
    names = list(TARGETS)
    print(f"| source | {' | '.join(names)} |\n|{'---|' * (len(names) + 1)}")
    print(f"| modality | {' | '.join(TARGETS.values())} |")
    for source in SOURCES:
        cells = [cell(log.get(Job(source, target))) for target in names]
        print(f"| `{source}` ({MODALITIES[source]}) | {' | '.join(cells)} |")
    counts: dict[tuple[str, str], Counter[str]] = {}
    seconds = 0.0
    for source in SOURCES:
        for target, modality in TARGETS.items():
            record = log.get(Job(source, target))
            if record is None or "refused" in record:
                continue
            seconds += record["seconds"]
            difference = record["control"]["difference"]
            verdict = "lower" if difference["value"] < 0 else "higher"
            if difference["p_value"] is None or difference["p_value"] > LEVEL:
                verdict = "not significant"
            counts.setdefault((MODALITIES[source], modality), Counter())[verdict] += 1
    print("\n| sources of | targets of | lower than the control | not significant | higher |\n|---|---|---|---|---|")
    for (source_modality, target_modality), count in sorted(counts.items()):
        values = [str(count[verdict]) for verdict in ("lower", "not significant", "higher")]
        print(f"| {source_modality} | {target_modality} | {' | '.join(values)} |")
    print(f"\n{seconds / 3600:.2f} hours")


def main() -> None:
    """Run the jobs or print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("run", "report"))
    parser.add_argument("--targets", default="", help="Names of targets, separated by semicolons; all without it.")
    options = parser.parse_args()
    if options.action == "run":
        run(set(filter(None, options.targets.split(";"))))
    else:
        report()


if __name__ == "__main__":
    main()
