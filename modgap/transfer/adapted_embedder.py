"""A run's stage-1 embedder before the source's pretrained encoder and head: the "after" of a discrepancy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from modgap.errors import InputError, UsageError
from modgap.inputs.native_embedding import Embedding
from modgap.models import Output, target_model
from modgap.sources import Source, SourceHandle
from modgap.storage.cache import cache_key
from modgap.storage.digests import file_digest
from modgap.targets import Table, Target
from modgap.transfer.checkpoint import load_tensors
from modgap.transfer.loop import STAGE1_FILE
from modgap.transfer.methods import get_method
from modgap.transfer.run_folder import Run, check_source, open_run
from modgap.transfer.training_data import InputTransform, TargetData, read_target_data

__all__ = ["RunEmbedder", "run_embedder"]


@dataclass(frozen=True)
class ValuesInput:
    """What a target embedder takes: standardized arrays of one shape."""

    inputs: InputTransform
    kind: Literal["image"] = "image"

    def batch(self, pieces: Sequence[Any], device: torch.device) -> Tensor:
        """Inputs (B, C, ...)."""
        return torch.from_numpy(np.stack(pieces)).to(device)

    def to_dict(self) -> dict:
        """Plain values for the result's record."""
        return self.inputs.to_dict()


class _Adapted(nn.Module):
    """Inputs through a target embedder, the pretrained encoder and the head, to logits."""

    def __init__(self, embedder: nn.Module, encoder: nn.Module, head: nn.Module):
        super().__init__()
        self.embedder, self.encoder, self.head = embedder, encoder, head

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(self.embedder(x)))


@dataclass(frozen=True)
class RunEmbedder:
    """The embedder of a run.

    Attributes:
        run: The run.
        data: Its target, as it was trained on.
    """

    run: Run
    data: TargetData

    @cached_property
    def fingerprint(self) -> dict:
        """Weights, inputs, and what decides which samples were seen."""
        names = ("method", "seed", "protocol", "limit", "input_size", "recipe", "inputs")
        return {name: self.run.record[name] for name in names} | {"weights": file_digest(self.run.folder / STAGE1_FILE)}

    def embedding(self, table: Table) -> Embedding:
        """Standardized values; those of the run's training samples."""
        return Embedding("values", options=(("inputs", self.data.transform),))

    def unseen_rows(self, table: Table) -> np.ndarray:
        """Rows that neither trained it nor chose its epoch."""
        return self.data.unseen_rows()

    def adapt(self, source: Source) -> Source:
        """The source with this embedder in place of its own.

        Raises:
            InputError: When the weights do not fit.
        """
        how, recipe = get_method(self.run.record["method"]), self.run.record["recipe"]
        length = recipe["target_sequence_length"] if source.input.kind == "text" else None
        if length is not None:
            length = min(length, getattr(source.input, "max_tokens", length))
        sample = np.zeros(self.data.transform.shape, np.float32)
        model = target_model(
            source, sample, Output("classification", (2,)), length=length, embedder_start=how.embedder_start
        )
        path = self.run.folder / STAGE1_FILE
        try:
            model.embedder.load_state_dict(load_tensors(path))
        except RuntimeError as error:
            raise InputError(f"the embedder in {path} does not fit source and target of its run") from error
        return replace(source, model=self._whole(model.embedder, source), input=ValuesInput(self.data.transform))

    def _whole(self, embedder: nn.Module, source: Source) -> nn.Module:
        parts = source.split()
        head = parts.head
        if (fitted := getattr(source.model, "fitted_head", None)) is not None:
            from modgap.sources.hf.parts import Pooled

            # The head of a bare encoder pools its features; a probe's layer goes on from there.
            if not isinstance(head, Pooled):
                raise UsageError("--head probe: together with a run's embedder is for bare encoders; leave it out")
            head = nn.Sequential(head, fitted)
        return _Adapted(embedder.float(), parts.encoder, head).eval()


def run_embedder(
    folder: str | Path, source: str, handle: SourceHandle, target: str, opened: Target, *, input_size: int | None = None
) -> RunEmbedder:
    """The embedder of a run, for the source and target that it was trained for.

    Args:
        folder: Of the run.
        source: Name of the source asked for.
        handle: That source.
        target: Name of the target asked for.
        opened: That target, as it was trained on.
        input_size: The source's input size asked for.

    Raises:
        UsageError: When the run is of another source or target, or its method trains no embedder beforehand.
        InputError: When the folder is no run, or was stopped in its first stage.
    """
    run = open_run(folder)
    check_source(run, source, handle.fingerprint())
    _same_target(run, target, opened)
    if run.record["input_size"] != input_size:
        size = run.record["input_size"]
        repeat = "no --input-size; leave it out" if size is None else f"--input-size {size}; repeat it"
        raise UsageError(f"the run in {folder} has {repeat}")
    how = get_method(run.record["method"])
    if not how.has_embedder_stage:
        raise UsageError(
            f"method {how.name} trains no embedder before the encoder, so there is none to measure with; "
            "runs of emb, orca and mona have one"
        )
    if not (run.folder / STAGE1_FILE).exists():
        raise InputError(
            f"the run in {folder} has no stage-1 embedder: it had no epochs of stage 1 or was stopped in it"
        )
    record = run.record
    shape = record["inputs"]["shape"]
    size = (shape[1], shape[2]) if len(shape) == 3 else None
    data = read_target_data(opened, protocol=record["protocol"], limit=record["limit"], seed=record["seed"], size=size)
    if len(data.unseen_rows()) == 0:
        raise InputError(f"the run in {folder} left no sample unseen{_seen_by(record)}")
    return RunEmbedder(run, data)


def _seen_by(record: Mapping[str, Any]) -> str:
    if record["protocol"] != "orca":
        return ""
    return ": under --protocol orca the test chose its epoch; train one with --protocol validation"


def _same_target(run: Run, name: str, opened: Target) -> None:
    """Refuse other data, of which nobody knows what the run saw."""
    trained, given = run.record["provenance"]["target"], opened.fingerprint
    if trained == {"manifest": cache_key(given["manifest"]), "files": given["files"]}:
        return
    if run.record["target"] != name:
        raise UsageError(f"the run in {run.folder} is of --target {run.record['target']}, not {name}")
    raise UsageError(
        f"the run in {run.folder} was trained on {name} as it was then; its data, its manifest or the options that "
        "say how to read it have changed since"
    )
