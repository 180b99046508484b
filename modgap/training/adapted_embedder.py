"""Measure the discrepancy after a run: its embedder before the source's pretrained encoder and head."""

import logging
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from modgap.errors import InputError, UsageError
from modgap.inputs.native_embedding import Embedding
from modgap.sources import Source, SourceHandle
from modgap.storage.cache import cache_key
from modgap.storage.digests import file_digest
from modgap.targets import Table, Target
from modgap.targets.output import Output
from modgap.training.checkpoint import load_tensors, part_of
from modgap.training.methods import get_method
from modgap.training.native_inputs import NATIVE
from modgap.training.run_folder import STAGE1_FILE, Run, check_source, open_run
from modgap.training.trained_model import model_of_run, run_transform
from modgap.training.training_data import InputTransform, TargetData, read_target_data

log = logging.getLogger("modgap")


@dataclass(frozen=True)
class _RunInputs(Embedding):
    """The rule by which samples become the input of a run's embedder."""

    transform: InputTransform = field(kw_only=True)

    def pieces(self, sample: Any) -> list[Any]:
        """Return the standardized inputs of a sample."""
        return list(self.transform.pieces(sample))


@dataclass(frozen=True)
class RunEmbedder:
    """The embedder of a run after stage 1 or, if its method has no stage 1, after the training.

    Attributes:
        run: The run.
        data: The run's target, with the samples and splits that it was trained on.
    """

    run: Run
    data: TargetData

    @cached_property
    def fingerprint(self) -> dict[str, Any]:
        """The embedder's weights and inputs, and the settings that decide which samples the run has seen."""
        names = ("method", "seed", "protocol", "limit", "input_size", "recipe", "inputs")
        record = {name: self.run.record[name] for name in names}
        return record | {"weights": file_digest(_embedder_file(self.run))}

    def embedding(self, table: Table) -> Embedding:  # noqa: ARG002
        """Return the embedding of samples as values, standardized as the run's training samples."""
        return _RunInputs("values", transform=self.data.transform)

    def unseen_rows(self, table: Table) -> np.ndarray:  # noqa: ARG002
        """Return the rows that neither trained the embedder nor chose its epoch."""
        return self.data.unseen_rows()

    def adapt(self, source: Source) -> Source:
        """Return the source with this embedder in place of the source's own.

        Raises:
            InputError: When the weights do not match.
        """
        parts = source.split()
        embedder = model_of_run(self.run, source, self.data.transform, Output("classification", (2,))).embedder
        path = self.run.checked(_embedder_file(self.run))
        try:
            weights = load_tensors(path)
            embedder.load_state_dict(weights if path.name == STAGE1_FILE else part_of(weights, "embedder"))
        except RuntimeError as error:
            raise InputError(
                f"The embedder in {path} does not match the source and target of its run. Train the model again."
            ) from error
        head = parts.head
        if (fitted_head := getattr(source.model, "fitted_head", None)) is not None:
            from modgap.sources.splitting import Pooled

            # The head of a bare encoder pools the features; the probe's layer follows.
            if not isinstance(head, Pooled):
                raise UsageError(
                    "`head='probe:'` with a run's embedder works only for sources without a head of their own. "
                    "Leave out `head`."
                )
            head = nn.Sequential(head, fitted_head)
        model = nn.Sequential(embedder.float(), parts.encoder, head).eval()
        return replace(source, model=model, input=self.data.transform)


def run_embedder(
    folder: str | Path, source: str, handle: SourceHandle, target: str, data: Target, *, input_size: int | None = None
) -> RunEmbedder:
    """Return the embedder of a run, for the source and target that it was trained for.

    Args:
        folder: Folder of the run.
        source: Name of the requested source.
        handle: The requested source.
        target: Name of the requested target.
        data: The requested target.
        input_size: Requested input size of the source in pixels; None for the source's default.

    Raises:
        UsageError: When the run is of another source or target.
        InputError: When the folder has no run, or the run was stopped in stage 1.
    """
    run = open_run(folder)
    check_source(run, source, handle.fingerprint())
    _check_target(run, target, data)
    record = run.record
    if record["input_size"] is None and input_size is not None:
        raise UsageError(f"The run in {run.folder} has the source's default input size. Leave out `input_size`.")
    if record["input_size"] != input_size:
        raise UsageError(f"The run in {run.folder} has another input size. Pass `input_size={record['input_size']}`.")
    _check_embedder(run)
    shape = record["inputs"]["shape"]
    size = (shape[1], shape[2]) if len(shape) == 3 else None
    is_native = record["inputs"].get(NATIVE) is not None
    samples = read_target_data(
        data,
        protocol=record["protocol"],
        limit=record["limit"],
        seed=record["seed"],
        size=size,
        standardized=not is_native,
    )
    if is_native:
        opened = handle.load(input_size, head=False)
        samples = replace(samples, transform=run_transform(run, samples.transform, opened))
    if len(samples.unseen_rows()) == 0:
        hint = ""
        if record["protocol"] == "orca":
            hint = ' With `protocol="orca"` the test split chose the epoch. Train a model with `protocol="validation"`.'
        raise InputError(f"The run in {run.folder} has seen every sample, so there is none to measure with.{hint}")
    return RunEmbedder(run, samples)


def _check_embedder(run: Run) -> None:
    """Raise an error if the run has no embedder yet; say so if it was trained together with the encoder.

    Raises:
        InputError: When the run was stopped in stage 1 or, without one, before its end.
    """
    if (run.folder / STAGE1_FILE).exists():
        return
    stage = run.record["recipe"].get("stage1")
    epochs = stage.get("epochs") if isinstance(stage, dict) else None
    has_stage = get_method(run.record["method"]).has_embedder_stage and epochs != 0
    if has_stage or not run.has_chosen_weights:
        raise InputError(
            f"The run in {run.folder} has no {'stage-1 ' if has_stage else ''}embedder, because it was stopped before. "
            "Continue it with modgap train --resume."
        )
    log.info(
        "The run of %s has no stage 1, so its embedder was trained together with the encoder. It is measured with the "
        "source's own encoder.",
        run.record["method"],
    )


def _embedder_file(run: Run) -> Path:
    """Return the file with the weights of the embedder: after stage 1 or, for a run without it, after the training."""
    path = run.folder / STAGE1_FILE
    return path if path.exists() else run.weights


def _check_target(run: Run, name: str, data: Target) -> None:
    """Raise an error if the data is not that of the run, because it is unknown which samples the run has seen.

    Args:
        run: The run.
        name: Name of the requested target.
        data: The requested target.
    """
    trained = run.record["provenance"]["target"]
    fingerprint = data.fingerprint
    if trained == {"manifest": cache_key(fingerprint["manifest"]), "files": fingerprint["files"]}:
        return
    if run.record["target"] != name:
        raise UsageError(f"The run in {run.folder} is of another target. Pass `target={run.record['target']!r}`.")
    raise UsageError(
        f"The data of {name}, its manifest, or the options that describe it have changed since the run in {run.folder} "
        "was trained. Restore them, or train the model again."
    )
