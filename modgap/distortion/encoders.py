"""Encoders that are compared, untouched or trained by a run, and their features of a surrogate, stored in the cache."""

import copy
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any, Literal

import numpy as np
import torch

from modgap.errors import InputError, Progress, UsageError
from modgap.forward.batched_inference import output_batches
from modgap.forward.pooled_layers import OUTPUT, PooledLayers, layer_names
from modgap.forward.sample_request import SampleRequest
from modgap.sources import Parts, Source, SourceHandle
from modgap.storage.algorithms import algorithm_versions
from modgap.storage.cache import CacheEntry, cache_key, cached
from modgap.storage.digests import file_digest
from modgap.training.checkpoint import load_tensors, part_of
from modgap.training.run_folder import Run, check_source, epoch_file, open_run
from modgap.training.surrogate import Surrogate

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

    def fingerprint(self) -> dict[str, object]:
        """Return everything that determines the weights, besides the source."""
        if self.run is None:
            return {"encoder": UNTOUCHED}
        return {"encoder": file_digest(self._weights(self.run))}

    def load(self, parts: Parts) -> torch.nn.Module:
        """Return the encoder in evaluation mode.

        Args:
            parts: Parts of the source, whose architecture the encoder has.

        Raises:
            InputError: When the weights are missing, or belong to another source or another input size.
        """
        if self.run is None:
            return parts.encoder
        run = self.run
        path = self._weights(run)
        if self.epoch is None and not run.has_chosen_weights:
            raise InputError(f"The run has no weights at {path} because it was not finished. Resume it first.")
        if not path.exists():
            raise InputError(
                f"The run has no weights at {path} because it did not keep epoch {self.epoch}. "
                "Its setting stage2.keep_epochs names the epochs that it kept."
            )
        encoder = copy.deepcopy(parts.encoder)
        try:
            encoder.load_state_dict(part_of(load_tensors(run.checked(path)), "encoder"))
        except RuntimeError as error:
            # The weights of many encoders depend on the input size.
            size = run.record["input_size"]
            advice = f"The run was trained with `input_size={size}`. Pass the same."
            if size is None:
                advice = "The run has the source's default input size. Leave out `input_size`."
            raise InputError(
                f"The encoder in {path} is not that of the run's source {run.record['source']} at this input size. "
                f"{advice}"
            ) from error
        return encoder.eval()

    def _weights(self, run: Run) -> Path:
        """Return the file of the encoder's weights among those of its run."""
        return run.weights if self.epoch is None else epoch_file(run.folder, self.epoch)


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
        folder, separator, epoch = text.rpartition("@")
        has_epoch = bool(separator) and epoch.isdecimal()
        run = open_run(folder if has_epoch else text)
        check_source(run, source, fingerprint)
        selected = _select_epochs(run, (int(epoch),) if has_epoch else epochs)
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


def _flatten(recipe: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in recipe.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _select_epochs(run: Run, epochs: Epochs) -> list[int | None]:
    if epochs == "chosen":
        if not run.finished:
            raise InputError(
                f"The run in {run.folder} is not finished. Repeat its command, modgap train, with `resume=True`."
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


# Features


@dataclass(frozen=True)
class FeatureRequest:
    """Layers whose features are computed, and how.

    Attributes:
        samples: Samples of a surrogate, input size and device. Its `representation` does not apply.
        layers: Names of modules of the encoder, wildcards allowed; `output` for its output.
        normalized: True if the features of each sample are divided by their Euclidean norm.
    """

    samples: SampleRequest = field(default_factory=SampleRequest)
    layers: tuple[str, ...] = (OUTPUT,)
    normalized: bool = False

    def __post_init__(self) -> None:
        """Raise if a field of the samples is set that does not apply."""
        self.samples.refuse_changes("representation", purpose="features of surrogates")


def compute_features(
    source: Source,
    fingerprint: Mapping[str, object],
    encoder: Encoder,
    surrogate: Surrogate,
    request: FeatureRequest | None = None,
    progress: Progress | None = None,
) -> dict[str, np.ndarray]:
    """Compute the features of each requested layer in one pass, or read them from the cache.

    The features of a sample are the mean over its tokens or positions; those of a labeled word are its first token's.

    Args:
        source: Source that the encoder comes from, with its embedder and preprocessing.
        fingerprint: Everything that determines the weights of the source.
        encoder: The encoder.
        surrogate: The labeled samples.
        request: Layers, precision and device; None for the output alone.
        progress: Called with `features` and the share of the work done since the last call.

    Returns:
        Features by layer, float32, shape (n, D).

    Raises:
        UsageError: When a layer is unknown.
        InputError: When the weights do not fit the source.
    """
    request = request or FeatureRequest()
    parts = source.split()
    names = layer_names(parts.encoder, request.layers)
    provenance = {
        "source": dict(fingerprint),
        **encoder.fingerprint(),
        "surrogate": surrogate.provenance,
        "layers": names,
        "input_size": request.samples.input_size,
        "dtype": request.samples.dtype,
        "algorithms": algorithm_versions("reading", "inference", "pooled layers"),
    }

    def run() -> tuple[np.ndarray, list[int]]:
        model = PooledLayers(parts, encoder.load(parts), names, source.convolutional).eval()
        samples = request.samples
        options: dict[str, Any] = {"device": samples.device, "batch_size": samples.batch_size, "dtype": samples.dtype}
        as_input: Any = surrogate
        pooled = replace(source, model=model, input=as_input)
        batches = []
        for batch in output_batches(pooled, surrogate.samples, np.arange(len(surrogate)), as_input, **options):
            batches.append(batch)
            if progress:
                progress("features", len(batch) / len(surrogate))
        return np.concatenate(batches), list(model.widths)

    rows, widths = cached(
        "features",
        cache_key(provenance),
        run,
        lambda result: CacheEntry({"features": result[0]}, {"widths": result[1], "provenance": provenance}),
        lambda entry: (entry.arrays["features"], entry.metadata["widths"]),
    )
    layers = np.split(rows, np.cumsum(widths)[:-1], axis=1)
    scale = _normalize if request.normalized else np.asarray
    return {name: scale(features) for name, features in zip(names, layers, strict=True)}


def _normalize(rows: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(norms > 0, norms, 1))
