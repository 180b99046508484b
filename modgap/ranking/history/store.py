"""The history of a user: a folder of lines and sketches, beside the lines that ship with modgap. Nothing leaves it."""

import functools
import logging
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from modgap.errors import InputError, UsageError, first_line, visible_name
from modgap.ranking.history.lines import (
    HistoryLine,
    Setup,
    first_fault,
    merge_lines,
    pilot_variable,
    read_content,
    read_lines,
    unique_names,
    write_lines,
)
from modgap.ranking.history.sketches import LENGTH, TargetSketch, cached_sketch
from modgap.ranking.source_patterns import split_input_size
from modgap.storage.atomic_files import write_text_atomically
from modgap.storage.json_records import format_json, parse_json
from modgap.storage.locks import one_process_at_a_time
from modgap.storage.paths import expand_user
from modgap.targets import TargetRequest, manifest_names, named_manifest

STRUCTURE_ERRORS = (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError)
SHIPPED = Path(__file__).parent / "shipped"
LINES, SKETCHES = "history.jsonl", "sketches.json"

SEPARATORS = re.compile(r"[\s_-]+")

log = logging.getLogger("modgap")

Hash = Annotated[int, Field(ge=0, lt=1 << 64)]
_Sketches = TypeAdapter(dict[str, tuple[Annotated[tuple[Hash, ...], Field(max_length=LENGTH)], bool]])


@dataclass(frozen=True)
class History:
    """Lines of a history, with the sketches of their targets.

    Attributes:
        lines: The lines.
        sketches: Sketch of each target whose samples are known, by its checksum.
    """

    lines: tuple[HistoryLine, ...] = ()
    sketches: Mapping[str, TargetSketch] = field(default_factory=dict)

    def merged(self, more: "History") -> "History":
        """Return this history with another one added, whose errors count where both have some."""
        return History(tuple(merge_lines(self.lines, more.lines)), {**self.sketches, **more.sketches})


def history_folder() -> Path:
    """Return the folder in the environment variable `MODGAP_HISTORY`, or else one of the platform's for user data.

    Raises:
        UsageError: If the variable is `none`, which stands for no history.
    """
    if keeps_nothing():
        raise UsageError("MODGAP_HISTORY is none, so there is no history of yours. Set it to a folder, or unset it.")
    if folder := os.environ.get("MODGAP_HISTORY"):
        return expand_user(folder)
    import platformdirs

    return Path(platformdirs.user_data_dir("modgap", appauthor=False)) / "history"


def shipped_history() -> History:
    """Return the history that ships with modgap: 17 sources on 68 targets (docs/history.md)."""
    return read_history(SHIPPED)


def known_history() -> History:
    """Return the history that ships with modgap, with that of the user, whose errors count where both have some."""
    return shipped_history() if keeps_nothing() else shipped_history().merged(read_history(history_folder()))


def keeps_nothing() -> bool:
    """Return True if `MODGAP_HISTORY` is `none`, so that no history of the user is read or written."""
    return os.environ.get("MODGAP_HISTORY") == "none"


def read_history(folder: Path) -> History:
    """Read the history in a folder, which is empty if there is none.

    Raises:
        InputError: When a file cannot be read or has another form.
    """
    lines = read_lines(folder / LINES) if (folder / LINES).exists() else []
    return History(tuple(lines), _read_sketches(folder / SKETCHES))


def _read_sketches(path: Path) -> dict[str, TargetSketch]:
    if not path.exists():
        return {}
    content = read_content(path)
    try:
        record = _Sketches.validate_python(parse_json(content))
    except ValueError as error:
        raise InputError(
            f"The file {path} has no sketches of targets. Delete it, and add the results again."
        ) from error
    return {name: TargetSketch(tuple(sorted(hashes)), is_complete) for name, (hashes, is_complete) in record.items()}


def add_to_history(folder: Path, more: History) -> History:
    """Add lines and sketches to the history in a folder, while other processes wait, and return all."""
    folder.mkdir(parents=True, exist_ok=True)
    with one_process_at_a_time(folder / ".lock", "writing the history"):
        history = read_history(folder)
        history = history.merged(recognize_targets(more, history))
        write_history(folder, history)
    return history


# Names of targets


def recognize_targets(more: History, history: History) -> History:
    """Return lines in which targets have the names by which they are known, so that none counts twice.

    A target with a checksum is one of the history that ships if it has the same samples and as many classes. Without
    one, names count that differ only in upper case, spaces, underscores or hyphens: those of targets that modgap knows,
    the names of data sets at the beginning of their titles, and those in the history. Each new name is logged.

    Args:
        more: The lines.
        history: The history that they are added to.

    Raises:
        InputError: If two names are one target, with different errors of one source.
    """
    names = {line.target for line in history.lines}
    known_names = unique_names(((line.target_digest, line.classes), line.target) for line in history.lines)
    own_names = unique_names((_plain(name, "-"), name) for name in names)
    lines, origins = [], dict[tuple[Any, ...], tuple[str, float]]()
    for line in more.lines:
        name = line.target
        if line.target_digest:
            key = line.target_digest, line.classes
            name = _shipped_names().get(key) or known_names.get(key, name)
        elif name not in names and name not in manifest_names():
            name = _packaged_names().get(_plain(name)) or own_names.get(_plain(name, "-"), name)
        lines.append(replace(line, target=name))
        for variable, error in line.errors.items() if not line.target_digest else ():
            origin = origins.setdefault((line.source, name, line.setup, variable), (line.target, error))
            if origin[0] != line.target and origin[1] != error:
                raise InputError(
                    f"{visible_name(origin[0])} and {visible_name(line.target)} are both the target "
                    f"{visible_name(name)}, with different errors of {visible_name(line.source)}. Rename one of them, "
                    "or leave it out."
                )
    renamed = {(old.target, new.target) for old, new in zip(more.lines, lines, strict=True) if old.target != new.target}
    for pair in sorted(renamed):
        log.info("%s counts as the target %s.", *map(visible_name, pair))
    return replace(more, lines=tuple(lines))


@functools.cache
def _shipped_names() -> Mapping[tuple[str, int | None], str]:
    """Return the names of the targets of the history that ships by the checksum of their samples and their classes."""
    return unique_names(((one.target_digest, one.classes), one.target) for one in shipped_history().lines)


@functools.cache
def _packaged_names() -> Mapping[str, str]:
    """Return the names of the targets that modgap knows by the names that stand for them."""
    titles = {name: named_manifest(name).title.partition(":") for name in manifest_names()}
    of_titles = unique_names((_plain(title), name) for name, (title, colon, _) in titles.items() if colon)
    return {**of_titles, **unique_names((_plain(name), name) for name in titles)}


def _plain(name: str, separator: str = "") -> str:
    """Return a name in lower case, with one separator."""
    return SEPARATORS.sub(separator, unicodedata.normalize("NFKC", name).strip().casefold())


def remove_from_history(folder: Path, sources: Iterable[str], targets: Iterable[str]) -> tuple[History, int]:
    """Remove the lines of some sources and of some targets, and return what is left, and how many were removed."""
    gone = set(sources), set(targets)
    with one_process_at_a_time(folder / ".lock", "writing the history"):
        history = read_history(folder)
        left = tuple(line for line in history.lines if line.source not in gone[0] and line.target not in gone[1])
        digests = {line.target_digest for line in left}
        kept = {name: sketch for name, sketch in history.sketches.items() if name in digests}
        write_history(folder, History(left, kept))
    return History(left, kept), len(history.lines) - len(left)


def write_history(folder: Path, history: History) -> None:
    """Write a history to a folder, in place of the one that it has."""
    write_lines(folder / LINES, history.lines)
    sketches = {name: [one.hashes, one.is_complete] for name, one in history.sketches.items()}
    write_text_atomically(folder / SKETCHES, format_json(sketches, indent=None) + "\n")


def export_history(history: History, path: Path, *, fingerprints: bool = False) -> None:
    """Write the lines of a history to a file, to be merged elsewhere.

    Args:
        history: The history.
        path: The file of lines.
        fingerprints: True to write the checksums of targets too, which tell who has a target that it was used.
    """
    lines = history.lines if fingerprints else [replace(line, target_digest="") for line in history.lines]
    write_lines(path, lines)


# Lines of results


@contextmanager
def _checking() -> Iterator[None]:
    """Raise one message where a record lacks what a line has, or has other values."""
    try:
        yield
    except InputError:
        raise
    except STRUCTURE_ERRORS as error:
        fault = first_fault(error) if isinstance(error, ValidationError) else f"missing or invalid value {error}"
        raise InputError(
            f"The record has no errors that a history can take ({visible_name(first_line(ValueError(fault)))}). "
            "Run the command that wrote it again."
        ) from error


@_checking()
def lines_of_ranking(record: Mapping[str, Any]) -> list[HistoryLine]:
    """Return a line for each source that a ranking fine-tuned shortly; none without such errors."""
    target, pilot = record.get("target"), record.get("pilot")
    if not target or target["task"] != "classification" or (record["request"].get("errors") or {}).get("weight"):
        # Errors of other weights are others.
        return []
    lines: list[HistoryLine] = []
    for of_round in filter(None, (pilot, pilot and pilot.get("other"))):
        lines = merge_lines(lines, _lines_of_pilots(target, of_round, record["request"]["input_size"]))
    return lines


def _lines_of_pilots(
    target: Mapping[str, Any], pilot: Mapping[str, Any], input_size: int | None
) -> Iterator[HistoryLine]:
    from modgap.training.pilot import PILOT_EPOCHS, PILOT_RATES

    name = pilot_variable(None if pilot["rates"] > 1 else pilot["epochs"])
    for row in pilot["sources"]:
        source, size = split_input_size(row["source"])
        setup = Setup(pilot["labeled"], PILOT_EPOCHS, PILOT_RATES, size or input_size)
        # The first training at the best rate is the one that the rates were compared with.
        errors, held_out = {name: row["by_training"][0]}, {name: pilot["judged"]}
        seconds = {name: row["seconds"]} if row.get("seconds") else {}
        about = source, target["name"], target["kind"] or "unknown", target["samples"], target["classes"]
        yield HistoryLine(*about, setup, errors, held_out, seconds)


@contextmanager
def _warning_unless_added() -> Iterator[None]:
    try:
        yield
    except (InputError, OSError) as error:
        log.warning("The errors were not added to your history: %s", first_line(error))


def remember_pilots(record: Mapping[str, Any], sketch: TargetSketch) -> None:
    """Add the errors of the pilots of a ranking to the history of the user; where that fails, a warning says so.

    Args:
        record: Record of the ranking, with the absolute path of a target that is a file.
        sketch: Sketch of the target.
    """
    with _warning_unless_added():
        if not keeps_nothing():
            _add(lines_of_ranking(record), sketch)


def remember_run(record: Mapping[str, Any], target: TargetRequest, weights: str | None) -> None:
    """Add the errors of a finished training to the history of the user; where that fails, a warning says so.

    A history knows a source by its name, so a training of other `weights` than the source's own adds nothing.
    """
    with _warning_unless_added():
        if keeps_nothing() or weights is not None:
            return
        if lines := lines_of_run({**record, "target": target.absolute().name}):
            opened = target.open()
            _add(lines, cached_sketch(opened.fingerprint, opened.read().samples))


def _add(lines: Iterable[HistoryLine], sketch: TargetSketch) -> None:
    """Add lines of one target to the history of the user."""
    if added := tuple(replace(line, target_digest=sketch.digest) for line in lines):
        add_to_history(history_folder(), History(added, {sketch.digest: sketch}))


ERROR_OF_METHOD = {"finetune": "trained", "scratch": "control"}
"""Error of a history that a training measures, by its method."""


@_checking()
def lines_of_run(record: Mapping[str, Any]) -> list[HistoryLine]:
    """Return the line of a training of all weights, or of random ones; none of other runs."""
    result, name = record.get("result"), ERROR_OF_METHOD.get(record["method"])
    if not name or not result or result["metric"] != "0-1 error %" or result["test"] is None or not record["source"]:
        return []
    if record["protocol"] == "orca":
        # The test samples chose the epoch.
        return []
    samples, recipe = record["samples"], record["recipe"]["stage2"]
    swept = (record.get("sweep") or {}).get("values", {}).get("stage2.learning_rate")
    rates = tuple(float(rate) for rate in swept or [recipe["learning_rate"]])
    setup = Setup(samples["train"] + samples["validation"], recipe["epochs"], rates, record["input_size"])
    kind = record["data"]["input"]["kind"]
    errors, held_out = {name: result["test"] / 100}, {name: samples["test"]}
    seconds = {} if result.get("seconds") is None else {name: result["seconds"]}
    (n_classes,), total = record["output"]["shape"], sum(samples.values())
    return [HistoryLine(record["source"], record["target"], kind, total, n_classes, setup, errors, held_out, seconds)]
