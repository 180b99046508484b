"""Lines of a history: the errors of one source on one target, and how they were measured. They are data alone."""

import hashlib
import io
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked_dataclass

from modgap.errors import InputError, count, first_line, visible_name
from modgap.ranking.history.model import transform_error
from modgap.storage.atomic_files import write_text_atomically

TRAINED, CONTROL = "trained", "control"
PILOT_OF_RATES = "pilot-rates"
"""The lowest error of pilots of all rates after the last epoch."""
OBSERVED = ("pilot-1", "pilot-3", "pilot-10", PILOT_OF_RATES)
"""Errors of pilots: after 1, 3 and 10 epochs at the first rate, and the lowest of all rates."""
VARIABLES = (TRAINED, CONTROL, *OBSERVED)
"""Errors that the model knows: after the whole training, the same from random weights, and those of pilots."""
LARGEST_FILE = 1 << 26
LONGEST_LINE = 1 << 16
MOST_TARGETS = 1000
MOST_CELLS = 1 << 19
"""Most pairs of source and target of one setup, since memory and time of the fit grow with them."""
FACTOR_OF_SAMPLES = 2
"""Largest ratio of the numbers of labeled samples of experiments that count as the same."""


def pilot_variable(epochs: int | None) -> str:
    """Return the name of the error of pilots after some epochs at the first rate; None for the lowest of all rates."""
    return PILOT_OF_RATES if epochs is None else f"pilot-{epochs}"


Name = Annotated[str, Field(min_length=1, max_length=300)]
Count = Annotated[int, Field(ge=1, le=10**12)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]
STRICT = ConfigDict(extra="forbid")


@checked_dataclass(frozen=True, config=STRICT)
class Setup:
    """How errors were measured; only those of one setup can be compared.

    Attributes:
        samples: Largest number of labeled samples.
        epochs: Epochs of the whole training.
        rates: Learning rates of which one was chosen.
        input_size: Height and width of the source's input in pixels; None for the source's default.
    """

    samples: Count
    epochs: Count
    rates: tuple[Seconds, ...]
    input_size: Count | None = None

    def fits(self, other: "Setup") -> bool:
        """Return True if the errors of both belong to one experiment, but for the size of the input."""
        ratio = max(self.samples, other.samples) / min(self.samples, other.samples)
        return (self.epochs, sorted(self.rates)) == (other.epochs, sorted(other.rates)) and ratio <= FACTOR_OF_SAMPLES


@checked_dataclass(frozen=True, config=STRICT)
class HistoryLine:
    """Errors of one source on one target.

    Attributes:
        source: Name of the source.
        target: Name of the target.
        kind: Kind of the target's samples, such as `image`.
        samples: Number of samples of the target; None if it is not known.
        classes: Number of its classes; None if it is not known.
        setup: How the errors were measured.
        errors: 0-1 errors in [0, 1] by name: those of `VARIABLES`, and others such as `probe`.
        held_out: Number of samples on which each of them was measured.
        seconds: Seconds that each of them took on one core.
        source_digest: Checksum of the source's weights; empty if it is not known.
        target_digest: Checksum of the target's samples; empty if it is not known.
    """

    source: Name
    target: Name
    kind: Name
    samples: Count | None
    classes: Count | None
    setup: Setup
    errors: Mapping[Name, Share]
    held_out: Mapping[Name, Count] = field(default_factory=dict)
    seconds: Mapping[Name, Seconds] = field(default_factory=dict)
    source_digest: Annotated[str, Field(max_length=128)] = ""
    target_digest: Annotated[str, Field(max_length=128)] = ""

    @property
    def target_key(self) -> str:
        """Checksum of the target, or its name without one."""
        return self.target_digest or self.target


_Line = TypeAdapter(HistoryLine)


def read_lines(path: Path) -> list[HistoryLine]:
    """Read the lines of a file.

    Raises:
        InputError: When it cannot be read, or a line is not one of a history.
    """
    try:
        text = read_content(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"The history {path} is not a text in UTF-8.") from error
    lines = enumerate(io.StringIO(text, newline=None), start=1)
    return [_parse(line, f"Line {number} of {path}") for number, line in lines if line.strip()]


def read_content(path: Path) -> bytes:
    """Return the content of a file of a history, of which no more is read than a history has.

    Raises:
        InputError: When it is too large, or cannot be read.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except (OSError, ValueError) as error:
        # A name with a null character is a ValueError.
        reason = error.strerror if isinstance(error, OSError) else first_line(error)
        raise InputError(f"The history {path} cannot be read: {reason}.") from error
    if len(content) > LARGEST_FILE:
        raise InputError(f"The history {path} is larger than {LARGEST_FILE >> 20} MiB.")
    return content


def _parse(text: str, where: str) -> HistoryLine:
    if len(text) > LONGEST_LINE:
        raise InputError(f"{where} is not a line of a history: it has more than {LONGEST_LINE:,} characters.")
    try:
        return _Line.validate_json(text, strict=False)
    except ValidationError as error:
        raise invalid_line(error, where) from error


def invalid_line(error: ValidationError, where: str) -> InputError:
    """Return the error for values that are not a line of a history, with the place where they are."""
    return InputError(f"{where} is not a line of a history: {first_fault(error)}.")


def first_fault(error: ValidationError) -> str:
    """Return the name of the first value that is not valid, and what is wrong with it."""
    fault = error.errors(include_url=False)[0]
    name = ".".join(visible_name(str(part)) for part in fault["loc"]) or "the line"
    return f"{name}: {first_line(ValueError(str(fault['msg']).rstrip('.')))}"


def write_lines(path: Path, lines: Iterable[HistoryLine]) -> None:
    """Write lines to a file, one JSON object a line, sorted by target and source.

    Raises:
        InputError: When they would be too long to be read again.
    """
    ordered = sorted(lines, key=lambda line: (line.target, line.source, repr(line.setup)))
    texts = [f"{json.dumps(_plain(line), allow_nan=False)}\n" for line in ordered]
    if max(map(len, texts), default=0) > LONGEST_LINE or sum(map(len, texts)) > LARGEST_FILE:
        raise InputError(
            f"The history was not written to {path}. It would be larger than {LARGEST_FILE >> 20} MiB, or have a line "
            f"of more than {LONGEST_LINE:,} characters. Remove sources or targets with `modgap history remove`."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomically(path, "".join(texts))


def _plain(line: HistoryLine) -> dict[str, Any]:
    # `asdict` alone would copy each of the mappings.
    record = {one.name: getattr(line, one.name) for one in fields(line)} | {"setup": asdict(line.setup)}
    return {name: value for name, value in record.items() if value not in ({}, "")}


def merge_lines(lines: Iterable[HistoryLine], more: Iterable[HistoryLine]) -> list[HistoryLine]:
    """Return lines with others added. Of two about the same source, target and setup, errors of the later count."""
    merged: dict[tuple[Any, ...], dict[str, HistoryLine]] = {}
    for line in (*lines, *more):
        # Lines by checksum, of which those without one are about the same target as far as checksums are known.
        alike = merged.setdefault((line.source, line.target, line.setup), {})
        earlier = alike.get(line.target_digest) or alike.get("")
        if earlier is None and not line.target_digest:
            earlier = next(iter(alike.values()), None)
        if earlier is not None:
            line = replace(
                line,
                errors={**earlier.errors, **line.errors},
                held_out={**earlier.held_out, **line.held_out},
                seconds={**earlier.seconds, **line.seconds},
                source_digest=line.source_digest or earlier.source_digest,
                target_digest=line.target_digest or earlier.target_digest,
            )
        alike.pop("", None)
        alike[line.target_digest] = line
    return [line for alike in merged.values() for line in alike.values()]


def history_digest(lines: Iterable[HistoryLine]) -> str:
    """Return a checksum of lines, whatever their order."""
    texts = sorted(json.dumps(_plain(line), sort_keys=True) for line in lines)
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


@dataclass(frozen=True)
class HistoryTable:
    """Errors of a history as arrays.

    Attributes:
        sources: Names of the sources S.
        targets: Names of the targets n.
        kinds: Kind of each target.
        errors: Errors in [0, 1] of `VARIABLES`, (S, n, F), NaN where one is missing.
        held_out: Numbers of samples on which they were measured, (S, n, F), NaN where one is unknown.
        seconds: Seconds that they took, (S, n, F), NaN where they are unknown.
        labeled: Largest number of labeled samples of most lines; 0 without lines.
    """

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    kinds: tuple[str, ...]
    errors: np.ndarray
    held_out: np.ndarray
    seconds: np.ndarray
    labeled: int

    @property
    def z(self) -> np.ndarray:
        """Transformed errors, (S, n, F)."""
        return transform_error(self.errors)


def unique_names(pairs: Iterable[tuple[Any, str]]) -> dict[Any, str]:
    """Return names by what stands for them, without what stands for several."""
    names: dict[Any, set[str]] = {}
    for key, name in pairs:
        names.setdefault(key, set()).add(name)
    return {key: same.pop() for key, same in names.items() if len(same) == 1}


def history_table(lines: Sequence[HistoryLine], setup: Setup, without: Iterable[str] = ()) -> HistoryTable:
    """Return the errors that were measured in one setup.

    Args:
        lines: The lines.
        setup: The setup, of which the size of the input may differ, as it belongs to the source.
        without: Keys of targets that are left out: their checksums, or names without one.

    Raises:
        InputError: If there are too many targets, or pairs of source and target.
    """
    left_out = set(without)
    # Lines without a checksum are about the target of this name.
    digests = unique_names((line.target, line.target_digest) for line in lines if line.target_digest)
    # Targets that differ in their labels alone have the same checksum.
    keys = [(line.target, line.target_digest or digests.get(line.target, "")) for line in lines]
    used = [
        (line, key)
        for line, key in zip(lines, keys, strict=True)
        if line.setup.fits(setup) and not left_out & {line.target_key, key[1] or line.target}
    ]
    sources, targets = tuple(dict.fromkeys(line.source for line, _ in used)), {key: line for line, key in used}
    if len(targets) > MOST_TARGETS or len(sources) * len(targets) > MOST_CELLS:
        raise InputError(
            f"The history has {count(len(sources), 'source')} on {count(len(targets), 'target')}. At most "
            f"{MOST_TARGETS:,} targets and {MOST_CELLS:,} pairs of source and target can be used. Remove some with "
            "`modgap history remove`."
        )
    rows, columns = ({name: number for number, name in enumerate(names)} for names in (sources, targets))
    layers = np.full((3, len(sources), len(targets), len(VARIABLES)), np.nan)
    # Of lines of other numbers of samples the nearest counts, so it comes last.
    for line, key in sorted(used, key=lambda one: -abs(math.log(one[0].setup.samples / setup.samples))):
        cell = rows[line.source], columns[key]
        for layer, values in zip(layers, (line.errors, line.held_out, line.seconds), strict=True):
            # Lines of one source and target may differ in the size of the input and in the errors that they have.
            new = np.array([values.get(name, np.nan) for name in VARIABLES])
            layer[cell] = np.where(np.isnan(new), layer[cell], new)
    names = tuple(line.target for line in targets.values())
    lines_of = Counter(line.setup.samples for line, _ in used)
    labeled = max(lines_of, key=lambda samples: (lines_of[samples], samples), default=0)
    errors, held_out, seconds = layers
    kinds = tuple(line.kind for line in targets.values())
    return HistoryTable(sources, names, kinds, errors, held_out, seconds, labeled)
