"""Target data for training: standardized inputs of one shape, y, masks and splits."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch.nn.functional import interpolate

from modgap.errors import InputError, UsageError
from modgap.inputs.representations import chunk_spans, log_mel_spectrograms, stretch
from modgap.targets import SPLITS, Manifest, Samples, Table, Target
from modgap.targets.manifest import InputSpec
from modgap.targets.output import Output
from modgap.targets.samples import PartialSamples, computing_type, have_one_shape
from modgap.targets.splits import VAL, fill_split, stratification_labels, stratified_subset
from modgap.training.metrics import SCALED_METRICS
from modgap.training.task_loss import MicroBatch

TABLE_STEP = "standardize"
"""The step that standardizes the columns of a table one by one."""


@dataclass(frozen=True)
class InputTransform:
    """Transform of a sample to inputs of a target embedder; where this takes a source's place, also its input.

    Attributes:
        spec: Description of the input in the manifest.
        shape: Shape of every input, (C, H, W) or (C, length).
        mean: Mean of each channel over at most 2,000 training samples, float64, shape (C,).
        sd: Standard deviation of each channel over the same samples, float64, shape (C,).
        stretched: True if the series of the target differ in length, so that each is stretched to the shape's.
    """

    spec: InputSpec
    shape: tuple[int, ...]
    mean: np.ndarray
    sd: np.ndarray
    stretched: bool = False

    kind: ClassVar[Literal["image"]] = "image"
    """Kind of input as which pieces are batched."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of every piece; empty for tokens."""
        return self.shape

    def batch(self, pieces: Sequence[np.ndarray], device: torch.device) -> torch.Tensor:
        """Return inputs as a batch (B, C, ...) on a device."""
        return stack_pieces(pieces, device, torch.float32)

    def pieces(self, sample: Any) -> list[np.ndarray]:
        """Return the standardized inputs of a sample. A sound clip or a video has several."""
        return [self._standardize(piece) for piece in raw_pieces(sample, self.spec)]

    def _standardize(self, piece: np.ndarray) -> np.ndarray:
        values = fit_to_shape(piece, self.shape, stretched=self.stretched)
        channels_first = (-1,) + (1,) * (len(self.shape) - 1)
        mean = self.mean.reshape(channels_first).astype(values.dtype)
        sd = self.sd.reshape(channels_first).astype(values.dtype)
        return np.asarray(((values - mean) / sd).astype(np.float32, copy=False))

    def random_piece(self, samples: Samples, row: int, random: np.random.Generator) -> np.ndarray:
        """Return one of the standardized inputs of a sample, drawn at random.

        Of a sound whose samples can be read in parts, only the chosen part is decoded.

        Args:
            samples: Samples of the target.
            row: Index of the sample.
            random: Generator of the choice.
        """
        spans = self._chunk_spans(samples, row)
        if len(spans) < 2:
            pieces = self.pieces(samples[row])
            return pieces[int(random.integers(len(pieces)))]
        assert isinstance(samples, PartialSamples)
        start, stop = spans[int(random.integers(len(spans)))]
        return self.pieces(samples.part(row, start, stop))[0]

    def _chunk_spans(self, samples: Samples, row: int) -> list[tuple[int, int]]:
        """Return start and stop of each chunk of a sound; none if the sound has to be decoded to know them."""
        if self.spec.kind != "audio" or self.spec.rate is None or not isinstance(samples, PartialSamples):
            return []
        length = samples.length(row)
        return [] if length is None else chunk_spans(length, self.spec.rate, self.spec.log_mel)

    def to_dict(self) -> dict[str, object]:
        """Return plain values for the record of a run."""
        record = {"shape": list(self.shape), "mean": self.mean.tolist(), "sd": self.sd.tolist()}
        return record | ({"stretched": True} if self.stretched else {})


def check_finite(values: np.ndarray, row: int | None) -> None:
    """Raise if a sample has values that are not finite.

    Args:
        values: Values of the sample.
        row: Its number; None if it is not known.

    Raises:
        InputError: When it has some.
    """
    if not np.isfinite(values).all():
        name = "A sample" if row is None else f"Sample {row}"
        raise InputError(f"{name} has NaN or infinite values. Remove the sample, or fill the values.")


def stack_pieces(
    pieces: Sequence[np.ndarray], device: torch.device, dtype: torch.dtype, rows: Sequence[int] | None = None
) -> torch.Tensor:
    """Return inputs as a batch on a device.

    Args:
        pieces: Inputs of one shape, or tokens (features, T) of texts, which get zeros up to the longest.
        device: Device of the batch.
        dtype: Precision of the batch; tokens stay whole numbers.
        rows: Index of the sample that each input belongs to, for messages; None if it is not known.

    Raises:
        InputError: When an input is not finite.
    """
    if pieces[0].dtype == np.int64:
        longest = max(piece.shape[1] for piece in pieces)
        padded = [np.pad(piece, ((0, 0), (0, longest - piece.shape[1]))) for piece in pieces]
        return torch.from_numpy(np.stack(padded)).to(device)
    batch = np.stack(pieces)
    if not np.isfinite(batch).all():
        first = int(np.flatnonzero(~np.isfinite(batch).reshape(len(batch), -1).all(axis=1))[0])
        check_finite(batch[first], None if rows is None else int(rows[first]))
    return torch.from_numpy(batch).to(device=device, dtype=dtype)


def raw_pieces(sample: Any, spec: InputSpec) -> list[np.ndarray]:
    """Return the images (C, H, W) or series (C, length) that a sample consists of."""
    if spec.kind == "text":
        raise UsageError("Texts have no standardized inputs. Choose a target of images, series, sound or video.")
    if spec.kind == "audio":
        if spec.rate is None:
            raise InputError("A log-mel spectrogram needs the sampling rate in hertz. Set input.rate in the manifest.")
        return log_mel_spectrograms(sample, spec.rate, spec.log_mel)
    return list(sample) if spec.kind == "video" else [np.asarray(sample)]


def fit_to_shape(piece: np.ndarray, shape: tuple[int, ...], *, stretched: bool = False) -> np.ndarray:
    """Return a piece with the given shape, of the type to compute in.

    Images are resized, as float32, and series of another length stretched.

    Args:
        piece: Image (C, H, W) or series (C, length).
        shape: Shape to return.
        stretched: True to stretch a series of another length as for a source of sound, False to refuse it.

    Raises:
        InputError: When the number of channels, or the length of a series that is not stretched, is another.
    """
    if piece.shape == shape:
        return piece.astype(computing_type(piece.dtype), copy=False)
    if stretched and piece.ndim == len(shape) == 2 and len(piece) == shape[0] and piece.shape[1] > 1:
        return np.stack([stretch(channel, shape[1]) for channel in piece])
    if len(shape) != 3 or piece.ndim != 3 or piece.shape[0] != shape[0]:
        raise InputError(
            f"A sample has shape {piece.shape}, and others have {shape}. Crop or pad them to one shape, by a step of a "
            "manifest or before."
        )
    image = torch.from_numpy(piece.astype(np.float32))[None]
    return interpolate(image, shape[1:], mode="bilinear", antialias=True)[0].numpy()


STATISTICS_SAMPLES = 2000
"""Largest number of training samples from which means and standard deviations are computed."""
MOST_PIXELS_RATIO = 16
"""Images with more pixels than this multiple of the source's input are resized when read, not on the device."""

Protocol = Literal["validation", "orca", "labeled"]


@dataclass(frozen=True)
class TargetData:
    """Data of a target to train on.

    Attributes:
        target: Opened target.
        table: Samples of the target.
        transform: Transform of samples to inputs.
        output: Output to predict.
        train: Indices of the training samples, (n,).
        validation: Indices of the samples that select the epoch; with the protocol `orca` the test samples, and none
            with `labeled`.
        test: Indices of the samples for the result.
        protocol: `validation`, `orca` or `labeled`.
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
        """Mean and standard deviation that convert outputs to the unit of the manifest, in the output's shape."""
        if self.y_standardization is not None:
            mean, sd = (value.reshape(-1, *(1 for _ in self.output.shape[1:])) for value in self.y_standardization)
            return mean + np.zeros(self.output.shape), sd + np.zeros(self.output.shape)
        if self.table.target_scale is None:
            return None
        mean, sd = (np.asarray(value, np.float64) for value in self.table.target_scale)
        return self._to_output_shape(mean), self._to_output_shape(sd)

    @property
    def groups(self) -> np.ndarray | None:
        """Record, subject or field of each sample, (N,). None if samples are independent."""
        return self.table.groups["groups"] if self.table.groups else None

    def unseen_rows(self) -> np.ndarray:
        """Return the indices of samples that neither training nor the selection of the epoch used, nor their groups."""
        seen = np.union1d(self.train, self.validation)
        unseen = np.setdiff1d(np.arange(len(self.table)), seen)
        if self.groups is None:
            return unseen
        # A limit leaves out some samples of a record that was used. The test split of the data stays as it is.
        is_test = np.asarray(self.table.splits)[unseen] == SPLITS.index("test")
        return np.asarray(unseen[is_test | ~np.isin(self.groups[unseen], self.groups[seen])])

    def ground_truth(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Return y of the selected samples, and the mask of its valid values, None if all are valid.

        Raises:
            InputError: When a valid value is not finite.
        """
        if self.output.task != "regression":
            labels = self.table.class_labels[rows]
            return labels.astype(np.float32) if labels.ndim == 2 else labels.astype(np.int64), None
        values, masks = self.real_values(rows)
        if self.y_standardization is not None:
            mean, sd = self.scale or (0, 1)
            values = (values - mean) / sd
        return values.astype(np.float32), masks

    def real_values(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the y of a regression target as the table has it, in double precision, and the mask of valid values.

        Raises:
            InputError: When a valid value is not finite.
        """
        assert self.table.targets is not None
        values = self._stack(self.table.targets, rows, np.float64)
        masks = None if self.table.masks is None else self._stack(self.table.masks, rows, np.float32)
        bad = ~np.isfinite(values) if masks is None else ~np.isfinite(values) & (masks != 0)
        if bad.any():
            row = rows[np.flatnonzero(bad.reshape(len(rows), -1).any(axis=1))[0]]
            raise InputError(f"The y of sample {row} has NaN or infinite values. Remove the sample, or provide masks.")
        return values, masks

    def micro_batch(self, inputs: torch.Tensor, rows: np.ndarray, dtype: torch.dtype | None = None) -> MicroBatch:
        """Return inputs with the y and the mask of the selected samples, on the device of the inputs.

        Args:
            inputs: Inputs of the samples.
            rows: Numbers of the samples.
            dtype: Precision of real y and of masks; None for that of the inputs.
        """
        y_array, mask_array = self.ground_truth(rows)
        y = torch.from_numpy(y_array).to(inputs.device)
        if y.is_floating_point():
            y = y.to(dtype or inputs.dtype)
        mask = None
        if mask_array is not None:
            mask = torch.from_numpy(mask_array).to(device=inputs.device, dtype=dtype or inputs.dtype)
        return MicroBatch(inputs, y, mask)

    def _stack(self, samples: Samples, rows: np.ndarray, dtype: type[np.floating]) -> np.ndarray:
        return np.stack([self._to_output_shape(np.asarray(samples[int(row)], dtype)) for row in rows])

    def _to_output_shape(self, values: np.ndarray) -> np.ndarray:
        return np.full(self.output.shape, values) if values.ndim == 0 else values.reshape(self.output.shape)


def read_target_data(
    target: Target,
    *,
    protocol: Protocol = "validation",
    limit: int | None = None,
    seed: int = 0,
    size: tuple[int, int] | None = None,
    standardized: bool = True,
) -> TargetData:
    """Read a target to train on.

    Args:
        target: Target to read.
        protocol: `validation` holds a validation split back from training and uses the test split for the result
            only; `orca` trains on both and selects the epoch on the test split, as ORCA's code does; `labeled` trains
            on both too, and selects nothing, so that there are no validation samples.
        limit: Largest number of samples of each split, drawn stratified. None for all.
        seed: Seed of that draw.
        size: Height and width to which images are resized if they differ in size, or are much larger than this. None
            for the size of the first image.
        standardized: False for models that read samples as they are, as all do with texts. The transform then has the
            shape of a sample, or of a frame of a video, and the means and standard deviations 0 and 1.

    Raises:
        InputError: When a split is empty, the training samples are all of one class, or samples cannot be turned into
            inputs.
    """
    table = target.read(classes=target.manifest.task != "regression")
    if target.manifest.splits.validation:
        # At least one sample or group validates, where a fraction of few was none.
        labels = np.zeros(len(table), np.int64) if table.labels is None else stratification_labels(table.labels)
        groups = table.groups["groups"] if table.groups else None
        assert table.splits is not None
        splits = fill_split(table.splits, VAL, labels, groups, target.manifest.splits.seed)
        table = replace(table, splits=splits)
    train, validation, test = (_split(table, name, limit, seed) for name in SPLITS)
    if protocol != "validation":
        train = np.sort(np.concatenate([train, validation]))
        validation = test if protocol == "orca" else test[:0]
    for name, rows in (("training", train), ("validation", validation), ("test", test)):
        if len(rows) == 0 and (name, protocol) != ("validation", "labeled"):
            if table.labels is not None and table.labels.ndim == 1:
                n_classes = len(np.unique(table.labels))
                if 2 * n_classes > len(table):
                    raise InputError(
                        f"The {len(table):,} samples of {target.name} have {n_classes:,} different labels, so there "
                        f"are no {name} samples. Name another column of labels. If the labels are real values, pass "
                        '`custom_data={"task": "regression"}`.'
                    )
            raise InputError(
                f"The target {target.name} has no {name} samples. If its data has splits, mark samples of each kind in "
                "them, or remove all, and they are drawn. Otherwise check the fractions in its manifest."
            )
    output = table_output(table, target.manifest)
    if output.task == "classification":
        _check_classes(table, train, target.name)
    spec = target.manifest.input
    if standardized and spec.kind != "text":
        transform = _fit_transform(table, train, spec, size, _common_length(table, train, spec))
    else:
        shape = sample_shape(table, train, spec)
        stretched = _common_length(table, train, spec) is not None
        transform = InputTransform(spec, shape, np.zeros(shape[:1]), np.ones(shape[:1]), stretched)
    data = TargetData(target, table, transform, output, train, validation, test, protocol)
    if output.task != "regression" or target.manifest.loss is not None or table.target_scale is not None:
        return data
    if target.manifest.metric is not None and target.manifest.metric.name not in SCALED_METRICS:
        return data
    return replace(data, y_standardization=_fit_y_standardization(data))


def _split(table: Table, name: str, limit: int | None, seed: int) -> np.ndarray:
    rows = np.flatnonzero(table.splits == SPLITS.index(name))
    if limit is None or limit >= len(rows):
        return rows
    strata = np.zeros(len(rows), np.int64) if table.labels is None else stratification_labels(table.labels[rows])
    return np.asarray(rows[stratified_subset(strata, limit, seed)])


def _fit_transform(
    table: Table,
    train: np.ndarray,
    spec: InputSpec,
    size: tuple[int, int] | None,
    length: int | None,
    shape: tuple[int, ...] | None = None,
) -> InputTransform:
    """Return the transform to one shape, with the mean and sd of each channel over the training samples.

    Series are stretched to the common length if they differ.
    """
    train = _spaced_subset(train)
    count = 0
    offset: np.ndarray | None = None
    sums = np.zeros(1)
    squares = np.zeros(1)
    for row in train:
        for piece in raw_pieces(table.samples[int(row)], spec):
            check_finite(piece, int(row))
            if size and piece.ndim == 3:
                is_large = piece.shape[1] * piece.shape[2] > MOST_PIXELS_RATIO * size[0] * size[1]
                if is_large or piece.shape != (shape or piece.shape):
                    # Images that differ in size or are too large get a common shape.
                    return _fit_transform(table, train, spec, None, None, (piece.shape[0], *size))
            shape = shape or (piece.shape if length is None else (len(piece), length))
            values = fit_to_shape(piece, shape, stretched=length is not None).reshape(shape[0], -1).astype(np.float64)
            # Sums of squares would cancel if the values were far from 0.
            offset = values.mean(1, keepdims=True) if offset is None else offset
            values = values - offset
            count += values.shape[1]
            sums = sums + values.sum(1)
            squares = squares + (values**2).sum(1)
    assert shape is not None
    assert offset is not None
    mean = sums / count
    sd = np.sqrt(np.maximum(squares / count - mean**2, 0))
    if not np.isfinite(sd).all():
        raise InputError("The values of the training samples are so large that they have no variance. Scale them.")
    # A constant channel becomes 0.
    mean = mean + offset[:, 0]
    return InputTransform(spec, tuple(shape), mean, np.where(sd > 0, sd, 1), length is not None)


def sample_shape(table: Table, rows: np.ndarray, spec: InputSpec) -> tuple[int, ...]:
    """Return the shape of a sample as it is, or of a frame of a video; of series that differ, that of the longest.

    Args:
        table: The samples.
        rows: Numbers of those that a model is fitted to.
        spec: Description of a sample.

    Returns:
        The shape, channels first. Empty for texts.
    """
    if spec.kind == "text":
        return ()
    shape: tuple[int, ...] = np.shape(table.samples[int(rows[0])])
    length = _common_length(table, rows, spec)
    if length is not None:
        return (shape[0], length)
    return shape[1:] if spec.kind == "video" else shape


def _common_length(table: Table, train: np.ndarray, spec: InputSpec) -> int | None:
    """Return the length of the longest training series; None if all series have one length."""
    if spec.kind != "series" or have_one_shape(table.samples):
        return None
    lengths = np.array([np.shape(table.samples[row])[-1] for row in range(len(table))])
    return None if (lengths == lengths[0]).all() else int(lengths[train].max())


def is_table(manifest: Manifest) -> bool:
    """Return True if samples are rows of a table: they are read so, or their columns are standardized one by one."""
    return manifest.reader.options.get("kind") == "table" or any(step.name == TABLE_STEP for step in manifest.steps)


def table_output(table: Table, manifest: Manifest) -> Output:
    """Return the output of a model of a target: its task, and the shape of what is predicted for a sample."""
    if table.labels is not None:
        labels, n_names = table.class_labels, len(table.classes or ())
        if labels.ndim == 2:
            return Output("multi-label", (int(labels.shape[1]),))
        n_labels = int(labels.max()) + 1
        if labels.min() < 0 or (n_names and n_labels > n_names):
            expected = f"0 to {n_names - 1}, because {n_names} classes have names" if n_names else "0 or more"
            raise InputError(f"The labels range from {labels.min()} to {labels.max()}. Expected {expected}.")
        return Output("classification", (n_names or n_labels,))
    assert table.targets is not None
    shape = np.shape(table.targets[0])
    space = np.shape(table.samples[0])[1:]
    # A field over the sample's own space (dense regression) has no axis of channels. Neither has a single number. The
    # columns of a table are no space.
    is_field = shape == space and not (len(space) == 1 and is_table(manifest))
    return Output("regression", (1, *shape) if is_field or not shape else shape)


def _check_classes(table: Table, train: np.ndarray, target: str) -> None:
    """Raise an error if the training samples do not have two classes to tell from each other."""
    codes = np.unique(table.class_labels[train])
    if len(codes) < 2:
        name = str(table.classes[codes[0]]) if table.classes else str(codes[0])
        raise InputError(
            f'The training samples of {target} have one class ("{name}"). At least two are needed. Check the labels, '
            "and the splits if there are more classes."
        )


def classes_without_samples(data: TargetData) -> list[str]:
    """Return the names of the classes, or of the labels of several a sample, that no training sample has."""
    if data.output.task == "regression":
        return []
    counts = _class_counts(data)
    names = data.table.classes or range(len(counts))
    return [str(name) for name, number in zip(names, counts, strict=True) if number == 0]


def balanced_class_weights(data: TargetData) -> np.ndarray:
    """Return the factor of each class with which all classes have the same total weight, as in scikit-learn.

    It is n / (K n_k), where n is the number of training samples, n_k that of a class, and K the number of classes that
    have any; the mean over the training samples is 1. A class without training samples has factor 0. Each of several
    labels counts as a pair of classes, absent and present.

    Returns:
        Factors of the classes, shape (K,), or of the absence and the presence of each of K labels, shape (2, K).
    """
    counts, n_samples = _class_counts(data), len(data.train)
    if data.output.task == "multi-label":
        counts = np.stack([n_samples - counts, counts])
    totals = counts * (counts > 0).sum(axis=0)
    return np.asarray(np.divide(n_samples, totals, out=np.zeros(counts.shape), where=totals > 0))


def _class_counts(data: TargetData) -> np.ndarray:
    """Return the number of training samples of each class, or with each of several labels, shape (K,)."""
    labels = np.asarray(data.table.class_labels[data.train])
    return np.bincount(labels, minlength=data.output.shape[0]) if labels.ndim == 1 else (labels != 0).sum(axis=0)


def _fit_y_standardization(data: TargetData) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and sd of each channel of y over the valid values of at most 2,000 training samples."""
    rows = _spaced_subset(data.train)
    values, masks = data.real_values(rows)
    valid = np.ones(values.shape, bool) if masks is None else masks != 0
    axes = (0, *range(2, values.ndim))
    total = np.maximum(valid.sum(axis=axes, keepdims=True), 1)
    mean = np.where(valid, values, 0).sum(axis=axes, keepdims=True) / total
    sd = np.sqrt((np.where(valid, values - mean, 0) ** 2).sum(axis=axes) / total.reshape(-1))
    return mean.reshape(-1), np.where(sd > 0, sd, 1)


def _spaced_subset(rows: np.ndarray) -> np.ndarray:
    """Return at most 2,000 of the indices, evenly spaced."""
    if len(rows) <= STATISTICS_SAMPLES:
        return rows
    return rows[np.linspace(0, len(rows) - 1, STATISTICS_SAMPLES).astype(np.int64)]
