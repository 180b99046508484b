"""Errors of `modgap transfer` beside single strategies: a baseline, probes, a fine-tuning, a training from scratch.

    python benchmarks/whole_transfer.py run [--own OWN.json]  one line for each strategy on each target; stop and resume
    python benchmarks/whole_transfer.py run --judging         the same on judging targets of the third edition
    python benchmarks/whole_transfer.py report                errors, regrets, minutes and memory

Each strategy is one process on this machine with nothing beside it and a cache of its own, and is tested on the same
test split. OWN.json, which `own_targets.py` writes, adds targets from files: an object with the options of
`modgap train` for each name. The regret of a strategy is its test error minus the lowest of all strategies on the
target.
"""

import argparse
import itertools
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from evidence.running import refuse_absent
from evidence.third_jobs import ROOT, code_digest, has_protocol, transfer_targets
from result_log import ResultLog

from modgap.cli.output import print_table

RESULTS = Path(__file__).parent / "truth" / "transfer.jsonl"
JUDGING = RESULTS.parent / "third" / "transfer.jsonl"
PACKAGED = ("digits", "pickup-gesture", "promoter-genes", "spoken-languages", "tissue-genes", "osu-leaf")
"""Targets of six kinds: images, motion, DNA, sound, genes and series."""
OF_IMAGES = ("--input-size", "64")
"""The input size at which the constant source is fine-tuned in the other parts of the evidence."""
TRAINED = (
    *("--set", "stage2.epochs=10", "--set", "stage2.batch_size=16", "--set", "stage2.warmup_epochs=1"),
    *("--set", "stage2.choose=last", "--sweep", "stage2.learning_rate=0.0005,0.0001,0.0025", *OF_IMAGES),
)
"""Settings of trainings. Of rates with equal errors the first counts, as in a transfer."""
OF_JUDGING = ("--set", "stage2.decay_epochs=10")
"""On judging targets the rate falls linearly to 0, as in the other parts of the evidence, and not by a cosine."""
ALL_LABELED = ("--protocol", "labeled")
"""Fits the samples of the validation split too, as the final fits of a transfer do."""
MOST_LABELED = ("--limit", "1000")
"""Largest number of samples of each split of a judging target."""
CONSTANT = "efficientnet-lite0"
"""The source that is best on average over earlier targets."""
OF_TEXT = "minilm"
"""Takes its place on targets of text, which it cannot read."""
OF_TEXT_REASON = "this target's samples are text"
"""Part of the message by which a source refuses a target of text."""
MINUTES = (2, 10)
STRATEGIES: dict[str, tuple[str, ...]] = {
    **{f"transfer, {minutes} minutes": ("transfer", "--minutes", str(minutes)) for minutes in MINUTES},
    "best baseline": ("train", "--method", "baseline", *ALL_LABELED),
    "best probe of all sources": ("train", "--method", "linear-probe", "--source", "all", *ALL_LABELED),
    "probe": ("train", "--method", "linear-probe", "--source", CONSTANT, *ALL_LABELED),
    "fine-tuning": ("train", "--method", "finetune", "--source", CONSTANT, *TRAINED),
    "scratch": ("train", "--method", "scratch", "--source", CONSTANT, *TRAINED),
}


@dataclass(frozen=True)
class Job:
    """One strategy on one target.

    Attributes:
        target: Name of the target.
        strategy: A name of `STRATEGIES`.
    """

    target: str
    strategy: str


def work(job: Job, options: list[str], log: ResultLog) -> dict[str, Any]:
    """Run a strategy in a process of its own, and append its test error, seconds and memory."""
    command = list(STRATEGIES[job.strategy])
    result = _run(command, options)
    if OF_TEXT_REASON in result.get("reason", "") and CONSTANT in command:
        result = _run([OF_TEXT if word == CONSTANT else word for word in command if word not in OF_IMAGES], options)
    return log.add(job, result)


def _run(command: list[str], options: list[str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        out, log = Path(folder) / "out", Path(folder) / "log"
        folders = {"MODGAP_CACHE": f"{folder}/cache", "MODGAP_HISTORY": f"{folder}/history"}
        # A strategy has all cores, and imports the modgap beside this file and none of the folder that it runs in.
        environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
        environment |= {"PYTHONPATH": str(ROOT), **folders}
        began = time.perf_counter()
        line = [sys.executable, "-P", "-m", "modgap", *command, *options, "--out", str(out), "--quiet", "--json"]
        with log.open("w") as stream:
            process = subprocess.Popen(line, env=environment, stdout=subprocess.DEVNULL, stderr=stream)
            try:
                _, status, usage = os.wait4(process.pid, 0)
            except BaseException:
                process.kill()
                raise
        if os.WIFSIGNALED(status):
            raise SystemExit(f"Signal {os.WTERMSIG(status)} ended {shlex.join(command)} {shlex.join(options)}.")
        # The largest of the process and those that it started.
        resources = {"seconds": round(time.perf_counter() - began, 1), "peak_mb": round(usage.ru_maxrss / 1024)}
        if status or not (out / "run.json").exists():
            return {**resources, "reason": log.read_text().strip().rpartition("\n")[2][:300]}
        if "--sweep" not in command:
            return {**resources, **_told(out)}
        again = _run([*_at_the_best_rate(command, out), *ALL_LABELED], options)
        return {**again, "seconds": round(resources["seconds"] + again["seconds"], 1)}


def _at_the_best_rate(command: list[str], out: Path) -> list[str]:
    """Return the command of a training at the rate that a sweep has chosen on the validation samples."""
    sweep = json.loads((out / "run.json").read_text())["sweep"]
    ((name, rate),) = sweep["trials"][sweep["chosen"] - 1]["settings"].items()
    at = command.index("--sweep")
    return [*command[:at], "--set", f"{name}={rate}", *command[at + 2 :]]


def _told(out: Path) -> dict[str, Any]:
    """Return what is kept of the record of a run, and of that of a transfer."""
    record = json.loads((out / "run.json").read_text())
    kept = {name: record["result"][name] for name in ("test", "interval", "unit", "metric", "constant_error")}
    kept |= {name: record[name] for name in ("method", "source")}
    transfer = out / "transfer.json"
    if transfer.exists():
        told = json.loads(transfer.read_text())
        kept |= {name: told[name] for name in ("chosen", "lowest", "helps", "labeled")}
        kept["parts"] = {name: round(value, 1) for name, value in told["seconds"].items()}
    return kept


def errors_frame(results: list[dict[str, Any]]) -> pd.DataFrame:
    """Return the test errors, a row for each target and a column for each strategy.

    A strategy that failed has the error of always naming the largest class, if another line of the target has it.
    """
    largest = {
        result["job"]["target"]: result.get("constant_error", result.get("majority_error"))
        for result in results
        if "test" in result
    }
    rows = [{**result["job"], "test": result.get("test", largest.get(result["job"]["target"]))} for result in results]
    frame = pd.DataFrame(rows, columns=["target", "strategy", "test"]).pivot_table(
        index="target", columns="strategy", values="test"
    )
    return frame.reindex(columns=[name for name in STRATEGIES if name in frame])


def judging_jobs() -> list[Job]:
    """Return the jobs on judging targets. Before all of them are done none of their errors is told."""
    return [Job(target, strategy) for target, strategy in itertools.product(transfer_targets(), STRATEGIES)]


def report(log: ResultLog) -> None:
    """Print the errors, the regrets on targets with classes, and the minutes that the transfers took."""
    results = log.results()
    frame = errors_frame(results)
    rows = [[str(name), *map(_shown, errors)] for name, errors in zip(frame.index, frame.to_numpy(), strict=True)]
    print_table(["target", *frame.columns], rows, "Test errors")
    of_classes = {result["job"]["target"] for result in results if result.get("unit") == "%"}
    frame = frame[frame.index.isin(of_classes)]
    regrets = frame.sub(frame.min(axis=1), axis=0)
    columns = [regrets.columns, map(_shown, regrets.mean()), map(_shown, regrets.max())]
    title = f"Regret on {len(regrets)} targets with classes, in points"
    print_table(["strategy", "mean", "largest"], [list(row) for row in zip(*columns, strict=True)], title)
    transfers = [result for result in results if "parts" in result]
    heads = ["target", "minutes", "race", "final fits", "memory", "chosen", "does transfer help?"]
    print_table(heads, sorted(_transfer_row(result) for result in transfers), "Transfers, minutes spent")
    for result in results:
        if "reason" in result:
            print(f"{result['job']['target']}, {result['job']['strategy']}: {result['reason']}")


def _transfer_row(result: dict[str, Any]) -> list[str]:
    asked = STRATEGIES[result["job"]["strategy"]][-1]
    minutes = [f"{result['parts'][name] / 60:.2f}" for name in ("race", "final fits")]
    return [result["job"]["target"], asked, *minutes, f"{result['peak_mb']:,} MB", result["chosen"], result["helps"]]


def _shown(error: float) -> str:
    return "" if pd.isna(error) else f"{error:.3g}"


def main() -> None:
    """Run one of the commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["run", "report"])
    parser.add_argument("--own", type=Path)
    parser.add_argument("--judging", action="store_true")
    parser.add_argument("--results", type=Path)
    options = parser.parse_args()
    log = ResultLog(options.results or (JUDGING if options.judging else RESULTS), code_digest())
    if options.command == "report":
        if options.judging and not all(map(log.get, judging_jobs())):
            parser.error("not all strategies have run on all judging targets")
        report(log)
        return
    if options.judging and not has_protocol():
        parser.error("the protocol of the third edition must be committed first")
    own: Mapping[str, list[str]] = json.loads(options.own.read_text()) if options.own else {}
    named = transfer_targets() if options.judging else PACKAGED
    limit = MOST_LABELED if options.judging else ()
    refuse_absent(named)
    targets = {**{name: ["--target", name, *limit] for name in named}, **own}
    for strategy in STRATEGIES:
        for name, given in targets.items():
            job = Job(name, strategy)
            if log.get(job) is None:
                if code_digest() != log.code:
                    raise SystemExit("The code has changed since this run began.")
                schedule = OF_JUDGING if options.judging and "--sweep" in STRATEGIES[strategy] else ()
                result = work(job, [*given, *schedule], log)
                # What is found on judging targets is told when all of them are done.
                error = "done" if options.judging else result.get("test")
                print(f"{name}, {strategy}: {error}, {result['seconds']} s", flush=True)


if __name__ == "__main__":
    main()
