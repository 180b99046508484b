"""Measure fine-tunings, linear probes and baselines on targets, for lists of known sources and for fresh evidence.

    python benchmarks/measure.py --targets digits,wine --sources vit-fashion,efficientnet-lite0@64px --output FILE

FILE gets one line of JSON for each measurement, with the fields of benchmarks/truth/third/choice.jsonl and models.jsonl
(benchmarks/truth/README.md), so known_sources.py and evidence/ read it. A run that was stopped measures what FILE lacks
when it is started again. modgap is used by its public Python API alone:

    half        a source is fine-tuned for ten epochs on half as many labeled samples as `all`, at each of three rates;
                the errors are on as many samples of the validation split
    all         it is fine-tuned on all labeled samples at the rate with the lowest of these errors, and tested
    probe       the linear probe of a source, at its own input size, and
    baseline    each baseline that suits the target, chosen by cross-validation on 16, 64 and all labeled samples

Targets have one class a sample. A model that does not suit a target, or lacks a library, has a line with the reason in
place of errors, and is not measured again; so install the extras of modgap that the models need first.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch
from evidence.lines import ALL, BASELINES, HALF, RATES, chosen_rate, model_name
from result_log import ResultLog

import modgap
from modgap.errors import InputError

EPOCHS = (1, 3, 10)
"""Epochs after which the errors of fine-tunings are kept."""
SETTINGS = {
    "stage2.epochs": EPOCHS[-1],
    "stage2.decay_epochs": EPOCHS[-1],
    "stage2.warmup_epochs": 1,
    "stage2.batch_size": 16,
    "stage2.choose": "last",
}
TEXT_SETTINGS = {"target_sequence_length": 32}
"""Samples that are no texts enter sources of text as few tokens, because whole ones take ten times as long."""
SMALLER_SIZES = (16, 64)
MOST_TRAINED_TESTED, MOST_FITTED_TESTED = 5000, 1000
"""Largest numbers of test samples of fine-tunings, and of probes and baselines; they are taken at equal distances."""
INFINITE = 100.0
"""Error in percent of a training whose loss became infinite."""
WINDOWS = "windows"
"""Name of the step of a target's manifest that makes several samples of one, which cannot be tested here."""


@dataclass(frozen=True)
class Training:
    """A fine-tuning: its part, `half` or `all`, the source and the size of its input, the target, seed and rate."""

    part: str
    source: str
    target: str
    seed: int
    rate: float


@dataclass(frozen=True)
class Model:
    """A model that is fitted: its part, `baseline` or `probe`, the name of baseline or source, and the target."""

    part: str
    model: str
    target: str


Job = Training | Model


def waiting_jobs(
    log: ResultLog, targets: Sequence[str], sources: Sequence[str], baselines: Sequence[str]
) -> Iterator[Job]:
    """Yield the jobs that have no result; a fine-tuning on all labeled samples follows from those on half of them."""
    for target in targets:
        jobs: list[Job] = [Model("baseline", name, target) for name in baselines]
        jobs += [Model("probe", name, target) for name in dict.fromkeys(map(model_name, sources))]
        for source in sources:
            halves = [Training(HALF, source, target, 0, rate) for rate in RATES]
            known = {(HALF, source, target, 0, one.rate): log.get(one) or {} for one in halves}
            rate = chosen_rate(known, source, target)
            jobs += halves if rate is None else [*halves, Training(ALL, source, target, 0, rate)]
        yield from (job for job in jobs if log.get(job) is None)


def measure(job: Job, labeled: int) -> dict[str, Any]:
    """Do a job on one thread, so that its numbers do not depend on other jobs, and return its result without the job.

    Args:
        job: The job.
        labeled: Largest number of labeled samples.
    """
    torch.set_num_threads(1)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        try:
            result = _trained(job, labeled, folder) if isinstance(job, Training) else _fitted(job, labeled, folder)
        except InputError as error:
            result = {} if isinstance(job, Training) else {"errors": {}}
            result["reason"] = str(error)
            if type(error).__name__ == "NotFiniteError":
                result = {"errors": {str(epoch): INFINITE for epoch in EPOCHS}, "samples": {}}
    return {**result, "seconds": round(time.perf_counter() - began, 1)}


def _trained(job: Training, labeled: int, folder: str) -> dict[str, Any]:
    """Return the errors of a fine-tuning after each of `EPOCHS`, and the numbers of trained and tested samples."""
    source, _, size = job.source.partition("@")
    settings = {**SETTINGS, "stage2.learning_rate": job.rate}
    if job.part == ALL:
        settings["stage2.keep_epochs"] = list(EPOCHS[:-1])
    if source in _names("source", "text") and job.target not in _names("target", "text"):
        settings |= TEXT_SETTINGS
    errors: dict[str, float] = {}

    def watch(line: Mapping[str, Any]) -> None:
        if line["stage"] == "stage2" and line["epoch"] in EPOCHS:
            errors[str(line["epoch"])] = line["validation_error"]

    truth = TestSamples.of(job.target, MOST_TRAINED_TESTED)
    run = modgap.train(
        "finetune",
        source,
        job.target,
        f"{folder}/run",
        settings=settings,
        limit=labeled if job.part == ALL else labeled // 2,
        input_size=int(size.removesuffix("px")) if size else None,
        seed=job.seed,
        on_epoch_end=watch,
    )
    samples = run.record["samples"]
    if job.part == HALF:
        return {"errors": errors, "samples": {"train": samples["train"], "test": samples["validation"]}}
    models = {epoch: modgap.load_run(run, epoch=None if epoch == EPOCHS[-1] else epoch) for epoch in EPOCHS}
    errors = {str(epoch): truth.percent(truth.is_wrong(model)) for epoch, model in models.items()}
    return {"errors": errors, "samples": {"train": samples["train"], "test": len(truth.classes)}}


def _fitted(job: Model, labeled: int, folder: str) -> dict[str, Any]:
    """Return the cross-validated and the test errors of a baseline or a probe, by the number of labeled samples."""
    truth = TestSamples.of(job.target, MOST_FITTED_TESTED)
    kind = "table" if job.target in _names("target", "table") else modgap.open_target(job.target).manifest.input.kind
    result: dict[str, Any] = {"kind": kind, "task": "classification", "tested": len(truth.classes)}
    by_size: dict[str, dict[str, Any]] = {
        name: {} for name in ("samples", "validated", "errors", "settings", "by_sample")
    }
    method, source = (f"baseline:{job.model}", None) if job.part == "baseline" else ("linear-probe", job.model)
    for size in (*(one for one in SMALLER_SIZES if one < labeled), labeled):
        try:
            run = modgap.train(method, source, job.target, f"{folder}/{size}", limit=size)
        except InputError:
            if size == labeled:
                raise
            continue
        fitted, is_wrong = run.record["fitted"], truth.is_wrong(modgap.load_run(run))
        setting, bits = f"{fitted['features']}, {fitted['setting']}", np.packbits(is_wrong).tobytes().hex()
        values = (run.record["samples"]["train"], fitted["error"], truth.percent(is_wrong), setting, bits)
        for of_model, value in zip(by_size.values(), values, strict=True):
            of_model[str(size)] = value
    return {**result, **by_size}


@dataclass(frozen=True)
class TestSamples:
    """Test samples of a target with their classes, as the files have them, because models standardize them again."""

    samples: Sequence[Any]
    classes: np.ndarray

    @classmethod
    def of(cls, target: str, most: int) -> "TestSamples":
        """Return at most so many samples of the test split.

        Raises:
            InputError: If the target does not have one class a sample, or its samples are windows.
        """
        opened = modgap.open_target(target)
        manifest = opened.manifest
        if manifest.task != "classification" or any(step.name == WINDOWS for step in manifest.steps):
            raise InputError(f"{target} does not have one class a sample, or its samples are windows of longer ones.")
        table = replace(opened, manifest=manifest.model_copy(update={"steps": []})).read()
        rows = np.flatnonzero(np.asarray(table.splits) == 2)
        rows = rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(np.int64)]
        return cls([table.samples[int(row)] for row in rows], np.array(table.classes)[np.asarray(table.labels)[rows]])

    def is_wrong(self, model: Any) -> np.ndarray:
        """Return which samples a trained model misclassifies, (n,)."""
        return np.asarray(model.predict(self.samples)).astype(str) != self.classes

    @staticmethod
    def percent(is_wrong: np.ndarray) -> float:
        """Return the error in percent."""
        return float(100 * is_wrong.mean())


def _names(thing: str, kind: str) -> set[str]:
    """Return the names of the sources or targets of a kind."""
    return {info.name for info in (modgap.list_sources if thing == "source" else modgap.list_targets)(kind=kind)}


def cut_half_line(path: Path) -> None:
    """Remove what a killed process left after the last whole line of a file."""
    if path.exists():
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            path.write_bytes(whole)


def run(
    path: Path, targets: Sequence[str], sources: Sequence[str], baselines: Sequence[str], labeled: int, workers: int
) -> None:
    """Measure what a file lacks, and append a line for each result as it comes.

    Raises:
        InputError: If data of a target or weights of a source are missing, before anything is measured.
    """
    for target in targets:
        modgap.open_target(target)
    for source in sources:
        modgap.open_source(model_name(source))
    cut_half_line(path)
    log = ResultLog(path)
    while waiting := list(waiting_jobs(log, targets, sources, baselines)):
        parallel = joblib.Parallel(workers, return_as="generator_unordered")
        for number, (job, result) in enumerate(parallel(joblib.delayed(_measured)(job, labeled) for job in waiting), 1):
            log.add(job, result)
            print(f"{number}/{len(waiting)} {job}: {result.get('errors') or result.get('reason')}", flush=True)


def _measured(job: Job, labeled: int) -> tuple[Job, dict[str, Any]]:
    return job, measure(job, labeled)


def main() -> None:
    """Measure what the command names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", required=True, help="names with commas between them")
    parser.add_argument("--sources", default="", help="names, of which a size of the input may follow, as in NAME@64px")
    parser.add_argument("--baselines", default=",".join(BASELINES), help="names; an empty text for none")
    parser.add_argument("--output", required=True, type=Path, metavar="FILE")
    parser.add_argument("--limit", type=int, default=128, help="largest number of labeled samples (default 128)")
    parser.add_argument("--workers", type=int, default=1, help="number of processes (default 1)")
    options = parser.parse_args()
    targets, sources, baselines = (
        list(filter(None, text.split(","))) for text in (options.targets, options.sources, options.baselines)
    )
    run(options.output, targets, sources, baselines, options.limit, options.workers)


if __name__ == "__main__":
    main()
