"""The study in small: eight methods, targets far from the source, seeds; error, distortion and discrepancy.

    python benchmarks/transfer.py plan                    what there is to do, what is done, and the time it takes
    python benchmarks/transfer.py run [--part PART]       the jobs that are not done yet, one by one; may be stopped
    python benchmarks/transfer.py report [--part PART]    the tables of what is done
    python benchmarks/transfer.py quick                   two small jobs of each source and their tables, two minutes

Each job is one `modgap train` and its diagnostics, and leaves one file in benchmarks/results/transfer; a job that was
stopped goes on from its newest checkpoint. Parts: `sweep` (alpha x lambda on targets that are not in the study), `2d`
(vit-fashion), `1d` (minilm), `cnn` (efficientnet-lite0), `surrogate` (vit-fashion with mnist5k).
"""

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from scipy.stats import ttest_1samp, wilcoxon

from modgap.cli.output import print_table
from modgap.errors import InputError
from modgap.logits import LogitsRequest
from modgap.measure import measure
from modgap.sources import open_source
from modgap.targets import open_target
from modgap.transfer.checkpoint import load_tensors
from modgap.transfer.data import target_data
from modgap.transfer.methods import method, method_names
from modgap.transfer.probe import linear_probe_error, surrogate_features
from modgap.transfer.recipe import resolved_recipe
from modgap.transfer.run import Run
from modgap.transfer.surrogate import open_surrogate
from modgap.transfer.train import TrainRequest, model_of, train

RESULTS = Path(__file__).parent / "results" / "transfer"
SHORT = ("stage1.epochs=10", "stage2.decay_epochs=15", "stage2.epochs=15", "stage2.warmup_epochs=1")
IMAGES = (*SHORT, "stage1.learning_rate=1e-3", "stage2.learning_rate=1e-3", "stage1.surrogate_samples=1000")
TEXTS = (*SHORT, "stage1.learning_rate=1e-4", "stage2.learning_rate=1e-4", "stage1.surrogate_samples=500",
         "stage1.batch_size=16", "stage2.batch_size=16", "stage1.surrogate_batch=32")  # fmt: skip
ALPHAS, WEIGHTS = (1e-3, 1e-2, 1e-1, 1.0), (0.1, 0.4, 1.0, 4.0)


@dataclass(frozen=True)
class Job:
    """One run and its diagnostics."""

    part: str
    source: str
    surrogate: str
    split: str
    target: str
    method: str
    seed: int
    limit: int | None
    settings: tuple[str, ...]
    label: str = ""

    @property
    def name(self) -> str:
        """Of its file and its run's folder."""
        return "-".join(
            filter(None, (self.target, self.method.replace("++", "-plus-plus"), self.label, str(self.seed)))
        )


def jobs(part: str) -> Iterator[Job]:
    fashion = Job("2d", "vit-fashion", "fashion-mnist", "test", "", "", 0, 400, IMAGES)
    if part == "sweep":
        for target in ("arrowhead", "burgers-16"):
            for alpha in ALPHAS:
                for weight in WEIGHTS:
                    own = (*IMAGES, f"stage1.alpha={alpha}", f"stage1.lambda={weight}")
                    yield replace(
                        fashion, part=part, target=target, method="mona", settings=own, label=f"{alpha}-{weight}"
                    )
            yield replace(fashion, part=part, target=target, method="emb")
        return
    bases = {
        "2d": (fashion, ("digits", "basic-motions", "acsf1", "darcy-16"), 5, method_names()),
        "1d": (
            Job("1d", "minilm", "ner-tweets", "train", "", "", 0, 100, TEXTS),
            ("acsf1", "italy-power", "basic-motions", "gunpoint"), 3, method_names(),
        ),
        "cnn": (
            Job("cnn", "efficientnet-lite0", "fashion-mnist", "test", "", "", 0, 200, IMAGES),
            ("digits", "acsf1"), 3, ["finetune", "orca", "mona"],
        ),
        "surrogate": (replace(fashion, part="surrogate", surrogate="mnist5k", split="train"),
                      ("basic-motions", "acsf1"), 5, ["orca", "mona"]),
    }  # fmt: skip
    base, targets, seeds, names = bases[part]
    yield from (replace(base, target=target, method=UNTOUCHED) for target in targets)
    for seed in range(seeds):
        for target in targets:
            for name in names:
                yield replace(base, target=target, method=name, seed=seed)


UNTOUCHED = "untouched"
"""The source as it is: what probe and discrepancy are before any training."""
PARTS = ("sweep", "2d", "1d", "cnn", "surrogate")
HEADS = {"minilm": "probe:ner-tweets"}
SIZES = {"efficientnet-lite0": 64}


def request_of(job: Job) -> TrainRequest:
    settings = (*job.settings, f"stage1.surrogate={job.surrogate}", f"stage1.surrogate_split={job.split}")
    return TrainRequest(
        job.method, job.source, job.target, settings, seed=job.seed, limit=job.limit, input_size=SIZES.get(job.source)
    )  # fmt: skip


def result_file(job: Job, folder: Path) -> Path:
    return folder / job.part / f"{job.name}.json"


def done(job: Job, folder: Path) -> dict | None:
    path = result_file(job, folder)
    return json.loads(path.read_text()) if path.exists() else None


def work(job: Job, folder: Path, runs: Path) -> dict:
    """Train, judge, and write the job's file."""
    began, place, run = time.perf_counter(), runs / job.part / job.name, None
    found: dict = {"job": asdict(job), "result": {"test": None}, "mixed_share": []}
    if job.method != UNTOUCHED:
        run = train(request_of(job), place, resume=True)
        found["result"] = {name: value for name, value in run.record["result"].items() if name != "seconds"}
        log = [json.loads(line) for line in (place / "metrics.jsonl").read_text().splitlines()]
        found["mixed_share"] = [line["mixed_share"] for line in log if "mixed_share" in line]
    found["probe_error"] = probe(job, run)
    found["discrepancy"] = discrepancy(job, run)
    found["seconds"] = round(time.perf_counter() - began, 1)
    path = result_file(job, folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(found, indent=1) + "\n")
    temporary.replace(path)
    return found


def probe(job: Job, run: Run | None) -> float:
    """Linear-probe error of the surrogate's second half, which no run saw; of the encoder as it was without a run."""
    source = open_source(job.source).load(SIZES.get(job.source), head=False)
    parts = source.split()
    encoder = parts.encoder
    if run is not None:
        target = open_target(job.target)
        how, data = method(job.method), target_data(target, limit=job.limit, seed=job.seed)
        recipe = resolved_recipe(target.manifest, how.defaults(target.manifest), request_of(job).overrides)
        model = model_of(source, data, recipe, how, seed=job.seed).eval()
        model.load_state_dict(load_tensors(run.weights))
        encoder = model.encoder
    surrogate = open_surrogate(job.surrogate, source, split=job.split, half=1, limit=1000)
    return linear_probe_error(surrogate_features(parts, encoder, surrogate, "cpu"), surrogate.labels).value


def discrepancy(job: Job, run: Run | None) -> dict | None:
    """Held-out and calibrated discrepancy of the search, with the stage-1 embedder; without a run the source's own."""
    if run is not None and not method(job.method).trains_embedder_first:
        return None
    request = LogitsRequest(head=HEADS.get(job.source, "own"), input_size=SIZES.get(job.source), limit=1000)
    embedder = run.folder if run else None
    try:
        found = measure(job.source, job.target, embedder=embedder, request=request, trials=10_000).result
    except InputError as error:
        return {"refused": str(error)}
    best = found.estimates["search"]
    return {"held_out": best.held_out, "interval": best.held_out_interval, "calibrated": best.calibrated,
            "value": best.found.value, "samples": found.n_samples}  # fmt: skip


def plan(parts: list[str], folder: Path) -> None:
    rows = []
    for part in parts:
        listed = list(jobs(part))
        results = [found for job in listed if (found := done(job, folder))]
        each = float(np.mean([found["seconds"] for found in results])) if results else None
        left = len(listed) - len(results)
        cost = "unknown until one is done" if each is None else f"{left * each / 60:.0f} min left, {each:.0f} s a job"
        rows.append([part, str(len(listed)), str(len(results)), cost])
    print_table(["part", "jobs", "done", "time"], rows)


def report(part: str, listed: list[Job], folder: Path) -> None:
    """Test error, probe error and held-out discrepancy by target and method, mean and sd over seeds."""
    found = [(job, result) for job in listed if (result := done(job, folder))]
    targets = list(dict.fromkeys(job.target for job, _ in found))
    names = list(dict.fromkeys((job.method, job.label) for job, _ in found))
    for title, pick in (
        ("test error, in each target's metric", lambda r: r["result"]["test"]),
        ("surrogate linear-probe error", lambda r: r["probe_error"]),
        ("held-out discrepancy with the stage-1 embedder", lambda r: (r["discrepancy"] or {}).get("held_out")),
    ):
        rows = []
        for name, label in names:
            cells = [_cell([pick(r) for j, r in found if (j.method, j.label, j.target) == (name, label, target)])
                     for target in targets]  # fmt: skip
            rows.append([f"{name} {label}".strip(), *cells])
        print_table(["method", *targets], rows, f"{part}: {title}")
    paired(found)


def _cell(values: list) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "none"
    return f"{np.mean(known):.3g}" + (f" ± {np.std(known, ddof=1):.2g}" if len(known) > 1 else "") + f" ({len(known)})"


def paired(found: list[tuple[Job, dict]]) -> None:
    """MoNA against each other method: relative difference of the error by target and seed, pooled over targets."""
    trained = [(j, r) for j, r in found if r["result"]["test"] is not None and not j.label]
    errors = {(j.target, j.seed, j.method): r["result"]["test"] for j, r in trained}
    rows = []
    for other in dict.fromkeys(j.method for j, _ in trained if j.method != "mona"):
        pairs = [(errors[t, s, "mona"], value) for (t, s, name), value in errors.items()
                 if name == other and (t, s, "mona") in errors]  # fmt: skip
        gaps = np.array([np.log(max(own, 1e-9) / max(value, 1e-9)) for own, value in pairs if own or value])
        if len(gaps) < 2:
            continue
        lower = int((gaps < 0).sum())
        low, high = ttest_1samp(gaps, 0).confidence_interval()
        p = wilcoxon(gaps).pvalue if gaps.any() else 1.0
        rows.append([other, str(len(gaps)), str(lower), f"{np.exp(gaps.mean()):.3f}",
                     f"{np.exp(low):.3f} - {np.exp(high):.3f}", f"{p:.3f}"])  # fmt: skip
    if rows:
        print_table(["mona against", "pairs", "lower", "error ratio", "95 %", "p (Wilcoxon)"], rows)


def quick() -> None:
    """Two methods on one target of each source, in a folder of its own."""
    small = ("stage1.epochs=1", "stage2.epochs=1", "stage1.surrogate_samples=60", "stage1.surrogate_batch=16")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part, target in (("2d", "basic-motions"), ("1d", "italy-power")):
            chosen = [
                job
                for job in jobs(part)
                if job.target == target and job.method in (UNTOUCHED, "finetune", "mona") and job.seed == 0
            ]
            listed = [replace(job, limit=24, settings=(*job.settings, *small)) for job in chosen]
            for job in listed:
                work(job, folder, folder / "runs")
            report(part, listed, folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["plan", "run", "report", "quick"])
    parser.add_argument("--part", choices=PARTS, action="append")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--runs", type=Path, default=Path("transfer-runs"), help="where the run folders go")
    parser.add_argument("--most", type=int, help="stop after so many jobs")
    given = parser.parse_args()
    parts = given.part or list(PARTS)
    if given.what == "quick":
        quick()
    elif given.what == "report":
        for part in parts:
            report(part, list(jobs(part)), given.results)
    else:
        plan(parts, given.results)
    if given.what == "run":
        waiting = [job for part in parts for job in jobs(part) if done(job, given.results) is None]
        print(f"{platform.machine()}, {platform.processor() or 'CPU'}; {' '.join(sys.argv)}", flush=True)
        for job in waiting[: given.most]:
            found = work(job, given.results, given.runs)
            print(f"{job.part} {job.name}: {found['result']['test']:.4g}, {found['seconds']} s", flush=True)


if __name__ == "__main__":
    main()
