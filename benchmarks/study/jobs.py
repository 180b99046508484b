"""What the study consists of: parts of many small jobs, each one run and its diagnostics."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from result_log import ResultLog

from modgap.transfer.methods import method_names

__all__ = [
    "GRIDS",
    "PARTS",
    "UNTOUCHED",
    "Job",
    "chosen_settings",
    "jobs",
    "smoothed_error",
]

UNTOUCHED = "untouched"
"""The source as it is: what probe and discrepancy are before any training."""
PARTS = ("sweep", "2d", "surrogate", "ablation", "steps", "cnn", "1d")

SHORT = ("stage1.epochs=10", "stage2.decay_epochs=15", "stage2.epochs=15", "stage2.warmup_epochs=1",
         "stage2.keep_epochs=[1, 5, 15]", "stage2.choose=last", "stage2.batch_size=16")  # fmt: skip
"""The last epoch's weights count: a few validation samples would choose at random, and distortion goes by epochs."""
IMAGES = (*SHORT, "stage1.learning_rate=1e-3", "stage2.learning_rate=1e-3", "stage1.surrogate_samples=1000",
          "stage1.batch_size=32")  # fmt: skip
TEXTS = (*SHORT, "stage1.learning_rate=1e-4", "stage2.learning_rate=1e-4", "stage1.surrogate_samples=500",
         "stage1.batch_size=16", "stage1.surrogate_batch=16", "target_sequence_length=32")  # fmt: skip
"""Short series of tokens: at the length that the longest target has of itself a run takes a quarter of an hour."""
ALPHAS, WEIGHTS = (1e-2, 1e-1, 1.0), (0.1, 0.4, 1.0, 4.0)
APART, APART_SEEDS = ("arrowhead", "burgers-16"), 2
"""Targets whose test errors choose alpha and lambda, and that none of the comparisons has."""
ABLATIONS = {
    "without-task-loss": ("stage1.task_loss=false",),
    "supervised-contrastive": ("stage1.objective=supervised-contrastive",),
    "davies-bouldin": ("stage1.objective=davies-bouldin",),
    "all-uniform-pairs": ("stage1.uniform_pairs=all",),
    "predictor-warm-up": ("stage1.predictor_epochs=2",),
}


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
        """Name of the job, and of its run's folder."""
        parts = (self.target, self.method.replace("++", "-plus-plus"), self.label, str(self.seed))
        return "-".join(filter(None, parts))


FASHION = Job("2d", "vit-fashion", "fashion-mnist", "test", "", "", 0, 200, IMAGES)
LITE = Job("cnn", "efficientnet-lite0", "fashion-mnist", "test", "", "", 0, 200, IMAGES)
MINILM = Job("1d", "minilm", "ner-tweets", "train", "", "", 0, 100, TEXTS)
SECOND = replace(FASHION, part="surrogate", surrogate="mnist5k", split="train")
GRIDS = {
    "2d": (FASHION, ("digits", "basic-motions", "acsf1", "darcy-16"), 5, method_names()),
    "surrogate": (SECOND, ("basic-motions", "acsf1"), 5, ["orca", "mona"]),
    "cnn": (LITE, ("digits", "acsf1"), 3, ["finetune", "orca", "mona"]),
    "1d": (MINILM, ("acsf1", "italy-power", "basic-motions", "gunpoint"), 3, method_names()),
}


def jobs(part: str, log: ResultLog | None) -> Iterator[Job]:
    """The jobs of a part, seed by seed; MoNA has what the sweep in `log` chose, or without one its defaults.

    Raises:
        FileNotFoundError: When the part needs the sweep, which is not complete.
    """
    if part == "sweep":
        yield from _sweep()
        return
    chosen = chosen_settings(log) if log else ()
    if part == "ablation":
        for seed in range(5):
            for target in ("basic-motions", "acsf1"):
                for label, own in ABLATIONS.items():
                    yield _mona(FASHION, part, target, seed, (*chosen, *own), label)
    elif part == "steps":
        for seed in range(3):
            for target in APART:
                for steps in (1, 2, 3):
                    own = (*chosen, "stage1.route=exact", f"stage1.inner_steps={steps}")
                    yield _mona(FASHION, part, target, seed, own, f"steps-{steps}")
    else:
        yield from _grid(part, chosen)


def _sweep() -> Iterator[Job]:
    for seed in range(APART_SEEDS):
        for target in APART:
            yield replace(FASHION, part="sweep", target=target, method="emb", seed=seed)
            for alpha in ALPHAS:
                for weight in WEIGHTS:
                    own = f"stage1.alpha={alpha}", f"stage1.lambda={weight}"
                    yield _mona(FASHION, "sweep", target, seed, own, f"{alpha}-{weight}")


def _grid(part: str, chosen: tuple[str, ...]) -> Iterator[Job]:
    base, targets, seeds, names = GRIDS[part]
    yield from (replace(base, target=target, method=UNTOUCHED) for target in targets)
    for seed in range(seeds):
        for target in targets:
            for name in names:
                own = chosen if name == "mona" else ()
                yield replace(base, target=target, method=name, seed=seed, settings=(*base.settings, *own))


def _mona(base: Job, part: str, target: str, seed: int, own: tuple[str, ...], label: str) -> Job:
    return replace(
        base, part=part, target=target, method="mona", seed=seed, settings=(*base.settings, *own), label=label
    )


def chosen_settings(log: ResultLog) -> tuple[str, str]:
    """Alpha and lambda of the lowest test error in the sweep, relative to emb, as the mean over target and seed.

    Raises:
        FileNotFoundError: When the sweep is not complete.
    """
    logs = sweep_ratios(log)
    best = min(logs, key=lambda label: (np.mean(logs[label]), label))
    alpha, weight = best.split("-")
    return f"stage1.alpha={alpha}", f"stage1.lambda={weight}"


def sweep_ratios(log: ResultLog) -> dict[str, list[float]]:
    """By alpha-lambda, the log ratios of the test error to emb's at the same target and seed."""
    found = {job: log.get(job) for job in _sweep()}
    if None in found.values():
        left = sum(result is None for result in found.values())
        raise FileNotFoundError(f"expected a whole sweep in {log.path}, {left} of its jobs are not done; run it first")
    emb = {(job.target, job.seed): result["result"]["test"] for job, result in found.items() if not job.label}
    logs: dict[str, list[float]] = {}
    for job, result in found.items():
        if job.label:
            ratio = log_ratio(result["result"]["test"], emb[job.target, job.seed])
            logs.setdefault(job.label, []).append(ratio)
    return logs


def log_ratio(error: float, other: float) -> float:
    """Log of a ratio of errors in which none counts as less than a thousandth."""
    return float(np.log(max(error, 1e-3) / max(other, 1e-3)))


def smoothed_error(result: dict) -> float | None:
    """The test error; of classes with half a sample more got wrong, so that none wrong has a logarithm too."""
    if "result" not in result:
        return None
    error, samples = result["result"]["test"], result["samples"]["test"]
    return (error / 100 * samples + 0.5) / (samples + 1) if result["result"]["metric"] == "0-1 error %" else error
