"""Encoders whose features are compared: a source as it is, and what runs made of it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Literal

from modgap.errors import InputError, UsageError
from modgap.sources import Parts, SourceHandle
from modgap.storage.digests import file_digest
from modgap.transfer.run_folder import Run, check_source, epoch_file, open_run

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Encoder", "Epochs", "encoders_of_runs", "untouched"]

Epochs = Literal["chosen", "all"] | Sequence[int]
"""Which weights of a run: the chosen ones, those of all epochs that it kept, or those of these epochs."""


@dataclass(frozen=True)
class Encoder:
    """An encoder before it is loaded.

    Attributes:
        run: The run that trained it; None for the source as it is.
        epoch: Of stage 2; 0 for the source as it is, None for the run's chosen weights.
        variant: Settings that tell the run from others of the same method beside it, such as `stage1.lambda=1`.
    """

    run: Run | None = None
    epoch: int | None = 0
    variant: str = ""

    @property
    def method(self) -> str:
        """Of the run, with the settings that tell it from others' of that method; `untouched` without a run."""
        return "untouched" if self.run is None else f"{self.run.record['method']} {self.variant}".strip()

    @property
    def target(self) -> str | None:
        """What the run was trained on; of data of one's own the file's or folder's name."""
        return None if self.run is None else PurePath(self.run.record["target"]).name

    @property
    def seed(self) -> int | None:
        """Of the run."""
        return None if self.run is None else int(self.run.record["seed"])

    @property
    def after(self) -> int | None:
        """Epochs of stage 2 that made it: of chosen weights the epoch that was chosen."""
        if self.run is None or self.epoch is not None:
            return self.epoch
        return (self.run.record["result"] or {}).get("epoch")

    @property
    def label(self) -> str:
        """What tells it from the others."""
        if self.run is None:
            return "untouched"
        return f"{self.method} {self.target} epoch {self.after} seed {self.seed}"

    def fingerprint(self) -> dict[str, Any]:
        """What decides its weights, beside the source."""
        if self.run is None:
            return {"encoder": "untouched"}
        path = self.run.weights if self.epoch is None else epoch_file(self.run.folder, self.epoch)
        return {"encoder": file_digest(path)}

    def load(self, parts: Parts) -> "nn.Module":
        """The encoder in evaluation mode.

        Args:
            parts: Of the source.
        """
        from modgap.transfer.adapted_encoder import load_adapted_encoder

        return parts.encoder if self.run is None else load_adapted_encoder(self.run, parts, self.epoch)


def untouched() -> Encoder:
    """The source's encoder as it is."""
    return Encoder()


def encoders_of_runs(
    folders: Sequence[str], source: str, handle: SourceHandle, epochs: Epochs = "chosen"
) -> list[Encoder]:
    """What runs made of a source's encoder, in the order of the folders and of the epochs.

    Args:
        folders: Of runs; FOLDER@EPOCH for one epoch's weights.
        source: Name of the source.
        handle: The source; each run must have started from it.
        epochs: Of folders without @EPOCH.

    Raises:
        InputError: When a folder is no run, or an epoch was not kept.
        UsageError: When a run is of another source.
    """
    found: list[Encoder] = []
    fingerprint = handle.fingerprint()
    for text in folders:
        folder, epoch = _divided(text)
        run = open_run(folder)
        check_source(run, source, fingerprint)
        found += [Encoder(run, each) for each in _chosen_epochs(run, epochs if epoch is None else (epoch,))]
    variants = _variants([encoder.run for encoder in found if encoder.run])
    return [replace(encoder, variant=variant) for encoder, variant in zip(found, variants, strict=True)]


def _variants(runs: Sequence[Run]) -> list[str]:
    """The settings of each run that differ among the runs of its method on its target."""
    settings = [dict(_flat(run.record["recipe"])) for run in runs]
    kinds = [(run.record["method"], run.record["target"]) for run in runs]
    told = []
    for own, kind in zip(settings, kinds, strict=True):
        alike = [other for other, its in zip(settings, kinds, strict=True) if its == kind]
        differing = [name for name, value in own.items() if any(other[name] != value for other in alike)]
        told.append(" ".join(f"{name}={own[name]}" for name in differing))
    return told


def _flat(recipe: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in recipe.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


def _divided(text: str) -> tuple[str, int | None]:
    folder, at, epoch = text.rpartition("@")
    if not at or not epoch.isdigit():
        return text, None
    return folder, int(epoch)


def _chosen_epochs(run: Run, epochs: Epochs) -> list[int | None]:
    if epochs == "chosen":
        if not run.finished:
            raise InputError(f"the run in {run.folder} is not finished; go on with modgap train --resume")
        return [None]
    if epochs == "all":
        if not run.saved_epochs:
            raise InputError(f"the run in {run.folder} kept no epochs; train with --set 'stage2.keep_epochs=[1, 5]'")
        return list(run.saved_epochs)
    assert not isinstance(epochs, str)
    if absent := [epoch for epoch in epochs if epoch not in run.saved_epochs]:
        kept = ", ".join(map(str, run.saved_epochs)) or "none"
        raise UsageError(f"the run in {run.folder} kept epochs {kept}, not {absent[0]}")
    return list(epochs)
