"""Result folders of modgap as tables of errors: the record in a folder decides on its kind."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from modgap.comparison.error_table import DISCREPANCY, DISTORTION, RANKING, TRAINING, ErrorTable
from modgap.errors import InputError
from modgap.statistics.sample_file import SAMPLES_FILE, SampleFile, numbered_sample_file, read_sample_file
from modgap.storage.digests import FILES, check_named_file, warn_without_digests
from modgap.storage.json_records import read_json

__all__ = ["discrepancy_table", "read_folder"]

DISCREPANCY_SCHEMA = 2
RANKING_SCHEMA = 2
RATE_METRIC = "0-1 error %"
"""Metric of training runs whose samples are stored as error rates in [0, 1]."""

Record = Mapping[str, Any]


def read_folder(folder: Path) -> list[ErrorTable]:
    """Read the errors of the samples in a result folder, one table for each target.

    Args:
        folder: Folder that `modgap discrepancy`, `distortion`, `train` or `rank` wrote.

    Raises:
        InputError: If the folder has no results, or no errors of samples. The message says what to do.
    """
    for name, read in READERS.items():
        path = folder / name
        if not path.exists():
            continue
        try:
            record = read_json(path, checked_key=FILES)
            return read(record, folder)
        except RecursionError as error:
            raise InputError(f"{path} is damaged. Run the command that wrote it again.") from error
        except (AttributeError, LookupError, TypeError) as error:
            raise InputError(
                f"{path} is incomplete or damaged ({error!r}). Run the command that wrote it again."
            ) from error
    raise InputError(
        f"There are no results in {folder}. Pass a folder that modgap discrepancy, distortion, train or rank wrote "
        "with --out."
    )


def _read_discrepancy(record: Record, folder: Path) -> list[ErrorTable]:
    _check_kind(record, folder / "result.json", DISCREPANCY)
    schema = record.get("schema")
    if not isinstance(schema, int) or schema < DISCREPANCY_SCHEMA:
        raise InputError(
            f"{folder} was written by an earlier version of modgap (schema {schema}), without the errors of its "
            f"samples. Run again: {_discrepancy_command(record, folder)}"
        )
    if schema > DISCREPANCY_SCHEMA:
        raise InputError(
            f"{folder} was written by a newer version of modgap (schema {schema}). This version reads schema "
            f"{DISCREPANCY_SCHEMA}. Upgrade with: pip install --upgrade modgap"
        )
    samples = read_samples(folder, _discrepancy_command(record, folder))
    return [discrepancy_table(record, samples, str(folder), folder.name)]


def discrepancy_table(record: Record, samples: SampleFile, origin: str, name: str) -> ErrorTable:
    """Return the errors of a discrepancy.

    Args:
        record: Record of the discrepancy.
        samples: Errors of the samples by estimator.
        origin: Path of the folder, or description of the result.
        name: Name of the system if the record has no source, as for a file of logits.
    """
    source = record["source"]
    embedding = record["provenance"].get("embedding", {})
    if source is not None and embedding.get("embedder", "native") != "native":
        source = f"{source} with a trained embedder"
    return ErrorTable(
        origin=origin,
        kind=DISCREPANCY,
        target=None if source is None else str(record["target"]),
        samples=samples,
        metric="held-out error",
        bounded=True,
        system=name if source is None else str(source),
        conditions={"weights": str(record["weighting"])},
        data=record["provenance"].get("target"),
        command=_discrepancy_command(record, Path(origin)),
    )


def _discrepancy_command(record: Record, folder: Path) -> str:
    if record.get("source") is None:
        return f"modgap discrepancy --logits {record.get('target')} --out {folder}"
    return f"modgap discrepancy --source {record['source']} --target {record.get('target')} --out {folder}"


def _read_run(record: Record, folder: Path) -> list[ErrorTable]:
    _check_kind(record, folder / "run.json", "run")
    result = record["result"]
    command = f"modgap train --method {record['method']} --source {record['source']} --target {record['target']}"
    if result is None:
        raise InputError(f"The run in {folder} is not finished. Resume it: {command} --out {folder} --resume")
    if not (folder / SAMPLES_FILE).exists():
        raise InputError(_missing_errors_of_run(result, folder, command))
    warn_without_digests(folder / "run.json", record)
    check_named_file(folder, record, folder / SAMPLES_FILE)
    unit = "error rate" if result["metric"] == RATE_METRIC else str(result["metric"])
    table = ErrorTable(
        origin=str(folder),
        kind=TRAINING,
        target=str(record["target"]),
        samples=read_samples(folder, f"{command} --out {folder}"),
        metric=f"test {unit}",
        bounded=result["metric"] == RATE_METRIC,
        conditions={"metric": str(result["metric"]), "protocol": str(record["protocol"])},
        data=record["provenance"].get("target"),
        command=f"{command} --out {folder}",
    )
    return [table]


def _missing_errors_of_run(result: Record, folder: Path, command: str) -> str:
    reason = result.get("no_sample_errors")
    if reason:
        return f"The run in {folder} cannot be compared sample by sample. {reason}"
    return (
        f"There is no {SAMPLES_FILE} in {folder}, because an earlier version of modgap wrote it. Train the model again "
        f"in a new folder: {command} --out {folder}-2"
    )


def _read_distortion(record: Record, folder: Path) -> list[ErrorTable]:
    _check_kind(record, folder / "distortion.json", DISTORTION)
    surrogates = record["surrogates"]
    names = [str(surrogate["name"]) for surrogate in surrogates]
    command = f"modgap distortion --source {record['source']} --surrogate {' --surrogate '.join(names)} --out {folder}"
    return [
        ErrorTable(
            origin=str(folder),
            kind=DISTORTION,
            target=name,
            samples=read_samples(folder, command, numbered_sample_file(number, len(names))),
            metric=f"{record['request']['probes'][0]} probe error",
            bounded=True,
            data=surrogate["samples"],
            command=command,
        )
        for number, (name, surrogate) in enumerate(zip(names, surrogates, strict=True))
    ]


def _read_ranking(record: Record, folder: Path) -> list[ErrorTable]:
    _check_kind(record, folder / "ranking.json", RANKING)
    target = record["target"]
    name = str(target["name"] if isinstance(target, Mapping) else target)
    command = f"modgap rank --target {name} --sources A,B --by discrepancy --out {folder}"
    if record.get("schema") == RANKING_SCHEMA and not (folder / SAMPLES_FILE).exists():
        raise InputError(
            f"The ranking in {folder} is by {record['by']}, which is not an error by sample, so its sources cannot be "
            f"compared sample by sample. Rank by such an error: {command}"
        )
    samples = read_samples(folder, command)
    values = np.concatenate([errors.errors for errors in samples.errors.values()])
    bounded = bool(((values >= 0) & (values <= 1)).all())
    return [ErrorTable(str(folder), RANKING, name, samples, _ranking_metric(record), bounded)]


def _ranking_metric(record: Record) -> str:
    """Return the name of the errors of a ranking. A score of which higher values are better is minus its errors."""
    description = record["score_descriptions"][record["by"]]
    return f"minus {description['label']}" if description["higher_is_better"] else str(description["label"])


def _check_kind(record: Record, path: Path, kind: str) -> None:
    if record.get("kind") != kind:
        raise InputError(f"{path} is not the record of a {kind}. Pass a folder that modgap wrote with --out.")


def read_samples(folder: Path, command: str, name: str = SAMPLES_FILE) -> SampleFile:
    """Read the errors of the samples in a folder.

    Args:
        folder: The folder.
        command: Command that writes the folder, for the message.
        name: Name of the file.

    Raises:
        InputError: If there is no such file, or it is damaged.
    """
    path = folder / name
    if not path.exists():
        raise InputError(
            f"There is no {name} in {folder}, and the record alone has no errors of samples to compare. "
            f"Run again: {command}"
        )
    return read_sample_file(path)


READERS: Mapping[str, Callable[[Record, Path], list[ErrorTable]]] = {
    "ranking.json": _read_ranking,
    "result.json": _read_discrepancy,
    "distortion.json": _read_distortion,
    "run.json": _read_run,
}
"""Reader of each file of results."""
