"""Encoders whose features are compared: the untouched encoder of a source, and those that runs trained."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Literal

from modgap.errors import InputError, UsageError
from modgap.sources import Parts, SourceHandle
from modgap.storage.digests import file_digest
from modgap.transfer.run_folder import Run, check_source, epoch_file, open_run

if TYPE_CHECKING:
    from torch import nn

__all__ = ["UNTOUCHED", "Encoder", "Epochs", "encoders_of_runs"]

log = logging.getLogger("modgap")

Epochs = Literal["chosen", "all"] | Sequence[int]
"""Weights of a run to use: the chosen ones, those of all epochs that the run kept, or those of these epochs."""
REQUESTED = ("target", "limit", "protocol", "input_size")
"""Keys of a run's record outside of its recipe in which runs with the same method may differ, besides their seeds."""
UNTOUCHED = "untouched"
"""Name of an encoder before any fine-tuning."""


@dataclass(frozen=True)
class Encoder:
    """An encoder before it is loaded.

    Attributes:
        run: Run that trained the encoder; None for the untouched encoder of the source.
        epoch: Epoch of stage 2 after which the weights were saved; 0 for the untouched encoder, None for the weights
            that the run chose.
        variant: Settings that distinguish the run from others with the same method and target, such as
            `stage1.lambda=1`.
        number: Number among the encoders that are equal in all of this and in the seed, from 1.
    """

    run: Run | None = None
    epoch: int | None = 0
    variant: str = ""
    number: int = 1

    @property
    def method(self) -> str:
        """Method of the run, with the settings that distinguish it; `untouched` without a run."""
        return UNTOUCHED if self.run is None else f"{self.run.record['method']} {self.variant}".strip()

    @property
    def target(self) -> str | None:
        """Target that the run was trained on; for custom data, the name of the file or folder."""
        return None if self.run is None else PurePath(self.run.record["target"]).name

    @property
    def seed(self) -> int | None:
        """Seed of the run."""
        return None if self.run is None else int(self.run.record["seed"])

    @property
    def trained_epochs(self) -> int | None:
        """Number of epochs of stage 2 after which the weights were saved; for chosen weights, the chosen epoch."""
        if self.run is None or self.epoch is not None:
            return self.epoch
        return (self.run.record["result"] or {}).get("epoch")

    @property
    def label(self) -> str:
        """Label that distinguishes the encoder from the others."""
        number = f" ({self.number})" if self.number > 1 else ""
        if self.run is None:
            return f"{UNTOUCHED}{number}"
        return f"{self.method} {self.target} epoch {self.trained_epochs} seed {self.seed}{number}"

    def fingerprint(self) -> dict[str, Any]:
        """Return everything that determines the weights, besides the source."""
        if self.run is None:
            return {"encoder": UNTOUCHED}
        path = self.run.weights if self.epoch is None else epoch_file(self.run.folder, self.epoch)
        return {"encoder": file_digest(path)}

    def load(self, parts: Parts) -> "nn.Module":
        """Return the encoder in evaluation mode.

        Args:
            parts: Parts of the source, whose architecture the encoder has.
        """
        from modgap.transfer.adapted_encoder import load_adapted_encoder

        return parts.encoder if self.run is None else load_adapted_encoder(self.run, parts, self.epoch)


def encoders_of_runs(
    folders: Sequence[str], source: str, handle: SourceHandle, epochs: Epochs = "chosen"
) -> list[Encoder]:
    """Return the encoders that runs trained from a source, in the order of the folders and of the epochs.

    Args:
        folders: Folders of runs; FOLDER@EPOCH for the weights of one epoch. The same weights are used once.
        source: Name of the source.
        handle: The source. Each run must have started from it.
        epochs: Weights to use of folders without @EPOCH.

    Raises:
        InputError: When a folder has no run, or the run did not keep an epoch.
        UsageError: When a run started from another source.
    """
    encoders: dict[tuple[Path, int | None], Encoder] = {}
    fingerprint = handle.fingerprint()
    for text in folders:
        folder, epoch = _split_epoch(text)
        run = open_run(folder)
        check_source(run, source, fingerprint)
        selected = _select_epochs(run, epochs if epoch is None else (epoch,))
        for encoder in (Encoder(run, number) for number in selected):
            weights = run.folder.resolve(), encoder.trained_epochs
            if weights in encoders:
                log.warning("The run in %s was given twice with the same epoch. It counts once.", run.folder)
            encoders.setdefault(weights, encoder)
    variants = _describe_variants([encoder.run for encoder in encoders.values() if encoder.run])
    described = [replace(encoder, variant=text) for encoder, text in zip(encoders.values(), variants, strict=True)]
    labels = [encoder.label for encoder in described]
    return [
        replace(encoder, number=labels[: position + 1].count(encoder.label))
        for position, encoder in enumerate(described)
    ]


def _describe_variants(runs: Sequence[Run]) -> list[str]:
    """Return the settings of each run that differ among the runs with its method and target."""
    settings = [{name: run.record[name] for name in REQUESTED} | dict(_flatten(run.record["recipe"])) for run in runs]
    kinds = [(run.record["method"], PurePath(run.record["target"]).name) for run in runs]
    variants = []
    for run_settings, run_kind in zip(settings, kinds, strict=True):
        peers = [other for other, kind in zip(settings, kinds, strict=True) if kind == run_kind]
        differing = [name for name, value in run_settings.items() if any(peer.get(name) != value for peer in peers)]
        variants.append(" ".join(f"{name}={run_settings[name]}" for name in differing))
    return variants


def _flatten(recipe: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in recipe.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _split_epoch(text: str) -> tuple[str, int | None]:
    folder, separator, epoch = text.rpartition("@")
    if not separator or not epoch.isdecimal():
        return text, None
    return folder, int(epoch)


def _select_epochs(run: Run, epochs: Epochs) -> list[int | None]:
    if epochs == "chosen":
        if not run.finished:
            raise InputError(
                f"The run in {run.folder} is not finished. Finish it: modgap train --resume --out {run.folder}"
            )
        return [None]
    if epochs == "all":
        if not run.saved_epochs:
            raise InputError(
                f"The run in {run.folder} kept no epochs. "
                'Train with `settings={"stage2.keep_epochs": [1, 5]}` to keep some.'
            )
        return list(run.saved_epochs)
    if missing := [epoch for epoch in epochs if epoch not in run.saved_epochs]:
        saved_epochs = ", ".join(map(str, run.saved_epochs)) or "none"
        raise UsageError(f"The run in {run.folder} did not keep epoch {missing[0]}. It kept epochs: {saved_epochs}.")
    return list(epochs)
