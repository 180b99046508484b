"""Sources, targets and trainings of the third edition of the evidence, which judge how sources are chosen."""

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from result_log import ResultLog

import modgap
from evidence.judging_targets import draw
from evidence.model_jobs import Design
from evidence.ranking_jobs import DEVELOPMENT, TEST
from evidence.ranking_jobs import SOURCES as OF_SECOND_EDITION
from evidence.ranking_work import errors_record
from modgap.errors import InputError, UsageError
from modgap.ranking.history.measure import ALL, EPOCHS, HALF, RATES, Training, best_rate
from modgap.ranking.source_patterns import split_input_size

LEFT_OUT = ("ppocr",)
"""Took two fifths of the time of the second edition; it is in the comparison of linear probes alone."""
EARLIER_SOURCES = tuple(name for name in OF_SECOND_EDITION if name not in LEFT_OUT)
NEW_SOURCES = {
    "onet": "faces, convolutional",
    "iclabel": "components of EEG, convolutional",
    "inaspeechsegmenter": "speech, music and noise, convolutional",
    "beatnet": "beats of music, recurrent",
    "g2p-en": "letters and phonemes of English words, recurrent",
    "lid-176": "languages of texts, a mean of vectors of letters",
    "mineralml": "chemical analyses of minerals, two layers",
}
"""Sources by name that came after the second edition and can be fine-tuned on all kinds of data in seconds."""
SOURCES = (*EARLIER_SOURCES, *NEW_SOURCES)
EARLIER_TARGETS = (*DEVELOPMENT, *TEST)
EARLIER_TEXTS = ("word-languages", "genres", "spam-mails")
"""Targets of text that do not judge. The second edition had none."""
ROOT = Path(__file__).parent.parent.parent
JUDGING_LIST = ROOT / "benchmarks" / "truth" / "judging_targets.json"
PROTOCOL = ROOT / "docs" / "protocol.md"
WITHOUT_CLASSES = ("gene-functions",)
"""Judging targets whose samples have several labels, which the history of errors does not hold."""


PROBED_ALONE = ("ppocr", "magika", "chemnet", "deeplc", "fracast")
"""Sources that are compared by their linear probes alone, since they cannot be fine-tuned on all kinds, or slowly."""
SIZES = (16, 64, 128)
"""Numbers of labeled samples of baselines and probes."""
MOST_TESTED = 1000
"""Largest number of test samples of baselines and probes."""
N_TRANSFERS = 20
READ_AS_TEXT = ("text", "string")


def has_protocol() -> bool:
    """Return True if the protocol of the third edition is written, before which nothing may touch a judging target."""
    return PROTOCOL.read_text(encoding="utf-8").startswith("# Protocol of the third edition")


def code_digest() -> str:
    """Return the first 16 digits of the SHA-256 of all that decides a result: modgap, its manifests and the benchmarks.

    Raises:
        RuntimeError: If another modgap is imported than that beside the benchmarks.
    """
    if not Path(modgap.__file__).is_relative_to(ROOT):
        raise RuntimeError(f"modgap is imported from {modgap.__file__}. Set PYTHONPATH={ROOT}.")
    digest = hashlib.sha256()
    for folder, pattern in (("modgap", "*.py"), ("cli", "*.py"), ("data_manifests", "*.toml"), ("benchmarks", "*.py")):
        for path in sorted((ROOT / folder).rglob(pattern)):
            name = path.relative_to(ROOT).as_posix()
            digest.update(f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()[:16]


def all_judging_targets() -> dict[str, str]:
    """Return the kind of each judging target by name."""
    kinds = json.loads(JUDGING_LIST.read_text(encoding="utf-8"))
    return {name: kind for kind, names in kinds.items() for name in names}


def judging_targets() -> dict[str, str]:
    """Return the kind of each judging target with one class a sample, by name."""
    return {name: kind for name, kind in all_judging_targets().items() if name not in WITHOUT_CLASSES}


def models_design() -> Design:
    """Return which baselines and probes are fitted on how many labeled samples of the judging targets."""
    targets = tuple(all_judging_targets())
    sources = tuple(split_input_size(name)[0] for name in (*SOURCES, *PROBED_ALONE))
    return Design(targets, sources, SIZES, MOST_TESTED, frozenset(targets), all_folds=True)


def transfer_targets() -> list[str]:
    """Return the drawn judging targets on which whole transfers are compared with single strategies."""
    drawn = draw(_by_kind(judging_targets()), N_TRANSFERS, "transfer ")
    return [name for names in drawn.values() for name in names]


def method_targets() -> list[str]:
    """Return the drawn judging targets on which methods are compared: one of each kind that all sources read, and one.

    Sources of images and sounds do not read texts and strings.
    """
    kinds = {kind: names for kind, names in _by_kind(judging_targets()).items() if kind not in READ_AS_TEXT}
    first = draw(kinds, sum(map(len, kinds.values())), "methods ")
    return [*(names[0] for names in first.values()), first["table"][1]]


def _by_kind(kinds: Mapping[str, str]) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for name, kind in kinds.items():
        names.setdefault(kind, []).append(name)
    return names


def history_pairs() -> list[tuple[str, str]]:
    """Return the sources and earlier targets whose errors the history lacks."""
    pairs = [(source, target) for target in EARLIER_TARGETS for source in NEW_SOURCES]
    return pairs + [(source, target) for target in EARLIER_TEXTS for source in SOURCES]


def choice_pairs() -> list[tuple[str, str]]:
    """Return all sources on all judging targets."""
    return [(source, target) for target in judging_targets() for source in SOURCES]


def training_jobs(pairs: Sequence[tuple[str, str]], log: ResultLog) -> Iterator[Training]:
    """Yield the trainings of pairs of source and target; the last one of a pair needs the errors of the others.

    Three rates are tried on one half of the labeled samples and judged on the other half. At the best, one seed is
    trained on all labeled samples and tested.
    """
    for source, target in pairs:
        halves = [Training(HALF, source, target, 0, rate) for rate in RATES]
        yield from halves
        results = {half.rate: log.get(half) for half in halves}
        rate = best_rate({rate: last_error(result) for rate, result in results.items() if result})
        if rate is not None and all("errors" in result for result in results.values() if result):
            yield Training(ALL, source, target, 0, rate)


def last_error(result: Mapping[str, Any]) -> float:
    """Return the error in percent after the last epoch, infinite for a source that cannot be trained on the target."""
    return float(result["errors"][str(EPOCHS[-1])]) if "errors" in result else float("inf")


def work(job: Training, log: ResultLog) -> dict[str, Any]:
    """Do a training on one thread, append its result to the log, and return its record."""
    torch.set_num_threads(1)
    began = time.perf_counter()
    try:
        result = errors_record(job)
    except (InputError, UsageError) as error:
        result = {"reason": str(error)}
    return log.add(job, {**result, "seconds": round(time.perf_counter() - began, 1)})
