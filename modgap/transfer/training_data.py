"""Target data as the trainer takes it: standardized inputs of one shape, y, masks, and who is in which split."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch.nn.functional import interpolate

from modgap.errors import InputError, UsageError
from modgap.inputs.representations import log_mel_spectrograms
from modgap.models import Output
from modgap.targets import SPLITS, Samples, Table, Target
from modgap.targets.manifest import InputSpec
from modgap.targets.splits import stratification_labels, stratified_subset
from modgap.transfer.task_loss import MicroBatch

__all__ = ["InputTransform", "TargetData", "read_target_data"]

STATISTICS_SAMPLES = 2000
MUCH_LARGER = 16
"""Times as many pixels as the source takes: images of so many are made small when they are read, not on the device."""

Protocol = Literal["validation", "orca"]


@dataclass(frozen=True)
class InputTransform:
    """How a sample becomes what a target embedder takes.

    Attributes:
        spec: The manifest's word on the input.
        shape: Of every input, (C, H, W) or (C, length).
        mean: Of each channel over (at most 2,000 of) the training samples, shape (C,).
        sd: The same.
    """

    spec: InputSpec
    shape: tuple[int, ...]
    mean: np.ndarray
    sd: np.ndarray

    def pieces(self, sample: Any) -> list[np.ndarray]:
        """A sample's standardized inputs; several of a clip or a video."""
        spread = (-1,) + (1,) * (len(self.shape) - 1)
        mean, sd = self.mean.reshape(spread), self.sd.reshape(spread)
        return [(fitted(piece, self.shape) - mean) / sd for piece in raw_pieces(sample, self.spec)]

    def to_dict(self) -> dict:
        """Plain values for the run's record."""
        return {"shape": list(self.shape), "mean": self.mean.tolist(), "sd": self.sd.tolist()}


def raw_pieces(sample: Any, spec: InputSpec) -> list[np.ndarray]:
    """The images (C, H, W) or series (C, length) that a sample consists of."""
    if spec.kind == "text":
        raise UsageError(
            "expected a target of images, series, sound or video to train on, got texts, which sources take as they are"
        )
    if spec.kind == "audio":
        if spec.rate is None:
            raise InputError("a log-mel spectrogram needs the values' rate in hertz; give input.rate in the manifest")
        return log_mel_spectrograms(sample, spec.rate, spec.log_mel)
    return list(sample) if spec.kind == "video" else [np.asarray(sample)]


def fitted(piece: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A piece of the wanted shape, float32; images are resized, series must have it.

    Raises:
        InputError: When channels, or the length of a series, differ.
    """
    piece = piece.astype(np.float32)
    if piece.shape == shape:
        return piece
    if len(shape) != 3 or piece.ndim != 3 or piece.shape[0] != shape[0]:
        raise InputError(
            f"expected samples of one shape to train on, got {shape} and {piece.shape}; "
            "crop or pad them by a step in a manifest"
        )
    return interpolate(torch.from_numpy(piece)[None], shape[1:], mode="bilinear", antialias=True)[0].numpy()


@dataclass(frozen=True)
class TargetData:
    """A target to train on.

    Attributes:
        target: Where it comes from.
        table: The samples.
        transform: How they enter.
        output: What is predicted.
        train: Rows to train on, (n,).
        validation: Rows that choose the epoch; under the protocol of ORCA those of the test.
        test: Rows for the result.
        protocol: `validation` or `orca`.
        y_standardization: Mean and sd of each channel of y over the training samples, both of shape (channels,), if y
            is standardized because nothing defines the unit of the loss. None if y is used as it is.
    """

    target: Target
    table: Table
    transform: InputTransform
    output: Output
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    protocol: Protocol
    y_standardization: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def scale(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Mean and sd that give values in the manifest's unit, in the output's shape."""
        if self.y_standardization is not None:
            mean, sd = (each.reshape(-1, *(1 for _ in self.output.shape[1:])) for each in self.y_standardization)
            return mean + np.zeros(self.output.shape, np.float32), sd + np.zeros(self.output.shape, np.float32)
        if self.table.target_scale is None:
            return None
        mean, sd = (np.asarray(each, np.float32) for each in self.table.target_scale)
        return self._shaped(mean), self._shaped(sd)

    @property
    def groups(self) -> np.ndarray | None:
        """Record, subject or field of each sample, (N,)."""
        return self.table.groups["groups"] if self.table.groups else None

    @property
    def has_several_pieces(self) -> bool:
        """Whether samples may consist of several pieces."""
        return self.transform.spec.kind in ("audio", "video")

    def unseen_rows(self) -> np.ndarray:
        """Rows that no part of the training saw, the choice of the epoch included, nor others of their groups."""
        rows, seen = np.arange(len(self.table)), np.union1d(self.train, self.validation)
        left = np.setdiff1d(rows, seen)
        if self.groups is None:
            return left
        # A limit leaves some of a seen record out; where the data itself names the test, it stays as it is.
        test = np.asarray(self.table.splits)[left] == SPLITS.index("test")
        return left[test | ~np.isin(self.groups[left], self.groups[seen])]

    def to_batch(self, pieces: Sequence[np.ndarray], device: torch.device, dtype: torch.dtype) -> torch.Tensor:
        """Inputs as a batch.

        Raises:
            InputError: When one is not finite.
        """
        batch = np.stack(pieces)
        if not np.isfinite(batch).all():
            raise InputError("expected finite samples, got NaN or infinite values; leave them out or fill them")
        return torch.from_numpy(batch).to(device=device, dtype=dtype)

    def ground_truth(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """y of these rows, and where it counts.

        Raises:
            InputError: When a value that counts is not finite.
        """
        if self.output.task != "regression":
            labels = self.table.class_labels[rows]
            return labels.astype(np.float32) if labels.ndim == 2 else labels.astype(np.int64), None
        assert self.table.targets is not None
        values, masks = self._stacked(self.table.targets, rows), self._masks(rows)
        bad = ~np.isfinite(values) if masks is None else ~np.isfinite(values) & (masks != 0)
        if bad.any():
            row = rows[np.flatnonzero(bad.reshape(len(rows), -1).any(axis=1))[0]]
            raise InputError(
                f"expected finite values y, got NaN or infinite ones in sample {row}; leave it out, or give masks"
            )
        if self.y_standardization is not None:
            mean, sd = self.scale or (0, 1)
            values = (values - mean) / sd
        return values, masks

    def micro_batch(self, inputs: torch.Tensor, rows: np.ndarray) -> MicroBatch:
        """A batch of inputs with its y."""
        y, mask = self.ground_truth(rows)
        kept = torch.from_numpy(y).to(inputs.device)
        if kept.is_floating_point():
            kept = kept.to(inputs.dtype)
        masked = None if mask is None else torch.from_numpy(mask).to(device=inputs.device, dtype=inputs.dtype)
        return MicroBatch(inputs, kept, masked)

    def _masks(self, rows: np.ndarray) -> np.ndarray | None:
        return None if self.table.masks is None else self._stacked(self.table.masks, rows)

    def _stacked(self, samples: Samples, rows: np.ndarray) -> np.ndarray:
        return np.stack([self._shaped(np.asarray(samples[int(row)], np.float32)) for row in rows])

    def _shaped(self, values: np.ndarray) -> np.ndarray:
        return np.broadcast_to(values, self.output.shape) if values.ndim == 0 else values.reshape(self.output.shape)


def read_target_data(
    target: Target, *, protocol: Protocol = "validation", limit: int | None = None, seed: int = 0,
    size: tuple[int, int] | None = None,
) -> TargetData:  # fmt: skip
    """Read a target to train on.

    Args:
        target: The target.
        protocol: `validation` holds a validation split back from training and leaves the test for the end;
            `orca` trains on both and chooses the epoch on the test, as ORCA's code does.
        limit: At most so many samples of each split, stratified.
        seed: Seed of that choice.
        size: Height and width to which images are resized that are not all of one size, or much larger than this;
            if None, those of the first.

    Raises:
        InputError: When a split is empty, or samples cannot enter.
    """
    table = target.read(classes=target.manifest.task != "regression")
    train, validation, test = (_split(table, name, limit, seed) for name in SPLITS)
    if protocol == "orca":
        train, validation = np.sort(np.concatenate([train, validation])), test
    for name, rows in (("training", train), ("validation", validation), ("test", test)):
        if len(rows) == 0:
            raise InputError(f"expected {name} samples in target {target.name}, got none; see splits in its manifest")
    inputs, output = _inputs(table, train, target.manifest.input, size), _output(table)
    found = TargetData(target, table, inputs, output, train, validation, test, protocol)
    if output.task != "regression" or target.manifest.loss is not None or table.target_scale is not None:
        return found
    return replace(found, y_standardization=_scale_of(found))


def _split(table: Table, name: str, limit: int | None, seed: int) -> np.ndarray:
    rows = np.flatnonzero(table.splits == SPLITS.index(name))
    if limit is None or limit >= len(rows):
        return rows
    named = np.zeros(len(rows), np.int64) if table.labels is None else stratification_labels(table.labels[rows])
    return rows[stratified_subset(named, limit, seed)]


def _inputs(
    table: Table, train: np.ndarray, spec: InputSpec, size: tuple[int, int] | None,
    shape: tuple[int, ...] | None = None,
) -> InputTransform:  # fmt: skip
    """One shape for all, and each channel's mean and sd over the training samples."""
    train = _some(train)
    count, sums, squares = 0, np.zeros(1), np.zeros(1)
    for row in train:
        for piece in raw_pieces(table.samples[int(row)], spec):
            if size and (smaller := _resized_shape(piece.shape, shape, size)):
                return _inputs(table, train, spec, None, smaller)
            shape = shape or piece.shape
            values = fitted(piece, shape).reshape(shape[0], -1).astype(np.float64)
            count, sums = count + values.shape[1], sums + values.sum(1)
            squares = squares + (values**2).sum(1)
    assert shape is not None
    mean = sums / count
    sd = np.sqrt(np.maximum(squares / count - mean**2, 0))
    if not np.isfinite(sd).all():
        raise InputError("expected finite training samples, got NaN or infinite values")
    # A constant channel stays at 0.
    return InputTransform(spec, tuple(shape), mean.astype(np.float32), np.where(sd > 0, sd, 1).astype(np.float32))


def _resized_shape(
    piece: tuple[int, ...], shape: tuple[int, ...] | None, size: tuple[int, int]
) -> tuple[int, ...] | None:
    """The shape that all images get where they differ, or would fill the memory at their own."""
    large = len(piece) == 3 and piece[1] * piece[2] > MUCH_LARGER * size[0] * size[1]
    differs = shape is not None and len(piece) == 3 and piece != shape
    return (piece[0], *size) if large or differs else None


def _output(table: Table) -> Output:
    if table.labels is not None:
        shape = (_number_of_classes(table),)
        return Output("multi-label", shape) if np.ndim(table.labels) == 2 else Output("classification", shape)
    assert table.targets is not None
    shape = np.shape(table.targets[0])
    space = np.shape(table.samples[0])[1:]
    # A field over the sample's own space (dense regression) has no axis of channels. Neither has a single number.
    return Output("regression", (1, *shape) if shape == space or not shape else shape)


def _number_of_classes(table: Table) -> int:
    """As many as have names, or as there are labels."""
    labels = table.class_labels
    if labels.ndim == 2:
        return labels.shape[1]
    largest, names = int(labels.max()) + 1, len(table.classes or ())
    if labels.min() < 0 or (names and largest > names):
        wanted = f"0 to {names - 1}, as {names} classes have names" if names else "0 upwards"
        raise InputError(f"expected labels {wanted}, got labels from {labels.min()} to {labels.max()}")
    return names or largest


def _scale_of(data: TargetData) -> tuple[np.ndarray, np.ndarray]:
    """Mean and sd of each channel of y over (at most 2,000 of) the training samples, where they count."""
    rows = _some(data.train)
    values, masks = data.ground_truth(rows)
    counts = np.ones_like(values) if masks is None else masks
    values, axes = np.where(counts != 0, values, 0).astype(np.float64), (0, *range(2, values.ndim))
    total = np.maximum(counts.sum(axis=axes, dtype=np.float64), 1)
    mean = values.sum(axis=axes) / total
    sd = np.sqrt(np.maximum((values**2).sum(axis=axes) / total - mean**2, 0))
    return mean.astype(np.float32), np.where(sd > 0, sd, 1).astype(np.float32)


def _some(rows: np.ndarray) -> np.ndarray:
    """At most 2,000 of them, evenly spaced."""
    if len(rows) <= STATISTICS_SAMPLES:
        return rows
    return rows[np.linspace(0, len(rows) - 1, STATISTICS_SAMPLES).astype(np.int64)]
