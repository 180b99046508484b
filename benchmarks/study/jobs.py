"""The jobs of the study: each is one run and its diagnostics."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from result_log import ResultLog

UNTOUCHED = "untouched"
"""Method name of the source before training, for its probe error and discrepancy."""
PARTS = ("sweep", "2d", "surrogate", "ablation", "steps", "cnn", "1d")

SHORT = ("stage1.epochs=10", "stage2.decay_epochs=15", "stage2.epochs=15", "stage2.warmup_epochs=1",
         "stage2.keep_epochs=[1, 5, 15]", "stage2.choose=last", "stage2.batch_size=16")  # fmt: skip
"""The weights of the last epoch are tested, because a few validation samples would choose at random."""
IMAGES = (*SHORT, "stage1.learning_rate=1e-3", "stage2.learning_rate=1e-3", "stage1.surrogate_samples=1000",
          "stage1.batch_size=32")  # fmt: skip
TEXTS = (*SHORT, "stage1.learning_rate=1e-4", "stage2.learning_rate=1e-4", "stage1.surrogate_samples=500",
         "stage1.batch_size=16", "stage1.surrogate_batch=16", "target_sequence_length=32")  # fmt: skip
"""Series have few tokens, because a run at the full length of the longest target takes a quarter of an hour."""
ALPHAS = (1e-2, 1e-1, 1.0)
WEIGHTS = (0.1, 0.4, 1.0, 4.0)
APART = ("arrowhead", "burgers-16")
APART_SEEDS = 2
"""Targets whose test errors choose alpha and lambda. Only the comparison of inner steps uses them."""
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
METHODS = ("scratch", "finetune", "finetune++", "frozen", "fpt", "emb", "orca", "mona")
"""The methods of the study, which are fewer than those that modgap has now."""
GRIDS = {
    "2d": (FASHION, ("digits", "basic-motions", "acsf1", "darcy-16"), 5, METHODS),
    "surrogate": (SECOND, ("basic-motions", "acsf1"), 5, ["orca", "mona"]),
    "cnn": (LITE, ("digits", "acsf1"), 3, ["finetune", "orca", "mona"]),
    "1d": (MINILM, ("acsf1", "italy-power", "basic-motions", "gunpoint"), 3, METHODS),
}


def jobs(part: str, log: ResultLog | None) -> Iterator[Job]:
    """Yield the jobs of a part, seed by seed. MoNA has the settings that the sweep in `log` chose, or its defaults.

    Raises:
        FileNotFoundError: If the part needs the sweep and the sweep is not complete.
    """
    if part == "sweep":
        yield from _sweep()
        return
    chosen = chosen_settings(log) if log else ()
    if part == "ablation":
        for seed in range(5):
            for target in ("basic-motions", "acsf1"):
                for label, settings in ABLATIONS.items():
                    yield _mona(FASHION, part, target, seed, (*chosen, *settings), label)
    elif part == "steps":
        for seed in range(3):
            for target in APART:
                for steps in (1, 2, 3):
                    settings = (*chosen, "stage1.route=exact", f"stage1.inner_steps={steps}")
                    yield _mona(FASHION, part, target, seed, settings, f"steps-{steps}")
    else:
        yield from _grid(part, chosen)


def _sweep() -> Iterator[Job]:
    for seed in range(APART_SEEDS):
        for target in APART:
            yield replace(FASHION, part="sweep", target=target, method="emb", seed=seed)
            for alpha in ALPHAS:
                for weight in WEIGHTS:
                    settings = (f"stage1.alpha={alpha}", f"stage1.lambda={weight}")
                    yield _mona(FASHION, "sweep", target, seed, settings, f"{alpha}-{weight}")


def _grid(part: str, chosen: tuple[str, ...]) -> Iterator[Job]:
    base, targets, seeds, names = GRIDS[part]
    yield from (replace(base, target=target, method=UNTOUCHED) for target in targets)
    for seed in range(seeds):
        for target in targets:
            for name in names:
                settings = (*base.settings, *(chosen if name == "mona" else ()))
                yield replace(base, target=target, method=name, seed=seed, settings=settings)


def _mona(base: Job, part: str, target: str, seed: int, settings: tuple[str, ...], label: str) -> Job:
    return replace(
        base, part=part, target=target, method="mona", seed=seed, settings=(*base.settings, *settings), label=label
    )


def chosen_settings(log: ResultLog) -> tuple[str, str]:
    """Return alpha and lambda with the lowest mean test error in the sweep, relative to emb, over targets and seeds.

    Raises:
        FileNotFoundError: If the sweep is not complete.
    """
    logs = sweep_ratios(log)
    best = min(logs, key=lambda label: (np.mean(logs[label]), label))
    alpha, weight = best.split("-")
    return f"stage1.alpha={alpha}", f"stage1.lambda={weight}"


def sweep_ratios(log: ResultLog) -> dict[str, list[float]]:
    """Return the log ratios of the test error to that of emb on the same target and seed, by `alpha-lambda`."""
    results = {job: log.get(job) for job in _sweep()}
    if None in results.values():
        n_missing = sum(result is None for result in results.values())
        raise FileNotFoundError(f"The sweep in {log.path} lacks {n_missing} of its jobs. Run the part sweep first.")
    emb = {(job.target, job.seed): result["result"]["test"] for job, result in results.items() if not job.label}
    logs: dict[str, list[float]] = {}
    for job, result in results.items():
        if job.label:
            ratio = log_ratio(result["result"]["test"], emb[job.target, job.seed])
            logs.setdefault(job.label, []).append(ratio)
    return logs


def log_ratio(error: float, other: float) -> float:
    """Return the log of a ratio of errors, each of which counts as at least 0.001."""
    return float(np.log(max(error, 1e-3) / max(other, 1e-3)))


def smoothed_error(result: dict) -> float | None:
    """Return the test error. For error rates half an error is added, so that 0 has a logarithm too."""
    if "result" not in result:
        return None
    error = result["result"]["test"]
    samples = result["samples"]["test"]
    return (error / 100 * samples + 0.5) / (samples + 1) if result["result"]["metric"] == "0-1 error %" else error
