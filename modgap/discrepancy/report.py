"""Discrepancy report: the result with its names, its answer, and its record as strict JSON."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from modgap.answers import Answer, Answered, Table
from modgap.answers.confusion import confusion_table
from modgap.discrepancy.answer import answer_of_record, notes, table
from modgap.discrepancy.class_errors import ClassError, class_errors, class_table, classes_csv, confusion_csv
from modgap.discrepancy.result import Discrepancy, Estimate
from modgap.discrepancy.verdict import evidence_of_record, verdict
from modgap.statistics.sample_file import SAMPLES_FILE, SampleFile, write_sample_file
from modgap.storage.atomic_files import write_texts, writing
from modgap.storage.json_records import format_json, with_digest

SCHEMA = 2


@dataclass(frozen=True, repr=False)
class DiscrepancyReport(Answered):
    """A discrepancy with the names of its source, its target and their classes.

    Attributes:
        source: Name of the source, or None if the logits come from a file of the user.
        target: Name of the target, or path of the file of logits.
        result: The estimates.
        source_classes: Names of the source classes; empty if the classes have only numbers.
        target_classes: Names of the target classes; empty if the classes have only numbers.
        provenance: Record of the weights, data, preprocessing and software that gave the logits.
        logits_seconds: Wall time to compute or read the logits, in seconds.
        sample_ids: Number of each row of the logits in the target, or its identifier, shape (N',); None for the number
            of the row. They are not part of the record.
    """

    source: str | None
    target: str
    result: Discrepancy
    source_classes: Sequence[str]
    target_classes: Sequence[str]
    provenance: dict[str, Any]
    logits_seconds: float
    sample_ids: np.ndarray | None = field(default=None, compare=False)

    @property
    def best_estimate(self) -> Estimate | None:
        """Estimate of the estimator to report; None if there is none."""
        name = self.result.best_estimator
        return self.result.estimates[name] if name else None

    def best_map(self) -> list[tuple[str, str]]:
        """Return the (target class, source class) pairs of the best estimator's map, by name."""
        source_classes = self.best_estimate.solution.map if self.best_estimate else ()
        return [
            (class_name(self.target_classes, k), class_name(self.source_classes, c))
            for k, c in enumerate(source_classes)
        ]

    @cached_property
    def answer(self) -> Answer:
        """The answer, with its verdicts, checks, tables and next step."""
        return replace(
            answer_of_record(self._numbers()),
            tables=tuple(self._tables()),
            notes=tuple(notes(self.result, self.best_map())),
        )

    def _tables(self) -> Iterator[Table]:
        """Yield the estimates and, with held-out predictions, the classes and their confusion matrix."""
        matrix = self.result.held_out_confusion
        pairs = self.best_map()
        yield table(self.result)
        if matrix is not None:
            yield class_table(self.result, pairs)
            yield confusion_table([target for target, _ in pairs], matrix.tolist(), "held-out")

    def class_errors(self) -> list[ClassError]:
        """Return the error of each target class that has tested samples, lowest error first."""
        return class_errors(self.result, self.best_map())

    def to_dict(self) -> dict[str, Any]:
        """Return the documented record of plain values."""
        record = self._numbers()
        shown = verdict(evidence_of_record(record))
        provenance = record.pop("provenance")
        sentences = {"verdict": {"status": shown.status, "sentence": shown.sentence}, "answer": self.answer.to_dict()}
        return {**record, **sentences, "provenance": provenance}

    def _numbers(self) -> dict[str, Any]:
        """Return the record without its answer."""
        record = self.result.to_dict()
        for name, estimate in self.result.estimates.items():
            map_names = [class_name(self.source_classes, c) for c in estimate.solution.map]
            record["estimates"][name]["map_names"] = map_names
            targets = [class_name(self.target_classes, k) for k in range(len(map_names))]
            record["estimates"][name]["target_names"] = targets
        record["seconds"] = {"logits": self.logits_seconds, **record["seconds"]}
        head = {"schema": SCHEMA, "kind": "discrepancy", "source": self.source, "target": self.target}
        return {**head, **record, "provenance": self.provenance}

    def write(self, folder: Path) -> list[Path]:
        """Write result.json, samples.npz and the tables of the classes to an existing folder.

        Args:
            folder: The folder.

        Returns:
            Paths of the files.

        Raises:
            InputError: If a file cannot be written.
        """
        texts = {"result.json": with_digest(format_json(self.to_dict()))}
        if self.result.held_out_confusion is not None:
            tables = (self.result, self.best_map())
            texts |= {"classes.csv": classes_csv(*tables), "confusion.csv": confusion_csv(*tables)}
        samples = tested_sample_file(self)
        with writing(folder):
            # Files of an earlier result would be read as parts of this one.
            for name in {SAMPLES_FILE, "classes.csv", "confusion.csv"} - texts.keys():
                (folder / name).unlink(missing_ok=True)
            written = write_texts(folder, texts)
            if samples:
                write_sample_file(folder / SAMPLES_FILE, samples)
                written.append(folder / SAMPLES_FILE)
        return written


def class_name(names: Sequence[str], number: int) -> str:
    """Return the name of a class, or its number if it has no name."""
    return names[number] if number < len(names) else str(number)


def tested_sample_file(report: DiscrepancyReport) -> SampleFile | None:
    """Return the errors of the tested samples as they are written to a folder; None if there are none."""
    tested = report.result.tested_samples
    if tested is None:
        return None
    ids = tested.rows if report.sample_ids is None else report.sample_ids[tested.rows]
    result = report.result
    return SampleFile(ids, tested.labels, tested.groups, tested.errors, result.n_tested_classes, result.per_class)
