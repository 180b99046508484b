"""Tables of models and targets on which ways to choose are judged: of modgap, of MTEB, of LCDB, and of files."""

import csv
import io
import tarfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from result_log import ResultLog

from evidence.ranking_jobs import DEVELOPMENT, EPOCHS, LABELED, MIDDLE_RATE, RATES, SOURCES, TEST, Job
from evidence.ranking_tables import BEST_PILOT, read_truth
from evidence.selection import Table
from modgap.ranking.history.lines import CONTROL, OBSERVED, TRAINED, VARIABLES, Setup, history_table
from modgap.ranking.history.sketches import matching_targets
from modgap.ranking.history.store import shipped_history

FOLDER = Path(__file__).parent.parent
TRUTH = FOLDER / "truth" / "ranking.jsonl"
IMAGE_TASKS = frozenset(
    "Birdsnap CIFAR10 CIFAR100 Caltech101 Country211 DTD EuroSAT FER2013 FGVCAircraft Food101Classification GTSRB "  # noqa: SIM905
    "Imagenet1k MNIST OxfordFlowersClassification OxfordPets PatchCamelyon RESISC45 STL10 SUN397 StanfordCars UCF101 "
    "VOC2007".split()
)
DENSE = 0.7
"""Models that a task needs, as a share of the task with the most models."""
PILOTS = (*(f"pilot of {epochs} epoch{'s' if epochs > 1 else ''}" for epochs in EPOCHS), BEST_PILOT)
STAGES = {PILOTS[0]: PILOTS[:1], PILOTS[1]: PILOTS[:2], PILOTS[2]: PILOTS[:3], BEST_PILOT: PILOTS}
"""Pilots that are known at each stage."""
PILOT_SIZE = 256
"""Training samples of the pilot of a learner."""
FEWEST_SETS = 0.6
"""Data sets that a learner needs, as a share of those of the learner with the most."""


def fine_tuning_table(path: Path = TRUTH) -> Table:
    """Return the errors after fine-tuning of ten sources on 24 targets, with pilots and scores."""
    log = ResultLog(path)
    truth = read_truth(log, (*DEVELOPMENT, *TEST))
    judged = [
        log.get(Job("half", next(iter(SOURCES)), target, 0, MIDDLE_RATE))["samples"]["test"] for target in truth.targets
    ]
    pilots = {name: -pilot / 100 for name, pilot in truth.pilots.items()}
    ordered = {name: pilots[name] for name in PILOTS}
    return Table(
        f"Fine-tuning, at most {LABELED} labeled samples, {len(RATES)} rates",
        list(SOURCES),
        truth.targets,
        truth.means / 100,
        ordered,
        dict.fromkeys(ordered, np.array(judged, float)),
        {"random weights": truth.controls / 100},
        {"transrate": truth.scores["transrate"]},
        STAGES,
        seconds=_seconds_of_pilots(log, truth.targets, PILOTS[:-1]),
    )


def shipped_table() -> Table:
    """Return the errors of the history that ships; of targets with the same samples the first one counts alone."""
    history = shipped_history()
    table = history_table(history.lines, Setup(LABELED, EPOCHS[-1], RATES))
    keys, used, same = {line.target: line.target_key for line in history.lines}, [], set()
    for number, target in enumerate(table.targets):
        if keys[target] not in same:
            used.append(number)
        same |= {keys[target], *matching_targets(history.sketches[keys[target]], history.sketches)}
    layers = dict(zip(VARIABLES, np.moveaxis(table.errors[:, used], 2, 0), strict=True))
    held_out = dict(zip(VARIABLES, np.moveaxis(table.held_out[:, used], 2, 0), strict=True))
    names = dict(zip(OBSERVED, PILOTS, strict=True))
    return Table(
        f"The history that ships, at most {LABELED} labeled samples, {len(RATES)} rates",
        table.sources,
        [table.targets[number] for number in used],
        layers[TRAINED],
        {name: layers[variable] for variable, name in names.items()},
        {name: np.nanmax(held_out[variable], axis=0) for variable, name in names.items()},
        {"random weights": layers[CONTROL]},
        stages=STAGES,
    )


def _seconds_of_pilots(log: ResultLog, targets: Sequence[str], names: Sequence[str]) -> dict[str, float]:
    """Return the seconds on one core of the pilots of all sources, the mean over targets; `names` are by epochs."""
    pairs = [(source, target) for source in SOURCES for target in targets]
    means = [sum(log.get(Job("half", *pair, 0, rate))["seconds"] for pair in pairs) / len(targets) for rate in RATES]
    first = means[RATES.index(MIDDLE_RATE)] / EPOCHS[-1]
    return {**{name: first * epochs for name, epochs in zip(names, EPOCHS, strict=True)}, BEST_PILOT: sum(means)}


def mteb_table(kind: str, folder: Path = FOLDER / "tables") -> Table:
    """Return the errors of models of embeddings on the tasks of one kind, `sound` or `image`, where most are filled."""
    first, rest = (pd.read_csv(folder / f"mteb_av_{name}.csv", index_col=0) for name in ("first", "rest"))
    tasks = [task for task in rest.index if (task in IMAGE_TASKS) == (kind == "image")]
    filled = rest.loc[tasks].notna() & first.loc[tasks].notna()
    counts = filled.sum(axis="columns")
    tasks = [task for task in tasks if counts[task] >= DENSE * counts.max()]
    models = filled.columns[filled.loc[tasks].all()]
    known, truth = (1 - table.loc[tasks, models].to_numpy().T for table in (first, rest))
    pilot = "first experiment"
    return Table(f"MTEB, {kind}", list(models), tasks, truth, {pilot: known}, stages={pilot: [pilot]}, portfolio=5)


def learning_curves(archive: Path) -> Table:
    """Return the errors of learners of scikit-learn on data sets of OpenML from the archive of LCDB 0.1.0.

    The error is the mean on test samples after the largest number of training samples that all learners have, and the
    pilot the validation error of one training on 256 samples.
    """
    sums: dict[tuple[str, str, int], list[float]] = defaultdict(lambda: [0.0, 0.0])
    pilots: dict[tuple[str, str], float] = {}
    with tarfile.open(archive) as files:
        member = next(one for one in files.getmembers() if one.name.endswith("lcdb/database-accuracy.csv"))
        content = files.extractfile(member)
        assert content is not None
        for row in csv.DictReader(io.TextIOWrapper(content, "utf-8")):
            if not row["score_test"] or not row["score_valid"]:
                continue
            size, key = int(row["size_train"]), (row["openmlid"], row["learner"])
            total = sums[(*key, size)]
            total[0] += 1 - float(row["score_test"])
            total[1] += 1
            if size == PILOT_SIZE and row["outer_seed"] == row["inner_seed"] == "0":
                pilots[key] = 1 - float(row["score_valid"])
    return _learning_curve_table(sums, pilots)


def _learning_curve_table(sums: dict[tuple[str, str, int], list[float]], pilots: dict[tuple[str, str], float]) -> Table:
    sizes: dict[str, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
    for target, learner, size in sums:
        sizes[target][size].add(learner)
    counts: dict[str, int] = defaultdict(int)
    for _, learner in pilots:
        counts[learner] += 1
    learners = sorted(one for one, number in counts.items() if number >= FEWEST_SETS * max(counts.values()))
    errors, pilot_errors, targets = [], [], []
    for target in sorted(sizes, key=int):
        complete = [size for size, of_size in sizes[target].items() if of_size.issuperset(learners)]
        if not complete or max(complete) < 2 * PILOT_SIZE or any((target, one) not in pilots for one in learners):
            continue
        cells = [sums[(target, one, max(complete))] for one in learners]
        errors.append([total / number for total, number in cells])
        pilot_errors.append([pilots[(target, one)] for one in learners])
        targets.append(target)
    pilot = f"pilot of {PILOT_SIZE} samples"
    stages = {pilot: [pilot]}
    return Table("LCDB 0.1.0", learners, targets, np.array(errors).T, {pilot: np.array(pilot_errors).T}, stages=stages)


def read_csv(path: Path) -> Table:
    """Return a table of errors in [0, 1] from a CSV file with a row for each model and a column for each target."""
    frame = pd.read_csv(path, index_col=0)
    return Table(path.name, list(map(str, frame.index)), list(map(str, frame.columns)), frame.to_numpy(float))
