"""Recorded lines of the third edition and what it compared, read without modgap."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

TRUTH = Path(__file__).parents[1] / "truth"
THIRD = TRUTH / "third"
PARTS = ("history", "choice", "models", "methods", "transfer")
SOURCES = (
    *("vit-fashion", "efficientnet-lite0@64px", "minilm", "rxnfp", "crepe-tiny", "musicnn", "resemblyzer"),
    *("silero-vad", "eeg-seizure", "onet", "iclabel", "inaspeechsegmenter", "beatnet", "g2p-en", "lid-176"),
    "mineralml",
)
"""Sources that were fine-tuned, in the order of the protocol."""
PROBED_ALONE = ("ppocr", "magika", "chemnet", "deeplc", "fracast")
BASELINES = (
    *("linear", "neighbors", "extra-trees", "minirocket", "boosting", "pixels", "hog", "residual-network", "mfcc"),
    *("mfcc-trees", "tf-idf-words", "tf-idf-letters", "k-mers", "k-mer-trees", "mean-field", "patches"),
)
"""Baselines in the order by which equal cross-validated errors are decided."""
CONSTANT_SOURCE = "efficientnet-lite0@64px"
HALF, ALL = "half", "all"
RATES = (0.0005, 0.0001, 0.0025)
"""Learning rates of fine-tunings; of equal errors the first counts."""
MIDDLE_RATE = RATES[0]
LAST_EPOCH = "10"
SIZES = (16, 64, 128)
"""Numbers of labeled samples of baselines and probes."""
LARGEST = SIZES[-1]
WITHOUT_CLASSES = ("gene-functions",)
"""Judging targets whose samples have several labels."""

Line = Mapping[str, Any]
"""One recorded result, whose settings are under `job`."""
Trainings = Mapping[tuple[str, str, str, int, float], Line]
"""Recorded fine-tunings by part, source, target, seed and rate."""


def read_lines(path: Path) -> dict[str, Line]:
    """Return the results of a file by their settings as JSON; of several results of one setting, the last counts."""
    lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return {json.dumps(line["job"], sort_keys=True): line for line in lines}


def part_lines(part: str) -> list[Line]:
    """Return the results of one of `PARTS`."""
    return list(read_lines(THIRD / f"{part}.jsonl").values())


def read_trainings(paths: Iterable[Path]) -> Trainings:
    """Return the fine-tunings of some files; of one that several files have, the first counts."""
    trainings: dict[tuple[str, str, str, int, float], Line] = {}
    for path in paths:
        for line in read_lines(path).values():
            job = line["job"]
            if job["part"] in (HALF, ALL):
                key = (job["part"], job["source"], job["target"], job["seed"], job["rate"])
                trainings.setdefault(key, line)
    return trainings


def last_error(line: Line) -> float:
    """Return the error in percent after the last epoch."""
    return float(line["errors"][LAST_EPOCH])


def chosen_rate(trainings: Trainings, source: str, target: str) -> float | None:
    """Return the rate with the lowest error on the other half of the labeled samples.

    It is None for a source that cannot be trained on the target, and before all rates have an error.
    """
    halves = {rate: trainings.get((HALF, source, target, 0, rate), {}) for rate in RATES}
    if not all("errors" in half for half in halves.values()):
        return None
    return min(RATES, key=lambda rate: last_error(halves[rate]))


def judging_targets() -> dict[str, str]:
    """Return the kind of each judging target with one class a sample, by name."""
    kinds = json.loads((TRUTH / "judging_targets.json").read_text(encoding="utf-8"))
    return {name: kind for kind, names in kinds.items() for name in names if name not in WITHOUT_CLASSES}


def source_packages() -> dict[str, str]:
    """Return the package that brings the data of each judging target."""
    packages: dict[str, str] = json.loads((THIRD / "packages.json").read_text(encoding="utf-8"))
    return packages


def model_name(source: str) -> str:
    """Return the name of a source without the size of its input."""
    return source.partition("@")[0]


def in_order_of_plan(results: Iterable[Line]) -> list[Line]:
    """Return baselines, probes and controls in the order of the plan, which decides between equal errors.

    Other results, such as those of trainings, are left out.
    """
    models: Sequence[str] = (*BASELINES, *map(model_name, SOURCES), *PROBED_ALONE)
    parts = ("baseline", "probe", "control")

    def place(result: Line) -> tuple[int, int]:
        job = result["job"]
        return parts.index(job["part"]), models.index(job["model"]) if job["model"] in models else len(models)

    return sorted((result for result in results if "model" in result["job"]), key=place)
